"""Stable-Baselines3: PPO on one device among others, and PPO, A2C and DQN on the devices as rows."""

import gymnasium
from stable_baselines3 import A2C, DQN, PPO

from aiecof.envs import OffloadingVecEnv


def one_device(steps=60_000, seed=0):
    env = gymnasium.make("aiecof/Offloading-v1", network_seed=0)
    model = PPO(
        "MlpPolicy",
        env,
        n_steps=1_000,
        batch_size=100,
        n_epochs=4,
        gamma=0.9,
        learning_rate=1e-3,
        seed=seed,
        device="cpu",
    )
    return acting(model.learn(steps))


def ppo(steps=120_000, seed=0):
    env = OffloadingVecEnv("balanced", network_seed=0)
    model = PPO(
        "MlpPolicy",
        env,
        n_steps=100,  # an episode of 30 rows
        batch_size=300,
        n_epochs=4,
        gamma=0.9,
        learning_rate=1e-3,
        seed=seed,
        device="cpu",
    )
    return acting(model.learn(steps))


def a2c(steps=300_000, seed=0):
    env = OffloadingVecEnv("balanced", network_seed=0)
    model = A2C(
        "MlpPolicy",
        env,
        n_steps=5,
        gamma=0.9,
        learning_rate=1e-3,
        seed=seed,
        device="cpu",
    )
    return acting(model.learn(steps))


def dqn(steps=300_000, seed=0):
    env = OffloadingVecEnv("balanced", network_seed=0)
    model = DQN(
        "MlpPolicy",
        env,
        buffer_size=60_000,
        learning_starts=3_000,
        batch_size=256,
        train_freq=1,  # after each slot, that is 30 transitions
        target_update_interval=3_000,
        exploration_fraction=0.2,
        gamma=0.9,
        learning_rate=1e-3,
        seed=seed,
        device="cpu",
    )
    return acting(model.learn(steps))


def acting(model):
    def act(observations, greedy):
        return model.predict(observations, deterministic=greedy)[0]

    return act
