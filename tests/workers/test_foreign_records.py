"""A worker on a real broker whose topic holds what other people's producers, and bad disks, leave there."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import confluent_kafka
import fakeredis
import pytest

from compose.services import Services
from schemas.frame import Frame
from schemas.verdict import Decision, Verdict
from schemas.wire import decode_verdict, encode
from tests.contract import foreign
from tests.workers.frames import frame
from tests.workers.standin import StandInModel
from workers.bus.base import TopicPartition, TopicSpec
from workers.bus.kafka import KafkaBus
from workers.deadletters import letters
from workers.inspection import InspectionWorker
from workers.scan import records
from workers.settings import Settings
from workers.store.verdicts import VerdictStore

pytestmark = [pytest.mark.services, pytest.mark.timeout(240)]

CODECS = ("gzip", "lz4", "snappy", "zstd")


def of_now(trigger: int) -> Frame:
    now = time.time_ns()
    return replace(frame(trigger, captured_at=now), deadline=now + 3600 * 10**9)


def by_librdkafka(bootstrap: str, topic: str, frames: list[Frame], codec: str) -> None:
    """All of them in one batch, as a C, C++ or Go agent would send it."""
    producer = confluent_kafka.Producer(
        {"bootstrap.servers": bootstrap, "compression.type": codec, "linger.ms": 500}
    )
    for each in frames:
        # Something in it compresses: a batch that gets no smaller is sent as it is.
        headers: list[tuple[str, str | bytes | None]] = [("padding", b"0" * 4000)]
        producer.produce(topic, encode(each), key=str(each.part).encode(), partition=0, headers=headers)
    assert producer.flush(20) == 0


class Line:
    """A worker in this process, on topics of its own."""

    def __init__(self, bootstrap: str, prefix: str) -> None:
        self.bootstrap, self.prefix = bootstrap, prefix
        self.bus = KafkaBus(bootstrap)
        names = ("frames", "verdicts", "heatmaps", "deadletter", "heartbeats", "control")
        self.bus.ensure_topics({f"{prefix}.{name}": TopicSpec(partitions=1) for name in names})
        foreign.keep_codecs(bootstrap, f"{prefix}.frames")
        self.frames = f"{prefix}.frames"

    def verdicts(self) -> list[Verdict]:
        return [decode_verdict(record.value) for record in records(self.bus, f"{self.prefix}.verdicts")]

    def work(self, done: Callable[[InspectionWorker], bool]) -> None:
        settings = Settings(
            worker="w1", topic_prefix=self.prefix, group=self.prefix, kafka=self.bootstrap, max_delay_ms=0
        )
        store = VerdictStore(fakeredis.FakeRedis())
        worker = InspectionWorker(settings, self.bus, store, StandInModel())
        try:
            until = time.monotonic() + 120
            while not done(worker):
                assert time.monotonic() < until, f"{worker.answered} answered"
                worker.step()
        finally:
            worker.close()


@pytest.fixture
def line(kafka_bootstrap: str, kafka_topic: str) -> Line:
    return Line(kafka_bootstrap, kafka_topic)


def lies_in(services: Services, topic: str) -> Path:
    (log,) = services.folder.rglob(f"{topic}-0/*.log")
    return log


def change(log: Path, before: bytes, after: bytes, *, at: int = 0) -> None:
    content = log.read_bytes()
    found = content.index(before) + at
    with log.open("r+b") as file:
        file.seek(found)
        file.write(after)


def test_batches_of_every_codec_are_read_and_what_cannot_be_is_named_and_passed_over(
    line: Line, services: Services
) -> None:
    trigger = 0
    for codec in CODECS:
        by_librdkafka(line.bootstrap, line.frames, [of_now(trigger), of_now(trigger + 1)], codec)
        trigger += 2
    named = of_now(trigger)
    headers = [[("sound", b"1"), (foreign.RawName(), b"2")]]
    foreign.send(
        line.bootstrap, line.frames, [encode(named)], keys=[str(named.part).encode()], headers=headers
    )
    # Two more that lie on the disk and are changed there: three parts, of which nobody can tell any more.
    spoilt = [of_now(trigger + 1), of_now(trigger + 2), of_now(trigger + 3)]
    keys: list[bytes | None] = [str(each.part).encode() for each in spoilt]
    foreign.send(line.bootstrap, line.frames, [encode(each) for each in spoilt], keys=keys)
    last = of_now(trigger + 4)
    by_librdkafka(line.bootstrap, line.frames, [last], "none")
    assert str(spoilt[1].part).encode() in lies_in(services, line.frames).read_bytes()
    change(lies_in(services, line.frames), str(spoilt[1].part).encode(), b"\xff\xfe")

    place = TopicPartition(line.frames, 0)
    line.work(lambda worker: (worker._consumer.committed(place) or 0) == trigger + 5)

    decided = {verdict.part.trigger: verdict for verdict in line.verdicts()}
    assert sorted(decided) == list(range(trigger + 5))
    assert {decided[each].decision for each in (*range(trigger), trigger + 4)} == {Decision.PASS}
    assert decided[trigger].decision is Decision.ERROR
    lost = [decided[each] for each in range(trigger + 1, trigger + 4)]
    assert {verdict.decision for verdict in lost} == {Decision.MISSING}
    assert {verdict.reason for verdict in lost} == {"gap: 3 records could not be read"}
    one, batch = letters(line.bus, f"{line.prefix}.deadletter")
    assert (one.reason, one.origin, one.part) == ("undecodable", (place, trigger), named.part)
    assert one.size == len(encode(named))
    assert (batch.reason, batch.origin, batch.until) == ("undecodable", (place, trigger + 1), trigger + 3)
    assert "checksum is wrong" in batch.error
    assert batch.size > sum(len(encode(each)) for each in spoilt) - 100
    line.bus.close()


@pytest.mark.parametrize(("at", "byte"), [(16, b"\x09"), (11, b"\x05")], ids=["format", "length"])
def test_a_batch_with_a_broken_head_is_named_and_passed_over(
    line: Line, services: Services, at: int, byte: bytes
) -> None:
    """The broker itself cannot read past a length that is wrong: it answers CORRUPT_MESSAGE."""
    frames = [of_now(trigger) for trigger in range(3)]
    for each in frames:
        by_librdkafka(line.bootstrap, line.frames, [each], "none")
    log = lies_in(services, line.frames)
    content = log.read_bytes()
    second = 12 + int.from_bytes(content[8:12], "big")
    with log.open("r+b") as file:
        if at == 11:
            file.seek(second + 8)
            file.write(b"\0\0\0")
        file.seek(second + at)
        file.write(byte)
    place = TopicPartition(line.frames, 0)
    line.work(lambda worker: (worker._consumer.committed(place) or 0) == 3)
    decided = {verdict.part.trigger: verdict.decision for verdict in line.verdicts()}
    assert decided == {0: Decision.PASS, 1: Decision.MISSING, 2: Decision.PASS}
    (letter,) = letters(line.bus, f"{line.prefix}.deadletter")
    assert letter.origin == (place, 1)
    line.bus.close()
