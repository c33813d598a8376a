"""The worker's core against random crashes, rebalances, outages, late sensors and gaps, on the in-memory bus.

Hypothesis chooses the events and the clock stands still between them, so that a failure replays exactly.
"""

from __future__ import annotations

import contextlib
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from inference.inspection import Inspection
from inference.sample import Sample
from schemas.frame import Frame
from schemas.notice import Notice
from schemas.part import PartKey
from schemas.payload import ImagePayload
from schemas.verdict import Decision
from schemas.wire import decode_verdict, encode
from tests.workers.frames import colour, depth
from tests.workers.line import FRAMES, VERDICTS, Line
from tests.workers.standin import StandInModel, by_sensors, inspection
from workers.bus.base import TopicPartition
from workers.clock import ManualClock
from workers.errors import BusError, StoreError
from workers.inspection import InspectionWorker
from workers.steps.delivery import Delivery, Offsets, Outgoing
from workers.steps.offsets import Ticket
from workers.steps.step import Step

STATIONS = {"s1": 0, "s2": 0, "s3": 1}
FAR = 10**13
# Encoded once: what is in the pictures does not matter here, only that no two parts share them.
COLOURS: list[ImagePayload] = [colour(n) for n in range(64)]
DEPTHS: list[ImagePayload] = [depth(n) for n in range(64)]


class Crash(BaseException):
    """The process ends here, whatever it was doing."""


@dataclass
class Member:
    """A worker process: how it crashes next, and whether it has."""

    crash_at: Step | None = None
    stop_at: Step | None = None
    meanwhile: Callable[[], None] | None = None
    worker: InspectionWorker | None = None

    def on_step(self, step: Step) -> None:
        if step is self.stop_at and self.meanwhile is not None:
            self.stop_at = None
            self.meanwhile()
        if step is self.crash_at:
            self.crash_at = None
            raise Crash


@dataclass
class Sent:
    """What was sent of one part."""

    place: TopicPartition
    first_offset: int
    whole: bool = True
    notice: bool = False
    deadline: int = FAR
    offsets: list[int] = field(default_factory=list)


class FlakyStore:
    """Redis that refuses the next so many calls."""

    def __init__(self, store: Any) -> None:
        self._store = store
        self.refuse = 0

    def __getattr__(self, name: str) -> Any:
        found = getattr(self._store, name)
        if not callable(found):
            return found

        def call(*args: Any, **kwargs: Any) -> Any:
            if self.refuse > 0:
                self.refuse -= 1
                raise StoreError("redis is away")
            return found(*args, **kwargs)

        return call


class FlakyTopic:
    """A result topic that refuses the next deliveries, or takes them and loses the answer."""

    def __init__(self, delivery: Delivery, trouble: deque[str]) -> None:
        self._delivery = delivery
        self._trouble = trouble

    def deliver(self, verdicts: Sequence[Outgoing], tickets: Sequence[Ticket]) -> Offsets:
        kind = self._trouble.popleft() if self._trouble else ""
        if kind == "refused":
            raise BusError("the broker is away")
        committed = self._delivery.deliver(verdicts, tickets)
        if kind == "lost":
            raise BusError("no answer")
        return committed

    def close(self) -> None:
        self._delivery.close()


