"""Geometry tokens from an organised depth image: 91 channels, no learned weights.

Height over a robust plane, in units of the sensor's noise; local planes at three radii, curvature at three
scales; 31 continuous channels and 60 histogram channels (twelve quantities in five bins each, the organised
form of the point feature histograms of Rusu et al. 2009), plus the share of invalid readings. A faint dent
shows in the histograms, a clear one in the continuous channels.

OpenCV box sums accumulate in float64, so the moments behind the local planes keep their digits in float32.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Self

import cv2
import numpy as np
import torch
from numpy.typing import NDArray

from inference.errors import BundleError
from inference.plane import fill_holes, fit_plane, residual

Image = NDArray[np.float32]
_ONE = np.float32(1.0)

INPUT = 224
FINE = 56
COARSE = 28
RADII = (3, 7, 15)
SIGMAS = (1.5, 3.0, 6.0)
CONTINUOUS = 31
QUANTITIES = 12
BINS = 5
CHANNELS = CONTINUOUS + QUANTITIES * BINS + 1
EDGES = (0.10, 0.35, 0.65, 0.90)
CLIP = 25.0
"""Heights beyond this many units of noise say "far away", not how far."""
_BLOCK = INPUT // FINE
_PACKED = np.zeros(256, np.float32)
_PACKED[:BINS] = 1 << np.arange(0, 5 * BINS, 5)
_SHIFTS = np.arange(0, 5 * BINS, 5, dtype=np.int32)[:, None, None]


@dataclass(frozen=True, slots=True)
class Window:
    """Moments of the valid pixels' positions in each window: they depend on the mask alone."""

    count: Image
    mean_x: Image
    mean_y: Image
    xx: Image
    xy: Image
    yy: Image
    inverse: Image
    """1 / (xx yy - xy^2), 0 where the positions span no plane."""
    empty: NDArray[np.bool_] | None
    """Windows with fewer than six readings, None where there are none."""


def _box(image: Image, radius: int) -> Image:
    size = 2 * radius + 1
    return np.asarray(
        cv2.boxFilter(image, cv2.CV_32F, (size, size), normalize=False, borderType=cv2.BORDER_CONSTANT)
    )


@lru_cache(maxsize=4)
def _coordinates(shape: tuple[int, int]) -> tuple[Image, Image]:
    height, width = shape
    x = np.broadcast_to((np.arange(width) - (width - 1) / 2).astype(np.float32), shape)
    y = np.broadcast_to((np.arange(height) - (height - 1) / 2).astype(np.float32)[:, None], shape)
    return np.ascontiguousarray(x), np.ascontiguousarray(y)


def window(mask: Image, radius: int) -> Window:
    """The windows of a mask (H, W) of zeros and ones."""
    x, y = _coordinates((mask.shape[0], mask.shape[1]))
    count = _box(mask, radius)
    share: Image = np.divide(_ONE, np.maximum(count, _ONE), dtype=np.float32)
    mean_x, mean_y = _box(mask * x, radius) * share, _box(mask * y, radius) * share
    xx = _box(mask * x * x, radius) * share - mean_x * mean_x
    yy = _box(mask * y * y, radius) * share - mean_y * mean_y
    xy = _box(mask * x * y, radius) * share - mean_x * mean_y
    determinant = xx * yy - xy * xy
    spans = (determinant > 0.02) & (count >= 6.0)
    inverse = np.where(spans, 1.0 / np.where(spans, determinant, 1.0), 0.0).astype(np.float32)
    empty = count < 6.0
    return Window(
        count,
        np.where(count > 0, mean_x - x, np.float32(0)),
        np.where(count > 0, mean_y - y, np.float32(0)),
        xx,
        xy,
        yy,
        inverse,
        empty if empty.any() else None,
    )


@lru_cache(maxsize=8)
def _full_window(shape: tuple[int, int], radius: int) -> Window:
    return window(np.ones(shape, np.float32), radius)


