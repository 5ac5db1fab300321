"""The environments pass their own tools' checkers, and all of them show one and the same simulator."""

import dataclasses
import json
import subprocess
import sys
import time
import warnings

import gymnasium
import numpy as np
import pytest
from aiecof_book.toy import TOY_ACTIONS, toy_scenario, toy_trace
from gymnasium.utils.env_checker import check_env as check_gymnasium
from pettingzoo.test import api_test, max_cycles_test, parallel_api_test, parallel_seed_test, seed_test
from pettingzoo.test.state_test import state_test
from sb3_contrib import RecurrentPPO
from stable_baselines3.common.env_checker import check_env as check_sb3
from stable_baselines3.common.vec_env import VecMonitor, VecNormalize
from typer.testing import CliRunner

import aiecof
from aiecof.agents import bench as bench_module
from aiecof.agents.rules import make_policy
from aiecof.checks import InvalidInput
from aiecof.cli.app import app
from aiecof.envs import (
    DeviceEnv,
    JointEnv,
    MultiObjectiveEnv,
    OffloadingEnv,
    OffloadingVecEnv,
    OffloadingVectorEnv,
    ParallelOffloadingEnv,
    pettingzoo_env,
)
from aiecof.envs.episodes import TERMS, Episodes
from aiecof.envs.spaces import action_masks, observation_space, reward_space
from aiecof.system.observations import observation_fields
from aiecof.system.scenario import READINGS, SCENARIOS, Scenario, load_scenario
from aiecof.system.simulator import Simulator
from aiecof.system.workload import draw_trace

SMALL = {"devices": 4, "servers": 3, "slots": 25}
SINGLE = ("aiecof/Offloading-v1", "aiecof/OffloadingDecision-v1", "aiecof/OffloadingJoint-v1")
CHANGES = [
    ("balanced", {}),
    ("table-iii", {}),
    ("fitted", {"network": "episode"}),
    ("balanced", {"channel_queue": "per_device", "in_flight": "drop", "observation": "printed"}),
    ("balanced", {"reward_history": "task", "drop_rule": "wait", "load": "literal", "tau_max_slots": 30}),
]


VIEWS = {
    "decision": OffloadingEnv,
    "device": DeviceEnv,
    "joint": JointEnv,
    "multi-objective": MultiObjectiveEnv,
    "parallel": ParallelOffloadingEnv,
    "sb3": OffloadingVecEnv,
    "vector": lambda scenario="balanced", *arguments, **keywords: OffloadingVectorEnv(
        keywords.pop("rows", 4 if isinstance(scenario, Scenario) else 30), scenario, *arguments, **keywords
    ),
}
TOY_RANGES = {"workload_range": (1e9, 16e9)}  # times the scale of .25: the toy's heaviest task takes 4 Gcycles


def small(name="balanced", **changes):
    return load_scenario(name, **SMALL | changes)


def random_actions(scenario, episodes=1, seed=0):
    return np.random.default_rng(seed).integers(scenario.actions, size=(episodes, scenario.slots, scenario.devices))


def play_gymnasium(env, actions, **reset):
    """Observations (T, M, F), rewards (T, M) and the last info of actions (T, M)."""
    observation, info = env.reset(**reset)
    observations, rewards, ended = [], [], False
    for slot, device in np.ndindex(*actions.shape):
        assert (info["slot"], info["device"], ended) == (slot, device, False)
        observations.append(observation)
        observation, reward, ended, truncated, info = env.step(actions[slot, device])
        rewards.append(reward)
        assert not truncated
    assert ended and not observation.any()
    return np.reshape(observations, (*actions.shape, -1)), np.reshape(rewards, actions.shape), info


def play_parallel(env, actions, **reset):
    observation, info = env.reset(**reset)
    observations, rewards = [], []
    for chosen in actions:
        assert env.agents == env.possible_agents
        observations.append([observation[agent] for agent in env.possible_agents])
        observation, reward, ended, truncated, info = env.step(dict(zip(env.agents, chosen, strict=True)))
        rewards.append([reward[agent] for agent in env.possible_agents])
        assert not any(truncated.values())
    assert all(ended.values()) and env.agents == []
    return np.array(observations), np.array(rewards), info


def play_vectorised(env, actions, observation=None):
    """As above for actions (T, B M); returns the infos of the last slot and the observation after it, too."""
    observation = env.reset() if observation is None else observation
    observations, rewards = [], []
    for slot, chosen in enumerate(actions):
        observations.append(observation)
        size = observation[:, observation_fields(env.scenario)["size"][0]]
        assert np.array_equal(env.has_task, size[:, 0] > 0)
        observation, reward, done, infos = env.step(chosen)
        rewards.append(reward)
        last = slot == len(actions) - 1
        assert (done == last).all() and done.shape == (env.num_envs,)
        assert last or not any(infos)
    return np.array(observations), np.array(rewards), infos, observation


@pytest.mark.parametrize("name", ["balanced", "table-iii"])
def test_gymnasium_checkers_find_nothing(name):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for identity in SINGLE:
            check_gymnasium(gymnasium.make(identity, scenario=name, devices=5).unwrapped)
        for view in (OffloadingEnv, DeviceEnv, JointEnv):
            check_sb3(view(name, devices=5, render_mode="rgb_array"), skip_render_check=False)


