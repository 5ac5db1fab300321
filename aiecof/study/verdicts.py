"""The tests that decide a claim of the paper on one arm, from `results/` and from the print itself.

A verdict is the first of these that applies (the plan says why):

1. `INCONSISTENT`: the claim is a percentage, and Table IV as printed gives another one, by more than `FOLLOWS` points
   beyond what its rounding leaves open, whichever of the two values stands below the line.
2. `IMPOSSIBLE`: the claim states a level of TOPPO's energy or load in Table IV, or compares that energy with a rule's,
   and under Table III no policy gets there that drops no more tasks than Table IV says (`print_limits`).
3. `UNDECIDED`, with "not run" for evidence: a needed file or row is missing, or there are fewer than `FEWEST` seeds.
4. `UNTESTABLE`: all methods of several comparisons lie within the margin of each other.
5. `REFUTED`, `EQUIVALENT`, `UNDECIDED`: one of the comparisons lies beyond the margin on the other side; two one-sided
   tests place it within the margin; or not all are shown to hold. Each after Holm's correction over the comparisons.
6. `MATCHED`: all hold for TOPPO, but the best coin, or a rule on a device's own information or less (after Holm's
   correction over the rules), is shown to be worse by no more than the margin, in what the claim is about and in
   dropped tasks. While one is neither shown to be as good nor shown to be worse, or is missing, it is `UNDECIDED`.
7. `REPRODUCED`: all hold and so does the size, if one is printed: our interval lies within `SIZE` of it. A size that is
   printed as a percentage of a reward cannot be met, because rewards have no zero.
8. `DIRECTION`: otherwise.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from itertools import product
from typing import NamedTuple, Protocol

import numpy as np
import pandas as pd

from aiecof.study.curves import CURVES, EARLY, FINAL, MEASURES, NEAR
from aiecof.study.evidence import BEST_COIN, FEWEST, SHARE, SHARES, Comparison, Facts, NoResults, Where, in_words, named
from aiecof.study.grids import UNTRAINED
from aiecof.study.paper import NAMES
from aiecof.study.statistics import Interval, holm, mean_interval

REPRODUCED, DIRECTION, REFUTED = "reproduced", "in direction", "refuted"
EQUIVALENT, UNDECIDED, UNTESTABLE = "equivalent", "undecided", "not testable here"
MATCHED, IMPOSSIBLE, INCONSISTENT = "matched by a rule", "impossible", "inconsistent"
VERDICTS = (REPRODUCED, DIRECTION, MATCHED, UNDECIDED, EQUIVALENT, REFUTED, UNTESTABLE, INCONSISTENT, IMPOSSIBLE)

FOLLOWS, SIZE, CHANGE, LEVEL, ALIKE = 0.1, 0.25, 10.0, 0.025, 0.05
"""Points between two percentages; share of a printed size; percent of a level that count as no change; levels of a
one-sided test, and of the two that show that methods are alike."""
TOPPO = {"method": "toppo"}
NOTHING = Interval(np.nan, np.nan, np.nan)
Decision = tuple[str, str]
Sizes = tuple[float | None, float | None]


def _alike(comparisons: list[Comparison]) -> bool:
    """Whether the means of all methods that are compared lie within the margin of each other, in every metric."""
    for metric in {entry.metric for entry in comparisons}:
        same = [entry for entry in comparisons if entry.metric == metric]
        means = [sample.mean() for entry in same for sample in (entry.first, entry.second)]
        if max(means) - min(means) > max(entry.margin for entry in same):
            return False
    return all(entry.within < ALIKE for entry in comparisons)


def _any(chances: Iterable[float], level: float = LEVEL) -> bool:
    """Whether one of several comparisons is shown, after Holm's correction."""
    return min(holm([*chances])) < level


