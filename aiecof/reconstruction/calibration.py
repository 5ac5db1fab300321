"""Which readings explain the two rows of Table IV that need no training, and which of them stand for the rest.

The question is settled without any training, by rules that stood here before the search:

- A *candidate* is a system (workload, constants, readings that move tasks), what is measured, and what the two rules do
  (R34). Its *error* is the worst of eight relative deviations: delay, energy, drop rate and load, of Random and of
  Round-Robin, from the printed rows, each a mean over episodes with a network of their own (no clocks are printed).
- Its *departures* are the readings, R34's included, in which it differs from `balanced` after each has been put back
  whose return changes none of the eight numbers (`put_back`). Constants, for which nothing is printed, are none.
- Candidates whose error is larger than the smallest by no more than the numbers differ between networks explain the
  rows equally well: they are *tied*. Whether a rule reaches TOPPO's row is reported and not asked.
- The seven learned rows are evidence beside. Each is compared with a coin that keeps a task with a probability, free
  for each row, and else takes any server; its error is the worst of four deviations, at the best probability.
- `PLAIN` is the tied candidate with the fewest departures and then the smallest error, `NINE_ROWS` the one with the
  smallest worst error over all nine rows; if that is `PLAIN`, the next whose readings that move tasks are others. Of
  equal ones the first is taken, by departures, error, and the order of `SEARCHED`'s values.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable
from functools import lru_cache
from typing import Any

import numpy as np
import pandas as pd
from joblib import Parallel, delayed

from aiecof.agents.policies import record_actions
from aiecof.agents.rules import CIRCLES, ORDERS, make_policy
from aiecof.processes import workers
from aiecof.study.grids import LEARNED
from aiecof.study.paper import COLUMNS, NAMES, printed_rows
from aiecof.system.scenario import READINGS, Readings, Scenario, TaskKind, load_scenario
from aiecof.system.simulator import Simulator
from aiecof.system.workload import Trace, draw_trace

PLAIN, NINE_ROWS = "plain", "nine-rows"
EXPLAINED, NEAR, KEPT = 0.25, 0.2, 0.16
"""Largest error in a few episodes, of Random's row alone or of both, with which a system is looked at further, and with
which a candidate gets more episodes; in those, the largest that is kept."""
COARSE, FINE, JUDGED = 3, 20, 10
"""Episodes a candidate: in the first pass, in the second, and for coins and rules on the tied ones."""

FAMILIES: dict[str, tuple[str, tuple[float, ...]]] = {
    "a: cycles a task, as printed": ("per_task", (1.0,)),
    "b: 200-300 cycles/bit": ("per_bit", (0.1e-6,)),
    "c: 2000-3000 cycles/bit": ("per_bit", (1e-6,)),
    "d: cycles a task, scaled": ("per_task", (0.12, 0.15, 0.18, 0.22, 0.27, 0.33)),
    "e: cycles/bit, scaled": ("per_bit", (0.02e-6, 0.025e-6, 0.032e-6, 0.04e-6, 0.055e-6, 0.067e-6)),
}
"""Family of a workload -> how Table III's range is read, and factors on it (1e-6 turns the printed mega away)."""
FACTORS = (0.9, 0.95, 1.0, 1.05, 1.1)
"""On the factor of a family that is scaled, in the second pass."""

CONSTANTS: dict[str, tuple[Any, ...]] = {
    "tau_max_slots": (5, 6, 7, 8, 10, 14, 20),
    "largest_size": (8e6, 10e6),
}
BOOKED = ("edge_wait_from", "in_flight", "dropped_energy")
"""Readings of the dynamics that move no task, as long as the end of an episode is no deadline."""
DYNAMICS = ("device_rounding", "server_rounding", "transmission_rounding", "channel_queue", "drop_rule", *BOOKED)
SYSTEM = ("family", "workload_scale", *CONSTANTS, *DYNAMICS)
MEASURES = ("delay_mean", "energy_mean", "load", "load_mean")
WAYS = list(itertools.product(*(READINGS[name] for name in MEASURES)))
RUNS = ("busy_share", "literal", "literal_seconds")
"""Loads that take a run each; `local_share` is measured with the first."""
CHOICES: dict[str, tuple[Any, ...]] = {"levels": (1, 2), "places": CIRCLES, "order": ORDERS}
"""What Random and Round-Robin may be (`agents.rules`); as `balanced` has them first."""
SEARCHED = ("family", *CONSTANTS, *DYNAMICS, *MEASURES, *CHOICES)
BALANCED = {name: getattr(load_scenario("balanced").readings, name) for name in (*DYNAMICS, *MEASURES)}
BALANCED |= {name: values[0] for name, values in CHOICES.items()}


