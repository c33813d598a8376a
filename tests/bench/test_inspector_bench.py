"""The inspector's bench: its arithmetic, and that everything it times runs."""

from __future__ import annotations

import json
import os
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch
from torch.nn import functional

from inference.features.dino import Dino
from inference.features.point_mae import PointMae
from inference.heads.together import HeadNets
from tests.bench import compact_case, inspector, reference_case
from tests.bench.paired import Case, Timed, Timings, cores, peak_memory, ratios, take_turns
from tests.bench.roofline import Work, work_of


def busy(times: int) -> Case:
    def call(timings: Timings) -> object:
        for _ in range(times):
            sum(range(100_000))
        timings["work"] = 2.0 * times
        return None

    return Case(f"x{times}", times, call, every=times)


def test_cases_take_turns_and_times_are_of_one_frame() -> None:
    one, three = take_turns([busy(1), busy(3)], 6)
    assert sorted(one.rounds) == [0, 1, 2, 3, 4, 5]
    assert sorted(three.rounds) == [0, 3]
    assert one.stage_middles() == {"work": 2.0}
    assert three.stage_middles() == {"work": 2.0}
    # Three times the work for three frames: as long a frame.
    assert 0.2 < three.processor / one.processor < 5
    assert len(ratios(three, one)) == 2


def test_ratios_are_of_the_same_round() -> None:
    slow, fast = Timed(busy(1)), Timed(busy(1))
    slow.spent, fast.spent = {0: 60.0, 2: 90.0}, {0: 10.0, 1: 11.0, 2: 10.0}
    assert ratios(slow, fast) == [6.0, 9.0]


def test_a_block_keeps_to_its_cores_and_gives_them_back() -> None:
    before, threads = os.sched_getaffinity(0), torch.get_num_threads()
    with cores(1) as given:
        assert given == 1
        assert len(os.sched_getaffinity(0)) == 1
        assert torch.get_num_threads() == 1
    assert os.sched_getaffinity(0) == before
    assert torch.get_num_threads() == threads


def test_peak_memory_sees_what_was_freed_again() -> None:
    with peak_memory() as peak:
        held = np.ones(64 * 2**17)
        del held
    # None where the system does not say; never a made-up zero.
    assert peak.mb is None or 55 < peak.mb < 120


def test_operations_and_bytes_are_those_of_the_products() -> None:
    a, b = torch.ones(3, 5), torch.ones(5, 7)
    weight, image = torch.ones(4, 2, 3, 3), torch.ones(1, 2, 8, 8)
    assert work_of(lambda: (a @ b).relu()) == Work(2 * 3 * 5 * 7, 4 * (15 + 35 + 21))
    with torch.inference_mode():
        found = work_of(lambda: functional.conv2d(image, weight, padding=1))
        assert found.operations == 2 * 64 * 4 * 2 * 9
        layer = work_of(lambda: functional.linear(a, b.T.contiguous()))
        assert layer == Work(2 * 3 * 5 * 7, 4 * (15 + 35 + 21))


def test_the_work_of_a_batch_is_that_of_its_frames() -> None:
    sizes, cpu = reference_case.TINY, torch.device("cpu")
    frames = compact_case.samples(compact_case.product(size=64, train=8))[:1] * 2
    native = reference_case.Native(
        Dino.random(sizes.dino, 0),
        PointMae.random(sizes.points, 0),
        HeadNets.random(sizes.heads(14), 0),
        14,
        cpu,
        torch.float32,
    )
    two = reference_case.prepared(frames, sizes)
    one = reference_case.prepared(frames[:1], sizes)
    alone, together = (work_of(partial(native.maps, images, {})) for images in (one, two))
    # Less the little that depends on weights alone.
    assert together.operations == pytest.approx(2 * alone.operations, rel=0.01)
    # Weights are moved once for both.
    assert alone.bytes < together.bytes < 2 * alone.bytes


def test_ceilings_are_peaks_shared_by_frames() -> None:
    operations, moved = Work(2e12, 5e9).ceilings(32, tera_operations=100.0, tera_bytes=2.0)
    assert operations == pytest.approx(1600)
    assert moved == pytest.approx(12_800)


def test_a_quick_run_times_every_case_and_writes_them(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "bench.json"
    assert inspector.main(["--quick", "--json", str(file)]) == 0
    report = json.loads(file.read_text())
    rows = [row for part in report["cpu"].values() for row in part]
    profiles = {(row["profile"], row["precision"]) for row in rows}
    assert {("compact", "float32"), ("reference", "bfloat16"), ("published", "float32")} <= profiles
    for row in rows:
        assert row["ms_median"] > 0
        assert row["processor_ms_median"] > 0
        # The stages are parts of the frame, and leave little out.
        assert 0.5 < sum(row["stages_ms"].values()) / row["ms_median"] < 1.5
    assert {"prepare", "rgb_features", "depth_features", "branches", "fuse"} <= set(rows[0]["stages_ms"])
    assert any(one["name"].startswith("compact, fused") for one in report["floors"])
    if not torch.cuda.is_available():
        assert report["gpu"] is None
        assert "GPU: not run" in capsys.readouterr().out
