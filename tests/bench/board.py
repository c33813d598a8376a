"""Does the board keep up: forty stations, a hundred verdicts a second, a browser open at the wall.

    python tests/bench/board.py --json board.json

Real Kafka and Redis, ``crosscheck board`` as a process, headless Chromium at 1920 x 1080. Frames and verdicts
come from a script and not from a model, at their times on the schedule; each verdict is decided, so stamped,
when it is sent, and names the record of its frame, from which the page's small pictures come.
"Painted" is counted by the page itself, behind the frame that drew the verdict.

Exit code 1 when a verdict was neither shown nor said to be skipped, or the page fell behind by seconds.
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
import threading
import time
from contextlib import ExitStack
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import psutil
from playwright.sync_api import Page
from rich.table import Table

from compose.services import Endpoints, Services
from inference.datasets.synthetic import SyntheticDataset
from schemas.frame import Frame
from schemas.images import encode_colour, encode_depth
from schemas.part import PartKey
from schemas.verdict import Decision, Mode, Region, Source, Verdict
from schemas.wire import encode
from tests.bench.rig import BenchError, pinned
from tests.board.browsing import MISSING, browsing, chromium, watched
from tests.e2e.processes import Running, wait_until
from workers.bus.base import TopicPartition
from workers.bus.kafka import KafkaBus
from workers.commands import console
from workers.topics import StationMap, TopicPlan

PARTITIONS = 8
THRESHOLD = 4.8
BEHIND_S = 3.0
"""A page whose slowest twentieth is later than this does not show a line that lives."""
SETTLE_S = 3.0

# Long tasks and frames are counted by the browser itself.
WITNESS = """() => {
  const seen = (window.witness = { frames: 0, long: 0, longest: 0 });
  const frame = () => { seen.frames += 1; requestAnimationFrame(frame); };
  requestAnimationFrame(frame);
  new PerformanceObserver((list) => {
    for (const task of list.getEntries()) {
      seen.long += 1;
      seen.longest = Math.max(seen.longest, task.duration);
    }
  }).observe({ type: "longtask" });
}"""
COUNTS = "({...window.crosscheckBoard, delays: null, ...window.witness})"
DELAYS = "Array.from(window.crosscheckBoard.delays.slice(0, window.crosscheckBoard.shown))"


@dataclass(frozen=True, slots=True, kw_only=True)
class Figures:
    """What the run showed. Times in milliseconds, memory in megabytes, processors in percent of one core."""

    stations: int
    rate: float
    seconds: float
    sent: int
    received: int
    shown: int
    skipped: int
    paints_per_s: float
    frames_per_s: float
    long_tasks: int
    longest_task_ms: float
    delay_p50: float
    delay_p95: float
    delay_max: float
    heap_start: float
    heap_end: float
    server_cpu: float
    browser_cpu: float
    server_rss: float
    late_sends_ms: float


class Sender(threading.Thread):
    """Sends verdicts on a schedule; a late one does not put off those behind it."""

    def __init__(self, bus: KafkaBus, prefix: str, stations: StationMap, *, rate: float, count: int) -> None:
        super().__init__(name="sender", daemon=True)
        self._producer = bus.producer()
        self._frames, self._verdicts = f"{prefix}.frames", f"{prefix}.verdicts"
        self._pool = _pool()
        self._stations = stations
        self._rate = rate
        self._count = count
        self._random = np.random.default_rng(7)
        self.sent = 0
        self.worst_late = 0.0
        self.failure: Exception | None = None
        for partition in range(stations.partitions):
            for topic in (self._frames, self._verdicts):
                self._producer.prepare(TopicPartition(topic, partition), 10.0)

    def run(self) -> None:
        names = list(self._stations)
        run = time.time_ns()
        start = time.monotonic()
        try:
            for number in range(self._count):
                due = start + number / self._rate
                wait = due - time.monotonic()
                if wait > 0:
                    time.sleep(wait)
                self.worst_late = max(self.worst_late, -wait)
                station = names[number % len(names)]
                part, partition = (
                    PartKey(station, run, number // len(names)),
                    self._stations.partition(station),
                )
                now = time.time_ns()
                frame = replace(
                    self._pool[number % len(self._pool)], part=part, captured_at=now, deadline=now + 2 * 10**9
                )
                key = str(part).encode()
                place, offset = self._producer.send(
                    self._frames, encode(frame), key=key, partition=partition
                ).wait(10.0)
                verdict = self._verdict(frame, Source(place.topic, place.partition, offset))
                self._producer.send(self._verdicts, encode(verdict), key=key, partition=partition)
                self.sent += 1
        except Exception as error:
            self.failure = error
        finally:
            self._producer.close()

    def _verdict(self, frame: Frame, source: Source) -> Verdict:
        bad = self._random.random() < 0.03
        score = float(self._random.uniform(8, 30) if bad else self._random.gamma(9.0, 0.2))
        branches = {name: score * 0.9 for name in ("colour", "shape", "mapping", "unmapping", "dents")}
        return Verdict(
            part=frame.part,
            product=frame.product,
            decision=Decision.REJECT if score > THRESHOLD else Decision.PASS,
            captured_at=frame.captured_at,
            decided_at=time.time_ns(),
            deadline=frame.deadline,
            sources=(source,),
            worker="bench",
            mode=Mode.FUSED,
            score=score,
            threshold=THRESHOLD,
            coverage=0.97,
            branches=branches,
            regions=(Region(90, 80, 40, 30, score, "both"),) if score > THRESHOLD else (),
            bundle="cap/1",
            bundle_hash="0" * 64,
            timings={"decode": 2.0, "prepare": 2.0, "inspect": 20.0, "publish": 2.0},
        )


def _pool() -> list[Frame]:
    """A few frames of 192 x 192 pixels, encoded as an agent would."""
    parts = SyntheticDataset(train=6, validation=0, test_good=0, defects_per_kind=0, size=192)
    found = []
    for sample in (item.sample() for item in parts.train()):
        assert sample.rgb is not None
        assert sample.depth is not None
        found.append(
            Frame(
                part=PartKey("pool", 0, 0),
                product="cap",
                captured_at=0,
                deadline=0,
                rgb=encode_colour(sample.rgb),
                depth=encode_depth(sample.depth),
                depth_scale=sample.depth_scale,
            )
        )
    return found


def parse() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--stations", type=int, default=40)
    parser.add_argument("--rate", type=float, default=100.0, help="verdicts a second (default 100)")
    parser.add_argument("--seconds", type=float, default=60.0)
    parser.add_argument("--cores", type=int, default=2, help="processors for everything together (default 2)")
    parser.add_argument("--screenshot", type=Path, metavar="FILE", help="keep a picture of the wall")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the figures")
    return parser.parse_args()


def main() -> int:
    """Run it; the exit code."""
    args = parse()
    path = chromium()
    if path is None:
        raise BenchError(MISSING)
    load = os.getloadavg()[0]
    with ExitStack() as stack:
        stack.enter_context(pinned(args.cores))
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="crosscheck-bench-")))
        services = Services(folder / "services")
        stack.callback(services.down)
        ends = services.up(on_progress=lambda text: console.err.print(f"[dim]{text}[/dim]"))
        figures = measure(ends, folder, path, args)
    console.out.print(f"load {load:.1f} before the start, {args.cores} cores for all processes")
    console.out.print(_table(figures))
    console.write_json(args.json, asdict(figures))
    return int(figures.shown + figures.skipped < figures.sent or figures.delay_p95 > 1000 * BEHIND_S)


def measure(ends: Endpoints, folder: Path, path: str, args: argparse.Namespace) -> Figures:
    """One run against servers that are there."""
    prefix = f"bench-{time.time_ns()}"
    stations = StationMap.balanced(
        [f"line{n // 10 + 1}-{n % 10:02d}" for n in range(args.stations)], PARTITIONS
    )
    bus = KafkaBus(ends.kafka)
    TopicPlan(stations, prefix=prefix).apply(bus)
    stations.save(folder / "stations.json")
    surroundings = {
        "CROSSCHECK_KAFKA": ends.kafka,
        "CROSSCHECK_REDIS": ends.redis_url,
        "CROSSCHECK_TOPIC_PREFIX": prefix,
    }
    server = Running(
        "board", "--port", "0", "--stations", "stations.json", "--log", "json",
        folder=folder, name="board", env=surroundings,
    )  # fmt: skip
    try:
        url = _address(folder / "board.out")
        with browsing(path) as browser, watched(browser, url) as found:
            page = found.page
            page.goto(url)
            page.wait_for_selector('#link[data-state="live"]')
            page.wait_for_function(f"document.querySelectorAll('.tile').length === {args.stations}")
            page.evaluate(WITNESS)
            sender = Sender(bus, prefix, stations, rate=args.rate, count=round(args.rate * args.seconds))
            heap = _heap(page)
            watch = [psutil.Process(server.process.pid), *_browser_processes()]
            before, begun = _cpu(watch), time.monotonic()
            sender.start()
            sender.join(args.seconds + 60)
            if sender.failure is not None or sender.is_alive():
                raise BenchError(f"verdicts could not be sent: {sender.failure}")
            time.sleep(SETTLE_S)  # the last of them are on their way
            took = time.monotonic() - begun
            after = _cpu(watch)
            counts: dict[str, Any] = page.evaluate(COUNTS)
            delays = np.array(page.evaluate(DELAYS), float)
            if args.screenshot is not None:
                page.screenshot(path=args.screenshot)
            if delays.size == 0:
                raise BenchError("the page has shown no verdict")
            used = [100 * (late - early) / took for late, early in zip(after, before, strict=True)]
            return Figures(
                stations=args.stations,
                rate=args.rate,
                seconds=took,
                sent=sender.sent,
                received=counts["received"],
                shown=counts["shown"],
                skipped=counts["skipped"],
                paints_per_s=counts["paints"] / took,
                frames_per_s=counts["frames"] / took,
                long_tasks=counts["long"],
                longest_task_ms=counts["longest"],
                delay_p50=float(np.percentile(delays, 50)),
                delay_p95=float(np.percentile(delays, 95)),
                delay_max=float(delays.max()),
                heap_start=heap,
                heap_end=_heap(page),
                server_cpu=used[0],
                browser_cpu=sum(used[1:]),
                server_rss=psutil.Process(server.process.pid).memory_info().rss / 1e6,
                late_sends_ms=1000 * sender.worst_late,
            )
    finally:
        server.stop()
        bus.close()


def _address(out: Path) -> str:
    def said() -> str:
        words = out.read_text(errors="replace").split() if out.is_file() else []
        return next((word for word in words if word.startswith("http://")), "")

    wait_until(lambda: bool(said()), 60.0, "the board's address")
    return said()


def _browser_processes() -> list[psutil.Process]:
    """Chromium's, all of them children of this process."""
    return [p for p in psutil.Process().children(recursive=True) if "chrom" in p.name().lower()]


