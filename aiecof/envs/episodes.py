"""What the environments share: a scenario from keywords, the episodes that a seed plays, and a reward of your own."""

from collections.abc import Callable, Mapping
from dataclasses import fields, replace
from typing import Any

import numpy as np

from aiecof.checks import InvalidInput, check_choice, check_integer, did_you_mean
from aiecof.envs.spaces import check_trace
from aiecof.metrics import METRICS
from aiecof.system.scenario import READINGS, Scenario, Weights, load_scenario
from aiecof.system.simulator import Simulator
from aiecof.system.workload import SPLITS, Trace, draw_trace

TERMS = ("delay", "energy", "drop", "load")
"""The terms of a reward in the order of `Weights`, each the larger the better."""
_ORDER, _SIGNS = np.array([1, 0, 2, 3]), np.array([1.0, 1.0, 1.0, -1.0])  # from sigma_E, sigma_D, sigma_F, sigma_L
Reward = Callable[[np.ndarray, np.ndarray, np.ndarray, np.ndarray], Any]
"""A reward of your own: the terms delay, energy, drop and load, arrays of one shape -> the rewards, in that shape."""


def scenario_of(scenario: str | Scenario, changes: Mapping[str, Any]) -> Scenario:
    """The scenario that the keywords of an environment describe; an unknown one is a `TypeError`."""
    known = {entry.name for entry in fields(Scenario)} | READINGS.keys()
    for name in changes:
        if name not in known:
            what = f"got an unexpected keyword argument {name!r}: no field or reading of a scenario"
            raise TypeError(what + did_you_mean(name, known))
    base = scenario if isinstance(scenario, Scenario) else load_scenario(str(scenario))
    weights = changes.get("weights")
    if isinstance(weights, Mapping):
        for name in weights:
            if name not in TERMS:
                raise InvalidInput(f"weights.{name}", weights[name], "weights " + ", ".join(TERMS))
        changes = {**changes, "weights": replace(base.weights, **weights)}
    elif weights is not None and not isinstance(weights, Weights):
        raise InvalidInput("weights", weights, "a mapping with weights " + ", ".join(TERMS))
    return base.replace(**changes)


class Episodes:
    """A simulator, and the traces that it plays one after the other.

    scenario, split, network_seed, reward, changes
        As for `OffloadingEnv`.
    replicas : int
        B, the episodes played at once.
    trace : Trace or None
        Episodes to play in turn, again from the first one when all are through; None: those that a seed draws.
    terms : bool
        Whether the terms of the rewards are kept even without a reward of one's own.
    """

    def __init__(
        self,
        scenario: str | Scenario,
        changes: Mapping[str, Any],
        split: str,
        replicas: int = 1,
        *,
        network_seed: int | None = None,
        reward: Reward | None = None,
        trace: Trace | None = None,
        terms: bool = True,
    ):
        self.scenario = scenario_of(scenario, changes)
        self.split = check_choice("split", split, SPLITS)
        self.replicas = check_integer("replicas", replicas, 1, 10**6)
        self.network_seed = None if network_seed is None else check_integer("network_seed", network_seed, 0)
        if reward is not None and not callable(reward):
            raise InvalidInput("reward", reward, f"a function of the terms {', '.join(TERMS)}, or None")
        self._reward = reward
        self._own = trace if trace is None else check_trace(trace, self.scenario, field="trace")
        self.simulator = Simulator(self.scenario, keep_terms=terms or reward is not None)
        self.seed: int | None = None
        self.episode = 0
        self._next = 0

    def restart(self, seed: int | None, first: int = 0) -> None:
        """Go to episode `first` of a seed; None keeps seed and count."""
        first = check_integer("first", first, 0, 2**63)
        if seed is not None:
            self.seed, self._next = check_integer("seed", seed, 0, 2**63), first

    def begin(self, options: Mapping[str, Any] | None, known: tuple[str, ...] = ("trace",)) -> np.ndarray:
        """Start B episodes and return the first observations, (B, M, F)."""
        if options is not None and not isinstance(options, Mapping):
            raise InvalidInput("options", options, "a mapping with options " + ", ".join(known))
        options = options or {}
        for name in options:
            if name not in known:
                allowed = "options " + ", ".join(known) + did_you_mean(name, known)
                raise InvalidInput(f"options.{name}", options[name], allowed)
        trace = options.get("trace")
        if trace is not None:
            return self.simulator.reset(check_trace(trace, self.scenario, self.replicas))
        if self.seed is None:
            self.restart(int(np.random.SeedSequence().generate_state(1)[0]))
        self.episode, self._next = self._next, self._next + self.replicas
        if self._own is not None:
            return self.simulator.reset(self._own[np.arange(self.episode, self._next) % self._own.episodes])
        where = {"first": self.episode, "split": self.split, "network_seed": self.network_seed}
        return self.simulator.reset(draw_trace(self.scenario, self.replicas, self.seed, **where))

    def decide(self, actions: np.ndarray) -> np.ndarray:
        """`Simulator.decide` with the reward that was asked for."""
        simulator = self.simulator
        if self._reward is None or simulator.done:
            return simulator.decide(actions)
        first, had = simulator.next_device, simulator.has_task
        shape = simulator.decide(actions).shape
        deciding = slice(first, first + shape[1])
        found = np.asarray(self._reward(*np.moveaxis(self.terms()[:, deciding], -1, 0)), float)
        if found.shape != shape or not np.isfinite(found).all():
            what = "NaN or infinity" if found.shape == shape else found.shape
            raise InvalidInput("reward", what, f"finite numbers in the shape of the terms, {shape}")
        return np.where(had[:, deciding], found, 0.0)

    def step(self, actions: np.ndarray) -> tuple[np.ndarray, np.ndarray, bool]:
        """`Simulator.step` with the reward that was asked for."""
        if self._reward is None:
            return self.simulator.step(actions)
        rewards = self.decide(actions)
        return self.simulator.observe(), rewards, self.simulator.done

    def terms(self) -> np.ndarray:
        """(B, M, 4) float: `TERMS` of the latest rewards (Eq. 29), the load counting against them; 0 without a task."""
        return self.simulator.terms.take(_ORDER, axis=-1) * _SIGNS

    def metrics(self) -> list[dict[str, float]]:
        """`Simulator.metrics` of each replica on its own."""
        metrics = self.simulator.metrics()
        return [{name: float(values[b]) for name, values in metrics.items()} for b in range(self.replicas)]

    metric_names = tuple(f"episode_{name}" for name in METRICS)
    """Names of `Simulator.metrics` in an info."""

    def flat_metrics(self) -> dict[str, np.ndarray]:
        """`Simulator.metrics` under the names that they have in an info, (B,) each."""
        return dict(zip(self.metric_names, self.simulator.metrics().values(), strict=True))
