"""Which readings explain the two rows of Table IV that need no training, and which of them stand for the rest.

The question is settled without any training, by rules that stand here before the search:

- A *candidate* is a system (workload, constants, readings that move tasks), what is measured there, and what the two
  rules do (R34). Its *error* is the worst of eight relative deviations: delay, energy, drop rate and load, of Random
  and of Round-Robin, from the printed rows, each a mean over episodes with a network of their own (no clocks are
  printed).
- Its *departures* are the readings in which it differs from `balanced`, R34's included, after every reading has been
  put back, one after another, whose return changes none of the eight numbers (`plain`). Constants are no departures:
  the paper prints no value that they could depart from.
- Candidates whose error is larger than the smallest by no more than the numbers differ between networks explain the
  two rows equally well: they are *tied*. Nothing else is asked of them, above all not whether a rule reaches TOPPO's
  row; that is reported.
- The seven learned rows are evidence beside: each is compared with a coin that keeps a task with one probability, the
  same for all devices and free for every row, and otherwise takes any server. A row's error is the worst of its four
  relative deviations, at the probability that makes it smallest. So no method is favoured.
- Two tied candidates stand for all. `NEAREST` has the fewest departures, and of those the smallest error. `CLOSEST` has
  the smallest worst error over all nine rows. If they are one, the next by the same rule is `CLOSEST` whose readings
  that move tasks differ.
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
from aiecof.study.grids import LEARNED
from aiecof.study.paper import COLUMNS, NAMES, printed_rows
from aiecof.system.scenario import READINGS, Readings, Scenario, TaskKind, load_scenario
from aiecof.system.simulator import Simulator
from aiecof.system.workload import Trace, draw_trace

EXPLAINED, KEPT = 0.25, 0.16
"""Largest error of Random's row alone that gets a candidate into the second pass; and of both rows that is kept."""
COARSE, FINE, JUDGED = 3, 40, 10
"""Episodes a candidate: in the first pass, in the second, and for coins and rules on the tied ones."""
Rule = tuple[str, dict[str, Any]]
ATTEMPTS: tuple[Rule, ...] = (
    ("always-local", {}),
    ("greedy", {}),
    ("frugal", {}),
    *(("mixture-power-of-two", {"local_probability": share}) for share in (0.75, 0.8, 0.85, 0.9)),
)
"""Rules that try for TOPPO's row, whose load of .79 stands for about four local tasks in five."""
SHARES = np.linspace(0.5, 1.0, 26)
COINS: tuple[Rule, ...] = tuple(("mixture-random", {"local_probability": float(share)}) for share in SHARES)

FAMILIES: dict[str, tuple[str, tuple[float, ...]]] = {
    "a: cycles a task, as printed": ("per_task", (1.0,)),
    "b: 200-300 cycles/bit": ("per_bit", (0.1e-6,)),
    "c: 2000-3000 cycles/bit": ("per_bit", (1e-6,)),
    "d: cycles a task, scaled": ("per_task", (0.12, 0.15, 0.18, 0.22, 0.27, 0.33)),
    "e: cycles/bit, scaled": ("per_bit", (0.02e-6, 0.025e-6, 0.032e-6, 0.04e-6, 0.055e-6, 0.067e-6)),
}
"""Family of a workload -> how Table III's range is read, and factors on it (1e-6 turns the printed mega away)."""
FACTORS = (0.9, 0.95, 1.0, 1.05, 1.1)
"""Around the factor of a family that is scaled, in the second pass."""

CONSTANTS: dict[str, tuple[Any, ...]] = {
    "tau_max_slots": (5, 6, 7, 8, 10, 14, 20),
    "largest_size": (8e6, 10e6),
}
DYNAMICS = ("device_rounding", "server_rounding", "transmission_rounding", "channel_queue", "edge_wait_from")
DYNAMICS += ("drop_rule", "in_flight", "dropped_energy")
BOOKED = ("edge_wait_from", "in_flight", "dropped_energy")
"""Of these, the ones that move no task, as long as the end of an episode is no deadline."""
MEASURES = ("delay_mean", "energy_mean", "load", "load_mean")
LITERAL = ("literal", "literal_seconds")
CHOICES = {"levels": (1, 2), "places": CIRCLES, "order": ORDERS}
"""Random's levels (`rules.Random`) and Round-Robin's circle (`rules.RoundRobin`); `balanced` takes the first."""
SYSTEM = ("family", "workload_scale", *CONSTANTS, *DYNAMICS)
SEARCHED = ("family", *CONSTANTS, *DYNAMICS, *MEASURES, *CHOICES)
NEAREST, CLOSEST = "nearest", "closest"
BALANCED: dict[str, Any] = {
    **{name: getattr(load_scenario("balanced").readings, name) for name in (*DYNAMICS, *MEASURES)},
    **{name: values[0] for name, values in CHOICES.items()},
}

