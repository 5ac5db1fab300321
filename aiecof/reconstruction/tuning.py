"""The searches for hyperparameters: the same effort for every method, on seeds that no experiment uses."""

import itertools
import json
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import optuna
import pandas as pd
import torch as th
from joblib import Parallel, delayed

from aiecof.agents.methods import method
from aiecof.agents.training import Run, train
from aiecof.checks import check_calls
from aiecof.files import read_json, write_whole
from aiecof.processes import workers
from aiecof.study.experiments import network, printed_values
from aiecof.study.grids import LEARNED, SEARCHED
from aiecof.study.trials import Trial
from aiecof.system.scenario import load_scenario

LEARNING_RATES = (3e-4, 1e-3, 3e-3)
TUNING_SEEDS = (1_000, 1_001)
TUNING_EPISODES = 60
CONFIGURATIONS, SEARCH_SEED = 16, 0
SEARCH_EPISODES, FIRST_EPISODES, LAST = 40, 10, 5
"""Of a search: episodes in full, before half of the configurations are stopped, and those at the end that count."""
RATES = {"learning_rate": (1e-4, 1e-2), "critic_learning_rate": (1e-4, 1e-2)}
"""Drawn uniformly on a logarithmic scale, for the methods that have them."""
CHOICES = {
    "gamma": (0.5, 0.8, 0.9, 0.95, 0.99),
    "ent_coef": (0.0, 1e-3, 3e-3, 1e-2, 3e-2),
    "exploration_final_eps": (0.01, 0.02, 0.05, 0.1),
    "batch_size": (64, 128, 256),
}
"""Of which one is drawn, all equally likely, for the methods that have them."""


