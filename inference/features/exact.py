"""Float32 that means float32 on a GPU."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch


@contextmanager
def exact(device: torch.device) -> Iterator[None]:
    """Products and convolutions of float32 in full within the block; nothing to do on a CPU.

    A GPU may round their inputs to 10 bits (TF32), by default for convolutions: a distance from
    |a|^2 + |b|^2 - 2ab then loses what it is asked for.
    """
    if device.type != "cuda":
        yield
        return
    before = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision("highest")
    try:
        with torch.backends.cudnn.flags(enabled=True, benchmark=False, deterministic=True, allow_tf32=False):
            yield
    finally:
        torch.set_float32_matmul_precision(before)
