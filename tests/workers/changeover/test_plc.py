"""A real Modbus server as the PLC that says the product: read, answered, gone, hung, and back."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator

import pytest

from tests.workers.changeover.site import Site
from tests.workers.plc import COUNTER, UNIT, Plc
from workers.changeover import events
from workers.changeover.plc import ModbusPlc, PlcSettings, parse_products
from workers.errors import PlcError, SettingsError

ACK = COUNTER + 1


def address(plc: Plc, more: str = "") -> PlcSettings:
    return PlcSettings.parse(
        f"modbus://127.0.0.1:{plc.port}/{UNIT}?register={COUNTER}&ack={ACK}&timeout_ms=2000{more}"
    )


@pytest.fixture
def plc() -> Iterator[Plc]:
    with Plc() as plc:
        yield plc


@pytest.fixture
def site(plc: Plc) -> Iterator[Site]:
    """Time is set by hand, the PLC is real."""
    site = Site()
    client = ModbusPlc(address(plc), clock=site.clock)
    site.plc = client  # type: ignore[assignment]
    site.begin()
    yield site
    client.close()


def until(done: Callable[[], bool], turn: Callable[[], object]) -> None:
    deadline = time.monotonic() + 20.0
    while not done():
        assert time.monotonic() < deadline
        turn()


def test_the_register_is_followed_and_answered(plc: Plc, site: Site) -> None:
    plc.count(1)
    site.run(0.5)
    assert site.due().product == "cap"
    assert plc.register(ACK) == 0
    site.worker_takes()
    site.run(0.2)
    assert plc.register(ACK) == 1
    plc.count(2)
    site.run(0.1)
    assert (site.due().product, plc.register(ACK)) == ("lid", 0)
    site.worker_takes()
    site.run(0.2)
    assert plc.register(ACK) == 2
    assert [command.value for _, command in site.commands()] == ["cap", "lid"]


def test_an_input_register_may_say_the_product(plc: Plc) -> None:
    client = ModbusPlc(address(plc, "&from=input"))
    assert client.read() == 7
    client.close()


def test_a_plc_that_is_killed_is_told_and_followed_again_when_it_is_back(plc: Plc, site: Site) -> None:
    plc.count(1)
    site.run(0.3)
    plc.kill()
    site.run(2.0)
    assert site.alarms == [events.ALARM_PLC]
    assert site.due().product is None
    plc.start()
    plc.count(2)
    until(lambda: site.due().product == "lid", lambda: site.run(0.2))
    assert site.due().at(site.due().issued_at - 1) is None


def test_a_plc_that_hangs_holds_a_reading_no_longer_than_its_bound(plc: Plc) -> None:
    client = ModbusPlc(PlcSettings.parse(f"modbus://127.0.0.1:{plc.port}/{UNIT}?register=0&timeout_ms=100"))
    client.read()
    plc.hang()
    began = time.monotonic()
    with pytest.raises(PlcError, match="could not read register 0"):
        client.read()
    assert time.monotonic() - began < 2.0
    with pytest.raises(PlcError, match="next try in"):
        client.read()
    plc.go_on()
    client.close()


def test_a_register_that_is_not_there_is_an_error_of_the_plc(plc: Plc) -> None:
    client = ModbusPlc(
        PlcSettings.parse(f"modbus://127.0.0.1:{plc.port}/{UNIT}?register=4000&timeout_ms=2000")
    )
    with pytest.raises(PlcError, match="register 4000: the PLC answered"):
        client.read()
    client.close()


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("tcp://plc/1?register=1", "not a PLC"),
        ("modbus://plc:502/1", "which register"),
        ("modbus://plc:502/x?register=1", "unit 'x' is not a number"),
        ("modbus://plc:502/300?register=1", "use 0 to 255"),
        ("modbus://plc:502/1?register=70000", "use 0 to 65535"),
        ("modbus://plc:502/1?register=4&ack=4", "both register 4"),
        ("modbus://plc:502/1?register=4&from=coil", "use holding or input"),
        ("modbus://plc:502/1?register=4&speed=9", "unknown option 'speed'"),
        ("modbus://me:secret@plc:502/1?register=4", "user and password"),
        ("modbus://plc:port/1?register=4", "cannot be taken apart into host, port"),
    ],
)
def test_an_address_that_cannot_be_is_refused_by_name(text: str, said: str) -> None:
    with pytest.raises(SettingsError, match=said):
        PlcSettings.parse(text)


def test_an_input_register_and_its_answer_may_have_one_number() -> None:
    found = PlcSettings.parse("modbus://plc/?register=4&from=input&ack=4")
    assert (found.port, found.unit, found.register_input, found.ack) == (502, 1, True, 4)


@pytest.mark.parametrize("text", ["", "cap", "1=", "x=cap", "0=cap", "1=cap,1=lid", "70000=cap", "1=cap,"])
def test_a_map_that_means_nothing_is_refused(text: str) -> None:
    with pytest.raises(SettingsError, match="--map"):
        parse_products(text)


def test_a_map_names_a_product_for_each_number() -> None:
    assert parse_products("1=cap, 2 = lid,40=a b") == {1: "cap", 2: "lid", 40: "a b"}