def tune(names: Iterable[str], folder: str | Path, on_run: Callable[[int], None] = lambda done: None) -> pd.DataFrame:
    """Train each method with each of `LEARNING_RATES`: where the registry's learning rates come from.

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
        rates = {key: rate for key in RATES if key in method(name).hyperparameters}
        run = train(name, scenario, TUNING_EPISODES, seed, Path(folder) / f"{name}-{rate:g}-{seed}", **rates)
        reward = run.curve["reward"].tail(20).mean()
        rows.append({"method": name, "learning_rate": rate, "seed": seed, "reward": round(reward, 3)})
        on_run(len(rows))
    return pd.DataFrame(rows)


def configurations(name: str) -> list[dict[str, Any]]:
    """What is tried for a method: the printed hyperparameters, and others drawn at random, the same ones every time."""
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    study = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=SEARCH_SEED))
    known, printed = method(name).hyperparameters, printed_values(name)
    space: dict[str, optuna.distributions.BaseDistribution] = {
        key: optuna.distributions.FloatDistribution(*ends, log=True) for key, ends in RATES.items() if key in known
    }
    space |= {key: optuna.distributions.CategoricalDistribution(c) for key, c in CHOICES.items() if key in known}
    study.enqueue_trial({key: (printed | {"ent_coef": 0.0, "exploration_final_eps": 0.05})[key] for key in space})
    drawn = [study.ask(space).params for _ in range(CONFIGURATIONS)]
    rounded = ({key: float(f"{v:.3g}") if key in RATES else v for key, v in values.items()} for values in drawn)
    return [printed | values for values in rounded]


class _Enough(Exception):
    """A training has come far enough."""


def _trained(trial: Trial, episodes: int, folder: Path) -> dict[str, float]:
    """Mean training reward and objective (26) at the end of the first episodes of a training, which may go on later."""
    place = folder / trial.fingerprint
    done = place / f"after_{episodes}.json"
    if done.exists():
        return read_json("result", done)
    th.set_num_threads(1)

    def watch(finished: int) -> None:
        if finished > episodes:  # the checkpoint is written when the next episode begins
            raise _Enough

    try:
        run = train(
            trial.method,
            trial.scenario,
            trial.episodes,
            trial.seed,
            place,
            checkpoint_every=FIRST_EPISODES,
            on_episode=watch,
            **trial.changes,
        )
    except _Enough:
        run = Run(place)
    curve = run.curve.head(episodes).tail(LAST)
    found = {name: float(curve[name].mean()) for name in ("reward", "cost")}
    write_whole(done, json.dumps(found).encode())
    if episodes == trial.episodes:
        run.checkpoint.unlink()
    return found


def better_half(rows: pd.DataFrame) -> list[int]:
    """Half of the configurations: in turn the best left by `reward`, the highest, and by `cost`, the lowest."""
    by_reward = rows.sort_values("reward", ascending=False, kind="stable")["configuration"]
    by_cost = rows.sort_values("cost", kind="stable")["configuration"]
    in_turn = itertools.chain.from_iterable(zip(by_reward, by_cost, strict=True))
    return list(dict.fromkeys(in_turn))[: len(rows) // 2]


def _halved(
    rival: str, name: str, arm: str, play: Callable[[list[Trial], int], list[dict[str, float]]]
) -> pd.DataFrame:
    """One row a configuration of a method on a network; half of them come from a training that was stopped."""
    tried, scenario, chosen = configurations(rival), network(name, arm), list(range(CONFIGURATIONS))
    parts: list[pd.DataFrame] = []
    for episodes in (FIRST_EPISODES, SEARCH_EPISODES):
        trials = [
            Trial(rival, scenario, seed, SEARCH_EPISODES, changes=tried[index])
            for index, seed in itertools.product(chosen, TUNING_SEEDS)
        ]
        means = pd.DataFrame(play(trials, episodes)).groupby(lambda row: row // len(TUNING_SEEDS)).mean()
        parts.append(means.assign(configuration=chosen, stopped=episodes < SEARCH_EPISODES))
        chosen = better_half(parts[0])
    rows = pd.concat(parts).drop_duplicates("configuration", keep="last").sort_values("configuration")
    texts = [json.dumps(values) for values in tried]
    rows = rows.assign(scenario=name, arm=arm, method=rival, values=texts)
    return rows[["scenario", "arm", "method", "configuration", "values", "stopped", "reward", "cost"]]


def search(
    known: pd.DataFrame, folder: Path, jobs: int = 1, on_run: Callable[[int], None] = lambda done: None
) -> Iterator[pd.DataFrame]:
    """The same random search with successive halving for every learned method of Table IV, on `grids.SEARCHED`.

    known : DataFrame
        What was found before; a method that is in there with the same configurations is not searched for again.
    folder : path
        Where the trainings go, each under the name of its content; what is there is not computed again.
    jobs : int
        Processes.
    on_run : callable
        Called with the number of trainings, or first parts of one, that are done.

    Every configuration is trained for `FIRST_EPISODES` on the networks of `TUNING_SEEDS`; the better half of them go
    on to `SEARCH_EPISODES`. What counts are the last `LAST` training episodes: no evaluation trace is seen. After each
    method comes the table so far, one row a configuration: scenario, arm, method, configuration, values, stopped
    (whether early), reward and cost.
    """
    tables, done = [], 0

    def play(trials: list[Trial], episodes: int) -> list[dict[str, float]]:
        nonlocal done
        found, tasks = [], (delayed(_trained)(trial, episodes, folder) for trial in trials)
        for entry in Parallel(n_jobs=jobs, return_as="generator", **workers())(tasks):
            found.append(entry)
            on_run(done := done + 1)
        return found

    for (name, arm), rival in itertools.product(SEARCHED, LEARNED):
        rows = known[(known["scenario"] == name) & (known["method"] == rival)] if len(known) else known
        same = len(rows) and list(rows["values"]) == [json.dumps(values) for values in configurations(rival)]
        tables.append(rows if same else _halved(rival, name, arm, play))
        yield pd.concat(tables)


check_calls(globals())
