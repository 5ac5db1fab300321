"""SuperSuit: the PettingZoo environment as rows for Stable-Baselines3."""

import supersuit
from stable_baselines3 import PPO
from stable_baselines3.common.utils import set_random_seed

from aiecof.envs import parallel_env
from clients.sb3 import acting


def ppo(steps=120_000, seed=0):
    set_random_seed(seed)
    env = parallel_env(scenario="balanced", network_seed=0)
    env.reset(seed=seed)  # SuperSuit passes no seed on
    env = supersuit.pettingzoo_env_to_vec_env_v1(env)
    env = supersuit.concat_vec_envs_v1(
        env,
        1,
        base_class="stable_baselines3",
    )
    model = PPO(
        "MlpPolicy",
        env,
        n_steps=100,
        batch_size=300,
        n_epochs=4,
        gamma=0.9,
        learning_rate=1e-3,
        device="cpu",
    )
    return acting(model.learn(steps))
