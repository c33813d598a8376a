"""Every topic: what travels on it, in what order, who writes and who reads it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from schemas.command import Command
from schemas.frame import Frame
from schemas.heartbeat import Heartbeat
from schemas.heatmap import Heatmap
from schemas.label import Label
from schemas.notice import Notice
from schemas.verdict import Verdict
from workers.rights import RIGHTS


@dataclass(frozen=True, slots=True)
class Topic:
    """One topic.

    Attributes:
        name: without the prefix.
        messages: the kinds it carries; none where it carries the bytes of others.
        key: of its records.
        order: which records keep their order.
        says: what it is for.
    """

    name: str
    messages: tuple[type[Any], ...]
    key: str
    order: str
    says: str

    def who(self, operation: str) -> tuple[str, ...]:
        """The processes that may ``Read`` or ``Write`` it."""
        return tuple(row.process for row in RIGHTS if operation in row.topics.get(self.name, ()))


TOPICS: tuple[Topic, ...] = (
    Topic(
        "frames",
        (Frame, Notice),
        "STATION/RUN/TRIGGER",
        "all of a station, on the partition that the station map names",
        "What was seen of a part; one record, or one a sensor. A notice stands in for a frame that never"
        " comes.",
    ),
    Topic(
        "verdicts",
        (Verdict,),
        "STATION/RUN/TRIGGER",
        "all of a station, on the partition its frames came from",
        "The decision on every part. At least once: readers keep the first verdict of a part key.",
    ),
    Topic(
        "heatmaps",
        (Heatmap,),
        "STATION/RUN/TRIGGER",
        "as verdicts",
        "Where on a part the score comes from. Best effort: it never holds a verdict back.",
    ),
    Topic(
        "deadletter",
        (),
        "as it came",
        "none",
        "Records that could not be read: their original bytes; headers say why, from where and when.",
    ),
    Topic(
        "control",
        (Command,),
        "what it sets, as activate/PRODUCT",
        "one partition",
        "What operators and PLCs ask of the workers.",
    ),
    Topic(
        "heartbeats",
        (Heartbeat,),
        "STATION",
        "one partition",
        "Every agent's clock, and how far it has come.",
    ),
    Topic(
        "labels",
        (Label,),
        "STATION/RUN/TRIGGER",
        "one partition",
        "What people said of rejects on the board: of a part the highest revision holds.",
    ),
)
