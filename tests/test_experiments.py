"""The declared experiments: what they share, what tells their trials apart, and that each can be computed."""

import json
import re
import subprocess
import sys
from collections import Counter
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from aiecof.agents.methods import METHODS
from aiecof.agents.rules import POLICIES, make_policy
from aiecof.checks import InvalidInput
from aiecof.envs import OffloadingVecEnv
from aiecof.study import experiments, grids, trials
from aiecof.study.grids import BOUND, EVALUATION, LEARNED, QUICK_TRAINING, TRAINING
from aiecof.study.trials import Experiment, Trial, cell, dynamics_fingerprint
from aiecof.system.scenario import load_scenario
from aiecof.system.simulator import Simulator
from aiecof.system.workload import draw_trace

ROOT = Path(__file__).resolve().parent.parent
FITTED, BALANCED, PRINTED = (load_scenario(name) for name in ("fitted", "balanced", "table-iii"))
EXPERIMENTS = experiments.experiments()
SMALL = load_scenario("balanced", devices=4, servers=2, slots=10)
TRIAL = Trial("a2c", SMALL, 0, 5)
CELLS = [entry for experiment in EXPERIMENTS.values() for entry in experiment.cells]


def first_seed(name, **labels):
    """(scenario, method) -> fingerprint of an experiment's trials of the first seed, in rows with these labels."""
    entries = [entry for entry in EXPERIMENTS[name].cells if labels.items() <= entry.labels.items()]
    assert entries, f"{name} has no row with {labels}"
    return {(entry.labels["scenario"], entry.method): entry.trial(0).fingerprint for entry in entries}


# --- the declarations --------------------------------------------------------------------------------------------


def test_every_cell_can_be_computed():
    """Rules are made, learning methods built with their changed values; every scenario has a simulator."""
    for scenario in {entry.scenario for entry in CELLS}:
        Simulator(scenario)
    for entry in CELLS:
        if entry.method in POLICIES:
            make_policy(entry.method, entry.scenario, 0, **entry.changes)
            assert entry.episodes == 0
        elif entry.method != BOUND:
            assert set(entry.changes) <= {*METHODS[entry.method].hyperparameters, "policy_kwargs"}
            assert entry.episodes > 0


@pytest.mark.slow
def test_every_changed_hyperparameter_arrives():
    """The algorithm that is built holds the value that the cell names."""
    small = SMALL.replace(slots=100)
    environment = OffloadingVecEnv(small)
    learned = [entry for entry in CELLS if entry.changes and entry.method in METHODS]
    changed = {json.dumps([entry.method, entry.changes], sort_keys=True) for entry in learned}
    assert len(changed) > 10
    for method, changes in map(json.loads, changed):
        model = METHODS[method].build(environment, 0, **changes)
        for name, value in (changes | changes.pop("policy_kwargs", {})).items():
            found = getattr(model if hasattr(model, name) else model.policy, name)
            found = found(1.0) if callable(found) and not callable(value) else found
            least = METHODS[method].family != "value" and name == "batch_size"  # of a rollout there is no more
            assert found == (min(value, small.slots * small.devices) if least else value), name


@pytest.mark.parametrize("name", EXPERIMENTS)
def test_rows_are_told_apart_by_their_labels(name):
    cells = EXPERIMENTS[name].cells
    assert len({tuple(entry.labels) for entry in cells}) == 1, "one table, one set of columns"
    assert Counter(tuple(entry.labels.values()) for entry in cells).most_common(1)[0][1] == 1
    assert all(entry.labels["method"] == entry.method for entry in cells)
    assert all(entry.labels["scenario"] == entry.scenario.name for entry in cells)
    assert len({entry.trial(0).fingerprint for entry in cells}) == len(cells), "one trial a row"


def test_table_iv_compares_everything_there_is_on_three_scenarios():
    methods = {scenario: set() for scenario in ("fitted", "balanced", "table-iii")}
    for scenario, method in first_seed("table_iv"):
        methods[scenario].add(method)
    assert all(found == {*LEARNED, *POLICIES, BOUND} for found in methods.values())
    assert set(LEARNED) == {name for name, entry in METHODS.items() if entry.family in ("value", "actor-critic")}


def test_figures_use_the_trials_of_table_iv():
    table = first_seed("table_iv")
    shared = [
        first_seed("figure_8", devices=30),
        first_seed("figure_9", capacity=1.0),
        first_seed("figure_5"),
        first_seed("figure_6"),
        first_seed("figure_3a", actor=1e-3, critic=1e-3),
        first_seed("figure_3b", batch_size=300),
        first_seed("figure_3c", gamma=0.9),
        first_seed("figure_7", stage="late"),
        first_seed("ablation", variant="TOPPO"),
        first_seed("readings", reading="as chosen"),
    ]
    for found in shared:
        assert found.items() <= table.items()
    assert {scenario for scenario, _ in shared[0]} == {scenario for scenario, _ in shared[1]} == {"fitted", "balanced"}


