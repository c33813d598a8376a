"""A bundle judged on labelled frames: how well each mode and each branch tells defects from good parts.

A mode is evaluated by giving the inspector what it would have with the other sensor down. A frame without the
readings that a mode needs is left out of that mode and counted; a score that is not a number ends it all.
Maps are counted as they come and forgotten: memory does not grow with the pixels of the test set.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from inference import metrics
from inference.calibration import Limits
from inference.datasets.base import Dataset, Item
from inference.errors import DatasetError, InferenceError, NoPart, NoReading, NotFinite, UnmarkedDefect
from inference.exhibits import Seen, Showcase
from inference.pixels import LIMITS, Outline, PixelCounts
from inference.results import Measure, Metrics, Report, some
from inference.sample import Sample
from schemas.verdict import Mode

Progress = Callable[[str, int, int], None]
"""Called with what is being done, how much of it is done, and how much there is."""

_MOSTLY = 0.9
"""A mask that marks more of the frame than this share has probably marked the background."""

ALL_MODES = (Mode.FUSED, Mode.RGB, Mode.DEPTH)


class Other(Protocol):
    """What a rule of fusion that does not decide makes of the same evidence."""

    @property
    def score(self) -> float:
        """On the rule's own scale."""
        ...

    @property
    def threshold(self) -> float:
        """A score above it would be rejected."""
        ...

    @property
    def pass_limit(self) -> float:
        """A score above it would not pass."""
        ...

    @property
    def map(self) -> NDArray[np.float32]:
        """(h, w), over the whole frame."""
        ...


class Finding(Seen, Protocol):
    """The evidence on one frame in full precision, as the inspector's Study has it."""

    @property
    def mode(self) -> Mode:
        """Which sensors the score rests on."""
        ...

    @property
    def branch_maps(self) -> Mapping[str, NDArray[np.float32]]:
        """(h, w) of each branch, where asked for."""
        ...

    @property
    def pass_limit(self) -> float:
        """A score above it does not pass."""
        ...

    @property
    def branch_limits(self) -> Mapping[str, Limits]:
        """By which each branch would decide, were it alone; a branch without limits has no rates."""
        ...

    @property
    def alternatives(self) -> Mapping[str, Other]:
        """Other rules of fusion, by name, where asked for."""
        ...


class Inspects(Protocol):
    """What ``evaluate`` needs of an Inspector."""

    bundle_id: str
    bundle_hash: str

    @property
    def modes(self) -> tuple[Mode, ...]:
        """The modes that the product can be inspected in."""
        ...

    def study(
        self,
        sample: Sample,
        *,
        mode: Mode | None = None,
        branch_maps: bool = False,
        alternatives: bool = False,
    ) -> Finding:
        """The evidence on one sample with the sensors of ``mode`` alone. Raises InferenceError."""
        ...


@dataclass(slots=True)
class _Column:
    """What one row of the table said of the test frames, by index into the items; filled while inspecting."""

    limits: tuple[float, float] | None = None
    """Up to the first a part passes, above the second it is rejected."""
    scores: dict[int, float] = field(default_factory=dict)
    counts: PixelCounts = field(default_factory=PixelCounts)
    outlined: list[int] = field(default_factory=list)
    """The frames in ``counts``, in its order."""


@dataclass(frozen=True, slots=True)
class _Truth:
    """What is known of the test frames."""

    defective: NDArray[np.bool_]
    labels: NDArray[np.str_]
    groups: NDArray[np.str_]
    bootstrap: int
    seed: int

    def weights(self, chosen: NDArray[np.int64]) -> NDArray[np.int64]:
        """How often each of the chosen frames is in each bootstrap set."""
        groups = self.groups[chosen].tolist()
        return metrics.resample(groups, self.defective[chosen], self.bootstrap, self.seed)