def rules_of(name: str, **parameters: tuple[Any, ...]) -> list[tuple[str, dict[str, Any]]]:
    """A rule with every combination of some parameters."""
    return [(name, dict(zip(parameters, values, strict=True))) for values in itertools.product(*parameters.values())]


SHARES = tuple(round(0.5 + 0.02 * step, 2) for step in range(26))
_RANDOM = rules_of("random", levels=CHOICES["levels"])
_CIRCLES = rules_of("round-robin", places=CIRCLES, order=ORDERS)
_BLIND = {"random": _RANDOM, "untrained": _RANDOM + _CIRCLES}
_BLIND["coins"] = rules_of("mixture-random", local_probability=SHARES)
ATTEMPTS = [("always-local", {}), ("greedy", {}), ("frugal", {})]
ATTEMPTS += rules_of("mixture-power-of-two", local_probability=(0.75, 0.8, 0.85, 0.9))
"""Rules that try for TOPPO's row, whose load of .79 stands for about four local tasks in five."""


def candidate_scenario(candidate: dict[str, Any]) -> Scenario:
    """The scenario of a candidate: values for `SYSTEM`, and for `MEASURES` where it has any."""
    workload, _ = FAMILIES[candidate["family"]]
    chosen = {name: candidate[name] for name in (*DYNAMICS, *MEASURES) if name in candidate}
    return load_scenario(
        "balanced",
        workload=workload,
        network="episode",
        energy_reference="own_history",
        cost_units="si",
        tau_max_slots=int(candidate["tau_max_slots"]),
        workload_scale=candidate["workload_scale"],
        task_kinds=(TaskKind("uniform", (2e6, candidate["largest_size"])),),
        **chosen,
    )


@lru_cache(maxsize=8)
def _trace(family: str, scale: float, largest: float, episodes: int) -> Trace:
    workload = {"family": family, "workload_scale": scale, "largest_size": largest, "tau_max_slots": 1}
    return draw_trace(candidate_scenario(workload), episodes, split="reference")


def actions_of(rules: list[tuple[str, dict[str, Any]]], scenario: Scenario, episodes: int) -> np.ndarray:
    """(K, B, T, M): what rules do."""
    trace = draw_trace(scenario, episodes, split="reference")
    return np.stack([record_actions(make_policy(n, scenario, **p), scenario, trace) for n, p in rules])


@lru_cache(maxsize=8)
def _blind_actions(kind: str, episodes: int) -> np.ndarray:
    """What rules do that look at nothing but who has a task, the same under every candidate."""
    return actions_of(_BLIND[kind], load_scenario("balanced", network="episode"), episodes)


def played(scenario: Scenario, candidate: dict[str, Any], actions: np.ndarray) -> Simulator:
    """A scenario after (K, B, T, M) actions, on the tasks and the networks of a candidate, the same for all K."""
    count, episodes = actions.shape[:2]
    trace = _trace(*(candidate[name] for name in ("family", "workload_scale", "largest_size")), episodes)
    run = Simulator(scenario)
    run.run(trace[np.tile(np.arange(episodes), count)], actions.reshape(-1, *actions.shape[2:]))
    return run


def measure(candidate: dict[str, Any], actions: np.ndarray, load: str) -> np.ndarray:
    """(K, B, ways, 4): `COLUMNS` of each of (K, B, T, M) actions, in each episode, measured in each of `WAYS`.

    load : str
        Of `RUNS`: only Eq. (12) needs a run of its own. Loads that this run does not measure are infinite.
    """
    run = played(candidate_scenario(candidate | {"load": load}), candidate, actions)

    def measured(metric: str, **readings: str) -> np.ndarray:
        return run.metrics(Readings(**readings))[metric]

    delay, energy = (
        {mean: measured(name, **{f"{name}_mean": mean}) for mean in READINGS[f"{name}_mean"]}
        for name in ("delay", "energy")
    )
    here = [name for name in READINGS["load"] if run_of(name) == load]
    loads = {(n, mean): measured("load", load=n, load_mean=mean) for n in here for mean in READINGS["load_mean"]}
    drops, missing = measured("drop_rate"), np.full(run.replicas, np.inf)
    found = [(delay[d], energy[e], drops, loads.get((*way,), missing)) for d, e, *way in WAYS]
    return np.array(found).reshape(len(WAYS), len(COLUMNS), *actions.shape[:2]).transpose(2, 3, 0, 1)


