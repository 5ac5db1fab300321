"""The tests that decide a claim of the paper, from `results/` and from the print itself.

A verdict is the first of these that applies:

1. `INCONSISTENT`: the claim is a percentage, and Table IV as printed gives another one, by more than `FOLLOWS` points
   beyond what its rounding leaves open.
2. `IMPOSSIBLE`: the claim states a level of TOPPO's energy or load in Table IV, or compares that energy with a rule's,
   and under Table III no policy gets there that drops no more tasks than Table IV says (`aiecof.limits`).
3. `NO_RESULTS`: a needed file or row is missing, or there are fewer than `FEWEST` seeds.
4. `NOT_REPRODUCED`: on `MAIN` the direction does not hold, or a claimed level is not met. A direction holds if the 95 %
   interval of the paired difference over seeds lies on the claimed side of 0, in every comparison the claim makes.
5. `MATCHED`: the direction holds for TOPPO, but so it does without learning: on a device's own observation or less
   some rule is nowhere significantly worse than TOPPO, neither in what the claim is about nor in dropped tasks.
6. `REPRODUCED`: the direction holds and so does the size, if one is printed: ours lies within `SIZE` of it, or our
   interval covers it. A size that is printed as a percentage of a reward cannot be met, because rewards have no zero.
7. `DIRECTION`: otherwise.

What `SECOND` says is part of the evidence and decides nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from itertools import pairwise, product
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from aiecof.calibration import NAMES, UNTRAINED
from aiecof.limits import printed_limits
from aiecof.policies import COORDINATED, POLICIES
from aiecof.statistics import Interval, mean_interval, paired_difference

REPRODUCED, DIRECTION = "reproduced", "reproduced in direction"
NOT_REPRODUCED, MATCHED = "not reproduced", "matched by a policy without learning"
IMPOSSIBLE, INCONSISTENT = "impossible under the printed parameters", "inconsistent with the paper's own table"
NO_RESULTS = "no results yet"
VERDICTS = (REPRODUCED, DIRECTION, NOT_REPRODUCED, MATCHED, IMPOSSIBLE, INCONSISTENT, NO_RESULTS)

MAIN, SECOND = "fitted", "balanced"
FOLLOWS, SIZE, CHANGE = 0.1, 0.25, 10.0
"""Points between two percentages; share of a printed size; percent of a level that count as no change."""
FEWEST = 3
"""Seeds; with two, an interval is so wide that what is undecided would pass for refuted."""
FINAL, SMOOTH, NEAR, EARLY = 20, 5, 0.95, 40
"""Episodes of the final level, of a moving mean; share of the gain that is near-optimal; episodes that are early."""

HIGHER_IS_BETTER = {"load", "reward", "local_share", "success_rate"}
PRINTED_NAMES = {method: row for method, row in NAMES.items() if method != "toppo"}
TOPPO = {"method": "toppo"}
OWN_RULES = tuple(name for name, entry in POLICIES.items() if entry.information != COORDINATED)

Read = Callable[[str], pd.DataFrame]
Decision = tuple[str, str]
Where = dict[str, Any]
Sizes = tuple[float | None, float | None]


class NoResults(Exception):
    """What a test needs is not there; the message says what."""


def episodes_to_near_optimal(rewards: np.ndarray) -> float:
    """Episodes after which the smoothed reward stays within 5 % of its gain over Random; one too many if it never does.

    rewards : (E,) float
        Of the training episodes, above Random's reward on the same network.
    """
    smooth = np.convolve(rewards, np.full(SMOOTH, 1.0 / SMOOTH), "valid")
    below = np.flatnonzero(smooth < NEAR * rewards[-FINAL:].mean())
    return float(SMOOTH + (below[-1] + 1 if below.size else 0))


def roughness(rewards: np.ndarray) -> float:
    """Distance of an episode's reward from the mean of its two neighbours, root mean square: a steady rise has none."""
    return float(np.sqrt(np.mean((rewards[1:-1] - (rewards[:-2] + rewards[2:]) / 2.0) ** 2)))


