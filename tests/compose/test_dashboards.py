"""Every dashboard can be loaded, asks only for what our processes say, and can be read by anybody."""

from __future__ import annotations

import itertools
import json
import re
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.compose.promql import labels_of, metric_of, mistakes, series
from workers.telemetry.names import METRICS

COMPOSE = Path(__file__).parents[2] / "compose"
FILES = sorted((COMPOSE / "grafana" / "dashboards").glob("*.json"))
DASHBOARDS: dict[str, dict[str, Any]] = {file.stem: json.loads(file.read_text()) for file in FILES}
# What Grafana puts in by itself.
BUILT_IN = {"__rate_interval", "__interval", "__range"}
UNITS = {"short", "none", "s", "bytes", "percentunit", "ops", "cpm"}

each = pytest.mark.parametrize("name", DASHBOARDS)


def panels(name: str) -> list[dict[str, Any]]:
    """Those that show something: no headings of rows."""
    return [panel for panel in DASHBOARDS[name]["panels"] if panel["type"] != "row"]


def expressions(name: str) -> list[tuple[str, str]]:
    """(where, expression) of every query of a dashboard, its annotations' too."""
    found = [
        (panel["title"], target["expr"]) for panel in panels(name) for target in panel.get("targets", ())
    ]
    notes = DASHBOARDS[name]["annotations"]["list"]
    return found + [(note["name"], note["expr"]) for note in notes if "expr" in note]


def test_there_is_one_for_each_reader() -> None:
    assert list(DASHBOARDS) == ["drift", "fleet", "line", "workers"]
    uids = [dashboard["uid"] for dashboard in DASHBOARDS.values()]
    assert len(set(uids)) == len(uids)
    assert len({dashboard["title"] for dashboard in DASHBOARDS.values()}) == len(uids)


@each
def test_a_dashboard_asks_only_for_metrics_and_labels_that_exist(name: str) -> None:
    found = [f"{where}: {wrong}" for where, text in expressions(name) for wrong in mistakes(text)]
    assert not found


def test_a_metric_or_a_label_that_does_not_exist_is_found() -> None:
    assert list(mistakes("rate(crosscheck_frame_total[5m])")) == ["no such metric: crosscheck_frame_total"]
    assert list(mistakes('crosscheck_frames_total{product="cap"}')) == [
        "crosscheck_frames_total has no label product"
    ]
    assert list(mistakes("sum by (product) (crosscheck_frames_total)")) == [
        "grouped by product, which crosscheck_frames_total does not have"
    ]
    # A histogram has no series of its own name, and no counter has buckets.
    assert list(mistakes("rate(crosscheck_batch_size[5m])")) == ["no such metric: crosscheck_batch_size"]
    assert list(mistakes("crosscheck_frames_total_bucket")) == [
        "no such metric: crosscheck_frames_total_bucket"
    ]
    assert list(mistakes("up > on (station) crosscheck_live")) == [
        "matched on station, which no metric in it has"
    ]
    assert list(mistakes("vector(1)")) == ["it asks for no series"]


def test_every_metric_is_shown_or_watched() -> None:
    rules = yaml.safe_load((COMPOSE / "prometheus" / "alerts.yml").read_text())
    texts = [rule["expr"] for group in rules["groups"] for rule in group["rules"]]
    texts += [text for name in DASHBOARDS for _, text in expressions(name)]
    seen = {metric_of(one.name) for text in texts for one in series(text)}
    assert {metric.name for metric in METRICS} - seen == set()


@each
def test_a_dashboard_uses_only_variables_that_it_has(name: str) -> None:
    listed = DASHBOARDS[name]["templating"]["list"]
    assert listed[0]["type"] == "datasource"
    own = {variable["name"] for variable in listed}
    for variable in listed[1:]:
        assert not list(mistakes(variable["query"]["query"].removeprefix("label_values(").split(",")[0]))
    used = {match for _, text in expressions(name) for match in re.findall(r"\$\{?(\w+)", text)}
    assert used <= own | BUILT_IN
    assert own - used <= {"datasource"}, "a choice that changes nothing"


