"""The tables of the reference page."""

from __future__ import annotations

import inspect
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from pydantic import SecretStr
from pydantic_core import PydanticUndefined

from schemas.part import PartKey
from workers.reference.topics import TOPICS
from workers.rights import RIGHTS
from workers.settings import PREFIX, Settings
from workers.store import keys
from workers.store.settings import StoreSettings
from workers.telemetry.names import METRICS
from workers.topics import StationMap, TopicPlan

Rows = Sequence[Sequence[str]]


def table(heading: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A Markdown table."""
    lines = [heading, ["---"] * len(heading), *rows]
    return "\n".join("| " + " | ".join(cell.replace("|", r"\|") for cell in line) + " |" for line in lines)


def settings_rows() -> Rows:
    """Variable, default, what may stand there, what it is."""
    rows = []
    for name, field in Settings.model_fields.items():
        if field.default is PydanticUndefined:
            default = "host and pid"
        elif field.default is None:
            default = ""
        else:
            default = f"`{field.default}`"
        rows.append((f"`{PREFIX}{name.upper()}`", default, _allowed(field), field.description or ""))
    return rows


def _allowed(field: Any) -> str:
    bounds = []
    for limit in field.metadata:
        for name, sign in (("ge", "from"), ("gt", "above"), ("le", "to"), ("lt", "below")):
            if getattr(limit, name, None) is not None:
                bounds.append(f"{sign} {getattr(limit, name):g}")
    return f"{_type(field.annotation)} {' '.join(bounds)}".strip()


def _type(annotation: Any) -> str:
    names = {int: "whole number", float: "number", bool: "true, false", str: "text", Path: "path"}
    if annotation in names:
        return names[annotation]
    if annotation is SecretStr:
        return "text"
    inner = getattr(annotation, "__args__", ())
    if inner and all(isinstance(each, str) for each in inner):
        return ", ".join(f"`{each}`" for each in inner)
    return " or ".join(_type(each) for each in inner if each is not type(None))


def topic_rows() -> Rows:
    """Topic, messages, key, partitions and retention as planned for one station, writers, readers."""
    specs = TopicPlan(StationMap({"s1": 0})).rows()
    planned = {row[0].rpartition(".")[2]: row for row in specs}
    return [
        (
            f"`PREFIX.{topic.name}`",
            ", ".join(kind.KIND for kind in topic.messages) or "as it came",
            f"`{topic.key}`" if topic.messages else topic.key,
            topic.order,
            planned[topic.name][2],
            ", ".join(topic.who("Write")),
            ", ".join(topic.who("Read")),
            topic.says,
        )
        for topic in TOPICS
    ]


def key_rows() -> Rows:
    """Key, what it holds, which processes may use it."""
    rows = []
    for _, function in sorted(inspect.getmembers(keys, inspect.isfunction)):
        if function.__module__ != keys.__name__ or function.__name__ in ("checked", "order"):
            continue
        name = _example(function)
        first = inspect.cleandoc(function.__doc__ or "").partition("\n\n")[0]
        rows.append((f"`{name}`", " ".join(first.split()).replace("``", "`"), _touched_by(name)))
    return rows


def _example(function: Any) -> str:
    """The key with its variable parts in capitals."""
    values: dict[str, Any] = {}
    for name in inspect.signature(function).parameters:
        values[name] = PartKey("STATION", 7777, 8888) if name == "part" else name.upper()
    return str(function(**values)).replace("7777", "RUN").replace("8888", "TRIGGER")


def _touched_by(name: str) -> str:
    def matches(pattern: str) -> bool:
        head = pattern.partition("*")[0]
        return name == pattern or ("*" in pattern and name.startswith(head))

    return ", ".join(row.process for row in RIGHTS if any(matches(key) for key in row.keys))


def lifetime_rows() -> Rows:
    """How long keys live and how many there are."""
    defaults = StoreSettings()
    return [
        (f"`{name}`", f"{getattr(defaults, name):,}".replace(",", " "))
        for name in StoreSettings.__dataclass_fields__
    ]


def metric_rows() -> Rows:
    """Metric, kind, labels, who exports it, what it says."""
    return [
        (
            f"`{metric.name}`",
            str(metric.kind),
            ", ".join(f"`{label}`" for label in metric.labels),
            ", ".join(metric.processes),
            metric.help,
        )
        for metric in METRICS
    ]
