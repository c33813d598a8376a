"""The reference profile with random weights: its native grid, and beside it the published full grid."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from time import perf_counter
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch.nn import functional

from inference import cmdr, published
from inference.features import cloud, spread
from inference.features.dino import Dino, DinoConfig
from inference.features.point_mae import PointConfig, PointMae
from inference.heads.config import HeadConfig
from inference.heads.together import HeadNets, Heads
from inference.sample import Sample
from tests.bench.paired import Case, Timings

DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16}


@dataclass(frozen=True, slots=True, kw_only=True)
class Sizes:
    """Of the networks.

    Attributes:
        dino, points: see their configurations; the published grouping takes the place of the lattice.
        full: side of the published grid.
        grids: native ones.
    """

    dino: DinoConfig
    points: PointConfig
    full: int
    grids: tuple[int, ...]

    def heads(self, grid: int) -> HeadConfig:
        """Of the four heads on a grid."""
        return HeadConfig(grid=grid, colour=self.dino.dim, shape=self.points.channels)


PUBLISHED = Sizes(dino=DinoConfig(), points=PointConfig(), full=224, grids=(28, 56))
TINY = Sizes(
    dino=DinoConfig(dim=32, depth=1, heads=2, side=56),
    points=PointConfig(
        dim=24,
        depth=3,
        heads=2,
        taps=(0, 1, 2),
        groups=32,
        group_size=16,
        cells=14,
        reach=2,
        widths=(16, 32, 64),
        position=16,
    ),
    full=56,
    grids=(14, 28),
)

Images = tuple[torch.Tensor, torch.Tensor, torch.Tensor]
"""(B, s, s, 3) uint8, (B, S, S, 3) float32 metres and (B, S, S) bool, in the host's memory."""


def prepared(samples: Sequence[Sample], sizes: Sizes) -> Images:
    """Colour and clouds of frames that are square and show one field with both sensors."""
    pictures, clouds, masks = [], [], []
    for sample in samples:
        assert sample.rgb is not None
        assert sample.depth is not None
        pictures.append(_nearest(sample.rgb, sizes.dino.side))
        depth = _nearest(sample.depth, sizes.full).astype(np.float32)
        found = cloud.build(depth, depth > 0, depth_scale=sample.depth_scale, centred=True)
        clouds.append(found.xyz)
        masks.append(found.valid)
    return (
        torch.from_numpy(np.stack(pictures)),
        torch.from_numpy(np.stack(clouds)),
        torch.from_numpy(np.stack(masks)),
    )


