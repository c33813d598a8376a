"""The compact profile as it is served: a product taught on rendered parts, frames through its inspector."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from inference.datasets.synthetic import SyntheticDataset
from inference.inspector import Inspector
from inference.profiles.runtime import Runtime
from inference.sample import Sample
from inference.teach import teach
from inference.teach_settings import TeachSettings
from tests.bench.paired import Case, Timings


class NotScored(Exception):
    """A frame of the bench got an error instead of a score: its time says nothing."""


def product(*, size: int, train: int) -> SyntheticDataset:
    """The rendered product that the bench teaches and inspects."""
    return SyntheticDataset(
        train=train,
        validation=max(4, train // 3),
        test_good=4,
        defects_per_kind=2,
        size=size,
        lot_size=2,
        seed=5,
    )


def samples(dataset: SyntheticDataset) -> list[Sample]:
    """Frames to inspect, good and bad."""
    return [item.sample() for item in dataset.test()]


def taught(dataset: SyntheticDataset, folder: Path, precision: str, *, bank: int | None) -> Path:
    """A bundle of the product; ``bank`` rows instead of the default number."""
    settings = TeachSettings(precision=precision, folds=2)
    if bank is not None:
        settings = replace(settings, bank_size=bank)
    return teach(dataset, folder, name=f"bench-{precision}", settings=settings)


def cases(
    bundle: Path,
    frames: Sequence[Sample],
    runtimes: Sequence[str],
    batches: Sequence[int],
    *,
    precision: str,
    parallel: int,
    device: str = "cpu",
) -> list[Case]:
    """The inspector of a bundle at every batch size, its colour network run by each of ``runtimes``."""
    out = []
    for runtime in runtimes:
        inspector = Inspector.load(bundle, device=device, parallel=parallel, runtime=Runtime(colour=runtime))
        inspector.warm()
        for batch in batches:
            chosen = [frames[i % len(frames)] for i in range(batch)]

            def call(
                timings: Timings, inspector: Inspector = inspector, chosen: Sequence[Sample] = chosen
            ) -> object:
                return inspected(inspector, chosen, timings)

            labels = {"profile": "compact", "runtime": runtime, "precision": precision, "batch": batch}
            name = f"compact {runtime} {precision} x{batch}"
            out.append(Case(name, batch, call, {**labels, "grid": "28 and 56"}))
    return out


def inspected(inspector: Inspector, frames: Sequence[Sample], timings: Timings) -> int:
    """Inspect, and add up the stages. Raises NotScored."""
    for one in inspector.inspect(frames):
        if one.error is not None:
            raise NotScored(f"{type(one.error).__name__}: {one.error}")
        for stage, ms in one.timings.items():
            timings[stage] = timings.get(stage, 0.0) + ms
    return len(frames)
