"""A PLC as the actuator: confirmed by reading back, and closed whenever it does not answer."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import pytest

from schemas.part import PartKey
from schemas.verdict import Decision
from tests.workers.gate_line import GateLine, key, verdict
from tests.workers.plc import COIL, COUNTER, HEARTBEAT, UNIT, Plc
from workers.clock import ManualClock
from workers.errors import ActuatorError, SettingsError
from workers.gate import CallbackActuator, ModbusActuator, ModbusSettings, events
from workers.gate.address import OpenActuator, open_actuator
from workers.gate.counter import CounterWatch

BOUND_S = 0.2
SLACK_S = 0.6
"""What a loaded machine may add to a bound."""


@pytest.fixture
def plc() -> Iterator[Plc]:
    with Plc() as plc:
        yield plc


@pytest.fixture
def opened(plc: Plc) -> Iterator[OpenActuator]:
    opened = open_actuator(f"{plc.address}&timeout_ms=2000")
    yield opened
    opened.close()


@pytest.fixture
def line(tmp_path: Path, opened: OpenActuator) -> Iterator[GateLine]:
    """A gate on this PLC; time is set by hand, the PLC is real."""
    with GateLine(tmp_path) as line:
        line.actuator = opened.actuator
        line.restart()
        yield line


def until(done: Callable[[], bool], what: str, turn: Callable[[], object] = lambda: None) -> None:
    """Turn until something is so; a real server takes its time."""
    deadline = time.monotonic() + 10.0
    while not done():
        assert time.monotonic() < deadline, f"never: {what}"
        turn()
        time.sleep(0.005)


def test_the_coil_is_on_while_a_pass_is_in_front_of_the_gate(plc: Plc, line: GateLine) -> None:
    part = line.trigger()
    line.store.decide(verdict(part))
    line.pass_time(0.99)
    assert not plc.is_open()
    line.pass_time(0.02)
    assert plc.is_open()
    line.pass_time(0.1)
    assert not plc.is_open()
    report = line.gate.report()
    assert (report.opened, line.alarms) == (1, [])


def test_the_heartbeat_counts_up_and_stops_with_the_loop(plc: Plc, line: GateLine) -> None:
    until(lambda: plc.register(HEARTBEAT) >= 2, "two heartbeats", line.gate.step)
    before = plc.register(HEARTBEAT)
    time.sleep(0.15)
    assert plc.register(HEARTBEAT) - before <= 1, "a heartbeat that nobody sent"


def test_a_plc_that_is_gone_is_closed_with_an_alarm_and_works_again_when_it_is_back(
    plc: Plc, line: GateLine
) -> None:
    until(lambda: plc.register(HEARTBEAT) >= 1, "a heartbeat", line.gate.step)
    plc.kill()
    part = line.trigger()
    line.store.decide(verdict(part))
    line.pass_time(1.1)
    assert line.gate.report().opened == 0
    assert line.gate.report().by_reason == {"actuator": 1}
    assert set(line.alarms) <= {events.ALARM_ACTUATOR, events.ALARM_RELEASE}
    assert events.ALARM_RELEASE in line.alarms
    assert len(line.alarms) <= 3, "alarmed once, not at every try"
    plc.start()
    plc.switch(True)
    until(lambda: plc.register(HEARTBEAT) >= 1, "a heartbeat of the new PLC", line.gate.step)
    assert not plc.is_open(), "closed before it beats again"
    second = line.trigger()
    line.store.decide(verdict(second))
    line.pass_time(1.01)
    assert plc.is_open()
    assert line.gate.report().opened == 1


def test_a_plc_that_hangs_holds_no_turn_up_for_longer_than_the_bound(
    plc: Plc, line: GateLine, request: pytest.FixtureRequest
) -> None:
    opened = open_actuator(f"{plc.address}&timeout_ms={BOUND_S * 1e3:.0f}")
    request.addfinalizer(opened.close)
    line.actuator = opened.actuator
    line.restart()
    until(lambda: plc.register(HEARTBEAT) >= 1, "a heartbeat", line.gate.step)
    plc.hang()
    part = line.trigger()
    line.store.decide(verdict(part))
    longest, slow, turns = 0.0, 0, 0
    start = time.monotonic()
    while time.monotonic() - start < 2.0:
        line.clock.advance(0.01)
        before = time.monotonic()
        line.gate.step()
        took = time.monotonic() - before
        longest = max(longest, took)
        slow += took > BOUND_S / 2
        turns += 1
    # One turn may energise and, that failing, release: each waits for the bound at most.
    assert longest <= 2 * BOUND_S + SLACK_S
    assert turns > 20
    assert slow < turns / 2
    assert line.decisions()[part].opened, "the journal says what was to happen"
    assert (line.gate.report().opened, line.gate.report().by_reason) == (0, {"actuator": 1})
    plc.go_on()
    until(lambda: not plc.is_open(), "closed, whatever was still on its way", line.gate.step)
    before_beat = plc.register(HEARTBEAT)
    until(lambda: plc.register(HEARTBEAT) > before_beat, "heartbeats again", line.gate.step)
    assert not plc.is_open()


def test_a_coil_that_somebody_else_switches_on_is_switched_off_with_an_alarm(
    plc: Plc, line: GateLine
) -> None:
    until(lambda: plc.register(HEARTBEAT) >= 1, "a heartbeat", line.gate.step)
    plc.switch(True)
    until(lambda: events.ALARM_ACTUATOR in line.alarms, "the alarm", line.gate.step)
    until(lambda: not plc.is_open(), "closed", line.gate.step)


def test_a_part_that_only_the_plc_counted_is_told(plc: Plc, opened: OpenActuator) -> None:
    counted = opened.counted
    assert counted is not None
    assert counted() is None
    plc.count(65_534)
    until(lambda: counted() == 65_534, "the first reading", opened.actuator.heartbeat)
    clock, told = ManualClock(), list[tuple[str, Mapping[str, object]]]()
    watch = CounterWatch(counted, clock, lambda name, facts: told.append((name, facts)))
    watch.look(10)
    plc.count(1)  # three more, over the end of the register
    until(lambda: counted() == 1, "the next reading", opened.actuator.heartbeat)
    watch.look(12)
    clock.advance(0.9)
    watch.look(12)
    assert told == []
    clock.advance(0.2)
    watch.look(12)
    assert told == [(events.ALARM_UNSEEN, {"parts": 1})]
    assert watch.unseen == 1
    clock.advance(5.0)
    watch.look(12)
    assert len(told) == 1


def test_both_eyes_may_see_a_part_at_different_moments_and_a_plc_may_start_again() -> None:
    clock, told, register = ManualClock(), list[str](), [5]
    watch = CounterWatch(lambda: register[0], clock, lambda name, _: told.append(name))
    seen = 0
    watch.look(seen)
    for turn in range(200):
        clock.advance(0.05)
        if turn % 4 == 0:
            register[0] += 1
        if turn % 4 == 2:
            seen += 1
        watch.look(seen)
    assert told == []
    for _ in range(3):  # seen here, and not by the PLC: it hides no later part
        seen += 1
        watch.look(seen)
    clock.advance(2.0)
    watch.look(seen)
    register[0] += 1
    watch.look(seen)
    clock.advance(2.0)
    watch.look(seen)
    assert told == [events.ALARM_UNSEEN]
    register[0] = 0
    watch.look(seen)
    assert told == [events.ALARM_UNSEEN, events.ALARM_COUNTER]


def test_the_counter_may_be_an_input_register(plc: Plc) -> None:
    settings = ModbusSettings(
        host="127.0.0.1", port=plc.port, unit=UNIT, heartbeat=HEARTBEAT, counter=COUNTER, counter_input=True
    )
    actuator = ModbusActuator(settings)
    actuator.heartbeat()
    assert actuator.counted() == 7
    actuator.close()


def test_an_address_or_unit_that_the_plc_does_not_have_is_an_error_and_no_opening(plc: Plc) -> None:
    for unit, coil in ((UNIT, 400), (99, COIL)):
        actuator = ModbusActuator(
            ModbusSettings(host="127.0.0.1", port=plc.port, timeout_s=0.5, unit=unit, coil=coil)
        )
        with pytest.raises(ActuatorError, match="write the coil"):
            actuator.energise(key(1))
        actuator.close()
    assert not plc.is_open()


def test_after_no_answer_it_is_left_alone_for_a_while() -> None:
    clock = ManualClock()
    actuator = ModbusActuator(ModbusSettings(host="127.0.0.1", port=1, timeout_s=0.2), clock=clock)
    with pytest.raises(ActuatorError, match="could not write the coil"):
        actuator.release()
    with pytest.raises(ActuatorError, match="next try in"):
        actuator.release()
    clock.advance(0.11)
    with pytest.raises(ActuatorError, match="could not write the coil"):
        actuator.release()
    clock.advance(0.11)
    with pytest.raises(ActuatorError, match="next try in"):
        actuator.release()


@pytest.mark.parametrize(
    ("text", "named"),
    [
        ("relay", "not an actuator"),
        ("modbus:///1", "not an actuator"),
        ("modbus://plc:99999/1", "cannot be taken apart"),
        ("modbus://plc/x", "unit 'x'"),
        ("modbus://plc/999", "unit 999"),
        ("modbus://plc/1?coil=-1", "coil=-1"),
        ("modbus://plc/1?coil=70000", "coil=70000"),
        ("modbus://plc/1?heartbeat=", "heartbeat="),
        ("modbus://plc/1?heartbeat=4&counter=4", "both register 4"),
        ("modbus://plc/1?counter_from=coil", "counter_from=coil"),
        ("modbus://plc/1?coul=1", "'coul'"),
        ("modbus://plc/1?coil=1&coil=2", "twice"),
        ("modbus://plc/1?timeout_ms=0", "timeout_ms=0"),
        ("http://", "http://HOST"),
        ("http://plc/x?coil=1", "'coil'"),
        ("http://me:secret@plc/x", "not supported"),
    ],
)
def test_a_wrong_address_names_what_is_wrong_with_it(text: str, named: str) -> None:
    with pytest.raises(SettingsError, match=named) as caught:
        open_actuator(text)
    assert "secret" not in str(caught.value)


def test_record_moves_nothing() -> None:
    opened = open_actuator("record")
    opened.actuator.energise(PartKey("s1", 1, 1))
    assert not opened.moves
    assert opened.counted is None


# Addresses as manuals write them


@pytest.mark.parametrize(
    ("query", "coil", "heartbeat", "counter"),
    [
        ("", 0, 0, None),
        ("coil=5&heartbeat=10&counter=11", 5, 10, 11),
        ("coil=00001&heartbeat=40001", 0, 0, None),
        ("coil=000001&heartbeat=400001", 0, 0, None),
        ("coil=00017&heartbeat=40100&counter=40101", 16, 99, 100),
        ("coil=065536&heartbeat=465536", 65_535, 65_535, None),
        ("counter=30008&counter_from=input", 0, 0, 7),
        ("coil=offset:40001&heartbeat=offset:30001", 40_001, 30_001, None),
        ("coil=9999&heartbeat=65535", 9_999, 65_535, None),
    ],
)
def test_addresses_are_those_of_the_wire_or_those_of_manuals(
    monkeypatch: pytest.MonkeyPatch, query: str, coil: int, heartbeat: int, counter: int | None
) -> None:
    made: list[ModbusSettings] = []
    real = ModbusActuator.__init__

    def look(self: ModbusActuator, settings: ModbusSettings) -> None:
        made.append(settings)
        real(self, settings)

    monkeypatch.setattr(ModbusActuator, "__init__", look)
    open_actuator(f"modbus://plc/1?{query}").close()
    assert (made[0].coil, made[0].heartbeat, made[0].counter) == (coil, heartbeat, counter)


@pytest.mark.parametrize(
    ("query", "named"),
    [
        ("coil=40001", "a holding register"),
        ("coil=10001", "an input contact"),
        ("heartbeat=00001", "a coil"),
        ("heartbeat=30001", "an input register"),
        ("counter=40001&counter_from=input", "a holding register"),
        ("coil=00000", "the first is 1"),
        ("heartbeat=40000", "the first is 1"),
        ("heartbeat=400000", "the first is 1"),
        ("heartbeat=465537", "the first is 1"),
        ("coil=01", "zeros in front"),
        ("coil=0000001", "zeros in front"),
        ("heartbeat=%25MW10", "its manual"),
        ("heartbeat=%MW10", "its manual"),
        ("heartbeat=D100", "its manual"),
        ("heartbeat=4x0001", "its manual"),
        ("coil=0x0001", "its manual"),
        ("coil=70000", "out of range"),
        ("coil=", "not a Modbus address"),
        ("heartbeat=40011&counter=10", "both register 10"),
    ],
)
def test_an_address_that_may_be_meant_otherwise_is_refused_in_words(query: str, named: str) -> None:
    with pytest.raises(SettingsError, match=named):
        open_actuator(f"modbus://plc/1?{query}")


def test_a_manuals_coil_is_the_one_that_moves(plc: Plc) -> None:
    opened = open_actuator(f"modbus://127.0.0.1:{plc.port}/{UNIT}?coil=00006&heartbeat=40011&timeout_ms=2000")
    opened.actuator.energise(key(0))
    assert plc.is_open()
    opened.actuator.heartbeat()
    until(lambda: plc.register(HEARTBEAT) == 1, "the heartbeat where the manual says")
    opened.actuator.release()
    assert not plc.is_open()
    opened.close()


# A pulse for each part


def pulsing(line: GateLine, seconds: float = 0.3) -> None:
    line.pulse_s = seconds
    line.restart()


def test_a_pulse_is_as_long_as_it_says_and_not_as_the_part_is(plc: Plc, line: GateLine) -> None:
    pulsing(line)
    part = line.trigger()
    line.store.decide(verdict(part))
    line.pass_time(1.02)
    assert plc.is_open()
    line.pass_time(0.2)
    assert plc.is_open(), "the part has left, the pulse has not"
    line.pass_time(0.15)
    assert not plc.is_open()
    assert line.alarms == []


def test_each_part_has_an_edge_of_its_own_and_a_reject_ends_the_pulse_before_it(tmp_path: Path) -> None:
    told: list[str] = []
    with GateLine(tmp_path) as line:
        line.actuator = CallbackActuator(
            lambda part: told.append(f"on {part.trigger}"), lambda: told.append("off")
        )
        pulsing(line)
        told.clear()
        for decision in (Decision.PASS, Decision.PASS, Decision.REJECT):
            line.store.decide(verdict(line.trigger(), decision))
            line.pass_time(0.1)
        line.pass_time(2.0)
    assert told[:5] == ["off", "on 0", "off", "on 1", "off"]
    assert [word for word in told if word != "off"] == ["on 0", "on 1"]


def test_the_off_of_a_pulse_that_fails_is_loud_and_stops_the_heartbeat(tmp_path: Path) -> None:
    beats, broken = [0], [False]

    def off() -> None:
        if broken[0]:
            raise ActuatorError("the coil is not off as written")

    def beat() -> None:
        beats[0] += 1

    with GateLine(tmp_path) as line:
        line.actuator = CallbackActuator(lambda _: None, off, beat)
        pulsing(line)
        line.store.decide(verdict(line.trigger()))
        line.pass_time(1.05)
        broken[0] = True
        line.pass_time(0.4)
        assert line.alarms == [events.ALARM_RELEASE]
        before = beats[0]
        line.store.decide(verdict(line.trigger()))
        line.pass_time(1.2)
        assert beats[0] == before
        assert line.gate.report().by_reason == {"pass": 1, "actuator": 1}
        assert not line.gate.state().actuator


@pytest.mark.parametrize("pulse", ["", "0", "-1", "long", "11", "nan", "200"])
def test_a_pulse_that_is_no_time_is_refused(pulse: str) -> None:
    for place in ("modbus://plc/1", "http://plc/gate"):
        with pytest.raises(SettingsError, match=r"as pulse=0\.2"):
            open_actuator(f"{place}?pulse={pulse}")
    opened = open_actuator("modbus://plc/1?pulse=0.2")
    assert opened.pulse_s == 0.2
    opened.close()
