"""The colour of the belt: what tells a part from it where there is no depth."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Self

import numpy as np
import torch
from numpy.typing import NDArray

from inference.errors import BundleError
from inference.silhouette import Mask

Image = NDArray[np.float32]

_FLOOR = 2.5  # Lab units that compression and shading alone move a colour
_REACH = 4.0  # deviations; widened to what belts of the normals show
_WIDER = 1.15
_MOST_CELLS = 20_000


@dataclass(frozen=True, slots=True)
class BeltColour:
    """One Gaussian of the belt's CIE Lab colours.

    Attributes:
        mean: (3,) float64 median Lab over the normals' belts.
        white: (3, 3) float64, whitener: rows times it have unit variance.
        reach: a colour further than this many deviations from the belt's is no belt.
    """

    mean: NDArray[np.float64]
    white: NDArray[np.float64]
    reach: float

    @classmethod
    def fit(cls, labs: Sequence[Image], belts: Sequence[Mask]) -> Self | None:
        """From normals and the cells of each that show belt; None where none does."""
        chosen = [lab[belt] for lab, belt in zip(labs, belts, strict=True) if belt.any()]
        if not chosen:
            return None
        # Each frame's own level is taken off: light differs from lot to lot, what is belt does not.
        centred = np.concatenate([one - np.median(one, axis=0) for one in chosen]).astype(np.float64)
        centred = centred[:: -(-len(centred) // _MOST_CELLS)]
        mean = np.median(np.stack([np.median(one, axis=0) for one in chosen]), axis=0).astype(np.float64)
        # Lint and scuffs are belt too, but must not widen it: the spread is that of the middle.
        low, high = np.quantile(centred, (0.01, 0.99), axis=0)
        body = np.clip(centred, low, high)
        covariance = body.T @ body / len(body) + _FLOOR**2 * np.eye(3)
        white = np.linalg.inv(np.linalg.cholesky(covariance)).T
        far = float(np.quantile(np.linalg.norm(centred @ white, axis=1), 0.995))
        return cls(mean, white, max(_REACH, _WIDER * far))

    def stands_out(self, lab: Image, belt: Mask | None) -> Mask:
        """(H, W) cells that do not have the belt's colour.

        Args:
            lab: (H, W, 3).
            belt: cells that always show belt, which give the level of this very frame; None takes the taught.
        """
        level = self.mean if belt is None or not belt.any() else np.median(lab[belt], axis=0)
        off = (lab - level.astype(np.float32)) @ self.white.astype(np.float32)
        return np.asarray(np.einsum("ijk,ijk->ij", off, off) > self.reach**2)

    def tensors(self) -> dict[str, torch.Tensor]:
        """The state, for the bundle."""
        return {
            "mean": torch.from_numpy(self.mean.copy()),
            "white": torch.from_numpy(np.ascontiguousarray(self.white)),
            "reach": torch.tensor([self.reach], dtype=torch.float64),
        }

    @classmethod
    def restore(cls, tensors: Mapping[str, torch.Tensor]) -> Self:
        """Back from :meth:`tensors`. Raises BundleError: a tensor is missing or misshapen."""
        for name, shape in (("mean", (3,)), ("white", (3, 3)), ("reach", (1,))):
            found = tensors.get(name)
            if found is None or tuple(found.shape) != shape:
                raise BundleError(f"the belt colour of the bundle lacks {name} {shape}: teach again")
        return cls(
            tensors["mean"].double().numpy(), tensors["white"].double().numpy(), float(tensors["reach"][0])
        )
