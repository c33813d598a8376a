"""Bundles take over on a line that runs: real Kafka, real Redis, real worker processes, real bundles."""

from __future__ import annotations

import json
import signal
import time
from dataclasses import dataclass, field
from typing import Any

import pytest

from tests.bench.activating import PRODUCT, ActivationLine, Counted, Material, activation_line, make
from tests.e2e.processes import wait_until
from workers.commands import console
from workers.commands.models import activate, list_models, roll_back
from workers.serving import desk

RATE = 8.0

pytestmark = [pytest.mark.services, pytest.mark.timeout(600)]


@pytest.fixture(scope="module")
def material(tmp_path_factory: pytest.TempPathFactory) -> Material:
    """Three versions of a product, and what each says of every frame."""
    return make(tmp_path_factory.mktemp("activation"))


@dataclass(slots=True)
class Story:
    """What is left of a line on which bundles changed, a worker came, and one was killed.

    Attributes:
        sure: a bundle, and from when until when every worker had said that it judges by it.
        killed_had_it: whether the killed worker had taken over what it was loading.
        listed: what ``crosscheck models list --json`` wrote after a bundle was activated that is nowhere.
    """

    sure: list[tuple[str, int, int]] = field(default_factory=list)
    counted: Counted = field(default_factory=Counted)
    killed_had_it: bool = True
    listed: dict[str, Any] = field(default_factory=dict)


def logged(line: ActivationLine, event: str) -> int:
    """How often w1 has logged an event."""
    return [one["event"] for one in line.workers["w1"].events()].count(event)


def loading(line: ActivationLine) -> bool:
    """Whether w1 loads a bundle that it has not taken over, by its log."""
    return logged(line, "worker.bundle_loading") > logged(line, "worker.bundle_active")


def refuses(line: ActivationLine, worker: str, bundle: str) -> bool:
    """Whether a worker's heartbeat says that it does not serve what it was told to."""
    return any(
        one.worker == worker and bundle in one.refused
        for one in desk.workers_say(line.store, line.settings.topic_prefix)
    )


def tell(story: Story, line: ActivationLine) -> None:
    """Frames flow all the while; nothing of this waits for them."""

    def sure(bundle: str, since: int) -> None:
        wait_until(lambda: line.decided_at() >= since, 60.0, f"a part decided by {bundle}")
        story.sure.append((bundle, since, time.time_ns()))

    line.start_worker("w1")
    line.wait_serving("w1", f"{PRODUCT}/3")
    since = time.time_ns()
    line.send(RATE)
    line.wait_sent(16)
    sure(f"{PRODUCT}/3", since)
    # Under load.
    assert activate(line.settings, PRODUCT, "1", wait_s=60) == console.OK
    since = time.time_ns()
    # One that starts now has what is active, and not what is highest.
    line.start_worker("w2")
    line.wait_serving("w2", f"{PRODUCT}/1")
    sure(f"{PRODUCT}/1", since)
    # While the group is shared out anew: somebody joins, is given partitions, and leaves without a commit.
    with line.passer_by():
        assert activate(line.settings, PRODUCT, "2", wait_s=60) == console.OK
        since = time.time_ns()
    line.wait_sent(len(line.sent) + 8)
    sure(f"{PRODUCT}/2", since)
    # Killed while it loads the next one: frames pile up until the group has missed it.
    before = logged(line, "worker.bundle_active")
    desk.send(line.bus, line.settings.topic("control"), desk.activation(PRODUCT, "3", None, None, "2"))
    wait_until(lambda: loading(line), 20.0, "w1 loading", every=0.002)
    line.workers["w1"].signal(signal.SIGKILL)
    line.workers["w1"].wait(5.0)
    story.killed_had_it = logged(line, "worker.bundle_active") > before
    line.wait_serving("w2", f"{PRODUCT}/3")
    # With that backlog: back to 2.
    assert roll_back(line.settings, PRODUCT, wait_s=0) == console.OK
    line.wait_serving("w2", f"{PRODUCT}/2")
    since = time.time_ns()
    # Nobody takes what is not there.
    assert activate(line.settings, PRODUCT, "9", wait_s=0, check=False) == console.OK
    wait_until(lambda: refuses(line, "w2", f"{PRODUCT}/9"), 20.0, "w2 to refuse what is not there")
    out = line.folder / "models.json"
    assert list_models(line.settings, json_file=out) == console.OK
    story.listed = json.loads(out.read_text())
    line.finish()
    sure(f"{PRODUCT}/2", since)
    story.counted = line.count()


@pytest.fixture(scope="module")
def story(
    material: Material, kafka_bootstrap: str, redis_url: str, tmp_path_factory: pytest.TempPathFactory
) -> Story:
    """The line, run once."""
    folder, prefix = tmp_path_factory.mktemp("line"), f"act-{time.time_ns()}"
    found = Story()
    with activation_line(folder, material, kafka_bootstrap, redis_url, prefix) as line:
        tell(found, line)
    return found


def test_no_part_is_lost_and_each_is_scored_by_the_very_bundle_that_its_verdict_names(story: Story) -> None:
    assert story.counted.parts > 50
    assert story.counted.broken == {}
    assert set(story.counted.by_bundle) == {f"{PRODUCT}/{version}" for version in "123"}
    assert {verdict.worker for verdict in story.counted.verdicts.values()} >= {"w1", "w2"}


def test_once_every_worker_has_said_so_no_verdict_names_another_bundle(story: Story) -> None:
    seen = set()
    for verdict in story.counted.verdicts.values():
        for bundle, since, until in story.sure:
            if since <= verdict.decided_at < until:
                seen.add((bundle, since))
                assert verdict.bundle == bundle
    assert len(seen) == len(story.sure) == 4


def test_a_worker_killed_while_a_bundle_warmed_had_not_taken_it_over(story: Story) -> None:
    assert not story.killed_had_it


def test_a_bundle_that_is_nowhere_is_taken_by_nobody_and_the_list_says_who_judges_by_what(
    story: Story, material: Material
) -> None:
    rows = {row["version"]: row for row in story.listed["bundles"]}
    assert {row["digest"]: f"{PRODUCT}/{version}" for version, row in rows.items()} == material.bundles
    assert rows["2"]["state"] == "previous"
    assert "w2" in rows["2"]["workers"]
    assert "w2" not in rows["1"]["workers"] + rows["3"]["workers"]
    refused = {worker["name"]: worker["refused"] for worker in story.listed["workers"]}
    assert "there is no such bundle" in refused["w2"][f"{PRODUCT}/9"]
