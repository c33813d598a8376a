"""``crosscheck benchmark`` on a data set of two categories in the layout of MVTec 3D-AD."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest

from inference.datasets.synthetic import SyntheticDataset
from tests.inference.tiff_files import write_tiff

FOCAL = 300.0


def write_category(folder: Path, product: int) -> None:
    """Rendered parts with the names, folders and files of the data set."""
    parts = SyntheticDataset(
        train=10,
        validation=4,
        test_good=4,
        defects_per_kind=2,
        size=96,
        lot_size=2,
        contrast=2.0,
        product=product,
        seed=product,
    )
    for split, items in (
        ("train", parts.train()),
        ("validation", parts.validation()),
        ("test", parts.test()),
    ):
        for number, item in enumerate(items):
            root, name, sample = folder / split / item.label, f"{number:03}", item.sample()
            assert sample.rgb is not None
            assert sample.depth is not None
            for part in ("rgb", "xyz", "gt"):
                (root / part).mkdir(parents=True, exist_ok=True)
            cv2.imwrite(str(root / "rgb" / f"{name}.png"), sample.rgb[..., ::-1])
            height, width = sample.depth.shape
            z = sample.depth.astype(np.float32) * np.float32(sample.depth_scale or 1.0)
            x = (np.arange(width, dtype=np.float32) - width / 2 + 0.25) / FOCAL
            y = (np.arange(height, dtype=np.float32) - height / 2 + 0.25) / FOCAL
            write_tiff(root / "xyz" / f"{name}.tiff", np.stack([z * x, z * y[:, None], z], axis=-1))
            if split == "test":
                mask = item.mask()
                truth = np.zeros((height, width), np.uint8) if mask is None else np.uint8(255) * mask
                cv2.imwrite(str(root / "gt" / f"{name}.png"), truth.astype(np.uint8))


def crosscheck(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", "from workers.cli import main; main()", *arguments],
        capture_output=True,
        text=True,
        timeout=280,
        check=False,
    )


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("data")
    for product, name in enumerate(("bagel", "tire"), start=21):
        write_category(folder / name, product)
    return folder


def test_one_command_teaches_judges_and_reports_every_category(data: Path, tmp_path: Path) -> None:
    models, page, table = tmp_path / "models", tmp_path / "report.html", tmp_path / "table.json"
    arguments = ("benchmark", "--data", str(data), "--models", str(models), "--bootstrap", "20")
    first = crosscheck(*arguments, "--report", str(page), "--json", str(table))
    assert first.returncode == 0, first.stderr
    found = json.loads(table.read_text())
    assert [report["dataset"].split("/")[-1] for report in found["reports"]] == ["bagel", "tire"]
    assert found["over"] == "categories"
    for report in found["reports"]:
        assert set(report["modes"]) == {"FUSED", "RGB", "DEPTH"}
        assert report["modes"]["FUSED"]["i_auroc"] > 0.8
    text = page.read_text()
    assert "bagel" in text
    assert "Published, other hardware" in text
    assert sorted(path.name for path in models.iterdir()) == ["bagel", "tire"]

    again = crosscheck(*arguments, "--category", "tire")
    assert again.returncode == 0, again.stderr
    assert "tire: taught before with these settings, kept" in again.stdout
    assert [path.name for path in (models / "tire").iterdir()] == ["1"]


def test_a_category_that_is_not_there_is_named(data: Path, tmp_path: Path) -> None:
    done = crosscheck("benchmark", "--data", str(data), "--models", str(tmp_path), "--category", "rope")
    assert done.returncode == 2
    assert "rope" in done.stderr
    assert "Traceback" not in done.stderr
