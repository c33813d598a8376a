"""What training a head promises: the published loss, the same weights again, and nothing else touched."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

from inference.errors import TeachError
from inference.heads.config import HeadConfig
from inference.heads.decoder_colour import ColourDecoder
from inference.heads.decoder_shape import ShapeDecoder
from inference.heads.mapping import MappingNet
from inference.heads.training import Pair, TrainSettings, cosine_loss, train

SETTINGS = TrainSettings(epochs=3)


def pairs(count: int = 5, *, grid: int = 8, channels: int = 9, seed: int = 0) -> list[Pair]:
    """Tokens that are decodable: a pattern of the part and a little noise, background 0."""
    generator = torch.Generator().manual_seed(seed)
    pattern = torch.randn(grid, grid, channels, generator=generator)
    valid = torch.zeros(grid, grid, dtype=torch.bool)
    valid[1:-1, 2:] = True
    out = []
    for _ in range(count):
        noisy = pattern + 0.1 * torch.randn(grid, grid, channels, generator=generator)
        out.append(Pair(noisy * valid[..., None], noisy.roll(1, -1) * valid[..., None], valid))
    return out


def mapping() -> MappingNet:
    return MappingNet(9, 9, 12)


def same(first: nn.Module, other: nn.Module) -> bool:
    a, b = first.state_dict(), other.state_dict()
    return all(torch.equal(a[key], b[key]) for key in a)


def test_the_loss_is_one_minus_the_mean_cosine_of_the_valid_cells() -> None:
    generator = torch.Generator().manual_seed(1)
    predicted, target = torch.randn(2, 3, 4, 4, 5, generator=generator).double().unbind(0)
    valid = torch.rand(3, 4, 4, generator=generator) > 0.4
    means = []
    for frame in range(3):
        cosines = []
        for y, x in valid[frame].nonzero().tolist():
            a, b = predicted[frame, y, x].numpy(), target[frame, y, x].numpy()
            cosines.append(float(np.sum(a * b)) / (np.sqrt(np.sum(a * a)) * np.sqrt(np.sum(b * b))))
        means.append(sum(cosines) / len(cosines))
    assert float(cosine_loss(predicted, target, valid)) == pytest.approx(1.0 - sum(means) / 3, rel=1e-9)


def test_a_frame_without_a_valid_cell_moves_no_weight() -> None:
    predicted = torch.randn(2, 3, 3, 4, generator=torch.Generator().manual_seed(2)).requires_grad_()
    target = torch.ones(2, 3, 3, 4)
    valid = torch.zeros(2, 3, 3, dtype=torch.bool)
    valid[0] = True
    cosine_loss(predicted, target, valid).backward()  # type: ignore[no-untyped-call]
    assert predicted.grad is not None
    assert bool(torch.isfinite(predicted.grad).all())
    assert not predicted.grad[1].any()
    assert predicted.grad[0].any()


def test_the_first_step_is_adams() -> None:
    """One frame and one epoch: every weight moves by the learning rate against the sign of its gradient."""

    def make() -> nn.Linear:
        return nn.Linear(9, 9, bias=False)

    one = pairs(1)
    weights: list[torch.Tensor] = []

    def remembered() -> nn.Linear:
        net = make()
        weights.append(net.weight.detach().clone())
        return net

    net, losses = train("m", remembered, one, TrainSettings(epochs=1, learning_rate=0.01))
    start = weights[0].requires_grad_()
    assert one[0].valid is not None
    loss = cosine_loss((one[0].source @ start.T)[None], one[0].target[None], one[0].valid[None])
    loss.backward()  # type: ignore[no-untyped-call]
    assert losses == [pytest.approx(loss.item(), rel=1e-5)]
    assert start.grad is not None
    moved = start.detach() - 0.01 * start.grad / (start.grad.abs() + 1e-8)
    torch.testing.assert_close(net.weight, moved, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("kind", ["mapping", "colour", "shape"])
def test_training_lowers_the_loss_of_every_kind_of_head(kind: str) -> None:
    config = HeadConfig(grid=8, colour=9, shape=9)
    makers = {
        "mapping": mapping,
        "colour": lambda: ColourDecoder(config),
        "shape": lambda: ShapeDecoder(config),
    }
    own = [Pair(one.source, one.source, one.valid) for one in pairs()]
    net, losses = train(kind, makers[kind], own, TrainSettings(epochs=12, learning_rate=3e-3))
    assert losses[-1] < 0.7 * losses[0]
    assert not net.training
    assert not any(one.requires_grad for one in net.parameters())


def test_the_same_seed_gives_the_same_weights_and_another_gives_others() -> None:
    first, _ = train("m", mapping, pairs(), SETTINGS)
    torch.rand(7)
    again, _ = train("m", mapping, pairs(), SETTINGS)
    other, _ = train("m", mapping, pairs(), TrainSettings(epochs=3, seed=1))
    renamed, _ = train("n", mapping, pairs(), SETTINGS)
    assert same(first, again)
    assert not same(first, other)
    assert not same(first, renamed)


def test_the_callers_randomness_is_left_as_it_was() -> None:
    before = torch.get_rng_state()
    train("m", mapping, pairs(2), SETTINGS)
    assert torch.equal(torch.get_rng_state(), before)


def test_what_the_caller_has_switched_on_changes_nothing() -> None:
    plain, _ = train("m", mapping, pairs(), SETTINGS)
    with torch.inference_mode(), torch.autocast("cpu", dtype=torch.bfloat16):
        switched, _ = train("m", mapping, pairs(), SETTINGS)
    assert same(plain, switched)
    assert next(switched.parameters()).dtype == torch.float32


def test_background_reaches_the_batch_norms_but_not_the_loss() -> None:
    config = HeadConfig(grid=8, colour=9, shape=9)
    plain = pairs(1)
    valid = plain[0].valid
    assert valid is not None
    other = [Pair(plain[0].source, torch.where(valid[..., None], plain[0].target, 5.0), valid)]
    once = TrainSettings(epochs=1)
    a, loss = train("m", lambda: ColourDecoder(config), plain, once)
    b, same_loss = train("m", lambda: ColourDecoder(config), other, once)
    assert loss == same_loss
    assert same(a, b)
    lit = [Pair(torch.where(valid[..., None], plain[0].source, 5.0), plain[0].target, valid)]
    c, _ = train("m", lambda: ColourDecoder(config), lit, once)
    assert not torch.equal(a.convs[0][1].running_mean, c.convs[0][1].running_mean)  # type: ignore[index]


def test_frames_may_go_in_batches() -> None:
    net, losses = train("m", mapping, pairs(5), TrainSettings(epochs=8, batch=2, learning_rate=3e-3))
    assert losses[-1] < losses[0]
    assert net(torch.zeros(9)).shape == (9,)


class _Spoiled(nn.Module):
    """Answers NaN for frames whose first value is large; its norm has seen the frame by then."""

    def __init__(self) -> None:
        super().__init__()
        self.norm = nn.BatchNorm1d(9)
        self.last = nn.Linear(9, 9)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        bad = x[0, 0, 0, 0] > 1e6
        normed = self.norm(x.flatten(0, 2)).view(x.shape)
        out: torch.Tensor = self.last(normed)
        return torch.where(bad, torch.nan, out)


def test_a_step_whose_loss_is_not_finite_is_skipped_and_leaves_nothing_behind() -> None:
    good = pairs(3)
    spoiled = good[0].source.clone()
    spoiled[0, 0, 0] = 1e7
    # Frames come in another order with one more of them: a single good one leaves no order to differ in.
    few = [good[0]]
    clean, losses = train("m", _Spoiled, few, TrainSettings(epochs=2))
    mixed, again = train(
        "m", _Spoiled, [*few, Pair(spoiled, good[0].target, good[0].valid)], TrainSettings(epochs=2)
    )
    assert losses == again
    assert same(clean, mixed)


def test_training_that_never_has_a_finite_loss_is_an_error() -> None:
    spoiled = pairs(1)[0].source.clone()
    spoiled[0, 0, 0] = 1e7
    one = Pair(spoiled, pairs(1)[0].target, pairs(1)[0].valid)
    with pytest.raises(TeachError, match="m: training diverged: teach with a lower learning rate"):
        train("m", _Spoiled, [one], SETTINGS)


def test_features_that_cannot_teach_are_refused() -> None:
    one = pairs(1)[0]
    with pytest.raises(TeachError, match="m: the features of a normal frame are not finite"):
        train("m", mapping, [Pair(one.source * torch.nan, one.target, one.valid)], SETTINGS)
    empty = torch.zeros(8, 8, dtype=torch.bool)
    with pytest.raises(TeachError, match="m: no normal frame has a cell with readings"):
        train("m", mapping, [Pair(one.source, one.target, empty)], SETTINGS)


def test_every_epoch_is_told() -> None:
    told: list[tuple[str, int, int]] = []
    train("m", mapping, pairs(1), SETTINGS, progress=lambda *what: told.append(what))
    assert told == [("m", 1, 3), ("m", 2, 3), ("m", 3, 3)]


@pytest.mark.parametrize(
    "values", [{"epochs": 0}, {"learning_rate": 0.0}, {"batch": 0}, {"seed": -1}], ids=lambda v: next(iter(v))
)
def test_settings_out_of_range_are_named(values: dict[str, int]) -> None:
    with pytest.raises(TeachError, match=f"head setting {next(iter(values))} is"):
        TrainSettings(**values)
