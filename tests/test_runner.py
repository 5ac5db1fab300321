"""Running experiments: nothing is lost or computed twice, whatever stops it, and nothing is forged unnoticed."""

import json
import math
import os
import shutil
import signal
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch as th
from strategies import hear_interrupts
from typer.testing import CliRunner

from aiecof.agents import training
from aiecof.agents.learned import load_policy
from aiecof.agents.policies import evaluate
from aiecof.agents.rules import make_policy
from aiecof.agents.training import train
from aiecof.checks import InvalidInput
from aiecof.cli.app import app
from aiecof.files import results_folder, write_whole
from aiecof.study import experiments, runner, store
from aiecof.study import verify as verify_module
from aiecof.study.experiments import Experiment, cell, trials_of
from aiecof.study.grids import BOUND, EVALUATION, QUICK_TRAINING
from aiecof.study.runner import run
from aiecof.study.store import edited, read_table, stale, status, write_table
from aiecof.study.verify import verify
from aiecof.system.scenario import load_scenario
from aiecof.system.workload import draw_trace

ROOT = Path(__file__).resolve().parent.parent
TINY = load_scenario("balanced", devices=4, servers=2, slots=10)
HOPELESS = TINY.replace(name="hopeless", workload_scale=50.0)
"""Every local task misses its deadline, so that no completed one has a delay."""
EXPERIMENTS = {
    "first": Experiment("?", 2, (cell("a2c", TINY, episodes=3), cell("random", TINY), cell("always-local", HOPELESS))),
    "second": Experiment(
        "?", 3, (cell("a2c", TINY, {"kind": "again"}, episodes=3), cell("frugal", TINY, {"kind": "new"}))
    ),
    "short": Experiment("?", 1, (cell("a2c", TINY, episodes=3, gamma=0.5), cell("greedy", TINY))),
    "long": Experiment(
        "?", 2, (cell("a2c", TINY, episodes=60), cell("random", TINY), cell("toppo", TINY, episodes=30))
    ),
}


def declare(patch, declared=EXPERIMENTS):
    """Let these be all experiments there are."""
    patch.setattr(experiments, "experiments", lambda: declared)
    patch.setattr(experiments, "players", dict)


@pytest.fixture(autouse=True)
def declared(monkeypatch):
    declare(monkeypatch)


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """(runs, results) of the first two experiments, computed without an interruption."""
    place = tmp_path_factory.mktemp("finished")
    with pytest.MonkeyPatch.context() as patch:
        declare(patch)
        assert run(["first", "second"], folder=place / "runs", results=place / "results") == []
    return place / "runs", place / "results"


@pytest.fixture
def copied(finished, tmp_path):
    """A copy of `finished` to spoil."""
    places = tmp_path / "runs", tmp_path / "results"
    for source, target in zip(finished, places, strict=True):
        shutil.copytree(source, target)
    return places


def tables(results):
    """Everything in a results folder that does not depend on the machine."""
    names = [path.name for path in results.iterdir() if path.suffix in (".csv", ".parquet")]
    found = {name: read_table(name, results) for name in names}
    return {name: table.drop(columns=["wall_time", *runner.MADE_BY], errors="ignore") for name, table in found.items()}


def assert_same_tables(results, others):
    found, wanted = tables(results), tables(others)
    assert found.keys() == wanted.keys()
    for name, table in wanted.items():
        pd.testing.assert_frame_equal(found[name], table, check_exact=True)
    assert json.loads((results / "manifest.json").read_text())["files"].keys() == found.keys()


def contents(place):
    return {path.relative_to(place): path.read_bytes() for path in place.rglob("*") if path.is_file()}


def fail(*args, **kwargs):
    raise AssertionError("this is not to be called")


# --- what comes out ----------------------------------------------------------------------------------------------


