"""The models that judge now, by product."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from workers.models import Model, UnknownProduct


@dataclass(frozen=True, slots=True)
class Served:
    """One bundle in service: its product, NAME/VERSION, and the sha256 (hex) of its manifest."""

    product: str
    bundle: str
    digest: str

    @property
    def short(self) -> str:
        """NAME/VERSION@HASH, as a heartbeat names it."""
        return short_name(self.bundle, self.digest)


def short_name(bundle: str, digest: str) -> str:
    """A bundle by its name and the first twelve digits of its manifest's digest."""
    return f"{bundle}@{digest[:12]}"


class ServedModels:
    """Finds the model of a product; see ``workers.models.Models``.

    One thread takes models over, between batches; any thread may ask. What is asked for is found in a map
    that never changes: another one takes its place as a whole.
    """

    def __init__(self, models: Iterable[Model] = ()) -> None:
        self._models = {model.bundle_id.partition("/")[0]: model for model in models}

    def of(self, product: str) -> Model:
        """The model of a product. Raises UnknownProduct."""
        models = self._models
        model = models.get(product)
        if model is None:
            known = ", ".join(models) or "none at all"
            raise UnknownProduct(
                f"product {product!r}: no bundle for it here, only for {known}; activate one with"
                f" `crosscheck models activate {product} VERSION`"
            )
        return model

    def take_over(self, model: Model) -> None:
        """From now on this model judges the parts of its product."""
        product = model.bundle_id.partition("/")[0]
        self._models = {**self._models, product: model}

    @property
    def products(self) -> tuple[str, ...]:
        """The products it can judge."""
        return tuple(self._models)

    @property
    def bundles(self) -> tuple[str, ...]:
        """NAME/VERSION of every bundle."""
        return tuple(model.bundle_id for model in self._models.values())

    @property
    def served(self) -> tuple[Served, ...]:
        """Every bundle in service, by product; may be asked from any thread."""
        models = self._models
        return tuple(Served(name, one.bundle_id, one.bundle_hash) for name, one in sorted(models.items()))
