"""``crosscheck inspect``: a folder of frames in; verdicts, and pictures of where the model looked, out."""

from __future__ import annotations

import csv
import json
from collections import Counter
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, TextIO

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from rich.table import Table

from inference.datasets.base import Item
from inference.datasets.conventions import Conventions
from inference.datasets.found import find_frames
from inference.errors import InferenceError
from inference.inspection import Inspection
from inference.inspector import Inspector
from inference.profiles.runtime import Runtime
from inference.sample import Sample
from schemas.errors import CrosscheckError
from schemas.regular import check_folder, check_writable
from schemas.verdict import Decision, Mode
from workers.commands import console
from workers.commands.worker import frames_at_once
from workers.errors import SettingsError
from workers.overlay import overlay
from workers.settings import Settings
from workers.steps.deciding import decide

OUT = Path("inspected")
COLUMNS = (
    "name",
    "label",
    "decision",
    "reason",
    "mode",
    "score",
    "threshold",
    "pass_limit",
    "coverage",
    "foreground",
    "degraded",
    "regions",
    "seen_by",
    "milliseconds",
    "heatmap",
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Outputs:
    """Where results go; None leaves one out.

    Attributes:
        csv: one row a frame, with a heading.
        json: one JSON object a line and frame, with everything that a verdict holds.
        heatmaps: folder of NAME.png, the picture for people, and NAME_map.png, the map itself as 8 bits.
    """

    csv: Path | None
    json: Path | None
    heatmaps: Path | None

    @classmethod
    def chosen(
        cls, out: Path | None, csv_file: Path | None, json_file: Path | None, heatmaps: Path | None
    ) -> Outputs:
        """What the flags name; all three under ``out``, which is ``inspected`` where nothing was named."""
        if out is None and csv_file is None and json_file is None and heatmaps is None:
            out = OUT
        if out is None:
            return cls(csv=csv_file, json=json_file, heatmaps=heatmaps)
        return cls(
            csv=csv_file or out / "verdicts.csv",
            json=json_file or out / "verdicts.jsonl",
            heatmaps=heatmaps or out / "heatmaps",
        )


@dataclass(frozen=True, slots=True)
class Row:
    """One frame's answer."""

    name: str
    label: str
    decision: Decision
    reason: str | None
    found: Inspection
    milliseconds: float
    pictures: tuple[Path, Path] | None = None

    def to_json(self, bundle: str, bundle_hash: str) -> dict[str, Any]:
        """Everything known of it; the map's scale belongs to NAME_map.png."""
        found = self.found
        heatmap = None
        if self.pictures is not None and found.heatmap is not None:
            overlaid, bare = self.pictures
            heatmap = {
                "picture": str(overlaid),
                "map": str(bare),
                "low": found.heatmap.low,
                "high": found.heatmap.high,
            }
        return {
            "name": self.name,
            "label": self.label or None,
            "decision": self.decision.value,
            "reason": self.reason,
            "mode": None if found.mode is None else found.mode.value,
            "score": found.score,
            "threshold": found.threshold,
            "pass_limit": found.pass_limit,
            "coverage": found.coverage,
            "foreground": found.foreground,
            "degraded": list(found.degraded),
            "branches": dict(found.branches),
            "regions": [region.to_map() for region in found.regions],
            "bundle": bundle,
            "bundle_hash": bundle_hash,
            "timings": dict(found.timings),
            "milliseconds": round(self.milliseconds, 3),
            "heatmap": heatmap,
        }

    def to_csv(self) -> list[str]:
        """In the order of ``COLUMNS``."""
        found = self.found
        boxes = [f"{r.x} {r.y} {r.width} {r.height} {r.score:.3f}" for r in found.regions]
        return [
            self.name,
            self.label,
            self.decision.value,
            self.reason or "",
            "" if found.mode is None else found.mode.value,
            "" if found.score is None else f"{found.score:.6g}",
            "" if found.threshold is None else f"{found.threshold:.6g}",
            "" if found.pass_limit is None else f"{found.pass_limit:.6g}",
            "" if found.error is not None else f"{found.coverage:.4f}",
            found.foreground or "",
            " ".join(found.degraded),
            "; ".join(boxes),
            "; ".join(region.seen_by or "" for region in found.regions),
            f"{self.milliseconds:.1f}",
            "" if self.pictures is None else str(self.pictures[0]),
        ]


@dataclass(slots=True)
class _Writer:
    """Writes each row as it comes, so that an interrupted run keeps what it had."""

    outputs: Outputs
    bundle: str
    bundle_hash: str
    _table: TextIO | None = None
    _lines: TextIO | None = None
    _taken: Counter[str] = field(default_factory=Counter)

    def open(self, stack: ExitStack) -> None:
        """Open every file. Raises SettingsError: one cannot be written."""
        self._table = self._open(stack, "--csv", self.outputs.csv)
        self._lines = self._open(stack, "--json", self.outputs.json)
        if self._table is not None:
            csv.writer(self._table).writerow(COLUMNS)
        if self.outputs.heatmaps is not None:
            try:
                check_folder(self.outputs.heatmaps)
            except OSError as error:
                raise SettingsError(
                    f"--heatmaps {self.outputs.heatmaps}: {error.strerror}; name a folder"
                ) from None

    @staticmethod
    def _open(stack: ExitStack, flag: str, path: Path | None) -> TextIO | None:
        if path is None:
            return None
        try:
            check_writable(path)
            return stack.enter_context(path.open("w", encoding="utf-8", newline=""))
        except OSError as error:
            raise SettingsError(f"{flag} {path}: {error.strerror}; name a writable file") from None

    def draw(
        self, item: Item, sample: Sample, found: Inspection, decision: Decision, reason: str | None
    ) -> tuple[Path, Path] | None:
        """Write the two pictures of a frame. Raises SettingsError: one cannot be written."""
        folder = self.outputs.heatmaps
        if folder is None or found.heatmap is None:
            return None
        stem = _file_name(f"{item.label}_{item.name}" if item.label else item.name)
        self._taken[stem] += 1
        if self._taken[stem] > 1:
            stem = f"{stem}~{self._taken[stem]}"
        picture = overlay(sample, found, name=item.name, decision=decision, reason=reason)
        places = folder / f"{stem}.png", folder / f"{stem}_map.png"
        for place, pixels in zip(places, (picture[..., ::-1], found.heatmap.values), strict=True):
            _write_png(place, pixels)
        return places

    def write(self, row: Row) -> None:
        """Add a row to every file."""
        if self._table is not None:
            csv.writer(self._table).writerow(row.to_csv())
            self._table.flush()
        if self._lines is not None:
            line = row.to_json(self.bundle, self.bundle_hash)
            self._lines.write(json.dumps(line, allow_nan=False) + "\n")
            self._lines.flush()


def run_inspect(
    bundle: Path,
    data: Path,
    outputs: Outputs,
    *,
    mode: Mode | None,
    split: str,
    jobs: int,
    min_coverage: float | None,
    kind: str | None = None,
    category: str | None = None,
    conventions: Conventions | None = None,
    device: str = "cpu",
    runtime: Runtime | None = None,
) -> int:
    """Inspect every frame of a folder; 0 where all of them were scored, 1 where one is ERROR."""
    frames = find_frames(data, split=split, kind=kind, category=category, conventions=conventions)
    console.tell(frames.notes)
    torch.set_num_threads(1)
    at_once = frames_at_once(jobs)
    inspector = Inspector.load(bundle, device=device, parallel=at_once, runtime=runtime)
    if mode is not None and mode not in inspector.modes:
        known = ", ".join(one.value for one in inspector.modes)
        raise SettingsError(f"--mode {mode.value}: {inspector.bundle_id} was taught for {known}")
    least = Settings.model_fields["min_coverage"].default if min_coverage is None else min_coverage
    writer = _Writer(outputs, inspector.bundle_id, inspector.bundle_hash)
    rows: list[Row] = []
    with ExitStack() as stack:
        writer.open(stack)
        report = stack.enter_context(console.progress())
        for item, sample, found in _inspected(inspector, frames.items, mode, at_once):
            decision, reason = decide(found, least)
            pictures = None
            if sample is not None:
                pictures = writer.draw(item, sample, found, decision, reason)
            spent = sum(found.timings.values())
            # Maps and pixels are not kept: a folder may hold more frames than memory.
            row = Row(item.name, item.label, decision, reason, found, spent, pictures)
            writer.write(row)
            rows.append(_light(row))
            report("inspect", len(rows), len(frames.items))
    _summarise(rows, inspector.bundle_id, data, outputs)
    return console.BROKEN_PROMISE if any(row.decision is Decision.ERROR for row in rows) else console.OK


def _inspected(
    inspector: Inspector, items: Sequence[Item], mode: Mode | None, at_once: int
) -> Iterator[tuple[Item, Sample | None, Inspection]]:
    """Every frame in order, with its evidence: an ERROR where it could not be loaded or scored."""
    size = max(2, 2 * at_once)
    with ThreadPoolExecutor(at_once, thread_name_prefix="load") as pool:
        for start in range(0, len(items), size):
            batch = items[start : start + size]
            loaded = list(pool.map(lambda item: _load(item, mode), batch))
            samples = [one for one in loaded if isinstance(one, Sample)]
            found = iter(_inspect(inspector, samples))
            for item, one in zip(batch, loaded, strict=True):
                if isinstance(one, Sample):
                    yield item, one, next(found)
                else:
                    yield item, None, Inspection.failed(one)


def _load(item: Item, mode: Mode | None) -> Sample | CrosscheckError:
    try:
        sample = item.sample()
        if mode is None:
            return sample
        return replace(
            sample,
            rgb=None if mode is Mode.DEPTH else sample.rgb,
            depth=None if mode is Mode.RGB else sample.depth,
        )
    except CrosscheckError as error:
        return error
    except Exception as error:
        # Decoders raise what they like at a broken file; its part still gets an answer.
        return InferenceError(f"{item.name}: cannot be loaded: {type(error).__name__}: {error}")


def _inspect(inspector: Inspector, samples: Sequence[Sample]) -> list[Inspection]:
    """As the worker does: a batch that fails is split until the bad frame is alone."""
    if not samples:
        return []
    try:
        return inspector.inspect(samples)
    except Exception as error:
        if len(samples) == 1:
            return [Inspection.failed(InferenceError(f"{type(error).__name__}: {error}"))]
        middle = len(samples) // 2
        return _inspect(inspector, samples[:middle]) + _inspect(inspector, samples[middle:])


def _light(row: Row) -> Row:
    """The row without its map."""
    return replace(row, found=replace(row.found, heatmap=None))


def _file_name(name: str) -> str:
    return "".join(c if c.isalnum() or c in "._-" else "_" for c in name).lstrip(".") or "frame"


def _write_png(path: Path, pixels: NDArray[np.uint8]) -> None:
    done, data = cv2.imencode(".png", np.ascontiguousarray(pixels), [cv2.IMWRITE_PNG_COMPRESSION, 3])
    try:
        assert done
        path.write_bytes(data.tobytes())
    except OSError as error:
        raise SettingsError(f"--heatmaps {path}: {error.strerror}; name a folder with room") from None


def _summarise(rows: Sequence[Row], bundle: str, data: Path, outputs: Outputs) -> None:
    counts = Counter((row.decision, row.found.mode) for row in rows)
    modes = [mode for mode in (*Mode, None) if any(m is mode for _, m in counts)]
    table = Table(title=f"{bundle}: {len(rows)} frames of {data.name or data}", title_justify="left")
    table.add_column("decision")
    for mode in modes:
        table.add_column("not scored" if mode is None else mode.value, justify="right")
    table.add_column("all", justify="right")
    for decision in Decision:
        cells = [counts[decision, mode] for mode in modes]
        if any(cells):
            table.add_row(decision.value, *(str(n) if n else "-" for n in cells), str(sum(cells)))
    console.out.print(table)
    _worst(rows)
    for row in [row for row in rows if row.decision is Decision.ERROR][:5]:
        console.out.print(f"ERROR {row.name}: {row.reason}", markup=False, highlight=False)
    scored = [row for row in rows if row.found.score is not None]
    if scored:
        times = np.array([row.milliseconds for row in scored])
        slowest = scored[int(times.argmax())]
        console.out.print(
            f"{np.median(times):.0f} ms a frame at the median; "
            f"the slowest, {slowest.name}, took {times.max():.0f} ms",
            markup=False,
            highlight=False,
        )
    for what, path in (("csv", outputs.csv), ("json", outputs.json), ("heatmaps", outputs.heatmaps)):
        if path is not None:
            console.out.print(f"{what}: {path}", markup=False, highlight=False, soft_wrap=True)


def _worst(rows: Sequence[Row]) -> None:
    """The frames furthest above their reject limits, or nearest below."""

    def margin(row: Row) -> float:
        assert row.found.score is not None
        assert row.found.threshold is not None
        return row.found.score - row.found.threshold

    scored = sorted((row for row in rows if row.found.score is not None), key=margin, reverse=True)[:5]
    if not scored:
        return
    table = Table(title="highest scores", title_justify="left")
    table.add_column("frame", overflow="fold", max_width=28)
    table.add_column("decision")
    table.add_column("score", justify="right")
    table.add_column("pass limit", justify="right")
    table.add_column("reject limit", justify="right")
    table.add_column("seen by")
    for row in scored:
        seen = [region.seen_by for region in row.found.regions if region.seen_by]
        table.add_row(
            f"{row.label}/{row.name}" if row.label else row.name,
            row.decision.value,
            f"{row.found.score:.2f}",
            "-" if row.found.pass_limit is None else f"{row.found.pass_limit:.2f}",
            f"{row.found.threshold:.2f}",
            ", ".join(dict.fromkeys(seen)) or "-",
        )
    console.out.print(table)
