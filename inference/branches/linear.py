"""What the closed-form branches share: covariance, whitening, the RMS of whitened rows."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import numpy as np
import torch
from numpy.typing import NDArray

from inference.errors import BundleError

SHRINK = 0.05


def shrunk(covariance: torch.Tensor) -> torch.Tensor:
    """Covariance drawn by 5 % towards its mean variance (Ledoit and Wolf's target, a fixed weight)."""
    size = covariance.shape[0]
    mean = covariance.diagonal().mean().clamp_min(1e-9)
    out: torch.Tensor = (1.0 - SHRINK) * covariance + SHRINK * mean * torch.eye(size, dtype=covariance.dtype)
    return out


def whitener(covariance: torch.Tensor) -> torch.Tensor:
    """W (C, C) with W W^T = covariance^-1 / C: the norm of x W is the RMS of the whitened x."""
    lower = torch.linalg.cholesky(covariance)
    identity = torch.eye(covariance.shape[0], dtype=covariance.dtype)
    inverse: torch.Tensor = torch.linalg.solve_triangular(lower, identity, upper=False)
    scaled: torch.Tensor = inverse.T / covariance.shape[0] ** 0.5
    return scaled.contiguous()


def moments(tiles: Iterable[torch.Tensor]) -> tuple[int, torch.Tensor, torch.Tensor]:
    """Count, mean (C,) and covariance (C, C) in float64 over the rows of all tiles, one tile at a time."""
    count, total, square = 0, None, None
    for tile in tiles:
        rows = tile.reshape(-1, tile.shape[-1]).double().cpu()
        count += rows.shape[0]
        total = rows.sum(0) if total is None else total + rows.sum(0)
        square = rows.T @ rows if square is None else square + rows.T @ rows
    assert total is not None
    assert square is not None
    mean = total / count
    return count, mean, square / count - torch.outer(mean, mean)


def as_map(values: torch.Tensor, grid: int) -> NDArray[np.float32]:
    """(g * g,) on any device to (g, g) on the CPU."""
    return np.asarray(values.reshape(grid, grid).cpu().numpy(), np.float32)


def take(
    tensors: Mapping[str, torch.Tensor], name: str, branch: str, dimensions: int, device: torch.device
) -> torch.Tensor:
    """A tensor of a branch's state. Raises BundleError: missing, misshapen or not finite."""
    found = tensors.get(name)
    if found is None or found.ndim != dimensions or not bool(torch.isfinite(found).all()):
        raise BundleError(
            f"{branch}: tensor {name!r} of the bundle is missing or damaged: teach the product again"
        )
    return found.to(device)
