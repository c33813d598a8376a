"""Every alert: its metrics exist, people find out what to do, and it fires when it should and not before."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.compose.prometheus import program
from tests.compose.promql import labels_of, mistakes, series
from workers.telemetry.names import PROCESSES

ROOT = Path(__file__).parents[2]
RULES = ROOT / "compose" / "prometheus" / "alerts.yml"
CONFIG = ROOT / "compose" / "prometheus" / "prometheus.yml"
CASES = sorted(Path(__file__).parent.glob("alerts_*test.yml"))
GUIDE = ROOT / "docs" / "operating.md"

GROUPS: list[dict[str, Any]] = yaml.safe_load(RULES.read_text())["groups"]
ALERTS: dict[str, dict[str, Any]] = {rule["alert"]: rule for group in GROUPS for rule in group["rules"]}

each = pytest.mark.parametrize("name", ALERTS)


def promtool(*words: str) -> None:
    done = subprocess.run([program("promtool"), *words], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


def test_prometheus_reads_its_configuration_and_the_rules() -> None:
    promtool("check", "config", str(CONFIG))
    promtool("check", "rules", "--lint-fatal", str(RULES))


@pytest.mark.parametrize("cases", CASES, ids=lambda path: path.stem)
def test_alerts_fire_when_they_should_and_stay_quiet_when_they_should(cases: Path) -> None:
    promtool("test", "rules", str(cases))


def test_each_alert_has_a_case_in_which_it_fires_and_one_in_which_it_does_not() -> None:
    fires: set[str] = set()
    quiet: set[str] = set()
    for case in (case for file in CASES for case in yaml.safe_load(file.read_text())["tests"]):
        for query in case["promql_expr_test"]:
            match = re.fullmatch(r'ALERTS\{alertname="(\w+)",alertstate="firing"\}', query["expr"])
            if match is not None:
                (fires if query["exp_samples"] else quiet).add(match[1])
            else:
                assert query["expr"] == "ALERTS", "a healthy line: not one, not even pending"
                assert query["exp_samples"] == []
    assert fires == set(ALERTS)
    assert quiet | {"CrosscheckRejectsHigh"} >= set(ALERTS)


def test_no_alert_is_defined_twice() -> None:
    assert len(ALERTS) == sum(len(group["rules"]) for group in GROUPS)


@each
def test_an_alert_asks_only_for_metrics_and_labels_that_exist(name: str) -> None:
    assert list(mistakes(ALERTS[name]["expr"])) == []


@each
def test_an_alert_says_what_is_wrong_how_bad_it_is_and_where_to_read_on(name: str) -> None:
    rule = ALERTS[name]
    assert name.startswith("Crosscheck")
    assert rule["labels"]["severity"] in ("critical", "warning", "info")
    notes = rule["annotations"]
    assert set(notes) == {"summary", "description", "runbook"}
    assert len(notes["description"]) > 20
    assert notes["runbook"] == f"docs/operating.md#{name.lower()}"
    # A label that the result does not have is an empty place in the message.
    shown = set(re.findall(r"\$labels\.(\w+)", notes["summary"] + notes["description"]))
    assert shown <= labels_of(rule["expr"])


def test_each_alert_has_its_section_in_the_guide_and_each_section_its_alert() -> None:
    sections = re.findall(r"^### (Crosscheck\w+)$", GUIDE.read_text(), re.MULTILINE)
    assert len(set(sections)) == len(sections)
    assert set(sections) == set(ALERTS)


def test_each_section_answers_the_four_questions_of_who_is_called() -> None:
    text = GUIDE.read_text()
    for name in ALERTS:
        body = re.search(rf"^### {name}\n(.*?)(?=^##|\Z)", text, re.MULTILINE | re.DOTALL)
        assert body is not None
        for question in ("**Means.**", "**Meanwhile.**", "**Look at.**", "**Do.**"):
            assert question in body[1], f"{name} does not say {question}"


def test_every_process_of_a_line_is_scraped_under_its_own_name() -> None:
    jobs = {job["job_name"]: job for job in yaml.safe_load(CONFIG.read_text())["scrape_configs"]}
    assert set(jobs) == {*PROCESSES, "prometheus"}
    services = yaml.safe_load((ROOT / "compose" / "compose.yaml").read_text())["services"]
    asked = [host for process in PROCESSES for host in _hosts(jobs[process])]
    assert len(set(asked)) == len(asked)
    # What a line need not have, and compose does not run: asked for by name, and no alarm where it is not.
    optional = {"shadow"}
    for host in set(asked) - (optional - set(services)):
        assert "CROSSCHECK_METRICS" in services[host]["environment"], f"{host} answers nobody"


def _hosts(job: dict[str, Any]) -> list[str]:
    named = [name for each in job.get("dns_sd_configs", ()) for name in each["names"]]
    listed = [target for each in job.get("static_configs", ()) for target in each["targets"]]
    return named + [target.rpartition(":")[0] for target in listed]


def test_each_alert_is_for_something_that_is_measured() -> None:
    for name, rule in ALERTS.items():
        assert any(one.name.startswith("crosscheck_") or one.name == "up" for one in series(rule["expr"])), (
            name
        )
