"""Running experiments: every trial once, whatever was computed before, and tidy tables of what came out.

A trial works in a folder named after its fingerprint and ends with one `result.json`; `collect` gathers those into
`results/`, which holds everything the book draws:

- `runs.csv`: one row a trial and kind of action: description, versions, seconds, means over the held-out episodes;
- `curves.parquet`: every metric of every training episode;
- `devices.parquet`: clock and mean held-out load of every device;
- `<experiment>.csv`: the labels of an experiment beside its trials' metrics;
- `manifest.json`: a digest of each file, so that an edited one is noticed.
"""

from __future__ import annotations

import hashlib
import io
import json
import time
from collections.abc import Callable, Iterable
from dataclasses import replace
from importlib.metadata import version
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import pandas as pd
import torch as th
from joblib import Parallel, delayed

from aiecof.bounds import lower_bound
from aiecof.config import InvalidInput, check_choice, check_integer, load_scenario
from aiecof.experiments import BOUND, EXPERIMENTS, KEPT, TRAINING, Experiment, Trial
from aiecof.policies import evaluate, make_policy
from aiecof.training import PACKAGES, Run, alone, train, write_whole
from aiecof.workload import draw_trace

ROOT = Path(__file__).resolve().parent.parent
RESULTS, RUNS = ROOT / "results", ROOT / "runs"
METRICS = ("delay", "energy", "drop_rate", "load", "reward", "local_share", "cost")
TABLES = {"runs.csv": "run actions", "curves.parquet": "run episode", "devices.parquet": "run device"}
"""File in `results/` -> columns that tell its rows apart."""


def _make(name: str, path: Path) -> Path:
    """The folder at a path; `InvalidInput` for the field `name` if there can be none."""
    try:
        path.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InvalidInput(name, str(path), f"a folder that can be written ({error.strerror})") from None
    return path


def _judge(trial: Trial, folder: Path) -> tuple[dict[str, Any], dict[str, Any]]:
    """Means by kind of action, and the rest of the result."""
    scenario = trial.scenario
    if trial.method == BOUND:
        trace = draw_trace(scenario, trial.evaluation, trial.seed)
        return {"none": {"cost": float(lower_bound(scenario, trace).mean())}}, {}
    rest: dict[str, Any] = {}
    if trial.learned:
        run = train(trial.method, scenario, trial.episodes, trial.seed, folder, **trial.changes)
        played = {kind: run.evaluate(trial.evaluation, greedy=kind == "greedy") for kind in ("sampled", "greedy")}
        # A kill right after the last checkpoint leaves no time: then it is not known.
        rest = {"curve": run.curve.to_dict("list"), "wall_time": run.description.get("wall_time", np.nan)}
        run.export(folder / "policy.safetensors")
        counted = played[run.method.counts]
    else:
        trace = draw_trace(scenario, trial.evaluation, trial.seed)
        counted = evaluate(make_policy(trial.method, scenario, trial.seed, **trial.changes), scenario, trace)
        played = {"rule": counted}
    rest["load"] = counted.load.mean(axis=(0, 1)).tolist()
    rest["clock"] = counted.trace.device_frequency[0].tolist()
    metrics = {kind: simulator.metrics() for kind, simulator in played.items()}
    return {kind: {name: float(np.mean(entry[name])) for name in METRICS} for kind, entry in metrics.items()}, rest


def run_trial(trial: Trial, folder: Path) -> dict[str, Any]:
    """Compute a trial in its folder, or read what is there; of two processes that want it, one waits for the other."""
    place = folder / trial.fingerprint
    done = place / "result.json"
    with alone(place):
        if done.exists():
            return json.loads(done.read_text(encoding="utf-8"))
        th.set_num_threads(1)  # here, because worker processes have a number of their own; several only slow it down
        begun = time.perf_counter()
        judged, rest = _judge(trial, place)
        result = {
            "run": trial.fingerprint,
            "method": trial.method,
            "scenario": trial.scenario.name,
            "seed": trial.seed,
            "episodes": trial.episodes,
            "versions": " ".join(f"{name}={version(name)}" for name in PACKAGES),
            "wall_time": time.perf_counter() - begun,
            "counts": Run(place).method.counts if trial.learned else next(iter(judged)),
            "actions": judged,
        }
        write_whole(done, json.dumps(result | rest).encode())
        for name in ("checkpoint.safetensors", "curve.csv"):  # what was learned is in policy.safetensors
            (place / name).unlink(missing_ok=True)
    return result | rest


def _attempt(trial: Trial, folder: Path) -> str | None:
    """Run a trial; what went wrong, so that one failure does not stop the others."""
    try:
        run_trial(trial, folder)
    except Exception as error:  # whatever it is, it is reported
        return f"{trial.method} on {trial.scenario.name}, seed {trial.seed} ({trial.fingerprint}): {error!r}"
    return None