class WorkerCore(RuleBasedStateMachine):
    """Any number of workers, three stations on two partitions, and everything that goes wrong."""

    @initialize(transactions=st.booleans())
    def begin(self, transactions: bool) -> None:
        self.line = Line()
        assert isinstance(self.line.clock, ManualClock)
        self.clock = self.line.clock
        self.store = FlakyStore(self.line.store)
        self.members: list[Member] = []
        self.sent: dict[PartKey, Sent] = {}
        self.next_trigger = dict.fromkeys(STATIONS, 0)
        self.halves: list[Frame] = []
        self.gone: set[PartKey] = set()
        self.committed: dict[TopicPartition, int] = {}
        self.seen_complete: set[PartKey] = set()
        self.transactions = transactions
        self.pictures = 0
        self.trouble: deque[str] = deque()
        self.watch = self.line.bus.consumer("crosscheck-workers")
        self.names = 0

    # Workers

    @rule()
    @precondition(lambda self: len(self.members) < 3)
    def start_worker(self) -> None:
        self.names += 1
        member = Member()
        line = self.line
        held, line.store = line.store, self.store  # type: ignore[assignment]
        try:
            member.worker = line.worker(
                StandInModel(self.judge),
                name=f"w{self.names}",
                on_step=member.on_step,
                max_batch=3,
                max_in_flight=6,
                pair_wait_ms=40,
                delivery="transactions" if self.transactions else "plain",
                deadletter_run=10_000,
            )
        finally:
            line.store = held
        publisher = member.worker._answering.publisher
        publisher.delivery = FlakyTopic(publisher.delivery, self.trouble)
        self.members.append(member)

    def judge(self, sample: Sample) -> Inspection:
        # A part with a dark first pixel is bad: the decision follows from the frame alone.
        found = by_sensors(sample)
        if sample.rgb is not None and int(sample.rgb[0, 0, 0]) < 60 and found.mode is not None:
            return inspection(2.0, mode=found.mode, degraded_pass=found.degraded_pass)
        return found

    def turn(self, member: Member) -> None:
        assert member.worker is not None
        try:
            member.worker.step()
        except Crash:
            self.bury(member)

    def bury(self, member: Member) -> None:
        """It does not leave the group and signs nothing off: its session has to run out."""
        assert member.worker is not None
        self.members.remove(member)
        member.worker._answering.close()
        member.worker._decoders.shutdown(wait=False)

    @precondition(lambda self: self.members)
    @rule(which=st.integers(0, 2), turns=st.integers(1, 4))
    def step(self, which: int, turns: int) -> None:
        member = self.members[which % len(self.members)]
        for _ in range(turns):
            if member in self.members:
                self.turn(member)
            self.clock.advance(0.01)

    @precondition(lambda self: self.members)
    @rule(which=st.integers(0, 2), at=st.sampled_from(list(Step)))
    def crash_at_a_step(self, which: int, at: Step) -> None:
        member = self.members[which % len(self.members)]
        member.crash_at = at
        for _ in range(3):
            if member in self.members:
                self.turn(member)
                self.clock.advance(0.02)

    @precondition(lambda self: len(self.members) > 1)
    @rule(which=st.integers(0, 2), at=st.sampled_from(list(Step)))
    def stand_still_past_the_session_and_go_on(self, which: int, at: Step) -> None:
        """A zombie: the others take its partitions and answer its parts while it stands inside a step."""
        member = self.members[which % len(self.members)]

        def the_others_go_on() -> None:
            for _ in range(6):
                self.clock.advance(2.0)
                for other in list(self.members):
                    if other is not member:
                        self.turn(other)

        member.stop_at, member.meanwhile = at, the_others_go_on
        for _ in range(3):
            if member in self.members:
                self.turn(member)
        member.stop_at = None

    @precondition(lambda self: self.members)
    @rule(which=st.integers(0, 2))
    def stop_worker(self, which: int) -> None:
        member = self.members.pop(which % len(self.members))
        assert member.worker is not None
        with contextlib.suppress(Crash):
            member.worker.drain()
        member.worker.close()

    # The line

    def put(self, of: Frame | Notice, *, cut: bool = False) -> int:
        place = TopicPartition(FRAMES, STATIONS[of.part.station])
        value = encode(of)
        delivery = self.line.producer.send(
            FRAMES,
            value[: len(value) // 2] if cut else value,
            key=str(of.part).encode(),
            partition=place.partition,
        )
        _, offset = delivery.wait(1)
        sent = self.sent.setdefault(of.part, Sent(place, offset))
        sent.offsets.append(offset)
        return offset

    def fresh(self, station: str, deadline_s: float) -> Frame:
        trigger = self.next_trigger[station]
        self.next_trigger[station] += 1
        self.pictures = (self.pictures + 1) % len(COLOURS)
        return Frame(
            part=PartKey(station, 1, trigger),
            product="widget",
            captured_at=self.clock.now(),
            deadline=self.clock.now() + int(deadline_s * 1e9),
            rgb=COLOURS[self.pictures],
            depth=DEPTHS[self.pictures],
        )

    @precondition(lambda self: not self.line.bus.interrupted)
    @rule(
        station=st.sampled_from(sorted(STATIONS)),
        kind=st.sampled_from(["whole", "whole", "twice", "half", "cut", "notice", "no depth"]),
        soon=st.booleans(),
    )
    def trigger(self, station: str, kind: str, soon: bool) -> None:
        of = self.fresh(station, 0.2 if soon else 5000.0)
        if kind == "notice":
            self.put(
                Notice(
                    part=of.part,
                    product=of.product,
                    captured_at=of.captured_at,
                    deadline=of.deadline,
                    why="buffer full",
                )
            )
            self.sent[of.part].notice = True
        elif kind == "half":
            self.put(replace(of, depth=None))
            self.halves.append(replace(of, rgb=None))
            self.sent[of.part].whole = False
        elif kind == "no depth":
            self.put(replace(of, depth=None))
            self.sent[of.part].whole = False
        else:
            self.put(of, cut=kind == "cut")
            if kind == "cut":
                self.sent[of.part].whole = False
            if kind == "twice":
                self.put(of)

    @precondition(lambda self: self.halves and not self.line.bus.interrupted)
    @rule()
    def late_half(self) -> None:
        half = self.halves.pop(0)
        self.put(half)
        # Whether it came in time is for the worker to find out.
        self.sent[half.part].whole = True

    # What goes wrong

    @rule(seconds=st.sampled_from([0.05, 0.5, 7.0]))
    def time_passes(self, seconds: float) -> None:
        self.clock.advance(seconds)

    @rule(calls=st.integers(1, 4))
    def redis_refuses(self, calls: int) -> None:
        self.store.refuse = calls

    @rule(trouble=st.lists(st.sampled_from(["refused", "lost"]), min_size=1, max_size=3))
    def the_result_topic_fails(self, trouble: list[str]) -> None:
        self.trouble.extend(trouble)

    @rule(count=st.integers(1, 3))
    def commits_fail(self, count: int) -> None:
        self.line.bus.fail_commits(count)

    @rule(partition=st.integers(0, 1), share=st.floats(0.1, 1.0))
    def retention(self, partition: int, share: float) -> None:
        place = TopicPartition(FRAMES, partition)
        begin = self.watch.beginning_offsets({place})[place]
        end = self.watch.end_offsets({place})[place]
        upto = begin + int((end - begin) * share)
        self.line.bus.delete_before(place, upto)
        for part, sent in self.sent.items():
            if sent.place == place and any(offset < upto for offset in sent.offsets):
                self.gone.add(part)

    # What holds, always

    @invariant()
    def offsets_never_go_back_and_never_run_ahead(self) -> None:
        if not hasattr(self, "line"):
            return
        for place in (TopicPartition(FRAMES, 0), TopicPartition(FRAMES, 1)):
            now = self.watch.committed(place) or 0
            assert now >= self.committed.get(place, 0), f"{place} went back to {now}"
            self.committed[place] = now
            for part, sent in self.sent.items():
                if sent.place == place and part not in self.gone and sent.first_offset < now:
                    assert self.line.store.standing(part) is not None, f"{part} was committed unanswered"

    @invariant()
    def a_decision_never_changes_and_comes_in_order(self) -> None:
        if not hasattr(self, "line"):
            return
        first: dict[str, int] = {}
        told: dict[PartKey, bytes] = {}
        for record in self.line.read(VERDICTS):
            verdict = decode_verdict(record.value)
            part = verdict.part
            if part in told:
                assert told[part] == record.value, f"{part} was told two different verdicts"
                continue
            told[part] = record.value
            if part in self.gone:
                continue
            assert self.sent[part].first_offset >= first.get(part.station, -1), f"{part} overtook"
            first[part.station] = self.sent[part].first_offset
            if verdict.decision is Decision.PASS:
                assert verdict.bundle
                assert self.sent[part].whole
                assert not self.sent[part].notice
        for part, value in told.items():
            assert self.line.store.standing(part) == value

    def teardown(self) -> None:
        if not hasattr(self, "line"):
            return
        self.store.refuse = 0
        self.trouble.clear()
        self.line.bus.fail_commits(0)
        for member in list(self.members):
            self.bury(member)
        self.clock.advance(10)
        self.start_worker()
        (member,) = self.members
        for _ in range(400):
            self.turn(member)
            self.clock.advance(0.03)
            places = {TopicPartition(FRAMES, 0), TopicPartition(FRAMES, 1)}
            ends = self.watch.end_offsets(places)
            if all((self.watch.committed(p) or 0) >= ends[p] for p in places):
                break
        self.offsets_never_go_back_and_never_run_ahead()
        self.a_decision_never_changes_and_comes_in_order()
        told = {decode_verdict(r.value).part for r in self.line.read(VERDICTS)}
        for part, sent in self.sent.items():
            if part in self.gone:
                continue
            standing = self.line.store.standing(part)
            assert standing is not None, f"{part} ({sent}) has no decision"
            assert part in told, f"{part} was never told"
        self.bury(member)


WorkerCore.TestCase.settings = settings(
    max_examples=60,
    stateful_step_count=40,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.filter_too_much],
)
TestWorkerCore = WorkerCore.TestCase
