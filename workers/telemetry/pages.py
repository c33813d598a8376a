"""The three pages of every process, whoever serves them."""

from __future__ import annotations

from dataclasses import dataclass

from workers.telemetry.health import Health
from workers.telemetry.registry import Registry

METRICS = "/metrics"
LIVE = "/health/live"
READY = "/health/ready"
PATHS = (METRICS, LIVE, READY)

_JSON = "application/json"


@dataclass(frozen=True, slots=True)
class Page:
    """One answer."""

    status: int
    content_type: str
    body: bytes


def page(path: str, registry: Registry, health: Health, *, accept: str | None = None) -> Page:
    """What is answered to GET ``path``; 404 for another than ``PATHS``.

    Args:
        path: with or without a query, which says nothing here.
        accept: the request's header of that name.
    """
    bare = path.split("?", 1)[0]
    if bare == METRICS:
        body, content_type = registry.render(accept)
        return Page(200, content_type, body)
    if bare in (LIVE, READY):
        answer = health.live() if bare == LIVE else health.ready()
        return Page(answer.status, _JSON, answer.body)
    return Page(404, "text/plain; charset=utf-8", f"not here; try {', '.join(PATHS)}\n".encode())
