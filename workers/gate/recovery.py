"""What a journal held when it was opened."""

from __future__ import annotations

from dataclasses import dataclass

from workers.gate.lines import Entry


@dataclass(frozen=True, slots=True)
class Recovery:
    """What a journal held when it was opened.

    Attributes:
        decided: how many parts have a decision.
        torn_bytes: length of a last line that was cut off while being written; it is removed.
        damaged_lines: complete lines whose checksum does not hold; they are left in place and not believed.
        unconfirmed: decided to pass, but the actuator's outcome is not known: the process ended in between.
        unrecorded: decided MISSING, but not known to be in the store.
        read_bytes: how much of it was read.
        broken: where the chain of its lines does not hold, in words.
    """

    decided: int
    torn_bytes: int
    damaged_lines: int
    unconfirmed: tuple[Entry, ...]
    unrecorded: tuple[Entry, ...]
    read_bytes: int = 0
    broken: tuple[str, ...] = ()
