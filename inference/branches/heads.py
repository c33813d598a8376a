"""The four heads of the reference profile as scoring branches.

Two ask whether a sensor's token can be decoded again (D2, D3), two whether it can be told from the other
sensor (M32, M23); each scores a cell by how far the answer points from what was seen. CMDR-IAD (arXiv
2603.03939).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from copy import deepcopy
from typing import Any, ClassVar, Self

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from inference.branches.base import Evidence, FitSettings, Needs, Reduce
from inference.branches.linear import take
from inference.errors import BundleError, TeachError
from inference.heads.config import HeadConfig
from inference.heads.decoder_colour import ColourDecoder
from inference.heads.decoder_shape import ShapeDecoder
from inference.heads.distance import distance
from inference.heads.mapping import colour_to_shape, shape_to_colour
from inference.heads.together import HeadNets
from inference.heads.training import Pair, TrainSettings, train

_CONFIG = "config"
_VERSION = 1


class Head:
    """One trained net, and the distance of its answer from the token seen."""

    name: ClassVar[str]
    needs: ClassVar[frozenset[Needs]]
    reduce: ClassVar[Reduce] = Reduce.TOP
    wide: ClassVar[bool] = False
    by_cell: ClassVar[bool]
    """The net looks at one cell at a time: cells that do not count need not be given to it."""
    masked: ClassVar[bool] = True
    """Cells without a depth reading neither teach nor score."""

    def __init__(self, config: HeadConfig, net: nn.Module) -> None:
        """With a net in eval mode, on the device that scores."""
        self.config = config
        self.net = net.to(memory_format=torch.channels_last)
        first = next(net.parameters())
        self._device, self._dtype = first.device, first.dtype

    @staticmethod
    def make(config: HeadConfig) -> nn.Module:
        """The net of these sizes with new weights."""
        raise NotImplementedError

    @staticmethod
    def pair(evidence: Evidence) -> tuple[torch.Tensor | None, torch.Tensor | None]:
        """(what the net is given, what it should say), each (g, g, C)."""
        raise NotImplementedError

    @classmethod
    def fit(cls, evidence: Sequence[Evidence], settings: FitSettings) -> Self:
        """Train the net on normal tiles; see :func:`inference.heads.training.train`.

        Args:
            evidence: tiles; those without the sensors or without a valid cell teach nothing.
            settings: seed, epochs, learning rate, and whom to tell after each epoch.

        Raises:
            TeachError: no tile can teach, the tiles differ in size, or training diverged.
        """
        pairs: list[Pair] = []
        sizes = set()
        for one in evidence:
            source, target = cls.pair(one)
            if source is None or target is None:
                continue
            sizes.add((source.shape, target.shape))
            valid = one.token_valid if cls.masked else None
            valid = None if valid is None else valid.to(source.device)
            if cls.by_cell and valid is not None:
                # Frames go one by one: leaving out cells that count for nothing changes no step.
                source, target, valid = source[valid][None], target[valid][None], None
            if source.numel():
                pairs.append(Pair(source, target, valid))
        if not pairs:
            raise TeachError(f"{cls.name}: no normal frame has the tokens that this head learns from")
        if len(sizes) > 1:
            raise TeachError(f"{cls.name}: normal frames give tokens of different sizes: {sorted(sizes)}")
        ((given, wanted),) = sizes
        try:
            config = cls._config(given, wanted)
        except ValueError as error:
            raise TeachError(f"{cls.name}: {error}") from error
        learning = TrainSettings(
            epochs=settings.epochs, learning_rate=settings.learning_rate, seed=settings.seed
        )
        net, _ = train(cls.name, lambda: cls.make(config), pairs, learning, progress=settings.progress)
        return cls(config, net)

    @torch.inference_mode()
    def score(self, evidence: Evidence) -> NDArray[np.float32]:
        """(g, g) distances in [0, 2]; 0 in cells that ``token_valid`` leaves out, if the head is masked."""
        source, target = self.pair(evidence)
        assert source is not None
        assert target is not None
        source, target = source.to(self._device, self._dtype), target.to(self._device).float()
        valid = evidence.token_valid if self.masked else None
        valid = None if valid is None else valid.to(self._device)
        if valid is None:
            found = distance(self.net(source[None])[0], target)
        elif self.by_cell:
            found = torch.zeros(target.shape[:2], device=self._device)
            found[valid] = distance(self.net(source[valid]), target[valid])
        else:
            found = torch.where(valid, distance(self.net(source[None])[0], target), 0.0)
        return np.asarray(found.cpu().numpy(), np.float32)

    def in_precision(self, dtype: torch.dtype) -> Self:
        """A copy whose net runs in float32 or bfloat16, for scoring only; distances stay float32."""
        return type(self)(self.config, deepcopy(self.net).to(dtype))

    def tensors(self) -> Mapping[str, torch.Tensor]:
        """All weights and running statistics in float32, and the sizes."""
        if self._dtype != torch.float32:
            raise BundleError(f"{self.name}: a head in {self._dtype} has lost digits: store the float32 one")
        sizes = [_VERSION, self.config.grid, self.config.colour, self.config.shape]
        state = {f"net.{key}": one.cpu().contiguous() for key, one in self.net.state_dict().items()}
        return {_CONFIG: torch.tensor(sizes, dtype=torch.int64), **state}

    @classmethod
    def restore(cls, tensors: Mapping[str, torch.Tensor], device: torch.device) -> Self:
        """Back from ``tensors()``. Raises BundleError: one is missing, misshapen, unknown or not finite."""
        sizes = take(tensors, _CONFIG, cls.name, 1, torch.device("cpu")).tolist()
        if len(sizes) != 4 or sizes[0] != _VERSION:
            raise BundleError(f"{cls.name}: sizes {sizes} are of another version: teach the product again")
        try:
            config = HeadConfig(grid=int(sizes[1]), colour=int(sizes[2]), shape=int(sizes[3]))
        except ValueError as error:
            raise BundleError(f"{cls.name}: {error}: teach the product again") from error
        # Without storage: no weight is drawn only to be thrown away.
        with torch.device("meta"):
            net = cls.make(config)
        expected: dict[str, Any] = dict(net.state_dict())
        given = {key.removeprefix("net."): one for key, one in tensors.items() if key != _CONFIG}
        faults = [f"{key} is missing" for key in sorted(expected.keys() - given.keys())]
        faults += [f"{key} is unknown" for key in sorted(given.keys() - expected.keys())]
        for key in sorted(expected.keys() & given.keys()):
            one, like = given[key], expected[key]
            if one.shape != like.shape or one.dtype != like.dtype:
                faults.append(
                    f"{key} is {one.dtype} {tuple(one.shape)}, not {like.dtype} {tuple(like.shape)}"
                )
            elif not bool(torch.isfinite(one).all()):
                faults.append(f"{key} is not finite")
        if faults:
            raise BundleError(
                f"{cls.name}: the bundle's tensors do not fit ({'; '.join(faults[:8])}"
                f"{'; ...' if len(faults) > 8 else ''}): teach the product again"
            )
        net.load_state_dict({key: one.to(device) for key, one in given.items()}, assign=True)
        return cls(config, net.eval().requires_grad_(False))

    @classmethod
    def _config(cls, given: torch.Size, wanted: torch.Size) -> HeadConfig:
        """Sizes for tokens of these shapes. Raises ValueError: no net fits them."""
        raise NotImplementedError


def _square(*shapes: torch.Size) -> int:
    """The one grid of these tokens. Raises ValueError: they have none."""
    sides = {side for shape in shapes for side in shape[:2]}
    if len(sides) != 1 or any(len(shape) != 3 for shape in shapes):
        raise ValueError(f"tokens of shapes {[tuple(one) for one in shapes]} share no square grid")
    return sides.pop()


class HeadColour(Head):
    """r2: colour tokens decoded again (D2), on the whole grid.

    The published training and score leave out cells without a depth reading. Here they count: a hole in depth
    hides no stain, and a frame scores the same when depth is gone, by a net that has learnt its background.
    The published formula masks this map when it joins the four. :class:`PublishedColour` is the other way.
    """

    name: ClassVar[str] = "colour"
    needs: ClassVar[frozenset[Needs]] = frozenset({Needs.RGB})
    by_cell: ClassVar[bool] = False
    masked: ClassVar[bool] = False

    @staticmethod
    def make(config: HeadConfig) -> nn.Module:
        """D2."""
        return ColourDecoder(config)

    @staticmethod
    def pair(evidence: Evidence) -> tuple[torch.Tensor | None, torch.Tensor | None]:
        """Colour, colour."""
        return evidence.rgb_tokens, evidence.rgb_tokens

    @classmethod
    def _config(cls, given: torch.Size, wanted: torch.Size) -> HeadConfig:
        return HeadConfig(grid=_square(given, wanted), colour=given[-1])


class PublishedColour(HeadColour):
    """r2 as published: only cells with a depth reading teach and score."""

    masked: ClassVar[bool] = True


class HeadShape(Head):
    """r3: shape tokens decoded again (D3)."""

    name: ClassVar[str] = "shape"
    needs: ClassVar[frozenset[Needs]] = frozenset({Needs.DEPTH})
    by_cell: ClassVar[bool] = False

    @staticmethod
    def make(config: HeadConfig) -> nn.Module:
        """D3."""
        return ShapeDecoder(config)

    @staticmethod
    def pair(evidence: Evidence) -> tuple[torch.Tensor | None, torch.Tensor | None]:
        """Shape, shape."""
        return evidence.shape_tokens, evidence.shape_tokens

    @classmethod
    def _config(cls, given: torch.Size, wanted: torch.Size) -> HeadConfig:
        return HeadConfig(grid=_square(given, wanted), shape=given[-1])


class HeadColourFromShape(Head):
    """m2: what the colour should be, given the shape (M32)."""

    name: ClassVar[str] = "colour_from_shape"
    needs: ClassVar[frozenset[Needs]] = frozenset({Needs.RGB, Needs.DEPTH})
    by_cell: ClassVar[bool] = True

    @staticmethod
    def make(config: HeadConfig) -> nn.Module:
        """M32."""
        return shape_to_colour(config)

    @staticmethod
    def pair(evidence: Evidence) -> tuple[torch.Tensor | None, torch.Tensor | None]:
        """Shape, colour."""
        return evidence.shape_tokens, evidence.rgb_tokens

    @classmethod
    def _config(cls, given: torch.Size, wanted: torch.Size) -> HeadConfig:
        return HeadConfig(grid=_square(given, wanted), colour=wanted[-1], shape=given[-1])


class HeadShapeFromColour(Head):
    """m3: what the shape should be, given the colour (M23)."""

    name: ClassVar[str] = "shape_from_colour"
    needs: ClassVar[frozenset[Needs]] = frozenset({Needs.RGB, Needs.DEPTH})
    by_cell: ClassVar[bool] = True

    @staticmethod
    def make(config: HeadConfig) -> nn.Module:
        """M23."""
        return colour_to_shape(config)

    @staticmethod
    def pair(evidence: Evidence) -> tuple[torch.Tensor | None, torch.Tensor | None]:
        """Colour, shape."""
        return evidence.rgb_tokens, evidence.shape_tokens

    @classmethod
    def _config(cls, given: torch.Size, wanted: torch.Size) -> HeadConfig:
        return HeadConfig(grid=_square(given, wanted), colour=given[-1], shape=wanted[-1])


def nets_of(heads: Mapping[str, Head]) -> HeadNets:
    """The nets of all four heads by name, to run them in batches. Raises BundleError: one is missing."""
    missing = [kind.name for kind in HEADS if kind.name not in heads]
    if missing:
        raise BundleError(
            f"heads run together need all four, without {', '.join(missing)}: teach both sensors"
        )
    return HeadNets(
        m23=heads["shape_from_colour"].net,
        m32=heads["colour_from_shape"].net,
        d2=heads["colour"].net,
        d3=heads["shape"].net,
    )


HEADS: tuple[type[Head], ...] = (HeadColour, HeadShape, HeadColourFromShape, HeadShapeFromColour)
"""All four, in the order in which they are summed."""
PUBLISHED_HEADS: tuple[type[Head], ...] = (PublishedColour, *HEADS[1:])
"""All four, each taught as published."""
