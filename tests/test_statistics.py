"""Intervals, against SciPy, rliable, enumeration by hand, and what an interval promises."""

import numpy as np
import pytest
import scipy.stats
from rliable import library, metrics

from aiecof.checks import InvalidInput
from aiecof.study.statistics import (
    holm,
    mean_interval,
    one_sided,
    paired_difference,
    probability_of_improvement,
    proved,
    rank_correlation,
    told_apart,
)

pytestmark = pytest.mark.filterwarnings("error")  # SciPy warns where it answers NaN: no input here may lead there


def normal(*shape, seed=0):
    return np.random.default_rng(seed).normal(3, 2, shape)


def coverage(true_value, intervals):
    return np.mean([low <= true_value <= high for _, low, high in intervals])


def close(interval, low, high):
    """Both ends within a tenth of the width, a few times the noise of a thousand resamples."""
    return np.allclose(interval[1:], (low, high), rtol=0, atol=0.1 * (high - low))


def rliable_limits(scores, aggregate):
    np.random.seed(0)  # noqa: NPY002  rliable draws from the global state, whatever `random_state` it is given
    _, limits = library.get_interval_estimates({"any": scores}, lambda *x: np.array([aggregate(*x)]), reps=2000)
    return limits["any"].ravel()


@pytest.mark.parametrize("level", [0.5, 0.9, 0.95])
def test_an_interval_is_students(level):
    values = np.random.default_rng(0).normal(3, 2, 12)
    expected = scipy.stats.ttest_1samp(values, 0).confidence_interval(level)
    assert np.allclose(mean_interval(values, level), (values.mean(), *expected))


def test_an_interval_by_hand():
    """1, 2, 3: the standard error is 1 / sqrt(3), and t is 4.303 with two degrees of freedom."""
    mean, low, high = mean_interval([1.0, 2.0, 3.0])
    assert (mean, round(low, 3), round(high, 3)) == (2.0, round(2 - 4.3027 / 3**0.5, 3), round(2 + 4.3027 / 3**0.5, 3))


@pytest.mark.parametrize("count", [3, 10])
def test_an_interval_holds_the_mean_as_often_as_it_says(count):
    rng = np.random.default_rng(1)
    intervals = [mean_interval(rng.normal(5, 1, count)) for _ in range(2000)]
    assert 0.935 < np.mean([low <= 5 <= high for _, low, high in intervals]) < 0.965


def test_nothing_is_left_to_say_about_one_value_or_none():
    assert mean_interval([2.5]) == (2.5, 2.5, 2.5)
    assert mean_interval([np.nan, 2.5]) == (2.5, 2.5, 2.5)
    assert mean_interval([4.0, np.nan, 4.0]) == (4.0, 4.0, 4.0)
    for empty in ([], [np.nan, np.nan]):
        assert all(np.isnan(mean_interval(empty)))


@pytest.mark.parametrize("level", [0, 1, 1.5, -1, np.nan, "0.9"])
def test_a_bad_level_is_refused(level):
    with pytest.raises(InvalidInput, match="level"):
        mean_interval([1.0, 2.0], level)


def test_a_paired_difference_is_the_paired_t_test():
    first, second = normal(12), normal(12) + normal(12, seed=1) / 10
    expected = scipy.stats.ttest_rel(first, second).confidence_interval(0.9)
    assert paired_difference(first, second, 0.9) == pytest.approx((np.mean(first) - np.mean(second), *expected))
    unpaired = scipy.stats.ttest_ind(first, second).confidence_interval(0.9)
    assert np.diff(expected) < np.diff(unpaired) / 5, "what the two share has to cancel"


def test_a_pair_with_a_gap_is_left_out_as_a_pair():
    first, second = [1.0, np.nan, 3.0, 8.0, 2.0], [0.0, 50.0, np.nan, 4.0, 3.0]
    assert paired_difference(first, second) == mean_interval([1, 4, -1])
    assert rank_correlation(first, second) == rank_correlation([1, 8, 2], [0, 4, 3])
    assert paired_difference([2, 2], [1, 1]) == (1, 1, 1)


@pytest.mark.parametrize("function", [paired_difference, rank_correlation])
@pytest.mark.parametrize("other", [[1.0, 2.0], [1.0], 1.0, []])
def test_unequal_lengths_are_no_pairs(function, other):
    with pytest.raises(InvalidInput, match="second"):
        function([1.0, 2.0, 3.0], other)


def test_a_probability_of_improvement_by_hand():
    """Of 2 x 3 pairs, 2 beats 1, ties with 2 and loses to 3; 5 beats all: 4 wins and a tie."""
    assert probability_of_improvement([2, 5], [1, 2, 3]).mean == 4.5 / 6
    assert probability_of_improvement([2, np.nan, 5], [1, 2, 3, np.nan]).mean == 4.5 / 6