@each
def test_every_panel_says_what_it_shows_and_in_which_unit(name: str) -> None:
    ids = [panel["id"] for panel in DASHBOARDS[name]["panels"]]
    assert len(set(ids)) == len(ids)
    titles = [panel["title"] for panel in panels(name)]
    assert len(set(titles)) == len(titles)
    for panel in panels(name):
        assert panel["title"]
        assert len(panel["description"]) > 10, panel["title"]
        assert panel["fieldConfig"]["defaults"]["unit"] in UNITS, panel["title"]
        assert panel["datasource"] == {"type": "prometheus", "uid": "${datasource}"}
        refs = [target["refId"] for target in panel["targets"]]
        assert len(set(refs)) == len(refs) > 0
        for target in panel["targets"]:
            assert target["datasource"] == panel["datasource"]


@each
def test_panels_lie_on_the_grid_and_none_on_another(name: str) -> None:
    everything = DASHBOARDS[name]["panels"]
    for panel in everything:
        place = panel["gridPos"]
        assert place["x"] >= 0
        assert place["x"] + place["w"] <= 24, panel["title"]
    for one, other in itertools.combinations(everything, 2):
        a, b = one["gridPos"], other["gridPos"]
        apart = (
            a["x"] + a["w"] <= b["x"]
            or b["x"] + b["w"] <= a["x"]
            or a["y"] + a["h"] <= b["y"]
            or b["y"] + b["h"] <= a["y"]
        )
        assert apart, f"{one['title']} lies on {other['title']}"


@each
def test_legends_name_labels_that_the_result_has(name: str) -> None:
    for panel in panels(name):
        for target in panel["targets"]:
            wanted = set(re.findall(r"\{\{(\w+)\}\}", target["legendFormat"]))
            assert wanted <= labels_of(target["expr"]), panel["title"]


@each
def test_what_colour_says_a_text_or_a_line_style_says_too(name: str) -> None:
    for panel in panels(name):
        config = panel["fieldConfig"]
        mappings = [
            *config["defaults"].get("mappings", ()),
            *(
                mapping
                for override in config["overrides"]
                for item in override["properties"]
                if item["id"] == "mappings"
                for mapping in item["value"]
            ),
        ]
        if panel["type"] == "state-timeline":
            assert mappings, panel["title"]
        for mapping in mappings:
            texts = [option["text"] for option in mapping["options"].values()]
            assert all(texts)
            assert len(set(texts)) == len(texts)
        if panel["type"] == "timeseries":
            fixed = [
                json.dumps([item["value"] for item in override["properties"] if item["id"] != "color"])
                for override in config["overrides"]
            ]
            assert len(set(fixed)) == len(fixed), f"{panel['title']}: two lines differ in colour alone"
            assert panel["options"]["legend"]["displayMode"] == "table"


def test_grafana_finds_its_source_and_its_dashboards() -> None:
    grafana = COMPOSE / "grafana" / "provisioning"
    [source] = yaml.safe_load((grafana / "datasources" / "prometheus.yaml").read_text())["datasources"]
    [provider] = yaml.safe_load((grafana / "dashboards" / "crosscheck.yaml").read_text())["providers"]
    compose = yaml.safe_load((COMPOSE / "compose.yaml").read_text())["services"]
    assert source["url"] == "http://prometheus:9090"
    assert "prometheus" in compose
    mounted = {volume.split(":")[0]: volume.split(":")[1] for volume in compose["grafana"]["volumes"]}
    assert mounted["./grafana/dashboards"] == provider["options"]["path"]
    assert mounted["./grafana/provisioning"] == "/etc/grafana/provisioning"
    for dashboard in DASHBOARDS.values():
        assert dashboard["templating"]["list"][0]["current"]["value"] == source["uid"]
        assert dashboard["schemaVersion"] >= 36
    # A rate over fewer than two samples is empty: Grafana must know how often Prometheus asks.
    asked = yaml.safe_load((COMPOSE / "prometheus" / "prometheus.yml").read_text())["global"]
    assert source["jsonData"]["timeInterval"] == asked["scrape_interval"]
