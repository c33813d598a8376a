"""``crosscheck worker``: one inspection worker, until it is told to stop."""

from __future__ import annotations

import os
from pathlib import Path

import structlog
import torch

from inference.profiles.runtime import Runtime
from workers.commands import console
from workers.commands.local import open_bus, open_store
from workers.errors import SettingsError
from workers.inspection import InspectionWorker
from workers.logs import configure_logs
from workers.metrics import serve
from workers.model_folder import ModelFolder
from workers.settings import Settings
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
    at_once = frames_at_once(settings.threads) if settings.device == "cpu" else 1
    runtime = Runtime(dino=settings.dino, point_mae=settings.point_mae, colour=settings.colour_runtime)
    models = ModelFolder(settings.models, device=settings.device, parallel=at_once, runtime=runtime)
    store = open_store(settings)
    bus = open_bus(settings, "frames", "verdicts", "heatmaps", "deadletter")
    try:
        watchdog = Watchdog(stall_s=settings.stall_s)
        worker = InspectionWorker(settings, bus, store, models, watchdog=watchdog)
        log.info("worker.ready", bundles=models.bundles, frames_at_once=at_once)
        server = None if settings.metrics is None else serve(worker.vitals, settings.metrics)[0]
        watchdog.start()
        try:
            with console.stop_on_signal() as stop:
                worker.run(stop)
        finally:
            watchdog.stop()
            if server is not None:
                server.shutdown()
                server.server_close()
        console.write_json(stages, worker.stages.to_json())
    finally:
        bus.close()


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