def test_a_rule_s_row_is_what_the_rule_does(finished):
    runs = read_table("runs.csv", finished[1])
    for row in runs[runs["method"].isin(["random", "frugal"])].itertuples():
        trace = draw_trace(TINY, EVALUATION, row.seed, split="evaluation")
        played = evaluate(make_policy(row.method, TINY, row.seed), TINY, trace)
        for name, values in played.metrics().items():
            assert getattr(row, name) == pytest.approx(values.mean(), rel=1e-8)
        assert row.counts and (row.actions, row.episodes) == ("rule", 0)
        devices = read_table("devices.parquet", finished[1]).query("run == @row.run")
        assert np.allclose(devices["load"], played.load.mean(axis=(0, 1)))
        assert np.allclose(devices["clock"], trace.device_frequency[0])


def test_a_training_s_rows_are_what_it_learned(finished, tmp_path):
    """The same training by hand, and the policy that the trial leaves."""
    runs = read_table("runs.csv", finished[1])
    [fingerprint] = runs.query("method == 'a2c' and seed == 1")["run"].unique()
    rows = runs.query("run == @fingerprint").set_index("actions")
    whole = train("a2c", TINY, 3, 1, tmp_path)
    for kind, greedy in {"sampled": False, "greedy": True}.items():
        place = finished[0] / fingerprint / "policy.safetensors"
        policy, scenario = load_policy(place, greedy=greedy, seed=1, streams="batch")  # as in all but the plan's
        assert scenario == TINY
        played = evaluate(policy, TINY, draw_trace(TINY, EVALUATION, 1, split="evaluation")).metrics()
        again = whole.evaluate(EVALUATION, greedy=greedy, streams="batch").metrics()
        for name in played:
            assert rows.loc[kind, name] == pytest.approx(played[name].mean(), rel=1e-8)
            assert rows.loc[kind, name] == pytest.approx(again[name].mean(), rel=1e-8)
    assert rows["counts"].to_dict() == {"sampled": True, "greedy": False} and (rows["episodes"] == 3).all()
    curve = read_table("curves.parquet", finished[1]).query("run == @fingerprint")
    assert list(curve["episode"]) == [0, 1, 2]
    assert np.allclose(curve[whole.curve.columns], whole.curve, rtol=1e-6)


def test_a_shared_trial_is_one_run_with_two_sets_of_labels(finished):
    first, second = (read_table(name, finished[1]) for name in ("first.csv", "second.csv"))
    shared = first.merge(second, on=["run", *runner.METRICS])
    assert list(shared["method_x"]) == ["a2c", "a2c"] and list(shared["seed_x"]) == [0, 1]
    assert set(shared["kind"]) == {"again"} and list(second["seed"].unique()) == [0, 1, 2]
    runs = read_table("runs.csv", finished[1])
    assert len(runs) == len(runs[["run", "actions"]].drop_duplicates()) == 3 * 2 + 3 + 2 * 2
    counted = runs[runs["counts"]].set_index("run")
    for row in pd.concat([first, second]).itertuples():
        assert row.cost == counted.loc[row.run, "cost"] and row.seed == counted.loc[row.run, "seed"]


def test_no_completed_task_leaves_the_delay_empty(finished):
    rows = read_table("first.csv", finished[1]).query("scenario == 'hopeless'")
    assert len(rows) == 2 and rows["delay"].isna().all() and (rows["drop_rate"] == 1.0).all()


def test_a_bound_has_a_cost_and_nothing_else(copied, monkeypatch):
    """A bound of 0 .. 4 over the episodes, as `aiecof.study.lower_bound` might say."""
    monkeypatch.setattr(runner, "lower_bound", lambda scenario, trace: np.arange(5.0))
    declare(monkeypatch, EXPERIMENTS | {"bound": Experiment("?", 1, (cell(BOUND, TINY),))})
    runs, results = copied
    assert run(["bound"], folder=runs, results=results) == []
    [row] = read_table("bound.csv", results).to_dict("records")
    assert row["cost"] == 2.0 and all(math.isnan(row[name]) for name in runner.METRICS if name != "cost")
    assert row["run"] not in set(read_table("devices.parquet", results)["run"])
    assert (verify(100, results=results, folder=runs)["outcome"] == "equal").all()


