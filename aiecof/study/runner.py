"""Running experiments: every trial once, whatever was computed before, and tidy tables of what came out.

A trial works in a folder named after its fingerprint and ends with one `result.json`; `collect` gathers those into
`results/` (`store`), which holds everything the book draws.
"""

import json
import os
import platform
import time
from collections.abc import Callable, Iterable, Iterator
from functools import cache
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch as th
from joblib import Parallel, delayed

from aiecof.agents import methods, rules
from aiecof.agents.learned import load_policy
from aiecof.agents.policies import evaluate
from aiecof.agents.rules import make_policy
from aiecof.agents.training import PACKAGES, train
from aiecof.checks import check_calls, check_choice, check_integer
from aiecof.files import alone, home, make_folder, read_json, write_whole
from aiecof.metrics import METRICS
from aiecof.processes import workers
from aiecof.study import experiments
from aiecof.study.experiments import trials_of
from aiecof.study.grids import BOUND, KEPT, TRAINING
from aiecof.study.lower_bound import lower_bound
from aiecof.study.print_limits import write_limits
from aiecof.study.store import TABLES, declare, looking_at, read_table, write_result, write_table, writing
from aiecof.study.trials import Experiment, Trial
from aiecof.system.scenario import load_scenario
from aiecof.system.workload import draw_trace

_FORMAT = "aiecof result 1"
_RESULT = {
    "run": str,
    "method": str,
    "scenario": str,
    "seed": int,
    "episodes": int,
    "versions": str,
    "processor?": str,
    "threads?": str,
    "wall_time": float,
    "counts": str,
    "actions": {str: {str: float}},
    "curve?": {name: [float] for name in METRICS},
    "load?": [float],
    "clock?": [float],
}


POLICY = "policy.safetensors"
"""File of a trial's folder with what was learned."""
MADE_BY = ("versions", "processor", "threads")
"""Columns of `runs.csv` with what the last digits of a training may depend on; rows of before have only the first."""


def runs_folder() -> Path:
    """Where trials work unless another folder is named."""
    return home() / "runs"


@cache
def _processor() -> str:
    """Its model, and the instructions that PyTorch uses on it: they round otherwise than others."""
    model = platform.processor() or platform.machine()
    if (cpuinfo := Path("/proc/cpuinfo")).is_file():
        lines = (line.partition(":") for line in cpuinfo.read_text(encoding="utf-8", errors="replace").splitlines())
        found = {name.strip(): value.strip() for name, _, value in reversed(list(lines))}
        numbers = "/".join(found[name] for name in ("cpu family", "model", "stepping") if name in found)
        model = " ".join(word for word in (found.get("model name", model), numbers) if word)
    return f"{model} {th.backends.cpu.get_cpu_capability()}"


def made_by() -> dict[str, str]:
    """What the last digits of a training depend on here: a value for each of `MADE_BY`."""
    threads = {"torch": 1, "OMP_NUM_THREADS": os.environ.get("OMP_NUM_THREADS", "unset")}
    versions = " ".join(f"{name}={version(name)}" for name in PACKAGES)
    return dict(zip(MADE_BY, (versions, _processor(), " ".join(f"{k}={v}" for k, v in threads.items())), strict=True))