def test_pettingzoo_checkers_find_nothing():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        parallel_api_test(ParallelOffloadingEnv(small()), num_cycles=60)
        parallel_seed_test(lambda: ParallelOffloadingEnv("balanced", **SMALL), num_cycles=60)
        max_cycles_test(pettingzoo_env)
        # After the last slot there is nothing to see.
        warnings.filterwarnings("ignore", message="Observation numpy array is all zeros")
        seed_test(lambda: pettingzoo_env.env(scenario="balanced", **SMALL), num_cycles=60)
        api_test(pettingzoo_env.env(scenario=small()), num_cycles=200)
        state_test(pettingzoo_env.env(scenario=small()), ParallelOffloadingEnv(small()))


def test_make_takes_a_name_a_scenario_a_file_and_changes(tmp_path):
    path = tmp_path / "mine.json"
    path.write_text(json.dumps({"tau_max_slots": 9}))
    made = {
        "name": gymnasium.make("aiecof/Offloading-v1", scenario="fitted", devices=10, load_sign="plus"),
        "scenario": gymnasium.make("aiecof/Offloading-v1", scenario=small(), split="evaluation"),
        "file": gymnasium.make("aiecof/Offloading-v1", scenario=path),
    }
    found = {kind: env.unwrapped.scenario for kind, env in made.items()}
    assert found["name"] == load_scenario("fitted", devices=10, load_sign="plus")
    assert found["scenario"] == small()
    assert found["file"].tau_max_slots == 9
    made["scenario"].reset(seed=4)
    assert np.array_equal(
        made["scenario"].unwrapped.simulator.trace.size, draw_trace(small(), seed=4, split="evaluation").size
    )


def test_importing_the_package_stays_cheap():
    heavy = "{'torch', 'stable_baselines3', 'pettingzoo', 'numba', 'pandas', 'matplotlib'}"
    code = f"import sys, aiecof, gymnasium; gymnasium.spec('aiecof/Offloading-v0'); print({heavy} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "set()"
    assert aiecof.__version__


@pytest.mark.parametrize("name, changes", CHANGES)
def test_all_views_show_the_same_trajectory(name, changes):
    scenario = small(name, **changes)
    trace, actions = draw_trace(scenario, 3, seed=11), random_actions(scenario, 3)
    simulator = Simulator(scenario)
    expected = simulator.run(trace, actions)
    totals = simulator.metrics()

    batch = OffloadingVecEnv(scenario, replicas=3)
    batch.set_options({"trace": trace})
    flat = actions.swapaxes(0, 1).reshape(scenario.slots, -1)
    seen, rewards, infos, _ = play_vectorised(batch, flat)
    seen = seen.reshape(scenario.slots, 3, scenario.devices, -1)
    assert np.array_equal(rewards.reshape(scenario.slots, 3, -1), expected.swapaxes(0, 1))

    for b in range(3):
        fixed = {"options": {"trace": trace[b : b + 1]}}
        single = OffloadingVecEnv(scenario)
        single.set_options(fixed["options"])
        results = [
            play_gymnasium(OffloadingEnv(scenario), actions[b], **fixed),
            play_parallel(ParallelOffloadingEnv(scenario), actions[b], **fixed),
            play_vectorised(single, actions[b])[:3],
        ]
        for observations, rewards, _ in results:
            assert observations.dtype == np.float32
            assert np.array_equal(observations, seen[:, b])
            assert np.array_equal(rewards, expected[b])
        for end in (results[0][2], results[2][2][2], infos[b * scenario.devices]):
            assert end["episode_metrics"] == {metric: values[b] for metric, values in totals.items()}
        for end in (results[0][2], results[1][2]["agent_2"]):
            assert {f"episode_{metric}": values[b] for metric, values in totals.items()}.items() <= end.items()


def test_observations_within_a_slot_are_those_of_its_start():
    env = OffloadingEnv(toy_scenario(**TOY_RANGES))
    seen, rewards, _ = play_gymnasium(env, TOY_ACTIONS, options={"trace": toy_trace()})
    columns, scale = observation_fields(env.scenario)["backlog_slots"]
    backlog = seen[..., columns] * scale
    # By hand: server 1 is reserved up to slot 3 by the decisions of slots 0 and 1. In slot 2 device 0 adds half a slot,
    # which device 1, deciding after it, does not see yet.
    assert backlog[1:4].tolist() == [[[1.5, 0.0]] * 2, [[2.0, 0.0]] * 2, [[1.5, 0.0]] * 2]
    assert np.argwhere(rewards == 0).tolist() == [[5, 0], [6, 1]]


def test_an_action_without_a_task_changes_nothing():
    scenario = small(arrival_probability=0.3)
    trace, actions = draw_trace(scenario), random_actions(scenario)[0]
    other = np.where(trace.has_task[0], actions, (actions + 1) % scenario.actions)
    assert (other != actions).any()
    options = {"options": {"trace": trace}}
    first, second = (play_gymnasium(OffloadingEnv(scenario), a, **options) for a in (actions, other))
    assert np.array_equal(first[0], second[0]) and np.array_equal(first[1], second[1])
    assert not first[1][~trace.has_task[0]].any() and first[1][trace.has_task[0]].all()


def test_resets_play_the_episodes_of_a_seed():
    scenario = small(network="episode")
    batch = OffloadingVecEnv(scenario, replicas=2, seed=7)
    views = OffloadingEnv(scenario), ParallelOffloadingEnv(scenario)
    for episode in range(4):
        expected = draw_trace(scenario, seed=7, first=episode, split="train")
        for view in views:
            view.reset(seed=7 if episode == 0 else None)
            assert np.array_equal(view.simulator.trace.size, expected.size)
        if episode % 2 == 0:
            batch.reset()
        assert np.array_equal(batch.simulator.trace.size[episode % 2], expected.size[0])
        assert np.array_equal(batch.simulator.trace.device_frequency[episode % 2], expected.device_frequency[0])


