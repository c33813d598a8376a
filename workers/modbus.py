"""One PLC over Modbus TCP: every request ends in time, and a PLC that is away is not hammered."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import TYPE_CHECKING

from schemas.errors import CrosscheckError
from workers.errors import SettingsError
from workers.gate.backoff import Backoff

if TYPE_CHECKING:
    from pymodbus.client import ModbusTcpClient
    from pymodbus.pdu import ModbusPDU


class ModbusLink:
    """Requests to one PLC. One thread uses it.

    Args:
        name: of the PLC, as errors begin.
        timeout_s: for connecting and for each answer, seconds.
        error: what a request that failed raises.
        backoff: when to try again after nobody has answered.

    Raises:
        SettingsError: pymodbus is not installed.
    """

    def __init__(
        self,
        name: str,
        host: str,
        port: int,
        *,
        timeout_s: float,
        error: type[CrosscheckError],
        backoff: Backoff,
    ) -> None:
        try:
            from pymodbus.client import ModbusTcpClient
            from pymodbus.exceptions import ModbusException
        except ImportError:
            raise SettingsError(
                f"{name}: pymodbus is not installed; run `pip install 'crosscheck[modbus]'`"
            ) from None
        # What it logs is told by our own errors, once.
        logging.getLogger("pymodbus").setLevel(logging.CRITICAL)
        # Not sent again by the client: a retry is a second timeout, and what was sent may have arrived.
        self._client = ModbusTcpClient(host, port=port, timeout=timeout_s, retries=0, reconnect_delay=0)
        self._failures: tuple[type[Exception], ...] = (ModbusException, OSError)
        self._name = name
        self._error = error
        self._backoff = backoff

    def ask(self, what: str, request: Callable[[ModbusTcpClient], ModbusPDU]) -> ModbusPDU:
        """The answer to one request.

        Args:
            what: it asks for, as in "could not WHAT".

        Raises:
            The link's error: no answer in time, one that says no, or too soon after the last failure.
        """
        left = self._backoff.left_s()
        if left > 0:
            raise self._error(f"{self._name}: no answer before; next try in {left:.1f} s")
        try:
            answer = request(self._client)
        except self._failures as error:
            # A late answer must not be taken for the next one's.
            self.close()
            self._backoff.failed()
            raise self._error(f"{self._name}: could not {what}: {error}") from error
        self._backoff.answered()
        if answer.isError():
            raise self._error(f"{self._name}: could not {what}: the PLC answered {answer}")
        return answer

    def close(self) -> None:
        """Let go of the connection."""
        self._client.close()  # type: ignore[no-untyped-call]