@pytest.mark.parametrize("shift", [0, 1, -3])
def test_a_probability_of_improvement_is_mann_whitneys_and_rliables(shift):
    first, second = np.round(normal(10)) + shift, np.round(normal(8, seed=1))
    interval = probability_of_improvement(first, second)
    assert interval.mean == pytest.approx(scipy.stats.mannwhitneyu(first, second).statistic / 80)
    assert interval.mean == pytest.approx(metrics.probability_of_improvement(first[:, None], second[:, None]))
    assert interval.mean == pytest.approx(1 - probability_of_improvement(second, first).mean)


def test_an_interval_of_an_improvement_is_rliables():
    first, second = normal(10) + 1, normal(8, seed=1)
    limits = rliable_limits([first[:, None], second[:, None]], metrics.probability_of_improvement)
    assert close(probability_of_improvement(first, second), *limits)


def test_an_interval_of_an_improvement_holds_the_probability():
    """A normal value beats one whose mean is a standard deviation lower with probability Phi(1 / sqrt(2))."""
    pairs = [(normal(10, seed=2 * k) + 2, normal(10, seed=2 * k + 1)) for k in range(500)]
    intervals = [probability_of_improvement(*pair, resamples=500, seed=k) for k, pair in enumerate(pairs)]
    assert 0.88 < coverage(scipy.stats.norm.cdf(0.5**0.5), intervals) < 0.99


def test_an_improvement_without_overlap_or_values():
    assert probability_of_improvement([4, 5, 6], [1, 2, 3]) == (1, 1, 1)
    assert probability_of_improvement([1, 1], [1, 1, 1]) == (0.5, 0.5, 0.5)
    assert probability_of_improvement([2], [1]) == (1, 1, 1)
    assert probability_of_improvement([2], [1, 3]) == (0.5, 0, 1)
    assert all(np.isnan(probability_of_improvement([], [1])))


def test_a_rank_correlation_by_hand():
    """Without ties, one minus 6 sum d^2 / (n (n^2 - 1)) of the ranks' differences d: here 0, 1, 1, 0."""
    assert rank_correlation([1, 20, 300, 4000], [-9, 5, 1, 7]) == pytest.approx(1 - 6 * 2 / (4 * 15))
    assert rank_correlation([1, 2, 3], np.exp([1, 2, 3])) == pytest.approx(1)
    assert rank_correlation([1, 2, 3], [3, 2, 1]) == pytest.approx(-1)


def test_a_rank_correlation_is_pearsons_of_the_ranks():
    first, second = np.round(normal(15)), np.round(normal(15, seed=1))
    ranks = scipy.stats.rankdata([first, second], axis=1)
    assert rank_correlation(first, second) == pytest.approx(np.corrcoef(ranks)[0, 1])


@pytest.mark.parametrize("first, second", [([1, 1, 1], [1, 2, 3]), ([1, 2], [3, 3]), ([1], [2]), ([], [])])
def test_no_order_has_no_rank_correlation(first, second):
    assert np.isnan(rank_correlation(first, second))


@pytest.mark.parametrize("shift", [-1.0, 0.0, 0.3, 2.0])
def test_a_one_sided_chance_is_scipys(shift):
    values = np.random.default_rng(7).normal(shift, 1, 10)
    assert one_sided(values) == pytest.approx(scipy.stats.ttest_1samp(values, 0, alternative="greater").pvalue)
    assert [one_sided([x, x]) for x in (1.0, 0.0, -1.0)] == [0.0, 0.5, 1.0] and np.isnan(one_sided([1.0]))


def test_holm_by_hand():
    """Ranked .01, .02, .04: times 3, 2, 1, and never below the one before."""
    assert holm([0.04, 0.01, 0.02]) == pytest.approx([0.04, 0.03, 0.04])
    assert holm([0.6, 0.7]) == [1.0, 1.0] and holm([0.3]) == [0.3]


@pytest.mark.parametrize(
    "field, value",
    [("level", 1), ("level", 0), ("resamples", 0), ("resamples", 1e3), ("seed", -1), ("seed", None)],
)
def test_bad_settings_of_a_bootstrap_are_refused(field, value):
    with pytest.raises(InvalidInput, match=field):
        probability_of_improvement([], [], **{field: value})


def test_what_is_proved_among_many_is_what_holm_leaves():
    """Alone two hold, at p = .01 and .002; of three too, the larger one times two; of four to either side only one."""
    noise = scipy.stats.zscore(np.random.default_rng(3).normal(size=10), ddof=1)
    a, b = noise + 0.885, noise + 1.2
    chances = [scipy.stats.ttest_1samp(values, 0, alternative="greater").pvalue for values in (a, b)]
    assert 0.0083 < chances[0] < 0.0125 and chances[1] < 0.003
    assert proved([a, b, noise]) == [True, True, False] and proved([a, a, noise]) == [False, False, False]
    assert proved([a]) == [True] and proved([]) == told_apart({}) == []
    assert told_apart({"a": a, "low": -b, "none": noise, "nor": noise - 0.1}) == ["low"]
    assert told_apart({"a": a, "low": -b}) == ["a", "low"]
