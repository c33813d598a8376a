"""Records nobody can read: kept as they came, with the reason."""

from __future__ import annotations

import structlog

from schemas.errors import CrosscheckError
from workers.bus.base import Headers, Producer, Record
from workers.clock import Clock
from workers.errors import RecordTooLarge

log = structlog.get_logger(__name__)

REASON = "crosscheck-reason"
ERROR = "crosscheck-error"
ORIGIN = "crosscheck-origin"
WORKER = "crosscheck-worker"
TIME = "crosscheck-time"
LEFT_OUT = "crosscheck-left-out"
"""How many bytes of value the record had, where they were over the limit of the dead-letter topic."""
UNTIL = "crosscheck-until"
"""The last offset of a stretch that no client could decode; the first is in the origin. The value is what lay
there, as it lay, or nothing where not even that could be had."""
REPLAYED = "crosscheck-replayed"
"""On a record that was sent again: the offset of its dead letter."""

_LONGEST_KEY = 256


class DeadLetters:
    """Sends unreadable records to their topic: the original bytes, everything else in headers."""

    def __init__(self, producer: Producer, topic: str, *, worker: str, clock: Clock) -> None:
        self._producer = producer
        self._topic = topic
        self._worker = worker
        self._clock = clock
        self._kept: set[str] = set()
        self.total = 0

    def keep(self, record: Record, error: CrosscheckError, timeout_s: float) -> None:
        """Have one record in the dead-letter topic, in partition 0; only once until ``answered``.

        A record that is too large for the topic leaves its headers there, without its bytes: it must not
        hold up the parts behind it for ever. Where it lies in Kafka is in them.

        Raises:
            BusError: it is not there.
        """
        undecoded = record.undecoded
        first = record.offset if undecoded is None else undecoded.first
        origin = f"{record.topic}/{record.partition}/{first}"
        if origin in self._kept:
            return
        ours: Headers = (
            (REASON, error.reason.encode()),
            (ERROR, str(error)[:2000].encode()),
            (ORIGIN, origin.encode()),
            (WORKER, self._worker.encode()),
            (TIME, str(self._clock.now()).encode()),
        )
        if undecoded is not None and undecoded.batch:
            ours = (*ours, (UNTIL, str(record.offset).encode()))
        try:
            self._send(record.value, record.key, (*record.headers, *ours), timeout_s)
        except RecordTooLarge as refused:
            log.error("worker.dead_letter_left_out", origin=origin, error=str(refused))
            key = record.key if record.key is not None and len(record.key) <= _LONGEST_KEY else None
            self._send(b"", key, (*ours, (LEFT_OUT, str(len(record.value)).encode())), timeout_s)
        self._kept.add(origin)
        self.total += 1

    def _send(self, value: bytes, key: bytes | None, headers: Headers, timeout_s: float) -> None:
        self._producer.send(self._topic, value, key=key, partition=0, headers=headers).wait(timeout_s)

    def answered(self) -> None:
        """What was kept is answered for, and is not sent again."""
        self._kept.clear()
