"""The command line: what it prints, and how it refuses."""

import importlib.metadata
import json
import os
import signal
import subprocess
import sys
import time

import numpy as np
import pytest
from strategies import hear_interrupts
from typer.testing import CliRunner

from aiecof.agents import bench as bench_module
from aiecof.agents.rules import POLICIES, make_policy
from aiecof.checks import InvalidInput
from aiecof.cli.app import app
from aiecof.cli.chosen import chosen_scenario
from aiecof.system.scenario import BEYOND, READINGS, SCENARIOS, load_scenario
from aiecof.system.simulator import Simulator
from aiecof.system.workload import draw_trace

METRICS = ["delay", "energy", "drop_rate", "load", "reward", "local_share"]
SIMULATE = ["simulate", "--scenario", "balanced", "--policy", "random", "--episodes", "6", "--seed", "3"]


def run(*arguments: str):
    result = CliRunner().invoke(app, list(arguments))
    assert result.exception is None or isinstance(result.exception, SystemExit), result.exception
    return result


def printed(*arguments: str):
    """The one JSON object that a command prints, which must be strict JSON."""
    result = run(*arguments)
    assert result.exit_code == 0 and result.stderr == ""
    return json.loads(result.stdout, parse_constant=lambda word: pytest.fail(f"{word} is not JSON"))


# --- simulate ----------------------------------------------------------------------------------------------------


def test_simulate_prints_exactly_the_six_metrics():
    metrics = printed(*SIMULATE, "--json")
    assert list(metrics) == METRICS
    for interval in metrics.values():
        assert list(interval) == ["mean", "low", "high"]
        assert interval["low"] < interval["mean"] < interval["high"]


def test_simulate_prints_what_the_simulator_finds():
    """The same episodes slot by slot, without what the command calls."""
    scenario = load_scenario("balanced")
    simulator, policy = Simulator(scenario), make_policy("random", scenario, 3)
    policy.reset(6)
    observations = simulator.reset(draw_trace(scenario, 6, 3))
    while not simulator.done:
        observations, _, _ = simulator.step(policy(observations, simulator.has_task))
    found, metrics = simulator.metrics(), printed(*SIMULATE, "--json")
    for name in METRICS:
        assert np.isclose(metrics[name]["mean"], found[name].mean(), rtol=1e-12)
        half = 2.5705818 * found[name].std(ddof=1) / 6**0.5
        assert np.isclose(metrics[name]["high"] - metrics[name]["mean"], half)


def test_equal_seeds_print_equal_numbers():
    assert printed(*SIMULATE, "--json") == printed(*SIMULATE, "--json")
    assert printed(*SIMULATE, "--json") != printed(*SIMULATE[:-1], "4", "--json")


def test_one_episode_has_no_interval_and_nothing_completed_is_null(tmp_path):
    path = tmp_path / "hopeless.json"
    path.write_text('{"tau_max_slots": 1, "slots": 20}')
    metrics = printed("simulate", "--scenario", str(path), "--policy", "always-local", "--episodes", "1", "--json")
    assert metrics["delay"] == {"mean": None, "low": None, "high": None}
    assert metrics["drop_rate"] == metrics["local_share"] == {"mean": 1.0, "low": 1.0, "high": 1.0}


def test_devices_can_be_changed():
    crowd = ["simulate", "--policy", "least-loaded", "--episodes", "3", "--json"]
    more, fewer = printed(*crowd, "--devices", "60"), printed(*crowd, "--devices", "10")
    assert more["drop_rate"]["low"] > fewer["drop_rate"]["high"]


def test_a_table_shows_every_metric_with_its_unit():
    result = run(*SIMULATE)
    assert result.exit_code == 0
    for line in (
        "random on balanced: 6 episodes, 30 devices, seed 3",
        "Delay [s]",
        "Energy [J]",
        "Drop rate",
        "Local share",
    ):
        assert line in result.stdout
    assert "\x1b" not in result.stdout  # plain text where it is not a terminal


@pytest.mark.parametrize("policy", POLICIES)
def test_every_policy_can_be_simulated(policy):
    assert list(printed("simulate", "--policy", policy, "--episodes", "2", "--json")) == METRICS


# --- the lists ---------------------------------------------------------------------------------------------------


