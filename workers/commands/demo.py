"""``crosscheck demo``: teach, run a line, drop a sensor, count, and draw what happened."""

from __future__ import annotations

import logging
import os
import time
from pathlib import Path

import fakeredis
import redis
import torch
from rich.table import Table

from compose.services import Services
from inference.datasets.synthetic import SyntheticDataset
from inference.teach import teach
from inference.teach_settings import TeachSettings
from schemas.verdict import Decision
from workers.bus.base import Bus
from workers.bus.memory import MemoryBus
from workers.capture.published import AsPublished
from workers.commands import console
from workers.commands.local import SERVICES
from workers.commands.worker import frames_at_once
from workers.demo.picture import draw
from workers.demo.run import PRODUCT, STATION, run_line
from workers.demo.script import Script, write_script
from workers.demo.summary import KINDS, Summary, summarise
from workers.gate import GateDecision
from workers.logs import configure_logs
from workers.model_folder import ModelFolder
from workers.settings import Settings
from workers.store.connection import connect
from workers.topics import StationMap, TopicPlan

SIZE = 256
DEADLINE_S = 4.0
LOAD = 0.55
"""Share of one thread's capacity that the demo offers, so that it also holds on a busy laptop."""


def run_demo(
    *, kafka: bool, parts: int, seed: int, rate: float | None, out: Path, json_file: Path | None
) -> int:
    """The whole demo; the exit code is not 0 when the line broke a promise."""
    configure_logs("console", level=logging.CRITICAL)
    script = write_script(parts, seed)
    out.mkdir(parents=True, exist_ok=True)
    say = console.out.print
    say("[bold]Crosscheck[/bold]: every part ends in one decision, and only a PASS opens the gate\n")
    models = _taught(out / "models", seed)
    bus, client, settings = _services(kafka, out)
    chosen = rate or _sustainable_rate(models, seed)
    drop = f"{script.drop[0]} to {script.drop[1] - 1}"
    say(
        f"\n{script.parts} parts at {chosen:.1f}/s, {len(script.defects)} of them bad; "
        f"the depth sensor is out for parts {drop}"
    )
    try:
        with console.progress() as report:
            decided = 0

            def on_decision(decision: GateDecision) -> None:
                nonlocal decided
                decided += 1
                report("parts decided at the gate", decided, script.parts)

            run = run_line(
                bus=bus,
                client=client,
                models=models,
                settings=settings,
                script=script,
                rate=chosen,
                folder=out,
                size=SIZE,
                seed=seed,
                deadline_s=DEADLINE_S,
                on_decision=on_decision,
            )
    finally:
        bus.close()
    summary = summarise(run, script)
    sheet = draw(run, summary, out / "contact-sheet.png")
    _show(summary, script)
    say(f"\ncontact sheet: {sheet}")
    say(f"every trigger and decision: {out / 'triggers.jsonl'}, {out / 'gate.jsonl'}")
    console.write_json(json_file, summary.to_json())
    if not summary.ok:
        console.err.print("[bold red]the line broke a promise: see the table above[/bold red]")
    return console.OK if summary.ok else console.BROKEN_PROMISE


def _taught(root: Path, seed: int) -> ModelFolder:
    dataset = AsPublished(
        SyntheticDataset(
            train=96, validation=32, test_good=0, defects_per_kind=0, seed=seed, product=seed, size=SIZE
        )
    )
    started = time.monotonic()
    with console.progress() as report:
        bundle = teach(dataset, root, name=PRODUCT, settings=TeachSettings(seed=seed), progress=report)
    torch.set_num_threads(1)
    models = ModelFolder(root, parallel=frames_at_once(0))
    took = time.monotonic() - started
    console.out.print(f"taught {PRODUCT} version {bundle.name} from 128 good parts in {took:.0f} s: {bundle}")
    return models


