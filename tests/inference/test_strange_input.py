"""Whatever comes in, a frame ends in a score or in an error that says why; its neighbours never notice."""

from __future__ import annotations

import json
import math
import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import torch
from safetensors.torch import save

from inference.bundle import read_bundle
from inference.datasets.base import GOOD, Item
from inference.datasets.pairs import PairsDataset
from inference.datasets.synthetic import SyntheticDataset
from inference.errors import BadSample, BundleError, DatasetError, TeachError, WrongSize
from inference.evaluate import evaluate
from inference.inspection import Inspection
from inference.inspector import Inspector
from inference.sample import Sample
from inference.teach import teach
from inference.teach_settings import TeachSettings
from schemas.verdict import Decision, Mode
from workers.steps.deciding import decide

SIDE = 192
LEAST = 0.8


def picture(seed: int, rows: int, columns: int) -> Any:
    return np.random.default_rng(seed).integers(0, 256, (rows, columns, 3)).astype(np.uint8)


def relief(seed: int, rows: int, columns: int) -> Any:
    return np.random.default_rng(seed).integers(20_000, 20_400, (rows, columns)).astype(np.uint16)


def sparse(*points: tuple[int, int, int]) -> Any:
    depth = np.zeros((SIDE, SIDE), np.uint16)
    for y, x, value in points:
        depth[y, x] = value
    return depth


def column() -> Any:
    depth = np.zeros((SIDE, SIDE), np.uint16)
    depth[:, 90] = 20_000 + np.arange(SIDE)
    return depth


def checker(low: int, high: int) -> Any:
    return np.where(np.indices((SIDE, SIDE)).sum(0) % 2, low, high).astype(np.uint16)


def full(value: int) -> Any:
    return np.full((SIDE, SIDE), value, np.uint16)


def grey(value: int) -> Any:
    return np.full((SIDE, SIDE, 3), value, np.uint8)


@pytest.fixture(scope="module")
def good(parts: SyntheticDataset) -> Sample:
    return parts.test()[0].sample()


# What a depth image may hold instead of depth, and what a colour image may.
DEPTHS: dict[str, Any] = {
    "nothing read": full(0),
    "saturated": full(65_535),
    "the least count": full(1),
    "one point": sparse((9, 9, 20_000)),
    "two points": sparse((9, 9, 20_000), (90, 70, 20_100)),
    "three points on a line": sparse((10, 10, 1), (20, 20, 2), (30, 30, 3)),
    "one column": column(),
    "one row": np.ascontiguousarray(column().T),
    "noise of the whole range": np.random.default_rng(0).integers(0, 65_536, (SIDE, SIDE)).astype(np.uint16),
    "nothing and saturated by turns": checker(0, 65_535),
    "nearest and farthest by turns": checker(1, 65_535),
    "a step": np.where(np.arange(SIDE) < 96, full(1000), full(60_000)).astype(np.uint16),
    "one pixel": np.full((1, 1), 20_000, np.uint16),
    "of a large frame": np.full((3000, 4000), 20_000, np.uint16),
}
COLOURS: dict[str, Any] = {
    "black": grey(0),
    "white": grey(255),
    "one grey": grey(127),
    "noise": picture(0, SIDE, SIDE),
    "one bright pixel": np.where(np.arange(SIDE * SIDE).reshape(SIDE, SIDE, 1) == 99, grey(255), grey(0)),
    "one pixel": grey(9)[:1, :1],
    "of a large frame": np.zeros((3000, 4000, 3), np.uint8),
}


def decided(found: Inspection) -> Decision:
    """The worker's decision, after a look at what every inspection must hold."""
    if found.error is not None:
        assert str(found.error)
        assert (found.mode, found.score, found.threshold, found.heatmap, found.regions) == (
            None,
            None,
            None,
            None,
            (),
        )
        assert not found.degraded_pass
    else:
        assert found.score is not None
        assert math.isfinite(found.score)
        assert found.heatmap is not None
        assert 0.0 <= found.coverage <= 1.0
    return decide(found, LEAST)[0]


def key(found: Inspection) -> tuple[Any, ...]:
    heat = found.heatmap
    return (
        found.mode,
        found.score,
        found.coverage,
        found.foreground,
        dict(found.branches),
        found.regions,
        None if heat is None else heat.values.tobytes(),
    )