def test_a_fixed_trace_leaves_the_count_of_episodes_as_it_is():
    scenario = small()
    fixed, following = draw_trace(scenario, seed=99), draw_trace(scenario, seed=3, first=1, split="train")
    env, rows = OffloadingEnv(scenario), OffloadingVecEnv(scenario, seed=3)
    env.reset(seed=3)
    env.reset(options={"trace": fixed})
    rows.reset()
    rows.set_options({"trace": fixed})
    rows.reset()
    assert all(np.array_equal(view.simulator.trace.size, fixed.size) for view in (env, rows))
    env.reset()
    rows.reset()
    assert all(np.array_equal(view.simulator.trace.size, following.size) for view in (env, rows))


def test_a_resumed_environment_goes_on_where_the_first_one_was():
    scenario = small()
    env, resumed = OffloadingVecEnv(scenario, seed=3), OffloadingVecEnv(scenario, seed=3, first=2)
    resumed.seed(9)
    for _ in range(2):
        env.reset()
    assert np.array_equal(env.reset(), resumed.reset())
    assert np.array_equal(env.simulator.trace.size, resumed.simulator.trace.size)
    with pytest.raises(InvalidInput, match="first"):
        OffloadingVecEnv(scenario, seed=3, first=-1)


@pytest.mark.parametrize("view", [OffloadingEnv, ParallelOffloadingEnv, OffloadingVecEnv])
def test_without_a_seed_two_environments_differ(view):
    envs = [view(small()) for _ in range(2)]
    for env in envs:
        env.reset()
    assert not np.array_equal(*(env.simulator.trace.size for env in envs))


def test_vectorised_environment_begins_the_next_episode_by_itself():
    scenario = small()
    actions = random_actions(scenario, 2).swapaxes(0, 1).reshape(scenario.slots, -1)
    env = OffloadingVecEnv(scenario, replicas=2, seed=5)
    _, rewards, infos, following = play_vectorised(env, actions)
    simulator = Simulator(scenario)
    assert np.array_equal(
        following, simulator.reset(draw_trace(scenario, 2, seed=5, first=2, split="train")).reshape(env.num_envs, -1)
    )
    episode = [info["episode"] for info in infos]
    assert np.allclose([e["r"] for e in episode], rewards.sum(axis=0))
    assert {e["l"] for e in episode} == {scenario.slots} and all(e["t"] > 0 for e in episode)
    for b, half in enumerate((slice(0, 4), slice(4, 8))):
        mean = np.mean([e["r"] for e in episode[half]])
        assert mean == pytest.approx(infos[4 * b]["episode_metrics"]["reward"])
    assert infos[0]["episode_metrics"] != infos[4]["episode_metrics"]
    for info in infos:
        assert info["terminal_observation"].shape == (following.shape[1],) and not info["terminal_observation"].any()
        assert not info["TimeLimit.truncated"]
    _, second, infos, _ = play_vectorised(env, actions, following)
    assert np.allclose([info["episode"]["r"] for info in infos], second.sum(axis=0))
    assert not np.array_equal(second, rewards)


def test_sb3_wrappers_leave_no_trace_in_later_infos():
    env = OffloadingVecEnv(small(), replicas=2, seed=0)
    wrapped = VecNormalize(VecMonitor(env))
    wrapped.reset()
    for _ in range(env.scenario.slots):
        _, _, _, infos = wrapped.step(np.zeros(env.num_envs, int))
    assert all(info["episode"]["l"] == env.scenario.slots for info in infos)
    assert not any(env.step(np.zeros(env.num_envs, int))[3])


def recurrent_ppo(env, **settings):
    return RecurrentPPO(
        "MlpLstmPolicy",
        env,
        n_steps=25,
        batch_size=100,
        n_epochs=2,
        learning_rate=1e-3,
        policy_kwargs={"lstm_hidden_size": 8},
        device="cpu",
        **settings,
    )


def test_recurrent_ppo_learns_without_warnings():
    env = OffloadingVecEnv(small(), replicas=2, seed=0)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        model = recurrent_ppo(env, seed=1)
        before = [parameter.detach().clone() for parameter in model.policy.parameters()]
        model.learn(3 * 25 * env.num_envs)
    assert any((old != new).any() for old, new in zip(before, model.policy.parameters(), strict=True))
    assert len(model.ep_info_buffer) == 3 * env.num_envs
    assert np.isfinite(model.logger.name_to_value.get("train/loss", 0.0))


def test_the_seed_of_an_agent_moves_only_an_environment_without_one():
    scenario = small()
    for own, expected in [(3, 3), (None, 8)]:
        env = OffloadingVecEnv(scenario, seed=own)
        recurrent_ppo(env, seed=8).learn(1)
        trace = draw_trace(scenario, seed=expected, first=1, split="train")
        assert np.array_equal(env.simulator.trace.size, trace.size)
        assert env.seed(21) == [own or 21] * env.num_envs


def test_a_prediction_of_sb3_is_an_action():
    env = OffloadingEnv(small())
    observation, _ = env.reset(seed=0)
    action, _ = recurrent_ppo(OffloadingVecEnv(small(), seed=0)).predict(observation)
    assert action.shape == ()
    env.step(action)


