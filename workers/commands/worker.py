"""``crosscheck worker``: one inspection worker, until it is told to stop."""

from __future__ import annotations

from pathlib import Path

import torch

from workers.commands import console
from workers.commands.local import open_bus, open_store
from workers.errors import SettingsError
from workers.inspection import InspectionWorker
from workers.logs import configure_logs
from workers.model_folder import ModelFolder
from workers.settings import Settings

MOST_THREADS = 4
"""One frame of one small network gives no more threads something to do."""


def own_threads() -> int:
    """Torch threads where nobody set them: all cores of this process but one, at most four.

    Torch's own choice is every core. Its threads then spin, waiting for each other, whenever the broker,
    Redis or another worker needs one of the cores: on two busy cores a frame took six times as long.
    """
    return max(1, min(MOST_THREADS, torch.get_num_threads() - 1))


def run_worker(settings: Settings, *, stages: Path | None) -> None:
    """Run until SIGINT or SIGTERM; then answer what is in hand, commit and leave the group."""
    configure_logs(settings.log)
    _check_device(settings.device)
    torch.set_num_threads(settings.threads or own_threads())
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
