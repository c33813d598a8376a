"""Colour tokens against a bank of normal ones: distance to the nearest (PatchCore, Roth et al. 2022)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import ClassVar, Self

import numpy as np
import torch
from numpy.typing import NDArray

from inference.branches.base import Evidence, FitSettings, Needs, Reduce
from inference.branches.linear import as_map, take
from inference.errors import TeachError
from inference.features.exact import exact

_PROJECTED = 64
_CANDIDATES = 20_000
_ROWS = 1 << 15
"""Tokens whose products are held at once: a tile on a CPU is one piece, a batch on a GPU a few."""


def k_centre(points: NDArray[np.float32], count: int, first: int) -> NDArray[np.intp]:
    """Greedy k-centre: each next index is the point farthest from all chosen so far.

    Args:
        points: (n, d).
        count: how many to choose, at most n.
        first: the index to start with.
    """
    chosen = np.empty(count, np.intp)
    norms = np.einsum("ij,ij->i", points, points)
    nearest = np.full(points.shape[0], np.inf, np.float32)
    index = first
    for k in range(count):
        chosen[k] = index
        distance = points @ points[index]
        distance *= -2.0
        distance += norms
        distance += norms[index]
        np.minimum(nearest, distance, out=nearest)
        # Rounding may leave a chosen point a hair away from itself; it must not be chosen twice.
        nearest[index] = -np.inf
        index = int(np.argmax(nearest))
    return chosen


class Nearest:
    """Distance of each colour token to the nearest row of a k-centre bank of normal tokens."""

    name: ClassVar[str] = "colour"
    needs: ClassVar[frozenset[Needs]] = frozenset({Needs.RGB})
    reduce: ClassVar[Reduce] = Reduce.TOP
    wide: ClassVar[bool] = False

    def __init__(self, bank: torch.Tensor) -> None:
        """With a bank (K, C) on the device that scores."""
        self._bank = bank
        self._columns = bank.T.contiguous()
        self._norms = (bank * bank).sum(1)

    @classmethod
    def fit(cls, evidence: Sequence[Evidence], settings: FitSettings) -> Self:
        """The bank of normal tiles. Raises TeachError: no tile has colour."""
        tokens = [one.rgb_tokens for one in evidence if one.rgb_tokens is not None]
        if not tokens:
            raise TeachError("colour: no normal frame has a colour image to build the bank from")
        device = tokens[0].device
        rows = torch.cat([one.reshape(-1, one.shape[-1]) for one in tokens]).cpu().numpy()
        rng = np.random.default_rng(settings.seed)
        if len(rows) > _CANDIDATES:
            rows = rows[np.sort(rng.choice(len(rows), _CANDIDATES, replace=False))]
        projection = rng.standard_normal((rows.shape[1], _PROJECTED)).astype(np.float32) / _PROJECTED**0.5
        chosen = k_centre(rows @ projection, min(settings.bank_size, len(rows)), int(rng.integers(len(rows))))
        return cls(torch.from_numpy(rows[chosen]).to(device))

    @torch.inference_mode()
    def distances(self, tokens: torch.Tensor) -> torch.Tensor:
        """(...) Euclidean distances to the nearest row of tokens (..., C), on their device.

        Nothing waits for the device, so that whole batches may be queued.
        """
        rows = tokens.reshape(-1, tokens.shape[-1])
        with exact(rows.device):
            # |x - b|^2 = |x|^2 + (|b|^2 - 2 x b): the part in brackets is one multiply-add of matrices.
            nearest = torch.cat(
                [
                    torch.addmm(self._norms, part, self._columns, beta=1.0, alpha=-2.0).amin(1)
                    for part in torch.split(rows, _ROWS)
                ]
            )
        square = nearest.add_((rows * rows).sum(1))
        return square.clamp_min_(0.0).sqrt_().view(tokens.shape[:-1])

    def score(self, evidence: Evidence) -> NDArray[np.float32]:
        """(28, 28) Euclidean distance to the nearest row."""
        tokens = evidence.rgb_tokens
        assert tokens is not None
        return as_map(self.distances(tokens), tokens.shape[0])

    def tensors(self) -> Mapping[str, torch.Tensor]:
        """The bank."""
        return {"bank": self._bank.cpu().contiguous()}

    @classmethod
    def restore(cls, tensors: Mapping[str, torch.Tensor], device: torch.device) -> Self:
        """Back from ``tensors()``. Raises BundleError: the bank is missing or damaged."""
        return cls(take(tensors, "bank", cls.name, 2, device))
