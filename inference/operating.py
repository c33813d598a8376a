"""The operating point of a product: what maps of normals say about every score that is to come.

Fitted on maps of normals that the branches never saw; afterwards it turns the maps of one frame into scores,
and a score into a decision's evidence. Teaching and inspecting measure frames by the same lines.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from functools import partial
from typing import Any, Self

import numpy as np
import torch
from numpy.typing import NDArray

from inference.baseline import Baseline
from inference.branches.base import Branch, Reduce
from inference.calibration import LARGEST, Limits, Scale, limits_of, scale_of
from inference.disagreement import Disagreement, SideMaps
from inference.errors import BundleError
from inference.features.base import sub
from inference.fusion import Measured, Seen, measure
from inference.profiles.base import Progress
from inference.rules import CALIBRATED, CMDR, DUAL, MODULATED, Calibrated, Cmdr, Disagreeing, Rule
from inference.sketch import ScoreSketch
from inference.tiles import TileLayout
from schemas.verdict import Mode

Image = NDArray[np.float32]
Kinds = Mapping[Mode, Sequence[type[Branch]]]
"""The branches of each mode that the product has, the full mode first."""


@dataclass(frozen=True, slots=True)
class OperatingPoint:
    """Everything between a branch's map and a score with its limits.

    Attributes:
        kinds: branches of each mode.
        baselines: what normals always show, by branch.
        rules: by name; each with limits of its own.
        limits: by rule, then by mode.
        branch_limits: of each branch's calibrated image score alone; nothing is decided by them.
        calibrated: the rule of that name, whose scales give each branch's score.
        published: the rule "cmdr".
        disagreement: of the two sensors; None for a product with one.
        sketches: of the scores that the limits were set by, by rule and mode name, as the manifest has
            them; empty in bundles from before there were any.
    """

    kinds: Kinds
    baselines: Mapping[str, Baseline]
    rules: Mapping[str, Rule]
    limits: Mapping[str, Mapping[Mode, Limits]]
    branch_limits: Mapping[str, Limits]
    calibrated: Calibrated
    published: Cmdr
    disagreement: Disagreement | None
    sketches: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)

    @classmethod
    def fit(
        cls,
        seen: Sequence[Sequence[Seen]],
        groups: Sequence[str],
        kinds: Kinds,
        layout: TileLayout,
        *,
        distances: bool,
        false_reject: float,
        review_share: float,
        report: Progress,
    ) -> Self:
        """From maps of normals that the branches were not fitted on.

        Args:
            seen: per frame, what the branches of the full mode gave for each tile.
            groups: lot or recording of each frame.
            kinds: see the class.
            layout: of the tiles.
            distances: whether maps are distances in [0, 2]; others are divided by their medians before the
                published formula.
            false_reject: share of good frames that may be rejected.
            review_share: further share of good frames that may not pass.
            report: progress.
        """
        branches = next(iter(kinds.values()))
        baselines = {
            kind.name: Baseline.fit([[tile.maps.get(kind.name) for tile in frame] for frame in seen], groups)
            for kind in branches
            if kind.reduce is Reduce.TOP
        }

        def frames() -> Iterator[Measured]:
            # Measured anew on each pass: the large maps of all normals at once may not fit into memory.
            return (measure(frame, branches, baselines) for frame in seen)

        scores = [measured.scores for measured in frames()]
        scales = {kind.name: scale_of([one[kind.name] for one in scores], groups) for kind in branches}
        calibrated = Calibrated(scales, layout, wide=[kind.name for kind in branches if kind.wide])
        disagreement = None
        if Mode.FUSED in kinds:
            names = _names(branches)

            def fused(measured: Measured) -> SideMaps:
                canvas = calibrated.canvas(measured, names, Mode.FUSED, empty=0.0)
                sides = calibrated.sides(measured, branches, canvas)
                assert sides is not None
                return sides

            disagreement = Disagreement.fit(
                _Again(lambda: map(fused, frames())),
                [calibrated.score(_only(one), names, Mode.FUSED) for one in scores],
            )
        norms = {kind.name: 1.0 if distances else _median(seen, kind.name) for kind in branches}
        published = Cmdr(norms, layout)
        rules = _rules(calibrated, published, disagreement, branches)

        found: dict[str, dict[Mode, list[float]]] = {rule: {mode: [] for mode in kinds} for rule in rules}
        for index, measured in enumerate(frames()):
            for rule, by_mode in found.items():
                for mode, values in by_mode.items():
                    values.append(rules[rule].score(measured, _names(kinds[mode]), mode))
            report("limits", index + 1, len(seen))
        set_by = partial(limits_of, groups=groups, false_reject=false_reject, review_share=review_share)
        limits = {
            rule: {mode: set_by(values) for mode, values in by_mode.items()}
            for rule, by_mode in found.items()
        }
        alone = {
            kind.name: set_by(
                [calibrated.branch_scores(_only(one), [kind.name])[kind.name] for one in scores]
            )
            for kind in branches
        }
        sketches = {
            rule: {
                mode.value: ScoreSketch.of(values, groups, limits[rule][mode].rejects).to_map()
                for mode, values in by_mode.items()
            }
            for rule, by_mode in found.items()
        }
        return cls(kinds, baselines, rules, limits, alone, calibrated, published, disagreement, sketches)

    def names(self, mode: Mode) -> list[str]:
        """The branches of a mode."""
        return _names(self.kinds[mode])

    def measure(self, seen: Sequence[Seen], mode: Mode) -> Measured:
        """One frame's maps to branch scores. Raises NoReading: a branch had no tile to look at."""
        return measure(seen, self.kinds[mode], self.baselines)

    def sides(self, measured: Measured, mode: Mode, fused: Image) -> SideMaps | None:
        """What each sensor shows by itself, beside the fused map; None where only one was looked at."""
        return self.calibrated.sides(measured, self.kinds[mode], fused) if mode is Mode.FUSED else None

    def to_map(self) -> dict[str, Any]:
        """Plain values for the manifest."""
        extra = {} if self.disagreement is None else {"disagreement": self.disagreement.to_map()}
        return extra | {
            "cmdr_medians": dict(self.published.norms),
            "calibration": {name: asdict(scale) for name, scale in self.calibrated.scales.items()},
            "thresholds": {
                rule: {mode.value: one.to_map() for mode, one in by_mode.items()}
                for rule, by_mode in self.limits.items()
            },
            "branch_thresholds": {name: one.to_map() for name, one in self.branch_limits.items()},
            "sketches": self.sketches,
        }

    def tensors(self) -> dict[str, torch.Tensor]:
        """Arrays for the bundle."""
        return {
            f"{name}.{part}": tensor
            for name, baseline in self.baselines.items()
            for part, tensor in baseline.tensors().items()
        }

    @classmethod
    def restore(
        cls,
        values: Mapping[str, Any],
        tensors: Mapping[str, torch.Tensor],
        kinds: Kinds,
        layout: TileLayout,
        where: str,
    ) -> Self:
        """Back from :meth:`to_map` and :meth:`tensors`. Raises BundleError: a part is missing or damaged."""
        branches = next(iter(kinds.values()))
        baselines = {
            kind.name: Baseline.restore(sub(tensors, f"{kind.name}."), layout.count)
            for kind in branches
            if kind.reduce is Reduce.TOP
        }
        scales = {
            kind.name: _scale(table(values, "calibration", where).get(kind.name), kind.name, where)
            for kind in branches
        }
        calibrated = Calibrated(scales, layout, wide=[kind.name for kind in branches if kind.wide])
        disagreement = None
        if Mode.FUSED in kinds:
            disagreement = Disagreement.from_map(table(values, "disagreement", where))
        published = Cmdr.from_map(values.get("cmdr_medians"), layout)
        rules = _rules(calibrated, published, disagreement, branches)
        stored = table(values, "thresholds", where)
        limits = {
            rule: {
                mode: Limits.from_map(table(table(stored, rule, where), mode.value, where)) for mode in kinds
            }
            for rule in rules
        }
        alone = table(values, "branch_thresholds", where)
        return cls(
            kinds,
            baselines,
            rules,
            limits,
            {kind.name: Limits.from_map(table(alone, kind.name, where)) for kind in branches},
            calibrated,
            published,
            disagreement,
            sketches if isinstance(sketches := values.get("sketches"), Mapping) else {},
        )


