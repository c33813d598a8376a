"""A verdict as the page reads it. Times are integer milliseconds since the epoch, run and trigger texts:
they are larger than a browser's numbers are exact."""

from __future__ import annotations

from typing import Any

from schemas.label import Label, LabelKind
from schemas.verdict import Verdict

Row = dict[str, Any]

_MS = 1_000_000
"""Nanoseconds in a millisecond."""


def row_of(verdict: Verdict, label: Label | None = None) -> Row:
    """The verdict as a row. Texts are as they came: whoever shows them must not take them for markup."""
    part = verdict.part
    return {
        "part": str(part),
        "station": part.station,
        "run": str(part.run),
        "trigger": str(part.trigger),
        "product": verdict.product,
        "decision": verdict.decision.value,
        "mode": None if verdict.mode is None else verdict.mode.value,
        "score": verdict.score,
        "threshold": verdict.threshold,
        "pass_limit": verdict.pass_limit,
        "reason": verdict.reason,
        "degraded": list(verdict.degraded),
        "coverage": verdict.coverage,
        "foreground": verdict.foreground,
        "branches": verdict.branches,
        "regions": [region.to_map() for region in verdict.regions],
        "bundle": verdict.bundle,
        "worker": verdict.worker,
        "captured_at": verdict.captured_at // _MS,
        "decided_at": verdict.decided_at // _MS,
        "latency_ms": round((verdict.decided_at - verdict.captured_at) / _MS, 1),
        "timings": verdict.timings,
        **label_of(label),
    }


def label_of(label: Label | None) -> Row:
    """What a person said of a part, and who: the fields of its row."""
    if label is None or label.label is LabelKind.WITHDRAWN:
        return {"label": None, "labelled_by": None, "note": None}
    return {"label": label.label.value, "labelled_by": label.by, "note": label.note or None}
