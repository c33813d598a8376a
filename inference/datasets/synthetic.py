"""A product that needs no data: rendered parts on a belt, good ones and ones with planted defects.

The same seeds give the same bytes, whatever was rendered before. The noise of each sensor has its own stream,
so that planting a defect that only one sensor sees leaves the other sensor's image exactly as it was.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import ArrayLike, NDArray

from inference.datasets.base import GOOD, Item
from inference.datasets.defects import Defect, DefectKind, damage
from inference.datasets.parts import FIELD_MM, Floats, Layers, draw_part
from inference.datasets.sensors import DEPTH_SCALE, Light, measure, photograph, shade
from inference.errors import DatasetError
from inference.sample import Sample


@dataclass(frozen=True, slots=True)
class Rendered:
    """One part as the sensors saw it, and the truth about it.

    Attributes:
        sample: colour, depth and the depth scale.
        mask: (H, W) bool, True where a defect was planted.
        kind: "good", or the defect's kind.
        form: what the defect looks like ("stain", "dent", ...); empty for a good part.
    """

    sample: Sample
    mask: NDArray[np.bool_]
    kind: str
    form: str = ""


class SyntheticPart:
    """One product on one line.

    Args:
        seed: picks the product (colour, ribs, hub, printed code) and its belt.
        size: pixels of the picture, one number or (height, width).
        noise: factor on the noise of both sensors.
        pose: factor on how far parts lie from their place: 1 is 0.6 mm and 0.6 degrees, one
            sigma, as behind a side guide and a photo-eye; never more than twice that.
    """

    def __init__(
        self, seed: int = 0, size: int | tuple[int, int] = 256, *, noise: float = 1.0, pose: float = 1.0
    ) -> None:
        self.seed = seed
        self.size = _checked_size(size)
        self.noise = noise
        self.pose = pose

    def render(
        self,
        part_seed: int,
        *,
        defect: Defect | None = None,
        size: int | tuple[int, int] | None = None,
        lot: int = 0,
    ) -> Rendered:
        """One part.

        Args:
            part_seed: picks pose, grain, belt and noise.
            defect: what to plant.
            size: pixels of this picture, where it is not the line's.
            lot: parts of one lot share light, colour and the depth sensor's drift.
        """
        rows, columns = self.size if size is None else _checked_size(size)
        scale = min(rows, columns) / FIELD_MM
        stage = _stage(self.seed, rows, columns)
        rng = np.random.default_rng([self.seed, part_seed, 2])
        lot_rng = np.random.default_rng([self.seed, lot, 3])

        shift = (self.pose * rng.normal(0, 0.6, 2).clip(-1.2, 1.2) * scale).astype(np.float32)
        angle = self.pose * float(np.clip(rng.normal(0, 0.6), -1.2, 1.2))
        layers = stage.place(float(shift[0]), float(shift[1]), angle)

        light = Light(
            azimuth=-2.2 + float(lot_rng.normal(0, 0.05)) + float(rng.normal(0, 0.01)),
            gain=1.55 * float(1 + lot_rng.normal(0, 0.025) + rng.normal(0, 0.008)),
            tint=(1 + lot_rng.normal(0, 0.012, 3)).astype(np.float32),
        )
        plastic = (1 + lot_rng.normal(0, 0.03, 3)).astype(np.float32)
        drift = (lot_rng.normal(0, [0.12, 0.06, 0.06]) + rng.normal(0, 0.02, 3)).astype(np.float32)

        grain = stage.grain(rng, layers, angle)
        belt_albedo, belt_height = stage.belt(rng)
        height = layers.height + belt_height * (1 - layers.cover)
        part_albedo = layers.albedo * (1 + (plastic - 1) * (1 - layers.brushed)[..., None])
        part_albedo *= (1 + grain * (0.035 + 0.05 * layers.brushed))[..., None]
        cover = layers.cover[..., None]
        albedo = belt_albedo + (part_albedo - belt_albedo) * cover

        mask = np.zeros((rows, columns), bool)
        kind, form, shaded = GOOD, "", height
        if defect is not None:
            found = damage(defect, albedo=albedo, height=height, cover=layers.cover)
            albedo, height, shaded = found.albedo, found.height, found.shaded
            mask, kind, form = found.mask, str(defect.kind), found.form

        colour, shiny = shade(shaded, albedo, layers.brushed, grain, light, scale)
        rgb = photograph(colour, np.random.default_rng([self.seed, part_seed, 4]), scale, self.noise)
        depth = measure(
            height, shiny, np.random.default_rng([self.seed, part_seed, 5]), scale, drift, self.noise
        )
        return Rendered(Sample(rgb, depth, DEPTH_SCALE), mask, kind, form)


class _Stage:
    """What all parts of one product at one picture size share: the drawn part, the grain and the belt."""

    def __init__(self, seed: int, rows: int, columns: int) -> None:
        self.rows, self.columns = rows, columns
        self.scale = min(rows, columns) / FIELD_MM
        # Small pictures are drawn at twice their size and brought down, which keeps thin lines clean.
        self.oversampling = 2.0 if min(rows, columns) < 768 else 1.0
        drawn = draw_part(self.scale * self.oversampling, seed)
        if self.oversampling > 1:
            sharp = (drawn.height, drawn.albedo, drawn.cover, drawn.brushed)
            drawn = Layers(*(np.asarray(cv2.GaussianBlur(a, (0, 0), 0.8), np.float32) for a in sharp))
        self.drawn = drawn
        rng = np.random.default_rng([seed, 6])
        bank = (rows + rows // 2, columns + columns // 2)
        white = rng.standard_normal(bank, dtype=np.float32)
        self._brushed = _unit(cv2.blur(white, (max(9, int(7 * self.scale)), 1)))
        fine = cv2.GaussianBlur(rng.standard_normal(bank, dtype=np.float32), (0, 0), 0.7)
        broad = _soft_noise(rng, bank, 4.0 * self.scale)
        self._moulded = _unit(fine) * 0.85 + broad * 0.5
        self._weave, self._weave_height = self._draw_belt(rng, bank)

    def _draw_belt(self, rng: np.random.Generator, shape: tuple[int, int]) -> tuple[Floats, Floats]:
        """A woven conveyor belt: crossing threads, wear in broad patches, lint and scuffs along its way."""
        y, x = np.mgrid[0 : shape[0], 0 : shape[1]].astype(np.float32)
        pitch = 2 * math.pi / max(2.6 * self.scale, 5.0)
        wobble = _soft_noise(rng, shape, 3.0 * self.scale) * 0.35
        warp = np.sin(x * pitch + wobble)
        weft = np.sin(y * pitch + wobble)
        over = np.sin(0.5 * x * pitch) * np.sin(0.5 * y * pitch) > 0
        thread = np.where(over, 0.65 * np.abs(warp), 0.65 * np.abs(weft)) + 0.35
        wear = _soft_noise(rng, shape, 14.0 * self.scale)
        scuff = _unit(cv2.blur(rng.standard_normal(shape, dtype=np.float32), (int(22 * self.scale) | 1, 1)))
        tone = 0.62 + 0.38 * thread + 0.10 * wear + 0.05 * scuff
        tone *= 1 + 0.06 * rng.standard_normal(shape, dtype=np.float32)
        lint = (rng.random(shape, dtype=np.float32) > 1 - 1.5e-4).astype(np.float32)
        tone += 2.0 * cv2.GaussianBlur(lint, (0, 0), 0.8)
        colour = np.asarray([0.030, 0.036, 0.034], np.float32)
        return tone[..., None] * colour, (0.10 * thread).astype(np.float32)

    def _crop(self, rng: np.random.Generator) -> tuple[slice, slice]:
        top = int(rng.integers(self.rows // 2 + 1))
        left = int(rng.integers(self.columns // 2 + 1))
        return slice(top, top + self.rows), slice(left, left + self.columns)

    def belt(self, rng: np.random.Generator) -> tuple[Floats, Floats]:
        """Albedo (H, W, 3) and height (H, W) in millimetres of a stretch of belt."""
        place = self._crop(rng)
        return self._weave[place], self._weave_height[place]

    def grain(self, rng: np.random.Generator, layers: Layers, angle: float) -> Floats:
        """Surface texture (H, W), about unit variance; the brushing turns with the part."""
        brushed, moulded = self._brushed[self._crop(rng)], self._moulded[self._crop(rng)]
        turn = cv2.getRotationMatrix2D((self.columns / 2, self.rows / 2), angle, 1.0)
        turned = cv2.warpAffine(
            brushed, turn, (self.columns, self.rows), flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_REFLECT
        )
        return np.asarray(moulded + (turned - moulded) * layers.brushed, np.float32)

    def place(self, dx: float, dy: float, angle: float) -> Layers:
        """The part turned by ``angle`` degrees and moved by (dx, dy) pixels from the middle."""
        source_rows, source_columns = self.drawn.height.shape
        matrix = cv2.getRotationMatrix2D(
            ((source_columns - 1) / 2, (source_rows - 1) / 2), angle, 1 / self.oversampling
        )
        matrix[0, 2] += (self.columns - source_columns) / 2 + dx
        matrix[1, 2] += (self.rows - source_rows) / 2 + dy

        def warp(image: Floats) -> Floats:
            return np.asarray(
                cv2.warpAffine(image, matrix, (self.columns, self.rows), flags=cv2.INTER_LINEAR), np.float32
            )

        drawn = self.drawn
        return Layers(warp(drawn.height), warp(drawn.albedo), warp(drawn.cover), warp(drawn.brushed))


@functools.lru_cache(maxsize=4)
def _stage(seed: int, rows: int, columns: int) -> _Stage:
    return _Stage(seed, rows, columns)


def _checked_size(size: int | tuple[int, int]) -> tuple[int, int]:
    rows, columns = (size, size) if isinstance(size, int) else size
    if min(rows, columns) < 32:
        raise DatasetError(f"size {rows} x {columns}: the synthetic part needs at least 32 x 32 pixels")
    return rows, columns


def _unit(noise: ArrayLike) -> Floats:
    array = np.asarray(noise, np.float32)
    return np.asarray(array / array.std(), np.float32)


def _soft_noise(rng: np.random.Generator, shape: tuple[int, int], sigma: float) -> Floats:
    """Noise of unit variance that varies over ``sigma`` pixels, drawn small and brought up."""
    shrink = max(1, int(sigma / 2))
    small = rng.standard_normal((shape[0] // shrink + 4, shape[1] // shrink + 4), dtype=np.float32)
    soft = cv2.GaussianBlur(small, (0, 0), sigma / shrink)
    return _unit(cv2.resize(soft, (shape[1], shape[0]), interpolation=cv2.INTER_CUBIC))


class SyntheticDataset:
    """Rendered parts in three splits, in production lots.

    Args:
        train, validation, test_good: how many good parts.
        defects_per_kind: how many test parts with a defect of each kind.
        seed: picks the parts; two datasets of one product with different seeds share no part.
        product: seed of the product.
        size: pixels, one number or (height, width).
        contrast: one strength for all defects, or (low, high) drawn evenly.
        defect_size: one diameter in pixels for all defects, or (low, high) drawn evenly on a log scale;
            None: a twentieth to an eighth of the picture's shorter side.
        lot_size: how many parts of a split make one lot, which is the items' group.
        kinds: which defects.
        noise: factor on the sensors' noise.
    """

    def __init__(
        self,
        *,
        train: int = 60,
        validation: int = 20,
        test_good: int = 30,
        defects_per_kind: int = 10,
        seed: int = 0,
        product: int = 0,
        size: int | tuple[int, int] = 256,
        contrast: float | tuple[float, float] = 1.0,
        defect_size: float | tuple[float, float] | None = None,
        lot_size: int = 10,
        kinds: Sequence[str] = tuple(DefectKind),
        noise: float = 1.0,
        name: str = "synthetic",
    ) -> None:
        self.name = name
        self.seed = seed
        self.part = SyntheticPart(product, size, noise=noise)
        self._counts = {"train": train, "validation": validation, "test": test_good}
        self._defects_per_kind = defects_per_kind
        self._kinds = tuple(kinds)
        self._contrast = contrast if isinstance(contrast, tuple) else (contrast, contrast)
        if defect_size is None:
            short = min(self.part.size)
            defect_size = (max(4.0, short / 20), max(6.0, short / 8))
        self._defect_size = defect_size if isinstance(defect_size, tuple) else (defect_size, defect_size)
        self._lot_size = max(1, lot_size)

    def train(self) -> Sequence[Item]:
        """Good parts to learn from."""
        return self._good("train")

    def validation(self) -> Sequence[Item]:
        """Good parts of other lots."""
        return self._good("validation")

    def test(self) -> Sequence[Item]:
        """Good parts, then ``defects_per_kind`` of each kind, all of lots that no other split has."""
        items = self._good("test")
        index = len(items)
        for kind in self._kinds:
            for number in range(self._defects_per_kind):
                items.append(self._item("test", index, number, self.defect(kind, number)))
                index += 1
        return items

    def defect(self, kind: str, number: int) -> Defect:
        """The defect of the ``number``-th test part of a kind, with its size and contrast."""
        order = list(DefectKind).index(DefectKind(kind))
        rng = np.random.default_rng([self.seed, 8, order, number])
        low, high = (math.log(value) for value in self._defect_size)
        return Defect(
            kind=kind,
            size=math.exp(float(rng.uniform(low, high))),
            contrast=float(rng.uniform(*self._contrast)),
            seed=int(rng.integers(2**31)),
        )

    def _good(self, split: str) -> list[Item]:
        return [self._item(split, index, index, None) for index in range(self._counts[split])]

    def _item(self, split: str, index: int, number: int, defect: Defect | None) -> Item:
        # Far apart, so that no split or seed ever draws a part or a lot of another.
        stretch = self.seed * 3 + ("train", "validation", "test").index(split)
        lot = 1000 + stretch * 100_000 + index // self._lot_size
        part_seed = (stretch + 1) * 1_000_000 + index
        label = GOOD if defect is None else str(defect.kind)

        def rendered() -> Rendered:
            return self.part.render(part_seed, defect=defect, lot=lot)

        return Item(
            name=f"{label}_{number:04d}",
            group=f"lot{lot}",
            split=split,
            label=label,
            load=lambda: rendered().sample,
            load_mask=(lambda: None) if defect is None else (lambda: rendered().mask),
        )
