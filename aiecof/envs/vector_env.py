"""Several networks whose devices share a policy, as a Gymnasium vector environment."""

from typing import Any

import numpy as np
from gymnasium import spaces
from gymnasium.vector import AutoresetMode, VectorEnv
from gymnasium.vector.utils import batch_space

from aiecof.checks import InvalidInput, check_choice, check_integer
from aiecof.envs.episodes import TERMS, Episodes, Reward, scenario_of
from aiecof.envs.gymnasium_env import TERM_NAMES, View
from aiecof.envs.rendering import draw_queues
from aiecof.envs.spaces import action_masks, observation_space
from aiecof.system.scenario import Scenario
from aiecof.system.workload import Trace

MODES = (AutoresetMode.NEXT_STEP.value, AutoresetMode.SAME_STEP.value)


class OffloadingVectorEnv(VectorEnv):
    """The devices of B networks as rows: `gymnasium.make_vec("aiecof/Offloading-v1", num_envs=30)`.

    All rows learn, and play together: row b M + m is device m of network b. It is the fastest view, and what the book's
    methods learn in has the same rows (`OffloadingVecEnv`).

    Parameters
    ----------
    num_envs : int
        Rows, B M: a multiple of the devices of the scenario, which says how many networks there are.
    scenario, split, render_mode, network_seed, reward, trace, **changes
        As for `OffloadingEnv`, where the columns of an observation are told as well. A reward of your own is given
        arrays of shape (B, M).
    autoreset_mode : str or AutoresetMode
        "NextStep", as Gymnasium's own: the step after the last one ignores its actions, begins the next episodes and
        pays 0. "SameStep": the last step already returns the first observations of the next episodes, and what it would
        have returned is in `final_obs` and `final_info`. Either is declared in `metadata`.
    max_episode_steps : int or None
        Slots of an episode, under the name that Gymnasium has for them; None: those of the scenario. The spec has them.

    Notes
    -----
    All rows end together after T slots: terminated, as in `OffloadingEnv`. Network b plays the episodes b, b + B, ...
    of the seed. The info holds an array for each key: `has_task` (B M,), `action_mask` (B M, N+1), `term_delay`,
    `term_energy`, `term_drop` and `term_load` (B M,), and at the end `episode_delay` and the other entries of
    `Simulator.metrics`, for each row those of its network.
    """

    steps, spec, _spec = View.steps, View.spec, None

    def __init__(
        self,
        num_envs: int,
        scenario: str | Scenario = "balanced",
        split: str = "train",
        render_mode: str | None = None,
        *,
        autoreset_mode: str | AutoresetMode = AutoresetMode.NEXT_STEP,
        network_seed: int | None = None,
        reward: Reward | None = None,
        trace: Trace | None = None,
        max_episode_steps: int | None = None,
        **changes: Any,
    ):
        changes |= {} if max_episode_steps is None else {"slots": max_episode_steps}
        self.scenario = scenario_of(scenario, changes)
        self.num_envs = check_integer("num_envs", num_envs, 1)
        devices = self.scenario.devices
        if num_envs % devices:
            raise InvalidInput("num_envs", num_envs, f"a multiple of {devices}, the devices of {self.scenario.name}")
        if render_mode is not None:
            check_choice("render_mode", render_mode, ("rgb_array",))
        self.render_mode = render_mode
        mode = autoreset_mode.value if isinstance(autoreset_mode, AutoresetMode) else autoreset_mode
        self._same_step = check_choice("autoreset_mode", mode, MODES) == AutoresetMode.SAME_STEP.value
        self.metadata = {"render_modes": ["rgb_array"], "render_fps": 30, "autoreset_mode": AutoresetMode(mode)}
        keywords = {"network_seed": network_seed, "reward": reward, "trace": trace}
        self._episodes = Episodes(self.scenario, {}, split, num_envs // devices, **keywords)
        self.simulator = self._episodes.simulator
        self.single_observation_space = observation_space(self.scenario)
        self.single_action_space = spaces.Discrete(self.scenario.actions)
        self.observation_space = batch_space(self.single_observation_space, num_envs)
        self.action_space = batch_space(self.single_action_space, num_envs)

    def reset(self, *, seed: int | None = None, options: dict | None = None) -> tuple[np.ndarray, dict[str, Any]]:
        """Begin the next B episodes, or episodes 0 .. B-1 of `seed`, or the trace in `options["trace"]`."""
        self._episodes.restart(seed)
        super().reset(seed=seed)
        return self._begin(options)

    def _begin(self, options: dict | None = None) -> tuple[np.ndarray, dict[str, Any]]:
        observations = self._episodes.begin(options)
        return observations.reshape(self.num_envs, -1), self._info()

    def step(self, actions: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray, dict[str, Any]]:
        """One slot: the decisions of all rows, (B M,) int."""
        actions = np.asarray(actions)
        if actions.shape != (self.num_envs,):
            raise InvalidInput("actions", actions.shape, f"shape ({self.num_envs},)")
        nobody = np.zeros(self.num_envs, bool)
        if self.simulator.done and not self._same_step:
            observations, info = self._begin()
            return observations, np.zeros(self.num_envs), nobody, nobody.copy(), info
        observations, rewards, done = self._episodes.step(actions.reshape(self._episodes.replicas, -1))
        observations, info = observations.reshape(self.num_envs, -1), self._info()
        if done and self._same_step:
            everybody, last = np.ones(self.num_envs, bool), np.empty(self.num_envs, object)
            last[:] = list(observations)
            final = {"final_obs": last, "_final_obs": everybody, "final_info": info, "_final_info": everybody.copy()}
            observations, info = self._begin()
            info |= final
        return observations, rewards.reshape(-1), np.full(self.num_envs, done), nobody, info

    def action_masks(self) -> np.ndarray:
        """(B M, N+1) bool: what each row may decide."""
        return action_masks(self.scenario, self._has_task()).astype(bool)

    def _has_task(self) -> np.ndarray:
        return np.zeros(self.num_envs, bool) if self.simulator.done else self.simulator.has_task.reshape(-1)

    def _info(self) -> dict[str, Any]:
        has_task = self._has_task()
        terms = self._episodes.terms().reshape(-1, len(TERMS)).T
        info = {"has_task": has_task, "action_mask": action_masks(self.scenario, has_task)}
        info |= zip(TERM_NAMES, terms, strict=True)
        if self.simulator.done:
            metrics = self._episodes.flat_metrics()
            info |= {name: np.repeat(values, self.scenario.devices) for name, values in metrics.items()}
        return info

    def render(self) -> tuple[np.ndarray, ...] | None:
        """The queues as they are now, for each row those of its network, or None without a render mode."""
        if self.render_mode is None:
            return None
        replicas = range(self._episodes.replicas)
        pictures = [draw_queues(self.simulator, replica=replica) for replica in replicas]
        return tuple(pictures[row // self.scenario.devices] for row in range(self.num_envs))
