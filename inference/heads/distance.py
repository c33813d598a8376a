"""How far a predicted token points from the one that was seen."""

from __future__ import annotations

import torch

_LEAST = 1e-12


def distance(predicted: torch.Tensor, seen: torch.Tensor) -> torch.Tensor:
    """|| a/|a| - b/|b| || over the last axis, in [0, 2], in float32 at least.

    The difference is taken as written: sqrt(2 - 2 cos) would lose a small angle to rounding. A token of
    length 0 has no direction and counts as 0: it is 1 from any other. NaN stays NaN.

    Args:
        predicted, seen: (..., C), the same shape.
    """
    a, b = (one.double() if one.dtype == torch.float64 else one.float() for one in (predicted, seen))
    length_a = torch.linalg.vector_norm(a, dim=-1, keepdim=True).clamp_min(_LEAST)
    length_b = torch.linalg.vector_norm(b, dim=-1, keepdim=True).clamp_min(_LEAST)
    # |a| times the difference: one large temporary instead of three, which is what this costs on a CPU.
    apart = torch.addcmul(a, b, length_a / length_b, value=-1)
    found = torch.linalg.vector_norm(apart, dim=-1) / length_a[..., 0]
    # Rounding may leave two opposite directions a hair more than 2 apart.
    out: torch.Tensor = found.clamp_max(2.0)
    return out
