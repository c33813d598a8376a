"""One bundle as a list shows it: whose, which version, which digest, since when."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from inference.bundle import MANIFEST, MAX_MANIFEST
from inference.errors import BundleError
from schemas.regular import open_regular


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """A bundle that is there.

    Attributes:
        product, version: its two names.
        digest: sha256 (hex) of its manifest; None where only reading the whole object would tell.
        at: when it was written, seconds since the epoch.
        where: "folder" or "store".
    """

    product: str
    version: str
    digest: str | None
    at: float
    where: str


def version_order(version: str) -> tuple[int, str]:
    """Versions sorted by this: numbers by their value, after everything that is no number."""
    return (int(version) if version.isdecimal() else -1, version)


def versions_in(product: Path) -> list[Path]:
    """The bundles in a product's folder, lowest version first; drafts begin with a dot and are none."""
    found = [p for p in product.iterdir() if not p.name.startswith(".") and (p / MANIFEST).is_file()]
    return sorted(found, key=lambda path: version_order(path.name))


def products_in(root: Path) -> list[Path]:
    """The products' folders in a models folder, by name; empty where there is no such folder."""
    if not root.is_dir():
        return []
    return sorted(path for path in root.iterdir() if path.is_dir() and not path.name.startswith("."))


def digest_of(bundle: Path) -> str:
    """The sha256 (hex) of a bundle's manifest, which holds the digest of its tensors.

    Raises:
        BundleError: there is no manifest, or one too large to be ours.
    """
    path = bundle / MANIFEST
    try:
        with open_regular(path) as file:
            raw = file.read(MAX_MANIFEST + 1)
    except OSError as error:
        raise BundleError(f"{path}: cannot be read ({error.strerror or error})") from None
    if len(raw) > MAX_MANIFEST:
        raise BundleError(f"{path}: more than the {MAX_MANIFEST} bytes that a manifest may have")
    return hashlib.sha256(raw).hexdigest()


def folder_entries(root: Path) -> Iterator[Entry]:
    """Every bundle in a models folder."""
    for product in products_in(root):
        for path in versions_in(product):
            yield Entry(
                product=product.name,
                version=path.name,
                digest=digest_of(path),
                at=(path / MANIFEST).stat().st_mtime,
                where="folder",
            )