def test_a_trial_takes_one_thread(tmp_path, monkeypatch):
    """A trial takes one, whatever its process has: several slow it down, and may add in another order."""
    seen, judge = [], runner._judge
    monkeypatch.setattr(runner, "_judge", lambda *args: seen.append(th.get_num_threads()) or judge(*args))
    before = th.get_num_threads()
    try:
        th.set_num_threads(2)
        run(["short"], folder=tmp_path / "runs", results=tmp_path / "results")
    finally:
        th.set_num_threads(before)
    assert seen == [1, 1]


@pytest.mark.slow
def test_two_processes_find_what_one_finds(finished, tmp_path):
    assert run(["first", "second"], jobs=2, folder=tmp_path / "runs", results=tmp_path / "results") == []
    assert_same_tables(tmp_path / "results", finished[1])


# --- nothing is computed twice -----------------------------------------------------------------------------------


@pytest.mark.parametrize("kept", ["both", "runs", "results"])
def test_what_is_there_is_not_computed_again(kept, copied, monkeypatch):
    before = contents(copied[1])
    for name, place in zip(("runs", "results"), copied, strict=True):
        if kept not in (name, "both"):
            shutil.rmtree(place)
    monkeypatch.setattr(runner, "_judge", fail)
    assert run(["first", "second"], folder=copied[0], results=copied[1]) == []
    assert contents(copied[1]) == before


@pytest.mark.parametrize("name", runner.TABLES)
def test_a_deleted_table_is_gathered_again(name, copied, monkeypatch):
    before = contents(copied[1])
    (copied[1] / name).unlink()
    monkeypatch.setattr(runner, "_judge", fail)
    assert run(["first", "second"], folder=copied[0], results=copied[1]) == []
    assert contents(copied[1]) == before


def test_another_experiment_computes_only_what_is_new(tmp_path, monkeypatch):
    places, computed, judge = {"folder": tmp_path / "runs", "results": tmp_path / "results"}, [], runner._judge
    monkeypatch.setattr(
        runner, "_judge", lambda trial, folder: computed.append((trial.method, trial.seed)) or judge(trial, folder)
    )
    run(["first"], **places)
    assert computed == [(name, seed) for seed in (0, 1) for name in ("a2c", "random", "always-local")]
    computed.clear()
    run(["second"], **places)
    assert computed == [("frugal", 0), ("frugal", 1), ("a2c", 2), ("frugal", 2)]


def test_one_scenario_can_be_run_first(tmp_path):
    places = {"folder": tmp_path / "runs", "results": tmp_path / "results"}
    assert run(["first"], scenario="hopeless", **places) == []
    assert set(read_table("first.csv", places["results"])["scenario"]) == {"hopeless"}
    with pytest.raises(InvalidInput, match="scenario: got 'nowhere', allowed: one of balanced, hopeless"):
        run(["first"], scenario="nowhere", **places)


def test_seeds_are_limited(tmp_path, finished):
    told = []
    places = {"folder": tmp_path / "runs", "results": tmp_path / "results"}
    run(["first"], seeds=1, progress=lambda *counts: told.append(counts), **places)
    assert told == [(0, 3), (1, 3), (2, 3), (3, 3)]
    assert set(read_table("first.csv", tmp_path / "results")["seed"]) == {0}
    run(["first", "second"], **places)
    assert_same_tables(tmp_path / "results", finished[1])


def test_the_quick_profile_is_short(tmp_path):
    run(["first", "long"], "quick", folder=tmp_path, results=tmp_path / "quick")
    runs = read_table("runs.csv", tmp_path / "quick")
    assert set(runs["seed"]) == {0} and set(runs["episodes"]) == {0, 3, QUICK_TRAINING}
    assert not set(runs["run"]) & set(trials_of(EXPERIMENTS))


# --- whatever stops it -------------------------------------------------------------------------------------------


class Killed(BaseException):
    """Raised where a process ends at once."""


@contextmanager
def killed_at_write(number):
    """From this write on nothing is written any more, but for a part of a draft; collects the files written."""
    written = []

    def write(path, content):
        written.append(path.name)
        if len(written) > number:
            path.with_name(path.name + ".part").write_bytes(content[:7])
            raise Killed
        write_whole(path, content)

    with pytest.MonkeyPatch.context() as patch:
        for module in (training, runner, store):
            patch.setattr(module, "write_whole", write)
        patch.setattr(runner, "train", partial(train, checkpoint_every=1))
        yield written


