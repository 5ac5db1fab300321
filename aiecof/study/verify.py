"""Computing committed trials again, and what it means if they come out otherwise.

A rule and a bound have to come out *equal*, to `EQUAL`, and so does a training on the processor that is recorded.
Another processor rounds otherwise. That changes nothing until one device decides otherwise for it; there the two
trainings part, and up to there their curves are the same to the last digit. So three cases are told apart:

- They part within the `FIRST` episodes: it is another training, and it *differs*.
- They never part: then the policies are alike, and their metrics are *equal*, or *plausible* if no more than a decision
  of the held-out episodes can have turned (`TURNED`).
- They part later: *plausible* if the record agrees with the new training and with itself. With the training: for
  sampled actions, which the curve shows, Hotelling's test asks whether the seven differences belong to those that the
  curves have once they have parted; for greedy actions, each difference has to be within the spread of the cell's other
  seeds or of the curves. With itself: the held-out metrics go together as they do along the record's own curve (`odd`).

A genuine training comes out as *differs* in about `ERROR_RATE` of the trials that part, by each of the two (the second
more often on `balanced`, less elsewhere). Those of a cell are also judged together, by Fisher's method, at the same
rate. *Plausible* is no proof: trainings that have parted may end far apart, and metrics of another method that go
together pass, and so may those of greedy actions. Only a processor like the recorded one tells.
"""

import hashlib
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from scipy.special import chdtrc, fdtrc, stdtr

from aiecof.checks import InvalidInput, check_calls, check_integer
from aiecof.metrics import METRICS
from aiecof.study import experiments
from aiecof.study.experiments import trials_of
from aiecof.study.grids import EVALUATION
from aiecof.study.runner import MADE_BY, compute, made_by, run_trial, runs_folder, shown_in_tables
from aiecof.study.store import code_state, looking_at, read_table

EQUAL, TURNED, ERROR_RATE = 1e-6, 1e-3, 0.01
"""Largest relative difference of equal numbers, and of such between which one decision has turned; share of false
alarms."""
FIRST = {"sampled": 1, "greedy": 2}
"""Kind of action that counts -> first training episodes that have to be equal. An actor's sampled actions turn soon: of
32 trials computed on two processors PPO parted from episode 2 on, A2C from 7 on. A value network's turn only where two
values nearly tie: from episode 15 on."""
ENOUGH, LOOSE = 20, 0.05
"""Episodes that tell how far apart trainings are; share of a metric's variance that no other metric explains."""
BLOCK, RIDGE, ODD = 5, 1e-6, 7.0
"""Episodes of a curve that are taken together; what is added to the variances of their means; standard errors that one
metric may lie from what the others say of it: all but one in a hundred of the committed trainings keep to that."""
OUTCOMES = ("equal", "plausible", "differs")
TOGETHER = "with the others of its cell too far apart"


class Record(NamedTuple):
    """What results hold of a trial.

    rows : DataFrame
        Its metrics in every table, by kind of action.
    curve : (episodes, metrics) float
        Empty for what is not trained.
    others : DataFrame
        The metrics of the same training with other seeds, by kind of action.
    made_by : dict
        Versions, processor and threads, as `runner.made_by` says them, as far as they were recorded.
    """

    rows: pd.DataFrame
    curve: np.ndarray
    others: pd.DataFrame
    made_by: dict[str, str] = {}


class Judgement(NamedTuple):
    """How a trial came out again.

    difference : float
        Largest difference of a metric, relative to the mean of the two; 2 where only one has a number.
    parted : int or None
        First training episode that differs.
    chance : float
        Of a difference as large between two genuine trainings; NaN where that is not the question.
    outcome : str
        One of `OUTCOMES`.
    why : str
        What speaks against it; empty if nothing does.
    """

    difference: float
    parted: int | None
    chance: float
    outcome: str
    why: str = ""


def relative(first: Any, second: Any) -> np.ndarray:
    """Differences over the mean size of the two, within [-2, 2]; 0 for two NaN, 2 where only one is NaN."""
    first, second = np.asarray(first, float), np.asarray(second, float)
    alike = (first == second) | (np.isnan(first) & np.isnan(second))
    size = np.where(alike, 1.0, (np.abs(first) + np.abs(second)) / 2)
    return np.nan_to_num(np.where(alike, 0.0, (first - second) / size), nan=2.0)


def hotelling(difference: np.ndarray, scatter: np.ndarray) -> float:
    """Chance of a difference at least as far from 0 as this one, given others that have the mean 0.

    difference : (metrics,) float
        Of what is judged from the mean of the others.
    scatter : (n, metrics) float
        Of the same kind. Too few to tell give 1. `LOOSE` is added to the variances of the metrics, taken in units of
        their own, since what one metric says of another holds nearly and not to the last digit.
    """
    spread = np.sqrt((scatter**2).sum(axis=0) / max(len(scatter), 1))
    known = spread > EQUAL
    n, p = len(scatter), int(known.sum())
    if (np.abs(difference[~known]) > EQUAL).any() and n > p + 1:
        return 0.0
    if n <= p + 1 or not p:
        return 1.0
    scaled, unit = scatter[:, known] / spread[known], difference[known] / spread[known]
    covariance = (scaled.T @ scaled / n + LOOSE * np.eye(p)) / (1.0 + LOOSE)
    return float(fdtrc(p, n - p, unit @ np.linalg.solve(covariance, unit) * (n - p) / (n * p)))