def local_planes(height: Image, mask: Image | None, radius: int) -> tuple[Image, Image, Image, Image]:
    """Least squares plane of the valid heights in the window around each pixel.

    Args:
        height: (H, W), filled where invalid.
        mask: (H, W) of zeros and ones, None where every pixel is valid.
        radius: the window is 2 * radius + 1 pixels wide, and smaller at the border.

    Returns:
        intercept at the pixel, slope along x, slope along y (units per pixel), RMS of the residual; where
        fewer than six readings lie in the window the slopes are 0 and the intercept is ``height``; where
        they lie on one line the slopes are 0 and the intercept is their mean.
    """
    shape = (height.shape[0], height.shape[1])
    x, y = _coordinates(shape)
    w = _full_window(shape, radius) if mask is None else window(mask, radius)
    z = height if mask is None else height * mask
    share: Image = np.divide(_ONE, np.maximum(w.count, _ONE), dtype=np.float32)
    mean_z = _box(z, radius) * share
    # The window's mean position in image coordinates: Window keeps it relative to the pixel.
    xz = _box(z * x, radius) * share - (w.mean_x + x) * mean_z
    yz = _box(z * y, radius) * share - (w.mean_y + y) * mean_z
    zz = _box(z * z, radius) * share - mean_z * mean_z
    b = (xz * w.yy - yz * w.xy) * w.inverse
    c = (yz * w.xx - xz * w.xy) * w.inverse
    a = mean_z - b * w.mean_x - c * w.mean_y
    rms = np.sqrt(np.maximum(zz - b * xz - c * yz, 0.0))
    if w.empty is not None:
        # No plane goes through so few readings: the pixel takes the filled height and no slope.
        a[w.empty] = height[w.empty]
        for image in (b, c, rms):
            image[w.empty] = 0.0
    return a, b, c, rms


def curvatures(height: Image, sigma: float) -> tuple[Image, Image]:
    """Mean curvature sigma^2 (g_xx + g_yy) / 2 and signed root of the Gaussian one, of the blurred height."""
    blurred = np.asarray(cv2.GaussianBlur(height, (0, 0), sigma, borderType=cv2.BORDER_REFLECT_101))
    g = np.asarray(cv2.copyMakeBorder(blurred, 1, 1, 1, 1, cv2.BORDER_REPLICATE))
    twice = 2.0 * blurred
    xx = g[1:-1, 2:] + g[1:-1, :-2] - twice
    yy = g[2:, 1:-1] + g[:-2, 1:-1] - twice
    xy = (g[2:, 2:] + g[:-2, :-2] - g[2:, :-2] - g[:-2, 2:]) * np.float32(0.25)
    gaussian = xx * yy - xy * xy
    square = np.float32(sigma * sigma)
    mean = (xx + yy) * (square * np.float32(0.5))
    return mean, np.copysign(np.sqrt(np.abs(gaussian)) * square, gaussian)


def _chord(b: Image, c: Image, b2: Image, c2: Image) -> Image:
    """2 sin(angle / 2) between the normals of two local planes: the angle, for the small ones there are."""
    dot = (b * b2 + c * c2 + 1.0) / np.sqrt((b * b + c * c + 1.0) * (b2 * b2 + c2 * c2 + 1.0))
    return np.sqrt(np.maximum(2.0 - 2.0 * dot, 0.0))


def heights(depth: Image, valid: NDArray[np.bool_], unit: float) -> tuple[Image, Image | None]:
    """Filled height over the robust plane in units of noise, and the mask (None where all is valid).

    Raises:
        DepthUnusable: too few readings for a plane.
    """
    height = residual(depth, fit_plane(depth, valid)) * np.float32(1.0 / unit)
    np.clip(height, -CLIP, CLIP, out=height)
    if valid.all():
        return height, None
    return fill_holes(height, valid), valid.astype(np.float32)


