"""What every scoring branch is: fitted on normals once, then a pure function of one tile."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import ClassVar, Protocol, Self

import numpy as np
import torch
from numpy.typing import NDArray

from inference.features.heights import Heights


class Needs(StrEnum):
    """A sensor whose readings a branch needs."""

    RGB = "rgb"
    DEPTH = "depth"


class Reduce(StrEnum):
    """How a branch's map becomes the image score."""

    TOP = "top"
    """Mean of the highest 1 % of the map after it was brought to one size and blurred."""
    MAX = "max"
    """Highest value of the map as the branch gave it, before any blur."""


@dataclass(frozen=True, slots=True)
class Evidence:
    """Everything that branches may look at of one tile of one frame.

    Attributes:
        tile: index of the tile in the bundle's layout (0 where a frame is one tile).
        group: lot or recording of the frame while teaching, "" while inspecting.
        depth: (S, S) float32 counts on the model grid, 0 where ``valid`` is False; None without depth.
        valid: (S, S) bool, True where the depth sensor read something inside the inspected region.
        heights: settled heights of the depth image; None without depth or where a profile makes none.
        rgb_tokens: (g, g, C) float32 standardised colour tokens, g = 28.
        shape_tokens: (g, g, C) float32 standardised geometry tokens, g = 28.
        fine_tokens: (g, g, C) float32 standardised geometry tokens on a finer grid, g = 64.
        foreground: (128, 128) bool, where the part is; None where all of the tile is.
        token_valid: (g, g) bool, cells whose shape tokens rest on readings; None where all do.
    """

    tile: int = 0
    group: str = ""
    depth: NDArray[np.float32] | None = None
    valid: NDArray[np.bool_] | None = None
    heights: Heights | None = None
    rgb_tokens: torch.Tensor | None = None
    shape_tokens: torch.Tensor | None = None
    fine_tokens: torch.Tensor | None = None
    foreground: NDArray[np.bool_] | None = None
    token_valid: torch.Tensor | None = None

    @property
    def has_depth(self) -> bool:
        """Whether the depth of this tile gave tokens."""
        return self.shape_tokens is not None


@dataclass(frozen=True, slots=True, kw_only=True)
class FitSettings:
    """What fitting a branch may depend on beside the frames."""

    seed: int = 0
    bank_size: int = 1000
    """Rows of the nearest-neighbour bank."""
    epochs: int = 50
    """Passes over the normals that trained heads take."""
    learning_rate: float = 1e-3
    """Of the trained heads."""
    progress: Callable[[str, int, int], None] | None = None
    """Called with the name, epochs done and epochs to do of a head that is trained."""


class Branch(Protocol):
    """One scorer. Fitted on normals; afterwards its answer depends on the tile it is given and nothing else.

    Class attributes:
        name: key in the bundle, the verdict and the report.
        needs: the sensors without which it is left out of the sum.
        reduce: how its map becomes its image score.
        wide: its features reach far beyond a defect, so that on the fused map its excess counts for less.
    """

    name: ClassVar[str]
    needs: ClassVar[frozenset[Needs]]
    reduce: ClassVar[Reduce]
    wide: ClassVar[bool]

    @classmethod
    def fit(cls, evidence: Sequence[Evidence], settings: FitSettings) -> Self:
        """Fit on tiles of normal frames; every tile holds what ``needs`` names. Same input, same state."""
        ...

    def score(self, evidence: Evidence) -> NDArray[np.float32]:
        """The map (h, w) of this tile on the branch's own grid over the whole tile; larger is stranger.

        Finite wherever its input is; cells without a reading hold a value no normal would be blamed for.
        """
        ...

    def tensors(self) -> Mapping[str, torch.Tensor]:
        """The whole state, on the CPU, contiguous: what the bundle stores."""
        ...

    @classmethod
    def restore(cls, tensors: Mapping[str, torch.Tensor], device: torch.device) -> Self:
        """The branch back from ``tensors()``, on a device. Raises BundleError: one is missing."""
        ...