def test_a_frame_shows_the_queues():
    def frame(places):
        env = OffloadingEnv(toy_scenario(**TOY_RANGES), render_mode="rgb_array")
        env.reset(options={"trace": toy_trace()})
        for place in places:
            env.step(place)
        return env.render()

    def area(image, colour):
        return np.all(image == colour, axis=2).sum()

    # Server 1 stays reserved for 0, 1.5 and 2 slots, the devices together for 4, 1 and (none) 0.
    idle, one, two, none = frame([0, 0]), frame([0, 1]), frame([0, 1, 0, 1]), frame([1, 1])
    assert idle.dtype == np.uint8 and idle.ndim == 3 and idle.shape[2] == 3
    assert np.array_equal(one, frame([0, 1]))
    orange, grey = (255, 127, 14), (105, 105, 105)
    assert area(idle, orange) == 0 < area(one, orange) < area(two, orange)
    assert area(idle, grey) > area(one, grey) > area(none, grey)
    end = frame(TOY_ACTIONS.ravel())
    assert end.shape == idle.shape and not np.array_equal(end, idle)
    assert OffloadingEnv(toy_scenario()).render() is None


@pytest.mark.parametrize("view", VIEWS.values(), ids=VIEWS)
@pytest.mark.parametrize(
    "arguments, named",
    [
        ({"scenario": "unheard-of"}, "scenario"),
        ({"scenario": None}, "scenario"),
        ({"scenario": ["balanced"]}, "scenario"),
        ({"split": "test"}, "split"),
        ({"devices": 0}, "devices"),
        ({"edge_service": "equal_sharing"}, "edge_service"),
        ({"network_seed": -1}, "network_seed"),
        ({"network_seed": "0"}, "network_seed"),
        ({"weights": {"wheels": 1}}, "weights.wheels"),
        ({"weights": {"drop": 2}}, "weights.drop"),
        ({"weights": 1}, "weights"),
        ({"render_mode": "human"}, "render_mode"),
    ],
)
def test_bad_arguments_are_refused(view, arguments, named):
    with pytest.raises(InvalidInput, match=named):
        view(**arguments)


@pytest.mark.parametrize(
    "view, arguments, named",
    [
        (OffloadingVecEnv, {"replicas": 0}, "replicas"),
        (OffloadingVecEnv, {"replicas": 1.5}, "replicas"),
        (OffloadingVecEnv, {"seed": -1}, "seed"),
        (OffloadingVectorEnv, {"autoreset_mode": "Disabled"}, "autoreset_mode"),
        (DeviceEnv, {"device": 4}, "device"),
        (DeviceEnv, {"device": True}, "device"),
        (DeviceEnv, {"others": "unheard-of"}, "policy"),
        (DeviceEnv, {"others": 3}, "others"),
        (DeviceEnv, {"reward": "minus"}, "reward"),
        (ParallelOffloadingEnv, {"max_cycles": 0}, "slots"),
    ],
)
def test_bad_arguments_of_one_view_are_refused(view, arguments, named):
    rows = {"num_envs": 4} if view is OffloadingVectorEnv else {}
    with pytest.raises(InvalidInput, match=named):
        view(scenario=small(), **rows, **arguments)


@pytest.mark.parametrize("action", [4, -1, 1.0, True, None, "0", [1], np.array([1])])
def test_bad_actions_are_refused_and_change_nothing(action):
    scenario = small()
    env, parallel = OffloadingEnv(scenario), ParallelOffloadingEnv(scenario)
    env.reset(seed=0)
    with pytest.raises(InvalidInput, match="action"):
        env.step(action)
    assert env.step(0)[4]["device"] == 1
    parallel.reset(seed=0)
    with pytest.raises(InvalidInput, match="actions.agent_2"):
        parallel.step(dict.fromkeys(parallel.agents, 0) | {"agent_2": action})
    assert parallel.simulator.slot == 0


def test_rows_of_bad_actions_are_refused():
    scenario = small()
    env, parallel = OffloadingVecEnv(scenario, replicas=2, seed=0), ParallelOffloadingEnv(scenario)
    env.reset()
    for actions in (np.full(8, 4), np.zeros(8), np.zeros(7, int), np.zeros((2, 4), int), 0):
        with pytest.raises(InvalidInput, match="actions"):
            env.step(actions)
    parallel.reset(seed=0)
    for actions in ({"agent_0": 0}, dict.fromkeys([*parallel.agents, "agent_9"], 0)):
        with pytest.raises(InvalidInput, match="agent_"):
            parallel.step(actions)


@pytest.mark.parametrize("view", [OffloadingEnv, ParallelOffloadingEnv, OffloadingVecEnv])
def test_a_step_needs_an_episode(view):
    env = view(small(slots=1, devices=1))
    action = {OffloadingEnv: 0, ParallelOffloadingEnv: {"agent_0": 0}, OffloadingVecEnv: np.zeros(1, int)}[view]
    with pytest.raises(InvalidInput, match="reset"):
        env.step(action)
    env.reset()
    env.step(action)
    if view is not OffloadingVecEnv:
        with pytest.raises(InvalidInput, match="reset"):
            env.step(action)


@pytest.mark.parametrize("seed", [-1, 0.5, "0"])
def test_bad_seeds_are_refused(seed):
    for env in (OffloadingEnv(small()), ParallelOffloadingEnv(small())):
        with pytest.raises(InvalidInput, match="seed"):
            env.reset(seed=seed)


def test_a_trace_that_does_not_fit_is_refused():
    scenario = small()
    wrong = [draw_trace(small(devices=5)), draw_trace(scenario, 2), draw_trace(scenario).size, "trace.npz"]
    rows = OffloadingVecEnv(scenario, seed=0)
    for trace in wrong:
        for env in (OffloadingEnv(scenario), ParallelOffloadingEnv(scenario)):
            with pytest.raises(InvalidInput, match="trace"):
                env.reset(options={"trace": trace})
        rows.set_options({"trace": trace})
        with pytest.raises(InvalidInput, match="trace"):
            rows.reset()
    assert rows.reset().shape[0] == rows.num_envs


