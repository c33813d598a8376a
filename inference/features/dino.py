"""Colour tokens of a frozen DINO vision transformer (Caron et al., ICCV 2021), built with timm.

ViT-B/8, all 12 blocks, the final layer norm, the class token left out: 28 x 28 tokens of 768 channels from
224 x 224 pixels. The weights are not part of this software: give the file that Meta publishes
(``dino_vitbase8_pretrain.pth``) or timm's copy of it, or let timm's copy be fetched from the hub.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Self

import huggingface_hub
import huggingface_hub.constants
import huggingface_hub.errors
import numpy as np
import timm
import torch
from numpy.typing import NDArray

from inference.errors import EncoderError, WeightsError
from inference.features import weights

ARCHITECTURE = "vit_base_patch8_224.dino"
HUB = "timm/vit_base_patch8_224.dino"
HUB_FILE = "model.safetensors"
HUB_PATIENCE_S = 5.0
"""Seconds to wait for the hub's first answer."""

# The statistics of ImageNet that DINO was trained with.
_MEAN = (0.485, 0.456, 0.406)
_DEVIATION = (0.229, 0.224, 0.225)


@dataclass(frozen=True, slots=True, kw_only=True)
class DinoConfig:
    """Sizes of the transformer; ViT-B/8 by default. ``side`` pixels in ``patch`` x ``patch`` tokens."""

    dim: int = 768
    depth: int = 12
    heads: int = 12
    patch: int = 8
    side: int = 224

    def __post_init__(self) -> None:
        if min(self.dim, self.depth, self.heads, self.patch) < 1 or self.dim % self.heads:
            raise EncoderError(f"colour encoder: {self.heads} heads do not divide {self.dim} channels")
        if self.side < self.patch or self.side % self.patch:
            raise EncoderError(f"colour encoder: patches of {self.patch} do not divide {self.side} pixels")

    @property
    def grid(self) -> int:
        """Tokens along a side."""
        return self.side // self.patch