def _word(comparisons: list[Comparison]) -> str:
    """What several comparisons come to: the weakest word, or `REPRODUCED` if all hold."""
    if len(comparisons) > 1 and _alike(comparisons):
        return UNTESTABLE
    if _any(entry.behind for entry in comparisons):
        return REFUTED
    if _any((entry.within for entry in comparisons), ALIKE):
        return EQUIVALENT
    return REPRODUCED if max(holm([entry.ahead for entry in comparisons])) < LEVEL else UNDECIDED


def _summary(arm: str, comparisons: list[Comparison], word: str) -> str:
    """One clause: how many comparisons hold, and the one that refutes, is surest within the margin, or is weakest."""
    shown, what = min(comparisons, key=lambda entry: entry.weakness), "hold, the weakest is"
    chances = holm([entry.ahead for entry in comparisons])
    if word == REFUTED:
        shown, what = min(comparisons, key=lambda entry: entry.behind), "hold, and what refutes is"
    elif word == EQUIVALENT:
        shown, what = min(comparisons, key=lambda entry: entry.within), "are within the margin, the surest is"
        chances = holm([entry.within / 2.0 for entry in comparisons])
    counts = sorted({len(entry.first) for entry in comparisons})
    begin = f"{arm}, {' to '.join(map(str, dict.fromkeys((counts[0], counts[-1]))))} seeds: "
    if len(comparisons) > 1:
        begin += f"{sum(chance < LEVEL for chance in chances)} of {len(comparisons)} comparisons {what} "
    return f"{begin}{shown}, margin {shown.margin:.2g}"


def _points(settings: Sequence[Where], there: Sequence[Where]) -> str:
    """Which settings are not there, so that they were not judged; empty if all are."""
    missing = [named(setting) for setting in settings if setting not in there]
    return f"; without {', '.join(missing)}" if missing else ""


def _sizes(comparisons: list[Comparison], printed: Sizes, of_own: bool) -> list[tuple[float, Interval]]:
    """The printed least and most percentage, each beside ours, and once if they are one."""
    if printed == (None, None):
        return []
    ours = [entry.percent(of_own) for entry in comparisons]
    ours = sorted(ours) if not np.isnan(ours).any() else [NOTHING]
    pairs = zip(printed, (ours[0], ours[-1]), strict=True)
    return list(dict.fromkeys((size, interval) for size, interval in pairs if size is not None))


def _meets(printed: float, interval: Interval) -> bool:
    low, high = sorted(printed * (1.0 + side * SIZE) for side in (-1.0, 1.0))
    return low <= interval.low and interval.high <= high


def _rules(facts: Facts, table: str, metrics: Iterable[str], at: Iterable[Where]) -> tuple[list[str], list[str]]:
    """Rules that are as good as TOPPO at all settings, in these metrics and in dropped tasks; and those that may be.

    The best coin is the one that the plan compares with; the others are corrected for their number. None is trained,
    so that there is nothing to compare in what a training curve says.
    """
    chances, may_be = {}, []
    if CURVES.keys() & {*metrics}:
        return [], []
    for rule in (*facts.rules, BEST_COIN):
        try:
            pairs = [
                facts.compare(table, metric, TOPPO | setting, {"method": rule} | setting)
                for metric, setting in product({*metrics, "drop_rate"}, at)
            ]
        except NoResults:
            may_be += [rule] if facts.expects(table, rule) else []
            continue
        chances[rule] = max(pair.not_far_ahead for pair in pairs)
        may_be += [] if _any(pair.far_ahead for pair in pairs) else [rule]
    coin = [chances.pop(BEST_COIN, 1.0)]
    sure = dict(zip((*chances, BEST_COIN), holm([*chances.values()]) + coin, strict=True))
    return [rule for rule, chance in sure.items() if chance < LEVEL], may_be


class Test(Protocol):
    """What decides a claim."""

    def decide(self, facts: Facts) -> Decision:
        """Verdict and evidence."""


