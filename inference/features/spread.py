"""Tokens at centres brought to a grid of pixels or cells: inverse squared distance of the three nearest.

The weights are those of PointNet++'s feature propagation (Qi et al. 2017): 1 / (d^2 + 1e-8) of the three
nearest centres, made to sum to one.

``published``  to every valid point of the cloud, the rest zero; then a 3 x 3 mean without margin and an
               adaptive mean back to the full size, which blurs a little and lets the valid area grow by a
               pixel or two. 231 MB for 1152 channels at 224 x 224.
``native``     to the one pixel nearest to the middle of each cell of a coarser grid, without the two means:
               cells are larger than what those blur.
"""

from __future__ import annotations

import torch
from torch.nn import functional

from inference.features.grouping import Groups, cell_pixels

NEAREST = 3
EPS = 1e-8
_CHUNK = 2048
_LATTICE_REACH = 2


def weights(squared: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Indices and weights, (..., 3) each, of the three least squared distances (..., G).

    Infinite distances get weight 0; where all are infinite all weights are 0. With fewer than three centres
    the last axis is as long as there are centres.
    """
    distances, order = squared.topk(min(NEAREST, squared.shape[-1]), dim=-1, largest=False)
    inverse = 1.0 / (distances + EPS)
    total = inverse.sum(-1, keepdim=True)
    return order, inverse / total.clamp_min(torch.finfo(torch.float32).tiny)


def three_nearest(
    points: torch.Tensor, centres: torch.Tensor, present: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor]:
    """Indices and weights (N, 3) of the nearest present centres (G, 3), to points (N, 3)."""
    orders, shares = [], []
    gone = ~present
    for some in torch.split(points, _CHUNK):
        squared = (some[:, 0:1] - centres[:, 0]).square_()
        for axis in (1, 2):
            squared += (some[:, axis : axis + 1] - centres[:, axis]).square_()
        order, share = weights(squared.masked_fill_(gone, torch.inf))
        orders.append(order)
        shares.append(share)
    return torch.cat(orders), torch.cat(shares)


def blend(tokens: torch.Tensor, order: torch.Tensor, share: torch.Tensor) -> torch.Tensor:
    """(N, C): weighted sums of the tokens (G, C) that ``order`` (N, n) names."""
    return functional.embedding_bag(
        order, tokens.float().contiguous(), per_sample_weights=share.float(), mode="sum"
    )


def published(
    tokens: torch.Tensor, groups: Groups, cloud: torch.Tensor, valid: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor]:
    """The published full-size features, one frame after the other.

    Args:
        tokens: (B, G, C) at the centres of ``groups``.
        cloud: (B, S, S, 3) float32.
        valid: (B, S, S) bool.

    Returns:
        (B, S, S, C) float32 features, and (B, S, S) bool: whether a valid pixel lies in reach of the two
        means, which is where the features are not zero.
    """
    batch, side, _ = valid.shape
    channels = tokens.shape[2]
    features, masks = [], []
    for frame in range(batch):
        home = valid[frame].reshape(-1).nonzero()[:, 0]
        points = cloud[frame].float().reshape(-1, 3)[home]
        canvas = torch.zeros(side * side, channels, device=tokens.device)
        if home.numel():
            order, share = three_nearest(points, groups.centres[frame], groups.present[frame])
            canvas[home] = blend(tokens[frame], order, share)
        features.append(_two_means(canvas.view(side, side, channels).permute(2, 0, 1)).permute(1, 2, 0))
        masks.append(_two_means(valid[frame].float()[None])[0] > 0)
    return torch.stack(features), torch.stack(masks)


def _two_means(image: torch.Tensor) -> torch.Tensor:
    """(C, S, S): 3 x 3 mean without margin, then the adaptive mean back to S x S."""
    small = functional.avg_pool2d(image[None], 3, 1)
    side: int = image.shape[-1]
    return functional.adaptive_avg_pool2d(small, (side, side))[0]


def native(
    tokens: torch.Tensor, groups: Groups, cloud: torch.Tensor, valid: torch.Tensor, grid: int
) -> tuple[torch.Tensor, torch.Tensor]:
    """Features of a coarser grid, static shapes.

    On a lattice the three nearest are sought among the 5 x 5 lattice cells around the pixel, otherwise among
    all centres.

    Args:
        tokens: (B, G, C) at the centres of ``groups``.
        cloud: (B, S, S, 3) float32.
        valid: (B, S, S) bool.
        grid: cells along a side, a divisor of S.

    Returns:
        (B, grid, grid, C) float32 features, 0 in cells without a valid pixel, and (B, grid, grid) bool.

    Raises:
        EncoderError: the grid does not divide the image.
    """
    batch, side, _ = valid.shape
    channels = tokens.shape[2]
    pixels, present = cell_pixels(valid, grid)
    clean = cloud.float().masked_fill(~valid[..., None], 0.0).reshape(batch, -1, 3)
    queries = clean.gather(1, pixels[..., None].expand(-1, -1, 3))
    if groups.lattice is None:
        found = [three_nearest(queries[i], groups.centres[i], groups.present[i]) for i in range(batch)]
        order = torch.stack([one[0] for one in found])
        share = torch.stack([one[1] for one in found])
    else:
        order, share = _in_window(queries, pixels, groups, side, groups.lattice)
    share = share * present[..., None]
    first = torch.arange(batch, device=tokens.device)[:, None, None] * tokens.shape[1]
    flat = blend(tokens.reshape(-1, channels), (order + first).flatten(0, 1), share.flatten(0, 1))
    return flat.view(batch, grid, grid, channels), present.view(batch, grid, grid)


def _in_window(
    queries: torch.Tensor, pixels: torch.Tensor, groups: Groups, side: int, lattice: int
) -> tuple[torch.Tensor, torch.Tensor]:
    """Indices (B, Q, 3) into the groups and their weights, from the lattice cells around each pixel."""
    cell = side // lattice
    step = torch.arange(-_LATTICE_REACH, _LATTICE_REACH + 1, device=pixels.device)
    rows = (pixels // side // cell)[..., None, None] + step[:, None]
    columns = (pixels % side // cell)[..., None, None] + step[None, :]
    inside = (rows >= 0) & (rows < lattice) & (columns >= 0) & (columns < lattice)
    near = (rows.clamp(0, lattice - 1) * lattice + columns.clamp(0, lattice - 1)).flatten(2)
    batch = near.shape[0]
    flat = near.view(batch, -1)
    centres = groups.centres.gather(1, flat[..., None].expand(-1, -1, 3)).view(*near.shape, 3)
    there = groups.present.gather(1, flat).view(near.shape) & inside.flatten(2)
    squared = (centres - queries[:, :, None]).square().sum(-1).masked_fill(~there, torch.inf)
    order, share = weights(squared)
    return near.gather(2, order), share
