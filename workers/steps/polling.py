"""Step 1: ask for records; a broker that is away is waited for, not given up."""

from __future__ import annotations

from dataclasses import dataclass

import structlog

from workers.bus.base import Consumer, Record
from workers.clock import Clock
from workers.errors import BusError, Fenced, OffsetGap
from workers.patience import RETRY_S
from workers.stages import IDLE, POLL, StageTimes
from workers.watchdog import Watchdog

log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Poller:
    """Polls one consumer. The thread that owns it calls."""

    consumer: Consumer
    clock: Clock
    stages: StageTimes
    watchdog: Watchdog

    def wait(self, timeout: float) -> list[Record]:
        """What comes within ``timeout`` seconds; nothing while the broker is away.

        Raises:
            OffsetGap: records were deleted unread.
            Fenced: somebody else has taken our place.
        """
        with self.stages.stage(IDLE) as stage:
            try:
                records = self.consumer.poll(timeout)
            except (OffsetGap, Fenced):
                raise
            except BusError as error:
                log.warning("worker.poll_failed", error=str(error))
                self.watchdog.turned(paused=True)
                self.clock.sleep(RETRY_S)
                return []
            if records:
                stage.name = POLL
            return records

    def now(self) -> list[Record]:
        """What is there already: keeps our place in the group while the loop is at something long.

        A gap shows itself again at the next ``wait``. Raises Fenced.
        """
        try:
            return self.consumer.poll(0.0)
        except Fenced:
            raise
        except BusError as error:
            log.warning("worker.poll_failed", error=str(error))
            return []
