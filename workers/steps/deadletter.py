"""Records nobody can read: kept as they came, with the reason, and with a brake against floods."""

from __future__ import annotations

import structlog

from schemas.errors import CrosscheckError
from workers.bus.base import Headers, Producer, Record
from workers.clock import Clock
from workers.errors import DeadLetterFlood, RecordTooLarge

log = structlog.get_logger(__name__)

REASON = "crosscheck-reason"
ERROR = "crosscheck-error"
ORIGIN = "crosscheck-origin"
WORKER = "crosscheck-worker"
TIME = "crosscheck-time"
LEFT_OUT = "crosscheck-left-out"
"""How many bytes of value the record had, where they were over the limit of the dead-letter topic."""

_LONGEST_KEY = 256


class DeadLetters:
    """Sends unreadable records to their topic: the original bytes, everything else in headers.

    The limit on a run of dead letters exists because a broken agent, or a broken release of this worker,
    would otherwise turn the whole stream into dead letters while looking busy.
    """

    def __init__(self, producer: Producer, topic: str, *, worker: str, clock: Clock, run_limit: int) -> None:
        self._producer = producer
        self._topic = topic
        self._worker = worker
        self._clock = clock
        self._limit = run_limit
        self._run = 0
        self._kept: set[str] = set()
        self.total = 0

    def keep(self, record: Record, error: CrosscheckError, timeout_s: float) -> None:
        """Have one record in the dead-letter topic, in partition 0; only once until ``done``.

        A record that is too large for the topic leaves its headers there, without its bytes: it must not
        hold up the parts behind it for ever. Where it lies in Kafka is in them.

        Raises:
            BusError: it is not there.
        """
        origin = f"{record.topic}/{record.partition}/{record.offset}"
        if origin in self._kept:
            return
        ours: Headers = (
            (REASON, error.reason.encode()),
            (ERROR, str(error)[:2000].encode()),
            (ORIGIN, origin.encode()),
            (WORKER, self._worker.encode()),
            (TIME, str(self._clock.now()).encode()),
        )
        try:
            self._send(record.value, record.key, (*record.headers, *ours), timeout_s)
        except RecordTooLarge as refused:
            log.error("worker.dead_letter_left_out", origin=origin, error=str(refused))
            key = record.key if record.key is not None and len(record.key) <= _LONGEST_KEY else None
            self._send(b"", key, (*ours, (LEFT_OUT, str(len(record.value)).encode())), timeout_s)
        self._kept.add(origin)
        self._run += 1
        self.total += 1

    def _send(self, value: bytes, key: bytes | None, headers: Headers, timeout_s: float) -> None:
        self._producer.send(self._topic, value, key=key, partition=0, headers=headers).wait(timeout_s)

    def done(self) -> None:
        """What was kept is answered for and will not be sent again."""
        self._kept.clear()

    def readable(self) -> None:
        """A record could be read: the run is over."""
        self._run = 0

    def check(self) -> None:
        """Stop the worker when too many records in a row were unreadable.

        Raises:
            DeadLetterFlood: the run is over its limit.
        """
        if self._run > self._limit:
            raise DeadLetterFlood(
                f"{self._run} unreadable records in a row, the limit is {self._limit} "
                f"(CROSSCHECK_DEADLETTER_RUN): look at {self._topic}, mend the agent, start the worker again"
            )
