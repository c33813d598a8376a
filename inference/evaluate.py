"""A bundle judged on labelled frames: how well each mode and each branch tells defects from good parts.

A mode is evaluated by giving the inspector what it would have with the other sensor down. A frame without the
readings that a mode needs is left out of that mode and counted; a score that is not a number ends it all.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

import cv2
import numpy as np
from numpy.typing import NDArray

from inference import metrics
from inference.datasets.base import Dataset, Item
from inference.errors import DatasetError, InferenceError, NoReading, NotFinite
from inference.sample import Sample
from schemas.verdict import Mode

Progress = Callable[[str, int, int], None]
"""Called with what is being done, how much of it is done, and how much there is."""

ALL_MODES = (Mode.FUSED, Mode.RGB, Mode.DEPTH)


class Finding(Protocol):
    """The evidence on one frame in full precision, as the inspector's Study has it."""

    @property
    def mode(self) -> Mode:
        """Which sensors the score rests on."""
        ...

    @property
    def score(self) -> float:
        """On the scale of the mode."""
        ...

    @property
    def threshold(self) -> float:
        """A score above it is a defect."""
        ...

    @property
    def branches(self) -> Mapping[str, float]:
        """Score of each branch."""
        ...

    @property
    def map(self) -> NDArray[np.float32]:
        """(h, w), over the whole frame."""
        ...

    @property
    def branch_maps(self) -> Mapping[str, NDArray[np.float32]]:
        """(h, w) of each branch, where asked for."""
        ...


class Inspects(Protocol):
    """What ``evaluate`` needs of an Inspector."""

    bundle_id: str
    bundle_hash: str

    @property
    def modes(self) -> tuple[Mode, ...]:
        """The modes that the product can be inspected in."""
        ...

    def study(self, sample: Sample, *, mode: Mode | None = None, branch_maps: bool = False) -> Finding:
        """The evidence on one sample with the sensors of ``mode`` alone. Raises InferenceError."""
        ...


@dataclass(frozen=True, slots=True)
class Measure:
    """A figure with its 95 % bootstrap interval; None where it cannot be had from these frames."""

    value: float | None = None
    interval: tuple[float, float] | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Metrics:
    """The five figures of one mode or branch. The two rates are None where there is no threshold."""

    i_auroc: Measure = Measure()
    p_auroc: Measure = Measure()
    aupro_30: Measure = Measure()
    false_reject_rate: Measure = Measure()
    miss_rate: Measure = Measure()
    threshold: float | None = None
    inspected: int = 0
    left_out: int = 0

    def to_json(self) -> dict[str, Any]:
        """Each figure as a number (or null), its interval beside it as ``NAME_interval``."""
        out: dict[str, Any] = {}
        for name in ("i_auroc", "p_auroc", "aupro_30", "false_reject_rate", "miss_rate"):
            measure: Measure = getattr(self, name)
            out[name] = measure.value
            out[f"{name}_interval"] = None if measure.interval is None else list(measure.interval)
        return out | {"threshold": self.threshold, "inspected": self.inspected, "left_out": self.left_out}


@dataclass(frozen=True, slots=True, kw_only=True)
class Report:
    """What ``evaluate`` found.

    Attributes:
        modes: by mode. branches: by branch name, over the frames of the fullest mode evaluated.
        kinds: by label of defect (against all good frames), then by mode.
        kind_branches: the same, then by branch.
        counts: test frames by label. groups: independent groups among them, which the intervals rest on.
        items: name, label, group and the score of each mode, one map a frame.
    """

    bundle: str
    bundle_hash: str
    dataset: str
    modes: Mapping[Mode, Metrics]
    branches: Mapping[str, Metrics]
    kinds: Mapping[str, Mapping[Mode, Metrics]]
    kind_branches: Mapping[str, Mapping[str, Metrics]]
    counts: Mapping[str, int]
    groups: int
    bootstrap: int
    seed: int
    items: Sequence[Mapping[str, Any]] = field(default=(), repr=False)

    def to_json(self) -> dict[str, Any]:
        """A map of plain values with stable keys: ``modes.FUSED.i_auroc``, ``branches.NAME.aupro_30``, ..."""
        return {
            "bundle": self.bundle,
            "bundle_hash": self.bundle_hash,
            "dataset": self.dataset,
            "counts": dict(self.counts),
            "groups": self.groups,
            "bootstrap": self.bootstrap,
            "seed": self.seed,
            "modes": {mode.value: found.to_json() for mode, found in self.modes.items()},
            "branches": {name: found.to_json() for name, found in self.branches.items()},
            "kinds": {
                label: {mode.value: found.to_json() for mode, found in by_mode.items()}
                | {
                    "branches": {
                        name: found.to_json() for name, found in self.kind_branches.get(label, {}).items()
                    }
                }
                for label, by_mode in self.kinds.items()
            },
            "items": [dict(item) for item in self.items],
        }


