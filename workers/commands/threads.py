"""How many threads torch takes."""

from __future__ import annotations

import torch


def calmly(profile: str) -> None:
    """Torch on one thread where its steps are small: its threads would spin, waiting for each other.

    On two busy cores that makes teaching several times as slow. The large networks of the reference profile
    gain from several.
    """
    if profile == "compact":
        torch.set_num_threads(1)
