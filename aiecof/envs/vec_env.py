"""Several networks whose devices share a policy, as a Stable-Baselines3 vectorised environment."""

import time
from typing import Any

import numpy as np
from gymnasium import spaces
from stable_baselines3.common.vec_env import VecEnv

from aiecof.checks import InvalidInput
from aiecof.envs.episodes import Episodes, observation_space
from aiecof.system.scenario import Scenario


class OffloadingVecEnv(VecEnv):
    """B replicas of M devices as B x M rows that share one policy, one slot a step: an SB3 vectorised environment.

    Parameters
    ----------
    scenario, split, **overrides
        As for `OffloadingEnv`.
    replicas : int
        B, simulated together; row b M + m is device m of replica b.
    seed, first : int
        Seed of the traces, or None, and the episode of that seed to begin with: where a resumed training goes on.
        Replica b plays the episodes first + b, first + b + B, ...

    Notes
    -----
    All rows end together after T slots: terminated, as in `OffloadingEnv`. As SB3 has it, the last `step` of an episode
    already returns the first observations of the next one; its own are in `infos[i]["terminal_observation"]`.

    ===========  ================  ===========================================================================
    what         shape             meaning
    ===========  ================  ===========================================================================
    observation  (B M, F) float32  table in `OffloadingEnv`
    action       (B M,) int        0 the device itself, n = 1 .. N server n (Eq. 1)
    reward       (B M,) float      of the decision (Eq. 31); 0 without a task
    infos        B M dictionaries  one and the same empty one, until the last slot of an episode adds `episode`
                                   (`r` the row's sum of rewards, `l` slots, `t` seconds since the start) and
                                   `episode_metrics` (`Simulator.metrics` of the row's replica)
    ===========  ================  ===========================================================================

    A `seed` given here holds: an SB3 agent with a seed of its own calls `seed()`, and would move the training to other
    clocks (`network="run"`). `set_options({"trace": trace})` lets the next reset play that trace.
    """

    render_mode = None

    def __init__(
        self,
        scenario: str | Scenario = "balanced",
        replicas: int = 1,
        seed: int | None = None,
        first: int = 0,
        split: str = "train",
        **overrides: Any,
    ):
        self._episodes = Episodes(scenario, overrides, split, replicas)
        self._episodes.restart(seed, first)
        self._seed_holds = seed is not None
        self.scenario = self._episodes.scenario
        self.simulator = self._episodes.simulator
        rows = replicas * self.scenario.devices
        super().__init__(rows, observation_space(self.scenario), spaces.Discrete(self.scenario.actions))
        self._no_infos: list[dict[str, Any]] = [{}] * rows
        self._start = time.perf_counter()

    @property
    def has_task(self) -> np.ndarray:
        """(B M,) bool: who has a task in the slot that the latest observations show."""
        return self.simulator.has_task.reshape(-1)

    def seed(self, seed: int | None = None) -> list[int | None]:
        """Go back to episode 0 of a seed, unless the environment was made with one; returns the seed in force."""
        if not self._seed_holds:
            self._episodes.restart(seed)
        return [self._episodes.seed] * self.num_envs

    def reset(self) -> np.ndarray:
        """Begin the next B episodes, or the trace among the options."""
        options = self._options[0]
        self._reset_options()
        observations = self._episodes.begin(options)
        self._returns = np.zeros(self.num_envs)
        return observations.reshape(self.num_envs, -1)

    def step_async(self, actions: np.ndarray) -> None:
        """Take the decisions of all rows, (B M,) int."""
        actions = np.asarray(actions)
        if actions.shape != (self.num_envs,):
            raise InvalidInput("actions", actions.shape, f"shape ({self.num_envs},)")
        self._actions = actions.reshape(self._episodes.replicas, -1)

    def step_wait(self) -> tuple[np.ndarray, np.ndarray, np.ndarray, list[dict[str, Any]]]:
        """Play the slot."""
        observations, rewards, done = self.simulator.step(self._actions)
        observations, rewards = observations.reshape(self.num_envs, -1), rewards.reshape(-1)
        self._returns += rewards
        infos = self._no_infos
        if done:
            infos = self._last_infos(observations)
            observations = self.reset()
        return observations, rewards, np.full(self.num_envs, done), infos

    def _last_infos(self, observations: np.ndarray) -> list[dict[str, Any]]:
        metrics, devices = self._episodes.metrics(), self.scenario.devices
        elapsed = round(time.perf_counter() - self._start, 6)
        return [
            {
                "episode": {"r": float(total), "l": self.scenario.slots, "t": elapsed},
                "episode_metrics": metrics[row // devices],
                "terminal_observation": observations[row],
                "TimeLimit.truncated": False,
            }
            for row, total in enumerate(self._returns)
        ]

    def close(self) -> None:
        """Nothing is held open."""

    def get_attr(self, attr_name: str, indices: Any = None) -> list[Any]:
        """An attribute of the whole, once for each row asked for."""
        return [getattr(self, attr_name) for _ in self._get_indices(indices)]

    def set_attr(self, attr_name: str, value: Any, indices: Any = None) -> None:
        """Refused: the rows share one simulator."""
        raise InvalidInput("attr_name", attr_name, "nothing to set: the rows share one simulator")

    def env_method(self, method_name: str, *args: Any, indices: Any = None, **kwargs: Any) -> list[Any]:
        """Refused: a row is not an environment of its own."""
        raise InvalidInput("method_name", method_name, "nothing to call: the rows share one simulator")

    def env_is_wrapped(self, wrapper_class: type, indices: Any = None) -> list[bool]:
        """No row is wrapped."""
        return [False for _ in self._get_indices(indices)]