def _tables(result: dict[str, Any]) -> dict[str, pd.DataFrame]:
    """The rows of a result, by file."""
    shared = {name: result[name] for name in ("run", "method", "scenario", "seed", "episodes", "versions")}
    shared["wall_time"] = round(result["wall_time"], 1)
    rows = [
        shared | {"actions": kind, "counts": kind == result["counts"]} | metrics
        for kind, metrics in result["actions"].items()
    ]
    tables = {"runs.csv": pd.DataFrame(rows)}
    if "curve" in result:
        curve = pd.DataFrame(result["curve"])[list(METRICS)].astype(np.float32)
        curve.insert(0, "episode", np.arange(len(curve), dtype=np.int16))
        tables["curves.parquet"] = curve.assign(run=result["run"])
    if "load" in result:
        devices = {"device": np.arange(len(result["load"]), dtype=np.int16)}
        devices |= {name: np.array(result[name], np.float32) for name in ("clock", "load")}
        tables["devices.parquet"] = pd.DataFrame(devices).assign(run=result["run"])
    return tables


def read_table(name: str, results: Path = RESULTS) -> pd.DataFrame:
    """A file of `results/`; an empty table if there is none."""
    path = results / name
    if not path.exists():
        return pd.DataFrame()
    return pd.read_csv(path, dtype={"run": str}) if path.suffix == ".csv" else pd.read_parquet(path)


def _manifest(results: Path) -> dict[str, str]:
    """File -> digest, as written."""
    path = results / "manifest.json"
    return json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}


def write_result(name: str, content: bytes, results: Path = RESULTS) -> None:
    """Write a file of `results/` and its digest into the manifest.

    The digest goes first: after a kill between the two the file is the old one, which the next `collect` replaces.
    """
    _make("results", (results / name).parent)
    manifest = _manifest(results) | {name: hashlib.sha256(content).hexdigest()}
    write_whole(results / "manifest.json", (json.dumps(manifest, indent=1, sort_keys=True) + "\n").encode())
    write_whole(results / name, content)


def write_table(name: str, table: pd.DataFrame, results: Path = RESULTS) -> None:
    """Write a table into `results/`, as CSV or Parquet."""
    if name.endswith(".csv"):
        content = table.to_csv(index=False, float_format="%.9g").encode()
    else:
        buffer = io.BytesIO()
        table.to_parquet(buffer, index=False, compression="zstd")
        content = buffer.getvalue()
    write_result(name, content, results)


def edited(results: Path = RESULTS) -> list[str]:
    """Files that are not as they were written: changed by hand, or gone."""
    return [name for name, expected in _manifest(results).items() if digest(results / name) != expected]


def digest(path: Path) -> str:
    """SHA-256 of a file, or \"none\"."""
    return hashlib.sha256(path.read_bytes()).hexdigest() if path.exists() else "none"


def condition(name: str, results: Path = RESULTS) -> str:
    """Why the table of an experiment is not to be trusted, in a few words; empty if it is."""
    file = f"{name}.csv"
    if _manifest(results).get(file) != digest(results / file):
        return "not as it was written"
    rows = read_table(file, results)
    gone = set(rows["run"]) - set(trials_of([name]))
    return f"{len(gone)} of {rows['run'].nunique()} trials belong to other code" if gone else ""


def trials_of(names: Iterable[str], profile: str = "full") -> dict[str, Trial]:
    """Fingerprint -> trial of some experiments, each once, all first seeds first."""
    trials = [trial for name in names for _, trial in _experiment(name).trials(profile)]
    found = {trial.fingerprint: trial for trial in trials}
    return dict(sorted(found.items(), key=lambda item: item[1].seed))


def _experiment(name: str) -> Experiment:
    return EXPERIMENTS[check_choice("experiment", name, tuple(EXPERIMENTS))]


def _gathered(trials: dict[str, Trial], results: Path) -> set[str]:
    """Fingerprints of the trials with rows in every table that they belong to: a kill may leave them in some."""
    runs, curves, devices = (set(read_table(name, results).get("run", [])) for name in TABLES)
    return {
        run
        for run, trial in trials.items()
        if run in runs and (run in curves or not trial.learned) and (run in devices or trial.method == BOUND)
    }


