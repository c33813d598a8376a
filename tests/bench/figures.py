"""From what was sent and what came back to the figures: rates, backlog, latency, memory."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Self

import numpy as np

from schemas.verdict import Decision, Verdict

LATE_MS = 250.0
UNSCORED = frozenset({Decision.STALE, Decision.ERROR, Decision.MISSING})


@dataclass(frozen=True, slots=True)
class Answer:
    """One verdict as its reader saw it. Times in nanoseconds since the epoch."""

    read_at: int
    captured_at: int
    decided_at: int
    queue_ms: float
    wait_ms: float
    decision: Decision
    mode: str

    @classmethod
    def of(cls, verdict: Verdict, read_at: int) -> Self:
        """What the figures need of a verdict."""
        return cls(
            read_at=read_at,
            captured_at=verdict.captured_at,
            decided_at=verdict.decided_at,
            queue_ms=verdict.timings.get("queue", 0.0),
            wait_ms=verdict.timings.get("wait", 0.0),
            decision=verdict.decision,
            mode="-" if verdict.mode is None else verdict.mode.value,
        )


@dataclass(frozen=True, slots=True)
class Latency:
    """Milliseconds from capture to a verdict that can be read."""

    p50: float
    p95: float
    p99: float
    max: float
    late: int
    count: int

    @classmethod
    def of(cls, values: Sequence[float]) -> Self:
        """From milliseconds, one a frame."""
        p50, p95, p99 = (float(v) for v in np.percentile(values, [50, 95, 99]))
        late = sum(value > LATE_MS for value in values)
        return cls(p50, p95, p99, max(values), late, len(values))

    def to_json(self) -> dict[str, float]:
        """Stable keys."""
        return {
            "p50": self.p50,
            "p95": self.p95,
            "p99": self.p99,
            "max": self.max,
            "late": self.late,
            "count": self.count,
        }


@dataclass(frozen=True, slots=True, kw_only=True)
class Run:
    """One schedule and its answers.

    Attributes:
        rate: frames a second that were offered.
        start, period: of the schedule, nanoseconds.
        worst_late_ms: how far the capture process was behind its schedule at worst.
        answers: one a frame, None where no verdict came.
        stored: trigger to the time when Redis had it for the gate, nanoseconds in whole milliseconds.
        cpu_seconds: processor time of the worker, all threads.
    """

    rate: float
    start: float
    period: float
    worst_late_ms: float
    answers: tuple[Answer | None, ...]
    stored: dict[int, int] = field(repr=False)
    cpu_seconds: float = 0.0

    @property
    def found(self) -> list[Answer]:
        """The answers that came."""
        return [answer for answer in self.answers if answer is not None]

    @property
    def faults(self) -> list[str]:
        """What must not be: verdicts lost, not scored, or not fused."""
        found = self.found
        unscored = Counter(str(a.decision) for a in found if a.decision in UNSCORED)
        other = Counter(a.mode for a in found if a.decision not in UNSCORED and a.mode != "FUSED")
        lost, untold = len(self.answers) - len(found), len(self.answers) - len(self.stored)
        return [
            *([f"{lost} verdicts lost"] if lost else []),
            *([f"{untold} not told to the gate"] if untold else []),
            *(f"{count} {name}" for name, count in sorted((unscored + other).items())),
        ]

    @property
    def throughput(self) -> float:
        """Verdicts a second between a tenth and nine tenths of them: neither start nor tail.

        Verdicts come a batch at a time: both ends are the end of a batch, or a part of one would count whole.
        """
        times = np.sort([answer.read_at for answer in self.found])
        gaps = np.diff(times)
        ends = np.append(np.flatnonzero(gaps > gaps.mean() / 4), len(times) - 1)
        first = ends[ends >= len(times) // 10]
        last = ends[ends <= len(times) - 1 - len(times) // 10]
        low, high = first[0], last[-1] if len(last) and last[-1] > first[0] else ends[-1]
        return float((high - low) / ((times[high] - times[low]) / 1e9))

    @property
    def seconds(self) -> float:
        """From the first frame's capture to the last verdict."""
        return float(max(answer.read_at for answer in self.found) - self.start) / 1e9

    def backlog(self) -> tuple[np.ndarray[Any, Any], np.ndarray[Any, Any]]:
        """Seconds since the start, and frames captured whose verdict was not there, at each capture."""
        due = self.start + self.period * np.arange(len(self.answers))
        times = np.sort([answer.read_at for answer in self.found])
        waiting = np.arange(1, len(due) + 1) - np.searchsorted(times, due, side="right")
        return (due - self.start) / 1e9, waiting

    @property
    def growth(self) -> float:
        """How much longer the backlog's middle is in the last quarter than in the second, frames."""
        _, waiting = self.backlog()
        quarter = len(waiting) // 4
        return float(np.median(waiting[-quarter:]) - np.median(waiting[quarter : 2 * quarter]))

    @property
    def holds(self) -> bool:
        """Whether the line keeps up: all answered, no growing backlog; one frame in a hundred is noise."""
        return not self.faults and self.growth <= max(2.0, 0.01 * len(self.answers))

    def latency(self) -> Latency:
        """Capture to the verdict being read from the result topic."""
        return Latency.of([(a.read_at - a.captured_at) / 1e6 for a in self.found])

    def gate_latency(self) -> Latency:
        """Capture to the verdict being in the gate's stream, by Redis' clock of whole milliseconds."""
        due = {i: self.start + self.period * i for i in self.stored}
        return Latency.of([(at - due[i]) / 1e6 for i, at in self.stored.items()])

    def split(self) -> dict[str, tuple[float, float]]:
        """Milliseconds (p50, p95) of each leg of a frame; frame by frame the legs add up to its latency."""
        legs: dict[str, list[float]] = {
            "to worker": [],
            "gather and decode": [],
            "model": [],
            "to reader": [],
        }
        for a in self.found:
            model = (a.decided_at - a.captured_at) / 1e6 - a.queue_ms - a.wait_ms
            legs["to worker"].append(a.queue_ms)
            legs["gather and decode"].append(a.wait_ms)
            legs["model"].append(model)
            legs["to reader"].append((a.read_at - a.decided_at) / 1e6)
        return {name: (float(np.percentile(v, 50)), float(np.percentile(v, 95))) for name, v in legs.items()}

    def to_json(self) -> dict[str, Any]:
        """Stable keys."""
        return {
            "offered_fps": self.rate,
            "frames": len(self.answers),
            "throughput_fps": self.throughput,
            "backlog_growth": self.growth,
            "holds": self.holds,
            "faults": self.faults,
            "capture_late_ms": self.worst_late_ms,
            "worker_cpu_cores": self.cpu_seconds / self.seconds,
            "decisions": dict(Counter(str(a.decision) for a in self.found)),
            "modes": dict(Counter(a.mode for a in self.found)),
            "latency_ms": self.latency().to_json(),
            "gate_latency_ms": self.gate_latency().to_json(),
            "latency_split_ms": {n: {"p50": a, "p95": b} for n, (a, b) in self.split().items()},
        }