def quantities(height: Image, mask: Image | None) -> tuple[list[Image], list[Image]]:
    """Per pixel: the 31 continuous channels and the 12 quantities of the histograms, each (H, W).

    Args:
        height: (H, W) filled height in units of noise.
        mask: see :func:`heights`.
    """
    planes = [local_planes(height, mask, radius) for radius in RADII]
    channels: list[Image] = []
    slopes, means, steps = [], [], []
    for k, (sigma, (a, b, c, rms)) in enumerate(zip(SIGMAS, planes, strict=True)):
        slope = np.sqrt(b * b + c * c)
        step = (height if k == 0 else planes[0][0]) - a
        mean, gaussian = curvatures(height, sigma)
        roughness = np.log(rms + np.float32(0.02))
        channels += [slope, b, c, roughness, step, np.abs(step), mean, np.abs(mean), gaussian]
        slopes.append(slope)
        means.append(mean)
        steps.append(step)
    (_, b3, c3, _), (a7, b7, c7, _), (a15, b15, c15, _) = planes
    turn = _chord(b7, c7, b15, c15)
    channels += [_chord(b3, c3, b15, c15), turn, a15, np.abs(a15)]
    # a_3 - a_15 is the third step already.
    return channels, [*slopes, *means, *steps, turn, a7 - a15, a15]


def histogram(values: Image, edges: Image) -> Image:
    """Shares of the five bins in each 4 x 4 block: (H, W) and edges (4,) to (5, H / 4, W / 4).

    The five counts of a block (at most 16 each) are summed at once, packed five bits apart in one integer.
    """
    digit = np.zeros(values.shape, np.uint8)
    for edge in edges:
        digit += values > edge
    # Sums stay below 2^25 and the share of a block is a power of two: exact in float32.
    blocks = block_mean(np.asarray(cv2.LUT(digit, _PACKED), np.float32), _BLOCK) * np.float32(_BLOCK**2)
    counts = (blocks.astype(np.int32)[None] >> _SHIFTS) & 31
    return np.asarray(counts.astype(np.float32) * np.float32(1 / _BLOCK**2))


