"""Sizes of the four heads: the published ones, and the same rules on any other grid and width.

Sources: the mapping nets and decoders of CMDR-IAD (arXiv 2603.03939), which works on 224 x 224 pixels with
768 colour channels (DINO ViT-B/8) and 1,152 shape channels (three taps of Point-MAE).
"""

from __future__ import annotations

import math
from dataclasses import dataclass

PUBLISHED_GRID = 224
PUBLISHED_COLOUR = 768
PUBLISHED_SHAPE = 1152
DROPOUT = 0.1

_WINDOW = 128
_HALVINGS = 5
_LEAST_POSITIONS = 4
_HEADS = 8
_LARGEST_GRID = 1024
_LARGEST_WIDTH = 65_536


@dataclass(frozen=True, slots=True, kw_only=True)
class HeadConfig:
    """Sizes of M23, M32, D2 and D3.

    Every other size follows from these three by rules that give the published sizes at 224, 768 and 1,152:
    a grid or width of its own needs no table of its own.

    Attributes:
        grid: cells along a side, g; an even number of at least 4. 224 is published, 28 and 56 are native.
        colour: channels of a colour token, C2.
        shape: channels of a shape token, C3.
        published: refuse anything but the published sizes.

    Raises:
        ValueError: a size that no net can have, or ``published`` with sizes that are not.
    """

    grid: int
    colour: int = PUBLISHED_COLOUR
    shape: int = PUBLISHED_SHAPE
    published: bool = False

    def __post_init__(self) -> None:
        if not 4 <= self.grid <= _LARGEST_GRID or self.grid % 2:
            raise ValueError(f"heads: grid must be an even number from 4 to {_LARGEST_GRID}, not {self.grid}")
        for name, width, least in (("colour", self.colour, 4), ("shape", self.shape, 9)):
            if not least <= width <= _LARGEST_WIDTH:
                raise ValueError(f"heads: {name} needs {least} to {_LARGEST_WIDTH} channels, not {width}")
        sizes = (self.grid, self.colour, self.shape)
        if self.published and sizes != (PUBLISHED_GRID, PUBLISHED_COLOUR, PUBLISHED_SHAPE):
            raise ValueError(
                f"heads: published sizes are grid {PUBLISHED_GRID}, {PUBLISHED_COLOUR} colour and "
                f"{PUBLISHED_SHAPE} shape channels, not {sizes}: leave `published` out for any other"
            )

    @property
    def cells(self) -> int:
        """g * g."""
        return self.grid * self.grid

    @property
    def hidden(self) -> int:
        """Width of the mapping nets' hidden layers: midway between the two tokens (published: 960)."""
        return (self.colour + self.shape) // 2

    @property
    def latent(self) -> int:
        """Width inside D2: half a colour token (published: 384)."""
        return self.colour // 2

    @property
    def heads(self) -> int:
        """Attention heads of D2: 8, or the most up to 8 that divide its width."""
        return math.gcd(self.latent, _HEADS)

    @property
    def window(self) -> int:
        """Consecutive cells in raster order that see each other in D2.

        The most up to 128 that tile the grid without a rest: 128 at 224 and 112, but 112 at 56 (two rows) and
        at 28 (four rows), since 128 divides neither 3,136 nor 784.
        """
        return max(size for size in range(1, min(_WINDOW, self.cells) + 1) if self.cells % size == 0)

    @property
    def halvings(self) -> int:
        """How often D3 halves the raster axis, and doubles it again: five at 224 and 56, four at 28.

        As many as divide the number of cells, five at most, leaving four positions or more.
        """
        return max(
            k
            for k in range(1, _HALVINGS + 1)
            if self.cells % 2**k == 0 and (self.cells >> k) >= _LEAST_POSITIONS
        )

    @property
    def positions(self) -> int:
        """Positions along D3's short axis: 1,568 at 224, 98 at 56, 49 at 28."""
        return self.cells >> self.halvings

    @property
    def stages(self) -> tuple[int, ...]:
        """Channels before and after each doubling of D3; with fewer doublings the narrowest are left out.

        At 224: 1152, 768, 512, 256, 128, 1152. At 28: 1152, 768, 512, 256, 1152.
        """
        c = self.shape
        between = (c * 2 // 3, c * 4 // 9, c * 2 // 9, c // 9)
        return (c, *between[: self.halvings - 1], c)

    @property
    def squeeze(self) -> int:
        """Width of D3's squeeze-excite bottleneck (published: 144)."""
        return max(1, self.shape // 8)
