"""``crosscheck models``, typed as an operator types it; heartbeats in Redis stand for the workers."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from inference.bundle import read_bundle, write_bundle
from schemas.verdict import Mode
from tests.e2e.inprocess import Call, assert_one_line, command_line
from workers.bus.base import TopicSpec
from workers.bus.kafka import KafkaBus
from workers.serving import desk
from workers.store.connection import connect
from workers.store.verdicts import VerdictStore

pytestmark = pytest.mark.services

POINT = {
    "thresholds": {
        "calibrated": {
            mode: {"value": at, "low": at, "high": at} for mode, at in (("FUSED", 1.25), ("RGB", 2.0))
        }
    }
}


class Desk:
    """A line's Kafka and Redis, a models folder with three versions, and the command line."""

    def __init__(self, call: Call, bus: KafkaBus, store: VerdictStore, prefix: str, models: Path) -> None:
        self.call = call
        self.bus = bus
        self.store = store
        self.prefix = prefix
        self.models = models

    def active(self) -> tuple[str | None, tuple[str, ...]]:
        """The version that the topic says, and those before it."""
        command = desk.in_service(self.bus, f"{self.prefix}.control").activated.get("cap")
        return (None, ()) if command is None else (command.value, command.previous)

    def beat(self, worker: str, **state: str) -> None:
        """A worker's heartbeat."""
        self.store.beat(f"{self.prefix}-{worker}", {"at": time.time_ns(), **state})

    def rows(self) -> dict[str, dict[str, Any]]:
        """What ``models list --json`` writes, by version."""
        done = self.call("models", "list", "--json", "list.json")
        assert done.code == 0, done.err
        return {row["version"]: row for row in json.loads(Path("list.json").read_text())["bundles"]}


