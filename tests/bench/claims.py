"""What a set of evaluations shows about the default: is it the best on each kind, and is no kind weak?"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from inference.results import Combined, Metrics, Report, combine

DEFAULT = "FUSED"
LEAST = 0.80
"""No kind may have a lower image AUROC."""


@dataclass(frozen=True, slots=True)
class Claim:
    """One kind of defect.

    Attributes:
        kind: its label. default: mean image AUROC of the default over the reports.
        low, high: 95 % interval of that mean; of reports on the same parts the mean of theirs; NaN where
            there is none.
        best, best_row: of all other rows.
        holds: the best row is not above the default's interval, nor above the default where there is none.
        missed: mean miss rate of the default at its threshold.
    """

    kind: str
    default: float
    low: float
    high: float
    best: float
    best_row: str
    missed: float

    @property
    def holds(self) -> bool:
        """The default is the best, or within noise of it."""
        return self.best <= (self.default if math.isnan(self.high) else max(self.high, self.default))

    @property
    def strong(self) -> bool:
        """The kind is not below ``LEAST``."""
        return self.default >= LEAST

    def to_json(self) -> dict[str, Any]:
        """Plain values; null for NaN."""
        values = {k: None if isinstance(v, float) and math.isnan(v) else v for k, v in asdict(self).items()}
        return values | {"holds": self.holds, "strong": self.strong}


def _own(tables: Sequence[Mapping[str, Metrics]]) -> tuple[float, float]:
    """Reports on the same parts: a seed of teaching makes no parts new, so their own intervals stand."""
    intervals = [t[DEFAULT].i_auroc.interval for t in tables if DEFAULT in t]
    known = [one for one in intervals if one is not None]
    if not known:
        return math.nan, math.nan
    return sum(one[0] for one in known) / len(known), sum(one[1] for one in known) / len(known)


def claims(reports: Sequence[Report], *, independent: bool) -> list[Claim]:
    """One claim a kind that the default was measured on.

    Args:
        independent: whether the reports are of different parts, so that their mean has its own interval.
    """
    out = []
    for kind in reports[0].kinds:
        tables = [report.rows_of(kind) for report in reports if kind in report.kinds]
        rows: dict[str, Combined] = {}
        for name in dict.fromkeys(row for table in tables for row in table):
            found = combine([t[name].i_auroc for t in tables if name in t], independent=independent)
            # A row that some seed lacks is not compared: it would be a mean over other parts.
            if found is not None and found.reports == len(tables):
                rows[name] = found
        missed = combine([t[DEFAULT].miss_rate for t in tables if DEFAULT in t], independent=False)
        if DEFAULT not in rows or len(rows) < 2 or missed is None:
            continue
        default = rows.pop(DEFAULT)
        best = max(rows, key=lambda name: rows[name].mean)
        low, high = default.interval or _own(tables)
        out.append(Claim(kind, default.mean, low, high, rows[best].mean, best, missed.mean))
    return out
