"""Files of weights: what is read, and what is refused with which words."""

from __future__ import annotations

import hashlib
import pickle
from pathlib import Path

import numpy as np
import pytest
import safetensors.torch
import torch

from inference.errors import WeightsError
from inference.features import weights

TENSORS = {"a.weight": torch.arange(6.0).view(2, 3), "a.bias": torch.zeros(2)}
SHAPES = {"a.weight": (2, 3), "a.bias": (2,)}


class Reaching:
    """Unpickling this opens a file for writing."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[object, tuple[str, str]]:
        return open, (str(self.path), "w")


def saved(path: Path, values: object) -> Path:
    torch.save(values, path)
    return path


def test_torch_and_safetensors_files_hold_the_same_tensors(tmp_path: Path) -> None:
    safetensors.torch.save_file(TENSORS, tmp_path / "w.safetensors")
    for path in (tmp_path / "w.safetensors", saved(tmp_path / "w.pth", TENSORS)):
        checkpoint = weights.read(path)
        assert checkpoint.sha256 == hashlib.sha256(path.read_bytes()).hexdigest()
        found = weights.matched(checkpoint.tensors(), SHAPES, path=path, model="a")
        assert torch.equal(found["a.weight"], TENSORS["a.weight"])


def test_tensors_are_found_under_their_wrapper_and_half_precision_becomes_float32(tmp_path: Path) -> None:
    half = {name: tensor.half() for name, tensor in TENSORS.items()}
    path = saved(tmp_path / "w.pth", {"epoch": 3, "best": np.float64(0.9), "state_dict": half})
    found = weights.matched(weights.read(path).tensors("state_dict"), SHAPES, path=path, model="a")
    assert found["a.weight"].dtype == torch.float32


def test_a_digest_is_held_against_the_file(tmp_path: Path) -> None:
    path = saved(tmp_path / "w.pth", TENSORS)
    right = hashlib.sha256(path.read_bytes()).hexdigest()
    assert weights.read(path, right.upper()).sha256 == right
    with pytest.raises(WeightsError, match=f"sha256 is {right}, expected 00ff"):
        weights.read(path, "00ff")


def test_nothing_in_a_checkpoint_is_run(tmp_path: Path) -> None:
    trace = tmp_path / "trace"
    path = saved(tmp_path / "w.pth", {"state_dict": TENSORS, "x": Reaching(trace)})
    with pytest.raises(WeightsError, match="read safely"):
        weights.read(path)
    plain = tmp_path / "plain.pth"
    plain.write_bytes(pickle.dumps(Reaching(trace)))
    with pytest.raises(WeightsError, match="read safely"):
        weights.read(plain)
    assert not trace.exists()


@pytest.mark.parametrize("name", ["w.pth", "w.safetensors"])
@pytest.mark.parametrize("content", [b"", b"not a checkpoint", b"PK\x03\x04 broken"])
def test_files_that_are_no_checkpoint_are_refused(tmp_path: Path, name: str, content: bytes) -> None:
    path = tmp_path / name
    path.write_bytes(content)
    with pytest.raises(WeightsError, match="not a checkpoint of tensors"):
        weights.read(path)


def test_files_without_tensors_are_refused(tmp_path: Path) -> None:
    with pytest.raises(WeightsError, match="no weights file there"):
        weights.read(tmp_path / "absent.pth")
    with pytest.raises(WeightsError, match="no weights file there"):
        weights.read(tmp_path)
    with pytest.raises(WeightsError, match="holds a list"):
        weights.read(saved(tmp_path / "list.pth", [torch.zeros(1)]))
    nested = weights.read(saved(tmp_path / "nested.pth", {"teacher": TENSORS}))
    with pytest.raises(WeightsError, match="no tensors at the top or under 'model'; its keys are teacher"):
        nested.tensors("model")


def test_every_mismatch_is_listed() -> None:
    found = {
        "a.weight": torch.zeros(3, 2),
        "b.weight": torch.tensor([1.0, torch.nan]),
        **{f"more.{k}": torch.zeros(1) for k in range(14)},
    }
    expected = {"a.weight": (2, 3), "a.bias": (2,), "b.weight": (2,)}
    with pytest.raises(WeightsError) as caught:
        weights.matched(found, expected, path=Path("w.pth"), model="the model")
    message = str(caught.value)
    assert "w.pth: not the weights of the model" in message
    assert "1 missing: a.bias" in message
    assert "14 unexpected: more.0" in message
    assert "and 2 more" in message
    assert "1 of another shape: a.weight (3, 2) not (2, 3)" in message
    assert "1 with values that are not finite: b.weight" in message
