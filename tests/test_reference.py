"""The compiled simulator against the plain event simulation, and the latter against what is worked out by hand."""

import itertools
from contextlib import contextmanager

import numpy as np
import pytest
from aiecof_book.toy import TOY_ACTIONS, toy_scenario, toy_trace
from hypothesis import given, settings
from hypothesis import strategies as st
from strategies import (
    DYNAMICS,
    JUDGEMENT,
    OWN_SCALE,
    RATE,
    cases,
    plain_trace,
    repeatable,
    small_scenario,
    small_trace,
)

from aiecof.checks import InvalidInput
from aiecof.system import reference, simulator
from aiecof.system.reference import simulate
from aiecof.system.scenario import READINGS, SCENARIOS, TaskKind, load_scenario
from aiecof.system.simulator import Simulator, reference_energy
from aiecof.system.workload import Trace, draw_trace

BOOKED = "place fate wait_slots transmission_wait_slots transmission_slots computing_slots end_slot".split()


def compiled(scenario, trace, actions):
    compiled_simulator = Simulator(scenario, record=True)
    compiled_simulator.run(trace, actions)
    return compiled_simulator.tasks


def assert_same_tasks(actual, expected, note=""):
    for name in expected.dtype.names:
        if name in ("place", "fate"):
            np.testing.assert_array_equal(actual[name], expected[name], err_msg=f"{name} {note}")
        else:
            np.testing.assert_allclose(actual[name], expected[name], rtol=1e-9, atol=1e-9, err_msg=f"{name} {note}")


@contextmanager
def fixed_energy():
    """A reference energy that is just a number, to save time; the real one has tests of its own."""
    with pytest.MonkeyPatch.context() as patch:
        for module in (simulator, reference):
            patch.setattr(module, "reference_energy", lambda scenario: 321.0)
        yield


@settings(repeatable, max_examples=600)
@given(cases())
def test_simulator_equals_the_event_simulation(case):
    scenario, trace, actions = case
    with fixed_energy():
        assert_same_tasks(compiled(scenario, trace, actions), simulate(scenario, trace, actions))


@settings(repeatable, max_examples=60)
@given(
    st.sampled_from(READINGS["kinds_by"]),
    st.sampled_from([0.25, 1.0, 3.0]),
    st.sampled_from(READINGS["network"]),
    st.integers(0, 99),
)
def test_simulator_equals_the_event_simulation_on_drawn_networks(kinds_by, scale, network, seed):
    """Traces as `draw_trace` makes them: devices with a kind of their own, and one server that is unlike the others."""
    kinds = (TaskKind("short", (1e5, 6e5), 0.3), TaskKind("long", (1e6, 2e6), 0.7))
    drawn = {"kinds_by": kinds_by, "first_server_scale": scale, "network": network, "task_kinds": kinds}
    scenario = small_scenario(devices=4, **drawn, **OWN_SCALE)
    trace = draw_trace(scenario, 2, seed)
    actions = np.random.default_rng(seed).choice(3, p=[0.3, 0.5, 0.2], size=trace.size.shape)
    assert_same_tasks(compiled(scenario, trace, actions), simulate(scenario, trace, actions))


@pytest.mark.parametrize("name", SCENARIOS)
def test_simulator_equals_the_event_simulation_in_named_scenarios(name):
    scenario = load_scenario(name, devices=6, servers=2, slots=40)
    trace = draw_trace(scenario, 2, seed=1)
    actions = np.random.default_rng(2).choice(3, p=[0.6, 0.2, 0.2], size=trace.size.shape)
    expected = simulate(scenario, trace, actions)
    assert_same_tasks(compiled(scenario, trace, actions), expected)
    assert np.isin([1, 2], expected["fate"]).all()


