"""``crosscheck benchmark``: a whole data set taught and judged, category by category, in one command."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from inference.bundle import read_bundle
from inference.datasets.base import notes_of
from inference.datasets.open import categories, open_dataset
from inference.errors import DatasetError
from inference.profiles.runtime import Runtime
from inference.teach import check, teach
from inference.teach_settings import TeachSettings
from workers.commands import console
from workers.commands.evaluate import Asked, run_evaluate
from workers.commands.threads import calmly
from workers.model_folder import latest_bundle


@dataclass(frozen=True, slots=True, kw_only=True)
class Benchmark:
    """What is taught and judged.

    Attributes:
        data: a data set of categories. kind: its layout, where it is not recognised.
        category: only this one.
        models: where bundles go. A category that has a bundle of the same settings there is not taught
            again, so that a run that was stopped goes on where it was.
        settings: of teaching, the same for every category.
        runtime: where networks are that no bundle holds.
        bootstrap: resamples behind each interval. leave_out_unmarked: as ``Asked`` has it.
    """

    data: Path
    models: Path
    settings: TeachSettings
    runtime: Runtime
    kind: str | None = None
    category: str | None = None
    bootstrap: int = 1000
    leave_out_unmarked: bool = False


def run_benchmark(asked: Benchmark, *, page: Path | None, json_file: Path | None) -> None:
    """Teach each category on its good parts, judge each on its test split, and print the mean.

    Raises:
        DatasetError, TeachError, WeightsError: wrong input; the message names the category.
    """
    names = categories(asked.data, kind=asked.kind)
    if asked.category is not None:
        names = [name for name in names if name == asked.category]
    if not names:
        raise DatasetError(
            f"{asked.data}: no category {asked.category or 'of a data set'} in it; for one product use "
            "`crosscheck teach` and `crosscheck evaluate`"
        )
    calmly(asked.settings.profile)
    console.check_out("--models", asked.models)
    with console.progress() as progress:
        for number, name in enumerate(names):
            if _taught(asked, name):
                console.out.print(f"{name}: taught before with these settings, kept")
                continue
            dataset = open_dataset(asked.data, kind=asked.kind, category=name)
            check(dataset, asked.settings)
            console.tell(notes_of(dataset))
            which = f"{name} ({number + 1}/{len(names)})"

            def step(stage: str, done: int, total: int, which: str = which) -> None:
                progress(f"{which}: {stage}", done, total)

            teach(
                dataset,
                asked.models,
                name=name,
                settings=asked.settings,
                runtime=asked.runtime,
                progress=step,
            )
    run_evaluate(
        Asked(
            models=asked.models,
            data=asked.data,
            kind=asked.kind,
            category=asked.category,
            device=asked.settings.device,
            runtime=asked.runtime,
            bootstrap=asked.bootstrap,
            leave_out_unmarked=asked.leave_out_unmarked,
            seed=asked.settings.seed,
        ),
        page=page,
        json_file=json_file,
        full=True,
    )


def _taught(asked: Benchmark, name: str) -> bool:
    """Whether the category's latest bundle was taught with these settings."""
    folder = asked.models / name
    bundle = latest_bundle(folder) if folder.is_dir() else None
    if bundle is None:
        return False
    return bool(read_bundle(bundle).manifest.get("settings") == asked.settings.to_map())
