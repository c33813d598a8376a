"""A taught product on disk: DIR/NAME/VERSION/manifest.json and tensors.safetensors. Data, never code."""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load, save

from inference.errors import BundleError
from schemas import strict_json
from schemas.regular import open_regular

SCHEMA = 2
MANIFEST = "manifest.json"
TENSORS = "tensors.safetensors"
# Bytes. A bundle of the reference profile has some hundred MiB of tensors.
MAX_MANIFEST = 4 * 2**20
MAX_TENSORS = 8 * 2**30
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}\Z")


@dataclass(frozen=True, slots=True)
class Bundle:
    """What a bundle folder holds, checked.

    Attributes:
        path: the folder.
        name, version: its last two path components, as the manifest has them.
        digest: sha256 (hex) of the manifest's bytes; the manifest holds that of the tensors.
    """

    path: Path
    name: str
    version: str
    digest: str
    manifest: Mapping[str, Any]
    tensors: Mapping[str, torch.Tensor]


def check_name(kind: str, name: str) -> str:
    """``name`` if it can be a folder of its own. Raises BundleError: separators, dots first, too long."""
    if not _NAME.match(name):
        raise BundleError(
            f"{kind} {name!r}: use 1 to 64 letters, digits, '.', '_' or '-', first a letter or digit"
        )
    return name


def next_version(out: Path, name: str) -> str:
    """The lowest whole number above every numbered version of that product."""
    folder = out / check_name("product", name)
    taken = [int(p.name) for p in folder.iterdir() if p.name.isdecimal()] if folder.is_dir() else []
    return str(max(taken, default=0) + 1)


def write_bundle(
    out: Path, name: str, version: str, manifest: Mapping[str, Any], tensors: Mapping[str, torch.Tensor]
) -> Path:
    """Write a bundle whole or not at all, and give its folder.

    Raises:
        BundleError: a bad name, a version that is there already, or a folder that cannot be written.
    """
    target = out / check_name("product", name) / check_name("version", version)
    if target.exists():
        raise BundleError(f"{target}: this version exists already; a bundle is never overwritten")
    blob = save({key: tensors[key].contiguous() for key in sorted(tensors)})
    described = {
        "schema": SCHEMA,
        "name": name,
        "version": version,
        **manifest,
        "tensors": {
            "file": TENSORS,
            "sha256": hashlib.sha256(blob).hexdigest(),
            "bytes": len(blob),
            "names": sorted(tensors),
        },
    }
    text = json.dumps(described, indent=2, sort_keys=True, allow_nan=False) + "\n"
    draft: Path | None = None
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        # Beside its target, so that the rename stays within one file system.
        draft = Path(tempfile.mkdtemp(prefix=".draft-", dir=target.parent))
        _write(draft / TENSORS, blob)
        _write(draft / MANIFEST, text.encode())
        draft.chmod(0o755)
        draft.rename(target)
    except OSError as error:
        if draft is not None:
            shutil.rmtree(draft, ignore_errors=True)
        raise BundleError(f"{target}: cannot be written: {error.strerror or error}") from error
    return target


def read_bundle(path: Path) -> Bundle:
    """Read and check a bundle folder.

    Raises:
        BundleError: missing, damaged, or of another schema.
    """
    manifest_path = path / MANIFEST
    raw = _read(manifest_path, MAX_MANIFEST)
    try:
        manifest = strict_json.loads(raw)
    except ValueError as error:
        raise BundleError(f"{manifest_path}: not JSON ({error}); teach the product again") from error
    if not isinstance(manifest, dict):
        raise BundleError(f"{manifest_path}: not a JSON object; teach the product again")
    if manifest.get("schema") != SCHEMA:
        raise BundleError(
            f"{manifest_path}: schema {manifest.get('schema')!r}, this version reads {SCHEMA}: "
            "teach the product again with this version"
        )
    name, version, described = (manifest.get(key) for key in ("name", "version", "tensors"))
    if not isinstance(name, str) or not isinstance(version, str) or not isinstance(described, dict):
        raise BundleError(f"{manifest_path}: name, version or tensors is missing")
    check_name("product", name)
    check_name("version", version)
    # The manifest names its tensor file only to be readable: no other name is ever opened.
    if described.get("file") != TENSORS:
        raise BundleError(f"{manifest_path}: tensors.file is {described.get('file')!r}, expected {TENSORS!r}")
    size = described.get("bytes")
    if type(size) is not int or not 0 <= size <= MAX_TENSORS:
        raise BundleError(f"{manifest_path}: tensors.bytes is {size!r}, expected 0 to {MAX_TENSORS}")
    blob = _read(path / TENSORS, size)
    digest = hashlib.sha256(blob).hexdigest()
    if digest != described.get("sha256"):
        raise BundleError(
            f"{path / TENSORS}: sha256 is {digest}, the manifest says {described.get('sha256')}: "
            "copy the bundle again or teach the product again"
        )
    try:
        tensors = load(blob)
    except (SafetensorError, ValueError, KeyError) as error:
        raise BundleError(f"{path / TENSORS}: not a safetensors file ({error})") from error
    if described.get("names") != sorted(tensors):
        named = described.get("names")
        known = set(map(str, named)) if isinstance(named, list) else set()
        raise BundleError(
            f"{path / TENSORS}: missing {sorted(known - tensors.keys())}, unexpected "
            f"{sorted(tensors.keys() - known)} by the manifest's names: copy the bundle again or teach again"
        )
    for key, tensor in tensors.items():
        if tensor.is_floating_point() and not bool(torch.isfinite(tensor).all()):
            raise BundleError(f"{path / TENSORS}: tensor {key!r} holds values that are not finite")
    return Bundle(path, name, version, hashlib.sha256(raw).hexdigest(), manifest, tensors)


def _read(path: Path, most: int) -> bytes:
    """The bytes of a file that has at most so many; a longer one is not read into memory."""
    try:
        with open_regular(path) as file:
            size = os.fstat(file.fileno()).st_size
            # Asked first: to read up to a limit makes room for all of it.
            found = file.read() if size <= most else None
    except OSError as error:
        raise BundleError(
            f"{path}: cannot be read ({error.strerror or error}); give the folder NAME/VERSION of teach"
        ) from error
    if found is None:
        raise BundleError(f"{path}: {size} bytes, more than the {most} it may have; copy the bundle again")
    return found


def _write(path: Path, data: bytes) -> None:
    with path.open("wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())
