"""A bundle is written whole, read only as it was written, and never names a file of its own choice."""

from __future__ import annotations

import hashlib
import json
import pickle
import shutil
import tracemalloc
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
        ({"tensors": {"file": TENSORS, "bytes": -1}}, "tensors.bytes is -1"),
        ({"tensors": {"file": TENSORS, "bytes": 2**60}}, "tensors.bytes is 1152"),
        ({"tensors": {"file": TENSORS, "bytes": 10}}, "more than the 10 it may have"),
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


@pytest.mark.parametrize(
    "name", ["../tensors.safetensors", "/etc/passwd", "./tensors.safetensors", "..", "", None]
)
def test_a_manifest_opens_no_file_of_its_own_choice(copy: Path, name: object) -> None:
    # What it names is there and is what it says: only its place is wrong.
    shutil.copy(copy / TENSORS, copy.parent / TENSORS)
    described = json.loads((copy / MANIFEST).read_text())["tensors"]
    edit(copy, tensors=described | {"file": name})
    with pytest.raises(BundleError, match=r"expected 'tensors\.safetensors'"):
        read_bundle(copy)


def test_a_pickle_in_the_place_of_the_tensors_is_never_opened(copy: Path, tmp_path: Path) -> None:
    class Hostile:
        def __reduce__(self) -> tuple[Any, ...]:
            return Path.touch, (tmp_path / "executed",)

    for blob in (pickle.dumps(Hostile()), _saved({"x": Hostile()}, tmp_path)):
        (copy / TENSORS).write_bytes(blob)
        described = json.loads((copy / MANIFEST).read_text())["tensors"]
        sha256 = hashlib.sha256(blob).hexdigest()
        edit(copy, tensors=described | {"sha256": sha256, "bytes": len(blob)})
        with pytest.raises(BundleError, match="not a safetensors file"):
            read_bundle(copy)
    assert not (tmp_path / "executed").exists()
    # It does bite where it is opened.
    pickle.loads(pickle.dumps(Hostile()))
    assert (tmp_path / "executed").exists()


def _saved(value: object, folder: Path) -> bytes:
    torch.save(value, folder / "checkpoint.pt")
    return (folder / "checkpoint.pt").read_bytes()


def test_a_manifest_without_end_is_not_read_whole(copy: Path) -> None:
    with (copy / MANIFEST).open("wb") as file:
        file.truncate(2**32)
    tracemalloc.start()
    try:
        with pytest.raises(BundleError, match="more than the 4194304 it may have"):
            read_bundle(copy)
        assert tracemalloc.get_traced_memory()[1] < 16 * 2**20
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize(
    ("name", "value", "match"),
    [
        ("passes", 1e308, "is no number to reckon with"),
        ("rejects", float("inf"), "Infinity"),
        ("passes", float("nan"), "NaN"),
        ("passes", 10**400, "is no number"),
        ("passes", 1e12, "expected a finite number of at most 1e"),
        ("passes", 1e6, "somebody changed them"),
        ("rejects", -1e6, "somebody changed them"),
        ("reach", 1e6, "outside its own interval"),
        ("reach", -1e6, "outside its own interval"),
        ("passes", None, "is None"),
        ("rejects", "4", "is '4'"),
        ("seen", True, "is True"),
        ("tail", [[1.0]], "limits.tail"),
        ("deviation", -1, "limits.deviation"),
        ("freedom", -1, "limits.freedom"),
        ("groups", 0, "expected counts"),
        ("frames", -5, "expected counts"),
    ],
)
def test_limits_that_teaching_cannot_have_found_are_refused(
    copy: Path, name: str, value: object, match: str
) -> None:
    point = json.loads((copy / MANIFEST).read_text())["point"]
    for by_mode in point["thresholds"].values():
        for threshold in by_mode.values():
            threshold[name] = value
    edit(copy, point=point)
    with pytest.raises(BundleError, match=match) as caught:
        Inspector.load(copy)
    assert len(str(caught.value)) < 400


@pytest.mark.parametrize("value", [1e308, 10**400, float("nan")])
def test_numbers_beyond_reckoning_are_refused_wherever_they_stand(copy: Path, value: float) -> None:
    manifest = json.loads((copy / MANIFEST).read_text())
    for place in ("levels", "point", "prepare", "settings"):
        edit(copy, **{place: _first_replaced(manifest[place], value)})
        with pytest.raises(BundleError, match="to reckon with"):
            Inspector.load(copy)
        edit(copy, **{place: manifest[place]})


def _first_replaced(values: dict[str, Any], value: float) -> dict[str, Any]:
    """The map with its first number replaced."""
    out = dict(values)
    for key, found in values.items():
        if isinstance(found, dict) and found:
            return {**out, key: _first_replaced(found, value)}
        if isinstance(found, int | float):
            return {**out, key: value}
    return out
