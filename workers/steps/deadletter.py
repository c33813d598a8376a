"""Records nobody can read: kept as they came, with the reason, and with a brake against floods."""

from __future__ import annotations

from schemas.errors import CrosscheckError
from workers.bus.base import Delivery, Producer, Record
from workers.clock import Clock
from workers.errors import DeadLetterFlood

REASON = "crosscheck-reason"
ERROR = "crosscheck-error"
ORIGIN = "crosscheck-origin"
WORKER = "crosscheck-worker"
TIME = "crosscheck-time"


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
        self.total = 0

    def send(self, record: Record, error: CrosscheckError) -> Delivery:
        """Produce one record to the dead-letter topic; partition 0 holds them all."""
        self._run += 1
        self.total += 1
        origin = f"{record.topic}/{record.partition}/{record.offset}"
        headers = (
            *record.headers,
            (REASON, error.reason.encode()),
            (ERROR, str(error)[:2000].encode()),
            (ORIGIN, origin.encode()),
            (WORKER, self._worker.encode()),
            (TIME, str(self._clock.now()).encode()),
        )
        return self._producer.send(self._topic, record.value, key=record.key, partition=0, headers=headers)

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
