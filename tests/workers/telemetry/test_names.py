"""The list of metrics: one place, and names that say their unit."""

from __future__ import annotations

import re

from workers.telemetry import names
from workers.telemetry.names import METRICS, PROCESSES, Metric


def test_every_constant_is_on_the_list_and_no_name_is_there_twice() -> None:
    constants = [value for value in vars(names).values() if isinstance(value, Metric)]
    assert list(METRICS) == constants
    assert len({m.name for m in METRICS}) == len(METRICS) > 40


def test_a_name_is_ours_and_ends_in_its_unit() -> None:
    for metric in METRICS:
        assert re.fullmatch(r"crosscheck(_[a-z]+)+", metric.name), metric.name
        bare = metric.name.removesuffix("_total")
        assert metric.name.endswith("_total") == (metric.kind == "counter"), metric.name
        if metric.unit:
            assert bare.endswith(f"_{metric.unit}"), metric.name


def test_each_says_what_it_means_and_who_exports_it() -> None:
    for metric in METRICS:
        assert re.fullmatch(r"[A-Z1].{20,}[^.]", metric.help), metric.name
        assert metric.processes, metric.name
        assert set(metric.processes) <= set(PROCESSES), metric.name
        assert len(set(metric.labels)) == len(metric.labels), metric.name


def test_a_histogram_and_nothing_else_has_buckets_and_they_rise() -> None:
    for metric in METRICS:
        assert bool(metric.buckets) == (metric.kind == "histogram"), metric.name
        assert list(metric.buckets) == sorted(set(metric.buckets)), metric.name
