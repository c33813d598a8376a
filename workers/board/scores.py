"""The newest scores of each product and mode, so that a threshold can be tried out on them."""

from __future__ import annotations

from collections import Counter, OrderedDict, deque
from typing import Any

from schemas.verdict import Verdict

MOST = 10_000
"""Scores kept of one product and mode."""
MOST_KINDS = 64
"""Products and modes; the one that was not heard of for longest goes first."""

Key = tuple[str, str]


class Scores:
    """Bounded, whatever names the verdicts carry."""

    def __init__(self) -> None:
        self._of: OrderedDict[Key, deque[tuple[float, str, str]]] = OrderedDict()
        self._thresholds: dict[Key, float | None] = {}

    def add(self, verdict: Verdict) -> None:
        """Remember a verdict's score; one that was not scored is passed over."""
        if verdict.score is None or verdict.mode is None:
            return
        key = (verdict.product, verdict.mode.value)
        kept = self._of.get(key)
        if kept is None:
            kept = self._of[key] = deque(maxlen=MOST)
            while len(self._of) > MOST_KINDS:
                gone, _ = self._of.popitem(last=False)
                self._thresholds.pop(gone, None)
        else:
            self._of.move_to_end(key)
        kept.append((verdict.score, verdict.decision.value, verdict.part.station))
        self._thresholds[key] = verdict.threshold

    def of(self, product: str, mode: str, station: str | None = None) -> dict[str, Any]:
        """What was kept, newest last, and the threshold of the newest; empty where nothing was."""
        found = [
            (score, decision)
            for score, decision, where in self._of.get((product, mode), ())
            if station is None or where == station
        ]
        threshold = self._thresholds.get((product, mode))
        above = sum(score > threshold for score, _ in found) if threshold is not None else 0
        return {
            "product": product,
            "mode": mode,
            "count": len(found),
            "threshold": threshold,
            "scores": [round(score, 6) for score, _ in found],
            "decisions": dict(Counter(decision for _, decision in found)),
            "above": round(above / len(found), 6) if found and threshold is not None else None,
        }

    def kinds(self) -> list[Key]:
        """The products and modes there are scores of, sorted."""
        return sorted(self._of)
