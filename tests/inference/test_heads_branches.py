"""The four heads as branches: taught on a small made-up product, stored, and asked about a planted defect."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
import torch

from inference.branches.base import Branch, Evidence, FitSettings, Needs, Reduce
from inference.branches.heads import (
    HEADS,
    Head,
    HeadColour,
    HeadColourFromShape,
    HeadShape,
    PublishedColour,
    nets_of,
)
from inference.errors import BundleError, TeachError
from inference.heads.distance import distance
from inference.heads.together import Heads

GRID, COLOUR, SHAPE = 8, 16, 18
CPU = torch.device("cpu")
SETTINGS = FitSettings(epochs=30, learning_rate=3e-3)
FEWER = FitSettings(epochs=14, learning_rate=3e-3)
PLACE = (3, 4)


def part(seed: int, *, spot: str = "") -> Evidence:
    """A frame of one product: a pattern both sensors see, noise, background without depth.

    Args:
        seed: of the noise.
        spot: "colour", "shape" or "both": whose token at PLACE is one that no normal has.
    """
    fixed = torch.Generator().manual_seed(1)
    pattern = torch.randn(GRID, GRID, 4, generator=fixed)
    to_colour, to_shape = (torch.randn(4, one, generator=fixed) for one in (COLOUR, SHAPE))
    odd_colour, odd_shape = (torch.randn(one, generator=fixed) for one in (COLOUR, SHAPE))
    own = torch.Generator().manual_seed(1000 + seed)
    seen = pattern + 0.1 * torch.randn(GRID, GRID, 4, generator=own)
    colour, shape = torch.tanh(seen @ to_colour), torch.tanh(seen @ to_shape)
    valid = torch.zeros(GRID, GRID, dtype=torch.bool)
    valid[1:7, 1:7] = True
    if spot in ("colour", "both"):
        colour[PLACE] = odd_colour
    if spot in ("shape", "both"):
        shape[PLACE] = odd_shape
    return Evidence(rgb_tokens=colour, shape_tokens=shape * valid[..., None], token_valid=valid)


@pytest.fixture(scope="module")
def heads() -> dict[str, Head]:
    normals = [part(seed) for seed in range(6)]
    return {kind.name: kind.fit(normals, SETTINGS if kind is HeadColour else FEWER) for kind in HEADS}


def test_heads_go_by_the_names_and_sensors_of_the_branches_they_stand_for() -> None:
    both, rgb, depth = frozenset(Needs), frozenset({Needs.RGB}), frozenset({Needs.DEPTH})
    kinds: tuple[type[Branch], ...] = HEADS
    assert {kind.name: kind.needs for kind in kinds} == {
        "colour": rgb,
        "shape": depth,
        "colour_from_shape": both,
        "shape_from_colour": both,
    }
    assert all(kind.reduce is Reduce.TOP for kind in kinds)


@pytest.mark.parametrize(
    ("name", "spot"),
    [
        ("colour", "colour"),
        ("shape", "shape"),
        ("colour_from_shape", "colour"),
        ("colour_from_shape", "shape"),
        ("shape_from_colour", "colour"),
        ("shape_from_colour", "shape"),
    ],
)
def test_a_planted_defect_stands_out_from_every_normal(heads: dict[str, Head], name: str, spot: str) -> None:
    normals = np.stack([heads[name].score(part(seed)) for seed in range(50, 56)])
    found = heads[name].score(part(60, spot=spot))
    assert found[PLACE] > 1.5 * normals[:, PLACE[0], PLACE[1]].max()
    assert found.max() > normals.max()


@pytest.mark.parametrize("kind", HEADS, ids=lambda kind: kind.name)
def test_a_stored_head_gives_the_same_map_bit_for_bit(heads: dict[str, Head], kind: type[Head]) -> None:
    head = heads[kind.name]
    state = head.tensors()
    assert all(one.device == CPU and one.is_contiguous() for one in state.values())
    before = torch.get_rng_state()
    back = kind.restore(state, CPU)
    assert torch.equal(torch.get_rng_state(), before)
    assert np.array_equal(back.score(part(70)), head.score(part(70)))
    assert back.config == head.config
    assert list(back.tensors()) == list(state)


@pytest.mark.parametrize("kind", HEADS, ids=lambda kind: kind.name)
def test_cells_without_a_reading_score_zero_and_the_others_as_if_all_counted(
    heads: dict[str, Head], kind: type[Head]
) -> None:
    head, one = heads[kind.name], part(71)
    assert one.token_valid is not None
    valid = one.token_valid.numpy()
    masked, whole = head.score(one), head.score(replace(one, token_valid=None))
    assert whole[~valid].any()
    if kind is HeadColour:
        # A hole in depth hides no stain, and a frame scores the same when depth is gone.
        assert np.array_equal(masked, whole)
        return
    assert masked.shape == (GRID, GRID)
    assert masked.dtype == np.float32
    assert not masked[~valid].any()
    np.testing.assert_allclose(masked[valid], whole[valid], rtol=1e-5, atol=1e-6)
    assert (masked >= 0.0).all()
    assert (masked <= 2.0).all()


def test_a_score_is_the_distance_of_the_answer(heads: dict[str, Head]) -> None:
    one = part(72)
    assert one.rgb_tokens is not None
    assert one.shape_tokens is not None
    said = heads["colour_from_shape"].net(one.shape_tokens)
    found = heads["colour_from_shape"].score(replace(one, token_valid=None))
    np.testing.assert_allclose(found, distance(said, one.rgb_tokens).numpy(), rtol=1e-6, atol=1e-7)


def test_heads_run_together_as_they_do_one_by_one(heads: dict[str, Head]) -> None:
    frames = [part(seed) for seed in (80, 81, 82)]
    colour, shape, valid = (
        torch.stack([one for one in rows if one is not None])
        for rows in zip(*((f.rgb_tokens, f.shape_tokens, f.token_valid) for f in frames), strict=True)
    )
    together = Heads(nets_of(heads)).maps(colour, shape, valid)
    for index, frame in enumerate(frames):
        for name, head in heads.items():
            np.testing.assert_allclose(together[name][index].numpy(), head.score(frame), rtol=1e-4, atol=1e-5)
    with pytest.raises(BundleError, match="without shape"):
        nets_of({name: head for name, head in heads.items() if name != "shape"})


@pytest.mark.parametrize("kind", HEADS, ids=lambda kind: kind.name)
def test_a_head_in_bfloat16_scores_alike_and_is_not_stored(heads: dict[str, Head], kind: type[Head]) -> None:
    full, one = heads[kind.name], part(83)
    half = full.in_precision(torch.bfloat16)
    np.testing.assert_allclose(half.score(one), full.score(one), atol=0.05)
    assert not np.array_equal(half.score(one), full.score(one))
    with pytest.raises(BundleError, match="store the float32 one"):
        half.tensors()
    assert next(full.net.parameters()).dtype == torch.float32


def test_the_colour_head_needs_no_depth(heads: dict[str, Head]) -> None:
    one = Evidence(rgb_tokens=part(73).rgb_tokens)
    assert heads["colour"].score(one).all()
    taught = HeadColour.fit([one], FitSettings(epochs=1))
    assert taught.score(one).shape == (GRID, GRID)


def test_the_published_colour_head_neither_learns_nor_scores_where_depth_is_missing(
    heads: dict[str, Head],
) -> None:
    published = PublishedColour.fit([part(seed) for seed in range(6)], SETTINGS)
    one = part(84)
    assert one.token_valid is not None
    outside = ~one.token_valid.numpy()
    assert not published.score(one)[outside].any()
    bare = replace(one, token_valid=None)
    assert published.score(bare)[outside].mean() > 2.0 * heads["colour"].score(bare)[outside].mean()


def test_tiles_without_the_sensor_teach_nothing() -> None:
    settings = FitSettings(epochs=1)
    with_both, colour_only = part(0), Evidence(rgb_tokens=part(1).rgb_tokens)
    alone = HeadColourFromShape.fit([with_both], settings)
    beside = HeadColourFromShape.fit([colour_only, with_both], settings)
    assert np.array_equal(alone.score(part(2)), beside.score(part(2)))
    with pytest.raises(TeachError, match="shape: no normal frame has the tokens"):
        HeadShape.fit([colour_only], settings)


def test_normals_of_two_sizes_are_refused() -> None:
    small = Evidence(rgb_tokens=torch.zeros(4, 4, COLOUR))
    with pytest.raises(TeachError, match="colour: normal frames give tokens of different sizes"):
        HeadColour.fit([part(0), small], FitSettings(epochs=1))


def test_tokens_on_no_even_square_grid_are_refused() -> None:
    for shape, why in (
        ((5, 5, COLOUR), "grid must be an even number"),
        ((4, 6, COLOUR), "share no square grid"),
    ):
        with pytest.raises(TeachError, match=f"colour: .*{why}"):
            HeadColour.fit([Evidence(rgb_tokens=torch.ones(*shape))], FitSettings(epochs=1))


def _without(state: dict[str, torch.Tensor]) -> None:
    del state["net.layers.0.weight"]


def _misshapen(state: dict[str, torch.Tensor]) -> None:
    state["net.layers.0.weight"] = state["net.layers.0.weight"].T.contiguous()


def _of_other_kind(state: dict[str, torch.Tensor]) -> None:
    state["net.layers.0.weight"] = state["net.layers.0.weight"].half()


def _unknown(state: dict[str, torch.Tensor]) -> None:
    state["net.layers.99.weight"] = torch.zeros(3)


def _damaged(state: dict[str, torch.Tensor]) -> None:
    state["net.layers.0.weight"] = state["net.layers.0.weight"] * torch.nan


def _without_sizes(state: dict[str, torch.Tensor]) -> None:
    del state["config"]


def _of_another_version(state: dict[str, torch.Tensor]) -> None:
    state["config"] = torch.tensor([99, GRID, COLOUR, SHAPE])


def _of_no_size(state: dict[str, torch.Tensor]) -> None:
    state["config"] = torch.tensor([1, 7, COLOUR, SHAPE])


@pytest.mark.parametrize(
    ("spoil", "why"),
    [
        (_without, r"layers\.0\.weight is missing"),
        (_misshapen, r"layers\.0\.weight is torch.float32 \(18, 17\), not torch.float32 \(17, 18\)"),
        (_of_other_kind, r"layers\.0\.weight is torch.float16"),
        (_unknown, r"layers\.99\.weight is unknown"),
        (_damaged, r"layers\.0\.weight is not finite"),
        (_without_sizes, "'config' of the bundle is missing"),
        (_of_another_version, "of another version"),
        (_of_no_size, "grid must be an even number"),
    ],
    ids=lambda one: getattr(one, "__name__", ""),
)
def test_a_bundle_that_does_not_fit_is_refused_with_a_list(
    heads: dict[str, Head], spoil: Callable[[dict[str, torch.Tensor]], None], why: str
) -> None:
    state = dict(heads["colour_from_shape"].tensors())
    spoil(state)
    with pytest.raises(BundleError, match=f"colour_from_shape: .*{why}.*teach the product again"):
        HeadColourFromShape.restore(state, CPU)
