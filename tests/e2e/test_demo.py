"""The demo keeps the promises that it prints."""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from PIL import Image

from schemas.part import PartKey
from tests.e2e.processes import Done, crosscheck
from workers.demo.script import MIN_PARTS, write_script

KINDS = {"colour", "shape", "both"}

pytestmark = pytest.mark.timeout(600)


@dataclass(frozen=True, slots=True)
class Demo:
    """One run."""

    done: Done
    summary: dict[str, Any]
    folder: Path


@pytest.fixture(scope="module")
def demo(tmp_path_factory: pytest.TempPathFactory) -> Demo:
    """The demo with as few parts as it allows, run once, as a user would."""
    folder = tmp_path_factory.mktemp("demo")
    done = crosscheck(
        "demo", "--parts", str(MIN_PARTS), "--out", "out", "--json", "demo.json", folder=folder, timeout=500
    )
    summary = folder / "demo.json"
    assert summary.exists(), f"exit code {done.code}: {done.err[-3000:]}"
    assert summary.stat().st_size > 0, f"exit code {done.code}: {done.err[-3000:]}"
    return Demo(done, json.loads(summary.read_text()), folder / "out")


def test_the_demo_ends_well_and_says_so(demo: Demo) -> None:
    assert demo.done.code == 0, demo.done.out[-3000:]
    said = " ".join(demo.done.out.split())
    for words in ("lost 0", "unsafe passes 0", "contact-sheet.png", "colour alone while depth was out"):
        assert words in said
    assert "Traceback" not in demo.done.err


def test_the_summary_has_its_keys(demo: Demo) -> None:
    assert demo.summary.keys() >= {
        "triggers", "published", "verdicts", "decisions", "lost", "duplicates", "modes", "decisions_by_kind",
        "caught", "missed", "unsafe_passes", "false_rejects", "latency_ms", "frames_per_second",
    }  # fmt: skip
    assert demo.summary["latency_ms"].keys() >= {"p50", "p95", "p99"}
    assert 0 < demo.summary["latency_ms"]["p50"] <= demo.summary["latency_ms"]["p99"]
    assert demo.summary["frames_per_second"] > 0
    assert demo.summary["decisions_by_kind"].keys() == {"good", *KINDS}


def test_every_part_is_published_judged_and_decided_once(demo: Demo) -> None:
    summary = demo.summary
    for count in ("triggers", "published", "verdicts", "decisions"):
        assert summary[count] == MIN_PARTS, count
    assert (summary["lost"], summary["duplicates"], summary["unsafe_passes"]) == (0, 0, 0)
    assert sum(sum(d.values()) for d in summary["decisions_by_kind"].values()) == MIN_PARTS


def test_the_line_falls_back_to_colour_during_the_drop_and_comes_back(demo: Demo) -> None:
    script = write_script(MIN_PARTS, 0)
    modes = Counter(demo.summary["modes"])
    out = script.drop[1] - script.drop[0]
    # A sensor that was down is believed again after three good frames, not after one. A machine that stands
    # still for seconds may make some parts stale: they have no mode.
    assert 0.9 * out <= modes["RGB"] <= out + 4
    assert modes["DEPTH"] == 0
    assert 0.9 * MIN_PARTS <= modes["FUSED"] + modes["RGB"] <= MIN_PARTS
    planted = demo.summary["defects"]
    assert {d["mode"] for d in planted if d["in_drop"]} - {None} == {"RGB"}
    assert {d["mode"] for d in planted if d["trigger"] >= script.drop[1] + 4} - {None} == {"FUSED"}


def test_no_shape_defect_passes_while_nobody_can_see_shape(demo: Demo) -> None:
    hidden = [d for d in demo.summary["defects"] if d["in_drop"] and d["kind"] == "shape"]
    assert len(hidden) >= 5
    assert all(d["decision"] != "PASS" for d in hidden)


def test_every_kind_has_ten_defects_whose_size_and_contrast_are_told(demo: Demo) -> None:
    seen = [d for d in demo.summary["defects"] if not d["in_drop"]]
    kinds = Counter(d["kind"] for d in seen)
    assert kinds.keys() == KINDS
    assert min(kinds.values()) >= 10
    assert all(d["size"] > 0 and d["contrast"] > 0 for d in seen)
    for kind in KINDS:
        caught = demo.summary["caught"][kind]
        held = demo.summary["held"][kind]
        of_kind = sum(d["kind"] == kind for d in demo.summary["defects"])
        assert caught + held + demo.summary["missed"][kind] == of_kind
        largest = [d for d in seen if d["kind"] == kind and d["size"] >= 28 and d["contrast"] >= 1.0]
        rejected = sum(d["decision"] == "REJECT" for d in largest)
        assert all(d["decision"] != "PASS" for d in largest), largest
        assert rejected >= 0.8 * len(largest) > 0


def test_most_good_parts_pass_while_both_sensors_work(demo: Demo) -> None:
    good = demo.summary["decisions_by_kind"]["good"]
    assert good["PASS"] > 0.8 * (sum(good.values()) - good.get("REVIEW", 0))


def test_triggers_and_decisions_are_on_disk(demo: Demo) -> None:
    lines = [json.loads(line) for line in (demo.folder / "triggers.jsonl").read_text().splitlines()]
    parts = [PartKey.parse(line["part"]) for line in lines if line["event"] == "trigger"]
    assert len(set(parts)) == len(parts) == MIN_PARTS
    assert (demo.folder / "gate.jsonl").stat().st_size > 0


def test_the_contact_sheet_is_a_picture_with_something_on_it(demo: Demo) -> None:
    path = demo.folder / "contact-sheet.png"
    with Image.open(path) as picture:
        assert picture.format == "PNG"
        picture.verify()
    pixels = cv2.imread(str(path))
    assert pixels is not None
    assert min(pixels.shape[:2]) >= 400
    # Rows of different parts: neither blank nor one picture repeated.
    packed = pixels.astype(np.uint32) @ np.array([1, 256, 65536], np.uint32)
    assert len(np.unique(packed)) > 5000
