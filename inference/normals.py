"""Normal frames while they are taught: read once, checked, brought to evidence."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from inference.branches.base import Evidence
from inference.datasets.base import Item
from inference.errors import NoPart, NoReading, TeachError
from inference.foreground import Foreground
from inference.prepare import Preparation
from inference.profiles.base import Features, Frame, Profile, Progress
from inference.sample import Sample
from inference.sketch import brightness, readings


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


def check_sensors(item: Item, sample: Sample, preparation: Preparation) -> None:
    """Raises TeachError: a sensor of the sample shows nothing; names the item."""
    try:
        sensors = preparation.sensors(sample)
    except NoReading as error:
        raise TeachError(f"{item.name}: {error}; or remove this frame") from error
    if sensors.degraded:
        raise TeachError(
            f"{item.name}: {', '.join(sensors.degraded)}: normals must show every sensor; remove it"
        )


def read_frames(
    items: Sequence[Item],
    preparation: Preparation,
    foreground: Foreground,
    profile: Profile,
    digest: hashlib._Hash,
    report: Progress,
    stage: str,
) -> list[Frame]:
    """Tiles of every frame and what the profile reads of them; ``digest`` takes in every array.

    Raises:
        TeachError: a frame of another size, or with a sensor that cannot be used; the message names it.
        DatasetError: an image cannot be read.
    """
    full = preparation.full_mode
    frames = []
    for index, item in enumerate(items):
        sample = item.sample()
        check_sizes(item, sample, preparation.rgb_size, preparation.depth_size, "the first teaching frame")
        digest.update(f"{item.split}/{item.name}/{item.group}\n".encode())
        for array in (sample.rgb, sample.depth):
            if array is not None:
                digest.update(np.ascontiguousarray(array).data)
        check_sensors(item, sample, preparation)
        try:
            found = foreground.find(sample, full)
        except NoPart as error:
            raise TeachError(f"{item.name}: {error}; or remove this frame") from error
        tiles = preparation.tiles(sample, full, found)
        raw = tuple(profile.read(tile) for tile in tiles)
        frames.append(
            Frame(
                item.name,
                item.group,
                tuple(replace(tile, rgb=None) for tile in tiles),
                raw,
                None if sample.rgb is None else brightness(sample.rgb),
                None if sample.depth is None else readings(sample.depth)[1],
            )
        )
        report(stage, index + 1, len(items))
    return frames


def evidence_of(
    frames: Sequence[Frame], features: Features, report: Progress, stage: str
) -> list[list[Evidence]]:
    """Evidence of every tile of every frame, from what was read of it."""
    out = []
    for index, frame in enumerate(frames):
        out.append(
            [
                features.evidence(tile, raw=raw, group=frame.group)
                for tile, raw in zip(frame.tiles, frame.raw, strict=True)
            ]
        )
        report(stage, index + 1, len(frames))
    return out
