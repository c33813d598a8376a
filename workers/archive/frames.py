"""The images of a part, read from where its verdict says they lay; nothing waits in memory for a verdict."""

from __future__ import annotations

import time
from collections.abc import Iterator

from schemas.errors import SchemaError
from schemas.frame import Frame
from schemas.part import PartKey
from schemas.payload import ImagePayload
from schemas.verdict import Source, Verdict
from schemas.wire import decode_capture
from workers.bus.base import Bus, Consumer, Record, TopicPartition
from workers.errors import BusError, OffsetGap
from workers.steps.decode import part_of

_NEAR = 16
"""Records that are cheaper read over than sought past."""
_SUFFIX = {"jpeg": "jpg", "png16": "png", "png8": "png", "raw": "rgb8"}


class FrameReader:
    """Reads single records of the frames topic by their offset, outside any group. One thread owns it.

    A verdict names the records it was made from, so that frames are fetched when they are wanted: what this
    process holds of them is one record, whatever the lag, and what is read again after a crash is the same.
    """

    def __init__(self, bus: Bus, topic: str, *, timeout_s: float = 10.0) -> None:
        self._bus = bus
        self._topic = topic
        self._timeout = timeout_s
        self._consumer: Consumer | None = None
        self._partitions: set[TopicPartition] = set()
        self._bounds: dict[TopicPartition, tuple[int, int]] = {}

    def records(self, verdict: Verdict) -> Iterator[Record | None]:
        """The records of a part; None for one that is gone, or that is another part's by now.

        Raises:
            BusError: the broker does not answer.
        """
        for source in verdict.sources:
            if source.topic != self._topic:
                continue
            record = self._fetch(source)
            # A topic that was made anew has other records at the same offsets.
            yield record if record is not None and part_of(record) == verdict.part else None

    def _fetch(self, source: Source) -> Record | None:
        place = TopicPartition(source.topic, source.partition)
        consumer = self._ready(place)
        if consumer is None:
            return None
        try:
            if not self._is_there(consumer, place, source.offset):
                return None
            consumer.resume({place})
            at = consumer.position(place)
            if at is None or not 0 <= source.offset - at <= _NEAR:
                consumer.seek(place, source.offset)
            until = time.monotonic() + self._timeout
            while True:
                for record in consumer.poll(0.5):
                    if record.source == place and record.offset >= source.offset:
                        return record if record.offset == source.offset else None
                if (consumer.position(place) or 0) > source.offset:
                    return None
                if time.monotonic() >= until:
                    raise BusError(f"{place}: no record at {source.offset} within {self._timeout:g} s")
        except OffsetGap:
            return None
        finally:
            consumer.pause({place})

    def _is_there(self, consumer: Consumer, place: TopicPartition, offset: int) -> bool:
        if not self._bounds.get(place, (0, 0))[0] <= offset < self._bounds.get(place, (0, 0))[1]:
            # Asked only for what is new: a record that retention has taken since shows itself as a gap.
            begin, end = consumer.beginning_offsets({place})[place], consumer.end_offsets({place})[place]
            self._bounds[place] = (begin, end)
        return self._bounds[place][0] <= offset < self._bounds[place][1]

    def _ready(self, place: TopicPartition) -> Consumer | None:
        if self._consumer is None:
            self._consumer = self._bus.consumer(None, max_poll_records=1, name="archive-frames")
        if place not in self._partitions:
            count = self._bus.partitions(self._topic) or 0
            if place.partition >= count:
                return None
            self._partitions = {TopicPartition(self._topic, number) for number in range(count)}
            self._consumer.assign(self._partitions)
            self._consumer.pause(self._partitions)
            # Where none was sought, a paused partition would still be asked for its begin.
            for each, end in self._consumer.end_offsets(self._partitions).items():
                self._consumer.seek(each, end)
        return self._consumer

    def close(self) -> None:
        """Let go of the broker."""
        if self._consumer is not None:
            self._consumer.close()


def images_of(part: PartKey, record: Record) -> list[tuple[str, bytes, dict[str, object]]]:
    """Name within the shift's folder, bytes and facts of the images in a record, as they came.

    A record that is no frame is kept as it is: it is what its part's ERROR was decided on.
    """
    stem = f"images/{part.station}/{part.run}/{part.trigger}"
    try:
        found = decode_capture(record.value)
    except SchemaError as error:
        return [(f"{stem}-record.bin", record.value, {"unreadable": error.reason})]
    if not isinstance(found, Frame):
        return []
    return [
        (f"{stem}-{sensor}.{suffix(payload)}", payload.data, shape(payload))
        for sensor, payload in (("rgb", found.rgb), ("depth", found.depth))
        if payload is not None
    ]


def suffix(payload: ImagePayload) -> str:
    """What the file of an image ends in."""
    return _SUFFIX.get(payload.encoding, payload.encoding)


def shape(payload: ImagePayload) -> dict[str, object]:
    """What a reader of the bytes has to know."""
    return {"encoding": payload.encoding, "height": payload.height, "width": payload.width}
