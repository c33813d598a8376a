"""Every metric on the list is told by the processes it names, and nothing is told that is not on it."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest
from prometheus_client.openmetrics import parser as openmetrics
from prometheus_client.parser import text_string_to_metric_families

from tests.workers.archive_line import ArchiveLine
from tests.workers.changeover.site import Site
from tests.workers.frames import frame
from tests.workers.gate_line import GateLine
from tests.workers.line import Line
from workers.board.server import BoardServer
from workers.board.sinks import Sink
from workers.capture.publisher import Publisher
from workers.contact import Contact
from workers.drift.collector import watch_drift
from workers.group_watch import GroupWatch
from workers.settings import Settings
from workers.telemetry.agent import watch_publisher
from workers.telemetry.archive import watch_archive
from workers.telemetry.assembly import Assembly
from workers.telemetry.changeover import watch_changeover
from workers.telemetry.gate import GateWaits, watch_gate
from workers.telemetry.names import METRICS, PROCESSES, Metric, Process
from workers.telemetry.registry import Registry
from workers.telemetry.watching import watch_answers, watch_worker
from workers.topics import StationMap
from workers.watchdog import Watchdog


def _worker(stack: ExitStack) -> Registry:
    line, watch = Line(), Assembly("worker", "127.0.0.1:0")
    watch_answers(watch)
    stack.enter_context(watch_drift(watch, line.store, "w1"))
    dog = Watchdog(stall_s=30, clock=line.clock)
    worker = line.worker(watchdog=dog, observers=watch.observers)
    watch_worker(watch, worker, dog, services=(line.store.contact,), stop=threading.Event())
    line.send(frame(0))
    line.turn(worker, lambda: worker.answered == 1)
    line.clock.advance(5)
    worker.step()
    watch.collect(GroupWatch(list, "workers"))
    return watch.registry


def _agent(stack: ExitStack) -> Registry:
    line, watch = Line(), Assembly("agent", None)
    publisher = stack.enter_context(
        Publisher(line.bus, station="s1", product="cap", station_map=StationMap({"s1": 0}))
    )
    watch_publisher(watch, publisher)
    return watch.registry


def _gate(stack: ExitStack, folder: Path) -> Registry:
    line, watch = stack.enter_context(GateLine(folder)), Assembly("gate", None)
    contact = Contact("redis")
    watch_gate(watch, line.gate, GateWaits(), station="s1", redis=contact, stop=threading.Event())
    return watch.registry


def _changeover() -> Registry:
    site, watch = Site(), Assembly("changeover", None)
    contact = Contact("redis")
    watch_changeover(watch, site.watch, station="s1", redis=contact, stop=threading.Event())
    site.plc.change(7)
    site.run(0.2)
    return watch.registry


def _archive(folder: Path) -> Registry:
    line, watch = ArchiveLine(folder), Assembly("archive", None)
    sink = line.sink()
    watch_archive(watch, sink, kafka=Contact("kafka"), stop=threading.Event())
    line.turn(sink, 1)
    return watch.registry


def _board() -> Registry:
    line = Line()
    board = BoardServer(Settings(board="127.0.0.1:0"), Sink.of(line.bus), Sink.of(line.store))
    board._socket.close()
    return board.board.registry


@pytest.fixture
def registries(tmp_path: Path) -> Iterator[dict[Process, Registry]]:
    """The real collectors of each process."""
    with ExitStack() as stack:
        yield {
            "worker": _worker(stack),
            "agent": _agent(stack),
            "gate": _gate(stack, tmp_path / "gate"),
            "changeover": _changeover(),
            "archive": _archive(tmp_path / "archive"),
            "board": _board(),
            # It says how it is, and no numbers of its own.
            "shadow": Assembly("shadow", None).registry,
        }


def of(process: Process) -> dict[str, Metric]:
    """What a process is to tell, by the name of its family."""
    return {m.name.removesuffix("_total"): m for m in METRICS if process in m.processes}


def test_every_process_tells_what_the_list_says_of_it_and_nothing_else(
    registries: dict[Process, Registry],
) -> None:
    assert set(registries) == set(PROCESSES)
    for process, registry in registries.items():
        expected = of(process)
        families = list(text_string_to_metric_families(registry.render(None)[0].decode()))
        assert sorted(family.name for family in families) == sorted(expected), process
        for family in families:
            metric = expected[family.name]
            assert (family.type, family.documentation) == (metric.kind, metric.help)
            for sample in family.samples:
                assert set(sample.labels) - {"le"} == set(metric.labels), sample


def test_openmetrics_takes_them_too(registries: dict[Process, Registry]) -> None:
    for process, registry in registries.items():
        text = registry.render("application/openmetrics-text; version=1.0.0")[0].decode()
        parsed = openmetrics.text_string_to_metric_families(text)  # type: ignore[no-untyped-call]
        assert {family.name for family in parsed} == set(of(process))
