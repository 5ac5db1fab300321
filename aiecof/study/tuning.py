"""The search for learning rates: the same effort for every method, on seeds that no experiment uses."""

import itertools
from collections.abc import Callable, Iterable
from pathlib import Path

import pandas as pd

from aiecof.agents.methods import method
from aiecof.agents.training import train
from aiecof.system.scenario import load_scenario

LEARNING_RATES = (3e-4, 1e-3, 3e-3)
TUNING_SEEDS = (1_000, 1_001)
TUNING_EPISODES = 60


def tune(names: Iterable[str], folder: str | Path, on_run: Callable[[int], None] = lambda done: None) -> pd.DataFrame:
    """Train each method with each of `LEARNING_RATES`: the same tuning effort for all of them.

    names : iterable of str
        Of `methods.METHODS`.
    folder : path
        Where the runs go; finished ones are not repeated.
    on_run : callable
        Called after each run with the number of runs done.

    On `balanced`, with seeds that no experiment uses, judged by the training reward of the last 20 episodes: no
    evaluation trace is seen. TOPPO's two rates are kept equal. One row a run: method, learning_rate, seed, reward.
    """
    scenario = load_scenario("balanced")
    rows = []
    for name, rate, seed in itertools.product(names, LEARNING_RATES, TUNING_SEEDS):
        rates = {key: rate for key in ("learning_rate", "critic_learning_rate") if key in method(name).hyperparameters}
        run = train(name, scenario, TUNING_EPISODES, seed, Path(folder) / f"{name}-{rate:g}-{seed}", **rates)
        reward = run.curve["reward"].tail(20).mean()
        rows.append({"method": name, "learning_rate": rate, "seed": seed, "reward": round(reward, 3)})
        on_run(len(rows))
    return pd.DataFrame(rows)
