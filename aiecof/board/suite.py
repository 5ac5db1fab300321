"""The suite on which everyone plays: its settings, and whom each player is compared with there."""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache
from pathlib import Path
from typing import NamedTuple

import numpy as np

from aiecof.agents.policies import Policy, evaluate
from aiecof.agents.rules import COORDINATED, POLICIES, make_policy
from aiecof.checks import InvalidInput
from aiecof.metrics import METRICS
from aiecof.requests.tasks import RequestTrace, load_request_trace
from aiecof.study.evidence import BEST_COIN, FEWEST
from aiecof.study.experiments import network
from aiecof.study.grids import BOUND, COINS, EVALUATION, WAITS
from aiecof.study.store import read_table
from aiecof.system.scenario import Scenario
from aiecof.system.workload import Trace, draw_trace

VERSION = "2"
"""Another one for whatever changes a number on a card; cards of different versions are not compared."""
SEEDS, EPISODES = tuple(range(10)), EVALUATION
"""Networks of each setting, and held-out episodes on each."""
CHOOSING = tuple(range(10, 20))
"""Other networks of each setting, on which its best rule and its best coin were chosen."""
BEST_RULE = "best-rule"
REFERENCES = {
    "toppo": "TOPPO",
    BEST_RULE: "the best rule",
    BEST_COIN: "the best coin",
    BOUND: "the bound",
}
"""Whom every player is compared with -> in words."""
HELPED = {"toppo-keeping": ("toppo", "keeping")}
"""Who plays with other hyperparameters than the registered ones (`grids.KEEPING`) -> method, and the values' label."""
SHARES = (0.1, 0.2, 0.3, 0.4, *COINS)
"""Shares at home of the coins of which each setting has its best."""
VALUES = {"threshold_slots": WAITS, "local_probability": SHARES}
"""What rules can be set to, beside being left as they are."""


class Chosen(NamedTuple):
    """A rule of the package and what it is set to; nothing for a rule as it comes."""

    rule: str
    values: dict[str, float] = {}

    def __str__(self) -> str:
        return " ".join([self.rule, *(f"{name}={value:g}" for name, value in self.values.items())])

    def policy(self, scenario: Scenario, seed: int) -> Policy:
        """It, with the random streams of a seed."""
        return make_policy(self.rule, scenario, seed, **self.values)


def rules() -> list[Chosen]:
    """Every rule that knows nothing, or no more than its own observation: as it comes, and set to each of `VALUES`."""
    found = []
    for name, entry in POLICIES.items():
        if entry.information != COORDINATED:
            settings = [{key: value} for key in entry.parameters for value in VALUES.get(key, ())]
            found += [Chosen(name, values) for values in [{}, *settings]]
    return found


def _waits(rule: str, slots: float) -> Chosen:
    return Chosen(rule, {"threshold_slots": slots})


def _tosses(rule: str, share: float) -> Chosen:
    return Chosen(rule, {"local_probability": share})


def _coin(share: float) -> Chosen:
    return _tosses("mixture-random", share)


