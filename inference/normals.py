"""Normal frames while they are taught: read once, standards fitted on them, brought to evidence."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from numpy.typing import NDArray

from inference.branches.base import Evidence
from inference.datasets.base import Item
from inference.errors import DepthUnusable, TeachError
from inference.features import colour as colours
from inference.features import geometry
from inference.features.base import Features
from inference.features.colour import ColourStandard
from inference.features.geometry import GeometryStandard, Standard
from inference.features.lite import LiteExtractor
from inference.plane import fit_plane
from inference.prepare import Preparation, Tile
from inference.sample import Sample

Progress = Callable[[str, int, int], None]
Image = NDArray[np.float32]

_EDGE_STEP = 61  # one pixel in 61: prime, so that no row or column pattern of the sensor is favoured


@dataclass(frozen=True, slots=True)
class Frame:
    """One normal: its tiles without colour pixels, its raw colour tokens."""

    name: str
    group: str
    tiles: tuple[Tile, ...]
    colour: tuple[torch.Tensor, ...]


def check_sizes(
    item: Item,
    sample: Sample,
    rgb_size: tuple[int, int] | None,
    depth_size: tuple[int, int] | None,
    first: str,
) -> None:
    """Raises TeachError: the sample's sensors or sizes are not those of the first frame; names the item."""
    for what, found, expected in (
        ("colour", sample.rgb_size, rgb_size),
        ("depth", sample.depth_size, depth_size),
    ):
        if found != expected:
            raise TeachError(
                f"{item.name}: its {what} image is {_words(found)}, that of {first} is {_words(expected)}: "
                "all frames of a product must be alike"
            )


def _words(size: tuple[int, int] | None) -> str:
    return "missing" if size is None else f"{size[1]} x {size[0]} pixels"


def read_frames(
    items: Sequence[Item],
    preparation: Preparation,
    device: torch.device,
    digest: hashlib._Hash,
    report: Progress,
    stage: str,
) -> list[Frame]:
    """Tiles and raw colour tokens of every frame, each image read once; ``digest`` takes in every array.

    Raises:
        TeachError: a frame of another size, or with a sensor that cannot be used; the message names it.
        DatasetError: an image cannot be read.
    """
    extractor = LiteExtractor(device)
    full = preparation.full_mode
    frames = []
    for index, item in enumerate(items):
        sample = item.sample()
        check_sizes(item, sample, preparation.rgb_size, preparation.depth_size, "the first teaching frame")
        digest.update(f"{item.split}/{item.name}/{item.group}\n".encode())
        for array in (sample.rgb, sample.depth):
            if array is not None:
                digest.update(np.ascontiguousarray(array).data)
        sensors = preparation.sensors(sample)
        if sensors.degraded:
            raise TeachError(
                f"{item.name}: {', '.join(sensors.degraded)}: normals must show every sensor; remove it"
            )
        tiles = preparation.tiles(sample, full)
        colour = tuple(colours.raw_tokens(extractor, tile.rgb) for tile in tiles if tile.rgb is not None)
        frames.append(Frame(item.name, item.group, tuple(replace(tile, rgb=None) for tile in tiles), colour))
        report(stage, index + 1, len(items))
    return frames


def fit_standards(
    frames: Sequence[Frame], preparation: Preparation, device: torch.device, report: Progress
) -> Features:
    """The standards of the sensors that the product has."""
    colour = shape = None
    if preparation.rgb_size is not None:
        colour = ColourStandard.fit([tokens for frame in frames for tokens in frame.colour])
        report("colour standard", 1, 1)
    if preparation.depth_size is not None:
        shape = _fit_shape(frames, report)
    return Features(colour, shape, device)


def _fit_shape(frames: Sequence[Frame], report: Progress) -> GeometryStandard:
    """Unit of height, then histogram edges, then the standards of both grids: each needs the one before."""
    usable: list[tuple[Image, NDArray[np.bool_]]] = []
    spreads: list[float] = []
    for frame in frames:
        for tile in frame.tiles:
            assert tile.shape_depth is not None
            assert tile.shape_valid is not None
            try:
                spreads.append(fit_plane(tile.shape_depth, tile.shape_valid).mad)
            except DepthUnusable:
                continue
            usable.append((tile.shape_depth, tile.shape_valid))
    if not usable:
        raise TeachError("no teaching frame has enough depth readings for a plane: check the depth sensor")
    # A surface without any noise in the counts still has a quantisation of one.
    unit = max(float(np.median(spreads)), 1.0)
    points = []
    for index, (depth, valid) in enumerate(usable):
        _, binned = geometry.quantities(*geometry.heights(depth, valid, unit))
        points.append(np.stack([one.ravel()[::_EDGE_STEP] for one in binned]))
        report("histogram edges", index + 1, len(usable))
    edges = np.quantile(np.concatenate(points, axis=1), geometry.EDGES, axis=1).T.astype(np.float32)
    edges = np.ascontiguousarray(edges)
    fine, coarse = [], []
    for index, (depth, valid) in enumerate(usable):
        one, other = geometry.raw_tokens(*geometry.heights(depth, valid, unit), edges)
        fine.append(one)
        coarse.append(other)
        report("geometry standard", index + 1, len(usable))
    return GeometryStandard(unit, edges, Standard.fit(fine), Standard.fit(coarse))


def evidence_of(
    frames: Sequence[Frame], features: Features, report: Progress, stage: str
) -> list[list[Evidence]]:
    """Evidence of every tile of every frame; colour tokens come from the cache."""
    out = []
    for index, frame in enumerate(frames):
        tiles = []
        for number, tile in enumerate(frame.tiles):
            one = features.evidence(tile, group=frame.group)
            if features.colour is not None:
                one = replace(one, rgb_tokens=features.colour.apply(frame.colour[number]))
            tiles.append(one)
        out.append(tiles)
        report(stage, index + 1, len(frames))
    return out
