"""The group encoder with folded norms against the published layers, written out."""

from __future__ import annotations

import pytest
import torch

from inference.features.point_encoder import GroupEncoder, Neighbourhood, Norm

DIM, WIDTHS = 12, (8, 10, 14)
MODES: list[tuple[Norm, Neighbourhood]] = [("frame", "raw"), ("running", "raw"), ("running", "matched")]


def encoder(norm: Norm = "frame", neighbourhood: Neighbourhood = "raw", seed: int = 0) -> GroupEncoder:
    made = GroupEncoder(DIM, WIDTHS, norm=norm, neighbourhood=neighbourhood)
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, tensor in made.state_dict().items():
            if tensor.dtype == torch.float32:
                tensor.copy_(torch.randn(tensor.shape, generator=generator) * 0.5)
                if name.endswith("running_var"):
                    tensor.abs_().add_(0.2)
    return made.eval().requires_grad_(False)


def neighbourhoods(seed: int, groups: int = 9, size: int = 7, scale: float = 4e-3) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    shape = torch.tensor((1.0, 0.7, 0.2)) * scale
    return torch.randn(1, groups, size, 3, generator=generator) * shape + shape / 3


def naive(made: GroupEncoder, relative: torch.Tensor) -> torch.Tensor:
    """(G, K, 3) to (G, dim): point after point in float64, batch norms over all points of the frame."""
    w = {name: tensor.double() for name, tensor in made.state_dict().items()}
    points = relative.double()
    if made.neighbourhood == "matched":
        taught = torch.sqrt(w["first_norm.running_var"].sum() / (w["first.weight"] ** 2).sum())
        points = points * taught / torch.sqrt((points**2).mean())

    def layer(x: torch.Tensor, name: str) -> torch.Tensor:
        out: torch.Tensor = w[f"{name}.weight"] @ x + w[f"{name}.bias"]
        return out

    def norm(rows: list[list[torch.Tensor]], name: str) -> list[list[torch.Tensor]]:
        every = torch.stack([x for group in rows for x in group])
        mean, variance = every.mean(0), ((every - every.mean(0)) ** 2).mean(0)
        if made.norm_kind == "running":
            mean, variance = w[f"{name}.running_mean"], w[f"{name}.running_var"]
        gain, bias = w[f"{name}.weight"], w[f"{name}.bias"]
        return [[(x - mean) / torch.sqrt(variance + 1e-5) * gain + bias for x in group] for group in rows]

    rows = norm([[layer(x, "first") for x in group] for group in points], "first_norm")
    rows = [[layer(x.clamp_min(0), "second") for x in group] for group in rows]
    most = [torch.stack(group).max(0).values for group in rows]
    rows = [[layer(torch.cat((m, x)), "third") for x in g] for m, g in zip(most, rows, strict=True)]
    rows = [[layer(x.clamp_min(0), "fourth") for x in group] for group in norm(rows, "third_norm")]
    return torch.stack([torch.stack(group).max(0).values for group in rows])


@pytest.mark.parametrize(("norm", "neighbourhood"), MODES)
def test_both_forms_are_the_layers_written_out(norm: Norm, neighbourhood: Neighbourhood) -> None:
    made = encoder(norm, neighbourhood)
    relative = neighbourhoods(1)
    expected = naive(made, relative[0])
    torch.testing.assert_close(made.plain(relative[0]).double(), expected, atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(made(relative)[0].double(), expected, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize(("norm", "neighbourhood"), MODES)
def test_more_groups_than_fit_one_pass_give_the_plain_tokens(
    norm: Norm, neighbourhood: Neighbourhood
) -> None:
    made = encoder(norm, neighbourhood)
    relative = neighbourhoods(2, groups=70, size=40)
    torch.testing.assert_close(made(relative)[0], made.plain(relative[0]), atol=2e-5, rtol=1e-4)


@pytest.mark.parametrize(("norm", "neighbourhood"), MODES)
def test_absent_groups_and_other_frames_change_nothing(norm: Norm, neighbourhood: Neighbourhood) -> None:
    made = encoder(norm, neighbourhood)
    one, two = neighbourhoods(3, 9), neighbourhoods(4, 9, scale=3e-2)
    present = torch.ones(2, 9, dtype=torch.bool)
    present[0, [1, 4, 8]] = False
    batch = torch.cat((one, two)) * present[:, :, None, None]
    together = made(batch, present)
    kept = present[0]
    torch.testing.assert_close(together[0, kept], made(one[:, kept])[0], atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(together[1], made(two)[0], atol=1e-5, rtol=1e-5)
    none = made(batch * 0, present & False)
    assert bool(torch.isfinite(none).all())


def test_with_the_statistics_of_the_frame_scale_does_not_matter() -> None:
    made = encoder("frame")
    near = made(neighbourhoods(5, scale=1.0))
    torch.testing.assert_close(made(neighbourhoods(5, scale=100.0)), near, atol=1e-3, rtol=1e-3)


def test_with_learned_statistics_small_neighbourhoods_all_look_alike_unless_matched() -> None:
    relative = neighbourhoods(6, groups=30)

    def contrast(tokens: torch.Tensor) -> float:
        return float(tokens.std(1).mean() / tokens.abs().mean())

    raw, matched = encoder("running")(relative), encoder("running", "matched")(relative)
    assert contrast(raw) < 0.05 * contrast(matched)


def test_the_order_of_points_does_not_matter() -> None:
    for norm, neighbourhood in MODES:
        made = encoder(norm, neighbourhood)
        relative = neighbourhoods(7)
        torch.testing.assert_close(made(relative.flip(2)), made(relative), atol=1e-5, rtol=1e-5)
        torch.testing.assert_close(made(relative.flip(1)).flip(1), made(relative), atol=1e-5, rtol=1e-5)


def test_spread_is_read_off_the_first_norm() -> None:
    made = encoder("running", "matched")
    relative = torch.randn(1, 4000, 5, 3, generator=torch.Generator().manual_seed(8)) * 0.07
    seen = made.first(relative.view(-1, 3))
    assert made.first_norm.running_var is not None
    made.first_norm.running_var.copy_(seen.var(0))
    assert float(made.spread()) == pytest.approx(0.07, rel=0.02)


def test_a_frame_of_one_repeated_point_is_finite() -> None:
    for norm, neighbourhood in MODES:
        assert bool(torch.isfinite(encoder(norm, neighbourhood)(torch.zeros(1, 1, 7, 3))).all())


def test_bfloat16_products_change_tokens_by_little() -> None:
    # Not "running" with "raw": there tokens differ by less than a rounding to begin with.
    for norm, neighbourhood in (MODES[0], MODES[2]):
        made = encoder(norm, neighbourhood)
        relative = neighbourhoods(9, groups=40, size=20)
        exact = made(relative)
        made.prepare(torch.bfloat16)
        assert float((made(relative) - exact).norm() / (exact - exact.mean(1, keepdim=True)).norm()) < 0.05