def test_no_strange_frame_passes_and_neighbours_keep_their_bits(
    bundle: Path, inspector: Inspector, good: Sample
) -> None:
    strange = [Sample(good.rgb, depth) for depth in DEPTHS.values()]
    strange += [Sample(rgb, good.depth) for rgb in COLOURS.values()]
    strange += [Sample(None, depth) for depth in DEPTHS.values()]
    strange += [
        Sample(None, None),
        Sample(grey(0), full(0)),
        Sample(picture(1, SIDE, SIDE), DEPTHS["a step"]),
    ]
    alone = key(inspector.inspect([good])[0])
    # One by one, and side by side as the worker runs them.
    for model in (inspector, Inspector.load(bundle, parallel=2)):
        batch = [one for frame in strange for one in (frame, good)]
        found = model.inspect(batch)
        assert all(key(one) == alone for one in found[1::2])
        decisions = [decided(one) for one in found[::2]]
        assert Decision.PASS not in decisions
        for size, one in zip([frame.depth_size for frame in strange], found[::2], strict=True):
            if size in ((1, 1), (3000, 4000)):
                assert isinstance(one.error, WrongSize)


@pytest.mark.parametrize("name", [name for name in DEPTHS if "of" not in name and name != "one pixel"])
def test_depth_that_cannot_be_used_is_left_out_or_judged_never_taken_for_flat(
    inspector: Inspector, good: Sample, name: str
) -> None:
    (found,) = inspector.inspect([Sample(good.rgb, DEPTHS[name])])
    if found.error is None and found.mode is Mode.RGB:
        assert any(reason.startswith("depth:") for reason in found.degraded)
        assert decided(found) in (Decision.REVIEW, Decision.REJECT)
    else:
        assert decided(found) in (Decision.REJECT, Decision.ERROR)


def test_how_an_array_lies_in_memory_changes_no_bit(inspector: Inspector, good: Sample) -> None:
    assert good.rgb is not None
    assert good.depth is not None
    expected = key(inspector.inspect([good])[0])
    wide_rgb = np.zeros((SIDE, 2 * SIDE, 3), np.uint8)
    wide_rgb[:, ::2] = good.rgb
    wide_depth = np.zeros((2 * SIDE, SIDE), np.uint16)
    wide_depth[::2] = good.depth
    frozen = good.depth.copy()
    frozen.flags.writeable = False
    for rgb, depth in (
        (np.asfortranarray(good.rgb), np.asfortranarray(good.depth)),
        (wide_rgb[:, ::2], wide_depth[::2]),
        (good.rgb[..., ::-1].copy()[..., ::-1], good.depth[::-1].copy()[::-1]),
        (good.rgb, frozen),
    ):
        assert key(inspector.inspect([Sample(rgb, depth)])[0]) == expected


@pytest.mark.parametrize(
    ("rgb", "depth", "scale"),
    [
        (np.zeros((0, 4, 3), np.uint8), None, None),
        (np.zeros((4, 4), np.uint8), None, None),
        (np.zeros((4, 4, 4), np.uint8), None, None),
        (np.zeros((4, 4, 3), np.float32), None, None),
        (np.full((4, 4, 3), np.nan), None, None),
        ([[[0, 0, 0]]], None, None),
        (None, np.zeros((0, 0), np.uint16), None),
        (None, np.full((4, 4), np.nan, np.float32), None),
        (None, np.zeros((4, 4), np.int16), None),
        (None, np.zeros((4, 4, 1), np.uint16), None),
        (None, 7, None),
        (None, np.ones((4, 4), np.uint16), 0.0),
        (None, np.ones((4, 4), np.uint16), -1e-5),
        (None, np.ones((4, 4), np.uint16), math.nan),
        (None, np.ones((4, 4), np.uint16), math.inf),
    ],
)
def test_arrays_that_are_no_frame_are_refused_where_they_are_made(rgb: Any, depth: Any, scale: Any) -> None:
    with pytest.raises(BadSample, match=r"rgb|depth"):
        Sample(rgb, depth, scale)


# Teaching


