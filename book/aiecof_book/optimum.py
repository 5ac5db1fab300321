"""The optimum of tiny instances, by trying everything."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from aiecof.checks import InvalidInput
from aiecof.system.scenario import Scenario
from aiecof.system.simulator import Simulator
from aiecof.system.workload import Trace

SEQUENCES = 300_000
"""Most action sequences of an episode that `optimum` tries."""
REPLICAS = 10_000
"""Action sequences simulated at once."""


class Optimum(NamedTuple):
    """The least cost of each episode, (B,), and actions that reach it, (B, T, M)."""

    cost: np.ndarray
    actions: np.ndarray


def optimum(scenario: Scenario, trace: Trace) -> Optimum:
    """The least objective (26) of all action sequences, found by simulating every one of them.

    scenario : Scenario
        With the edge service `decision_order`.
    trace : Trace
        B episodes of at most `SEQUENCES` action sequences each: N + 1 to the power of the number of tasks.
    """
    simulator = Simulator(scenario)
    trace.check(scenario)
    best, actions = np.full(trace.episodes, np.inf), np.zeros(trace.size.shape, np.int64)
    for b in range(trace.episodes):
        t, m = np.nonzero(trace.has_task[b])
        count = scenario.actions ** len(t)
        if count > SEQUENCES:
            raise InvalidInput("trace", f"{count} action sequences in episode {b}", f"at most {SEQUENCES}")
        for first in range(0, count, REPLICAS):
            numbers = np.arange(first, min(first + REPLICAS, count))
            tried = np.zeros((len(numbers), *trace.size.shape[1:]), np.int64)
            tried[:, t, m] = numbers[:, None] // scenario.actions ** np.arange(len(t)) % scenario.actions
            simulator.run(trace[np.full(len(numbers), b)], tried)
            cost = simulator.metrics()["cost"]
            if cost.min() < best[b]:
                best[b], actions[b] = cost.min(), tried[cost.argmin()]
    return Optimum(best, actions)
