"""Equations (25)-(31), by hand and recomputed in plain loops from recorded episodes."""

import math

import numpy as np
import pytest
from numba import njit

from aiecof.system import objective
from aiecof.system.kernels import COMPLETED, DROPPED, TASK
from aiecof.system.scenario import Weights, load_scenario
from aiecof.system.simulator import Simulator, reference_energy
from aiecof.system.workload import draw_trace

SMALL = {"devices": 4, "servers": 2, "slots": 30, "weights": Weights(delay=0.1, energy=0.2, drop=0.3, load=0.4)}
VARIANTS = {
    "default": {},
    "printed": {
        "energy_reference": "own_history",
        "dropped_energy_term": "printed",
        "failure_scope": "offloaded",
        "load_sign": "plus",
        "cost_units": "si",
    },
    "per slot": {"energy_reference": "own_history", "history_mean": "slots", "dropped_energy": "none"},
    "task": {"reward_history": "task", "dropped_energy": "full"},
    "local share": {"load": "local_share"},
    "wait rule": {"drop_rule": "wait", "tau_max_slots": 4},
}


def play(**changes):
    """A recorded episode with random actions on a small network where much is dropped."""
    scenario = load_scenario("balanced", **SMALL | {"tau_max_slots": 5} | changes)
    trace = draw_trace(scenario, 2, 5)
    simulator = Simulator(scenario, record=True)
    rewards = simulator.run(trace, np.random.default_rng(6).choice(3, trace.size.shape, p=[0.6, 0.2, 0.2]))
    return scenario, trace, simulator, rewards


def energies(tasks):
    return tasks["waiting_energy"] + tasks["transmission_energy"] + tasks["computing_energy"]


# --- the objective -----------------------------------------------------------------------------------------------


def test_cost_by_hand():
    """0.5 s, 40 J, dropped, load 0.3, with weights that tell the terms apart (Eq. 25)."""
    weights = (0.1, 0.01, 0.5, 0.2)
    assert math.isclose(objective.task_cost(0.5, 40.0, True, 0.3, *weights), 0.05 + 0.4 + 0.5 + 0.06)
    assert math.isclose(objective.task_cost(0.5, 40.0, False, 0.0, *weights), 0.45)
    assert objective.task_cost(0.0, 0.0, False, 0.0, *weights) == 0.0


@pytest.mark.parametrize("units", ["si", "normalised"])
def test_costs_of_a_recorded_episode(units):
    """Each from its own record, and their mean over all slots and devices (Eqs. 25, 26)."""
    scenario, trace, simulator, _ = play(cost_units=units, cost_load="level")
    tasks = simulator.tasks
    seconds, joules = (1.0, 1.0) if units == "si" else (0.5, reference_energy(scenario))
    sums = np.zeros(2)
    for b, t, m in np.argwhere(trace.size > 0):
        task = tasks[b, t, m]
        load = task["load"] if task["place"] == 0 else 0.0
        cost = 0.1 * task["delay_slots"] * 0.1 / seconds + 0.2 * energies(task) / joules
        cost += 0.3 * (task["fate"] == DROPPED) + 0.4 * load
        assert math.isclose(task["cost"], cost, rel_tol=1e-9)
        sums[b] += cost
    assert np.allclose(objective.mean_cost(tasks["cost"].sum(axis=(1, 2)), 30, 4), sums / (30 * 4))
    assert np.allclose(simulator.metrics()["cost"], sums / (30 * 4))


def test_cost_of_the_variance_is_what_the_reward_takes_off():
    """Only the load term is weighed: every task costs what it loses in reward (Eqs. 25, 30)."""
    *_, simulator, rewards = play(weights=Weights(0.0, 0.0, 0.0, 0.4), load_sign="minus", cost_load="variance")
    assert simulator.tasks["cost"].max() > 0
    assert np.allclose(simulator.tasks["cost"], -rewards)


def test_a_slot_without_a_task_costs_nothing():
    """Two tasks of cost 3 among six slots of devices (Eq. 26)."""
    assert objective.mean_cost(np.array([[3.0, 0.0, 0.0], [0.0, 3.0, 0.0]]).sum(), 2, 3) == 1.0


# --- the constraints ---------------------------------------------------------------------------------------------


