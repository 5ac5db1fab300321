"""Which readings explain the two rows of Table IV that need no training.

The question is settled without any training, by criteria that stand here before the search:

- A candidate's *error* is the worst of eight relative deviations: delay, energy, drop rate and load, of Random and of
  Round-Robin, from the printed rows, each a mean over episodes with a network of their own (no clocks are printed).
- Candidates whose error is larger than the smallest by no more than the numbers differ between networks explain the
  rows equally well. Of those under which some rule reaches TOPPO's row, so that it is possible at all, the one with
  the fewest departures from `balanced` is taken (rule 3 of the ledger). Those of them that come within `ALIKE` of the
  smallest error are told apart by nothing.
"""

import itertools
from collections.abc import Callable
from functools import lru_cache
from typing import Any

import numpy as np
import pandas as pd
from joblib import Parallel, delayed

from aiecof.agents.policies import evaluate, record_actions
from aiecof.agents.rules import make_policy
from aiecof.study.grids import UNTRAINED
from aiecof.study.paper import COLUMNS, NAMES, printed_rows
from aiecof.system.scenario import READINGS, Readings, Scenario, TaskKind, load_scenario
from aiecof.system.simulator import Simulator
from aiecof.system.workload import Trace, draw_trace

EXPLAINED, ALIKE = 0.25, 1e-3
COARSE, FINE, ATTEMPT = 3, 40, 10
"""Episodes a candidate: in the first pass, for those that are left, and for rules on those that explain the rows."""
ATTEMPTS: tuple[tuple[str, dict[str, float]], ...] = (
    ("always-local", {}),
    ("greedy", {}),
    ("frugal", {}),
    *(("mixture-power-of-two", {"local_probability": share}) for share in (0.75, 0.8, 0.85, 0.9)),
)
"""Rules that try for TOPPO's row, whose load of .79 stands for about four local tasks in five."""

FAMILIES: dict[str, tuple[str, tuple[float, ...]]] = {
    "a: cycles a task, as printed": ("per_task", (1.0,)),
    "b: 200-300 cycles/bit": ("per_bit", (0.1e-6,)),
    "c: 2000-3000 cycles/bit": ("per_bit", (1e-6,)),
    "d: cycles a task, scaled": ("per_task", (0.12, 0.15, 0.18, 0.22, 0.27)),
    "e: cycles/bit, scaled": ("per_bit", (0.025e-6, 0.032e-6, 0.04e-6, 0.055e-6)),
}
"""Family of a workload -> how Table III's range is read, and factors on it (1e-6 turns the printed mega away)."""

CONSTANTS: dict[str, tuple[Any, ...]] = {
    "tau_max_slots": (5, 6, 7, 8, 10, 14, 20),
    "largest_size": (8e6, 10e6),
}
DYNAMICS = ("device_rounding", "server_rounding", "transmission_rounding", "channel_queue", "edge_wait_from")
DYNAMICS += ("drop_rule", "in_flight", "dropped_energy")
MEASURES = ("delay_mean", "energy_mean", "load", "load_mean")
SEARCHED = ("family", *CONSTANTS, *DYNAMICS, *MEASURES)


def candidate_scenario(candidate: dict[str, Any]) -> Scenario:
    """The scenario of a candidate: `workload_scale` and a value for each of `SEARCHED`."""
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


@lru_cache(maxsize=64)
def _trace(workload: str, scale: float, largest: float, episodes: int) -> Trace:
    kinds = (TaskKind("uniform", (2e6, largest)),)
    scenario = load_scenario("balanced", workload=workload, workload_scale=scale, task_kinds=kinds, network="episode")
    return draw_trace(scenario, episodes, split="reference")


@lru_cache(maxsize=8)
def _untrained_actions(episodes: int) -> np.ndarray:
    """(2, B, T, M): what Random and Round-Robin do; neither looks at anything but who has a task."""
    scenario = load_scenario("balanced", network="episode")
    trace = draw_trace(scenario, episodes, split="reference")
    return np.stack([record_actions(make_policy(name, scenario), scenario, trace) for name in UNTRAINED])


def _play(candidate: dict[str, Any], actions: np.ndarray, episodes: int) -> list[Simulator]:
    """The candidate's simulators after each of the (K, B, T, M) actions."""
    scenario = candidate_scenario(candidate)
    workload, _ = FAMILIES[candidate["family"]]
    trace = _trace(workload, candidate["workload_scale"], candidate["largest_size"], episodes)
    simulators = []
    for chosen in actions:
        simulators.append(Simulator(scenario))
        simulators[-1].run(trace, chosen)
    return simulators


