"""One part on its way through the worker."""

from __future__ import annotations

from dataclasses import dataclass, field

from schemas.frame import Frame
from schemas.part import PartKey
from schemas.verdict import MAX_SOURCES, Source
from workers.bus.base import Record
from workers.steps.offsets import Ticket


@dataclass(frozen=True, slots=True)
class Shot:
    """When a sensor took its image, by its agent's clock, and when that record was read, by ours; both in
    integer nanoseconds since the epoch."""

    captured_at: int
    read_at: int


@dataclass(slots=True)
class PendingPart:
    """A part whose records were read and whose verdict is not out yet.

    Attributes:
        frame: what is known of the part so far; merged when its sensors came apart.
        records: the original records, kept for the dead-letter topic.
        tickets: what may be committed once the verdict is acknowledged.
        arrived: monotonic seconds when the first of its records was read.
        read_at: the same moment in nanoseconds since the epoch.
        reasons: why a sensor of this part is not used.
        use_rgb, use_depth: whether the model may see that sensor.
        faulty: the sensors that were bad for this part before it was decoded.
        held: the sensors that are left out though nothing is known against this image: they are to recover.
        shots: when each sensor fired, where its image came in a record.
        hurried: it left before half of its usual wait was up, for its deadline's sake or that of a part
            behind it: what it lacks may be on its way.
        late: None for a part in its own right. Else its part had left before this record came and has an
            answer, or gets one first; of the sensors in it, those that a longer wait had caught.
    """

    frame: Frame
    arrived: float
    read_at: int
    records: list[Record] = field(default_factory=list)
    tickets: list[Ticket] = field(default_factory=list)
    reasons: tuple[str, ...] = ()
    use_rgb: bool = True
    use_depth: bool = True
    faulty: frozenset[str] = frozenset()
    held: frozenset[str] = frozenset()
    shots: dict[str, Shot] = field(default_factory=dict)
    hurried: bool = False
    late: frozenset[str] | None = None

    @property
    def part(self) -> PartKey:
        """Whose it is."""
        return self.frame.part

    @property
    def size(self) -> int:
        """Bytes held: the records and the payloads copied out of them."""
        return 2 * sum(len(record.value) for record in self.records)

    @property
    def present(self) -> frozenset[str]:
        """The sensors whose image is there."""
        here = (("rgb", self.frame.rgb), ("depth", self.frame.depth))
        return frozenset(name for name, image in here if image is not None)

    @property
    def sources(self) -> tuple[Source, ...]:
        """Where its records lay, as many as a verdict names."""
        named = self.records[:MAX_SOURCES]
        return tuple(Source(r.topic, r.partition, r.offset) for r in named)
