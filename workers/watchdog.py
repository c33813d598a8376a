"""Ends a worker that does not move, so that its supervisor starts it again: with every thread's stack told.

Two ways of not moving are told apart. The loop does not turn: a call hangs, or a lock is never released. Or
it turns, and a partition has records that nobody decides. Waiting on purpose is neither: a sink that is away,
a long run of the model that the loop has announced, a process that was suspended as a whole.
"""

from __future__ import annotations

import contextlib
import faulthandler
import os
import sys
import threading
import traceback
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import TextIO

import structlog

from workers.bus.base import TopicPartition
from workers.clock import Clock, SystemClock

log = structlog.get_logger(__name__)

EXIT_STALLED = 70
"""Exit code of a worker that ended itself (EX_SOFTWARE): start it again."""

# How many looks there are within the time that counts as a stall.
_LOOKS = 8
# The process ends so many seconds after a stall was found, even where its log blocks.
_LOG_S = 5.0


@dataclass(frozen=True, slots=True)
class _Turn:
    at: float
    # How long the loop may now take until its next turn, seconds.
    allowed: float
    # Whether partitions that stood still meanwhile had a reason.
    excuses: bool = True


@dataclass(frozen=True, slots=True)
class _Lane:
    position: int
    # Since when it has had records and stood at that position.
    since: float


