"""The simulator as other tools expect it: a Gymnasium, a PettingZoo and a Stable-Baselines3 environment.

Three thin views of `aiecof.simulator.Simulator`, without dynamics of their own: for one trace and the same decisions
all three give the same observations and rewards. They differ in what a step is: one device's decision
(`OffloadingEnv`), one slot of one network (`ParallelOffloadingEnv`), one slot of several replicas whose devices share
a policy (`OffloadingVecEnv`).

Every view plays the episodes 0, 1, 2, ... of its seed, one more at each reset: episode k is
`draw_trace(scenario, seed=seed, first=k, split=split)`, so equal seeds give equal episodes. Without a seed the first
reset draws one. `trace` among the options of a reset plays that trace instead, and leaves the count as it is.
"""

from __future__ import annotations

import time
from typing import Any

import gymnasium
import numpy as np
import pettingzoo
from gymnasium import spaces
from stable_baselines3.common.vec_env import VecEnv

from aiecof.config import InvalidInput, Scenario, check_choice, check_integer, load_scenario
from aiecof.model import waiting_delay
from aiecof.simulator import Simulator, observation_fields
from aiecof.workload import SPLITS, Trace, draw_trace


def observation_space(scenario: Scenario) -> spaces.Box:
    """What one device sees, (F,) float32, in the columns of `observation_fields`.

    An entry is a quantity, never negative, over a scale that keeps it near [0, 1]. Nothing is clipped, and a trace made
    by hand may hold larger tasks than the scenario draws: the upper bound is the largest float32.
    """
    width = max(columns.stop for columns, _ in observation_fields(scenario).values())
    return spaces.Box(0.0, np.finfo(np.float32).max, (width,), np.float32)


def _check_action(name: str, action: Any, scenario: Scenario) -> int:
    # What SB3's `predict` returns for one observation is an array without axes.
    return check_integer(name, np.asarray(action)[()], 0, scenario.servers)


class _Episodes:
    """A simulator, and the traces that it plays one after the other."""

    def __init__(self, scenario: str | Scenario, overrides: dict[str, Any], split: str, replicas: int = 1):
        base = scenario if isinstance(scenario, Scenario) else load_scenario(str(scenario))
        self.scenario = base.replace(**overrides)
        self.split = check_choice("split", split, SPLITS)
        self.replicas = check_integer("replicas", replicas, 1)
        self.simulator = Simulator(self.scenario)
        self.seed: int | None = None
        self._next = 0

    def restart(self, seed: int | None, first: int = 0) -> None:
        """Go to episode `first` of a seed; None keeps seed and count."""
        if seed is not None:
            self.seed, self._next = check_integer("seed", seed, 0), check_integer("first", first, 0)

    def begin(self, options: dict[str, Any] | None) -> np.ndarray:
        """Start B episodes and return the first observations, (B, M, F)."""
        trace = (options or {}).get("trace")
        if trace is None:
            if self.seed is None:
                self.restart(int(np.random.SeedSequence().generate_state(1)[0]))
            trace = draw_trace(self.scenario, self.replicas, self.seed, first=self._next, split=self.split)
            self._next += self.replicas
        elif not isinstance(trace, Trace) or trace.check(self.scenario).episodes != self.replicas:
            found = getattr(trace, "episodes", trace)
            raise InvalidInput("options.trace", found, f"a Trace of {self.replicas} episode(s)")
        return self.simulator.reset(trace)

    def metrics(self) -> list[dict[str, float]]:
        """`Simulator.metrics` of each replica on its own."""
        metrics = self.simulator.metrics()
        return [{name: float(values[b]) for name, values in metrics.items()} for b in range(self.replicas)]


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
        self._episodes = _Episodes(scenario, overrides, split)
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
        action = _check_action("action", action, self.scenario)
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


