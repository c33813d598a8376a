"""Geometry tokens from settled heights: 17 channels on 64 x 64 cells, no learned weights.

Differences of Gaussians at five sizes and their absolute values, roughness at two, the slope and its two
parts, the height and its absolute value. Absolute values let a linear model of the tokens see how strong a
place is, whichever way it bends. A place that was never read holds what its surroundings hold.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Self

import cv2
import numpy as np
import torch
from numpy.typing import NDArray

from inference.errors import BundleError, DepthUnusable
from inference.features.base import sub
from inference.features.heights import Heights, HeightStandard
from inference.features.shared_shape import Reading

Image = NDArray[np.float32]

FINE = 64
COARSE = 28
CHANNELS = 17
SIGMAS = (0.75, 1.2, 1.92, 3.07, 4.91, 7.85)
"""Of the Gaussians, in cells of 64: those of the dent detector (contrast.py)."""
_SIZES = len(SIGMAS) - 1
_SLOPE_SIZE, _HEIGHT_SIZE = 1, 2
_ROUGH_SIGMAS = (0.75, 2.0)
_LEAST_ROUGH = np.float32(1e-3)  # square units; below it a surface is smooth and nothing else
_BORDER = cv2.BORDER_REFLECT_101


def raw_tokens(height: Image) -> Image:
    """(17, 64, 64) channels of settled heights (128, 128) before any mean or standard.

    In order: five differences G_k - G_(k+1), each followed by its absolute value; the log of the mean
    square of height - G_0 under two windows; length, x and y of the slope of G_1 (units per cell); G_2 and
    its absolute value.
    """
    small = np.asarray(cv2.resize(height, (FINE, FINE), interpolation=cv2.INTER_AREA), np.float32)
    blurred = [_blur(small, sigma) for sigma in SIGMAS]
    out = np.empty((CHANNELS, FINE, FINE), np.float32)
    for k in range(_SIZES):
        np.subtract(blurred[k], blurred[k + 1], out=out[2 * k])
        np.abs(out[2 * k], out=out[2 * k + 1])
    rough = np.square(small - blurred[0])
    for k, sigma in enumerate(_ROUGH_SIGMAS):
        np.log(_blur(rough, sigma) + _LEAST_ROUGH, out=out[2 * _SIZES + k])
    slope_x = cv2.Sobel(blurred[_SLOPE_SIZE], cv2.CV_32F, 1, 0, scale=1 / 8, borderType=_BORDER)
    slope_y = cv2.Sobel(blurred[_SLOPE_SIZE], cv2.CV_32F, 0, 1, scale=1 / 8, borderType=_BORDER)
    # Not cv2.magnitude: its last bit depends on where the arrays lie in memory.
    np.sqrt(slope_x * slope_x + slope_y * slope_y, out=out[12])
    out[13], out[14] = slope_x, slope_y
    out[15] = blurred[_HEIGHT_SIZE]
    np.abs(out[15], out=out[16])
    return out


def fine(raw: Image) -> Image:
    """3 x 3 mean of each channel, mirrored at the border: (C, 64, 64) in and out."""
    out = np.empty_like(raw)
    for channel, target in zip(raw, out, strict=True):
        cv2.blur(channel, (3, 3), dst=target, borderType=_BORDER)
    return out


def coarse(raw: Image) -> Image:
    """The channels on 28 x 28 cells: area mean, then 3 x 3 mean mirrored at the border; (C, 28, 28)."""
    # A copy, because torch aligns its memory and numpy need not: the last bit of a product may depend on it.
    rows = torch.from_numpy(raw).reshape(-1, FINE).clone()
    narrow = (rows @ _POOL.T).reshape(-1, FINE, COARSE)
    return np.asarray((_POOL @ narrow).numpy(), np.float32)


def _blur(image: Image, sigma: float) -> Image:
    return np.asarray(cv2.GaussianBlur(image, (0, 0), sigma, borderType=_BORDER), np.float32)


def _pool() -> torch.Tensor:
    """(28, 64): one axis of area mean and 3-mean at once."""
    edges = np.arange(COARSE + 1) * (FINE / COARSE)
    cells = np.arange(FINE)
    overlap = np.minimum(edges[1:, None], cells + 1) - np.maximum(edges[:-1, None], cells)
    area = np.maximum(overlap, 0) * (COARSE / FINE)
    mirrored = np.pad(area, ((1, 1), (0, 0)), mode="reflect")
    return torch.from_numpy((mirrored[:-2] + mirrored[1:-1] + mirrored[2:]) / 3).float()


_POOL = _pool()


@dataclass(frozen=True, slots=True)
class Standard:
    """asinh of a robust z, then standardised: per channel of one grid, each (C, 1, 1)."""

    median: Image
    scale: Image
    mean: Image
    deviation: Image

    @classmethod
    def fit(cls, tokens: Sequence[Image]) -> Self:
        """From the channels (C, g, g) of all teaching tiles."""
        flat = np.concatenate([one.reshape(one.shape[0], -1) for one in tokens], axis=1)
        low, median, high = np.quantile(flat, (0.25, 0.5, 0.75), axis=1)
        scale = np.maximum(np.maximum((high - low) / 1.349, 0.1 * flat.std(axis=1)), 1e-3)
        robust = np.arcsinh((flat - median[:, None]) / scale[:, None])
        deviation = np.maximum(robust.std(axis=1), 0.05)
        parts = (median, scale, robust.mean(axis=1), deviation)
        return cls(*(np.asarray(part, np.float32)[:, None, None] for part in parts))

    def apply(self, tokens: Image) -> torch.Tensor:
        """(C, g, g) to (g, g, C) standardised, a view of (C, g, g) memory."""
        z = (tokens - self.median) * (np.float32(1.0) / self.scale)
        # asinh written out: numpy's logarithm is vectorised, its arcsinh is not.
        size = np.abs(z)
        size += np.sqrt(z * z + np.float32(1.0))
        robust = np.copysign(np.log(size), z)
        robust -= self.mean
        robust *= np.float32(1.0) / self.deviation
        return torch.from_numpy(robust).permute(1, 2, 0)


@dataclass(frozen=True, slots=True)
class ShapeStandard:
    """Everything that turns depth into tokens: the heights' standard, and one for each grid's channels."""

    heights: HeightStandard
    fine: Standard
    coarse: Standard

    @classmethod
    def fit(cls, readings: Sequence[Reading], report: Callable[[str, int, int], None]) -> Self:
        """From the depth of all teaching tiles; ``report`` gets (stage, done, total).

        Raises:
            TeachError: fewer than three tiles have enough depth.
        """
        heights = HeightStandard.fit(readings)
        fines, coarses = [], []
        for index, one in enumerate(readings):
            try:
                seen = heights.see(one.depth, one.valid, tile=one.tile, group=one.group)
            except DepthUnusable:
                continue
            here, wide = _channels(seen)
            fines.append(here)
            coarses.append(wide)
            report("geometry standard", index + 1, len(readings))
        return cls(heights, Standard.fit(fines), Standard.fit(coarses))

    def tokens(self, heights: Heights) -> tuple[torch.Tensor, torch.Tensor]:
        """Standardised tokens (64, 64, 17) of the even heights and (28, 28, 17 or 34) of both.

        A defect stands out of what is left less the parts' shape. Colour, on the other hand, goes with that
        shape: what colour is compared with holds the channels of the plain heights and, where they differ, of
        the even ones.
        """
        here, wide = _channels(heights)
        return self.fine.apply(here), self.coarse.apply(wide)

    def tensors(self) -> dict[str, torch.Tensor]:
        """The state, for the bundle."""
        out = {f"heights.{name}": tensor for name, tensor in self.heights.tensors().items()}
        for grid, standard in (("fine", self.fine), ("coarse", self.coarse)):
            for name in Standard.__slots__:
                out[f"{grid}.{name}"] = torch.from_numpy(getattr(standard, name))
        return out

    @classmethod
    def restore(cls, tensors: Mapping[str, torch.Tensor]) -> Self:
        """Back from ``tensors()``. Raises BundleError: a tensor is missing or misshapen."""
        heights = HeightStandard.restore(sub(tensors, "heights."))
        wide = CHANNELS if heights.shape is None else 2 * CHANNELS
        standards = []
        for grid, channels in (("fine", CHANNELS), ("coarse", wide)):
            parts = [tensors.get(f"{grid}.{name}") for name in Standard.__slots__]
            if any(part is None or part.shape != (channels, 1, 1) for part in parts):
                raise BundleError("the bundle's standard of geometry is incomplete: teach the product again")
            standards.append(Standard(*(np.asarray(part) for part in parts)))
        return cls(heights, *standards)


def _channels(heights: Heights) -> tuple[Image, Image]:
    if heights.even is heights.plain:
        raw = raw_tokens(heights.plain)
        return fine(raw), coarse(raw)
    both = np.concatenate((raw_tokens(heights.plain), raw_tokens(heights.even)))
    return fine(both[CHANNELS:]), coarse(both)
