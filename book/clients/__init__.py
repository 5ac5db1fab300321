"""Training with other libraries: one file each, shown on the page "Training with your library" and tried by tests."""

from collections.abc import Callable

import gymnasium
import numpy as np

import aiecof  # noqa: F401 (registers the environments)

Act = Callable[[np.ndarray, bool], np.ndarray]
"""Observations of all devices, (R, F), and whether to be greedy -> actions, (R,)."""


def mean_reward(act: Act, greedy: bool, episodes: int = 6, seed: int = 0) -> float:
    """Reward of an episode, averaged over devices and episodes that no training saw, when all devices play `act`."""
    env = gymnasium.make_vec("aiecof/Offloading-v1", num_envs=30 * episodes, split="evaluation", network_seed=0)
    getattr(act, "reset", lambda: None)()  # what remembers forgets the episode before
    observations, _ = env.reset(seed=seed)
    ended = False
    while not ended:
        observations, _, terminated, _, info = env.step(act(observations, greedy))
        ended = terminated.all()
    return float(info["episode_reward"].mean())