def draw_queues(simulator: Simulator, device: int) -> np.ndarray:
    """For how many slots the devices, channels and servers of replica 0 are still busy, as an (H, W, 3) uint8 picture.

    The device that decides next stands on red; the bars of devices with a task in this slot are dark.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    scenario, slot, tau = simulator.scenario, simulator.slot, simulator.scenario.tau_max_slots
    ends = simulator.device_end, simulator.server_end, simulator.channel_end
    devices, servers, channels = (waiting_delay(end[0], slot) for end in ends)
    figure = Figure(figsize=(6.4, 5.6), dpi=80, layout="constrained")
    canvas = FigureCanvasAgg(figure)
    top, middle, bottom = figure.subplots(3, 1)
    figure.suptitle(f"after slot {slot}" if simulator.done else f"slot {slot}, device {device} decides")
    colours = "dimgray"
    if not simulator.done:
        top.axvspan(device - 0.5, device + 0.5, color="tab:red", alpha=0.3)
        colours = np.where(simulator.has_task[0], "dimgray", "silver").tolist()
    top.bar(range(scenario.devices), devices, color=colours)
    top.set(ylim=(0, max(tau, devices.max())), xlim=(-0.5, scenario.devices - 0.5), ylabel="device busy [slots]")
    middle.imshow(channels.T, aspect="auto", cmap="Blues", vmin=0, vmax=tau)
    middle.set(xlabel="device", ylabel="channels busy", yticks=[])
    bottom.bar(range(1, scenario.servers + 1), servers, color="tab:orange")
    bottom.set(ylim=(0, max(tau, servers.max())), xlabel="server", ylabel="server busy [slots]")
    canvas.draw()
    return np.asarray(canvas.buffer_rgba())[..., :3].copy()


class ParallelOffloadingEnv(pettingzoo.ParallelEnv):
    """All devices decide at once, one slot a step: a PettingZoo parallel environment.

    Its parameters are those of `OffloadingEnv`.

    Agents `device_0` .. `device_{M-1}`, all of them from the first slot to the last; after slot T all terminate. The
    decisions of a slot take effect in the order of the index, and observation, action and reward of an agent are those
    of `OffloadingEnv`. The info of an agent tells whether it has a task in the slot that it sees (`has_task`), and at
    the end the network's `episode_metrics`.
    """

    metadata = {"name": "aiecof_offloading_v0", "render_modes": [], "is_parallelizable": True}
    render_mode = None

    def __init__(self, scenario: str | Scenario = "balanced", split: str = "train", **overrides: Any):
        self._episodes = _Episodes(scenario, overrides, split)
        self.scenario = self._episodes.scenario
        self.simulator = self._episodes.simulator
        self.possible_agents = [f"device_{m}" for m in range(self.scenario.devices)]
        self.agents: list[str] = []
        self.observation_spaces = {agent: observation_space(self.scenario) for agent in self.possible_agents}
        self.action_spaces = {agent: spaces.Discrete(self.scenario.actions) for agent in self.possible_agents}

    def observation_space(self, agent: str) -> spaces.Box:
        """Space of what an agent sees."""
        return self.observation_spaces[agent]

    def action_space(self, agent: str) -> spaces.Discrete:
        """Space of an agent's decisions."""
        return self.action_spaces[agent]

    def reset(self, seed: int | None = None, options: dict | None = None) -> tuple[dict[str, Any], dict[str, dict]]:
        """Begin the next episode, or episode 0 of `seed`, or the trace in `options["trace"]`."""
        self._episodes.restart(seed)
        observations = self._episodes.begin(options)[0]
        self.agents = list(self.possible_agents)
        return dict(zip(self.agents, observations, strict=True)), self._infos()

    def step(self, actions: dict[str, int]) -> tuple[dict[str, Any], ...]:
        """One slot: a decision from every agent."""
        simulator, agents = self.simulator, self.possible_agents
        if set(actions) != set(agents):
            wrong = sorted(set(actions) ^ set(agents))
            raise InvalidInput("actions", wrong, f"one action for each of device_0 .. {agents[-1]}")
        chosen = [_check_action(f"actions.{m}", actions[m], self.scenario) for m in agents]
        observations, rewards, done = simulator.step(np.array([chosen]))
        by_agent = (observations[0], rewards[0].tolist(), [done] * len(agents), [False] * len(agents))
        infos = self._infos()
        if done:
            self.agents = []
        return *(dict(zip(agents, values, strict=True)) for values in by_agent), infos

    def _infos(self) -> dict[str, dict[str, Any]]:
        if self.simulator.done:
            [metrics] = self._episodes.metrics()
            return {agent: {"has_task": False, "episode_metrics": metrics} for agent in self.agents}
        has_task = self.simulator.has_task[0].tolist()
        return {agent: {"has_task": has} for agent, has in zip(self.agents, has_task, strict=True)}


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
        self._episodes = _Episodes(scenario, overrides, split, replicas)
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