@pytest.mark.slow
def test_a_kill_at_any_write_loses_nothing(tmp_path, finished):
    """Nothing of the tables after a rerun, and nothing of what tells edited files from those as they were written."""

    def compute(place):
        if not place.exists():
            shutil.copytree(finished[1], place / "results")
        return run(["short"], folder=place / "runs", results=place / "results")

    with killed_at_write(math.inf) as files:
        assert compute(tmp_path / "whole") == []
    assert len(files) > 15 and {"run.json", "checkpoint.safetensors", "result.json", "manifest.json"} <= set(files)
    for number, file in enumerate(files):
        place = tmp_path / str(number)
        with killed_at_write(number), pytest.raises(Killed):
            compute(place)
        assert compute(place) == [], f"killed at write {number} ({file})"
        assert_same_tables(place / "results", tmp_path / "whole" / "results")
        assert edited(place / "results") == [], f"killed at write {number} ({file})"


DRIVER = """
import sys
sys.path.insert(0, sys.argv.pop(1))
import test_runner
test_runner.declare(test_runner.pytest.MonkeyPatch())
test_runner.app()
"""


@contextmanager
def started(place, *arguments, driver=DRIVER):
    """`aiecof run` on the experiments of a driver, in a session of its own, of which nothing is left at the end."""
    where = ["--folder", str(place / "runs"), "--results", str(place / "results")]
    command = [sys.executable, "-c", driver, str(Path(__file__).parent), "run", *arguments, *where]
    with open(place / "errors", "w") as errors:
        options = {"start_new_session": True, "preexec_fn": hear_interrupts}
        process = subprocess.Popen(command, stdout=errors, stderr=errors, **options)
    try:
        yield process
    finally:
        if left_behind(process):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def wait_until(moment):
    deadline = time.monotonic() + 300
    while not moment() and time.monotonic() < deadline:
        time.sleep(0.005)


def stop(process, moment, number):
    """Send a signal when the moment has come; the exit code."""
    wait_until(lambda: moment() or process.poll() is not None)
    assert process.poll() is None, "it ended before the moment came"
    process.send_signal(number)
    return process.wait(300)


def left_behind(process):
    """The processes of its group that still run."""
    listed = subprocess.run(["ps", "-A", "-o", "pgid=,stat=,args="], capture_output=True, text=True, check=True).stdout
    rows = [line.split(maxsplit=2) for line in listed.splitlines()]
    return [row for row in rows if row[0] == str(process.pid) and not row[1].startswith("Z")]


def done(place):
    """Trial -> time of its finished result."""
    return {path.parent.name: path.stat().st_mtime_ns for path in (place / "runs").glob("*/result.json")}


@pytest.mark.slow
@pytest.mark.parametrize("jobs", ["1", "2"])
def test_signals_lose_no_finished_trial(jobs, tmp_path):
    """Interrupted when a trial is done, killed in a training, then run to its end beside the workers that are left."""
    place = tmp_path / "stopped"
    place.mkdir()

    def in_training():
        """A checkpoint has been written after the interrupt."""
        checkpoints = (place / "runs").glob("*/checkpoint.safetensors")
        return any(path.stat().st_mtime > interrupt for path in checkpoints if path.exists())

    with started(place, "long", "--jobs", jobs) as process:
        assert stop(process, lambda: done(place), signal.SIGINT) == 130
        assert (place / "errors").read_text().startswith("interrupted: what is finished is kept")
        wait_until(lambda: not left_behind(process))
        assert not left_behind(process)
    interrupt, before = time.time(), done(place)
    assert before.keys() == set(read_table("runs.csv", place / "results")["run"]) < trials_of(["long"]).keys()
    with started(place, "long", "--jobs", jobs) as process:
        stop(process, in_training, signal.SIGKILL)
        for trial in done(place):
            assert json.loads((place / "runs" / trial / "result.json").read_text())["run"] == trial
        assert run(["long"], folder=place / "runs", results=place / "results") == []
    assert before.items() <= done(place).items(), "a finished trial was computed again"
    assert run(["long"], folder=tmp_path / "whole", results=tmp_path / "results") == []
    assert_same_tables(place / "results", tmp_path / "results")
    assert edited(place / "results") == []