def _nearest(image: NDArray[Any], side: int) -> NDArray[Any]:
    rows, columns = (np.arange(side) * size // side for size in image.shape[:2])
    return np.ascontiguousarray(image[np.ix_(rows, columns)])


class Native:
    """Networks and heads on a grid of 28 or 56, for batches."""

    def __init__(
        self,
        dino: Dino,
        points: PointMae,
        nets: HeadNets,
        grid: int,
        device: torch.device,
        dtype: torch.dtype,
    ) -> None:
        self._dino, self._points = dino, points
        self._heads = Heads(nets, device=device, dtype=dtype)
        self._grid = grid
        self._device = device

    @torch.inference_mode()
    def features(self, images: Images, timings: Timings) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """Colour tokens, shape tokens and validity, each (B, g, g, ...), on the device."""
        rgb, xyz, valid = (one.to(self._device, non_blocking=True) for one in images)
        start = self._now()
        colour = self._dino.tokens(rgb)
        if colour.shape[1] != self._grid:
            size = (self._grid, self._grid)
            larger = functional.interpolate(colour.permute(0, 3, 1, 2), size=size, mode="bilinear")
            colour = larger.permute(0, 2, 3, 1)
        middle = self._now()
        found = self._points(xyz, valid)
        shape, there = spread.native(found.tokens, found.groups, xyz, valid, self._grid)
        end = self._now()
        _add(timings, rgb_features=middle - start, depth_features=end - middle)
        return colour, shape, there

    @torch.inference_mode()
    def maps(self, images: Images, timings: Timings) -> tuple[torch.Tensor, torch.Tensor]:
        """(4, B, g, g) distances and validity, on the device."""
        colour, shape, there = self.features(images, timings)
        start = self._now()
        maps = self._heads.maps(colour, shape, there)
        out = torch.stack(
            [maps[name] for name in ("colour_from_shape", "shape_from_colour", "colour", "shape")]
        )
        _add(timings, branches=self._now() - start)
        return out, there

    def frames(self, samples: Sequence[Sample], sizes: Sizes, timings: Timings) -> list[float]:
        """From frames to image scores."""
        start = perf_counter()
        images = prepared(samples, sizes)
        _add(timings, prepare=perf_counter() - start)
        maps, there = self.maps(images, timings)
        start = perf_counter()
        m2, m3, r2, r3 = maps.cpu().numpy()
        masks = there.cpu().numpy()
        scores = [cmdr.image_score(cmdr.evidence(*one)) for one in zip(m2, m3, r2, r3, masks, strict=True)]
        _add(timings, fuse=perf_counter() - start)
        return scores

    def _now(self) -> float:
        # Stages are told apart on a CPU only: a GPU would have to be waited for between them.
        return perf_counter()


def published_frame(
    sample: Sample,
    sizes: Sizes,
    dino: Dino,
    points: PointMae,
    nets: HeadNets,
    dtype: torch.dtype,
    timings: Timings,
) -> float:
    """One frame by the published arithmetic: farthest points, every pixel through every head."""
    start = perf_counter()
    rgb, xyz, valid = prepared([sample], sizes)
    prepare = perf_counter()
    tokens = dino.tokens(rgb)
    colour = perf_counter()
    with torch.inference_mode():
        groups = points.group(xyz, valid)
        relative = groups.neighbourhoods(xyz)
        found = _plain(points, dtype)(relative, groups.centres)
        canvas, there = spread.published(found, groups, xyz, valid)
    shape = perf_counter()
    score = published.published_scores(tokens[0], canvas[0], there[0], nets).score
    end = perf_counter()
    _add(
        timings,
        prepare=prepare - start,
        rgb_features=colour - prepare,
        depth_features=shape - colour,
        **{"branches and fuse": end - shape},
    )
    return score


def _plain(points: PointMae, dtype: torch.dtype) -> Callable[[torch.Tensor, torch.Tensor], torch.Tensor]:
    """The point encoder whose group encoder runs layer by layer, as published, in the precision asked for."""

    def encode(relative: torch.Tensor, centres: torch.Tensor) -> torch.Tensor:
        encoder: Any = points.encoder
        own = encoder.forward

        def plain(groups: torch.Tensor, present: torch.Tensor | None = None) -> torch.Tensor:
            with torch.autocast("cpu", dtype=torch.bfloat16, enabled=dtype is torch.bfloat16):
                return torch.stack([encoder.plain(one) for one in groups]).float()

        encoder.forward = plain
        try:
            return points.encode(relative, centres)
        finally:
            encoder.forward = own

    return encode


def cases(
    samples: Sequence[Sample],
    sizes: Sizes,
    precisions: Sequence[str],
    batches: Sequence[int],
    *,
    every: int = 1,
    with_published: bool = True,
) -> list[Case]:
    """On a CPU: native grids at every precision and batch size, the published arithmetic frame by frame."""
    cpu = torch.device("cpu")
    out: list[Case] = []
    full = HeadNets.random(sizes.heads(sizes.full), 0) if with_published else None
    small = {grid: HeadNets.random(sizes.heads(grid), 0) for grid in sizes.grids}
    for precision in precisions:
        dtype = DTYPES[precision]
        dino = Dino.random(sizes.dino, 0, dtype=dtype)
        for grid in sizes.grids:
            # A lattice of 28 for either grid: the tokens of 56 are interpolated, as those of colour are.
            points = PointMae.random(sizes.points, 0, dtype=dtype)
            native = Native(dino, points, small[grid], grid, cpu, dtype)
            for batch in batches:
                chosen = [samples[i % len(samples)] for i in range(batch)]

                def call(
                    timings: Timings, native: Native = native, chosen: Sequence[Sample] = chosen
                ) -> object:
                    return native.frames(chosen, sizes, timings)

                labels = {"profile": "reference", "grid": grid, "precision": precision, "batch": batch}
                out.append(Case(f"reference {grid} {precision} x{batch}", batch, call, labels))
        if full is not None:
            slow = PointMae.random(replace(sizes.points, grouping="published"), 0, dtype=dtype)
            nets = full.to("cpu", dtype)

            def whole(
                timings: Timings,
                dino: Dino = dino,
                slow: PointMae = slow,
                nets: HeadNets = nets,
                dtype: torch.dtype = dtype,
            ) -> object:
                return published_frame(samples[0], sizes, dino, slow, nets, dtype, timings)

            labels = {"profile": "published", "grid": sizes.full, "precision": precision, "batch": 1}
            out.append(Case(f"published {sizes.full} {precision}", 1, whole, labels, every))
    return out


def _add(timings: Timings, **seconds: float) -> None:
    for stage, value in seconds.items():
        timings[stage] = timings.get(stage, 0.0) + 1e3 * value
