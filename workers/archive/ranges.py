"""Which parts have been seen, in memory and JSON that do not grow while triggers count up without gaps."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterator, Mapping

from schemas.errors import SchemaError
from schemas.part import PartKey


class PartRanges:
    """A set of part keys as ranges of triggers, per station and run."""

    def __init__(self) -> None:
        self._runs: dict[tuple[str, int], list[list[int]]] = {}

    def add(self, part: PartKey) -> bool:
        """Put a part in; False where it was in already."""
        return self._add(part.station, part.run, part.trigger, part.trigger)

    def span(self, station: str, run: int, first: int, last: int) -> None:
        """Put all parts of a run from ``first`` to ``last`` in."""
        self._add(station, run, first, last)

    def _add(self, station: str, run: int, first: int, last: int) -> bool:
        ranges = self._runs.setdefault((station, run), [])
        at = bisect_right(ranges, first, key=lambda r: r[0])
        if at and ranges[at - 1][1] >= last:
            return False
        ranges.insert(at, [first, last])
        # Grow into the neighbours that touch.
        while at and ranges[at - 1][1] >= ranges[at][0] - 1:
            ranges[at - 1][1] = max(ranges[at - 1][1], ranges[at][1])
            del ranges[at]
            at -= 1
        while at + 1 < len(ranges) and ranges[at][1] >= ranges[at + 1][0] - 1:
            ranges[at][1] = max(ranges[at][1], ranges[at + 1][1])
            del ranges[at + 1]
        return True

    def __contains__(self, part: PartKey) -> bool:
        ranges = self._runs.get((part.station, part.run), [])
        at = bisect_right(ranges, part.trigger, key=lambda r: r[0])
        return at > 0 and ranges[at - 1][1] >= part.trigger

    def __len__(self) -> int:
        return sum(last - first + 1 for ranges in self._runs.values() for first, last in ranges)

    def update(self, other: PartRanges) -> None:
        """Put all of another set in."""
        for (station, run), ranges in other._runs.items():
            for first, last in ranges:
                self._add(station, run, first, last)

    def runs(self) -> Iterator[tuple[str, int, list[list[int]]]]:
        """Station, run and ranges, sorted."""
        for (station, run), ranges in sorted(self._runs.items()):
            yield station, run, ranges

    def to_json(self) -> dict[str, list[list[int]]]:
        """``{"STATION/RUN": [[first, last], ...]}``."""
        return {f"{station}/{run}": ranges for station, run, ranges in self.runs()}

    @classmethod
    def from_json(cls, raw: Mapping[str, object]) -> PartRanges:
        """What ``to_json`` wrote.

        Raises:
            ValueError: something else.
        """
        found = cls()
        for name, ranges in raw.items():
            try:
                one = PartKey.parse(f"{name}/0")
            except SchemaError as error:
                raise ValueError(str(error)) from None
            if not isinstance(ranges, list):
                raise ValueError(f"parts of {name}: not a list")
            for first, last in ranges:
                if type(first) is not int or type(last) is not int or not 0 <= first <= last:
                    raise ValueError(f"parts of {name}: not a range")
                found._add(one.station, one.run, first, last)
        return found
