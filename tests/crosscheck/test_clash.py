"""A plant's own folders and other products' packages in the place of ours are named in one line."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
NAMES = ("schemas", "inference", "workers", "compose")
SCRIPT = "from crosscheck import Publisher, StationMap, Verdicts\nprint('went on')\n"


def python(*arguments: str, cwd: Path, path: tuple[Path, ...] = (ROOT,)) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(map(str, path))}
    command = [sys.executable, *arguments]
    return subprocess.run(command, cwd=cwd, env=environment, capture_output=True, text=True, timeout=120)


def script(folder: Path, text: str = SCRIPT) -> str:
    (folder / "plant.py").write_text(text)
    return "plant.py"


def package(folder: Path, name: str, text: str = "") -> Path:
    (folder / name).mkdir(parents=True)
    place = folder / name / "__init__.py"
    place.write_text(text)
    return place


def test_a_script_in_a_folder_of_its_own_finds_the_names(tmp_path: Path) -> None:
    done = python(script(tmp_path), cwd=tmp_path)
    assert (done.returncode, done.stdout, done.stderr) == (0, "went on\n", "")


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("kind", ["module", "package"])
def test_a_name_of_ours_beside_a_script_is_said_with_both_places_and_the_fix(
    tmp_path: Path, name: str, kind: str
) -> None:
    # What stands there is not run: it may be a whole server.
    if kind == "module":
        place = tmp_path / f"{name}.py"
        place.write_text("raise SystemExit('ran')")
    else:
        place = package(tmp_path, name, "raise SystemExit('ran')")
    done = python(script(tmp_path), cwd=tmp_path)
    last = done.stderr.splitlines()[-1]
    assert done.returncode == 1
    assert last.startswith("crosscheck.clash.Clash: ")
    assert f"{place} shadows Crosscheck's package {name} ({ROOT / name}): rename it" in last
    assert "python -P" in last


def test_python_p_leaves_the_scripts_folder_out_as_the_message_says(tmp_path: Path) -> None:
    package(tmp_path, "schemas")
    assert python("-P", script(tmp_path), cwd=tmp_path).stdout == "went on\n"


def test_a_module_that_was_imported_before_is_found(tmp_path: Path) -> None:
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "elsewhere" / "schemas.py").write_text("")
    text = "import sys\nsys.path.insert(0, 'elsewhere')\nimport schemas\ndel sys.path[0]\nimport crosscheck\n"
    done = python(script(tmp_path, text), cwd=tmp_path)
    assert f"{tmp_path / 'elsewhere' / 'schemas.py'} shadows" in done.stderr.splitlines()[-1]


def test_a_folder_without_init_that_ours_hides_is_told_and_the_import_goes_on(tmp_path: Path) -> None:
    (tmp_path / "schemas").mkdir()
    (tmp_path / "schemas" / "order.py").write_text("")
    done = python(script(tmp_path), cwd=tmp_path)
    assert done.stdout == "went on\n"
    assert f"{tmp_path / 'schemas'} has no __init__.py" in done.stderr
    assert "rename the folder" in done.stderr


def test_a_folder_of_data_is_nobodys_package(tmp_path: Path) -> None:
    (tmp_path / "schemas").mkdir()
    (tmp_path / "schemas" / "order.json").write_text("{}")
    assert python(script(tmp_path), cwd=tmp_path).stderr == ""


def distribution(folder: Path, name: str, packages: str) -> None:
    info = folder / f"{name}-0.30.0.dist-info"
    info.mkdir(parents=True)
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 0.30.0\n")
    (info / "top_level.txt").write_text(f"{packages}\n")


def test_another_product_that_is_installed_is_named_and_an_environment_advised(tmp_path: Path) -> None:
    site = tmp_path / "site-packages"
    place = package(site, "inference", "raise SystemExit('ran')")
    distribution(site, "inference-server", "inference")
    done = python(script(tmp_path), cwd=tmp_path, path=(site, ROOT))
    last = done.stderr.splitlines()[-1]
    assert f"{place} shadows Crosscheck's package inference" in last
    assert "it belongs to inference-server; install Crosscheck in an environment of its own" in last


def test_another_product_that_was_installed_over_ours_is_named(tmp_path: Path) -> None:
    site = tmp_path / "site-packages"
    for name in ("crosscheck", "schemas"):
        shutil.copytree(ROOT / name, site / name, ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("workers", "compose"):
        package(site, name, (ROOT / name / "__init__.py").read_text())
    place = package(site, "inference", "raise SystemExit('ran')")
    distribution(site, "inference-server", "inference")
    done = python(script(tmp_path), cwd=tmp_path, path=(site,))
    last = done.stderr.splitlines()[-1]
    assert f"{place} is not Crosscheck's: inference-server was installed over it" in last


@pytest.mark.parametrize("name", NAMES)
def test_the_command_says_it_in_one_line_and_ends_with_2(tmp_path: Path, name: str) -> None:
    place = package(tmp_path, name)
    # As pip writes the command, and started with a PYTHONPATH that leads to the plant's folder.
    bin_ = tmp_path / "bin"
    bin_.mkdir()
    (bin_ / "crosscheck").write_text("from crosscheck.__main__ import main\nmain()\n")
    for done in (
        python("bin/crosscheck", "--version", cwd=tmp_path, path=(tmp_path, ROOT)),
        python("-m", "crosscheck", "--version", cwd=tmp_path),
    ):
        assert done.returncode == 2
        assert done.stdout == ""
        assert len(done.stderr.splitlines()) == 1, done.stderr
        assert done.stderr.startswith(f"crosscheck: clash: {place} shadows Crosscheck's package {name}")
