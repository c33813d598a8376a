"""An installation from a folder, without a network: the real wheel, in an environment of its own."""

from __future__ import annotations

import json
import os
import shutil
import site
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from compose import wheelhouse_install
from compose.wheelhouse import WheelhouseError, collect
from compose.wheelhouse_install import InstallError, check

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def collected(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The house of the project's own wheel, built as a release is."""
    house = tmp_path_factory.mktemp("site") / "house"
    collect(house, project=ROOT, dependencies=False, isolated=False)
    return house


@pytest.fixture
def house(collected: Path, tmp_path: Path) -> Path:
    """A copy to spoil."""
    return shutil.copytree(collected, tmp_path / "house")


def packaged(house: Path) -> list[str]:
    with zipfile.ZipFile(next(house.glob("crosscheck-*.whl"))) as wheel:
        return wheel.namelist()


def tracked(*folders: str) -> list[str]:
    return [
        str(path.relative_to(ROOT))
        for folder in folders
        for path in (ROOT / folder).rglob("*")
        if path.is_file() and "__pycache__" not in path.parts and not path.name.startswith(".")
    ]


def test_the_wheel_carries_every_file_of_the_packages_that_a_process_reads(collected: Path) -> None:
    names = set(packaged(collected))
    wanted = tracked("crosscheck", "schemas", "inference", "workers", "compose")
    assert set(wanted) <= names
    assert any(name.startswith("workers/board/static/") for name in names)
    assert {"compose/compose.yaml", "compose/prometheus/alerts.yml"} <= names
    assert not any(name.startswith(("tests/", "docs/")) for name in names)


def test_the_manifest_says_what_for_and_has_the_sum_of_every_wheel(collected: Path) -> None:
    manifest = json.loads((collected / "manifest.json").read_text())
    assert manifest["python"] == f"{sys.version_info.major}.{sys.version_info.minor}"
    assert set(manifest["files"]) == {wheel.name for wheel in collected.glob("*.whl")}
    assert check(collected) == manifest


def test_the_folders_own_script_installs_a_program_that_runs(house: Path, tmp_path: Path) -> None:
    venv = tmp_path / "venv"
    environment = {
        "PATH": os.environ["PATH"],
        "PYTHON": sys.executable,
        # Nobody answers there: a step that asked a registry would fail.
        "PIP_INDEX_URL": "http://127.0.0.1:9/simple",
        "HTTPS_PROXY": "http://127.0.0.1:9",
    }
    command = [str(house / "install.sh"), "--venv", str(venv)]
    for _ in range(2):  # a second time over the first, as for an upgrade
        done = subprocess.run(
            command, env=environment, cwd=tmp_path, capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, done.stderr
        assert "installed; begin with venv/bin/crosscheck --help" in done.stdout
    # What the wheel depends on comes from here: it is several gigabytes.
    packages = next(venv.glob("lib/python*/site-packages"))
    (packages / "rest.pth").write_text("\n".join(site.getsitepackages()))
    look = "import workers.board, compose.services, json; print(workers.__file__)"
    run = subprocess.run(
        # Isolated: not from a PYTHONPATH that whoever runs the tests has set.
        [str(venv / "bin" / "python"), "-I", "-c", look],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=True,
    )
    assert run.stdout.startswith(str(packages))
    version = subprocess.run(
        [str(venv / "bin" / "crosscheck"), "--version"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=True,
    )
    assert version.stdout.startswith("crosscheck ")


def test_a_missing_wheel_is_named(house: Path) -> None:
    next(house.glob("*.whl")).unlink()
    with pytest.raises(InstallError, match=r"crosscheck-.*whl is missing: copy the whole folder again"):
        check(house)


def test_a_wheel_that_was_changed_on_the_way_is_refused(house: Path) -> None:
    with next(house.glob("*.whl")).open("ab") as file:
        file.write(b"x")
    with pytest.raises(InstallError, match="not the file that was collected"):
        check(house)


def test_a_wheel_that_nobody_collected_is_refused(house: Path) -> None:
    (house / "numpy-99-py3-none-any.whl").write_bytes(b"")
    with pytest.raises(InstallError, match=r"numpy-99.* is not in manifest.json: remove it"):
        check(house)


@pytest.mark.parametrize(
    ("field", "value", "said"),
    [
        ("python", "3.99", r"wheels are for Python 3.99, this is 3\.\d+ .*PYTHON=python3.99"),
        ("platform", "win-arm64", "wheels are for win-arm64, this machine is linux"),
    ],
)
def test_another_python_or_machine_is_said_before_pip_is_asked(
    house: Path, field: str, value: str, said: str
) -> None:
    path = house / "manifest.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {field: value}))
    with pytest.raises(InstallError, match=said):
        check(house)


@pytest.mark.parametrize("content", [None, "{", "{}"])
def test_a_folder_that_is_no_wheelhouse_is_one_line_and_exit_code_2(
    house: Path, content: str | None, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    manifest = house / "manifest.json"
    manifest.unlink()
    if content is not None:
        manifest.write_text(content)
    monkeypatch.setattr(wheelhouse_install, "HERE", house)
    monkeypatch.setattr(sys, "argv", ["install.py"])
    assert wheelhouse_install.main() == 2
    said = capsys.readouterr().err
    assert said.startswith("install: ")
    assert said.count("\n") == 1


def test_a_folder_with_other_things_in_it_is_not_emptied(tmp_path: Path) -> None:
    (tmp_path / "letters.txt").write_text("keep me")
    with pytest.raises(WheelhouseError, match=r"letters.txt"):
        collect(tmp_path, project=ROOT, dependencies=False, isolated=False)
    assert (tmp_path / "letters.txt").exists()


@pytest.mark.parametrize("torch", ["nowhere", "pyproject.toml"])
def test_a_torch_that_is_no_wheel_is_refused(tmp_path: Path, torch: str) -> None:
    with pytest.raises(WheelhouseError, match="no torch wheel"):
        collect(tmp_path / "house", project=ROOT, torch=torch, isolated=False)


def test_an_extra_that_is_not_there_is_refused_before_anything_is_fetched(tmp_path: Path) -> None:
    with pytest.raises(WheelhouseError, match=r"no 'modbuss'; known are .*modbus"):
        collect(tmp_path / "house", project=ROOT, extras=["modbus", "modbuss"], isolated=False)
    assert not (tmp_path / "house").exists()


def test_make_says_where_a_wheelhouse_was_looked_for(tmp_path: Path) -> None:
    shutil.copy(ROOT / "Makefile", tmp_path)
    done = subprocess.run(
        ["make", "install-offline", "WHEELHOUSE=usb"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 2
    assert "usb: no wheelhouse" in done.stdout
