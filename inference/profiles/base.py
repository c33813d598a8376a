"""What a profile is: how tiles become tokens, and which branches look at them.

``compact`` runs on two cores with what the package index brings; ``reference`` is the published method with
its two large networks. Everything around them (preparation, calibration, fusion, thresholds, bundles) is one.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import torch

from inference.branches.base import Branch, Evidence
from inference.prepare import Tile
from schemas.verdict import Mode

Progress = Callable[[str, int, int], None]
"""Called with what is being done, how much of it is done, and how much there is."""

Raw = Any
"""What a profile reads of a tile whatever the normals: kept while teaching, so that networks run once."""


@dataclass(frozen=True, slots=True)
class Frame:
    """One normal while it is taught: its tiles without colour pixels, and what the profile read of each.

    ``brightness`` and ``distance`` are the mean luminance of its colour image and the median of its depth;
    None without that sensor.
    """

    name: str
    group: str
    tiles: tuple[Tile, ...]
    raw: tuple[Raw, ...]
    brightness: float | None = None
    distance: float | None = None


class Features(Protocol):
    """Tiles to evidence, by standards that normals fitted. A tile's answer depends on that tile alone."""

    def evidence(
        self, tile: Tile, *, raw: Raw | None = None, group: str = "", timings: dict[str, float] | None = None
    ) -> Evidence:
        """What branches look at of a tile.

        A tile whose depth cannot carry a plane gives evidence without depth: nothing there was seen, and
        nothing may be made up.

        Args:
            tile: the tile.
            raw: what :meth:`Profile.read` gave for it; read now where it is None.
            group: lot or recording while teaching.
            timings: gains milliseconds under "rgb_features" and "depth_features".
        """
        ...

    def tensors(self) -> Mapping[str, torch.Tensor]:
        """The state of the standards, for the bundle."""
        ...


class Profile(Protocol):
    """Networks and branches of one profile on one device."""

    @property
    def name(self) -> str:
        """As in the manifest: "compact" or "reference"."""
        ...

    def identity(self) -> dict[str, object]:
        """What tokens depend on beside the standards: kept in the manifest and compared on load."""
        ...

    def branches(self, mode: Mode) -> tuple[type[Branch], ...]:
        """The branches whose sensors the mode has, in the order in which they are summed."""
        ...

    @property
    def distances(self) -> bool:
        """Whether branch maps are distances in [0, 2], which the published formula takes as they are."""
        ...

    def ready(self, branch: Branch) -> Branch:
        """The branch as it scores; the one given is what the bundle keeps."""
        ...

    def read(self, tile: Tile) -> Raw:
        """What does not depend on the normals: the costly part."""
        ...

    def read_batch(self, tiles: Sequence[Tile]) -> Sequence[Raw]:
        """The same of many tiles, in one pass where the device likes that."""
        ...

    def fit(self, frames: Sequence[Frame], report: Progress) -> Features:
        """The standards of these normals. Raises TeachError: they cannot be used."""
        ...

    def restore(self, tensors: Mapping[str, torch.Tensor]) -> Features:
        """Back from :meth:`Features.tensors`. Raises BundleError: a tensor is missing or misshapen."""
        ...
