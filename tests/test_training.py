"""Run folders: resumed after a kill, whole after a failed save, refused where they do not fit."""

import itertools
import json
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch as th

from aiecof.agents.learned import load_policy
from aiecof.agents.methods import METHODS
from aiecof.agents.policies import evaluate, record_actions
from aiecof.agents.rules import make_policy
from aiecof.agents.training import Run, train
from aiecof.checks import InvalidInput
from aiecof.files import write_whole
from aiecof.reconstruction.tuning import LEARNING_RATES, TUNING_SEEDS
from aiecof.system.scenario import load_scenario
from aiecof.system.simulator import Simulator
from aiecof.system.workload import draw_trace

th.set_num_threads(1)
TINY = load_scenario("balanced", devices=3, servers=2, slots=20)
QUICK = {"dqn": {"learning_starts": 60, "buffer_size": 600, "batch_size": 16}}


def tiny_run(name, folder, episodes=6, **kwargs):
    return train(name, TINY, episodes, 1, folder, checkpoint_every=2, **QUICK.get(name, {}), **kwargs)


class Stop(Exception):
    """Raised to end a training early."""


NEW_PARTS = {"policy_kwargs": {"action_head": "two_level", "memory": "lstm_window", "window": 4}}


@pytest.mark.parametrize(
    ("name", "changes"),
    [
        *((name, {}) for name in ("toppo", "toppo-transformer", "ppo", "ppo-stacked", "a2c", "ac", "dqn", "d3qn")),
        ("toppo", NEW_PARTS),
    ],
)
def test_a_stopped_training_goes_on_as_if_it_had_not_been(name, changes, tmp_path):
    def stop(done):
        if done == 5:
            raise Stop

    whole = tiny_run(name, tmp_path / "whole", **changes)
    with pytest.raises(Stop):
        tiny_run(name, tmp_path / "stopped", on_episode=stop, **changes)
    assert len(Run(tmp_path / "stopped").curve) == 4
    resumed = tiny_run(name, tmp_path / "stopped", **changes)
    pd.testing.assert_frame_equal(whole.curve, resumed.curve)
    weights, others = (run.load()[0].policy.state_dict() for run in (whole, resumed))
    assert all(th.equal(value, others[key]) for key, value in weights.items())


def test_a_killed_training_resumes(tmp_path):
    code = (
        "import sys; sys.path.insert(0, sys.argv[2]); import test_training as t;"
        "t.train('toppo', t.TINY, 40, 1, sys.argv[1], checkpoint_every=2, on_episode=lambda done: t.time.sleep(0.05))"
    )
    arguments = [sys.executable, "-c", code, str(tmp_path / "killed"), os.path.dirname(__file__)]
    process = subprocess.Popen(arguments)
    checkpoint = tmp_path / "killed" / "checkpoint.safetensors"
    deadline = time.time() + 90
    while not checkpoint.exists() and time.time() < deadline:
        time.sleep(0.05)
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert 2 <= len(Run(tmp_path / "killed").curve) < 40
    killed = train("toppo", TINY, 40, 1, tmp_path / "killed", checkpoint_every=2)
    whole = train("toppo", TINY, 40, 1, tmp_path / "whole", checkpoint_every=2)
    pd.testing.assert_frame_equal(whole.curve, killed.curve)


def test_a_finished_run_is_left_alone(tmp_path):
    run = tiny_run("a2c", tmp_path)
    before = run.checkpoint.stat().st_mtime_ns
    assert tiny_run("a2c", tmp_path).checkpoint.stat().st_mtime_ns == before
    assert run.finished


