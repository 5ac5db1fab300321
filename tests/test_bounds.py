"""The lower bound against the optimum of tiny instances, the optimum against the event simulation, both by hand."""

import itertools
from dataclasses import replace

import numpy as np
import pytest
import scipy.sparse as sparse
from aiecof_book.optimum import SEQUENCES, optimum
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import linprog
from strategies import FREQUENCY, OWN_SCALE, cases, plain_trace, repeatable, small_scenario, small_trace

from aiecof.agents.policies import evaluate
from aiecof.agents.rules import POLICIES, make_policy
from aiecof.checks import InvalidInput
from aiecof.study.lower_bound import lower_bound
from aiecof.system import model, simulator
from aiecof.system.reference import simulate
from aiecof.system.scenario import Weights, load_scenario
from aiecof.system.simulator import Simulator
from aiecof.system.workload import draw_trace

TINY = st.sampled_from([(1, 3, 5), (2, 2, 3), (3, 1, 4), (4, 1, 3), (2, 1, 6)])  # devices, servers, slots
DELAY_ONLY = {"weights": Weights(delay=1.0, energy=0.0, drop=1.0, load=0.0), "switched_capacitance": 1e-30}


def cost_of(scenario, trace, actions):
    played = Simulator(scenario)
    played.run(trace, actions)
    return played.metrics()["cost"]


