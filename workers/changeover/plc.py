"""The PLC's side of a product change: a register that says the product, and one that takes our answer."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

from workers import address
from workers.clock import Clock, SystemClock
from workers.errors import PlcError, SettingsError
from workers.gate.backoff import Backoff
from workers.modbus import ModbusLink

if TYPE_CHECKING:
    from pymodbus.client import ModbusTcpClient
    from pymodbus.pdu import ModbusPDU

_WHAT = "--plc"
_FORMS = "use modbus://HOST:PORT/UNIT?register=N, with &from=input and &ack=M where it is so"
_OPTIONS = ("register", "from", "ack", "timeout_ms")


class Plc(Protocol):
    """What says the product. Both methods may raise PlcError, within a bounded time."""

    def read(self) -> int:
        """The product's number, 0 to 65535."""
        ...

    def acknowledge(self, number: int) -> None:
        """Tell the PLC that parts of this product are inspected as such now; 0: of none."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class PlcSettings:
    """Where in the PLC what is. Addresses count from 0, as on the wire.

    Attributes:
        host, port, unit: of the PLC.
        register: holds the product's number.
        register_input: it is an input register, not a holding register.
        ack: holding register that takes the number back, or None where the PLC does not wait.
        timeout_s: for connecting and for each answer, seconds.

    Raises:
        SettingsError: the answer would overwrite the product's number.
    """

    host: str
    port: int = 502
    unit: int = 1
    register: int = 0
    register_input: bool = False
    ack: int | None = None
    timeout_s: float = 0.2

    def __post_init__(self) -> None:
        if self.ack == self.register and not self.register_input:
            raise SettingsError(f"{_WHAT}: register and ack are both register {self.register}; use two")

    @classmethod
    def parse(cls, text: str) -> PlcSettings:
        """What ``--plc`` says. Raises SettingsError, naming what is wrong."""
        parts, port = address.split(_WHAT, text, _FORMS)
        if parts.scheme != "modbus" or not parts.hostname:
            raise SettingsError(f"{_WHAT} {text}: not a PLC; {_FORMS}")
        given = address.options(_WHAT, text, parts.query, _OPTIONS)
        if "register" not in given:
            raise SettingsError(f"{_WHAT} {text}: which register holds the product's number? {_FORMS}")
        register_input = address.register_kind(_WHAT, text, given, "from")
        unit = address.unit(_WHAT, text, parts.path, _FORMS)
        if unit > 255:
            raise SettingsError(f"{_WHAT} {text}: unit {unit}: use 0 to 255")
        return cls(
            host=parts.hostname,
            port=502 if port is None else port,
            unit=unit,
            register=address.modbus(_WHAT, text, given, "register", "input" if register_input else "holding"),
            register_input=register_input,
            ack=address.modbus(_WHAT, text, given, "ack", "holding") if "ack" in given else None,
            timeout_s=address.number(_WHAT, text, given, "timeout_ms", 200, 1, 10_000) / 1e3,
        )

    def __str__(self) -> str:
        return f"modbus://{self.host}:{self.port}/{self.unit}"


class ModbusPlc:
    """A PLC over Modbus TCP. One thread uses it.

    Raises:
        SettingsError: pymodbus is not installed.
    """

    def __init__(self, settings: PlcSettings, *, clock: Clock | None = None) -> None:
        self._settings = settings
        self._link = ModbusLink(
            f"PLC {settings}",
            settings.host,
            settings.port,
            timeout_s=settings.timeout_s,
            error=PlcError,
            backoff=Backoff(clock or SystemClock(), most_s=1.0),
        )

    def read(self) -> int:
        settings = self._settings

        def request(client: ModbusTcpClient) -> ModbusPDU:
            read = client.read_input_registers if settings.register_input else client.read_holding_registers
            return read(settings.register, count=1, device_id=settings.unit)

        answer = self._link.ask(f"read register {settings.register}", request)
        if len(answer.registers) != 1:
            raise PlcError(f"PLC {settings}: register {settings.register} was answered with no value")
        return int(answer.registers[0])

    def acknowledge(self, number: int) -> None:
        ack, unit = self._settings.ack, self._settings.unit
        if ack is not None:
            self._link.ask(
                f"write register {ack}", lambda client: client.write_register(ack, number, device_id=unit)
            )

    def close(self) -> None:
        """Let go of the connection."""
        self._link.close()


def parse_products(text: str) -> dict[int, str]:
    """``1=cap,2=lid`` as a mapping from the PLC's number to the product's name.

    Raises:
        SettingsError: it is not that; a number is 0 (which says "none"), over 65535 or given twice.
    """
    found: dict[int, str] = {}
    for item in text.split(","):
        left, equals, name = (piece.strip() for piece in item.partition("="))
        if not (equals and left.isascii() and left.isdecimal() and name and len(name) <= 128):
            raise SettingsError(f"--map {text}: {item.strip()!r} is not NUMBER=PRODUCT; use 1=cap,2=lid")
        number = int(left)
        if not 1 <= number <= 65_535:
            raise SettingsError(
                f"--map {text}: number {number}: use 1 to 65535; 0 says that no product is set"
            )
        if number in found:
            raise SettingsError(f"--map {text}: number {number} is given twice")
        found[number] = name
    return found
