"""The one door the workers use: samples in, evidence out, each frame by itself."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from pathlib import Path
from time import perf_counter

import cv2
import numpy as np
import torch
from numpy.typing import NDArray

from inference.branches.base import Branch
from inference.bundle import Bundle, read_bundle
from inference.errors import BundleError, InferenceError, NoReading, NotFinite
from inference.features.base import add, finite, sub
from inference.foreground import Foreground, Found
from inference.fusion import Measured, look
from inference.grants import read_grants
from inference.inspection import HeatmapArray, Inspection
from inference.operating import OperatingPoint, table
from inference.prepare import MODEL_SIDE, Preparation, Sensors
from inference.profiles.choice import profile_of
from inference.profiles.runtime import Runtime
from inference.regions import find_regions
from inference.rules import Rule
from inference.sample import Sample
from inference.station import Station
from inference.tiles import place
from schemas.errors import CrosscheckError
from schemas.verdict import Mode, Region

Image = NDArray[np.float32]

HEATMAP_SIDE = 512
"""Longest side of a heatmap; one tile gives 256."""
BELT_OFF = "depth:plane"
"""Scored, but never passed alone: the belt lies elsewhere than when the station was calibrated."""


@dataclass(frozen=True, slots=True)
class Alternative:
    """What another rule of fusion makes of the same evidence: score, its threshold, map over the frame."""

    score: float
    threshold: float
    map: Image = field(repr=False)


@dataclass(frozen=True, slots=True)
class Study:
    """The evidence on one frame in full precision: what evaluation reads.

    Attributes:
        mode, score, threshold, coverage, degraded: as in Inspection.
        branches: calibrated image score of each branch of the mode.
        map: (h, w) float32 fused map over the whole frame, on the score's scale.
        branch_maps: the calibrated map of each branch, likewise; empty unless asked for.
        low: what the maps hold where nothing was inspected.
        alternatives: by rule of fusion, those that do not decide; empty unless asked for.
        branch_thresholds: a branch's score above it would be a defect, were that branch alone.
    """

    mode: Mode
    score: float
    threshold: float
    coverage: float
    degraded: tuple[str, ...]
    branches: Mapping[str, float]
    map: Image = field(repr=False)
    branch_maps: Mapping[str, Image] = field(repr=False)
    low: float = 0.0
    alternatives: Mapping[str, Alternative] = field(default_factory=dict, repr=False)
    branch_thresholds: Mapping[str, float] = field(default_factory=dict)


class Inspector:
    """A bundle, ready to inspect. One thread calls it; its answers depend on one frame at a time.

    Attributes:
        product, version: the bundle's name and version.
        bundle_id: "NAME/VERSION".
        bundle_hash: sha256 (hex) of the manifest, which holds the digest of the tensors.
        preparation: sizes, region of interest and tiles.
        fusion: the rule that decides.
        thresholds: of that rule, for each mode that the product has.
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
            self._branches[kind.name] = kind.restore(state, self._device)
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
        self.thresholds = self._point.thresholds[fusion]
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
        self.inspect([Sample(rgb, depth)])

    def inspect(self, batch: Sequence[Sample]) -> list[Inspection]:
        """The evidence on each sample, in order; one bad sample never raises, it gets its error.

        A frame's numbers are the same alone, in any batch and in any order: each is computed by itself, in
        shapes that the bundle fixes.
        """
        if self._pool is None or len(batch) < 2:
            return [self._inspect(sample) for sample in batch]
        start = perf_counter()
        found = list(self._pool.map(self._inspect, batch))
        return _shared(found, 1e3 * (perf_counter() - start))

    def _inspect(self, sample: Sample) -> Inspection:
        timings: dict[str, float] = {}
        try:
            sensors, found, measured = self._measure(sample, None, timings)
            start = perf_counter()
            score, branches = self._score(measured, sensors.mode)
            threshold = self.thresholds[sensors.mode]
            canvas = self._canvas(measured, sensors.mode, self._rule, 0.0)
            heat = self._over_frame(canvas, sensors.mode, 0.0)
            regions: tuple[Region, ...] = ()
            if score > threshold.value:
                regions = self._regions(canvas, measured, sensors.mode, threshold.value)
            heatmap = _heatmap(heat, threshold.value)
            add(timings, "fuse", perf_counter() - start)
        except CrosscheckError as error:
            return Inspection.failed(error)
        except (RuntimeError, ValueError, ArithmeticError, cv2.error) as error:
            # A frame that trips a library must not take its neighbours along, and must never pass.
            return Inspection.failed(InferenceError(f"inspection failed: {type(error).__name__}: {error}"))
        return Inspection(
            mode=sensors.mode,
            score=score,
            threshold=threshold.value,
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
        sensors, _, measured = self._measure(sample, mode, {})
        mode = sensors.mode
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
                    self._point.thresholds[name][mode].value,
                    self._over_frame(canvas, mode, outside),
                )
        return Study(
            mode=mode,
            score=score,
            threshold=self.thresholds[mode].value,
            coverage=sensors.coverage,
            degraded=sensors.degraded,
            branches=branches,
            map=self._over_frame(self._canvas(measured, mode, self._rule, low), mode, low),
            branch_maps=singles,
            low=low,
            alternatives=others,
            branch_thresholds={name: self._point.branch_thresholds[name].value for name in names},
        )

    def _measure(
        self, sample: Sample, mode: Mode | None, timings: dict[str, float]
    ) -> tuple[Sensors, Found, Measured]:
        """Sensors used, where the part is, raw evidence. Raises InferenceError."""
        if mode is not None:
            sample = Sample(
                None if mode is Mode.DEPTH else sample.rgb,
                None if mode is Mode.RGB else sample.depth,
                sample.depth_scale,
            )
        start = perf_counter()
        sensors = self.preparation.sensors(sample)
        add(timings, "prepare", perf_counter() - start)
        try:
            return self._measure_with(sample, sensors, timings)
        except NoReading:
            # Depth was there and no plane goes through it: the frame is what its colour alone says.
            if sensors.mode is not Mode.FUSED:
                raise
            degraded = (*sensors.degraded, "depth:invalid")
            return self._measure_with(sample, Sensors(Mode.RGB, 1.0, degraded), timings)

    def _measure_with(
        self, sample: Sample, sensors: Sensors, timings: dict[str, float]
    ) -> tuple[Sensors, Found, Measured]:
        mode = sensors.mode
        start = perf_counter()
        found = self._foreground.find(sample, mode)
        coverage = found.coverage(self.preparation.layout)
        if coverage is not None:
            sensors = replace(sensors, coverage=coverage)
        if self._belt_is_off(sample, mode):
            sensors = replace(sensors, degraded=(*sensors.degraded, BELT_OFF))
        middle = perf_counter()
        tiles = self.preparation.tiles(sample, mode, found)
        add(timings, "foreground", middle - start)
        add(timings, "prepare", perf_counter() - middle)
        evidence = [self._features.evidence(tile, timings=timings) for tile in tiles]
        start = perf_counter()
        branches = [self._branches[name] for name in self._point.names(mode)]
        seen = [look(one, branches) for one in evidence]
        measured = self._point.measure(seen, mode)
        add(timings, "branches", perf_counter() - start)
        return sensors, found, measured

    def _belt_is_off(self, sample: Sample, mode: Mode) -> bool:
        """Whether the belt lies where the station's calibration did not find it."""
        if self._station is None or sample.depth is None or mode is Mode.RGB:
            return False
        drift = self._station.drift(sample.depth)
        return drift is not None and not drift.within

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


def _station(values: object, ray_map: torch.Tensor | None) -> Station | None:
    """The station of a bundle. Raises StationError: it is damaged."""
    if not isinstance(values, Mapping):
        return None
    return Station.from_map(values, None if ray_map is None else ray_map.float().numpy())


def _shared(inspections: Sequence[Inspection], wall_ms: float) -> list[Inspection]:
    """Timings as shares of the batch: frames that ran side by side must not add up to more than passed."""
    spent = sum(sum(one.timings.values()) for one in inspections)
    share = wall_ms / spent if spent > 0 else 1.0
    return [
        replace(one, timings={stage: share * ms for stage, ms in one.timings.items()}) for one in inspections
    ]


def _heatmap(values: Image, threshold: float) -> HeatmapArray:
    """8 bits with the threshold at the middle: comparable between the frames of one mode."""
    high = 2.0 * threshold if threshold > 0 else 1.0
    scaled = np.clip(values * np.float32(255.0 / high), 0.0, 255.0)
    return HeatmapArray(np.asarray(np.rint(scaled), np.uint8), 0.0, high)
