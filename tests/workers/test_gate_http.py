"""An actuator behind HTTP, and the bound on every wait for one."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from schemas.part import PartKey
from tests.workers.gate_line import GateLine, key, verdict
from tests.workers.outputs import Output
from workers.errors import ActuatorError
from workers.gate import BoundedActuator, HttpActuator, RecordingActuator, events
from workers.gate.address import open_actuator


@pytest.fixture
def output() -> Iterator[Output]:
    with Output() as output:
        yield output


@pytest.fixture
def line(tmp_path: Path, output: Output) -> Iterator[GateLine]:
    opened = open_actuator(f"{output.address}?timeout_ms=2000")
    with GateLine(tmp_path) as line:
        line.actuator = opened.actuator
        line.restart()
        yield line
    opened.close()


def test_it_is_told_of_each_part_by_its_key_and_closed_behind_it(output: Output, line: GateLine) -> None:
    part = line.trigger()
    line.store.decide(verdict(part))
    line.pass_time(1.0)
    assert output.open_for == str(part)
    line.pass_time(0.1)
    assert not output.is_open()
    assert output.keys == [str(part)]
    assert line.alarms == []
    deadline = time.monotonic() + 10.0
    while not output.beats:
        assert time.monotonic() < deadline
        line.gate.step()


@pytest.mark.parametrize("status", [204, 302, 404, 409, 500, 503])
def test_only_a_2xx_is_a_confirmation(output: Output, line: GateLine, status: int) -> None:
    line.pass_time(0.01)
    output.status = status
    part = line.trigger()
    line.store.decide(verdict(part))
    line.pass_time(1.0)
    confirmed = 200 <= status < 300
    assert line.gate.report().opened == confirmed
    assert (events.ALARM_RELEASE in line.alarms) is not confirmed
    assert line.decisions()[part].opened, "what was to happen"


def test_a_server_that_is_gone_is_closed_with_an_alarm_and_works_again_when_it_is_back(
    output: Output, line: GateLine
) -> None:
    line.pass_time(0.01)
    output.stop()
    first = line.trigger()
    line.store.decide(verdict(first))
    line.pass_time(1.1)
    assert line.gate.report().by_reason == {"actuator": 1}
    assert len(line.alarms) <= 3
    output.start()
    deadline = time.monotonic() + 10.0
    releases = output.releases
    while output.releases == releases:
        assert time.monotonic() < deadline, "never released"
        line.gate.step()
        time.sleep(0.005)
    second = line.trigger()
    line.store.decide(verdict(second))
    line.pass_time(1.0)
    assert output.open_for == str(second)
    assert output.keys == [str(second)]


def test_a_connection_that_the_server_ended_is_made_again_without_a_failure(output: Output) -> None:
    output.close_after = True
    actuator = HttpActuator(output.address, timeout_s=2.0)
    for trigger in range(3):
        actuator.energise(key(trigger))
    output.close_after = False
    actuator.release()
    output.stop()
    output.start()  # an idle connection, ended by a restart
    actuator.heartbeat()
    actuator.close()
    assert output.keys == [str(key(trigger)) for trigger in range(3)]
    assert output.beats == 1


def test_an_opening_that_comes_through_after_it_was_given_up_is_closed_at_once(output: Output) -> None:
    opened = open_actuator(f"{output.address}?timeout_ms=100")
    output.hold.clear()
    before = time.monotonic()
    with pytest.raises(ActuatorError):
        opened.actuator.energise(key(1))
    assert time.monotonic() - before < 0.1 + 0.3
    output.hold.set()
    deadline = time.monotonic() + 10.0
    while True:
        assert time.monotonic() < deadline, "never released"
        try:
            opened.actuator.release()
        except ActuatorError:
            time.sleep(0.005)
            continue
        if output.releases:
            break
    assert output.open_for is None
    opened.close()


class Slow(RecordingActuator):
    """A driver that blocks for as long as it likes."""

    def __init__(self) -> None:
        super().__init__()
        self.go = threading.Event()
        self.began = threading.Event()
        self.closed = threading.Event()

    def energise(self, part: PartKey) -> None:
        self.began.set()
        self.go.wait(10.0)
        super().energise(part)

    def close(self) -> None:
        self.closed.set()


def test_a_driver_that_blocks_fails_at_the_bound_and_everything_behind_it_at_once() -> None:
    inner = Slow()
    with BoundedActuator(inner, bound_s=0.05) as actuator:
        with pytest.raises(ActuatorError, match="within 50 ms"):
            actuator.energise(key(1))
        for call in (actuator.release, lambda: actuator.energise(key(2)), actuator.heartbeat):
            before = time.monotonic()
            with pytest.raises(ActuatorError, match="earlier call"):
                call()
            assert time.monotonic() - before < 0.04
        inner.go.set()
        deadline = time.monotonic() + 10.0
        while not inner.releases:
            assert time.monotonic() < deadline
            time.sleep(0.002)
        assert (inner.open_for, inner.releases) == (None, 1), "it came late, and was released there and then"
        assert inner.passed == [key(1)], "what was refused was never passed on"
        actuator.energise(key(3))
        assert inner.passed[-1] == key(3)
    assert inner.closed.wait(10.0)


def test_a_heartbeat_never_waits_and_tells_of_its_failure_the_next_time() -> None:
    class Broken(Slow):
        def heartbeat(self) -> None:
            self.began.set()
            raise OSError("no answer from the output card")

    inner = Broken()
    with BoundedActuator(inner, bound_s=0.5, heartbeat_s=0.001) as actuator:
        actuator.heartbeat()
        assert inner.began.wait(10.0)
        told: list[OSError] = []
        deadline = time.monotonic() + 10.0
        while not told and time.monotonic() < deadline:
            try:
                actuator.heartbeat()
            except OSError as error:
                told.append(error)
        assert [str(error) for error in told] == ["no answer from the output card"]
        actuator.release()