CURVES: dict[str, Callable[[np.ndarray], float]] = {
    "episodes to near-optimal": episodes_to_near_optimal,
    "roughness": roughness,
    "early roughness": lambda rewards: roughness(rewards[:EARLY]),
}
"""Measures of a training curve; less is better."""
IMBALANCE = "spread of device loads"


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
        return f"{levels}, advantage {_text(self.advantage)}"


def _text(interval: Interval) -> str:
    return f"{interval.mean:.4g} [{interval.low:.4g}, {interval.high:.4g}]"


def _named(where: Where) -> str:
    words = ("method", "variant", "stage", "kind")
    return " ".join(str(value) if name in words else f"{name}={value:g}" for name, value in where.items())


def _table(read: Read, name: str) -> pd.DataFrame:
    table = read(name)
    if table.empty:
        raise NoResults(f"results/{name} is missing or empty")
    return table


def _rows(read: Read, table: str, scenario: str, where: Where) -> pd.DataFrame:
    rows = _table(read, table)
    wanted = {"scenario": scenario} | where
    return rows[np.all([rows[name] == value for name, value in wanted.items()], axis=0)]


def _values(read: Read, table: str, scenario: str, where: Where, metric: str) -> pd.Series:
    """One number a seed, without NaN."""
    rows = _rows(read, table, scenario, where).set_index("seed")
    if metric in CURVES:
        return _curve_values(read, scenario, rows["run"], CURVES[metric])
    if metric == IMBALANCE:
        return rows["run"].map(_table(read, "devices.parquet").groupby("run")["load"].std(ddof=0)).dropna()
    return 1.0 - rows["drop_rate"].dropna() if metric == "success_rate" else rows[metric].dropna()


def _curve_values(read: Read, scenario: str, runs: pd.Series, measure: Callable[[np.ndarray], float]) -> pd.Series:
    """A measure of each run's training curve, of the seeds for which the curve and Random's reward are there."""
    random = _rows(read, "table_iv.csv", scenario, {"method": "random"}).set_index("seed")["reward"]
    curves = _table(read, "curves.parquet")
    grouped = curves[curves["run"].isin(runs)].sort_values("episode").groupby("run")["reward"]
    found = {run: curve.to_numpy(float) for run, curve in grouped}
    known = {seed: found[run] - random[seed] for seed, run in runs.items() if run in found and seed in random}
    return pd.Series({seed: measure(rewards) for seed, rewards in known.items()}, dtype=float)


def _sample(read: Read, table: str, scenario: str, where: Where, metric: str) -> np.ndarray:
    values = _values(read, table, scenario, where, metric)
    if len(values) < FEWEST:
        raise NoResults(f"{scenario}, {_named(where)}: fewer than {FEWEST} seeds in results/{table}")
    return values.to_numpy()


def _compared(
    read: Read, table: str, scenario: str, metric: str, first: Where, second: Where, sign: float | None = None
) -> Comparison:
    """`Comparison` of two selections of rows; without a sign, the first is claimed to be better."""
    pair = [_values(read, table, scenario, where, metric) for where in (first, second)]
    one, other = pair[0].align(pair[1], join="inner")
    if len(one) < FEWEST:
        raise NoResults(
            f"{scenario}, {_named(first)} and {_named(second)}: fewer than {FEWEST} common seeds in results/{table}"
        )
    label = f"{metric} of {_named(first)} and {_named(second)}"
    return Comparison(label, sign or (1.0 if metric in HIGHER_IS_BETTER else -1.0), one.to_numpy(), other.to_numpy())


def _said(scenario: str, comparisons: list[Comparison]) -> str:
    """One clause: how many comparisons hold, and the weakest."""
    weakest = min(comparisons, key=lambda entry: entry.margin)
    begin = f"{scenario}, {min(len(entry.first) for entry in comparisons)} seeds: "
    if len(comparisons) > 1:
        begin += f"{sum(entry.holds for entry in comparisons)} of {len(comparisons)} comparisons hold, the weakest is "
    return begin + str(weakest)


def _sizes(comparisons: list[Comparison], printed: Sizes) -> list[tuple[float, Interval]]:
    """The printed least and most percentage, each beside ours, and once if they are one."""
    if printed == (None, None):
        return []
    ours = sorted(entry.percent for entry in comparisons)
    pairs = zip(printed, (ours[0], ours[-1]), strict=True)
    return list(dict.fromkeys((size, interval) for size, interval in pairs if size is not None))


