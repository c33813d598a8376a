"""Answers of a worker as drift sees them: scores, brightness and distance, with what the bundle says."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np

from inference.sketch import Level, ScoreSketch, Sketches
from schemas.verdict import Mode, Verdict
from tests.workers.frames import START, frame, pending
from tests.workers.standin import inspection
from workers.clock import ManualClock
from workers.steps.deciding import Judge
from workers.steps.looking import Look
from workers.steps.publishing import Outcome

RNG = np.random.default_rng(0)
NORMALS = [float(x) for x in np.exp(0.3 * RNG.normal(size=300))]
SKETCH = ScoreSketch.of(NORMALS, [str(n) for n in range(300)], 2.2)
SKETCHES = Sketches({Mode.FUSED: SKETCH}, Level(100.0, 1.0, 60, 60, 60.0), Level(20_000.0, 5.0, 60, 60, 60.0))
JUDGE = Judge("w1", ManualClock(START), 0.8)


def outcome(
    number: int,
    score: float,
    *,
    station: str = "s1",
    product: str = "cap",
    bundle: str = "b" * 64,
    brightness: float = 100.0,
    sketches: Sketches | None = SKETCHES,
    standing: bytes | None = None,
    mode: Mode = Mode.FUSED,
) -> Outcome:
    part = pending(frame(number, station=station, product=product))
    said = inspection(score, mode=mode, degraded_pass=False)
    verdict: Verdict = JUDGE.inspected(
        part, said, bundle=f"{product}/1", bundle_hash=bundle, attempt=1, timings={}
    )
    look = Look(bundle, distance=20_000.0 + number % 3, brightness=brightness, sketches=sketches)
    return Outcome.of(part, verdict, look=look, standing=standing)


def good(count: int, *, seed: int = 1, creep: float = 0.0, **values: Any) -> list[Outcome]:
    rng = np.random.default_rng(seed)
    light = values.pop("brightness", 100.0)
    template = outcome(0, 1.0, **values)
    assert template.verdict is not None
    assert template.look is not None
    return [
        replace(
            template,
            verdict=replace(template.verdict, score=float(np.exp(0.3 * (rng.normal() + creep)))),
            look=replace(template.look, brightness=float(light + rng.normal(0, 0.5))),
        )
        for _ in range(count)
    ]
