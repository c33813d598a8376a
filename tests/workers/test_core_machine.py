"""The worker's core against random crashes, rebalances, outages, late sensors and gaps, on the in-memory bus.

Hypothesis chooses the events and the clock stands still between them, so that a failure replays exactly.
"""

from __future__ import annotations

import contextlib
import os
from collections import deque
from dataclasses import replace

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from inference.inspection import Inspection
from inference.sample import Sample
from schemas.frame import Frame
from schemas.heartbeat import Heartbeat
from schemas.notice import Notice
from schemas.part import PartKey
from schemas.payload import ImagePayload
from schemas.verdict import Decision
from schemas.wire import decode_verdict, encode
from tests.workers.core_faults import Crash, FlakyStore, FlakyTopic, Member, Sent
from tests.workers.frames import colour, depth
from tests.workers.line import FRAMES, VERDICTS, Line
from tests.workers.standin import StandInModel, by_sensors, inspection
from workers.bus.base import TopicPartition, TopicSpec
from workers.clock import ManualClock
from workers.steps.shedding import POLICIES
from workers.steps.step import Step
from workers.watchdog import Watchdog

STATIONS = {"s1": 0, "s2": 0, "s3": 1}
BEATS = "inspection.heartbeats"
# Encoded once: what is in the pictures does not matter here, only that no two parts share them.
COLOURS: list[ImagePayload] = [colour(n) for n in range(64)]
DEPTHS: list[ImagePayload] = [depth(n) for n in range(64)]


class WorkerCore(RuleBasedStateMachine):
    """Any number of workers, three stations on two partitions, and everything that goes wrong."""

    @initialize(transactions=st.booleans(), policy=st.sampled_from(POLICIES))
    def begin(self, transactions: bool, policy: str) -> None:
        self.line = Line()
        self.line.bus.ensure_topics({BEATS: TopicSpec(partitions=1)})
        self.policy = policy
        self.topic = 0
        self.stale_commits: set[TopicPartition] = set()
        self.amnesia = False
        self.ended: list[int] = []
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
        # Nothing here is a stall: whatever fails is a sink that is away.
        member = Member(watchdog=Watchdog(stall_s=30, clock=self.clock, exit=self.ended.append))
        line = self.line
        held, line.store = line.store, self.store  # type: ignore[assignment]
        try:
            member.worker = line.worker(
                StandInModel(self.judge),
                name=f"w{self.names}",
                on_step=member.on_step,
                watchdog=member.watchdog,
                max_batch=3,
                max_in_flight=6,
                pair_wait_ms=40,
                delivery="transactions" if self.transactions else "plain",
                deadletter_run=10_000,
                shedding=self.policy,
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
        else:
            assert not member.watchdog.check()

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
        sent = self.sent.setdefault(of.part, Sent(place, offset, topic=self.topic))
        if sent.topic == self.topic:
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
        kind=st.sampled_from(
            ["whole", "whole", "twice", "half", "cut", "notice", "no depth", "cut half", "frame and notice"]
        ),
        soon=st.booleans(),
    )
    def trigger(self, station: str, kind: str, soon: bool) -> None:
        of = self.fresh(station, 0.2 if soon else 5000.0)
        if kind == "frame and notice":
            self.put(replace(of, depth=None))
            self.sent[of.part].whole = False
        if kind == "cut half":
            self.put(replace(of, depth=None))
            self.put(replace(of, rgb=None), cut=True)
            self.sent[of.part].whole = False
        elif "notice" in kind:
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
        if seconds > 1:
            # Nobody ran meanwhile: every process was suspended, and its watchdog sees that.
            for member in self.members:
                member.watchdog._excuse(self.clock.monotonic())

    @precondition(lambda self: not self.line.bus.interrupted)
    @rule(station=st.sampled_from(sorted(STATIONS)), ahead=st.sampled_from([0.0, 0.0, -5.0, 5.0]))
    def heartbeat(self, station: str, ahead: float) -> None:
        beat = Heartbeat(station=station, agent="a", sent_at=self.clock.now() + round(ahead * 1e9))
        self.line.producer.send(BEATS, encode(beat), partition=0).wait(1)

    @precondition(lambda self: not self.amnesia)
    @rule()
    def redis_loses_its_data(self) -> None:
        """From now on a part may be decided again, and differently: no more holds than the topic shows."""
        self.line.redis.flushall()
        self.amnesia = True

    @rule()
    def the_topic_is_made_again(self) -> None:
        for part, sent in self.sent.items():
            if sent.topic == self.topic:
                self.gone.add(part)
        self.halves.clear()
        self.line.bus.delete_topic(FRAMES)
        self.line.bus.ensure_topics({FRAMES: TopicSpec(partitions=2)})
        self.topic += 1
        self.stale_commits = {TopicPartition(FRAMES, 0), TopicPartition(FRAMES, 1)}
        # Whoever has polled knows; until then what it commits are offsets of the old topic.
        for member in list(self.members):
            for _ in range(2):
                if member in self.members:
                    self.turn(member)

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
            here = sent.place == place and sent.topic == self.topic
            if here and any(offset < upto for offset in sent.offsets):
                self.gone.add(part)

    # What holds, always

    @invariant()
    def offsets_never_go_back_and_never_run_ahead(self) -> None:
        if not hasattr(self, "line"):
            return
        for place in (TopicPartition(FRAMES, 0), TopicPartition(FRAMES, 1)):
            now = self.watch.committed(place) or 0
            if now < self.committed.get(place, 0) and place in self.stale_commits:
                self.stale_commits.discard(place)
            else:
                assert now >= self.committed.get(place, 0), f"{place} went back to {now}"
            self.committed[place] = now
            told = {decode_verdict(r.value).part for r in self.line.read(VERDICTS)} if self.amnesia else set()
            for part, sent in self.sent.items():
                if (
                    sent.place == place
                    and sent.topic == self.topic
                    and part not in self.gone
                    and sent.first_offset < now
                ):
                    answered = part in told or self.line.store.standing(part) is not None
                    assert answered, f"{part} was committed unanswered"

    @invariant()
    def a_decision_never_changes_and_comes_in_order(self) -> None:
        if not hasattr(self, "line"):
            return
        first: dict[str, tuple[int, int]] = {}
        told: dict[PartKey, bytes] = {}
        for record in self.line.read(VERDICTS):
            verdict = decode_verdict(record.value)
            part = verdict.part
            if part in told:
                same = self.amnesia or told[part] == record.value
                assert same, f"{part} was told two different verdicts"
                continue
            told[part] = record.value
            if part in self.gone:
                continue
            assert self.sent[part].at >= first.get(part.station, (-1, -1)), f"{part} overtook"
            first[part.station] = self.sent[part].at
            if verdict.decision is Decision.PASS:
                assert verdict.bundle
                assert self.sent[part].whole
                assert not self.sent[part].notice
        for part, value in () if self.amnesia else told.items():
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
            assert self.amnesia or standing is not None, f"{part} ({sent}) has no decision"
            assert part in told, f"{part} was never told"
        self.bury(member)


WorkerCore.TestCase.settings = settings(
    max_examples=int(os.environ.get("CORE_EXAMPLES", "60")),
    stateful_step_count=40,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.filter_too_much],
)
TestWorkerCore = WorkerCore.TestCase
