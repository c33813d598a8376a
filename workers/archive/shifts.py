"""Shifts: which stretch of wall-clock time a verdict is filed under."""

from __future__ import annotations

import re
from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from workers.errors import SettingsError

NS = 1_000_000_000
_NAME = "%Y-%m-%dT%H-%M-%SZ"
_START = re.compile(r"(\d{1,2}):(\d{2})\Z", re.ASCII)


@dataclass(frozen=True, slots=True, order=True)
class Shift:
    """One shift: ``start`` included, ``end`` not; integer nanoseconds since the epoch."""

    start: int
    end: int

    @property
    def name(self) -> str:
        """Its folder: the start in UTC, so that names sort as time does."""
        return datetime.fromtimestamp(self.start // NS, UTC).strftime(_NAME)


def start_of(name: str) -> int | None:
    """When a shift of that name starts, nanoseconds since the epoch; None for what is no shift's name."""
    try:
        return round(datetime.strptime(name, _NAME).replace(tzinfo=UTC).timestamp()) * NS
    except ValueError:
        return None


class Shifts:
    """The shift plan of a site: the times of day, in UTC, at which a shift begins.

    Raises:
        SettingsError: not a list of different times.
    """

    def __init__(self, starts: Sequence[timedelta]) -> None:
        ordered = sorted(starts)
        if not ordered or len(set(ordered)) != len(ordered):
            raise SettingsError("shifts: name each start once, as 06:00,14:00,22:00")
        self._starts = ordered

    @classmethod
    def parse(cls, text: str) -> Shifts:
        """The plan written as ``06:00,14:00,22:00``. Raises SettingsError."""
        starts = []
        for piece in text.split(","):
            found = _START.match(piece.strip())
            if found is None or int(found[1]) > 23 or int(found[2]) > 59:
                raise SettingsError(
                    f"--shifts {piece.strip()!r}: expected times of day in UTC, as 06:00,14:00,22:00"
                )
            starts.append(timedelta(hours=int(found[1]), minutes=int(found[2])))
        return cls(starts)

    def at(self, when: int) -> Shift:
        """The shift of a moment (nanoseconds since the epoch)."""
        moment = datetime.fromtimestamp(max(0, when) // NS, UTC)
        day = moment.replace(hour=0, minute=0, second=0)
        # The day before, for what comes ahead of the first start.
        starts = [day + timedelta(days=d) + s for d in (-1, 0, 1) for s in self._starts]
        index = bisect_right(starts, moment)
        begin, end = (round(t.timestamp()) * NS for t in (starts[index - 1], starts[index]))
        return Shift(begin, end)
