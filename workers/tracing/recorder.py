"""From what a process tells to spans that are sent, on a thread of its own: telling costs an append."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from typing import Protocol

import structlog

from workers.tracing.span import Span

log = structlog.get_logger(__name__)

Make = Callable[[], Iterable[Span]]
"""Makes the spans of one thing that happened; called later, on the recorder's thread."""

CAPACITY = 8192
BATCH = 512
EVERY_S = 1.0
LONGEST_PAUSE_S = 30.0


class Exporter(Protocol):
    """Takes spans away."""

    def export(self, spans: Sequence[Span]) -> str | None:
        """Send them; why it failed, or None. Called on the recorder's thread; it may take seconds."""
        ...

    def close(self) -> None:
        """Give up what is being sent. May come from another thread."""
        ...


class Recorder:
    """Keeps what was told until it is sent. What a collector does not take in time is lost, and counted.

    Args:
        exporter: takes spans away.
        capacity: so many things may wait; one more pushes the oldest out.
        every_s: how often what waits is sent, seconds.
    """

    def __init__(self, exporter: Exporter, *, capacity: int = CAPACITY, every_s: float = EVERY_S) -> None:
        self._exporter = exporter
        self._waiting: deque[Make] = deque(maxlen=capacity)
        self._every_s = every_s
        self._stop = threading.Event()
        self._sending = threading.Lock()
        self._away = False
        self._told_of_mistake = False
        self.lost = 0
        """Spans, or things that spans were to be made of, that nobody got. By several threads: about."""
        self._thread = threading.Thread(target=self._run, name="traces", daemon=True)

    def start(self) -> None:
        """Begin to send."""
        self._thread.start()

    def tell(self, make: Make) -> None:
        """Something happened. Any thread; it takes no lock and never waits."""
        waiting = self._waiting
        if len(waiting) == waiting.maxlen:
            self.lost += 1
        waiting.append(make)

    def flush(self) -> bool:
        """Send what waits now; False where the collector did not take it."""
        with self._sending:
            spans = self._made()
            for at in range(0, len(spans), BATCH):
                if not self._send(spans[at : at + BATCH]):
                    self.lost += len(spans) - at - BATCH if len(spans) - at > BATCH else 0
                    return False
            return True

    def close(self, timeout_s: float = 3.0) -> None:
        """Send what waits, for at most ``timeout_s``. Closing twice is allowed."""
        self._stop.set()
        if self._thread.is_alive():
            self._thread.join(timeout_s)
        self._exporter.close()

    def _run(self) -> None:
        pause = self._every_s
        while not self._stop.wait(pause):
            # A collector that is away is asked ever more rarely; what it misses is pushed out meanwhile.
            pause = self._every_s if self.flush() else min(LONGEST_PAUSE_S, 2 * pause)
        self.flush()

    def _made(self) -> list[Span]:
        spans: list[Span] = []
        while self._waiting:
            try:
                spans.extend(self._waiting.popleft()())
            except Exception as error:  # whatever it is: the other spans are not to be lost with it
                self.lost += 1
                if not self._told_of_mistake:
                    self._told_of_mistake = True
                    log.error("traces.not_made", error=repr(error))
        return spans

    def _send(self, spans: Sequence[Span]) -> bool:
        try:
            why = self._exporter.export(spans)
        except Exception as error:  # an exporter is somebody else's code; this thread is to go on
            why = repr(error)
        if why is None:
            if self._away:
                self._away = False
                log.info("traces.collector_back", lost=self.lost)
            return True
        self.lost += len(spans)
        if not self._away:
            self._away = True
            log.warning("traces.collector_away", error=why, meanwhile="spans are dropped, parts are not")
        return False
