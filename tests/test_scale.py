"""Many devices: a critic that sees all of them, heads that fit any number of servers, policies that play elsewhere."""

import json

import numpy as np
import pandas as pd
import pytest
import torch as th
from test_agents import collected
from test_training import TINY, Stop, tiny_run
from typer.testing import CliRunner

from aiecof.agents import bench, memories, toppo
from aiecof.agents.central import VIEWS
from aiecof.agents.heads import HEADS, server_columns
from aiecof.agents.learned import LearnedPolicy, load_policy
from aiecof.agents.methods import METHODS
from aiecof.agents.policies import record_actions
from aiecof.agents.training import Run
from aiecof.checks import InvalidInput
from aiecof.cli.app import app
from aiecof.envs import OffloadingVecEnv
from aiecof.system.observations import observation_fields, observation_width
from aiecof.system.scenario import load_scenario
from aiecof.system.workload import draw_trace

th.set_num_threads(1)
PER_SERVER = [head for head in HEADS if head.endswith("per_server")]


def mappo(**changes):
    """An untrained MAPPO on two networks of five devices, and what their devices see, (10, F)."""
    env = OffloadingVecEnv(load_scenario("balanced", devices=5, servers=2, slots=20), replicas=2, seed=1)
    model = METHODS["mappo"].build(env, 0, **changes)
    return model, th.rand(10, env.observation_space.shape[0])


# --- the critic of the whole network -----------------------------------------------------------------------------


@th.no_grad()
def test_another_device_s_observation_changes_the_value_and_not_the_action():
    model, own = mappo()
    changed = own.clone()
    changed[3, 4] += 0.5
    values, logits = [], []
    for rows in (own, changed):
        seen = th.as_tensor(model.get_env().seen(rows.numpy()))
        values.append(model.policy.predict_values(seen).flatten())
        logits.append(model.policy.get_distribution(seen).distribution.logits)
    others = th.arange(10) != 3
    assert th.equal(logits[0][others], logits[1][others]) and not th.equal(logits[0][3], logits[1][3])
    moved = values[0] != values[1]
    assert moved[:5].all() and not moved[5:].any()


@th.no_grad()
def test_the_critic_does_not_know_the_order_of_the_devices():
    model, own = mappo()
    order = th.tensor([3, 0, 4, 1, 2, 5, 6, 7, 8, 9])
    before, after = (
        model.policy.predict_values(th.as_tensor(model.get_env().seen(x.numpy()))) for x in (own, own[order])
    )
    th.testing.assert_close(before[order], after)
    assert len(before.unique()) == 10


def test_the_whole_network_is_mean_spread_and_maximum_of_a_replica():
    model, own = mappo()
    seen = model.get_env().seen(own.numpy()).reshape(2, 5, VIEWS, -1)
    for replica, rows in zip(seen, own.numpy().reshape(2, 5, -1), strict=True):
        for device in range(5):
            expected = [rows[device], rows.mean(axis=0), rows.std(axis=0), rows.max(axis=0)]
            np.testing.assert_allclose(replica[device], expected, rtol=1e-6)


def test_what_the_critic_sees_is_as_long_for_a_thousand_devices():
    widths = {
        METHODS["mappo"].build(OffloadingVecEnv("balanced", devices=devices), 0, n_steps=2).observation_space.shape
        for devices in (2, 1_000)
    }
    assert widths == {(VIEWS * observation_width(load_scenario("balanced")),)}


def test_observations_stay_in_their_space_and_the_last_ones_are_completed_too():
    env = METHODS["mappo"].build(OffloadingVecEnv(TINY, seed=0), 0).get_env()
    observations, rng = env.reset(), np.random.default_rng(0)
    for slot in range(TINY.slots):
        assert all(row in env.observation_space for row in observations)
        observations, _, dones, infos = env.step(rng.integers(TINY.actions, size=TINY.devices))
        assert dones.all() == (slot == TINY.slots - 1)
    last = np.stack([info["terminal_observation"] for info in infos])
    width = observation_width(TINY)
    assert last.shape == (TINY.devices, VIEWS * width)
    assert (last == env.seen(last[:, :width])).all()


