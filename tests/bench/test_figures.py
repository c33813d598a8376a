"""The benchmark's own arithmetic: a line that falls behind is seen, a slow sender hides nothing."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from schemas.verdict import Decision
from tests.bench.figures import Answer, Memory, Run, stage_rows

SECOND = 1_000_000_000


def run(delays_s: Sequence[float | None], *, rate: float = 10.0, decision: Decision = Decision.PASS) -> Run:
    """A run whose frame i was answered ``delays_s[i]`` after its capture; None for one never answered."""
    period = SECOND / rate
    answers: list[Answer | None] = []
    for index, delay in enumerate(delays_s):
        captured = round(index * period)
        if delay is None:
            answers.append(None)
            continue
        read = captured + round(delay * SECOND)
        answers.append(
            Answer(
                read_at=read,
                captured_at=captured,
                decided_at=read - 5_000_000,
                queue_ms=3.0,
                wait_ms=2.0,
                decision=decision,
                mode="FUSED",
            )
        )
    stored = {i: a.read_at for i, a in enumerate(answers) if a is not None}
    return Run(rate=rate, start=0, period=period, worst_late_ms=0.0, answers=tuple(answers), stored=stored)


def test_a_line_that_keeps_up_holds_and_its_legs_add_up_to_the_latency() -> None:
    found = run([0.1] * 400)
    assert found.holds
    assert found.throughput == pytest.approx(10.0)
    assert found.latency().p99 == pytest.approx(100.0)
    assert sum(half for half, _ in found.split().values()) == pytest.approx(100.0)


def test_verdicts_that_come_in_batches_count_at_the_rate_of_the_batches() -> None:
    # All captured at once, four answered every two seconds.
    found = run([2.0 * (1 + index // 4) for index in range(14)], rate=1e6)
    assert found.throughput == pytest.approx(2.0, rel=1e-3)


def test_a_line_five_percent_too_slow_falls_behind_though_all_verdicts_come() -> None:
    found = run([0.1 + index * 0.05 / 10.0 for index in range(400)])
    assert found.faults == []
    assert not found.holds


@pytest.mark.parametrize("delays", [[0.1] * 399 + [None], [None] + [0.1] * 399])
def test_a_verdict_that_never_came_is_a_fault(delays: list[float | None]) -> None:
    found = run(delays)
    assert not found.holds
    assert found.faults == ["1 verdicts lost", "1 not told to the gate"]


def test_parts_answered_without_the_model_are_faults() -> None:
    assert run([0.1] * 40, decision=Decision.STALE).faults == ["40 STALE"]


def test_frames_over_the_limit_are_counted() -> None:
    latency = run([0.1] * 97 + [0.3] * 3).latency()
    assert (latency.late, latency.count) == (3, 100)
    assert latency.max == pytest.approx(300.0)


def test_memory_is_compared_at_the_first_sample_past_each_frame() -> None:
    samples = [(900, 90_000_000), (1001, 100_000_000), (3000, 140_000_000), (5000, 104_000_000)]
    found = Memory.of(samples, 1000, 5000)
    assert found is not None
    assert (found.first_mb, found.last_mb, found.peak_mb) == (100.0, 104.0, 140.0)
    assert found.drift == pytest.approx(0.04)
    assert Memory.of(samples, 1000, 5001) is None


def test_the_stage_table_adds_up_to_the_clock() -> None:
    stages = {
        "idle": {"seconds": 9.0, "cpu": 0.1, "count": 90},
        "poll": {"seconds": 0.1, "cpu": 0.05, "count": 10},
        "inspect": {"seconds": 4.0, "cpu": 3.9, "count": 10},
        "store": {"seconds": 0.4, "cpu": 0.1, "count": 20},
        "inspect.features": {"seconds": 3.0, "cpu": 0.0, "count": 100},
    }
    rows = stage_rows(stages, 100, 50.0)
    names = [row.name for row in rows]
    assert names == ["poll", "inspect", "inspect.features", "store", "idle and other"]
    assert sum(row.wall_ms for row in rows if "." not in row.name) == pytest.approx(50.0)
