"""What a verdict rests on: tables of results, read once, and comparisons of two samples paired by seed."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from aiecof.study.curves import CURVES, IMBALANCE, MEASURES
from aiecof.study.paper import TABLE_IV
from aiecof.study.statistics import Interval, mean_interval, paired_difference
from aiecof.study.store import Manifest, manifest, read_table

FEWEST = 3
"""Seeds; with two, an interval is so wide that what is undecided would pass for refuted."""

Where = dict[str, Any]
"""Labels that choose rows."""


class NoResults(Exception):
    """What a test needs is not there; the message says what."""


class Facts:
    """What verdicts rest on: the tables of `results/`, each read once, and who was compared."""

    def __init__(self, read: Callable[[str], pd.DataFrame], declared: Manifest):
        self._read, self._tables = read, {}
        self.rules = declared.of_kind("rule")
        self.added = [name for name in declared.of_kind("learned") if declared.players[name].added]

    @classmethod
    def of(cls, results: Path | None = None) -> Facts:
        """Those of a folder."""
        return cls(lambda name: read_table(name, results), manifest(results))

    def table(self, name: str) -> pd.DataFrame:
        """A table that has rows."""
        if name not in self._tables:
            self._tables[name] = self._read(name)
        if self._tables[name].empty:
            raise NoResults(f"results/{name} is missing or empty")
        return self._tables[name]

    def rows(self, table: str, scenario: str, where: Where) -> pd.DataFrame:
        """The rows of a table with these labels."""
        rows = self.table(table)
        return rows[np.all([rows[name] == value for name, value in ({"scenario": scenario} | where).items()], axis=0)]

    def values(self, table: str, scenario: str, where: Where, metric: str) -> pd.Series:
        """One number a seed, without NaN."""
        rows = self.rows(table, scenario, where).set_index("seed")
        if metric in CURVES:
            return self._curve_values(scenario, rows["run"], CURVES[metric])
        if metric == IMBALANCE:
            return rows["run"].map(self.table("devices.parquet").groupby("run")["load"].std(ddof=0)).dropna()
        return 1.0 - rows["drop_rate"].dropna() if metric == "success_rate" else rows[metric].dropna()

    def _curve_values(self, scenario: str, runs: pd.Series, measure: Callable[[np.ndarray], float]) -> pd.Series:
        """A measure of each run's training curve, of the seeds for which the curve and Random's reward are there."""
        random = self.rows("table_iv.csv", scenario, {"method": "random"}).set_index("seed")["reward"]
        curves = self.table("curves.parquet")
        grouped = curves[curves["run"].isin(runs)].sort_values("episode").groupby("run")["reward"]
        found = {run: curve.to_numpy(float) for run, curve in grouped}
        known = {seed: found[run] - random[seed] for seed, run in runs.items() if run in found and seed in random}
        return pd.Series({seed: measure(rewards) for seed, rewards in known.items()}, dtype=float)

    def sample(self, table: str, scenario: str, where: Where, metric: str) -> np.ndarray:
        """`values` of enough seeds."""
        values = self.values(table, scenario, where, metric)
        if len(values) < FEWEST:
            raise NoResults(f"{scenario}, {_named(where)}: fewer than {FEWEST} seeds in results/{table}")
        return values.to_numpy()

    def compare(
        self, table: str, scenario: str, metric: str, first: Where, second: Where, sign: float | None = None
    ) -> Comparison:
        """`Comparison` of two selections of rows; without a sign, the first is claimed to be better."""
        pair = [self.values(table, scenario, where, metric) for where in (first, second)]
        one, other = pair[0].align(pair[1], join="inner")
        if len(one) < FEWEST:
            both = f"{_named(first)} and {_named(second)}"
            raise NoResults(f"{scenario}, {both}: fewer than {FEWEST} common seeds in results/{table}")
        label = f"{MEASURES[metric].title.lower()} of {_named(first)} and {_named(second)}"
        return Comparison(label, sign or MEASURES[metric].better, one.to_numpy(), other.to_numpy())

    @property
    def printed(self) -> pd.DataFrame:
        """Table IV as printed."""
        return self.table(TABLE_IV).set_index("algorithm")


@dataclass(frozen=True)
class Comparison:
    """Two samples, paired by seed; `sign` is 1 if the first is claimed to be larger, else -1."""

    label: str
    sign: float
    first: np.ndarray
    second: np.ndarray

    @property
    def advantage(self) -> Interval:
        """Paired difference, positive if as claimed."""
        return paired_difference(self.sign * self.first, self.sign * self.second)

    @property
    def percent(self) -> Interval:
        """The advantage in percent of the second."""
        return mean_interval(100.0 * self.sign * (self.first / self.second - 1.0))

    @property
    def holds(self) -> bool:
        """Whether the interval lies on the claimed side."""
        return self.advantage.low > 0.0

    @property
    def margin(self) -> float:
        """Lower end of the advantage relative to the level, to find the weakest of several comparisons."""
        return self.advantage.low / max(abs(self.first.mean()), abs(self.second.mean()), 1e-12)

    def __str__(self) -> str:
        levels = f"{self.label}: {self.first.mean():.4g} against {self.second.mean():.4g}"
        return f"{levels}, advantage {in_words(self.advantage)}"


def in_words(interval: Interval) -> str:
    """A mean and its interval."""
    return f"{interval.mean:.4g} [{interval.low:.4g}, {interval.high:.4g}]"


def _named(where: Where) -> str:
    words = ("method", "variant", "stage", "kind")
    return " ".join(str(value) if name in words else f"{name}={value:g}" for name, value in where.items())
