"""Install from the wheels beside this file, without any network: ./install.sh [--venv DIR] [--extras a,b].

A copy of this file lies in every wheelhouse as ``install.py``. It needs Python's own library alone.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import platform
import subprocess
import sys
import sysconfig
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent


class InstallError(Exception):
    """It cannot be installed from here; the text says why, and what to do."""


def check(house: Path) -> dict[str, Any]:
    """The manifest, once this Python, this machine and every file fit it. Raises InstallError."""
    try:
        manifest: dict[str, Any] = json.loads((house / "manifest.json").read_text())
        files: dict[str, str] = manifest["files"]
        version, wanted, libc = manifest["python"], manifest["platform"], manifest["libc"]
    except FileNotFoundError:
        raise InstallError(
            f"{house}: no manifest.json; is this a folder made by `make wheelhouse`?"
        ) from None
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise InstallError(
            f"{house}/manifest.json: not readable ({error!r}); copy the folder again"
        ) from None
    here = f"{sys.version_info.major}.{sys.version_info.minor}"
    if here != version:
        raise InstallError(
            f"these wheels are for Python {version}, this is {here} ({sys.executable}): run it with"
            f" PYTHON=python{version}, or make the wheelhouse with Python {here}"
        )
    if sysconfig.get_platform() != wanted:
        raise InstallError(
            f"these wheels are for {wanted}, this machine is {sysconfig.get_platform()}: make the wheelhouse"
            " on a machine like this one"
        )
    for name, digest in files.items():
        path = house / name
        if not path.is_file():
            raise InstallError(f"{name} is missing: copy the whole folder again ({len(files)} wheels)")
        with path.open("rb") as file:
            found = hashlib.file_digest(file, "sha256").hexdigest()
        if found != digest:
            raise InstallError(f"{name} is not the file that was collected (SHA-256): copy it again")
    strange = sorted(path.name for path in house.glob("*.whl") if path.name not in files)
    if strange:
        raise InstallError(f"{strange[0]} is not in manifest.json: remove it, nobody knows where it is from")
    if libc != " ".join(platform.libc_ver()).strip():
        print(f"note: collected with {libc or 'another C library'}, here is {' '.join(platform.libc_ver())}")
    return manifest


def install(house: Path, venv: Path, extras: str | None) -> str:
    """Make the environment where there is none, and install into it; the program's path.

    Raises:
        InstallError: a check failed, or pip did.
    """
    manifest = check(house)
    python = venv / "bin" / "python"
    if not python.exists():
        made = subprocess.run([sys.executable, "-m", "venv", str(venv)], check=False)
        if made.returncode:
            raise InstallError(f"{venv}: could not be made; on Debian install python3-venv first")
    chosen = ",".join(manifest["extras"]) if extras is None else extras
    project = f"{manifest['project']}[{chosen}]" if chosen else manifest["project"]
    pip = [str(python), "-m", "pip", "--isolated", "--disable-pip-version-check", "install", "--quiet"]
    pip += ["--no-index", "--find-links", str(house)]
    # A house without the dependencies is for an environment that has them.
    calls = [[*pip, *([] if manifest["complete"] else ["--no-deps"])]]
    if _has(python, manifest):
        # pip leaves a version alone that is there already, whatever is in it.
        calls.append([*pip, "--force-reinstall", "--no-deps"])
    for call in calls:
        if subprocess.run([*call, f"{project}=={manifest['version']}"], check=False).returncode:
            raise InstallError(
                f"pip found no wheel that fits {project}: collected were the extras"
                f" {','.join(manifest['extras']) or '(none)'}, for Python {manifest['python']} on"
                f" {manifest['platform']} with {manifest['libc']}"
            )
    return str(venv / "bin" / "crosscheck")


def _has(python: Path, manifest: dict[str, Any]) -> bool:
    look = f"import importlib.metadata as m; print(m.version({manifest['project']!r}))"
    found = subprocess.run([str(python), "-c", look], capture_output=True, text=True, check=False)
    return found.stdout.strip() == str(manifest["version"])


def main() -> int:
    """The command line; 0, or 2 with one line on standard error."""
    options = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    options.add_argument("--venv", type=Path, default=Path(".venv"), help="where to install (.venv)")
    options.add_argument("--extras", help="of those that were collected; all of them where not given")
    given = options.parse_args()
    try:
        program = install(HERE, given.venv, given.extras)
    except (InstallError, OSError) as error:
        print(f"install: {error}", file=sys.stderr)
        return 2
    print(f"installed; begin with {os.path.relpath(program)} --help", flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