def test_the_run_says_what_it_is(tmp_path):
    run = tiny_run("a2c", tmp_path)
    description = json.loads((tmp_path / "run.json").read_text())
    assert description["versions"]["torch"] == th.__version__.split("+")[0] or "torch" in description["versions"]
    assert description["wall_time"] > 0 and description["seed"] == 1
    curve = pd.read_csv(tmp_path / "curve.csv", index_col="episode")
    assert list(curve.index) == list(range(6)) and {"delay", "energy", "drop_rate", "load", "reward"} <= set(curve)
    pd.testing.assert_frame_equal(curve, run.curve, check_names=False)


def test_what_was_learned_is_played_back(tmp_path):
    run = tiny_run("toppo", tmp_path)
    first, second = (run.evaluate(4).metrics()["reward"] for _ in range(2))
    assert (first == second).all()
    assert (run.evaluate(4, greedy=True).metrics()["reward"] != first).any()


def test_another_run_s_folder_is_refused(tmp_path):
    tiny_run("a2c", tmp_path)
    with pytest.raises(InvalidInput, match="folder.method"):
        tiny_run("ac", tmp_path)
    with pytest.raises(InvalidInput, match="folder.scenario"):
        train("a2c", TINY.replace(devices=4), 6, 1, tmp_path)
    with pytest.raises(InvalidInput, match="episodes: got 7"):
        tiny_run("a2c", tmp_path, episodes=7)


@pytest.mark.parametrize(
    "bad", [{"episodes": 0}, {"seed": -1}, {"name": "sarsa"}, {"changes": 1}, {"checkpoint_every": 0}]
)
def test_bad_input_names_the_field(bad, tmp_path):
    arguments = {"name": "a2c", "scenario": TINY, "episodes": 1, "seed": 0, "folder": tmp_path} | bad
    field = {"name": "method"}.get(next(iter(bad)), next(iter(bad)))
    with pytest.raises(InvalidInput, match=f"{field}: got"):
        train(**arguments)
    assert not any(tmp_path.iterdir())


