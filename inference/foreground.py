"""Which pixels are the part: the belt around it is not to be judged, nor to be counted as inspected.

What is taught (:meth:`Foreground.fit`) is the outline that the normals' parts share, how far they lie from
their place, and the belt's height and colour. In a frame (:meth:`Foreground.find`) the foreground is what
stands out of the belt **and** the taught outline laid where this part lies, widened by a margin: a burr is
inside because it stands out, a piece broken off because the outline says that it should be there, a hole in
the depth image because the outline covers it.

Without depth the outline comes from the station's last good silhouette, from the region that the normals'
parts covered, or from the belt's colour, in that order; the first two only where parts lie still, since the
place of the part before says nothing of this one's otherwise. A surface that fills the frame, as a web does,
has no outline, and every pixel of it is foreground.

While teaching, ``Foreground.fit`` takes what ``Foreground.look`` saw of each frame, and its ``tensors()`` go
into the bundle; while inspecting, ``find(sample, mode)``, which raises NoPart over an empty belt. Of what it
finds, ``tile(box, side)`` is the mask of a tile, ``source`` and ``coverage(layout)`` belong in the verdict,
and ``silhouette`` is to be remembered for frames whose depth is missing.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Self

import cv2
import numpy as np
import torch

from inference.belt_colour import BeltColour
from inference.errors import BundleError, NoPart
from inference.outlines import InDepth, agrees, colour_masks, depth_masks, outlines_of
from inference.roi import Roi
from inference.sample import SILHOUETTE, Sample
from inference.silhouette import (
    SIDE,
    Image,
    Mask,
    View,
    bridged,
    grown,
    over_belt,
    pieces,
    place,
    shifted,
    view,
)
from inference.tiles import TileLayout
from schemas.verdict import Mode

MARGIN = 2
"""Cells of the grid (1.6 % of the box) that the foreground is wider than the part: wider lets the belt in."""
_BELT_MARGIN = 4
"""Cells beside a part that are not taken for belt: shadows, flying pixels and mixed cells."""

_WIDER = 0.12  # of the region's sides: a plane through the belt needs belt around the part
_RING = 0.05  # of the box, where the region leaves no belt around it
_STILL = 8  # cells; parts that lie further from their place than this are not fixtured
_SLACK = 4  # cells beyond the furthest normal
_THERE = 0.3  # share of the outline that must stand out, or there is no part
_JUDGED = 0.2  # share of the outline that must have been seen to say so
TILE_PART = 0.05
"""A tile with less part than this share does not set the coverage by itself."""
_ENTIRE = 0.75  # of the taught outline's area: less than parts differ by is a part that lies out of sight


class Source(StrEnum):
    """What told the part from the belt."""

    DEPTH = "depth"
    SILHOUETTE = "silhouette"
    REGION = "region"
    BELT = "belt"
    FRAME = "frame"


@dataclass(frozen=True, slots=True)
class Found:
    """The foreground of one frame.

    Attributes:
        source: where it comes from.
        box: what the masks cover, in relative coordinates of the frame.
        mask: (SIDE, SIDE) bool, the part and a margin; None where everything is foreground.
        part: (SIDE, SIDE) bool, the part without the margin; None likewise.
        share: (SIDE, SIDE) share of each cell that the depth sensor read; None without depth.
        silhouette: (64, 64) bool over the box, worth remembering for frames without depth; None otherwise.
        own: (SIDE, SIDE) bool, what this frame itself shows of a part, holes in depth counted in where the
            outline lies; None where it does not show any.
        expected: (SIDE, SIDE) bool, the taught outline in its place; None with ``own``.
    """

    source: Source
    box: Roi = field(default_factory=Roi)
    mask: Mask | None = field(default=None, repr=False)
    part: Mask | None = field(default=None, repr=False)
    share: Image | None = field(default=None, repr=False)
    silhouette: Mask | None = field(default=None, repr=False)
    own: Mask | None = field(default=None, repr=False)
    expected: Mask | None = field(default=None, repr=False)

    def tile(self, box: Roi, side: int) -> Mask | None:
        """(side, side) bool of a tile of the layout; None where all of it is foreground."""
        if self.mask is None:
            return None
        return _crop(self.mask.astype(np.float32), self.box, box, side) > 0.5

    def coverage(self, layout: TileLayout) -> float | None:
        """Share of the part with valid depth readings, of the tile that shows least; None without either.

        It is at most the share of all of the part in the region, for a part that is small in every tile. Of a
        part that lies mostly outside the region it is the share that lies inside, whatever the sensors.
        """
        if self.part is None:
            return None
        inside = _cells(layout.roi, self.box)
        worst = self._entire(inside)
        if self.share is None:
            return None if worst == 1.0 else worst
        part = self.part.astype(np.float32)
        size = float(part[inside].sum())
        worst = min(worst, float((part * self.share)[inside].sum()) / size if size else 0.0)
        for box in layout.boxes():
            here = _crop(part, self.box, box, SIDE)
            if float(here.mean()) < TILE_PART:
                continue
            read = _crop(part * self.share, self.box, box, SIDE)
            worst = min(worst, float(read.sum() / here.sum()))
        return worst

    def _entire(self, inside: Mask) -> float:
        """How much of a part lies inside; 1 where it is as much as parts are, or nobody knows."""
        if self.own is None or self.expected is None:
            return 1.0
        there = int((self.own & inside).sum()) / max(int((self.expected & inside).sum()), 1)
        return there if there < _ENTIRE else 1.0


class Foreground:
    """Taught on the normals of one product; afterwards a pure function of one frame."""

    def __init__(
        self,
        *,
        box: Roi,
        shape: Image | None = None,
        region: Mask | None = None,
        belt: Mask | None = None,
        reach: int = 0,
        still: bool = True,
        depth: InDepth | None = None,
        colour: BeltColour | None = None,
    ) -> None:
        """From taught state; see :meth:`fit`.

        Args:
            box: what the grid covers.
            shape: (SIDE, SIDE) share of the normals' parts at each cell, laid over each other; None where the
                surface fills the frame.
            region: (SIDE, SIDE) cells that any normal's part covered.
            belt: (SIDE, SIDE) cells that show belt in every normal.
            reach: cells that a part may lie from its place.
            still: whether parts lie where the normals lay.
            depth, colour: how the part is told from the belt; None where that sensor does not show it.
        """
        self.box = box
        self.shape = shape
        self.region = region
        self.belt = belt
        self.reach = reach
        self.still = still
        self._depth = depth
        self._colour = colour
        self._outline = None if shape is None else np.asarray(shape > 0.5)

    @property
    def whole(self) -> bool:
        """Whether the surface fills the frame: everything is foreground."""
        return self.shape is None

    @staticmethod
    def look(sample: Sample, layout: TileLayout) -> View:
        """What :meth:`fit` needs of one teaching frame."""
        return view(sample, widened(layout.roi))

    @classmethod
    def everything(cls) -> Self:
        """The foreground of a surface that fills the frame."""
        return cls(box=Roi())

    @classmethod
    def fit(cls, views: Sequence[View], layout: TileLayout) -> Self:
        """From the teaching frames' views; whether there is a part to be outlined at all is found out."""
        box = widened(layout.roi)
        around = _around(layout.roi, box)
        by_depth = depth_masks(views, around)
        seen = None if by_depth is None else outlines_of(by_depth[0])
        depth = None if by_depth is None or seen is None else by_depth[1]
        labs = [one.lab for one in views]
        colours = [lab for lab in labs if lab is not None]
        masks = colour_masks(colours, around)
        by_colour = outlines_of(masks)
        seen = seen or by_colour
        if seen is None:
            return cls.everything()
        ever = np.mean([one for one in seen.masks], axis=0)
        region = np.asarray(ever > 0.02)
        belt = ~grown(region, _BELT_MARGIN)
        if belt.mean() < 0.02:
            belt = around
        colour = None
        if len(colours) == len(seen.masks):
            candidate = BeltColour.fit(colours, [~grown(one, _BELT_MARGIN) for one in seen.masks])
            if candidate is not None and agrees(candidate, colours, belt, seen.masks):
                colour = candidate
        furthest = max(max(abs(dx), abs(dy)) for dx, dy in seen.shifts)
        return cls(
            box=box,
            shape=seen.shape,
            region=region,
            belt=belt,
            reach=min(furthest + _SLACK, SIDE // 2),
            still=furthest <= _STILL,
            depth=depth,
            colour=colour,
        )

    def find(self, sample: Sample, mode: Mode) -> Found:
        """The foreground of one frame, from the sensors that ``mode`` names.

        Raises:
            NoPart: nothing stands out of the belt where a part should lie.
        """
        if self.shape is None or self._outline is None or self.region is None or self.belt is None:
            return Found(Source.FRAME)
        in_depth = mode is not Mode.RGB
        # Not in DEPTH mode: a covered lens shows a belt without a part.
        in_colour = mode is Mode.RGB or (mode is Mode.FUSED and self._depth is None)
        seen = view(sample, self.box, colour=in_colour, depth=in_depth)
        share = seen.share if in_depth else None
        if in_depth and self._depth is not None:
            over = over_belt(seen, self.belt)
            if over is not None:
                own = seen.read & (self._depth.sign * over[0] > self._depth.reach)
                laid = self._laid(pieces(bridged(own, seen.read)), own, seen.read)
                if laid is not None:
                    return self._found(Source.DEPTH, laid[0], share, own=laid[1], remember=True)
        part = np.zeros((SIDE, SIDE), np.bool_)
        shown: Mask | None = None
        if seen.lab is not None and self._colour is not None:
            out = self._colour.stands_out(seen.lab, self.belt if self.still else None)
            laid = self._laid(pieces(out), out, np.ones((SIDE, SIDE), np.bool_))
            if laid is not None:
                # Whatever else tells the place: what stands out by its colour is never left out.
                part, shown = laid
        if self.still and sample.silhouette is not None and in_depth is False:
            last = cv2.resize(
                sample.silhouette.astype(np.uint8), (SIDE, SIDE), interpolation=cv2.INTER_NEAREST
            )
            return self._found(Source.SILHOUETTE, (last > 0) | self._outline | part, share, own=shown)
        if self.still or shown is None:
            return self._found(Source.REGION, self.region | part, share, own=shown)
        return self._found(Source.BELT, part, share, own=shown)

    def _laid(self, own: Mask, raw: Mask, known: Mask) -> tuple[Mask, Mask] | None:
        """The frame's own outline and the taught one where it lies; None where too little was seen to say.

        Beside it, the part that the frame itself shows, with the cells of the outline that nothing is known
        of. Raises NoPart.
        """
        assert self.shape is not None
        shift = place(own, known, self.shape, self.reach)
        outline = np.asarray(shifted(self.shape, shift) > 0.5)
        size = int(outline.sum())
        judged = int((outline & known).sum())
        if not size or judged < _JUDGED * size:
            return None
        there = int((outline & known & raw).sum()) / judged
        if there < _THERE:
            raise NoPart(
                f"{100 * there:.0f} % of the place where a part should lie stands out of the belt: nothing "
                "was there to be inspected; check the trigger, or teach again if the part is another one"
            )
        return own | outline, own | (outline & ~known)

    def _found(
        self, source: Source, part: Mask, share: Image | None, *, own: Mask | None, remember: bool = False
    ) -> Found:
        silhouette = None
        if remember:
            small = cv2.resize(part.astype(np.float32), SILHOUETTE[::-1], interpolation=cv2.INTER_AREA)
            silhouette = np.asarray(small > 0.25)
        expected = None if own is None else self._outline
        return Found(source, self.box, grown(part, MARGIN), part, share, silhouette, own, expected)

    def tensors(self) -> dict[str, torch.Tensor]:
        """The state, for the bundle."""
        box = (self.box.x0, self.box.y0, self.box.x1, self.box.y1)
        out = {"box": torch.tensor(box, dtype=torch.float64)}
        if self.shape is None or self.region is None or self.belt is None:
            return out
        out["shape"] = torch.from_numpy(self.shape.copy())
        out["region"] = torch.from_numpy(self.region.astype(np.uint8))
        out["belt"] = torch.from_numpy(self.belt.astype(np.uint8))
        out["place"] = torch.tensor([self.reach, int(self.still)], dtype=torch.int64)
        if self._depth is not None:
            out["depth"] = torch.tensor([self._depth.sign, self._depth.reach], dtype=torch.float64)
        if self._colour is not None:
            out |= {f"colour.{name}": one for name, one in self._colour.tensors().items()}
        return out

    @classmethod
    def restore(cls, tensors: Mapping[str, torch.Tensor]) -> Self:
        """Back from :meth:`tensors`. Raises BundleError: a tensor is missing or misshapen."""
        sides = _tensor(tensors, "box", (4,)).double().tolist()
        box = Roi(*sides)
        if "shape" not in tensors:
            return cls(box=box)
        reach, still = _tensor(tensors, "place", (2,)).tolist()
        depth = None
        if "depth" in tensors:
            depth = InDepth(*_tensor(tensors, "depth", (2,)).double().tolist())
        colour = {k.removeprefix("colour."): v for k, v in tensors.items() if k.startswith("colour.")}
        return cls(
            box=box,
            shape=_tensor(tensors, "shape", (SIDE, SIDE)).float().numpy(),
            region=_tensor(tensors, "region", (SIDE, SIDE)).numpy() > 0,
            belt=_tensor(tensors, "belt", (SIDE, SIDE)).numpy() > 0,
            reach=int(reach),
            still=bool(still),
            depth=depth,
            colour=BeltColour.restore(colour) if colour else None,
        )


def widened(roi: Roi) -> Roi:
    """The region with some of the belt around it."""
    x, y = _WIDER * (roi.x1 - roi.x0), _WIDER * (roi.y1 - roi.y0)
    return Roi(max(0.0, roi.x0 - x), max(0.0, roi.y0 - y), min(1.0, roi.x1 + x), min(1.0, roi.y1 + y))


def _tensor(tensors: Mapping[str, torch.Tensor], name: str, shape: tuple[int, ...]) -> torch.Tensor:
    found = tensors.get(name)
    if found is None or tuple(found.shape) != shape:
        raise BundleError(f"the foreground of the bundle lacks {name} {shape}: teach the product again")
    return found


def _around(roi: Roi, box: Roi) -> Mask:
    """Cells of the box outside the region; its border, where the region leaves too few."""
    outside = ~_cells(roi, box)
    if outside.mean() >= 2 * _RING:
        return outside
    ring = max(1, round(_RING * SIDE))
    outside[:] = True
    outside[ring:-ring, ring:-ring] = False
    return outside


def _cells(roi: Roi, box: Roi) -> Mask:
    """Cells of the box inside the region."""
    inside = np.zeros((SIDE, SIDE), np.bool_)
    rows = slice(*(round(SIDE * (y - box.y0) / (box.y1 - box.y0)) for y in (roi.y0, roi.y1)))
    columns = slice(*(round(SIDE * (x - box.x0) / (box.x1 - box.x0)) for x in (roi.x0, roi.x1)))
    inside[rows, columns] = True
    return inside


def _crop(image: Image, box: Roi, part: Roi, side: int) -> Image:
    """The cells of an image over ``box`` that lie in ``part``, at (side, side), bilinear."""
    width, height = (box.x1 - box.x0) / SIDE, (box.y1 - box.y0) / SIDE
    scale_x, scale_y = (part.x1 - part.x0) / side / width, (part.y1 - part.y0) / side / height
    # Pixel centres: column c of the tile lies at cell (c + 0.5) * scale + start - 0.5.
    start_x, start_y = (part.x0 - box.x0) / width, (part.y0 - box.y0) / height
    matrix = np.array(
        [[scale_x, 0, 0.5 * scale_x + start_x - 0.5], [0, scale_y, 0.5 * scale_y + start_y - 0.5]], np.float64
    )
    flags = cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
    return np.asarray(
        cv2.warpAffine(image, matrix, (side, side), flags=flags, borderMode=cv2.BORDER_REPLICATE), np.float32
    )
