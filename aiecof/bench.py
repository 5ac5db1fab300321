"""How fast the compiled simulator is, on one core: decisions a second, and against the plain event simulation."""

from __future__ import annotations

import time
from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np

from aiecof.config import Scenario, load_scenario
from aiecof.reference import simulate
from aiecof.simulator import Simulator
from aiecof.workload import Trace, draw_trace

REPLICAS = (1, 64)
DEVICES = (30, 100, 300, 1_000, 3_000, 10_000)


def best_time(run: Callable[[], object], seconds: float = 1.0) -> float:
    """Shortest time of a call [s], of as many as fit in `seconds`, after one that compiles and warms up."""
    run()
    times = []
    while sum(times) < seconds or len(times) < 3:
        start = time.perf_counter()
        run()
        times.append(time.perf_counter() - start)
    return min(times)


def _episodes(scenario: Scenario, replicas: int) -> tuple[Simulator, Trace, np.ndarray]:
    trace = draw_trace(scenario, replicas, seed=0)
    actions = np.random.default_rng(0).integers(scenario.actions, size=trace.size.shape)
    return Simulator(scenario), trace, actions


def _step_through(simulator: Simulator, trace: Trace, actions: np.ndarray) -> None:
    simulator.reset(trace)
    while not simulator.done:
        simulator.step(actions[:, simulator.slot])


def bench_simulator(seconds: float = 1.0) -> dict[str, Any]:
    """Speed of the compiled simulator on the `balanced` scenario (30 devices, 8 servers), actions at random.

    seconds : float
        Time for each measurement [s]; the best of its repetitions counts.

    Returns a dict: `device_slots_per_second`, by number of replicas, of dynamics and rewards (`Simulator.run`), and
    `device_slots_per_second_with_observations` (`Simulator.step`); `reference_ratio`, how often faster than the
    event simulation `reference.simulate` on the first of the same episodes; `scaling`, by number of devices, what
    one device costs in one slot [ns], without the reference energy, which would have to be found for each number.
    """
    scenario = load_scenario("balanced")
    plain, observed = {}, {}
    for replicas in REPLICAS:
        simulator, trace, actions = _episodes(scenario, replicas)
        plain[str(replicas)] = actions.size / best_time(partial(simulator.run, trace, actions), seconds)
        step_through = partial(_step_through, simulator, trace, actions)
        observed[str(replicas)] = actions.size / best_time(step_through, seconds)
    reference = actions[:1].size / best_time(partial(simulate, scenario, trace[:1], actions[:1]), seconds)
    scaling = {}
    for devices in DEVICES:
        larger = scenario.replace(devices=devices, energy_reference="own_history", cost_units="si")
        simulator, trace, actions = _episodes(larger, max(1, 1_000 // devices))
        scaling[str(devices)] = 1e9 * best_time(partial(simulator.run, trace, actions), seconds) / actions.size
    return {
        "device_slots_per_second": plain,
        "device_slots_per_second_with_observations": observed,
        "reference_ratio": plain[str(REPLICAS[-1])] / reference,
        "scaling": scaling,
    }