@pytest.fixture
def at(
    kafka_bootstrap: str,
    redis_url: str,
    kafka_topic: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> Iterator[Desk]:
    """A desk of its own; workers of other tests that Redis still knows are signed off first."""
    for name, value in (("KAFKA", kafka_bootstrap), ("REDIS", redis_url), ("TOPIC_PREFIX", kafka_topic)):
        monkeypatch.setenv(f"CROSSCHECK_{name}", value)
    monkeypatch.setenv("COLUMNS", "200")
    for version in ("1", "2", "10"):
        tensors = {"x": torch.full((2,), float(version))}
        write_bundle(tmp_path / "models", "cap", version, {"fusion": "calibrated", "point": POINT}, tensors)
    bus, client = KafkaBus(kafka_bootstrap), connect(redis_url)
    store = VerdictStore(client)
    for name in store.workers():
        store.beat(name, {})
    bus.ensure_topics({f"{kafka_topic}.control": TopicSpec(partitions=1, compacted=True)})
    with command_line(monkeypatch, capsys, tmp_path) as call:
        yield Desk(call, bus, store, kafka_topic, tmp_path / "models")
    bus.close()
    for name in store.workers():
        store.beat(name, {})
    client.close()


def test_activations_can_be_undone_one_after_the_other(at: Desk) -> None:
    assert at.rows()["10"]["state"] == "highest"
    for version in ("1", "2"):
        done = at.call("models", "activate", "cap", version)
        assert (done.code, done.err) == (0, "")
        assert "No worker runs now" in done.out
    assert at.active() == ("2", ("1", "10"))
    assert {v: row["state"] for v, row in at.rows().items()} == {"1": "previous", "2": "active", "10": ""}
    assert at.call("models", "rollback", "cap", "--wait", "0").code == 0
    assert at.active() == ("1", ("10",))
    assert at.call("models", "rollback", "cap", "--wait", "0").code == 0
    assert at.active() == ("10", ())
    assert_one_line(at.call("models", "rollback", "cap"), 2, "no version to go back to")
    assert_one_line(at.call("models", "rollback", "lid"), 2, "was never activated")
    assert at.active() == ("10", ())


def test_what_was_never_activated_can_be_gone_back_to_by_the_workers_word(at: Desk) -> None:
    at.beat("w1", bundles="cap/2@abc")
    assert at.call("models", "activate", "cap", "10", "--wait", "0").code == 0
    assert at.active() == ("10", ("2",))


def test_a_bundle_that_is_not_there_or_damaged_is_not_sent(at: Desk) -> None:
    assert_one_line(at.call("models", "activate", "cap", "7"), 2, "cap/7", "CROSSCHECK_MODEL_STORE")
    tensors = at.models / "cap" / "1" / "tensors.safetensors"
    raw = bytearray(tensors.read_bytes())
    raw[-1] ^= 1
    tensors.write_bytes(raw)
    assert_one_line(at.call("models", "activate", "cap", "1"), 2, "sha256")
    assert at.active() == (None, ())
    assert at.call("models", "activate", "cap", "7", "--no-check").code == 0
    assert at.active() == ("7", ("10",))


def test_workers_that_have_it_and_workers_that_do_not_are_named(at: Desk) -> None:
    digest = read_bundle(at.models / "cap" / "1").digest
    at.beat("w1", bundles=f"cap/1@{digest[:12]}")
    at.beat("w2", bundles="cap/2@0123456789ab")
    at.beat("w3", bundles="cap/1@0123456789ab")
    at.beat("w4", bundles="cap/2@0123456789ab", line="another")
    done = at.call("models", "activate", "cap", "1", "--wait", "0.5")
    assert done.code == 1
    assert f"w1: judges by cap/1@{digest[:12]}" in done.out
    assert "w2: still judges by cap/2@0123456789ab: has not said so within 0.5 s" in done.out
    assert "w3: still judges by cap/1@0123456789ab" in done.out
    assert "w4" not in done.out, "a worker of another line hears another topic"
    assert [name.rpartition("-")[2] for name in at.rows()["1"]["workers"]] == ["w1"]


def test_a_threshold_is_set_for_the_active_version_and_taken_back(at: Desk) -> None:
    assert at.call("models", "activate", "cap", "2").code == 0
    done = at.call("models", "threshold", "cap", "rgb", "2.5")
    assert done.code == 0
    assert "taught to pass up to 2 and reject above" in done.out
    assert "more misses" in done.out
    holds = desk.in_service(at.bus, f"{at.prefix}.control").thresholds
    assert str(holds["cap", Mode.RGB]) == "RGB=2.5@2"
    assert "RGB of cap/2: pass up to 2.5 and reject above" in at.call("models", "list").out
    assert at.call("models", "threshold", "cap", "RGB", "taught").code == 0
    assert desk.in_service(at.bus, f"{at.prefix}.control").thresholds == {}


def test_a_threshold_of_one_version_is_not_taken_back_in_the_name_of_another(at: Desk) -> None:
    assert at.call("models", "threshold", "cap", "RGB", "0.5", "--version", "2").code == 0
    done = at.call("models", "threshold", "cap", "RGB", "taught", "--version", "1")
    assert_one_line(done, 2, "only 0.5 for version 2")
    holds = desk.in_service(at.bus, f"{at.prefix}.control").thresholds
    assert str(holds["cap", Mode.RGB]) == "RGB=0.5@2"
    done = at.call("models", "threshold", "cap", "RGB", "0.7", "--version", "1")
    assert "takes the place of 0.5 for version 2" in done.out


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("cap", "SMELL", "1"), "FUSED"),
        (("cap", "RGB", "many"), "number"),
        (("cap", "RGB", "nan"), "finite"),
        (("cap", "DEPTH", "1"), "no mode DEPTH"),
        (("cap", "RGB", "1", "--version", "8"), "cap/8"),
        (("lid", "RGB", "1"), "--version"),
    ],
)
def test_an_impossible_threshold_is_refused(at: Desk, words: tuple[str, ...], said: str) -> None:
    assert_one_line(at.call("models", "threshold", *words), 2, said)
    assert desk.in_service(at.bus, f"{at.prefix}.control").thresholds == {}


def test_without_kafka_the_list_still_says_which_bundles_there_are(at: Desk) -> None:
    done = at.call("models", "list", "--kafka", "127.0.0.1:9")
    assert done.code == 3
    assert done.out.count("│ cap ") == 3
    assert "not known: " in done.err
    assert "127.0.0.1:9" in done.err


def test_there_is_nothing_to_push_to_without_a_store(at: Desk) -> None:
    assert_one_line(at.call("models", "push", "cap", "1"), 2, "CROSSCHECK_MODEL_STORE")
