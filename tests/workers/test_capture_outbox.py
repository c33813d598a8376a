"""The agent's queue and disk buffer on a broker that comes and goes: what is kept, what is told."""

from __future__ import annotations

import os
import random
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from schemas.frame import Frame
from schemas.images import encode_colour
from schemas.notice import Notice
from schemas.part import PartKey
from schemas.payload import ColourEncoding
from schemas.wire import decode_capture, encode
from tests.workers.test_capture_publisher import DEPTH, RGB, TOPIC, Map, lines
from workers.bus.base import Record, TopicPartition, TopicSpec
from workers.bus.memory import MemoryBus
from workers.capture import AgentLog, Publisher
from workers.capture.buffer import DiskBuffer
from workers.capture.entry import Entry
from workers.capture.outbox import EXPIRED, Outbox
from workers.capture.outbox_settings import OutboxSettings
from workers.clock import ManualClock
from workers.errors import BusError, SettingsError

PLACE = TopicPartition(TOPIC, 2)
RUN = 1_700_000_000_000_000_000
FRAME_BYTES = 2000
KINDS = {Frame: "frame", Notice: "notice"}


def image_frame(trigger: int, at: int, *, size: int = FRAME_BYTES, station: str = "s1") -> Frame:
    noise = random.Random(trigger).randbytes(size)
    pixels = np.frombuffer(noise[: size // 3 * 3], np.uint8).reshape(1, -1, 3)
    return Frame(
        part=PartKey(station, RUN, trigger),
        product="cap",
        captured_at=at,
        deadline=at + 10**12,
        rgb=encode_colour(pixels, ColourEncoding.RAW),
    )


class Line:
    """An outbox on a memory bus, stepped by hand: time passes only in ``advance``."""

    def __init__(self, folder: Path, **settings: Any) -> None:
        self.folder = folder
        self.clock = ManualClock(RUN)
        self.bus = MemoryBus(self.clock)
        self.bus.ensure_topics({TOPIC: TopicSpec(partitions=4)})
        self.settings = settings
        self.next = 0
        self.outbox = self.open()

    def open(self) -> Outbox:
        keys = ("max_bytes", "max_records", "keep", "reserve_bytes")
        buffer = DiskBuffer(self.folder, **{k: v for k, v in self.settings.items() if k in keys}, sync_s=1e9)
        others = {k: v for k, v in self.settings.items() if k not in keys}
        chosen = OutboxSettings(**{"delivery_timeout_s": 2.0, **others})
        return Outbox(lambda: self.bus, buffer, PLACE, station="s1", settings=chosen, clock=self.clock)

    def post(self, count: int = 1, **facts: Any) -> list[PartKey]:
        parts = []
        for _ in range(count):
            frame = image_frame(self.next, self.clock.now(), **facts)
            self.next += 1
            self.outbox.post(Entry.of_frame(frame, "rgb"), encode(frame))
            parts.append(frame.part)
        return parts

    def work(self, turns: int = 400) -> None:
        """Let both threads' work be done, until there is none or the turns are used up."""
        for _ in range(turns):
            kept = self.outbox.keeper.turn()
            if not self.outbox.turn() and not kept:
                return

    def advance(self, seconds: float) -> None:
        self.clock.advance(seconds)
        self.work()

    def crash(self) -> None:
        """As SIGKILL: memory is gone, the disk is as it is, and the lock is free."""
        os.close(self.outbox._buffer._guard)
        for _, fd in self.outbox._buffer._open.values():
            os.close(fd)
        self.outbox._buffer._mark.close()
        self.outbox = self.open()

    def records(self) -> list[Record]:
        consumer = self.bus.consumer(None, max_poll_records=100_000)
        consumer.assign({PLACE})
        found = consumer.poll(0.0)
        consumer.close()
        return found

    def told(self) -> list[tuple[str, int]]:
        """Kind and trigger of each record, in order."""
        messages = [decode_capture(record.value) for record in self.records()]
        return [(KINDS[type(message)], message.part.trigger) for message in messages]

    def drain(self) -> None:
        self.bus.restore()
        for _ in range(60):
            self.advance(0.5)
            if not self.outbox.waiting():
                return
        raise AssertionError(f"{self.outbox.waiting()} entries were never sent")


def frames(*triggers: int) -> list[tuple[str, int]]:
    return [("frame", trigger) for trigger in triggers]


def notices(*triggers: int) -> list[tuple[str, int]]:
    return [("notice", trigger) for trigger in triggers]


@pytest.fixture
def line(tmp_path: Path) -> Line:
    return Line(tmp_path / "buffer")


def test_while_the_broker_answers_nothing_touches_the_disk(line: Line) -> None:
    for _ in range(20):
        line.post()
        line.work()
        line.clock.advance(0.2)
    assert line.told() == frames(*range(20))
    assert (line.outbox.published, line.outbox.dropped, line.outbox.buffered) == (20, 0, 0)
    assert not list(line.folder.glob("*.seg"))


def test_frames_of_an_outage_come_after_it_in_order_and_new_ones_behind_them(line: Line) -> None:
    line.post(3)
    line.work()
    line.bus.interrupt()
    for _ in range(30):
        line.post()
        line.advance(0.3)
    assert line.outbox.away
    assert line.outbox.buffered >= 26
    line.bus.restore()
    line.post(2)
    line.drain()
    line.post(2)
    line.work()
    assert list(dict.fromkeys(line.told())) == frames(*range(37))
    assert (line.outbox.published, line.outbox.dropped, line.outbox.buffered) == (37, 0, 0)
    assert sum(path.stat().st_size for path in line.folder.glob("*.seg")) < FRAME_BYTES * 40


def test_a_broker_that_is_away_from_the_start_gets_everything_later(tmp_path: Path) -> None:
    line = Line(tmp_path)

    def refuse() -> MemoryBus:
        raise BusError("nobody listens")

    line.outbox._connect = refuse
    line.post(5)
    for _ in range(4):
        line.advance(1.0)
    assert line.outbox.away
    assert line.outbox.buffered == 5
    line.outbox._connect = lambda: line.bus
    line.drain()
    assert line.told() == frames(*range(5))


def test_what_was_on_disk_when_the_process_was_killed_is_sent_by_the_next(line: Line) -> None:
    line.bus.interrupt()
    line.post(6)
    line.advance(1.5)
    line.post(2)
    line.crash()
    # The last two were in memory only, or on disk already: the log of triggers answers for them.
    line.bus.restore()
    line.drain()
    assert list(dict.fromkeys(line.told()))[:6] == frames(*range(6))


def test_what_the_broker_acknowledged_is_not_sent_again_by_the_next_process(line: Line) -> None:
    line.bus.interrupt()
    line.post(10)
    line.advance(1.5)
    line.bus.restore()
    line.drain()
    before = len(line.records())
    line.crash()
    line.drain()
    assert len(line.records()) == before


@pytest.mark.parametrize("keep", ["oldest", "newest"])
def test_what_has_no_room_is_told_in_its_place(tmp_path: Path, keep: str) -> None:
    line = Line(tmp_path, keep=keep, max_bytes=10 * (FRAME_BYTES + 400))
    line.bus.interrupt()
    for _ in range(30):
        line.post()
        line.advance(1.2)
    dropped = line.outbox.dropped
    assert dropped >= 19
    line.drain()
    line.post()
    line.work()
    told = list(dict.fromkeys(line.told()))
    assert [trigger for _, trigger in told] == list(range(31)), "each in its place"
    kinds = [kind for kind, _ in told]
    assert kinds.count("notice") == dropped == line.outbox.notices
    if keep == "oldest":
        assert kinds[:8] == ["frame"] * 8
    else:
        assert kinds[22:] == ["frame"] * 9


def test_a_frame_larger_than_the_whole_buffer_costs_no_other_its_place(tmp_path: Path) -> None:
    line = Line(tmp_path, keep="newest", max_bytes=4 * (FRAME_BYTES + 400))
    line.bus.interrupt()
    line.post(2)
    line.advance(1.5)
    line.post(1, size=30_000)
    line.advance(3.0)
    line.drain()
    assert set(line.told()) == {("frame", 0), ("frame", 1), ("notice", 2)}


def test_an_expired_frame_is_told_and_not_sent_unless_wanted(tmp_path: Path) -> None:
    for wanted in (False, True):
        line = Line(tmp_path / str(wanted), expired_after_s=None if wanted else 1.0)
        line.bus.interrupt()
        line.post(4)
        line.advance(1.5)
        line.advance(1200.0)
        line.post(1)
        line.drain()
        told = set(line.told())
        expected = frames(*range(5)) if wanted else notices(0, 1, 2, 3) + frames(4)
        # One may have been in flight when the broker went away: then it is there as well.
        assert set(expected) <= told
        if not wanted:
            whys = {
                m.why for m in map(decode_capture, (r.value for r in line.records())) if isinstance(m, Notice)
            }
            assert whys == {EXPIRED}


def test_thousands_of_lost_parts_are_told_in_a_bounded_space(tmp_path: Path) -> None:
    line = Line(tmp_path, keep="oldest", max_bytes=5 * (FRAME_BYTES + 400), reserve_bytes=200_000)
    line.bus.interrupt()
    for _ in range(90):
        line.post(100)
        line.work(4000)
        line.clock.advance(1.0)
    assert line.outbox.dropped > 8800
    assert sum(path.stat().st_size for path in tmp_path.glob("notices-*.seg")) <= 200_000
    assert line.outbox.waiting() < 6000, "told as runs"
    line.bus.restore()
    for _ in range(200):
        line.advance(0.5)
        if not line.outbox.waiting():
            break
    assert sorted({trigger for _, trigger in line.told()}) == list(range(9000))


def test_a_folder_belongs_to_one_agent_and_one_station(line: Line) -> None:
    with pytest.raises(SettingsError, match="another agent uses it"):
        DiskBuffer(line.folder)
    line.bus.interrupt()
    line.post(1)
    line.advance(2.0)
    line.outbox.close(0.0)
    with pytest.raises(SettingsError, match="holds parts of station s1"):
        Outbox(lambda: line.bus, DiskBuffer(line.folder), PLACE, station="s2")


def test_a_publisher_with_a_buffer_tells_what_an_earlier_one_did_not_bring_to_an_end(tmp_path: Path) -> None:
    clock = ManualClock()
    bus = MemoryBus()
    bus.ensure_topics({TOPIC: TopicSpec(partitions=4), "p.heartbeats": TopicSpec(partitions=1)})
    path = tmp_path / "agent.log"
    with AgentLog(path) as log:
        for trigger in range(4):
            log.trigger(PartKey("s1", 7, trigger), clock.now())
        log.sent(PartKey("s1", 7, 0), clock.now(), "rgb")
        log.failed(PartKey("s1", 7, 2), clock.now(), "no answer")
    for expected in (3, 0):
        with AgentLog(path) as log:
            publisher = Publisher(
                bus,
                station="s1",
                product="cap",
                station_map=Map(),
                log=log,
                buffer=DiskBuffer(tmp_path / "buffer"),
                heartbeats="p.heartbeats",
            )
            with publisher:
                part = publisher.next_part()
                assert publisher.publish(part, RGB, DEPTH).wait(5.0)[0] == PLACE
                unseen = publisher.next_part()
                publisher.publish(unseen)
                publisher.flush(5.0)
                assert publisher.published == 1
                assert publisher.notices == expected + 1
            assert [line["event"] for line in lines(log)].count("recovered") == (1 if expected else 2)
    consumer = bus.consumer(None)
    consumer.assign({PLACE})
    messages = [decode_capture(record.value) for record in consumer.poll(0.0)]
    told = [m.part.trigger for m in messages if isinstance(m, Notice) and m.part.run == 7]
    assert told == [1, 2, 3]


STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("post"), st.integers(1, 6)),
        st.tuples(st.just("wait"), st.floats(0.05, 4.0)),
        st.tuples(st.sampled_from(["away", "back", "crash"]), st.just(0)),
    ),
    min_size=1,
    max_size=25,
)


