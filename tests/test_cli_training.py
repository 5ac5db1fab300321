"""The commands that train: what they print, leave behind, and refuse."""

import json

import pytest
from typer.testing import CliRunner

from aiecof.agents import bench
from aiecof.agents.methods import METHODS, parameter_count
from aiecof.cli.app import app

SMALL = {"devices": 3, "servers": 2, "slots": 20, "tau_max_slots": 8, "workload_scale": 0.25}


def run(*arguments):
    result = CliRunner().invoke(app, list(arguments))
    assert result.exception is None or isinstance(result.exception, SystemExit), result.exception
    return result


@pytest.fixture
def small(tmp_path):
    """A scenario file of a small network."""
    path = tmp_path / "small.json"
    path.write_text(json.dumps(SMALL), encoding="utf-8")
    return str(path)


def test_methods_say_where_every_value_comes_from():
    methods = json.loads(run("methods", "--json").stdout)
    assert list(methods) == list(METHODS)
    for name, entry in methods.items():
        assert entry["parameters"] == parameter_count(name) > 0
        assert {source for _, source in entry["hyperparameters"].values()} <= {"paper", "default", "reading", "tuned"}
    assert methods["toppo"]["hyperparameters"]["learning_rate"] == [1e-3, "paper"]
    table = run("methods").stdout
    assert all(name in table for name in ("toppo", "a2c", "clip_range"))


def test_train_then_evaluate(small, tmp_path):
    folder = str(tmp_path / "run")
    trained = run("train", "a2c", "--scenario", small, "--episodes", "4", "--seed", "1", "--folder", folder)
    assert trained.exit_code == 0 and "4 episodes" in trained.stdout and "drop_rate" in trained.stdout
    files = {"run.json", "curve.csv", "checkpoint.safetensors", "lock"}
    assert {path.name for path in (tmp_path / "run").iterdir()} == files
    evaluated = json.loads(run("evaluate", folder, "--episodes", "3", "--json").stdout)
    assert list(evaluated) == ["counts", "sampled", "greedy"] and evaluated["counts"] == "sampled"
    assert list(evaluated["greedy"]) == ["delay", "energy", "drop_rate", "load", "reward", "local_share"]
    assert "sampled (counts)" in run("evaluate", folder, "--episodes", "3").stdout


@pytest.mark.parametrize(
    ("arguments", "field"),
    [
        (["train", "sarsa"], "method"),
        (["train", "a2c", "--episodes", "0"], "episodes"),
        (["train", "a2c", "--episodes", "many"], "episodes"),
        (["train", "a2c", "--seed", "-1"], "seed"),
        (["train", "a2c", "--devices", "0"], "devices"),
        (["train", "a2c", "--scenario", "nowhere"], "scenario"),
        (["train", "a2c", "--episodes", "1", "--folder", "/dev/null/run"], "folder"),
        (["evaluate", "nowhere"], "run"),
        (["evaluate", "nowhere", "--episodes", "0"], "episodes"),
        (["tune", "sarsa"], "method"),
    ],
)
def test_bad_input_ends_with_one_line_and_code_2(arguments, field):
    result = run(*arguments)
    assert result.exit_code == 2 and result.stdout == ""
    assert result.stderr.startswith(f"error: {field}: got ") and result.stderr.count("\n") == 1


def test_the_folder_of_another_scenario_is_refused(small, tmp_path):
    folder = str(tmp_path / "run")
    assert run("train", "a2c", "--scenario", small, "--episodes", "1", "--folder", folder).exit_code == 0
    result = run("train", "a2c", "--scenario", small, "--devices", "4", "--episodes", "1", "--folder", folder)
    assert result.exit_code == 2 and result.stderr.startswith("error: folder.scenario: got ")


def test_bench_training_has_the_promised_keys(monkeypatch):
    speeds = {"RecurrentPPO": 500.0}
    monkeypatch.setattr(
        bench, "_transitions_per_second", lambda model, episodes: speeds.get(type(model).__name__, 6_000.0)
    )
    measured = json.loads(run("bench", "training", "--json").stdout)
    assert measured["transitions_per_second"] == dict.fromkeys(METHODS, 6_000.0)
    assert measured["toppo_over_stock"] == 12.0
    assert {entry["ratio"] for entry in measured["by_minibatch"].values()} == {12.0}


def test_bench_compares_networks_of_one_size():
    environment = bench.OffloadingVecEnv("balanced", devices=3, seed=0)
    stock = bench.stock_recurrent_ppo(environment, 300, 4).policy
    ours = METHODS["toppo"].build(environment, 0).policy
    for network in ("lstm_actor", "lstm_critic"):
        assert getattr(stock, network).hidden_size == getattr(ours, network).hidden_size
    assert stock.net_arch == ours.net_arch