def test_scenarios():
    named = printed("scenarios", "--json")
    assert list(named) == [*SCENARIOS, *BEYOND]
    assert named["fitted"]["tau_max_slots"] == 7 and set(named["fitted"]["readings"]) == set(READINGS)
    assert named["balanced"]["fingerprint"] == load_scenario("balanced").fingerprint
    table = run("scenarios").stdout
    for text in [*SCENARIOS, *BEYOND, *READINGS, "Deadline [slots]", "30 - 41.8", "2000 - 3000 Mcycle/task"]:
        assert text in table


def test_policies():
    named = printed("policies", "--json")
    assert {name: entry["information"] for name, entry in named.items()} == {
        name: entry.information for name, entry in POLICIES.items()
    }
    table = run("policies").stdout
    assert all(name in table and entry.description in table for name, entry in POLICIES.items())


def test_equations():
    rows = printed("equations", "--json")
    assert [row["equation"] for row in rows] == list(range(1, 38))
    assert list(rows[8]) == ["equation", "function", "tests", "anchor", "page", "readings"]
    assert rows[8]["function"] == "system.model.computing_energy" and "tests/test_model.py" in rows[8]["tests"][0]
    table = run("equations").stdout
    assert "(31)" in table and "system.objective.decision_reward" in table


def test_bench(monkeypatch):
    """The real measurement, made short."""
    for name, value in {"REPLICAS": (1, 2), "DIVIDED": 2, "DEVICES": (5, 10)}.items():
        monkeypatch.setattr(bench_module, name, value)
    monkeypatch.setattr(bench_module.bench_simulator, "__defaults__", (0.0,))
    measured = printed("bench", "simulator", "--json")
    assert set(measured["device_slots_per_second"]) == {"1", "2"}
    assert set(measured["device_slots_per_second_with_observations"]) == {"1", "2"}
    assert "1" in measured["device_slots_per_second_by_threads"]
    assert set(measured["scaling"]) == {"5", "10"}
    assert measured["reference_ratio"] > 10
    assert min(measured["device_slots_per_second"].values()) > 1e5
    assert "times the plain event simulation" in run("bench", "simulator").stdout


def test_bench_measures_what_is_asked_for():
    assert bench_module.REPLICAS == (1, 64)
    assert (min(bench_module.DEVICES), max(bench_module.DEVICES)) == (30, 10_000)


def test_the_best_of_several_repetitions_counts(monkeypatch):
    clock, naps = [0.0], iter([9.0, 3.0, 1.0, 2.0])
    monkeypatch.setattr(bench_module.time, "perf_counter", lambda: clock[0])

    def nap():
        clock[0] += next(naps)

    assert bench_module.best_time(nap, 5.0) == 1.0  # the first, slowest one only warms up


# --- refusals ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "field", "allowed"),
    [
        (["simulate", "--scenario", "nonsense"], "scenario: got 'nonsense'", "balanced"),
        (["simulate", "--scenario", "nowhere.json"], "scenario: got 'nowhere.json'", "readable JSON"),
        (["simulate", "--policy", "nonsense"], "policy: got 'nonsense'", "round-robin"),
        (["simulate", "--episodes", "0"], "episodes: got '0'", ">= 1"),
        (["simulate", "--episodes", "-3"], "episodes: got '-3'", ">= 1"),
        (["simulate", "--episodes", "2.5"], "episodes: got '2.5'", "whole number"),
        (["simulate", "--episodes", "many"], "episodes: got 'many'", "whole number"),
        (["simulate", "--episodes", "nan"], "episodes: got 'nan'", "whole number"),
        (["simulate", "--episodes", ""], "episodes: got ''", "whole number"),
        (["simulate", "--seed", "-1"], "seed: got '-1'", ">= 0"),
        (["simulate", "--seed", "inf"], "seed: got 'inf'", "whole number"),
        (["simulate", "--devices", "0"], "devices: got '0'", ">= 1"),
        (["simulate", "--devices", "1e3"], "devices: got '1e3'", "whole number"),
        (["simulate", "--devices", "9" * 12], "devices: got", "<= 100000"),
        (["simulate", "--seed"], "command line: got 'simulate --seed'", "--help"),
        (["simulate", "--nonsense"], "option: got '--nonsense'", "--help"),
        (["simulate", "extra"], "command line: got 'simulate extra'", "--help"),
        (["scenarios", "--json=3"], "command line: got 'scenarios --json=3'", "--help"),
        (["nonsense"], "command: got 'nonsense'", "simulate"),
        (["bench", "nonsense"], "command: got 'nonsense'", "simulator"),
        (["bench"], "bench: got 'nothing after it'", "environments"),
        (["--nonsense"], "option: got '--nonsense'", "--help"),
    ],
)
def test_bad_input_ends_with_one_line_and_code_2(arguments, field, allowed):
    result = run(*arguments)
    assert result.exit_code == 2 and result.stdout == ""
    [line] = result.stderr.splitlines()
    assert line.startswith(f"error: {field}") and allowed in line[line.index(", allowed: ") :]