@dataclass(frozen=True)
class Better(Test):
    """Every winner is better than every loser, in all metrics and at all settings that the arm's table has.

    printed : (least, most)
        The claimed advantage in percent: the smallest and the largest of the comparisons; None if nothing is printed.
    of_own : bool
        Whether they are percentages of the winner's value; else of the loser's.
    """

    metrics: tuple[str, ...]
    winners: tuple[Where, ...]
    losers: tuple[Where, ...]
    table: str = "table_iv.csv"
    at: tuple[Where, ...] = ({},)
    printed: Sizes = (None, None)
    of_own: bool = False

    def _comparisons(self, facts: Facts) -> Iterator[Comparison]:
        there = [facts.there(self.table, entries) for entries in (self.at, self.winners, self.losers)]
        for metric, setting, winner, loser in product(self.metrics, *there):
            yield facts.compare(self.table, metric, winner | setting, loser | setting)

    def _besides(self, facts: Facts) -> str:
        """What TOPPO has over the methods that somebody added."""
        names = facts.added if TOPPO in self.winners else []
        try:
            found = [
                facts.compare(self.table, metric, TOPPO | at, {"method": name} | at)
                for metric, at, name in product(self.metrics, facts.there(self.table, self.at), names)
            ]
        except NoResults:
            return ""
        return "".join(f"; beside the paper's: {entry}" for entry in found)

    def decide(self, facts: Facts) -> Decision:
        found = list(self._comparisons(facts))
        word, sizes = _word(found), _sizes(found, self.printed, self.of_own)
        whose = " of its own" if self.of_own else ""
        at = facts.there(self.table, self.at)
        evidence = _summary(facts.arm, found, word) + _points(self.at, at)
        for size, ours in sizes:
            percent = "no percentage, since a value is 0" if ours is NOTHING else f"{in_words(ours)} %{whose}"
            evidence += f", {percent} (printed {size:g} %)"
        evidence += self._besides(facts)
        if word != REPRODUCED:
            return word, evidence
        if self.winners == (TOPPO,):
            as_good, may_be = _rules(facts, self.table, self.metrics, at)
            if as_good:
                return MATCHED, f"{evidence}; as good without learning: {', '.join(as_good)}"
            if may_be:
                return UNDECIDED, f"{evidence}; perhaps as good without learning: {', '.join(may_be)}"
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
        gains, of_own = self.gains(facts), False
        for size, entry in zip(self.printed, (min(gains), max(gains)), strict=True):
            low, high = (edge + sign * self.tolerance for edge, sign in ((entry.low, -1), (entry.high, 1)))
            if size is None or low <= size <= high:
                continue
            of_own = True
            if abs(size - entry.of_own) > self.tolerance:
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
        return Better((self.metric,), (TOPPO,), losers, printed=self.printed, of_own=of_own).decide(facts)


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
    """The mean is the printed one, `value` or that of TOPPO in Table IV: its interval lies within a quarter of it."""

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
        sample = facts.sample(self.table, self.where, self.metric)
        ours = mean_interval(sample)
        name = MEASURES[self.metric].title.lower()
        evidence = f"{facts.arm}, {len(sample)} seeds: {name} {in_words(ours)} (printed {value:g})"
        if _meets(value, ours):
            return REPRODUCED, evidence
        low, high = (value * (1.0 + side * SIZE) for side in (-1.0, 1.0))
        return REFUTED if ours.high < low or ours.low > high else UNDECIDED, evidence


def _beyond(facts: Facts, metric: str, value: float) -> str:
    """Why a level of TOPPO is impossible under Table III; empty if it is not."""
    limits = facts.table("print_limits.csv").set_index("name")
    least = float(limits.query("quantity == 'energy'")["limit"].iloc[0])
    if metric == "energy" and value < least:
        said = f"no policy needs less than {least:.0f} J a slot, with a tenth of that capacitance {least / 10.0:.0f} J"
        return f"under Table III and the printed capacitance (R25) {said} (printed {value:g}, without a unit)"
    random, loads = float(facts.printed.loc["Random", "load"]), limits.query("quantity == 'load'")
    allowed = (loads["random"] / random - 1.0).abs().le(SIZE) & loads["limit"].ge(value)
    if metric == "load" and not allowed.any():
        listed = "; ".join(f"{e.Index}: Random {e.random:.3f}, at most {e.limit:.3f}" for e in loads.itertuples())
        return f"under Table III no reading of the load gives both Random's {random:g} and {value:g} ({listed})"
    return ""