def block_mean(channel: Image, block: int) -> Image:
    """Average pooling of (H, W) by ``block`` each way."""
    size = (channel.shape[1] // block, channel.shape[0] // block)
    return np.asarray(cv2.resize(channel, size, interpolation=cv2.INTER_AREA), np.float32)


@lru_cache(maxsize=4)
def _neighbours(grid: int) -> Image:
    side = np.full(grid, 3, np.float32)
    side[[0, -1]] = 2
    return np.asarray(np.divide(_ONE, np.outer(side, side)), np.float32)


def smooth(channels: Image) -> Image:
    """3 x 3 mean of (C, g, g); cells at the border average over the neighbours they have."""
    rows = channels.copy()
    rows[:, 1:] += channels[:, :-1]
    rows[:, :-1] += channels[:, 1:]
    total = rows.copy()
    total[:, :, 1:] += rows[:, :, :-1]
    total[:, :, :-1] += rows[:, :, 1:]
    total *= _neighbours(channels.shape[-1])
    return total


def raw_tokens(height: Image, mask: Image | None, edges: Image) -> tuple[Image, Image]:
    """(92, 56, 56) and (92, 28, 28) channels before any standard."""
    channels, binned = quantities(height, mask)
    fine = np.empty((CHANNELS, FINE, FINE), np.float32)
    for k, channel in enumerate(channels):
        fine[k] = block_mean(channel, _BLOCK)
    for k, values in enumerate(binned):
        start = CONTINUOUS + k * BINS
        fine[start : start + BINS] = histogram(values, edges[k])
    fine[-1] = 0.0 if mask is None else 1.0 - block_mean(mask, _BLOCK)
    pairs = fine[:, ::2] + fine[:, 1::2]
    coarse = (pairs[:, :, ::2] + pairs[:, :, 1::2]) * np.float32(0.25)
    return smooth(fine), smooth(coarse)


@dataclass(frozen=True, slots=True)
class Standard:
    """asinh of a robust z, then standardised: per channel of one grid."""

    median: Image
    scale: Image
    mean: Image
    deviation: Image

    @classmethod
    def fit(cls, tokens: Sequence[Image]) -> Self:
        """From the raw channels (92, g, g) of all teaching tiles."""
        flat = np.concatenate([one.reshape(CHANNELS, -1) for one in tokens], axis=1)
        low, median, high = np.quantile(flat, (0.25, 0.5, 0.75), axis=1)
        scale = np.maximum(np.maximum((high - low) / 1.349, 0.1 * flat.std(axis=1)), 1e-3)
        # Where normals have next to no holes, one hole must not weigh more than a defect does.
        scale[-1] = max(scale[-1], 0.05)
        robust = np.arcsinh((flat - median[:, None]) / scale[:, None])
        deviation = np.maximum(robust.std(axis=1), 0.05)
        deviation[-1] = max(deviation[-1], 0.5)
        parts = (median, scale, robust.mean(axis=1), deviation)
        return cls(*(np.asarray(part, np.float32)[:, None, None] for part in parts))

    def apply(self, tokens: Image) -> torch.Tensor:
        """(92, g, g) raw to (g, g, 92) standardised, a view of (92, g, g) memory."""
        z = (tokens - self.median) * (np.float32(1.0) / self.scale)
        # asinh written out: numpy's logarithm is vectorised, its arcsinh is not.
        size = np.abs(z)
        size += np.sqrt(z * z + np.float32(1.0))
        robust = np.copysign(np.log(size), z)
        robust -= self.mean
        robust *= np.float32(1.0) / self.deviation
        return torch.from_numpy(robust).permute(1, 2, 0)


@dataclass(frozen=True, slots=True)
class GeometryStandard:
    """Everything that turns depth into tokens: unit of height, histogram edges, one standard per grid."""

    unit: float
    edges: Image
    fine: Standard
    coarse: Standard

    def tokens(self, depth: Image, valid: NDArray[np.bool_]) -> tuple[torch.Tensor, torch.Tensor]:
        """Standardised tokens (56, 56, 92) and (28, 28, 92) of a (224, 224) depth tile.

        Raises:
            DepthUnusable: too few readings for a plane.
        """
        height, mask = heights(depth, valid, self.unit)
        fine, coarse = raw_tokens(height, mask, self.edges)
        return self.fine.apply(fine), self.coarse.apply(coarse)

    def tensors(self) -> dict[str, torch.Tensor]:
        """The state, for the bundle."""
        out = {"unit": torch.tensor([self.unit], dtype=torch.float64), "edges": torch.from_numpy(self.edges)}
        for grid, standard in (("fine", self.fine), ("coarse", self.coarse)):
            for name in ("median", "scale", "mean", "deviation"):
                out[f"{grid}.{name}"] = torch.from_numpy(getattr(standard, name))
        return out

    @classmethod
    def restore(cls, tensors: Mapping[str, torch.Tensor]) -> Self:
        """Back from ``tensors()``. Raises BundleError: a tensor is missing or misshapen."""

        def take(name: str, *shape: int) -> Image:
            found = tensors.get(name)
            if found is None or tuple(found.shape) != shape:
                raise BundleError("the bundle's geometry standard is incomplete: teach the product again")
            return np.asarray(found.numpy())

        standards = [
            Standard(
                *(take(f"{grid}.{name}", CHANNELS, 1, 1) for name in ("median", "scale", "mean", "deviation"))
            )
            for grid in ("fine", "coarse")
        ]
        unit = float(take("unit", 1)[0])
        return cls(unit, take("edges", QUANTITIES, BINS - 1), standards[0], standards[1])