def test_a_policy_with_a_central_critic_acts_on_its_own_observation(tmp_path):
    """After a stop it goes on as if there had been none, and its file needs nothing but what a device sees."""

    def stop(done):
        if done == 5:
            raise Stop

    whole = tiny_run("mappo", tmp_path / "whole")
    with pytest.raises(Stop):
        tiny_run("mappo", tmp_path / "stopped", on_episode=stop)
    resumed = tiny_run("mappo", tmp_path / "stopped")
    pd.testing.assert_frame_equal(whole.curve, resumed.curve)
    weights, others = (run.load()[0].policy.state_dict() for run in (whole, resumed))
    assert all(th.equal(value, others[key]) for key, value in weights.items())
    whole.export(tmp_path / "policy")
    policy, _ = load_policy(tmp_path / "policy", greedy=True)
    seen = np.random.default_rng(0).random((1, TINY.devices, observation_width(TINY)), np.float32)
    changed = seen.copy()
    changed[0, 1:] += 0.5
    actions = []
    for observations in (seen, changed):
        policy.reset(1)
        actions.append(policy(observations, np.ones((1, TINY.devices), bool)))
    assert actions[0][0, 0] == actions[1][0, 0]


def test_one_score_a_server_is_refused_where_an_input_holds_several_observations():
    for name in ("mappo", "ppo-stacked"):
        with pytest.raises(InvalidInput, match="action_head"):
            METHODS[name].build(OffloadingVecEnv(TINY), 0, policy_kwargs={"action_head": "per_server"})


# --- one score a server ------------------------------------------------------------------------------------------


def headed(name, head, servers=8, **changes):
    """An algorithm with a head on a network with some servers, and its scenario."""
    scenario = load_scenario("balanced", devices=3, slots=20, servers=servers, **changes)
    model = METHODS[name].build(OffloadingVecEnv(scenario, seed=1), 0, policy_kwargs={"action_head": head})
    with th.no_grad():  # an untrained head says nearly the same of all places
        model.policy.action_net.score.weight.mul_(100.0)
    return model, scenario


@th.no_grad()
def probabilities(model, rows):
    """(S, F) -> (S, N + 1)."""
    acting = LearnedPolicy(model, 1, greedy=False)
    acting.reset(1)
    return acting._scores(rows).softmax(-1)


@pytest.mark.parametrize("head", PER_SERVER)
@pytest.mark.parametrize("name", ["toppo", "toppo-transformer", "ppo", "a2c"])
def test_servers_that_change_places_change_probabilities(name, head):
    model, scenario = headed(name, head)
    rows, order = th.rand(6, observation_width(scenario)), th.randperm(8)
    swapped = rows.clone()
    for columns in server_columns(scenario):
        swapped[:, columns] = rows[:, columns][:, order]
    before, after = probabilities(model, rows), probabilities(model, swapped)
    th.testing.assert_close(before.sum(-1), th.ones(6))
    th.testing.assert_close(after[:, 1:], before[:, 1:][:, order])
    th.testing.assert_close(after[:, 0], before[:, 0])
    assert (before[:, 1:].std(-1) > 1e-3).all()


@pytest.mark.parametrize("head", PER_SERVER)
@pytest.mark.parametrize("name", ["toppo", "a2c"])
def test_the_weights_of_eight_servers_fit_twelve(name, head):
    small, few = headed(name, head)
    large, many = headed(name, head, servers=12)
    large.policy.load_state_dict(small.policy.state_dict())
    rows = th.rand(5, observation_width(many))
    for columns in server_columns(many):  # the last four are copies of the first four, and so is what pools them
        rows[:, columns[4:]] = rows[:, columns[:4]].repeat(1, 2)
    chances = probabilities(large, rows)
    assert chances.shape == (5, 13)
    th.testing.assert_close(chances[:, 1:5], chances[:, 9:13])
    eight = th.zeros(5, observation_width(few))
    for name, (columns, _) in observation_fields(few).items():
        wide = observation_fields(many)[name][0]
        eight[:, columns] = rows[:, wide.start : wide.start + columns.stop - columns.start]
    odds = probabilities(small, eight)
    th.testing.assert_close(odds[:, 1:] / odds[:, 1:2], chances[:, 1:9] / chances[:, 1:2])
    if head == "two_level_per_server":
        th.testing.assert_close(odds[:, 0], chances[:, 0])