def test_rows_are_not_environments_of_their_own():
    env = OffloadingVecEnv(small(), seed=0)
    assert env.get_attr("scenario", [0, 2]) == [env.scenario] * 2
    assert env.has_attr("render_mode") and not env.has_attr("wheels")
    assert env.env_is_wrapped(gymnasium.Wrapper) == [False] * 4
    with pytest.raises(InvalidInput, match="scenario"):
        env.set_attr("scenario", None)
    with pytest.raises(InvalidInput, match="reset"):
        env.env_method("reset")


DRAWN = np.random.default_rng(12)


def drawn_readings():
    """A choice of every reading that the compiled simulator knows, at random."""
    values = {name: str(DRAWN.choice(candidates)) for name, candidates in READINGS.items()}
    if values["dropped_energy"] == "none":  # nothing may be left to compare an energy with
        values |= {"energy_reference": "own_history", "cost_units": "si"}
    return values | {"edge_service": "decision_order"}


@pytest.mark.parametrize(
    "name, changes", [*((name, {}) for name in SCENARIOS), *(("fitted", drawn_readings()) for _ in range(40))]
)
@pytest.mark.parametrize("tau", [1, 6])
def test_what_is_seen_and_paid_stays_in_its_space(name, changes, tau):
    scenario = small(name, tau_max_slots=tau, workload_scale=0.6, **changes)
    seen, paid = observation_space(scenario), reward_space(scenario)
    assert np.isfinite([seen.low, seen.high]).all() and np.isfinite([paid.low, paid.high]).all()
    episodes = Episodes(scenario, {}, "train", 3)
    simulator = episodes.simulator
    crowd, local = (np.full((3, scenario.slots, scenario.devices), place) for place in (1, 0))
    for actions in (random_actions(scenario, 3), crowd, local):
        observations = [simulator.reset(draw_trace(scenario, 3, seed=8))]
        while not simulator.done:
            observations.append(simulator.step(actions[:, simulator.slot])[0])
            assert all(row in paid for row in episodes.terms().reshape(-1, 4).astype(np.float32))
        assert all(row in seen for row in np.reshape(observations, (-1, *seen.shape)))


def test_bounds_of_waits_are_reached():
    """One device, one server, nothing but the heaviest task in every slot: the bound is no guess."""
    heavy = {"devices": 1, "servers": 1, "slots": 60, "drop_rule": "wait", "arrival_probability": 1.0}
    work = {"workload_range": (30e9, 30e9), "device_frequency": (3e9, 3e9), "transmission_rate": 1e9}
    scenario = load_scenario("balanced", **heavy, **work)
    simulator, columns = Simulator(scenario), observation_fields(scenario)
    for place, name in enumerate(("wait_slots", "backlog_slots")):
        seen = [simulator.reset(draw_trace(scenario))]
        while not simulator.done:
            seen.append(simulator.step(np.full((1, 1), place))[0])
        high = observation_space(scenario).high[columns[name][0]][0]
        most = np.max(seen, axis=0)[0, 0, columns[name][0]][0]
        assert 1.0 < 0.85 * high < most <= high


@pytest.mark.parametrize(
    "name, factor, changes, named",
    [
        ("size", 2.0, {}, "size"),
        ("density", 2.0, {}, "density"),
        ("density", 20.0, {"workload": "per_bit"}, "density"),
        ("device_frequency", 2.0, {}, "device_frequency"),
        ("server_frequency", 2.0, {}, "server_frequency"),
        ("device_frequency", 0.5, {"drop_rule": "wait"}, "device_frequency"),
        ("rate", 0.5, {"observation": "printed_mean"}, "rate"),
    ],
)
@pytest.mark.parametrize("view", ["decision", "device", "joint", "parallel", "vector"])
def test_a_trace_that_could_leave_the_space_is_refused(view, name, factor, changes, named):
    scenario = small(**changes)
    trace = draw_trace(scenario, seed=1)
    env = VIEWS[view](scenario)
    env.reset(options={"trace": trace})
    with pytest.raises(InvalidInput, match=rf"options.trace.{named}.*within"):
        env.reset(options={"trace": dataclasses.replace(trace, **{name: factor * getattr(trace, name)})})


def test_without_a_task_only_staying_is_allowed():
    scenario = small()
    masks = action_masks(scenario, np.array([True, False]))
    assert masks.tolist() == [[1, 1, 1, 1], [1, 0, 0, 0]] and masks.dtype == np.int8
    trace = draw_trace(scenario, seed=2)
    options = {"options": {"trace": trace}}
    device, joint, parallel = DeviceEnv(scenario, device=1), JointEnv(scenario), ParallelOffloadingEnv(scenario)
    rows, vector, decision = OffloadingVecEnv(scenario), OffloadingVectorEnv(4, scenario), OffloadingEnv(scenario)
    rows.set_options(options["options"])
    rows.reset()
    infos = [env.reset(**options)[1] for env in (device, joint, parallel, vector)]
    decision.reset(**options)
    for slot in range(scenario.slots):
        allowed = action_masks(scenario, trace.has_task[0, slot])
        expected = [allowed[1], allowed, allowed, allowed]
        shown = [infos[0], infos[1], {"action_mask": [info["action_mask"] for info in infos[2].values()]}, infos[3]]
        assert all(np.array_equal(info["action_mask"], mask) for info, mask in zip(shown, expected, strict=True))
        assert np.array_equal(np.stack(rows.env_method("action_masks")), allowed)
        assert np.array_equal(rows.env_method("action_masks", indices=[2])[0], allowed[2])
        assert np.array_equal(device.action_masks(), allowed[1])
        assert np.array_equal(joint.action_masks(), allowed.reshape(-1)) and joint.action_masks().dtype == bool
        assert np.array_equal(vector.action_masks(), allowed)
        for m in range(scenario.devices):
            assert np.array_equal(decision.action_masks(), allowed[m])
            decision.step(0)
        stay = np.zeros(4, int)
        infos = [device.step(0)[-1], joint.step(stay)[-1], parallel.step(dict.fromkeys(parallel.agents, 0))[-1], None]
        infos[3] = vector.step(stay)[-1]
        rows.step(stay)
    assert infos[0]["action_mask"].tolist() == [1, 0, 0, 0] and not infos[3]["has_task"].any()


