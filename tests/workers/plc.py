"""A PLC for tests: pymodbus's own server in a process of its own, which can be killed and stopped."""

from __future__ import annotations

import signal
import socket
import subprocess
import sys
import time
from types import TracebackType
from typing import Self

from pymodbus.client import ModbusTcpClient

from compose.process import free_ports

UNIT = 3
COIL, HEARTBEAT, COUNTER = 5, 10, 11

_SERVER = """
import asyncio, sys
from pymodbus.server import ModbusTcpServer
from pymodbus.simulator import DataType, SimData, SimDevice

async def serve():
    coils = [SimData(0, values=[False] * 32, datatype=DataType.BITS)]
    inputs = [SimData(0, values=[False] * 32, datatype=DataType.BITS)]
    holding = [SimData(0, values=[0] * 32, datatype=DataType.REGISTERS)]
    readings = [SimData(0, values=[7] * 32, datatype=DataType.REGISTERS)]
    device = SimDevice(int(sys.argv[2]), simdata=(coils, inputs, holding, readings))
    await ModbusTcpServer(device, address=("127.0.0.1", int(sys.argv[1]))).serve_forever()

asyncio.run(serve())
"""


class Plc:
    """One PLC on 127.0.0.1, and a second client that looks into it."""

    def __init__(self) -> None:
        self.port = free_ports(1)[0]
        self._process: subprocess.Popen[bytes] | None = None
        self._eyes = ModbusTcpClient("127.0.0.1", port=self.port, timeout=5.0)

    @property
    def address(self) -> str:
        """As ``--actuator`` takes it."""
        return f"modbus://127.0.0.1:{self.port}/{UNIT}?coil={COIL}&heartbeat={HEARTBEAT}&counter={COUNTER}"

    def start(self) -> None:
        """Start with everything at 0, and wait until it answers."""
        command = [sys.executable, "-c", _SERVER, str(self.port), str(UNIT)]
        self._process = subprocess.Popen(command)
        until = time.monotonic() + 30.0
        while time.monotonic() < until:
            assert self._process.poll() is None, "the PLC did not start"
            try:
                socket.create_connection(("127.0.0.1", self.port), timeout=1.0).close()
            except OSError:
                time.sleep(0.02)
                continue
            return
        raise AssertionError("the PLC does not listen")

    def kill(self) -> None:
        """Gone from one moment to the next, and all its values with it."""
        assert self._process is not None
        self._process.kill()
        self._process.wait(10.0)
        self._process = None
        self._eyes.close()  # type: ignore[no-untyped-call]

    def hang(self) -> None:
        """Connections are accepted (by the kernel) and never answered."""
        assert self._process is not None
        self._process.send_signal(signal.SIGSTOP)

    def go_on(self) -> None:
        """What came in while it hung is answered now."""
        assert self._process is not None
        self._process.send_signal(signal.SIGCONT)

    def is_open(self) -> bool:
        """The pass coil."""
        return bool(self._eyes.read_coils(COIL, count=1, device_id=UNIT).bits[0])

    def switch(self, on: bool) -> None:
        """Somebody else writes the coil."""
        assert not self._eyes.write_coil(COIL, on, device_id=UNIT).isError()

    def register(self, address: int) -> int:
        """A holding register."""
        return int(self._eyes.read_holding_registers(address, count=1, device_id=UNIT).registers[0])

    def count(self, value: int) -> None:
        """Set the part counter."""
        assert not self._eyes.write_register(COUNTER, value, device_id=UNIT).isError()

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._eyes.close()  # type: ignore[no-untyped-call]
        if self._process is not None:
            self._process.kill()
            self._process.wait(10.0)