def _services(kafka: bool, out: Path) -> tuple[Bus, redis.Redis, Settings]:
    prefix = f"demo-{time.time_ns()}" if kafka else "demo"
    settings = Settings(
        topic_prefix=prefix,
        group=prefix,
        worker=f"demo-{os.getpid()}",
        models=out / "models",
        heatmaps="all",
        max_batch=4,
        pair_wait_ms=100,
    )
    plan = TopicPlan(StationMap({STATION: 0}), frames_per_second=20, frame_bytes=200_000, prefix=prefix)
    if not kafka:
        bus: Bus = MemoryBus()
        client: redis.Redis = fakeredis.FakeRedis()
        console.out.print(
            "bus: in this process; store: fakeredis (--kafka runs it over real Kafka and Redis)"
        )
    else:
        from workers.bus.kafka import KafkaBus  # the embedded demo needs no broker client

        services = Services(SERVICES)
        ends = services.up(on_progress=lambda text: console.err.print(f"[dim]{text}[/dim]"))
        bus, client = KafkaBus(ends.kafka), connect(ends.redis_url)
        console.out.print(f"bus: Kafka at {ends.kafka}; store: Redis at {ends.redis_url}")
    plan.apply(bus)
    return bus, client, settings


def _sustainable_rate(models: ModelFolder, seed: int) -> float:
    """Parts a second that this machine holds: measured on the very model, since machines differ tenfold."""
    model = models.of(PRODUCT)
    item = SyntheticDataset(train=4, seed=seed, product=seed, size=SIZE).train()
    started = time.monotonic()
    for part in item:
        model.inspect([part.sample()])
    each = (time.monotonic() - started) / len(item)
    return min(12.0, max(1.0, LOAD / each))


def _show(summary: Summary, script: Script) -> None:
    values = summary.to_json()
    table = Table(title="what the gate did, by what was really wrong")
    table.add_column("kind")
    for heading in ("parts", "passed", "rejected", "held back"):
        table.add_column(heading, justify="right")
    for kind in ("good", *KINDS):
        for in_drop, where in ((False, ""), (True, ", depth out")):
            outcomes = summary.of(kind, in_drop=in_drop)
            if outcomes:
                passed = sum(o.opened for o in outcomes)
                rejected = sum(o.decision is Decision.REJECT for o in outcomes)
                held = len(outcomes) - passed - rejected
                table.add_row(kind + where, str(len(outcomes)), str(passed), str(rejected), str(held))
    console.out.print(table)
    console.out.print(_by_size(summary))
    latency = values["latency_ms"]
    modes = ", ".join(f"{count} {mode}" for mode, count in values["modes"].items() if count)
    p50, p95, p99 = (console.number(latency[name], 0) for name in ("p50", "p95", "p99"))
    counts = "  ".join(
        f"{name} {values[name]}" for name in ("triggers", "published", "verdicts", "decisions")
    )
    back = "yes" if summary.degraded_mode_seen else "NO"
    console.out.print(
        f"{counts}  [bold]lost {values['lost']}[/bold]  duplicates {values['duplicates']}  "
        f"[bold]unsafe passes {values['unsafe_passes']}[/bold]"
    )
    console.out.print(f"modes: {modes}")
    console.out.print(
        f"colour alone while depth was out, fused again after part {script.drop[1] + 2}: {back}"
    )
    console.out.print(
        f"trigger to verdict: p50 {p50} ms, p95 {p95} ms, p99 {p99} ms; "
        f"{summary.frames_per_second:.1f} parts/s over the run, nothing skipped"
    )


def _by_size(summary: Summary) -> Table:
    """Rejected of planted, by kind and by size and contrast, while both sensors worked."""
    cells: dict[tuple[str, float, float], list[bool]] = {}
    for kind in KINDS:
        for o in summary.of(kind, in_drop=False):
            if o.defect is not None:
                key = (kind, o.defect.contrast, o.defect.size)
                cells.setdefault(key, []).append(o.decision is Decision.REJECT)
    sizes = sorted({size for _, _, size in cells})
    table = Table(title="rejected of planted, both sensors working")
    table.add_column("kind")
    table.add_column("contrast", justify="right")
    for size in sizes:
        table.add_column(f"{size:.0f} px", justify="right")
    for kind, contrast in sorted({(kind, contrast) for kind, contrast, _ in cells}):
        found = [cells.get((kind, contrast, size), []) for size in sizes]
        row = [f"{sum(hits)} of {len(hits)}" if hits else "" for hits in found]
        table.add_row(kind, f"{contrast:.1f}", *row)
    return table
