"""Geometry tokens against one Gaussian of normal ones: the RMS of the whitened token."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import ClassVar, Self

import numpy as np
import torch
from numpy.typing import NDArray

from inference.branches.base import Evidence, FitSettings, Needs, Reduce
from inference.branches.linear import as_map, moments, shrunk, take, whitener
from inference.errors import TeachError


class ShapeGaussian:
    """Mahalanobis distance of each geometry token on the fine grid, under a shrunk covariance.

    Not cosine: the magnitude of geometry features is where the defect shows.
    """

    name: ClassVar[str] = "shape"
    needs: ClassVar[frozenset[Needs]] = frozenset({Needs.DEPTH})
    reduce: ClassVar[Reduce] = Reduce.TOP
    wide: ClassVar[bool] = True

    def __init__(self, mean: torch.Tensor, white: torch.Tensor) -> None:
        """With mean (C,) and whitener (C, C) on the device that scores."""
        self._mean = mean
        self._white = white
        self._offset = mean @ white

    @classmethod
    def fit(cls, evidence: Sequence[Evidence], settings: FitSettings) -> Self:
        """Mean and covariance of all normal tokens. Raises TeachError: no tile has depth."""
        tokens = [one.fine_tokens for one in evidence if one.fine_tokens is not None]
        if not tokens:
            raise TeachError("shape: no normal frame has a depth image that can be used")
        _, mean, covariance = moments(tokens)
        device = tokens[0].device
        return cls(mean.float().to(device), whitener(shrunk(covariance)).float().to(device))

    @torch.inference_mode()
    def score(self, evidence: Evidence) -> NDArray[np.float32]:
        """(g, g) RMS of the whitened token."""
        tokens = evidence.fine_tokens
        assert tokens is not None
        rows = tokens.reshape(-1, tokens.shape[-1])
        white = torch.addmm(self._offset, rows, self._white, beta=-1.0)
        return as_map(torch.linalg.vector_norm(white, dim=1), tokens.shape[0])

    def tensors(self) -> Mapping[str, torch.Tensor]:
        """Mean and whitener."""
        return {"mean": self._mean.cpu(), "white": self._white.cpu().contiguous()}

    @classmethod
    def restore(cls, tensors: Mapping[str, torch.Tensor], device: torch.device) -> Self:
        """Back from ``tensors()``. Raises BundleError: a tensor is missing or damaged."""
        return cls(take(tensors, "mean", cls.name, 1, device), take(tensors, "white", cls.name, 2, device))