@fixed_energy()
@pytest.mark.slow
def test_simulator_equals_the_event_simulation_under_every_combination():
    """All combinations of the readings that touch the dynamics; those that only judge take turns."""
    base = small_scenario(devices=2, servers=2, slots=7, tau=2)
    quarters, any_time = (small_trace(base, seed=5, grain=grain, busy=0.9, longest=5.0) for grain in (0.25, 0.0))
    trace = Trace(**{name: np.concatenate([quarters.arrays()[name], some]) for name, some in any_time.arrays().items()})
    actions = np.random.default_rng(6).choice(3, p=[0.6, 0.3, 0.1], size=trace.size.shape)
    judgements = itertools.cycle(itertools.product(*(READINGS[name] for name in JUDGEMENT)))
    seen = set()
    for chosen in itertools.product(*(READINGS[name] for name in DYNAMICS)):
        readings = dict(zip(DYNAMICS, chosen, strict=True)) | dict(zip(JUDGEMENT, next(judgements), strict=True))
        scenario = base.replace(**readings)
        expected = simulate(scenario, trace, actions)
        assert_same_tasks(compiled(scenario, trace, actions), expected, note=f"under {readings}")
        seen.add(expected[BOOKED].tobytes())
    assert len(seen) > 200  # the trace tells the readings apart


def test_round_off_decides_nothing():
    """0.1 + 0.2 is not 0.3 in floating point, but instants that differ by so little are the same instant.

    A device computes without a pause three tasks that end together with slot 4, and one of a slot that ends with
    slot 5, the last slot there is: it is completed, and computes in slot 5 only. A fifth task, in slot 5, is sent
    away and records the load of that slot.
    """
    exact = {"device_rounding": "none", "in_flight": "exclude", "load": "literal", "load_cap": 1.0}
    scenario = small_scenario(devices=1, servers=1, slots=6, tau=6, **exact)
    tenths = np.arange(11, 20) / 10
    first, second = (values.ravel() for values in np.meshgrid(tenths, tenths))
    one, none = np.ones_like(first), np.zeros_like(first)
    service = np.stack([first, second, 5.0 - first - second, one, none, one], axis=1)[..., None]
    trace = plain_trace(size=service > 0, service=service)
    actions = np.broadcast_to(np.array([0, 0, 0, 0, 0, 1])[:, None], trace.size.shape)
    for tasks in (compiled(scenario, trace, actions), simulate(scenario, trace, actions)):
        assert tasks["fate"][..., 0].tolist() == [[1, 1, 1, 1, 0, 3]] * len(first)
        np.testing.assert_allclose(tasks["end_slot"][:, 3, 0], 5.0)
        # Eq. (12) as printed, in the first slot of the service: seconds of work over one slot
        np.testing.assert_allclose(tasks["load"][:, 5, 0], scenario.slot_duration)


@settings(repeatable, max_examples=60)
@given(cases(channel_queue="none", **OWN_SCALE), st.sampled_from([0.5, 1.0, 1.7]))
def test_order_of_arrival_is_order_of_decisions_when_all_transmissions_are_equally_long(case, slots):
    scenario, trace, actions = case
    size = np.where(trace.has_task, slots * RATE * scenario.slot_duration, 0.0)
    same = {"size": size, "rate": np.full_like(trace.rate, RATE)}
    work = trace.size * trace.density
    density = np.where(trace.has_task, work / np.maximum(size, 1.0), 1.0)
    trace = Trace(**{**vars(trace), **same, "density": density})
    by_arrival = simulate(scenario.replace(edge_service="arrival_order"), trace, actions)
    assert_same_tasks(by_arrival, simulate(scenario, trace, actions))
    assert_same_tasks(by_arrival, compiled(scenario, trace, actions))


@settings(repeatable, max_examples=40)
@given(cases(devices=1, **OWN_SCALE))
def test_one_device_shares_with_nobody(case):
    scenario, trace, actions = case
    services = ("equal_sharing", "arrival_order")
    assert_same_tasks(*(simulate(scenario.replace(edge_service=name), trace, actions) for name in services))


@settings(repeatable, max_examples=40)
@given(cases(in_flight="complete", dropped_energy="spent", **OWN_SCALE))
def test_sharing_conserves_work(case):
    """Without deadlines a server is busy at the same instants however it orders its work: it ends at the same one."""
    scenario, trace, actions = case
    scenario = scenario.replace(tau_max_slots=1000)
    ends = []
    for service in ("equal_sharing", "arrival_order"):
        tasks = simulate(scenario.replace(edge_service=service), trace, actions)
        assert not np.any(tasks["fate"] == 2)
        at_server = tasks["place"][:, None] == np.arange(1, scenario.actions)[:, None, None]
        ends.append(np.where(at_server, tasks["end_slot"][:, None], -1.0).max(axis=(-2, -1)))
    np.testing.assert_allclose(*ends, rtol=1e-9, atol=1e-7)


