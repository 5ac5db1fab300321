"""mo-gymnasium: a vector of rewards, made one number by weights of your own."""

import mo_gymnasium
import numpy as np
from stable_baselines3 import PPO

import aiecof  # noqa: F401 (registers the environments)
from clients.sb3 import acting

WEIGHTS = np.array([0.2, 0.25, 0.25, 0.3])  # delay, energy, drop, load


def ppo(steps=40_000, seed=0):
    env = mo_gymnasium.make("aiecof/OffloadingMO-v1", network_seed=0)
    env = mo_gymnasium.wrappers.LinearReward(env, weight=WEIGHTS)
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
