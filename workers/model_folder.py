"""Which bundle judges which product: a folder of bundles, the highest version of each product."""

from __future__ import annotations

from pathlib import Path

from inference.errors import BundleError
from inference.inspector import Inspector
from inference.profiles.runtime import Runtime
from workers.errors import SettingsError
from workers.models import UnknownProduct


def latest_bundle(folder: Path) -> Path | None:
    """The highest version below a product's folder, or None."""
    versions = [path for path in folder.iterdir() if (path / "manifest.json").is_file()]
    return max(
        versions, key=lambda path: (int(path.name) if path.name.isdigit() else -1, path.name), default=None
    )


class ModelFolder:
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
        self._models: dict[str, Inspector] = {}
        for product in sorted(path for path in root.iterdir() if path.is_dir()):
            bundle = latest_bundle(product)
            if bundle is not None:
                inspector = Inspector.load(bundle, device=device, parallel=parallel, runtime=runtime)
                if (inspector.product, inspector.version) != (product.name, bundle.name):
                    # Copied under another name it would judge another product's parts.
                    raise BundleError(
                        f"{bundle}: its manifest says {inspector.bundle_id}; put it at "
                        f"{root / inspector.bundle_id} or teach {product.name}"
                    )
                inspector.warm()
                self._models[product.name] = inspector
        if not self._models:
            raise SettingsError(
                f"models folder {root}: no PRODUCT/VERSION/manifest.json in it; run `crosscheck teach`"
            )

    @property
    def products(self) -> tuple[str, ...]:
        """The products it can judge."""
        return tuple(self._models)

    @property
    def bundles(self) -> tuple[str, ...]:
        """NAME/VERSION of every bundle."""
        return tuple(model.bundle_id for model in self._models.values())

    def of(self, product: str) -> Inspector:
        """The inspector of a product. Raises UnknownProduct."""
        model = self._models.get(product)
        if model is None:
            known = ", ".join(self._models)
            raise UnknownProduct(f"product {product!r}: no bundle for it here, only for {known}")
        return model
