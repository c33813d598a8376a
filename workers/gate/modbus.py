"""A PLC as the actuator, over Modbus TCP."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from schemas.part import PartKey
from workers.clock import Clock, SystemClock
from workers.errors import ActuatorError, SettingsError
from workers.gate.backoff import Backoff
from workers.modbus import ModbusLink

if TYPE_CHECKING:
    from pymodbus.client import ModbusTcpClient
    from pymodbus.pdu import ModbusPDU

WRAP = 1 << 16
"""Registers hold 16 bits."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ModbusSettings:
    """Where in the PLC what is. Addresses count from 0, as on the wire.

    The coil stays as it was when the gate's process is killed: only the PLC can close then.

    Attributes:
        host, port, unit: of the PLC.
        coil: on lets the part pass.
        heartbeat: holding register that counts up; the PLC closes the gate when it stops.
        counter: register in which the PLC counts parts at the trigger, or None where it does not.
        counter_input: the counter is an input register, not a holding register.
        timeout_s: for connecting and for each answer, seconds.

    Raises:
        SettingsError: a value out of range.
    """

    host: str
    port: int = 502
    unit: int = 1
    coil: int = 0
    heartbeat: int = 0
    counter: int | None = None
    counter_input: bool = False
    timeout_s: float = 0.2

    def __post_init__(self) -> None:
        for name, most in (("port", WRAP - 1), ("unit", 255), ("coil", WRAP - 1), ("heartbeat", WRAP - 1)):
            if not 0 <= getattr(self, name) <= most:
                raise SettingsError(f"actuator: {name} {getattr(self, name)}: use 0 to {most}")
        if self.counter is not None and not 0 <= self.counter < WRAP:
            raise SettingsError(f"actuator: counter {self.counter}: use 0 to {WRAP - 1}")
        if self.counter == self.heartbeat and not self.counter_input:
            raise SettingsError(f"actuator: heartbeat and counter are both register {self.counter}")
        if not 0 < self.timeout_s <= 10:
            raise SettingsError(f"actuator: timeout {self.timeout_s} s: use above 0, at most 10")


class ModbusActuator:
    """A coil that opens, a register that says the gate lives, and the PLC's own count of parts.

    Every write of the coil is read back. Each heartbeat reads it back again: a coil that is on without our
    word (a write that was given up and came through later) is an error, and the gate closes it.

    Raises:
        SettingsError: pymodbus is not installed.
    """

    def __init__(self, settings: ModbusSettings, *, clock: Clock | None = None) -> None:
        self._settings = settings
        self._name = f"modbus://{settings.host}:{settings.port}/{settings.unit}"
        self._link = ModbusLink(
            f"actuator {self._name}",
            settings.host,
            settings.port,
            timeout_s=settings.timeout_s,
            error=ActuatorError,
            backoff=Backoff(clock or SystemClock()),
        )
        self._open = False
        self._beats = 0
        self._counted: int | None = None

    def energise(self, part: PartKey) -> None:
        self._set(True)

    def release(self) -> None:
        self._set(False)

    def heartbeat(self) -> None:
        settings = self._settings
        self._beats = (self._beats + 1) % WRAP
        self._link.ask(
            "write the heartbeat",
            lambda client: client.write_register(settings.heartbeat, self._beats, device_id=settings.unit),
        )
        self._check()
        counter = settings.counter
        if counter is not None:

            def request(client: ModbusTcpClient) -> ModbusPDU:
                inputs = settings.counter_input
                read = client.read_input_registers if inputs else client.read_holding_registers
                return read(counter, count=1, device_id=settings.unit)

            answer = self._link.ask("read the counter", request)
            if len(answer.registers) != 1:
                raise ActuatorError(f"actuator {self._name}: the counter was answered with no register")
            self._counted = int(answer.registers[0])

    def counted(self) -> int | None:
        """The PLC's count of parts at the last heartbeat, 0 to 65535; None before the first."""
        return self._counted

    def _set(self, on: bool) -> None:
        self._open = on
        coil, unit = self._settings.coil, self._settings.unit
        self._link.ask("write the coil", lambda client: client.write_coil(coil, on, device_id=unit))
        self._check()

    def _check(self) -> None:
        coil, unit = self._settings.coil, self._settings.unit
        answer = self._link.ask(
            "read the coil back", lambda client: client.read_coils(coil, count=1, device_id=unit)
        )
        if not answer.bits or bool(answer.bits[0]) is not self._open:
            raise ActuatorError(
                f"actuator {self._name}: coil {coil} is not {'on' if self._open else 'off'}"
                " as written; does another program write it?"
            )

    def close(self) -> None:
        """Let go of the connection."""
        self._link.close()