class _Again:
    """What can be gone through more than once, made anew each time."""

    def __init__(self, make: Callable[[], Iterator[SideMaps]]) -> None:
        self._make = make

    def __iter__(self) -> Iterator[SideMaps]:
        return self._make()


def _rules(
    calibrated: Calibrated,
    published: Cmdr,
    disagreement: Disagreement | None,
    branches: Sequence[type[Branch]],
) -> dict[str, Rule]:
    rules: dict[str, Rule] = {CALIBRATED: calibrated, CMDR: published}
    if disagreement is not None:
        for name in (MODULATED, DUAL):
            rules[name] = Disagreeing(name, calibrated, disagreement, branches)
    return rules


def table(mapping: Mapping[str, Any], key: str, where: str) -> Mapping[str, Any]:
    """``mapping[key]``, a mapping itself. Raises BundleError."""
    value = mapping.get(key)
    if not isinstance(value, Mapping):
        raise BundleError(f"{where}: the manifest lacks {key!r}: teach the product again")
    return value


def _scale(value: object, name: str, where: str) -> Scale:
    if isinstance(value, Mapping):
        mean, deviation = value.get("mean"), value.get("deviation")
        if (
            isinstance(mean, int | float)
            and isinstance(deviation, int | float)
            and abs(mean) <= LARGEST
            and 0 < deviation <= LARGEST
        ):
            return Scale(float(mean), float(deviation))
    raise BundleError(f"{where}: the calibration of branch {name!r} is {value!r}: teach the product again")


def _names(kinds: Sequence[type[Branch]]) -> list[str]:
    return [kind.name for kind in kinds]


def _only(scores: Mapping[str, float]) -> Measured:
    return Measured(scores, (), ())


def _median(seen: Sequence[Sequence[Seen]], name: str) -> float:
    """Median of a branch's raw map over all places of all normals; never 0, since maps are divided by it."""
    values = [tile.maps[name].ravel() for frame in seen for tile in frame if name in tile.maps]
    return max(abs(float(np.median(np.concatenate(values)))), 1e-6)
