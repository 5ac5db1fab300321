"""MAPPO: devices that decide on what they see themselves, and a critic that sees the whole network."""

from typing import Any

import numpy as np
from gymnasium import spaces
from stable_baselines3.common.torch_layers import MlpExtractor
from stable_baselines3.common.vec_env import VecEnv, VecEnvWrapper

from aiecof.agents.heads import SplitExtractor
from aiecof.agents.networks import MlpPolicy
from aiecof.checks import InvalidInput

VIEWS = 4
"""Observations side by side: the device's own, and mean, spread and maximum over all devices of its network."""


class WholeNetwork(VecEnvWrapper):
    """Beside every device's observation, what all devices of its replica see taken together, (B M, 4 F).

    Mean, standard deviation and maximum over the devices, entry by entry: as long for a thousand devices as for two,
    and the same in whatever order they stand.
    """

    def __init__(self, venv: VecEnv):
        low, high = venv.observation_space.low, venv.observation_space.high
        space = spaces.Box(np.tile(low, VIEWS), np.tile(high, VIEWS), dtype=np.float32)
        super().__init__(venv, space)
        self._devices = venv.get_attr("scenario", 0)[0].devices

    def seen(self, observations: np.ndarray) -> np.ndarray:
        """(B M, F) -> (B M, 4 F)."""
        own = observations.reshape(-1, self._devices, observations.shape[-1])
        views = np.empty((*own.shape[:2], VIEWS, own.shape[2]), np.float32)
        views[:, :, 0] = own
        for view, pool in enumerate((np.mean, np.std, np.max), 1):
            views[:, :, view] = pool(own, axis=1, keepdims=True)
        return views.reshape(len(observations), -1)

    def reset(self) -> np.ndarray:
        """Begin the next episodes."""
        return self.seen(self.venv.reset())

    def step_wait(self) -> tuple[np.ndarray, np.ndarray, np.ndarray, list[dict[str, Any]]]:
        """Play the slot; the last observations of an episode, in the infos, are completed as well."""
        observations, rewards, dones, infos = self.venv.step_wait()
        if dones.any():
            last = self.seen(np.stack([info["terminal_observation"] for info in infos]))
            for info, row in zip(infos, last, strict=True):
                info["terminal_observation"] = row
        return self.seen(observations), rewards, dones, infos


class CentralPolicy(MlpPolicy):
    """The two networks of MAPPO, for what `WholeNetwork` shows: centralised training, decentralised execution.

    After C. Yu et al., "The surprising effectiveness of PPO in cooperative multi-agent games", NeurIPS 2022
    (arXiv:2103.01955): agents share one policy, which acts on what an agent sees itself; the value function, needed in
    training only, sees the state of all and what is the agent's own (their agent-specific global state). Theirs is as
    long as there are agents; here the other devices come as mean, standard deviation and maximum. Not taken over:
    normalised values, the Huber loss and recurrent layers, so that `ppo` and `mappo` differ in the critic, and in the
    learning rate that suits each best.
    """

    views = VIEWS

    def layers(self, width: int) -> MlpExtractor:
        """The actor's layers read the device's own observation, those of the critic everything."""
        if self.per_server:
            raise InvalidInput("policy_kwargs.action_head", self.action_head, "flat or two_level")
        return SplitExtractor(width // VIEWS, width, self.net_arch, self.activation_fn, self.device)