@pytest.mark.parametrize("network", ["run", "episode"])
def test_network_seed_holds_the_network_and_leaves_the_tasks(network):
    scenario = small(network=network)
    free, held = draw_trace(scenario, 2, seed=5), draw_trace(scenario, 2, seed=5, network_seed=3)
    other = draw_trace(scenario, 2, seed=3)
    assert np.array_equal(held.size, free.size) and not np.array_equal(held.size, other.size)
    assert np.array_equal(held.device_frequency, other.device_frequency)
    assert not np.array_equal(held.device_frequency, free.device_frequency)
    for name, view in VIEWS.items():
        env = view(scenario, network_seed=3, **({"seed": 5} if name == "sb3" else {}))
        env.reset(**({} if name == "sb3" else {"seed": 5}))
        expected = draw_trace(scenario, seed=5, network_seed=3, split="train")
        for column in ("size", "device_frequency", "server_frequency"):
            assert np.array_equal(getattr(env.simulator.trace, column), getattr(expected, column))


@pytest.mark.parametrize("view", VIEWS.values(), ids=VIEWS)
def test_an_unknown_keyword_is_a_type_error(view):
    with pytest.raises(TypeError, match="'devises'.*did you mean 'devices'"):
        view(small(), devises=3)


@pytest.mark.parametrize("identity", SINGLE)
def test_gymnasium_passes_the_type_error_on(identity):
    with pytest.raises(TypeError, match="wheels"):
        gymnasium.make(identity, wheels=4)


@pytest.mark.parametrize(
    "options", [{"tarce": 1}, {"trace": None, "devise": 1}, 3, [("trace", None)], [{"trace": 1}, {"trace": 2}]]
)
def test_misspelt_options_are_refused(options):
    for name, view in VIEWS.items():
        env = view(small())
        with pytest.raises(InvalidInput, match="options"):
            if name == "sb3":
                env.set_options(options)
                env.reset()
            else:
                env.reset(options=options)


def test_infos_are_new_in_each_step():
    scenario = small()
    rows, vector, parallel = OffloadingVecEnv(scenario, seed=0), OffloadingVectorEnv(4, scenario), None
    rows.reset()
    infos = rows.step(np.zeros(4, int))[-1]
    infos[0]["mine"] = 1
    assert infos[1] == {} and not any(rows.step(np.zeros(4, int))[-1])
    vector.reset(seed=0)
    first = vector.step(np.zeros(4, int))[-1]
    kept = {name: values.copy() for name, values in first.items()}
    vector.step(np.ones(4, int))
    assert all(np.array_equal(first[name], kept[name]) for name in kept)
    parallel = ParallelOffloadingEnv(scenario)
    parallel.reset(seed=0)
    first = parallel.step(dict.fromkeys(parallel.agents, 0))[-1]
    first["agent_0"]["mine"] = 1
    second = parallel.step(dict.fromkeys(parallel.agents, 1))[-1]
    assert "mine" not in second["agent_0"] and "mine" not in first["agent_1"]
    with pytest.raises(ValueError, match="read-only"):
        second["agent_0"]["action_mask"][0] = 0


@pytest.mark.parametrize("name", SCENARIOS)
def test_weighted_terms_are_the_reward(name):
    scenario = small(name)
    weights = np.array([getattr(scenario.weights, term) for term in TERMS])
    weights[3] *= -1 if scenario.readings.load_sign == "plus" else 1
    env = OffloadingVectorEnv(8, scenario)
    env.reset(seed=0)
    for actions in random_actions(scenario, 2).swapaxes(0, 1).reshape(scenario.slots, -1):
        _, rewards, _, _, info = env.step(actions)
        assert np.allclose(weights @ [info[f"term_{term}"] for term in TERMS], rewards)


def test_a_reward_of_your_own_is_paid_in_every_view():
    def mine(delay, energy, drop, load):
        return drop - 0.5 * (energy < 0)

    scenario = small()
    trace, actions = draw_trace(scenario, seed=6), random_actions(scenario)[0]
    weighed = play_parallel(ParallelOffloadingEnv(scenario), actions, options={"trace": trace})
    assert weighed[1].any()
    fixed = {"options": {"trace": trace}}
    paid = [
        play_gymnasium(OffloadingEnv(scenario, reward=mine), actions, **fixed)[1],
        play_parallel(ParallelOffloadingEnv(scenario, reward=mine), actions, **fixed)[1],
    ]
    rows = OffloadingVecEnv(scenario, reward=mine)
    rows.set_options(fixed["options"])
    paid.append(play_vectorised(rows, actions)[1])
    assert np.array_equal(paid[0], paid[1]) and np.array_equal(paid[0], paid[2])
    assert not paid[0][~trace.has_task[0]].any() and set(np.unique(paid[0])) > {0.0, 1.0}
    joint, vector = JointEnv(scenario, reward=mine), OffloadingVectorEnv(4, scenario, reward=mine)
    joint.reset(**fixed)
    vector.reset(**fixed)
    for slot, chosen in enumerate(actions):
        assert joint.step(chosen)[1] == pytest.approx(paid[0][slot].mean())
        _, rewards, _, _, info = vector.step(chosen)
        assert np.array_equal(rewards, paid[0][slot])
        assert np.array_equal(rewards, np.where(trace.has_task[0, slot], mine(*(info[f"term_{t}"] for t in TERMS)), 0))