def run_of(load: str) -> str:
    """Of `RUNS`, the one that measures a load."""
    return load if load in RUNS else RUNS[0]


@lru_cache(maxsize=1)
def printed() -> pd.DataFrame:
    """The printed rows, by our names of the methods."""
    return printed_rows().rename({theirs: ours for ours, theirs in NAMES.items()})[list(COLUMNS)].astype(float)


def _deviations(candidate: dict[str, Any], kind: str, episodes: int, runs: tuple[str, ...]) -> np.ndarray:
    """(levels, circles, ways, 4): the worse of the relative deviations of Random and of Round-Robin from their rows.

    Of "random" alone there is one circle. Literal loads are left out where all else is too far off.
    """
    (random, turns), ours = printed().loc[["random", "round-robin"]].to_numpy(), np.inf
    for load in runs:
        ours = np.minimum(ours, measure(candidate, _blind_actions(kind, episodes), load).mean(axis=1))
        errors = np.abs(ours[: len(_RANDOM), None] / random - 1.0)
        if kind == "untrained":
            errors = np.maximum(errors, np.abs(ours[None, len(_RANDOM) :] / turns - 1.0))
        if errors[..., :3].max(axis=-1).min() > EXPLAINED:
            break
    return errors


def candidate_errors(candidate: dict[str, Any], episodes: int, runs: tuple[str, ...] | None = None) -> pd.DataFrame:
    """The errors of a system under every way to measure, by `RUNS` or some of them, and every choice of the two rules.

    One row each: `SEARCHED`, workload_scale, error_delay ... error_load (the worse of the two rules) and error.
    """
    errors = _deviations(candidate, "untrained", episodes, runs or RUNS)
    level, circle, way = np.indices(errors.shape[:3]).reshape(3, -1)
    columns = {name: candidate[name] for name in SYSTEM}
    columns |= dict(zip(MEASURES, np.array(WAYS, object)[way].T, strict=True))
    columns["levels"] = np.array(CHOICES["levels"])[level]
    columns |= {name: np.array([rule[name] for _, rule in _CIRCLES])[circle] for name in ("places", "order")}
    columns |= {f"error_{name}": errors[..., i].ravel() for i, name in enumerate(COLUMNS)}
    return pd.DataFrame(columns | {"error": errors.max(axis=-1).ravel()})


_BOUNDS = {level: [f"{level} {load}" for load in READINGS["load"]] for level in CHOICES["levels"]}
"""Columns of the first pass, by levels of Random."""


def _first_pass(block: list[dict[str, Any]]) -> pd.DataFrame:
    """The smallest error of Random's row alone, no candidate's can be smaller, with its levels and each load."""
    rows = []
    for candidate in block:
        worst = _deviations(candidate, "random", COARSE, RUNS)[:, 0].max(axis=-1)
        ways = {load: [way[2] == load for way in WAYS] for load in READINGS["load"]}
        rows.append([worst[i, ways[load]].min() for i in range(len(worst)) for load in ways])
    return pd.DataFrame(block).join(pd.DataFrame(rows, columns=sum(_BOUNDS.values(), [])))


def _second_pass(system: dict[str, Any]) -> pd.DataFrame:
    """What is explained, with workloads around the system's where its family is scaled, and the best of each value."""
    found = [candidate_errors(system, COARSE)]
    around = "scaled" in system["family"] and found[0]["error"].min() <= EXPLAINED
    for factor in FACTORS if around else (1.0,):
        candidate = system | {"workload_scale": system["workload_scale"] * factor}
        rows = candidate_errors(candidate, COARSE)
        near = set(rows["load"][rows["error"] <= NEAR].map(run_of))
        found.append(candidate_errors(candidate, FINE, tuple(near)) if near else rows)
    rows = pd.concat(found[1:], ignore_index=True)
    best = pd.concat([rows.groupby(name)["error"].idxmin() for name in (*MEASURES, *CHOICES)])
    return rows[rows.index.isin(best) | (rows["error"] <= KEPT)]


def _left(coarse: pd.DataFrame) -> pd.DataFrame:
    """What the first pass leaves to the second: what Random's row does not exclude, and the best of each value."""
    left = []
    for bounds in _BOUNDS.values():
        ranked = coarse.assign(bound=coarse[bounds].min(axis=1)).sort_values("bound", kind="stable")
        left += [ranked[ranked["bound"] <= EXPLAINED], *(coarse.nsmallest(10, bound) for bound in bounds)]
        left += [ranked.groupby(name).head(10) for name in ("family", *CONSTANTS, *DYNAMICS)]
    return coarse.loc[pd.concat(left).index.unique().sort_values()]