def _meets(printed: float, interval: Interval) -> bool:
    return abs(interval.mean - printed) <= SIZE * abs(printed) or interval.low <= printed <= interval.high


def _matching(read: Read, table: str, metrics: Iterable[str], at: tuple[Where, ...]) -> list[str]:
    """Rules that TOPPO beats significantly at no setting, neither in these metrics nor in dropped tasks."""

    def beaten(rule: str) -> bool:
        return any(
            _compared(read, table, MAIN, metric, TOPPO | setting, {"method": rule} | setting).holds
            for metric, setting in product({*metrics, "drop_rate"}, at)
        )

    found = []
    for rule in OWN_RULES:
        try:
            found += [] if beaten(rule) else [rule]
        except NoResults:  # the sweeps do not hold every rule
            continue
    return found


def better(
    read: Read,
    metrics: Iterable[str],
    winners: tuple[Where, ...],
    losers: tuple[Where, ...],
    table: str = "table_iv.csv",
    at: tuple[Where, ...] = ({},),
    printed: Sizes = (None, None),
) -> Decision:
    """Every winner is better than every loser, in all metrics and at all settings.

    printed : (least, most)
        The claimed advantage in percent: the smallest and the largest of the comparisons; None if nothing is printed.
    """

    def comparisons(scenario: str) -> Iterator[Comparison]:
        for metric, setting, winner, loser in product(metrics, at, winners, losers):
            yield _compared(read, table, scenario, metric, winner | setting, loser | setting)

    found = list(comparisons(MAIN))
    evidence = _said(MAIN, found)
    sizes = _sizes(found, printed)
    evidence += "".join(f", {_text(ours)} % (printed {size:g} %)" for size, ours in sizes)
    try:
        evidence += "; " + _said(SECOND, list(comparisons(SECOND)))
    except NoResults:
        pass
    if not all(entry.holds for entry in found):
        return NOT_REPRODUCED, evidence
    matching = _matching(read, table, metrics, at) if TOPPO in winners else []
    if matching:
        return MATCHED, f"{evidence}; as good without learning: {', '.join(matching)}"
    met = all("reward" not in metrics and _meets(size, ours) for size, ours in sizes)
    return REPRODUCED if met else DIRECTION, evidence


def saves(read: Read, metric: str, rivals: tuple[str, ...], printed: Sizes, tolerance: float = FOLLOWS) -> Decision:
    """TOPPO is better than the rivals by percentages of Table IV, of which `printed` are the least and the most."""
    table = _printed(read)
    gains = [_gain(table[metric], metric, PRINTED_NAMES[rival]) for rival in rivals]
    for size, gain in zip(printed, (min(gains), max(gains)), strict=True):
        if size is not None and not gain.low - tolerance <= size <= gain.high + tolerance:
            own = f"as a share of TOPPO's own value it is {gain.of_own:.2f} %"
            return INCONSISTENT, f"Table IV gives {gain.exact:.2f} % over {gain.rival}, printed is {size:g} %; {own}"
    if metric == "energy" and set(rivals) <= set(UNTRAINED):
        saving = printed_limits(float(table.loc["TOPPO", "drop_rate"])).saving
        most = max(saving[rival] for rival in rivals)
        if printed[0] is not None and printed[0] > most:
            return IMPOSSIBLE, f"under Table III at most {most:.1f} % can be saved, with no more drops than in Table IV"
    return better(read, (metric,), (TOPPO,), tuple({"method": rival} for rival in rivals), printed=printed)


def _printed(read: Read) -> pd.DataFrame:
    return _table(read, "paper/table_iv.csv").set_index("algorithm")


class _Gain(NamedTuple):
    """TOPPO's advantage over a row of Table IV in percent of it, what its rounding leaves open, and of TOPPO's own."""

    exact: float
    low: float
    high: float
    of_own: float
    rival: str