def evaluate(
    inspector: Inspects,
    dataset: Dataset,
    *,
    modes: Sequence[Mode] = ALL_MODES,
    bootstrap: int = 1000,
    seed: int = 0,
    leave_out_unmarked: bool = False,
    progress: Progress | None = None,
) -> Report:
    """Inspect the test split in each mode and measure.

    Args:
        bootstrap: resamplings of whole groups behind each interval; 0 leaves the intervals out (that of a
            rate is then Wilson's alone).
        leave_out_unmarked: whether defects whose masks mark nothing are left out of every figure and named
            in the report; they are refused otherwise.

    Raises:
        DatasetError: no test split, masks that mark nothing, or not at least one good and one
            defective frame in it.
        NotFinite: a score or map that is not finite.
        InferenceError: any other error that the inspector reports, with the frame's name.
    """
    items, masks = _checked(dataset.test(), leave_out_unmarked, progress)
    defective = np.array([not item.is_good for item in items], bool)
    if not defective.any() or defective.all():
        raise DatasetError(
            f"{dataset.name}: {defective.sum()} defective and {(~defective).sum()} good test frames; "
            "evaluation needs both, in test/good and test/KIND"
        )
    by_mode: dict[Mode, _Column] = {mode: _Column() for mode in modes}
    branches: dict[str, _Column] = {}
    fusions: dict[str, _Column] = {}
    # Every branch that any mode has takes part in the fullest one.
    fullest = next((mode for mode in ALL_MODES if mode in modes and mode in inspector.modes), None)
    shown = Showcase()
    for index, item in enumerate(items):
        sample = item.sample()
        mask = _mask(item, sample)
        outline = None if mask is None else Outline.of(mask)
        for mode in modes:
            full = mode is fullest
            answer = _study(inspector, sample, mode, item, everything=full)
            if answer is None:
                continue
            own = (answer.pass_limit, answer.threshold)
            _record(by_mode[mode], index, item, answer.score, own, answer.map, outline)
            if not full:
                continue
            shown.show(item, sample, mask, answer)
            for name, score in answer.branches.items():
                column, limits = branches.setdefault(name, _Column()), answer.branch_limits.get(name)
                ends = None if limits is None else (limits.passes, limits.rejects)
                _record(column, index, item, score, ends, answer.branch_maps[name], outline)
            for rule, other in answer.alternatives.items():
                column = fusions.setdefault(f"{mode.value.lower()}:{rule}", _Column())
                ends = (other.pass_limit, other.threshold)
                _record(column, index, item, other.score, ends, other.map, outline)
        if progress is not None:
            progress("inspect", index + 1, len(items))

    truth = _Truth(
        defective,
        np.array([item.label for item in items]),
        np.array([item.group for item in items]),
        bootstrap,
        seed,
    )
    columns = {mode.value: column for mode, column in by_mode.items()} | fusions | branches
    found: dict[str, Metrics] = {}
    curves: dict[str, NDArray[np.float64]] = {}
    for name, column in columns.items():
        found[name], curve = _measure(column, truth)
        if curve is not None:
            curves[name] = curve
        column.counts = PixelCounts()
        if progress is not None:
            progress("measure", len(found), len(columns))
    names, counts = np.unique(truth.labels, return_counts=True)
    kinds = [str(name) for name in names if (truth.labels[defective] == name).any()]
    return Report(
        bundle=inspector.bundle_id,
        bundle_hash=inspector.bundle_hash,
        dataset=dataset.name,
        modes={mode: found[mode.value] for mode in by_mode},
        branches={name: found[name] for name in branches},
        fusions={name: found[name] for name in fusions},
        kinds={k: {m: _of_kind(c, truth, k) for m, c in by_mode.items()} for k in kinds},
        kind_branches={k: {n: _of_kind(c, truth, k) for n, c in branches.items()} for k in kinds},
        kind_fusions={k: {n: _of_kind(c, truth, k) for n, c in fusions.items()} for k in kinds},
        counts={str(name): int(number) for name, number in zip(names, counts, strict=True)},
        groups=int(np.unique(truth.groups).size),
        bootstrap=bootstrap,
        seed=seed,
        fullest=fullest,
        items=[
            {
                "name": item.name,
                "label": item.label,
                "group": item.group,
                "scores": {mode.value: column.scores.get(i) for mode, column in by_mode.items()},
                "branches": {name: column.scores.get(i) for name, column in branches.items()},
                "fusions": {name: column.scores.get(i) for name, column in fusions.items()},
            }
            for i, item in enumerate(items)
        ],
        curves=curves,
        unmarked=masks.unmarked,
        mostly_marked=masks.mostly,
        hits=shown.hits,
        worst_defects=shown.defects,
        worst_good=shown.good,
    )


@dataclass(frozen=True, slots=True)
class _Masks:
    """Frames, as split/label/name, whose masks are no outline of a defect."""

    unmarked: list[str] = field(default_factory=list)
    mostly: list[str] = field(default_factory=list)