# What `_table` measures of a run: the two means in each reading, the drop rate, and the load in each.
_MEANS = READINGS["delay_mean"]
_LOADS = tuple(itertools.product(READINGS["load"], READINGS["load_mean"]))
WAYS = [(delay, energy, *load) for delay in _MEANS for energy in _MEANS for load in _LOADS]
"""Every way to measure: values of `MEASURES`."""
_DROP = 2 * len(_MEANS)
_COLUMNS = np.array(
    [
        (_MEANS.index(d), len(_MEANS) + _MEANS.index(e), _DROP, _DROP + 1 + _LOADS.index((*load,)))
        for d, e, *load in WAYS
    ]
)
_RANDOM: tuple[Rule, ...] = tuple(("random", {"levels": levels}) for levels in CHOICES["levels"])
_CIRCLES = tuple(itertools.product(CHOICES["places"], CHOICES["order"]))
_ROUND_ROBIN: tuple[Rule, ...] = tuple(("round-robin", {"places": p, "order": o}) for p, o in _CIRCLES)
_UNTRAINED = _RANDOM + _ROUND_ROBIN


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


@lru_cache(maxsize=16)
def _trace(family: str, scale: float, largest: float, episodes: int, times: int) -> Trace:
    """Episodes of a workload, all of them `times` times."""
    kinds = (TaskKind("uniform", (2e6, largest)),)
    changes = {"workload": FAMILIES[family][0], "workload_scale": scale, "task_kinds": kinds, "network": "episode"}
    trace = draw_trace(load_scenario("balanced", **changes), episodes, split="reference")
    return Trace(**{name: np.concatenate([values] * times) for name, values in vars(trace).items()})


@lru_cache(maxsize=8)
def _blind_actions(rules: tuple[str, ...], episodes: int) -> np.ndarray:
    """(K, B, T, M): what rules do that look at nothing but who has a task; their names are in `_BLIND`."""
    scenario = load_scenario("balanced", network="episode")
    trace = draw_trace(scenario, episodes, split="reference")
    return np.stack([record_actions(make_policy(n, scenario, **p), scenario, trace) for n, p in map(_BLIND.get, rules)])


_BLIND = {str(rule): rule for rule in (*_UNTRAINED, *COINS)}


def _simulate(candidate: dict[str, Any], actions: np.ndarray) -> Simulator:
    """The candidate's simulator after all of the (K, B, T, M) actions, as K x B replicas."""
    count, episodes = actions.shape[:2]
    workload = (candidate["family"], candidate["workload_scale"], candidate["largest_size"])
    simulator = Simulator(candidate_scenario(candidate))
    simulator.run(_trace(*workload, episodes, count), actions.reshape(-1, *actions.shape[2:]))
    return simulator


def _table(candidate: dict[str, Any], actions: np.ndarray, literal: bool) -> np.ndarray:
    """(K, B, columns): everything that `WAYS` measure, for each of (K, B, T, M) actions, in each episode.

    The literal loads (12) each take a run of their own; they are infinite if they are not asked for.
    """
    busy = _simulate(candidate | {"load": "busy_share"}, actions)
    found = [busy.metrics(Readings(delay_mean=mean))["delay"] for mean in _MEANS]
    found += [busy.metrics(Readings(energy_mean=mean))["energy"] for mean in _MEANS]
    found.append(busy.metrics()["drop_rate"])
    runs = {"busy_share": busy, "local_share": busy}
    if literal:
        runs |= {load: _simulate(candidate | {"load": load}, actions) for load in LITERAL}
    for load, mean in _LOADS:
        way = Readings(load=load, load_mean=mean)
        found.append(runs[load].metrics(way)["load"] if load in runs else np.full(len(busy.totals), np.inf))
    return np.stack(found, axis=-1).reshape(*actions.shape[:2], -1)


