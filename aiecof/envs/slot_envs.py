"""One slot a step, as Gymnasium environments: one device among others, its reward in parts, and all devices as one."""

from collections.abc import Callable
from typing import Any

import numpy as np
from gymnasium import spaces
from gymnasium.envs.registration import load_env_creator

from aiecof.checks import InvalidInput, check_integer
from aiecof.envs.episodes import TERMS, Reward
from aiecof.envs.gymnasium_env import View
from aiecof.envs.spaces import action_masks, check_action, observation_space, reward_space, shared_masks
from aiecof.system.scenario import Scenario
from aiecof.system.workload import Trace

Others = Callable[[np.ndarray, np.ndarray], np.ndarray]
"""(1, M, F) observations and (1, M) bool, who has a task -> (1, M) actions."""
RULES = "aiecof.agents.rules:make_policy"
"""Where a rule is found by its name; as text, since rules stand after the environments and few environments ask."""


class DeviceEnv(View):
    """One device among others, a slot a step: `gymnasium.make("aiecof/Offloading-v1")`.

    The view that libraries learn in. The learner is one device of the network, the others follow a rule, and what the
    learner sees next is what became of its own queues and of the servers that all share. What it learns is a policy for
    any device, since each episode gives it another one: afterwards all devices can play it. On `balanced` SB3's PPO
    reaches 87.4 that way after 60,000 transitions, where always-local is 70.5 (`book/clients/sb3.py`); among copies of
    itself 88.4, and 88.7 among others that follow `threshold-power-of-two`.

    Parameters
    ----------
    scenario, split, render_mode, network_seed, reward, trace, **changes
        As for `OffloadingEnv`, where the columns of an observation are told as well.
    device : int or None
        Which device learns, 0 .. M-1; None draws one at each reset.
    others : str or callable
        What the other devices do: a name in `agents.rules.POLICIES`, or (1, M, F) observations and (1, M) bool, who has
        a task -> (1, M) actions. `env.unwrapped.others = ...` changes it, say to the learner's own latest copy.

    Notes
    -----
    An episode has T steps, and the last one is *terminated* (see `OffloadingEnv`). Without a task the reward is 0 and
    only action 0 is allowed (`action_mask` in the info, `action_masks()` for MaskablePPO). `info` has `device`, `slot`,
    `has_task`, `action_mask`, `term_delay`, `term_energy`, `term_drop` and `term_load`, and at the end
    `episode_delay` and the other entries of `Simulator.metrics`, which are those of the whole network.
    `options={"device": m}` of a reset chooses the device of one episode, `"trace"` its tasks.
    """

    _options = ("trace", "device")

    def __init__(
        self,
        scenario: str | Scenario = "balanced",
        split: str = "train",
        render_mode: str | None = None,
        *,
        device: int | None = None,
        others: str | Others = "frugal",
        network_seed: int | None = None,
        reward: Reward | None = None,
        trace: Trace | None = None,
        **changes: Any,
    ):
        super().__init__(render_mode, scenario, changes, split, network_seed=network_seed, reward=reward, trace=trace)
        self.observation_space = observation_space(self.scenario)
        self.action_space = spaces.Discrete(self.scenario.actions)
        self._masks = shared_masks(self.scenario)
        self._fixed = None if device is None else self._check_device("device", device)
        self.device = self._fixed or 0
        self.others = others

    @property
    def others(self) -> Others:
        """What the other devices do."""
        return self._others

    @others.setter
    def others(self, others: str | Others) -> None:
        self._named = isinstance(others, str)
        if isinstance(others, str):
            others = load_env_creator(RULES)(others, self.scenario)
        if not callable(others):
            raise InvalidInput("others", others, "the name of a rule, or (observations, has_task) -> actions")
        self._others = others

    def _check_device(self, name: str, device: Any) -> int:
        return check_integer(name, device, 0, self.scenario.devices - 1)

    def reset(self, *, seed: int | None = None, options: dict | None = None) -> tuple[np.ndarray, dict[str, Any]]:
        """Begin the next episode, or episode 0 of `seed`, or the trace in `options["trace"]`."""
        chosen = options.get("device") if isinstance(options, dict) else None
        chosen = None if chosen is None else self._check_device("options.device", chosen)
        super().reset(seed=seed, options=options)
        # Drawn even if it is given, so that what follows does not depend on it.
        drawn = int(self.np_random.integers(self.scenario.devices))
        self.device = next(device for device in (chosen, self._fixed, drawn) if device is not None)
        if self._named and self._episodes.seed is not None:
            self._others.seed = self._episodes.seed
        if hasattr(self._others, "reset"):
            self._others.reset(1, first=self._episodes.episode)
        return self._observations[self.device].copy(), self._described([0.0] * len(TERMS))

    def step(self, action: int) -> tuple[np.ndarray, Any, bool, bool, dict[str, Any]]:
        """One slot: the device's decision, and those of the others."""
        action, device = check_action("action", action, self.scenario), self.device
        actions = np.zeros((1, self.scenario.devices), np.int64)
        if self.scenario.devices > 1 and not self.simulator.done:
            actions = np.array(self._others(self._observations[None], self.simulator.has_task))
            if actions.shape != (1, self.scenario.devices):
                raise InvalidInput("others", actions.shape, f"actions of shape (1, {self.scenario.devices})")
        actions[0, device] = action
        observations, rewards, done = self._episodes.step(actions)
        self._observations = observations[0]
        terms = self._episodes.terms()[0, device].tolist()
        return self._observations[device].copy(), self._reward(rewards, terms), done, False, self._described(terms)

    def _reward(self, rewards: np.ndarray, terms: list[float]) -> Any:
        return float(rewards[0, self.device])

    def action_masks(self) -> np.ndarray:
        """(N+1,) bool: what the device may decide; sb3-contrib's MaskablePPO asks for it."""
        return self._masks[int(self._has_task()[self.device])].astype(bool)

    def _described(self, terms: list[float]) -> dict[str, Any]:
        has_task = bool(self._has_task()[self.device])
        return self._info(terms, device=self.device, has_task=has_task, action_mask=self._masks[has_task].copy())

    def _marked(self) -> int | None:
        return self.device