def _judge(trial: Trial, folder: Path) -> tuple[dict[str, Any], dict[str, Any]]:
    """Means by kind of action, and the rest of the result."""
    scenario = trial.scenario
    if trial.method == BOUND:
        trace = draw_trace(scenario, trial.evaluation, trial.seed)
        return {"none": {"cost": float(lower_bound(scenario, trace).mean())}}, {}
    rest: dict[str, Any] = {}
    if trial.source:
        rest = {"curve": run_trial(trial.source, folder.parent)["curve"]}
        place = folder.parent / trial.source.fingerprint / POLICY
        how = {"seed": trial.seed, "streams": trial.streams}
        trace = draw_trace(scenario, trial.evaluation, trial.seed)
        played = {
            kind: evaluate(load_policy(place, scenario, greedy=kind == "greedy", **how)[0], scenario, trace)
            for kind in ("sampled", "greedy")
        }
        counted = played[methods.method(trial.method).counts]
    elif trial.learned:
        run = train(trial.method, scenario, trial.episodes, trial.seed, folder, **trial.changes)
        how = {"streams": trial.streams}
        played = {
            kind: run.evaluate(trial.evaluation, greedy=kind == "greedy", **how) for kind in ("sampled", "greedy")
        }
        # A kill right after the last checkpoint leaves no time: then it is not known.
        rest = {"curve": run.curve.to_dict("list"), "wall_time": run.description.get("wall_time", np.nan)}
        run.export(folder / POLICY)
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
            return read_json("result", done, _RESULT, _FORMAT)
        th.set_num_threads(1)  # here, because worker processes have a number of their own; several only slow it down
        begun = time.perf_counter()
        judged, rest = _judge(trial, place)
        result = {
            "format": _FORMAT,
            "run": trial.fingerprint,
            "method": trial.method,
            "scenario": trial.scenario.name,
            "seed": trial.seed,
            "episodes": trial.episodes,
            **made_by(),
            "wall_time": time.perf_counter() - begun,
            "counts": methods.method(trial.method).counts if trial.learned else next(iter(judged)),
            "actions": judged,
        }
        write_whole(done, json.dumps(result | rest).encode())
        for name in ("checkpoint.safetensors", "curve.csv"):  # what was learned is in POLICY
            (place / name).unlink(missing_ok=True)
    return result | rest


def _registered(trial: Trial) -> tuple[str, Any] | None:
    """What a user has registered for a trial, to hand over to another process."""
    for registry in (methods.METHODS, rules.POLICIES):
        if trial.method in registry and registry[trial.method].added:
            return trial.method, registry[trial.method]
    return None


def _attempt(trial: Trial, folder: Path, registered: tuple[str, Any] | None = None) -> tuple[Trial, str | None]:
    """Run a trial; with what went wrong, so that one failure does not stop the others."""
    try:
        if registered:
            (methods if isinstance(registered[1], methods.Method) else rules).register(*registered)
        run_trial(trial, folder)
    except Exception as error:  # whatever it is, it is reported
        return trial, f"{trial.method} on {trial.scenario.name}, seed {trial.seed} ({trial.fingerprint}): {error!r}"
    return trial, None


def compute(trials: Iterable[Trial], folder: Path, jobs: int = 1) -> Iterator[tuple[Trial, str | None]]:
    """Compute trials in a folder, in several processes: each as it is finished, with what went wrong or None."""
    parallel = Parallel(n_jobs=jobs, return_as="generator_unordered", pre_dispatch=jobs, **workers())
    return parallel(delayed(_attempt)(trial, folder, _registered(trial)) for trial in trials)


def _tables(result: dict[str, Any]) -> dict[str, pd.DataFrame]:
    """The rows of a result, by file."""
    shared = {name: result[name] for name in ("run", "method", "scenario", "seed", "episodes")}
    shared |= {name: result.get(name) for name in MADE_BY}
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


def _gathered(trials: dict[str, Trial], tables: dict[str, pd.DataFrame]) -> set[str]:
    """Fingerprints of the trials with rows in every table that they belong to: a kill may leave them in some."""
    runs, curves, devices = (set(tables[name].get("run", [])) for name in TABLES)
    return {
        run
        for run, trial in trials.items()
        if run in runs and (run in curves or not trial.learned) and (run in devices or trial.method == BOUND)
    }


def _gather_runs(trials: dict[str, Trial], folder: Path, results: Path, *, only: bool) -> None:
    """Finished trials into the tables of all trials; with `only`, rows of others are left out."""
    tables = {name: read_table(name, results) for name in TABLES}
    known = _gathered(trials, tables)
    fresh = [folder / run / "result.json" for run in trials if run not in known]
    parts = [_tables(read_json("result", path, _RESULT, _FORMAT)) for path in fresh if path.exists()]
    for name, keys in TABLES.items():
        table = pd.concat([tables[name], *(part[name] for part in parts if name in part)])
        if len(table):
            table = table[table["run"].isin(list(trials))] if only else table
            table = table.drop_duplicates(keys.split(), keep="last").sort_values(keys.split(), kind="stable")
            if not tables[name].equals(table.reset_index(drop=True)):
                write_table(name, table, results)