@dataclass(frozen=True)
class Made:
    """A product of frames made by a function of their number."""

    make: Callable[[int], Sample]
    name: str = "made"

    def _items(self, split: str, count: int, first: int) -> Sequence[Item]:
        return [
            Item(f"{split}{i}", f"lot{i // 2}", split, GOOD, lambda i=i: self.make(i))  # type: ignore[misc]
            for i in range(first, first + count)
        ]

    def train(self) -> Sequence[Item]:
        return self._items("train", 9, 0)

    def validation(self) -> Sequence[Item]:
        return self._items("validation", 4, 100)

    def test(self) -> Sequence[Item]:
        return self._items("test", 2, 200)


@dataclass(frozen=True)
class Listed:
    """Frames to be judged."""

    items: tuple[Item, ...]
    name: str = "listed"

    def train(self) -> Sequence[Item]:
        return ()

    def validation(self) -> Sequence[Item]:
        return ()

    def test(self) -> Sequence[Item]:
        return self.items


QUICK = TeachSettings(bank_size=32, folds=2)


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda i: Sample(picture(i, 1, 1), relief(i, 1, 1)), ("train0", "1 x 1", "16 x 16")),
        (lambda i: Sample(picture(i, 1, 1), None), ("train0", "colour", "1 x 1")),
        (lambda i: Sample(None, relief(i, 3, 300)), ("train0", "depth", "300 x 3")),
        (lambda i: Sample(picture(i, 64, 64), relief(i, 1, 1)), ("train0", "depth", "1 x 1")),
        (lambda i: Sample(None, None), ("train0", "neither")),
        (lambda i: Sample(np.full((64, 64, 3), 9, np.uint8), None), ("train0", "rgb:constant")),
        (lambda i: Sample(None, np.zeros((64, 64), np.uint16)), ("train0", "depth:invalid")),
        (lambda i: Sample(picture(i, 64, 64), np.zeros((64, 64), np.uint16)), ("train0", "depth:invalid")),
        (
            lambda i: Sample(picture(i, 64, 64), np.full((64, 64), 65_535, np.uint16)),
            ("train0", "depth:constant"),
        ),
        (
            lambda i: Sample(
                picture(i, 64, 64), relief(i, 64, 64) if i != 103 else np.zeros((64, 64), np.uint16)
            ),
            ("validation103", "depth:invalid", "remove"),
        ),
        (lambda i: Sample(picture(i, 64, 64 + (i == 5)), None), ("train5", "65 x 64")),
    ],
)
def test_normals_that_show_nothing_are_refused_with_the_frames_name(
    make: Callable[[int], Sample], words: tuple[str, ...], tmp_path: Path
) -> None:
    with pytest.raises(TeachError) as error:
        teach(Made(make), tmp_path, name="made", settings=QUICK)
    for word in words:
        assert word in str(error.value)
    assert not list(tmp_path.glob("made/*"))


def one_pixel_off(number: int) -> Sample:
    image = picture(0, 64, 64)
    image[number % 64, number // 64] ^= 1
    return Sample(image, None)


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda i: Sample(picture(0, 64, 64), None), "all 9 colour images of train are one picture"),
        (one_pixel_off, "good frames are one picture but for a trace"),
    ],
)
def test_normals_that_are_all_one_frame_are_refused(
    make: Callable[[int], Sample], words: str, tmp_path: Path
) -> None:
    with pytest.raises(TeachError, match=words):
        teach(Made(make), tmp_path, name="made", settings=QUICK)


def test_a_product_of_twelve_megapixels_is_taught_in_tiles_and_inspected(tmp_path: Path) -> None:
    def large(i: int) -> Sample:
        depth = relief(i, 30, 40).repeat(100, 0).repeat(100, 1)
        return Sample(None, depth + np.arange(3000, dtype=np.uint16)[:, None] % 7)

    settings = TeachSettings(bank_size=32, folds=2, tile_pixels=2300, roi=False)
    inspector = Inspector.load(teach(Made(large), tmp_path, name="made", settings=settings))
    assert inspector.preparation.layout.count == 4
    blind = large(201)
    assert blind.depth is not None
    blind.depth[:1500, :2000] = 0
    whole, half, small = inspector.inspect([large(200), blind, Sample(None, relief(0, 300, 400))])
    assert whole.error is None
    assert whole.heatmap is not None
    assert whole.heatmap.values.shape == (384, 512)
    assert decided(half) is not Decision.PASS
    assert isinstance(small.error, WrongSize)
    assert "400 x 300" in str(small.error)
    assert "4000 x 3000" in str(small.error)


