"""The published scoring of CMDR-IAD (arXiv 2603.03939): four distances a pixel to one map and one score.

The formulas are the ones that the published code runs; where the paper's figure shows others (fewer smoothing
passes), the counts are settings. Widths are in pixels of a 224 x 224 map: bring coarser maps there first. All
arithmetic keeps the precision of its input, float32 or float64.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
from numpy.typing import ArrayLike, NDArray

from inference.errors import NoReading, NotFinite

Map = NDArray[Any]
"""(h, w) float32 or float64."""
Valid = NDArray[np.bool_]
Passes = tuple[tuple[int, int], ...]
"""(width, times) of box filters, one after the other."""

COLOUR, SHAPE = "colour", "shape"
COLOUR_FROM_SHAPE, SHAPE_FROM_COLOUR = "colour_from_shape", "shape_from_colour"

_EPSILON = 1e-8
_FARTHEST = 2.0


@dataclass(frozen=True, slots=True, kw_only=True)
class CmdrSettings:
    """Constants of the formulas; the defaults are the published code's.

    Attributes:
        alpha, beta: steepness of the gate, W = alpha + beta * (local spread over its mean).
        doubt: B, how fast a decoder's weight falls with its distance.
        spread: width of the window of the local spread.
        smooth_colour: box filters over r2.
        smooth: box filters over the fused map. The paper's figure has ((5, 3), (7, 2)).
        smooth_shape: box filters over r3 where shape is all there is.

    Raises:
        ValueError: a window of even or no width, or a constant that is negative or not finite.
    """

    alpha: float = 4.0
    beta: float = 2.0
    doubt: float = 0.3
    spread: int = 7
    smooth_colour: Passes = ((5, 3), (7, 2))
    smooth: Passes = ((5, 5), (7, 3))
    smooth_shape: Passes = ((5, 1),)

    def __post_init__(self) -> None:
        for name in ("alpha", "beta", "doubt"):
            value = getattr(self, name)
            if not 0.0 <= value < float("inf"):
                raise ValueError(f"cmdr: {name} must be finite and at least 0, not {value}")
        passes = {name: getattr(self, name) for name in ("smooth_colour", "smooth", "smooth_shape")}
        passes["spread"] = ((self.spread, 1),)
        for name, one in passes.items():
            for width, times in one:
                if width < 1 or width % 2 == 0 or times < 0:
                    raise ValueError(
                        f"cmdr: {name} has a box of width {width}, {times} times: use odd widths"
                    )


PUBLISHED = CmdrSettings()


def distance(predicted: ArrayLike, seen: ArrayLike) -> Map:
    """|| a/|a| - b/|b| || over the last axis, in [0, 2]; a token of length 0 counts as 0.

    Args:
        predicted, seen: (..., C), the same shape.
    """
    a, b = _float(predicted), _float(seen)
    out: Map = np.linalg.norm(_unit(a) - _unit(b), axis=-1)
    return np.asarray(np.minimum(out, out.dtype.type(_FARTHEST)))


def box(image: Map, width: int) -> Map:
    """Mean over width x width pixels, zeros beyond the border counted. Zeros stay exactly 0."""
    # Each sum anew, not a running one: what that leaves behind would make background count as part.
    kernel = np.full(width, 1.0 / width, image.dtype)
    return np.asarray(cv2.sepFilter2D(image, -1, kernel, kernel, borderType=cv2.BORDER_CONSTANT))


def smooth(image: Map, passes: Passes) -> Map:
    """Box filters one after the other."""
    for width, times in passes:
        for _ in range(times):
            image = box(image, width)
    return image


def gate(product: Map, settings: CmdrSettings = PUBLISHED) -> Map:
    """G in [0.5, 1]: how much of a mapping anomaly counts; steeper where it varies around.

    J = m2 * m3, mu its mean over all pixels, s the root of the box mean of (J - mu)^2,
    W = alpha + beta * s / mean(s), G = sigmoid(W * J).

    Args:
        product: (h, w) J, at least 0, and 0 where nothing was read.
    """
    kind = product.dtype.type
    spread = np.sqrt(box(np.square(product - product.mean(dtype=product.dtype)), settings.spread))
    steep = kind(settings.alpha) + kind(settings.beta) * spread / (spread.mean() + kind(_EPSILON))
    return np.asarray(1.0 / (1.0 + np.exp(-steep * product)), product.dtype)


def reconstruction(r2: Map, r3: Map, settings: CmdrSettings = PUBLISHED) -> Map:
    """Mean of the decoders' distances, the larger one weighing less: w = exp(-B r)."""
    # Distances end at 2, where the weights are far above the epsilon. Maps on another scale may not: there
    # both weights would vanish and the strangest pixel read 0, so they are taken relative to each other.
    beyond = np.maximum(np.minimum(r2, r3) - r2.dtype.type(_FARTHEST), 0.0)
    doubt = r2.dtype.type(settings.doubt)
    w2, w3 = np.exp(-doubt * (r2 - beyond)), np.exp(-doubt * (r3 - beyond))
    return np.asarray((w2 * r2 + w3 * r3) / (w2 + w3 + r2.dtype.type(_EPSILON)), r2.dtype)