def _checked(
    items: Sequence[Item], leave_out: bool, progress: Progress | None
) -> tuple[Sequence[Item], _Masks]:
    """Every mask read once before minutes of inspection: the frames to judge, and what their masks are.

    Raises:
        DatasetError: a mask is unreadable, or marks nothing and is not to be left out; all such are named.
    """
    defects = [item for item in items if not item.is_good]
    found, without = _Masks(), set()
    for index, item in enumerate(defects):
        name = f"{item.split}/{item.label}/{item.name}"
        try:
            mask = item.mask()
            empty = mask is not None and not mask.any()
        except UnmarkedDefect:
            mask, empty = None, True
        if empty:
            found.unmarked.append(name)
            without.add(id(item))
        elif mask is not None and mask.mean() > _MOSTLY:
            found.mostly.append(name)
        if progress is not None:
            progress("masks", index + 1, len(defects))
    if found.unmarked and not leave_out:
        one = len(found.unmarked) == 1
        raise DatasetError(
            f"{some(found.unmarked)}: "
            f"{'an empty mask, and the frame is' if one else 'empty masks, and the frames are'} labelled as "
            f"{'a defect' if one else 'defects'}; mark the defect, move the frame to test/good, or leave "
            f"{'it' if one else 'them'} out with --leave-out-unmarked"
        )
    return [item for item in items if id(item) not in without], found


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
    inspector: Inspects, sample: Sample, mode: Mode, item: Item, *, everything: bool
) -> Finding | None:
    """The finding in a mode; None where the frame or the product does not have that mode."""
    lacks = (sample.rgb is None and mode is not Mode.DEPTH) or (sample.depth is None and mode is not Mode.RGB)
    if lacks or mode not in inspector.modes:
        return None
    try:
        answer = inspector.study(sample, mode=mode, branch_maps=everything, alternatives=everything)
    except (NoReading, NoPart):
        return None  # never a PASS: it is counted as left out
    except InferenceError as error:
        raise type(error)(f"{item.split}/{item.label}/{item.name} in {mode}: {error}") from error
    # A frame whose other sensor gave nothing usable is scored on that mode's own scale: the two do not mix.
    return answer if answer.mode is mode else None


def _record(
    column: _Column,
    index: int,
    item: Item,
    score: float,
    limits: tuple[float, float] | None,
    values: NDArray[np.float32],
    outline: Outline | None,
) -> None:
    if not np.isfinite(score) or not np.isfinite(values).all():
        raise NotFinite(
            f"{item.split}/{item.label}/{item.name}: its score ({score}) or a value of its map is not finite"
        )
    column.scores[index] = score
    column.limits = limits
    if outline is not None:
        column.counts.add(values, outline)
        column.outlined.append(index)


def _measure(column: _Column, truth: _Truth) -> tuple[Metrics, NDArray[np.float64] | None]:
    """All figures over the frames that the column has, and the curve of coverage where there is one."""
    found = _rates(column, truth, np.array(sorted(column.scores), np.int64))
    if not column.counts.complete:
        return found, None
    pixels = column.counts.figures()
    weights = truth.weights(np.array(column.outlined, np.int64))
    area, precision, overlap = column.counts.resampled(weights)
    aupro = [Measure(pixels.aupro[limit], metrics.interval(overlap[limit])) for limit in LIMITS]
    found = replace(
        found,
        p_auroc=Measure(pixels.auroc, metrics.interval(area)),
        p_ap=Measure(pixels.ap, metrics.interval(precision)),
        aupro_30=aupro[0],
        aupro_10=aupro[1],
        aupro_05=aupro[2],
        aupro_01=aupro[3],
        binning=max(pixels.error.values()),
    )
    return found, pixels.curve


def _rates(column: _Column, truth: _Truth, chosen: NDArray[np.int64], of: int | None = None) -> Metrics:
    """The figures that rest on image scores alone, over ``chosen`` frames out of ``of``."""
    defective = truth.defective[chosen]
    limits = column.limits
    known = Metrics(
        pass_limit=None if limits is None else limits[0],
        threshold=None if limits is None else limits[1],
        inspected=int(chosen.size),
        left_out=(truth.defective.size if of is None else of) - int(chosen.size),
        good=int((~defective).sum()),
        defects=int(defective.sum()),
    )
    if not known.good or not known.defects:
        return known
    scores = np.array([column.scores[int(i)] for i in chosen])
    weights = truth.weights(chosen)

    def rate(hits: NDArray[np.bool_], among: NDArray[np.bool_]) -> Measure:
        return Measure(float(hits[among].mean()), metrics.share_interval(hits[among], weights[:, among]))

    precision, f1 = metrics.resampled_precision(scores, defective, weights)
    found = replace(
        known,
        i_auroc=Measure(
            metrics.i_auroc(scores, defective),
            metrics.interval(metrics.resampled_auroc(scores, defective, weights)),
        ),
        i_ap=Measure(metrics.average_precision(scores, defective), metrics.interval(precision)),
        f1_max=Measure(metrics.f1_max(scores, defective), metrics.interval(f1)),
    )
    if limits is None:
        return found
    passed, rejected = scores <= min(limits), scores > limits[1]
    held = ~passed & ~rejected
    return replace(
        found,
        false_reject_rate=rate(rejected, ~defective),
        good_review_rate=rate(held, ~defective),
        miss_rate=rate(passed, defective),
        defect_review_rate=rate(held, defective),
    )


def _of_kind(column: _Column, truth: _Truth, kind: str) -> Metrics:
    """One kind of defect against all good frames, image scores only."""
    asked = np.flatnonzero(~truth.defective | (truth.labels == kind))
    chosen = np.array([i for i in asked if int(i) in column.scores], np.int64)
    return _rates(column, truth, chosen, of=asked.size)
