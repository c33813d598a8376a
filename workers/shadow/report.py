"""What a shadow run found so far, as it is kept in Redis for the board."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, fields
from typing import Any, cast

from workers.store import keys
from workers.store.connection import guarded
from workers.store.verdicts import VerdictStore

RECENT = 50
"""Parts that a report shows."""
QUANTILES = (0.05, 0.25, 0.5, 0.75, 0.95, 0.99)
COUNTS = (
    "count",
    "agree",
    "active_pass_candidate_reject",
    "active_reject_candidate_pass",
    "active_reject_candidate_review",
    "active_review_candidate_reject",
    "failed",
    "unmatched",
    "unscored",
    "skipped",
    "started",
    "at",
)
"""Whole numbers of the hash."""
_NEWER = ("active_reject_candidate_review", "active_review_candidate_reject")
"""Not in the hash of a run of before there were two limits."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ShadowPart:
    """One part that both bundles judged.

    Attributes:
        part: "STATION/RUN/TRIGGER".
        mode: which sensors both scores rest on.
        active, candidate: the decisions: the verdict that stands, and what the candidate would have said.
        active_ratio, candidate_ratio: score / reject limit, so that both are rejects above 1; None where
            there is no score.
        at: milliseconds since the epoch.
    """

    part: str
    mode: str
    active: str
    candidate: str
    active_ratio: float | None
    candidate_ratio: float | None
    at: int

    @property
    def agrees(self) -> bool:
        """Whether the gate would have done the same."""
        return (self.active == "PASS") == (self.candidate == "PASS")

    def to_map(self) -> dict[str, Any]:
        """Plain values, for JSON."""
        names = ("part", "mode", "active", "candidate", "active_ratio", "candidate_ratio", "at")
        return {name: getattr(self, name) for name in names} | {"agrees": self.agrees}


@dataclass(frozen=True, slots=True, kw_only=True)
class ShadowReport:
    """A product's candidate beside its active bundle.

    Attributes:
        product: whose.
        active, candidate: NAME/VERSION of the bundles; ``active`` is the one of the newest compared part.
        count: parts compared.
        agree: where the gate would have done the same: both PASS, or neither.
        active_pass_candidate_reject: parts that were passed and the candidate would not have.
        active_reject_candidate_pass: the other way round.
        active_reject_candidate_review: of ``agree``: rejected parts that the candidate would
            hold for a person.
        active_review_candidate_reject: the other way round.
        failed: parts that the candidate could not score.
        unmatched: parts whose verdict did not come in time.
        unscored: parts whose verdict has no score, such as STALE: nothing to compare with.
        skipped: records that were not looked at, to keep up; a part whose sensors came apart counts twice.
        latency_ms: mean milliseconds of the candidate for one part, decoding included.
        active_ratios, candidate_ratios: score / reject limit at ``QUANTILES`` of the last parts;
            empty without.
        started, at: milliseconds since the epoch of the run's begin and of its last word.
        running: whether the run has not ended by itself; one that was killed shows by an old ``at``.
        recent: the newest parts, disagreements first.
    """

    product: str
    active: str
    candidate: str
    count: int
    agree: int
    active_pass_candidate_reject: int
    active_reject_candidate_pass: int
    failed: int
    unmatched: int
    unscored: int
    skipped: int
    latency_ms: float | None
    started: int
    at: int
    running: bool
    active_ratios: tuple[float, ...] = ()
    candidate_ratios: tuple[float, ...] = ()
    active_reject_candidate_review: int = 0
    active_review_candidate_reject: int = 0
    recent: tuple[ShadowPart, ...] = ()

    def to_map(self) -> dict[str, Any]:
        """Plain values, for JSON."""
        names = [one.name for one in fields(self) if one.name != "recent"]
        values = {name: getattr(self, name) for name in names}
        return values | {"recent": [one.to_map() for one in self.recent]}


def read_shadow(store: VerdictStore, products: Iterable[str] | None = None) -> list[ShadowReport]:
    """Every shadow run that Redis still knows, by product. What cannot be read is left out.

    Args:
        products: only of these; None walks over every key there is, which takes long in a large database.

    Raises StoreError where Redis does not answer.
    """
    client = store.client
    out = []
    with guarded(client, "read the shadow runs"):
        if products is None:
            found = cast("Any", client.scan_iter(match="shadow:*", count=500))
            names = {one.decode() for one in found if one.count(b":") == 1}
        else:
            names = {keys.shadow(product) for product in products}
        for name in sorted(names):
            values = _texts(cast("Mapping[bytes, bytes]", client.hgetall(name)))
            product = name.removeprefix("shadow:")
            streams = [keys.shadow_disagreed(product), keys.shadow_recent(product)]
            told = [cast("list[Any]", client.xrevrange(stream, count=RECENT)) for stream in streams]
            parts = [part for entries in told for _, fields in entries for part in _part(_texts(fields))]
            report = _report(product, values, tuple(parts[:RECENT]))
            out.extend([] if report is None else [report])
    return out


def _report(product: str, values: Mapping[str, str], recent: tuple[ShadowPart, ...]) -> ShadowReport | None:
    try:
        return ShadowReport(
            product=product,
            active=values["active"],
            candidate=values["candidate"],
            latency_ms=float(values["latency_ms"]) if values.get("latency_ms") else None,
            running=values.get("running") == "1",
            recent=recent,
            active_ratios=_floats(values.get("active_ratios", "")),
            candidate_ratios=_floats(values.get("candidate_ratios", "")),
            # A run of before these were counted has none of them.
            **{name: int(values.get(name, "0") if name in _NEWER else values[name]) for name in COUNTS},
        )
    except (KeyError, ValueError):
        return None


def _part(values: Mapping[str, str]) -> list[ShadowPart]:
    try:
        return [
            ShadowPart(
                part=values["part"],
                mode=values["mode"],
                active=values["active"],
                candidate=values["candidate"],
                active_ratio=float(values["active_ratio"]) if values["active_ratio"] else None,
                candidate_ratio=float(values["candidate_ratio"]) if values["candidate_ratio"] else None,
                at=int(values["at"]),
            )
        ]
    except (KeyError, ValueError):
        return []


def _floats(text: str) -> tuple[float, ...]:
    return tuple(float(word) for word in text.split())


def _texts(raw: Mapping[bytes, bytes]) -> dict[str, str]:
    return {name.decode(): value.decode(errors="replace") for name, value in raw.items()}
