"""Everything the page's first look needs, put together: /api/state."""

from __future__ import annotations

import json
import threading
from dataclasses import dataclass, field
from typing import Any

from workers.board.feed import Feed
from workers.board.tail import Tail
from workers.board.watch import Seen, Watch
from workers.clock import Clock

FRESH_S = 0.5
"""A snapshot this young is given to whoever asks, instead of a new one."""

_UNSEEN = {"state": "up", "since": None, "why": None}
"""A sensor that no worker has said anything wrong of."""
_UNKNOWN = {"state": "suspect", "since": None, "why": "Redis is away"}


@dataclass(slots=True)
class State:
    """Puts the snapshot together, at most twice a second, whoever asks. Safe to share between threads.

    Attributes:
        tails: that of the verdicts first; Kafka counts as reached while it can be read.
    """

    feed: Feed
    watch: Watch
    tails: tuple[Tail, ...]
    letters: Tail
    clock: Clock
    can_sign_in: bool
    _lock: threading.Lock = field(default_factory=threading.Lock)
    _made: float = -1e9
    _body: bytes = b""

    def snapshot(self) -> dict[str, Any]:
        """The state now, without who is signed in."""
        now = self.clock.now()
        seen = self.watch.seen
        stations = self.feed.stations(now / 1e9)
        for station in stations:
            _complete(station, seen)
        return {
            "now": now // 1_000_000,
            "can_sign_in": self.can_sign_in,
            "stations": stations,
            "workers": list(seen.workers),
            "dead_letters": {"total": self.letters.kept, "recent": self.feed.letters()},
            "review": {"waiting": self.feed.waiting(0)[0]},
            "sinks": {"kafka": self.reads_kafka(), "redis": seen.up},
            "verdicts_per_s": self.feed.rate(now / 1e9),
        }

    def reads_kafka(self) -> bool:
        """Whether the verdicts are being read."""
        return self.tails[0].failure is None

    def changed(self) -> None:
        """Something was just done here: whoever asks next sees it."""
        with self._lock:
            self._made = -1e9

    def body(self, signed_in: bool) -> bytes:
        """The snapshot as JSON; encoded once for all who ask within half a second."""
        with self._lock:
            now = self.clock.monotonic()
            if now - self._made >= FRESH_S:
                text = json.dumps(self.snapshot(), separators=(",", ":"), allow_nan=False)
                self._made, self._body = now, text.encode()
            body = self._body
        return b'{"signed_in":' + (b"true," if signed_in else b"false,") + body[1:]


def _complete(station: dict[str, Any], seen: Seen) -> None:
    name = station["name"]
    unseen = _UNSEEN if seen.up else _UNKNOWN
    station["sensors"] = seen.sensors.get(name) or {"rgb": dict(unseen), "depth": dict(unseen)}
    product = station["product"]
    # Of a product that is not on the line now the last look is no news.
    station["drift"] = [each for each in seen.drift.get(name, ()) if product in (None, each["product"])]
    station["product_due"] = seen.due.get(name)
