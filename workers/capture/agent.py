"""The capture agent: shots on an open-loop schedule, the gate told of each before it is sent."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable
from dataclasses import dataclass

import structlog

from schemas.part import PartKey
from workers.capture import events
from workers.capture.debounce import Debounce
from workers.capture.publisher import Publisher
from workers.capture.sources.base import Shot
from workers.clock import Clock, SystemClock
from workers.errors import SettingsError
from workers.pulse import Pulse

_log = structlog.get_logger(__name__)

_STILL_S = 30.0

OnTrigger = Callable[[PartKey, int], None]
"""Called with the part and the trigger's time (integer nanoseconds since the epoch): the gate's photo-eye."""
OnShot = Callable[[PartKey, Shot], None]


@dataclass(frozen=True, slots=True)
class CaptureReport:
    """What an agent did.

    Attributes:
        triggers: parts that came by.
        published, failed: records, as the publisher counts them at the end.
        late: shots that came later than ``late_after_s`` behind their schedule.
        worst_late_ms: the latest of all.
        seconds: from the first trigger's schedule to the end.
    """

    triggers: int
    published: int
    failed: int
    late: int
    worst_late_ms: float
    seconds: float


class CaptureAgent:
    """Replays a source on a schedule that does not wait for anybody.

    Shot i is due ``i / rate`` seconds after the first, whether or not the one before it is finished: a line
    does not stop because a computer is slow. A shot that comes late is counted, never skipped.

    Args:
        source: what the sensors see, shot by shot.
        publisher: where it is sent.
        rate: triggers a second.
        on_trigger: told of each part at its trigger, before anything is sent, whatever becomes of its frame.
        on_shot: told which shot belongs to which part, for those who know the truth about it.
        debounce: which triggers are bounces of the photo-eye: they are counted there and are no parts.
        split: send colour and depth as two records of one part.
        late_after_s: how far behind its schedule a shot counts as late; half a period where not given.
    """

    def __init__(
        self,
        source: Iterable[Shot],
        publisher: Publisher,
        *,
        rate: float,
        clock: Clock | None = None,
        on_trigger: OnTrigger | None = None,
        on_shot: OnShot | None = None,
        late_after_s: float | None = None,
        debounce: Debounce | None = None,
        split: bool = False,
    ) -> None:
        if not 0 < rate <= 100_000:
            raise SettingsError(f"rate (--rate) {rate:g}: use triggers a second, above 0 and up to 100000")
        self._source = source
        self._publisher = publisher
        self._period = 1.0 / rate
        self._clock: Clock = clock or SystemClock()
        self._on_trigger = on_trigger
        self._on_shot = on_shot
        self._late_after = self._period / 2 if late_after_s is None else late_after_s
        self._split = split
        self._debounce = debounce or Debounce()
        # A source that replays is never long over one shot; who waits for a camera writes a loop of its own.
        self.pulse = Pulse(_STILL_S + 2 * self._period, self._clock)

    def run(self, stop: threading.Event | None = None, *, flush_s: float = 10.0) -> CaptureReport:
        """Until the source is at its end or ``stop`` is set; then flush.

        Raises:
            SourceError: the source or the agent's log failed. What the bus does is counted, not raised;
                frames still open after ``flush_s`` seconds count as failed once the publisher is closed.
        """
        clock, publisher = self._clock, self._publisher
        start: float | None = None
        late, worst, count = 0, 0.0, 0
        for count, shot in enumerate(self._source):
            self.pulse.turned()
            if stop is not None and stop.is_set():
                break
            # The first shot is made before the schedule starts: making it is not the line's delay.
            if start is None:
                start = clock.monotonic()
                _log.info(events.AGENT_STARTED, station=publisher.station, run=publisher.run)
            due = start + count * self._period
            while (wait := due - clock.monotonic()) > 0:
                clock.sleep(wait if stop is None else min(wait, 0.05))
                if stop is not None and stop.is_set():
                    break
            if stop is not None and stop.is_set():
                break
            behind = clock.monotonic() - due
            worst = max(worst, behind)
            if behind > self._late_after:
                late += 1
                _log.warning(events.SHOT_LATE, station=publisher.station, behind_ms=round(behind * 1e3, 1))
            self._shoot(shot)
        publisher.settle(flush_s)
        report = CaptureReport(
            triggers=publisher.triggers,
            published=publisher.published,
            failed=publisher.failed,
            late=late,
            worst_late_ms=worst * 1e3,
            seconds=0.0 if start is None else clock.monotonic() - start,
        )
        _log.info(
            events.AGENT_FINISHED,
            station=publisher.station,
            triggers=report.triggers,
            published=report.published,
            failed=report.failed,
            late=report.late,
        )
        return report

    def _shoot(self, shot: Shot) -> None:
        at = self._clock.now()
        if not self._debounce.takes(at):
            return
        part = self._publisher.next_part(at, {"name": shot.name, "truth": shot.truth})
        if self._on_trigger is not None:
            self._on_trigger(part, at)
        if self._on_shot is not None:
            self._on_shot(part, shot)
        if self._split:
            self._publisher.publish_split(part, shot.rgb, shot.depth, captured_at=at)
        else:
            self._publisher.publish(part, shot.rgb, shot.depth, captured_at=at)
