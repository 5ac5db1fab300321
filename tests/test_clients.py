"""Other libraries learn in the environments, and the wrappers that people use give what they should.

What trains is marked `clients`: `pytest -m clients` with the extra of that name; a missing package skips its test. The
code is that of the page "Training with your library" (`book/clients`).
"""

import csv
import warnings
from importlib import import_module
from inspect import signature
from pathlib import Path

import gymnasium
import numpy as np
import pytest
import torch
from clients import mean_reward
from gymnasium.utils.env_checker import check_env
from gymnasium.wrappers import (
    NormalizeObservation,
    RecordEpisodeStatistics,
    RescaleObservation,
    TimeAwareObservation,
    TransformReward,
)
from gymnasium.wrappers import vector as vector_wrappers
from stable_baselines3.common.env_util import make_vec_env
from stable_baselines3.common.vec_env import SubprocVecEnv, VecMonitor, VecNormalize

from aiecof.envs import DeviceEnv, OffloadingVecEnv
from aiecof.envs.episodes import TERMS
from aiecof.system.scenario import load_scenario

SMALL = {"devices": 4, "servers": 3, "slots": 25}
with (Path(__file__).resolve().parent.parent / "book/clients/levels.csv").open(encoding="utf-8") as _file:
    LEVELS = list(csv.DictReader(_file))
"""The table of the page: what each client comes to; the last row is what staying comes to, without learning."""
ALWAYS_LOCAL = float(LEVELS[-1]["sampled"])


def always_local(observations, greedy):
    return np.zeros(len(observations), int)


def played(env, seed=0):
    """Rewards of an episode in which nothing is offloaded, and its last info; a Gymnasium environment."""
    observation, info = env.reset(seed=seed)
    rewards, ended = [], False
    while not ended:
        assert observation in env.observation_space
        observation, reward, ended, _, info = env.step(0)
        rewards.append(reward)
    return rewards, info


def device(**keywords):
    return gymnasium.make("aiecof/Offloading-v1", scenario=load_scenario("balanced", **SMALL), **keywords)


@pytest.fixture
def one_thread():
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def test_staying_is_worth_what_the_clients_are_compared_with():
    assert mean_reward(always_local, True) == pytest.approx(ALWAYS_LOCAL, abs=0.05)


@pytest.mark.slow
@pytest.mark.clients
@pytest.mark.parametrize("told", LEVELS[:-1], ids=lambda told: told["function"])
def test_a_client_comes_to_what_the_page_says(told, one_thread):
    module, name = told["function"].split(".")
    try:
        client = import_module(f"clients.{module}")
    except ModuleNotFoundError as error:
        pytest.skip(f"{error.name} is not installed: pip install 'aiecof[clients]'")
    train = getattr(client, name)
    assert signature(train).parameters["steps"].default == int(told["transitions"].replace(",", ""))
    act = train()
    sampled, greedy = mean_reward(act, False), mean_reward(act, True)
    print(f"{module}.{name}: sampled {sampled:.1f}, greedy {greedy:.1f}, always-local {ALWAYS_LOCAL}")
    # Equal versions learn a little differently on another processor.
    assert sampled > max(ALWAYS_LOCAL, float(told["sampled"]) - 6.0)


@pytest.mark.slow
@pytest.mark.clients
def test_one_network_answers_to_any_weights(one_thread):
    envelope = pytest.importorskip("clients.envelope")
    values = envelope.all_weights(30_000, 0)
    quick = envelope.acting(values, (0.88, 0.04, 0.04, 0.04))
    thrifty = envelope.acting(values, (0.04, 0.88, 0.04, 0.04))
    assert mean_reward(quick, True, metric="delay") < 0.95 * mean_reward(thrifty, True, metric="delay")
    assert mean_reward(thrifty, True, metric="energy") < 0.95 * mean_reward(quick, True, metric="energy")


@pytest.mark.clients
def test_mo_gymnasium_accepts_the_vector_of_rewards():
    mo_gymnasium = pytest.importorskip("mo_gymnasium")
    weights = np.array([0.2, 0.25, 0.25, 0.3])
    many = mo_gymnasium.make("aiecof/OffloadingMO-v1", **SMALL)
    assert many.unwrapped.reward_space.shape == (4,)
    device_rewards = many.unwrapped
    counted = mo_gymnasium.wrappers.MORecordEpisodeStatistics(many)
    rewards, info = played(counted)
    assert np.allclose(info["episode"]["r"], np.sum(rewards, axis=0), rtol=1e-4)
    single = mo_gymnasium.wrappers.LinearReward(mo_gymnasium.make("aiecof/OffloadingMO-v1", **SMALL), weight=weights)
    assert np.allclose(played(single)[0], played(device())[0], atol=1e-5)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=".*is different from the unwrapped version")
        # LinearReward itself hands out its weights again and again, which the checker would object to.
        check_env(TransformReward(device_rewards, lambda reward: float(weights @ reward)), skip_render_check=True)


