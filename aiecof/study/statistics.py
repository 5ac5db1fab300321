"""Small functions over arrays of results: what a mean, and a difference between two methods, is worth.

What is repeated is the seed: a value is one number a seed (or an episode), never one a slot. NaN, a mean over nothing,
is left out everywhere, in paired values together with its partner.
"""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import scipy  # scipy.stats loads at its first use, which spares the command line its half second
from numpy.typing import ArrayLike
from scipy.special import stdtr, stdtrit

from aiecof.checks import InvalidInput, check_calls, check_integer, check_number


class Interval(NamedTuple):
    """A mean, or another estimate, and its confidence interval."""

    mean: float
    low: float
    high: float


def mean_interval(values: ArrayLike, level: float = 0.95, within: tuple[float, float] = (-np.inf, np.inf)) -> Interval:
    """Mean of independent values and Student's t interval for it.

    values : (n,) float
        One number an episode, or a seed. NaN, a mean over nothing, is left out.
    level : float
        Share of such intervals that hold the true mean if the values are normal, which means over an episode
        nearly are. With few values the t interval keeps that share, where resampling makes it too narrow.
    within : (float, float)
        Lowest and highest value there can be, 0 and 1 for a share: the interval ends there.

    One value gives an interval of no width, because it says nothing about the spread; none gives NaN.
    """
    level = check_number("level", level, 0.0, 0.999999)
    values = _present(values)
    if values.size == 0:
        return Interval(np.nan, np.nan, np.nan)
    mean = float(values.mean())
    if values.size == 1:
        return Interval(mean, mean, mean)
    error = values.std(ddof=1) / np.sqrt(values.size)
    half = float(stdtrit(values.size - 1, (1.0 + level) / 2.0) * error)
    lowest, highest = min(within[0], values.min()), max(within[1], values.max())
    return Interval(mean, max(mean - half, float(lowest)), min(mean + half, float(highest)))


def paired_difference(first: ArrayLike, second: ArrayLike, level: float = 0.95) -> Interval:
    """Mean of first - second and Student's t interval for it.

    first, second : (n,) float
        The same seeds or traces in the same order: what they share cancels, so the interval is narrower than one from
        independent values. Another length raises `InvalidInput`.
    level : float
        As in `mean_interval`.
    """
    first, second = _pairs(first, second)
    return mean_interval(first - second, level)


def one_sided(differences: ArrayLike) -> float:
    """Chance of a mean at least as large if the true one were 0: Student's t test of paired differences, one-sided.

    differences : (n,) float
        One number a seed. Equal ones give 0 or 1, and 1/2 if they are 0; fewer than two give NaN.
    """
    values = _present(differences)
    if values.size < 2:
        return np.nan
    error = values.std(ddof=1) / np.sqrt(values.size)
    if error == 0.0:
        return float(np.heaviside(-values.mean(), 0.5))
    return float(stdtr(values.size - 1, -values.mean() / error))


def holm(chances: Sequence[float]) -> list[float]:
    """p values of several comparisons, adjusted so that one false finding among all has the level's chance (Holm)."""
    chances = _numbers("chances", chances)
    if chances.ndim != 1 or not ((chances >= 0.0) & (chances <= 1.0)).all():
        raise InvalidInput("chances", chances.tolist(), "numbers between 0 and 1")
    order = np.argsort(chances)
    raised = chances[order] * np.arange(len(order), 0, -1)
    adjusted = np.empty(len(order))
    adjusted[order] = np.minimum(np.maximum.accumulate(raised), 1.0)
    return adjusted.tolist()


def proved(gaps: Iterable[ArrayLike]) -> list[bool]:
    """Which of several samples of paired differences have a mean above 0: one-sided at 2.5 %, after Holm's correction.

    gaps : (n,) float, several
        One number a seed.
    """
    return [chance < 0.025 for chance in holm([one_sided(values) for values in gaps])]


def told_apart(gaps: Mapping[Any, ArrayLike]) -> list[Any]:
    """Which of several samples of paired differences have another mean than 0, at 5 %, after Holm's correction.

    gaps : mapping to (n,) float
        What they are called -> one number a seed.
    """
    either = [min(1.0, 2.0 * min(one_sided(values), one_sided(-np.asarray(values)))) for values in gaps.values()]
    return [name for name, chance in zip(gaps, holm(either), strict=True) if chance < 0.05]


def probability_of_improvement(
    first: ArrayLike, second: ArrayLike, level: float = 0.95, resamples: int = 2000, seed: int = 0
) -> Interval:
    """Share of all pairs (a seed of first, a seed of second) in which first is larger; a tie counts one half.

    first, second : (n,) and (m,) float
        One number a seed, larger being better: swap the two for a cost.
    level : float
        Share of intervals meant to hold the true value. It is reached only with many seeds.
    resamples, seed : int
        How many resamples, in each of which the seeds of either side are drawn anew, independently; and the seed that
        draws them: the same seed gives the same interval.

    It is the Mann-Whitney statistic over n m. The less the two sides overlap, the more the interval promises too much:
    if all of one lie above all of the other it has no width, as resamples cannot show an overlap that no seed showed.

    Source: Agarwal et al. (2021).
    """
    level = check_number("level", level, 0.0, 0.999999)
    resamples, seed = check_integer("resamples", resamples, 1, 10**6), check_integer("seed", seed, 0, 2**63)
    pair = _present(first), _present(second)
    if min(group.size for group in pair) == 0:
        return Interval(np.nan, np.nan, np.nan)

    def share(one, other, axis=-1):
        one, other = one[..., : pair[0].size], other[..., : pair[1].size]
        return np.heaviside(one[..., :, None] - other[..., None, :], 0.5).mean(axis=(-2, -1))

    # SciPy refuses a group of one, for which nothing is left to chance: it gets two copies, and one is used.
    drawable = [np.repeat(group, 2) if group.size == 1 else group for group in pair]
    low, high = scipy.stats.bootstrap(
        drawable, share, n_resamples=resamples, confidence_level=level, method="percentile", rng=seed
    ).confidence_interval
    return Interval(float(share(*pair)), float(low), float(high))


def rank_correlation(first: ArrayLike, second: ArrayLike) -> float:
    """Spearman's rho of paired values: 1 for the same order, -1 for the reverse, NaN if either is constant.

    first, second : (n,) float
        Another length raises `InvalidInput`. A single pair is constant.
    """
    first, second = _pairs(first, second)
    if np.unique(first).size < 2 or np.unique(second).size < 2:
        return np.nan
    return float(scipy.stats.spearmanr(first, second).statistic)


def _present(values: ArrayLike) -> np.ndarray:
    """The values as a flat array, without NaN."""
    values = _numbers("values", values).ravel()
    return values[~np.isnan(values)]


def _numbers(name: str, values: ArrayLike) -> np.ndarray:
    try:
        found = np.asarray(values, float)
    except (TypeError, ValueError):
        raise InvalidInput(name, values, "numbers") from None
    if np.asarray(values).dtype.kind not in "biuf" and found.size or np.isinf(found).any():
        raise InvalidInput(name, values, "numbers, or NaN for what is a mean over nothing")
    return found


def _pairs(first: ArrayLike, second: ArrayLike) -> tuple[np.ndarray, np.ndarray]:
    """Both as flat arrays, without the pairs that hold a NaN."""
    first, second = _numbers("first", first), _numbers("second", second)
    if first.shape != second.shape:
        raise InvalidInput("second", f"shape {second.shape}", f"as many values as in first, shape {first.shape}")
    present = ~(np.isnan(first) | np.isnan(second))
    return first[present], second[present]


check_calls(globals())
