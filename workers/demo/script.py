"""What happens on the demo's line: which parts are bad, how badly, and when the depth sensor drops out."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from inference.datasets.defects import Defect, DefectKind
from workers.errors import SettingsError

MIN_PARTS = 200
PER_KIND = 12
IN_THE_DROP = 6
"""Shape-only defects that pass while the depth sensor is out: nobody can see them then."""

SIZES = (14.0, 20.0, 28.0, 40.0)
"""Diameters in pixels of a 256-pixel picture."""
CONTRASTS = (0.6, 1.0, 1.5)


@dataclass(frozen=True, slots=True)
class Script:
    """The plan of one run.

    Attributes:
        parts: how many triggers.
        defects: trigger to what is planted there.
        drop: [from, to) triggers during which the depth sensor gives nothing.
    """

    parts: int
    defects: dict[int, Defect]
    drop: tuple[int, int]

    def in_drop(self, trigger: int) -> bool:
        """Whether the depth sensor is out at this trigger."""
        return self.drop[0] <= trigger < self.drop[1]


def write_script(parts: int = 240, seed: int = 0) -> Script:
    """Spread the defects over the run: every kind in every size and contrast, the same for the same seed.

    Raises:
        SettingsError: too few parts to hold them.
    """
    if parts < MIN_PARTS:
        raise SettingsError(
            f"--parts {parts}: the demo needs at least {MIN_PARTS} to show every kind of defect"
        )
    rng = np.random.default_rng([seed, 77])
    drop = (int(parts * 0.42), int(parts * 0.42) + 40)
    # The first parts are good, so that a person sees the line run before anything happens.
    free = [t for t in range(8, parts) if not drop[0] - 2 <= t < drop[1] + 6]
    spots = sorted(rng.choice(free, size=PER_KIND * len(DefectKind), replace=False).tolist())
    order = [(kind, number) for number in range(PER_KIND) for kind in DefectKind]
    defects = {
        spot: Defect(
            kind=kind.value,
            size=SIZES[number % len(SIZES)],
            contrast=CONTRASTS[(number // len(SIZES)) % len(CONTRASTS)],
            seed=int(rng.integers(2**31)),
        )
        for spot, (kind, number) in zip(spots, order, strict=True)
    }
    hidden = rng.choice(np.arange(drop[0] + 4, drop[1] - 2), size=IN_THE_DROP, replace=False)
    for number, spot in enumerate(sorted(hidden.tolist())):
        size = SIZES[number % len(SIZES)]
        defects[spot] = Defect(DefectKind.SHAPE.value, size=size, contrast=1.5, seed=int(rng.integers(2**31)))
    return Script(parts, dict(sorted(defects.items())), drop)
