"""All devices at once, one slot a step, as a PettingZoo parallel environment; and one after the other (AEC)."""

from collections.abc import Mapping
from operator import itemgetter
from typing import Any

import numpy as np
import pettingzoo
from gymnasium import spaces
from pettingzoo.utils import parallel_to_aec

from aiecof.checks import InvalidInput, check_choice
from aiecof.envs.episodes import Episodes, Reward
from aiecof.envs.gymnasium_env import TERM_NAMES
from aiecof.envs.rendering import draw_queues
from aiecof.envs.spaces import check_action, observation_space, shared_masks
from aiecof.system.scenario import Scenario
from aiecof.system.workload import Trace


class ParallelOffloadingEnv(pettingzoo.ParallelEnv):
    """All devices decide at once, one slot a step: a PettingZoo parallel environment.

    Parameters
    ----------
    scenario, split, render_mode, network_seed, reward, trace, **changes
        As for `OffloadingEnv`. A reward of your own is given arrays of shape (1, M).
    max_cycles : int or None
        Slots of an episode, under the name that PettingZoo has for them; None: those of the scenario.

    Notes
    -----
    Agents `agent_0` .. `agent_{M-1}` are the devices, all of them from the first slot to the last; after slot T all
    terminate. The decisions of a slot take effect in the order of the index, and observation, action and reward of an
    agent are those of `OffloadingEnv`. Its info has `has_task` and `action_mask` (N+1,) of the slot that it sees,
    `term_delay`, `term_energy`, `term_drop` and `term_load` of its reward, and `episode_delay` and the other entries of
    `Simulator.metrics`, which are those of the network and 0 before the end: TorchRL wants the same keys always.
    `state()` is what all devices see, one after the other, (M F,) float32, for critics that see the whole.
    """

    metadata = {
        "name": "aiecof_offloading_v1",
        "render_modes": ["rgb_array"],
        "render_fps": 30,
        "is_parallelizable": True,
    }

    def __init__(
        self,
        scenario: str | Scenario = "balanced",
        split: str = "train",
        render_mode: str | None = None,
        *,
        max_cycles: int | None = None,
        network_seed: int | None = None,
        reward: Reward | None = None,
        trace: Trace | None = None,
        **changes: Any,
    ):
        if render_mode is not None:
            check_choice("render_mode", render_mode, ("rgb_array",))
        self.render_mode = render_mode
        changes |= {} if max_cycles is None else {"slots": max_cycles}
        self._episodes = Episodes(scenario, changes, split, network_seed=network_seed, reward=reward, trace=trace)
        self.scenario = self._episodes.scenario
        self.simulator = self._episodes.simulator
        self.possible_agents = [f"agent_{m}" for m in range(self.scenario.devices)]
        self.agents: list[str] = []
        self._nobody = dict.fromkeys(self.possible_agents, False)
        # A getter of one key returns no tuple.
        self._pick = itemgetter(*self.possible_agents) if self.scenario.devices > 1 else lambda named: [*named.values()]
        later = dict.fromkeys((*TERM_NAMES, *self._episodes.metric_names), 0.0)
        masks = enumerate(shared_masks(self.scenario))
        self._templates = [{"has_task": bool(has), "action_mask": mask} | later for has, mask in masks]
        self.observation_spaces = {agent: observation_space(self.scenario) for agent in self.possible_agents}
        self.action_spaces = {agent: spaces.Discrete(self.scenario.actions) for agent in self.possible_agents}
        high = np.tile(observation_space(self.scenario).high, self.scenario.devices)
        self.state_space = spaces.Box(np.zeros_like(high), high, dtype=np.float32)

    def observation_space(self, agent: str) -> spaces.Box:
        """Space of what an agent sees."""
        return self.observation_spaces[agent]

    def action_space(self, agent: str) -> spaces.Discrete:
        """Space of an agent's decisions."""
        return self.action_spaces[agent]

    def reset(self, seed: int | None = None, options: dict | None = None) -> tuple[dict[str, Any], dict[str, dict]]:
        """Begin the next episode, or episode 0 of `seed`, or the trace in `options["trace"]`."""
        self._episodes.restart(seed)
        # PettingZoo's own test gives every environment an option called `options`.
        self._observations = self._episodes.begin(options, ("trace", "options"))[0]
        self.agents = list(self.possible_agents)
        infos = self._infos()
        for info in infos.values():  # TorchRL warns of arrays that it cannot change when it looks at the first ones
            info["action_mask"] = info["action_mask"].copy()
        return self._by_agent(self._observations), infos

    def step(self, actions: dict[str, int]) -> tuple[dict[str, Any], ...]:
        """One slot: a decision from every agent."""
        observations, rewards, done = self._episodes.step(self._chosen(actions))
        self._observations = observations[0]
        infos = self._infos()
        ended = self._nobody.copy()
        if done:
            self.agents, ended = [], dict.fromkeys(self.possible_agents, True)
        seen, paid = self._by_agent(self._observations), self._by_agent(rewards[0].tolist())
        return seen, paid, ended, self._nobody.copy(), infos

    def state(self) -> np.ndarray:
        """What all devices see, one after the other, (M F,) float32."""
        return self._observations.reshape(-1).copy()

    def render(self) -> np.ndarray | None:
        """The queues as they are now, (H, W, 3) uint8, or None without a render mode."""
        return draw_queues(self.simulator) if self.render_mode else None

    def _chosen(self, actions: dict[str, int]) -> np.ndarray:
        """The actions, (1, M) int: those of plain numbers at once, whatever else there is one by one."""
        agents = self.possible_agents
        if not isinstance(actions, Mapping):
            raise InvalidInput("actions", actions, f"one action for each of agent_0 .. {agents[-1]}")
        if actions.keys() != self.action_spaces.keys():
            wrong = sorted(set(actions) ^ set(agents))
            raise InvalidInput("actions", wrong, f"one action for each of agent_0 .. {agents[-1]}")
        chosen = self._pick(actions)
        if not {*map(type, chosen)} <= {int, np.int64} or min(chosen) < 0 or max(chosen) > self.scenario.choices:
            chosen = [check_action(f"actions.{m}", actions[m], self.scenario) for m in agents]
        return np.array(chosen)[None]

    def _by_agent(self, values: Any) -> dict[str, Any]:
        return dict(zip(self.possible_agents, values, strict=True))

    def _infos(self) -> dict[str, dict[str, Any]]:
        """A new dictionary for each agent: copies of one without and one with a task, and the terms."""
        simulator, templates = self.simulator, self._templates
        if simulator.done:
            metrics = {name: float(values[0]) for name, values in self._episodes.flat_metrics().items()}
            templates = [templates[0] | metrics]
        has_task = [False] * len(self.agents) if simulator.done else simulator.has_task[0].tolist()
        infos = {}
        terms = simulator.terms[0].T.tolist()
        for agent, has, energy, delay, drop, load in zip(self.agents, has_task, *terms, strict=True):
            infos[agent] = info = templates[has].copy()
            info["term_delay"] = delay
            info["term_energy"] = energy
            info["term_drop"] = drop
            info["term_load"] = -load
        return infos


def parallel_env(**keywords: Any) -> ParallelOffloadingEnv:
    """`ParallelOffloadingEnv`, by the name that PettingZoo's tools look for."""
    return ParallelOffloadingEnv(**keywords)


def env(**keywords: Any) -> pettingzoo.AECEnv:
    """The same environment with the agents asked one after the other; a slot is played when all have answered."""
    return parallel_to_aec(ParallelOffloadingEnv(**keywords))
