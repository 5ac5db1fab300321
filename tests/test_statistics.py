"""Intervals, against SciPy and against what an interval promises."""

import numpy as np
import pytest
import scipy.stats

from aiecof.config import InvalidInput
from aiecof.statistics import mean_interval


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
