"""What Table III allows: an energy that no policy goes below, and a load that none exceeds.

Both hold for every policy that drops at most a given share of the tasks, whatever it knows, and while every task counts
with what becomes of it (`in_flight="complete"`): a policy could otherwise leave the costly ones unfinished.
"""

from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd

from aiecof.agents.policies import evaluate
from aiecof.agents.rules import longest_service_slots, make_policy
from aiecof.checks import check_calls, check_number
from aiecof.study.grids import UNTRAINED
from aiecof.study.paper import printed_rows
from aiecof.study.store import code_state, manifest, write_table
from aiecof.system import model
from aiecof.system.scenario import READINGS, Scenario, load_scenario
from aiecof.system.workload import Trace, draw_trace


def least_energy(scenario: Scenario, trace: Trace, drop_rate: float) -> float:
    """Energy a slot and device that no policy goes below if it drops at most this share of the tasks [J].

    The devices, all as thrifty as the slowest, compute until the last deadline has passed; what is left runs on the
    slowest server, which is faster than they are. The heaviest tasks are dropped, at no cost; nothing waits or is sent.
    """
    check_number("drop_rate", drop_rate, 0.0, 1.0, open_low=False)
    work = trace.size * trace.density
    heaviest = np.sort(work, axis=None)[::-1][: int(np.ceil(drop_rate * trace.has_task.sum()))]
    done = work.sum() - heaviest.sum()
    local = min(np.minimum(_capacity(scenario, trace), work.sum(axis=1)).sum(), done)
    squares = local * trace.device_frequency.min() ** 2 + (done - local) * trace.server_frequency.min() ** 2
    return float(scenario.switched_capacitance * squares / work.size)


def most_load(scenario: Scenario, trace: Trace, drop_rate: float) -> float:
    """Mean load that no policy exceeds if it drops at most this share of the tasks, as `readings.load` measures it.

    As a share of tasks: the lightest ones that a device can compute in time, and the dropped ones. By Eq. (12), where a
    device takes up one task a slot: that of a device always busy with the task that loads it most.
    """
    check_number("drop_rate", drop_rate, 0.0, 1.0, open_low=False)
    if scenario.readings.load == "busy_share":
        return scenario.load_cap
    if scenario.readings.load == "local_share":
        work = np.where(trace.has_task, trace.size * trace.density, np.inf)
        lightest = np.cumsum(np.sort(work, axis=1), axis=1) <= _capacity(scenario, trace)[:, None]
        return float(lightest.sum() / trace.has_task.sum()) + drop_rate
    episode, _, device = np.nonzero(trace.has_task)
    size, density = trace.size[trace.has_task][:, None], trace.density[trace.has_task][:, None]
    clock = trace.device_frequency[episode, device][:, None]
    slots = np.arange(1.0, longest_service_slots(scenario) + 1.0)
    runs = slots < size * density / clock / scenario.slot_duration + 1.0
    elapsed = slots * (scenario.slot_duration if scenario.readings.load == "literal_seconds" else 1.0)
    return float(np.mean(model.device_load(size, density, clock, elapsed, scenario.load_cap), axis=1, where=runs).max())


def _capacity(scenario: Scenario, trace: Trace) -> np.ndarray:
    """Cycles that each device can compute before its last task has to be done, (B, M)."""
    slots = scenario.slots + scenario.tau_max_slots + longest_service_slots(scenario)
    return slots * scenario.slot_duration * trace.device_frequency


class Limits(NamedTuple):
    """What Table III allows, each on the network where it allows most.

    energy : float
        Least, a slot and device [J].
    saving : dict
        Rule -> most of its energy that can be saved [%].
    load : dict
        Reading of the load -> that of Random, and the most.
    """

    energy: float
    saving: dict[str, float]
    load: dict[str, tuple[float, float]]


def _mean(rule: str, scenario: Scenario, traces: list[Trace], metric: str) -> np.ndarray:
    """Mean of a rule's metric on each network."""
    runs = [evaluate(make_policy(rule, scenario, seed), scenario, trace) for seed, trace in enumerate(traces)]
    return np.array([run.metrics()[metric].mean() for run in runs])


def printed_limits(drop_rate: float, networks: int = 3, episodes: int = 20) -> Limits:
    """`Limits` of a policy that drops at most this share of the tasks."""
    scenario = load_scenario("table-iii", in_flight="complete")
    traces = [draw_trace(scenario, episodes, seed) for seed in range(networks)]
    least = np.array([least_energy(scenario, trace, drop_rate) for trace in traces])
    saving = {rule: float(100.0 * np.max(1.0 - least / _mean(rule, scenario, traces, "energy"))) for rule in UNTRAINED}
    loads = {}
    for reading in READINGS["load"]:
        changed = scenario.replace(load=reading)
        most = max(most_load(changed, trace, drop_rate) for trace in traces)
        loads[reading] = (float(_mean("random", changed, traces, "load").mean()), most)
    return Limits(float(least.min()), saving, loads)


FILE = "print_limits.csv"


def write_limits(results: Path) -> None:
    """`Limits` at the drop rate of TOPPO's printed row into `results/`: what the verdicts compare claims with.

    They are computed again when the code has changed.
    """
    if (results / FILE).exists() and manifest(results).code == code_state():
        return
    drop_rate = float(printed_rows().loc["TOPPO", "drop_rate"])
    limits = printed_limits(drop_rate)
    rows = [("energy", "", limits.energy, None)]
    rows += [("saving", rule, most, None) for rule, most in limits.saving.items()]
    rows += [("load", reading, most, random) for reading, (random, most) in limits.load.items()]
    write_table(FILE, pd.DataFrame(rows, columns=["quantity", "name", "limit", "random"]), results)


check_calls(globals())
