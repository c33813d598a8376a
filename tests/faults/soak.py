"""Faults by killing real things, many times over, and what they did to the parts: one table.

    python tests/faults/soak.py --json faults.json
    python tests/faults/soak.py --classes kill,redis --times 4

Each class of faults has a line of its own (topics, stations, gates, worker processes) on a real Kafka and a
real Redis; parts flow all the while. Rows with a star ran on the taught model, the others on a stand-in of
fixed cost. Exit code 1 when a promise was broken.
"""

from __future__ import annotations

import argparse
import json
import logging
import os
import platform
import signal
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import cache
from pathlib import Path

import structlog
from rich.console import Console

from compose.services import Services
from inference.datasets.synthetic import SyntheticDataset
from inference.teach import teach
from inference.teach_settings import TeachSettings
from tests.faults import on_line, on_network, on_servers, on_workers
from tests.faults.crew import Nursery
from tests.faults.ledger import Row, check
from tests.faults.rig import FaultRig, Line, line
from tests.faults.shots import PRODUCT, SEED, SIZE, Picture, pictures
from tests.faults.stage import Fault, Stage
from tests.faults.table import fault_table
from workers.commands import console

FAULTS: tuple[Fault, ...] = (
    *on_workers.FAULTS,
    *on_servers.FAULTS,
    *on_network.FAULTS,
    *on_line.FAULTS,
)
TIMES = 15
PARTS = 20_000


def taught(folder: Path) -> Path:
    """A models folder with one small product."""
    normals = SyntheticDataset(
        train=18,
        validation=6,
        test_good=0,
        defects_per_kind=0,
        size=SIZE,
        lot_size=3,
        seed=SEED,
        product=SEED,
    )
    teach(normals, folder, name=PRODUCT, settings=TeachSettings(bank_size=300, folds=3))
    return folder


@cache
def pictures_for(real: bool) -> Sequence[Picture]:
    """Rendered once; of the real model's size, or the stand-in's."""
    return pictures(real=real)


@contextmanager
def staged(folder: Path, *, models: Path | None = None) -> Iterator[Stage]:
    """Servers, the workers' parent and the taught model; all gone again at the end."""
    folder.mkdir(parents=True, exist_ok=True)
    services = Services(folder / "services")
    nursery: Nursery | None = None
    try:
        nursery = Nursery(folder)
        endpoints = services.up(docker=False)
        where = models or taught(folder / "models")
        rig = FaultRig(folder, endpoints.kafka, endpoints.redis_url, nursery, pictures_for, where)
        yield Stage(rig, services)
    finally:
        if nursery is not None:
            nursery.close()
        services.down(delete=True)


def quiet() -> None:
    """The gates and publishers of this process alarm all the time here; the table says what came of it."""
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.CRITICAL))


def share(fault: Fault, parts: int) -> int:
    """How many of all parts a class is to see: a quarter of them are shared by those on the real model."""
    alike = sum(each.setup.real is fault.setup.real for each in FAULTS)
    return -(-parts * (1 if fault.setup.real else 3) // 4 // alike)


def run_class(stage: Stage, fault: Fault, times: int, parts: int) -> Row:
    """Put one class of faults in; a row whatever comes of it.

    Args:
        parts: the traffic goes on until so many have come.
    """
    row = Row(fault=fault.name, real=fault.setup.real)
    began = time.monotonic()
    try:
        with fault.place(stage) as at, line(at.rig, fault.setup, fault.key) as running:
            try:
                _faults(at, fault, running, row, times, parts)
            finally:
                check(running, row, data_lost=fault.data_lost)
    except Exception as error:  # a class that fails is a row that says so; the next class runs all the same
        row.failed = f"{type(error).__name__}: {error}"[:1000]
    row.seconds = time.monotonic() - began
    return row


def _faults(stage: Stage, fault: Fault, running: Line, row: Row, times: int, parts: int) -> None:
    row.before = running.resources()
    running.until = time.monotonic() + fault.limit_s
    try:
        fault.inject(stage, running, times)
        if len(running.injections) < times:
            running.notes.append(f"no more faults after {fault.limit_s:g} s")
        patience = time.monotonic() + 2.0 * parts / (running.setup.rate * running.setup.stations) + 5.0
        while running.traffic.sent < parts and time.monotonic() < patience:
            time.sleep(0.1)
    finally:
        running.finish(timeout=running.setup.to_gate_s + 30.0)
    row.after = running.resources()


def main(words: Sequence[str] | None = None) -> int:
    """Run what is asked for; 1 when a promise was broken."""
    options = _options(words)
    quiet()
    # Whoever ends this ends what it has started: servers run in sessions of their own.
    signal.signal(signal.SIGTERM, lambda number, frame: sys.exit(128 + number))
    chosen = [fault for fault in FAULTS if not options.classes or fault.key in options.classes]
    shown = Console(width=200) if not sys.stdout.isatty() else Console()
    rows: list[Row] = []
    began = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="crosscheck-faults-") as temporary:
        folder = Path(options.keep or temporary)
        with staged(folder) as stage:
            shown.print(f"ready after {time.monotonic() - began:.0f} s")
            for fault in chosen:
                shown.print(f"{fault.name} ({fault.key}) ...")
                # A class that broke may have left a server down; the next one is not to pay for it.
                services = stage.services.up(docker=False)
                assert services.redis_url == stage.rig.redis_url
                row = run_class(stage, fault, options.times, share(fault, options.parts))
                rows.append(row)
                shown.print(
                    f"  {row.times} times, {row.parts} parts, {row.seconds:.0f} s, "
                    f"{'kept' if row.kept else 'BROKEN'}: {row.decisions} {row.kinds}"
                )
                for note in [*row.notes, *([row.failed] if row.failed else [])]:
                    shown.print(f"    {note}", markup=False)
                _write(options.json, rows, time.monotonic() - began)
    shown.print(fault_table(rows))
    shown.print(f"{time.monotonic() - began:.0f} s in all")
    return console.OK if all(row.kept for row in rows) else console.BROKEN_PROMISE


def _write(path: Path | None, rows: Sequence[Row], seconds: float) -> None:
    if path is not None:
        cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
        facts = {"cores": cores, "machine": platform.machine(), "seconds": round(seconds, 1)}
        path.write_text(json.dumps(facts | {"rows": [row.to_json() for row in rows]}, indent=2) + "\n")


def _options(words: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=str(__doc__).splitlines()[0])
    parser.add_argument("--json", type=Path, help="write the table there, after each class")
    parser.add_argument("--classes", type=lambda text: set(text.split(",")), help="only these")
    parser.add_argument("--times", type=int, default=TIMES, help="faults of each class")
    parser.add_argument("--parts", type=int, default=PARTS, help="parts of all classes together")
    parser.add_argument("--keep", type=Path, help="a folder for logs and journals, kept")
    found = parser.parse_args(words)
    known = {fault.key for fault in FAULTS}
    if found.classes and not found.classes <= known:
        parser.error(
            f"--classes: {', '.join(sorted(found.classes - known))}; known: {', '.join(sorted(known))}"
        )
    return found


if __name__ == "__main__":
    try:
        sys.exit(main())
    except KeyboardInterrupt:
        sys.exit(console.INTERRUPTED)
