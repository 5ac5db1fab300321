"""Policies: what every device sees -> what it does, for all devices of all replicas at once; and playing one."""

from abc import ABC, abstractmethod
from collections.abc import Callable

import numpy as np

from aiecof.checks import InvalidInput, check_integer, check_type, checked
from aiecof.system.observations import Seen, read_observations
from aiecof.system.scenario import Scenario
from aiecof.system.simulator import Simulator
from aiecof.system.workload import Trace, draw_trace

BATCH = 1_000_000
"""Device-slots simulated at once: more take memory and save no time."""
Plays = Callable[[np.ndarray, np.ndarray], np.ndarray]
"""(B, M, F) observations and (B, M) bool -> (B, M) int actions, with `reset(episodes, first)`: as a `Policy` does."""


def check_observations(observations: np.ndarray, has_task: np.ndarray, episodes: int | None) -> None:
    """Raise `InvalidInput` for what is no observation of all devices of some episodes.

    episodes : int or None
        As in the latest `reset`; None if there was none.
    """
    if episodes is None:
        raise InvalidInput("episodes", None, "some episodes: call reset first")
    seen, has_task = np.asarray(observations), np.asarray(has_task)
    if seen.dtype.kind != "f" or seen.ndim != 3:
        raise InvalidInput("observations", f"{seen.dtype} of shape {seen.shape}", "floats of shape (B, M, F)")
    if has_task.dtype.kind != "b" or has_task.shape != seen.shape[:2]:
        found = f"{has_task.dtype} of shape {has_task.shape}"
        raise InvalidInput("has_task", found, f"true or false for every device, shape {seen.shape[:2]}")
    if len(seen) != episodes:
        raise InvalidInput("observations", len(seen), f"{episodes} episodes, as in reset")
    if not np.isfinite(seen.sum(dtype=float)):
        raise InvalidInput("observations", "NaN or infinity", "finite numbers")


class Policy(ABC):
    """A rule for all devices of a scenario.

    `reset` before the first slot of an episode, then call it once a slot. Every episode has a random stream of its
    own, fixed by the seed and the episode's number, so an episode is the same in whatever batch it runs.
    """

    def __init__(self, scenario: Scenario, seed: int = 0):
        self.scenario = check_type("scenario", scenario, Scenario)
        self.seed = check_integer("seed", seed, 0, 2**63)
        self.reset(1)

    def reset(self, episodes: int, first: int = 0) -> None:
        """Start the episodes `first` .. `first + episodes - 1`."""
        check_integer("episodes", episodes, 1, 10**6)
        check_integer("first", first, 0, 2**63)
        self._streams = [np.random.default_rng([self.seed, 4, first + episode]) for episode in range(episodes)]

    def uniform(self) -> np.ndarray:
        """A number in [0, 1) for each device, uniformly at random, (B, M)."""
        return np.stack([stream.random(self.scenario.devices) for stream in self._streams])

    def below(self, limit: int) -> np.ndarray:
        """A whole number 0 .. limit - 1 for each device, uniformly at random, (B, M)."""
        return (self.uniform() * limit).astype(np.int64)

    def __call__(self, observations: np.ndarray, has_task: np.ndarray) -> np.ndarray:
        """Actions of all devices, (B, M) int64: 0 runs a task on the device, n on server n.

        observations : (B, M, F) float
            What the devices see (`simulator.observation_fields`).
        has_task : (B, M) bool
            Who has a task; the action of a device without one is ignored.
        """
        check_observations(observations, has_task, len(self._streams))
        return self.decide(read_observations(self.scenario, observations, has_task))

    @abstractmethod
    def decide(self, seen: Seen) -> np.ndarray:
        """Actions, (B, M) int64."""


def _check_policy(policy: Plays, scenario: Scenario) -> None:
    if isinstance(policy, type) or not callable(getattr(policy, "reset", None)):
        raise InvalidInput("policy", policy, "a Policy, or what can be called and reset like one")
    made_for = getattr(policy, "scenario", scenario)
    if made_for.fingerprint != scenario.fingerprint:
        raise InvalidInput("policy", f"one for {made_for.name}", f"one made for {scenario.name} as it is")


@checked
def evaluate(policy: Plays, scenario: Scenario, trace: Trace, record: bool = False, first: int = 0) -> Simulator:
    """Run a policy on a trace, slot by slot, and return the simulator at the end of the episodes.

    policy : Policy, or what can be called and reset like one
        (B, M, F) observations and (B, M) bool -> (B, M) int actions, with `reset(episodes, first)`.
    record : bool
        Whether to keep the outcome of every task.
    first : int
        Number of the trace's first episode: it fixes the policy's random streams.
    """
    _check_policy(policy, scenario)
    check_integer("first", first, 0, 2**63)
    simulator = Simulator(scenario, record=record)
    observations = simulator.reset(trace)
    policy.reset(trace.episodes, first)
    while not simulator.done:
        observations, _, _ = simulator.step(policy(observations, simulator.has_task))
    return simulator


@checked
def episode_metrics(
    policy: Plays,
    scenario: Scenario,
    episodes: int,
    seed: int = 0,
    *,
    trace: Trace | None = None,
    progress: Callable[[int], None] = lambda episodes: None,
) -> dict[str, np.ndarray]:
    """`Simulator.metrics` of evaluation episodes 0 .. episodes - 1, (episodes,) each, in batches that fit in memory.

    trace : Trace or None
        The episodes; None: those that the seed draws.
    progress : callable
        Is told the number of episodes done after each batch.
    """
    check_integer("episodes", episodes, 1, 10**6 if trace is None else trace.episodes)
    batch = max(1, BATCH // (scenario.decisions * scenario.devices))
    parts = []
    for first in range(0, episodes, batch):
        count = min(batch, episodes - first)
        played = draw_trace(scenario, count, seed, first=first) if trace is None else trace[first : first + count]
        parts.append(evaluate(policy, scenario, played, first=first).metrics())
        progress(first + count)
    return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}


class _Recorder:
    """A policy that keeps what another one does."""

    def __init__(self, policy: Plays):
        self.policy, self.actions = policy, []

    def reset(self, episodes: int, first: int = 0) -> None:
        self.policy.reset(episodes, first)

    def __call__(self, observations: np.ndarray, has_task: np.ndarray) -> np.ndarray:
        self.actions.append(self.policy(observations, has_task))
        return self.actions[-1]


@checked
def record_actions(policy: Plays, scenario: Scenario, trace: Trace) -> np.ndarray:
    """What a policy does on a trace, (B, T, M)."""
    _check_policy(policy, scenario)
    recorder = _Recorder(policy)
    evaluate(recorder, scenario, trace)
    return np.stack(recorder.actions, axis=1)