def _cpu(processes: list[psutil.Process]) -> list[float]:
    """Processor seconds so far; of one that has ended, nothing more."""
    found = []
    for process in processes:
        try:
            times = process.cpu_times()
            found.append(float(times.user + times.system))
        except psutil.Error:
            found.append(0.0)
    return found


def _heap(page: Page) -> float:
    """Megabytes of JavaScript objects that are in use, after a collection."""
    client = page.context.new_cdp_session(page)
    client.send("HeapProfiler.collectGarbage")
    used = client.send("Runtime.getHeapUsage")["usedSize"]
    client.detach()
    return float(used) / 1e6


def _table(found: Figures) -> Table:
    table = Table(title=f"{found.stations} stations, {found.rate:g} verdicts/s, {found.seconds:.0f} s")
    table.add_column("what")
    table.add_column("figure", justify="right")
    rows = (
        ("verdicts sent", f"{found.sent:,}"),
        ("shown on the page", f"{found.shown:,}"),
        ("said to be skipped", f"{found.skipped:,}"),
        ("decided to painted, p50", f"{found.delay_p50:.0f} ms"),
        ("p95", f"{found.delay_p95:.0f} ms"),
        ("max", f"{found.delay_max:.0f} ms"),
        ("frames of the browser", f"{found.frames_per_s:.1f} /s"),
        ("paints of the page", f"{found.paints_per_s:.1f} /s"),
        ("tasks over 50 ms", f"{found.long_tasks} (longest {found.longest_task_ms:.0f} ms)"),
        ("JavaScript heap, start to end", f"{found.heap_start:.1f} to {found.heap_end:.1f} MB"),
        ("board's processor", f"{found.server_cpu:.0f} % of a core"),
        ("browser's processor", f"{found.browser_cpu:.0f} % of a core"),
        ("board's memory", f"{found.server_rss:.0f} MB"),
    )
    for row in rows:
        table.add_row(*row)
    return table


if __name__ == "__main__":
    try:
        sys.exit(main())
    except BenchError as error:
        console.err.print(f"board bench: {error}")
        sys.exit(1)