def in_parts(
    work: Callable[..., pd.DataFrame], parts: list[Any], jobs: int, progress: Callable = lambda *_: None
) -> Any:
    """The tables that some work makes of each part, in one."""
    found: list[pd.DataFrame] = []
    for rows in Parallel(n_jobs=jobs, return_as="generator", **workers())(delayed(work)(part) for part in parts):
        found.append(rows)
        progress(len(found), len(parts))
    return pd.concat(found, ignore_index=True)


def search(jobs: int = 1, progress: Callable[[int, int], None] = lambda done, total: None) -> pd.DataFrame:
    """Every system with a few episodes of Random; what that does not exclude with more, and with Round-Robin.

    Returns the second pass: one row a candidate that explains the rows, or comes nearest with one of its values in
    its neighbourhood; columns as of `candidate_errors`, best first.
    """
    grid = [
        dict(zip(SYSTEM, (family, *values), strict=True))
        for family, (_, scales) in FAMILIES.items()
        for values in itertools.product(scales, *CONSTANTS.values(), *(READINGS[name] for name in DYNAMICS))
    ]
    coarse = in_parts(_first_pass, [grid[start : start + 500] for start in range(0, len(grid), 500)], jobs, progress)
    found = in_parts(_second_pass, _left(coarse).to_dict("records"), jobs, progress)
    return found.sort_values("error", kind="stable", ignore_index=True)


@lru_cache(maxsize=1024)
def _untrained(values: tuple[Any, ...], episodes: int, load: str) -> np.ndarray:
    return measure(dict(zip(SYSTEM, values, strict=True)), _blind_actions("untrained", episodes), load)


def numbers(candidate: dict[str, Any], episodes: int) -> np.ndarray:
    """(2, B, 4): what Random and Round-Robin come to under a candidate, in each episode."""
    table = _untrained(tuple(candidate[name] for name in SYSTEM), episodes, run_of(candidate["load"]))
    turns = {name: candidate[name] for name in ("places", "order")}
    rules = [
        _BLIND["untrained"].index(rule)
        for rule in (("random", {"levels": candidate["levels"]}), ("round-robin", turns))
    ]
    return table[rules, :, WAYS.index(tuple(candidate[name] for name in MEASURES))]


def put_back(candidate: dict[str, Any]) -> dict[str, Any]:
    """The candidate with the readings of `balanced` wherever one after another they change none of its numbers."""
    ours = numbers(candidate, COARSE)
    for name, usual in BALANCED.items():
        changed = candidate | {name: usual}
        if candidate[name] != usual and np.allclose(numbers(changed, COARSE), ours, rtol=1e-9, atol=0.0):
            candidate = changed
    return candidate


def departures(candidates: pd.DataFrame) -> pd.Series:
    """How many readings differ from those of `balanced`, that of the workload included."""
    changed = sum((candidates[name] != usual).astype(int) for name, usual in BALANCED.items())
    return changed + candidates["family"].map(lambda family: int(FAMILIES[family][0] != "per_task"))


def _put_all_back(group: pd.DataFrame) -> pd.DataFrame:
    return pd.DataFrame([put_back(row) for row in group.to_dict("records")])


def equals(candidates: pd.DataFrame, jobs: int = 1) -> pd.DataFrame:
    """The candidates that explain the untrained rows as well as the best, put back, each once, least departures first.

    Adds departures, and tie: the largest relative standard deviation of the best one's numbers between networks, since
    a printed row has one network.
    """
    best = numbers(candidates.loc[candidates["error"].idxmin()].to_dict(), FINE)
    tie = float((best.std(axis=1, ddof=1) / best.mean(axis=1)).max())
    tied = candidates[candidates["error"] <= candidates["error"].min() + tie]
    groups = [group for _, group in tied.groupby(["family", "workload_scale", *CONSTANTS])]
    found = in_parts(_put_all_back, groups, jobs).sort_values("error", kind="stable")
    found = found.drop_duplicates(["workload_scale", *SEARCHED])
    found = found.assign(tie=tie, departures=departures(found))
    return found.sort_values(["departures", "error"], kind="stable", ignore_index=True)