def evidence(
    m2: ArrayLike,
    m3: ArrayLike,
    r2: ArrayLike,
    r3: ArrayLike,
    valid: Valid,
    settings: CmdrSettings = PUBLISHED,
) -> Map:
    """Psi (h, w): gated mapping anomaly times weighted reconstruction anomaly, masked, smoothed.

    Smoothing comes last: the map reaches some 19 pixels past the mask.

    Args:
        m2, m3: (h, w) distances of the two mappings.
        r2, r3: (h, w) distances of the two decoders; r2 is smoothed here.
        valid: (h, w) where all four count.

    Raises:
        NoReading: no pixel is valid.
        NotFinite: a valid pixel of a map is NaN or infinite.
    """
    a, b, c, d = (_masked(one, valid) for one in (m2, m3, r2, r3))
    product = a * b
    mapped = gate(product, settings) * product
    decoded = reconstruction(smooth(c, settings.smooth_colour), d, settings)
    return smooth(np.where(valid, mapped * decoded, mapped.dtype.type(0)), settings.smooth)


def cfm(m2: ArrayLike, m3: ArrayLike, valid: Valid, settings: CmdrSettings = PUBLISHED) -> Map:
    """Psi (h, w) of Crossmodal Feature Mapping (Costanzino et al., CVPR 2024): m2 * m3, smoothed.

    Raises:
        NoReading, NotFinite: as :func:`evidence`.
    """
    return smooth(_masked(m2, valid) * _masked(m3, valid), settings.smooth)


def colour_only(r2: ArrayLike, valid: Valid | None = None, settings: CmdrSettings = PUBLISHED) -> Map:
    """Psi (h, w) without depth: the smoothed r2. ``valid`` is None where nothing tells part from belt.

    Not published: the code has no such mode. Raises NoReading, NotFinite as :func:`evidence`.
    """
    return smooth(_masked(r2, valid), settings.smooth_colour)


def shape_only(r3: ArrayLike, valid: Valid, settings: CmdrSettings = PUBLISHED) -> Map:
    """Psi (h, w) without colour, as published for polyurethane: r3 after one box filter.

    Raises:
        NoReading, NotFinite: as :func:`evidence`.
    """
    return smooth(_masked(r3, valid), settings.smooth_shape)