@dataclass(slots=True)
class _Column:
    """What one mode or branch said of the test frames, by index into the items; filled while inspecting."""

    threshold: float | None = None
    scores: dict[int, float] = field(default_factory=dict)
    maps: dict[int, NDArray[np.float32]] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class _Truth:
    """What is known of the test frames."""

    defective: NDArray[np.bool_]
    labels: NDArray[np.str_]
    groups: NDArray[np.str_]
    masks: Sequence[NDArray[np.bool_] | None]


def evaluate(
    inspector: Inspects,
    dataset: Dataset,
    *,
    modes: Sequence[Mode] = ALL_MODES,
    bootstrap: int = 1000,
    seed: int = 0,
    progress: Progress | None = None,
) -> Report:
    """Inspect the test split in each mode and measure.

    Args:
        bootstrap: resamplings of whole groups behind each interval; 0 leaves the intervals out.

    Raises:
        DatasetError: no test split, or not at least one good and one defective frame in it.
        NotFinite: a score or map that is not finite.
        InferenceError: any other error that the inspector reports, with the frame's name.
    """
    items = dataset.test()
    defective = np.array([not item.is_good for item in items], bool)
    if not defective.any() or defective.all():
        raise DatasetError(
            f"{dataset.name}: {defective.sum()} defective and {(~defective).sum()} good test frames; "
            "evaluation needs both, in test/good and test/KIND"
        )
    columns: dict[Mode, _Column] = {mode: _Column() for mode in modes}
    branches: dict[str, _Column] = {}
    # Every branch that any mode has takes part in the fullest one.
    fullest = next((mode for mode in ALL_MODES if mode in modes and mode in inspector.modes), None)
    masks: list[NDArray[np.bool_] | None] = []
    for index, item in enumerate(items):
        sample = item.sample()
        masks.append(_mask(item, sample))
        for mode in modes:
            answer = _study(inspector, sample, mode, item, branch_maps=mode is fullest)
            if answer is None:
                continue
            _record(columns[mode], index, item, answer.score, answer.map)
            columns[mode].threshold = answer.threshold
            if mode is fullest:
                for name, score in answer.branches.items():
                    _record(
                        branches.setdefault(name, _Column()), index, item, score, answer.branch_maps[name]
                    )
        if progress is not None:
            progress("inspect", index + 1, len(items))

    truth = _Truth(defective, np.array([i.label for i in items]), np.array([i.group for i in items]), masks)
    total = len(columns) + len(branches)
    found_modes: dict[Mode, Metrics] = {}
    found_branches: dict[str, Metrics] = {}
    for mode, column in columns.items():
        found_modes[mode] = _measure(column, truth, bootstrap, seed)
        if progress is not None:
            progress("measure", len(found_modes), total)
    for name, column in branches.items():
        found_branches[name] = _measure(column, truth, bootstrap, seed)
        column.maps.clear()
        if progress is not None:
            progress("measure", len(found_modes) + len(found_branches), total)
    names, counts = np.unique(truth.labels, return_counts=True)
    kinds = [str(name) for name in names if (truth.labels[defective] == name).any()]
    return Report(
        bundle=inspector.bundle_id,
        bundle_hash=inspector.bundle_hash,
        dataset=dataset.name,
        modes=found_modes,
        branches=found_branches,
        kinds={k: {m: _of_kind(c, truth, k, bootstrap, seed) for m, c in columns.items()} for k in kinds},
        kind_branches={
            k: {n: _of_kind(c, truth, k, bootstrap, seed) for n, c in branches.items()} for k in kinds
        },
        counts={str(name): int(count) for name, count in zip(names, counts, strict=True)},
        groups=int(np.unique(truth.groups).size),
        bootstrap=bootstrap,
        seed=seed,
        items=[
            {
                "name": item.name,
                "label": item.label,
                "group": item.group,
                "scores": {mode.value: column.scores.get(i) for mode, column in columns.items()},
            }
            for i, item in enumerate(items)
        ],
    )


def _mask(item: Item, sample: Sample) -> NDArray[np.bool_] | None:
    """The truth in pixels; None for a defect that nobody outlined, which pixel metrics leave out."""
    size = sample.rgb_size or sample.depth_size
    if size is None:
        raise DatasetError(f"{item.split}/{item.label}/{item.name}: neither colour nor depth image")
    if item.is_good:
        return np.zeros(size, bool)
    mask = item.mask()
    if mask is not None and mask.shape != size:
        raise DatasetError(f"{item.split}/{item.label}/{item.name}: mask {mask.shape}, image {size}")
    return mask