def violations_in_loops(tasks, servers, tau):
    counts = dict.fromkeys(("c1", "c2", "c3", "c4", "c5"), 0)
    for task in tasks.ravel():
        if task["fate"] == 0:
            continue
        counts["c1"] += not 0 <= task["end_slot"] < math.inf
        counts["c2"] += task["place"] < 0
        counts["c3"] += task["place"] > servers
        spent = sum(task[f"{stage}_slots"] for stage in ("wait", "transmission_wait", "transmission", "computing"))
        if task["fate"] == COMPLETED and spent > tau + 1e-9:
            counts["c4" if task["place"] == 0 else "c5"] += 1
    return counts


@pytest.mark.parametrize("edge_wait_from", ["arrival", "decision"])
@pytest.mark.parametrize("drop_rule", ["deadline", "wait"])
def test_constraints_of_a_recorded_episode(drop_rule, edge_wait_from):
    _, _, simulator, _ = play(drop_rule=drop_rule, edge_wait_from=edge_wait_from)
    counts = objective.constraint_violations(simulator.tasks, 2, 5)
    assert counts == violations_in_loops(simulator.tasks, 2, 5)
    assert counts["c1"] == counts["c2"] == counts["c3"] == 0
    # Only the printed drop rule lets a task finish late.
    assert (counts["c4"] > 0) == (drop_rule == "wait")
    assert (counts["c5"] > 0) == (edge_wait_from == "decision")


def test_each_constraint_can_be_broken():
    good = np.zeros(1, TASK)
    good["fate"], good["place"], good["end_slot"], good["delay_slots"] = COMPLETED, 1, 7.0, 8.0
    changes = {
        "c1": {"end_slot": -1.0},
        "c2": {"place": -1},
        "c3": {"place": 3},
        "c4": {"place": 0, "delay_slots": 8.5},
        "c5": {"delay_slots": 8.5},
    }
    assert sum(objective.constraint_violations(good, 2, 8).values()) == 0
    for name, change in changes.items():
        bad = good.copy()
        for entry, value in change.items():
            bad[entry] = value
        assert objective.constraint_violations(bad, 2, 8) == dict.fromkeys(changes, 0) | {name: 1}
    dropped = good.copy()
    dropped["fate"], dropped["delay_slots"] = DROPPED, 8.5
    assert sum(objective.constraint_violations(dropped, 2, 8).values()) == 0


# --- the reward --------------------------------------------------------------------------------------------------


def test_means_of_a_history():
    """0.2, 0.4 and 0.9 s, 1, 2 and 6 J, of three tasks or in five slots (Eqs. 27, 28)."""
    assert math.isclose(objective.mean_delay(1.5, 3), 0.5) and math.isclose(objective.mean_delay(1.5, 5), 0.3)
    assert math.isclose(objective.mean_energy(9.0, 3), 3.0) and math.isclose(objective.mean_energy(9.0, 5), 1.8)


@pytest.mark.parametrize(
    ("energy", "reference", "expected"),
    [
        (10.0, 20.0, 1.0),
        (20.0, 10.0, -1.0),
        (10.0, 10.0, 0.0),
        (0.0, 0.0, 0.0),
        (0.0, 10.0, 10 * math.log2(10)),
        (5e3, 0.625e3, -3),
    ],
)
def test_energy_term_by_hand(energy, reference, expected):
    """Powers of two; no energy at all is worth -log2(1e-10) (Eq. 29)."""
    sigma = objective.reward_terms(energy, reference, 0.0, 1.0, 0, 1, 0.0)[0]
    assert math.isclose(sigma, expected, abs_tol=1e-8)


def test_other_terms_by_hand():
    """0.2 of 0.8 s, one failure in four, variance 0.04 (Eq. 29)."""
    _, delay, success, load = objective.reward_terms(1.0, 1.0, 0.2, 0.8, 1, 4, 0.04)
    assert (delay, success, load) == (0.75, 0.75, 0.04)
    assert objective.reward_terms(1.0, 1.0, 0.8, 0.8, 4, 4, 0.0)[1:3] == (0.0, 0.0)
    assert objective.reward_terms(1.0, 1.0, 0.0, 0.8, 0, 0, 0.0)[2] == 1.0