@pytest.mark.parametrize(
    ("observation", "kinds"),
    [("printed", 2), ("printed_mean", 2), ("extended", 3), ("acknowledged", 5), ("oracle", 8)],
)
@pytest.mark.parametrize("reach", [None, 3])
def test_columns_of_the_servers_are_found_in_every_observation(observation, kinds, reach):
    scenario = load_scenario("balanced", servers=5, observation=observation, reach=reach)
    columns, fields = server_columns(scenario), observation_fields(scenario)
    assert [len(entry) for entry in columns] == [reach or 5] * kinds
    places, _ = fields["backlog_slots"]
    assert list(range(places.start, places.stop)) in columns
    assert len(set(sum(columns, []))) == kinds * (reach or 5)
    assert not {0, 1, 2, 3, 4} & set(sum(columns, []))


@pytest.mark.parametrize("head", PER_SERVER)
def test_training_with_one_score_a_server_resumes_and_plays_with_more_servers(head, tmp_path):
    def stop(done):
        if done == 5:
            raise Stop

    changes = {"policy_kwargs": {"action_head": head}}
    whole = tiny_run("toppo", tmp_path / "whole", **changes)
    with pytest.raises(Stop):
        tiny_run("toppo", tmp_path / "stopped", on_episode=stop, **changes)
    resumed = tiny_run("toppo", tmp_path / "stopped", **changes)
    pd.testing.assert_frame_equal(whole.curve, resumed.curve)
    larger = TINY.replace(servers=5, devices=4)
    played = whole.evaluate(2, scenario=larger)
    trace = draw_trace(larger, 2, 1)
    actions = record_actions(whole.policy(larger, seed=1), larger, trace)
    assert actions.max() > TINY.servers and set(np.unique(actions)) <= set(range(6))
    assert np.isfinite(played.metrics()["reward"]).all()


# --- elsewhere than where it was trained -------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["toppo", "mappo", "dqn"])
def test_devices_share_a_policy_however_many_they_are(name, tmp_path):
    """Three devices of seven do what three do who see the same."""
    run = tiny_run(name, tmp_path, episodes=2)
    seven = run.policy(TINY.replace(devices=7), greedy=True)
    three = run.policy(greedy=True)
    rng = np.random.default_rng(0)
    for policy in (seven, three):
        policy.reset(2)
    for _ in range(4):
        seen = rng.random((2, 7, observation_width(TINY)), np.float32)
        actions = seven(seen, np.ones((2, 7), bool))
        assert (three(seen[:, 2:5], np.ones((2, 3), bool)) == actions[:, 2:5]).all()
    assert run.evaluate(2, scenario=TINY.replace(devices=7)).metrics()["reward"].shape == (2,)


@pytest.mark.parametrize(
    ("changes", "field"),
    [({"servers": 5}, "scenario.servers: got 5"), ({"observation": "printed"}, "scenario.observation: got")],
)
def test_a_scenario_that_does_not_fit_is_refused_in_one_line(changes, field, tmp_path):
    run = tiny_run("a2c", tmp_path / "run", episodes=1)
    run.export(tmp_path / "policy")
    for ask in (run.policy, lambda scenario: load_policy(tmp_path / "policy", scenario)):
        with pytest.raises(InvalidInput) as caught:
            ask(TINY.replace(**changes))
        assert str(caught.value).startswith(field) and "\n" not in str(caught.value)
    assert Run(tmp_path / "run").policy(TINY.replace(servers=5, reach=2)) is not None


