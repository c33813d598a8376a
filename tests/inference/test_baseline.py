"""Places that are always strange are not news; a texture without places is left as it is."""

from __future__ import annotations

import numpy as np
import pytest

from inference.baseline import Baseline
from inference.errors import BundleError


def maps(count: int, hub: float, seed: int) -> list[list[np.ndarray[tuple[int, ...], np.dtype[np.float32]]]]:
    rng = np.random.default_rng(seed)
    out = []
    for _ in range(count):
        one = rng.normal(5.0, 0.3, (28, 28)).astype(np.float32)
        one[10:14, 16:20] += hub + rng.normal(0, 0.2 * hub)
        out.append([one])
    return out


def test_a_hub_that_every_normal_shows_is_no_hot_spot_and_a_defect_beside_it_is() -> None:
    groups = [str(i) for i in range(30)]
    baseline = Baseline.fit(maps(30, 4.0, 0), groups)
    ((new,),) = maps(1, 4.0, 1)
    new[22, 5] += 3.0
    assert divmod(int(new.argmax()), 28) != (22, 5)
    assert divmod(int(baseline.apply(new, 0).argmax()), 28) == (22, 5)
    assert baseline.gain[0, 12, 18] < baseline.gain[0, 3, 3]


def test_a_texture_without_places_is_left_alone() -> None:
    baseline = Baseline.fit(maps(30, 0.0, 2), [str(i) for i in range(30)])
    assert np.abs(baseline.offset).max() < 0.03
    assert baseline.gain == pytest.approx(1.0, abs=0.1)


def test_a_map_of_one_value_keeps_its_value() -> None:
    still = [[np.full((28, 28), 2.0, np.float32)] for _ in range(4)]
    baseline = Baseline.fit(still, list("abcd"))
    assert baseline.apply(still[0][0], 0) == pytest.approx(2.0)


def test_it_comes_back_from_its_tensors_and_refuses_other_tiles() -> None:
    baseline = Baseline.fit(maps(5, 2.0, 3), list("abcde"))
    back = Baseline.restore(baseline.tensors(), 1)
    raw = maps(1, 2.0, 4)[0][0]
    assert np.array_equal(back.apply(raw, 0), baseline.apply(raw, 0))
    with pytest.raises(BundleError, match="2 tiles"):
        Baseline.restore(baseline.tensors(), 2)
    with pytest.raises(BundleError, match="incomplete"):
        Baseline.restore({}, 1)