@pytest.mark.parametrize(
    ("content", "field"),
    [
        ('{"tau_max_slots": -1}', "tau_max_slots: got -1"),
        ('{"tau_max_slots": 8, "device_frequency_ghz": [5, 3]}', "device_frequency: got (5000000000.0, 3000000000.0)"),
        ('{"tau_max_slots": 8, "waiting_power": NaN}', "waiting_power: got nan"),
        ('{"tau_max_slots": 8, "slot_duration_ms": Infinity}', "slot_duration_ms: got inf"),
        ('{"tau_max_slots": 8, "readings": {"drop_rule": "never"}}', "readings.drop_rule: got 'never'"),
        (
            '{"tau_max_slots": 8, "readings": {"edge_service": "equal_sharing"}}',
            "readings.edge_service: got 'equal_sharing'",
        ),
        ('{"tau_max_slots"', "scenario: got"),
    ],
)
def test_a_bad_scenario_file_ends_with_one_line_and_code_2(tmp_path, content, field):
    path = tmp_path / "mine.json"
    path.write_text(content)
    result = run("simulate", "--scenario", str(path), "--episodes", "1")
    assert result.exit_code == 2 and result.stdout == ""
    [line] = result.stderr.splitlines()
    assert line.startswith(f"error: {field}") and ", allowed: " in line


def test_help_is_no_error():
    for arguments in ([], ["--help"], ["simulate", "--help"], ["bench", "--help"]):
        result = run(*arguments)
        assert result.exit_code == 0 and "Usage" in result.stdout and result.stderr == ""


# --- as a program ------------------------------------------------------------------------------------------------


def program(*arguments: str, **options) -> subprocess.Popen:
    command = [sys.executable, "-m", "aiecof", *arguments]
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    return subprocess.Popen(command, preexec_fn=hear_interrupts, **pipes, **options)


def test_it_is_a_program():
    process = program("simulate", "--episodes", "2", "--json")
    output, errors = process.communicate(timeout=120)
    assert (process.returncode, errors) == (0, "") and list(json.loads(output)) == METRICS
    process = program("simulate", "--scenario", "nonsense")
    output, errors = process.communicate(timeout=120)
    assert (process.returncode, output) == (2, "") and errors.startswith("error: scenario: got 'nonsense'")
    assert errors.count("\n") == 1


def test_the_installed_command_is_this_one():
    [entry] = importlib.metadata.entry_points(group="console_scripts", name="aiecof")
    assert entry.load() is app


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="needs a named pipe")
def test_an_interrupt_is_quiet(tmp_path):
    """The pipe tells when the command has begun: opening it waits for the reader."""
    path = tmp_path / "mine.json"
    os.mkfifo(path)
    process = program("simulate", "--scenario", str(path), "--episodes", "1000000", start_new_session=True)
    with open(path, "w") as pipe:
        pipe.write('{"tau_max_slots": 8}')
    time.sleep(5)  # past the imports
    process.send_signal(signal.SIGINT)
    output, errors = process.communicate(timeout=60)
    assert (process.returncode, output, errors) == (130, "", "")


def test_short_commands_load_nothing_heavy():
    code = "import sys; from aiecof.cli.app import app\ntry: app(['scenarios'])\nexcept SystemExit: pass\n"
    heavy = {"numba", "torch", "scipy", "matplotlib", "pandas", "simpy"}
    code += f"print(sorted({heavy} & set(sys.modules)), file=sys.stderr)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stderr.strip() == "[]"


