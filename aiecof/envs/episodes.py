"""What the environments share: the space of an observation, and the episodes that a seed plays."""

from typing import Any

import numpy as np
from gymnasium import spaces

from aiecof.checks import InvalidInput, check_choice, check_integer
from aiecof.system.observations import observation_width
from aiecof.system.scenario import Scenario, load_scenario
from aiecof.system.simulator import Simulator
from aiecof.system.workload import SPLITS, Trace, draw_trace


def observation_space(scenario: Scenario) -> spaces.Box:
    """What one device sees, (F,) float32, in the columns of `observations.observation_fields`.

    An entry is a quantity, never negative, over a scale that keeps it near [0, 1]. Nothing is clipped, and a trace made
    by hand may hold larger tasks than the scenario draws: the upper bound is the largest float32.
    """
    return spaces.Box(0.0, np.finfo(np.float32).max, (observation_width(scenario),), np.float32)


def check_action(name: str, action: Any, scenario: Scenario) -> int:
    """Return an action as an int if it is one of the scenario's."""
    # What SB3's `predict` returns for one observation is an array without axes.
    return check_integer(name, np.asarray(action)[()], 0, scenario.servers)


class Episodes:
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
