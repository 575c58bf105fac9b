from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from fledge.errors import UsageError
from fledge.study.statistics import (
    bootstrap_interval,
    can_be_found,
    compare,
    holm,
    power,
    seeds_needed,
    sign_flip_p,
    smallest_p,
    summarise,
)

VALUES = st.lists(st.integers(-20, 20).map(float), min_size=2, max_size=9)


def test_by_hand() -> None:
    """Differences 1, 2, 3: mean 2, sd 1, standard error 1/sqrt(3), t(2) = 4.3027; of 8 sign patterns 2 move as far."""
    result = compare([11, 22, 33], [10, 20, 30])
    assert (result.n, result.mean, result.sd, result.wins, result.ties) == (3, 2.0, 1.0, 3, 0)
    assert result.t_interval == pytest.approx((2 - 4.302653 / math.sqrt(3), 2 + 4.302653 / math.sqrt(3)), abs=1e-5)
    assert result.p == 2 / 8
    assert compare([1, 1, 0], [0, 1, 1]).ties == 1


def test_signs_by_hand() -> None:
    """3, -1: sums 2, 4, -4, -2, so all four are at least 2 away; 3, 1: two of four are at least 4 away."""
    assert sign_flip_p([3, -1]) == 1
    assert sign_flip_p([3, 1]) == 0.5
    assert sign_flip_p([0, 0, 0]) == 1


@given(VALUES)
def test_signs_against_all_patterns(values: list[float]) -> None:
    patterns = itertools.product((1, -1), repeat=len(values))
    sums = [abs(sum(s * v for s, v in zip(signs, values, strict=True))) for signs in patterns]
    assert sign_flip_p(values) == pytest.approx(sum(s >= abs(sum(values)) for s in sums) / len(sums))


@given(VALUES)
def test_signs_against_scipy(values: list[float]) -> None:
    result = stats.permutation_test(
        (np.array(values),), np.mean, permutation_type="samples", n_resamples=np.inf, vectorized=True, axis=0
    )
    assert sign_flip_p(values) == pytest.approx(result.pvalue)


def test_many_pairs_are_drawn() -> None:
    rng = np.random.default_rng(0)
    values = rng.normal(0.5, 1, 30)
    assert sign_flip_p(values) == pytest.approx(stats.ttest_1samp(values, 0).pvalue, abs=0.01)


def test_intervals_against_scipy() -> None:
    rng = np.random.default_rng(1)
    first, second = rng.normal(3, 1, 8), rng.normal(2, 2, 8)
    result = compare(first, second)
    expected = stats.ttest_rel(first, second).confidence_interval(0.95)
    assert result.t_interval == pytest.approx((expected.low, expected.high))
    boot = stats.bootstrap(
        (first - second,), np.mean, method="percentile", n_resamples=20_000, rng=np.random.default_rng(2)
    )
    interval = boot.confidence_interval
    assert result.bootstrap_interval == pytest.approx((interval.low, interval.high), abs=0.05)
    assert bootstrap_interval(first - second) == result.bootstrap_interval


def test_holm_by_hand() -> None:
    """0.01, 0.04, 0.03, 0.005 by rank: 4 x 0.005, 3 x 0.01, 2 x 0.03, 1 x 0.04 and no smaller than the one before."""
    assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert holm([0.9, 0.8]) == [1.0, 1.0]
    assert holm([]) == []


def test_what_can_be_found() -> None:
    """Five pairs can never reach 5 %; six can, but not among two comparisons; seven can."""
    assert [smallest_p(n) for n in (5, 6, 8)] == [0.0625, 0.03125, 0.0078125]
    assert [can_be_found(5, 1), can_be_found(6, 1), can_be_found(6, 2), can_be_found(7, 2)] == [
        False,
        True,
        False,
        True,
    ]


def test_power_against_simulation() -> None:
    rng = np.random.default_rng(3)
    draws = rng.normal(1, 1.2, (20_000, 8))
    found = stats.ttest_1samp(draws, 0, axis=1).pvalue < 0.05
    assert power(1, 1.2, 8) == pytest.approx(found.mean(), abs=0.01)
    assert power(0, 1, 8) == pytest.approx(0.05)


@pytest.mark.parametrize(("mean", "sd"), [(1, 1), (0.5, 1), (9, 9), (-1, 2)])
def test_seeds_needed_is_the_fewest(mean: float, sd: float) -> None:
    n = seeds_needed(mean, sd)
    assert n is not None
    assert power(mean, sd, n) >= 0.8
    assert n == 6 or power(mean, sd, n - 1) < 0.8


def test_seeds_needed_at_the_ends() -> None:
    assert seeds_needed(0, 1) is None
    assert seeds_needed(1, 0) == 6  # the sign-flip test needs as many
    assert seeds_needed(1e-6, 1) is None


def test_a_planted_null_is_called_null() -> None:
    rng = np.random.default_rng(4)
    called = sum(compare(rng.normal(50, 3, 8), rng.normal(50, 3, 8)).p >= 0.05 for _ in range(100))
    assert called >= 90


def test_a_planted_effect_of_two_deviations_is_found() -> None:
    rng = np.random.default_rng(5)
    found = sum(compare(rng.normal(2, 1, 8) + 50, np.full(8, 50.0)).p < 0.05 for _ in range(100))
    assert found >= 95


def test_summary() -> None:
    assert summarise([1.0, 3.0]) == summarise((1.0, 3.0))
    assert summarise([1, 3]).mean == 2
    assert summarise([1, 3]).sd == pytest.approx(math.sqrt(2))
    assert math.isnan(summarise([1]).sd)
    assert math.isnan(summarise([]).mean)


@pytest.mark.parametrize(("a", "b"), [([1], [1]), ([1, 2], [1]), ([1, math.nan], [1, 2])])
def test_refusals(a: list[float], b: list[float]) -> None:
    with pytest.raises(UsageError, match="compare"):
        compare(a, b)
