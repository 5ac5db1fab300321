"""Policies that look at nothing, under the printed reward: a coin, and an opening after which all stay at home."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from functools import cache

import numpy as np
import pandas as pd

from aiecof.study.grids import ARMS
from aiecof.system.scenario import Scenario, Weights, load_scenario
from aiecof.system.simulator import Simulator
from aiecof.system.workload import Trace, draw_trace

PRINTED = ARMS["printed"] | {"weights": Weights()}
"""Changes of a scenario that pay by the reward as printed."""


def coin(share: float, trace: Trace, throws: np.ndarray) -> np.ndarray:
    """Who stays at home: every task by a throw, with a fixed share."""
    return throws < share


def opening(away: float, trace: Trace, throws: np.ndarray) -> np.ndarray:
    """Who stays at home: all but the first `away` tasks of each device in an episode."""
    return (trace.size > 0).cumsum(axis=1) > away


def played(
    scenario: Scenario,
    stays: Callable[[float, Trace, np.ndarray], np.ndarray],
    values: Iterable[float],
    networks: int = 10,
    episodes: int = 5,
) -> pd.DataFrame:
    """Metrics by network and value, means over held-out episodes; who leaves goes to any server.

    The same tasks, and the same throws in [0, 1), for every value.
    """
    simulator, rows = Simulator(scenario), {}
    for seed in range(networks):
        trace = draw_trace(scenario, episodes, seed)
        draw = np.random.default_rng([seed, 26])
        throws = draw.random(trace.size.shape)
        away = draw.integers(1, scenario.actions, throws.shape)
        for value in values:
            simulator.run(trace, np.where(stays(value, trace, throws), 0, away))
            rows[seed, value] = {name: np.nanmean(found) for name, found in simulator.metrics().items()}
    return pd.DataFrame(rows).T.rename_axis(["seed", "value"])


@cache
def openings(name: str) -> pd.DataFrame:
    """`played` with the first 0 to 20 tasks away, on a network, paid as printed."""
    scenario = load_scenario(name, **PRINTED)
    return played(scenario, opening, (0, 1, 2, 3, 4, 6, 8, 10, 12, 16, 20), episodes=2)


SHARES = (0.0, 0.1111, 0.2, 0.3, 0.4, 0.5, *(round(0.6 + 0.02 * step, 2) for step in range(21)))
"""Shares at home of `coins`; 0.1111 is one of nine places."""


@cache
def coins(name: str, shares: tuple[float, ...] = SHARES, **changes: object) -> pd.DataFrame:
    """`played` by a coin on a network as it is, but for some changes of its scenario."""
    return played(load_scenario(name, **changes), coin, shares, episodes=2)