class Watchdog:
    """Watches one loop. The loop's thread calls `turned`, `busy`, `progress` and `lags`: they take no lock.

    Args:
        stall_s: how long without a turn, or with lag and without a move, is a stall; seconds.
        clock: the clock that all of it is measured by.
        exit: ends the process, with `EXIT_STALLED`; ``os._exit``, for a hung thread cannot be unwound.
        stderr: where faulthandler writes the stacks too; None is the process's own standard error.
    """

    def __init__(
        self,
        *,
        stall_s: float,
        clock: Clock | None = None,
        exit: Callable[[int], object] = os._exit,
        stderr: TextIO | None = None,
    ) -> None:
        self._stall_s = stall_s
        self._clock: Clock = SystemClock() if clock is None else clock
        self._exit = exit
        self._stderr = stderr
        now = self._clock.monotonic()
        self._turn = _Turn(now, stall_s)
        # Standing still until this moment had a reason.
        self._excused = now
        self._lanes: dict[TopicPartition, _Lane] = {}
        self._stalled = False
        self._stop = threading.Event()
        self._thread: threading.Thread | None = None

    # For the loop's thread.

    def turned(self, paused: bool = False) -> None:
        """The loop has come round: at every step, and at every try of a sink that is down.

        Args:
            paused: nothing is decided on purpose, since a sink is away or the worker drains: no partition has
                to move. A pause because too much is held is no such reason: what is held has to move.
        """
        now = self._clock.monotonic()
        if paused or (self._turn.allowed > self._stall_s and self._turn.excuses):
            self._excused = now
        self._turn = _Turn(now, self._stall_s)

    def busy(self, seconds: float, *, excuses: bool = True) -> None:
        """The loop's next turn may take ``seconds``: called before a run of the model, with a bound on it.

        Until then nothing is a stall. The next `turned` ends it.

        Args:
            excuses: partitions need not have moved meanwhile. Not for what is done every few seconds: none
                would ever have to.
        """
        self._turn = _Turn(self._clock.monotonic(), max(seconds, self._stall_s), excuses)

    def progress(self, partition: TopicPartition, position: int) -> None:
        """A partition has come to ``position``. Optional: `lags` says it too, less often."""
        lane = self._lanes.get(partition)
        if lane is not None and lane.position != position:
            self._lanes[partition] = _Lane(position, self._clock.monotonic())

    @property
    def lag_check_s(self) -> float:
        """How often the broker is to be asked where partitions end, for `lags`: seconds, at most."""
        return self._stall_s / _LOOKS

    def lags(self, found: Mapping[TopicPartition, tuple[int, int]]) -> None:
        """Where every assigned partition stands: its position and its end. Others are forgotten.

        The position is the next offset that is not decided. Where nothing of a partition is in flight, take
        the consumer's position: it goes past the end of a transaction, which no record ever does.
        """
        now = self._clock.monotonic()
        lanes: dict[TopicPartition, _Lane] = {}
        for partition, (position, end) in found.items():
            if position < end:
                before = self._lanes.get(partition)
                stands = before is not None and before.position == position
                lanes[partition] = before if before is not None and stands else _Lane(position, now)
        self._lanes = lanes

    # The watching.

    def start(self) -> None:
        """Watch on a thread of its own; where that thread cannot run either, faulthandler ends the process.

        That is a call into native code that never gives the interpreter back. The exit code is 1 then.
        """
        if self._thread is None:
            self._stop.clear()
            self._thread = threading.Thread(target=self._watch, name="watchdog", daemon=True)
            self._thread.start()

    def stop(self) -> None:
        """Watch no longer: before a loop ends in its own way."""
        thread, self._thread = self._thread, None
        if thread is not None:
            self._stop.set()
            thread.join()

    def trouble(self) -> str | None:
        """Why the loop counts as standing still now, or None; only looks, and any thread may ask."""
        why = self._stall(self._clock.monotonic())
        if why is None:
            return "the worker stands still and is being ended" if self._stalled else None
        where = f" ({why['partition']} at {why['position']})" if "partition" in why else ""
        return f"{why['why']}, for {why['seconds']} s{where}"

    def check(self) -> bool:
        """One look; whether the loop stands still, in which case everything was told and ``exit`` called."""
        why = None if self._stalled else self._stall(self._clock.monotonic())
        if why is not None:
            self._stalled = True
            self._end(why)
        return self._stalled

    def _stall(self, now: float) -> dict[str, object] | None:
        """What is wrong, in the words of the event, or None."""
        turn = self._turn
        since = max(turn.at, self._excused) if turn.allowed <= self._stall_s else turn.at
        if now - since >= turn.allowed:
            return {"why": "the loop does not turn", "seconds": round(now - since, 1)}
        if turn.allowed > self._stall_s:
            return None
        for partition, lane in self._lanes.copy().items():
            stood = now - max(lane.since, self._excused)
            if stood >= self._stall_s:
                return {
                    "why": "a partition has records and does not move",
                    "seconds": round(stood, 1),
                    "partition": str(partition),
                    "position": lane.position,
                }
        return None

    def _watch(self) -> None:
        period = self._stall_s / _LOOKS
        before = self._clock.monotonic()
        while True:
            self._arm()
            if self._stop.wait(period):
                break
            now = self._clock.monotonic()
            if now - before > 4 * period:
                # This thread did not run either: the whole process was suspended, and the loop with it.
                self._excuse(now)
            before = now
            if self.check():
                break
        faulthandler.cancel_dump_traceback_later()

    def _excuse(self, now: float) -> None:
        self._excused = now
        # May undo a turn of the loop's at this very moment; the loop will make another.
        self._turn = replace(self._turn, at=now)

    def _arm(self) -> None:
        """Put the last resort off until well after this thread should have found something."""
        later = 2 * max(self._stall_s, self._turn.allowed)
        with contextlib.suppress(AttributeError, ValueError, OSError, RuntimeError):
            faulthandler.dump_traceback_later(later, exit=True, file=self._stderr or sys.stderr)

    def _end(self, why: dict[str, object]) -> None:
        # A thread that hangs may hold what the log needs: the process ends all the same.
        regardless = threading.Timer(_LOG_S, self._exit, (EXIT_STALLED,))
        regardless.daemon = True
        regardless.start()
        log.critical("worker.stalled", **why, exit_code=EXIT_STALLED, stacks=stacks())
        with contextlib.suppress(AttributeError, ValueError, OSError, RuntimeError):
            faulthandler.dump_traceback(file=self._stderr or sys.stderr, all_threads=True)
        regardless.cancel()
        self._exit(EXIT_STALLED)


def stacks() -> str:
    """Every thread's stack as text, by the thread's name; no values, so nothing of a frame."""
    names = {thread.ident: thread.name for thread in threading.enumerate()}
    told = []
    for ident, frame in sys._current_frames().items():
        lines = "".join(traceback.format_stack(frame))
        told.append(f"thread {names.get(ident, ident)}:\n{lines}")
    return "\n".join(told)
