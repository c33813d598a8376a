"""The gate's loop.

Every turn:

1. hear what the store has to say (``VerdictFeed``, on a thread of its own in ``run``);
2. see which parts came past the photo-eye (``PartSource``);
3. decide about each part that is due, oldest first (``decide``);
4. write the decisions to the journal and wait for the disk;
5. move the actuator, and note its outcome;
6. send the heartbeat, and when no part is near, begin a new segment of the journal where it is time.

A part is decided once, when it is due: the moment it is in front of the gate. With ``early`` the decision
falls as soon as its verdict is there and the parts before it are decided; that is for actuators which track
parts to the gate themselves (a PLC's shift register). A part without a verdict at its due moment is MISSING:
the gate stays closed, and a MISSING verdict is written to the store unless one stands there by then. Whatever
stands, a verdict seen after the due moment never opens. Parts known to be bad, and what locks the gate, are
the business of ``Challenges``.
"""

from __future__ import annotations

import heapq
import threading
from collections.abc import Callable, Mapping
from functools import partial

import structlog

from schemas.part import PartKey
from schemas.verdict import Decision, Verdict
from workers.clock import Clock, SystemClock
from workers.errors import SettingsError, SourceError
from workers.gate import events
from workers.gate.actuators import Actuator
from workers.gate.agent_count import AgentCount
from workers.gate.challenge import Challenges, ChallengeSettings, ChallengeStore
from workers.gate.counter import CounterWatch
from workers.gate.decision import GateDecision, Reason, closed, decide
from workers.gate.feed import GateStore, Held, VerdictFeed, followed
from workers.gate.files import FileWatch
from workers.gate.journal import ACTUATED, OPENED, RECORDED, Entry, Journal, JournalError
from workers.gate.output import Output
from workers.gate.parts import Arrival, PartSource
from workers.gate.product import DueProduct, ProductStore
from workers.gate.report import GateCounts, GateReport, GateState, percentiles
from workers.gate.wall import WallWatch
from workers.pulse import Pulse

_log = structlog.get_logger(__name__)

_ALARMING = {
    Reason.MISSING: events.ALARM_MISSING,
    Reason.LATE: events.ALARM_MISSING,
    Reason.BEHIND: events.ALARM_BEHIND,
    Reason.UNREADABLE: events.ALARM_UNREADABLE,
    Reason.OTHER_PART: events.ALARM_UNREADABLE,
    Reason.PRODUCT: events.ALARM_PRODUCT,
}
_QUIET_NS = 200_000_000
_STILL_S = 10.0
"""A turn takes milliseconds, and seconds where the disk or the actuator is slow."""