def test_who_comes_second_waits_and_takes_what_is_there(tmp_path, monkeypatch):
    [*_, trial] = trials_of(["second"]).values()
    computed, judge = [], runner._judge

    def slow(*arguments):
        computed.append(arguments)
        time.sleep(0.5)  # long enough for the other one to come
        return judge(*arguments)

    monkeypatch.setattr(runner, "_judge", slow)
    with ThreadPoolExecutor(2) as two:
        first, second = two.map(runner.run_trial, [trial] * 2, [tmp_path] * 2)
    assert len(computed) == 1 and first == second


@pytest.mark.slow
def test_two_may_run_at_once(tmp_path, finished):
    """No trial fails, and no table loses a row or a digest."""
    with started(tmp_path, "first", "second") as one, started(tmp_path, "second", "first") as other:
        assert (one.wait(300), other.wait(300)) == (0, 0)
    assert_same_tables(tmp_path / "results", finished[1])
    assert edited(tmp_path / "results") == []


def test_a_failing_trial_does_not_stop_the_others(tmp_path, monkeypatch, finished):
    def make(name, scenario, seed, **changes):
        if (name, seed) == ("random", 0):
            raise RuntimeError("no luck")
        return make_policy(name, scenario, seed, **changes)

    places = {"folder": tmp_path / "runs", "results": tmp_path / "results"}
    with monkeypatch.context() as patch:
        patch.setattr(runner, "make_policy", make)
        [failure] = run(["first", "second"], **places)
        command = ["run", "first", "--folder", str(places["folder"]), "--results", str(places["results"])]
        result = CliRunner().invoke(app, command)
    assert "random on balanced, seed 0" in failure and "RuntimeError('no luck')" in failure
    assert (result.exit_code, result.stderr) == (1, f"error: {failure}\n")
    rows = read_table("first.csv", tmp_path / "results")
    assert sorted(zip(rows["method"], rows["seed"], strict=True)) == [
        *(("a2c", 0), ("a2c", 1), ("always-local", 0), ("always-local", 1), ("random", 1))
    ]
    assert run(["first", "second"], **places) == []
    assert_same_tables(tmp_path / "results", finished[1])


# --- what is no longer declared, and what was edited -------------------------------------------------------------


def test_what_is_not_declared_any_more_is_listed_then_dropped(copied, monkeypatch):
    runs, results = copied
    assert stale(results) == []
    changed = TINY.replace(workload_scale=0.3)
    fewer = {
        "first": replace(EXPERIMENTS["first"], cells=EXPERIMENTS["first"].cells[:2]),
        "second": Experiment("?", 1, (cell("frugal", changed, {"kind": "new"}),)),
    }
    old = trials_of(EXPERIMENTS)
    declare(monkeypatch, fewer)
    gone = {name for name, trial in old.items() if trial.method in ("always-local", "frugal") or trial.seed == 2}
    gone &= set(read_table("runs.csv", results)["run"])
    store.declare(experiments.declarations(), {}, results)
    assert set(stale(results)) == gone and len(gone) == 2 + 3 + 1
    run(["first"], folder=runs, results=results)
    assert stale(results) == []
    for name in ("runs.csv", "curves.parquet", "devices.parquet", "first.csv", "second.csv"):
        assert not set(read_table(name, results)["run"]) & gone, name
    assert set(read_table("first.csv", results)["method"]) == {"a2c", "random"}


def test_every_committed_result_is_as_it_was_written():
    results = results_folder()
    found = {path.relative_to(results).as_posix() for path in results.rglob("*") if path.is_file()}
    found = {name for name in found if not name.startswith("board/")}  # `aiecof verify --card` is for these
    assert found - {"manifest.json"} == store.manifest().files.keys()
    assert edited() == []


def test_the_committed_manifest_belongs_to_the_code():
    """`aiecof gather` writes it anew, after a change of the code that names trials."""
    assert store.manifest().code == store.code_state()


