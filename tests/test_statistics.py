"""Intervals, against SciPy, rliable, enumeration by hand, and what an interval promises."""

from itertools import product

import numpy as np
import pytest
import scipy.stats
from rliable import library, metrics

from aiecof.checks import InvalidInput
from aiecof.study.statistics import (
    bootstrap_interval,
    holm,
    mean_interval,
    one_sided,
    paired_difference,
    probability_of_improvement,
    rank_correlation,
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


def interquartile_mean(values):
    """The middle of its own bootstrap interval."""
    return bootstrap_interval(values, "iqm", resamples=10).mean


def test_an_interquartile_mean_by_hand():
    """Of eight values two go at either end; of five one; of three none."""
    assert interquartile_mean([1000, 3, 4, -50, 5, 6, 2, 7]) == (3 + 4 + 5 + 6) / 4
    assert interquartile_mean([np.nan, 9, 1, 2, 3, -70]) == 2
    assert interquartile_mean([0, 0, 9]) == 3
    assert np.isnan(interquartile_mean([])) and np.isnan(interquartile_mean([np.nan]))


@pytest.mark.parametrize("count", [1, 4, 10, 23])
def test_an_interquartile_mean_is_rliables(count):
    assert interquartile_mean(normal(count)) == pytest.approx(metrics.aggregate_iqm(normal(count)), rel=1e-12)


def test_a_bootstrap_draws_seeds_within_their_setting():
    """Three seeds and two have 27 x 4 resamples in all; drawn across settings, a mean could be 0 or 12."""
    settings = {"light": [0.0, 1.0, 7.0], "heavy": [10.0, 12.0]}
    draws = [list(product(seeds, repeat=len(seeds))) for seeds in settings.values()]
    means = [np.mean(light + heavy) for light, heavy in product(*draws)]
    assert len(means) == 108
    for level in (0.5, 0.9):
        tails = (1 - level) / 2, (1 + level) / 2
        expected = np.mean([0, 1, 7, 10, 12]), *np.quantile(means, tails, method="inverted_cdf")
        assert bootstrap_interval(settings, level=level, resamples=20_000) == pytest.approx(expected)


@pytest.mark.parametrize("statistic", ["mean", "iqm"])
def test_a_bootstrap_is_rliables(statistic):
    """rliable keeps one setting a column."""
    scores = normal(10, 4) + [0, 5, 1, 2]
    aggregate = {"mean": metrics.aggregate_mean, "iqm": metrics.aggregate_iqm}[statistic]
    interval = bootstrap_interval(scores.T, statistic)
    assert interval.mean == pytest.approx(aggregate(scores))
    assert close(interval, *rliable_limits(scores, aggregate))


def test_settings_come_in_any_container():
    first, second = normal(5), normal(7, seed=1)
    expected = bootstrap_interval([first, second])
    assert bootstrap_interval({"a": first, "b": [*second, np.nan], "unfinished": [np.nan]}) == expected
    assert bootstrap_interval(first) == bootstrap_interval(list(first)) == bootstrap_interval([first])
    assert bootstrap_interval([first, first]) == bootstrap_interval(np.array([first, first]))
    assert bootstrap_interval({"a": 1.0, "b": 4.0}) == (2.5, 2.5, 2.5), "two settings of one seed, not two seeds"


def test_a_seed_of_the_bootstrap_repeats_it():
    values = normal(10)
    assert bootstrap_interval(values, seed=3) == bootstrap_interval(values, seed=3)
    assert bootstrap_interval(values, seed=3) != bootstrap_interval(values, seed=4)


@pytest.mark.parametrize("count, least, most", [(10, 0.88, 0.94), (3, 0.70, 0.80)])
def test_a_bootstrap_of_few_seeds_holds_the_mean_less_often_than_it_says(count, least, most):
    intervals = [bootstrap_interval(normal(count, seed=k), resamples=500, seed=k) for k in range(1000)]
    assert least < coverage(3, intervals) < most


def test_an_interquartile_interval_of_ten_seeds_holds_the_centre():
    intervals = [bootstrap_interval(normal(10, seed=k), "iqm", resamples=500, seed=k) for k in range(500)]
    assert 0.88 < coverage(3, intervals) < 0.99


@pytest.mark.parametrize("statistic", ["mean", "iqm"])
def test_a_bootstrap_without_spread_has_no_width(statistic):
    assert bootstrap_interval([2.5], statistic) == (2.5, 2.5, 2.5)
    assert bootstrap_interval([0.1] * 7, statistic) == pytest.approx((0.1, 0.1, 0.1), rel=1e-12)
    for empty in ([], {}, [np.nan], {"a": []}, [[], []]):
        assert all(np.isnan(bootstrap_interval(empty, statistic)))


def test_a_setting_of_one_seed_adds_nothing_to_the_width():
    values = normal(9)
    alone, beside = bootstrap_interval(values), bootstrap_interval([values, [3.0]])
    assert beside == pytest.approx([(9 * end + 3.0) / 10 for end in alone])


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


@pytest.mark.parametrize(
    "field, value",
    [("level", 1), ("level", 0), ("resamples", 0), ("resamples", 1e3), ("seed", -1), ("seed", None)],
)
def test_bad_settings_of_a_bootstrap_are_refused(field, value):
    for function in (
        lambda **bad: bootstrap_interval([], **bad),
        lambda **bad: probability_of_improvement([], [], **bad),
    ):
        with pytest.raises(InvalidInput, match=field):
            function(**{field: value})


@pytest.mark.parametrize("statistic", ["median", None])
def test_an_unknown_statistic_is_refused(statistic):
    with pytest.raises(InvalidInput, match="mean, iqm|text"):
        bootstrap_interval([1.0], statistic)


@pytest.mark.parametrize("shift", [-1.0, 0.0, 0.3, 2.0])
def test_a_one_sided_chance_is_scipys(shift):
    values = np.random.default_rng(7).normal(shift, 1, 10)
    assert one_sided(values) == pytest.approx(scipy.stats.ttest_1samp(values, 0, alternative="greater").pvalue)
    assert [one_sided([x, x]) for x in (1.0, 0.0, -1.0)] == [0.0, 0.5, 1.0] and np.isnan(one_sided([1.0]))


def test_holm_by_hand():
    """Ranked .01, .02, .04: times 3, 2, 1, and never below the one before."""
    assert holm([0.04, 0.01, 0.02]) == pytest.approx([0.04, 0.03, 0.04])
    assert holm([0.6, 0.7]) == [1.0, 1.0] and holm([0.3]) == [0.3]