@pytest.mark.parametrize("wrong", [lambda *terms: 1.0, lambda *terms: terms[0] * np.nan, lambda *terms: terms])
def test_a_reward_of_another_shape_is_refused(wrong):
    env = DeviceEnv(small(), reward=wrong)
    env.reset(seed=0)
    with pytest.raises(InvalidInput, match="reward"):
        env.step(0)


def test_weights_are_given_by_name():
    expected = load_scenario("balanced").weights
    env = DeviceEnv(weights={"energy": 0.5, "load": 0})
    assert env.scenario.weights == dataclasses.replace(expected, energy=0.5, load=0.0)


def test_one_device_among_others_is_the_network_under_a_rule():
    scenario = small()
    trace = draw_trace(scenario, seed=4)
    for name in ("frugal", "threshold-power-of-two", "random"):
        simulator, rule = Simulator(scenario), make_policy(name, scenario, seed=9)
        env = DeviceEnv(scenario, others=name, device=2)
        env.reset(seed=9)
        observation, info = env.reset(seed=9, options={"trace": trace})
        seen = simulator.reset(trace)
        rule.reset(1)
        while not simulator.done:
            assert np.array_equal(observation, seen[0, 2]) and info["device"] == 2
            actions = rule(seen, simulator.has_task)
            seen, rewards, _ = simulator.step(actions)
            observation, reward, ended, truncated, info = env.step(actions[0, 2])
            assert reward == rewards[0, 2] and not truncated
        assert ended and info["episode_reward"] == simulator.metrics()["reward"][0]


def test_each_episode_has_another_device_unless_one_is_chosen():
    env = DeviceEnv(small(devices=30))
    devices = [env.reset(seed=3 if episode == 0 else None)[1]["device"] for episode in range(20)]
    assert len(set(devices)) > 8
    again = [env.reset(seed=3 if episode == 0 else None)[1]["device"] for episode in range(20)]
    assert devices == again
    assert {DeviceEnv(small(), device=1).reset(seed=k)[1]["device"] for k in range(9)} == {1}
    assert env.reset(options={"device": 7})[1]["device"] == 7
    for device in (30, -1, 1.0, True):
        with pytest.raises(InvalidInput, match="options.device"):
            env.reset(options={"device": device})


def test_others_can_be_the_learner_itself():
    asked = []

    def copy(observations, has_task):
        asked.append(has_task)
        assert observations.shape == (1, 4, env.observation_space.shape[0])
        return np.ones((1, 4), int)

    env = gymnasium.make("aiecof/Offloading-v1", scenario=small())
    env.unwrapped.others = copy
    env.reset(seed=0)
    env.step(1)
    assert len(asked) == 1 and env.unwrapped.simulator.totals["local"] == 0
    env.unwrapped.others = lambda observations, has_task: np.ones(4, int)
    with pytest.raises(InvalidInput, match="others"):
        env.step(1)


def test_the_joint_view_shows_all_and_pays_the_mean():
    scenario = small()
    trace, actions = draw_trace(scenario, seed=1), random_actions(scenario)[0]
    seen, rewards, _ = play_parallel(ParallelOffloadingEnv(scenario), actions, options={"trace": trace})
    joint, parallel = JointEnv(scenario), ParallelOffloadingEnv(scenario)
    observation, _ = joint.reset(options={"trace": trace})
    parallel.reset(options={"trace": trace})
    assert joint.action_space == gymnasium.spaces.MultiDiscrete([4] * 4)
    for slot, chosen in enumerate(actions):
        assert np.array_equal(observation.reshape(4, -1), seen[slot])
        assert np.array_equal(observation, parallel.state()) and parallel.state() in parallel.state_space
        observation, reward, ended, truncated, info = joint.step(chosen)
        parallel.step(dict(zip(parallel.agents, chosen.tolist(), strict=True)))
        assert reward == pytest.approx(rewards[slot].mean())
    assert ended and not truncated and info["episode_reward"] == pytest.approx(rewards.sum() / 4)
    for action in (np.zeros(3, int), np.full(4, 4), 0):
        joint.reset(seed=0)
        with pytest.raises(InvalidInput, match="actions"):
            joint.step(action)


def test_the_vector_of_rewards_adds_up_to_the_reward():
    scenario = small()
    one, many = DeviceEnv(scenario), gymnasium.make("aiecof/OffloadingMO-v1", scenario=scenario)
    one.reset(seed=5)
    many.reset(seed=5)
    weights = np.array([getattr(scenario.weights, term) for term in TERMS])
    for action in random_actions(scenario)[0, :, 0]:
        reward, vector = one.step(action)[1], many.step(action)[1]
        assert vector in many.unwrapped.reward_space and vector.shape == (4,)
        assert weights @ vector == pytest.approx(reward, abs=1e-6)
    with pytest.raises(TypeError, match="reward"):
        MultiObjectiveEnv(scenario, reward=lambda *terms: terms[0])


