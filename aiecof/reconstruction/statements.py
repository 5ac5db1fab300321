"""What is said about rules on the two representatives, measured under every tied candidate of the search.

A statement about coins, openings or staying at home is worth what share of all candidates it holds under (the plan).
"""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache

import numpy as np
import pandas as pd

from aiecof.reconstruction.calibration import (
    COLUMNS,
    JUDGED,
    MEASURES,
    SEARCHED,
    SHARES,
    SYSTEM,
    WAYS,
    actions_of,
    candidate_scenario,
    in_parts,
    measure,
    played,
    printed,
    rules_of,
    run_of,
)
from aiecof.study.grids import ARMS
from aiecof.study.statistics import mean_interval
from aiecof.system.scenario import Scenario, Weights, load_scenario

STATED = (0.0, 0.1, 0.2, 0.3, 0.4, *SHARES)
"""Shares at home of the coins that statements are about."""
OPENINGS = (0, 1, 2, 3, 4, 6, 8, 10, 12, 16, 20)
"""How many first tasks of each device leave in an episode, all others staying."""


@lru_cache(maxsize=2)
def _stated_actions(episodes: int) -> np.ndarray:
    """What the coins of `STATED` do, and then the openings, whose tasks go where those of the coins go."""
    coins = actions_of(
        rules_of("mixture-random", local_probability=STATED), load_scenario("balanced", network="episode"), episodes
    )
    away = coins[STATED.index(0.0)]
    begun = (away > 0).cumsum(axis=1)
    return np.concatenate([coins, [np.where(begun <= first, away, 0) for first in OPENINGS]])


def _between_networks(name: str, values: np.ndarray) -> dict[str, float]:
    """Columns x, x_low and x_high: the mean over networks and its 95 % interval."""
    return dict(zip((name, f"{name}_low", f"{name}_high"), mean_interval(values), strict=True))


def _rewarded(group: pd.DataFrame) -> pd.DataFrame:
    """`rule_numbers` of candidates that are paid alike: they differ in means, and in the energy of a dropped task."""
    candidate, actions, coins = group.iloc[0].to_dict(), _stated_actions(JUDGED), len(STATED)
    scenario, networks, home = candidate_scenario(candidate), np.arange(JUDGED), STATED.index(1.0)

    def metrics(paid: Scenario, rules: np.ndarray = actions) -> dict[str, np.ndarray]:
        run = played(paid, candidate, rules)
        return {name: values.reshape(-1, JUDGED) for name, values in run.metrics().items()}

    arms = {arm: metrics(scenario.replace(**ARMS[arm], weights=Weights())) for arm in ("printed", "spent")}
    best = {arm: found["reward"][:coins].argmax(axis=0) for arm, found in arms.items()}
    kept = {arm: np.array(STATED)[places] for arm, places in best.items()}
    reward, drops = arms["printed"]["reward"], arms["printed"]["drop_rate"]
    coin, opening = reward[:coins].mean(axis=1).argmax(), reward[coins:].mean(axis=1).argmax()
    found = _between_networks("kept", kept["printed"])
    found |= _between_networks("kept_fewer", kept["printed"] - kept["spent"])
    found |= {"coin_reward": reward[coin].mean(), "opening": OPENINGS[opening]}
    found |= _between_networks("opening_lead", reward[coins + opening] - reward[coin])
    found["home_drops"] = drops[home].mean()
    found |= _between_networks("more_drops", drops[home] - drops[best["printed"], networks])
    both = np.stack([actions[best["printed"], networks], actions[STATED.index(0.5)]])
    parts = []
    for _, part in group.groupby("dropped_energy"):
        candidate = part.iloc[0].to_dict()
        cost = metrics(candidate_scenario(candidate).replace(cost_units="normalised"), actions[:coins])["cost"]
        others = np.delete(cost, home, axis=0)
        found["kept_cost"] = STATED[cost.mean(axis=1).argmin()]
        found |= _between_networks("home_saves", others[others.mean(axis=1).argmin()] - cost[home])
        ways = [WAYS.index(way) for way in part[list(MEASURES)].itertuples(index=False, name=None)]
        row, half = measure(candidate, both, run_of(candidate["load"])).mean(axis=1)[:, ways]
        off = dict(zip(COLUMNS, (row / printed().loc["toppo"].to_numpy() - 1.0).T, strict=True))
        measured = {f"off_{name}": values for name, values in off.items()} | {"half_load": half[:, -1]}
        parts.append(part.assign(**found, **measured))
    return pd.concat(parts)


def rule_numbers(
    tied: pd.DataFrame, jobs: int = 1, progress: Callable[[int, int], None] = lambda done, total: None
) -> pd.DataFrame:
    """What the statements about coins, openings and staying at home rest on, under each tied candidate.

    Candidates that only measure otherwise play alike, so all of them are looked at and none is sampled: means over
    `JUDGED` networks of one episode each, the same tasks, networks and throws for every rule. x_low and x_high are the
    95 % interval of x between networks.

    Returns one row a candidate, in the order of `tied`, with workload_scale, `SEARCHED` and

    - kept: the share at home of the best-paid coin of `STATED` under the arm `printed`, a mean of each network's best;
      kept_fewer: how much smaller it is under `spent`;
    - coin_reward, opening, opening_lead: what the best coin earns as printed, how many tasks the best opening of
      `OPENINGS` sends away, and how much more it earns;
    - home_drops, more_drops: the drop rate of who keeps every task, and how much higher it is than that of the
      best-paid coin;
    - kept_cost: the share of the coin with the smallest objective (26), in the units and with the weights of
      `balanced`; home_saves: how much less than the best other coin it costs to keep every task;
    - off_delay ... off_load: how far the best-paid coin is from TOPPO's printed row, measured as the candidate does;
      half_load: the load so measured of a coin that keeps every other task.
    """
    alike = [tied[name] for name in SYSTEM if name != "dropped_energy"]
    groups = [group for _, group in tied.groupby([*alike, tied["load"]])]
    numbered = [group.assign(row=tied.index.get_indexer(group.index)) for group in groups]
    found = in_parts(_rewarded, numbered, jobs, progress).sort_values("row", ignore_index=True)
    first = found.columns.get_loc("kept")
    return found[["workload_scale", *SEARCHED, *found.columns[first:]]]