def test_edited_and_deleted_files_are_noticed(copied):
    results = copied[1]
    assert edited(results) == []
    table = results / "first.csv"
    table.write_text(table.read_text().replace("random", "toppo", 1))
    (results / "curves.parquet").unlink()
    assert edited(results) == ["curves.parquet", "first.csv"]
    assert CliRunner().invoke(app, ["status"]).exit_code == 0


def forge(results, name, rows, column, value):
    """Put a value into some rows of a table, with a manifest that agrees."""
    table = read_table(name, results)
    table.loc[table.eval(rows), column] = value
    write_table(name, table, results)
    assert edited(results) == []


@pytest.fixture(scope="module")
def again(finished, tmp_path_factory):
    """Where `verify` finds the trials computed again."""
    place = tmp_path_factory.mktemp("again")
    with pytest.MonkeyPatch.context() as patch:
        declare(patch)
        verify(100, results=finished[1], folder=place)
    return place


def test_honest_results_are_equal(finished, tmp_path):
    rows = []
    table = verify(100, results=finished[1], folder=tmp_path, on_row=rows.append)
    assert (table["outcome"] == "equal").all() and (table["difference"] < 1e-6).all() and table["parted"].isna().all()
    assert sorted(table["run"]) == sorted(read_table("runs.csv", finished[1])["run"].unique())
    assert {row["run"] for row in rows} == set(table["run"])
    assert (table["processor"] == runner.made_by()["processor"]).all()


def test_verify_computes_nothing_twice(finished, again, monkeypatch):
    """Two jobs or one, the same sample or part of it; but other packages, or another processor, are another matter."""
    monkeypatch.setattr(runner, "_judge", fail)
    assert (verify(100, results=finished[1], folder=again)["outcome"] == "equal").all()
    first, second = (verify(2, seed=1, results=finished[1], folder=again) for _ in range(2))
    assert list(first["run"]) == list(second["run"]) and len(first) == 2
    monkeypatch.setattr(verify_module, "made_by", lambda: {"processor": "another"})
    failed = verify(1, results=finished[1], folder=again)
    assert list(failed["outcome"]) == ["differs"] and "this is not to be called" in failed["why"].iloc[0]


def test_rows_without_a_processor_are_read(copied, again):
    """Those of the first results; what new ones add stands beside them."""
    table = read_table("runs.csv", copied[1])
    write_table("runs.csv", table.drop(columns=["processor", "threads"]), copied[1])
    found = verify(100, results=copied[1], folder=again)
    assert set(found["outcome"]) == {"equal"} and set(found["processor"]) == {"not recorded"}
    before = (copied[1] / "runs.csv").read_bytes()
    runner.collect("full", *copied)
    assert (copied[1] / "runs.csv").read_bytes() == before
    assert run(["first", "short"], folder=copied[0], results=copied[1]) == []
    kept = read_table("runs.csv", copied[1]).set_index("run")["processor"]
    assert set(kept[kept.notna()]) == {runner.made_by()["processor"]} and kept.isna().any()
    assert len(status(copied[1])) == len(EXPERIMENTS)


@pytest.mark.parametrize(
    ("name", "rows", "column", "value"),
    [
        ("runs.csv", "method == 'random' and seed == 0", "cost", 0.01),
        ("runs.csv", "method == 'random' and seed == 0", "drop_rate", 0.0),
        ("runs.csv", "method == 'random' and seed == 0", "delay", np.nan),
        ("runs.csv", "method == 'always-local' and seed == 1", "delay", 0.1),
        ("runs.csv", "method == 'always-local' and seed == 1", "drop_rate", 0.99),
        ("runs.csv", "method == 'a2c' and seed == 0", "reward", 99.0),
        ("runs.csv", "method == 'a2c' and seed == 0 and actions == 'greedy'", "reward", 99.0),
        ("runs.csv", "method == 'a2c' and seed == 1", "energy", 1.0),
        ("first.csv", "method == 'a2c' and seed == 1", "energy", 1.0),
        ("second.csv", "method == 'frugal' and seed == 2", "load", 0.5),
    ],
)
def test_a_forged_metric_differs(name, rows, column, value, copied, again):
    table = read_table(name, copied[1])
    [forged] = table[table.eval(rows)]["run"].unique()
    forge(copied[1], name, rows, column, value)
    found = verify(100, results=copied[1], folder=again)
    differs = found[found["outcome"] == "differs"]
    assert list(differs["run"]) == [forged] and (differs["difference"] > 1e-6).all()
    assert (found["outcome"] == "equal").sum() == len(found) - 1


