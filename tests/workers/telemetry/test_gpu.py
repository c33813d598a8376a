"""Memory of the GPU: by the names of torch, and nothing where there is none."""

from __future__ import annotations

import pytest
import torch

from tests.workers.telemetry.scraping import key, told
from workers.telemetry.gpu import GpuCollector


def test_the_cpu_has_none() -> None:
    assert told(GpuCollector("cpu")) == {}


def test_what_the_process_holds_and_what_the_device_has_are_told_by_kind(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    if torch.cuda.is_available():
        held = torch.zeros(1 << 20, device="cuda:0")
        expected = {"allocated": float(torch.cuda.memory_allocated(held.device))}
    else:
        # No GPU: what torch would say of one.
        monkeypatch.setattr(torch.cuda, "mem_get_info", lambda device: (60, 80))
        monkeypatch.setattr(torch.cuda, "memory_allocated", lambda device: 7)
        monkeypatch.setattr(torch.cuda, "memory_reserved", lambda device: 9)
        expected = {"allocated": 7, "reserved": 9, "free": 60, "total": 80}
    found = told(GpuCollector("cuda:0"))
    told_of = {
        kind: found[key("crosscheck_gpu_memory_bytes", device="cuda:0", kind=kind)] for kind in expected
    }
    assert told_of == expected
    assert len(found) == 4
