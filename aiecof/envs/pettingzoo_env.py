"""All devices at once, one slot a step, as a PettingZoo parallel environment."""

from typing import Any

import numpy as np
import pettingzoo
from gymnasium import spaces

from aiecof.checks import InvalidInput
from aiecof.envs.episodes import Episodes, check_action, observation_space
from aiecof.system.scenario import Scenario


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
        self._episodes = Episodes(scenario, overrides, split)
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
        chosen = [check_action(f"actions.{m}", actions[m], self.scenario) for m in agents]
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
