"""Small things that every extractor and branch needs."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import torch


def sub(tensors: Mapping[str, torch.Tensor], prefix: str) -> dict[str, torch.Tensor]:
    """The tensors whose names start with ``prefix``, without it."""
    return {name[len(prefix) :]: value for name, value in tensors.items() if name.startswith(prefix)}


def add(timings: dict[str, float], stage: str, seconds: float) -> None:
    """Add to a stage's milliseconds."""
    timings[stage] = timings.get(stage, 0.0) + 1e3 * seconds


def finite(array: np.ndarray[tuple[int, ...], np.dtype[np.float32]]) -> bool:
    """Whether every value is finite; one sum instead of a mask, since NaN and infinity survive addition."""
    return bool(np.isfinite(np.sum(array, dtype=np.float64)))