@settings(max_examples=120, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(steps=STEPS, keep=st.sampled_from(["oldest", "newest"]), room=st.integers(1, 12))
def test_what_is_kept_and_what_is_told_is_what_came(
    tmp_path_factory: pytest.TempPathFactory, steps: list[tuple[str, Any]], keep: str, room: int
) -> None:
    folder = tmp_path_factory.mktemp("outbox")
    line = Line(folder, keep=keep, max_bytes=room * (FRAME_BYTES + 400))
    in_memory: set[int] = set()
    for what, value in steps:
        if what == "post":
            line.post(value)
        elif what == "wait":
            line.advance(value)
        elif what == "away":
            line.bus.interrupt()
        elif what == "back":
            line.bus.restore()
        else:
            # What a crash takes is known: the log of triggers tells of it at the next start.
            with line.outbox.queue.changed:
                in_memory |= {
                    trigger
                    for item in line.outbox.queue.all()
                    if item.place is None
                    for trigger in range(item.entry.part.trigger, item.entry.last_trigger + 1)
                }
            line.crash()
    line.drain()
    told = line.told()
    triggers = {trigger for _, trigger in told}
    assert triggers | in_memory == set(range(line.next))
    assert line.outbox.buffered == 0
    if not any(what == "crash" for what, _ in steps):
        assert triggers == set(range(line.next))
        assert line.outbox.published + line.outbox.notices == line.next
        firsts = list(dict.fromkeys(trigger for _, trigger in told))
        assert firsts == sorted(firsts)
    line.outbox.close(0.0)
