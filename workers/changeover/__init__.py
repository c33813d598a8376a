"""Which product is on the line, by the PLC's word: read from a register, told to gate and workers."""

from workers.changeover.due import Due, Span
from workers.changeover.watch import Changeover, ChangeoverSettings

__all__ = ["Changeover", "ChangeoverSettings", "Due", "Span"]