@pytest.mark.parametrize("mode", ["NextStep", "SameStep", gymnasium.vector.AutoresetMode.SAME_STEP])
def test_rows_of_gymnasium_are_those_of_sb3(mode):
    scenario = small()
    env = gymnasium.make_vec("aiecof/Offloading-v1", num_envs=8, scenario=scenario, autoreset_mode=mode)
    rows = OffloadingVecEnv(scenario, replicas=2, seed=5)
    assert env.metadata["autoreset_mode"].value == getattr(mode, "value", mode)
    observation, _ = env.reset(seed=5)
    assert np.array_equal(observation, rows.reset()) and observation in env.observation_space
    for _ in range(2):
        for actions in random_actions(scenario, 2, seed=1).swapaxes(0, 1).reshape(scenario.slots, -1):
            assert actions in env.action_space
            observation, rewards, ended, truncated, info = env.step(actions)
            expected = rows.step(actions)
            assert np.array_equal(rewards, expected[1]) and np.array_equal(ended, expected[2]) and not truncated.any()
            last = ended.all()
            if not last or mode != "NextStep":
                assert np.array_equal(observation, expected[0]) and ("final_obs" in info) == last
        final = info if mode == "NextStep" else info["final_info"]
        for row, told in enumerate(expected[3]):
            assert final["episode_reward"][row] == told["episode_metrics"]["reward"]
        if mode == "NextStep":
            assert not observation.any()
            observation, rewards, ended, _, info = env.step(actions)
            assert np.array_equal(observation, expected[0]) and not rewards.any() and not ended.any()
        else:
            assert not np.stack(info["final_obs"]).any()


def test_rows_are_whole_networks():
    for rows in (1, 29, 31, 45):
        with pytest.raises(InvalidInput, match="num_envs.*multiple of 30"):
            gymnasium.make_vec("aiecof/Offloading-v1", num_envs=rows)
    assert gymnasium.make_vec("aiecof/Offloading-v1", num_envs=10, devices=5).unwrapped.simulator.scenario.devices == 5
    assert isinstance(
        gymnasium.make_vec("aiecof/Offloading-v1", num_envs=2, vectorization_mode="sync", devices=4),
        gymnasium.vector.SyncVectorEnv,
    )


def test_the_older_id_is_the_view_of_one_decision():
    old, new = (gymnasium.spec(f"aiecof/Offloading{name}").entry_point for name in ("-v0", "Decision-v1"))
    assert old == new
    with pytest.warns(DeprecationWarning, match="v1"):
        gymnasium.make("aiecof/Offloading-v0", scenario=small())


@pytest.mark.parametrize("identity, steps", [*zip(SINGLE, (150, 600, 150), strict=True)])
def test_a_made_environment_knows_its_steps_and_ends_by_itself(identity, steps):
    env = gymnasium.make(identity, scenario=small(slots=150))
    assert env.spec.max_episode_steps == steps
    env.reset(seed=0)
    stay = np.zeros(env.action_space.shape, int)[()]
    for step in range(1, steps + 1):
        _, _, terminated, truncated, _ = env.step(stay)
        assert (terminated, truncated) == (step == steps, False)


def test_made_rows_know_their_steps_and_can_be_made_again():
    env = gymnasium.make_vec("aiecof/Offloading-v1", num_envs=8, devices=4)
    assert env.spec.max_episode_steps == 100
    shorter = gymnasium.make_vec("aiecof/Offloading-v1", num_envs=8, devices=4, max_episode_steps=7)
    assert shorter.unwrapped.scenario.slots == shorter.spec.max_episode_steps == 7
    again = gymnasium.make_vec(shorter.spec)
    assert again.num_envs == 8 and again.unwrapped.scenario == shorter.unwrapped.scenario


@pytest.mark.parametrize("name", VIEWS)
def test_every_view_has_a_picture_in_ten_milliseconds(name):
    env = VIEWS[name](load_scenario("balanced"), render_mode="rgb_array", **({"rows": 30} if name == "vector" else {}))
    env.reset()
    times = []
    for _ in range(5):
        start = time.perf_counter()
        picture = env.render()
        times.append(time.perf_counter() - start)
    picture = picture[0] if name == "vector" else picture
    assert picture.shape == (448, 512, 3) and picture.dtype == np.uint8 and min(times) < 0.01
    assert name == "sb3" or VIEWS[name](small()).render() is None


def test_the_bench_of_the_environments(monkeypatch):
    """The real measurement, made short."""
    monkeypatch.setattr(bench_module, "REPLICAS", (1, 2))
    monkeypatch.setattr(bench_module.bench_environments, "__defaults__", (0.0,))
    printed = CliRunner().invoke(app, ["bench", "environments", "--json"])
    measured = json.loads(printed.stdout)
    views = {
        "OffloadingVecEnv",
        "OffloadingVectorEnv",
        "ParallelOffloadingEnv",
        "JointEnv",
        "DeviceEnv",
        "OffloadingEnv",
    }
    speeds = measured["device_slots_per_second"]
    assert speeds.keys() == {"kernel", *views} and measured["above_kernel"].keys() == views
    assert {name for name, by_replicas in speeds.items() if "2" in by_replicas} == {
        *("kernel", "OffloadingVecEnv", "OffloadingVectorEnv")
    }
    assert all(speed > 1e3 for by_replicas in speeds.values() for speed in by_replicas.values())
    assert min(measured["above_kernel"].values()) > 0 and 0 < measured["picture"] < 1_000
    assert "Above the kernel" in CliRunner().invoke(app, ["bench", "environments"]).stdout
