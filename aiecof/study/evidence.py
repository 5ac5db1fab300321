"""What a verdict rests on: the tables of an arm, read once, and comparisons of two samples paired by seed."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from aiecof.checks import InvalidInput, check_choice
from aiecof.study.curves import CURVES, EARLY, FINAL, IMBALANCE, MEASURES
from aiecof.study.grids import ARMS, REPRESENTATIVES, VARIANTS
from aiecof.study.paper import TABLE_IV
from aiecof.study.statistics import Interval, mean_interval, one_sided
from aiecof.study.store import Manifest, manifest, read_table

FEWEST = 3
"""Seeds; with two, an interval is so wide that what is undecided would pass for refuted."""
MARGIN, SHARE = 0.01, 0.005
"""What no one would miss: this share of TOPPO's gain over Random; for a measure between 0 and 1 at least `SHARE`."""
BEST_COIN = "best-coin"
"""Whose share at home is, for each seed, the one that earns most on the other seeds; only arms have several coins."""
SHARES = ("drop_rate", "load", "local_share", "success_rate")

SWEEPS = (*(f"figure_{part}.csv" for part in ("3a", "3b", "3c", "4", "7", "8", "9")), "ablation.csv")
"""Tables that an arm has of its own, if it has them."""

Where = dict[str, Any]
"""Labels that choose rows."""


class Arm(NamedTuple):
    """Where a claim is judged: a scenario, and the table that has all methods on it."""

    scenario: str
    table: str


ARM_NAMES: dict[str, Arm] = {
    f"{arm}-{name}": Arm(name, f"arm_{arm}.csv") for arm in ARMS for name in REPRESENTATIVES
} | {name: Arm(name, "table_iv.csv") for name in ("table-iii", "fitted", "balanced")}
"""Name of an arm -> the arm; the first is the primary one."""
PRIMARY = next(iter(ARM_NAMES))


class NoResults(Exception):
    """What a test needs is not there; the message says what."""


