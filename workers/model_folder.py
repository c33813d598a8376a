"""Each product's highest version in a folder of bundles: what judges where nobody has activated anything."""

from __future__ import annotations

from pathlib import Path

from inference.profiles.runtime import Runtime
from workers.errors import SettingsError
from workers.registry.entry import products_in, versions_in
from workers.serving.loading import ready
from workers.serving.served import ServedModels


def latest_bundle(folder: Path) -> Path | None:
    """The highest version below a product's folder, or None."""
    return next(reversed(versions_in(folder)), None)


class ModelFolder(ServedModels):
    """MODELS/PRODUCT/VERSION: every product's latest bundle, loaded and warmed at start.

    Raises:
        SettingsError: the folder is missing or holds no bundle.
        BundleError: a bundle is refused, or lies under another product's name.
    """

    def __init__(
        self, root: Path, *, device: str = "cpu", parallel: int = 1, runtime: Runtime | None = None
    ) -> None:
        if not root.is_dir():
            raise SettingsError(f"models folder {root}: not there; teach a product or set CROSSCHECK_MODELS")
        latest = [bundle for product in products_in(root) if (bundle := latest_bundle(product)) is not None]
        if not latest:
            raise SettingsError(
                f"models folder {root}: no PRODUCT/VERSION/manifest.json in it; run `crosscheck teach`"
            )
        super().__init__(ready(path, device=device, parallel=parallel, runtime=runtime) for path in latest)
