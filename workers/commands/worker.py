"""``crosscheck worker``: one inspection worker, until it is told to stop."""

from __future__ import annotations

from pathlib import Path

import torch

from workers.commands import console
from workers.commands.local import open_bus, open_store
from workers.inspection import InspectionWorker
from workers.logs import configure_logs
from workers.model_folder import ModelFolder
from workers.settings import Settings


def run_worker(settings: Settings, *, stages: Path | None) -> None:
    """Run until SIGINT or SIGTERM; then answer what is in hand, commit and leave the group."""
    configure_logs(settings.log)
    if settings.threads:
        torch.set_num_threads(settings.threads)
    models = ModelFolder(settings.models, device=settings.device)
    store = open_store(settings)
    bus = open_bus(settings, "frames", "verdicts", "heatmaps", "deadletter")
    try:
        worker = InspectionWorker(settings, bus, store, models)
        with console.stop_on_signal() as stop:
            worker.run(stop)
        console.write_json(stages, worker.stages.to_json())
    finally:
        bus.close()