def choose(
    scenario: Scenario,
    traces: dict[int, Trace],
    among: list[Chosen] | None = None,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> tuple[Chosen, Chosen]:
    """The best rule and the best coin by mean reward on tasks for choosing: the first of them, should two be level.

    traces : dict of int -> Trace
        Seed of the policy's random streams -> what it plays.
    among : list of Chosen, optional
        All of `rules()` by default; some of the coins have to be there.
    progress
        A function to call with the number that have played, and all of them.
    """
    among, coins = rules() if among is None else among, [_coin(share) for share in SHARES]

    earned = []
    for rule in among:
        played = [evaluate(rule.policy(scenario, seed), scenario, trace) for seed, trace in traces.items()]
        earned.append(float(np.mean([each.metrics()["reward"].mean() for each in played])))
        progress(len(earned), len(among))
    tossed = [mean if rule in coins else -np.inf for rule, mean in zip(among, earned, strict=True)]
    return among[int(np.argmax(earned))], among[int(np.argmax(tossed))]


class Setting(NamedTuple):
    """A network of the suite, and who is best there without learning, by mean reward.

    arm : str
        Readings of the reward and of the observation (`grids.ARMS`); "" leaves the scenario as it is.
    table : str
        Table of `results/` with the trials of learned methods and of the bound; "" if there is none.
    rule, coin : Chosen
        The best of `rules()` and of the coins among them, chosen on the networks `CHOOSING`.
    path : Path or None
        Requests of a user's own in the place of a network of the suite, as `aiecof trace` wrote them.
    """

    name: str
    arm: str
    table: str
    rule: Chosen
    coin: Chosen
    path: Path | None = None

    @property
    def scenario(self) -> Scenario:
        """The network, under its arm, or as the file has it."""
        return _opened(self.path).scenario if self.path else network(self.name, self.arm)

    @property
    def seeds(self) -> tuple[int, ...]:
        """The networks, or the episodes kept back of a file."""
        return tuple(range(_opened(self.path).evaluation_trace.episodes)) if self.path else SEEDS

    def tasks(self, seed: int) -> Trace:
        """The held-out episodes on a network, or one of a file."""
        if self.path:
            return _opened(self.path).evaluation_trace[seed : seed + 1]
        return draw_trace(self.scenario, EPISODES, seed)


@lru_cache(maxsize=1)
def _read(path: Path, _: int) -> RequestTrace:
    return load_request_trace(path)


def _opened(path: Path) -> RequestTrace:
    """A file of a user's own, read again once it has changed."""
    return _read(path, path.stat().st_mtime_ns if path.exists() else 0)


def own_tasks(path: Path, progress: Callable[[int, int], None] = lambda done, total: None) -> Setting:
    """Requests of a user's own, and who is best on them without learning: every rule and coin plays.

    They play the episodes for training. Chosen on those kept back, the best would be ahead by the luck of the choice.
    """
    own = _opened(path)
    best = choose(own.scenario, {0: own.training_trace}, progress=progress)
    return Setting(own.scenario.name, "", "", *best, Path(path))


SETTINGS: dict[str, Setting] = {
    setting.name: setting
    for setting in (
        Setting("plain", "printed", "arm_printed.csv", Chosen("greedy"), _coin(0.74)),
        Setting("nine-rows", "printed", "arm_printed.csv", _tosses("mixture-power-of-two", 0.78), _coin(0.78)),
        Setting("balanced", "", "table_iv.csv", Chosen("frugal"), _coin(0.86)),
        Setting("bursty", "", "requests.csv", Chosen("frugal"), _coin(0.98)),
        Setting("hidden-clocks", "", "recall.csv", _waits("threshold-random", 3.0), _coin(0.82)),
        Setting("fading", "", "recall.csv", _waits("threshold-power-of-two", 2.0), _coin(0.3)),
        Setting("slow-fading", "", "recall.csv", _waits("threshold-power-of-two", 2.0), _coin(0.3)),
        Setting("background", "", "recall.csv", _waits("threshold-random", 2.0), _coin(0.3)),
        Setting("beacons", "", "recall.csv", _waits("threshold-random", 2.0), _coin(0.3)),
    )
}
"""Name -> setting; a line here is all that another one takes."""


def trained_as(player: str) -> tuple[str, str]:
    """The method of a player that has trials, and what a table calls the values of its hyperparameters."""
    return HELPED.get(player, (player, "registered"))


def stored(player: str, setting: Setting) -> dict[str, np.ndarray]:
    """Metric -> mean of each network, (seeds,), as the results have it for a learned method, one helped, or the bound.

    NaN for a network that has not been computed; a metric with fewer than `FEWEST` is left out.
    """
    table = read_table(setting.table) if setting.table else None
    if table is None or table.empty:
        return {}
    method, values = trained_as(player)
    if player in HELPED and "values" not in table:
        return {}
    rows = table[(table["scenario"] == setting.name) & (table["method"] == method)]
    for label, value in {"arm": setting.arm, "sees": "shown", "values": values}.items():
        rows = rows[rows[label] == value] if label in rows else rows
    if rows["seed"].duplicated().any():
        raise InvalidInput("table", setting.table, f"one row a seed of {player} on {setting.name}")
    rows = rows.set_index("seed").reindex(SEEDS)
    return {name: rows[name].to_numpy(float) for name in METRICS if rows[name].notna().sum() >= FEWEST}
