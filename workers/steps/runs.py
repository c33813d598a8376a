"""What may be the newest of a station: a mark that nothing false can hold up for long.

A run is named by the clock of its agent, and a trigger by its counter. Either may have been wrong once: a
clock that was a day ahead for a minute, a counter that jumped. What such a part says of itself must never
make all later parts look old.
"""

from __future__ import annotations

from dataclasses import dataclass

from schemas.part import PartKey
from workers.errors import FutureRun

Order = tuple[int, int]
"""(run, trigger)."""


def future_run(part: PartKey, now: int, bound: int) -> FutureRun | None:
    """Why the part's run cannot have begun yet, or None.

    Args:
        now: integer nanoseconds since the epoch, by our clock.
        bound: nanoseconds by which an agent's clock may be ahead of ours.
    """
    ahead = part.run - now
    if ahead <= bound:
        return None
    return FutureRun(part.station, part.run, ahead / 1e9, bound / 1e9)


@dataclass(frozen=True, slots=True)
class Mark:
    """The newest part of a station, as far as was seen.

    Attributes:
        order: its (run, trigger).
        seen_at: when it was read or decided, by our clock; integer nanoseconds since the epoch.
    """

    order: Order
    seen_at: int

    def passed_by(self, order: Order, captured_at: int, bound: int) -> bool:
        """Whether another part is newer: by its numbers, or because it was captured after this was seen.

        Numbers can be wrong, a part that was captured after this one had been seen cannot be older.

        Args:
            captured_at: of the other part, by its agent's clock; nanoseconds since the epoch.
            bound: nanoseconds by which that clock may be ahead of ours.
        """
        return order > self.order or self.disproved_by(order, captured_at, bound)

    def disproved_by(self, order: Order, captured_at: int, bound: int) -> bool:
        """Whether this one's numbers say that it is the newer one, and cannot be right."""
        return order < self.order and captured_at > self.seen_at + bound
