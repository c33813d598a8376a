"""The control topic: read to its end before anything is answered, then followed beside the loop."""

from __future__ import annotations

import threading
from pathlib import Path
from typing import Any

import pytest
import structlog

from schemas.command import Action, Command
from schemas.part import PartKey
from schemas.verdict import Decision, Mode
from schemas.wire import encode
from tests.e2e.processes import wait_until
from tests.workers.frames import frame
from tests.workers.serving.commanded import (
    CONTROL,
    AtOnce,
    ByHand,
    CommandedLine,
    VersionModel,
    put_bundle,
    score_of,
)
from workers.bus.base import Bus, TopicSpec
from workers.bus.kafka import KafkaBus
from workers.bus.memory import MemoryBus
from workers.clock import ManualClock
from workers.errors import BusError
from workers.inspection import InspectionWorker
from workers.registry import Registry
from workers.registry.entry import digest_of
from workers.serving.activation import Activations
from workers.steps.control import BEGIN_S, Control, ControlListener, ControlReader
from workers.steps.listening import POLL_S


@pytest.fixture
def line(tmp_path: Path) -> CommandedLine:
    """A line with one product, version 2."""
    put_bundle(tmp_path, "widget/2")
    return CommandedLine(tmp_path)


def hear(line: CommandedLine, worker: Any) -> None:
    """Let the worker read the topic once more."""
    line.clock.advance(POLL_S)
    worker.step()


def test_a_worker_without_a_control_topic_does_not_begin_and_names_the_command_that_makes_it(
    line: CommandedLine,
) -> None:
    line.bus.delete_topic(CONTROL)
    with pytest.raises(BusError, match=r"inspection\.control does not exist.*crosscheck topics"):
        line.commanded()


def test_a_topic_whose_end_does_not_come_stops_the_start_within_its_bound(line: CommandedLine) -> None:
    line.activate("widget/2")
    line.bus.interrupt()
    began = line.clock.monotonic()
    with pytest.raises(BusError, match=r"inspection\.control: not read to its end"):
        line.commanded()
    assert line.clock.monotonic() - began <= BEGIN_S + 2 * POLL_S


def test_what_cannot_be_read_is_told_and_does_nothing(line: CommandedLine) -> None:
    line.activate("widget/2")
    with structlog.testing.capture_logs() as logs:
        line.producer.send(CONTROL, b"no message", key=b"activate/widget", partition=0).wait(1)
        line.tell(Action.THRESHOLD, product="widget", value="FUSED=0.001@1")
        worker = line.commanded()
        assert worker._control.thresholds.settings.keys() == {("widget", Mode.FUSED)}
        hear(line, worker)
    assert [entry["event"] for entry in logs if entry["log_level"] == "error"] == [
        "worker.command_unreadable"
    ]


def test_a_drain_that_lies_there_from_before_stops_nobody_and_a_new_one_is_obeyed(
    line: CommandedLine,
) -> None:
    line.tell(Action.DRAIN)
    worker = line.commanded()
    hear(line, worker)
    assert not worker._control.draining
    line.tell(Action.DRAIN, target="another")
    hear(line, worker)
    assert not worker._control.draining
    line.tell(Action.DRAIN, target="w1")
    hear(line, worker)
    assert worker._control.draining


def test_a_worker_told_to_drain_answers_what_it_has_read_and_leaves(line: CommandedLine) -> None:
    worker = line.commanded()
    hear(line, worker)
    sent = [frame(trigger, captured_at=line.clock.now()) for trigger in range(3)]
    for one in sent:
        line.send(one)
    line.tell(Action.DRAIN)
    line.clock.advance(POLL_S)
    worker.run(threading.Event())
    assert [line.standing(one.part).decision for one in sent] == [Decision.PASS] * 3
    assert line.committed() == 3


def test_a_broker_that_is_away_leaves_what_is_in_service_and_commands_come_when_it_is_back(
    line: CommandedLine,
) -> None:
    worker = line.commanded()
    put_bundle(line.models, "widget/1")
    line.bus.interrupt()
    hear(line, worker)
    line.bus.restore()
    line.activate("widget/1")
    for _ in range(3):
        hear(line, worker)
    sent = frame(1, captured_at=line.clock.now())
    line.send(sent)
    line.turn(worker, lambda: worker.answered == 1)
    assert line.standing(sent.part).bundle == "widget/1"


def test_a_topic_made_anew_is_read_from_its_begin_again(line: CommandedLine) -> None:
    for _ in range(3):
        line.activate("widget/2")
    worker = line.commanded()
    hear(line, worker)
    put_bundle(line.models, "widget/5")
    line.bus.delete_topic(CONTROL)
    line.bus.ensure_topics({CONTROL: TopicSpec(partitions=1, compacted=True)})
    line.activate("widget/5")
    for _ in range(4):
        hear(line, worker)
    assert worker._control.activations is not None
    assert worker._control.activations.models.bundles == ("widget/5",)


