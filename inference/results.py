"""What an evaluation found: figures with intervals, per mode, branch, rule of fusion and kind of defect."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from schemas.verdict import Mode

IMAGE_FIGURES = ("i_auroc", "i_ap", "f1_max")
PIXEL_FIGURES = ("p_auroc", "p_ap", "aupro_30", "aupro_10", "aupro_05", "aupro_01")
RATES = ("false_reject_rate", "good_review_rate", "miss_rate", "defect_review_rate")
FIGURES = (*IMAGE_FIGURES, *PIXEL_FIGURES, *RATES)


@dataclass(frozen=True, slots=True)
class Measure:
    """A figure with its 95 % interval; None where it cannot be had from these frames."""

    value: float | None = None
    interval: tuple[float, float] | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Metrics:
    """The figures of one mode, branch or rule of fusion.

    Attributes:
        i_auroc, i_ap, f1_max: of image scores: AUROC, average precision, best F1 over all thresholds.
        p_auroc, p_ap, aupro_30, aupro_10, aupro_05, aupro_01: of pixels; AUPRO up to 30, 10, 5 and 1 % false
            positives. ``binning``: how far any of them can be off through counting in bins.
        false_reject_rate, good_review_rate: shares of good parts above ``threshold``, and between
            ``pass_limit`` and it, as shipped; None where there are no limits.
        miss_rate, defect_review_rate: shares of defects that pass, and that lie between the limits.
        inspected, left_out: frames. good, defects: of those inspected.
    """

    i_auroc: Measure = Measure()
    i_ap: Measure = Measure()
    f1_max: Measure = Measure()
    p_auroc: Measure = Measure()
    p_ap: Measure = Measure()
    aupro_30: Measure = Measure()
    aupro_10: Measure = Measure()
    aupro_05: Measure = Measure()
    aupro_01: Measure = Measure()
    false_reject_rate: Measure = Measure()
    good_review_rate: Measure = Measure()
    miss_rate: Measure = Measure()
    defect_review_rate: Measure = Measure()
    binning: float | None = None
    threshold: float | None = None
    pass_limit: float | None = None
    inspected: int = 0
    left_out: int = 0
    good: int = 0
    defects: int = 0

    def of(self, figure: str) -> Measure:
        """One of ``FIGURES`` by name."""
        measure: Measure = getattr(self, figure)
        return measure

    def to_json(self) -> dict[str, Any]:
        """Each figure as a number (or null), its interval beside it as ``NAME_interval``."""
        out: dict[str, Any] = {}
        for name in FIGURES:
            measure = self.of(name)
            out[name] = measure.value
            out[f"{name}_interval"] = None if measure.interval is None else list(measure.interval)
        for name in ("binning", "threshold", "pass_limit", "inspected", "left_out", "good", "defects"):
            out[name] = getattr(self, name)
        return out


def some(names: Sequence[str], most: int = 10) -> str:
    """Names, and how many there are where they are too many to list."""
    if len(names) <= most:
        return ", ".join(names)
    return f"{', '.join(names[:most])} and {len(names) - most} more ({len(names)} frames)"


@dataclass(frozen=True, slots=True, kw_only=True)
class Exhibit:
    """One frame worth looking at, small enough to be kept.

    Attributes:
        name: split/label/name. label: "good", or the kind of defect.
        score, pass_limit, threshold, branches: of the fullest mode.
        colour, depth: (h, w, 3) uint8, depth in grey; None where the frame has no such image.
        heat: (h, w) float32, the fused map in the score's scale.
        mask: (h, w) bool, the truth; None for a defect that nobody outlined.
    """

    name: str
    label: str
    score: float
    pass_limit: float
    threshold: float
    branches: Mapping[str, float]
    colour: NDArray[np.uint8] | None = field(repr=False)
    depth: NDArray[np.uint8] | None = field(repr=False)
    heat: NDArray[np.float32] = field(repr=False)
    mask: NDArray[np.bool_] | None = field(repr=False)

    @property
    def rejected(self) -> bool:
        """Whether the part would be taken for a defect."""
        return self.score > self.threshold

    @property
    def passed(self) -> bool:
        """Whether the part would pass; neither is held for review."""
        return self.score <= min(self.pass_limit, self.threshold)


@dataclass(frozen=True, slots=True, kw_only=True)
class Report:
    """What ``evaluate`` found.

    Attributes:
        modes: by mode. branches: by branch name, over the frames of the fullest mode evaluated.
        fusions: other rules on the same evidence, as "fused:NAME" with the mode's name in small letters.
        kinds: by label of defect (against all good frames), then by mode.
        kind_branches, kind_fusions: the same, then by branch or rule.
        counts: test frames by label. groups: independent groups among them, which the intervals rest on.
        items: name, label, group, and the scores, one map a frame.
        curves: by row, (n, 2) false-positive rate and mean coverage of defect regions.
        unmarked: defects left out because their masks mark nothing, as split/label/name. mostly_marked: those
            whose masks mark nearly all of the frame.
        hits: rejected defects, the clearest of each kind first.
        worst_defects, worst_good: of the fullest mode, lowest and highest score first.
    """

    bundle: str
    bundle_hash: str
    dataset: str
    modes: Mapping[Mode, Metrics]
    branches: Mapping[str, Metrics]
    fusions: Mapping[str, Metrics]
    kinds: Mapping[str, Mapping[Mode, Metrics]]
    kind_branches: Mapping[str, Mapping[str, Metrics]]
    kind_fusions: Mapping[str, Mapping[str, Metrics]]
    counts: Mapping[str, int]
    groups: int
    bootstrap: int
    seed: int
    fullest: Mode | None = None
    items: Sequence[Mapping[str, Any]] = field(default=(), repr=False)
    curves: Mapping[str, NDArray[np.float64]] = field(default_factory=dict, repr=False)
    unmarked: Sequence[str] = ()
    mostly_marked: Sequence[str] = ()
    hits: Sequence[Exhibit] = field(default=(), repr=False)
    worst_defects: Sequence[Exhibit] = field(default=(), repr=False)
    worst_good: Sequence[Exhibit] = field(default=(), repr=False)

    def rows(self) -> dict[str, Metrics]:
        """Modes, rules of fusion and branches by name, in this order."""
        return {mode.value: found for mode, found in self.modes.items()} | {**self.fusions, **self.branches}

    def rows_of(self, kind: str) -> dict[str, Metrics]:
        """The same for one kind of defect."""
        modes = {mode.value: found for mode, found in self.kinds[kind].items()}
        return modes | {**self.kind_fusions.get(kind, {}), **self.kind_branches.get(kind, {})}

    def to_json(self) -> dict[str, Any]:
        """A map of plain values with stable keys: ``modes.FUSED.i_auroc``, ``branches.NAME.aupro_30``, ..."""
        return {
            "bundle": self.bundle,
            "bundle_hash": self.bundle_hash,
            "dataset": self.dataset,
            "counts": dict(self.counts),
            "unmarked": list(self.unmarked),
            "mostly_marked": list(self.mostly_marked),
            "groups": self.groups,
            "bootstrap": self.bootstrap,
            "seed": self.seed,
            "modes": {mode.value: found.to_json() for mode, found in self.modes.items()},
            "branches": {name: found.to_json() for name, found in self.branches.items()},
            "fusions": {name: found.to_json() for name, found in self.fusions.items()},
            "kinds": {
                label: {mode.value: found.to_json() for mode, found in by_mode.items()}
                | {
                    "branches": {n: m.to_json() for n, m in self.kind_branches.get(label, {}).items()},
                    "fusions": {n: m.to_json() for n, m in self.kind_fusions.get(label, {}).items()},
                }
                for label, by_mode in self.kinds.items()
            },
            "items": [dict(item) for item in self.items],
        }


@dataclass(frozen=True, slots=True, kw_only=True)
class Combined:
    """One figure over several reports.

    Attributes:
        mean: the plain mean, as the papers take it over categories.
        interval: of the mean, where the reports are of different frames: half-widths added in quadrature
            (Zou and Donner, "Construction of confidence limits about effect measures", 2008).
        deviation: standard deviation between the reports; None of one. low, high: the extremes.
        reports: how many had the figure.
    """

    mean: float
    interval: tuple[float, float] | None
    deviation: float | None
    low: float
    high: float
    reports: int

    def to_json(self) -> dict[str, Any]:
        """Plain values."""
        return {
            "mean": self.mean,
            "interval": None if self.interval is None else list(self.interval),
            "deviation": self.deviation,
            "low": self.low,
            "high": self.high,
            "reports": self.reports,
        }


def combine(measures: Sequence[Measure], *, independent: bool) -> Combined | None:
    """Several measures of one figure as one; None where no report has it.

    Args:
        independent: whether the reports are of different frames; else their intervals cannot be added.
    """
    known = [(m.value, m.interval) for m in measures if m.value is not None]
    if not known:
        return None
    values = np.array([value for value, _ in known])
    mean = float(values.mean())
    spread: tuple[float, float] | None = None
    if independent and all(ends is not None for _, ends in known):
        below = math.sqrt(sum((value - ends[0]) ** 2 for value, ends in known if ends)) / len(known)
        above = math.sqrt(sum((ends[1] - value) ** 2 for value, ends in known if ends)) / len(known)
        spread = (mean - below, mean + above)
    return Combined(
        mean=mean,
        interval=spread,
        deviation=float(values.std(ddof=1)) if len(known) > 1 else None,
        low=float(values.min()),
        high=float(values.max()),
        reports=len(known),
    )


def combine_reports(reports: Sequence[Report], *, independent: bool) -> dict[str, dict[str, Combined | None]]:
    """Every figure of every row that any report has, by row, then by figure."""
    tables = [report.rows() for report in reports]
    names = list(dict.fromkeys(name for table in tables for name in table))
    return {
        name: {
            figure: combine([t[name].of(figure) for t in tables if name in t], independent=independent)
            for figure in FIGURES
        }
        for name in names
    }