def test_a_rule_has_to_be_equal_on_any_processor(copied, again, monkeypatch):
    """As has a training that never parts from the recorded one, but for what one turned decision changes."""

    def elsewhere(trial, folder):
        result = run_trial(trial, folder)
        for metrics in result["actions"].values():
            metrics["energy"] *= 1.01
        return result

    run_trial = runner.run_trial
    monkeypatch.setattr(verify_module, "run_trial", elsewhere)
    write_table("runs.csv", read_table("runs.csv", copied[1]).assign(processor="another"), copied[1])
    found = verify(100, results=copied[1], folder=again)
    assert set(found["outcome"]) == {"differs"} and set(found["processor"]) == {"another"}
    assert set(found["why"]) == {"it has to be equal", "the same training, other metrics"}


# --- what is there -----------------------------------------------------------------------------------------------


def test_status_counts(copied, tmp_path):
    counts = status(copied[1]).set_index("experiment")
    assert counts.loc["first", ["seeds", "complete_seeds", "trials", "done", "missing"]].to_list() == [2, 2, 6, 6, 0]
    assert counts.loc["second", ["seeds", "complete_seeds", "trials", "done", "missing"]].to_list() == [3, 3, 6, 6, 0]
    # `long` shares the rule `random` with `first`
    assert counts.loc["long", ["seeds", "complete_seeds", "trials", "done", "missing"]].to_list() == [2, 0, 6, 2, 4]
    assert counts.loc["short", ["seeds", "complete_seeds", "trials", "done", "missing"]].to_list() == [1, 0, 2, 0, 2]
    table = read_table("runs.csv", copied[1])
    table = table[~((table["method"] == "frugal") & (table["seed"] == 1))]
    table.loc[table["run"] == table["run"].iloc[0], "wall_time"] = 7200.0
    write_table("runs.csv", table, copied[1])
    counts = status(copied[1]).set_index("experiment")
    assert counts.loc["second", ["complete_seeds", "done", "missing"]].to_list() == [1, 5, 1]
    assert counts["hours"].max() == pytest.approx(2.0, abs=0.02)
    assert status(tmp_path / "nowhere").empty


def test_a_fingerprint_that_looks_like_a_number_stays_a_word(tmp_path):
    for word in ("1234567890123456", "00000000000000e1"):
        write_table("table.csv", pd.DataFrame({"run": [word], "cost": [1.0]}), tmp_path)
        assert list(read_table("table.csv", tmp_path)["run"]) == [word]


