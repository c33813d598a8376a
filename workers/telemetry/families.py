"""From a definition and numbers to what Prometheus is sent. Whoever exports anything goes through here."""

from __future__ import annotations

from collections.abc import Mapping

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily
from prometheus_client.core import Metric as Family

from workers.telemetry.names import Metric
from workers.telemetry.tallies import Histogram

Labels = tuple[str, ...]


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
    for labels, value in ({(): values} if isinstance(values, int | float) else values).items():
        if len(labels) != len(metric.labels):
            raise ValueError(f"{metric.name}: values {labels} for labels {metric.labels}")
        found.add_metric(labels, value)
    return found


def histogram(metric: Metric, values: Histogram) -> Family:
    """A histogram without labels."""
    buckets, total = values.buckets()
    return HistogramMetricFamily(metric.name, metric.help, buckets=buckets, sum_value=total)
