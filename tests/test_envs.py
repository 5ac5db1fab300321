"""The environments pass their own tools' checkers, and all of them show one and the same simulator."""

import json
import subprocess
import sys
import warnings

import gymnasium
import numpy as np
import pytest
from aiecof_book.toy import TOY_ACTIONS, toy_scenario, toy_trace
from gymnasium.utils.env_checker import check_env as check_gymnasium
from pettingzoo.test import parallel_api_test, parallel_seed_test
from sb3_contrib import RecurrentPPO
from stable_baselines3.common.env_checker import check_env as check_sb3
from stable_baselines3.common.vec_env import VecMonitor, VecNormalize

import aiecof
from aiecof.checks import InvalidInput
from aiecof.envs import OffloadingEnv, OffloadingVecEnv, ParallelOffloadingEnv
from aiecof.system.observations import observation_fields
from aiecof.system.scenario import load_scenario
from aiecof.system.simulator import Simulator
from aiecof.system.workload import draw_trace

SMALL = {"devices": 4, "servers": 3, "slots": 25}
CHANGES = [
    ("balanced", {}),
    ("table-iii", {}),
    ("fitted", {"network": "episode"}),
    ("balanced", {"channel_queue": "per_device", "in_flight": "drop", "observation": "printed"}),
    ("balanced", {"reward_history": "task", "drop_rule": "wait", "load": "literal", "tau_max_slots": 30}),
]


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
        check_gymnasium(gymnasium.make("aiecof/Offloading-v0", scenario=name, devices=5).unwrapped)
        check_sb3(OffloadingEnv(name, devices=5, render_mode="rgb_array"), skip_render_check=False)


def test_pettingzoo_checkers_find_nothing():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        parallel_api_test(ParallelOffloadingEnv(small()), num_cycles=60)
        parallel_seed_test(lambda: ParallelOffloadingEnv("balanced", **SMALL), num_cycles=60)


def test_make_takes_a_name_a_scenario_a_file_and_changes(tmp_path):
    path = tmp_path / "mine.json"
    path.write_text(json.dumps({"tau_max_slots": 9}))
    made = {
        "name": gymnasium.make("aiecof/Offloading-v0", scenario="fitted", devices=10, load_sign="plus"),
        "scenario": gymnasium.make("aiecof/Offloading-v0", scenario=small(), split="evaluation"),
        "file": gymnasium.make("aiecof/Offloading-v0", scenario=path),
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
        ends = [results[0][2], results[1][2]["device_2"], results[2][2][2], infos[b * scenario.devices]]
        for end in ends:
            assert end["episode_metrics"] == {metric: values[b] for metric, values in totals.items()}


def test_observations_within_a_slot_are_those_of_its_start():
    env = OffloadingEnv(toy_scenario())
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


def test_sb3_wrappers_leave_the_shared_info_empty():
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
        env = OffloadingEnv(toy_scenario(), render_mode="rgb_array")
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


@pytest.mark.parametrize("view", [OffloadingEnv, ParallelOffloadingEnv, OffloadingVecEnv])
@pytest.mark.parametrize(
    "arguments, named",
    [
        ({"scenario": "unheard-of"}, "scenario"),
        ({"scenario": None}, "scenario"),
        ({"scenario": ["balanced"]}, "scenario"),
        ({"split": "test"}, "split"),
        ({"wheels": 4}, "scenario"),
        ({"devices": 0}, "devices"),
        ({"edge_service": "equal_sharing"}, "edge_service"),
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
        (OffloadingEnv, {"render_mode": "human"}, "render_mode"),
    ],
)
def test_bad_arguments_of_one_view_are_refused(view, arguments, named):
    with pytest.raises(InvalidInput, match=named):
        view(small(), **arguments)


@pytest.mark.parametrize("action", [4, -1, 1.0, True, None, "0", [1], np.array([1])])
def test_bad_actions_are_refused_and_change_nothing(action):
    scenario = small()
    env, parallel = OffloadingEnv(scenario), ParallelOffloadingEnv(scenario)
    env.reset(seed=0)
    with pytest.raises(InvalidInput, match="action"):
        env.step(action)
    assert env.step(0)[4]["device"] == 1
    parallel.reset(seed=0)
    with pytest.raises(InvalidInput, match="actions.device_2"):
        parallel.step(dict.fromkeys(parallel.agents, 0) | {"device_2": action})
    assert parallel.simulator.slot == 0


def test_rows_of_bad_actions_are_refused():
    scenario = small()
    env, parallel = OffloadingVecEnv(scenario, replicas=2, seed=0), ParallelOffloadingEnv(scenario)
    env.reset()
    for actions in (np.full(8, 4), np.zeros(8), np.zeros(7, int), np.zeros((2, 4), int), 0):
        with pytest.raises(InvalidInput, match="actions"):
            env.step(actions)
    parallel.reset(seed=0)
    for actions in ({"device_0": 0}, dict.fromkeys([*parallel.agents, "device_9"], 0)):
        with pytest.raises(InvalidInput, match="device_"):
            parallel.step(actions)


@pytest.mark.parametrize("view", [OffloadingEnv, ParallelOffloadingEnv, OffloadingVecEnv])
def test_a_step_needs_an_episode(view):
    env = view(small(slots=1, devices=1))
    action = {OffloadingEnv: 0, ParallelOffloadingEnv: {"device_0": 0}, OffloadingVecEnv: np.zeros(1, int)}[view]
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
