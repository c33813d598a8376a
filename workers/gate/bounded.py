"""An actuator that speaks over a network, and a loop that must not wait for it longer than it can afford."""

from __future__ import annotations

import queue
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from types import TracebackType
from typing import Self

from schemas.part import PartKey
from workers.errors import ActuatorError
from workers.gate.actuators import RemoteActuator


@dataclass(slots=True)
class _Call:
    action: Callable[[], None]
    opens: bool = False
    done: threading.Event = field(default_factory=threading.Event)
    error: Exception | None = None
    given_up: bool = False


class BoundedActuator:
    """Runs another actuator on a thread of its own and waits for it ``bound_s`` seconds at most.

    What is not confirmed by then has failed. Until that call has come to its end every other call fails at
    once; an ``energise`` that comes through after it was given up is released there and then. Heartbeats are
    sent without waiting; what became of one is told by the next.

    Args:
        inner: the actuator; all its calls are made on one thread, one after the other.
        bound_s: the longest wait of any call, seconds.
        heartbeat_s: least time between two heartbeats, seconds: the loop turns far more often.
    """

    def __init__(self, inner: RemoteActuator, *, bound_s: float = 0.2, heartbeat_s: float = 0.1) -> None:
        if bound_s <= 0 or heartbeat_s <= 0:
            raise ValueError(f"bound {bound_s} s, heartbeat {heartbeat_s} s: expected seconds above 0")
        self._inner = inner
        self._bound = bound_s
        self._heartbeat = heartbeat_s
        self._calls: queue.SimpleQueue[_Call | None] = queue.SimpleQueue()
        self._lock = threading.Lock()
        self._open: _Call | None = None
        """The last call given up, while it may still be under way."""
        self._beat: _Call | None = None
        self._beat_at = 0.0
        self._thread = threading.Thread(target=self._work, name="gate-actuator", daemon=True)
        self._thread.start()

    def energise(self, part: PartKey) -> None:
        self._wait_for(_Call(lambda: self._inner.energise(part), opens=True))

    def release(self) -> None:
        self._wait_for(_Call(self._inner.release))

    def heartbeat(self) -> None:
        """Send one where the last is ``heartbeat_s`` old. Raises ActuatorError where that one failed."""
        now = time.monotonic()
        last = self._beat
        if last is not None:
            if not last.done.is_set():
                if now - self._beat_at > self._bound:
                    self._give_up(last)
                    self._beat = None
                    raise ActuatorError(f"no answer to the heartbeat within {self._bound * 1e3:.0f} ms")
                return
            if last.error is not None:
                self._beat = None
                raise last.error
        if now - self._beat_at < self._heartbeat:
            return
        self._refuse_while_open()
        self._beat, self._beat_at = _Call(self._inner.heartbeat), now
        self._calls.put(self._beat)

    def _wait_for(self, call: _Call) -> None:
        self._refuse_while_open()
        self._calls.put(call)
        if not call.done.wait(self._bound) and self._give_up(call):
            raise ActuatorError(f"no answer within {self._bound * 1e3:.0f} ms")
        if call.error is not None:
            raise call.error

    def _refuse_while_open(self) -> None:
        if self._open is not None:
            if not self._open.done.is_set():
                raise ActuatorError("an earlier call has not come to its end")
            self._open = None

    def _give_up(self, call: _Call) -> bool:
        """Whether it was still under way."""
        with self._lock:
            if call.done.is_set():
                return False
            call.given_up = True
            self._open = call
            return True

    def _work(self) -> None:
        while (call := self._calls.get()) is not None:
            try:
                if not call.given_up:
                    call.action()
            except Exception as error:  # told to the caller, whatever it is
                call.error = error
            with self._lock:
                late = call.given_up and call.opens
                if not late:
                    call.done.set()
            if late:
                # It may be open for a part that has left. The gate releases it too, until that is confirmed.
                with suppress(Exception):
                    self._inner.release()
                call.done.set()
        self._inner.close()

    def close(self) -> None:
        """Let go of the connection. Waits for a call under way, ``bound_s`` at most."""
        self._calls.put(None)
        self._thread.join(self._bound)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
