"""From a definition and numbers to what Prometheus is sent. Whoever exports anything goes through here."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TypeVar

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily
from prometheus_client.core import Metric as Family

from workers.telemetry.names import Metric
from workers.telemetry.tallies import Histogram

Labels = TypeVar("Labels", bound=tuple[str, ...])


def family(metric: Metric, values: float | Mapping[Labels, float]) -> Family:
    """A counter or gauge: one number, or one for each tuple of label values.

    Raises:
        ValueError: as many values as the metric has labels were not given, or it is a histogram.
    """
    found: CounterMetricFamily | GaugeMetricFamily
    if metric.kind == "counter":
        found = CounterMetricFamily(metric.name, metric.help, labels=metric.labels)
    elif metric.kind == "gauge":
        found = GaugeMetricFamily(metric.name, metric.help, labels=metric.labels)
    else:
        raise ValueError(f"{metric.name} is a histogram")
    if isinstance(values, int | float):
        _add(found, metric, (), values)
        return found
    for labels, value in values.items():
        _add(found, metric, labels, value)
    return found


def _add(
    found: CounterMetricFamily | GaugeMetricFamily, metric: Metric, labels: tuple[str, ...], value: float
) -> None:
    if len(labels) != len(metric.labels):
        raise ValueError(f"{metric.name}: values {labels} for labels {metric.labels}")
    found.add_metric(labels, value)


def histogram(metric: Metric, values: Histogram) -> Family:
    """A histogram without labels."""
    buckets, total = values.buckets()
    return HistogramMetricFamily(metric.name, metric.help, buckets=buckets, sum_value=total)
