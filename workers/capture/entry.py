"""What an agent still has to say: a frame of one part, or that one or more parts have no images."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

import msgpack

from schemas.errors import MalformedMessage, SchemaError
from schemas.frame import Frame
from schemas.notice import MAX_WHY, Notice
from schemas.part import PartKey


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """One place in the agent's queue, without the bytes of the images.

    A frame stands for one part. Parts without images that follow one another may share an entry: ``part`` is
    the first of ``count``, and times between the first and the last are spread evenly.

    Attributes:
        part: the part, or the first of several.
        product: the product that its frame names.
        captured_at, deadline: of the first part; integer nanoseconds since the epoch.
        sensors: what the frame carries, as ``rgb+depth``; empty where there are no images.
        why: why there are no images; empty for a frame.
        count: how many parts; 1 for a frame.
        last_captured_at, last_deadline: of the last part; the same as the first's for one part.
    """

    part: PartKey
    product: str
    captured_at: int
    deadline: int
    sensors: str = ""
    why: str = ""
    count: int = 1
    last_captured_at: int = 0
    last_deadline: int = 0

    @classmethod
    def of_frame(cls, frame: Frame, sensors: str) -> Entry:
        """The entry of a frame."""
        return cls(
            part=frame.part,
            product=frame.product,
            captured_at=frame.captured_at,
            deadline=frame.deadline,
            sensors=sensors,
        )

    @property
    def told(self) -> bool:
        """Whether this entry is told by notices, not by a frame."""
        return bool(self.why)

    @property
    def last_trigger(self) -> int:
        """The trigger number of the last part."""
        return self.part.trigger + self.count - 1

    def without_images(self, why: str) -> Entry:
        """This part, its images given up."""
        return replace(self, sensors="", why=why[:MAX_WHY] or "unknown")

    def parts(self) -> Iterator[PartKey]:
        """Every part of the entry, in order."""
        for i in range(self.count):
            yield replace(self.part, trigger=self.part.trigger + i)

    def notices(self) -> Iterator[Notice]:
        """What is sent in the place of the frames."""
        last_captured, last_deadline = self._last()
        for i, part in enumerate(self.parts()):
            captured = _between(self.captured_at, last_captured, i, self.count)
            yield Notice(
                part=part,
                product=self.product,
                captured_at=captured,
                deadline=max(captured, _between(self.deadline, last_deadline, i, self.count)),
                why=self.why,
            )

    def precedes(self, other: Entry) -> bool:
        """Whether both are without images for one reason, and ``other`` begins where this one ends."""
        return (
            self.told
            and (self.why, self.product, self.part.station, self.part.run)
            == (other.why, other.product, other.part.station, other.part.run)
            # The same trigger again: the two records of a station that sends its sensors apart.
            and self.last_trigger <= other.part.trigger <= self.last_trigger + 1
        )

    def joined(self, other: Entry) -> Entry:
        """This entry and the one that it precedes, as one."""
        last_captured, last_deadline = other._last()
        return replace(
            self,
            count=other.last_trigger - self.part.trigger + 1,
            last_captured_at=last_captured,
            last_deadline=last_deadline,
        )

    def split(self, count: int) -> tuple[Entry, Entry]:
        """The first ``count`` parts, and the others."""
        notices = list(self.notices())
        head, rest = notices[:count], notices[count:]
        return self._part_of(head), self._part_of(rest)

    def _part_of(self, notices: list[Notice]) -> Entry:
        first, last = notices[0], notices[-1]
        return replace(
            self,
            part=first.part,
            captured_at=first.captured_at,
            deadline=first.deadline,
            count=len(notices),
            last_captured_at=last.captured_at,
            last_deadline=last.deadline,
        )

    def _last(self) -> tuple[int, int]:
        if self.count == 1:
            return self.captured_at, self.deadline
        return self.last_captured_at, self.last_deadline

    def pack(self) -> bytes:
        """The bytes that are kept on disk."""
        part = self.part
        last_captured, last_deadline = self._last()
        fields = [part.station, part.run, part.trigger, self.product, self.captured_at, self.deadline]
        fields += [self.sensors, self.why, self.count, last_captured, last_deadline]
        return bytes(msgpack.packb(fields))

    @classmethod
    def unpack(cls, data: bytes) -> Entry:
        """The entry in these bytes. Raises SchemaError."""
        try:
            station, run, trigger, product, captured, deadline, *others = msgpack.unpackb(data)
            sensors, why, count, last_captured, last_deadline = others
            return cls(
                part=PartKey(station, run, trigger),
                product=product,
                captured_at=captured,
                deadline=deadline,
                sensors=sensors,
                why=why,
                count=count,
                last_captured_at=last_captured,
                last_deadline=last_deadline,
            )
        except SchemaError:
            raise
        except Exception as error:  # msgpack raises many types; each means that this is no entry
            raise MalformedMessage(f"buffered entry: {error}") from None


def _between(first: int, last: int, i: int, count: int) -> int:
    return first if count == 1 else first + (last - first) * i // (count - 1)