_FINER = np.linspace(SHARES[0], SHARES[-1], 501)
_BETWEEN = np.stack([np.interp(_FINER, SHARES, corner) for corner in np.eye(len(SHARES))], axis=1)


def fit_shares(coins: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The share at home with which a coin comes nearest to each learned row, and the worst deviation that is left.

    coins : (len(SHARES), ways, 4) float
        What coins come to; between their shares everything is a straight line.

    Returns two arrays, (rows of `LEARNED`, ways).
    """
    curve = np.tensordot(_BETWEEN, coins, 1)
    left = np.stack([np.abs(curve / row - 1.0).max(axis=-1) for row in printed().loc[list(LEARNED)].to_numpy()])
    return _FINER[left.argmin(axis=1)], left.min(axis=1)


def _judge(group: pd.DataFrame, attempts: np.ndarray) -> pd.DataFrame:
    candidate, runs = group.iloc[0].to_dict(), set(group["load"].map(run_of))
    ways = [WAYS.index(way) for way in group[list(MEASURES)].itertuples(index=False, name=None)]
    coins, ours = (
        np.min([measure(candidate, actions, load).mean(axis=1)[:, ways] for load in runs], axis=0)
        for actions in (_blind_actions("coins", JUDGED), attempts)
    )
    share, error = fit_shares(coins)
    short = ((ours / printed().loc["toppo"].to_numpy() - 1.0) * (1.0, 1.0, 1.0, -1.0)).max(axis=2)
    names = [" ".join([name, *map(str, parameters.values())]) for name, parameters in ATTEMPTS]
    columns = {f"share_{method}": share[i] for i, method in enumerate(LEARNED)}
    columns |= {f"error_{method}": error[i] for i, method in enumerate(LEARNED)}
    columns |= {"error_nine": np.maximum(error.max(axis=0), group["error"])}
    columns |= {"nearest_rule": [names[i] for i in short.argmin(axis=0)], "short": short.min(axis=0)}
    columns |= {f"local_{name}": ours[0, :, i] for i, name in enumerate(COLUMNS)}
    return group.assign(**columns, local_wins=short[0] <= 0.0)


def _judge_alike(group: pd.DataFrame) -> pd.DataFrame:
    """`_judge` of candidates whose tasks move alike, so that rules decide alike."""
    attempts = actions_of(ATTEMPTS, candidate_scenario(group.iloc[0].to_dict()), JUDGED)
    return pd.concat([_judge(entry, attempts) for _, entry in group.groupby(list(BOOKED))])


def judge(tied: pd.DataFrame, jobs: int = 1) -> pd.DataFrame:
    """The tied candidates with what rules make of the learned rows there.

    Adds, for each method m of `LEARNED`, share_m and error_m (`fit_shares`), and error_nine, the worst of all nine
    rows; nearest_rule and short: the rule of `ATTEMPTS` that comes nearest to TOPPO's row, and how far its worst column
    stays behind (0 or less: the row is attainable); local_delay ... local_load, and local_wins: whether the policy that
    never offloads is as good as that row in all four columns.
    """
    alike = [tied[name] for name in SYSTEM if name not in BOOKED]
    groups = [group for _, group in tied.groupby([*alike, tied["in_flight"] == "drop"])]
    return in_parts(_judge_alike, groups, jobs).sort_values(["departures", "error"], kind="stable", ignore_index=True)


def representatives(judged: pd.DataFrame) -> pd.DataFrame:
    """The two candidates that stand for all, by the rules at the top: rows `PLAIN` and `NINE_ROWS`."""
    plain = judged.sort_values(["departures", "error"], kind="stable").iloc[0]
    ranked = judged.assign(rounded=judged["error_nine"].round(9))
    ranked = ranked.sort_values(["rounded", "departures", "error"], kind="stable")
    if ranked.index[0] == plain.name:
        ranked = ranked[(ranked[list(DYNAMICS)] != plain[list(DYNAMICS)]).any(axis=1)]
    return pd.DataFrame([plain, judged.loc[ranked.index[0]]], [PLAIN, NINE_ROWS])


def identifiability(candidates: pd.DataFrame, tie: float) -> pd.DataFrame:
    """Smallest error with each value held fixed: those within `tie` of the best are not told apart by the two rows.

    Columns reading, value, error, ruled_out.
    """
    rows = [
        {"reading": name, "value": str(value), "error": group["error"].min()}
        for name in SEARCHED
        for value, group in candidates.groupby(name)
    ]
    table = pd.DataFrame(rows)
    return table.assign(ruled_out=table["error"] > candidates["error"].min() + tie)
