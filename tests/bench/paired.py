"""Times that can be compared: cases take turns, so that what the machine does besides hits them alike."""

from __future__ import annotations

import os
import platform
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median
from time import perf_counter, process_time
from typing import Any

import cv2
import torch

Timings = dict[str, float]
"""Milliseconds by stage."""


@dataclass(frozen=True, slots=True)
class Case:
    """Something that takes time for a number of frames.

    Attributes:
        name: in the table.
        frames: that one call works off.
        call: does the work, and adds milliseconds to the stages it is given.
        labels: profile, grid, precision and so on, for the report.
        every: it runs in one of so many rounds; for what takes half a minute.
    """

    name: str
    frames: int
    call: Callable[[Timings], object]
    labels: Mapping[str, Any] = field(default_factory=dict)
    every: int = 1


@dataclass(slots=True)
class Timed:
    """What the rounds showed of one case; times are of one frame."""

    case: Case
    rounds: dict[int, float] = field(default_factory=dict)
    """Milliseconds by the clock, by round."""
    spent: dict[int, float] = field(default_factory=dict)
    """Milliseconds of processor time, all threads, by round: those of an idle machine, even on a busy one."""
    stages: list[Timings] = field(default_factory=list)
    work_mb: float | None = None
    """Peak resident memory of a call above what was resident before; None where nobody can say."""

    @property
    def least(self) -> float:
        """Of the rounds: what the machine can do."""
        return min(self.rounds.values())

    @property
    def middle(self) -> float:
        """Of the rounds."""
        return median(self.rounds.values())

    @property
    def processor(self) -> float:
        """Median processor time."""
        return median(self.spent.values())

    def stage_middles(self) -> Timings:
        """Of each stage, per frame."""
        names = {name: None for one in self.stages for name in one}
        return {name: median(one.get(name, 0.0) for one in self.stages) / self.case.frames for name in names}

    def to_json(self) -> dict[str, Any]:
        """Stable keys."""
        return {
            "name": self.case.name,
            **self.case.labels,
            "frames": self.case.frames,
            "rounds": len(self.rounds),
            "ms_min": self.least,
            "ms_median": self.middle,
            "processor_ms_median": self.processor,
            "fps": 1e3 / self.middle,
            "work_mb": self.work_mb,
            "stages_ms": self.stage_middles(),
        }


def take_turns(cases: Sequence[Case], rounds: int) -> list[Timed]:
    """Every case once to warm up (its peak memory is taken then), then ``rounds`` rounds of all of them."""
    timed = [Timed(case) for case in cases]
    for one in timed:
        with peak_memory() as peak:
            one.case.call({})
        one.work_mb = peak.mb
    for number in range(rounds):
        for one in timed:
            if number % one.case.every:
                continue
            stages: Timings = {}
            start, used = perf_counter(), process_time()
            one.case.call(stages)
            one.spent[number] = 1e3 * (process_time() - used) / one.case.frames
            one.rounds[number] = 1e3 * (perf_counter() - start) / one.case.frames
            one.stages.append(stages)
    return timed


def ratios(slow: Timed, fast: Timed) -> list[float]:
    """slow / fast in processor time, of each round that both ran in."""
    return [ms / fast.spent[number] for number, ms in slow.spent.items() if number in fast.spent]


@contextmanager
def cores(count: int | None) -> Iterator[int]:
    """This process on so many cores (None for all it has), with as many threads in torch, for the block."""
    allowed = sorted(os.sched_getaffinity(0))
    chosen = allowed if count is None else allowed[:count]
    threads, drawing = torch.get_num_threads(), cv2.getNumThreads()
    os.sched_setaffinity(0, chosen)
    torch.set_num_threads(len(chosen))
    cv2.setNumThreads(len(chosen))
    try:
        yield len(chosen)
    finally:
        os.sched_setaffinity(0, allowed)
        torch.set_num_threads(threads)
        cv2.setNumThreads(drawing)


@dataclass(slots=True)
class Peak:
    """Filled at the end of the block."""

    mb: float | None = None


@contextmanager
def peak_memory() -> Iterator[Peak]:
    """Highest resident memory within the block above that at its start. Linux; elsewhere it stays None."""
    peak = Peak()
    try:
        # 5 sets the high-water mark back to what is resident now.
        Path("/proc/self/clear_refs").write_text("5")
        before = _status("VmRSS")
    except OSError:
        yield peak
        return
    yield peak
    peak.mb = max(0.0, _status("VmHWM") - before)


def _status(name: str) -> float:
    found = re.search(rf"^{name}:\s+(\d+) kB", Path("/proc/self/status").read_text(), re.MULTILINE)
    if found is None:
        raise OSError(f"/proc/self/status has no {name}")
    return int(found[1]) / 1024


def machine() -> dict[str, Any]:
    """What the figures were taken on."""
    try:
        lines = Path("/proc/cpuinfo").read_text()
    except OSError:
        lines = ""
    model = re.search(r"^model name\s*: (.+)$", lines, re.MULTILINE)
    known = [name for name in ("avx2", "avx512f", "avx512_bf16", "amx_bf16") if f" {name}" in lines]
    return {
        "processor": platform.processor() or platform.machine() if model is None else model[1],
        "instructions": known,
        "cores": len(os.sched_getaffinity(0)),
        "torch": torch.__version__,
        "gpu": torch.cuda.get_device_name() if torch.cuda.is_available() else None,
    }
