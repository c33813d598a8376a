"""How long the model takes: measured on what was scored, asked before the next batch."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

_WEIGHT = 0.2
# Of a sample under half the average: the first runs of a model are slow, and say nothing of the next.
_WEIGHT_DOWN = 0.5
_MARGIN = 2.0
_FIRST_DEVIATION = 1 / 8
_OUTLIER = 4.0


@dataclass(slots=True)
class _Average:
    mean: float
    deviation: float = 0.0

    def add(self, seconds: float) -> None:
        # A batch that waited for a sink that was away says little of the next one.
        error = min(seconds, _OUTLIER * self.mean) - self.mean
        weight = _WEIGHT_DOWN if seconds < self.mean / 2 else _WEIGHT
        self.mean += weight * error
        spread = abs(error) if weight == _WEIGHT else 0.0
        self.deviation += weight * (spread - self.deviation)

    @property
    def careful(self) -> float:
        return self.mean + _MARGIN * self.deviation


class ServiceTime:
    """Seconds from the start of a batch to its published verdicts, an average for each size of batch.

    The averages are exponential and answered with a margin of twice their mean deviation, since under load
    every part that is kept ends close to its deadline.
    """

    def __init__(self) -> None:
        self._by_size: dict[int, _Average] = {}

    def observe(self, parts: int, seconds: float) -> None:
        """A batch of so many parts took so long."""
        if parts < 1:
            return
        known = self._by_size.get(parts)
        if known is None:
            self._by_size[parts] = _Average(seconds, seconds * _FIRST_DEVIATION)
        else:
            known.add(seconds)

    @property
    def known(self) -> bool:
        """Whether anything was measured."""
        return bool(self._by_size)

    def of(self, parts: int) -> float:
        """Seconds that one batch of so many parts would take; 0 while nothing was measured.

        A batch costs no more than a larger one, and no more than the same parts in several smaller ones: a
        measurement that is old or of a bad moment is not believed against those of other sizes. One larger
        than any before is taken to cost no more than the largest, so that it is tried: a GPU may take as long
        for one part as for many, and would otherwise be given one at a time for ever.
        """
        largest = max(self._by_size, default=0)
        if parts >= largest > 0:
            parts = largest
        return min(self._bounds(parts), default=0.0) if parts > 0 else 0.0

    def wait(self, parts: int, max_batch: int) -> float:
        """Seconds until so many parts would be scored, in batches of ``max_batch``."""
        full, rest = divmod(parts, max_batch)
        return full * self.of(max_batch) + self.of(rest)

    def _bounds(self, parts: int) -> Iterator[float]:
        for size, average in self._by_size.items():
            yield average.careful * -(-parts // size)