# --- speed -------------------------------------------------------------------------------------------------------


@th.no_grad()
def test_a_transformer_s_quick_decision_is_the_same(monkeypatch):
    memory = memories.CausalTransformer(3, 8, window=4)
    memory.position.copy_(th.randn_like(memory.position))
    seen = th.rand(6, 7, 3)
    outputs = []
    for many in (8, 7):
        monkeypatch.setattr(memories, "MANY", many)
        state = th.zeros(4, 7, 4), th.zeros(4, 7, 4)
        for slot in range(6):
            output, state = memory(seen[slot : slot + 1], state)
            outputs.append(output)
    th.testing.assert_close(th.cat(outputs[:6]), th.cat(outputs[6:]), atol=1e-6, rtol=1e-5)
    assert not th.allclose(outputs[4], outputs[5])


def test_log_probabilities_in_parts_are_those_of_the_whole(monkeypatch):
    whole = collected()._sequences["log_probs"]
    monkeypatch.setattr(toppo, "AT_ONCE", 5)
    th.testing.assert_close(collected()._sequences["log_probs"], whole)


def test_the_bench_keeps_what_a_device_sees_and_scales_the_batch():
    for devices, servers in zip(bench.SCALES, (8, 27, 80, 267), strict=True):
        scenario = bench.scaled_scenario(devices)
        assert (scenario.devices, scenario.servers, scenario.choices) == (devices, servers, 8)
        assert observation_width(scenario) == observation_width(load_scenario("balanced"))
    sizes = {batch: changes["batch_size"] for batch, changes in bench._batches("toppo", 1_000).items()}
    assert sizes == {"printed": 64, "in proportion": 2_132}
    assert bench._batches("a2c", 1_000) == {"all devices": {}}


def test_the_table_of_the_bench(monkeypatch):
    numbers = {"transitions_per_second": 7_000.0, "seconds_per_episode": 0.5, "decision_ms": 0.25, "memory_mb": None}
    monkeypatch.setattr(bench, "bench_scale", lambda devices, names: {"a2c": {"all devices": {"30": numbers}}})
    table = CliRunner().invoke(app, ["bench", "scale", "30"]).stdout
    assert "7,000" in table and "0.25" in table and "all devices" in table


@pytest.mark.slow
def test_the_bench_measures_in_processes_of_their_own():
    printed = CliRunner().invoke(app, ["bench", "scale", "2", "40", "--method", "a2c", "--json"])
    measured = json.loads(printed.stdout)["a2c"]["all devices"]
    assert list(measured) == ["2", "40"]
    for entry in measured.values():
        assert entry["transitions_per_second"] > 0 and entry["decision_ms"] > 0
    assert measured["2"]["seconds_per_episode"] == pytest.approx(200 / measured["2"]["transitions_per_second"])
    bad = CliRunner().invoke(app, ["bench", "scale", "0"])
    assert bad.exit_code == 2 and bad.stderr.startswith("error: devices: got 0")


@pytest.mark.parametrize("name", ["toppo", "mappo", "dqn"])
def test_a_thousand_devices_that_see_all_servers(name):
    """Without `reach` an observation has an entry for each of 267 servers: long, and no reason to fail."""
    scenario = load_scenario("balanced", devices=1_000, servers=267, slots=4)
    changes = {"buffer_size": 4_000} if name == "dqn" else {"batch_size": 2_000}
    changes |= {"sequence_length": 4, "n_epochs": 1} if name == "toppo" else {}
    model = METHODS[name].build(OffloadingVecEnv(scenario, seed=0), 0, **changes)
    model.learn(4_000)
    policy = LearnedPolicy(model, 1, METHODS[name].counts == "greedy")
    env = OffloadingVecEnv(scenario, seed=0)
    policy.reset(1)
    actions = policy(env.reset().reshape(1, 1_000, -1), env.has_task.reshape(1, -1))
    assert actions.shape == (1, 1_000) and actions.max() > 8
