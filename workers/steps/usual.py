"""What is usual of a sensor's images: their size, how much of them is read, and how far away."""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass, field
from math import isfinite
from statistics import median

LEAST = 16
"""Good images before anything but the size is usual."""
WINDOW = 64
LEAST_SHARE = 0.5
"""Of the usual share of valid readings: less is too few."""
ROOM = 0.05
"""Of the distance: how far a part may lie beyond all that were seen, at least."""


@dataclass(slots=True)
class Usual:
    """What was learnt from the good images of one sensor under one bundle.

    Attributes:
        product, bundle: whose images these were; another bundle means another set-up, learnt anew.
        size: (height, width) of them.
    """

    product: str = ""
    bundle: str = ""
    size: tuple[int, int] | None = None
    _shares: deque[float] = field(default_factory=lambda: deque(maxlen=WINDOW))
    _medians: deque[float] = field(default_factory=lambda: deque(maxlen=WINDOW))

    def under(self, product: str, bundle: str) -> None:
        """Begin anew where the product or its bundle is another one than before."""
        if (product, bundle) != (self.product, self.bundle):
            self.product, self.bundle, self.size = product, bundle, None
            self._shares.clear()
            self._medians.clear()

    def teach(self, share: float | None, distance: float | None) -> None:
        """Add one good image: its share of valid readings, and their median in counts."""
        if share is not None:
            self._shares.append(share)
        if distance is not None:
            self._medians.append(distance)

    def few(self, share: float) -> bool:
        """Whether so few readings are valid that it is not the part alone."""
        return len(self._shares) >= LEAST and share < LEAST_SHARE * median(self._shares)

    @property
    def range(self) -> tuple[float, float] | None:
        """Lowest and highest usual median distance in counts; None while too few were seen."""
        if len(self._medians) < LEAST:
            return None
        low, high = min(self._medians), max(self._medians)
        room = max(high - low, ROOM * (low + high) / 2)
        return low - room, high + room

    def outside(self, distance: float) -> bool:
        """Whether the median distance is none that was seen, or near one."""
        known = self.range
        return known is not None and not known[0] <= distance <= known[1]

    def to_map(self) -> dict[str, str]:
        """As it is left to the next worker."""
        known = len(self._shares) >= LEAST, len(self._medians) >= LEAST
        return {
            "product": self.product,
            "bundle": self.bundle,
            "size": "" if self.size is None else f"{self.size[0]}x{self.size[1]}",
            "share": f"{median(self._shares):.3f}" if known[0] else "",
            "range": f"{min(self._medians):g} {max(self._medians):g}" if known[1] else "",
        }

    @classmethod
    def from_map(cls, values: Mapping[str, str]) -> Usual:
        """Back from :meth:`to_map`. Raises ValueError: written by something else."""
        usual = cls(values.get("product", ""), values.get("bundle", ""))
        if values.get("size"):
            height, width = map(int, values["size"].split("x"))
            usual.size = (height, width)
        if values.get("share"):
            usual._shares.extend([_finite(values["share"])] * LEAST)
        if values.get("range"):
            low, high = map(_finite, values["range"].split())
            usual._medians.extend([low, high] * (LEAST // 2))
        return usual


def _finite(text: str) -> float:
    value = float(text)
    if not isfinite(value):
        raise ValueError(f"{text} is no reading")
    return value
