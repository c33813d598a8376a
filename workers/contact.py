"""When a service was last spoken to, and how that went: told where it happens, read by health checks.

Nobody asks a service in order to know: a question of its own could hang, or be answered while the real ones
are refused.
"""

from __future__ import annotations

from dataclasses import dataclass

from workers.clock import Clock, SystemClock

GRACE_S = 1.0
"""A failure so soon after a success says little: one call of many timed out, or was refused by itself."""


@dataclass(frozen=True, slots=True)
class Spoken:
    """One exchange with a service.

    Attributes:
        at: monotonic seconds.
        error: what was wrong; None where it answered as it should.
        good_at: when it last answered as it should; None for never.
    """

    at: float
    error: str | None
    good_at: float | None


class Contact:
    """The last exchange with one service. Any thread may tell and read: it is one assignment.

    Args:
        service: its name, as ``kafka``.
    """

    __slots__ = ("_clock", "last", "service")

    def __init__(self, service: str, clock: Clock | None = None) -> None:
        self.service = service
        self._clock: Clock = clock or SystemClock()
        self.last: Spoken | None = None
        """None until it was spoken to."""

    def succeeded(self) -> None:
        """It answered as it should."""
        now = self._clock.monotonic()
        self.last = Spoken(now, None, now)

    def failed(self, error: str) -> None:
        """It did not answer, or refused; ``error`` says what, in one line."""
        before = self.last
        self.last = Spoken(self._clock.monotonic(), error, None if before is None else before.good_at)

    def trouble(self, within_s: float) -> str | None:
        """Why the service does not count as reachable, or None: it answered within the last ``within_s``
        seconds, and the last exchange did not fail ``GRACE_S`` or longer after that."""
        last, now = self.last, self._clock.monotonic()
        if last is None:
            return f"{self.service} was not spoken to yet"
        if last.error is not None and (last.good_at is None or now - last.good_at > GRACE_S):
            return last.error
        age = now - last.at
        return None if age <= within_s else f"{self.service} was last spoken to {age:.0f} s ago"
