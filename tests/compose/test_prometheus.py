"""A real Prometheus asks a real worker: the numbers are there, every query is understood, an alert fires."""

from __future__ import annotations

import json
import math
import re
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml

from compose.process import free_ports
from inference.datasets.synthetic import SyntheticDataset
from inference.teach import teach
from inference.teach_settings import TeachSettings
from schemas.payload import ColourEncoding
from tests.compose.prometheus import Prometheus, program, running
from tests.e2e.processes import Running, wait_until
from workers.bus.kafka import KafkaBus
from workers.capture.publisher import Publisher
from workers.topics import StationMap, TopicPlan

pytestmark = [pytest.mark.services, pytest.mark.timeout(180)]

COMPOSE = Path(__file__).parents[2] / "compose"
PARTS = SyntheticDataset(
    train=14, validation=6, test_good=2, defects_per_kind=1, size=96, lot_size=2, contrast=3.0, seed=5
)
STATION = "s1"
FUSED, SPOILT, WITHOUT_DEPTH = 12, 4, 6
"""Parts of the test: good ones seen by both sensors, bad ones, and some whose depth sensor gives nothing."""
SENT = FUSED + SPOILT + WITHOUT_DEPTH
GRAFANA = {"$__rate_interval": "1m", "$__interval": "15s", "$__range": "5m"}


@dataclass(frozen=True, slots=True)
class Watched:
    """A worker that has judged its parts, and the Prometheus that asks it."""

    prometheus: Prometheus

    def count(self, expression: str) -> float:
        """The one value of an expression; 0 where there is none."""
        found = self.prometheus.query(expression)
        assert len(found) <= 1, found
        return next(iter(found.values()), 0.0)


def quick_config(folder: Path, worker: str) -> Path:
    """The shipped configuration and rules, asking one worker at once, and waiting for nothing."""
    config: dict[str, Any] = yaml.safe_load((COMPOSE / "prometheus" / "prometheus.yml").read_text())
    config["global"] = {"scrape_interval": "250ms", "scrape_timeout": "250ms", "evaluation_interval": "250ms"}
    config["scrape_configs"] = [{"job_name": "worker", "static_configs": [{"targets": [worker]}]}]
    rules: dict[str, Any] = yaml.safe_load((COMPOSE / "prometheus" / "alerts.yml").read_text())
    for group in rules["groups"]:
        for rule in group["rules"]:
            rule.pop("for", None)
    (folder / "alerts.yml").write_text(yaml.safe_dump(rules))
    path = folder / "prometheus.yml"
    path.write_text(yaml.safe_dump(config))
    return path


def publish(kafka: str, prefix: str) -> None:
    """Good parts, then bad ones, then parts without depth."""
    images = [item.sample() for item in PARTS.test() if item.is_good]
    stations = StationMap({STATION: 0})
    frames, beats = f"{prefix}.frames", f"{prefix}.heartbeats"
    with Publisher(
        kafka,
        station=STATION,
        product="cap",
        station_map=stations,
        topic=frames,
        deadline_s=60.0,
        colour=ColourEncoding.PNG,
        heartbeats=beats,
    ) as publisher:
        for number in range(SENT):
            sample = images[number % len(images)]
            assert sample.rgb is not None
            assert sample.depth is not None
            # No two images are alike: a sensor that repeats itself counts as frozen.
            rgb = sample.rgb.copy()
            depth = sample.depth.copy()
            rgb[0, 0] = number
            depth[0, 0] = 1 + number
            if FUSED <= number < FUSED + SPOILT:
                rgb[30:60, 30:60] = (255, 0, 255)
            publisher.publish(publisher.next_part(), rgb, None if number >= FUSED + SPOILT else depth)
        publisher.flush()


@pytest.fixture(scope="module")
def watched(
    tmp_path_factory: pytest.TempPathFactory, kafka_bootstrap: str, redis_url: str
) -> Iterator[Watched]:
    """The worker is the command as it is typed, on a bundle that was taught a moment ago."""
    program("prometheus")
    folder = tmp_path_factory.mktemp("watched")
    torch.set_num_threads(1)
    teach(PARTS, folder / "models", name="cap", settings=TeachSettings(bank_size=128, folds=3))
    prefix = f"watched-{time.time_ns()}"
    bus = KafkaBus(kafka_bootstrap)
    try:
        bus.ensure_topics(TopicPlan(StationMap({STATION: 0}), prefix=prefix).specs())
    finally:
        bus.close()
    [port] = free_ports(1)
    address = f"127.0.0.1:{port}"
    env = {
        "CROSSCHECK_KAFKA": kafka_bootstrap,
        "CROSSCHECK_REDIS": redis_url,
        "CROSSCHECK_TOPIC_PREFIX": prefix,
        "CROSSCHECK_GROUP": prefix,
        "CROSSCHECK_MODELS": str(folder / "models"),
        "CROSSCHECK_METRICS": address,
        "CROSSCHECK_LOG": "json",
    }
    worker = Running("worker", folder=folder, name="worker", env=env)
    try:
        with running(folder, quick_config(folder, address)) as prometheus:
            found = Watched(prometheus)
            wait_until(
                lambda: found.count("crosscheck_ready") == 1.0 or worker.process.poll() is not None,
                60.0,
                "a worker that is ready, as Prometheus sees it",
            )
            publish(kafka_bootstrap, prefix)
            wait_until(
                lambda: (
                    found.count("sum(crosscheck_verdicts_total)") >= SENT or worker.process.poll() is not None
                ),
                60.0,
                "a verdict for each part, as Prometheus sees it",
            )
            assert worker.process.poll() is None, worker.events()[-3:]
            yield found
    finally:
        worker.stop()


