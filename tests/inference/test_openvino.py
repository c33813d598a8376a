"""A bundle taught with torch and served with OpenVINO says the same."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from inference.datasets.synthetic import SyntheticDataset
from inference.features.lite_torch import Taps
from inference.features.openvino_lite import OpenVinoNetwork
from inference.inspector import Inspector
from inference.metrics import i_auroc
from inference.profiles.runtime import Runtime
from schemas.verdict import Mode


def test_scores_maps_and_auroc_are_those_of_torch(
    bundle: Path, inspector: Inspector, parts: SyntheticDataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    runs = 0
    taps = OpenVinoNetwork.taps

    def counted(network: OpenVinoNetwork, pixels: torch.Tensor) -> Taps:
        nonlocal runs
        runs += 1
        return taps(network, pixels)

    monkeypatch.setattr(OpenVinoNetwork, "taps", counted)
    other = Inspector.load(bundle, runtime=Runtime(colour="openvino"))
    items = parts.test()
    bad = [not item.is_good for item in items]
    scores: list[list[float]] = [[], []]
    for item in items:
        sample = item.sample()
        studies = [one.study(sample, mode=Mode.RGB) for one in (inspector, other)]
        for found, study in zip(scores, studies, strict=True):
            found.append(study.score)
        spread = float(np.ptp(studies[0].map))
        assert float(np.abs(studies[0].map - studies[1].map).max()) < 1e-3 * max(spread, 1.0)
    assert scores[1] == pytest.approx(scores[0], abs=1e-3)
    assert runs == len(items)
    assert i_auroc(scores[1], bad) == pytest.approx(i_auroc(scores[0], bad), abs=1e-3)