# Files


def test_files_with_pixels_that_are_no_numbers_are_read_as_unread_or_refused(tmp_path: Path) -> None:
    (tmp_path / "depth").mkdir()
    metres = np.full((20, 20), 0.3, np.float32)
    metres[3, 4] = np.nan
    np.save(tmp_path / "depth" / "a.npy", metres)
    np.save(tmp_path / "depth" / "b.npy", np.where(np.isnan(metres), np.inf, metres))
    np.save(tmp_path / "depth" / "c.npy", np.zeros((0, 5), np.float32))
    np.save(tmp_path / "depth" / "d.npy", metres.astype(np.complex64))
    for name in ("c", "d"):
        with pytest.raises(DatasetError, match=rf"{name}\.npy: .*expected numbers"):
            PairsDataset(tmp_path).all()
        (tmp_path / "depth" / f"{name}.npy").unlink()
    for item in PairsDataset(tmp_path).all():
        depth = item.sample().depth
        assert depth is not None
        assert depth[3, 4] == 0
        assert np.count_nonzero(depth == 0) == 1


def test_colour_files_with_alpha_or_grey_are_read_as_colour_and_16_bit_ones_too(tmp_path: Path) -> None:
    (tmp_path / "rgb").mkdir()
    rng = np.random.default_rng(0)
    for name, pixels in (
        ("alpha", rng.integers(0, 256, (20, 24, 4)).astype(np.uint8)),
        ("grey", rng.integers(0, 256, (20, 24)).astype(np.uint8)),
        ("deep", rng.integers(0, 65_536, (20, 24, 3)).astype(np.uint16)),
    ):
        cv2.imwrite(str(tmp_path / "rgb" / f"{name}.png"), pixels)
    for item in PairsDataset(tmp_path).all():
        assert item.sample().rgb_size == (20, 24)


# Judging and weights


def test_evaluation_leaves_out_what_no_sensor_saw_and_names_what_is_of_another_size(
    inspector: Inspector, parts: SyntheticDataset
) -> None:
    clean = [item for item in parts.test() if item.label in (GOOD, "shape")]
    blind = Item("blind", "lot-blind", "test", GOOD, lambda: Sample(None, full(0)))
    tiny = Item("tiny", "lot-tiny", "test", "shape", lambda: Sample(picture(0, 1, 1), relief(0, 1, 1)))

    def judged(items: Sequence[Item]) -> dict[str, Any]:
        dataset = Listed(tuple(items))
        return dict(evaluate(inspector, dataset, bootstrap=5, seed=0).to_json()["modes"]["FUSED"])

    found, expected = judged([*clean, blind]), judged(clean)
    assert found["inspected"] == expected["inspected"] == len(clean)
    assert (found["left_out"], expected["left_out"]) == (1, 0)
    assert found["i_auroc"] == expected["i_auroc"]
    with pytest.raises(WrongSize, match=r"shape/tiny.*1 x 1"):
        judged([*clean, tiny])


def test_tensors_of_another_shape_missing_or_not_finite_are_refused_by_name(
    bundle: Path, tmp_path: Path
) -> None:
    tensors = dict(read_bundle(bundle).tensors)
    target = tmp_path / "part" / "1"
    shutil.copytree(bundle, target)
    accepted = []
    for name, tensor in tensors.items():
        damaged = {"missing": None, "misshapen": tensor[None].contiguous()}
        if tensor.is_floating_point():
            damaged["not finite"] = torch.full_like(tensor, math.nan)
        for what, other in damaged.items():
            changed = tensors | {name: other}
            _rewrite(target, {key: value for key, value in changed.items() if value is not None})
            try:
                Inspector.load(target)
            except BundleError:
                continue
            accepted.append(f"{name} {what}")
    assert not accepted


def _rewrite(bundle: Path, tensors: dict[str, torch.Tensor]) -> None:
    """The tensors changed, and a manifest that vouches for them: what only shapes and values can tell."""
    import hashlib

    blob = save(tensors)
    (bundle / "tensors.safetensors").write_bytes(blob)
    manifest = json.loads((bundle / "manifest.json").read_text())
    manifest["tensors"] |= {"sha256": hashlib.sha256(blob).hexdigest(), "bytes": len(blob)}
    (bundle / "manifest.json").write_text(json.dumps(manifest))