@lru_cache(maxsize=1)
def _untrained_rows() -> np.ndarray:
    return printed_rows().loc[[NAMES[name] for name in UNTRAINED], list(COLUMNS)].to_numpy()


def _deviations(simulators: list[Simulator], way: Readings) -> np.ndarray:
    """(4,): worst relative deviation of Random and Round-Robin from the printed rows, by column."""
    metrics = [simulator.metrics(way) for simulator in simulators]
    ours = np.array([[entry[name].mean() for name in COLUMNS] for entry in metrics])
    return np.abs(ours / _untrained_rows() - 1.0).max(axis=0)


MEANS = {mean: Readings(delay_mean=mean, energy_mean=mean) for mean in READINGS["delay_mean"]}
LOADS = {
    (load, mean): Readings(load=load, load_mean=mean)
    for load, mean in (("busy_share", "slots"), ("busy_share", "decisions"), ("local_share", "decisions"))
}
LITERAL = {("literal", mean): Readings(load="literal", load_mean=mean) for mean in READINGS["load_mean"]}


def candidate_errors(candidate: dict[str, Any], episodes: int, literal: bool = True) -> list[dict[str, Any]]:
    """The errors of a choice of dynamics and constants under every way to measure; one row a way.

    Only the literal load (12) changes a run, so two runs serve all ways.
    """
    actions = _untrained_actions(episodes)
    busy = _play(candidate | {"load": "busy_share"}, actions, episodes)
    means = {mean: _deviations(busy, way) for mean, way in MEANS.items()}
    loads = {name: _deviations(busy, way)[3] for name, way in LOADS.items()}
    if literal:
        other = _play(candidate | {"load": "literal"}, actions, episodes)
        loads |= {name: _deviations(other, way)[3] for name, way in LITERAL.items()}
    rows = []
    for delay, energy, load in itertools.product(MEANS, MEANS, loads):
        errors = [means[delay][0], means[energy][1], means[delay][2], loads[load]]
        ways = dict(zip(MEASURES, (delay, energy, *load), strict=True))
        rows.append(candidate | ways | dict(zip(_ERRORS, errors, strict=True)) | {"error": max(errors)})
    return rows


_ERRORS = [f"error_{name}" for name in COLUMNS]


def departures(candidates: pd.DataFrame) -> pd.Series:
    """How many readings differ from those of `balanced`."""
    balanced = load_scenario("balanced").readings
    return sum((candidates[name] != getattr(balanced, name)).astype(int) for name in (*DYNAMICS, *MEASURES))


