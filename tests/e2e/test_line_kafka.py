"""The whole line over a real Kafka and a real Redis, each command typed as a user would type it."""

from __future__ import annotations

import json
import os
import signal
import socket
import time
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from inference.datasets.surface import SurfaceDataset, write_surface_layout
from inference.datasets.synthetic import SyntheticDataset
from schemas.frame import Frame
from schemas.images import encode_colour
from schemas.part import PartKey
from schemas.verdict import Decision, Mode, Verdict
from schemas.wire import decode_heatmap, decode_verdict, encode
from tests.e2e.inprocess import assert_one_line, command_line
from tests.e2e.processes import Done, Running, crosscheck, wait_until
from tests.e2e.topics import records_of, verdicts_on
from tests.workers.telemetry.scraping import Sample, health, key, scrape
from workers.bus.base import Record, TopicPartition
from workers.bus.kafka import KafkaBus
from workers.capture.log import AgentLog
from workers.gate import Audit, audit
from workers.settings import Settings
from workers.store.connection import connect
from workers.store.verdicts import VerdictStore
from workers.topics import StationMap

PRODUCT = "cap"
SURFACE = os.environ.get("CROSSCHECK_SURFACE")

pytestmark = [pytest.mark.services, pytest.mark.timeout(600)]


@dataclass(frozen=True, slots=True)
class Outcome:
    """What is left of a line that has run.

    Attributes:
        folder: where the commands ran.
        sent: parts of the agent, by name of their picture.
        truncated: the part whose message was cut, and the bytes that lay on the frames topic.
        standing: bytes of the verdicts in Redis.
        on_topic: the different verdicts of each part on the result topic.
        heatmaps: encoded heatmaps in Redis.
        ready: what worker and gate said of their readiness: HTTP status, and each check.
        numbers: what the worker told Prometheus after the last part.
    """

    folder: Path
    commands: dict[str, Done]
    capture: dict[str, Any]
    gate: dict[str, Any]
    stages: dict[str, Any]
    sent: dict[str, PartKey]
    truncated: tuple[PartKey, bytes]
    standing: dict[PartKey, bytes | None]
    on_topic: dict[PartKey, set[bytes]]
    dead: list[Record]
    heatmaps: dict[PartKey, bytes]
    heatmaps_on_topic: int
    audit: Audit
    ready: dict[str, tuple[int, dict[str, Any]]]
    numbers: dict[Sample, float]

    def verdict(self, part: PartKey) -> Verdict:
        """The verdict that stands."""
        value = self.standing[part]
        assert value is not None, f"part {part} has no verdict in Redis"
        return decode_verdict(value)


def read_json(path: Path) -> dict[str, Any]:
    """What a command wrote with --json."""
    return dict(json.loads(path.read_text()))


def listens(process: Running) -> str:
    """Where a process answers Prometheus, by its own log."""
    return next(str(e["at"]) for e in process.events() if e["event"] == "metrics.listening")


def answered(numbers: dict[Sample, float]) -> float:
    """Verdicts, over all labels."""
    return sum(value for (name, _), value in numbers.items() if name == "crosscheck_verdicts_total")


def triggers_of(log: Path) -> dict[str, PartKey]:
    """Part by the name of its picture, from the agent's log."""
    lines = [json.loads(line) for line in log.read_text().splitlines()]
    return {line["name"]: PartKey.parse(line["part"]) for line in lines if line["event"] == "trigger"}


