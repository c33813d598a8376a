"""What a benchmark line needs before it runs: a taught bundle and a pool of encoded frames.

Frames are rendered and encoded once; the line sends them again and again under fresh part keys, so that
drawing parts does not take the processor from the worker that is measured.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from itertools import islice
from pathlib import Path

import cv2
import numpy as np

from inference.datasets.base import Dataset, Item
from inference.datasets.surface import SurfaceDataset
from inference.datasets.synthetic import SyntheticDataset
from inference.sample import Sample
from inference.teach import teach
from inference.teach_settings import TeachSettings
from schemas.frame import Frame
from schemas.images import encode_colour, encode_depth
from schemas.part import PartKey
from tests.bench.pool import write_pool

LARGE_RGB = (2048, 2448)
LARGE_DEPTH = (1024, 1280)
Progress = Callable[[str, int, int], None]

_NOBODY = PartKey("pool", 0, 0)


@dataclass(frozen=True, slots=True)
class Material:
    """A product that is ready to be run on a line.

    Attributes:
        product: its name.
        frames: how many different frames the pool has.
        rgb, depth: their sizes (height, width).
        rgb_bytes, depth_bytes: mean encoded sizes.
        folder: holds ``models/`` and ``pool.bin``.
    """

    product: str
    frames: int
    rgb: tuple[int, int]
    depth: tuple[int, int]
    rgb_bytes: int
    depth_bytes: int
    folder: Path

    @property
    def models(self) -> Path:
        """The models folder of the worker."""
        return self.folder / "models"

    @property
    def pool(self) -> Path:
        """The file that the capture process reads."""
        return self.folder / "pool.bin"

    @property
    def title(self) -> str:
        """Sizes in words."""
        (rows, columns), (depth_rows, depth_columns) = self.rgb, self.depth
        same = (rows, columns) == (depth_rows, depth_columns)
        return f"{columns} x {rows}" + ("" if same else f" + {depth_columns} x {depth_rows}")


class _Rendered:
    """A dataset whose frames are made once and kept; large ones take seconds each."""

    def __init__(self, name: str, train: Sequence[Item], validation: Sequence[Item]) -> None:
        self.name = name
        self._train, self._validation = list(train), list(validation)

    def train(self) -> Sequence[Item]:
        return self._train

    def validation(self) -> Sequence[Item]:
        return self._validation

    def test(self) -> Sequence[Item]:
        return []


def small(folder: Path, *, size: int, pool: int, report: Progress) -> Material:
    """Synthetic parts of ``size`` x ``size`` pixels, one in ten of the pool with a defect."""
    kept = _kept(folder)
    if kept is not None:
        return kept
    bad = max(1, pool // 30)
    dataset = SyntheticDataset(
        train=24, validation=8, lot_size=4, test_good=pool - 3 * bad, defects_per_kind=bad, size=size
    )
    return _make(folder, "bench-small", dataset, _mixed(dataset.test()), report)


def large(folder: Path, *, pool: int, report: Progress) -> Material:
    """Synthetic parts as a factory camera and a 3D head see them: the same field, two resolutions."""
    kept = _kept(folder)
    if kept is not None:
        return kept
    parts = SyntheticDataset(
        train=9, validation=3, test_good=pool, defects_per_kind=0, size=LARGE_RGB, lot_size=3
    )
    made = {"train": parts.train(), "validation": parts.validation(), "test": parts.test()}
    total = sum(map(len, made.values()))
    done = 0
    ready: dict[str, list[Item]] = {}
    for split, items in made.items():
        for item in items:
            ready.setdefault(split, []).append(_loaded(item))
            done += 1
            report("render", done, total)
    dataset = _Rendered("synthetic-large", ready["train"], ready["validation"])
    return _make(folder, "bench-large", dataset, ready["test"], report)


def replayed(folder: Path, data: Path, *, pool: int, report: Progress) -> Material:
    """Frames of a folder in the layout that ``crosscheck teach`` reads; its test split is left alone."""
    kept = _kept(folder)
    if kept is not None:
        return kept
    dataset = SurfaceDataset(data)
    return _make(folder, "bench-folder", dataset, list(islice(dataset.validation(), pool)), report)


def _make(folder: Path, product: str, dataset: Dataset, shown: Sequence[Item], report: Progress) -> Material:
    folder.mkdir(parents=True, exist_ok=True)
    teach(dataset, folder / "models", name=product, settings=TeachSettings(), progress=report)
    frames = []
    for number, item in enumerate(shown):
        frames.append(_encoded(product, item.sample()))
        report("encode", number + 1, len(shown))
    write_pool(folder / "pool.bin", frames)
    colours = [frame.rgb for frame in frames if frame.rgb is not None]
    reliefs = [frame.depth for frame in frames if frame.depth is not None]
    made = Material(
        product=product,
        frames=len(frames),
        rgb=(colours[0].height, colours[0].width),
        depth=(reliefs[0].height, reliefs[0].width),
        rgb_bytes=sum(len(image.data) for image in colours) // len(colours),
        depth_bytes=sum(len(image.data) for image in reliefs) // len(reliefs),
        folder=folder,
    )
    facts = asdict(made) | {"folder": None}
    (folder / "material.json").write_text(json.dumps(facts), encoding="utf-8")
    return made


def _encoded(product: str, sample: Sample) -> Frame:
    if sample.rgb is None or sample.depth is None:
        raise ValueError("the benchmark runs fused: every frame of its pool needs colour and depth")
    return Frame(
        part=_NOBODY,
        product=product,
        captured_at=0,
        deadline=0,
        rgb=encode_colour(sample.rgb),
        depth=encode_depth(sample.depth),
        depth_scale=sample.depth_scale,
    )


def _kept(folder: Path) -> Material | None:
    """What an earlier run made in this folder, or None."""
    path = folder / "material.json"
    if not path.is_file():
        return None
    facts = json.loads(path.read_text(encoding="utf-8"))
    facts |= {"rgb": tuple(facts["rgb"]), "depth": tuple(facts["depth"]), "folder": folder}
    return Material(**facts)


def _mixed(items: Sequence[Item]) -> list[Item]:
    """Good parts with the bad ones spread among them, as they come on a line."""
    good = [item for item in items if item.is_good]
    bad = [item for item in items if not item.is_good]
    step = max(1, len(good) // max(1, len(bad)))
    for number, item in enumerate(bad):
        good.insert(number * (step + 1), item)
    return good


def _loaded(item: Item) -> Item:
    sample = item.sample()
    assert sample.depth is not None
    rows, columns = LARGE_DEPTH
    depth = cv2.resize(sample.depth, (columns, rows), interpolation=cv2.INTER_NEAREST)
    both = Sample(sample.rgb, np.asarray(depth, np.uint16), sample.depth_scale)
    return Item(item.name, item.group, item.split, item.label, lambda: both)
