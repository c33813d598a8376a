"""Where a shadow run keeps what it found: Redis, every second, best effort."""

from __future__ import annotations

from typing import Any, cast

import structlog

from workers.errors import StoreError
from workers.shadow.tally import Tally, entry_of, fields_of
from workers.store import keys
from workers.store.connection import guarded
from workers.store.verdicts import VerdictStore

log = structlog.get_logger(__name__)

TTL_S = 7 * 86_400
AGREED = 200
"""Parts of a run's stream of agreements; it lives for a day."""
AGREED_TTL_S = 86_400
DISAGREED = 2000
"""Parts of its stream of disagreements; it lives as long as the counts."""


class Keeping:
    """Writes one run. What Redis does not take is tried again with the next write."""

    def __init__(self, store: VerdictStore, product: str) -> None:
        self._store = store
        self._hash = keys.shadow(product)
        self._agreed, self._disagreed = keys.shadow_recent(product), keys.shadow_disagreed(product)

    def begin(self) -> None:
        """Forget the run before. Raises StoreError: a run without Redis finds nothing to compare with."""
        with guarded(self._store.client, "begin a shadow run"):
            self._store.client.delete(self._hash, self._agreed, self._disagreed)

    def write(self, tally: Tally, at: int, *, running: bool = True) -> None:
        """The counts, and the parts since the last write."""
        news = list(tally.news)
        try:
            with guarded(self._store.client, "keep a shadow run"):
                pipe = self._store.client.pipeline(transaction=False)
                pipe.hset(self._hash, mapping=dict(fields_of(tally.report(at, running=running))))
                pipe.expire(self._hash, TTL_S)
                for part in news:
                    name, most = (self._agreed, AGREED) if part.agrees else (self._disagreed, DISAGREED)
                    pipe.xadd(name, cast("Any", entry_of(part)), maxlen=most, approximate=True)
                for name, ttl in ((self._agreed, AGREED_TTL_S), (self._disagreed, TTL_S)):
                    pipe.expire(name, ttl)
                pipe.execute()
        except StoreError as error:
            log.warning("shadow.not_kept", error=str(error))
            return
        for _ in news:
            tally.news.popleft()