def test_figures_on_an_arm_use_the_trials_of_the_arm():
    """And the memories' trials; a coin of the sweeps is one of the arm's."""
    arm = {entry.trial(0).fingerprint for name in ("arm_printed", "memory") for entry in EXPERIMENTS[name].cells}
    shared = [
        first_seed("printed_figure_8", devices=30),
        first_seed("printed_figure_9", capacity=1.0),
        first_seed("printed_figure_9_one", capacity=1.0),
        first_seed("printed_figure_3a", actor=1e-3, critic=1e-3),
        first_seed("printed_figure_3b", batch_size=64),
        first_seed("printed_figure_3c", gamma=0.9),
        first_seed("printed_figure_7", stage="late"),
        first_seed("heads", head="flat", stage="late", arm="printed"),
        first_seed("carried", memory="carried", stage="late"),
        first_seed("printed_ablation", variant="TOPPO"),
        first_seed("printed_ablation", variant="no memory (PPO)"),
        first_seed("printed_ablation", variant="Transformer"),
        first_seed("printed_readings", reading="as chosen"),
    ]
    for found in shared:
        assert {scenario for scenario, _ in found} == set(grids.REPRESENTATIVES)
        assert set(found.values()) <= arm
    unseen = first_seed("printed_readings", reading="network", value="episode")
    assert set(unseen.values()) <= set(first_seed("unseen").values())
    others = {"devices": 20}, {"devices": 60}
    assert not any(arm & set(first_seed("printed_figure_8", **labels).values()) for labels in others)


def test_sweeps_of_the_plan_say_what_everyone_knows():
    for name in ("tuned", "unseen", "printed_figure_8", "printed_figure_9_one", "printed_figure_4", "printed_readings"):
        known = {entry.method: entry.labels["knows"] for entry in EXPERIMENTS[name].cells}
        assert known["random"] == known["mixture-random"] == "nothing" if "random" in known else True
        assert all(known.values()) and len(set(known.values())) >= 3, name


@pytest.fixture
def searched(monkeypatch):
    """A search that has found something for two methods on one network."""
    values = [{"gamma": gamma, "learning_rate": 1e-3} for gamma in (0.5, 0.9, 0.99)]
    rows = [("ac", 0, False, 9.0, 0.3), ("ac", 1, False, 8.0, 0.2), ("ac", 2, True, 99.0, 0.1)]
    rows += [("a2c", 0, True, 5.0, 0.9), ("a2c", 1, True, 5.0, 0.9), ("a2c", 2, False, 6.0, 0.4)]
    table = pd.DataFrame(rows, columns=["method", "configuration", "stopped", "reward", "cost"])
    table = table.assign(scenario="plain", arm="printed", values=[json.dumps(values[i]) for i in table.configuration])
    monkeypatch.setattr(experiments, "read_table", lambda *args: table)


def test_the_best_of_a_search_are_trained_anew(searched):
    """What was stopped early is not chosen; one configuration that is best in both is one row."""
    cells = {(e.method, e.labels["tuned_for"]): e for e in experiments.experiment("tuned").cells if e.episodes}
    assert {key: entry.changes["gamma"] for key, entry in cells.items()} == {
        ("ac", "reward"): 0.5,
        ("ac", "cost"): 0.9,
        ("a2c", "reward and cost"): 0.99,
    }
    assert {entry.scenario for entry in cells.values()} == {experiments.network("plain", "printed")}


def test_what_a_search_found_names_the_trials(searched, monkeypatch):
    before = {entry.trial(0).fingerprint for entry in experiments.experiment("tuned").cells}
    monkeypatch.setattr(experiments, "read_table", lambda *args: pd.DataFrame())
    without = {entry.trial(0).fingerprint for entry in experiments.experiment("tuned").cells}
    assert without < before and len(before - without) == 3


def test_other_points_of_a_sweep_are_trials_of_their_own():
    table = set(first_seed("table_iv").values())
    for name, labels in {
        "figure_8": {"devices": 40},
        "figure_9": {"capacity": 0.5},
        "figure_3a": {"actor": 1e-2},
        "figure_3b": {"batch_size": 60},
        "figure_3c": {"gamma": 0.0},
        "figure_7": {"stage": "early"},
        "ablation": {"variant": "no clipping"},
        "readings": {"reading": "drop_rule"},
    }.items():
        assert not table & set(first_seed(name, **labels).values()), name


