"""A stand-in for the model, so that the loop's tests are about the loop: its score is what the test says."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from inference.calibration import Limits
from inference.inspection import Inspection
from inference.sample import Sample
from schemas.verdict import Mode


def inspection(
    score: float = 0.1,
    *,
    mode: Mode = Mode.FUSED,
    coverage: float = 1.0,
    degraded_pass: bool = True,
    degraded: tuple[str, ...] = (),
) -> Inspection:
    return Inspection(
        mode=mode,
        score=score,
        threshold=1.0,
        pass_limit=1.0,
        coverage=coverage,
        branches={"r2": score},
        regions=(),
        heatmap=None,
        degraded=degraded,
        degraded_pass=degraded_pass,
        error=None,
        timings={},
    )


def by_sensors(sample: Sample) -> Inspection:
    """FUSED and good with both sensors, a single mode that may not pass with one."""
    if sample.rgb is not None and sample.depth is not None:
        return inspection()
    mode = Mode.RGB if sample.rgb is not None else Mode.DEPTH
    return inspection(mode=mode, degraded_pass=False)


class StandInModel:
    """Answers each sample with ``answer``; remembers the sizes of its batches."""

    bundle_id = "widget/1"
    bundle_hash = "0" * 64
    limits: Mapping[Mode, Limits] = {mode: Limits.single(1.0) for mode in Mode}

    def __init__(self, answer: Callable[[Sample], Inspection] = by_sensors) -> None:
        self.answer = answer
        self.batches: list[int] = []

    def of(self, product: str) -> StandInModel:
        return self

    def inspect(self, batch: Sequence[Sample]) -> list[Inspection]:
        self.batches.append(len(batch))
        return [self.answer(sample) for sample in batch]
