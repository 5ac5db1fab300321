"""One device's decision a step, as a Gymnasium environment."""

from typing import Any

import gymnasium
import numpy as np
from gymnasium import spaces

from aiecof.checks import check_choice
from aiecof.envs.episodes import Episodes, check_action, observation_space
from aiecof.envs.rendering import draw_queues
from aiecof.system.scenario import Scenario


class OffloadingEnv(gymnasium.Env):
    """One device's decision a step: the inner loop of Algorithm 1, `gymnasium.make("aiecof/Offloading-v0")`.

    Parameters
    ----------
    scenario : str or Scenario
        A name in `SCENARIOS`, a path ending in .json, or a scenario.
    split : str
        Family of traces: "train", "evaluation" or "reference".
    render_mode : str or None
        "rgb_array" or None.
    **overrides
        Fields and readings of the scenario to change: `devices=10`, `load_sign="plus"`.

    Notes
    -----
    Within a slot the devices decide in the order of their index, m = 0 .. M-1, and what each sees is the state at the
    start of the slot (Section IV-A). An episode has T x M steps. A device without a task is asked as well: its action
    changes nothing, and its reward is 0.

    Observation, Box (F,) float32; F = 5 + 2N, or 6 + 3N with `observation="extended"`:

    ==================  =======  =======================================================  =====================
    columns             entries  meaning                                                  divided by
    ==================  =======  =======================================================  =====================
    task_index          1        number of the device's task, from 1; 0 if none           T
    size                1        task size [bit]; 0 if none                               largest size
    workload            1        [cycle] or [cycle/bit] (`workload`); 0 if none           highest of its range
    deadline_slots      1        tau_max [slots]; 0 if no task                            T
    wait_slots          1        wait on the device [slots]                               tau_max
    server_frequency    N        clocks of the servers [Hz]                               highest of their range
    backlog_slots       N        waits on the servers [slots]                             tau_max
    device_frequency    1        clock of the device [Hz] (extended)                      highest of its range
    channel_wait_slots  N        waits on the channels of the device [slots] (extended)   tau_max
    ==================  =======  =======================================================  =====================

    ======================  ======================
    action, Discrete(N+1)   the task runs (Eq. 1)
    ======================  ======================
    0                       on the device itself
    n = 1 .. N              on server n
    ======================  ======================

    The reward is that of the decision (Eq. 31). With the last device's decision in slot T the episode is *terminated*,
    not truncated: the horizon is part of the problem, not a limit of ours. Algorithm 1 runs until done, the objective
    (Eq. 26) ends with slot T, every decision has settled the fate of its task, and no state follows whose value a
    learner should add. `info` tells whose observation it comes with: `device`, `slot`, `has_task`; at the end it adds
    `episode_metrics`, the entries of `Simulator.metrics`.
    """

    metadata = {"render_modes": ["rgb_array"], "render_fps": 30}

    def __init__(
        self,
        scenario: str | Scenario = "balanced",
        split: str = "train",
        render_mode: str | None = None,
        **overrides: Any,
    ):
        if render_mode is not None:
            check_choice("render_mode", render_mode, tuple(self.metadata["render_modes"]))
        self.render_mode = render_mode
        self._episodes = Episodes(scenario, overrides, split)
        self.scenario = self._episodes.scenario
        self.simulator = self._episodes.simulator
        self.observation_space = observation_space(self.scenario)
        self.action_space = spaces.Discrete(self.scenario.actions)
        self._device = 0

    def reset(self, *, seed: int | None = None, options: dict | None = None) -> tuple[np.ndarray, dict[str, Any]]:
        """Begin the next episode, or episode 0 of `seed`, or the trace in `options["trace"]`."""
        self._episodes.restart(seed)
        super().reset(seed=seed)
        self._observations = self._episodes.begin(options)[0]
        self._device = 0
        return self._observations[0].copy(), self._info()

    def step(self, action: int) -> tuple[np.ndarray, float, bool, bool, dict[str, Any]]:
        """Decision of the current device."""
        action = check_action("action", action, self.scenario)
        reward = self.simulator.decide(np.array([[action]]))[0, 0]
        self._device = (self._device + 1) % self.scenario.devices
        if self._device == 0:
            self._observations = self.simulator.observe()[0]
        return self._observations[self._device].copy(), float(reward), self.simulator.done, False, self._info()

    def _info(self) -> dict[str, Any]:
        simulator, device = self.simulator, self._device
        has_task = not simulator.done and bool(simulator.has_task[0, device])
        info = {"device": device, "slot": simulator.slot, "has_task": has_task}
        if simulator.done:
            info["episode_metrics"] = self._episodes.metrics()[0]
        return info

    def render(self) -> np.ndarray | None:
        """The queues as they are now, (H, W, 3) uint8, or None without a render mode."""
        return draw_queues(self.simulator, self._device) if self.render_mode else None