def test_a_sweep_changes_what_it_says():
    for entry in EXPERIMENTS["figure_8"].cells:
        assert entry.scenario.devices == entry.labels["devices"]
    plain = {"fitted": FITTED, "balanced": BALANCED}
    for entry in EXPERIMENTS["figure_9"].cells:
        ratio = np.divide(entry.scenario.server_frequency, plain[entry.scenario.name].server_frequency)
        assert np.allclose(ratio, entry.labels["capacity"])
    for entry in EXPERIMENTS["figure_4"].cells:
        assert entry.scenario.arrival_probability * entry.scenario.slots == pytest.approx(entry.labels["tasks"])
        assert [kind.name for kind in entry.scenario.task_kinds] == [entry.labels["kind"]]
    for entry in EXPERIMENTS["readings"].cells:
        if entry.labels["value"]:
            assert getattr(entry.scenario.readings, entry.labels["reading"]) == entry.labels["value"]


def test_a_task_holds_as_much_work_when_it_is_given_per_bit():
    changed = {entry.scenario for entry in CELLS if entry.scenario.readings.workload == "per_bit"}
    assert {scenario.name for scenario in changed} == {"fitted", *grids.REPRESENTATIVES}
    for scenario in changed:
        pair = load_scenario(scenario.name), scenario
        work = [np.sum(trace.size * trace.density) for trace in (draw_trace(s, 20, 0) for s in pair)]
        assert work[1] == pytest.approx(work[0], rel=0.02)


# --- what tells trials apart -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "change",
    [
        {"method": "ac"},
        {"seed": 1},
        {"episodes": 6},
        {"evaluation": 3},
        {"changes": {"gamma": 0.5}},
        {"changes": {"policy_kwargs": {"net_arch": [8]}}},
        {"scenario": SMALL.replace(devices=5)},
        {"scenario": SMALL.replace(workload_scale=0.2501)},
        {"scenario": SMALL.replace(drop_rule="wait")},
        {"scenario": SMALL.replace(delay_mean="slots")},
    ],
)
def test_what_decides_the_result_decides_the_fingerprint(change):
    assert replace(TRIAL, **change).fingerprint != TRIAL.fingerprint


@pytest.mark.parametrize("change", [{"scenario": SMALL.replace(name="another")}, {"changes": {"gamma": 0.9}}])
def test_what_decides_nothing_does_not(change):
    """The scenario's name, and a value that is written out although it is the registry's."""
    assert replace(TRIAL, **change).fingerprint == TRIAL.fingerprint


def test_scenarios_of_different_names_and_equal_content_are_one():
    renamed = PRINTED.replace(name="printed")
    assert cell("frugal", PRINTED).trial(0).fingerprint == cell("frugal", renamed).trial(0).fingerprint
    assert cell("frugal", PRINTED).labels != cell("frugal", renamed).labels


def test_a_parameter_of_a_rule_tells_trials_apart():
    found = {cell("mixture-random", SMALL, local_probability=share).trial(0).fingerprint for share in (0.25, 0.5)}
    assert len(found | {cell("mixture-random", SMALL).trial(0).fingerprint}) == 3


def test_a_changed_value_of_the_registry_makes_new_trials(monkeypatch):
    entry, before = METHODS["a2c"], {name: Trial(name, SMALL, 0, 5).fingerprint for name in ("a2c", "ac")}
    changed = replace(entry, hyperparameters=entry.hyperparameters | {"gae_lambda": (0.9, "default")})
    monkeypatch.setitem(METHODS, "a2c", changed)
    assert Trial("a2c", SMALL, 0, 5).fingerprint != before["a2c"]
    assert Trial("ac", SMALL, 0, 5).fingerprint == before["ac"]


@pytest.fixture
def recomputed():
    """Dynamics are looked at anew, before and after the test."""
    dynamics_fingerprint.cache_clear()
    yield
    dynamics_fingerprint.cache_clear()


@pytest.mark.parametrize("name", ["delay", "energy", "dropped", "reward", "cost"])
def test_a_changed_equation_makes_new_trials(name, monkeypatch, recomputed):
    before, totals = dynamics_fingerprint(SMALL), Simulator.totals.fget

    def changed(simulator):
        sums = totals(simulator).copy()
        sums[name] *= 1.0001
        return sums

    assert (totals(played(SMALL))[name] != 0.0).all(), "a factor would change nothing"
    monkeypatch.setattr(Simulator, "totals", property(changed))
    dynamics_fingerprint.cache_clear()
    assert dynamics_fingerprint(SMALL) != before
    assert Trial("a2c", SMALL, 0, 5).fingerprint != TRIAL.fingerprint


def played(scenario):
    """A simulator at the end of the episodes that the fingerprint looks at."""
    simulator, trace = Simulator(scenario), draw_trace(scenario, 2, split="reference")
    simulator.run(trace, np.random.default_rng(0).integers(scenario.actions, size=trace.size.shape))
    return simulator