def test_every_part_is_counted_by_its_decision_and_mode(watched: Watched) -> None:
    by = watched.prometheus.query("sum by (decision, mode) (crosscheck_verdicts_total)")
    # A label that is empty is none to Prometheus.
    counts = {(dict(key)["decision"], dict(key).get("mode", "")): value for key, value in by.items()}
    assert sum(counts.values()) == SENT
    assert sum(value for (_, mode), value in counts.items() if mode == "RGB") == WITHOUT_DEPTH
    assert counts["REJECT", "FUSED"] >= SPOILT
    # What one sensor saw alone does not pass.
    assert ("PASS", "RGB") not in counts
    assert watched.count(f'crosscheck_frames_total{{station="{STATION}"}}') == SENT
    assert watched.count("crosscheck_verdict_latency_seconds_count") == SENT
    # On a machine that is busy with other tests a worker may lose its place in its group for a moment.
    wait_until(
        lambda: watched.prometheus.query("crosscheck_check_ok == 0") == {},
        60.0,
        "health with every check well",
    )
    assert watched.count("up") == 1.0


def test_the_sensor_that_gave_nothing_fires_its_alert_and_nothing_else_of_the_station_does(
    watched: Watched,
) -> None:
    labels = {
        "alertname": "CrosscheckSensorDown",
        "severity": "warning",
        "station": STATION,
        "sensor": "depth",
    }
    # Too few parts for a share, and a line without agents, gates and a GPU has nothing to say of them. A
    # machine that is busy with other tests may well be late.
    slow = {"CrosscheckVerdictsLate", "CrosscheckPaused", "CrosscheckLagGrowing"}
    wait_until(
        lambda: [one for one in watched.prometheus.firing() if one["alertname"] not in slow] == [labels],
        60.0,
        "the alert of the sensor that is down, and no other of this station",
    )


def test_prometheus_evaluates_every_rule(watched: Watched) -> None:
    def states() -> dict[str, str]:
        groups = watched.prometheus.get("rules")["groups"]
        return {rule["name"]: rule["health"] for group in groups for rule in group["rules"]}

    wait_until(lambda: "unknown" not in states().values(), 20.0, "a first evaluation of each rule")
    shipped = yaml.safe_load((COMPOSE / "prometheus" / "alerts.yml").read_text())["groups"]
    assert states() == {rule["alert"]: "ok" for group in shipped for rule in group["rules"]}


def test_prometheus_understands_every_query_of_every_dashboard(watched: Watched) -> None:
    asked = shown = 0
    for file in sorted((COMPOSE / "grafana" / "dashboards").glob("*.json")):
        dashboard = json.loads(file.read_text())
        for panel in dashboard["panels"]:
            for target in panel.get("targets", ()):
                found = watched.prometheus.query(filled(target["expr"]))
                asked += 1
                shown += any(not math.isnan(value) for value in found.values())
    assert asked > 80
    # A worker alone fills about half of them: it has no agents, gates, drift or archive beside it.
    assert shown > 40


@pytest.mark.parametrize(
    "title",
    ["Verdicts a second, by decision", "Sensors", "Capture to verdict", "Passed", "Rejected", "Not scored"],
)
def test_what_the_shift_looks_at_shows_something(watched: Watched, title: str) -> None:
    line = json.loads((COMPOSE / "grafana" / "dashboards" / "line.json").read_text())
    [panel] = [panel for panel in line["panels"] if panel["title"] == title]
    for target in panel["targets"]:
        found = watched.prometheus.query(filled(target["expr"]))
        assert found
        assert np.isfinite(list(found.values())).all()


def filled(expression: str) -> str:
    """The expression as Grafana sends it, all stations chosen."""
    for name, value in GRAFANA.items():
        expression = expression.replace(name, value)
    return re.sub(r"\$(station|product|instance)\b", ".*", expression)