def sharing_case(**changes):
    """Two devices, one server; services below are in slots of the whole server.

    | task | decided | device | sending | arrives | service |
    |------|---------|--------|---------|---------|---------|
    | A    | 0       | 0      | 1       | 1       | 2       |
    | B    | 0       | 1      | 2       | 2       | 0.5     |
    | C    | 1       | 0      | 1       | 2       | 0.5     |
    | D    | 2       | 1      | 1       | 3       | 3       |
    """
    scenario = small_scenario(devices=2, servers=1, slots=3, tau=4, server_rounding="none", **changes)
    trace = plain_trace(size=[[[1, 2], [1, 0], [0, 1]]], service=[[[4, 1], [1, 0], [0, 6]]])
    return scenario, trace, np.ones((1, 3, 2), int)


def outcomes(tasks, *cells):
    names = ("fate", "wait_slots", "computing_slots", "delay_slots", "end_slot")
    return [tuple(float(tasks[0][cell][name]) for name in names) for cell in cells]


def test_equal_sharing_by_hand():
    """The devices with work share: A 1-4, B 2-3, C (after A, of the same device) 4-5, D 3-6.

    | from | to | who      | done in that time        |
    |------|----|----------|--------------------------|
    | 1    | 2  | A        | A 1                      |
    | 2    | 3  | A and B  | A 0.5, B 0.5: B ends     |
    | 3    | 4  | A and D  | A 0.5, D 0.5: A ends     |
    | 4    | 5  | C and D  | C 0.5, D 0.5: C ends     |
    | 5    | 6  | D        | D 1; dropped with 2 of 3 |
    """
    scenario, trace, actions = sharing_case(edge_service="equal_sharing")
    tasks = simulate(scenario, trace, actions)
    expected = [(1, 0, 3, 4, 3), (1, 0, 1, 3, 2), (1, 2, 1, 4, 4), (2, 0, 3, 4, 5)]
    np.testing.assert_allclose(outcomes(tasks, (0, 0), (0, 1), (1, 0), (2, 1)), expected)
    # D: c f^2 times two thirds of 3 slots x 0.1 s x 8 GHz
    assert tasks["computing_energy"][0, 2, 1] == pytest.approx(1e-26 * (8e9) ** 2 * 2 / 3 * 3 * 0.1 * 8e9)


def test_order_of_arrival_by_hand():
    """One after the other: A 1-3, then B before C (they arrive together, B was decided first), then D 4-6."""
    scenario, trace, actions = sharing_case(edge_service="arrival_order")
    tasks = simulate(scenario, trace, actions)
    expected = [(1, 0, 2, 3, 2), (1, 1, 0.5, 3.5, 2.5), (1, 1.5, 0.5, 3, 3), (2, 1, 2, 4, 5)]
    np.testing.assert_allclose(outcomes(tasks, (0, 0), (0, 1), (1, 0), (2, 1)), expected)


def test_slotted_sharing_by_hand():
    """A device has its share for a whole slot; three slots are allowed.

    | task | decided | device | sending | arrives | service |
    |------|---------|--------|---------|---------|---------|
    | A    | 0       | 0      | 1       | 1       | 0.6     |
    | B    | 0       | 1      | 3       | 3: late | 1       |
    | C    | 1       | 0      | 1       | 2       | 1.5     |
    | D    | 2       | 0      | 1       | 3       | 0.5     |
    | E    | 3       | 1      | 1       | 4       | 1.2     |

    | slot | active        | share | done in that slot                                          |
    |------|---------------|-------|------------------------------------------------------------|
    | 1    | device 0      | 1     | A ends; 0.4 is lost                                        |
    | 2    | device 0      | 1     | C 1                                                        |
    | 3    | both, B's too | 1/2   | C ends, though it has 0.5 left; D waits; B's half is lost  |
    | 4    | both          | 1/2   | D ends, E 0.5                                              |
    | 5    | device 1      | 1     | E ends; 0.3 is lost                                        |
    """
    scenario = small_scenario(devices=2, servers=1, slots=4, tau=3, edge_service="slotted_sharing")
    size = [[[1, 3], [1, 0], [1, 0], [0, 1]]]
    trace = plain_trace(size, service=[[[1.2, 2], [3, 0], [1, 0], [0, 2.4]]])
    tasks = simulate(scenario, trace, np.ones((1, 4, 2), int))
    expected = [(1, 0, 1, 2, 1), (2, 0, 0, 3, 2), (1, 0, 2, 3, 3), (1, 1, 1, 3, 4), (1, 0, 2, 3, 5)]
    np.testing.assert_allclose(outcomes(tasks, (0, 0), (0, 1), (1, 0), (2, 0), (3, 1)), expected)