def odd(metrics: np.ndarray, curve: np.ndarray) -> float:
    """Largest distance of a held-out metric from what the others say of it along a curve, in standard errors.

    metrics : (metrics,) float
        In the order of `METRICS`. Left out: what is constant, and the reward, which may compare with a device's past.
    curve : (episodes, metrics) float
        How the means over `BLOCK` episodes depend on each other, linearly; too few to see it give 0.
    """
    blocks = curve[len(curve) % BLOCK :].reshape(-1, BLOCK, len(metrics)).mean(axis=1)
    centre, spread = blocks.mean(axis=0), blocks.std(axis=0)
    known = (spread > EQUAL * np.abs(centre)) & ~np.isnan(metrics) & (np.array([*METRICS]) != "reward")
    n, p = len(blocks), known.sum()
    if n < 2 * p or not p:
        return 0.0
    scaled, unit = (blocks - centre)[:, known] / spread[known], (metrics - centre)[known] / spread[known]
    precision = np.linalg.inv(scaled.T @ scaled / n + RIDGE * np.eye(p))
    distances = precision @ unit / np.sqrt(np.diag(precision))
    variances = BLOCK / EVALUATION + (1.0 + unit @ precision @ unit - distances**2) / n
    return float(np.max(np.abs(distances) / np.sqrt(variances)) * np.sqrt((n - p) / n))


def _among_seeds(difference: np.ndarray, others: np.ndarray, scatter: np.ndarray) -> float:
    """Chance of the largest difference, given the spread of other seeds or of the curves (Bonferroni over metrics)."""
    if len(others) < 3:
        return 1.0
    spread = relative(others, np.nanmean(others, axis=0)).std(axis=0, ddof=1) * np.sqrt(2.0)
    spread = np.maximum(spread, np.sqrt((scatter**2).mean(axis=0)) if len(scatter) else 0.0)
    sizes = np.abs(difference) / np.maximum(spread, EQUAL)
    return float(min(1.0, len(difference) * 2.0 * stdtr(len(others) - 1, -sizes.max())))


