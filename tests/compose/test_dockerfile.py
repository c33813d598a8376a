"""The Dockerfile: what it copies is there, it is linted, and the last stage runs as nobody in particular."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from tests.compose.containers import FOLDER, services
from workers.settings import PREFIX, Settings

ROOT = FOLDER.parent
DOCKERFILE = FOLDER / "Dockerfile"


def instructions() -> list[tuple[str, str]]:
    """(instruction, rest) in order, continued lines joined, comments left out."""
    lines = [line for line in DOCKERFILE.read_text().splitlines() if not line.startswith("#")]
    joined = re.sub(r"\\\n\s*", " ", "\n".join(lines))
    found = [line.strip().partition(" ") for line in joined.splitlines() if line.strip()]
    return [(name.upper(), rest.strip()) for name, _, rest in found]


def stages() -> list[list[tuple[str, str]]]:
    found: list[list[tuple[str, str]]] = []
    for name, rest in instructions():
        if name == "FROM":
            found.append([])
        if found:
            found[-1].append((name, rest))
    return found


def test_hadolint_finds_nothing() -> None:
    beside = Path(sys.executable).with_name("hadolint")
    linter = str(beside) if beside.exists() else shutil.which("hadolint")
    if linter is None:
        assert not os.environ.get("CI"), "hadolint is not installed: it comes with the dev extra"
        pytest.skip("NOT RUN: no hadolint on this machine, so the Dockerfile was not linted")
    done = subprocess.run([linter, str(DOCKERFILE)], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (0, "")


def test_what_it_copies_is_in_the_context() -> None:
    ignored = (ROOT / ".dockerignore").read_text().splitlines()
    kept = {line[1:].rstrip("/") for line in ignored if line.startswith("!")}
    assert "*" in ignored
    copied = [rest.split()[:-1] for name, rest in instructions() if name == "COPY" and "--from" not in rest]
    for source in (source for sources in copied for source in sources):
        assert (ROOT / source).exists(), source
        assert source in kept, f"{source} is kept out by .dockerignore"
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    # All that a wheel is made of.
    needed = {*project["tool"]["hatch"]["build"]["targets"]["wheel"]["packages"], "pyproject.toml"}
    needed |= {project["project"]["readme"], *project["project"]["license-files"]}
    assert needed == {source for sources in copied for source in sources}


def test_the_last_stage_is_pinned_unprivileged_and_has_no_build_tools() -> None:
    (_, start), *steps = stages()[-1]
    version = re.search(r"^ARG PYTHON=(\S+)", DOCKERFILE.read_text(), re.M)
    assert start == "python:${PYTHON}"
    assert version is not None
    assert re.fullmatch(r"3\.\d+\.\d+-slim-\w+", version.group(1))
    assert ("USER", "10001:10001") in steps
    assert ("STOPSIGNAL", "SIGTERM") in steps
    after = [name for name, _ in steps[steps.index(("USER", "10001:10001")) :]]
    assert not {"RUN", "COPY", "ADD"} & set(after), "something is done after the user was changed"
    assert all("apt-get" not in rest and "pip" not in rest for name, rest in steps if name == "RUN")
    assert any(name == "HEALTHCHECK" and "/health/ready" in rest for name, rest in steps)
    assert ("ENTRYPOINT", '["crosscheck"]') in steps


def test_its_variables_are_settings() -> None:
    text = " ".join(rest for name, rest in instructions() if name == "ENV")
    found = re.findall(rf"{PREFIX}(\w+)=", text)
    assert found
    assert {name.lower() for name in found} <= set(Settings.model_fields)


def test_its_extras_are_extras_of_the_project() -> None:
    extras = re.search(r"^ARG EXTRAS=(\S+)", DOCKERFILE.read_text(), re.M)
    assert extras is not None
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    assert set(extras.group(1).split(",")) <= set(project["project"]["optional-dependencies"])


def test_every_folder_that_a_volume_is_mounted_over_belongs_to_the_user() -> None:
    made = next(rest for name, rest in stages()[-1] if name == "RUN" and "install --directory" in rest)
    folders = set(re.findall(r"(/\w+)", made.rpartition("--group 10001")[2]))
    for service in services().values():
        if service.ours:
            assert {target for _, target, _ in service.mounts} <= folders, service.name


def test_it_has_the_version_of_the_project() -> None:
    version = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"]
    images = {service.raw["image"] for service in services().values() if service.ours}
    assert images == {f"crosscheck:{version}"}
