"""What the worker asks of a model: an inspector, found by the product it judges."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Protocol

from inference.calibration import Limits
from inference.inspection import Inspection
from inference.sample import Sample
from schemas.verdict import Mode
from workers.errors import WorkerError


class UnknownProduct(WorkerError):
    """No bundle judges this product."""

    reason = "product"


class Model(Protocol):
    """One product's inspector; see ``inference.inspector.Inspector``."""

    @property
    def bundle_id(self) -> str:
        """NAME/VERSION of the bundle."""
        ...

    @property
    def bundle_hash(self) -> str:
        """Digest of its manifest."""
        ...

    @property
    def limits(self) -> Mapping[Mode, Limits]:
        """What is passed and what is rejected, as taught, by mode."""
        ...

    def inspect(self, batch: Sequence[Sample]) -> list[Inspection]:
        """One inspection a sample, in order."""
        ...


class Models(Protocol):
    """Finds the model of a product."""

    def of(self, product: str) -> Model:
        """Raises UnknownProduct where nothing judges it."""
        ...