# --- settings, rules and experiments of one's own ------------------------------------------------------------------


def test_settings_change_what_the_file_of_a_scenario_would_change(tmp_path):
    settings = ("tau_max_slots=9", "drop_rule=wait", "weights.drop=0.4", "device_frequency_ghz=2,4", "slots=20")
    path = tmp_path / "mine.json"
    changes = {"tau_max_slots": 9, "device_frequency_ghz": [2, 4], "slots": 20, "weights": {"drop": 0.4}}
    path.write_text(json.dumps({"base": "balanced", "readings": {"drop_rule": "wait"}} | changes), encoding="utf-8")
    short = ("simulate", "--episodes", "2", "--json")
    by_settings = printed(*short, *(word for setting in settings for word in ("--set", setting)))
    assert by_settings == printed(*short, "--scenario", str(path)) != printed(*short)
    changed = load_scenario("balanced", tau_max_slots=9, drop_rule="wait", device_frequency=(2e9, 4e9), slots=20)
    assert load_scenario(str(path)).replace(weights=changed.weights).fingerprint == changed.fingerprint
    assert load_scenario(str(path)).weights.drop == 0.4 and load_scenario(str(path)).weights.load == 0.3


def test_settings_reach_into_bursts():
    whole = {"swing": 0.1, "sojourn_slots": 9, "heavy_share": 0.2, "size_mean_mbit": 6, "size_cv": 1}
    whole |= {"work_mean_megacycles": 2500, "work_cv": 1}
    of_one, of_all = ([f"bursts={json.dumps(whole)}"], ["bursts.swing=0.1", "bursts.work_mean_megacycles=2500"])
    assert chosen_scenario("balanced", None, of_one).bursts.size_mean == 6e6
    bursts = chosen_scenario("bursty", None, of_all).bursts
    assert (bursts.swing, bursts.work_mean, bursts.work_cv) == (0.1, 2500e6, 5.0)
    for wrong in (["bursts=5", "bursts.swing=0.1"], ["bursts.swung=0.1"], ["bursts.swing=0.1", "bursts.swing=0.2"]):
        with pytest.raises(InvalidInput, match=r"^set: got 'bursts\.sw"):
            chosen_scenario("bursty", None, wrong)


def test_a_rule_in_a_file_plays_as_the_one_that_it_is_made_from(tmp_path):
    path = tmp_path / "rule.py"
    path.write_text("from aiecof.agents.rules import Frugal\n\n\nclass Mine(Frugal):\n    pass\n", encoding="utf-8")
    short = ("simulate", "--episodes", "2", "--set", "slots=20", "--json", "--policy")
    assert printed(*short, f"{path}:Mine") == printed(*short, "frugal")


def test_an_experiment_in_a_file_is_computed_once_into_a_folder_of_its_own(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    small = {"base": "balanced", "name": "small", "devices": 3, "servers": 2, "slots": 20}
    methods = ["frugal", {"method": "mixture-random", "local_probability": 0.5}]
    content = {"methods": methods, "scenarios": [small, small | {"name": "patient", "tau_max_slots": 12}], "seeds": 2}
    (tmp_path / "mine.json").write_text(json.dumps(content), encoding="utf-8")
    first, second = (run("run", "mine.json", "--folder", "work") for _ in range(2))
    assert "8 trials: 0 were there, 8 computed, 0 failed" in first.stdout and "results-mine" in first.stdout
    assert "8 trials: 8 were there, 0 computed, 0 failed" in second.stdout
    table = (tmp_path / "results-mine/mine.csv").read_text(encoding="utf-8").splitlines()
    assert len(table) == 9 and table[0].startswith("scenario,method,changes,seed,run")
    (tmp_path / "other.json").write_text(json.dumps(content), encoding="utf-8")
    refused = run("run", "other.json", "--folder", "work", "--results", "results-mine")
    assert refused.exit_code == 2 and "a folder of its own" in refused.stderr


def test_help_begins_with_what_a_newcomer_needs():
    text = run("--help").stdout
    places = [text.index(f"│ {name} ") for name in ("simulate", "scenarios", "train", "claims", "run", "gather")]
    assert places == sorted(places)
