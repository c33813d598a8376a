"""What is counted on the loop's thread: plain numbers, no lock, and a bound on how many series there can be.

One thread writes, any thread reads: a reader copies, which the interpreter does in one go, and may see one
part counted here and not yet there.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Mapping, Sequence

from workers.telemetry.names import OTHER

MOST_VALUES = 1000
"""Of one label: names come from frames, and a broken or hostile agent can make up any number of them."""
MOST_SERIES = 20_000
"""Of one metric."""


class Known:
    """The first so many values of a label; those that come later are all ``other``."""

    __slots__ = ("_limit", "_seen")

    def __init__(self, limit: int = MOST_VALUES) -> None:
        self._limit = limit
        self._seen: set[str] = set()

    def __call__(self, value: str) -> str:
        """The value, or ``other`` where the label has enough of them."""
        seen = self._seen
        if value in seen:
            return value
        if len(seen) >= self._limit:
            return OTHER
        seen.add(value)
        return value


class Tally:
    """A counter by label values.

    Args:
        limit: so many series at most; a further one is counted with ``other`` for each label in ``open``.
        open: positions of the labels whose values come from outside.
    """

    __slots__ = ("_counts", "_limit", "_open")

    def __init__(self, *, limit: int = MOST_SERIES, open: Sequence[int] = (0,)) -> None:
        self._counts: dict[tuple[str, ...], float] = {}
        self._limit = limit
        self._open = frozenset(open)

    def add(self, *labels: str, by: float = 1.0) -> None:
        """Count ``by`` more. One thread calls it."""
        counts = self._counts
        if labels not in counts and len(counts) >= self._limit:
            labels = tuple(OTHER if at in self._open else value for at, value in enumerate(labels))
        counts[labels] = counts.get(labels, 0.0) + by

    def values(self) -> Mapping[tuple[str, ...], float]:
        """The counts now, by label values; a copy."""
        return self._counts.copy()


class Histogram:
    """Counts of values by bucket.

    Args:
        bounds: upper bounds of the buckets, rising; a value on a bound is in that bucket.
    """

    __slots__ = ("_bounds", "_counts", "_sum")

    def __init__(self, bounds: Sequence[float]) -> None:
        self._bounds = tuple(bounds)
        self._counts = [0] * (len(self._bounds) + 1)
        self._sum = 0.0

    def add(self, value: float) -> None:
        """Count one value. One thread calls it."""
        self._counts[bisect_left(self._bounds, value)] += 1
        self._sum += value

    def buckets(self) -> tuple[list[tuple[str, float]], float]:
        """``(bound, values up to it)`` for each bucket, infinity last; and the sum of all values."""
        counts, total = self._counts.copy(), self._sum
        found: list[tuple[str, float]] = []
        so_far = 0
        for bound, count in zip((*map(_text, self._bounds), "+Inf"), counts, strict=True):
            so_far += count
            found.append((bound, float(so_far)))
        return found, total


def _text(bound: float) -> str:
    return str(float(bound))
