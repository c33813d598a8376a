"""An actuator as one line of text: ``record``, an HTTP address, or a Modbus address with its options."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from workers import address
from workers.errors import SettingsError
from workers.gate.actuators import Actuator, RecordingActuator, RemoteActuator
from workers.gate.bounded import BoundedActuator
from workers.gate.http import HttpActuator
from workers.gate.modbus import ModbusActuator, ModbusSettings

_WHAT = "--actuator"
_FORMS = "use record, http://HOST:PORT/PATH or modbus://HOST:PORT/UNIT?coil=0&heartbeat=0"
_MODBUS = ("coil", "heartbeat", "counter", "counter_from", "timeout_ms", "pulse")
_PULSE_S = (0.01, 10.0)


def _nothing() -> None:
    return


@dataclass(frozen=True, slots=True)
class OpenActuator:
    """What an address leads to.

    Attributes:
        actuator: what the gate moves.
        close: lets go of it.
        counted: the PLC's own count of parts; None where it has none.
        moves: whether anything outside this process moves.
        pulse_s: opens for so many seconds for each part, for a PLC that acts on the edge; None: holds.
    """

    actuator: Actuator
    close: Callable[[], None] = _nothing
    counted: Callable[[], int | None] | None = None
    moves: bool = True
    pulse_s: float | None = None


def open_actuator(text: str) -> OpenActuator:
    """The actuator that ``--actuator`` names. Nobody is called yet: the gate's first release does that.

    Raises:
        SettingsError: the text names none, or an option is unknown, missing or out of range.
    """
    if text == "record":
        return OpenActuator(RecordingActuator(), moves=False)
    parts, port = address.split(_WHAT, text, _FORMS)
    if parts.scheme in ("http", "https"):
        options = address.options(_WHAT, text, parts.query, ("timeout_ms", "pulse"))
        timeout_s = _number(text, options, "timeout_ms", 200, 1, 10_000) / 1e3
        http = HttpActuator(parts._replace(query="").geturl(), timeout_s=timeout_s)
        return _bounded(http, timeout_s, _pulse(text, options))
    if parts.scheme != "modbus" or not parts.hostname:
        raise SettingsError(f"--actuator {text}: not an actuator; {_FORMS}")
    options = address.options(_WHAT, text, parts.query, _MODBUS)
    unit = address.unit(_WHAT, text, parts.path, _FORMS)
    counter_input = address.register_kind(_WHAT, text, options, "counter_from")
    timeout_s = _number(text, options, "timeout_ms", 200, 1, 10_000) / 1e3
    modbus = ModbusActuator(
        ModbusSettings(
            host=parts.hostname,
            port=502 if port is None else port,
            unit=unit,
            coil=address.modbus(_WHAT, text, options, "coil", "coil", 0),
            heartbeat=address.modbus(_WHAT, text, options, "heartbeat", "holding", 0),
            counter=address.modbus(_WHAT, text, options, "counter", "input" if counter_input else "holding")
            if "counter" in options
            else None,
            counter_input=counter_input,
            timeout_s=timeout_s,
        )
    )
    counted = modbus.counted if "counter" in options else None
    return _bounded(modbus, timeout_s, _pulse(text, options), counted)


def _bounded(
    inner: RemoteActuator,
    bound_s: float,
    pulse_s: float | None,
    counted: Callable[[], int | None] | None = None,
) -> OpenActuator:
    actuator = BoundedActuator(inner, bound_s=bound_s)
    return OpenActuator(actuator, actuator.close, counted, pulse_s=pulse_s)


def _pulse(text: str, options: dict[str, str]) -> float | None:
    if "pulse" not in options:
        return None
    least, most = _PULSE_S
    try:
        seconds = float(options["pulse"])
    except ValueError:
        seconds = 0.0
    if not least <= seconds <= most:
        raise SettingsError(
            f"{_WHAT} {text}: pulse={options['pulse']}: use seconds, {least:g} to {most:g}; as pulse=0.2"
        )
    return seconds


def _number(
    text: str, options: dict[str, str], name: str, default: int, least: int = 0, most: int = 65_535
) -> int:
    return address.number(_WHAT, text, options, name, default, least, most)
