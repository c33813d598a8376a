"""A bundle is written whole, read only as it was written, and never names a file of its own choice."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch

from inference.bundle import MANIFEST, TENSORS, next_version, read_bundle, write_bundle
from inference.errors import BundleError
from inference.inspector import Inspector


@pytest.fixture
def copy(bundle: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(bundle, tmp_path / "part" / "1"))


def edit(folder: Path, **changes: Any) -> None:
    manifest = json.loads((folder / MANIFEST).read_text())
    manifest.update(changes)
    (folder / MANIFEST).write_text(json.dumps(manifest))


def test_a_flipped_bit_in_the_tensors_is_refused(copy: Path) -> None:
    raw = bytearray((copy / TENSORS).read_bytes())
    raw[len(raw) // 2] ^= 1
    (copy / TENSORS).write_bytes(raw)
    with pytest.raises(BundleError, match=r"tensors\.safetensors: sha256"):
        Inspector.load(copy)


@pytest.mark.parametrize(
    ("changes", "match"),
    [
        ({"schema": 99}, "schema 99"),
        ({"features": {"name": "other"}}, "other features"),
        ({"prepare": {"version": "prepare/0"}}, "prepare/0"),
        ({"point": {"calibration": {}}}, "calibration of branch 'colour'"),
        ({"point": None}, "lacks 'point'"),
        ({"fusion": "product"}, "fusion 'product'"),
        ({"name": "../part"}, "product"),
        ({"tensors": {"file": "../../secret", "sha256": ""}}, "expected 'tensors.safetensors'"),
        ({"tensors": None}, "tensors is missing"),
    ],
)
def test_a_manifest_that_does_not_fit_is_refused_with_its_place(
    copy: Path, changes: dict[str, Any], match: str
) -> None:
    edit(copy, **changes)
    with pytest.raises(BundleError, match=match):
        Inspector.load(copy)


def test_missing_and_unreadable_files_are_named(copy: Path, tmp_path: Path) -> None:
    with pytest.raises(BundleError, match=r"manifest\.json: cannot be read"):
        Inspector.load(tmp_path / "nowhere")
    (copy / MANIFEST).write_bytes(b"\xff{")
    with pytest.raises(BundleError, match="not JSON"):
        Inspector.load(copy)
    (copy / MANIFEST).write_text("[]")
    with pytest.raises(BundleError, match="not a JSON object"):
        Inspector.load(copy)


def test_the_hash_is_that_of_the_manifest_and_covers_the_tensors(bundle: Path, inspector: Inspector) -> None:
    import hashlib

    raw = (bundle / MANIFEST).read_bytes()
    assert inspector.bundle_hash == hashlib.sha256(raw).hexdigest()
    assert json.loads(raw)["tensors"]["sha256"] == hashlib.sha256((bundle / TENSORS).read_bytes()).hexdigest()
    assert inspector.bundle_id == "part/1"


def test_the_folder_holds_two_files_and_no_draft(bundle: Path) -> None:
    assert sorted(path.name for path in bundle.iterdir()) == [MANIFEST, TENSORS]
    assert [path.name for path in bundle.parent.iterdir()] == ["1"]


def test_writing_refuses_a_version_that_exists_and_names_that_leave_the_folder(tmp_path: Path) -> None:
    tensors = {"x": torch.zeros(2)}
    first = write_bundle(tmp_path, "part", "1", {}, tensors)
    assert read_bundle(first).tensors["x"].shape == (2,)
    assert next_version(tmp_path, "part") == "2"
    with pytest.raises(BundleError, match="exists already"):
        write_bundle(tmp_path, "part", "1", {}, tensors)
    for name in ("..", "a/b", "/etc", "", ".hidden", "a" * 65, "x\n"):
        with pytest.raises(BundleError, match="product"):
            write_bundle(tmp_path, name, "1", {}, tensors)
        with pytest.raises(BundleError, match="version"):
            write_bundle(tmp_path, "part", name, {}, tensors)
    assert [path.name for path in tmp_path.iterdir()] == ["part"]


def test_tensors_that_are_not_finite_are_refused(tmp_path: Path) -> None:
    path = write_bundle(tmp_path, "part", "1", {}, {"x": torch.tensor([1.0, float("nan")])})
    with pytest.raises(BundleError, match="'x' holds values that are not finite"):
        read_bundle(path)
