"""All four heads on many frames at once: what a GPU or a bench runs instead of branch after branch."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from copy import deepcopy
from dataclasses import dataclass

import torch
from torch import nn

from inference.heads.config import HeadConfig
from inference.heads.decoder_colour import ColourDecoder
from inference.heads.decoder_shape import ShapeDecoder
from inference.heads.distance import distance
from inference.heads.mapping import MappingNet, colour_to_shape, shape_to_colour


@dataclass(frozen=True, slots=True)
class HeadNets:
    """The four nets of one product, in eval mode.

    Attributes:
        m23: colour to shape.
        m32: shape to colour.
        d2: colour to colour.
        d3: shape to shape.
    """

    m23: nn.Module
    m32: nn.Module
    d2: nn.Module
    d3: nn.Module

    @classmethod
    def random(cls, config: HeadConfig, seed: int, *, device: str | torch.device = "cpu") -> HeadNets:
        """New weights, for benches and tests; the global random state is left as it was."""
        makers: tuple[Callable[[HeadConfig], MappingNet | ColourDecoder | ShapeDecoder], ...] = (
            colour_to_shape,
            shape_to_colour,
            ColourDecoder,
            ShapeDecoder,
        )
        with torch.random.fork_rng(devices=[]):
            torch.default_generator.manual_seed(seed)
            nets = [make(config).eval().requires_grad_(False) for make in makers]
        return cls(*nets).to(device, torch.float32)

    def to(self, device: str | torch.device, dtype: torch.dtype) -> HeadNets:
        """A copy on a device in a precision. Batch norm's counters stay whole numbers."""
        return HeadNets(
            *(
                deepcopy(net).to(device=device, dtype=dtype, memory_format=torch.channels_last)  # type: ignore[call-overload]
                for net in (self.m23, self.m32, self.d2, self.d3)
            )
        )


class Heads:
    """Four distance maps for a batch, every frame by itself: no value of one reaches another.

    Static shapes and no copy to the host: it can be compiled or captured as it is. A frame's maps in a batch
    are those it has alone up to the rounding of other kernels; with ``frames`` of 1 they are the same bits.
    """

    def __init__(
        self,
        nets: HeadNets,
        *,
        device: str | torch.device = "cpu",
        dtype: torch.dtype = torch.float32,
        frames: int = 32,
    ) -> None:
        """A copy of the nets in the precision in which they run.

        Args:
            nets: in float32.
            device: that runs.
            dtype: of nets and activations; distances are float32 in any case.
            frames: that pass at once, which bounds the memory of activations.
        """
        if frames < 1:
            raise ValueError(f"heads: frames must be at least 1, not {frames}")
        self._nets = nets.to(device, dtype)
        self._device = torch.device(device)
        self._dtype = dtype
        self._frames = frames

    @torch.inference_mode()
    def maps(
        self, colour: torch.Tensor, shape: torch.Tensor, valid: torch.Tensor | None = None
    ) -> Mapping[str, torch.Tensor]:
        """(B, g, g) float32 distances by branch name, on this device; all but colour's are 0 where not valid.

        Args:
            colour: (B, g, g, C2).
            shape: (B, g, g, C3).
            valid: (B, g, g) bool, cells whose shape was read; None where every cell counts.
        """
        parts = []
        for start in range(0, colour.shape[0], self._frames):
            stop = start + self._frames
            part = self._pass(colour[start:stop].to(self._device), shape[start:stop].to(self._device))
            if valid is not None:
                part[1:] = torch.where(valid[start:stop].to(self._device), part[1:], 0.0)
            parts.append(part)
        joined = torch.cat(parts, 1)
        return dict(
            zip(("colour", "shape", "colour_from_shape", "shape_from_colour"), joined.unbind(0), strict=True)
        )

    def _pass(self, colour: torch.Tensor, shape: torch.Tensor) -> torch.Tensor:
        """(4, B, g, g): r2, r3, m2, m3."""
        a, b = colour.to(self._dtype), shape.to(self._dtype)
        return torch.stack(
            (
                distance(self._nets.d2(a), colour),
                distance(self._nets.d3(b), shape),
                distance(self._nets.m32(b), colour),
                distance(self._nets.m23(a), shape),
            )
        )
