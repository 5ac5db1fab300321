"""The tests that decide a claim of the paper, from `results/` and from the print itself.

A verdict is the first of these that applies:

1. `INCONSISTENT`: the claim is a percentage, and Table IV as printed gives another one, by more than `FOLLOWS` points
   beyond what its rounding leaves open.
2. `IMPOSSIBLE`: the claim states a level of TOPPO's energy or load in Table IV, or compares that energy with a rule's,
   and under Table III no policy gets there that drops no more tasks than Table IV says (`print_limits`).
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

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from itertools import pairwise, product
from typing import NamedTuple, Protocol

import pandas as pd

from aiecof.study.curves import MEASURES
from aiecof.study.evidence import Comparison, Facts, NoResults, Where, in_words
from aiecof.study.grids import UNTRAINED
from aiecof.study.paper import NAMES
from aiecof.study.statistics import Interval, mean_interval

REPRODUCED, DIRECTION = "reproduced", "reproduced in direction"
NOT_REPRODUCED, MATCHED = "not reproduced", "matched by a policy without learning"
IMPOSSIBLE, INCONSISTENT = "impossible under the printed parameters", "inconsistent with the paper's own table"
NO_RESULTS = "no results yet"
VERDICTS = (REPRODUCED, DIRECTION, NOT_REPRODUCED, MATCHED, IMPOSSIBLE, INCONSISTENT, NO_RESULTS)

MAIN, SECOND = "fitted", "balanced"
FOLLOWS, SIZE, CHANGE = 0.1, 0.25, 10.0
"""Points between two percentages; share of a printed size; percent of a level that count as no change."""
TOPPO = {"method": "toppo"}
Decision = tuple[str, str]
Sizes = tuple[float | None, float | None]


def _summary(scenario: str, comparisons: list[Comparison]) -> str:
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


def _matching(facts: Facts, table: str, metrics: Iterable[str], at: tuple[Where, ...]) -> list[str]:
    """Rules that TOPPO beats significantly at no setting, neither in these metrics nor in dropped tasks."""

    def beaten(rule: str) -> bool:
        return any(
            facts.compare(table, MAIN, metric, TOPPO | setting, {"method": rule} | setting).holds
            for metric, setting in product({*metrics, "drop_rate"}, at)
        )

    found = []
    for rule in facts.rules:
        try:
            found += [] if beaten(rule) else [rule]
        except NoResults:  # the sweeps do not hold every rule
            continue
    return found


class Test(Protocol):
    """What decides a claim."""

    def decide(self, facts: Facts) -> Decision:
        """Verdict and evidence."""


@dataclass(frozen=True)
class Better(Test):
    """Every winner is better than every loser, in all metrics and at all settings.

    printed : (least, most)
        The claimed advantage in percent: the smallest and the largest of the comparisons; None if nothing is printed.
    """

    metrics: tuple[str, ...]
    winners: tuple[Where, ...]
    losers: tuple[Where, ...]
    table: str = "table_iv.csv"
    at: tuple[Where, ...] = ({},)
    printed: Sizes = (None, None)

    def _comparisons(self, facts: Facts, scenario: str) -> Iterator[Comparison]:
        for metric, setting, winner, loser in product(self.metrics, self.at, self.winners, self.losers):
            yield facts.compare(self.table, scenario, metric, winner | setting, loser | setting)

    def _besides(self, facts: Facts) -> str:
        """What TOPPO has over the methods that somebody added."""
        names = facts.added if TOPPO in self.winners else []
        pairs = product(self.metrics, self.at, names)
        return "".join(
            f"; beside the paper's: {facts.compare(self.table, MAIN, m, TOPPO | at, {'method': name} | at)}"
            for m, at, name in pairs
        )

    def decide(self, facts: Facts) -> Decision:
        found = list(self._comparisons(facts, MAIN))
        sizes = _sizes(found, self.printed)
        evidence = _summary(MAIN, found) + "".join(f", {in_words(ours)} % (printed {size:g} %)" for size, ours in sizes)
        for add in (
            lambda: "; " + _summary(SECOND, list(self._comparisons(facts, SECOND))),
            lambda: self._besides(facts),
        ):
            try:
                evidence += add()
            except NoResults:
                continue
        if not all(entry.holds for entry in found):
            return NOT_REPRODUCED, evidence
        matching = _matching(facts, self.table, self.metrics, self.at) if TOPPO in self.winners else []
        if matching:
            return MATCHED, f"{evidence}; as good without learning: {', '.join(matching)}"
        met = all("reward" not in self.metrics and _meets(size, ours) for size, ours in sizes)
        return REPRODUCED if met else DIRECTION, evidence


@dataclass(frozen=True)
class Saves(Test):
    """TOPPO is better than the rivals by percentages of Table IV, of which `printed` are the least and the most.

    tolerance : float
        Points that the claim's own wording leaves open.
    """

    metric: str
    rivals: tuple[str, ...]
    printed: Sizes
    tolerance: float = FOLLOWS

    def gains(self, facts: Facts) -> list[Gain]:
        """What Table IV itself gives, by rival."""
        return [gain(facts.printed[self.metric], self.metric, NAMES[rival]) for rival in self.rivals]

    def decide(self, facts: Facts) -> Decision:
        gains = self.gains(facts)
        for size, entry in zip(self.printed, (min(gains), max(gains)), strict=True):
            if size is not None and not entry.low - self.tolerance <= size <= entry.high + self.tolerance:
                own = f"as a share of TOPPO's own value it is {entry.of_own:.2f} %"
                return (
                    INCONSISTENT,
                    f"Table IV gives {entry.exact:.2f} % over {entry.rival}, printed is {size:g} %; {own}",
                )
        if self.metric == "energy" and set(self.rivals) <= set(UNTRAINED):
            limits = facts.table("print_limits.csv").query("quantity == 'saving'").set_index("name")["limit"]
            most = max(limits[rival] for rival in self.rivals)
            if self.printed[0] is not None and self.printed[0] > most:
                allowed = f"under Table III at most {most:.1f} % can be saved, with no more drops than in Table IV"
                return IMPOSSIBLE, allowed
        losers = tuple({"method": rival} for rival in self.rivals)
        return Better((self.metric,), (TOPPO,), losers, printed=self.printed).decide(facts)


class Gain(NamedTuple):
    """TOPPO's advantage over a row of Table IV in percent of it, what its rounding leaves open, and of TOPPO's own."""

    exact: float
    low: float
    high: float
    of_own: float
    rival: str


def gain(column: pd.Series, metric: str, rival: str) -> Gain:
    """`Gain` over a rival, from a column of Table IV as printed."""
    half = 0.5 * 10.0 ** -max(len(str(value).partition(".")[2]) for value in column)
    sign, ours, theirs = MEASURES[metric].better, column["TOPPO"], column[rival]
    ends = [(ours + a, theirs + b) for a, b in product((-half, half), repeat=2)]
    exact, *corners = [100.0 * sign * (first - second) / abs(second) for first, second in [(ours, theirs), *ends]]
    return Gain(exact, min(corners), max(corners), 100.0 * sign * (ours - theirs) / abs(ours), rival)


@dataclass(frozen=True)
class Level(Test):
    """The mean is the printed one: `value`, or without it that of TOPPO in Table IV."""

    metric: str
    value: float | None = None
    where: Where = field(default_factory=lambda: TOPPO)
    table: str = "table_iv.csv"

    def decide(self, facts: Facts) -> Decision:
        value = self.value
        if value is None:
            value = float(facts.printed.loc["TOPPO", self.metric])
            if beyond := _beyond(facts, self.metric, value):
                return IMPOSSIBLE, beyond
        sample = facts.sample(self.table, MAIN, self.where, self.metric)
        ours = mean_interval(sample)
        name = MEASURES[self.metric].title.lower()
        evidence = f"{MAIN}, {len(sample)} seeds: {name} {in_words(ours)} (printed {value:g})"
        return REPRODUCED if _meets(value, ours) else NOT_REPRODUCED, evidence


def _beyond(facts: Facts, metric: str, value: float) -> str:
    """Why a level of TOPPO is impossible under Table III; empty if it is not."""
    limits = facts.table("print_limits.csv").set_index("name")
    least = float(limits.query("quantity == 'energy'")["limit"].iloc[0])
    if metric == "energy" and value < least:
        return f"under Table III no policy needs less than {least:.0f} J a slot (printed {value:g} J)"
    random, loads = float(facts.printed.loc["Random", "load"]), limits.query("quantity == 'load'")
    allowed = (loads["random"] / random - 1.0).abs().le(SIZE) & loads["limit"].ge(value)
    if metric == "load" and not allowed.any():
        listed = "; ".join(f"{e.Index}: Random {e.random:.3f}, at most {e.limit:.3f}" for e in loads.itertuples())
        return f"under Table III no reading of the load gives both Random's {random:g} and {value:g} ({listed})"
    return ""


@dataclass(frozen=True)
class ConvergedBy(Test):
    """TOPPO's training is near-optimal after so many episodes: the whole interval, or only the mean."""

    episodes: int

    def decide(self, facts: Facts) -> Decision:
        sample = facts.sample("table_iv.csv", MAIN, TOPPO, "soon")
        ours = mean_interval(sample)
        evidence = f"{MAIN}, {len(sample)} seeds: near-optimal after {in_words(ours)} episodes"
        if ours.high <= self.episodes:
            return REPRODUCED, evidence
        return DIRECTION if ours.mean <= self.episodes else NOT_REPRODUCED, evidence