@pytest.mark.parametrize("damage", ["cut", "flipped header", "foreign", "pickle"])
def test_a_damaged_checkpoint_is_refused(damage, tmp_path):
    run = tiny_run("a2c", tmp_path)
    content = run.checkpoint.read_bytes()
    damaged = {
        "cut": content[: len(content) // 2],
        "flipped header": content[:8] + b"x" + content[9:],
        "foreign": (tiny_run("ppo", tmp_path / "other").checkpoint.read_bytes()),
        "pickle": b"cos\nsystem\n(S'true'\ntR.",
    }[damage]
    run.checkpoint.write_bytes(damaged)
    with pytest.raises(InvalidInput, match="checkpoint"):
        run.load()


def test_a_checkpoint_replaced_while_it_is_read_is_not_mixed(tmp_path):
    """Weights and counters are of one checkpoint, as when a training is evaluated while it goes on."""
    run, reads, ended = tiny_run("a2c", tmp_path), 0, threading.Event()
    model, curve = run.load()
    versions = []
    for number in (1, 2):
        for value in model.policy.parameters():
            value.data.fill_(number)
        run.save(model, curve[:number])
        versions.append(run.checkpoint.read_bytes())

    def replace():
        for version in itertools.cycle(versions):
            if ended.is_set():
                return
            (tmp_path / "draft").write_bytes(version)
            os.replace(tmp_path / "draft", run.checkpoint)

    writer = threading.Thread(target=replace)
    writer.start()
    try:
        deadline = time.monotonic() + 2
        while time.monotonic() < deadline:
            tensors, state = run._read()
            numbers = {float(value.min()) for name, value in tensors.items() if name.startswith("policy.")}
            assert numbers == {len(state["curve"])}
            reads += 1
    finally:
        ended.set()
        writer.join()
    assert reads > 20


def test_a_failed_save_leaves_the_old_file_whole(tmp_path, monkeypatch):
    path = tmp_path / "file"
    write_whole(path, b"old")

    def full(*args):
        raise OSError(28, "No space left on device")

    for function in ("fsync", "replace"):
        with monkeypatch.context() as patch:
            patch.setattr(os, function, full)
            with pytest.raises(InvalidInput, match="No space left"):
                write_whole(path, b"new")
        assert path.read_bytes() == b"old" and not list(tmp_path.glob("*.part"))


REMOTE = {
    "device_frequency": (1e8, 1e8),
    "server_frequency": (2e11, 2e11),
    "transmission_rate": 2e8,
    "arrival_probability": 0.5,
}
SPEED = {
    "value": {"learning_starts": 100, "target_update_interval": 200},
    "actor-critic": {"learning_rate": 3e-3},
}


@pytest.mark.parametrize(("name", "changes"), [*((name, {}) for name in METHODS), ("toppo", NEW_PARTS)])
def test_every_method_finds_the_known_best_policy(name, changes, tmp_path):
    """Devices too slow for any task, servers that are quick: whoever offloads everything loses nothing."""
    scenario = load_scenario("balanced", devices=4, servers=2, slots=20, **REMOTE)
    trace = draw_trace(scenario, 10, 1, split="evaluation")
    best, worst = (
        evaluate(make_policy(rule, scenario), scenario, trace).metrics() for rule in ("least-loaded", "always-local")
    )
    assert best["drop_rate"].max() == 0.0 and worst["drop_rate"].min() > 0.9
    family = "value" if METHODS[name].counts == "greedy" else "actor-critic"
    found = train(name, scenario, 40, 1, tmp_path, **SPEED[family] | changes).evaluate(10, greedy=True).metrics()
    assert found["drop_rate"].mean() < 0.02 and found["local_share"].mean() < 0.02
    assert found["reward"].mean() > 0.98 * best["reward"].mean()


def test_registered_learning_rates_are_those_that_the_tuning_found_best():
    table = pd.read_csv(Path(__file__).resolve().parent.parent / "results/tuning.csv")
    best = table.groupby(["method", "learning_rate"])["reward"].mean().unstack().idxmax(axis=1)
    assert best.to_dict() == {name: entry.hyperparameters["learning_rate"][0] for name, entry in METHODS.items()}
    assert set(table["learning_rate"]) == set(LEARNING_RATES) and set(table["seed"]) == set(TUNING_SEEDS)


@pytest.mark.parametrize(
    ("name", "network"),
    [
        ("toppo", {"action_head": "two_level"}),
        ("toppo", {"memory": "lstm_window", "window": 4}),
        ("toppo-transformer", {}),
        ("ppo-stacked", {}),
        ("d3qn", {}),
    ],
)
def test_a_sampled_episode_is_the_same_among_however_many(name, network, tmp_path):
    """Each has a random stream: when evaluated, with the exported policy, and when replayed from its actions."""
    run = tiny_run(name, tmp_path / "run", episodes=2, policy_kwargs=network)
    six, three = (run.evaluate(count, greedy=False) for count in (6, 3))
    assert (six.metrics()["reward"][:3] == three.metrics()["reward"]).all()
    run.export(tmp_path / "policy")
    policy, _ = load_policy(tmp_path / "policy", greedy=False, seed=1)
    trace = draw_trace(TINY, 6, 1, split="evaluation")
    actions = record_actions(policy, TINY, trace)
    assert (actions[:3] == record_actions(policy, TINY, trace[:3])).all()
    last = evaluate(policy, TINY, trace[3:], first=3).metrics()["reward"]
    replayed = Simulator(TINY)
    replayed.run(trace, actions)
    for played in (six, evaluate(policy, TINY, trace)):
        assert (played.metrics()["reward"] == replayed.metrics()["reward"]).all()
    assert (six.metrics()["reward"][3:] == last).all()
    other, _ = load_policy(tmp_path / "policy", greedy=False, seed=2)
    assert (record_actions(other, TINY, trace) != actions).any()
    thrice = trace[np.zeros(3, int)]
    assert len(np.unique(record_actions(policy, TINY, thrice), axis=0)) == 3
