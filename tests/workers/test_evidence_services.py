"""Archive, audit and dead letters on a real Kafka and Redis, with a real worker between them."""

from __future__ import annotations

import json
import os
import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from threading import Event, Thread

import pytest

from schemas.frame import Frame
from schemas.part import PartKey
from schemas.payload import ImagePayload
from schemas.verdict import Decision
from schemas.wire import decode_verdict, encode
from tests.e2e.inprocess import Call, assert_one_line, command_line
from tests.e2e.processes import Running, wait_until
from tests.e2e.topics import records_of, verdicts_on
from tests.workers.frames import frame
from tests.workers.standin import StandInModel, by_sensors, inspection
from workers.archive.local import LocalStorage
from workers.archive.rows import VERDICT
from workers.archive.verify import Verifier
from workers.bus.base import TopicPartition, TopicSpec
from workers.bus.kafka import KafkaBus
from workers.capture.log import AgentLog
from workers.gate import GateDecision, Journal, Reason
from workers.gate.lines import ACTUATED, OPENED, Entry
from workers.inspection import InspectionWorker
from workers.settings import Settings
from workers.steps.deadletter import ORIGIN, REASON, REPLAYED, TIME
from workers.store import keys
from workers.store.connection import connect
from workers.store.verdicts import VerdictStore

pytestmark = pytest.mark.services


class RealLine:
    """Topics and keys of its own on the real services, and a worker that scores by a stand-in model."""

    def __init__(self, kafka: str, redis_url: str, prefix: str) -> None:
        self.prefix, self.kafka, self.redis_url = prefix, kafka, redis_url
        self.station = f"{prefix}.s1"
        self.bus = KafkaBus(kafka)
        self.client = connect(redis_url)
        self.store = VerdictStore(self.client)
        self.run = time.time_ns()
        two = TopicSpec(partitions=2)
        self.bus.ensure_topics(
            {self.topic(name): two for name in ("frames", "verdicts", "heatmaps")}
            | {self.topic("deadletter"): TopicSpec(partitions=1)}
        )
        self.producer = self.bus.producer()
        for name in ("frames", "deadletter"):
            self.producer.prepare(TopicPartition(self.topic(name), 0), 10.0)

    @property
    def env(self) -> dict[str, str]:
        return {
            "CROSSCHECK_KAFKA": self.kafka,
            "CROSSCHECK_REDIS": self.redis_url,
            "CROSSCHECK_TOPIC_PREFIX": self.prefix,
            "CROSSCHECK_LOG": "json",
        }

    def topic(self, name: str) -> str:
        return f"{self.prefix}.{name}"

    def frame(self, trigger: int, *, deadline_s: float = 3600.0, rgb: bool = True) -> Frame:
        made = frame(trigger, captured_at=time.time_ns(), deadline_s=deadline_s, rgb=rgb)
        return replace(made, part=PartKey(self.station, self.run, trigger))

    def send(self, of: Frame, value: bytes | None = None, partition: int = 0) -> None:
        data = encode(of) if value is None else value
        self.producer.send(self.topic("frames"), data, key=str(of.part).encode(), partition=partition).wait(
            10.0
        )

    def bury(self, of: Frame, value: bytes) -> int:
        """A dead letter as a worker leaves it; returns its offset."""
        headers = (
            (REASON, b"digest"),
            (ORIGIN, f"{self.topic('frames')}/1/4711".encode()),
            (TIME, str(time.time_ns()).encode()),
        )
        _, offset = self.producer.send(
            self.topic("deadletter"), value, key=str(of.part).encode(), partition=0, headers=headers
        ).wait(10.0)
        return offset

    def standing(self, of: Frame) -> Decision | None:
        value = self.store.standing(of.part)
        return None if value is None else decode_verdict(value).decision

    @contextmanager
    def worker(self) -> Iterator[InspectionWorker]:
        """A worker in a thread, for as long as the body runs."""
        settings = Settings(
            kafka=self.kafka, redis=self.redis_url, topic_prefix=self.prefix, group=f"{self.prefix}.workers"
        )
        model = StandInModel(lambda s: by_sensors(s) if s.rgb is not None else inspection(5.0))
        made = InspectionWorker(settings, self.bus, self.store, model)
        stop = Event()
        thread = Thread(target=made.run, args=(stop,))
        thread.start()
        try:
            yield made
        finally:
            stop.set()
            thread.join(20)
            assert not thread.is_alive()

    def close(self) -> None:
        self.bus.close()
        self.client.close()


