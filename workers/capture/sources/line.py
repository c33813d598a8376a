"""A line that needs no camera: rendered parts, with defects and sensor outages where a script says."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from inference.datasets.defects import Defect
from inference.datasets.sensors import DEPTH_SCALE
from inference.datasets.synthetic import SyntheticPart
from workers.capture.sources.base import Shot
from workers.errors import SourceError

# Far from every seed of ``SyntheticDataset``, so that a line never shows a part that was taught on.
_FIRST_PART = 10**15
_FIRST_LOT = 10**12
_APART = 10**7


class SyntheticLine:
    """``count`` parts of one product; the same arguments give the same parts.

    Args:
        part: the product.
        count: how many triggers.
        script: trigger to the defect planted there.
        depth_out, rgb_out: [from, to) triggers during which that sensor gives nothing.
        seed: picks the parts.
        lot_size: how many parts share light, colour and drift.

    Raises:
        SourceError: the script or an outage names a trigger that never comes.
    """

    depth_scale = DEPTH_SCALE
    """Metres per depth count."""

    def __init__(
        self,
        part: SyntheticPart,
        *,
        count: int,
        script: Mapping[int, Defect] | None = None,
        depth_out: tuple[int, int] | None = None,
        rgb_out: tuple[int, int] | None = None,
        seed: int = 0,
        lot_size: int = 50,
    ) -> None:
        if count < 0 or count > _APART or seed < 0 or lot_size < 1:
            raise SourceError(f"line of {count} parts, seed {seed}, lots of {lot_size}: out of range")
        self._part = part
        self._count = count
        self.script = dict(script or {})
        self._out = {"depth": depth_out, "rgb": rgb_out}
        self._seed = seed
        self._lot_size = lot_size
        for trigger in self.script:
            if not 0 <= trigger < count:
                raise SourceError(f"script: trigger {trigger} never comes on a line of {count} parts")
        for name, window in self._out.items():
            if window is not None and not 0 <= window[0] <= window[1] <= count:
                raise SourceError(f"{name}_out {window}: expected [from, to) within 0 to {count}")

    def __len__(self) -> int:
        """How many triggers."""
        return self._count

    def is_out(self, sensor: str, trigger: int) -> bool:
        """Whether "rgb" or "depth" gives nothing at this trigger."""
        window = self._out[sensor]
        return window is not None and window[0] <= trigger < window[1]

    def shot(self, trigger: int) -> Shot:
        """The shot of one trigger, rendered anew."""
        defect = self.script.get(trigger)
        rendered = self._part.render(
            _FIRST_PART + self._seed * _APART + trigger,
            defect=defect,
            lot=_FIRST_LOT + self._seed * _APART + trigger // self._lot_size,
        )
        return Shot(
            rgb=None if self.is_out("rgb", trigger) else rendered.sample.rgb,
            depth=None if self.is_out("depth", trigger) else rendered.sample.depth,
            truth=rendered.kind,
            name=f"line{self._seed}/{trigger:06d}",
            defect=defect,
            mask=rendered.mask,
        )

    def __iter__(self) -> Iterator[Shot]:
        return (self.shot(trigger) for trigger in range(self._count))
