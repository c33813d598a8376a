"""Point-MAE's encoder (Pang et al., ECCV 2022) in plain torch: tokens at the centres of groups of points.

A group becomes a token in a mini PointNet (point_encoder.py); a two-layer perceptron turns each centre into
a position that is added again before every one of the 12 pre-norm blocks; the outputs of blocks 4, 8 and 12
each go through the one final layer norm and stand side by side. Nothing is dropped on the way (the published
code leaves stochastic depth switched on, so that its features differ from call to call).

The position sees absolute coordinates: a camera moved by a centimetre is a shift of every token. cloud.py
brings clouds to a frame that does not move.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, Self

import torch
from torch import nn
from torch.nn import functional

from inference.errors import EncoderError
from inference.features import grouping, weights
from inference.features.grouping import Groups
from inference.features.point_encoder import GroupEncoder, Neighbourhood, Norm

_IGNORED = ("MAE_decoder.", "mask_token", "decoder_pos_embed.", "increase_dim.")
"""The half of the pre-training that reconstructs points."""
_PREFIX = "MAE_encoder."
_COUNTER = "num_batches_tracked"


@dataclass(frozen=True, slots=True, kw_only=True)
class PointConfig:
    """Sizes of the encoder and how a cloud is grouped; the published ones by default.

    Attributes:
        dim, depth, heads: of the transformer; its perceptrons are 4 * dim wide.
        taps: blocks, counted from 0, whose outputs are kept.
        groups: centres of ``published`` grouping.
        group_size: points a group.
        norm, neighbourhood: batch norm of the group encoder, see point_encoder.py.
        grouping: see grouping.py.
        cells: cells along a side of ``lattice`` grouping.
        reach: its windows are 2 * reach + 1 pixels wide.
        widths: channels inside the group encoder.
        position: channels inside the position perceptron.
    """

    dim: int = 384
    depth: int = 12
    heads: int = 6
    taps: tuple[int, ...] = (3, 7, 11)
    groups: int = 1024
    group_size: int = 128
    norm: Norm = "frame"
    neighbourhood: Neighbourhood = "raw"
    grouping: Literal["lattice", "published"] = "lattice"
    cells: int = 28
    reach: int = 8
    widths: tuple[int, int, int] = (128, 256, 512)
    position: int = 128

    def __post_init__(self) -> None:
        if self.dim < 1 or self.heads < 1 or self.dim % self.heads:
            raise EncoderError(f"point encoder: {self.heads} heads do not divide {self.dim} channels")
        if not self.taps or any(not 0 <= tap < self.depth for tap in self.taps):
            raise EncoderError(f"point encoder: taps {self.taps} are not blocks of {self.depth}")
        if min(self.groups, self.group_size, self.cells) < 1:
            raise EncoderError("point encoder: groups, group_size and cells are at least 1")
        if self.norm not in ("frame", "running") or self.grouping not in ("lattice", "published"):
            raise EncoderError(
                f"point encoder: norm {self.norm!r} is not frame or running, or grouping {self.grouping!r} "
                "not lattice or published"
            )
        if self.neighbourhood not in ("raw", "matched"):
            raise EncoderError(f"point encoder: neighbourhood {self.neighbourhood!r} is not raw or matched")
        if self.neighbourhood == "matched" and self.norm == "frame":
            raise EncoderError("point encoder: norm 'frame' rescales neighbourhoods already; use 'raw'")

    @property
    def channels(self) -> int:
        """Channels of a token."""
        return self.dim * len(self.taps)


@dataclass(frozen=True, slots=True)
class PointTokens:
    """tokens (B, G, dim * taps) float32, 0 where a group is absent, and the groups they belong to."""

    tokens: torch.Tensor
    groups: Groups


class Block(nn.Module):
    """Pre-norm transformer block: x + attention(norm(x)), then x + perceptron(norm(x)); x stays float32."""

    def __init__(self, dim: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.norm1 = nn.LayerNorm(dim)
        self.qkv = nn.Linear(dim, 3 * dim, bias=False)
        self.proj = nn.Linear(dim, dim)
        self.norm2 = nn.LayerNorm(dim)
        self.fc1 = nn.Linear(dim, 4 * dim)
        self.fc2 = nn.Linear(4 * dim, dim)

    def forward(self, x: torch.Tensor, mask: torch.Tensor | None) -> torch.Tensor:
        """(B, G, dim) to the same; ``mask`` (B, 1, 1, G) bool is true for groups that may be looked at."""
        dtype = self.qkv.weight.dtype
        batch, count, dim = x.shape
        qkv = self.qkv(self.norm1(x).to(dtype)).view(batch, count, 3, self.heads, dim // self.heads)
        query, key, value = qkv.permute(2, 0, 3, 1, 4).unbind(0)
        seen = functional.scaled_dot_product_attention(query, key, value, attn_mask=mask)
        x = x + self.proj(seen.transpose(1, 2).reshape(batch, count, dim))
        wide = functional.gelu(self.fc1(self.norm2(x).to(dtype)))
        out: torch.Tensor = x + self.fc2(wide)
        return out


class PointMae(nn.Module):
    """The frozen encoder. Build it with :meth:`load` or :meth:`random`."""

    def __init__(self, config: PointConfig) -> None:
        super().__init__()
        self.config = config
        self.encoder = GroupEncoder(
            config.dim, config.widths, norm=config.norm, neighbourhood=config.neighbourhood
        )
        self.position = nn.Sequential(
            nn.Linear(3, config.position), nn.GELU(), nn.Linear(config.position, config.dim)
        )
        self.blocks = nn.ModuleList(Block(config.dim, config.heads) for _ in range(config.depth))
        self.norm = nn.LayerNorm(config.dim)
        self._source: Mapping[str, object] = {}

    @classmethod
    def load(
        cls,
        path: Path,
        sha256: str | None = None,
        config: PointConfig | None = None,
        device: torch.device | str = "cpu",
        dtype: torch.dtype = torch.float32,
    ) -> Self:
        """The encoder of a pre-training checkpoint in the layout that Point-MAE publishes.

        Names are ``base_model`` -> [``module.``] -> ``MAE_encoder.``...; the decoder's are left out.

        Args:
            path: torch file (or safetensors of the inner dictionary).
            sha256: hex digest that the file must have.
            config: sizes; the published ones by default.
            device, dtype: where it runs, and the precision of its matrix products (float32 or bfloat16).

        Raises:
            WeightsError: the file is missing, another one, unsafe, or does not hold exactly this encoder.
        """
        config = config or PointConfig()
        checkpoint = weights.read(path, sha256)
        found = {}
        for name, tensor in checkpoint.tensors("base_model").items():
            short = name.removeprefix("module.")
            if short.startswith(_IGNORED) or short.endswith(_COUNTER):
                continue
            found[short.removeprefix(_PREFIX)] = tensor
        model = cls(config)
        names = published_names(config)
        own = model.state_dict()
        # The published layers over points are convolutions of width 1: one axis more than a matrix.
        expected = {
            theirs: (*own[ours].shape, 1) if _convolution(ours) else tuple(own[ours].shape)
            for ours, theirs in names.items()
        }
        taken = weights.matched(found, expected, path=path, model="Point-MAE's encoder")
        state = {ours: taken[theirs].reshape(own[ours].shape) for ours, theirs in names.items()}
        model.load_state_dict(state, strict=False)
        model._source = {"file": path.name, "sha256": checkpoint.sha256}
        return model._ready(device, dtype)

    @classmethod
    def random(
        cls,
        config: PointConfig,
        seed: int = 0,
        device: torch.device | str = "cpu",
        dtype: torch.dtype = torch.float32,
    ) -> Self:
        """Weights drawn from a seed: for tests and benches, never for inspection."""
        model = cls(config)
        generator = torch.Generator().manual_seed(seed)
        with torch.no_grad():
            for name, tensor in sorted(model.state_dict().items()):
                if name.endswith(_COUNTER):
                    continue
                noise = torch.randn(tensor.shape, generator=generator)
                if name.endswith("running_var"):
                    tensor.copy_(noise.square() + 0.5)
                elif tensor.ndim == 1:
                    gain = "norm" in name and name.endswith("weight")
                    tensor.copy_(noise * 0.1 + float(gain))
                else:
                    tensor.copy_(noise / tensor.shape[1] ** 0.5)
        model._source = {"seed": seed}
        return model._ready(device, dtype)

    def _ready(self, device: torch.device | str, dtype: torch.dtype) -> Self:
        if dtype not in (torch.float32, torch.bfloat16):
            raise EncoderError(f"point encoder: {dtype} is not float32 or bfloat16")
        self.eval().requires_grad_(False).to(device)
        self.encoder.prepare(dtype)
        for block in self.blocks:
            for part in ("qkv", "proj", "fc1", "fc2"):
                getattr(block, part).to(dtype)
        self._dtype = dtype
        return self

    def identity(self) -> dict[str, object]:
        """Everything that decides the features, for a manifest: weights, sizes, grouping, precision."""
        config = self.config
        return {
            "model": "point-mae",
            **self._source,
            "precision": str(self._dtype).removeprefix("torch."),
            **{name: _plain(getattr(config, name)) for name in config.__slots__},
        }

    def group(self, cloud: torch.Tensor, valid: torch.Tensor) -> Groups:
        """Groups of clouds (B, S, S, 3) with validity (B, S, S), the way the configuration says.

        Raises:
            DepthUnusable: see :func:`inference.features.grouping.check`.
        """
        grouping.check(cloud, valid)
        config = self.config
        if config.grouping == "published":
            return grouping.published(cloud, valid, groups=config.groups, size=config.group_size)
        return grouping.lattice(cloud, valid, cells=config.cells, size=config.group_size, reach=config.reach)

    @torch.no_grad()
    def forward(self, cloud: torch.Tensor, valid: torch.Tensor) -> PointTokens:
        """Tokens of a batch of clouds; each frame's are the same whatever else is in the batch.

        Args:
            cloud: (B, S, S, 3), one unit (metres) for all three axes.
            valid: (B, S, S) bool.

        Raises:
            DepthUnusable: see :func:`inference.features.grouping.check`.
        """
        with torch.autocast(cloud.device.type, enabled=False):
            cloud = cloud.float()
            groups = self.group(cloud, valid)
            relative = groups.neighbourhoods(cloud)
            if cloud.device.type != "cpu":
                return PointTokens(self.encode(relative, groups.centres, groups.present), groups)
            # On a CPU groups that are not there are not worth computing: part by part, without them.
            tokens = torch.zeros(*groups.present.shape, self.config.channels)
            for frame, there in enumerate(groups.present):
                if bool(there.all()):
                    tokens[frame] = self.encode(relative[frame, None], groups.centres[frame, None])[0]
                else:
                    few = self.encode(relative[frame, None, there], groups.centres[frame, None, there])
                    tokens[frame, there] = few[0]
            return PointTokens(tokens, groups)

    def encode(
        self, relative: torch.Tensor, centres: torch.Tensor, present: torch.Tensor | None = None
    ) -> torch.Tensor:
        """Tokens (B, G, dim * taps) float32 of neighbourhoods (B, G, K, 3) around centres (B, G, 3)."""
        x = self.encoder(relative, present)
        position = self.position(centres)
        mask = None
        if present is not None:
            # A frame without any group may look everywhere: a softmax over nothing would be NaN.
            mask = (present | ~present.any(1, keepdim=True))[:, None, None, :]
        kept = []
        for number, block in enumerate(self.blocks):
            x = block(x + position, mask)
            if number in self.config.taps:
                kept.append(self.norm(x))
        tokens = torch.cat(kept, dim=2)
        return tokens if present is None else tokens * present[..., None]


def published_names(config: PointConfig) -> dict[str, str]:
    """Names of this module's tensors to those of the published encoder, both without prefixes."""
    names = {}
    for ours, theirs in (
        ("encoder.first", "encoder.first_conv.0"),
        ("encoder.second", "encoder.first_conv.3"),
        ("encoder.third", "encoder.second_conv.0"),
        ("encoder.fourth", "encoder.second_conv.3"),
        ("position.0", "pos_embed.0"),
        ("position.2", "pos_embed.2"),
        ("norm", "norm"),
        ("encoder.first_norm", "encoder.first_conv.1"),
        ("encoder.third_norm", "encoder.second_conv.1"),
    ):
        parts = ["weight", "bias"]
        if ours.endswith("_norm"):
            parts += ["running_mean", "running_var"]
        names.update({f"{ours}.{part}": f"{theirs}.{part}" for part in parts})
    for number in range(config.depth):
        for ours, theirs in (
            ("norm1", "norm1"),
            ("norm2", "norm2"),
            ("qkv", "attn.qkv"),
            ("proj", "attn.proj"),
            ("fc1", "mlp.fc1"),
            ("fc2", "mlp.fc2"),
        ):
            for part in ("weight",) if ours == "qkv" else ("weight", "bias"):
                names[f"blocks.{number}.{ours}.{part}"] = f"blocks.blocks.{number}.{theirs}.{part}"
    return names


def _convolution(name: str) -> bool:
    layers = ("encoder.first", "encoder.second", "encoder.third", "encoder.fourth")
    return name.removesuffix(".weight") in layers


def _plain(value: object) -> object:
    return list(value) if isinstance(value, tuple) else value
