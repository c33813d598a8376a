"""Scoring branches: one a file, all behind the protocol of base.py."""

from __future__ import annotations

from collections.abc import Sequence

from inference.branches.base import Branch, Needs
from schemas.verdict import Mode

_HAS: dict[Mode, frozenset[Needs]] = {
    Mode.FUSED: frozenset({Needs.RGB, Needs.DEPTH}),
    Mode.RGB: frozenset({Needs.RGB}),
    Mode.DEPTH: frozenset({Needs.DEPTH}),
}


def with_sensors(kinds: Sequence[type[Branch]], mode: Mode) -> tuple[type[Branch], ...]:
    """Those of ``kinds`` whose sensors the mode has, in their order."""
    return tuple(kind for kind in kinds if kind.needs <= _HAS[mode])
