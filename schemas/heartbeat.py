"""What a capture agent says every second: that it lives, what time it has, and what it holds back."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

from schemas.fields import INT64_MAX, Fields, check
from schemas.part import checked_station


@dataclass(frozen=True, slots=True, kw_only=True)
class Heartbeat:
    """One beat of the agent of a station.

    Attributes:
        station: whose agent it is.
        agent: the agent's own name (two agents may serve one station).
        sent_at: integer nanoseconds since the epoch, by the agent's clock, when it was handed to the bus.
        run: the agent's capture run.
        triggers: parts minted in this run.
        buffered: records that wait on the agent's disk.
        dropped: parts whose images were given up in this run, all told by notices.

    Raises:
        InvalidField: a name that keys cannot carry, or a value out of range.
    """

    KIND: ClassVar[str] = "heartbeat"

    station: str
    agent: str
    sent_at: int
    run: int = 0
    triggers: int = 0
    buffered: int = 0
    dropped: int = 0

    def __post_init__(self) -> None:
        checked_station(self.station)
        check(1 <= len(self.agent) <= 128, f"agent {self.agent[:140]!r}: expected 1 to 128 characters")
        for name in ("sent_at", "run", "triggers", "buffered", "dropped"):
            value = getattr(self, name)
            check(type(value) is int and 0 <= value <= INT64_MAX, f"heartbeat {name} {value!r}: out of range")

    def to_map(self) -> dict[str, Any]:
        """The map that travels."""
        return {
            "station": self.station,
            "agent": self.agent,
            "sent_at": self.sent_at,
            "run": self.run,
            "triggers": self.triggers,
            "buffered": self.buffered,
            "dropped": self.dropped,
        }

    @classmethod
    def from_map(cls, fields: Fields) -> Heartbeat:
        """Read a heartbeat. Raises InvalidField."""
        return cls(
            station=fields.text("station", 64),
            agent=fields.text("agent", 128),
            sent_at=fields.integer("sent_at"),
            run=fields.integer("run"),
            triggers=fields.integer("triggers"),
            buffered=fields.integer("buffered"),
            dropped=fields.integer("dropped"),
        )
