"""Small functions over arrays of results: what a mean is worth."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike
from scipy.special import stdtrit

from aiecof.config import check_number


class Interval(NamedTuple):
    """A mean and its confidence interval."""

    mean: float
    low: float
    high: float


def mean_interval(values: ArrayLike, level: float = 0.95) -> Interval:
    """Mean of independent values and Student's t interval for it.

    values : (n,) float
        One number an episode, or a seed. NaN, a mean over nothing, is left out.
    level : float
        Share of such intervals that hold the true mean if the values are normal, which means over an episode
        nearly are. With few values the t interval keeps that share, where resampling makes it too narrow.

    One value gives an interval of no width, because it says nothing about the spread; none gives NaN.
    """
    level = check_number("level", level, 0.0, 0.999999)
    values = np.asarray(values, float).ravel()
    values = values[~np.isnan(values)]
    if values.size == 0:
        return Interval(np.nan, np.nan, np.nan)
    mean = float(values.mean())
    if values.size == 1:
        return Interval(mean, mean, mean)
    error = values.std(ddof=1) / np.sqrt(values.size)
    half = float(stdtrit(values.size - 1, (1.0 + level) / 2.0) * error)
    return Interval(mean, mean - half, mean + half)
