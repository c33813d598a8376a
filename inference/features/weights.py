"""Weights of the published encoders: read safely, hashed, and refused with a list where they do not fit.

Both encoders of the reference profile come as files that somebody else wrote. A checkpoint is a pickle, so
only tensors and plain values are ever unpickled (``weights_only``); a file that needs more is refused.
"""

from __future__ import annotations

import hashlib
import pickle
import warnings
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import safetensors
import safetensors.torch
import torch

from inference.errors import WeightsError
from schemas.regular import open_regular

_SHOWN = 12
_CHUNK = 1 << 20

# Training scripts save their best accuracy beside the weights, often as a numpy scalar. It holds a number and
# can run nothing; both homes of the function are named because numpy 2 moved it.
_SCALAR = np._core.multiarray.scalar  # type: ignore[attr-defined]
_PLAIN: list[Any] = [
    np.dtype,
    *(type(np.dtype(kind)) for kind in ("f4", "f8", "i4", "i8", "bool")),
    (_SCALAR, "numpy.core.multiarray.scalar"),
    (_SCALAR, "numpy._core.multiarray.scalar"),
]


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """What a weights file holds, before any name is looked at.

    Attributes:
        path: where it was read.
        sha256: of the whole file, hex.
        values: its top level as written: tensors, or dictionaries of them.
    """

    path: Path
    sha256: str
    values: Mapping[str, Any]

    def tensors(self, *wrappers: str) -> dict[str, torch.Tensor]:
        """The tensors at the top, or under the first of ``wrappers`` that is there.

        Raises:
            WeightsError: there is no tensor in that place.
        """
        values: Mapping[str, Any] = self.values
        for name in wrappers:
            if isinstance(values.get(name), Mapping):
                values = values[name]
                break
        found = {str(key): value for key, value in values.items() if isinstance(value, torch.Tensor)}
        if not found:
            places = " or ".join(["at the top", *(f"under {name!r}" for name in wrappers)])
            raise WeightsError(
                f"{self.path}: no tensors {places}; its keys are {_some(map(str, self.values))}: give the "
                "file of weights itself"
            )
        return found


def digest(path: Path) -> str:
    """sha256 of a file, hex. Raises WeightsError: it cannot be read."""
    total = hashlib.sha256()
    try:
        with open_regular(path) as file:
            while block := file.read(_CHUNK):
                total.update(block)
    except OSError as error:
        raise WeightsError(f"{path}: weights cannot be read: {error.strerror or error}") from error
    return total.hexdigest()


def read(path: Path, sha256: str | None = None) -> Checkpoint:
    """Read a ``.safetensors`` file or a torch checkpoint, without running anything that is in it.

    Args:
        path: the file.
        sha256: hex digest that it must have; None accepts any, and reports it.

    Raises:
        WeightsError: not there, another digest, or not a checkpoint that can be read safely.
    """
    if not path.is_file():
        raise WeightsError(f"{path}: no weights file there; check the path")
    found = digest(path)
    if sha256 is not None and found != sha256.strip().lower():
        raise WeightsError(
            f"{path}: sha256 is {found}, expected {sha256}: another file, or a download that broke off"
        )
    try:
        if path.suffix == ".safetensors":
            values: Any = safetensors.torch.load_file(path, device="cpu")
        else:
            # Of its pickle's version torch warns; whether the content can be read safely it checks anyway.
            with torch.serialization.safe_globals(_PLAIN), warnings.catch_warnings():
                warnings.simplefilter("ignore", UserWarning)
                values = torch.load(path, map_location="cpu", weights_only=True)
    except (
        pickle.UnpicklingError,
        safetensors.SafetensorError,
        RuntimeError,
        ValueError,
        EOFError,
        KeyError,
        AttributeError,
        TypeError,
        OSError,
    ) as error:
        first = str(error).strip().split("\n", 1)[0][:200]
        raise WeightsError(
            f"{path}: not a checkpoint of tensors that can be read safely ({type(error).__name__}: {first}); "
            "save its state dict alone with torch.save or as safetensors"
        ) from error
    if not isinstance(values, Mapping):
        raise WeightsError(f"{path}: holds a {type(values).__name__}, expected a state dict of tensors")
    return Checkpoint(path, found, values)


def matched(
    found: Mapping[str, torch.Tensor],
    expected: Mapping[str, tuple[int, ...]],
    *,
    path: Path,
    model: str,
) -> dict[str, torch.Tensor]:
    """Exactly the expected tensors, as float32.

    Raises:
        WeightsError: lists every kind of mismatch: missing, unexpected, of another shape, not finite.
    """
    missing = [name for name in expected if name not in found]
    unexpected = [name for name in found if name not in expected]
    shared = [name for name in expected if name in found]
    misshapen = [
        f"{name} {tuple(found[name].shape)} not {expected[name]}"
        for name in shared
        if tuple(found[name].shape) != expected[name]
    ]
    taken = {name: found[name].detach().to(torch.float32) for name in shared}
    bad = [name for name, tensor in taken.items() if not bool(torch.isfinite(tensor).all())]
    faults = [
        f"{len(names)} {kind}: {_some(names)}"
        for kind, names in (
            ("missing", missing),
            ("unexpected", unexpected),
            ("of another shape", misshapen),
            ("with values that are not finite", bad),
        )
        if names
    ]
    if faults:
        raise WeightsError(f"{path}: not the weights of {model}; " + "; ".join(faults))
    return taken


def _some(names: Iterable[str]) -> str:
    every = list(names)
    rest = f" and {len(every) - _SHOWN} more" if len(every) > _SHOWN else ""
    return ", ".join(every[:_SHOWN]) + rest