class Gate:
    """One gate of one station.

    Args:
        store: where verdicts are read.
        part_source: the gate's own eyes.
        actuator: what it moves.
        journal: its record; what that knows at the start is not decided again.
        station: whose parts it decides; others are ignored and alarmed.
        product: named in the MISSING verdicts it writes.
        hold_s: how long a part stays in front of the gate after its due moment, and the gate open for it.
        early: decide as soon as the verdict is there (see the module).
        alarm: called with an event name and facts; default is an error in the log.
        on_decision: called after each decision with its final outcome. It must not raise.
        capacity: verdicts held at most for parts not seen yet, and MISSING verdicts waiting for the store.
        check_before_s, retry_s: see ``VerdictFeed``.
        challenge: what the station owes of challenge parts.
        challenge_store: where an operator's word comes from; None where nobody arms this gate.
        counted: the PLC's own count of parts, which is compared with the parts seen (``CounterWatch``).
        product_store: where the PLC's word about the product comes from; None: it is not asked for.
        product_required: nothing passes without that word; else only where it was there before.
        pulse_s: open for so long for each part, instead of while it is in front of the gate (``Output``).
    """

    def __init__(
        self,
        store: GateStore,
        part_source: PartSource,
        actuator: Actuator,
        journal: Journal,
        *,
        station: str,
        clock: Clock | None = None,
        product: str = "unknown",
        hold_s: float = 0.05,
        early: bool = False,
        alarm: events.Alarm = events.log_alarm,
        on_decision: Callable[[GateDecision, Entry], None] | None = None,
        capacity: int = 4096,
        check_before_s: float = 0.1,
        retry_s: float = 0.5,
        challenge: ChallengeSettings | None = None,
        challenge_store: ChallengeStore | None = None,
        counted: Callable[[], int | None] | None = None,
        product_store: ProductStore | None = None,
        product_required: bool = False,
        pulse_s: float | None = None,
    ) -> None:
        if not 0 <= hold_s <= 3600:
            raise SettingsError(f"hold (--hold) {hold_s:g} s: use seconds, from 0 to an hour")
        self._source = part_source
        self._journal = journal
        self._station = station
        self._clock: Clock = clock or SystemClock()
        self._product = product
        self._hold = round(hold_s * 1e9)
        self._early = early
        self._alarm_hook = alarm
        self._on_decision = on_decision
        self._counts = GateCounts()
        self._output = Output(actuator, self._clock, self._alarm, pulse_s=pulse_s)
        self._challenges = Challenges(
            journal,
            challenge or ChallengeSettings(),
            station=station,
            clock=self._clock,
            alarm=self._alarm,
        )
        self._due: DueProduct | None = None
        asks: list[Callable[[], None]] = []
        if challenge_store is not None:
            asks.append(partial(self._challenges.ask, challenge_store))
        if product_store is not None:
            self._due = DueProduct(
                station=station, clock=self._clock, required=product_required, alarm=self._alarm
            )
            asks.append(partial(self._due.ask, product_store))
        self._counter = None if counted is None else CounterWatch(counted, self._clock, self._alarm)
        self._files = FileWatch(journal, part_source, self._clock, self._alarm, self._output.release)
        self._agent = AgentCount(self._is_known, self._clock, self._alarm)
        self._feed = VerdictFeed(
            store,
            station=station,
            clock=self._clock,
            decided=lambda part: part in journal.decided,
            alarm=self._alarm,
            capacity=capacity,
            check_before_s=check_before_s,
            retry_s=retry_s,
            ask=asks,
            heard=self._agent.heard,
        )
        self._queue: list[tuple[int, tuple[int, int], Arrival]] = []
        self._known: set[PartKey] = set()
        self._wall = WallWatch(self._clock)
        self._unsure: set[PartKey] = set()
        self._journal_down = False
        self._source_down = False
        self._started = False
        self.pulse = Pulse(_STILL_S, self._clock)

    def start(self) -> None:
        """Close, take over from the journal, begin with the oldest part not decided. ``step`` calls it."""
        if self._started:
            return
        self._started = True
        self._output.release()
        recovery = self._journal.recovery
        if recovery.damaged_lines:
            self._alarm(events.ALARM_JOURNAL_DAMAGED, {"lines": recovery.damaged_lines})
        for says in recovery.broken:
            self._alarm(events.ALARM_JOURNAL_DAMAGED, {"error": says})
        for entry in recovery.unconfirmed:
            # It was to open, and nobody knows whether it did. It is shut now and stays so.
            self._note(entry.part, ACTUATED, Reason.RESTART.value)
        for entry in recovery.unrecorded:
            self._feed.settled(entry.part, missing=self._missing(entry))
        self._challenges.start()
        self._source.rewind()
        _log.info(
            events.GATE_STARTED,
            station=self._station,
            decided=recovery.decided,
            unconfirmed=len(recovery.unconfirmed),
            unrecorded=len(recovery.unrecorded),
            torn_bytes=recovery.torn_bytes,
        )

    def step(self, *, feed: bool = True) -> list[GateDecision]:
        """One turn of the loop; returns its decisions. ``feed=False`` where a thread steps the feed."""
        self.start()
        self.pulse.turned()
        if feed:
            self._feed.step()
        self._watch_clock()
        self._files.look()
        self._challenges.watch()
        self._see()
        made = self._decide_due()
        for done in self._feed.recorded():
            self._note(done.part, RECORDED, done.standing)
        self._output.close_when_due()
        self._output.beat()
        self._agent.look()
        if self._counter is not None:
            self._counter.look(self._counts.triggers)
        if not self._queue or self._queue[0][0] - self._clock.now() > _QUIET_NS:
            self._journal.tidy()
        return made

    def run(self, stop: threading.Event, *, tick_s: float = 0.002) -> None:
        """Turn until ``stop`` is set, then close. Redis is spoken to on a thread of its own."""
        self.start()
        try:
            with followed(self._feed, self._clock, self._station, self._alarm):
                while not stop.is_set():
                    self.step(feed=False)
                    ahead = (self._queue[0][0] - self._clock.now()) / 1e9 if self._queue else tick_s
                    self._clock.sleep(min(tick_s, max(0.0, ahead)))
        finally:
            self.close()

    def close(self) -> None:
        """Shut the gate. Parts still on their way are decided by the next process."""
        self._output.release()
        _log.info(events.GATE_STOPPED, **self.report().to_json())

    @property
    def waiting(self) -> int:
        """Parts on their way that are not decided."""
        return len(self._queue)

    @property
    def unwritten(self) -> int:
        """MISSING verdicts that the store has not got yet."""
        return self._feed.unwritten

    def state(self) -> GateState:
        """How it is now: for other threads than the loop's, and cheap, which the report is not."""
        output = self._output
        source = "parts cannot be read" if self._source_down else self._source.away or self._agent.trouble
        journal = "it cannot be written" if self._journal_down or self._files.gone else None
        down = {"journal": journal, "source": source}
        return self._counts.state(locked=self._challenges.locked, actuator=not output.failing, down=down)

    def report(self) -> GateReport:
        """The counts so far."""
        counts = self._counts
        return GateReport(
            station=self._station,
            triggers=counts.triggers,
            decisions=counts.decisions,
            waiting=len(self._queue),
            opened=counts.opened,
            by_decision=dict(counts.by_decision),
            by_reason=dict(counts.by_reason),
            repeated=counts.repeated,
            late_verdicts=self._feed.late_verdicts,
            unwritten=self._feed.unwritten,
            alarms=dict(counts.alarms),
            latency_ms=percentiles(counts.latencies),
            actuator_ms=percentiles(counts.actuator),
            round_trip_ms=percentiles(counts.round_trip),
            challenges_passed=counts.challenges_passed,
            challenges_failed=counts.challenges_failed,
            locked=self._challenges.locked,
            unseen=0 if self._counter is None else self._counter.unseen,
            untold=self._agent.untold,
        )

    # The steps

    def _watch_clock(self) -> None:
        """Where the wall clock was set, close for every part on its way: its due moment means nothing."""
        step = self._wall.stepped()
        if step is None:
            return
        self._output.release()
        self._unsure = set(self._known)
        self._alarm(events.ALARM_CLOCK, {"by_s": step, "parts": len(self._unsure)})

    def _is_known(self, part: PartKey) -> bool:
        return part in self._known or part in self._journal.decided

    def _see(self) -> None:
        try:
            arrivals = self._source.poll()
        except SourceError as error:
            if not self._source_down:
                self._alarm(events.ALARM_SOURCE, {"error": str(error)})
            self._source_down = True
            return
        self._source_down = False
        for arrival in arrivals:
            part = arrival.part
            if part.station != self._station:
                self._alarm(events.ALARM_SOURCE, {"error": f"part {part} is not of station {self._station}"})
                continue
            self._agent.seen(part)
            if part in self._journal.decided:
                self._source.settled(part)
            elif part in self._known:
                self._counts.repeated += 1
                _log.warning(events.REPEATED_ARRIVAL, station=self._station, part=str(part))
            else:
                self._known.add(part)
                self._counts.triggers += 1
                due, ahead = arrival.due, self._wall.ahead(arrival.triggered_at)
                if ahead is not None:  # who saw it has another time: nobody knows when it is at the gate
                    due = self._clock.now()
                    self._unsure.add(part)
                    self._alarm(events.ALARM_CLOCK, {"part": str(part), "ahead_s": ahead})
                self._challenges.see(arrival)
                heapq.heappush(self._queue, (due, part.order, arrival))
                self._feed.expect(arrival)

    def _decide_due(self) -> list[GateDecision]:
        batch: list[tuple[Arrival, Entry]] = []
        locked = self._challenges.locked
        while self._queue:
            arrival = self._queue[0][2]
            held = self._feed.held(arrival.part)
            now = self._clock.now()
            unsure = arrival.part in self._unsure
            if now < arrival.due and not unsure and (held is None or not self._may_be_early(arrival, held)):
                break
            decision = (
                closed(arrival.part, Decision.STALE, Reason.CLOCK)
                if unsure
                else decide(
                    arrival.part,
                    None if held is None else held.verdict,
                    now,
                    arrival.due,
                    seen_at=None if held is None else held.seen_at,
                    hold=self._hold,
                )
            )
            if self._due is not None:
                decision = self._due.judge(decision, arrival, None if held is None else held.verdict)
            heapq.heappop(self._queue)
            seen_at = None if held is None else held.seen_at
            late = seen_at is None or seen_at > arrival.due
            decision = self._challenges.judge(decision, late=late)
            batch.append((arrival, Entry(decision, arrival.triggered_at, arrival.due, now, seen_at)))
            if self._challenges.is_one(arrival.part):
                break  # whether the parts behind it may pass follows from its decision
        if not batch:
            return []
        try:
            self._journal.append([entry for _, entry in batch])
        except JournalError as error:
            # Not on disk means not decided: the parts go back. One that leaves meanwhile met a shut gate.
            self._output.release()
            for arrival, _ in batch:
                heapq.heappush(self._queue, (arrival.due, arrival.part.order, arrival))
            if not self._journal_down:
                self._alarm(events.ALARM_JOURNAL, {"error": str(error)})
            self._journal_down = True
            return []
        self._journal_down = False
        return [self._carry_out(entry, locked) for _, entry in batch]

    def _may_be_early(self, arrival: Arrival, held: Held) -> bool:
        return self._early and (self._due is None or not self._due.waits(arrival, held.verdict))

    def _carry_out(self, entry: Entry, locked_before: str | None) -> GateDecision:
        part = entry.part
        self._known.discard(part)
        self._unsure.discard(part)
        self._source.settled(part)
        nothing_held = entry.seen_at is None
        self._feed.settled(part, missing=self._missing(entry) if nothing_held else None)
        final = entry.decision
        if final.opened:
            final = self._open(entry)
        else:
            self._output.release()
        self._counts.decided(final, entry)
        self._challenges.decided(entry, locked_before=locked_before)
        facts = {
            "part": str(part),
            "opened": final.opened,
            "decision": final.decision.value,
            "reason": final.reason.value,
        }
        _log.info(events.GATE_DECIDED, station=self._station, **facts)
        if final.reason in _ALARMING:
            self._alarm(_ALARMING[final.reason], facts)
        if self._on_decision is not None:
            self._on_decision(final, entry)
        return final

    def _open(self, entry: Entry) -> GateDecision:
        part, until = entry.part, entry.due + self._hold
        # The disk, or the actuator, may take so long that the part has left: to be open then would let the
        # next one through.
        if self._clock.now() > until:
            return self._not_opened(part, Decision.STALE, Reason.BEHIND)
        if not self._output.energise(part, until):
            return self._not_opened(part, Decision.ERROR, Reason.ACTUATOR)
        confirmed = self._clock.now()
        if confirmed > until:
            return self._not_opened(part, Decision.STALE, Reason.BEHIND)
        seen = entry.due if entry.seen_at is None else max(entry.seen_at, entry.triggered_at)
        since = seen if self._early else entry.due
        self._counts.confirmed((confirmed - since) / 1e6, self._output.round_trip_ms)
        self._note(part, ACTUATED, OPENED)
        return entry.decision

    def _not_opened(self, part: PartKey, decision: Decision, reason: Reason) -> GateDecision:
        self._output.release()
        self._note(part, ACTUATED, reason.value)
        return closed(part, decision, reason)

    # Records

    def _note(self, part: PartKey, kind: str, value: str) -> None:
        try:
            self._journal.note(part, kind, value)
        except JournalError as error:
            if not self._journal_down:
                self._alarm(events.ALARM_JOURNAL, {"error": str(error)})
            self._journal_down = True

    def _missing(self, entry: Entry) -> Verdict:
        due = self._due
        return Verdict(
            part=entry.part,
            product=self._product if due is None else due.name(entry.triggered_at, self._product),
            decision=Decision.MISSING,
            captured_at=entry.triggered_at,
            decided_at=entry.decided_at,
            deadline=entry.due,
            worker=f"gate:{self._station}",
            reason=Reason.MISSING.value,
        )

    def _alarm(self, name: str, facts: Mapping[str, object]) -> None:
        self._counts.alarms[name] += 1
        self._alarm_hook(name, {"station": self._station, **facts})