@pytest.fixture(scope="module", autouse=True)
def fixed_energy():
    """A reference energy that is just a number, to save time."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(simulator, "reference_energy", lambda scenario: 8000.0)
        yield


# --- the optimum -------------------------------------------------------------------------------------------------


def test_the_optimum_is_that_of_the_event_simulation():
    """All 81 sequences of four tasks, played by the other simulation."""
    scenario = small_scenario(slots=2, servers=2, **OWN_SCALE)
    trace = small_trace(scenario, 3, 0.0, 1.0)
    costs = [
        simulate(scenario, trace, np.reshape(actions, (1, 2, 2)))["cost"].sum() / 4
        for actions in itertools.product(range(3), repeat=4)
    ]
    found = optimum(scenario, trace)
    assert found.cost[0] == pytest.approx(min(costs))
    assert len(set(np.round(costs, 9))) > 20  # so that it is no accident
    assert cost_of(scenario, trace, found.actions) == pytest.approx(found.cost)


def test_the_optimum_knows_only_tasks_there_are():
    """Without a task there is nothing to decide; with too many, nobody waits for the end."""
    scenario = small_scenario(**OWN_SCALE)
    idle = small_trace(scenario, 0, 0.0, 0.0, episodes=2)
    assert optimum(scenario, idle).cost.tolist() == lower_bound(scenario, idle).tolist() == [0.0, 0.0]
    busy = small_trace(scenario, 0, 0.0, 1.0)
    assert 3**16 > SEQUENCES
    with pytest.raises(InvalidInput, match=f"{3**16} action sequences in episode 0"):
        optimum(scenario, busy)


# --- no policy beats the bound -----------------------------------------------------------------------------------


@settings(repeatable, max_examples=100)
@given(st.data())
def test_no_sequence_of_actions_beats_the_bound(data):
    """Any readings: queues, roundings, drops and what they cost."""
    devices, servers, slots = data.draw(TINY)
    capacitance = data.draw(st.sampled_from([1e-26, 1e-28, 1e-30]))
    sizes = {"devices": devices, "servers": servers, "slots": slots, "switched_capacitance": capacitance}
    scenario, trace, _ = data.draw(cases(**sizes, energy_reference="own_history"))
    least = optimum(scenario, trace).cost
    assert np.all(lower_bound(scenario, trace) <= least * (1.0 + 1e-9) + 1e-12)


@pytest.mark.parametrize("name", ["table-iii", "fitted", "balanced"])
def test_no_rule_beats_the_bound(name):
    scenario = load_scenario(name, slots=30)
    trace = draw_trace(scenario, 2, 1)
    bound = lower_bound(scenario, trace)
    costs = {rule: evaluate(make_policy(rule, scenario, 0), scenario, trace).metrics()["cost"] for rule in POLICIES}
    assert all(np.all(bound <= cost) for cost in costs.values())
    assert np.all(bound > 0.5 * np.min(list(costs.values()), axis=0))


# --- it is tight where nothing is given away ---------------------------------------------------------------------


@pytest.mark.parametrize("place", [0, 1])
def test_a_task_alone_costs_what_its_better_place_costs(place):
    """1.5 slots of service on the device, rounded up to 2; one slot of sending and 0.75 of service on the server."""
    weights = [Weights(0.1, 0.9, 1.0, 0.0), Weights(1.0, 0.001, 1.0, 0.0)][place]
    scenario = small_scenario(
        devices=1, servers=1, slots=1, switched_capacitance=1e-28, weights=weights, **OWN_SCALE, cost_load="level"
    )
    trace, cycles = plain_trace(np.ones((1, 1, 1)), np.full((1, 1, 1), 1.5)), 0.15 * FREQUENCY
    seconds = np.array([0.2, 0.175])
    energy = 1e-28 * np.array([FREQUENCY, 2 * FREQUENCY]) ** 2 * cycles + np.array([0.0, 2.3 * 0.1])
    costs = weights.delay * seconds + weights.energy * energy
    assert costs.argmin() == place
    assert lower_bound(scenario, trace)[0] == pytest.approx(costs.min(), rel=1e-5)
    assert optimum(scenario, trace).cost[0] == pytest.approx(costs.min())


@pytest.mark.parametrize(
    "changes, loss",
    [
        ({"devices": 3, "servers": 2, "slots": 5}, 1e-6),
        ({"devices": 3, "servers": 2, "slots": 5, "device_rounding": "none"}, 5e-3),
        ({"devices": 1, "servers": 3, "slots": 8, "device_frequency": (1e9, 2e9), "channel_queue": "none"}, 1e-2),
    ],
    ids=["variance", "services in parts of slots", "offloading"],
)
def test_without_rivals_the_bound_is_the_optimum(changes, loss):
    """Where devices need not compete, their queues and the variance of their loads are not relaxed."""
    scenario = load_scenario("balanced", network="episode", **changes)
    trace = draw_trace(scenario, 40, 0)
    trace = trace[np.flatnonzero(trace.has_task.sum(axis=(1, 2)) <= 7)][:8]
    least = optimum(scenario, trace)
    assert trace.episodes == 8 and (least.actions.any() == (scenario.devices == 1))
    np.testing.assert_allclose(lower_bound(scenario, trace), least.cost, rtol=loss)


def test_tasks_that_meet_on_a_server_wait_for_each_other():
    """Four devices too slow for their tasks, one server: 0.25 slots each, so that they wait 0, 0.25, 0.5, 0.75."""
    scenario = small_scenario(devices=4, servers=1, slots=1, tau=6, **OWN_SCALE, **DELAY_ONLY)
    trace = plain_trace(np.ones((1, 1, 4)), np.full((1, 1, 4), 0.5))
    trace.device_frequency[:] = FREQUENCY / 20
    slots = 4 * 1.25 + (0.25 + 0.5 + 0.75)
    assert optimum(scenario, trace).cost[0] == pytest.approx(slots * 0.1 / 4)
    assert lower_bound(scenario, trace)[0] == pytest.approx(slots * 0.1 / 4, rel=1e-3)


# --- another bound by another road -------------------------------------------------------------------------------


WHOLE_SLOTS = {f"{part}_rounding": "ceil" for part in ("device", "server", "transmission")} | {
    "channel_queue": "none",
    "waiting_power": 0.0,
    "switched_capacitance": 1e-28,
    "weights": Weights(0.5, 0.2, 1.0, 0.0),
}


def ways_to_run(scenario, trace, t, m):
    """(cost, processor, slots in which it is busy) for each place and each start in time."""
    size, density, unit = trace.size[0, t, m], trace.density[0, t, m], scenario.slot_duration
    clocks = [trace.device_frequency[0, m], *trace.server_frequency[0]]
    for place, clock in enumerate(clocks):
        work, sent = int(model.computing_delay(size, density, clock, unit, True)), 0
        energy = model.computing_energy(scenario.switched_capacitance, clock, size, density)
        if place:
            rate = trace.rate[0, m, place - 1]
            sent = int(model.transmission_delay(size, rate, unit, True))
            energy += model.transmission_energy(scenario.transmission_power, size, rate)
        for start in range(t + sent, t + scenario.tau_max_slots - work + 1):
            cost = scenario.weights.delay * (start + work - t) * unit + scenario.weights.energy * energy
            yield cost, m if place == 0 else scenario.devices + place - 1, range(start, start + work)


def linear_relaxation(scenario, trace):
    """Least objective if tasks may be split: each has one place and start, a processor one task a slot; HiGHS."""
    ways, busy = [], []
    for number, (t, m) in enumerate(np.argwhere(trace.has_task[0])):
        for cost, processor, slots in ways_to_run(scenario, trace, t, m):
            busy += [(processor, slot, len(ways)) for slot in slots]
            ways.append((cost, number))
        drop = scenario.weights.drop + scenario.weights.delay * scenario.tau_max_slots * scenario.slot_duration
        ways.append((drop, number))
    costs, tasks = np.transpose(ways)
    *places, columns = np.transpose(busy)
    _, rows = np.unique(places, axis=1, return_inverse=True)
    room = sparse.csr_matrix((np.ones(len(rows)), (rows, columns)), shape=(rows.max() + 1, len(costs)))
    once = sparse.csr_matrix((np.ones(len(costs)), (tasks.astype(int), np.arange(len(costs)))))
    found = linprog(costs, room, np.ones(room.shape[0]), once, np.ones(once.shape[0]), method="highs")
    return found.fun / (scenario.slots * scenario.devices)


@pytest.mark.parametrize("devices, servers, slots", [(2, 2, 2), (6, 2, 10), (8, 2, 16)])
def test_a_linear_relaxation_is_near_the_bound(devices, servers, slots):
    """Neither is always the higher one; a mistake in either would put it above what a rule reaches, or far below."""
    scenario = small_scenario(devices, servers, slots, tau=10, **WHOLE_SLOTS, **OWN_SCALE)
    for seed, (busy, longest) in itertools.product(range(3), [(0.6, 4.0), (1.0, 2.0)]):
        trace = small_trace(scenario, seed, 1.0, busy, longest=longest)
        linear, bound = linear_relaxation(scenario, trace), lower_bound(scenario, trace)[0]
        best = min(evaluate(make_policy(rule, scenario, 0), scenario, trace).metrics()["cost"][0] for rule in POLICIES)
        assert max(linear, bound) <= best * (1.0 + 1e-6)
        assert 0.75 < bound / linear < 1.1


# --- how it moves ------------------------------------------------------------------------------------------------


def test_the_bound_rises_as_servers_slow_down():
    """With energy free: a slower server can only take longer."""
    scenario = load_scenario("balanced", devices=6, servers=2, slots=20, device_frequency=(1e9, 2e9), **DELAY_ONLY)
    trace = draw_trace(scenario, 2, 0)
    slower = [replace(trace, server_frequency=trace.server_frequency * speed) for speed in (1.0, 0.3, 0.1, 0.03)]
    assert np.all(np.diff([lower_bound(scenario, each) for each in slower], axis=0) > 0)


def test_an_episode_has_its_own_bound():
    scenario = load_scenario("fitted", devices=4, slots=10)
    trace = draw_trace(scenario, 3, 0)
    single = [lower_bound(scenario, trace[b : b + 1])[0] for b in range(3)]
    assert lower_bound(scenario, trace).tolist() == single and len(set(single)) == 3


# --- what is refused ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("service", ["arrival_order", "equal_sharing"])
@pytest.mark.parametrize("function", [lower_bound, optimum])
def test_other_edge_services_are_refused(function, service):
    scenario = small_scenario(edge_service=service)
    with pytest.raises(InvalidInput, match="readings.edge_service"):
        function(scenario, small_trace(scenario, 0, 0.0, 0.3))


@pytest.mark.parametrize("function", [lower_bound, optimum])
def test_a_trace_of_another_scenario_is_refused(function):
    scenario = small_scenario()
    with pytest.raises(InvalidInput, match="trace.size"):
        function(small_scenario(devices=3), small_trace(scenario, 0, 0.0, 0.3))