def _study(
    inspector: Inspects, sample: Sample, mode: Mode, item: Item, *, branch_maps: bool
) -> Finding | None:
    """The finding in a mode; None where the frame or the product does not have that mode."""
    lacks = (sample.rgb is None and mode is not Mode.DEPTH) or (sample.depth is None and mode is not Mode.RGB)
    if lacks or mode not in inspector.modes:
        return None
    try:
        answer = inspector.study(sample, mode=mode, branch_maps=branch_maps)
    except NoReading:
        return None
    except InferenceError as error:
        raise type(error)(f"{item.split}/{item.label}/{item.name} in {mode}: {error}") from error
    # A frame whose other sensor gave nothing usable is scored on that mode's own scale: the two do not mix.
    return answer if answer.mode is mode else None


def _record(column: _Column, index: int, item: Item, score: float, values: NDArray[np.float32]) -> None:
    if not np.isfinite(score) or not np.isfinite(values).all():
        raise NotFinite(
            f"{item.split}/{item.label}/{item.name}: its score ({score}) or a value of its map is not finite"
        )
    column.scores[index] = score
    column.maps[index] = values


def _fit(values: NDArray[np.float32], shape: tuple[int, ...]) -> NDArray[np.float32]:
    if values.shape == shape:
        return values
    return np.asarray(cv2.resize(values, (shape[1], shape[0]), interpolation=cv2.INTER_LINEAR), np.float32)


def _measure(column: _Column, truth: _Truth, bootstrap: int, seed: int) -> Metrics:
    """All five figures over the frames that the column has."""
    found = _rates(column, truth, np.array(sorted(column.scores), np.int64), bootstrap, seed)
    outlined = [(i, m) for i in sorted(column.maps) if (m := truth.masks[i]) is not None]
    if not any(mask.any() for _, mask in outlined):
        return found
    maps, masks = [_fit(column.maps[i], mask.shape) for i, mask in outlined], [mask for _, mask in outlined]
    area, overlap = metrics.pixel_metrics(maps, masks)
    chosen = np.array([i for i, _ in outlined])
    weights = metrics.resample(truth.groups[chosen].tolist(), truth.defective[chosen], bootstrap, seed)
    if not len(weights):
        pixel = Measure(area), Measure(overlap)
    else:
        areas, overlaps = metrics.PixelTable(maps, masks).metrics(weights)
        pixel = Measure(area, metrics.interval(areas)), Measure(overlap, metrics.interval(overlaps))
    return Metrics(
        i_auroc=found.i_auroc,
        p_auroc=pixel[0],
        aupro_30=pixel[1],
        false_reject_rate=found.false_reject_rate,
        miss_rate=found.miss_rate,
        threshold=found.threshold,
        inspected=found.inspected,
        left_out=found.left_out,
    )


def _rates(
    column: _Column,
    truth: _Truth,
    chosen: NDArray[np.int64],
    bootstrap: int,
    seed: int,
    of: int | None = None,
) -> Metrics:
    """The figures that rest on image scores alone, over ``chosen`` frames out of ``of``."""
    left_out = (len(truth.masks) if of is None else of) - chosen.size
    defective = truth.defective[chosen]
    if not defective.any() or defective.all():
        return Metrics(threshold=column.threshold, inspected=int(chosen.size), left_out=left_out)
    scores = np.array([column.scores[int(i)] for i in chosen])
    weights = metrics.resample(truth.groups[chosen].tolist(), defective, bootstrap, seed)
    limit = column.threshold

    def rate(hits: NDArray[np.bool_], among: NDArray[np.bool_]) -> Measure:
        spread = metrics.resampled_share(hits[among], weights[:, among])
        return Measure(float(hits[among].mean()), metrics.interval(spread))

    return Metrics(
        i_auroc=Measure(
            metrics.i_auroc(scores, defective),
            metrics.interval(metrics.resampled_auroc(scores, defective, weights)),
        ),
        false_reject_rate=Measure() if limit is None else rate(scores > limit, ~defective),
        miss_rate=Measure() if limit is None else rate(scores <= limit, defective),
        threshold=limit,
        inspected=int(chosen.size),
        left_out=left_out,
    )


def _of_kind(column: _Column, truth: _Truth, kind: str, bootstrap: int, seed: int) -> Metrics:
    """One kind of defect against all good frames, image scores only."""
    asked = np.flatnonzero(~truth.defective | (truth.labels == kind))
    chosen = np.array([i for i in asked if int(i) in column.scores], np.int64)
    return _rates(column, truth, chosen, bootstrap, seed, of=asked.size)