@dataclass(frozen=True, slots=True)
class StageRow:
    """One stage's share of one frame: milliseconds by the clock, and computed by the loop's own thread."""

    name: str
    wall_ms: float
    cpu_ms: float | None


def stage_rows(stages: dict[str, dict[str, float]], frames: int, frame_ms: float) -> list[StageRow]:
    """The stage table of a saturated worker, per frame.

    Args:
        stages: what the worker wrote at its end.
        frames: how many it answered in its life.
        frame_ms: what one frame took by the clock; what no stage accounts for is the last row.
    """
    rows: list[StageRow] = []
    for name, total in stages.items():
        if name != "idle" and "." not in name:
            rows.append(StageRow(name, total["seconds"] * 1e3 / frames, total["cpu"] * 1e3 / frames))
    # The stages also saw the first frames of a cold worker, the clock did not.
    rest = max(0.0, frame_ms - sum(row.wall_ms for row in rows))
    for name, total in stages.items():
        if "." in name:
            parent = next(i for i, row in enumerate(rows) if row.name == name.split(".")[0])
            parts = sum(row.name.startswith(f"{rows[parent].name}.") for row in rows)
            rows.insert(parent + parts + 1, StageRow(name, total["seconds"] * 1e3 / frames, None))
    rows.append(StageRow("idle and other", rest, None))
    return rows


@dataclass(frozen=True, slots=True)
class Memory:
    """Resident megabytes of the worker at two counts of answered frames."""

    first: int
    last: int
    first_mb: float
    last_mb: float
    peak_mb: float

    @property
    def drift(self) -> float:
        """Change from the first to the last, as a share of the first."""
        return self.last_mb / self.first_mb - 1.0

    @classmethod
    def of(cls, samples: Sequence[tuple[int, int]], first: int, last: int) -> Self | None:
        """From (frames, bytes) samples; None when the run did not get that far."""
        at = {n: next((size for count, size in samples if count >= n), None) for n in (first, last)}
        begin, end = at[first], at[last]
        if begin is None or end is None:
            return None
        peak = max(size for _, size in samples)
        return cls(first, last, begin / 1e6, end / 1e6, peak / 1e6)

    def to_json(self) -> dict[str, float]:
        """Stable keys."""
        return {
            "first_frame": self.first,
            "last_frame": self.last,
            "first_mb": self.first_mb,
            "last_mb": self.last_mb,
            "peak_mb": self.peak_mb,
            "drift": self.drift,
        }
