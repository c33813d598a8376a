"""From a verdict in Redis to an actuator that has confirmed: real Redis, real servers, early gate.

    python tests/bench/gate.py --json gate.json

A process of its own writes PASS verdicts to a real Redis on a schedule that waits for nobody. The gate holds
each part's place in its queue already and opens when the verdict comes. Its actuators are a callback in this
process, an HTTP server and pymodbus's own server, each of the last two in a process of its own. The first
column counts from the moment the writer begins its call, so Redis itself and every wait are in it.

Exit code 1 when a part was not opened for.
"""

from __future__ import annotations

import argparse
import logging
import multiprocessing
import os
import platform
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

from rich.table import Table

from compose.process import free_ports
from compose.redis import RedisServer
from schemas.part import PartKey
from schemas.verdict import Decision, Mode, Verdict
from tests.workers.outputs import Output
from tests.workers.plc import Plc
from workers.commands import console
from workers.gate import CallbackActuator, Gate, Journal, SimulatedPartSource
from workers.gate.actuators import Actuator
from workers.gate.address import OpenActuator, open_actuator
from workers.gate.report import percentiles
from workers.logs import configure_logs
from workers.store import VerdictStore, connect

STATION = "bench"
TRAVEL_S = 600.0
_spawn = multiprocessing.get_context("spawn")


@dataclass(frozen=True, slots=True)
class Figures:
    """One actuator's percentiles, milliseconds.

    Attributes:
        written: the writer's call begun to the actuator's confirmation.
        held: the gate held the verdict to the confirmation.
        round_trip: the actuator alone.
        opened: parts that it opened for.
    """

    name: str
    written: dict[str, float | None]
    held: dict[str, float | None]
    round_trip: dict[str, float | None]
    opened: int


def verdict(part: PartKey, at: int) -> Verdict:
    """A PASS with its proof."""
    return Verdict(
        part=part,
        product="bench",
        decision=Decision.PASS,
        captured_at=at,
        decided_at=at,
        deadline=at + round(TRAVEL_S * 1e9),
        worker="bench",
        mode=Mode.FUSED,
        score=0.5,
        threshold=1.0,
        coverage=1.0,
        bundle="bench/1",
        bundle_hash="ab" * 32,
    )


def write(url: str, run: int, count: int, rate: float, pipe: Connection) -> None:
    """The writer's process: verdict i is due ``i / rate`` seconds after the first."""
    store = VerdictStore(connect(url))
    times = []
    start = time.monotonic() + 0.5
    for trigger in range(count):
        time.sleep(max(0.0, start + trigger / rate - time.monotonic()))
        at = time.time_ns()
        store.decide(verdict(PartKey(STATION, run, trigger), at))
        times.append(at)
    pipe.send(times)


def serve(pipe: Connection) -> None:
    """The HTTP server's process, until the pipe ends."""
    with Output() as output:
        pipe.send(output.address)
        pipe.recv()


class Timed:
    """Notes when the inner actuator had confirmed."""

    def __init__(self, inner: Actuator) -> None:
        self._inner = inner
        self.release, self.heartbeat = inner.release, inner.heartbeat
        self.confirmed: dict[int, int] = {}

    def energise(self, part: PartKey) -> None:
        """Open, and look at the clock."""
        self._inner.energise(part)
        self.confirmed[part.trigger] = time.time_ns()


@contextmanager
def callback() -> Iterator[OpenActuator]:
    """Three functions that do nothing."""
    yield OpenActuator(CallbackActuator(lambda _: None, lambda: None))


@contextmanager
def http_server() -> Iterator[OpenActuator]:
    """A server in a process of its own."""
    ours, theirs = _spawn.Pipe()
    process = _spawn.Process(target=serve, args=(theirs,))
    process.start()
    opened = open_actuator(f"{ours.recv()}?timeout_ms=1000")
    try:
        yield opened
    finally:
        opened.close()
        ours.send(None)
        process.join(10.0)


@contextmanager
def modbus_server() -> Iterator[OpenActuator]:
    """A PLC in a process of its own."""
    with Plc() as plc:
        opened = open_actuator(f"{plc.address}&timeout_ms=1000")
        try:
            yield opened
        finally:
            opened.close()


def measure(name: str, opened: OpenActuator, url: str, folder: Path, count: int, rate: float) -> Figures:
    """One actuator."""
    run = time.time_ns()
    source = SimulatedPartSource(travel_s=TRAVEL_S)
    for trigger in range(count):
        source.trigger(PartKey(STATION, run, trigger), time.time_ns())
    actuator = Timed(opened.actuator)
    ours, theirs = _spawn.Pipe()
    writer = _spawn.Process(target=write, args=(url, run, count, rate, theirs))
    stop = threading.Event()
    with Journal(folder / f"{name}.journal") as journal:
        gate = Gate(
            VerdictStore(connect(url)), source, actuator, journal, station=STATION, early=True, hold_s=1.0
        )
        thread = threading.Thread(target=gate.run, args=(stop,))
        thread.start()
        writer.start()
        written: list[int] = ours.recv()
        until = time.monotonic() + 30.0
        while gate.waiting and time.monotonic() < until:
            time.sleep(0.01)
        stop.set()
        thread.join()
        writer.join()
    report = gate.report()
    ends = ((done - written[trigger]) / 1e6 for trigger, done in actuator.confirmed.items())
    return Figures(name, percentiles(ends), report.actuator_ms, report.round_trip_ms, report.opened)


def show(rows: list[Figures], count: int) -> Table:
    """The figures as a table."""
    table = Table(title=f"verdict to actuator, {count} parts each", title_justify="left")
    for heading in ("actuator", "from", "p50 ms", "p99 ms", "max ms"):
        table.add_column(heading, justify="left" if heading in ("actuator", "from") else "right")
    for row in rows:
        legs = (
            ("verdict written", row.written),
            ("verdict held", row.held),
            ("its own round trip", row.round_trip),
        )
        for at, (leg, part) in enumerate(legs):
            values = (console.number(part[name], 1) for name in ("p50", "p99", "max"))
            table.add_row("" if at else row.name, leg, *values, end_section=at == 2)
    return table


def main() -> int:
    """The whole benchmark; its exit code."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the figures")
    parser.add_argument("--parts", type=int, default=1000, help="of each actuator (default 1000)")
    parser.add_argument("--rate", type=float, default=50.0, help="verdicts a second (default 50)")
    args = parser.parse_args()
    configure_logs("json", level=logging.ERROR)
    rows: list[Figures] = []
    with tempfile.TemporaryDirectory(prefix="crosscheck-gate-bench-") as name:
        folder = Path(name)
        server = RedisServer(folder, free_ports(1)[0])
        server.start()
        try:
            console.out.print(
                f"{os.cpu_count()} cores, load {os.getloadavg()[0]:.1f} before the start; "
                f"Python {platform.python_version()}; {args.rate:g} verdicts a second, journal on disk"
            )
            url = f"redis://127.0.0.1:{server.port}/0"
            for title, server_of in (
                ("callback", callback),
                ("http", http_server),
                ("modbus", modbus_server),
            ):
                with server_of() as opened:
                    rows.append(measure(title, opened, url, folder, args.parts, args.rate))
        finally:
            server.process.kill()
    console.out.print(show(rows, args.parts))
    figures: dict[str, Any] = {
        row.name: {
            "written": row.written,
            "held": row.held,
            "round_trip": row.round_trip,
            "opened": row.opened,
        }
        for row in rows
    }
    console.write_json(args.json, figures)
    return 0 if all(row.opened == args.parts for row in rows) else 1


if __name__ == "__main__":
    sys.exit(main())
