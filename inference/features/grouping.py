"""Groups of points of an organised cloud: centres, and the nearest points around each.

Point-MAE (Pang et al., ECCV 2022) looks at a cloud as groups: centres by farthest point sampling, each with
its k nearest points. Two ways here, chosen once for a product and the same in teaching and inspection:

``published``  farthest point sampling and k nearest over all points, as the method was published. It starts
               at the first valid point of the image, so that the same cloud always gives the same groups.
``lattice``    the cloud is an image: one centre a cell of a lattice, its neighbours from a window of pixels
               around it. No loop, static shapes, about a fiftieth of the time.

Distances are plain differences in float32, never a matrix product: no precision setting for matrix products
and no autocast touches them, no cancellation makes one negative, and they do not depend on where the origin
is.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import torch
from torch.nn import functional

from inference.errors import DepthUnusable, EncoderError

_KNN_CHUNK = 64


@dataclass(frozen=True, slots=True)
class Groups:
    """Groups of B clouds of S x S pixels.

    Attributes:
        centres: (B, G, 3) float32, the unit of the cloud; 0 where absent.
        pixels: (B, G) int64, the pixel of each centre, row * S + column; 0 where absent.
        points: (B, G, K) int64, pixels of the neighbours; 0 where absent. With fewer than K in reach they
            are repeated in turn.
        present: (B, G) bool; a cell without points has no centre.
        lattice: cells along a side where group i is cell i of a lattice, None otherwise.
    """

    centres: torch.Tensor
    pixels: torch.Tensor
    points: torch.Tensor
    present: torch.Tensor
    lattice: int | None

    def neighbourhoods(self, cloud: torch.Tensor) -> torch.Tensor:
        """(B, G, K, 3) float32: the neighbours relative to their centre, from the cloud (B, S, S, 3)."""
        batch, groups, size = self.points.shape
        flat = cloud.reshape(batch, -1, 3)
        index = self.points.reshape(batch, -1, 1).expand(-1, -1, 3)
        relative = flat.gather(1, index).view(batch, groups, size, 3) - self.centres[:, :, None]
        return relative * self.present[:, :, None, None]


def check(cloud: torch.Tensor, valid: torch.Tensor) -> None:
    """Raise what is wrong with a batch of clouds (B, S, S, 3) and validity (B, S, S).

    Whether a cloud is empty or not finite is looked at on the CPU only: on a GPU it would cost a round trip,
    and an empty cloud gives no group there.

    Raises:
        DepthUnusable: shapes that do not belong together, a cloud without a valid point, or NaN in one.
    """
    if cloud.ndim != 4 or cloud.shape[3] != 3 or cloud.shape[1] != cloud.shape[2]:
        raise DepthUnusable(f"a batch of clouds is (B, S, S, 3), not {tuple(cloud.shape)}")
    if valid.shape != cloud.shape[:3] or valid.dtype != torch.bool:
        raise DepthUnusable(
            f"validity is {valid.dtype} {tuple(valid.shape)}, expected bool {tuple(cloud.shape[:3])}"
        )
    if cloud.device.type != "cpu":
        return
    for frame, (points, mask) in enumerate(zip(cloud, valid, strict=True)):
        if not bool(mask.any()):
            raise DepthUnusable(f"cloud {frame} of the batch has no valid point: nothing was seen there")
        if not bool(torch.isfinite(points[mask]).all()):
            raise DepthUnusable(f"cloud {frame} of the batch has valid points that are not finite")


@lru_cache(maxsize=8)
def _central_first(cell: int, device: torch.device) -> torch.Tensor:
    """(cell * cell,) squared distances of a cell's pixels from its middle, ties broken by raster order."""
    middle = torch.arange(cell, dtype=torch.float32, device=device) - (cell - 1) / 2
    square = middle.square()
    far = (square[:, None] + square[None, :]).reshape(-1)
    return far + torch.arange(cell * cell, dtype=torch.float32, device=device) * 1e-4


def cell_pixels(valid: torch.Tensor, grid: int) -> tuple[torch.Tensor, torch.Tensor]:
    """In each cell of a grid the valid pixel nearest to the middle of the cell.

    Args:
        valid: (B, S, S) bool.
        grid: cells along a side; divides S.

    Returns:
        (B, grid * grid) int64 pixels (row * S + column, 0 where the cell has none) and bool, whether it has.

    Raises:
        EncoderError: the grid does not divide the image.
    """
    batch, side, _ = valid.shape
    if grid < 1 or side % grid:
        raise EncoderError(f"a lattice of {grid} cells does not divide an image of {side} pixels")
    cell = side // grid
    cells = (
        valid.reshape(batch, grid, cell, grid, cell).permute(0, 1, 3, 2, 4).reshape(batch, -1, cell * cell)
    )
    far = _central_first(cell, valid.device).expand(cells.shape).masked_fill(~cells, torch.inf)
    nearest, inside = far.min(2)
    corner = torch.arange(grid, device=valid.device) * cell
    start = (corner[:, None] * side + corner[None, :]).reshape(-1)
    pixels = start + inside // cell * side + inside % cell
    present = torch.isfinite(nearest)
    return pixels * present, present


@lru_cache(maxsize=8)
def _window(reach: int, stride: int, device: torch.device) -> torch.Tensor:
    """((2 reach + 1)^2,) offsets of the pixels of a window in an image with rows of ``stride`` pixels."""
    step = torch.arange(-reach, reach + 1, device=device)
    return (step[:, None] * stride + step[None, :]).reshape(-1)


