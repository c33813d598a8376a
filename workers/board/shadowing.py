"""What a candidate bundle says beside the active one: /api/shadow."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

from workers.board.sinks import Redis
from workers.clock import Clock
from workers.errors import SettingsError
from workers.shadow.report import ShadowReport, read_shadow
from workers.store import keys

FRESH_S = 1.0
"""An answer this young is given to whoever asks, instead of a new one."""


class Shadow:
    """Reads the comparison that `crosscheck shadow` keeps in Redis, at most once a second.

    Args:
        products: those that verdicts name; others are not looked for.
    """

    def __init__(self, redis: Redis, products: Callable[[], list[str]], clock: Clock) -> None:
        self._redis = redis
        self._products = products
        self._clock = clock
        self._lock = threading.Lock()
        self._made = -1e9
        self._body: dict[str, Any] = {"products": []}

    def body(self) -> dict[str, Any]:
        """The comparison by product; empty while nothing is compared.

        Raises:
            StoreError: Redis does not answer.
        """
        with self._lock:
            now = self._clock.monotonic()
            if now - self._made >= FRESH_S:
                names = [name for name in self._products() if _is_key(name)]
                reports = read_shadow(self._redis.get(), names)
                self._made, self._body = now, {"products": [_product(report) for report in reports]}
            return self._body


def _product(report: ShadowReport) -> dict[str, Any]:
    """The report, and the shares of the compared parts that each bundle alone keeps out."""
    count = report.count
    shares = {
        "agreement": report.agree / count if count else None,
        "only_active_rejects": report.active_reject_candidate_pass / count if count else None,
        "only_candidate_rejects": report.active_pass_candidate_reject / count if count else None,
    }
    return report.to_map() | {"rates": shares}


def _is_key(product: str) -> bool:
    try:
        return bool(keys.shadow(product))
    except SettingsError:
        return False
