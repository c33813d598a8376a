"""A loop that stands still is found and ended, and one that waits for a reason is left alone."""

from __future__ import annotations

import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from structlog.testing import capture_logs

from workers.bus.base import TopicPartition
from workers.clock import ManualClock
from workers.watchdog import EXIT_STALLED, Watchdog, stacks

ROOT = Path(__file__).resolve().parents[2]
PLACE = TopicPartition("frames", 3)
STALL_S = 30.0


class Watched:
    """A watchdog on a clock set by hand; keeps the exit codes."""

    def __init__(self) -> None:
        self.clock = ManualClock()
        self.codes: list[int] = []
        self.dog = Watchdog(stall_s=STALL_S, clock=self.clock, exit=self.codes.append)

    def turns(self, seconds: float, *, paused: bool = False) -> None:
        """The loop turns, once a second."""
        for _ in range(round(seconds)):
            self.clock.advance(1)
            self.dog.turned(paused)
            self.dog.check()


def test_a_loop_that_does_not_turn_is_ended_once_with_every_stack_told() -> None:
    watched = Watched()
    watched.turns(100)
    assert watched.codes == []
    watched.clock.advance(STALL_S - 0.1)
    assert not watched.dog.check()
    watched.clock.advance(0.1)
    with capture_logs() as events:
        assert watched.dog.check()
        assert watched.dog.check()
    assert watched.codes == [EXIT_STALLED] == [70]
    (event,) = events
    assert event["event"] == "worker.stalled"
    assert event["log_level"] == "critical"
    assert (event["why"], event["seconds"]) == ("the loop does not turn", STALL_S)
    assert "thread MainThread" in event["stacks"]
    assert "test_a_loop_that_does_not_turn" in event["stacks"]


def test_a_run_of_the_model_within_its_bound_is_no_stall_and_beyond_it_is_one() -> None:
    watched = Watched()
    watched.dog.busy(10 * STALL_S)
    watched.clock.advance(10 * STALL_S - 1)
    assert not watched.dog.check()
    watched.clock.advance(1)
    assert watched.dog.check()
    assert watched.codes == [EXIT_STALLED]


def test_after_a_long_run_the_loop_has_the_usual_time_again() -> None:
    watched = Watched()
    watched.dog.busy(10 * STALL_S)
    watched.clock.advance(5 * STALL_S)
    watched.dog.turned()
    watched.clock.advance(STALL_S - 1)
    assert not watched.dog.check()
    watched.clock.advance(1)
    assert watched.dog.check()


def test_a_bound_shorter_than_a_stall_shortens_nothing() -> None:
    watched = Watched()
    watched.dog.busy(0.1)
    watched.clock.advance(STALL_S - 1)
    assert not watched.dog.check()


def test_a_partition_with_records_that_does_not_move_ends_the_worker_and_is_named() -> None:
    watched = Watched()
    watched.dog.lags({PLACE: (5, 9)})
    watched.turns(STALL_S - 1)
    assert watched.codes == []
    with capture_logs() as events:
        watched.turns(1)
    assert watched.codes == [EXIT_STALLED]
    assert (events[0]["partition"], events[0]["position"]) == ("frames[3]", 5)


def test_lag_alone_is_no_stall_while_the_position_moves() -> None:
    watched = Watched()
    for position in range(20):
        watched.dog.lags({PLACE: (position, position + 1000)})
        watched.turns(STALL_S - 1)
    assert watched.codes == []


def test_progress_between_two_questions_counts() -> None:
    watched = Watched()
    watched.dog.lags({PLACE: (5, 9)})
    watched.turns(STALL_S - 1)
    watched.dog.progress(PLACE, 6)
    watched.turns(STALL_S - 1)
    assert watched.codes == []
    watched.dog.progress(PLACE, 6)
    watched.turns(1)
    assert watched.codes == [EXIT_STALLED]


def test_a_partition_that_has_nothing_to_read_or_went_to_another_worker_may_stand() -> None:
    watched = Watched()
    watched.dog.lags({PLACE: (9, 9)})
    watched.turns(5 * STALL_S)
    watched.dog.lags({PLACE: (9, 10)})
    watched.dog.lags({})
    watched.turns(5 * STALL_S)
    assert watched.codes == []


def test_new_records_after_a_long_silence_get_the_whole_time() -> None:
    watched = Watched()
    watched.dog.lags({PLACE: (9, 9)})
    watched.turns(10 * STALL_S)
    watched.dog.lags({PLACE: (9, 10)})
    watched.turns(STALL_S - 1)
    assert watched.codes == []


def test_a_sink_that_is_down_for_an_hour_is_a_pause_and_the_time_after_it_counts_anew() -> None:
    watched = Watched()
    watched.dog.lags({PLACE: (5, 9)})
    watched.turns(3600, paused=True)
    watched.turns(STALL_S - 1)
    assert watched.codes == []
    watched.turns(1)
    assert watched.codes == [EXIT_STALLED]


def test_a_paused_loop_that_does_not_turn_is_a_stall_all_the_same() -> None:
    watched = Watched()
    watched.turns(60, paused=True)
    watched.clock.advance(STALL_S)
    assert watched.dog.check()