def lattice(cloud: torch.Tensor, valid: torch.Tensor, *, cells: int, size: int, reach: int) -> Groups:
    """Centres on a lattice of pixels, neighbours from a window of pixels.

    The window holds the true nearest points wherever the surface is less steep than it is wide; beyond a
    depth edge it is the nearer side that fills the group.

    Args:
        cloud: (B, S, S, 3) float32.
        valid: (B, S, S) bool; what a cloud holds elsewhere is never looked at.
        cells: cells along a side of the lattice, a divisor of S; G = cells^2.
        size: K, points a group.
        reach: the window is 2 * reach + 1 pixels wide.

    Raises:
        EncoderError: the lattice does not divide the image, or the window has fewer than K pixels.
    """
    batch, side, _ = valid.shape
    width = 2 * reach + 1
    if size > width * width:
        raise EncoderError(f"a window of {width} x {width} pixels cannot hold groups of {size} points")
    cloud = cloud.float().masked_fill(~valid[..., None], 0.0)
    pixels, present = cell_pixels(valid, cells)
    centres = cloud.reshape(batch, -1, 3).gather(1, pixels[..., None].expand(-1, -1, 3))
    # A margin without readings around the image spares every window the question whether it is inside.
    wide = side + 2 * reach
    points = functional.pad(cloud, (0, 0, reach, reach, reach, reach)).view(batch, -1, 3)
    gap = functional.pad(~valid, (reach, reach, reach, reach), value=True).view(batch, -1)
    rows, columns = pixels // side + reach, pixels % side + reach
    near = (rows * wide + columns)[..., None] + _window(reach, wide, cloud.device)
    flat = near.view(batch, -1)
    relative = points.gather(1, flat[..., None].expand(-1, -1, 3)).view(*near.shape, 3) - centres[:, :, None]
    squared = relative.square().sum(-1).masked_fill(gap.gather(1, flat).view(near.shape), torch.inf)
    chosen = _nearest(squared, size)
    found = near.gather(2, chosen)
    home = (found // wide - reach) * side + found % wide - reach
    return Groups(centres, pixels, home * present[..., None], present, cells)


def _nearest(squared: torch.Tensor, size: int) -> torch.Tensor:
    """(..., size) indices of the nearest along the last axis; infinite ones replaced by repeats in turn."""
    kept = min(size, squared.shape[-1])
    distances, order = squared.topk(kept, dim=-1, largest=False)
    count = torch.isfinite(distances).sum(-1, keepdim=True).clamp_min(1)
    turn = torch.arange(size, device=squared.device).expand(*squared.shape[:-1], size) % count
    return order.gather(-1, turn)


def farthest(points: torch.Tensor, count: int) -> torch.Tensor:
    """(count,) int64: farthest point sampling of points (N, 3), from the first one; count <= N.

    Eldar et al. 1997. The loop never asks the device for a value, so on a GPU it is queued as a whole.
    """
    planes = points.t().contiguous()
    chosen = torch.zeros(count, dtype=torch.int64, device=points.device)
    nearest = torch.full((points.shape[0],), torch.inf, device=points.device)
    last = chosen[:1]
    for step in range(1, count):
        away = (planes - planes.index_select(1, last)).square_().sum(0)
        nearest = torch.minimum(nearest, away)
        last = nearest.argmax(0, keepdim=True)
        chosen[step : step + 1] = last
    return chosen


def nearest_points(points: torch.Tensor, centres: torch.Tensor, size: int) -> torch.Tensor:
    """(G, size) int64: the nearest of points (N, 3) to each of centres (G, 3), repeated where N < size."""
    planes = points.t().contiguous()
    found = []
    for some in torch.split(centres, _KNN_CHUNK):
        squared = (planes[0] - some[:, 0:1]).square_()
        for axis in (1, 2):
            squared += (planes[axis] - some[:, axis : axis + 1]).square_()
        found.append(_nearest(squared, size))
    return torch.cat(found)


def published(cloud: torch.Tensor, valid: torch.Tensor, *, groups: int, size: int) -> Groups:
    """Farthest point sampling and k nearest over all valid points, one cloud after the other.

    Args:
        cloud: (B, S, S, 3) float32.
        valid: (B, S, S) bool.
        groups: G. A cloud with fewer points has that many groups, the others are absent.
        size: K, points a group.
    """
    batch, side, _ = valid.shape
    device = cloud.device
    centres = torch.zeros(batch, groups, 3, device=device)
    pixels = torch.zeros(batch, groups, dtype=torch.int64, device=device)
    members = torch.zeros(batch, groups, size, dtype=torch.int64, device=device)
    present = torch.zeros(batch, groups, dtype=torch.bool, device=device)
    for frame in range(batch):
        home = valid[frame].reshape(side * side).nonzero()[:, 0]
        if not home.numel():
            continue
        points = cloud[frame].float().reshape(-1, 3)[home]
        count = min(groups, points.shape[0])
        chosen = farthest(points, count)
        centres[frame, :count] = points[chosen]
        pixels[frame, :count] = home[chosen]
        members[frame, :count] = home[nearest_points(points, points[chosen], size)]
        present[frame, :count] = True
    return Groups(centres, pixels, members, present, None)
