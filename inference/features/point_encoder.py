"""A mini PointNet that turns a group of points into one token, as in Point-MAE, with less arithmetic.

Published (Pang et al., ECCV 2022): 3 -> 128, batch norm, ReLU, 128 -> 256, maximum over the group; that
maximum beside every point's own 256 channels, 512 -> 512, batch norm, ReLU, 512 -> dim, maximum over the
group. :meth:`GroupEncoder.plain` is written like that. :meth:`GroupEncoder.forward` gives the same up to
rounding with 0.31 of 0.49 million multiplications a point, and without ever holding the 512 channels of all
points at once:

* the half of 512 -> 512 that sees the maximum is the same for all points of a group: once a group;
* nothing stands between 128 -> 256 and the other half: the two matrices are one of 128 -> 512;
* a batch norm before which everything is linear needs no pass over its input. Mean and variance of W x + b
  follow from mean and covariance of x: 3 x 3 for the first, 128 x 128 for the second (with the groups'
  shares). So both are folded into the matrices of that frame, and a second pass over the groups, a few at a
  time, stays in the cache.

Batch norm, ``norm``:

``frame``    mean and variance of that frame's (group, point), the learned gain and bias. Features of a frame
             do not depend on its neighbours in a batch, and scale of the cloud does not matter: spacing of a
             few millimetres gives the tokens the same contrast as the unit-sphere objects of the pre-training
             did. A large defect does shift the statistics of its own frame a little.
``running``  the statistics of the pre-training, which never change. In metres neighbourhoods are about a
             hundred times smaller than those were, and tokens of all groups come out nearly alike; hence
             ``neighbourhood="matched"``, which scales the neighbourhoods of a frame to the spread that the
             checkpoint was trained on. That spread is read off the checkpoint: the first batch norm saw
             W x + b, so its running variances sum to spread^2 * sum of W^2.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch
from torch import nn
from torch.nn import functional

Norm = Literal["frame", "running"]
Neighbourhood = Literal["raw", "matched"]
_CPU_CHUNK = 1024
_GPU_CHUNK = 1 << 19


@dataclass(frozen=True, slots=True)
class _Folded:
    """Everything that depends on the weights alone, in the precision of the products."""

    to_local: torch.Tensor
    """(256, 128): the second layer, for the maximum."""
    local_bias: torch.Tensor
    joined: torch.Tensor
    """(512, 128) float32: second layer and local half of the third in one."""
    shared: torch.Tensor
    """(512, 256) float32: the half of the third layer that sees the maximum."""
    joined_bias: torch.Tensor
    out: torch.Tensor
    """(dim, 512)"""


class GroupEncoder(nn.Module):
    """Tokens of groups of points.

    Args:
        dim: channels of a token.
        widths: channels of first, second and third layer; the third is as wide as twice the second in the
            published model, which nothing here needs.
        norm, neighbourhood: see the top of the file.
    """

    def __init__(
        self,
        dim: int,
        widths: tuple[int, int, int] = (128, 256, 512),
        *,
        norm: Norm = "frame",
        neighbourhood: Neighbourhood = "raw",
    ) -> None:
        super().__init__()
        first, second, third = widths
        self.norm_kind = norm
        self.neighbourhood = neighbourhood
        self.first = nn.Linear(3, first)
        self.first_norm = nn.BatchNorm1d(first)
        self.second = nn.Linear(first, second)
        self.third = nn.Linear(2 * second, third)
        self.third_norm = nn.BatchNorm1d(third)
        self.fourth = nn.Linear(third, dim)
        self.dtype = torch.float32
        self._kept: _Folded | None = None

    def spread(self) -> torch.Tensor:
        """Root mean square of a neighbour's coordinate in the pre-training, read off the first batch norm."""
        variance = self.first_norm.running_var
        assert variance is not None
        spread: torch.Tensor = (variance.sum() / self.first.weight.square().sum()).sqrt()
        return spread

    def plain(self, relative: torch.Tensor) -> torch.Tensor:
        """The published arithmetic, layer by layer: (G, K, 3) neighbourhoods of one frame to (G, dim)."""
        groups, size, _ = relative.shape
        if self.norm_kind == "running" and self.neighbourhood == "matched":
            relative = relative * (self.spread() / relative.square().mean().sqrt())
        x = self.first(relative.reshape(groups * size, 3))
        x = self.second(functional.relu(_batch_norm(x, self.first_norm, self.norm_kind))).view(
            groups, size, -1
        )
        most = x.amax(1, keepdim=True).expand_as(x)
        x = self.third(torch.cat((most, x), dim=2)).reshape(groups * size, -1)
        x = self.fourth(functional.relu(_batch_norm(x, self.third_norm, self.norm_kind)))
        tokens: torch.Tensor = x.view(groups, size, -1).amax(1)
        return tokens

    def forward(self, relative: torch.Tensor, present: torch.Tensor | None = None) -> torch.Tensor:
        """Tokens (B, G, dim) float32 of neighbourhoods (B, G, K, 3) float32.

        Args:
            relative: neighbours minus centre.
            present: (B, G) bool, None where all are: absent groups have no part in the statistics, and
                tokens that mean nothing.
        """
        fold = self._folded()
        weight = None if present is None else present.float()[:, :, None]
        matrices, starts = self._first(relative, weight)
        tokens = []
        for frame, points in enumerate(relative):
            share = None if weight is None else weight[frame]
            if self.norm_kind == "frame":
                tokens.append(self._frame(points, share, matrices[frame], starts[frame], fold))
            else:
                tokens.append(self._running(points, matrices[frame], starts[frame], fold))
        return torch.stack(tokens)

    def _first(
        self, relative: torch.Tensor, weight: torch.Tensor | None
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """First layer and its batch norm as matrices (B, 3, 128) and starts (B, 128), float32."""
        batch = relative.shape[0]
        layer, norm = self.first, self.first_norm
        if self.norm_kind == "frame":
            mean, covariance = _moments(relative, weight)
            # Variance of W x without a matrix product: these 3 x 3 are lengths in metres squared.
            half = (layer.weight[None, :, :, None] * covariance[:, None]).sum(2)
            variance = (half * layer.weight).sum(2).clamp_min(0)
            gains = norm.weight / (variance + norm.eps).sqrt()
            matrices = gains[:, :, None] * layer.weight
            return matrices.transpose(1, 2), norm.bias - (matrices * mean[:, None]).sum(2)
        middle, deviation = _learned(norm)
        gain = norm.weight / deviation
        matrices = (gain[:, None] * layer.weight).expand(batch, -1, -1)
        starts = (norm.bias + (layer.bias - middle) * gain).expand(batch, -1)
        if self.neighbourhood == "matched":
            square = relative.square().sum((1, 2, 3)) / (3 * _count(relative, weight)[:, 0])
            matrices = matrices * (self.spread() / square.sqrt().clamp_min(1e-12))[:, None, None]
        return matrices.transpose(1, 2), starts

    def _opened(self, points: torch.Tensor, matrix: torch.Tensor, start: torch.Tensor) -> torch.Tensor:
        """(g, K, 128) in the precision of the products: the first layer and ReLU of (g, K, 3)."""
        groups, size, _ = points.shape
        x = torch.addmm(start, points.reshape(groups * size, 3), matrix).relu_()
        return x.to(self.dtype).view(groups, size, -1)

    def _running(
        self, points: torch.Tensor, matrix: torch.Tensor, start: torch.Tensor, fold: _Folded
    ) -> torch.Tensor:
        """(G, dim): all layers of one frame (G, K, 3) with learned statistics."""
        middle, deviation = _learned(self.third_norm)
        scale = self.third_norm.weight / deviation
        shift = self.third_norm.bias + (fold.joined_bias - middle) * scale
        opened = [self._opened(some, matrix, start) for some in torch.split(points, _rows(points))]
        most = torch.cat([self._most(some, fold) for some in opened])
        group = functional.linear(most, fold.shared) * scale + shift
        return self._last(opened, group, fold.joined * scale[:, None], fold)

    def _frame(
        self,
        points: torch.Tensor,
        share: torch.Tensor | None,
        matrix: torch.Tensor,
        start: torch.Tensor,
        fold: _Folded,
    ) -> torch.Tensor:
        """(G, dim): all layers of one frame (G, K, 3) with its own statistics; share (G, 1) of 0 and 1."""
        groups, size, _ = points.shape
        rows = _rows(points)
        opened: list[torch.Tensor] = []
        most, means = [], []
        width = self.first.out_features
        square = torch.zeros(width, width, device=points.device)
        for first in range(0, groups, rows):
            h = self._opened(points[first : first + rows], matrix, start)
            opened.append(h)
            most.append(self._most(h, fold))
            means.append(h.sum(1, dtype=torch.float32) / size)
            counted = h if share is None else h * share[first : first + rows, :, None].to(h.dtype)
            flat = counted.view(-1, width)
            square += (flat.t() @ flat).float()
        # What a group adds to each of its points (G, 512), and the mean of its points (G, 128).
        group = functional.linear(torch.cat(most), fold.shared)
        mean = torch.cat(means)
        total = float(groups) if share is None else share.sum().clamp_min(1)
        middle = _mean(mean, share, total)
        moved = group - _mean(group, share, total)
        covariance = square / (total * size) - torch.outer(middle, middle)
        # Variance of a group's share plus a point's: both of their own, and twice what they have in common.
        common = moved * (moved + 2 * functional.linear(mean - middle, fold.joined))
        variance = _mean(common, share, total)
        variance = variance + (functional.linear(fold.joined, covariance) * fold.joined).sum(1)
        scale = self.third_norm.weight / (variance.clamp_min(0) + self.third_norm.eps).sqrt()
        joined = fold.joined * scale[:, None]
        group = moved * scale + (self.third_norm.bias - functional.linear(middle, joined))
        return self._last(opened, group, joined, fold)

    def _most(self, some: torch.Tensor, fold: _Folded) -> torch.Tensor:
        """(g, 256) float32: the maximum over each group of the second layer."""
        return functional.linear(some, fold.to_local).amax(1).float() + fold.local_bias

    def _last(
        self, opened: list[torch.Tensor], start: torch.Tensor, matrix: torch.Tensor, fold: _Folded
    ) -> torch.Tensor:
        """(G, dim) float32: third layer with its norm folded in, ReLU, fourth, maximum over each group.

        relu(x + s) is max(x, -s) + s, and s is one for all points of a group: it joins after the maximum.
        """
        matrix = matrix.to(self.dtype)
        floor = (-start).to(self.dtype)
        most, first = [], 0
        for some in opened:
            x = functional.linear(some, matrix)
            torch.maximum(x, floor[first : first + len(some), None], out=x)
            most.append(functional.linear(x, fold.out).amax(1))
            first += len(some)
        joined = functional.linear(floor.float(), fold.out.float(), self.fourth.bias.neg())
        return torch.cat(most).float() - joined

    def prepare(self, dtype: torch.dtype) -> None:
        """Choose the precision of the products, and fold the weights anew: call it after they changed."""
        self.dtype = dtype
        self._kept = None

    def _folded(self) -> _Folded:
        kept = self._kept
        if kept is not None and kept.out.device == self.fourth.weight.device:
            return kept
        half = self.second.out_features
        with torch.no_grad():
            local, shared = self.third.weight[:, half:], self.third.weight[:, :half].contiguous()
            # In float64 once: the product of two matrices should not cost digits that the two did not.
            joined = (local.double() @ self.second.weight.double()).float()
            bias = (local.double() @ self.second.bias.double() + self.third.bias.double()).float()
            kept = _Folded(
                self.second.weight.to(self.dtype).contiguous(),
                self.second.bias.detach(),
                joined,
                shared,
                bias,
                self.fourth.weight.to(self.dtype).contiguous(),
            )
        self._kept = kept
        return kept


def _rows(points: torch.Tensor) -> int:
    """Groups a pass: as many as stay in the cache on a CPU, as many as fill a GPU."""
    return max(1, (_CPU_CHUNK if points.device.type == "cpu" else _GPU_CHUNK) // points.shape[1])


def _learned(norm: nn.BatchNorm1d) -> tuple[torch.Tensor, torch.Tensor]:
    """Running mean and deviation."""
    assert norm.running_mean is not None
    assert norm.running_var is not None
    return norm.running_mean, (norm.running_var + norm.eps).sqrt()


def _count(relative: torch.Tensor, weight: torch.Tensor | None) -> torch.Tensor:
    """(B, 1) points that count in each frame."""
    batch, groups, size, _ = relative.shape
    if weight is None:
        return torch.full((batch, 1), float(groups * size), device=relative.device)
    return weight.sum(1).clamp_min(1) * size


def _moments(relative: torch.Tensor, weight: torch.Tensor | None) -> tuple[torch.Tensor, torch.Tensor]:
    """Mean (B, 3) and covariance (B, 3, 3) of the neighbours of each frame, without a matrix product."""
    counted = relative if weight is None else relative * weight[..., None]
    count = _count(relative, weight)
    mean = counted.sum((1, 2)) / count
    moved = relative - mean[:, None, None]
    share = moved if weight is None else moved * weight[..., None]
    x, y, z = moved.unbind(-1)
    a, b, c = share.unbind(-1)
    six = [(p * q).sum((1, 2)) for p, q in ((x, a), (x, b), (x, c), (y, b), (y, c), (z, c))]
    order = (0, 1, 2, 1, 3, 4, 2, 4, 5)
    return mean, (torch.stack([six[k] for k in order], dim=1) / count).view(-1, 3, 3)


def _mean(values: torch.Tensor, share: torch.Tensor | None, total: torch.Tensor | float) -> torch.Tensor:
    """Mean over groups of (G, C), the absent ones left out."""
    return (values if share is None else values * share).sum(0) / total


def _batch_norm(x: torch.Tensor, norm: nn.BatchNorm1d, kind: Norm) -> torch.Tensor:
    """Batch norm of (N, C) with the statistics of x, or with the learned ones."""
    if kind == "running":
        mean, deviation = _learned(norm)
    else:
        # torch's own batch norm sums a hundred thousand points in a way that costs four digits.
        variance, mean = torch.var_mean(x, dim=0, correction=0)
        deviation = (variance + norm.eps).sqrt()
    return (x - mean) / deviation * norm.weight + norm.bias
