"""Good parts that are one picture: copies say nothing about how parts differ, and make thresholds worthless.

Scores of frames that the model has seen, or that are all alike, hardly vary. A threshold above them is low
and its spread is nothing, so that the first other part scores astronomically. Pictures are compared by their
pixels, and near-copies (saved again, brightened) by a small print of each.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from inference.errors import TeachError
from inference.sample import Sample

_SIDE = 32
_READ = 0.3  # share of a cell that depth must have read
_NEAR = 0.1  # of the middle distance between frames; saving again moves a frame by half of that at most
_STILL = 1e-3  # middle distance; photos of one part at rest lie ten times as far apart by noise alone
_MOST = 3000  # frames: more are compared by their pixels alone
_NAMES = 3


@dataclass(frozen=True, slots=True)
class Print:
    """What is kept of a frame to tell copies by.

    Attributes:
        name: split/label/name, for messages.
        split: "train" or "validation".
        colour, depth: digests of the pixels; None where the sensor is not there.
        small: both sensors on a small grid, without their level and contrast.
    """

    name: str
    split: str
    colour: bytes | None
    depth: bytes | None
    small: NDArray[np.float32]

    @classmethod
    def of(cls, name: str, split: str, sample: Sample) -> Print:
        """The print of one frame."""
        small = []
        if sample.rgb is not None:
            grey = cv2.cvtColor(sample.rgb, cv2.COLOR_RGB2GRAY).astype(np.float32)
            small.append(_even(_shrunk(grey), np.ones((_SIDE, _SIDE), np.bool_)))
        if sample.depth is not None:
            share = _shrunk((sample.depth > 0).astype(np.float32))
            total = _shrunk(sample.depth.astype(np.float32))
            read = share > _READ
            level = np.divide(total, share, out=np.zeros_like(total), where=read)
            small.append(_even(level, read))
        digests = [
            None if image is None else hashlib.sha256(np.ascontiguousarray(image).data).digest()
            for image in (sample.rgb, sample.depth)
        ]
        return cls(name, split, digests[0], digests[1], np.concatenate(small).ravel())

    @property
    def key(self) -> tuple[bytes | None, bytes | None]:
        """Equal where every pixel is."""
        return self.colour, self.depth


def check_copies(prints: Sequence[Print], least: int) -> list[str]:
    """Sentences about copies among good parts that can be taught all the same.

    Args:
        prints: of all frames of train and validation.
        least: so many different pictures are needed in train.

    Raises:
        TeachError: every image of a sensor is one picture, all are nearly one, too few pictures differ, or
            the same picture is in train and in validation.
    """
    train = [one for one in prints if one.split == "train"]
    held = [one for one in prints if one.split != "train"]
    for frames, where in ((train, "train"), (held, "validation")):
        for what in ("colour", "depth"):
            _check_varied(frames, what, where)
    different = {one.key for one in train}
    if len(different) < least:
        raise TeachError(
            f"train has {len(train)} frames and {len(different)} different pictures, at least {least} are "
            f"needed: {_groups(_alike(train))} are copies; record more parts"
        )
    known = {one.key: one.name for one in train}
    both = [(known[one.key], one.name) for one in held if one.key in known]
    if both:
        raise TeachError(
            f"{len(both)} of {len(held)} validation frames are in train too, pixel for pixel: "
            f"{_pairs(both)}. Their scores set too low a threshold; keep each part in one of the two"
        )
    return [note for note in (_copies(train), _copies(held), *_near(prints)) if note]


def _check_varied(frames: Sequence[Print], what: str, where: str) -> None:
    digests = {getattr(one, what) for one in frames}
    if len(frames) > 1 and len(digests) == 1 and digests != {None}:
        raise TeachError(
            f"all {len(frames)} {what} images of {where} are one picture, pixel for pixel ({frames[0].name} "
            f"and {frames[1].name}): a sensor that stood still, or copies of one file; record different parts"
        )


def _alike(frames: Sequence[Print]) -> list[list[str]]:
    found: dict[tuple[bytes | None, bytes | None], list[str]] = {}
    for one in frames:
        found.setdefault(one.key, []).append(one.name)
    return [names for names in found.values() if len(names) > 1]


def _copies(frames: Sequence[Print]) -> str | None:
    alike = _alike(frames)
    if not alike:
        return None
    count = sum(len(names) - 1 for names in alike)
    return (
        f"{count} of {len(frames)} {frames[0].split} frames are copies, pixel for pixel: {_groups(alike)}; "
        "they count for nothing, take them away"
    )


def _near(prints: Sequence[Print]) -> list[str]:
    """Frames that are the same photo saved again, within train and across the splits."""
    kept = list({one.key: one for one in prints}.values())[:_MOST]
    if len(kept) < 4:
        return []
    rows = np.stack([one.small for one in kept]).astype(np.float64)
    rows /= np.sqrt(rows.shape[1])
    square = np.square(rows).sum(axis=1)
    distance = np.sqrt(np.maximum(square[:, None] + square[None] - 2 * rows @ rows.T, 0))
    first, second = np.triu_indices(len(kept), 1)
    between = distance[first, second]
    middle = float(np.median(between))
    if middle < _STILL:
        raise TeachError(
            f"the {len(kept)} good frames are one picture but for a trace ({kept[0].name}, {kept[1].name}, "
            "...), less than any camera's noise: copies of one photo, or a sensor that stood still; "
            "record different parts"
        )
    near = np.flatnonzero(between < _NEAR * middle)
    found: dict[bool, list[tuple[str, str]]] = {True: [], False: []}
    for at in near[np.argsort(between[near])]:
        one, other = kept[first[at]], kept[second[at]]
        found[one.split != other.split].append((one.name, other.name))
    told = {
        True: "pairs of frames of train and validation are nearly the same picture",
        False: "pairs of good frames are nearly the same picture",
    }
    why = {
        True: "the threshold comes out too low if they are one part; keep each part in one of the two",
        False: "photos of one part count as one: name their lot in groups.csv, or take them away",
    }
    return [f"{len(p)} {told[across]}: {_pairs(p)}; {why[across]}" for across, p in found.items() if p]


def _pairs(pairs: Sequence[tuple[str, str]]) -> str:
    listed = ", ".join(f"{one} = {other}" for one, other in pairs[:_NAMES])
    return listed + (f" and {len(pairs) - _NAMES} more" if len(pairs) > _NAMES else "")


def _groups(alike: Sequence[Sequence[str]]) -> str:
    listed = "; ".join(
        " = ".join(names[:_NAMES]) + (f" and {len(names) - _NAMES} more" if len(names) > _NAMES else "")
        for names in alike[:_NAMES]
    )
    return listed + (f"; and {len(alike) - _NAMES} more" if len(alike) > _NAMES else "")


def _shrunk(image: NDArray[np.float32]) -> NDArray[np.float32]:
    return np.asarray(cv2.resize(image, (_SIDE, _SIDE), interpolation=cv2.INTER_AREA), np.float32)


def _even(image: NDArray[np.float32], there: NDArray[np.bool_]) -> NDArray[np.float32]:
    out = np.zeros_like(image)
    if there.any():
        values = image[there]
        out[there] = (values - np.median(values)) / max(float(values.std()), 1e-3)
    return out