def inject_truncated(bus: KafkaBus, settings: Settings, log: Path, like: PartKey, partition: int) -> Any:
    """A part whose message lost its second half on the way; the line saw the part all the same."""
    part = PartKey(like.station, like.run, like.trigger + 1)
    at = time.time_ns()
    sample = SyntheticDataset(train=1, size=192).train()[0].sample()
    assert sample.rgb is not None
    frame = Frame(
        part=part,
        product=PRODUCT,
        captured_at=at,
        deadline=at + 60 * 10**9,
        rgb=encode_colour(sample.rgb),
        depth=None,
        depth_scale=None,
        expects=("rgb", "depth"),
    )
    whole = encode(frame)
    cut = whole[: len(whole) // 2]
    with AgentLog(log) as agent:
        agent.trigger(part, at, {"name": "truncated"})
    producer = bus.producer()
    producer.prepare(TopicPartition(settings.topic("frames"), partition), 10.0)
    producer.send(settings.topic("frames"), cut, key=str(part).encode(), partition=partition).wait(10.0)
    producer.close()
    return part, cut


def run_line(
    folder: Path,
    data: Path,
    *,
    kafka: str,
    redis_url: str,
    prefix: str,
    rate: float,
    travel: float,
    teach_timeout: float = 120.0,
) -> Outcome:
    """Teach, make topics, start worker and gate, replay the test split, cut one message, stop."""
    env = {
        "CROSSCHECK_KAFKA": kafka,
        "CROSSCHECK_REDIS": redis_url,
        "CROSSCHECK_TOPIC_PREFIX": prefix,
        "CROSSCHECK_GROUP": f"{prefix}.workers",
        "CROSSCHECK_LOG": "json",
        "CROSSCHECK_METRICS": "127.0.0.1:0",
    }
    settings = Settings(kafka=kafka, redis=redis_url, topic_prefix=prefix, group=f"{prefix}.workers")
    station = f"{prefix}.line"
    parts = len(SurfaceDataset(data).test())
    commands = {
        "teach": crosscheck(
            "teach", PRODUCT, "--data", str(data), "--out", "models", "--json", "teach.json",
            folder=folder, env=env, timeout=teach_timeout,
        ),
        "topics": crosscheck("topics", "--stations", station, "--frame-kb", "500", folder=folder, env=env),
    }  # fmt: skip
    for name, done in commands.items():
        assert done.code == 0, f"{name}: {done.err[-2000:]}"
    worker = Running(
        "worker", "--models", "models", "--threads", "1", "--stages", "stages.json",
        folder=folder, name="worker", env=env,
    )  # fmt: skip
    gate = Running(
        "gate", "--parts", "triggers.jsonl", "--station", station, "--product", PRODUCT, "--early",
        "--travel", str(travel), "--until", str(parts + 1), "--json", "gate.json",
        folder=folder, name="gate", env=env,
    )  # fmt: skip
    bus = KafkaBus(kafka)
    client = connect(redis_url)
    try:
        assigned = ("worker.assigned", True)
        wait_until(
            lambda: assigned in [(e["event"], bool(e.get("partitions"))) for e in worker.events()],
            60.0,
            "a worker with a partition",
        )
        capture = crosscheck(
            "capture", "--station", station, "--product", PRODUCT, "--data", str(data),
            "--split", "test", "--rate", str(rate), "--deadline", str(travel),
            "--stations", "stations.json", "--triggers", "triggers.jsonl", "--json", "capture.json",
            folder=folder, env=env, timeout=60 + 2 * parts / rate,
        )  # fmt: skip
        assert capture.code == 0, capture.err[-2000:]
        ready = {process.name: health(listens(process), "ready") for process in (worker, gate)}
        sent = triggers_of(folder / "triggers.jsonl")
        partition = StationMap.load(folder / "stations.json").partition(station)
        truncated = inject_truncated(bus, settings, folder / "triggers.jsonl", max(sent.values()), partition)
        commands |= {"capture": capture, "gate": gate.wait(2 * travel)}
        # Both sinks may have a verdict a moment before it is counted.
        wait_until(lambda: answered(scrape(listens(worker))) == parts + 1, 10.0, "every verdict counted")
        numbers = scrape(listens(worker))
        worker.signal(signal.SIGTERM)
        commands["worker"] = worker.wait(30.0)
        store = VerdictStore(client)
        everything = [*sent.values(), truncated[0]]
        heatmaps = {part: value for part in everything if (value := store.get_heatmap(part)) is not None}
        return Outcome(
            folder=folder,
            commands=commands,
            capture=read_json(folder / "capture.json"),
            gate=read_json(folder / "gate.json"),
            stages=read_json(folder / "stages.json"),
            sent=sent,
            truncated=truncated,
            standing=dict(zip(everything, store.standing_many(everything), strict=True)),
            on_topic=verdicts_on(bus, settings.topic("verdicts")),
            dead=records_of(bus, settings.topic("deadletter")),
            heatmaps=heatmaps,
            heatmaps_on_topic=len(records_of(bus, settings.topic("heatmaps"))),
            audit=audit(folder / "triggers.jsonl", folder / "gate.jsonl", station=station),
            ready=ready,
            numbers=numbers,
        )
    finally:
        gate.stop()
        worker.stop()
        bus.close()
        client.close()


def assert_one_of_everything(line: Outcome, parts: int) -> None:
    """Each part: one verdict in Redis, the same on the result topic, one decision at the gate."""
    assert {name: done.code for name, done in line.commands.items()} == dict.fromkeys(line.commands, 0)
    assert (line.capture["triggers"], line.capture["published"], line.capture["failed"]) == (parts, parts, 0)
    assert len(line.sent) == parts
    assert line.audit.triggers == line.audit.decisions == parts + 1
    assert (line.audit.lost, line.audit.duplicates, line.audit.unknown) == ((), (), ())
    assert (line.gate["decisions"], line.gate["lost"], line.gate["duplicates"]) == (parts + 1, 0, 0)
    assert set(line.on_topic) == set(line.standing)
    for part, value in line.standing.items():
        assert value is not None, f"part {part} has no verdict in Redis"
        assert line.on_topic[part] == {value}
        assert line.audit.decided[part].decision.decision is decode_verdict(value).decision
    for part in line.audit.opened:
        assert line.verdict(part).decision is Decision.PASS


def assert_truncated_is_a_dead_letter_and_an_error(line: Outcome) -> None:
    """The very bytes on the dead-letter topic, an ERROR for its part."""
    part, cut = line.truncated
    assert [record.value for record in line.dead] == [cut]
    assert line.dead[0].key == str(part).encode()
    assert (line.dead[0].header("crosscheck-origin") or b"").decode().endswith(f"/{len(line.sent)}")
    assert line.dead[0].header("crosscheck-reason")
    verdict = line.verdict(part)
    assert verdict.decision is Decision.ERROR
    assert line.audit.decided[part].decision.opened is False


def assert_heatmaps_of_what_did_not_pass(line: Outcome) -> None:
    """A heatmap for each part that was scored and did not pass, and for no other."""
    scored = {part for part in line.sent.values() if line.verdict(part).mode is not None}
    held = {part for part in scored if line.verdict(part).decision is not Decision.PASS}
    assert set(line.heatmaps) == held
    assert line.heatmaps_on_topic == len(held)
    for part, value in line.heatmaps.items():
        assert decode_heatmap(value).part == part


@pytest.fixture(scope="module")
def parts_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A synthetic product in the folder layout, colour as jpg."""
    dataset = SyntheticDataset(
        train=18, validation=6, test_good=8, defects_per_kind=3, size=192, lot_size=3, contrast=2.0,
        defect_size=36.0,
    )  # fmt: skip
    return write_surface_layout(dataset, tmp_path_factory.mktemp("data"))


@pytest.fixture(scope="module")
def line(
    parts_folder: Path, kafka_bootstrap: str, redis_url: str, tmp_path_factory: pytest.TempPathFactory
) -> Outcome:
    """The line, run once."""
    folder = tmp_path_factory.mktemp("line")
    prefix = f"e2e-{time.time_ns()}"
    return run_line(
        folder, parts_folder, kafka=kafka_bootstrap, redis_url=redis_url, prefix=prefix, rate=6.0, travel=60.0
    )


def test_each_part_has_one_verdict_in_redis_and_on_the_topic_and_one_decision(line: Outcome) -> None:
    assert_one_of_everything(line, parts=8 + 3 * 3)


def test_the_model_judged_every_part_with_both_sensors_and_let_no_plain_defect_pass(line: Outcome) -> None:
    decisions = {name: line.verdict(part).decision for name, part in line.sent.items()}
    assert {line.verdict(part).mode for part in line.sent.values()} == {Mode.FUSED}
    good = [decision for name, decision in decisions.items() if name.startswith("test/good/")]
    bad = [decision for name, decision in decisions.items() if not name.startswith("test/good/")]
    assert len(good) == 8
    assert len(bad) == 9
    assert good.count(Decision.PASS) >= 6
    assert bad.count(Decision.REJECT) >= 8
    assert {line.verdict(part).bundle for part in line.sent.values()} == {f"{PRODUCT}/1"}


def test_a_truncated_message_is_kept_byte_for_byte_and_its_part_is_an_error(line: Outcome) -> None:
    assert_truncated_is_a_dead_letter_and_an_error(line)


def test_heatmaps_are_kept_for_what_did_not_pass(line: Outcome) -> None:
    assert_heatmaps_of_what_did_not_pass(line)


def test_the_worker_says_where_the_time_went(line: Outcome) -> None:
    assert line.stages


def test_worker_and_gate_say_that_they_are_ready_and_why(line: Outcome) -> None:
    for name, checks in (
        ("worker", {"loop", "models", "redis", "kafka", "partitions", "running"}),
        ("gate", {"loop", "redis", "lock", "actuator", "journal", "source", "running"}),
    ):
        status, found = line.ready[name]
        assert (status, {check for check in found if not found[check]["ok"]}) == (200, set()), name
        assert checks <= set(found)


def test_prometheus_is_told_of_each_verdict_as_it_stands(line: Outcome) -> None:
    standing = Counter(
        (verdict.decision.value, "" if verdict.mode is None else verdict.mode.value)
        for verdict in map(line.verdict, line.standing)
    )
    told = {
        (dict(labels)["decision"], dict(labels)["mode"]): value
        for (name, labels), value in line.numbers.items()
        if name == "crosscheck_verdicts_total" and value
    }
    assert told == standing
    assert sum(v for (n, _), v in line.numbers.items() if n == "crosscheck_dead_letters_total") == 1
    assert line.numbers[key("crosscheck_verdict_latency_seconds_count")] == len(line.standing)
    assert line.numbers[key("crosscheck_batch_size_sum")] == len(line.sent)
    (info,) = (dict(labels) for name, labels in line.numbers if name == "crosscheck_model_info")
    verdict = line.verdict(next(iter(line.sent.values())))
    assert (info["product"], info["bundle"]) == (PRODUCT, verdict.bundle)
    assert str(verdict.bundle_hash).startswith(info["hash"])
    assert info["hash"]


@pytest.mark.parametrize(
    ("words", "code", "said"),
    [
        (("--kafka", "{nobody}"), 3, "{nobody}"),
        (("--redis", "redis://{nobody}/0"), 3, "{nobody}"),
        (("--device", "banana"), 2, "banana"),
    ],
)
def test_a_worker_that_cannot_start_says_why_in_one_line(
    line: Outcome,
    kafka_bootstrap: str,
    redis_url: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    words: tuple[str, ...],
    code: int,
    said: str,
) -> None:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        nobody = f"127.0.0.1:{probe.getsockname()[1]}"
    monkeypatch.setenv("CROSSCHECK_KAFKA", kafka_bootstrap)
    monkeypatch.setenv("CROSSCHECK_REDIS", redis_url)
    with command_line(monkeypatch, capsys, line.folder) as call:
        started = time.monotonic()
        done = call("worker", *(word.format(nobody=nobody) for word in words))
        assert_one_line(done, code, said.format(nobody=nobody))
        assert time.monotonic() - started < 20


@pytest.mark.skipif(SURFACE is None, reason="set CROSSCHECK_SURFACE to the folder of real tiles")
def test_real_tiles_run_the_same_line(kafka_bootstrap: str, redis_url: str, tmp_path: Path) -> None:
    assert SURFACE is not None
    data = Path(SURFACE).absolute()
    parts = len(SurfaceDataset(data).test())
    found = run_line(
        tmp_path,
        data,
        kafka=kafka_bootstrap,
        redis_url=redis_url,
        prefix=f"surface-{time.time_ns()}",
        rate=4.0,
        travel=120.0,
        teach_timeout=400.0,
    )
    assert_one_of_everything(found, parts)
    assert_truncated_is_a_dead_letter_and_an_error(found)
    assert_heatmaps_of_what_did_not_pass(found)
    verdicts = [found.verdict(part) for part in found.sent.values()]
    assert {verdict.mode for verdict in verdicts} == {Mode.FUSED}
    for label in sorted({name.split("/")[1] for name in found.sent}):
        of_label = [found.verdict(p).decision for n, p in found.sent.items() if n.split("/")[1] == label]
        print(label, {decision.value: of_label.count(decision) for decision in sorted(set(of_label))})
    print("gate", found.gate["latency_ms"])
