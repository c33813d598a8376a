"""``crosscheck worker``: one inspection worker, until it is told to stop."""

from __future__ import annotations

import os
from contextlib import ExitStack
from dataclasses import replace
from functools import partial
from pathlib import Path

import structlog
import torch

from inference.profiles.runtime import Runtime
from workers.clock import SystemClock
from workers.commands import console
from workers.commands.local import open_bus, open_store
from workers.drift.collector import watch_drift
from workers.errors import SettingsError
from workers.group_watch import GroupWatch
from workers.inspection import InspectionWorker
from workers.logs import configure_logs
from workers.registry import open_registry
from workers.serving.activation import Activations
from workers.serving.loading import ready
from workers.settings import Settings
from workers.steps.control import Control, ControlListener
from workers.steps.step import ignore
from workers.steps.telling import ErrorTeller
from workers.store.verdicts import VerdictStore
from workers.telemetry.assembly import Assembly
from workers.telemetry.watching import watch_answers, watch_worker
from workers.tracing.assembly import tracing
from workers.tracing.worker import WorkerTrace
from workers.vitals import Report
from workers.watchdog import Watchdog

log = structlog.get_logger(__name__)

MOST_AT_ONCE = 8
"""Beyond it memory bandwidth is what frames wait for."""


def frames_at_once(asked: int) -> int:
    """How many frames of a batch are scored side by side on the CPU: as asked, or one a core, at most eight.

    Torch itself stays on one thread. Its threads spin, waiting for each other, whenever the broker, Redis or
    another worker needs one of the cores (on two busy cores a frame took over five times as long), and with
    one thread a frame's score has the same bits on every worker.
    """
    if asked:
        return asked
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return min(MOST_AT_ONCE, cores)


def run_worker(settings: Settings, *, stages: Path | None) -> None:
    """Run until SIGINT or SIGTERM; then answer what is in hand, commit and leave the group.

    A worker that has work and does not move for ``stall_s`` ends the process with exit code 70.
    """
    configure_logs(settings.log)
    _check_device(settings.device)
    torch.set_num_threads(1)
    watch = Assembly("worker", settings.metrics)
    warm = watch.until("models", "bundles are being loaded and warmed")
    with ExitStack() as stack:
        # From the start: who asks while bundles are loaded hears that they are.
        stack.enter_context(watch.served())
        at_once = frames_at_once(settings.threads) if settings.device == "cpu" else 1
        runtime = Runtime(dino=settings.dino, point_mae=settings.point_mae, colour=settings.colour_runtime)
        bundle = partial(ready, device=settings.device, parallel=at_once, runtime=runtime)
        activations = Activations(open_registry(settings.models, settings.model_store), bundle)
        store = open_store(settings)
        bus = open_bus(settings, "frames", "verdicts", "heatmaps", "deadletter", "control")
        stack.callback(bus.close)
        control = Control(settings.worker, ControlListener(bus, settings.topic("control")), activations)
        control.begin(announce=partial(_announce, store, settings))
        warm.set()
        watchdog = Watchdog(stall_s=settings.stall_s)
        traced = stack.enter_context(tracing(settings, "worker", settings.worker))
        spans = None if traced is None else WorkerTrace(traced, worker=settings.worker)
        if spans is not None:
            watch.observe(spans)
        watch.observe(ErrorTeller())
        watch_answers(watch)
        stack.enter_context(watch_drift(watch, store, settings.worker))
        worker = InspectionWorker(
            settings,
            bus if spans is None else spans.marked(bus, settings),
            store,
            activations.models,
            watchdog=watchdog,
            on_step=ignore if spans is None else spans.stepped,
            observers=watch.observers,
            control=control,
        )
        stop = stack.enter_context(console.stop_on_signal())
        watch_worker(
            watch, worker, watchdog, services=(store.contact, bus.contact), stop=stop, device=settings.device
        )
        group = GroupWatch(partial(bus.members, settings.group), settings.group)
        watch.collect(group)
        watch.ready("group", group.trouble)
        group.start()
        stack.callback(group.close)
        log.info("worker.ready", bundles=activations.models.bundles, frames_at_once=at_once)
        watchdog.start()
        try:
            worker.run(stop)
        finally:
            watchdog.stop()
        console.write_json(stages, worker.stages.to_json())


def _announce(store: VerdictStore, settings: Settings, report: Report) -> None:
    ours = replace(report, line=settings.topic_prefix)
    store.beat(settings.worker, {"at": SystemClock().now(), **ours.to_map()})


def _check_device(name: str) -> None:
    """Put one number there, before loading ends in torch's own words. Raises SettingsError."""
    try:
        torch.zeros(1, device=torch.device(name))
    except (RuntimeError, AssertionError, ValueError) as error:
        why = str(error).splitlines()[0][:120]
        raise SettingsError(
            f"device {name!r} cannot be used ({why}): use cpu, or cuda where torch sees a GPU; "
            "it is set by --device or CROSSCHECK_DEVICE"
        ) from None
