"""Leave to pass parts on one sensor: given on evidence, tied to one manifest, refused when damaged."""

from __future__ import annotations

import json
import threading
from pathlib import Path
from typing import Any

import pytest

from inference.bundle import next_version, read_bundle, write_bundle
from inference.errors import BundleError, GrantRefused
from inference.grants import GRANTS, Grant, decide, read_grants, revoke_grant, write_grant
from schemas.verdict import Mode

DIGEST = "a" * 64


def grant(mode: Mode = Mode.RGB, **changes: Any) -> Grant:
    values: dict[str, Any] = {
        "miss_rate": 0.01,
        "interval": (0.002, 0.04),
        "defects": 200,
        "dataset": "parts",
        "threshold": 3.5,
        "max_miss": 0.05,
    }
    return Grant(mode=mode, **(values | changes))


def asked(**changes: Any) -> Grant:
    values: dict[str, Any] = {
        "miss_rate": 0.01,
        "interval": (0.002, 0.04),
        "defects": 200,
        "dataset": "parts",
        "threshold": 3.5,
        "max_miss": 0.05,
    }
    mode = changes.pop("mode", Mode.RGB)
    return decide(mode, **(values | changes))


def test_a_grant_reads_back_as_it_was_written(tmp_path: Path) -> None:
    assert read_grants(tmp_path, DIGEST) == {}
    path = write_grant(tmp_path, DIGEST, grant())
    assert path == tmp_path / GRANTS
    write_grant(tmp_path, DIGEST, grant(Mode.DEPTH, defects=7))
    write_grant(tmp_path, DIGEST, grant(miss_rate=0.03))
    found = read_grants(tmp_path, DIGEST)
    assert found == {Mode.RGB: grant(miss_rate=0.03), Mode.DEPTH: grant(Mode.DEPTH, defects=7)}
    assert [one.name for one in tmp_path.iterdir()] == [GRANTS]  # no draft is left behind


def test_revoking_takes_one_mode_and_leaves_the_other(tmp_path: Path) -> None:
    write_grant(tmp_path, DIGEST, grant())
    write_grant(tmp_path, DIGEST, grant(Mode.DEPTH))
    assert revoke_grant(tmp_path, DIGEST, Mode.RGB)
    assert set(read_grants(tmp_path, DIGEST)) == {Mode.DEPTH}
    assert not revoke_grant(tmp_path, DIGEST, Mode.RGB)


def test_the_upper_end_of_the_interval_decides() -> None:
    assert asked() == grant()
    assert asked(interval=(0.0, 0.05)).max_miss == 0.05
    with pytest.raises(GrantRefused, match=r"missed 0\.0 % of 9 defects, up to 29\.9 %.*more labelled"):
        asked(miss_rate=0.0, interval=(0.0, 0.299), defects=9)
    with pytest.raises(GrantRefused, match=r"missed 10\.0 %.*5\.0 % is accepted$"):
        asked(miss_rate=0.1, interval=(0.07, 0.14))


@pytest.mark.parametrize(
    "changes",
    [
        {"mode": Mode.FUSED},
        {"miss_rate": None},
        {"interval": None},
        {"threshold": None},
        {"defects": 0},
        {"max_miss": 0.0},
        {"max_miss": 1.0},
        {"max_miss": float("nan")},
    ],
)
def test_without_evidence_there_is_no_grant(changes: dict[str, Any]) -> None:
    with pytest.raises(GrantRefused):
        asked(**changes)


def test_a_file_written_for_another_manifest_is_refused_with_the_fix(tmp_path: Path) -> None:
    write_grant(tmp_path, DIGEST, grant())
    for call in (
        lambda: read_grants(tmp_path, "b" * 64),
        lambda: write_grant(tmp_path, "b" * 64, grant()),
        lambda: revoke_grant(tmp_path, "b" * 64, Mode.RGB),
    ):
        with pytest.raises(BundleError, match=r"another manifest.*delete the file and grant again"):
            call()


def _damage(text: str) -> list[str]:
    value = json.loads(text)
    out = ["", "{", "[]", "null", text[:-40], "[" * 100_000]

    def changed(**fields: Any) -> str:
        row = value["grants"]["RGB"] | fields
        return json.dumps(value | {"grants": {"RGB": row}})

    out += [json.dumps(value | {"schema": 2}), json.dumps(value | {"grants": []})]
    out += [json.dumps(value | {"grants": {name: value["grants"]["RGB"]}}) for name in ("FUSED", "X", "rgb")]
    out += [json.dumps(value | {"grants": {"RGB": True}})]
    out += [changed(interval=[0.1]), changed(interval=["a", 1]), changed(miss_rate=None), changed(defects=0)]
    out += [changed(defects=True), changed(dataset=3), changed(threshold="nan"), changed(miss_rate=0.2)]
    out += [changed(interval=[0.0, 0.4]), changed(max_miss=5.0), text.replace("3.5", "NaN")]
    return out


def test_every_kind_of_damage_is_refused_by_name(tmp_path: Path) -> None:
    path = write_grant(tmp_path, DIGEST, grant())
    for text in _damage(path.read_text()):
        path.write_text(text)
        with pytest.raises(BundleError, match=r"grants\.json: .*; delete the file and grant again"):
            read_grants(tmp_path, DIGEST)
    path.write_bytes(b" " * (2**20 + 1))
    with pytest.raises(BundleError, match="more than"):
        read_grants(tmp_path, DIGEST)
    path.unlink()
    path.mkdir()
    with pytest.raises(BundleError, match="cannot be read"):
        read_grants(tmp_path, DIGEST)


def test_a_reader_meanwhile_sees_a_whole_file(tmp_path: Path) -> None:
    write_grant(tmp_path, DIGEST, grant())
    done, wrong = threading.Event(), []

    def read() -> None:
        while not done.is_set():
            try:
                if Mode.RGB not in read_grants(tmp_path, DIGEST):
                    wrong.append("no grant")
            except BundleError as error:
                wrong.append(str(error))

    reader = threading.Thread(target=read)
    reader.start()
    for number in range(1, 60):
        write_grant(tmp_path, DIGEST, grant(defects=number))
    done.set()
    reader.join()
    assert wrong == []


def test_teaching_again_leaves_the_grant_with_the_old_version(tmp_path: Path) -> None:
    manifest: dict[str, Any] = {"thresholds": {}}
    first = write_bundle(tmp_path, "cap", "1", manifest, {})
    write_grant(first, read_bundle(first).digest, grant())
    assert Mode.RGB in read_grants(first, read_bundle(first).digest)
    second = write_bundle(tmp_path, "cap", next_version(tmp_path, "cap"), manifest, {})
    assert second.name == "2"
    digest = read_bundle(second).digest
    assert read_grants(second, digest) == {}
    # Not even a copy of the file carries it over.
    (second / GRANTS).write_bytes((first / GRANTS).read_bytes())
    with pytest.raises(BundleError, match="another manifest"):
        read_grants(second, digest)
