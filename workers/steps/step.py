"""The numbered steps of the loop by name: what stack dumps, stage tables and crash tests call them."""

from __future__ import annotations

from collections.abc import Callable
from enum import StrEnum


class Step(StrEnum):
    """A point in the loop, reached when the step named has been done."""

    POLLED = "1-polled"
    OPENED = "2-opened"
    PAIRED = "3-paired"
    BATCHED = "4-batched"
    INSPECTED = "5-inspected"
    STORED = "6-stored"
    """Redis has the verdicts, the result topic does not."""
    PRODUCED = "6-produced"
    """Both have them, nothing is committed."""
    COMMITTED = "7-committed"


OnStep = Callable[[Step], None]
"""Called on the loop's thread as a step is done, whenever that step had something to do."""


def ignore(step: Step) -> None:
    """Nobody listens."""
