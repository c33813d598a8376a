"""``crosscheck synthetic``: the synthetic product as a folder of frames, to try every command on."""

from __future__ import annotations

from pathlib import Path

from inference.datasets.defects import DefectKind
from inference.datasets.surface import write_surface_layout
from inference.datasets.synthetic import SyntheticDataset
from workers.commands import console


def run_synthetic(out: Path, *, good: int, bad: int, seed: int, size: int) -> None:
    """Write ``good`` parts to teach from, a third as many to set thresholds by, and a test split.

    The test split has half as many good parts and ``bad`` of each kind of defect. Colour is written as JPEG,
    as lines send it: what is taught from the folder has seen the codec's traces.

    Raises:
        DatasetError: the size is too small, or an image cannot be encoded.
    """
    dataset = SyntheticDataset(
        train=good,
        validation=max(8, good // 3),
        test_good=max(8, good // 2),
        defects_per_kind=bad,
        seed=seed,
        product=seed,
        size=size,
        name="synthetic",
    )
    write_surface_layout(dataset, out)
    kinds = ", ".join(kind.value for kind in DefectKind)
    console.out.print(
        f"{good} good parts to teach from, {max(8, good // 3)} to set thresholds by,"
        f" {max(8, good // 2)} good and {bad} each of {kinds} to judge by: {out}",
        soft_wrap=True,
    )
