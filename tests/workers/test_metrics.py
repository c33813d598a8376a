"""What Prometheus is told: the worker's last report, by names that are written once."""

from __future__ import annotations

import urllib.request

import pytest
from prometheus_client.parser import text_string_to_metric_families

from tests.workers.frames import frame
from tests.workers.line import Line
from workers import metrics
from workers.errors import SettingsError
from workers.vitals import Vitals


def samples(text: str) -> dict[tuple[str, tuple[tuple[str, str], ...]], float]:
    return {
        (sample.name, tuple(sorted(sample.labels.items()))): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


def read(vitals: Vitals) -> str:
    server, thread = metrics.serve(vitals, "127.0.0.1:0")
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{server.server_port}/metrics") as answer:
            return str(answer.read().decode())
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def test_a_sensor_that_is_down_is_seen_in_metrics_and_in_the_heartbeat() -> None:
    line = Line()
    worker = line.worker()
    for trigger in range(6):
        line.send(frame(trigger, with_depth=trigger < 1))
    line.turn(worker, lambda: worker.answered == 6, turns=200)
    line.clock.sleep(3)
    worker.step()
    found = samples(read(worker.vitals))
    assert found["crosscheck_answered_total", ()] == 6
    assert found["crosscheck_partitions", ()] == 2
    labels = {
        state: (("sensor", "depth"), ("state", state), ("station", "s1"))
        for state in ("up", "suspect", "down", "recovering")
    }
    assert {state: found["crosscheck_sensor_state", key] for state, key in labels.items()} == {
        "up": 0,
        "suspect": 0,
        "down": 1,
        "recovering": 0,
    }
    assert line.store.worker("w1")["sensors"] == "s1:depth:down"


def test_before_the_first_report_nothing_is_claimed() -> None:
    line = Line()
    assert samples(read(line.worker().vitals)) == {}


def test_every_name_has_its_help() -> None:
    names = {value for name, value in vars(metrics).items() if name.isupper() and isinstance(value, str)}
    assert names == set(metrics.HELP)


@pytest.mark.parametrize("address", ["9101", "host:", ":9101", "host:port", "127.0.0.1:99999"])
def test_an_address_that_is_none_is_named(address: str) -> None:
    with pytest.raises(SettingsError, match="CROSSCHECK_METRICS"):
        metrics.serve(Line().worker().vitals, address)


def test_a_port_that_is_taken_is_named() -> None:
    server, thread = metrics.serve(Line().worker().vitals, "127.0.0.1:0")
    try:
        with pytest.raises(SettingsError, match="choose another port"):
            metrics.serve(Line().worker().vitals, f"127.0.0.1:{server.server_port}")
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
