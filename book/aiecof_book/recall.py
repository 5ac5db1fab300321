"""What a memory can be asked: a task that nothing but a memory solves, and a rule that remembers what it has heard."""

from __future__ import annotations

from typing import Any

import numpy as np
from gymnasium import spaces
from stable_baselines3.common.vec_env import VecEnv

from aiecof.agents.methods import method
from aiecof.agents.policies import check_observations
from aiecof.agents.rules import Greedy
from aiecof.checks import InvalidInput, check_integer
from aiecof.system.observations import SERVERS, SIZE, TASK_INDEX, Seen, observation_fields
from aiecof.system.scenario import Scenario

DELAY, ROWS = 11, 75
"""Slots from the cue to the question, which sequences of 12 hold and halves of them do not; rows of a training."""


class CueVecEnv(VecEnv):
    """A delayed-cue task as an SB3 vectorised environment: a cue in slot 0, and `delay` slots later a question for it.

    rows, cues, delay : int
        Rows that share a policy, each with a cue of its own; cues there are, all equally likely; slots between the cue
        and the question, which ends the episode.
    seed : int
        Of the cues.

    An observation has the columns of the offloading environments as far as they have a meaning here: the share of the
    episode gone (`TASK_INDEX`), 1 in place of a task's size in the slot of the question (`SIZE`), so that in no other
    slot is there a decision, and from `SERVERS` on the cue, one column each, in slot 0 only. The reward is 1 for the
    action that has the cue's number, else 0: by chance 1 / `cues` on average.
    """

    def __init__(self, rows: int = ROWS, cues: int = 2, delay: int = DELAY, seed: int = 0):
        self.cues, self.delay = check_integer("cues", cues, 2, 100), check_integer("delay", delay, 1, 10**4)
        self._draws = np.random.default_rng(check_integer("seed", seed, 0, 2**63))
        self.render_mode = None
        self.right: list[float] = []
        """Share of right answers in each episode so far."""
        width = SERVERS + cues
        super().__init__(
            check_integer("rows", rows, 1, 10**5), spaces.Box(0.0, 1.0, (width,)), spaces.Discrete(self.cues)
        )

    @property
    def slots(self) -> int:
        """Slots of an episode."""
        return self.delay + 1

    def _observations(self) -> np.ndarray:
        seen = np.zeros((self.num_envs, SERVERS + self.cues), np.float32)
        seen[:, TASK_INDEX] = self._slot / self.slots
        seen[:, SIZE] = self._slot == self.delay
        if self._slot == 0:
            seen[np.arange(self.num_envs), SERVERS + self._cue] = 1.0
        return seen

    def seed(self, seed: int | None = None) -> list[int | None]:
        """Nothing: the seed given first holds, as in `OffloadingVecEnv`."""
        return [None] * self.num_envs

    def reset(self) -> np.ndarray:
        """Draw the cues, and show them."""
        self._slot, self._cue = 0, self._draws.integers(self.cues, size=self.num_envs)
        return self._observations()

    def step_async(self, actions: np.ndarray) -> None:
        """Take the answers of all rows, (rows,) int."""
        if np.shape(actions) != (self.num_envs,):
            raise InvalidInput("actions", np.shape(actions), f"shape ({self.num_envs},)")
        self._actions = np.asarray(actions)

    def step_wait(self) -> tuple[np.ndarray, np.ndarray, np.ndarray, list[dict[str, Any]]]:
        """Play the slot; the last one returns the cues of the next episode already, as SB3 has it."""
        asked = self._slot == self.delay
        rewards = (asked & (self._actions == self._cue)).astype(np.float32)
        self._slot += 1
        if not asked:
            return self._observations(), rewards, np.zeros(self.num_envs, bool), [{} for _ in range(self.num_envs)]
        self.right.append(float(rewards.mean()))
        infos = [{"terminal_observation": last} for last in self._observations()]
        return self.reset(), rewards, np.ones(self.num_envs, bool), infos

    def close(self) -> None:
        """Nothing is held open."""

    def get_attr(self, attr_name: str, indices: Any = None) -> list[Any]:
        """An attribute of the whole, once for each row asked for."""
        return [getattr(self, attr_name) for _ in self._get_indices(indices)]

    def set_attr(self, attr_name: str, value: Any, indices: Any = None) -> None:
        """Refused: the rows are one environment."""
        raise InvalidInput("attr_name", attr_name, "nothing to set: the rows are one environment")

    def env_method(self, method_name: str, *args: Any, indices: Any = None, **kwargs: Any) -> list[Any]:
        """Refused likewise."""
        raise InvalidInput("method_name", method_name, "nothing to call: the rows are one environment")

    def env_is_wrapped(self, wrapper_class: type, indices: Any = None) -> list[bool]:
        """No row is wrapped."""
        return [False for _ in self._get_indices(indices)]


