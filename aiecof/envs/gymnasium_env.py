"""One decision a step, as a Gymnasium environment: for following Algorithm 1, and what all Gymnasium views share."""

from collections.abc import Iterable
from typing import Any

import gymnasium
import numpy as np
from gymnasium import spaces
from gymnasium.envs.registration import EnvSpec

from aiecof.checks import check_choice
from aiecof.envs.episodes import TERMS, Episodes, Reward
from aiecof.envs.rendering import draw_queues
from aiecof.envs.spaces import check_action, observation_space, shared_masks
from aiecof.system.scenario import Scenario
from aiecof.system.workload import Trace

TERM_NAMES = tuple(f"term_{name}" for name in TERMS)
"""Names of a reward's terms in an info."""


class View(gymnasium.Env):
    """What the Gymnasium views share: scenario and episodes, pictures, and a spec that knows the number of steps."""

    metadata = {"render_modes": ["rgb_array"], "render_fps": 30}
    _options: tuple[str, ...] = ("trace",)
    _spec: EnvSpec | None = None

    def __init__(self, render_mode: str | None, scenario: str | Scenario, changes: dict[str, Any], *args, **kwargs):
        if render_mode is not None:
            check_choice("render_mode", render_mode, tuple(self.metadata["render_modes"]))
        self.render_mode = render_mode
        self._episodes = Episodes(scenario, changes, *args, **kwargs)
        self.scenario = self._episodes.scenario
        self.simulator = self._episodes.simulator

    @property
    def steps(self) -> int:
        """Steps of an episode."""
        return self.scenario.decisions

    @property
    def spec(self) -> EnvSpec | None:
        """What the environment was made from; its `max_episode_steps` are `steps`.

        They are told here, not at the registration: there they would add a wrapper that cuts longer scenarios off and
        calls every last step truncated. (`gymnasium.make(env.spec)` adds one of `steps`: its last step is both.)
        """
        return self._spec

    @spec.setter
    def spec(self, spec: EnvSpec | None) -> None:
        if spec is not None:
            spec.max_episode_steps = self.steps
        self._spec = spec

    def reset(self, *, seed: int | None = None, options: dict | None = None) -> Any:
        """Begin the next episode, or episode 0 of `seed`, or the trace in `options["trace"]`."""
        self._episodes.restart(seed)
        super().reset(seed=seed)
        self._observations = self._episodes.begin(options, self._options)[0]

    def _has_task(self) -> np.ndarray:
        """(M,) bool, nobody at the end."""
        simulator = self.simulator
        return np.zeros(self.scenario.devices, bool) if simulator.done else simulator.has_task[0]

    def _info(self, terms: Iterable[float], **more: Any) -> dict[str, Any]:
        """Slot and terms of the latest reward, and at the end the metrics."""
        info = {"slot": self.simulator.slot, **more}
        info |= zip(TERM_NAMES, terms, strict=True)
        if self.simulator.done:
            info |= {name: float(values[0]) for name, values in self._episodes.flat_metrics().items()}
        return info

    def render(self) -> np.ndarray | None:
        """The queues as they are now, (H, W, 3) uint8, or None without a render mode."""
        return draw_queues(self.simulator, self._marked()) if self.render_mode else None

    def _marked(self) -> int | None:
        """Device that a picture marks."""
        return None


