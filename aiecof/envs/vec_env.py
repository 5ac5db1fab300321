"""Several networks whose devices share a policy, as a Stable-Baselines3 vectorised environment."""

import time
from typing import Any

import numpy as np
from gymnasium import spaces
from stable_baselines3.common.vec_env import VecEnv

from aiecof.checks import InvalidInput, check_choice
from aiecof.envs.episodes import Episodes, Reward
from aiecof.envs.rendering import draw_queues
from aiecof.envs.spaces import action_masks, observation_space
from aiecof.system.scenario import Scenario
from aiecof.system.workload import Trace


class OffloadingVecEnv(VecEnv):
    """B replicas of M devices as B x M rows that share one policy, one slot a step: an SB3 vectorised environment.

    Parameters
    ----------
    scenario, split, render_mode, network_seed, reward, trace, **changes
        As for `OffloadingEnv`. A reward of your own is given arrays of shape (B, M).
    replicas : int
        B, simulated together; row b M + m is device m of replica b.
    keep_terms : bool
        Whether to keep the terms of the latest rewards (`terms`).
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
    infos        B M dictionaries  empty, until the last slot of an episode adds `episode` (`r` the row's sum of
                                   rewards, `l` slots, `t` seconds since the start) and `episode_metrics`
                                   (`Simulator.metrics` of the row's replica)
    ===========  ================  ===========================================================================

    What else there is to know is kept as arrays, since filling thousands of dictionaries takes longer than a step:
    `has_task` (B M,), `terms` (B M, 4) if asked for, and `env_method("action_masks")`, where MaskablePPO finds masks.

    A `seed` given here holds: an SB3 agent with a seed of its own calls `seed()`, and would move the training to other
    clocks (`network="run"`). `set_options({"trace": trace})` lets the next reset play that trace.
    """

    def __init__(
        self,
        scenario: str | Scenario = "balanced",
        replicas: int = 1,
        seed: int | None = None,
        first: int = 0,
        split: str = "train",
        render_mode: str | None = None,
        *,
        network_seed: int | None = None,
        reward: Reward | None = None,
        trace: Trace | None = None,
        keep_terms: bool = False,
        **changes: Any,
    ):
        if render_mode is not None:
            check_choice("render_mode", render_mode, ("rgb_array",))
        self.render_mode = render_mode
        keywords = {"network_seed": network_seed, "reward": reward, "trace": trace, "terms": keep_terms}
        self._episodes = Episodes(scenario, changes, split, replicas, **keywords)
        self._episodes.restart(seed, first)
        self._seed_holds = seed is not None
        self.scenario = self._episodes.scenario
        self.simulator = self._episodes.simulator
        rows = replicas * self.scenario.devices
        super().__init__(rows, observation_space(self.scenario), spaces.Discrete(self.scenario.actions))
        self._going_on = np.zeros(rows, bool)
        self._start = time.perf_counter()

    @property
    def has_task(self) -> np.ndarray:
        """(B M,) bool: who has a task in the slot that the latest observations show."""
        return self.simulator.has_task.reshape(-1)

    @property
    def terms(self) -> np.ndarray:
        """(B M, 4) float: delay, energy, drop and load in the latest rewards, each the larger the better."""
        if not self.simulator.keep_terms:
            raise InvalidInput("keep_terms", False, "True, so that the terms are kept")
        return self._episodes.terms().reshape(self.num_envs, -1)

    def action_masks(self) -> np.ndarray:
        """(B M, N+1) bool: what each row may decide; without a task only action 0."""
        return action_masks(self.scenario, self.has_task).astype(bool)

    def seed(self, seed: int | None = None) -> list[int | None]:
        """Go back to episode 0 of a seed, unless the environment was made with one; returns the seed in force."""
        if not self._seed_holds:
            self._episodes.restart(seed)
        return [self._episodes.seed] * self.num_envs

    def reset(self) -> np.ndarray:
        """Begin the next B episodes, or the trace among the options."""
        options = self._options[0] if isinstance(self._options, list) and self._options else self._options
        if isinstance(self._options, list) and any(one is not options for one in self._options if one):
            raise InvalidInput("options", self._options, "one mapping for all rows")
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
        observations, rewards, done = self._episodes.step(self._actions)
        observations, rewards = observations.reshape(self.num_envs, -1), rewards.reshape(-1)
        self._returns += rewards
        if not done:
            return observations, rewards, self._going_on.copy(), [{} for _ in range(self.num_envs)]
        infos = self._last_infos(observations)
        return self.reset(), rewards, np.ones(self.num_envs, bool), infos

    def _last_infos(self, observations: np.ndarray) -> list[dict[str, Any]]:
        metrics, devices = self._episodes.metrics(), self.scenario.devices
        elapsed = round(time.perf_counter() - self._start, 6)
        return [
            {
                "episode": {"r": float(total), "l": self.scenario.decisions, "t": elapsed},
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

    def get_images(self) -> list[np.ndarray | None]:
        """A picture of each network."""
        return [draw_queues(self.simulator, replica=replica) for replica in range(self._episodes.replicas)]

    def env_method(self, method_name: str, *args: Any, indices: Any = None, **kwargs: Any) -> list[Any]:
        """The masks of rows; the rest is refused, since a row is not an environment of its own."""
        if method_name == "action_masks" and not args and not kwargs:
            return list(self.action_masks()[list(self._get_indices(indices))])
        raise InvalidInput("method_name", method_name, "nothing to call: the rows share one simulator")

    def env_is_wrapped(self, wrapper_class: type, indices: Any = None) -> list[bool]:
        """No row is wrapped."""
        return [False for _ in self._get_indices(indices)]