def test_statistics_of_gymnasium_are_those_of_the_episode():
    rewards, info = played(RecordEpisodeStatistics(device()))
    assert info["episode"]["l"] == 25 and info["episode"]["r"] == pytest.approx(sum(rewards), rel=1e-5)
    assert {f"term_{name}" for name in TERMS} < info.keys() and info["episode_drop_rate"] >= 0


def test_bounds_let_observations_be_rescaled():
    env = RescaleObservation(device(), np.float32(-1), np.float32(1))
    low, high = env.unwrapped.observation_space.low, env.unwrapped.observation_space.high
    plain, _ = env.unwrapped.reset(seed=3)
    rescaled, _ = env.reset(seed=3)
    assert np.allclose(rescaled, 2 * (plain - low) / (high - low) - 1, atol=1e-6)
    played(env)


def test_the_time_is_known_to_gymnasium():
    env = TimeAwareObservation(device(), normalize_time=False)
    assert env.reset(seed=0)[0][-1] == 0
    assert env.step(0)[0][-1] == 1 and env.max_timesteps == 25


def test_observations_are_normalised():
    env = NormalizeObservation(device())
    seen = [env.reset(seed=0)[0]]
    for _ in range(40):
        for _ in range(24):
            seen.append(env.step(0)[0])
        env.reset()
    assert np.abs(np.mean(seen[-500:], axis=0)).max() < 1 and np.isfinite(seen).all()


def test_vector_wrappers_of_gymnasium():
    rows = {"num_envs": 8, **SMALL}
    counted = vector_wrappers.RecordEpisodeStatistics(gymnasium.make_vec("aiecof/Offloading-v1", **rows))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        env = vector_wrappers.NormalizeReward(vector_wrappers.NormalizeObservation(counted))
        env = vector_wrappers.DictInfoToList(env)
        env.reset(seed=0)
        for _ in range(25):
            seen, rewards, ended, _, infos = env.step(np.zeros(8, int))
    assert ended.all() and seen.shape == (8, counted.single_observation_space.shape[0])
    assert len(infos) == 8 and infos[0]["episode"]["l"] == 25
    network = np.mean([info["episode"]["r"] for info in infos[:4]])
    assert network == pytest.approx(infos[0]["episode_reward"]) and infos[0]["action_mask"].tolist() == [1, 0, 0, 0]
    same = gymnasium.make_vec("aiecof/Offloading-v1", autoreset_mode="SameStep", **rows)
    counted = vector_wrappers.RecordEpisodeStatistics(same)
    counted.reset(seed=0)
    for _ in range(50):
        info = counted.step(np.zeros(8, int))[-1]
    assert counted.episode_count == 16 and set(counted.length_queue) == {25}
    assert info["episode"]["l"].tolist() == [25] * 8


def test_a_video_has_a_frame_a_slot(tmp_path):
    pytest.importorskip("moviepy")
    env = gymnasium.wrappers.RecordVideo(device(render_mode="rgb_array"), str(tmp_path), disable_logger=True)
    played(env)
    env.close()
    [video] = tmp_path.glob("*.mp4")
    assert video.stat().st_size > 1_000


def test_pictures_of_a_whole_episode():
    env = gymnasium.wrappers.RenderCollection(device(render_mode="rgb_array"), pop_frames=False)
    played(env)
    frames = env.render()
    assert len(frames) == 26 and not np.array_equal(frames[0], frames[9])


def test_monitors_of_sb3():
    env = VecMonitor(OffloadingVecEnv(load_scenario("balanced", **SMALL), replicas=2, seed=0))
    env.reset()
    total = np.zeros(8)
    for _ in range(25):
        _, rewards, done, infos = env.step(np.zeros(8, int))
        total += rewards
    assert done.all() and np.allclose([info["episode"]["r"] for info in infos], total, atol=1e-5)
    normalised = VecNormalize(OffloadingVecEnv(load_scenario("balanced", **SMALL), seed=0))
    assert np.isfinite(normalised.reset()).all()


def test_copies_in_processes_share_a_network_and_not_their_tasks():
    keywords = {"scenario": load_scenario("balanced", **SMALL), "network_seed": 0, "device": 1}
    env = make_vec_env(
        "aiecof/Offloading-v1",
        2,
        seed=5,
        env_kwargs=keywords,
        vec_env_cls=SubprocVecEnv,
        vec_env_kwargs={"start_method": "spawn"},
    )
    try:
        env.reset()
        rewards = []
        for _ in range(25):
            observations, reward, done, infos = env.step(np.zeros(2, int))
            rewards.append(reward)
        assert done.all() and [info["episode"]["l"] for info in infos] == [25, 25]
        assert not any(info["TimeLimit.truncated"] for info in infos)
        clocks = observations[:, 5:8]
        assert np.array_equal(clocks[0], clocks[1]) and not np.array_equal(*np.transpose(rewards))
        alone = DeviceEnv(**keywords)
        assert np.allclose(played(alone, seed=5)[0], np.transpose(rewards)[0])
        assert len(env.env_method("action_masks")) == 2
    finally:
        env.close()
