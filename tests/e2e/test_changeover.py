"""The PLC changes the product on a line that runs: real PLC server, Kafka, Redis, processes and bundles."""

from __future__ import annotations

import itertools
import signal
import time
from collections.abc import Iterator, Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import pytest

from inference.datasets.synthetic import SyntheticDataset
from inference.sample import Sample
from inference.teach import teach
from inference.teach_settings import TeachSettings
from schemas.part import PartKey
from schemas.payload import ColourEncoding
from schemas.verdict import Decision, Verdict
from schemas.wire import decode_verdict
from tests.e2e.limits import hold_none_between
from tests.e2e.processes import Running, wait_until
from tests.workers.plc import COUNTER, UNIT, Plc
from workers.bus.kafka import KafkaBus
from workers.capture import AgentLog, Publisher
from workers.gate import Audit, Reason, audit
from workers.store.connection import connect
from workers.store.verdicts import VerdictStore
from workers.topics import StationMap, TopicPlan

NUMBER, ACK = COUNTER, COUNTER + 1
NUMBERS = {"cap": 1, "lid": 2}
EVERY_S = 0.08
MARGIN_S = 0.05
TRAVEL_S = 8.0
"""Long enough that no part is late on a machine that does ten other things."""

pytestmark = [pytest.mark.services, pytest.mark.timeout(240)]


@dataclass(frozen=True, slots=True)
class Story:
    """What is left of a line whose product was changed.

    Attributes:
        sent: parts, and when each was captured; nanoseconds since the epoch.
        changed: before and after the PLC's register was written.
        ready: when the PLC had our answer for the new product.
        verdicts: what stands in Redis.
        audit: the agent's log against the gate's journal.
    """

    sent: Mapping[PartKey, int]
    changed: tuple[int, int]
    ready: int
    verdicts: Mapping[PartKey, Verdict]
    audit: Audit

    def opened(self, part: PartKey) -> bool:
        return part in self.audit.opened

    def since(self, moment: int) -> list[PartKey]:
        return [part for part, at in self.sent.items() if at > moment]


def normals(number: int, *, validation: int = 0) -> SyntheticDataset:
    return SyntheticDataset(train=16, validation=validation, size=96, lot_size=4, seed=number, product=number)


def tell(folder: Path, kafka: str, redis_url: str, prefix: str) -> Story:
    models, station, log = folder / "models", f"{prefix}.s1", folder / "triggers.jsonl"
    shown: dict[str, Iterator[Sample]] = {}
    for product, number in NUMBERS.items():
        settings = TeachSettings(bank_size=64, folds=2)
        teach(normals(number, validation=8), models, name=product, settings=settings)
        shown[product] = itertools.cycle([item.sample() for item in normals(number).train()])
    stations = StationMap({station: 0})
    env = {
        "CROSSCHECK_KAFKA": kafka,
        "CROSSCHECK_REDIS": redis_url,
        "CROSSCHECK_TOPIC_PREFIX": prefix,
        "CROSSCHECK_GROUP": f"{prefix}.workers",
        "CROSSCHECK_LOG": "json",
    }
    with ExitStack() as stack:
        bus = KafkaBus(kafka)
        stack.callback(bus.close)
        TopicPlan(stations, frame_bytes=200_000, prefix=prefix).apply(bus)
        store = VerdictStore(client := connect(redis_url))
        stack.callback(client.close)
        plc = stack.enter_context(Plc())
        publisher = stack.enter_context(
            Publisher(
                bus,
                station=station,
                # The agent is not told of the change: the PLC's word counts.
                product="cap",
                station_map=stations,
                topic=f"{prefix}.frames",
                deadline_s=TRAVEL_S,
                colour=ColourEncoding.PNG,
                log=AgentLog(log),
            )
        )

        def run(*words: str) -> Running:
            process = Running(*words, folder=folder, name=words[0], env=env)
            stack.callback(process.stop)
            return process

        sent: dict[PartKey, int] = {}

        def send(product: str) -> None:
            sample = next(shown[product])
            at = time.time_ns()
            part = publisher.next_part(at)
            publisher.publish(part, sample.rgb, sample.depth)
            sent[part] = at
            time.sleep(EVERY_S)

        hold_none_between(bus, f"{prefix}.control", models)
        plc.count(NUMBERS["cap"])
        run("worker", "--name", f"{prefix}.w1", "--models", str(models), "--threads", "1")
        run("changeover", "--station", station, "--margin-ms", str(MARGIN_S * 1e3), "--map", "1=cap,2=lid",
            "--plc", f"modbus://127.0.0.1:{plc.port}/{UNIT}?register={NUMBER}&ack={ACK}&timeout_ms=900",
        )  # fmt: skip
        gate = run(
            "gate", "--station", station, "--parts", str(log), "--travel", str(TRAVEL_S), "--plc-product"
        )
        wait_until(lambda: plc.register(ACK) == NUMBERS["cap"], 120.0, "the answer for the first product")
        for _ in range(12):
            send("cap")
        before = time.time_ns()
        plc.count(NUMBERS["lid"])
        changed = (before, time.time_ns())
        until = time.monotonic() + 60.0
        while plc.register(ACK) != NUMBERS["lid"]:
            assert time.monotonic() < until, "the workers never had the new product"
            send("lid")
        ready = time.time_ns()
        for _ in range(12):
            send("lid")
        publisher.flush()

        def decided() -> Audit:
            return audit(log, folder / "gate.jsonl", station=station)

        wait_until(
            lambda: (folder / "gate.jsonl").exists() and not decided().lost, 30.0, "every decision", 0.2
        )
        gate.signal(signal.SIGTERM)
        assert gate.wait(20.0).code == 0
        found = {part: decode_verdict(store.standing(part) or b"") for part in sent}
        return Story(sent, changed, ready, found, decided())


