"""Steps 2 and 3: what a record is, and its way: to its part, or aside with the answer it has already."""

from __future__ import annotations

from dataclasses import dataclass

import structlog

from schemas.errors import CrosscheckError, SchemaError
from schemas.frame import Frame
from schemas.notice import Notice
from workers.bus.base import Record
from workers.errors import FutureRun, UndecodableRecord
from workers.steps.aside import Aside
from workers.steps.clocks import AgentClocks
from workers.steps.deciding import Judge
from workers.steps.decode import open_record, part_of, require_decoded
from workers.steps.gaps import UNREADABLE, GapWatch
from workers.steps.offsets import Ticket
from workers.steps.pairing import Pairer
from workers.steps.pending import PendingPart
from workers.steps.publishing import Outcome
from workers.steps.runs import future_run

log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Intake:
    """Looks at each record by itself, so that a bad one takes no neighbour with it.

    Attributes:
        max_record: bytes; a larger record is not opened.
        max_ahead: nanoseconds by which an agent's clock may be ahead of ours.
    """

    pairer: Pairer
    aside: Aside
    judge: Judge
    gaps: GapWatch
    clocks: AgentClocks
    max_record: int
    max_ahead: int

    def take(self, record: Record, ticket: Ticket, *, now: float, read_at: int) -> None:
        """Take one record in.

        Args:
            now: monotonic seconds.
            read_at: the same moment, nanoseconds since the epoch.
        """
        try:
            require_decoded(record)
            found = open_record(record, self.max_record)
            refused = future_run(found.part, read_at, self.max_ahead)
            if refused is None:
                self.gaps.opened(found, record.source, read_at)
            if isinstance(found, Notice):
                self._missing(found, record, ticket)
                return
            self.clocks.saw(found.part.station, found.captured_at, now)
            if refused is not None:
                self._refused(found, record, ticket, refused, now=now, read_at=read_at)
                return
            self.pairer.offer(found, record, ticket, now=now, read_at=read_at)
        except (SchemaError, UndecodableRecord) as error:
            self._unreadable(record, ticket, error)

    def _refused(
        self, frame: Frame, record: Record, ticket: Ticket, why: FutureRun, *, now: float, read_at: int
    ) -> None:
        # Answered aside, at once: nothing here remembers it, so nothing that is remembered can be wrong.
        pending = PendingPart(frame, arrived=now, read_at=read_at, records=[record], tickets=[ticket])
        self.aside.add(Outcome.of(pending, self.judge.failed(pending, why)))

    def _missing(self, notice: Notice, record: Record, ticket: Ticket) -> None:
        log.warning("worker.notice", part=str(notice.part), why=notice.why)
        self.aside.add(Outcome(record.partition, self.judge.missing(notice, record), (ticket,)))

    def _unreadable(self, record: Record, ticket: Ticket, error: CrosscheckError) -> None:
        part = part_of(record)
        if part is None:
            # Not as if nothing had been there: what comes next of a station tells which of its parts it was.
            self.gaps.gap(record.source, record.count, UNREADABLE)
        log.warning("worker.dead_letter", part=str(part), reason=error.reason, error=str(error))
        verdict = None if part is None else self.judge.unreadable(part, error)
        self.aside.add(Outcome(record.partition, verdict, (ticket,), dead=((record, error),)))
