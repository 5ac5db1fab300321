"""Training with other libraries: one file each, shown on the page "Training with your library" and tried by tests."""

from collections.abc import Callable

import gymnasium
import numpy as np

import aiecof  # noqa: F401 (registers the environments)

Act = Callable[[np.ndarray, bool], np.ndarray]
"""Observations of all devices, (R, F), and whether to be greedy -> actions, (R,)."""


def mean_reward(
    act: Act,
    greedy: bool,
    episodes: int = 6,
    metric: str = "reward",
) -> float:
    """Mean of a metric of episodes in which all devices play `act`."""
    env = gymnasium.make_vec(
        "aiecof/Offloading-v1",
        num_envs=30 * episodes,
        network_seed=0,
        split="evaluation",
    )
    getattr(act, "reset", lambda: None)()  # of what remembers
    observations, _ = env.reset(seed=0)
    ended = False
    while not ended:
        actions = act(observations, greedy)
        observations, _, ends, _, info = env.step(actions)
        ended = ends.all()
    return float(info[f"episode_{metric}"].mean())