class Facts:
    """What verdicts on an arm rest on: the tables of `results/`, each read once, and who was compared.

    `read` gives a table by its name, an empty one if there is none.
    """

    def __init__(self, read: Callable[[str], pd.DataFrame], declared: Manifest, arm: str = PRIMARY):
        self._read, self._tables, self.arm = read, {}, check_choice("arm", arm, tuple(ARM_NAMES))
        self._declared, self._values = declared, {}
        self.rules = declared.of_kind("rule")
        self.added = [name for name in declared.of_kind("learned") if declared.players[name].added]

    @classmethod
    def of(cls, results: Path | None = None, arm: str = PRIMARY) -> Facts:
        """Those of a folder."""
        return cls(lambda name: read_table(name, results), manifest(results), arm)

    def on(self, arm: str) -> Facts:
        """The same tables, for another arm."""
        other = Facts(self._read, self._declared, arm)
        other._tables = self._tables
        return other

    def table(self, name: str) -> pd.DataFrame:
        """A table that has rows."""
        if name not in self._tables:
            self._tables[name] = self._read(name)
        if self._tables[name].empty:
            raise NoResults(f"results/{name} is missing or empty")
        return self._tables[name]

    def _place(self, table: str, where: Where) -> tuple[str, Where]:
        """Where the arm has what a claim looks for.

        Table IV is its own, and so is a TOPPO that is trained to the end; the variants of a memory are methods; sweeps
        are declared on the printed arm alone.
        """
        own = ARM_NAMES[self.arm].table
        if own == "table_iv.csv" or table not in SWEEPS:
            return own if table == "table_iv.csv" else table, where
        if "variant" in where and not VARIANTS[where["variant"]][1]:
            return "memory.csv", {"method": VARIANTS[where["variant"]][0]}
        if own != "arm_printed.csv":
            raise NoResults(f"{self.arm}: its sweeps are not declared")
        if where.get("stage") == "late":
            return own, {"method": "toppo"}
        return f"printed_{table}", where

    def there(self, table: str, settings: Iterable[Where]) -> list[Where]:
        """The settings of whose numbers the arm has enough seeds: it has other points than the first sweeps.

        What has to be there in any case, such as a method, is no number.
        """
        settings = list(settings)
        numbers = [{key: value for key, value in where.items() if not isinstance(value, str)} for where in settings]
        if not any(numbers):
            return settings
        seeds = [self.rows(table, where)["seed"].nunique() for where in numbers]
        found = [where for where, count in zip(settings, seeds, strict=True) if count >= FEWEST]
        if not found:
            raise NoResults(f"{self.arm}: {self.file(table)} has too few seeds of {', '.join(map(named, settings))}")
        return found

    def file(self, table: str, where: Where | None = None) -> str:
        """Where in the results the arm has a table."""
        return f"results/{self._place(table, where or {})[0]}"

    def expects(self, table: str, rule: str) -> bool:
        """Whether a table has to hold a rule: the arm's own has all, a sweep those it has; and coins, if it has any."""
        rows = self.table(self._place(table, {})[0])
        if rule == BEST_COIN:
            return "share" in rows and bool(rows["share"].notna().any())
        return table == "table_iv.csv" or rule in set(rows["method"])

    def rows(self, table: str, where: Where) -> pd.DataFrame:
        """The rows of a table with these labels, on the arm."""
        table, where = self._place(table, where)
        rows, scenario = self.table(table), ARM_NAMES[self.arm].scenario
        wanted = {"scenario": scenario} | where
        if "arm" in rows:
            wanted["arm"] = self.arm.removesuffix(f"-{scenario}")
        if coin := where.get("method") == BEST_COIN:
            del wanted["method"]
        rows = rows[rows["share"].notna() == coin] if "share" in rows else rows[: 0 if coin else None]
        rows = rows[np.all([rows[name] == value for name, value in wanted.items()], axis=0)]
        return best_of_others(rows) if coin and len(rows) else rows

    def values(self, table: str, where: Where, metric: str) -> pd.Series:
        """One number a seed, without NaN."""
        key = (table, tuple(where.items()), metric)
        if key not in self._values:
            rows = self.rows(table, where).set_index("seed")
            if rows.index.has_duplicates:
                raise InvalidInput(
                    "where", named(where), f"labels that leave one row a seed of {self.file(table, where)}"
                )
            self._values[key] = self._measure(rows, metric)
        return self._values[key]

    def _measure(self, rows: pd.DataFrame, metric: str) -> pd.Series:
        if metric in CURVES:
            return self._curve_values(rows["run"], CURVES[metric])
        if metric == IMBALANCE:
            return rows["run"].map(self.table("devices.parquet").groupby("run")["load"].std(ddof=0)).dropna()
        return 1.0 - rows["drop_rate"].dropna() if metric == "success_rate" else rows[metric].dropna()

    def _curve_values(self, runs: pd.Series, measure: Callable[[np.ndarray], float]) -> pd.Series:
        """A measure of each run's training curve, where that is long enough and whole, and Random's reward is there."""
        random = self.rows("table_iv.csv", {"method": "random"}).set_index("seed")["reward"]
        curves = self.table("curves.parquet")
        grouped = curves[curves["run"].isin(runs)].sort_values("episode").groupby("run")["reward"]
        found = {run: curve.to_numpy(float) for run, curve in grouped}
        known = {seed: found[run] - random[seed] for seed, run in runs.items() if run in found and seed in random}
        whole = {
            seed: curve for seed, curve in known.items() if len(curve) >= EARLY + FINAL and np.isfinite(curve).all()
        }
        return pd.Series({seed: measure(curve) for seed, curve in whole.items()}, dtype=float)

    def sample(self, table: str, where: Where, metric: str) -> np.ndarray:
        """`values` of enough seeds."""
        values = self.values(table, where, metric)
        if len(values) < FEWEST:
            raise NoResults(f"{self.arm}, {named(where)}: fewer than {FEWEST} seeds in {self.file(table, where)}")
        return values.to_numpy()

    def margin(self, metric: str) -> float:
        """Differences below this are none: `MARGIN` of what TOPPO gains over Random, and `SHARE` for shares.

        Of a measure that Random does not have, it is `MARGIN` of TOPPO's own level.
        """
        names = ("toppo",) if metric in CURVES or metric == IMBALANCE else ("toppo", "random")
        samples = [self.values("table_iv.csv", {"method": name}, metric) for name in names]
        both = pd.concat(samples, axis=1, join="inner")
        if len(both) < FEWEST:
            raise NoResults(f"{self.arm}: no margin without {' and '.join(names)} in {self.file('table_iv.csv')}")
        level = both.iloc[:, 0] - both.iloc[:, 1:].sum(axis=1)
        return max(MARGIN * abs(float(level.mean())), SHARE if metric in SHARES else 0.0)

    def compare(self, table: str, metric: str, first: Where, second: Where, sign: float | None = None) -> Comparison:
        """`Comparison` of two selections of rows; without a sign, the first is claimed to be better."""
        pair = [self.values(table, where, metric) for where in (first, second)]
        one, other = pair[0].align(pair[1], join="inner")
        if len(one) < FEWEST:
            both = f"{named(first)} and {named(second)}"
            raise NoResults(f"{self.arm}, {both}: fewer than {FEWEST} common seeds in {self.file(table, first)}")
        label = f"{MEASURES[metric].title.lower()} of {named(first)} and {named(second)}"
        better = sign or MEASURES[metric].better
        return Comparison(metric, label, better, one.to_numpy(), other.to_numpy(), self.margin(metric))

    @property
    def printed(self) -> pd.DataFrame:
        """Table IV as printed."""
        return self.table(TABLE_IV).set_index("algorithm")