def psi(maps: Mapping[str, ArrayLike], valid: Valid | None, settings: CmdrSettings = PUBLISHED) -> Map:
    """Psi (h, w) from maps by branch name: the form that fits the branches given.

    All four: :func:`evidence`. Both mappings alone: :func:`cfm`. Else "colour" or "shape" by itself. Maps of
    other branches are not looked at. Maps that are no distances in [0, 2] should be divided by the median of
    their normals first, so that none of the factors rules by its scale.

    Args:
        maps: (h, w) each.
        valid: (h, w) bool; None where every pixel counts.

    Raises:
        NoReading: no pixel is valid, or no branch that the formula knows is there.
        NotFinite: a valid pixel of a map is NaN or infinite.
    """
    known = [name for name in (COLOUR_FROM_SHAPE, SHAPE_FROM_COLOUR, COLOUR, SHAPE) if name in maps]
    if valid is None and known:
        valid = np.ones(np.shape(maps[known[0]]), np.bool_)
    match known:
        case [_, _, _, _]:
            assert valid is not None
            m2, m3, r2, r3 = (maps[name] for name in known)
            return evidence(m2, m3, r2, r3, valid, settings)
        case [_, _] if known == [COLOUR_FROM_SHAPE, SHAPE_FROM_COLOUR]:
            assert valid is not None
            return cfm(maps[COLOUR_FROM_SHAPE], maps[SHAPE_FROM_COLOUR], valid, settings)
        case ["colour"]:
            return colour_only(maps[COLOUR], valid, settings)
        case ["shape"]:
            assert valid is not None
            return shape_only(maps[SHAPE], valid, settings)
    raise NoReading(
        f"the published formula needs {COLOUR}, {SHAPE}, both mappings or all four; this frame has "
        f"{', '.join(sorted(maps)) or 'none'}"
    )


def image_score(map_: Map) -> float:
    """S = max(Psi) / sqrt(mean of Psi where it is not 0); 0 where Psi is 0 everywhere (published: NaN).

    Raises:
        NotFinite: Psi holds NaN or infinity.
    """
    return float(for_image(map_).max(initial=0.0))


def for_image(map_: Map) -> Map:
    """The map whose maximum is the image score. Raises NotFinite."""
    return _over(map_, np.sqrt(_mean_of_part(map_)))


def for_pro(map_: Map) -> Map:
    """Psi / mean(Psi where not 0): what AUPRO was published on. Raises NotFinite."""
    return _over(map_, _mean_of_part(map_))


def for_pixels(map_: Map) -> Map:
    """Psi / sqrt(mean(Psi)): what pixel AUROC was published on. Raises NotFinite."""
    if not np.isfinite(map_).all():
        raise NotFinite("the fused map holds values that are not finite")
    return _over(map_, np.sqrt(map_.mean(dtype=np.float64)) if map_.size else np.float64(0.0))


def _mean_of_part(map_: Map) -> np.float64:
    if not np.isfinite(map_).all():
        raise NotFinite("the fused map holds values that are not finite")
    part = map_[map_ != 0]
    return np.float64(part.mean(dtype=np.float64)) if part.size else np.float64(0.0)


def _over(map_: Map, divisor: np.float64) -> Map:
    return np.zeros_like(map_) if divisor <= 0 else np.asarray(map_ / map_.dtype.type(divisor))


def _float(values: ArrayLike) -> Map:
    array = np.asarray(values)
    return array if array.dtype == np.float64 else array.astype(np.float32, copy=False)


def _unit(rows: Map) -> Map:
    length = np.linalg.norm(rows, axis=-1, keepdims=True)
    return np.asarray(rows / np.maximum(length, rows.dtype.type(1e-12)))


def _masked(values: ArrayLike, valid: Valid | None) -> Map:
    """The map with 0 where it does not count; NaN there is nobody's concern."""
    image = _float(values)
    if valid is not None:
        if valid.shape != image.shape:
            raise ValueError(f"a map of {image.shape} with a mask of {valid.shape}: use one grid for all")
        if not valid.any():
            raise NoReading("no pixel of the frame is valid: there is nothing to score")
        image = np.where(valid, image, image.dtype.type(0))
    if not np.isfinite(image).all():
        raise NotFinite("a distance map holds values that are not finite")
    return image
