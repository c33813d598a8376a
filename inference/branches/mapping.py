"""Each sensor predicted from the other: where the two disagree, something is wrong.

Crossmodal feature mapping (Costanzino et al. 2024) in closed form: ridge regression between the tokens of one
tile, then the RMS of the residual, whitened by the residuals of the normals.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import ClassVar, Self

import numpy as np
import torch
from numpy.typing import NDArray

from inference.branches.base import Evidence, FitSettings, Needs, Reduce
from inference.branches.linear import as_map, moments, shrunk, take, whitener
from inference.errors import TeachError

RIDGE = 0.01
"""Penalty per row: tokens are standardised, so it is a share of their variance."""


class _Mapping:
    """Ridge regression from one sensor's tokens to the other's on the coarse grid, with an intercept."""

    name: ClassVar[str]
    needs: ClassVar[frozenset[Needs]] = frozenset({Needs.RGB, Needs.DEPTH})
    reduce: ClassVar[Reduce] = Reduce.TOP
    wide: ClassVar[bool] = False

    def __init__(self, weight: torch.Tensor, white: torch.Tensor, offset: torch.Tensor) -> None:
        """The whitened residual is target @ white - source @ weight - offset.

        Args:
            weight: (C_source, C_target), the regression already multiplied by the whitener.
            white: (C_target, C_target).
            offset: (C_target,).
        """
        self._weight, self._white, self._offset = weight, white, offset

    @staticmethod
    def _pair(evidence: Evidence) -> tuple[torch.Tensor | None, torch.Tensor | None]:
        """(source, target) tokens."""
        raise NotImplementedError

    @classmethod
    def fit(cls, evidence: Sequence[Evidence], settings: FitSettings) -> Self:
        """Regression and residual covariance of the normals. Raises TeachError: no tile has both sensors."""
        rows = []
        device = torch.device("cpu")
        for one in evidence:
            source, target = cls._pair(one)
            if source is not None and target is not None:
                device = target.device
                width = source.shape[-1]
                rows.append(torch.cat((source, target), -1))
        if not rows:
            raise TeachError(f"{cls.name}: no normal frame has both colour and depth")
        # One pass: the moments of the joined rows hold the regression and its residual.
        _, mean, joint = moments(rows)
        xx, xy, yy = joint[:width, :width], joint[:width, width:], joint[width:, width:]
        slope = torch.linalg.solve(xx + RIDGE * torch.eye(width, dtype=xx.dtype), xy)
        residual = yy - slope.T @ xy - xy.T @ slope + slope.T @ xx @ slope
        white = whitener(shrunk(0.5 * (residual + residual.T)))
        offset = (mean[width:] - mean[:width] @ slope) @ white
        return cls(*(part.float().contiguous().to(device) for part in (slope @ white, white, offset)))

    @torch.inference_mode()
    def score(self, evidence: Evidence) -> NDArray[np.float32]:
        """(28, 28) RMS of the whitened residual."""
        source, target = self._pair(evidence)
        assert source is not None
        assert target is not None
        x, y = source.reshape(-1, source.shape[-1]), target.reshape(-1, target.shape[-1])
        white = torch.addmm(torch.addmm(self._offset, x, self._weight), y, self._white, beta=-1.0)
        return as_map(torch.linalg.vector_norm(white, dim=1), target.shape[0])

    def tensors(self) -> Mapping[str, torch.Tensor]:
        """Weight, whitener and offset."""
        parts = {"weight": self._weight, "white": self._white, "offset": self._offset}
        return {name: part.cpu().contiguous() for name, part in parts.items()}

    @classmethod
    def restore(cls, tensors: Mapping[str, torch.Tensor], device: torch.device) -> Self:
        """Back from ``tensors()``. Raises BundleError: a tensor is missing or damaged."""
        return cls(
            take(tensors, "weight", cls.name, 2, device),
            take(tensors, "white", cls.name, 2, device),
            take(tensors, "offset", cls.name, 1, device),
        )


class ColourFromShape(_Mapping):
    """What the colour should look like, given the geometry."""

    name: ClassVar[str] = "colour_from_shape"

    @staticmethod
    def _pair(evidence: Evidence) -> tuple[torch.Tensor | None, torch.Tensor | None]:
        return evidence.shape_tokens, evidence.rgb_tokens


class ShapeFromColour(_Mapping):
    """What the geometry should look like, given the colour."""

    name: ClassVar[str] = "shape_from_colour"
    wide: ClassVar[bool] = True

    @staticmethod
    def _pair(evidence: Evidence) -> tuple[torch.Tensor | None, torch.Tensor | None]:
        return evidence.rgb_tokens, evidence.shape_tokens
