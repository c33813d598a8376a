"""A PLC as the actuator, over Modbus TCP."""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from schemas.part import PartKey
from workers.clock import Clock, SystemClock
from workers.errors import ActuatorError, SettingsError
from workers.gate.backoff import Backoff

if TYPE_CHECKING:
    from pymodbus.pdu import ModbusPDU

WRAP = 1 << 16
"""Registers hold 16 bits."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ModbusSettings:
    """Where in the PLC what is. Addresses count from 0, as on the wire.

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
        try:
            from pymodbus.client import ModbusTcpClient
            from pymodbus.exceptions import ModbusException
        except ImportError:
            raise SettingsError(
                "actuator modbus: pymodbus is not installed; run `pip install 'crosscheck[modbus]'`"
            ) from None
        # What it logs is told by our own errors, once.
        logging.getLogger("pymodbus").setLevel(logging.CRITICAL)
        self._settings = settings
        # Not sent again by the client: a retry is a second timeout, and what was sent may have arrived.
        self._client = ModbusTcpClient(
            settings.host, port=settings.port, timeout=settings.timeout_s, retries=0, reconnect_delay=0
        )
        self._failures: tuple[type[Exception], ...] = (ModbusException, OSError)
        self._backoff = Backoff(clock or SystemClock())
        self._open = False
        self._beats = 0
        self._counted: int | None = None
        self._name = f"modbus://{settings.host}:{settings.port}/{settings.unit}"

    def energise(self, part: PartKey) -> None:
        self._set(True)

    def release(self) -> None:
        self._set(False)

    def heartbeat(self) -> None:
        settings, client = self._settings, self._client
        self._beats = (self._beats + 1) % WRAP
        self._ask(
            "write the heartbeat",
            lambda: client.write_register(settings.heartbeat, self._beats, device_id=settings.unit),
        )
        self._check()
        if settings.counter is not None:
            read = client.read_input_registers if settings.counter_input else client.read_holding_registers
            counter = settings.counter
            answer = self._ask("read the counter", lambda: read(counter, count=1, device_id=settings.unit))
            if len(answer.registers) != 1:
                raise ActuatorError(f"actuator {self._name}: the counter was answered with no register")
            self._counted = int(answer.registers[0])

    def counted(self) -> int | None:
        """The PLC's count of parts at the last heartbeat, 0 to 65535; None before the first."""
        return self._counted

    def _set(self, on: bool) -> None:
        self._open = on
        settings, client = self._settings, self._client
        self._ask("write the coil", lambda: client.write_coil(settings.coil, on, device_id=settings.unit))
        self._check()

    def _check(self) -> None:
        settings = self._settings
        answer = self._ask(
            "read the coil back",
            lambda: self._client.read_coils(settings.coil, count=1, device_id=settings.unit),
        )
        if not answer.bits or bool(answer.bits[0]) is not self._open:
            raise ActuatorError(
                f"actuator {self._name}: coil {settings.coil} is not {'on' if self._open else 'off'}"
                " as written; does another program write it?"
            )

    def _ask(self, what: str, request: Callable[[], ModbusPDU]) -> ModbusPDU:
        left = self._backoff.left_s()
        if left > 0:
            raise ActuatorError(f"actuator {self._name}: no answer before; next try in {left:.1f} s")
        try:
            answer = request()
        except self._failures as error:
            # A late answer must not be taken for the next one's.
            self.close()
            self._backoff.failed()
            raise ActuatorError(f"actuator {self._name}: could not {what}: {error}") from error
        self._backoff.answered()
        if answer.isError():
            raise ActuatorError(f"actuator {self._name}: could not {what}: the PLC answered {answer}")
        return answer

    def close(self) -> None:
        """Let go of the connection."""
        self._client.close()  # type: ignore[no-untyped-call]
