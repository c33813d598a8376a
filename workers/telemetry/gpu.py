"""Memory of the GPU that a worker computes on."""

from __future__ import annotations

from collections.abc import Iterable

import torch
from prometheus_client.core import Metric as Family

from workers.telemetry import names
from workers.telemetry.families import family


class GpuCollector:
    """Asked of torch and of the driver at each scrape; nothing on the CPU.

    Args:
        device: what torch calls it, as ``cuda:0``.
    """

    def __init__(self, device: str) -> None:
        self._device = torch.device(device)

    def collect(self) -> Iterable[Family]:
        """What this process holds, and what the device has."""
        if self._device.type != "cuda":
            yield family(names.GPU_MEMORY, {})
            return
        device = self._device
        free, total = torch.cuda.mem_get_info(device)
        index = device.index if device.index is not None else torch.cuda.current_device()
        values = {
            "allocated": torch.cuda.memory_allocated(device),
            "reserved": torch.cuda.memory_reserved(device),
            "free": free,
            "total": total,
        }
        labelled = {(f"cuda:{index}", kind): float(value) for kind, value in values.items()}
        yield family(names.GPU_MEMORY, labelled)
