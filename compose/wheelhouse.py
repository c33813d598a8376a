"""Collect every wheel that an installation needs into one folder, for a machine without internet.

    python compose/wheelhouse.py --to wheelhouse [--extras modbus,archive] [--torch FILE|FOLDER|URL]

The folder holds the wheels, ``manifest.json`` (their SHA-256, the Python and the platform they are for) and
``install.sh``. It needs nothing but Python's own library and pip, so that it runs before anything of ours is
installed.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import platform
import shutil
import subprocess
import sys
import sysconfig
import tomllib
from collections.abc import Sequence
from pathlib import Path

MANIFEST = "manifest.json"
INSTALLER = Path(__file__).with_name("wheelhouse_install.py")
PROJECT = "crosscheck"
SHELL = """#!/bin/sh
# Installs Crosscheck from the wheels beside this file: ./install.sh [--venv DIR] [--extras a,b]
here=$(dirname "$0")
for python in "$PYTHON" python{version} python3; do
    [ -n "$python" ] && command -v "$python" >/dev/null 2>&1 && exec "$python" "$here/install.py" "$@"
done
echo "Python {version} is not on the PATH: install it, or run PYTHON=/path/to/python{version} $0" >&2
exit 2
"""


class WheelhouseError(Exception):
    """The house could not be built; the text says what to do."""


def sha256(path: Path) -> str:
    """The SHA-256 of a file, as hexadecimal digits."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def collect(
    house: Path,
    *,
    project: Path,
    extras: Sequence[str] = (),
    torch: str | None = None,
    dependencies: bool = True,
    isolated: bool = True,
) -> dict[str, object]:
    """Fill the folder and return its manifest.

    Args:
        house: the folder; what an earlier run left in it is replaced.
        project: the folder of pyproject.toml.
        extras: of the project.
        torch: a torch wheel, a folder with one, or the URL of an index of them; None: the registry's, which
            on Linux brings CUDA's libraries with it.
        dependencies: False leaves out everything but the project's own wheel.
        isolated: False builds with the hatchling that is installed, without asking the registry for it.

    Raises:
        WheelhouseError: pip failed, there is no such extra, or ``torch`` names nothing.
    """
    known = tomllib.loads((project / "pyproject.toml").read_text())["project"]["optional-dependencies"]
    unknown = [extra for extra in extras if extra not in known]
    if unknown:
        raise WheelhouseError(f"EXTRAS: there is no {unknown[0]!r}; known are {', '.join(known)}")
    if house.exists():
        foreign = [
            item.name
            for item in house.iterdir()
            if item.suffix != ".whl" and item.name not in (MANIFEST, "install.py", "install.sh")
        ]
        if foreign:
            raise WheelhouseError(
                f"{house}: holds {foreign[0]!r}, which is no wheel; name a folder of its own"
            )
        shutil.rmtree(house)
    house.mkdir(parents=True)
    given = [] if torch is None or not dependencies else _torch(torch, house)
    build = ["--no-deps", "--wheel-dir", str(house), str(project)]
    _pip("wheel", *([] if isolated else ["--no-build-isolation"]), *build)
    own = _only(house, f"{PROJECT}-*.whl")
    if dependencies:
        wanted = [f"{own}[{','.join(extras)}]" if extras else str(own)]
        # Named beside the project: pip then takes these very wheels, and what they ask for.
        wanted += map(str, given)
        _pip("wheel", "--wheel-dir", str(house), "--find-links", str(house), *wanted)
    version = f"{sys.version_info.major}.{sys.version_info.minor}"
    wheels = sorted(house.glob("*.whl"))
    manifest: dict[str, object] = {
        "v": 1,
        "project": PROJECT,
        "version": own.name.split("-")[1],
        "extras": sorted(extras),
        "python": version,
        "platform": sysconfig.get_platform(),
        "libc": " ".join(platform.libc_ver()).strip(),
        "complete": dependencies,
        "files": {wheel.name: sha256(wheel) for wheel in wheels},
    }
    (house / MANIFEST).write_text(json.dumps(manifest, indent=2) + "\n")
    shutil.copyfile(INSTALLER, house / "install.py")
    shell = house / "install.sh"
    shell.write_text(SHELL.replace("{version}", version))
    shell.chmod(0o755)
    return manifest


def _torch(given: str, house: Path) -> list[Path]:
    """Copies into the house what TORCH names: torch, and torchvision where it is there too."""
    if "://" in given:
        # Both of one index: the registry's torchvision is built for its own torch.
        _pip("download", "--no-deps", "--index-url", given, "--dest", str(house), "torch", "torchvision")
        return sorted(house.glob("torch*.whl"))
    path = Path(given)
    found = sorted(path.glob("torch*.whl")) if path.is_dir() else [path]
    if not (found and all(each.is_file() and each.match("torch*.whl") for each in found)):
        raise WheelhouseError(
            f"TORCH={given}: no torch wheel; name a file torch-....whl, a folder with one, or an index URL"
        )
    return [Path(shutil.copy2(each, house)) for each in found]


def _only(folder: Path, pattern: str) -> Path:
    found = sorted(folder.glob(pattern))
    if len(found) != 1:
        names = ", ".join(path.name for path in found) or "none"
        raise WheelhouseError(f"{folder}: expected one {pattern}, found {names}")
    return found[0]


def _pip(*arguments: str) -> None:
    command = [sys.executable, "-m", "pip", "--disable-pip-version-check", "--quiet", *arguments]
    if subprocess.run(command, check=False).returncode:
        raise WheelhouseError(f"pip {arguments[0]} failed; what it said stands above")


def main(arguments: Sequence[str] | None = None) -> int:
    """The command line; 0, or 2 with one line on standard error."""
    options = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    options.add_argument("--to", type=Path, default=Path("wheelhouse"), help="the folder (wheelhouse)")
    options.add_argument("--extras", default="", help="of the project, separated by commas")
    options.add_argument("--torch", help="a torch wheel, a folder with one, or an index of them")
    given = options.parse_args(arguments)
    try:
        manifest = collect(
            given.to,
            project=Path(__file__).resolve().parents[1],
            extras=[extra.strip() for extra in given.extras.split(",") if extra.strip()],
            torch=given.torch or None,
        )
    except (WheelhouseError, OSError) as error:
        print(f"wheelhouse: {error}", file=sys.stderr)
        return 2
    wheels = sorted(given.to.glob("*.whl"))
    megabytes = sum(wheel.stat().st_size for wheel in wheels) / 1e6
    print(
        f"{given.to}: {len(wheels)} wheels, {megabytes:,.0f} MB, for Python {manifest['python']} on"
        f" {manifest['platform']}; there: {given.to}/install.sh"
    )
    return 0


if __name__ == "__main__":
    sys.exit(main())