def test_a_changed_workload_makes_new_trials(monkeypatch, recomputed):
    before = dynamics_fingerprint(SMALL)
    monkeypatch.setattr(trials, "draw_trace", lambda *args, **kwargs: draw_trace(SMALL, 2, 1))
    dynamics_fingerprint.cache_clear()
    assert dynamics_fingerprint(SMALL) != before


def test_the_last_bits_of_a_sum_do_not_make_new_trials(monkeypatch, recomputed):
    before, totals = dynamics_fingerprint(SMALL), Simulator.totals.fget

    def rounded(simulator):
        sums = totals(simulator).copy()
        sums["energy"] = np.nextafter(sums["energy"], np.inf)
        return sums

    monkeypatch.setattr(Simulator, "totals", property(rounded))
    dynamics_fingerprint.cache_clear()
    assert dynamics_fingerprint(SMALL) == before


@pytest.mark.slow
def test_another_process_finds_the_same_fingerprints():
    code = (
        "import sys; sys.path.insert(0, sys.argv[1]); import test_experiments as t;"
        "print(t.TRIAL.fingerprint, t.cell('frugal', t.PRINTED).trial(3).fingerprint)"
    )
    command = [sys.executable, "-c", code, str(Path(__file__).parent)]
    output = subprocess.run(command, capture_output=True, text=True, check=True).stdout.split()
    assert output == [TRIAL.fingerprint, cell("frugal", PRINTED).trial(3).fingerprint]


# --- trials of an experiment -------------------------------------------------------------------------------------


def test_first_seeds_come_first_and_every_cell_has_every_seed():
    experiment = Experiment("?", 3, (cell("a2c", SMALL, {"kind": "x"}), cell("random", SMALL, {"kind": "y"})))
    rows = [(labels["seed"], labels["kind"], trial.seed, trial.method) for labels, trial in experiment.trials()]
    assert rows == [(seed, *row) for seed in range(3) for row in (("x", seed, "a2c"), ("y", seed, "random"))]
    assert [trial.episodes for _, trial in experiment.trials()] == [TRAINING, 0] * 3
    assert {trial.evaluation for _, trial in experiment.trials()} == {EVALUATION}


def test_a_cell_is_trained_as_long_as_it_says():
    longer = cell("a2c", SMALL, episodes=3 * TRAINING)
    assert [longer.trial(0, quick).episodes for quick in (False, True)] == [3 * TRAINING, QUICK_TRAINING]


@pytest.mark.parametrize("name", EXPERIMENTS)
def test_the_quick_profile_is_short_and_never_taken_for_the_full_one(name):
    quick = [trial for _, trial in EXPERIMENTS[name].trials("quick")]
    assert len(quick) == (EXPERIMENTS[name].quick or len(EXPERIMENTS[name].cells))
    assert {trial.seed for trial in quick} == {0} and max(trial.episodes for trial in quick) <= QUICK_TRAINING
    full = {entry.trial(0).fingerprint for entry in EXPERIMENTS[name].cells}
    assert not full & {trial.fingerprint for trial in quick}


def test_an_unknown_profile_is_refused():
    with pytest.raises(InvalidInput, match="profile: got 'fast', allowed: one of full, quick"):
        next(EXPERIMENTS["table_iv"].trials("fast"))


@pytest.mark.slow
def test_the_snakefile_has_a_job_for_every_trial_that_is_missing(tmp_path):
    """Listed without running it, in a folder where one trial is done."""
    trials = {trial.fingerprint for _, trial in EXPERIMENTS["figure_3c"].trials("quick")}
    done, folder = min(trials), tmp_path / "my runs"
    (folder / done).mkdir(parents=True)
    (folder / done / "result.json").write_text("{}")
    command = [sys.executable, "-m", "snakemake", "--dry-run", "--cores", "1", "--snakefile", str(ROOT / "Snakefile")]
    command += ["--directory", str(tmp_path)]
    command += ["--config", "experiments=figure_3c", "profile=quick", f"folder={folder}"]
    listed = subprocess.run(command, capture_output=True, text=True, check=True)
    jobs = re.findall(r"^(\w+) +(\d+)$", listed.stdout, flags=re.MULTILINE)
    assert dict(jobs) == {"trial": "3", "all": "1", "total": "4"}
    outputs = re.findall(
        rf"output: {re.escape(str(folder))}/(\w+)/result.json( \(update\))?$", listed.stdout, re.MULTILINE
    )
    assert dict(outputs) == dict.fromkeys(trials - {done}, " (update)")
    assert [path.name for path in folder.iterdir()] == [done]