@settings(repeatable, max_examples=60)
@given(cases(devices=1, transmission_rounding="ceil", **OWN_SCALE))
def test_slotted_sharing_with_nobody_is_a_service_in_whole_slots(case):
    """What is left of a device's last slot is lost to it as if its service were rounded up."""
    scenario, trace, actions = case
    slotted = scenario.replace(edge_service="slotted_sharing", server_rounding="none")
    rounded = scenario.replace(edge_service="arrival_order", server_rounding="ceil")
    assert_same_tasks(simulate(slotted, trace, actions), simulate(rounded, trace, actions))


@settings(repeatable, max_examples=60)
@given(cases(in_flight="complete", edge_wait_from="arrival", server_rounding="none", **OWN_SCALE))
def test_slotted_shares_add_up_to_the_services_and_to_what_is_lost(case):
    """Without deadlines. A slot that finds D devices at a server is shared by D, whoever they are.

    So the outcomes alone tell what every task was given: at least its service, and less without its last slot. All
    together they were given one slot for every slot in which a task was there.
    """
    scenario, trace, actions = case
    tasks = simulate(scenario.replace(edge_service="slotted_sharing", tau_max_slots=1000), trace, actions)
    for b, place in itertools.product(range(trace.episodes), range(1, scenario.actions)):
        cells = np.argwhere(tasks["place"][b] == place)
        ends = np.round(tasks["end_slot"][b][tuple(cells.T)] + 1.0).astype(int)
        served = np.round(tasks["computing_slots"][b][tuple(cells.T)]).astype(int)
        waits = tasks["wait_slots"][b][tuple(cells.T)]
        joined = np.ceil(ends - served - waits - 1e-6).astype(int)
        slots = np.arange(ends.max(initial=0))
        here = (joined <= slots[:, None]) & (slots[:, None] < ends)
        active = np.array([len(set(cells[row, 1])) for row in here])
        work = trace.size[b] * trace.density[b] / (trace.server_frequency[b, place - 1] * scenario.slot_duration)
        given_all = 0.0
        for cell, end, count in zip(cells, ends, served, strict=True):
            shares = 1.0 / active[end - count : end]
            assert shares[:-1].sum() < work[tuple(cell)] <= shares.sum() + 1e-6
            given_all += shares.sum()
        assert given_all == pytest.approx(np.sum(active > 0))


def ancestors_servers(scenario, trace, actions):
    """(fate, last slot) of each offloaded task by what the ancestors do in each slot, from their published programs.

    A device has one queue for sending and one at each server. A slot serves the heads of the servers' queues, then
    sends, then counts the devices with a task at each server: these share it in the next slot.
    """
    slots, tau, step = scenario.slots, scenario.tau_max_slots, scenario.slot_duration
    sending = {m: [] for m in range(scenario.devices)}
    queues = {(m, n): [] for m in range(scenario.devices) for n in range(scenario.servers)}
    head, share, found = {}, np.zeros(scenario.servers), {}
    for slot in range(slots + tau + 1):
        for key, queue in queues.items():
            while key not in head and queue:
                task = queue.pop(0)
                if slot - task[0] < tau:
                    head[key] = task, trace.size[0][task] * trace.density[0][task]
                else:
                    found[task] = 2, task[0] + tau - 1
            if key in head:
                task, cycles = head[key]
                cycles -= trace.server_frequency[0, key[1]] * step * share[key[1]]
                head[key] = task, cycles
                if cycles <= 1e-3 or slot - task[0] + 1 == tau:
                    found[head.pop(key)[0]] = 1 if cycles <= 1e-3 else 2, slot
        for m, queue in sending.items():
            if slot < slots and trace.size[0, slot, m] > 0 and actions[0, slot, m] > 0:
                queue.append([(slot, m), trace.size[0, slot, m]])
            while queue and slot - queue[0][0][0] >= tau:
                found[queue.pop(0)[0]] = 2, slot - 1
            if queue:
                task, server = queue[0][0], actions[0][queue[0][0]] - 1
                queue[0][1] -= trace.rate[0, m, server] * step
                if queue[0][1] <= 1e-3:
                    queues[m, server].append(queue.pop(0)[0])
                elif slot - task[0] + 1 == tau:
                    found[queue.pop(0)[0]] = 2, slot
        counts = [sum(bool(queues[m, n] or (m, n) in head) for m in sending) for n in range(scenario.servers)]
        share = 1.0 / np.maximum(counts, 1)
    return found