def _chance(record: Record, again: dict[str, Any], curve: np.ndarray, parted: int) -> float:
    """Of differences as large between two trainings that parted there; the smallest over the kinds of action."""
    scatter = relative(curve[parted:], record.curve[parted:])
    if len(scatter) < ENOUGH:  # then what changes from one late episode to the next, other tasks included
        late = record.curve[len(record.curve) // 2 :]
        scatter = relative(late[1:], late[:-1])
    chances = []
    for kind, metrics in again["actions"].items():
        values = np.array([metrics[name] for name in METRICS])
        others = record.others[record.others.index == kind].to_numpy(float)
        for row in relative(values, record.rows.loc[[kind]].to_numpy(float)):
            chances.append(hotelling(row, scatter) if kind == "sampled" else _among_seeds(row, others, scatter))
    return min(1.0, len(again["actions"]) * min(chances))


def judge(record: Record, again: dict[str, Any], learned: bool) -> Judgement:
    """Compare a trial as it is recorded with the result of computing it again.

    again : dict
        As `runner.run_trial` returns it.
    """
    after = pd.DataFrame(again["actions"]).T.reindex(columns=METRICS).reindex(record.rows.index)
    missing = set(again["actions"]) - set(record.rows.index)
    difference = 2.0 if missing else float(np.abs(relative(after, record.rows)).max())
    curve = pd.DataFrame(again.get("curve", {}), columns=list(METRICS)).astype(np.float32).to_numpy(float)
    if curve.shape != record.curve.shape:
        return Judgement(difference, 0, np.nan, "differs", "its curve has another length")
    apart = (np.abs(relative(curve, record.curve)) > EQUAL).any(axis=1)
    parted = int(apart.argmax()) if apart.any() else None
    if parted is not None and parted < FIRST[again["counts"]]:
        return Judgement(difference, parted, np.nan, "differs", "its first episodes are others")
    if difference <= EQUAL and parted is None:
        return Judgement(difference, None, np.nan, "equal")
    if missing or not learned:
        return Judgement(difference, parted, np.nan, "differs", "it has to be equal")
    if record.made_by == made_by():
        return Judgement(difference, parted, np.nan, "differs", "this processor is like the recorded one")
    if parted is None and difference <= TURNED:
        return Judgement(difference, None, 1.0, "plausible")
    if parted is None:
        return Judgement(difference, None, np.nan, "differs", "the same training, other metrics")
    chance = _chance(record, again, curve, parted)
    if any(odd(row, record.curve) > ODD for row in record.rows[record.rows.index == "sampled"].to_numpy(float)):
        return Judgement(difference, parted, chance, "differs", "its metrics do not go together as along its own curve")
    unlikely = chance < ERROR_RATE
    outcome, why = ("differs", "farther apart than trainings part") if unlikely else ("plausible", "")
    return Judgement(difference, parted, chance, outcome, why)


def together(table: pd.DataFrame) -> pd.DataFrame:
    """The same, where the plausible trials of a cell that together are not are said to differ (Fisher's method)."""
    table = table.copy()
    for _, rows in table[table["outcome"] == "plausible"].groupby("cell"):
        chance = chdtrc(2 * len(rows), -2.0 * np.log(rows["chance"].clip(lower=1e-300)).sum())
        if len(rows) > 1 and chance < ERROR_RATE:
            table.loc[rows.index, ["outcome", "why"]] = "differs", TOGETHER
    return table


class Recorded:
    """Results, read once: the trials that experiments declare, and a `Record` of each."""

    def __init__(self, results: Path | None = None):
        declared = experiments.experiments()
        with looking_at(results) as place:
            self.runs = read_table("runs.csv", place)
            curves = read_table("curves.parquet", place)
            tables = {name: read_table(f"{name}.csv", place) for name in declared}
        found = set(self.runs.get("run", []))
        self.trials = {run: trial for run, trial in trials_of(declared).items() if run in found}
        if not self.trials:
            raise InvalidInput("results", str(results), "a folder with results of declared experiments")
        self.cells = {run: replace(trial, seed=0).fingerprint for run, trial in self.trials.items()}
        self._curves = dict(list(curves.groupby("run"))) if len(curves) else {}
        shown = [self._with_kinds(table, declared[name].planned) for name, table in tables.items() if len(table)]
        self._rows = dict(list(pd.concat([self.runs, *shown]).set_index("actions").groupby("run")))
        self._cells = dict(list(self.runs.set_index("actions").groupby(self.runs["run"].map(self.cells).to_numpy())))

    def _with_kinds(self, table: pd.DataFrame, planned: bool) -> pd.DataFrame:
        """The table of an experiment with the kinds of action that it shows."""
        return table.merge(self.runs.loc[shown_in_tables(self.runs, planned), ["run", "actions"]], on="run")

    def __getitem__(self, run: str) -> Record:
        rows, cell = self._rows[run], self._cells[self.cells[run]]
        curve = self._curves[run].sort_values("episode") if run in self._curves else pd.DataFrame(columns=[*METRICS])
        known = {name: rows[name].dropna().iloc[0] for name in MADE_BY if name in rows and rows[name].notna().any()}
        others = cell.loc[cell["run"] != run, [*METRICS]]
        return Record(rows[[*METRICS]], curve[[*METRICS]].to_numpy(float), others, known)


def verify(
    sample: int,
    seed: int = 0,
    results: Path | None = None,
    folder: Path | None = None,
    jobs: int = 1,
    on_row: Callable[[dict[str, Any]], None] = lambda row: None,
) -> pd.DataFrame:
    """Compute some random trials again and compare: one row a trial, a `Judgement` and what it is about.

    sample, seed : int
        How many, and the seed of their choice.
    results, folder : Path or None
        By default `results/`, and `runs/verify`: what was computed again is kept there, and taken from there as long as
        neither the code of trials nor the packages nor the processor change.
    jobs : int
        Processes.
    on_row : callable
        Called with each row when it is known, before the trials of a cell are judged `together`.
    """
    sample, jobs = check_integer("sample", sample, 1, 10**6), check_integer("jobs", jobs, 1, 1_024)
    recorded = Recorded(results)
    chosen = np.random.default_rng(seed).choice(list(recorded.trials), min(sample, len(recorded.trials)), replace=False)
    state = hashlib.sha256(" ".join([code_state(), *made_by().values()]).encode()).hexdigest()[:16]
    place = (folder or runs_folder() / "verify") / state
    rows = {}
    for trial, failure in compute([recorded.trials[run] for run in chosen], place, jobs):
        run = trial.fingerprint
        record = recorded[run]
        if failure:
            found = Judgement(np.nan, None, np.nan, "differs", failure)
        else:
            found = judge(record, run_trial(trial, place), trial.learned)
        about = {"run": run, "method": trial.method, "scenario": trial.scenario.name, "seed": trial.seed}
        rows[run] = (
            about
            | {"processor": record.made_by.get("processor", "not recorded"), "cell": recorded.cells[run]}
            | found._asdict()
        )
        on_row(rows[run])
    return together(pd.DataFrame([rows[run] for run in chosen]).astype({"parted": "Int64"}))


check_calls(globals())