def test_reward_by_hand():
    """Terms 2, 0.5, 0.75 and 0.04; the printed sign pays for an uneven load (Eq. 30)."""
    terms, weights = (2.0, 0.5, 0.75, 0.04), (0.1, 0.2, 0.3, 0.4)
    assert math.isclose(objective.reward(terms, *weights, 1.0), 0.2 + 0.1 + 0.225 + 0.016)
    assert math.isclose(objective.reward(terms, *weights, -1.0), 0.2 + 0.1 + 0.225 - 0.016)


def test_terms_are_the_same_for_scalars_arrays_and_compiled():
    columns = np.random.default_rng(1).uniform(0.1, 5.0, (7, 20))
    together = np.array(objective.reward_terms(*columns))
    compiled_terms, compiled_reward = njit(objective.reward_terms), njit(objective.reward)
    sums = objective.reward(tuple(together), 0.1, 0.2, 0.3, 0.4, -1.0)
    for k in range(20):
        terms = objective.reward_terms(*columns[:, k].tolist())
        assert np.allclose(together[:, k], terms, rtol=1e-13)
        assert np.allclose(compiled_terms(*columns[:, k].tolist()), terms, rtol=1e-13)
        assert math.isclose(compiled_reward(terms, 0.1, 0.2, 0.3, 0.4, -1.0), sums[k], rel_tol=1e-12)


class Device:
    """A device's history and the times at which it computes, kept as plain lists."""

    def __init__(self):
        self.tasks, self.busy = [], []

    def add(self, task, slot):
        self.tasks.append(task)
        if task["place"] == 0 and task["computing_slots"] > 0:
            start = slot + task["wait_slots"]
            self.busy.append((start, start + task["computing_slots"]))

    def load(self, slot, reading):
        if reading == "local_share":
            return sum(task["place"] == 0 for task in self.tasks) / max(len(self.tasks), 1)
        return min(0.98, sum(max(min(end, slot + 1) - max(start, slot), 0) for start, end in self.busy))

    def reward(self, task, slot, loads, scenario):
        readings = scenario.readings
        count = slot + 1 if readings.history_mean == "slots" else len(self.tasks)
        counted = [t for t in self.tasks if t["place"] > 0 or readings.failure_scope == "all"]
        failed = sum(t["fate"] == DROPPED for t in counted) / max(len(counted), 1)
        delay = sum(t["delay_slots"] for t in self.tasks) / count
        if readings.reward_history == "task":
            delay, failed = task["delay_slots"], float(task["fate"] == DROPPED)
        reference = sum(map(energies, self.tasks)) / count
        if readings.energy_reference == "random_policy":
            reference = reference_energy(scenario)
        gain = -math.log2((energies(task) / reference if reference else 1.0) + 1e-10)
        if task["fate"] == DROPPED and readings.dropped_energy_term == "capped":
            gain = min(gain, 0.0)
        sign = 1 if readings.load_sign == "plus" else -1
        spread = sum((load - sum(loads) / len(loads)) ** 2 for load in loads) / len(loads)
        return 0.2 * gain + 0.1 * (1 - delay / scenario.tau_max_slots) + 0.3 * (1 - failed) + sign * 0.4 * spread


@pytest.mark.parametrize("name", VARIANTS)
def test_rewards_of_a_recorded_episode(name):
    """Every decision's reward from the outcomes of the device's tasks so far (Eqs. 27, 28, 29, 30, 31)."""
    scenario, trace, simulator, rewards = play(**VARIANTS[name])
    for b in range(2):
        devices = [Device() for _ in range(4)]
        for t, m in np.ndindex(30, 4):
            if trace.size[b, t, m] == 0:
                assert rewards[b, t, m] == 0
                continue
            task = simulator.tasks[b, t, m]
            devices[m].add(task, t)
            loads = [device.load(t, scenario.readings.load) for device in devices]
            assert math.isclose(task["load"], loads[m], abs_tol=1e-9)
            expected = devices[m].reward(task, t, loads, scenario)
            assert math.isclose(rewards[b, t, m], expected, abs_tol=1e-8), (b, t, m)
            assert rewards[b, t, m] == task["reward"]
    fates = simulator.tasks["fate"]
    assert (fates == DROPPED).sum() > 5 and (fates == COMPLETED).sum() > 20
