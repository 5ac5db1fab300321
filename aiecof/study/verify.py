"""Computing committed trials again, and whether they come out alike."""

from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import pandas as pd

from aiecof.checks import InvalidInput, check_integer
from aiecof.metrics import METRICS
from aiecof.study import experiments
from aiecof.study.experiments import trials_of
from aiecof.study.runner import run_trial
from aiecof.study.store import read_table


def _largest_gap(before: pd.DataFrame, after: pd.DataFrame) -> float:
    """Largest relative difference of two tables; infinite where only one has a number."""
    gaps = (after - before).abs() / np.maximum(after.abs(), before.abs())
    equal = (after == before) | (after.isna() & before.isna())
    return float(gaps.fillna(np.inf).mask(equal, 0.0).max(axis=None))


def _within(before: pd.DataFrame, others: pd.DataFrame) -> bool:
    """Whether every metric lies within the others' range of the same kind of action, widened by its own width."""
    kinds = others.groupby(level=0)
    low, high = (table.reindex(before.index) for table in (kinds.min(), kinds.max()))
    inside = (before >= low - (high - low)) & (before <= high + (high - low))
    return bool((inside | (before.isna() & low.isna())).all(axis=None))


def verify(sample: int, seed: int = 0, results: Path | None = None) -> pd.DataFrame:
    """Compute some random trials again and compare: one row a trial, with the largest relative difference.

    Compared are a trial's metrics in `runs.csv`, for every kind of action, and in the experiments' tables. Rules and
    bounds have to come out alike. A training may differ on another processor in its last bits, which grow; then what
    is recorded has to lie within the range of the same training with other seeds, widened by its own width.
    """
    check_integer("sample", sample, 1)
    runs = read_table("runs.csv", results)
    found = set(runs.get("run", []))
    names = list(experiments.experiments())
    declared = {run: trial for run, trial in trials_of(names).items() if run in found}
    if not declared:
        raise InvalidInput("results", str(results), "a folder with results of declared experiments")
    recorded = pd.concat([runs, *(read_table(f"{name}.csv", results) for name in names)])
    rows = []
    for name in np.random.default_rng(seed).choice(list(declared), min(sample, len(declared)), replace=False):
        trial = declared[name]
        with TemporaryDirectory() as folder:
            result = run_trial(trial, Path(folder))
        before = recorded[recorded["run"] == name].fillna({"actions": result["counts"]})
        before = before.set_index("actions")[list(METRICS)]
        after = pd.DataFrame(result["actions"]).T.reindex(columns=METRICS)
        gap = _largest_gap(before, after.reindex(before.index))
        peers = [run for run, other in declared.items() if run != name and replace(other, seed=trial.seed) == trial]
        others = runs[runs["run"].isin(peers)].set_index("actions")[list(METRICS)]
        alike = gap < 1e-6 or (trial.learned and _within(before, pd.concat([others, after])))
        rows.append({"run": name, "method": trial.method, "seed": trial.seed, "difference": gap, "passed": alike})
    return pd.DataFrame(rows)