class OffloadingEnv(View):
    """One device's decision a step: the inner loop of Algorithm 1, `gymnasium.make("aiecof/OffloadingDecision-v1")`.

    For following the algorithm, not for learning: consecutive steps belong to different devices, so what a library
    takes for the next state is what another device sees. On `balanced` SB3's PPO stays at always-local here (70.6 after
    60,000 transitions, always-local being 70.5) with the settings that reach 87.4 on `aiecof/Offloading-v1`: train
    there (`DeviceEnv`), or on the rows of `gymnasium.make_vec` (`OffloadingVectorEnv`). `aiecof/Offloading-v0` is the
    older name of this view.

    Parameters
    ----------
    scenario : str or Scenario
        A name in `SCENARIOS`, a path ending in .json, or a scenario.
    split : str
        Family of traces: "train", "evaluation" or "reference".
    render_mode : str or None
        "rgb_array" or None.
    network_seed : int or None
        Seed of clocks and channels, apart from that of the episodes: environments and evaluations with the same one
        share a network. None: the seed of the episodes.
    trace : Trace or None
        A trace of your own: its episodes are played in turn, again from the first one when all are through. A seed
        then chooses nothing but where to begin, with the first episode. None: episodes that the seed draws.
    reward : callable or None
        A reward of your own: (delay, energy, drop, load) -> rewards. The terms of Eq. (29) come as arrays of one shape,
        each the larger the better, and the result has that shape; a device without a task gets 0. None: Eq. (30).
    **changes
        Fields and readings of the scenario to change: `devices=10`, `load_sign="plus"`, `weights={"drop": 1.0}`. A word
        that is neither is a `TypeError`.

    Notes
    -----
    Within a slot the devices decide in the order of their index, m = 0 .. M-1, and what each sees is the state at the
    start of the slot (Section IV-A). An episode has T x M steps. A device without a task is asked as well: its action
    changes nothing, and its reward is 0.

    Observation, Box (F,) float32; F = 5 + 2N, or 6 + 3N with `observation="extended"`, or 6 + 2N with `"printed_mean"`:

    ==================  =======  =======================================================  =====================
    columns             entries  meaning                                                  divided by
    ==================  =======  =======================================================  =====================
    task_index          1        number of the device's task, from 1; 0 if none           T
    size                1        task size [bit]; 0 if none                               largest size
    workload            1        [cycle] or [cycle/bit] (`workload`); 0 if none           highest of its range
    deadline_slots      1        tau_max [slots]; 0 if no task                            T
    wait_slots          1        wait on the device [slots]                               tau_max
    server_frequency    N        clocks of the servers [Hz]; 0 where hidden               highest of their range
    backlog_slots       N        waits on the servers [slots]                             tau_max
    device_frequency    1        clock of the device [Hz] (extended)                      highest of its range
    channel_wait_slots  N        waits on the channels of the device [slots] (extended)   tau_max
    mean_energy         1        of the device's tasks so far [J] (printed_mean)          heaviest task's
    ==================  =======  =======================================================  =====================

    `observation="acknowledged"` and `"oracle"` have columns of their own: `system.observations.observation_fields`.

    The bounds of the space hold (`spaces.observation_space`): a trace in the options of a reset that could leave them
    is refused.

    ======================  ======================
    action, Discrete(N+1)   the task runs (Eq. 1)
    ======================  ======================
    0                       on the device itself
    n = 1 .. N              on server n
    ======================  ======================

    The reward is that of the decision (Eq. 31). With the last device's decision in slot T the episode is *terminated*,
    not truncated: the horizon is part of the problem, not a limit of ours. Algorithm 1 runs until done, the objective
    (Eq. 26) ends with slot T, every decision has settled the fate of its task, and no state follows whose value a
    learner should add. `info` tells whose observation it comes with: `device`, `slot`, `has_task`, `action_mask`
    (without a task only action 0), then `term_delay`, `term_energy`, `term_drop` and `term_load` of the reward; at the
    end it adds `episode_delay` and the other entries of `Simulator.metrics`, once more together as `episode_metrics`.
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
        self.observation_space = observation_space(self.scenario)
        self._masks = shared_masks(self.scenario)
        self.action_space = spaces.Discrete(self.scenario.actions)
        self._device = 0

    @property
    def steps(self) -> int:
        """Steps of an episode: each device in each slot, or round."""
        return self.scenario.decisions * self.scenario.devices

    def reset(self, *, seed: int | None = None, options: dict | None = None) -> tuple[np.ndarray, dict[str, Any]]:
        """Begin the next episode, or episode 0 of `seed`, or the trace in `options["trace"]`."""
        super().reset(seed=seed, options=options)
        self._device = 0
        self._begin_slot(self._observations)
        return self._observations[0].copy(), self._described(0.0, 0.0, 0.0, 0.0)

    def step(self, action: int) -> tuple[np.ndarray, float, bool, bool, dict[str, Any]]:
        """Decision of the current device."""
        action = check_action("action", action, self.scenario)
        reward = self._episodes.decide(np.array([[action]]))[0, 0]
        energy, delay, drop, load = self.simulator.terms[0, self._device].tolist()
        self._device = self.simulator.next_device
        if self._device == 0:
            self._begin_slot(self.simulator.observe()[0])
        info = self._described(delay, energy, drop, -load)
        return self._observations[self._device].copy(), float(reward), self.simulator.done, False, info

    def action_masks(self) -> np.ndarray:
        """(N+1,) bool: what the current device may decide; sb3-contrib's MaskablePPO asks for it."""
        return self._masks[self._with_task[self._device]].astype(bool)

    def _begin_slot(self, observations: np.ndarray) -> None:
        self._observations, self._with_task = observations, self._has_task().tolist()

    def _described(self, *terms: float) -> dict[str, Any]:
        device, has_task = self._device, self._with_task[self._device]
        info = self._info(terms, device=device, has_task=has_task, action_mask=self._masks[has_task].copy())
        if self.simulator.done:
            info["episode_metrics"] = self._episodes.metrics()[0]
        return info

    def _marked(self) -> int | None:
        return None if self.simulator.done else self._device