def _first_pass(block: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The best way to measure of each candidate, literal loads left out."""
    return [min(candidate_errors(c, COARSE, literal=False), key=lambda row: row["error"]) for c in block]


def _refine(candidate: dict[str, Any]) -> pd.DataFrame:
    """Every way to measure, and workloads around the candidate's where its family leaves them open."""
    factors = (0.9, 0.95, 1.0, 1.05, 1.1) if "scaled" in candidate["family"] else (1.0,)
    scale = candidate["workload_scale"]
    rows = pd.DataFrame(
        row for f in factors for row in candidate_errors(candidate | {"workload_scale": scale * f}, FINE)
    )
    return rows[rows["error"] <= max(EXPLAINED, rows["error"].min())]


def search(jobs: int = 1, progress: Callable[[int, int], None] = lambda done, total: None) -> pd.DataFrame:
    """Every candidate of the first pass, the best of each family and of each value once more with more episodes.

    Returns the second pass: one row a candidate and way to measure that explains the rows, or comes nearest in its
    first-pass neighbourhood; columns `SEARCHED`, workload_scale, the errors and departures, best first.
    """
    grid = [
        dict(zip(("family", "workload_scale", *CONSTANTS, *DYNAMICS), (family, *values), strict=True))
        for family, (_, scales) in FAMILIES.items()
        for values in itertools.product(scales, *CONSTANTS.values(), *(READINGS[name] for name in DYNAMICS))
    ]
    blocks = [grid[start : start + 500] for start in range(0, len(grid), 500)]
    found: list[dict[str, Any]] = []
    parallel = Parallel(n_jobs=jobs, return_as="generator")
    for done, rows in enumerate(parallel(delayed(_first_pass)(block) for block in blocks)):
        found += rows
        progress(done + 1, len(blocks))
    coarse = pd.DataFrame(found).sort_values("error", kind="stable")
    left = [coarse.head(300), coarse.groupby("family").head(20)]
    left += [coarse.groupby(name).head(10) for name in (*CONSTANTS, *DYNAMICS)]
    chosen = pd.concat(left).drop(columns=[*_ERRORS, "error", *MEASURES]).drop_duplicates()
    refined = pd.concat(Parallel(n_jobs=jobs)(delayed(_refine)(row) for row in chosen.to_dict("records")))
    refined["departures"] = departures(refined)
    return refined.sort_values(["error", "departures"], kind="stable").reset_index(drop=True)


def _network_spread(candidate: dict[str, Any]) -> float:
    """Largest relative standard deviation of the eight numbers between networks: a printed row has one network."""
    metrics = [simulator.metrics() for simulator in _play(candidate, _untrained_actions(FINE), FINE)]
    return float(max(entry[name].std(ddof=1) / entry[name].mean() for entry in metrics for name in COLUMNS))


def _rows_of_rules(candidate: dict[str, Any], ways: list[Readings]) -> np.ndarray:
    """(rules, ways, 4): means of `COLUMNS` of the rules in `ATTEMPTS`."""
    scenario = candidate_scenario(candidate)
    trace = draw_trace(scenario, ATTEMPT, split="reference")
    rows = []
    for name, parameters in ATTEMPTS:
        played = evaluate(make_policy(name, scenario, **parameters), scenario, trace)
        metrics = [played.metrics(way) for way in ways]
        rows.append([[entry[column].mean() for column in COLUMNS] for entry in metrics])
    return np.array(rows)


def _attainable(group: pd.DataFrame) -> pd.DataFrame:
    """What rules make of the row of TOPPO under candidates that share their dynamics."""
    target = printed_rows().loc["TOPPO", list(COLUMNS)].to_numpy()
    ways = [Readings(**row) for row in group[list(MEASURES)].to_dict("records")]
    ours = _rows_of_rules(group.iloc[0].to_dict() | {"load": ways[0].load}, ways)
    short = ((ours / target - 1.0) * (1.0, 1.0, 1.0, -1.0)).max(axis=2)
    names = [" ".join([name, *map(str, parameters.values())]) for name, parameters in ATTEMPTS]
    nearest = pd.DataFrame({"nearest_rule": [names[i] for i in short.argmin(axis=0)], "short": short.min(axis=0)})
    local = pd.DataFrame(ours[0], columns=[f"local_{name}" for name in COLUMNS]).assign(local_wins=short[0] <= 0.0)
    return pd.concat([group.reset_index(drop=True), nearest, local], axis=1)


def attainability(candidates: pd.DataFrame, jobs: int = 1) -> pd.DataFrame:
    """The candidates that explain the untrained rows as well as the best, and what rules make of TOPPO's row there.

    Adds nearest_rule and short: the rule of `ATTEMPTS` that comes nearest, and how far its worst column stays behind
    TOPPO's (0 or less: the row is attainable); local_delay ... local_load, and local_wins: whether the policy that
    never offloads is as good in all four columns.
    """
    tie = _network_spread(candidates.iloc[0].to_dict())
    tied = candidates[candidates["error"] <= candidates["error"].min() + tie].assign(tie=tie)
    shared = ["family", "workload_scale", *CONSTANTS, *DYNAMICS]
    literal = tied["load"] == "literal"
    groups = [group for _, group in tied.groupby([*shared, literal])]
    return pd.concat(Parallel(n_jobs=jobs)(delayed(_attainable)(group) for group in groups), ignore_index=True)


def choose(tied: pd.DataFrame) -> pd.DataFrame:
    """The candidates that the criterion takes, of those that `attainability` judged; best first, all alike to it."""
    left = tied[tied["short"] <= 0.0]
    fewest = left[left["departures"] == left["departures"].min()].sort_values("error", kind="stable")
    return fewest[fewest["error"] <= fewest["error"].iloc[0] + ALIKE]


def best_of_families(candidates: pd.DataFrame, count: int = 5) -> pd.DataFrame:
    """The best few candidates of each family of workloads, with their errors."""
    return candidates.groupby("family", sort=True).head(count).sort_values(["family", "error"], kind="stable")


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


def local_capacity(scenario: Scenario, episodes: int = FINE) -> float:
    """Largest share of the arriving work that the devices can do within an episode, each its own."""
    trace = draw_trace(scenario.replace(network="episode"), episodes, split="reference")
    work = (trace.size * trace.density).sum(axis=1)
    able = trace.device_frequency * scenario.slots * scenario.slot_duration
    return float(np.minimum(work, able).sum() / work.sum())