def _gain(column: pd.Series, metric: str, rival: str) -> _Gain:
    half = 0.5 * 10.0 ** -max(len(str(value).partition(".")[2]) for value in column)
    sign, ours, theirs = 1.0 if metric in HIGHER_IS_BETTER else -1.0, column["TOPPO"], column[rival]
    ends = [(ours + a, theirs + b) for a, b in product((-half, half), repeat=2)]
    exact, *corners = [100.0 * sign * (first - second) / abs(second) for first, second in [(ours, theirs), *ends]]
    return _Gain(exact, min(corners), max(corners), 100.0 * sign * (ours - theirs) / abs(ours), rival)


def level(
    read: Read, metric: str, value: float | None = None, where: Where = TOPPO, table: str = "table_iv.csv"
) -> Decision:
    """The mean is the printed one: `value`, or without it that of TOPPO in Table IV."""
    if value is None:
        value = float(_printed(read).loc["TOPPO", metric])
        beyond = _beyond(read, metric, value)
        if beyond:
            return IMPOSSIBLE, beyond
    ours = mean_interval(sample := _sample(read, table, MAIN, where, metric))
    evidence = f"{MAIN}, {len(sample)} seeds: {metric} {_text(ours)} (printed {value:g})"
    return REPRODUCED if _meets(value, ours) else NOT_REPRODUCED, evidence


def _beyond(read: Read, metric: str, value: float) -> str:
    """Why a level of TOPPO is impossible under Table III; empty if it is not."""
    printed = _printed(read)
    limits = printed_limits(float(printed.loc["TOPPO", "drop_rate"]))
    if metric == "energy" and value < limits.energy:
        return f"under Table III no policy needs less than {limits.energy:.0f} J a slot (printed {value:g} J)"
    random = float(printed.loc["Random", "load"])
    loads = limits.load.items()
    if metric == "load" and all(abs(ours / random - 1.0) > SIZE or most < value for _, (ours, most) in loads):
        listed = "; ".join(f"{name}: Random {ours:.3f}, at most {most:.3f}" for name, (ours, most) in loads)
        return f"under Table III no reading of the load gives both Random's {random:g} and {value:g} ({listed})"
    return ""


def converged_by(read: Read, episodes: int) -> Decision:
    """TOPPO's training is near-optimal after so many episodes: the whole interval, or only the mean."""
    ours = mean_interval(sample := _sample(read, "table_iv.csv", MAIN, TOPPO, "episodes to near-optimal"))
    evidence = f"{MAIN}, {len(sample)} seeds: near-optimal after {_text(ours)} episodes"
    verdict = REPRODUCED if ours.high <= episodes else DIRECTION if ours.mean <= episodes else NOT_REPRODUCED
    return verdict, evidence


def grows(read: Read, metric: str, table: str, where: Where, along: str, values: tuple[float, ...]) -> Decision:
    """A metric grows with a column: at every step, or only from the first value to the last."""
    steps = [
        _compared(read, table, MAIN, metric, {**where, along: high}, {**where, along: low}, sign=1.0)
        for low, high in (*pairwise(values), (values[0], values[-1]))
    ]
    *single, whole = steps
    verdict = REPRODUCED if all(s.holds for s in single) else DIRECTION if whole.holds else NOT_REPRODUCED
    return verdict, f"{_said(MAIN, single)}; from first to last {_text(whole.advantage)}"


def unchanged(read: Read, metrics: tuple[str, ...], table: str, along: str, values: tuple[float, ...]) -> Decision:
    """TOPPO's metrics change by less than a tenth from the middle value: the intervals, or only the means."""
    middle = values[len(values) // 2]
    pairs = [
        _compared(read, table, MAIN, metric, TOPPO | {along: value}, TOPPO | {along: middle}, sign=1.0)
        for metric, value in product(metrics, values)
        if value != middle
    ]
    worst = max(pairs, key=lambda entry: abs(entry.percent.mean))
    held = all(-CHANGE <= entry.percent.low and entry.percent.high <= CHANGE for entry in pairs)
    verdict = REPRODUCED if held else DIRECTION if abs(worst.percent.mean) <= CHANGE else NOT_REPRODUCED
    return verdict, f"{MAIN}, {len(worst.first)} seeds: the largest change is {worst.label}: {_text(worst.percent)} %"