# --- refusals ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("bad", "message"),
    [
        ({"names": ["figure_99"]}, "experiment: got 'figure_99', allowed: one of first, second, short, long"),
        ({"profile": "fast"}, "profile: got 'fast', allowed: one of full, quick"),
        ({"jobs": 0}, "jobs: got 0, allowed: a whole number >= 1"),
        ({"jobs": 1.5}, "jobs: got 1.5, allowed: a whole number"),
        ({"seeds": 0}, "seeds: got 0, allowed: a whole number >= 1"),
        ({"folder": Path("/dev/null/runs")}, "folder: got '/dev/null/runs', allowed: a folder that can be written"),
        ({"results": Path("/dev/null/x")}, "results: got '/dev/null/x', allowed: a folder that can be written"),
    ],
)
def test_bad_input_is_refused_before_anything_is_computed(bad, message, tmp_path, monkeypatch):
    monkeypatch.setattr(runner, "run_trial", fail)
    arguments = {"names": ["first"], "folder": tmp_path / "runs", "results": tmp_path / "results"} | bad
    with pytest.raises(InvalidInput) as error:
        run(**arguments)
    assert str(error.value).startswith(message)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["run", "figure_99"], "experiment: got 'figure_99', allowed: one of first, second, short, long"),
        (["run", "first", "--profile", "fast"], "profile: got 'fast', allowed: one of full, quick"),
        (["run", "first", "--jobs", "0"], "jobs: got '0', allowed: a whole number >= 1"),
        (["run", "first", "--jobs", "two"], "jobs: got 'two', allowed: a whole number >= 1"),
        (["run", "first", "--seeds", "0"], "seeds: got '0', allowed: a whole number >= 1"),
        (["run", "first", "--results", "/dev/null/x"], "results: got '/dev/null/x', allowed: a folder"),
        (["trial", "0123456789abcdef"], "trial: got '0123456789abcdef', allowed: one of "),
        (["verify", "--sample", "0"], "sample: got '0', allowed: a whole number >= 1"),
        (["verify", "--results", "nothing"], "results: got "),
    ],
)
def test_commands_refuse_in_one_line(arguments, message, tmp_path, monkeypatch):
    monkeypatch.setattr(runner, "runs_folder", lambda: tmp_path / "runs")
    if arguments[0] == "run":
        arguments = [*arguments, "--folder", str(tmp_path / "runs")]
        arguments += [] if "--results" in arguments else ["--results", str(tmp_path / "results")]
    result = CliRunner().invoke(app, arguments)
    assert isinstance(result.exception, SystemExit), result.exception
    assert (result.exit_code, result.stdout, result.stderr.count("\n")) == (2, "", 1)
    assert result.stderr.startswith("error: " + message)
    assert not list(tmp_path.rglob("*.*")), "it left a file behind"


def test_verify_refuses_nothing_to_verify(tmp_path):
    with pytest.raises(InvalidInput, match="results: got .*, allowed: a folder with results"):
        verify(1, results=tmp_path, folder=tmp_path)


# --- commands ----------------------------------------------------------------------------------------------------


def test_commands_run_a_trial_and_then_the_rest(tmp_path, finished):
    folder, results = tmp_path / "runs", tmp_path / "results"
    fingerprint = next(iter(trials_of(["first"])))
    assert CliRunner().invoke(app, ["trial", fingerprint, "--folder", str(folder)]).exit_code == 0
    assert [path.name for path in folder.iterdir()] == [fingerprint] and not results.exists()
    ran = CliRunner().invoke(app, ["run", "first", "second", "--folder", str(folder), "--results", str(results)])
    told = f"10 trials: 0 were there, 10 computed, 0 failed\ntables are in {os.path.relpath(results)}\n"
    assert ran.exit_code == 0 and ran.stdout == told
    assert_same_tables(results, finished[1])


@pytest.fixture
def as_committed(copied, monkeypatch):
    """The commands take the copied results for the project's own."""
    monkeypatch.setattr(store, "results_folder", lambda: copied[1])
    return copied[1]


def test_status_prints_what_is_there(as_committed):
    found = json.loads(CliRunner().invoke(app, ["status", "--json"]).stdout)
    assert found["edited"] == found["stale"] == []
    assert found["experiments"] == status(as_committed).to_dict("records")
    (as_committed / "first.csv").unlink()
    printed = CliRunner().invoke(app, ["status"]).stdout
    assert all(name in printed for name in EXPERIMENTS) and "first.csv" in printed.splitlines()[-2]


def test_verify_ends_with_1_if_a_metric_was_forged(as_committed, again):
    command = ["verify", "--sample", "100", "--jobs", "1", "--folder", str(again)]
    honest = CliRunner().invoke(app, command)
    assert honest.exit_code == 0 and honest.stdout.endswith("10 equal, 0 plausible, 0 differs\n")
    assert len(honest.stdout.splitlines()) == 11
    forge(as_committed, "runs.csv", "method == 'frugal' and seed == 0", "energy", 1.0)
    forged = CliRunner().invoke(app, [*command, "--results", str(as_committed)])
    assert forged.exit_code == 1 and forged.stdout.endswith("9 equal, 0 plausible, 1 differs\n")
    (as_committed / "second.csv").write_text("nothing")
    refused = CliRunner().invoke(app, ["verify"])
    assert refused.exit_code == 2 and refused.stderr.startswith("error: results: got 'second.csv', allowed: files as")
