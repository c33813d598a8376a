"""Training of one head on frozen features, as published: one net, one optimiser, directions only.

CMDR-IAD (arXiv 2603.03939) minimises one minus the mean cosine over the part's cells by Adam at 1e-3, frame
by frame for fifty epochs. The four nets share nothing, so each is trained by itself.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TypeVar

import torch
from torch import nn
from torch.nn import functional

from inference.errors import TeachError

COSINE_EPSILON = 1e-6

Net = TypeVar("Net", bound=nn.Module)
Progress = Callable[[str, int, int], None]
"""Called with the head's name, the epochs done, and how many there are."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainSettings:
    """How long and how fast a head learns.

    Attributes:
        epochs: passes over the frames.
        learning_rate: Adam's.
        batch: frames a step; each weighs the same. Batch norms then see them together. 1 is published.
        seed: of first weights, dropout and the order of frames.

    Raises:
        TeachError: a value out of range; the message names it.
    """

    epochs: int = 50
    learning_rate: float = 1e-3
    batch: int = 1
    seed: int = 0

    def __post_init__(self) -> None:
        for name, low, high in (
            ("epochs", 1, 10_000),
            ("learning_rate", 1e-7, 1.0),
            ("batch", 1, 4096),
            ("seed", 0, 2**31 - 1),
        ):
            value = getattr(self, name)
            if not low <= value <= high:
                raise TeachError(f"head setting {name} is {value}: expected {low} to {high}")


@dataclass(frozen=True, slots=True)
class Pair:
    """What one normal frame teaches one head.

    Attributes:
        source: (g, g, C) what the net is given.
        target: (g, g, D) what it should say.
        valid: (g, g) bool, the cells that count; None where all do.
    """

    source: torch.Tensor
    target: torch.Tensor
    valid: torch.Tensor | None = None


def cosine_loss(predicted: torch.Tensor, target: torch.Tensor, valid: torch.Tensor) -> torch.Tensor:
    """1 - the mean over frames of the mean over valid cells of cos(predicted, target).

    Args:
        predicted, target: (B, g, g, C).
        valid: (B, g, g) bool. A frame without a valid cell is left out; the loss is NaN if all are.
    """
    cosine = functional.cosine_similarity(predicted, target, dim=-1, eps=COSINE_EPSILON)
    share = valid.to(cosine.dtype)
    count = share.flatten(1).sum(1)
    # At least one: 0 / 0 in a frame left out would still turn every gradient into NaN.
    means = (cosine * share).flatten(1).sum(1) / count.clamp_min(1.0)
    return 1.0 - means[count > 0].mean()


def train(
    name: str,
    make: Callable[[], Net],
    pairs: Sequence[Pair],
    settings: TrainSettings,
    *,
    progress: Progress | None = None,
) -> tuple[Net, list[float]]:
    """A trained head in eval mode, and the mean loss of each epoch.

    The same pairs, settings, device and thread count give the same weights; the caller's random state is left
    as it was. Batch norms see every cell, the loss the valid ones. A step whose loss is not finite is
    skipped, and leaves nothing behind in the batch norms either.

    Args:
        name: of the head, for messages; it also tells heads of one seed apart.
        make: builds the net with the global random state.
        pairs: frozen features of normal frames, all on one device.

    Raises:
        TeachError: no frame with a valid cell, features that are not finite, or training that diverged.
    """
    usable = [pair for pair in pairs if pair.valid is None or bool(pair.valid.any())]
    if not usable:
        raise TeachError(f"{name}: no normal frame has a cell with readings to learn from")
    for pair in usable:
        if not all(bool(torch.isfinite(one).all()) for one in (pair.source, pair.target)):
            raise TeachError(f"{name}: the features of a normal frame are not finite: check its images")
    device = usable[0].source.device
    seed = _seed(name, settings.seed)
    order = torch.Generator().manual_seed(seed)
    with _private_randomness(seed, device), _learning(device):
        net = make().to(device).to(memory_format=torch.channels_last).train()
        # Fused: one pass over the weights a step instead of eight.
        adam = torch.optim.Adam(net.parameters(), lr=settings.learning_rate, fused=True)
        losses = []
        for epoch in range(settings.epochs):
            losses.append(_epoch(net, adam, usable, settings.batch, order))
            if progress is not None:
                progress(name, epoch + 1, settings.epochs)
    net.eval().requires_grad_(False)
    whole = all(bool(torch.isfinite(one).all()) for one in net.state_dict().values())
    if not whole or losses[-1] != losses[-1]:
        raise TeachError(f"{name}: training diverged: teach with a lower learning rate")
    return net, losses


def _epoch(
    net: nn.Module, adam: torch.optim.Adam, pairs: Sequence[Pair], batch: int, order: torch.Generator
) -> float:
    """One pass in random order; the mean of the losses that were finite, NaN if none was."""
    shuffled = torch.randperm(len(pairs), generator=order).tolist()
    total, steps = 0.0, 0
    for start in range(0, len(shuffled), batch):
        source, target, valid = _stack([pairs[index] for index in shuffled[start : start + batch]])
        before = [one.clone() for one in net.buffers()]
        loss = cosine_loss(net(source), target, valid)
        value = loss.item()
        if value != value or value in (float("inf"), float("-inf")):
            for kept, one in zip(before, net.buffers(), strict=True):
                one.copy_(kept)
            continue
        adam.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]
        adam.step()
        total, steps = total + value, steps + 1
    return total / steps if steps else float("nan")


def _stack(pairs: Sequence[Pair]) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """(B, g, g, C), (B, g, g, D), (B, g, g)."""
    valid = [
        torch.ones(one.source.shape[:2], dtype=torch.bool, device=one.source.device)
        if one.valid is None
        else one.valid.to(one.source.device)
        for one in pairs
    ]
    source = torch.stack([one.source.float() for one in pairs])
    target = torch.stack([one.target.float() for one in pairs])
    return source, target, torch.stack(valid)


def _seed(name: str, seed: int) -> int:
    """Another stream for each head of one seed, whatever order they are trained in."""
    return int.from_bytes(hashlib.sha256(f"{name}/{seed}".encode()).digest()[:6], "big")


@contextmanager
def _private_randomness(seed: int, device: torch.device) -> Iterator[None]:
    """The global generators seeded inside, and as they were outside: dropout layers know no other."""
    gpus = (
        [torch.cuda.current_device() if device.index is None else device.index]
        if device.type == "cuda"
        else []
    )
    with torch.random.fork_rng(devices=gpus):
        # Not torch.manual_seed: that would also seed the devices whose state is not kept here.
        torch.default_generator.manual_seed(seed)
        for gpu in gpus:
            with torch.cuda.device(gpu):
                torch.cuda.manual_seed(seed)
        yield


@contextmanager
def _learning(device: torch.device) -> Iterator[None]:
    """Gradients in float32, whatever the caller has switched on."""
    with (
        torch.inference_mode(False),
        torch.enable_grad(),
        torch.autocast(device_type=device.type, enabled=False),
    ):
        yield
