"""When a service was last spoken to, and how that went: told where it happens, read by health checks.

Nobody asks a service in order to know: a question of its own could hang, or be answered while the real ones
are refused.
"""

from __future__ import annotations

import time
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Spoken:
    """One exchange with a service.

    Attributes:
        at: monotonic seconds.
        error: what was wrong; None where it answered as it should.
    """

    at: float
    error: str | None


class Contact:
    """The last exchange with one service. Any thread may tell and read: it is one assignment.

    Args:
        service: its name, as ``kafka``.
    """

    __slots__ = ("last", "service")

    def __init__(self, service: str) -> None:
        self.service = service
        self.last: Spoken | None = None
        """None until it was spoken to."""

    def succeeded(self) -> None:
        """It answered as it should."""
        self.last = Spoken(time.monotonic(), None)

    def failed(self, error: str) -> None:
        """It did not answer, or refused; ``error`` says what, in one line."""
        self.last = Spoken(time.monotonic(), error)

    def trouble(self, within_s: float) -> str | None:
        """Why the service does not count as reachable, or None: the last exchange was good and is no older
        than ``within_s`` seconds."""
        last = self.last
        if last is None:
            return f"{self.service} was not spoken to yet"
        if last.error is not None:
            return last.error
        age = time.monotonic() - last.at
        return None if age <= within_s else f"{self.service} was last spoken to {age:.0f} s ago"