ANCESTORS = {"channel_queue": "per_device", "transmission_rounding": "ceil", "server_rounding": "none"}
ANCESTORS |= {"drop_rule": "deadline", "in_flight": "complete", "edge_service": "slotted_sharing"}


@settings(repeatable, max_examples=150)
@given(cases(**ANCESTORS, **OWN_SCALE))
def test_slotted_sharing_is_the_ancestors(case):
    scenario, trace, actions = case
    trace = trace[:1]
    tasks = simulate(scenario, trace, actions[:1])[0]
    found = ancestors_servers(scenario, trace, actions)
    assert set(found) == set(map(tuple, np.argwhere(tasks["place"] > 0)))
    for cell, (fate, end) in found.items():
        assert (tasks[cell]["fate"], tasks[cell]["end_slot"]) == (fate, pytest.approx(end)), cell


@pytest.mark.parametrize(
    ("service", "first", "second"),
    [
        ("decision_order", (1, 0, 1, 4, 3), (1, 3, 1, 5, 4)),  # served 3-4, and 4-5
        ("arrival_order", (1, 0, 1, 4, 3), (1, 0, 1, 2, 1)),  # served 3-4, and 1-2
        ("equal_sharing", (1, 0, 1, 4, 3), (1, 0, 1, 2, 1)),
        ("slotted_sharing", (1, 0, 1, 4, 3), (1, 0, 1, 2, 1)),
    ],
)
def test_a_later_decision_that_arrives_earlier(service, first, second):
    """Device 0 sends for 3 slots, device 1 for one; each has a slot of work. Eq. (18) reserves for device 0."""
    scenario = small_scenario(devices=2, servers=1, slots=1, tau=6, edge_service=service)
    tasks = simulate(scenario, plain_trace(size=[[[3, 1]]], service=[[[2, 2]]]), np.ones((1, 1, 2), int))
    np.testing.assert_allclose(outcomes(tasks, (0, 0), (0, 1)), [first, second])


def test_reference_energy_is_the_mean_energy_of_the_random_policy():
    scenario = small_scenario(**OWN_SCALE)
    trace = draw_trace(scenario, 4, seed=9, split="reference")
    actions = np.random.default_rng([9, 3]).integers(scenario.actions, size=trace.size.shape)
    tasks = simulate(scenario, trace, actions)
    energy = sum(tasks[name].sum() for name in ("waiting_energy", "transmission_energy", "computing_energy"))
    assert reference_energy(scenario, 4, 9) == pytest.approx(energy / np.sum(tasks["fate"] > 0), rel=1e-12)


@pytest.mark.parametrize(
    ("actions", "message"),
    [
        (TOY_ACTIONS[None] + 1, r"actions: got 3, allowed: whole numbers 0\.\.2"),
        (TOY_ACTIONS[None] - 1, "actions: got -1"),
        (TOY_ACTIONS[None] * 1.0, "actions: got 'float64'"),
        (TOY_ACTIONS, r"actions: got \(8, 2\).*shape \(1, 8, 2\)"),
    ],
)
def test_impossible_actions_are_refused(actions, message):
    with pytest.raises(InvalidInput, match=message):
        simulate(toy_scenario(), toy_trace(), actions)


def test_a_trace_of_another_scenario_is_refused():
    with pytest.raises(InvalidInput, match=r"trace\.size: got \(1, 8, 2\)"):
        simulate(toy_scenario(devices=3), toy_trace(), TOY_ACTIONS[None])