def _blind(candidate: dict[str, Any], rules: tuple[Rule, ...], episodes: int, literal: bool) -> np.ndarray:
    """`_table` of rules that look at nothing, in the mean over episodes: (K, columns)."""
    return _table(candidate, _blind_actions(tuple(map(str, rules)), episodes), literal).mean(axis=1)


@lru_cache(maxsize=1)
def _printed() -> pd.DataFrame:
    """The printed rows, by our names of the methods."""
    return printed_rows().rename({theirs: ours for ours, theirs in NAMES.items()})[list(COLUMNS)].astype(float)


def _deviations(table: np.ndarray, method: str) -> np.ndarray:
    """Relative deviations of (K, columns) from a printed row, every way: (K, ways, 4)."""
    return np.abs(table[:, _COLUMNS] / _printed().loc[method].to_numpy() - 1.0)


def candidate_errors(candidate: dict[str, Any], episodes: int, literal: bool = True) -> pd.DataFrame:
    """The errors of a system under every way to measure and every choice of the two rules.

    One row each: `SEARCHED`, workload_scale, error_delay ... error_load (the worse of the two rules) and error.
    """
    table = _blind(candidate, _UNTRAINED, episodes, literal)
    random, turns = _deviations(table[: len(_RANDOM)], "random"), _deviations(table[len(_RANDOM) :], "round-robin")
    errors = np.maximum(random[:, None], turns[None])
    level, circle, way = np.indices(errors.shape[:3]).reshape(3, -1)
    columns = {name: candidate[name] for name in SYSTEM}
    columns |= dict(zip(MEASURES, np.array(WAYS, object)[way].T, strict=True))
    columns |= {"levels": np.array(CHOICES["levels"])[level]}
    columns |= dict(zip(("places", "order"), np.array(_CIRCLES, object)[circle].T, strict=True))
    columns |= dict(zip(_ERRORS, errors.reshape(-1, len(COLUMNS)).T, strict=True))
    return pd.DataFrame(columns | {"error": errors.max(axis=-1).ravel()})


_ERRORS = [f"error_{name}" for name in COLUMNS]


def _first_pass(block: list[dict[str, Any]]) -> pd.DataFrame:
    """The smallest error of Random's row alone, with each of its levels and each load; no error can be smaller."""
    rows = []
    for candidate in block:
        errors = _deviations(_blind(candidate, _RANDOM, COARSE, False), "random")
        if errors[..., :3].max(axis=-1).min() <= EXPLAINED:
            errors = _deviations(_blind(candidate, _RANDOM, COARSE, True), "random")
        worst = pd.DataFrame(errors.max(axis=-1), CHOICES["levels"], [way[2] for way in WAYS])
        rows.append(worst.min().groupby(level=0).min().to_dict() | worst.min(axis=1).to_dict())
    return pd.concat([pd.DataFrame(block), pd.DataFrame(rows)], axis=1)


def _second_pass(candidate: dict[str, Any]) -> pd.DataFrame:
    """Workloads around the candidate's where its family leaves them open: what explains the rows, and the best of each
    value."""
    factors = FACTORS if "scaled" in candidate["family"] else (1.0,)
    literal = min(candidate[load] for load in LITERAL) <= EXPLAINED or candidate["literal_head"]
    changed = [candidate | {"workload_scale": candidate["workload_scale"] * factor} for factor in factors]
    rows = pd.concat([candidate_errors(entry, FINE, literal) for entry in changed], ignore_index=True)
    best = pd.concat([rows.groupby(name)["error"].idxmin() for name in (*MEASURES, *CHOICES)])
    return rows.loc[rows.index.isin(best) | (rows["error"] <= KEPT)]