@dataclass(frozen=True)
class Comparison:
    """Two samples, paired by seed; `sign` is 1 if the first is claimed to be larger, else -1."""

    metric: str
    label: str
    sign: float
    first: np.ndarray
    second: np.ndarray
    margin: float

    @property
    def advantage(self) -> Interval:
        """Paired difference, positive if as claimed."""
        return mean_interval(self._gains)

    @property
    def _gains(self) -> np.ndarray:
        return self.sign * (self.first - self.second)

    def percent(self, of_first: bool = False) -> Interval:
        """The advantage in percent of the second, or of the first; NaN if there is a 0 among them."""
        whole = np.abs(self.first if of_first else self.second)
        return mean_interval(100.0 * self._gains / whole) if whole.all() else Interval(np.nan, np.nan, np.nan)

    @property
    def ahead(self) -> float:
        """One-sided p value of an advantage."""
        return one_sided(self._gains)

    @property
    def far_ahead(self) -> float:
        """One-sided p value of an advantage beyond the margin."""
        return one_sided(self._gains - self.margin)

    @property
    def not_far_ahead(self) -> float:
        """One-sided p value of an advantage below the margin, or of none."""
        return one_sided(self.margin - self._gains)

    @property
    def behind(self) -> float:
        """One-sided p value of a difference beyond the margin on the other side."""
        return one_sided(-self._gains - self.margin)

    @property
    def within(self) -> float:
        """p value of a difference within the margin: the larger of two one-sided tests."""
        return max(one_sided(self._gains + self.margin), one_sided(self.margin - self._gains))

    @property
    def weakness(self) -> float:
        """Lower end of the advantage relative to the level, to find the weakest of several comparisons."""
        return self.advantage.low / max(abs(self.first.mean()), abs(self.second.mean()), 1e-12)

    def __str__(self) -> str:
        levels = f"{self.label}: {self.first.mean():.4g} against {self.second.mean():.4g}"
        return f"{levels}, advantage {in_words(self.advantage)}"


def best_of_others(coins: pd.DataFrame) -> pd.DataFrame:
    """Of rows with `seed`, `share`, `reward`, the coin of each seed with all shares that earns most on the others."""
    earned = coins.pivot(index="seed", columns="share", values="reward").dropna()
    if len(earned) < 2:
        return coins[:0]
    best = {seed: earned.drop(seed).mean().idxmax() for seed in earned.index}
    return coins[coins["share"] == coins["seed"].map(best)]


def in_words(interval: Interval) -> str:
    """A mean and its interval."""
    return f"{interval.mean:.4g} [{interval.low:.4g}, {interval.high:.4g}]"


def named(where: Where) -> str:
    """Labels in words: whose rows, and at which numbers."""
    whose = " ".join(value for value in where.values() if isinstance(value, str))
    numbers = [f"{name.replace('_', ' ')} {value:g}" for name, value in where.items() if not isinstance(value, str)]
    return " at ".join(filter(None, [whose, ", ".join(numbers)]))