@dataclass(frozen=True)
class NearOptimal(Test):
    """After `EARLY` episodes TOPPO's training has made 95 % of its way: its next ones lie no lower in the mean."""

    def decide(self, facts: Facts) -> Decision:
        sample = facts.sample("table_iv.csv", TOPPO, "near")
        lead, way = mean_interval(sample), f"{100 * NEAR:g} % of the way from Random to the last {FINAL}"
        evidence = (
            f"{facts.arm}, {len(sample)} seeds: episodes {EARLY + 1} to {EARLY + FINAL} less {way}: {in_words(lead)}"
        )
        return REPRODUCED if lead.low >= 0 else REFUTED if lead.high < 0 else UNDECIDED, evidence


@dataclass(frozen=True)
class Grows(Test):
    """A metric of TOPPO grows with a column: the slope over all values, one a seed, lies above 0."""

    metric: str
    where: Where
    table: str
    along: str
    values: tuple[float, ...]

    def decide(self, facts: Facts) -> Decision:
        asked = [{self.along: value} for value in self.values]
        settings = facts.there(self.table, asked)
        found = [facts.values(self.table, TOPPO | self.where | setting, self.metric) for setting in settings]
        table, values = pd.concat(found, axis=1, join="inner").to_numpy(), [entry[self.along] for entry in settings]
        if len(table) < FEWEST or len(values) < 2:
            raise NoResults(f"{facts.arm}: fewer than {FEWEST} seeds or two points in {facts.file(self.table)}")
        slopes = np.polyfit(values, table.T, 1)[0] * (max(values) - min(values))
        change, name = mean_interval(slopes), MEASURES[self.metric].title.lower()
        trend = Comparison(self.metric, name, 1.0, slopes, np.zeros(len(slopes)), facts.margin(self.metric))
        evidence = f"{facts.arm}, {len(slopes)} seeds: {name} changes by {in_words(change)} over all {self.along}"
        return _word([trend]), f"{evidence}, margin {trend.margin:.2g}{_points(asked, settings)}"


@dataclass(frozen=True)
class Unchanged(Test):
    """TOPPO's metrics change by less than a tenth from the middle value, shares by less than a tenth or `SHARE`."""

    metrics: tuple[str, ...]
    table: str
    along: str
    values: tuple[float, ...]

    def decide(self, facts: Facts) -> Decision:
        middle, found = self.values[len(self.values) // 2], []
        for metric, value in product(self.metrics, (value for value in self.values if value != middle)):
            entry = facts.compare(self.table, metric, TOPPO | {self.along: value}, TOPPO | {self.along: middle}, 1.0)
            allowed = CHANGE / 100.0 * abs(float(entry.second.mean()))
            found.append(replace(entry, margin=max(allowed, SHARE) if metric in SHARES else allowed))
        largest = max(found, key=lambda entry: abs(entry.advantage.mean) / entry.margin)
        seeds = min(len(entry.first) for entry in found)
        evidence = f"{facts.arm}, {seeds} seeds: the largest change is {largest.label}: {in_words(largest.advantage)}"
        evidence += f", allowed {largest.margin:.2g}"
        if _any(chance for entry in found for chance in (entry.far_ahead, entry.behind)):
            return REFUTED, evidence
        inside = all(-entry.margin <= entry.advantage.low and entry.advantage.high <= entry.margin for entry in found)
        return REPRODUCED if inside else UNDECIDED, evidence
