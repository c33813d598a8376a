"""Node with the packages of the examples and AsyncAPI's own parser, installed once for a user."""

from __future__ import annotations

import hashlib
import shutil
import subprocess
from functools import cache
from pathlib import Path

from compose.kafka import cache_folder

HERE = Path(__file__).parent
MISSING = "no Node with npm, or no npm registry: Node clients and AsyncAPI's parser were not run"


@cache
def modules() -> Path | None:
    """The folder ``node_modules``; None where Node or the registry is missing."""
    npm = shutil.which("npm")
    if npm is None or shutil.which("node") is None:
        return None
    wanted = (HERE / "package.json").read_bytes()
    folder = cache_folder() / f"node-{hashlib.sha256(wanted).hexdigest()[:12]}"
    if not (folder / "installed").exists():
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "package.json").write_bytes(wanted)
        command = [npm, "install", "--no-audit", "--no-fund", "--ignore-scripts"]
        done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False, timeout=280)
        if done.returncode != 0:
            return None
        (folder / "installed").touch()
    return folder / "node_modules"
