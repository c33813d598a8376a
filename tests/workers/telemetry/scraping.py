"""What Prometheus would read: over HTTP, through the parser that ships with its client."""

from __future__ import annotations

import json
import urllib.error
import urllib.request
from typing import Any

from prometheus_client.parser import text_string_to_metric_families

from workers.telemetry.registry import Collector, Registry

Sample = tuple[str, tuple[tuple[str, str], ...]]


def get(address: str, path: str, **headers: str) -> tuple[int, str, str]:
    """Status, content type and body."""
    request = urllib.request.Request(f"http://{address}{path}", headers=headers)
    try:
        with urllib.request.urlopen(request, timeout=10) as answer:
            return answer.status, answer.headers["Content-Type"], answer.read().decode()
    except urllib.error.HTTPError as error:
        with error:
            return error.code, error.headers["Content-Type"], error.read().decode()


def health(address: str, kind: str) -> tuple[int, dict[str, Any]]:
    """Status and checks of ``/health/KIND``."""
    status, _, body = get(address, f"/health/{kind}")
    answer = json.loads(body)
    assert answer["ok"] is (status == 200)
    return status, answer["checks"]


def scrape(address: str) -> dict[Sample, float]:
    """Every sample of ``/metrics``."""
    status, _, body = get(address, "/metrics")
    assert status == 200
    return samples(body)


def told(*collectors: Collector) -> dict[Sample, float]:
    """What these collectors would be scraped as."""
    return samples(Registry(*collectors).render(None)[0].decode())


def samples(text: str) -> dict[Sample, float]:
    """Samples by name and sorted labels. Each is there once, as Prometheus wants it."""
    found: dict[Sample, float] = {}
    for family in text_string_to_metric_families(text):
        for sample in family.samples:
            key = (sample.name, tuple(sorted(sample.labels.items())))
            assert key not in found, key
            found[key] = sample.value
    return found


def key(name: str, **labels: str) -> Sample:
    """The key of one sample."""
    return name, tuple(sorted(labels.items()))