def _keep_policies(folder: Path, results: Path) -> None:
    for scenario, method in KEPT:
        policy = folder / Trial(method, load_scenario(scenario), 0, TRAINING).fingerprint / POLICY
        if policy.exists():
            write_result(f"policies/{scenario}-{method}.safetensors", policy.read_bytes(), results)


def shown_in_tables(runs: pd.DataFrame, planned: bool) -> pd.Series:
    """Which rows of `runs.csv` the tables of experiments show, planned ones or others."""
    return (runs["actions"] == "sampled") | ~runs["actions"].isin(["sampled", "greedy"]) if planned else runs["counts"]


def collect(
    profile: str = "full",
    folder: Path | None = None,
    results: Path | None = None,
    own: dict[str, Experiment] | None = None,
) -> None:
    """Gather finished trials into `results/`, and write into its manifest what was declared."""
    with writing(results) as place:
        _collect(profile, folder or runs_folder(), place, own)


def _collect(profile: str, folder: Path, results: Path, own: dict[str, Experiment] | None) -> None:
    declared = own or experiments.experiments()
    _gather_runs(trials_of(declared, profile, own), folder, results, only=True)
    _keep_policies(folder, results)
    runs = read_table("runs.csv", results)
    if len(runs):
        for name, experiment in declared.items():
            rows = [labels | {"run": trial.fingerprint} for labels, trial in experiment.trials(profile)]
            judged = runs[shown_in_tables(runs, experiment.planned)].set_index("run")
            table = pd.DataFrame(rows).join(judged[["wall_time", *METRICS]], on="run", how="inner")
            if len(table) or (results / f"{name}.csv").exists():
                write_table(f"{name}.csv", table, results)
    if own is None:
        write_limits(results)
    declare(experiments.declarations(profile, own), experiments.players(), results)


def run(
    names: Iterable[str],
    profile: str = "full",
    jobs: int = 1,
    seeds: int | None = None,
    scenario: str | None = None,
    folder: Path | None = None,
    results: Path | None = None,
    progress: Callable[[int, int], None] = lambda done, total: None,
    own: dict[str, Experiment] | None = None,
) -> list[str]:
    """Compute what is missing of some experiments, then write their tables; an interrupt keeps what is finished.

    Returns what went wrong, one line a trial that failed.

    profile : {"full", "quick"}
        The quick one has one seed and few episodes: it shows that everything works, and nothing else.
    jobs : int
        Processes.
    seeds : int or None
        Stop after the first few seeds; None takes all that are declared.
    scenario : str or None
        Only the trials on scenarios of this name; None takes all.
    progress : callable
        Called with the trials done and all trials.
    own : dict or None
        Experiments of your own, which take the place of the package's: name -> experiment.
    """
    jobs, last = check_integer("jobs", jobs, 1, 1_024), np.inf if seeds is None else check_integer("seeds", seeds, 1)
    trials = {run: trial for run, trial in trials_of(names, profile, own).items() if trial.seed < last}
    if scenario is not None:
        check_choice("scenario", scenario, sorted({trial.scenario.name for trial in trials.values()}))
        trials = {run: trial for run, trial in trials.items() if trial.scenario.name == scenario}
    folder = make_folder("folder", folder or runs_folder())
    results = make_folder("results", results or home() / "results")
    with looking_at(results):
        known = _gathered(trials, {name: read_table(name, results) for name in TABLES})
    missing = [trial for run, trial in trials.items() if run not in known]
    progress(len(trials) - len(missing), len(trials))
    failures = []
    try:
        for done, (_, failure) in enumerate(
            compute(missing, folder, min(jobs, len(missing) or 1)), len(trials) - len(missing) + 1
        ):
            failures += [failure] if failure else []
            progress(done, len(trials))
    except BaseException:  # what belongs to the experiments is gathered by the run that goes on
        with writing(results):
            _gather_runs(trials, folder, results, only=False)
        raise
    collect(profile, folder, results, own)
    return failures


check_calls(globals())