class Dino:
    """The frozen transformer. Build it with :meth:`load` or :meth:`random`."""

    def __init__(
        self,
        model: Any,
        config: DinoConfig,
        source: Mapping[str, object],
        device: torch.device | str,
        dtype: torch.dtype,
        *,
        compiled: bool = False,
    ) -> None:
        if dtype not in (torch.float32, torch.bfloat16):
            raise EncoderError(f"colour encoder: {dtype} is not float32 or bfloat16")
        self.config = config
        self.device = torch.device(device)
        self.dtype = dtype
        self._source = source
        self._model = model.eval().requires_grad_(False).to(self.device)
        self._model.patch_embed.to(dtype, memory_format=torch.channels_last)
        for block in self._model.blocks:
            block.attn.to(dtype)
            block.mlp.to(dtype)
        shape = (1, 3, 1, 1)
        self._mean = torch.tensor(_MEAN, device=self.device).view(shape)
        self._share = torch.tensor(_DEVIATION, device=self.device).view(shape).reciprocal()
        # On a GPU with static shapes only: on a CPU it would ask for a compiler on the user's machine.
        self._run: Any = self._forward
        if compiled:
            if self.device.type != "cuda":
                raise EncoderError("colour encoder: compiled is for a GPU; leave it out on a CPU")
            self._run = torch.compile(self._forward, dynamic=False, mode="max-autotune-no-cudagraphs")

    @classmethod
    def load(
        cls,
        path: Path | None,
        sha256: str | None = None,
        config: DinoConfig | None = None,
        device: torch.device | str = "cpu",
        dtype: torch.dtype = torch.float32,
        *,
        compiled: bool = False,
    ) -> Self:
        """The transformer with published weights.

        Args:
            path: a state dict as .pth or .safetensors, with Meta's names, which are timm's; None fetches
                timm's file from the hub, or takes it from the hub's cache.
            sha256: hex digest that the file must have.
            config: sizes; ViT-B/8 by default.
            device, dtype: where it runs, and the precision of its matrix products (float32 or bfloat16).
            compiled: ``torch.compile``, on a GPU only.

        Raises:
            WeightsError: the file is missing, another one, unsafe, does not hold exactly this transformer,
                or the hub cannot be reached.
        """
        config = config or DinoConfig()
        path = fetch() if path is None else path
        checkpoint = weights.read(path, sha256)
        found = checkpoint.tensors("state_dict", "model")
        # Without storage: weights drawn here only to be replaced would cost seconds.
        with torch.device("meta"):
            model = _build(config)
        expected = {name: tuple(tensor.shape) for name, tensor in model.state_dict().items()}
        taken = weights.matched(found, expected, path=path, model=f"{ARCHITECTURE} in {config}")
        model.load_state_dict(taken, assign=True)
        source = {"file": path.name, "sha256": checkpoint.sha256}
        return cls(model, config, source, device, dtype, compiled=compiled)

    @classmethod
    def random(
        cls,
        config: DinoConfig,
        seed: int = 0,
        device: torch.device | str = "cpu",
        dtype: torch.dtype = torch.float32,
        *,
        compiled: bool = False,
    ) -> Self:
        """Weights drawn from a seed: for tests and benches, never for inspection."""
        model = _build(config)
        generator = torch.Generator().manual_seed(seed)
        with torch.no_grad():
            for name, tensor in sorted(model.state_dict().items()):
                noise = torch.randn(tensor.shape, generator=generator)
                if tensor.ndim == 1:
                    gain = "norm" in name and name.endswith("weight")
                    tensor.copy_(noise * 0.1 + float(gain))
                elif name in ("cls_token", "pos_embed"):
                    tensor.copy_(noise * 0.1)
                else:
                    tensor.copy_(noise / tensor[0].numel() ** 0.5)
        return cls(model, config, {"seed": seed}, device, dtype, compiled=compiled)

    def identity(self) -> dict[str, object]:
        """Everything that decides the tokens, for a manifest: weights, sizes, precision."""
        return {
            "model": ARCHITECTURE,
            **self._source,
            "precision": str(self.dtype).removeprefix("torch."),
            **asdict(self.config),
        }

    @torch.no_grad()
    def tokens(self, rgb: NDArray[np.uint8] | torch.Tensor) -> torch.Tensor:
        """Tokens (B, grid, grid, dim) float32 of images (B, side, side, 3) uint8, on the device.

        An image's tokens are the same alone and in a batch, up to the order in which a matrix product of
        another size sums: 1e-4 of the largest token in float32.

        Raises:
            EncoderError: another shape or type.
        """
        images = rgb if isinstance(rgb, torch.Tensor) else torch.from_numpy(np.ascontiguousarray(rgb))
        side = self.config.side
        if images.dtype != torch.uint8 or images.ndim != 4 or images.shape[1:] != (side, side, 3):
            raise EncoderError(
                f"colour encoder: images are {images.dtype} {tuple(images.shape)}, expected uint8 "
                f"(B, {side}, {side}, 3)"
            )
        out: torch.Tensor = self._run(images.to(self.device, non_blocking=True))
        return out

    def _forward(self, images: torch.Tensor) -> torch.Tensor:
        grid = self.config.grid
        with torch.autocast(self.device.type, enabled=False):
            # (B, H, W, C) memory seen as (B, C, H, W) is channels_last already.
            pixels = (images.permute(0, 3, 1, 2).float() / 255.0 - self._mean) * self._share
            model = self._model
            x = model._pos_embed(model.patch_embed(pixels.to(self.dtype)).float())
            # Sums stay in float32 and only products are rounded: 12 blocks of bfloat16 sums would not.
            for block in model.blocks:
                x = x + block.attn(block.norm1(x).to(self.dtype))
                x = x + block.mlp(block.norm2(x).to(self.dtype))
            x = model.norm(x[:, 1:])
        tokens: torch.Tensor = x.reshape(-1, grid, grid, self.config.dim)
        return tokens


def fetch(*, endpoint: str | None = None, cache: Path | None = None) -> Path:
    """timm's weights from the hub's cache, or from the hub.

    Args:
        endpoint: URL of another hub.
        cache: another folder for the cache.

    Raises:
        WeightsError: neither has the file; the message says what to give instead.
    """

    def take(local: bool) -> Path:
        return Path(
            huggingface_hub.hf_hub_download(
                HUB,
                HUB_FILE,
                cache_dir=cache,
                endpoint=endpoint,
                etag_timeout=HUB_PATIENCE_S,
                local_files_only=local,
            )
        )

    # The cache first: a station that has the file needs no network to start, nor to find that out.
    try:
        return take(True)
    except (huggingface_hub.errors.HfHubHTTPError, OSError, ValueError):
        pass
    # The client's transport has changed before, and its errors come through as they are: any is a refusal.
    try:
        # One question of our own, since the client would ask for half a minute before it gives up.
        url = endpoint or huggingface_hub.constants.ENDPOINT
        huggingface_hub.get_session().head(url, timeout=HUB_PATIENCE_S)
        return take(False)
    except Exception as error:
        first = f"{type(error).__name__}: {error}".strip().split("\n", 1)[0][:160]
        raise WeightsError(
            f"no weights of {ARCHITECTURE}: {HUB_FILE} of {HUB} is not in the hub's cache, and the hub "
            f"cannot be reached ({first}); fetch dino_vitbase8_pretrain.pth or that file elsewhere and give "
            "its path"
        ) from error


def _build(config: DinoConfig) -> Any:
    return timm.create_model(
        ARCHITECTURE,
        pretrained=False,
        num_classes=0,
        embed_dim=config.dim,
        depth=config.depth,
        num_heads=config.heads,
        patch_size=config.patch,
        img_size=config.side,
    )