@dataclass(frozen=True)
class Grows(Test):
    """A metric of TOPPO grows with a column: at every step, or only from the first value to the last."""

    metric: str
    where: Where
    table: str
    along: str
    values: tuple[float, ...]

    def decide(self, facts: Facts) -> Decision:
        where = TOPPO | self.where
        *single, whole = [
            facts.compare(self.table, MAIN, self.metric, {**where, self.along: b}, {**where, self.along: a}, 1.0)
            for a, b in (*pairwise(self.values), (self.values[0], self.values[-1]))
        ]
        evidence = f"{_summary(MAIN, single)}; from first to last {in_words(whole.advantage)}"
        if all(step.holds for step in single):
            return REPRODUCED, evidence
        return DIRECTION if whole.holds else NOT_REPRODUCED, evidence


@dataclass(frozen=True)
class Unchanged(Test):
    """TOPPO's metrics change by less than a tenth from the middle value: the intervals, or only the means."""

    metrics: tuple[str, ...]
    table: str
    along: str
    values: tuple[float, ...]

    def decide(self, facts: Facts) -> Decision:
        middle = self.values[len(self.values) // 2]
        pairs = [
            facts.compare(self.table, MAIN, metric, TOPPO | {self.along: value}, TOPPO | {self.along: middle}, 1.0)
            for metric, value in product(self.metrics, self.values)
            if value != middle
        ]
        worst = max(pairs, key=lambda entry: abs(entry.percent.mean))
        held = all(-CHANGE <= entry.percent.low and entry.percent.high <= CHANGE for entry in pairs)
        change = f"the largest change is {worst.label}: {in_words(worst.percent)} %"
        evidence = f"{MAIN}, {len(worst.first)} seeds: {change}"
        if held:
            return REPRODUCED, evidence
        return DIRECTION if abs(worst.percent.mean) <= CHANGE else NOT_REPRODUCED, evidence
