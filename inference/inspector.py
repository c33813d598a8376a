"""The one door the workers use: samples in, evidence out, each frame by itself."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from time import perf_counter

import cv2
import numpy as np
import torch
from numpy.typing import NDArray

from inference.belt import PlaneDrift
from inference.branches.base import Branch
from inference.bundle import Bundle, read_bundle
from inference.errors import BundleError, InferenceError, NoReading, NotFinite
from inference.features.base import add, finite, sub
from inference.foreground import TILE_PART, Foreground, Found, Source
from inference.fusion import Measured, Seen, look
from inference.grants import read_grants
from inference.inspection import HeatmapArray, Inspection, shared
from inference.operating import OperatingPoint, table
from inference.prepare import MODEL_SIDE, Preparation, Sensors, Tile
from inference.profiles.base import Raw
from inference.profiles.choice import profile_of
from inference.profiles.runtime import Runtime
from inference.regions import find_regions
from inference.rules import Rule
from inference.sample import Sample
from inference.sketch import Sketches
from inference.station import Station
from inference.study import Alternative, Study
from inference.tiles import place
from schemas.errors import CrosscheckError
from schemas.verdict import Mode, Region

Image = NDArray[np.float32]

HEATMAP_SIDE = 512
"""Longest side of a heatmap; one tile gives 256."""
BELT_OFF = "depth:plane"
"""Scored, but never passed alone: the belt lies elsewhere than when the station was calibrated."""
_LIBRARY = (RuntimeError, ValueError, ArithmeticError, cv2.error)


@dataclass(frozen=True, slots=True)
class _Opened:
    """A frame checked and cut into tiles."""

    sample: Sample
    sensors: Sensors
    found: Found
    tiles: Sequence[Tile]
    belt: PlaneDrift | None = None


@dataclass(frozen=True, slots=True)
class _Measurement:
    """What the branches said of a frame."""

    sensors: Sensors
    found: Found
    measured: Measured
    belt: PlaneDrift | None = None


class Inspector:
    """A bundle, ready to inspect. One thread calls it; its answers depend on one frame at a time.

    Attributes:
        product, version: the bundle's name and version.
        bundle_id: "NAME/VERSION".
        bundle_hash: sha256 (hex) of the manifest, which holds the digest of the tensors.
        preparation: sizes, region of interest and tiles.
        fusion: the rule that decides.
        limits: of that rule, for each mode that the product has.
        sketches: what good parts look like, as far as the bundle says.
    """

    def __init__(
        self, bundle: Bundle, *, device: str = "cpu", parallel: int = 1, runtime: Runtime | None = None
    ) -> None:
        """From a checked bundle; most callers want :meth:`load`.

        ``parallel`` frames of a batch are scored at once, each on a thread of its own. With torch on one
        thread a frame then has the same bits whatever else is in its batch, and the cores do not wait for
        each other inside a frame.

        Raises:
            BundleError: it lacks a part, or was made for other features.
        """
        self._device = torch.device(device)
        self._pool = ThreadPoolExecutor(parallel, thread_name_prefix="frame") if parallel > 1 else None
        manifest = bundle.manifest
        self.product, self.version, self.bundle_hash = bundle.name, bundle.version, bundle.digest
        self.bundle_id = f"{bundle.name}/{bundle.version}"
        where = str(bundle.path)
        self._profile = profile_of(table(manifest, "features", where), self._device, runtime, where)
        self._station = _station(manifest.get("station"), bundle.tensors.get("station.ray_map"))
        self.preparation = Preparation.from_map(table(manifest, "prepare", where), self._station)
        self._foreground = Foreground.restore(sub(bundle.tensors, "foreground."))
        self._features = self._profile.restore(sub(bundle.tensors, "features."))
        self._branches: dict[str, Branch] = {}
        for kind in self._profile.branches(self.preparation.full_mode):
            state = sub(bundle.tensors, f"{kind.name}.")
            self._branches[kind.name] = self._profile.ready(kind.restore(state, self._device))
        self._point = OperatingPoint.restore(
            table(manifest, "point", where),
            sub(bundle.tensors, "point."),
            {mode: self._profile.branches(mode) for mode in self.modes},
            self.preparation.layout,
            where,
        )
        fusion = manifest.get("fusion")
        if not isinstance(fusion, str) or fusion not in self._point.rules:
            raise BundleError(
                f"{where}: fusion {fusion!r} is no rule of this version: teach the product again"
            )
        self.fusion = fusion
        self._rule = self._point.rules[fusion]
        self.limits = self._point.limits[fusion]
        self.sketches = Sketches.from_maps(self._point.sketches.get(fusion), manifest.get("levels"))
        granted = read_grants(bundle.path, bundle.digest)
        self._may_pass = {mode: mode is Mode.FUSED or mode in granted for mode in Mode}

    @classmethod
    def load(
        cls, bundle: Path, *, device: str = "cpu", parallel: int = 1, runtime: Runtime | None = None
    ) -> Inspector:
        """Read, check and ready a bundle folder DIR/NAME/VERSION; ``parallel`` frames at once.

        ``runtime`` says where networks that no bundle holds are found; None takes what is installed.

        Raises:
            BundleError: missing, damaged, tampered with, or made for another version.
        """
        return cls(read_bundle(bundle), device=device, parallel=parallel, runtime=runtime)

    @property
    def modes(self) -> tuple[Mode, ...]:
        """The modes that this product can be inspected in, the full one first."""
        full = self.preparation.full_mode
        return (Mode.FUSED, Mode.RGB, Mode.DEPTH) if full is Mode.FUSED else (full,)

    def warm(self) -> None:
        """Inspect a made-up frame, so that the first real one finds kernels and caches ready."""
        rng = np.random.default_rng(0)
        rgb_size, depth_size = self.preparation.rgb_size, self.preparation.depth_size
        rgb = None if rgb_size is None else rng.integers(0, 255, (*rgb_size, 3), np.uint8)
        depth = None
        if depth_size is not None:
            depth = (30_000 + rng.integers(0, 200, depth_size)).astype(np.uint16)
        sample = Sample(rgb, depth)
        sensors = Sensors(self.preparation.full_mode, 1.0, ())
        # Around the foreground: noise shows no part, and would be refused before any network ran.
        found = Found(Source.FRAME)
        tiles = self.preparation.tiles(sample, sensors.mode, found)
        opened = _Opened(sample, sensors, found, tiles)
        raws = self._profile.read_batch(tiles) if self._device.type != "cpu" else None
        self._guarded(partial(self._finish, opened, raws, {}))

    def inspect(self, batch: Sequence[Sample]) -> list[Inspection]:
        """The evidence on each sample, in order; one bad sample never raises, it gets its error.

        A frame's numbers are the same alone, in any batch and in any order: each is computed by itself, in
        shapes that the bundle fixes.
        """
        if self._device.type != "cpu":
            return self._inspect_together(batch)
        if self._pool is None or len(batch) < 2:
            return [self._inspect(sample) for sample in batch]
        start = perf_counter()
        found = list(self._pool.map(self._inspect, batch))
        return shared(found, 1e3 * (perf_counter() - start))

    def _inspect(self, sample: Sample) -> Inspection:
        timings: dict[str, float] = {}
        return self._guarded(lambda: self._answer(self._measure(sample, None, timings), timings))

    def _inspect_together(self, batch: Sequence[Sample]) -> list[Inspection]:
        """One pass of the networks over all tiles of the batch: what a GPU is made for."""
        timings: list[dict[str, float]] = [{} for _ in batch]
        opened: list[_Opened | CrosscheckError] = []
        for sample, times in zip(batch, timings, strict=True):
            try:
                opened.append(self._open(sample, None, times))
            except CrosscheckError as error:
                opened.append(error)
            except _LIBRARY as error:
                opened.append(_tripped(error))
        ready = [one for one in opened if isinstance(one, _Opened)]
        start = perf_counter()
        raws: Iterator[Raw] | None = None
        try:
            raws = iter(self._profile.read_batch([tile for one in ready for tile in one.tiles]))
        except (CrosscheckError, *_LIBRARY):
            pass  # each frame is read by itself below: the one that trips the networks gets the error
        share = (perf_counter() - start) / max(len(ready), 1)
        found = []
        for one, times in zip(opened, timings, strict=True):
            if isinstance(one, CrosscheckError):
                found.append(Inspection.failed(one))
                continue
            add(times, "networks", share)
            own = None if raws is None else [next(raws) for _ in one.tiles]
            found.append(self._guarded(partial(self._finish, one, own, times)))
        return found

    def _finish(self, opened: _Opened, raws: Sequence[Raw] | None, timings: dict[str, float]) -> Inspection:
        return self._answer(self._or_colour(opened, raws, timings), timings)

    @staticmethod
    def _guarded(answer: Callable[[], Inspection]) -> Inspection:
        try:
            return answer()
        except CrosscheckError as error:
            return Inspection.failed(error)
        except _LIBRARY as error:
            # A frame that trips a library must not take its neighbours along, and must never pass.
            return Inspection.failed(_tripped(error))

    def _answer(self, evidence: _Measurement, timings: dict[str, float]) -> Inspection:
        """The evidence as the worker wants it. Raises NotFinite."""
        sensors, found, measured = evidence.sensors, evidence.found, evidence.measured
        start = perf_counter()
        score, branches = self._score(measured, sensors.mode)
        limits = self.limits[sensors.mode]
        canvas = self._canvas(measured, sensors.mode, self._rule, 0.0)
        heat = self._over_frame(canvas, sensors.mode, 0.0)
        regions: tuple[Region, ...] = ()
        if score > limits.passes:
            regions = self._regions(canvas, measured, sensors.mode, limits.passes)
        heatmap = HeatmapArray.of(heat, limits.rejects)
        add(timings, "fuse", perf_counter() - start)
        return Inspection(
            mode=sensors.mode,
            score=score,
            threshold=limits.rejects,
            pass_limit=limits.passes,
            coverage=sensors.coverage,
            branches=branches,
            regions=regions,
            heatmap=heatmap,
            degraded=sensors.degraded,
            degraded_pass=self._may_pass[sensors.mode] and BELT_OFF not in sensors.degraded,
            error=None,
            timings=timings,
            foreground=found.source.value,
            silhouette=found.silhouette,
            belt=evidence.belt,
        )

    def study(
        self,
        sample: Sample,
        *,
        mode: Mode | None = None,
        branch_maps: bool = False,
        alternatives: bool = False,
    ) -> Study:
        """The evidence on one sample in full precision, for evaluation.

        Args:
            sample: one frame.
            mode: inspect as if only these sensors were there; None takes all that can be used.
            branch_maps: whether to give each branch's map too.
            alternatives: whether to give what the other rules of fusion make of the same evidence.

        Raises:
            InferenceError: what Inspection.error would hold.
        """
        evidence = self._measure(sample, mode, {})
        sensors, measured, mode = evidence.sensors, evidence.measured, evidence.sensors.mode
        score, branches = self._score(measured, mode)
        names, low = self._point.names(mode), self._rule.floor(self._point.names(mode))
        singles: dict[str, Image] = {}
        others: dict[str, Alternative] = {}
        for name in names if branch_maps else ():
            canvas = self._point.calibrated.canvas(measured, [name], mode, empty=low)
            singles[name] = self._over_frame(canvas, mode, low)
        for name, rule in self._point.rules.items() if alternatives else ():
            if name != self.fusion:
                outside = rule.floor(names)
                canvas = self._canvas(measured, mode, rule, outside)
                others[name] = Alternative(
                    rule.score(measured, names, mode),
                    self._point.limits[name][mode].rejects,
                    self._point.limits[name][mode].passes,
                    self._over_frame(canvas, mode, outside),
                )
        return Study(
            mode=mode,
            score=score,
            threshold=self.limits[mode].rejects,
            pass_limit=self.limits[mode].passes,
            coverage=sensors.coverage,
            degraded=sensors.degraded,
            branches=branches,
            map=self._over_frame(self._canvas(measured, mode, self._rule, low), mode, low),
            branch_maps=singles,
            low=low,
            alternatives=others,
            branch_limits={name: self._point.branch_limits[name] for name in names},
        )

    def _measure(self, sample: Sample, mode: Mode | None, timings: dict[str, float]) -> _Measurement:
        """Sensors used, where the part is, raw evidence. Raises InferenceError."""
        return self._or_colour(self._open(sample, mode, timings), None, timings)

    def _open(self, sample: Sample, mode: Mode | None, timings: dict[str, float]) -> _Opened:
        """A frame checked and cut into tiles. Raises InferenceError."""
        if mode is not None:
            sample = replace(
                sample,
                rgb=None if mode is Mode.DEPTH else sample.rgb,
                depth=None if mode is Mode.RGB else sample.depth,
            )
        start = perf_counter()
        sensors = self.preparation.sensors(sample)
        add(timings, "prepare", perf_counter() - start)
        return self._cut(sample, sensors, timings)

    def _cut(self, sample: Sample, sensors: Sensors, timings: dict[str, float]) -> _Opened:
        mode = sensors.mode
        start = perf_counter()
        found = self._foreground.find(sample, mode)
        coverage = found.coverage(self.preparation.layout)
        if coverage is not None:
            sensors = replace(sensors, coverage=coverage)
        belt = self._belt(sample, mode)
        if belt is not None and not belt.within:
            sensors = replace(sensors, degraded=(*sensors.degraded, BELT_OFF))
        middle = perf_counter()
        tiles = self.preparation.tiles(sample, mode, found)
        add(timings, "foreground", middle - start)
        add(timings, "prepare", perf_counter() - middle)
        return _Opened(sample, sensors, found, tiles, belt)

    def _or_colour(
        self, opened: _Opened, raws: Sequence[Raw] | None, timings: dict[str, float]
    ) -> _Measurement:
        """What the branches say; of a frame through whose depth no plane goes, what its colour says alone."""
        try:
            return self._look(opened, raws, timings)
        except NoReading:
            if opened.sensors.mode is not Mode.FUSED:
                raise
            degraded = (*opened.sensors.degraded, "depth:invalid")
            return self._look(
                self._cut(opened.sample, Sensors(Mode.RGB, 1.0, degraded), timings), None, timings
            )

    def _look(self, opened: _Opened, raws: Sequence[Raw] | None, timings: dict[str, float]) -> _Measurement:
        given = raws or [None] * len(opened.tiles)
        evidence = [
            self._features.evidence(tile, raw=raw, timings=timings)
            for tile, raw in zip(opened.tiles, given, strict=True)
        ]
        start = perf_counter()
        branches = [self._branches[name] for name in self._point.names(opened.sensors.mode)]
        measured = self._point.measure([look(one, branches) for one in evidence], opened.sensors.mode)
        add(timings, "branches", perf_counter() - start)
        sensors = opened.sensors
        if any(_half_seen(*tile, len(branches)) for tile in zip(measured.seen, measured.tiles, strict=True)):
            # Readings were there, but no branch could use them: that piece of the part was not inspected.
            sensors = replace(sensors, coverage=0.0)
        return _Measurement(sensors, opened.found, measured, opened.belt)

    def _belt(self, sample: Sample, mode: Mode) -> PlaneDrift | None:
        """How the belt lies to where the station's calibration found it; None where nobody can tell."""
        if self._station is None or sample.depth is None or mode is Mode.RGB:
            return None
        return self._station.drift(sample.depth)

    def _score(self, measured: Measured, mode: Mode) -> tuple[float, dict[str, float]]:
        """The score of the deciding rule, and each branch's own. Raises NotFinite."""
        names = self._point.names(mode)
        branches = self._point.calibrated.branch_scores(measured, names)
        return self._rule.score(measured, names, mode), branches

    def _canvas(self, measured: Measured, mode: Mode, rule: Rule, empty: float) -> Image:
        """The fused map over the region of interest. Raises NotFinite."""
        canvas = rule.canvas(measured, self._point.names(mode), mode, empty=empty)
        if not finite(canvas):
            raise NotFinite("the fused map holds values that are not finite")
        return canvas

    def _regions(self, canvas: Image, measured: Measured, mode: Mode, threshold: float) -> tuple[Region, ...]:
        """Where the map is above the threshold, and which sensors show it."""
        sides = self._point.sides(measured, mode, canvas)
        disagreement = self._point.disagreement

        def seen_by(place: NDArray[np.bool_]) -> str | None:
            if sides is None or disagreement is None:
                return None
            return disagreement.label(place, sides)

        return find_regions(canvas, threshold, self._frame_size(mode), self.preparation.layout.roi, seen_by)

    def _frame_size(self, mode: Mode) -> tuple[int, int]:
        """(height, width) of the image that regions refer to."""
        size = self.preparation.depth_size if mode is Mode.DEPTH else self.preparation.rgb_size
        assert size is not None
        return size

    def _over_frame(self, canvas: Image, mode: Mode, outside: float) -> Image:
        """A map of the region laid over the whole frame, at the frame's aspect."""
        layout = self.preparation.layout
        height, width = self._frame_size(mode)
        side = MODEL_SIDE if layout.count == 1 else HEATMAP_SIDE
        shrink = min(1.0, side / max(height, width))
        size = (max(1, round(height * shrink)), max(1, round(width * shrink)))
        return place(canvas, layout, size, outside=outside)


def _half_seen(seen: Seen, maps: Mapping[str, Image], branches: int) -> bool:
    """Whether a tile that shows enough of the part lacks the map of a branch."""
    share = 1.0 if seen.foreground is None else float(seen.foreground.mean())
    return share >= TILE_PART and len(maps) < branches


def _station(values: object, ray_map: torch.Tensor | None) -> Station | None:
    """The station of a bundle. Raises StationError or BundleError: it is damaged."""
    if values is None:
        return None
    if not isinstance(values, Mapping):
        raise BundleError(f"the bundle's station is {values!r}: expected a table; teach the product again")
    return Station.from_map(values, None if ray_map is None else ray_map.float().numpy())


def _tripped(error: Exception) -> InferenceError:
    return InferenceError(f"inspection failed: {type(error).__name__}: {error}")
