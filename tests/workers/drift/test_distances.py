"""Distances between histograms: what they are of like ones, of any two, and by chance."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy import stats

from workers.drift.distances import coarse, ks, ks_limit, psi, psi_limit, shift_limit, smoothed

Counts = NDArray[np.float64]
BINS = 20


@st.composite
def counts(draw: st.DrawFn, least: int = 0) -> Counts:
    values = draw(st.lists(st.integers(least, 500), min_size=BINS, max_size=BINS))
    values[draw(st.integers(0, BINS - 1))] += 1
    return np.array(values, np.float64)


@given(counts(1), counts(1))
def test_the_index_is_never_below_zero_and_the_same_both_ways(a: Counts, b: Counts) -> None:
    assert psi(a, b) >= 0
    assert psi(a, b) == pytest.approx(psi(b, a))


@given(counts(), st.floats(0.1, 50))
def test_a_histogram_is_at_no_distance_from_itself_however_many_parts_it_has(a: Counts, times: float) -> None:
    assert psi(a, times * a) == pytest.approx(0, abs=1e-12)
    assert ks(a, times * a) == pytest.approx(0, abs=1e-12)


@given(counts(), counts())
def test_the_ks_distance_is_a_distance_between_zero_and_one(a: Counts, b: Counts) -> None:
    assert 0 <= ks(a, b) <= 1 + 1e-12
    assert ks(a, b) == pytest.approx(ks(b, a))


@given(counts(), counts(), counts())
def test_the_ks_distance_has_no_short_cut(a: Counts, b: Counts, c: Counts) -> None:
    assert ks(a, c) <= ks(a, b) + ks(b, c) + 1e-12


@given(counts(1), counts(1))
def test_bins_put_together_are_never_further_apart(a: Counts, b: Counts) -> None:
    few = coarse(a, 10), coarse(b, 10)
    assert few[0].sum() == a.sum()
    assert psi(*few) <= psi(a, b) + 1e-12
    assert ks(*few) <= ks(a, b) + 1e-12


def test_a_bin_that_only_one_histogram_has_makes_the_index_infinite_and_smoothing_finite() -> None:
    a, b = np.array([5.0, 5.0, 0.0]), np.array([5.0, 4.0, 1.0])
    assert psi(a, b) == np.inf
    assert 0 < psi(smoothed(a, 10), smoothed(b, 10)) < 1


@pytest.mark.parametrize("other", [np.ones(3), np.zeros(BINS)])
def test_histograms_that_cannot_be_compared_are_refused(other: Counts) -> None:
    for distance in (psi, ks):
        with pytest.raises(ValueError, match="cannot be compared"):
            distance(np.ones(BINS), other)


@given(st.integers(0, 10_000), st.integers(50, 400), st.integers(50, 400))
def test_at_every_value_as_an_edge_the_ks_distance_is_that_of_scipy(seed: int, n: int, m: int) -> None:
    rng = np.random.default_rng(seed)
    a, b = rng.normal(size=n), rng.normal(0.3, 1.2, size=m)
    edges = np.concatenate([[-np.inf], np.sort(np.concatenate([a, b])), [np.inf]])
    # Bins closed on the right, as scipy's distribution functions are.
    exact = ks(*(np.histogram(-x, -edges[::-1])[0][::-1].astype(float) for x in (a, b)))
    assert exact == pytest.approx(stats.ks_2samp(a, b).statistic)


@given(st.integers(0, 10_000))
def test_with_few_edges_the_ks_distance_is_at_most_that_of_the_samples(seed: int) -> None:
    rng = np.random.default_rng(seed)
    a, b = rng.normal(size=300), rng.normal(0.3, 1.2, size=200)
    edges = np.concatenate([[-np.inf], np.quantile(a, np.linspace(0.05, 0.95, 19)), [np.inf]])
    few = ks(*(np.histogram(x, edges)[0].astype(float) for x in (a, b)))
    assert few <= stats.ks_2samp(a, b).statistic + 1e-12


def test_the_ks_limit_is_the_tail_of_the_kolmogorov_distribution() -> None:
    for alpha in (1e-2, 1e-5):
        scaled = ks_limit(300, 200, alpha) * np.sqrt(300 * 200 / 500)
        assert stats.kstwobign.sf(scaled) == pytest.approx(alpha, rel=1e-3)


@pytest.mark.parametrize(("n", "m"), [(100, 150), (2000, 150), (2000, 4000)])
def test_chance_alone_exceeds_the_limits_as_seldom_as_asked(n: int, m: int) -> None:
    rng, alpha, runs = np.random.default_rng(5), 0.01, 4000
    q = np.full(BINS, 1 / BINS)
    above = np.zeros(3)
    places = stats.norm.ppf((np.arange(BINS) + 0.5) / BINS)
    spread = np.sqrt(np.mean(places**2))
    for a, b in zip(rng.multinomial(n, q, runs), rng.multinomial(m, q, runs), strict=True):
        few = coarse(smoothed(a.astype(float), n), 10), coarse(smoothed(b.astype(float), m), 10)
        shift = abs((a / n - b / m) @ places) / spread
        above += (
            psi(*few) > psi_limit(10, n, m, alpha),
            ks(a.astype(float), b.astype(float)) > ks_limit(n, m, alpha),
            shift > shift_limit(n, m, alpha),
        )
    # One in a hundred was asked for; the chance that 4000 runs of that give over 64 is one in ten thousand.
    assert np.all(above <= 64), above / runs
    assert above[2] >= 20, "a limit that nothing reaches would warn of nothing"


def test_few_parts_make_the_index_large_by_themselves() -> None:
    rng = np.random.default_rng(0)
    q = np.full(10, 0.1)
    small, large = (
        np.mean([psi(smoothed(rng.multinomial(n, q).astype(float), n), q) for _ in range(300)])
        for n in (50, 5000)
    )
    assert small > 0.1, "the usual limit of a moderate change"
    assert large < 0.01