class MultiObjectiveEnv(DeviceEnv):
    """One device among others with a vector as reward: `mo_gymnasium.make("aiecof/OffloadingMO-v1")`.

    The parameters are those of `DeviceEnv` without `reward`. The reward is (4,) float32, within `reward_space`: the
    terms delay, energy, drop and load of Eq. (29), each the larger the better. With the scenario's weights their sum is
    the reward of `DeviceEnv`, where the load counts against it (R18). mo-gymnasium's `LinearReward` makes one number of
    them.
    """

    def __init__(
        self,
        scenario: str | Scenario = "balanced",
        split: str = "train",
        render_mode: str | None = None,
        *,
        device: int | None = None,
        others: str | Others = "frugal",
        network_seed: int | None = None,
        trace: Trace | None = None,
        **changes: Any,
    ):
        keywords = {"device": device, "others": others, "network_seed": network_seed, "reward": None, "trace": trace}
        super().__init__(scenario, split, render_mode, **keywords, **changes)
        self.reward_space = reward_space(self.scenario)
        self.reward_dim = len(TERMS)

    def _reward(self, rewards: np.ndarray, terms: list[float]) -> Any:
        return np.array(terms, np.float32)


class JointEnv(View):
    """All devices as one: a central controller, `gymnasium.make("aiecof/OffloadingJoint-v1")`.

    The parameters are those of `OffloadingEnv`. A step is a slot; the observation is that of all devices one after the
    other, (M F,) float32 (`reshape(M, F)` gives the table of `OffloadingEnv`), an action one decision a device,
    MultiDiscrete ([N+1] * M), and the reward the mean of the devices' rewards, so that their sum over an episode is the
    `reward` of `Simulator.metrics`. `info` is that of `DeviceEnv`, with `has_task` (M,), `action_mask` (M, N+1), and
    the means of the terms.

    (N+1)^M joint actions are many, and one number a slot has to tell M decisions apart: on `balanced` SB3's PPO reaches
    76.9 after 60,000 slots, or 1.8 million decisions, where rows that share a policy reach 87.8 after 4,000 slots. Use
    it for small networks and central methods.
    """

    def __init__(
        self,
        scenario: str | Scenario = "balanced",
        split: str = "train",
        render_mode: str | None = None,
        *,
        network_seed: int | None = None,
        reward: Reward | None = None,
        trace: Trace | None = None,
        **changes: Any,
    ):
        super().__init__(render_mode, scenario, changes, split, network_seed=network_seed, reward=reward, trace=trace)
        high = np.tile(observation_space(self.scenario).high, self.scenario.devices)
        self.observation_space = spaces.Box(np.zeros_like(high), high, dtype=np.float32)
        self.action_space = spaces.MultiDiscrete([self.scenario.actions] * self.scenario.devices)

    def reset(self, *, seed: int | None = None, options: dict | None = None) -> tuple[np.ndarray, dict[str, Any]]:
        """Begin the next episode, or episode 0 of `seed`, or the trace in `options["trace"]`."""
        super().reset(seed=seed, options=options)
        return self._observations.reshape(-1), self._described([0.0] * len(TERMS))

    def step(self, action: np.ndarray) -> tuple[np.ndarray, float, bool, bool, dict[str, Any]]:
        """One slot: the decisions of all devices, (M,) int."""
        observations, rewards, done = self._episodes.step(np.asarray(action)[None])
        self._observations = observations[0]
        info = self._described(self._episodes.terms()[0].mean(axis=0).tolist())
        return self._observations.reshape(-1), float(rewards.mean()), done, False, info

    def action_masks(self) -> np.ndarray:
        """(M (N+1),) bool: what the devices may decide, one after the other, as MaskablePPO takes it."""
        return action_masks(self.scenario, self._has_task()).astype(bool).reshape(-1)

    def _described(self, terms: list[float]) -> dict[str, Any]:
        has_task = self._has_task()
        return self._info(terms, has_task=has_task, action_mask=action_masks(self.scenario, has_task))