def test_a_drain_on_a_topic_made_anew_is_obeyed(line: CommandedLine) -> None:
    for _ in range(3):
        line.activate("widget/2")
    worker = line.commanded()
    hear(line, worker)
    line.bus.delete_topic(CONTROL)
    line.bus.ensure_topics({CONTROL: TopicSpec(partitions=1, compacted=True)})
    line.tell(Action.DRAIN, target="w1")
    for _ in range(4):
        hear(line, worker)
    assert worker._control.draining


@pytest.mark.parametrize("times", [1, 2])
def test_what_is_activated_while_a_worker_loads_its_bundles_judges_its_first_part(
    line: CommandedLine, times: int
) -> None:
    versions = ["3", "4"][:times]
    for version in versions:
        put_bundle(line.models, f"widget/{version}")
    line.activate("widget/2")
    told: list[tuple[str, ...]] = []

    def slow(path: Path) -> VersionModel:
        if versions:
            line.activate(f"widget/{versions.pop(0)}")
        return VersionModel(path)

    activations = Activations(
        Registry(line.models), slow, clock=line.clock, executor=ByHand(), scout=AtOnce()
    )
    control = Control("w1", ControlListener(line.bus, CONTROL, line.clock), activations)
    control.begin(announce=lambda report: told.append(report.bundles))
    worker = line.worker(activations.models, control=control)
    sent = frame(1, captured_at=line.clock.now())
    line.send(sent)
    line.turn(worker, lambda: worker.answered == 1)
    newest = f"widget/{times + 2}"
    assert line.standing(sent.part).bundle == newest
    # It is known to be there before it reads what holds for the last time: who sends a command waits for it.
    assert [one[0].partition("@")[0] for one in told] == [f"widget/{n}" for n in range(2, times + 3)]


def test_what_cannot_be_had_of_what_is_activated_while_a_worker_loads_leaves_what_it_has(
    line: CommandedLine,
) -> None:
    line.activate("widget/2")
    late = ["widget/9", "lid/9"]

    def slow(path: Path) -> VersionModel:
        while late:
            line.activate(late.pop())
        return VersionModel(path)

    activations = Activations(
        Registry(line.models), slow, clock=line.clock, executor=AtOnce(), scout=AtOnce()
    )
    Control("w1", ControlListener(line.bus, CONTROL, line.clock), activations).begin()
    assert activations.models.bundles == ("widget/2",)
    assert sorted(one.partition(":")[0] for one in activations.refused) == ["lid/9", "widget/9"]


def test_a_threshold_holds_for_its_version_and_the_verdict_shows_it(line: CommandedLine) -> None:
    put_bundle(line.models, "widget/1")
    worker = line.commanded()
    score = score_of("widget/2")
    line.tell(Action.THRESHOLD, product="widget", value=f"FUSED={score / 2!r}@2")
    hear(line, worker)

    def verdict(trigger: int) -> tuple[Decision, float | None]:
        sent = frame(trigger, captured_at=line.clock.now())
        line.send(sent)
        line.turn(worker, lambda: line.store.standing(sent.part) is not None)
        found = line.standing(sent.part)
        return found.decision, found.threshold

    assert verdict(1) == (Decision.REJECT, score / 2)
    line.activate("widget/1", previous=("2",))
    hear(line, worker)
    worker.step()
    assert verdict(2) == (Decision.PASS, 1.0)
    line.activate("widget/2")
    hear(line, worker)
    worker.step()
    assert verdict(3) == (Decision.REJECT, score / 2)
    line.tell(Action.THRESHOLD, product="widget", value="FUSED=taught@2")
    hear(line, worker)
    assert verdict(4) == (Decision.PASS, 1.0)


def test_a_confirmed_part_counts_from_the_next_batch_and_at_a_worker_that_begins_later(
    line: CommandedLine,
) -> None:
    worker = line.commanded()
    digest = digest_of(line.models / "widget" / "2")

    def pass_limit(by: InspectionWorker, trigger: int) -> float | None:
        sent = frame(trigger, captured_at=line.clock.now())
        line.send(sent)
        line.turn(by, lambda: line.store.standing(sent.part) is not None)
        return line.standing(sent.part).pass_limit

    def say(value: str) -> None:
        line.tell(
            Action.CONFIRM, product="widget", target=str(PartKey("s1", 1, 99)), value=value, digest=digest
        )

    assert pass_limit(worker, 1) == 1.0
    say("FUSED=0.7@2")
    hear(line, worker)
    assert pass_limit(worker, 2) == 0.7
    worker.close()
    later = line.commanded(name="w2")
    assert pass_limit(later, 3) == 0.7
    say("FUSED=withdrawn@2")
    hear(line, later)
    assert pass_limit(later, 4) == 1.0


