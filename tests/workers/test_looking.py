"""What a decoded image says of its sensor: few readings, another size, a belt out of its place."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import pytest
from numpy.typing import NDArray

from inference.errors import WrongSize
from inference.inspection import Inspection
from inference.prepare import Preparation
from inference.roi import Roi
from inference.sample import Sample
from inference.sketch import readings
from inference.station import Station
from inference.station_fit import calibrate
from inference.tiles import TileLayout
from schemas.images import encode_colour, encode_depth
from schemas.verdict import Mode
from tests.workers.frames import frame, pending
from tests.workers.standin import StandInModel, inspection
from workers.steps.decode import decode_sample
from workers.steps.looking import Look, look
from workers.steps.pending import PendingPart

HEIGHT, WIDTH = 96, 128


def belt(seed: int, *, offset: float = 0.0) -> NDArray[np.uint16]:
    """A tilted belt with noise and a part on it."""
    rng = np.random.default_rng(seed)
    rows, columns = np.mgrid[0:HEIGHT, 0:WIDTH]
    depth = 0.8 * columns - 0.5 * rows + 30_000 + offset + rng.normal(0, 3, (HEIGHT, WIDTH))
    top, left = rng.integers(10, 30, 2)
    depth[top : top + 40, left : left + 50] -= 900
    counts: NDArray[np.uint16] = np.round(depth).astype(np.uint16)
    return counts


def colour(seed: int) -> NDArray[np.uint8]:
    return np.random.default_rng(seed).integers(0, 255, (HEIGHT, WIDTH, 3), dtype=np.uint8)


@pytest.fixture(scope="module")
def station() -> Station:
    return calibrate([(f"f{n}", Sample(None, belt(n), 1e-5)) for n in range(8)], name="s1").station


@dataclass
class Prepared(StandInModel):
    """The stand-in, with the checks of a real bundle in front of it."""

    preparation: Preparation

    def __post_init__(self) -> None:
        super().__init__()


@pytest.fixture(scope="module")
def model(station: Station) -> Prepared:
    layout = TileLayout(Roi(), 1, 1, 0.0)
    size = (HEIGHT, WIDTH)
    return Prepared(
        Preparation(rgb_size=size, depth_size=size, layout=layout, least_coverage=0.5, station=station)
    )


def part(
    rgb: NDArray[np.uint8] | None, depth: NDArray[np.uint16] | None, *, held: tuple[str, ...] = ()
) -> PendingPart:
    of = replace(
        frame(1),
        rgb=None if rgb is None else encode_colour(rgb),
        depth=None if depth is None else encode_depth(depth),
    )
    found = pending(of)
    found.held = frozenset(held)
    found.use_rgb, found.use_depth = "rgb" not in held, "depth" not in held
    return found


def seen(pending: PendingPart, model: StandInModel, said: Inspection | None = None) -> Look:
    sample = decode_sample(pending.frame, use_rgb=pending.use_rgb, use_depth=pending.use_depth)
    return look(pending, sample, model, said or inspection())


@pytest.mark.parametrize("held", [(), ("depth",), ("rgb", "depth")])
def test_a_good_pair_has_no_faults_and_its_belt_lies_in_its_place(
    model: Prepared, held: tuple[str, ...]
) -> None:
    found = seen(part(colour(1), belt(20), held=held), model)
    assert found.faults == {}
    assert found.seen == {"rgb", "depth"}
    assert (found.belt, found.share) == (True, 1.0)
    assert found.distance == pytest.approx(30_000, abs=200)
    assert found.expected == {"rgb": (HEIGHT, WIDTH), "depth": (HEIGHT, WIDTH)}


@pytest.mark.parametrize("held", [(), ("depth",)])
def test_a_belt_out_of_its_place_is_seen_though_the_model_does_not_see_it(
    model: Prepared, held: tuple[str, ...]
) -> None:
    said = inspection(degraded=() if held else ("depth:plane",))
    found = seen(part(colour(1), belt(20, offset=400), held=held), model, said)
    assert found.faults == {"depth": "plane"}
    assert found.belt is False


def test_a_belt_that_the_model_found_in_its_place_is_not_looked_for_again(
    model: Prepared, monkeypatch: pytest.MonkeyPatch
) -> None:
    looks: list[object] = []
    monkeypatch.setattr(Station, "drift", lambda self, depth: looks.append(depth))
    assert seen(part(colour(1), belt(20)), model).belt is True
    assert seen(part(colour(1), belt(20)), model, inspection(mode=Mode.RGB)).belt is None
    assert len(looks) == 1


def test_a_model_that_says_the_belt_is_off_is_believed() -> None:
    said = inspection(degraded=("depth:plane",))
    assert seen(part(colour(1), belt(20)), StandInModel(), said).faults == {"depth": "plane"}


def test_depth_that_hardly_reads_has_too_few_readings_and_no_belt(model: Prepared) -> None:
    dark = belt(20)
    dark[np.random.default_rng(0).random(dark.shape) < 0.97] = 0
    found = seen(part(colour(1), dark, held=("depth",)), model)
    assert (found.faults, found.belt) == ({"depth": "few"}, None)
    assert found.share == pytest.approx(0.03, abs=0.02)


def test_a_covered_lens_shows_too_little_too(model: Prepared) -> None:
    black = np.zeros((HEIGHT, WIDTH, 3), np.uint8)
    assert seen(part(black, belt(20), held=("rgb",)), model).faults == {"rgb": "few"}
    assert seen(part(black, np.zeros((HEIGHT, WIDTH), np.uint16), held=("rgb", "depth")), model).faults == {
        "rgb": "few",
        "depth": "few",
    }


def test_an_image_of_another_size_than_taught_is_that_sensors_fault(model: Prepared) -> None:
    said = Inspection.failed(WrongSize("depth image is 64 x 48"))
    found = seen(part(colour(1), np.ascontiguousarray(belt(20)[::2, ::2])), model, said)
    assert found.faults == {"depth": "size"}
    assert found.expected["depth"] == (HEIGHT, WIDTH)


def test_a_failure_of_the_model_speaks_neither_for_nor_against_a_sensor(model: Prepared) -> None:
    found = seen(part(colour(1), belt(20)), model, Inspection.failed(WrongSize("out of memory")))
    assert (found.seen, found.faults) == (frozenset(), {})


def test_an_image_that_was_left_out_for_another_reason_is_not_decoded_for_a_look(model: Prepared) -> None:
    shed = part(colour(1), belt(20))
    shed.use_depth = False
    found = seen(shed, model)
    assert (found.seen, found.belt, found.share) == (frozenset({"rgb"}), None, None)


def test_a_held_image_that_cannot_be_decoded_shows_too_little(model: Prepared) -> None:
    broken = part(colour(1), belt(20), held=("depth",))
    assert broken.frame.depth is not None
    broken.frame = replace(broken.frame, depth=replace(broken.frame.depth, data=b"not an image"))
    assert seen(broken, model).faults == {"depth": "few"}


def test_readings_of_a_large_image_are_those_of_all_of_it() -> None:
    depth = np.full((2000, 3000), 500, np.uint16)
    depth[:, :1500] = 0
    share, distance = readings(depth)
    assert share == pytest.approx(0.5, abs=0.02)
    assert distance == 500.0
    assert readings(np.zeros((3, 3), np.uint16)) == (0.0, None)
