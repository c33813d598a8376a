"""The registry: a bundle is on this machine's disk whole, with the digest asked for, or not at all."""

from __future__ import annotations

import shutil
import tempfile
import time
from pathlib import Path
from typing import Protocol

from inference.bundle import MANIFEST, Bundle, check_name, read_bundle
from inference.errors import BundleError
from workers.address import bucket_of
from workers.durable import sync_folder
from workers.errors import RegistryError, SettingsError
from workers.registry.entry import Entry, digest_of, folder_entries, products_in, version_order, versions_in

_DRAFT = ".fetch-"
_LEFT_OVER_S = 3600.0
"""A draft so old belongs to nobody any more: its process was killed."""


class Store(Protocol):
    """A place that bundles are fetched from.

    Every method raises RegistryError while it is away, and SettingsError where it refuses us.
    """

    where: str
    """The place, for messages; never with a secret."""

    def entries(self, *, digests: bool = False) -> list[Entry]:
        """Every bundle in it that has its manifest; with ``digests`` each manifest is read."""
        ...

    def download(self, product: str, version: str, folder: Path) -> None:
        """Write the files of a bundle into an empty folder. Raises BundleError: not there, or not one."""
        ...

    def upload(self, bundle: Path, product: str, version: str) -> None:
        """Put a bundle there, its manifest last. Raises BundleError: that version is there already."""
        ...

    def abandon(self) -> None:
        """End a download that runs on another thread, as a RegistryError there; the process is to end."""
        ...


class Registry:
    """The models folder MODELS/PRODUCT/VERSION, and the store behind it, if there is one.

    Threads may share it: what is fetched takes its place by one rename.
    """

    def __init__(self, folder: Path, store: Store | None = None) -> None:
        self.folder = folder
        self.store = store

    def entries(self, *, digests: bool = False) -> list[Entry]:
        """Every bundle, by product and version; one that is in both places is the folder's.

        Args:
            digests: read the manifests in the store too; without it entries of the store have no digest.

        Raises:
            RegistryError: the store is away.
        """
        stored = [] if self.store is None else self.store.entries(digests=digests)
        found = {(e.product, e.version): e for e in (*stored, *folder_entries(self.folder))}
        return sorted(found.values(), key=lambda e: (e.product, version_order(e.version)))

    def here(self) -> dict[str, str]:
        """The highest version of each product in the folder."""
        found = {path.name: versions_in(path) for path in products_in(self.folder)}
        return {product: versions[-1].name for product, versions in found.items() if versions}

    def highest(self) -> dict[str, str]:
        """The highest version of each product, in the folder or in the store.

        Raises:
            RegistryError: the store is away.
        """
        return {entry.product: entry.version for entry in self.entries()}

    def fetch(self, product: str, version: str, digest: str | None = None) -> Path:
        """The folder of a bundle on this machine, fetched from the store where it is not there yet.

        Args:
            digest: of the manifest that is meant; None takes what has that name.

        Raises:
            BundleError: it is nowhere, damaged, under another's name, or has another digest.
            RegistryError: the store is away, or the disk takes nothing; trying again may help.
        """
        path = self.folder / check_name("product", product) / check_name("version", version)
        if not (path / MANIFEST).is_file():
            self._download(path, product, version, digest)
        found = digest_of(path)
        if digest is not None and found != digest:
            raise BundleError(
                f"{path}: its manifest has the digest {found[:12]}, asked for is {digest[:12]}: two bundles"
                f" have one name; remove this folder or teach another version"
            )
        return path

    def check(self, product: str, version: str) -> Bundle:
        """Read and check a bundle wherever it is, and leave nothing behind.

        Raises:
            BundleError: it is nowhere, damaged, or under another's name.
            RegistryError: the store is away.
        """
        path = self.folder / check_name("product", product) / check_name("version", version)
        if self.store is None or (path / MANIFEST).is_file():
            bundle = read_bundle(self.fetch(product, version))
            if (bundle.name, bundle.version) != (product, version):
                raise BundleError(
                    f"{path}: its manifest says {bundle.name}/{bundle.version}; teach {product}"
                )
            return bundle
        with tempfile.TemporaryDirectory(prefix="crosscheck-") as draft:
            self.store.download(product, version, Path(draft))
            return self._check(Path(draft), product, version, None)

    def close(self) -> None:
        """End a download that runs: nobody waits for it any more. May be called from any thread."""
        if self.store is not None:
            self.store.abandon()

    def _download(self, path: Path, product: str, version: str, digest: str | None) -> None:
        if self.store is None:
            raise BundleError(
                f"{path}: there is no such bundle; copy it there, or name the store that has it with"
                " CROSSCHECK_MODEL_STORE"
            )
        draft: Path | None = None
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            _sweep(path.parent)
            # Beside its target, so that the rename stays within one file system.
            draft = Path(tempfile.mkdtemp(prefix=f"{_DRAFT}{version}-", dir=path.parent))
            self.store.download(product, version, draft)
            self._check(draft, product, version, digest)
            draft.chmod(0o755)
            try:
                draft.rename(path)
            except OSError:
                if not (path / MANIFEST).is_file():
                    raise
                # Another worker with the same folder was faster.
            sync_folder(path.parent)
        except OSError as error:
            raise RegistryError(
                f"{path}: cannot be written ({error.strerror or error}); make room, or name another folder"
                " with CROSSCHECK_MODELS"
            ) from None
        finally:
            if draft is not None:
                shutil.rmtree(draft, ignore_errors=True)

    def _check(self, draft: Path, product: str, version: str, digest: str | None) -> Bundle:
        where = f"{'' if self.store is None else self.store.where}/{product}/{version}"
        bundle = read_bundle(draft)
        if (bundle.name, bundle.version) != (product, version):
            raise BundleError(f"{where}: its manifest says {bundle.name}/{bundle.version}; push it as that")
        if digest is not None and bundle.digest != digest:
            raise BundleError(
                f"{where}: its manifest has the digest {bundle.digest[:12]}, asked for is {digest[:12]}:"
                " two bundles have one name; teach another version"
            )
        return bundle


def _sweep(folder: Path) -> None:
    """Remove what a killed process had begun to fetch."""
    for draft in folder.glob(f"{_DRAFT}*"):
        try:
            old = time.time() - draft.stat().st_mtime > _LEFT_OVER_S
        except OSError:
            continue
        if old:
            shutil.rmtree(draft, ignore_errors=True)


def open_registry(folder: Path, store: str | None) -> Registry:
    """The registry of the settings ``models`` and ``model_store``; asks nobody yet.

    Raises:
        SettingsError: a folder without bundles and no store, a store that is no ``s3://BUCKET/PREFIX``, or
            boto3 is missing.
    """
    if store is None:
        if not folder.is_dir():
            raise SettingsError(
                f"models folder {folder}: not there; teach a product or set CROSSCHECK_MODELS"
            )
        registry = Registry(folder)
        if not registry.here():
            raise SettingsError(
                f"models folder {folder}: no PRODUCT/VERSION/manifest.json in it; run `crosscheck teach`"
            )
        return registry
    bucket, prefix = bucket_of("CROSSCHECK_MODEL_STORE", store)
    from workers.registry.s3 import S3Store

    return Registry(folder, S3Store(bucket, prefix))