def test_a_product_change_decides_whose_bundle_judges_and_nothing_passes_in_between(
    line: CommandedLine,
) -> None:
    put_bundle(line.models, "lid/1")
    worker = line.commanded()
    now = line.clock.now()
    since, at = now + 10**9, now + 2 * 10**9
    line.tell(Action.PRODUCT, target="s1", value="lid", since=since, at=at)
    line.clock.advance(3.5)
    hear(line, worker)
    shots = {since - 1: "widget/2", since: None, at - 1: None, at: "lid/1", at + 10**9: "lid/1"}
    sent = [frame(n, captured_at=moment, product="widget") for n, moment in enumerate(shots)]
    other = frame(50, station="s2", captured_at=at, product="widget")
    for one in (*sent, other):
        line.send(one)
    line.turn(worker, lambda: worker.answered == len(sent) + 1)
    for one, bundle in zip(sent, shots.values(), strict=True):
        verdict = line.standing(one.part)
        if bundle is None:
            assert (verdict.decision, verdict.score) == (Decision.ERROR, None)
            assert (verdict.reason or "").startswith("changeover: ")
        else:
            assert (verdict.decision, verdict.bundle) == (Decision.PASS, bundle)
            assert verdict.product == bundle.split("/")[0]
    assert line.standing(other.part).bundle == "widget/2"
    line.clock.advance(2.0)
    worker.step()
    assert line.beat()["due"] == f"s1:{at}"


def test_a_product_that_no_frame_could_name_is_not_heard_and_stops_nobody(line: CommandedLine) -> None:
    worker = line.commanded()
    told = Command(id="c", action=Action.PRODUCT, issued_at=1, target="s1", value="lid-")
    # As a string of 200 characters: a sender of another make may write it.
    too_long = encode(told).replace(b"\xa4lid-", b"\xd9\xc8" + b"l" * 200)
    assert len(too_long) == len(encode(told)) + 197
    line.producer.send(CONTROL, too_long, key=told.key, partition=0).wait(1)
    hear(line, worker)
    sent = frame(1, captured_at=line.clock.now(), product="widget")
    line.send(sent)
    line.turn(worker, lambda: worker.answered == 1)
    assert line.standing(sent.part).decision is Decision.PASS


def test_a_change_that_was_told_before_a_worker_began_holds_for_it_too(line: CommandedLine) -> None:
    put_bundle(line.models, "lid/1")
    line.tell(Action.PRODUCT, target="s1", value="lid")
    worker = line.commanded()
    sent = frame(1, captured_at=line.clock.now(), product="widget")
    line.send(sent)
    line.turn(worker, lambda: worker.answered == 1)
    assert line.standing(sent.part).bundle == "lid/1"


@pytest.mark.parametrize("kafka", [False, pytest.param(True, marks=pytest.mark.services)])
def test_a_reader_that_lost_its_broker_goes_on_where_it_was(
    kafka: bool, request: pytest.FixtureRequest, kafka_topic: str
) -> None:
    bus: Bus
    bus = KafkaBus(request.getfixturevalue("kafka_bootstrap")) if kafka else MemoryBus(ManualClock())
    clock = ManualClock()
    bus.ensure_topics({kafka_topic: TopicSpec(partitions=1, compacted=True)})
    producer = bus.producer()

    def tell(number: int) -> None:
        command = Command(id=f"c{number}", action=Action.DRAIN, issued_at=number, target=f"w{number}")
        producer.send(kafka_topic, encode(command), key=command.key, partition=0).wait(10)

    reader = ControlReader(bus, kafka_topic, clock)
    assert reader.read_all(10) == []
    reader.close()
    tell(1)
    tell(2)
    found = reader.read_all(10)
    assert [(heard.command.id, heard.fresh) for heard in found] == [("c1", True), ("c2", True)]
    reader.close()
    tell(3)
    assert [heard.command.id for heard in reader.read_all(10)] == ["c3"]
    late = ControlReader(bus, kafka_topic, clock)
    assert [(heard.command.id, heard.fresh) for heard in late.read_all(10)] == [
        ("c1", False),
        ("c2", False),
        ("c3", False),
    ]
    late.close()
    reader.close()
    bus.close()


@pytest.mark.services
def test_on_kafka_a_thread_follows_the_topic_beside_the_loop(
    kafka_bootstrap: str, kafka_topic: str, tmp_path: Path
) -> None:
    put_bundle(tmp_path, "widget/1")
    put_bundle(tmp_path, "widget/2")
    bus = KafkaBus(kafka_bootstrap)
    bus.ensure_topics({kafka_topic: TopicSpec(partitions=1, compacted=True)})
    producer = bus.producer()

    def activate(version: str) -> None:
        command = Command(id="c", action=Action.ACTIVATE, issued_at=1, product="widget", value=version)
        producer.send(kafka_topic, encode(command), key=command.key, partition=0).wait(10)

    activate("1")
    activations = Activations(Registry(tmp_path), VersionModel, executor=AtOnce(), scout=AtOnce())
    control = Control("w1", ControlListener(bus, kafka_topic), activations)
    control.begin()
    assert activations.models.bundles == ("widget/1",)
    control.start()
    activate("2")

    def taken() -> bool:
        control.turn()
        return activations.models.bundles == ("widget/2",)

    wait_until(taken, 15.0, "the second bundle")
    control.close()
    assert "control" not in [thread.name for thread in threading.enumerate()]
    bus.close()
