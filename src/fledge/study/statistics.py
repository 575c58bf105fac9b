"""What a few paired runs allow to be said: intervals, an exact test, and how many seeds it would take."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import stats

from fledge.errors import UsageError

Floats = NDArray[np.float64]
Interval = tuple[float, float]

LEVEL = 0.05  # of the two-sided tests; intervals hold the rest
POWER = 0.8  # asked for when seeds are counted
MOST_SEEDS = 10_000
_RESAMPLES = 10_000
_ENUMERATED = 20  # pairs whose 2^n signs are tried one by one


@dataclass(frozen=True)
class Summary:
    """The results of one arm.

    Attributes:
        n: number of runs.
        mean: of the results; NaN without any.
        sd: with n - 1; NaN below two runs.
    """

    n: int
    mean: float
    sd: float


@dataclass(frozen=True)
class Comparison:
    """Arm minus reference over the seeds that both have, in the units of the results.

    Attributes:
        n: number of pairs.
        mean: of the differences.
        sd: of the differences, with n - 1.
        t_interval: for the mean, 95 %, by Student's t.
        bootstrap_interval: for the mean, 95 %, percentiles of resampled pairs.
        wins: pairs in which the arm is above the reference.
        ties: pairs that are equal.
        p: exact two-sided sign-flip p.
        power: chance that a t-test at 5 % finds a difference of this mean and sd with n pairs.
        seeds_needed: pairs for a chance of 80 %; None where more than 10,000 would not do.
    """

    n: int
    mean: float
    sd: float
    t_interval: Interval
    bootstrap_interval: Interval
    wins: int
    ties: int
    p: float
    power: float
    seeds_needed: int | None


def summarise(results: Sequence[float]) -> Summary:
    """Mean and standard deviation of the results of one arm."""
    values = np.asarray(results, dtype=np.float64)
    mean = float(values.mean()) if len(values) else math.nan
    return Summary(len(values), mean, float(values.std(ddof=1)) if len(values) > 1 else math.nan)


def compare(arm: Sequence[float] | Floats, reference: Sequence[float] | Floats) -> Comparison:
    """Compare paired results: the same seeds in the same order.

    Raises:
        UsageError: fewer than two pairs, different numbers, or a result that is not finite.
    """
    first, second = np.asarray(arm, dtype=np.float64), np.asarray(reference, dtype=np.float64)
    if len(first) != len(second) or len(first) < 2:
        raise UsageError(f"compare: {len(first)} and {len(second)} results: give two or more pairs, seed by seed")
    if not (np.isfinite(first).all() and np.isfinite(second).all()):
        raise UsageError("compare: a result is not finite: leave out the seed in both arms, and say so")
    differences = first - second
    mean, sd = float(differences.mean()), float(differences.std(ddof=1))
    n = len(differences)
    half = float(stats.t.ppf(1 - LEVEL / 2, n - 1)) * sd / math.sqrt(n)
    return Comparison(
        n=n,
        mean=mean,
        sd=sd,
        t_interval=(mean - half, mean + half),
        bootstrap_interval=bootstrap_interval(differences),
        wins=int((differences > 0).sum()),
        ties=int((differences == 0).sum()),
        p=sign_flip_p(differences),
        power=power(mean, sd, n),
        seeds_needed=seeds_needed(mean, sd),
    )


def sign_flip_p(differences: Sequence[float] | Floats) -> float:
    """Exact two-sided p: the share of all ways to turn the signs of n differences that move their mean as far from 0.

    It assumes no more than that a difference is as likely as its opposite if the arms are equal. Above 20 pairs 2^20
    ways are drawn instead (a fixed draw, the given signs among them).
    """
    values = np.asarray(differences, dtype=np.float64)
    n = len(values)
    if n <= _ENUMERATED:
        sums = np.zeros(1)
        for value in values:
            sums = np.concatenate([sums + value, sums - value])
    else:
        signs = np.random.default_rng(0).integers(0, 2, (1 << _ENUMERATED, n), dtype=np.int8) * 2 - 1
        signs[0] = 1
        sums = signs @ values
    least = abs(values.sum()) - 1e-12 * np.abs(values).sum()  # what is equal but for rounding counts
    return float((np.abs(sums) >= least).mean())


def bootstrap_interval(differences: Sequence[float] | Floats, seed: int = 0) -> Interval:
    """95 % percentile interval of the mean of n differences, from 10,000 resamples."""
    values = np.asarray(differences, dtype=np.float64)
    picks = np.random.default_rng(seed).integers(0, len(values), (_RESAMPLES, len(values)))
    low, high = np.percentile(values[picks].mean(axis=1), [100 * LEVEL / 2, 100 * (1 - LEVEL / 2)])
    return float(low), float(high)


def smallest_p(n: int) -> float:
    """The smallest p that ``sign_flip_p`` can give for n pairs: 2 / 2^n."""
    return min(1.0, 2.0 ** (1 - n))


def holm(p_values: Sequence[float]) -> list[float]:
    """Holm's adjusted p of several comparisons, in their order: below 0.05 means found at 5 % over all of them."""
    adjusted = [0.0] * len(p_values)
    highest = 0.0
    for rank, k in enumerate(sorted(range(len(p_values)), key=lambda k: p_values[k])):
        highest = max(highest, min(1.0, (len(p_values) - rank) * p_values[k]))
        adjusted[k] = highest
    return adjusted


def can_be_found(n: int, comparisons: int) -> bool:
    """Whether any result of n pairs could be found at 5 % among so many declared comparisons, by Holm."""
    return smallest_p(n) * comparisons < LEVEL


def power(mean: float, sd: float, n: int) -> float:
    """Chance that a two-sided paired t-test at 5 % finds n differences of this mean and sd; NaN for n < 2."""
    if n < 2:
        return math.nan
    if sd == 0:
        return 1.0 if mean else LEVEL
    shift, limit = abs(mean) / sd * math.sqrt(n), stats.t.ppf(1 - LEVEL / 2, n - 1)
    beyond = stats.nct.sf(limit, n - 1, shift) + stats.nct.cdf(-limit, n - 1, shift)
    return float(min(1.0, beyond))


def seeds_needed(mean: float, sd: float) -> int | None:
    """Pairs for a power of 80 %, and enough for the sign-flip test to reach 5 %; None beyond 10,000."""
    least = next(n for n in range(2, MOST_SEEDS) if smallest_p(n) < LEVEL)
    low, high = least - 1, MOST_SEEDS
    if not power(mean, sd, high) >= POWER:
        return None
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if power(mean, sd, middle) >= POWER else (middle, high)
    return high
