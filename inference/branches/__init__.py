"""Scoring branches: one a file, all behind the protocol of base.py."""

from __future__ import annotations

from inference.branches.base import Branch, Needs
from inference.branches.dents import Dents
from inference.branches.gaussian import ShapeGaussian
from inference.branches.mapping import ColourFromShape, ShapeFromColour
from inference.branches.nearest import Nearest
from schemas.verdict import Mode

BRANCHES: tuple[type[Branch], ...] = (Nearest, ShapeGaussian, ColourFromShape, ShapeFromColour, Dents)
"""Every branch, in the order in which they are summed."""

_HAS: dict[Mode, frozenset[Needs]] = {
    Mode.FUSED: frozenset({Needs.RGB, Needs.DEPTH}),
    Mode.RGB: frozenset({Needs.RGB}),
    Mode.DEPTH: frozenset({Needs.DEPTH}),
}


def branches_of(mode: Mode) -> tuple[type[Branch], ...]:
    """The branches whose sensors the mode has."""
    return tuple(branch for branch in BRANCHES if branch.needs <= _HAS[mode])
