"""Which parts are decided."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterator, Sequence

from schemas.part import PartKey


class DecidedParts:
    """A set of parts kept as ranges of triggers, a run at a time: it grows with gaps, not with parts."""

    def __init__(self) -> None:
        self._runs: dict[tuple[str, int], tuple[list[int], list[int]]] = {}

    def add(self, part: PartKey) -> bool:
        """Note a decision; False where the part had one already."""
        if part in self:
            return False
        self.fill(part.station, part.run, part.trigger, part.trigger)
        return True

    def fill(self, station: str, run: int, first: int, last: int) -> None:
        """Note decisions for all triggers from ``first`` to ``last``."""
        starts, ends = self._runs.setdefault((station, run), ([], []))
        low = bisect_right(starts, first)
        if low and ends[low - 1] >= first - 1:
            low -= 1
            first = starts[low]
        high = bisect_right(starts, last + 1)
        if high > low:
            last = max(last, ends[high - 1])
        starts[low:high], ends[low:high] = [first], [last]

    def __contains__(self, part: PartKey) -> bool:
        starts, ends = self._runs.get((part.station, part.run), ((), ()))
        at = bisect_right(starts, part.trigger)
        return at > 0 and part.trigger <= ends[at - 1]

    def __len__(self) -> int:
        return sum(
            last - first + 1
            for starts, ends in self._runs.values()
            for first, last in zip(starts, ends, strict=True)
        )

    def runs(self) -> Iterator[tuple[str, int, Sequence[tuple[int, int]]]]:
        """Station, run and its ranges, first and last trigger of each, ascending."""
        for (station, run), (starts, ends) in self._runs.items():
            yield station, run, list(zip(starts, ends, strict=True))
