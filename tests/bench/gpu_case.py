"""The profiles on a GPU, batch by batch, with the two ceilings of the device beside the times."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from statistics import median
from time import perf_counter
from typing import Any

import torch

from inference.features.dino import Dino
from inference.features.lite import LiteExtractor
from inference.features.point_mae import PointMae
from inference.heads.together import HeadNets
from inference.inspector import Inspector
from inference.sample import Sample
from tests.bench.compact_case import inspected
from tests.bench.reference_case import DTYPES, Images, Native, Sizes, prepared
from tests.bench.roofline import Work, work_of


@dataclass(frozen=True, slots=True)
class GpuRow:
    """One configuration on the GPU, from images in pinned memory to scores' maps on the device.

    Attributes:
        ceilings: frames a second that operations and that bytes allow; None where the host has a part in it.
        memory_mb: peak of the allocator.
    """

    name: str
    batch: int
    ms: float
    ceilings: tuple[float, float] | None
    memory_mb: float

    @property
    def fps(self) -> float:
        """Frames a second."""
        return 1e3 * self.batch / self.ms

    def to_json(self) -> dict[str, Any]:
        """Stable keys."""
        operations, moved = self.ceilings or (None, None)
        return {
            "name": self.name,
            "batch": self.batch,
            "ms_a_batch": self.ms,
            "fps": self.fps,
            "fps_ceiling_operations": operations,
            "fps_ceiling_bytes": moved,
            "memory_mb": self.memory_mb,
        }


def waited(call: Callable[[], object], rounds: int) -> float:
    """Median milliseconds of a call until the GPU has finished it; three calls to warm up."""
    for _ in range(3):
        call()
    torch.cuda.synchronize()
    found = []
    for _ in range(rounds):
        start = perf_counter()
        call()
        torch.cuda.synchronize()
        found.append(1e3 * (perf_counter() - start))
    return median(found)


def compact_rows(
    bundle: Path, samples: Sequence[Sample], batches: Sequence[int], rounds: int, precision: str
) -> list[GpuRow]:
    """The compact profile's inspector: colour on the GPU, shape on the host, verdicts' evidence out."""
    inspector = Inspector.load(bundle, device="cuda", parallel=len(os.sched_getaffinity(0)))
    inspector.warm()
    found = []
    for batch in batches:
        chosen = [samples[i % len(samples)] for i in range(batch)]
        torch.cuda.reset_peak_memory_stats()
        ms = waited(partial(inspected, inspector, chosen, {}), rounds)
        memory = torch.cuda.max_memory_allocated() / 2**20
        found.append(GpuRow(f"compact fused {precision}", batch, ms, None, memory))
    return found


def rows(
    samples: Sequence[Sample],
    sizes: Sizes,
    batches: Sequence[int],
    rounds: int,
    *,
    tera_operations: dict[str, float],
    tera_bytes: float,
) -> list[GpuRow]:
    """The reference profile's networks and heads on every native grid, and compact colour tokens."""
    device = torch.device("cuda")
    found: list[GpuRow] = []

    def add(name: str, batch: int, precision: str, call: Callable[[], object]) -> None:
        try:
            work: Work = work_of(call)
            torch.cuda.reset_peak_memory_stats()
            ms = waited(call, rounds)
        except torch.cuda.OutOfMemoryError:
            torch.cuda.empty_cache()
            return
        ceilings = work.ceilings(batch, tera_operations=tera_operations[precision], tera_bytes=tera_bytes)
        found.append(GpuRow(name, batch, ms, ceilings, torch.cuda.max_memory_allocated() / 2**20))

    for precision in ("float32", "bfloat16"):
        dtype = DTYPES[precision]
        dino = Dino.random(sizes.dino, 0, device, dtype)
        points = PointMae.random(sizes.points, 0, device, dtype)
        extractor = LiteExtractor(device, precision="bfloat16" if precision == "bfloat16" else "float32")
        for batch in batches:
            images: Images = prepared([samples[i % len(samples)] for i in range(batch)], sizes)
            pinned = (images[0].pin_memory(), images[1].pin_memory(), images[2].pin_memory())
            for grid in sizes.grids:
                nets = HeadNets.random(sizes.heads(grid), 0)
                native = Native(dino, points, nets, grid, device, dtype)
                add(f"reference {grid} {precision}", batch, precision, partial(native.maps, pinned, {}))
            tiles = [one.numpy() for one in images[0]]
            call = partial(extractor.tokens_batch, tiles)
            add(f"compact colour tokens {precision}", batch, precision, call)
    return found