@pytest.fixture(scope="module")
def story(kafka_bootstrap: str, redis_url: str, tmp_path_factory: pytest.TempPathFactory) -> Story:
    """The line, run once."""
    return tell(tmp_path_factory.mktemp("changeover"), kafka_bootstrap, redis_url, f"cho-{time.time_ns()}")


def test_every_part_ends_in_one_decision(story: Story) -> None:
    audit = story.audit
    assert audit.triggers == audit.decisions == len(story.sent)
    assert (audit.lost, audit.duplicates, audit.unknown) == ((), (), ())


def test_parts_before_the_change_are_judged_and_passed_as_the_old_product(story: Story) -> None:
    parts = [part for part, at in story.sent.items() if at < story.changed[0] - 4 * MARGIN_S * 1e9]
    assert {story.verdicts[part].bundle for part in parts} == {"cap/1"}
    assert sum(map(story.opened, parts)) > len(parts) / 2


def test_once_the_plc_has_our_answer_parts_are_judged_and_passed_as_the_new_product(story: Story) -> None:
    parts = story.since(story.ready)
    assert {(v.product, v.bundle) for part in parts if (v := story.verdicts[part])} == {("lid", "lid/1")}
    assert sum(map(story.opened, parts)) > len(parts) / 2


def test_no_part_after_the_change_is_opened_by_a_verdict_of_the_old_product(story: Story) -> None:
    for part in story.since(story.changed[1]):
        if story.opened(part):
            assert story.verdicts[part].product == "lid"


def test_parts_in_between_are_errors_of_their_own_kind_and_none_is_opened(story: Story) -> None:
    low, high = story.changed[0] - MARGIN_S * 1e9 / 2, story.changed[1] + MARGIN_S * 1e9 / 2
    between = [part for part, at in story.sent.items() if low <= at <= high]
    assert between
    assert not any(map(story.opened, between))
    said = {
        (verdict.decision, (verdict.reason or "").partition(":")[0])
        for verdict in map(story.verdicts.__getitem__, between)
    }
    # A worker that answered before it had heard of the change judged by the old bundle; the gate knew better.
    reasons = {story.audit.decided[part].decision.reason for part in between}
    assert said <= {(Decision.ERROR, "changeover"), (Decision.PASS, ""), (Decision.REJECT, "")}
    assert reasons <= {Reason.ERROR, Reason.PRODUCT, Reason.REJECT}
