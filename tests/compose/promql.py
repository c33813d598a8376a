"""What a PromQL expression asks for: metrics, the labels it matches, the labels it groups by.

No parser of the whole language: enough of it to hold dashboards and alerts to the list of metrics. What the
expressions mean is asked of Prometheus itself.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass

from workers.telemetry.names import METRICS, Metric

# What Prometheus adds to every sample, and its own series that are used here.
TARGET = frozenset({"job", "instance"})
THEIRS = {"up": TARGET, "ALERTS": TARGET | {"alertname", "alertstate", "severity"}}

_NAME = re.compile(r"\b(crosscheck_[a-z0-9_]+|up|ALERTS)\b(?:\s*\{([^}]*)\})?")
_MATCHER = re.compile(r'([a-zA-Z_]\w*)\s*(?:=~|!~|!=|=)\s*"(?:[^"\\]|\\.)*"')
_STRING = re.compile(r'"(?:[^"\\]|\\.)*"')
_GROUPED = re.compile(r"\b(?:by|without)\s*\(([^)]*)\)\s*\(")
_MATCHED = re.compile(r"\b(?:on|ignoring|group_left|group_right)\s*\(([^)]*)\)")


@dataclass(frozen=True, slots=True)
class Asked:
    """One series as an expression asks for it."""

    name: str
    matched: frozenset[str]


def series(expression: str) -> list[Asked]:
    """Every series of an expression, with the labels it matches."""
    found = []
    for match in _NAME.finditer(_blanked(expression)):
        start, end = match.span(2)
        matchers = expression[start:end] if start >= 0 else ""
        found.append(Asked(match[1], frozenset(m[1] for m in _MATCHER.finditer(matchers))))
    return found


def _blanked(expression: str) -> str:
    """The same text without what stands in quotation marks, so that a label's value is no name."""
    return _STRING.sub(lambda match: '"' + "_" * (len(match[0]) - 2) + '"', expression)


def samples() -> dict[str, frozenset[str]]:
    """The labels of every sample that our processes may send, by its name."""
    known: dict[str, frozenset[str]] = dict(THEIRS)
    for metric in METRICS:
        known.update(_samples_of(metric))
    return known


def _samples_of(metric: Metric) -> dict[str, frozenset[str]]:
    labels = frozenset(metric.labels) | TARGET
    if metric.kind != "histogram":
        return {metric.name: labels}
    return {
        f"{metric.name}_bucket": labels | {"le"},
        f"{metric.name}_sum": labels,
        f"{metric.name}_count": labels,
    }


def metric_of(sample: str) -> str:
    """The metric that a sample belongs to."""
    for metric in METRICS:
        if sample in _samples_of(metric):
            return metric.name
    return sample


def mistakes(expression: str) -> Iterator[str]:
    """Everything in an expression that no process of ours can answer."""
    known = samples()
    asked = series(expression)
    if not asked:
        yield "it asks for no series"
    for one in asked:
        if one.name not in known:
            yield f"no such metric: {one.name}"
        elif wrong := one.matched - known[one.name]:
            yield f"{one.name} has no label {', '.join(sorted(wrong))}"
    for labels, body in _groups(expression):
        for one in series(body):
            if one.name in known and (wrong := labels - known[one.name]):
                yield f"grouped by {', '.join(sorted(wrong))}, which {one.name} does not have"
    everything = frozenset().union(*(known.get(one.name, frozenset()) for one in asked))
    for match in _MATCHED.finditer(expression):
        if wrong := _listed(match[1]) - everything:
            yield f"matched on {', '.join(sorted(wrong))}, which no metric in it has"


def labels_of(expression: str) -> frozenset[str]:
    """The labels that its result may carry, for legends: what it groups by, else what its metrics have."""
    grouped = [labels for labels, _ in _groups(expression)]
    if grouped:
        return frozenset().union(*grouped)
    known = samples()
    return frozenset().union(*(known.get(one.name, frozenset()) for one in series(expression)))


def _groups(expression: str) -> Iterator[tuple[frozenset[str], str]]:
    """Each ``by (labels) (body)``."""
    text = _blanked(expression)
    for match in _GROUPED.finditer(text):
        depth, at = 1, match.end()
        while depth and at < len(text):
            depth += {"(": 1, ")": -1}.get(text[at], 0)
            at += 1
        yield _listed(match[1]), expression[match.end() : at - 1]


def _listed(text: str) -> frozenset[str]:
    return frozenset(part.strip() for part in text.split(",") if part.strip())