@pytest.fixture
def line(kafka_bootstrap: str, redis_url: str, kafka_topic: str) -> Iterator[RealLine]:
    made = RealLine(kafka_bootstrap, redis_url, kafka_topic)
    yield made
    made.close()


@pytest.fixture
def call(
    line: RealLine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Iterator[Call]:
    monkeypatch.setenv("COLUMNS", "200")
    for name, value in line.env.items():
        monkeypatch.setenv(name, value)
    with command_line(monkeypatch, capsys, tmp_path) as made:
        yield made


def flipped(of: Frame) -> bytes:
    """The frame's bytes with one bit of its colour image changed on the way."""
    value = bytearray(encode(of))
    assert isinstance(of.rgb, ImagePayload)
    value[bytes(value).index(of.rgb.data) + 40] ^= 1
    return bytes(value)


def test_dead_letters_are_listed_shown_and_replayed_and_no_decision_changes(
    line: RealLine, call: Call, tmp_path: Path
) -> None:
    cut, bad, fresh, good = (line.frame(trigger) for trigger in range(4))
    with line.worker() as worker:
        line.send(cut, encode(cut)[:300])
        line.send(bad, flipped(bad))
        line.send(good)
        wait_until(lambda: worker.answered >= 3, 30.0, "three answers")
        before = {of.part: line.store.standing(of.part) for of in (cut, bad, good)}
        # Two letters that no part was ever decided of: perfect frames with an hour left.
        offset = line.bury(fresh, encode(fresh))

        listed = call("deadletter", "list", "--json", "dead.json")
        assert listed.code == 0
        found = json.loads((tmp_path / "dead.json").read_text())["letters"]
        assert [one["reason"] for one in found] == ["malformed", "digest", "digest"]
        assert [one["part"] for one in found] == [str(of.part) for of in (cut, bad, fresh)]
        assert "malformed" in listed.out
        only = call("deadletter", "list", "--reason", "digest", "--station", "nobody")
        assert "no dead letters" in only.out

        shown = call("deadletter", "show", "1", "--save", "letter.bin")
        assert shown.code == 0
        assert "digest" in shown.out
        assert f"{line.topic('frames')}/0/1" in shown.out
        assert (tmp_path / "letter.bin").read_bytes() == flipped(bad)
        assert_one_line(call("deadletter", "show", "99"), 2, "99", "deadletter list")

        # Redis forgets one of them: what stood is on the result topic.
        line.client.delete(keys.verdict(bad.part))
        assert "would be sent" in call("deadletter", "replay", "1", "--dry-run").out
        assert line.store.standing(bad.part) is None
        replayed = call("deadletter", "replay", "--all", "--reason", "digest")
        assert replayed.code == 0, replayed.out
        assert call("deadletter", "replay", "0").code == 0
        wait_until(lambda: worker.answered >= 6, 30.0, "three more answers")
        again = call("deadletter", "replay", str(offset))
        assert again.code == 0
        assert "sent before" in again.out
    assert {of.part: line.store.standing(of.part) for of in (cut, bad, good)} == before
    assert [line.standing(of) for of in (cut, bad, fresh, good)] == [
        Decision.ERROR,
        Decision.ERROR,
        Decision.STALE,
        Decision.PASS,
    ]
    told = verdicts_on(line.bus, line.topic("verdicts"))
    assert all(len(different) == 1 for different in told.values())
    assert [part for part, (one,) in told.items() if decode_verdict(one).decision is Decision.PASS] == [
        good.part
    ]
    frames = [r for r in records_of(line.bus, line.topic("frames")) if r.header(REPLAYED) is not None]
    assert sorted(r.header(REPLAYED) or b"" for r in frames) == [b"0", b"1", b"2"]
    assert {r.partition for r in frames if r.header(REPLAYED) == b"2"} == {1}
    assert_one_line(call("deadletter", "replay"), 2, "--all")
    assert_one_line(call("deadletter", "replay", "--all"), 2, "--reason")
    assert_one_line(call("deadletter", "replay", "0", "--all", "--reason", "digest"), 2, "--all")


def archive(line: RealLine, folder: Path, name: str) -> Running:
    return Running(
        "archive", "--to", "archive", "--every", "1", "--sample", "0", "--log", "json",
        folder=folder, name=name, env=line.env,
    )  # fmt: skip


def rows_of(folder: Path) -> list[PartKey]:
    verifier = Verifier(LocalStorage(folder / "archive"), 0, 2**62)
    rows = [row.part for _, row in verifier.rows() if row.kind == VERDICT and row.part is not None]
    assert verifier.found.flaws == []
    return rows


@pytest.mark.timeout(180)
def test_a_killed_archive_has_every_verdict_once_and_the_audit_proves_the_line(
    line: RealLine, call: Call, tmp_path: Path
) -> None:
    frames = [line.frame(trigger, rgb=trigger % 3 != 0) for trigger in range(60)]
    running: list[Running] = []
    try:
        with line.worker() as worker, AgentLog(tmp_path / "triggers.jsonl") as log:
            running.append(archive(line, tmp_path, "archive-0"))
            for number, of in enumerate(frames):
                log.trigger(of.part, of.captured_at)
                line.send(of, partition=number % 2)
                if number == 30:
                    wait_until(lambda: worker.answered >= 20, 30.0, "answers")
                    wait_until(
                        lambda: any(e["event"] == "archive.filed" for e in running[-1].events()),
                        60.0,
                        "a chunk",
                    )
                    os.kill(running[-1].process.pid, signal.SIGKILL)
                    running[-1].process.wait(10)
                    running.append(archive(line, tmp_path, f"archive-{number}"))
            wait_until(lambda: worker.answered >= 60, 30.0, "sixty answers")
        wait_until(lambda: len(rows_of(tmp_path)) >= 60, 60.0, "sixty rows", every=0.5)
        running[-1].signal(signal.SIGINT)
        assert running[-1].wait(20).code == 0
    finally:
        for one in running:
            one.stop()
    assert sorted(rows_of(tmp_path)) == sorted(of.part for of in frames)
    kept = {p.parent.name + "/" + p.name for p in (tmp_path / "archive").glob("shifts/*/images/*/*/*")}
    decided = {of.part: line.standing(of) or Decision.MISSING for of in frames}
    held = [of for of in frames if decided[of.part] is not Decision.PASS]
    assert {decided[of.part] for of in held} >= {Decision.REJECT}
    assert kept == {
        f"{of.part.run}/{of.part.trigger}-{name}"
        for of in held
        for name in ("depth.delta16", "rgb.png")
        if name.startswith("depth") or of.rgb is not None
    }
    with Journal(tmp_path / "gate.jsonl", sync=False) as journal:
        for of in frames:
            decision = decided[of.part]
            made = GateDecision(of.part, decision is Decision.PASS, decision, Reason(decision.lower()))
            journal.append([Entry(made, of.captured_at, of.deadline, of.captured_at)])
            if made.opened:
                journal.note(of.part, ACTUATED, OPENED)
    words = ("audit", "--triggers", "triggers.jsonl", "--journal", "gate.jsonl", "--json", "audit.json")
    until = ("--to", "2100-01-01")
    for sources in (
        ("--archive", "archive"),
        (),
        ("--redis", line.redis_url),
        ("--archive", "archive", "--kafka", line.kafka, "--redis", line.redis_url),
    ):
        done = call(*words, *until, *sources)
        assert done.code == 0, done.out + done.err
        told = json.loads((tmp_path / "audit.json").read_text())
        assert (told["triggers"], told["decisions"], told["verdicts"]) == (60, 60, 60)


def test_the_archive_says_at_once_what_is_wrong(call: Call, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    assert_one_line(call("archive", "--to", "file"), 2, "file")
    assert_one_line(call("archive", "--to", "a", "--format", "csv"), 2, "csv")
    assert_one_line(call("archive", "--to", "a", "--kafka", "127.0.0.1:1"), 3, "127.0.0.1:1")
