"""Two ceilings of a piece of work: the operations it needs, and the bytes it cannot avoid to move."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import flop_registry


@dataclass(frozen=True, slots=True)
class Work:
    """Of one call.

    Attributes:
        operations: a multiplication and an addition are two.
        bytes: inputs (weights too) and results of all products, convolutions and attentions, each once:
            what is left where everything between them is fused into them.
    """

    operations: float
    bytes: float

    def ceilings(self, frames: int, *, tera_operations: float, tera_bytes: float) -> tuple[float, float]:
        """Frames a second that operations and that bytes allow, on a device of these peaks a second."""
        return (
            frames * tera_operations * 1e12 / max(self.operations, 1.0),
            frames * tera_bytes * 1e12 / max(self.bytes, 1.0),
        )


class _Counter(TorchDispatchMode):  # type: ignore[no-untyped-call]
    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.operations = 0.0
        self.bytes = 0.0

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        named = dict(kwargs or {})
        count: Any = flop_registry.get(func.overloadpacket)
        if count is None:
            # In inference mode a layer arrives whole; what it is made of is counted.
            with self:
                whole = func.decompose(*args, **named)
            return func(*args, **named) if whole is NotImplemented else whole
        out = func(*args, **named)
        self.operations += float(count(*args, **named, out_val=out))
        self.bytes += _size(args) + _size(tuple(named.values())) + _size(out)
        return out


def _size(values: Any) -> float:
    if isinstance(values, torch.Tensor):
        return float(values.numel() * values.element_size())
    if isinstance(values, tuple | list):
        return sum(_size(one) for one in values)
    return 0.0


def work_of(call: Callable[[], object]) -> Work:
    """Count one call of something made of torch's operators."""
    counter = _Counter()
    with counter:
        call()
    return Work(counter.operations, counter.bytes)