def test_the_broker_is_to_be_asked_for_ends_several_times_within_a_stall() -> None:
    assert 4 <= STALL_S / Watched().dog.lag_check_s <= 8


def test_a_question_to_the_broker_may_take_longer_than_a_stall_and_excuses_no_partition() -> None:
    watched = Watched()
    watched.dog.lags({PLACE: (5, 9)})
    for _ in range(2):
        watched.dog.busy(2 * STALL_S, excuses=False)
        watched.clock.advance(STALL_S + 1)
        assert not watched.dog.check()
        watched.dog.turned()
    assert watched.dog.check()


def test_who_asks_is_told_what_stands_still_and_nothing_while_it_moves() -> None:
    watched = Watched()
    watched.turns(5)
    assert watched.dog.trouble() is None
    watched.dog.lags({PLACE: (5, 9)})
    watched.turns(STALL_S)
    assert str(watched.dog.trouble()).startswith("a partition has records and does not move")
    assert f"({PLACE} at 5)" in str(watched.dog.trouble())
    watched.dog.lags({})
    watched.clock.advance(STALL_S)
    assert str(watched.dog.trouble()).startswith("the loop does not turn, for ")


@given(
    st.lists(
        st.tuples(
            st.sampled_from(["turn", "pause", "busy", "lag", "none"]), st.floats(0.01, 200), st.integers(0, 3)
        ),
        max_size=60,
    )
)
def test_whatever_happened_before_a_hang_is_found_and_nothing_before_its_time(
    story: list[tuple[str, float, int]],
) -> None:
    watched = Watched()
    hung, allowed = 0.0, STALL_S
    stood: dict[int, float] = {}
    for what, seconds, position in story:
        if what == "turn":
            watched.dog.turned()
            hung, allowed = 0.0, STALL_S
        elif what == "pause":
            watched.dog.turned(paused=True)
            # A partition still stands where it stood; its time begins anew.
            hung, allowed, stood = 0.0, STALL_S, dict.fromkeys(stood, 0.0)
        elif what == "busy":
            watched.dog.busy(seconds)
            hung, allowed = 0.0, max(seconds, STALL_S)
        elif what == "lag":
            watched.dog.lags({PLACE: (position, 4)})
            stood = {position: stood.get(position, 0.0)}
        step = min(seconds, STALL_S / 4)
        watched.clock.advance(step)
        hung += step
        stood = {position: time + step for position, time in stood.items()}
        ended = watched.dog.check()
        if ended:
            assert hung >= allowed - 1e-3 or max(stood.values(), default=0.0) >= STALL_S - 1e-3
            return
        assert hung < allowed + 1e-3
    watched.clock.advance(allowed - hung + 1)
    assert watched.dog.check()


def test_a_watchdog_that_was_stopped_watches_no_longer_and_can_start_again() -> None:
    codes: list[int] = []
    dog = Watchdog(stall_s=0.05, exit=codes.append)
    dog.start()
    dog.start()
    assert sum(thread.name == "watchdog" for thread in threading.enumerate()) == 1
    dog.stop()
    dog.stop()
    assert not any(thread.name == "watchdog" for thread in threading.enumerate())


def test_the_stacks_name_each_thread_and_the_line_it_stands_at() -> None:
    go, there = threading.Event(), threading.Event()

    def stands_here() -> None:
        there.set()
        go.wait(10)

    thread = threading.Thread(target=stands_here, name="scorer")
    thread.start()
    there.wait(10)
    told = stacks()
    go.set()
    thread.join()
    assert "thread scorer:" in told
    assert "in stands_here" in told


HANGS = """
import sys, threading, time
sys.path.insert(0, {root!r})
from workers.logs import configure_logs
from workers.watchdog import Watchdog

configure_logs("json")
dog = Watchdog(stall_s={stall})

def decide_a_part(lock):
    {hang}

lock = threading.Lock()
lock.acquire()
dog.start()
for _ in range(20):
    dog.turned()
    time.sleep(0.01)
print("turned", flush=True)
decide_a_part(lock)
"""


def run_hanging(hang: str, stall: float) -> subprocess.CompletedProcess[str]:
    """A process whose loop turns for a while and then hangs."""
    script = HANGS.format(root=str(ROOT), hang=hang, stall=stall)
    return subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, timeout=60, check=False
    )


def test_a_process_whose_loop_hangs_ends_with_70_and_shows_where() -> None:
    started = time.monotonic()
    ended = run_hanging("lock.acquire()", 1.0)
    assert ended.returncode == EXIT_STALLED
    assert ended.stdout == "turned\n"
    assert time.monotonic() - started < 30
    assert "worker.stalled" in ended.stderr
    # Once in the event, once by faulthandler.
    assert ended.stderr.count("decide_a_part") >= 2
    assert "thread MainThread" in ended.stderr
    assert "Current thread" in ended.stderr


@pytest.mark.skipif(sys.platform == "win32", reason="the hang is made with the C library's own sleep")
def test_a_call_that_never_gives_the_interpreter_back_is_ended_too() -> None:
    ended = run_hanging("import ctypes; ctypes.PyDLL(None).sleep(30)", 0.5)
    assert ended.returncode == 1
    assert "decide_a_part" in ended.stderr