def collect(profile: str = "full", folder: Path = RUNS, results: Path = RESULTS) -> None:
    """Gather finished trials into `results/`: rows of trials that no experiment declares any more are left out."""
    declared = trials_of(EXPERIMENTS, profile)
    tables = {name: read_table(name, results) for name in TABLES}
    known = _gathered(declared, results)
    fresh = [folder / run / "result.json" for run in declared if run not in known]
    parts = [_tables(json.loads(path.read_text(encoding="utf-8"))) for path in fresh if path.exists()]
    for name, keys in TABLES.items():
        table = pd.concat([tables[name], *(part[name] for part in parts if name in part)])
        if len(table):
            table = table[table["run"].isin(list(declared))].drop_duplicates(keys.split(), keep="last")
            table = table.sort_values(keys.split(), kind="stable")
            if not tables[name].equals(table.reset_index(drop=True)):
                write_table(name, table, results)
    for scenario, method in KEPT:
        policy = folder / Trial(method, load_scenario(scenario), 0, TRAINING).fingerprint / "policy.safetensors"
        if policy.exists():
            write_result(f"policies/{scenario}-{method}.safetensors", policy.read_bytes(), results)
    runs = read_table("runs.csv", results)
    if len(runs):
        counted = runs[runs["counts"]].set_index("run")[["wall_time", *METRICS]]
        for name, experiment in EXPERIMENTS.items():
            rows = [labels | {"run": trial.fingerprint} for labels, trial in experiment.trials(profile)]
            table = pd.DataFrame(rows).join(counted, on="run", how="inner")
            if len(table) or (results / f"{name}.csv").exists():
                write_table(f"{name}.csv", table, results)


def run(
    names: Iterable[str],
    profile: str = "full",
    jobs: int = 1,
    seeds: int | None = None,
    folder: Path = RUNS,
    results: Path = RESULTS,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> list[str]:
    """Compute what is missing of some experiments, then write their tables; an interrupt writes what is there.

    Returns what went wrong, one line a trial that failed.

    names : iterable of str
        Of `EXPERIMENTS`.
    profile : {"full", "quick"}
        The quick one has one seed and few episodes: it shows that everything works, and nothing else.
    jobs : int
        Processes.
    seeds : int or None
        Stop after the first few seeds; None takes all that are declared.
    progress : callable
        Called with the trials done and all trials.
    """
    names, jobs = list(names), check_integer("jobs", jobs, 1)
    trials = trials_of(names, profile)
    if seeds is not None:
        check_integer("seeds", seeds, 1)
        trials = {run: trial for run, trial in trials.items() if trial.seed < seeds}
    _make("folder", folder)
    known = _gathered(trials, _make("results", results))
    missing = [trial for run, trial in trials.items() if run not in known]
    progress(len(trials) - len(missing), len(trials))
    failures = []
    try:
        parallel = Parallel(n_jobs=jobs, return_as="generator_unordered", pre_dispatch=jobs)
        for done, failure in enumerate(parallel(delayed(_attempt)(trial, folder) for trial in missing)):
            failures += [failure] if failure else []
            progress(len(trials) - len(missing) + done + 1, len(trials))
    finally:
        with alone(folder):
            collect(profile, folder, results)
    return failures


def status(results: Path = RESULTS) -> pd.DataFrame:
    """One row an experiment: seeds declared, trials declared, done, missing, hours of computing."""
    runs = read_table("runs.csv", results)
    seconds = runs.groupby("run")["wall_time"].first() if len(runs) else pd.Series(dtype=float)
    rows = []
    for name, experiment in EXPERIMENTS.items():
        trials = trials_of([name], "full")
        done = [run for run in trials if run in seconds.index]
        whole = min((t.seed for run, t in trials.items() if run not in seconds.index), default=experiment.seeds)
        hours = seconds[done].sum() / 3600
        rows.append([name, experiment.seeds, whole, len(trials), len(done), len(trials) - len(done), round(hours, 2)])
    return pd.DataFrame(rows, columns=["experiment", "seeds", "complete_seeds", "trials", "done", "missing", "hours"])


def stale(results: Path = RESULTS) -> list[str]:
    """Trials in `results/` that no experiment declares: their scenario, method or equations have changed."""
    declared = trials_of(EXPERIMENTS, "full")
    return [
        run for run in read_table("runs.csv", results).get("run", pd.Series(dtype=str)).unique() if run not in declared
    ]


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


def verify(sample: int, seed: int = 0, results: Path = RESULTS) -> pd.DataFrame:
    """Compute some random trials again and compare: one row a trial, with the largest relative difference.

    Compared are a trial's metrics in `runs.csv`, for every kind of action, and in the experiments' tables. Rules and
    bounds have to come out alike. A training may differ on another processor in its last bits, which grow; then what
    is recorded has to lie within the range of the same training with other seeds, widened by its own width.
    """
    check_integer("sample", sample, 1)
    runs = read_table("runs.csv", results)
    found = set(runs.get("run", []))
    declared = {run: trial for run, trial in trials_of(EXPERIMENTS, "full").items() if run in found}
    if not declared:
        raise InvalidInput("results", str(results), "a folder with results of declared experiments")
    recorded = pd.concat([runs, *(read_table(f"{name}.csv", results) for name in EXPERIMENTS)])
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
