"""Which reward ranks rules as the objective (26) does: Spearman's correlation at least `AGREEMENT`.

Where equal weights do not get there, the nearest to equal that do.
"""

import itertools
from dataclasses import fields
from typing import Any

import numpy as np
import pandas as pd
from scipy.stats import rankdata

from aiecof.agents.policies import record_actions
from aiecof.agents.rules import POLICIES, make_policy
from aiecof.study.statistics import rank_correlation
from aiecof.system.scenario import READINGS, Scenario, Weights, load_scenario
from aiecof.system.simulator import Simulator
from aiecof.system.workload import Trace, draw_trace

AGREEMENT = 0.9


def rules(scenario: Scenario) -> list[tuple[str, dict[str, Any]]]:
    """(name, parameters) of the rules that rank rewards: every threshold below the deadline, mixtures in tenths."""
    swept = {"threshold_slots", "local_probability"}
    names = [name for name, entry in POLICIES.items() if not swept.intersection(entry.parameters)]
    found: list[tuple[str, dict[str, Any]]] = [(name, {}) for name in names]
    for name, entry in POLICIES.items():
        if entry.parameters == ("threshold_slots",):
            found += [(name, {"threshold_slots": slots}) for slots in range(scenario.tau_max_slots)]
        elif entry.parameters == ("local_probability",):
            found += [(name, {"local_probability": tenths / 10}) for tenths in range(1, 10)]
    return found


REWARDS: dict[str, tuple[str, ...]] = {
    name: READINGS[name]
    for name in ("cost_load", "energy_reference", "dropped_energy_term", "failure_scope", "reward_history", "load_sign")
}
TERMS = tuple(entry.name for entry in fields(Weights))


def _parts(scenario: Scenario, trace: Trace, actions: list[np.ndarray]) -> dict[tuple[str, ...], np.ndarray]:
    """Reading -> (2, 4, rules): reward and minus the objective that each term alone, with weight 1, comes to."""
    parts = {}
    for values in itertools.product(*REWARDS.values()):
        rows = np.zeros((2, len(TERMS), len(actions)))
        for i, term in enumerate(TERMS):
            alone = Weights(**{name: float(name == term) for name in TERMS})
            simulator = Simulator(scenario.replace(weights=alone, **dict(zip(REWARDS, values, strict=True))))
            for k, chosen in enumerate(actions):
                simulator.run(trace, chosen)
                metrics = simulator.metrics()
                rows[:, i, k] = metrics["reward"].mean(), -metrics["cost"].mean()
        parts[values] = rows
    return parts


def reward_agreement(names: tuple[str, ...] = ("balanced", "fitted"), episodes: int = 20) -> pd.DataFrame:
    """Spearman's correlation of reward and minus objective over `rules`, for every reading of the two.

    One row a reading: `REWARDS`, equal_<scenario> with equal weights, and the weights nearest to equal (on a grid of
    twentieths, none 0, adding up to 1) with which the smallest correlation reaches `AGREEMENT`, their distance from
    equal, and agreement_<scenario>; NaN where no weights do.
    """
    grid = [np.array(w) / 20 for w in itertools.product(range(1, 18), repeat=len(TERMS)) if sum(w) == 20]
    grid.sort(key=lambda weights: float(((weights - 0.25) ** 2).sum()))
    found = []
    for name in names:
        scenario = load_scenario(name, network="episode")
        trace = draw_trace(scenario, episodes, split="reference")
        policies = [make_policy(rule, scenario, **parameters) for rule, parameters in rules(scenario)]
        found.append(_parts(scenario, trace, [record_actions(policy, scenario, trace) for policy in policies]))
    rows = []
    for values in found[0]:
        tables = [parts[values] for parts in found]
        equal = [rank_correlation(*np.tensordot(grid[0], table, (0, 1))) for table in tables]
        row = dict(zip(REWARDS, values, strict=True)) | _named("equal", names, equal)
        for weights in grid:
            agreement = _agreement(tables, weights)
            if agreement is not None:
                row |= {f"weight_{term}": weight for term, weight in zip(TERMS, weights, strict=True)}
                row |= {"distance": float(np.abs(weights - 0.25).max())} | _named("agreement", names, agreement)
                break
        rows.append(row)
    return pd.DataFrame(rows)


def _named(prefix: str, names: tuple[str, ...], values: list[float]) -> dict[str, float]:
    return {f"{prefix}_{name}": value for name, value in zip(names, values, strict=True)}


def _agreement(tables: list[np.ndarray], weights: np.ndarray) -> list[float] | None:
    """The correlations with some weights, or None as soon as one is too small."""
    reached = []
    for table in tables:
        reward, objective = (rankdata(weights @ terms) for terms in table)
        reached.append(float(np.corrcoef(reward, objective)[0, 1]))
        if reached[-1] < AGREEMENT:
            return None
    return reached
