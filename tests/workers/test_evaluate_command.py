"""``crosscheck evaluate``: which bundle is judged on what, what is written, and what a mode is granted."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from rich.console import Console

from inference.bundle import read_bundle, write_bundle
from inference.calibration import Limits
from inference.datasets.open import open_dataset
from inference.errors import BundleError, DatasetError, GrantRefused
from inference.evaluate import evaluate as judge
from inference.grants import GRANTS, read_grants
from inference.profiles.runtime import Runtime
from inference.results import Measure
from inference.sample import Sample
from schemas.verdict import Mode
from workers.commands import console, evaluate
from workers.commands.evaluate import Asked, run_evaluate
from workers.commands.evaluate_tables import combined_tables, tables
from workers.errors import SettingsError

SIZE = 24
Image = NDArray[np.float32]


@dataclass(frozen=True)
class Found:
    mode: Mode
    score: float
    threshold: float
    map: Image
    branches: Mapping[str, float]
    branch_maps: Mapping[str, Image]
    branch_limits: Mapping[str, Limits] = field(default_factory=dict)
    alternatives: Mapping[str, Found] = field(default_factory=dict)

    @property
    def pass_limit(self) -> float:
        return self.threshold


class Brightest:
    """An inspector for which the brightest value is the score; it sees a defect in depth and colour alike."""

    modes = (Mode.FUSED, Mode.RGB, Mode.DEPTH)

    def __init__(self, folder: Path) -> None:
        bundle = read_bundle(folder)
        self.bundle_id, self.bundle_hash = f"{bundle.name}/{bundle.version}", bundle.digest
        self._threshold = float(bundle.manifest.get("threshold", 100.0))

    def study(
        self,
        sample: Sample,
        *,
        mode: Mode | None = None,
        branch_maps: bool = False,
        alternatives: bool = False,
    ) -> Found:
        assert mode is not None
        seen = sample.depth if mode is Mode.DEPTH else sample.rgb
        assert seen is not None
        values = seen.reshape(*seen.shape[:2], -1)[..., 0].astype(np.float32)
        score = float(values.max())
        one = Found(mode, score, self._threshold, values, {"only": score}, {"only": values})
        return replace(one, alternatives={"cmdr": one}) if alternatives else one


@pytest.fixture(autouse=True)
def _inspector(monkeypatch: pytest.MonkeyPatch) -> None:
    class Loads:
        @staticmethod
        def load(bundle: Path, *, device: str, runtime: Runtime | None) -> Brightest:
            return Brightest(bundle)

    monkeypatch.setattr(evaluate, "Inspector", Loads)
    monkeypatch.setattr(console, "out", Console(width=80))


def write_product(folder: Path, *, good: int = 24, defects: int = 80, hidden: int = 0) -> Path:
    """Labelled frames in the layout of a product; ``hidden`` defects are as dark as a good part."""
    rng = np.random.default_rng(5)
    for label, count in (("good", good), ("dent", defects)):
        for sensor in ("rgb", "depth", "gt"):
            (folder / "test" / label / sensor).mkdir(parents=True)
        for number in range(count):
            dark = rng.integers(1, 60, (SIZE, SIZE))
            mask = np.zeros((SIZE, SIZE), np.uint8)
            if label != "good":
                mask[4:9, 6:14] = 255
                if number >= hidden:
                    dark[mask > 0] = 200
            # No number in the name: every frame is independent of the others.
            name = "f" + "abcdefghij"[number // 10] + "abcdefghij"[number % 10] + ".png"
            root = folder / "test" / label
            cv2.imwrite(str(root / "rgb" / name), np.repeat(dark[..., None], 3, 2).astype(np.uint8))
            cv2.imwrite(str(root / "depth" / name), dark.astype(np.uint16))
            cv2.imwrite(str(root / "gt" / name), mask)
    return folder


@pytest.fixture(scope="module")
def product(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_product(tmp_path_factory.mktemp("data") / "cap")


@pytest.fixture
def bundle(tmp_path: Path) -> Path:
    return bundle_of(tmp_path / "models", "cap", "1")


def bundle_of(models: Path, name: str, version: str, threshold: float = 100.0) -> Path:
    return write_bundle(models, name, version, {"threshold": threshold}, {"a": torch.zeros(1)})


def test_one_bundle_gives_tables_a_page_and_the_json_that_it_always_gave(
    bundle: Path, product: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    page, file = tmp_path / "new" / "page.html", tmp_path / "report.json"
    run_evaluate(Asked(bundles=[bundle], data=product, bootstrap=50), page=page, json_file=file)
    said = capsys.readouterr().out
    assert "Of 100 good parts 0 would be rejected" in said
    assert said.index("Of 100 good parts") < said.index("cap/1 on")
    assert "misses" in said
    assert "fused:cmdr" not in said
    run_evaluate(Asked(bundles=[bundle], data=product, bootstrap=50), page=None, json_file=None, full=True)
    assert "fused:cmdr" in capsys.readouterr().out
    value = json.loads(file.read_text())
    assert value["bundle"] == "cap/1"
    assert value["modes"]["FUSED"]["i_auroc"] == 1.0
    assert value["modes"]["RGB"]["miss_rate_interval"][1] == pytest.approx(0.046, abs=1e-3)
    assert "cap/1" in page.read_text()
    assert re.search(r"Crosscheck evaluation, 20\d\d-\d\d-\d\d \d\d:\d\d UTC, version \d", page.read_text())
    assert not (bundle / GRANTS).exists()  # nothing is granted that was not asked for


def test_frames_that_are_left_out_are_said_in_the_terminal_and_on_the_page(
    bundle: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    data, page = write_product(tmp_path / "cap", good=8, defects=8), tmp_path / "page.html"
    for name in ("faa", "fab", "fac"):
        cv2.imwrite(str(data / f"test/dent/gt/{name}.png"), np.zeros((SIZE, SIZE), np.uint8))
    asked = Asked(bundles=[bundle], data=data, bootstrap=0)
    with pytest.raises(DatasetError, match=r"test/dent/faa, test/dent/fab, test/dent/fac: empty masks"):
        run_evaluate(asked, page=None, json_file=None)
    run_evaluate(replace(asked, leave_out_unmarked=True), page=page, json_file=None)
    words = "3 frames left out: their masks mark nothing: test/dent/faa, test/dent/fab, test/dent/fac"
    said = capsys.readouterr().out
    assert words in said
    assert "Of 5 defects 0 pass, 0 are held for review, 5 are rejected" in " ".join(said.split())
    assert words in page.read_text()


def test_several_bundles_are_compared_on_the_same_frames(
    product: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    both = [bundle_of(tmp_path / "models", "cap", "1"), bundle_of(tmp_path / "models", "cap", "2", 250.0)]
    page, file = tmp_path / "page.html", tmp_path / "report.json"
    run_evaluate(Asked(bundles=both, data=product, bootstrap=0), page=page, json_file=file, full=True)
    value = json.loads(file.read_text())
    assert value["over"] == "bundles"
    assert [report["bundle"] for report in value["reports"]] == ["cap/1", "cap/2"]
    misses = value["combined"]["FUSED"]["miss_rate"]
    assert (misses["low"], misses["mean"], misses["high"]) == (0.0, 0.5, 1.0)
    assert misses["interval"] is None
    assert misses["deviation"] == pytest.approx(0.5**0.5)
    assert "mean of 2" in capsys.readouterr().out
    assert "2 bundles" in page.read_text()


def test_a_data_set_is_judged_by_the_latest_bundle_of_each_category(tmp_path: Path) -> None:
    data, models = tmp_path / "data", tmp_path / "models"
    for name in ("bagel", "tire"):
        write_product(data / name, good=4, defects=4)
        bundle_of(models, name, "9")
        bundle_of(models, name, "10", 250.0 if name == "tire" else 100.0)
    file = tmp_path / "report.json"
    run_evaluate(Asked(models=models, data=data, bootstrap=20), page=tmp_path / "p.html", json_file=file)
    value = json.loads(file.read_text())
    assert value["over"] == "categories"
    assert [report["bundle"] for report in value["reports"]] == ["bagel/10", "tire/10"]
    misses = value["combined"]["FUSED"]["miss_rate"]
    assert misses["mean"] == 0.5
    assert misses["interval"][0] < 0.5 < misses["interval"][1]
    run_evaluate(Asked(models=models, data=data, category="tire", bootstrap=0), page=None, json_file=file)
    assert [report["bundle"] for report in json.loads(file.read_text())["reports"]] == ["tire/10"]


def test_categories_without_a_bundle_are_all_named_before_anything_is_judged(tmp_path: Path) -> None:
    data = tmp_path / "data"
    for name in ("bagel", "rope", "tire"):
        write_product(data / name, good=1, defects=1)
    bundle_of(tmp_path / "models", "rope", "1")
    asked = Asked(models=tmp_path / "models", data=data)
    with pytest.raises(SettingsError, match="no bundle for bagel, tire; run `crosscheck teach bagel`"):
        run_evaluate(asked, page=None, json_file=None)
    with pytest.raises(DatasetError, match="no category 'hat'; found: bagel, rope, tire"):
        run_evaluate(replace(asked, category="hat"), page=None, json_file=None)
    with pytest.raises(DatasetError, match=r"one product; name its bundle with --bundle"):
        run_evaluate(replace(asked, data=data / "rope"), page=None, json_file=None)


def test_a_mode_is_granted_when_the_upper_end_of_its_misses_is_accepted(
    bundle: Path, product: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    asked = Asked(bundles=[bundle], data=product, bootstrap=50, grant=[Mode.RGB], max_miss=0.05)
    run_evaluate(asked, page=None, json_file=None)
    digest = read_bundle(bundle).digest
    grants = read_grants(bundle, digest)
    assert set(grants) == {Mode.RGB}
    assert (grants[Mode.RGB].miss_rate, grants[Mode.RGB].defects, grants[Mode.RGB].threshold) == (
        0.0,
        80,
        100.0,
    )
    assert grants[Mode.RGB].interval[1] == pytest.approx(0.0458, abs=1e-3)
    assert "RGB may pass parts alone" in capsys.readouterr().out
    run_evaluate(Asked(bundles=[bundle], revoke=[Mode.RGB]), page=None, json_file=None)
    assert read_grants(bundle, digest) == {}
    assert "revoked" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("hidden", "accepted", "said"), [(0, 0.02, "up to 4.6 %"), (8, 0.05, "missed 10.0 %")]
)
def test_a_grant_that_the_figures_do_not_carry_is_refused_and_nothing_is_written(
    bundle: Path, tmp_path: Path, hidden: int, accepted: float, said: str
) -> None:
    data = write_product(tmp_path / "data", hidden=hidden)
    file = tmp_path / "report.json"
    asked = Asked(bundles=[bundle], data=data, bootstrap=50, grant=[Mode.DEPTH], max_miss=accepted)
    with pytest.raises(GrantRefused, match=said):
        run_evaluate(asked, page=None, json_file=file)
    assert not (bundle / GRANTS).exists()
    assert json.loads(file.read_text())["bundle"] == "cap/1"  # the figures are there to be read


def test_a_new_version_starts_without_the_grants_of_the_old(bundle: Path, product: Path) -> None:
    run_evaluate(
        Asked(bundles=[bundle], data=product, bootstrap=0, grant=[Mode.RGB], max_miss=0.05),
        page=None,
        json_file=None,
    )
    again = bundle_of(bundle.parents[1], "cap", "2")
    assert read_grants(again, read_bundle(again).digest) == {}


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ({"bundles": []}, "--bundle MODELS/NAME/VERSION, or --models"),
        ({"models": Path("m")}, "--bundle MODELS/NAME/VERSION, or --models"),
        ({"data": None}, "--data"),
        ({"grant": [Mode.RGB]}, "--max-miss"),
        ({"max_miss": 0.1}, "--grant RGB"),
        ({"grant": [Mode.FUSED], "max_miss": 0.1}, "FUSED needs no grant"),
        ({"revoke": [Mode.FUSED]}, "FUSED needs no grant"),
        ({"bundles": [Path("a"), Path("b")], "revoke": [Mode.RGB]}, "one --bundle"),
        ({"grant": [Mode.RGB], "max_miss": 0.1, "revoke": [Mode.RGB]}, "both name RGB"),
    ],
)
def test_what_does_not_go_together_is_refused(values: dict[str, object], said: str) -> None:
    asked: dict[str, object] = {"bundles": [Path("b")], "data": Path("d")}
    with pytest.raises(SettingsError, match=said):
        Asked(**(asked | values))  # type: ignore[arg-type]


def test_a_page_that_cannot_be_written_is_said_before_the_work(
    bundle: Path, product: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").write_text("")
    monkeypatch.delattr(evaluate, "evaluate")  # reaching it would be an error of another kind
    with pytest.raises(SettingsError, match=r"--report .*file/page.html.*name a writable file"):
        run_evaluate(
            Asked(bundles=[bundle], data=product), page=tmp_path / "file" / "page.html", json_file=None
        )


def test_revoking_from_a_bundle_that_is_not_there_is_refused(tmp_path: Path) -> None:
    with pytest.raises(BundleError, match="nothere"):
        run_evaluate(Asked(bundles=[tmp_path / "nothere"], revoke=[Mode.RGB]), page=None, json_file=None)


def test_tables_fit_a_terminal_of_80_columns(bundle: Path, product: Path) -> None:
    found = judge(Brightest(bundle), open_dataset(product), bootstrap=100)
    widest = replace(
        found.modes[Mode.RGB],
        false_reject_rate=Measure(1.0, (0.7, 1.0)),
        miss_rate=Measure(0.467, (0.2, 1.0)),
    )
    long = replace(found, branches={"colour_from_shape": widest})
    for table in (
        *tables(long),
        *combined_tables([long, long], categories=True),
        *combined_tables([long, long], categories=False),
    ):
        wide = Console(width=300)
        with wide.capture() as said:
            wide.print(table)
        lines = [line.rstrip() for line in said.get().splitlines()]
        assert max(map(len, lines)) <= 80
        assert "…" not in said.get()
