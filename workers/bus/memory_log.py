"""One partition of the in-memory broker: its records, and where transactions began, ended or failed."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field, replace
from itertools import islice

from workers.bus.base import Record, TopicSpec, Undecoded, record_bytes


@dataclass(slots=True)
class Log:
    """The records of one partition, ``start`` being the offset of the first that is kept.

    As on Kafka the end of a transaction takes an offset of its own, which no reader ever sees, and so does a
    record that compaction took.
    """

    records: deque[Record] = field(default_factory=deque)
    start: int = 0
    bytes: int = 0
    # The first offset of each transaction that is open, by whatever names it.
    _open: dict[object, int] = field(default_factory=dict)
    _own: dict[object, list[int]] = field(default_factory=dict)
    _hidden: set[int] = field(default_factory=set)
    _aborted: set[int] = field(default_factory=set)

    @property
    def end(self) -> int:
        """The offset of the next record."""
        return self.start + len(self.records)

    @property
    def stable_end(self) -> int:
        """The first offset whose transaction is still open: as far as committed records can be read."""
        return min(self._open.values()) if self._open else self.end

    def append(self, record: Record, transaction: object | None = None) -> None:
        """Add one record, of a transaction or not."""
        if transaction is not None:
            self._open.setdefault(transaction, record.offset)
            self._own.setdefault(transaction, []).append(record.offset)
        self.records.append(record)
        self.bytes += record_bytes(record.value, record.key, record.headers)

    def settle(self, transaction: object, marker: Record, *, committed: bool) -> None:
        """End a transaction that wrote here; ``marker`` takes the offset of its end."""
        own = self._own.pop(transaction)
        del self._open[transaction]
        if not committed:
            self._aborted.update(own)
        self._hidden.add(marker.offset)
        self.records.append(marker)

    def read(self, position: int, room: int, *, committed: bool) -> tuple[list[Record], int]:
        """At most ``room`` records from ``position`` on, and where to read on."""
        if not (self._hidden or self._open):
            found = list(islice(self.records, position - self.start, position - self.start + room))
            return found, position + len(found)
        found, until = [], self.stable_end if committed else self.end
        for record in islice(self.records, position - self.start, max(position, until) - self.start):
            if len(found) == room:
                break
            position = record.offset + 1
            if record.offset not in self._hidden and not (committed and record.offset in self._aborted):
                found.append(record)
        return found, position

    def spoil(self, first: int, last: int, why: str) -> None:
        """Make a stretch undecodable: one record stands for it, at its last offset."""
        batch, at = last > first, last - self.start
        content = b"".join(record.value for record in islice(self.records, first - self.start, at + 1))
        record = self.records[at]
        self.records[at] = replace(
            record,
            key=None if batch else record.key,
            value=content,
            headers=() if batch else record.headers,
            undecoded=Undecoded(first, why, batch),
        )
        self._hidden.update(range(first, last))

    def drop_first(self) -> None:
        """Delete the oldest record."""
        record = self.records.popleft()
        self.bytes -= record_bytes(record.value, record.key, record.headers)
        self.start += 1
        self._hidden.discard(record.offset)
        self._aborted.discard(record.offset)

    def retain(self, spec: TopicSpec, now_ms: int) -> None:
        """Delete what is too old or too much; of a compacted topic what is too old and was replaced."""
        if spec.compacted:
            newest = {record.key: record.offset for record in self.records}
            self._hidden.update(
                record.offset
                for record in self.records
                if newest[record.key] != record.offset and now_ms - record.timestamp_ms > spec.retention_ms
            )
            return
        while self.records and now_ms - self.records[0].timestamp_ms > spec.retention_ms:
            self.drop_first()
        while spec.retention_bytes >= 0 and self.bytes > spec.retention_bytes and len(self.records) > 1:
            self.drop_first()