def learn_cue(
    name: str, seed: int = 0, episodes: int = 40, delay: int = DELAY, cues: int = 2, **changes: Any
) -> np.ndarray:
    """Train a method on `CueVecEnv`: share of right answers in each training episode, (episodes,).

    name : str
        Of a method in `METHODS` that learns from whole episodes.
    changes : object
        Hyperparameters that differ from the registered ones. Unless it is among them, `sequence_length` is the whole
        episode, so that gradients reach back to the cue (R38).
    """
    env = CueVecEnv(ROWS, cues, delay, seed)
    whole = {"n_steps": env.slots, "batch_size": ROWS // 3 * env.slots}
    if "sequence_length" in method(name).hyperparameters:
        whole["sequence_length"] = env.slots
    check_integer("episodes", episodes, 1, 10**5)
    method(name).build(env, seed, **(whole | changes)).learn(episodes * env.slots * ROWS)
    return np.array(env.right)


class RemembersChannels(Greedy):
    """`Greedy` that believes of each of its channels how likely it is bad, by what it has heard of its own tasks (R68).

    A belief drifts to one half as fast as channels change, and an answer moves it by Bayes' rule: how far is the delay
    from those that a good and a bad channel would have given? The wait on a channel is reckoned from what was sent
    there. Up to a slot of chance keeps devices that see the same queues from running to the same server. Nothing in it
    is fitted.
    """

    def __init__(self, scenario: Scenario, seed: int = 0, *, threshold_slots: float = 2.0):
        fields = observation_fields(scenario)
        if "answered_drop" not in fields:
            raise InvalidInput("readings.observation", scenario.readings.observation, "acknowledged or oracle")
        self._delays, self._in_slots = fields["answered_delay_slots"]
        self._drops, _ = fields["answered_drop"]
        super().__init__(scenario, seed, threshold_slots=threshold_slots)

    def reset(self, episodes: int, first: int = 0) -> None:
        """Start episodes without an opinion of any channel."""
        super().reset(episodes, first)
        shape = (episodes, self.scenario.devices, self.scenario.choices)
        self.bad, self._wait, self._expected = np.full(shape, 0.5), np.zeros(shape), np.zeros((2, *shape))

    def __call__(self, observations: np.ndarray, has_task: np.ndarray) -> np.ndarray:
        """Hear what came back, then decide."""
        check_observations(observations, has_task, len(self._streams))
        change = 1.0 / self.scenario.fading_slots
        self.bad = self.bad + change * (1.0 - 2.0 * self.bad)
        self._wait = np.maximum(self._wait - 1.0, 0.0)
        delay = observations[..., self._delays][..., 1:] * self._in_slots
        dropped = observations[..., self._drops][..., 1:] > 0
        latest = float(self.scenario.tau_max_slots)
        surprise = np.abs(np.minimum(self._expected, latest) - np.where(dropped, latest, delay))
        good, bad = np.exp(-surprise) + 0.02  # what else may delay a task, as likely in either state
        heard = (delay > 0) | dropped
        self.bad = np.where(heard, self.bad * bad / (self.bad * bad + (1.0 - self.bad) * good), self.bad)
        return super().__call__(observations, has_task)

    def decide(self, seen: Seen) -> np.ndarray:
        """The server where the task is expected to finish first, unless the wait on the device is short."""
        arrivals = []
        for factor in (1.0, self.scenario.fading_scale):
            known = {"rate_factor": np.full_like(self.bad, factor), "channel_wait_slots": self._wait}
            _, arrival, service = self.predict(seen._replace(**known))
            arrivals.append(arrival)
        ends = np.maximum(arrivals, seen.backlog_slots) + service
        chance = np.stack([stream.random(self.bad.shape[1:]) for stream in self._streams])
        best = np.argmin((1.0 - self.bad) * ends[0] + self.bad * ends[1] + chance, axis=-1)
        away = seen.has_task & (seen.wait_slots > self.threshold_slots)
        sent = (*np.nonzero(away), best[away])
        self._expected[:, *sent] = ends[:, *sent]
        self._wait[sent] = np.where(self.bad[sent] < 0.5, arrivals[0][sent], arrivals[1][sent])
        return np.where(away, 1 + best, 0)