def search(jobs: int = 1, progress: Callable[[int, int], None] = lambda done, total: None) -> pd.DataFrame:
    """Every candidate of the first pass; those that are left, and the best of each value, with more episodes.

    Returns the second pass: one row a candidate that explains the rows, or comes nearest with one of its values in
    its neighbourhood; columns as of `candidate_errors`, best first.
    """
    grid = [
        dict(zip(SYSTEM, (family, *values), strict=True))
        for family, (_, scales) in FAMILIES.items()
        for values in itertools.product(scales, *CONSTANTS.values(), *(READINGS[name] for name in DYNAMICS))
    ]
    blocks = [grid[start : start + 500] for start in range(0, len(grid), 500)]
    parallel, found = Parallel(n_jobs=jobs, return_as="generator"), []
    for rows in parallel(delayed(_first_pass)(block) for block in blocks):
        found.append(rows)
        progress(len(found), 2 * len(blocks))
    coarse = pd.concat(found, ignore_index=True)
    bounds = [*READINGS["load"], *CHOICES["levels"]]
    coarse["bound"] = coarse[bounds].min(axis=1)
    heads = [coarse.nsmallest(10, bound, keep="first") for bound in bounds]
    coarse["literal_head"] = coarse.index.isin(pd.concat(heads).index)
    ranked = coarse.sort_values("bound", kind="stable")
    left = [*heads, coarse[coarse["bound"] <= EXPLAINED], ranked.groupby("family").head(20)]
    left += [ranked.groupby(name).head(10) for name in (*CONSTANTS, *DYNAMICS)]
    names = pd.concat(left).index.unique().sort_values()
    chosen, found = coarse.loc[names].to_dict("records"), []
    for rows in parallel(delayed(_second_pass)(row) for row in chosen):
        found.append(rows)
        progress(len(blocks) + len(found) * len(blocks) // len(chosen), 2 * len(blocks))
    return pd.concat(found).sort_values("error", kind="stable").reset_index(drop=True)


def _eight(candidate: dict[str, Any]) -> np.ndarray:
    """(2, 4): what Random and Round-Robin come to under a candidate, in a few episodes."""
    values = tuple(candidate[name] for name in SYSTEM)
    table = _untrained_table(values, candidate["load"] in LITERAL)
    pair = [CHOICES["levels"].index(candidate["levels"])]
    pair.append(len(_RANDOM) + _CIRCLES.index((candidate["places"], candidate["order"])))
    return table[pair][:, _COLUMNS[WAYS.index(tuple(candidate[name] for name in MEASURES))]]


@lru_cache(maxsize=4096)
def _untrained_table(values: tuple[Any, ...], literal: bool) -> np.ndarray:
    return _blind(dict(zip(SYSTEM, values, strict=True)), _UNTRAINED, COARSE, literal)


def plain(candidate: dict[str, Any]) -> dict[str, Any]:
    """The candidate with the readings of `balanced` wherever they change none of its eight numbers.

    Departures that are left each change one, so that one without effect is not counted.
    """
    numbers = _eight(candidate)
    for name, usual in BALANCED.items():
        back = candidate | {name: usual}
        if candidate[name] != usual and np.allclose(_eight(back), numbers, rtol=1e-9, atol=0.0):
            candidate = back
    return candidate


def departures(candidates: pd.DataFrame) -> pd.Series:
    """How many readings differ from those of `balanced`, that of the workload included."""
    changed = sum((candidates[name] != usual).astype(int) for name, usual in BALANCED.items())
    return changed + candidates["family"].map(lambda family: int(FAMILIES[family][0] != "per_task"))


def _network_spread(candidate: dict[str, Any]) -> float:
    """Largest relative standard deviation of the eight numbers between networks: a printed row has one network."""
    rules = (("random", {"levels": candidate["levels"]}),)
    rules += (("round-robin", {name: candidate[name] for name in ("places", "order")}),)
    table = _table(candidate, _blind_actions(tuple(map(str, rules)), FINE), candidate["load"] in LITERAL)
    numbers = table[..., _COLUMNS[WAYS.index(tuple(candidate[name] for name in MEASURES))]]
    return float((numbers.std(axis=1, ddof=1) / numbers.mean(axis=1)).max())


def equals(candidates: pd.DataFrame, jobs: int = 1) -> pd.DataFrame:
    """The candidates that explain the untrained rows as well as the best, each `plain` and once; adds tie, departures.

    Ordered by departures, then error.
    """
    tie = _network_spread(candidates.loc[candidates["error"].idxmin()].to_dict())
    tied = candidates[candidates["error"] <= candidates["error"].min() + tie]
    groups = [group for _, group in tied.groupby(["family", "workload_scale", *CONSTANTS])]
    found = pd.concat(Parallel(n_jobs=jobs)(delayed(_all_plain)(group) for group in groups))
    found = found.sort_values("error", kind="stable").drop_duplicates(["workload_scale", *SEARCHED])
    found = found.assign(tie=tie, departures=departures(found))
    return found.sort_values(["departures", "error"], kind="stable").reset_index(drop=True)


def _all_plain(group: pd.DataFrame) -> pd.DataFrame:
    return pd.DataFrame([plain(row) for row in group.to_dict("records")])


_FINER = np.linspace(SHARES[0], SHARES[-1], 501)
_BETWEEN = np.stack([np.interp(_FINER, SHARES, corner) for corner in np.eye(len(SHARES))], axis=1)


def fit_shares(coins: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The share at home with which a coin comes nearest to each learned row, and the worst deviation that is left.

    coins : (len(SHARES), ways, 4) float
        What coins come to, by their share.

    Returns two arrays, (rows of `LEARNED`, ways); between the shares that were played everything is a straight line.
    """
    curve = np.tensordot(_BETWEEN, coins, 1)
    rows = _printed().loc[list(LEARNED)].to_numpy()
    left = np.stack([np.abs(curve / row - 1.0).max(axis=-1) for row in rows])
    return _FINER[left.argmin(axis=1)], left.min(axis=1)


def _judge(group: pd.DataFrame, played: np.ndarray) -> pd.DataFrame:
    """What coins make of the learned rows, and the `ATTEMPTS` of TOPPO's, under candidates of one system."""
    candidate, literal = group.iloc[0].to_dict(), bool(group["load"].isin(LITERAL).any())
    ways = _COLUMNS[[WAYS.index(way) for way in group[list(MEASURES)].itertuples(index=False, name=None)]]
    share, error = fit_shares(_blind(candidate, COINS, JUDGED, literal)[:, ways])
    ours = _table(candidate, played, literal).mean(axis=1)[:, ways]
    short = ((ours / _printed().loc["toppo"].to_numpy() - 1.0) * (1.0, 1.0, 1.0, -1.0)).max(axis=2)
    names = [" ".join([name, *map(str, parameters.values())]) for name, parameters in ATTEMPTS]
    columns = {f"share_{method}": share[i] for i, method in enumerate(LEARNED)}
    columns |= {f"error_{method}": error[i] for i, method in enumerate(LEARNED)}
    columns |= {"error_nine": np.maximum(error.max(axis=0), group["error"])}
    columns |= {"nearest_rule": [names[i] for i in short.argmin(axis=0)], "short": short.min(axis=0)}
    columns |= {f"local_{name}": ours[0, :, i] for i, name in enumerate(COLUMNS)}
    return group.assign(**columns, local_wins=short[0] <= 0.0)


def _judge_alike(group: pd.DataFrame) -> pd.DataFrame:
    """`_judge` of candidates whose tasks move alike, so that rules decide alike."""
    scenario = candidate_scenario(group.iloc[0].to_dict())
    trace = draw_trace(scenario, JUDGED, split="reference")
    played = np.stack([record_actions(make_policy(n, scenario, **p), scenario, trace) for n, p in ATTEMPTS])
    return pd.concat([_judge(entry, played) for _, entry in group.groupby(list(BOOKED))])


def judge(tied: pd.DataFrame, jobs: int = 1) -> pd.DataFrame:
    """The tied candidates with what rules make of the learned rows there.

    Adds, for each method m of `LEARNED`, share_m and error_m (`fit_shares`), and error_nine, the worst of all nine
    rows; nearest_rule and short: the rule of `ATTEMPTS` that comes nearest to TOPPO's row, and how far its worst column
    stays behind (0 or less: the row is attainable); local_delay ... local_load, and local_wins: whether the policy that
    never offloads is as good as that row in all four columns.
    """
    alike = [tied[name] for name in SYSTEM if name not in BOOKED]
    groups = [group for _, group in tied.groupby([*alike, tied["in_flight"] == "drop"])]
    return pd.concat(Parallel(n_jobs=jobs)(delayed(_judge_alike)(group) for group in groups)).sort_index()


def representatives(judged: pd.DataFrame) -> pd.DataFrame:
    """The two candidates that stand for all, by the rules at the top: rows `NEAREST` and `CLOSEST`."""
    nearest = judged.sort_values(["departures", "error"], kind="stable").iloc[0]
    ranked = judged.sort_values("error_nine", kind="stable")
    if ranked.index[0] == nearest.name:
        ranked = ranked[(ranked[list(DYNAMICS)] != nearest[list(DYNAMICS)]).any(axis=1)]
    return pd.DataFrame([nearest, ranked.iloc[0]], [NEAREST, CLOSEST])


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
