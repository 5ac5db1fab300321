"""Beyond the paper: several tasks a slot, fading, the work of others, beacons, reach; and what devices see of it."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from strategies import OWN_SCALE, cases, repeatable, small_scenario
from test_reference import assert_same_tasks, compiled, fixed_energy

from aiecof.agents.policies import evaluate
from aiecof.agents.rules import COORDINATED, POLICIES, make_policy
from aiecof.checks import InvalidInput
from aiecof.envs.spaces import check_trace
from aiecof.study.lower_bound import lower_bound
from aiecof.system.observations import observation_fields, read_observations
from aiecof.system.reference import simulate
from aiecof.system.scenario import READINGS, Bursts, load_scenario
from aiecof.system.simulator import Simulator
from aiecof.system.workload import draw_trace, load_trace

CODE = Bursts(0.3, 100.0, 0.57, 6e6, 0.96, 2500e6, 2.15)


@settings(repeatable, max_examples=400)
@given(cases(beyond=True))
def test_simulator_equals_the_event_simulation(case):
    scenario, trace, actions = case
    with fixed_energy():
        assert_same_tasks(compiled(scenario, trace, actions), simulate(scenario, trace, actions))


@pytest.mark.parametrize("service", [name for name in READINGS["edge_service"] if name != "decision_order"])
def test_other_edge_services_know_several_tasks_a_slot(service):
    """Work is conserved: what completes was served, and with one task at most in a slot nothing changes."""
    one = small_scenario(edge_service=service, background_load=0.3, **OWN_SCALE)
    two = one.replace(arrivals_per_slot=2)
    trace = draw_trace(one, 2, 3)
    rows = dict(trace.arrays())
    for name in ("size", "density", "kind"):
        rows[name] = np.repeat(rows[name], 2, axis=1)
    rows["size"][:, 1::2], rows["kind"][:, 1::2] = 0.0, -1  # the second round of each slot is empty
    actions = np.random.default_rng(4).integers(3, size=trace.size.shape)
    expected = simulate(one, trace, actions)
    assert_same_tasks(simulate(two, type(trace)(**rows), np.repeat(actions, 2, axis=1))[:, ::2], expected)


def played(scenario, episodes=2, seed=0, **changes):
    """Observations before each round, (R, B, M, F), and the simulator at the end."""
    trace = draw_trace(scenario, episodes, seed)
    simulator = Simulator(scenario.replace(**changes), record=True)
    rng, seen = np.random.default_rng(seed), [simulator.reset(trace)]
    while not simulator.done:
        shape = (episodes, scenario.devices)
        seen.append(simulator.step(np.where(rng.random(shape) < 0.5, 0, rng.integers(scenario.actions, size=shape)))[0])
    return np.array(seen[:-1]), simulator


def column(scenario, seen, name):
    columns, scale = observation_fields(scenario)[name]
    return seen[..., columns] * scale


@pytest.mark.parametrize("rounds", [1, 3])
def test_devices_hear_of_a_task_in_the_slot_that_begins_when_it_is_over(rounds):
    scenario = load_scenario("balanced", slots=30, observation="acknowledged", arrivals_per_slot=rounds)
    seen, simulator = played(scenario)
    tasks, slots = simulator.tasks, np.repeat(np.arange(30), rounds)
    delay, dropped = (np.zeros((30, 2, 30, scenario.actions)) for _ in range(2))
    for b, r, m in np.argwhere(tasks["place"] >= 0):
        task = tasks[b, r, m]
        heard = int(np.ceil(task["end_slot"] + 1.0 - 1e-9))
        if heard < 30 and task["fate"] == 2:
            dropped[heard, b, m, task["place"]] = 1.0
        elif heard < 30:
            delay[heard, b, m, task["place"]] = task["delay_slots"]
    np.testing.assert_allclose(column(scenario, seen, "answered_delay_slots"), delay[slots], atol=1e-5)
    np.testing.assert_array_equal(column(scenario, seen, "answered_drop"), dropped[slots])
    last = np.argmax(column(scenario, seen, "last_place"), axis=-1)
    for b, m in np.ndindex(2, 30):
        earlier = -1
        for r in range(scenario.decisions):
            assert column(scenario, seen, "last_place")[r, b, m].sum() == (earlier >= 0)
            assert earlier < 0 or last[r, b, m] == earlier
            earlier = tasks["place"][b, r, m] if tasks["place"][b, r, m] >= 0 else earlier


def test_beacons_repeat_what_was_true_when_they_were_sent():
    scenario = load_scenario("balanced", slots=23)
    now, simulator = played(scenario)
    told, other = played(scenario, beacon_slots=5)
    np.testing.assert_array_equal(simulator.tasks["end_slot"], other.tasks["end_slot"])  # the same decisions
    waits, known = (column(scenario, seen, "backlog_slots") for seen in (now, told))
    for slot in range(23):
        sent = slot - slot % 5
        aged = np.maximum(waits[sent] - (slot - sent), 0.0)
        np.testing.assert_allclose(known[slot], aged, atol=1e-4)
    assert (known != waits).any()


def test_the_work_of_others_is_hidden_unless_an_oracle_looks():
    scenario = load_scenario("balanced", slots=40, background_load=0.9)
    everything, simulator = played(scenario)
    own, _ = played(scenario, backlog_seen="own")
    oracle, _ = played(scenario, backlog_seen="own", observation="oracle")
    shown = scenario.replace(observation="oracle")
    waits = column(shown, oracle, "server_wait_slots")
    backlog = column(scenario, everything, "backlog_slots")
    known = column(scenario, own, "backlog_slots")
    arriving = np.moveaxis(simulator.trace.background, 1, 0)[:, :, None]
    np.testing.assert_allclose(waits, backlog + arriving, atol=1e-4)
    assert (known <= backlog + 1e-4).all()
    assert (known < backlog - 0.5).mean() > 0.2
    np.testing.assert_allclose(column(shown, oracle, "backlog_slots"), known, atol=1e-4)


@pytest.mark.parametrize("rounds", [1, 2])
def test_the_work_of_others_counts_once_while_devices_decide(rounds):
    scenario = load_scenario("background", slots=4, observation="oracle", arrivals_per_slot=rounds)
    simulator = Simulator(scenario)
    waits = column(scenario, simulator.reset(draw_trace(scenario, 1)), "server_wait_slots")
    assert waits.max() == pytest.approx(scenario.background_load)
    for _ in range(scenario.devices * rounds - 1):  # who all stay at home
        simulator.decide(np.zeros((1, 1), int))
        np.testing.assert_array_equal(column(scenario, simulator.observe(), "server_wait_slots"), waits)


def test_fading_slows_a_device_down_and_only_an_oracle_sees_it():
    scenario = load_scenario("balanced", slots=40, fading_scale=0.25, channel_queue="none")
    seen, simulator = played(scenario)
    shown = scenario.replace(observation="oracle")
    factor = np.moveaxis(column(shown, played(scenario, observation="oracle")[0], "rate_factor"), 0, 1)
    np.testing.assert_array_equal(factor, simulator.trace.fade)
    tasks, size = simulator.tasks, simulator.trace.size
    whole = (tasks["place"] > 0) & (tasks["fate"] == 1)
    taken = np.take_along_axis(simulator.trace.fade, np.maximum(tasks["place"] - 1, 0)[..., None], -1)[..., 0]
    assert len(np.unique(taken[whole])) == 2
    slots = np.ceil(size / (14e6 * 0.1 * taken) - 1e-9)
    np.testing.assert_allclose(tasks["transmission_slots"][whole], slots[whole])
    assert seen.shape[-1] == len(
        np.unique([c for s, _ in observation_fields(scenario).values() for c in range(s.start, s.stop)])
    )


def test_hidden_clocks_are_not_seen_and_rules_take_their_middle():
    scenario = load_scenario("balanced", clocks_seen="hidden", observation="acknowledged")
    seen, simulator = played(scenario)
    assert not column(scenario, seen, "server_frequency").any()
    read = read_observations(scenario, seen[3], simulator.trace.has_task[:, 3])
    assert np.unique(read.server_frequency) == pytest.approx(np.mean(scenario.server_clocks))
    oracle = scenario.replace(observation="oracle")
    known = column(oracle, played(scenario, observation="oracle")[0], "server_frequency")[0, :, 0]
    np.testing.assert_allclose(known, simulator.trace.server_frequency, rtol=1e-6)


@given(st.integers(0, 50))
@settings(repeatable, max_examples=10)
def test_reach_of_all_servers_is_the_network_without_one(seed):
    scenario = load_scenario("balanced", slots=20, devices=5)
    whole = scenario.replace(reach=8)
    trace, limited = draw_trace(scenario, 1, seed), draw_trace(whole, 1, seed)
    np.testing.assert_array_equal(limited.reach, np.broadcast_to(np.arange(8), (1, 5, 8)))
    actions = np.random.default_rng(seed).integers(9, size=trace.size.shape)
    with fixed_energy():
        assert_same_tasks(compiled(whole, limited, actions), compiled(scenario, trace, actions))


def test_devices_reach_different_servers_and_all_of_them_are_reached():
    scenario = load_scenario("balanced", devices=300, servers=80, reach=8, slots=10)
    trace = draw_trace(scenario, 1, 0)
    reach = trace.reach[0]
    assert reach.shape == (300, 8) and all(len(set(row)) == 8 for row in reach.tolist())
    counts = np.bincount(reach.ravel(), minlength=80)
    assert counts.min() > 10 and counts.max() < 60
    seen = Simulator(scenario).reset(trace)
    clocks = column(scenario, seen, "server_frequency")[0]
    np.testing.assert_allclose(clocks, trace.server_frequency[0][reach], rtol=1e-6)


def test_bursts_have_the_mean_the_clusters_and_the_tails_that_were_asked_for():
    base = load_scenario("balanced", arrivals_per_slot=30, workload_range=(1e6, 1e12))
    kinds = [base.task_kinds[0].__class__("any", (1.0, 1e9))]
    scenario = base.replace(bursts=CODE, task_kinds=tuple(kinds))
    trace = draw_trace(scenario, 300, 0)
    counts = trace.has_task.reshape(300, 100, 30, 30).sum(axis=2)
    assert counts.mean() == pytest.approx(0.6, rel=0.02)
    per_device = np.sort(counts.sum(axis=(0, 1)))[::-1]
    assert per_device[:3].sum() / per_device.sum() == pytest.approx(0.57, abs=0.01)
    assert trace.size[trace.has_task].std() / trace.size[trace.has_task].mean() == pytest.approx(0.96, rel=0.03)
    work = (trace.size * trace.density)[trace.has_task]
    assert work.mean() == pytest.approx(2500e6 * 0.25, rel=0.03)
    assert work.std() / work.mean() == pytest.approx(2.15, rel=0.1)
    # A factor that is 1.3 or 0.7 for 100 slots: counts of slots are Poisson numbers around it.
    slots = counts.sum(axis=2)
    assert slots.var() == pytest.approx(18 + (0.3 * 18) ** 2, rel=0.1)
    one = np.corrcoef(slots[:, :-1].ravel(), slots[:, 1:].ravel())[0, 1]
    assert one == pytest.approx((0.3 * 18) ** 2 * 0.98 / slots.var(), abs=0.05)


def test_a_trace_with_everything_is_written_and_read(tmp_path):
    scenario = load_scenario(
        "balanced", slots=6, arrivals_per_slot=2, reach=3, fading_scale=0.5, background_load=0.5, bursts=CODE
    )
    trace = draw_trace(scenario, 2, 1)
    trace.save(tmp_path / "trace.npz")
    read = load_trace(tmp_path / "trace.npz", scenario)
    for name, values in trace.arrays().items():
        np.testing.assert_array_equal(getattr(read, name), values)
    with pytest.raises(InvalidInput, match="trace.fade"):
        load_trace(tmp_path / "trace.npz", scenario.replace(fading_scale=1.0))
    assert set(trace.arrays()) - set(trace[:1].arrays()) == set()


@pytest.mark.parametrize("name, factor", [("fade", 2.0), ("fade", 0.5), ("background", 1.1)])
def test_a_trace_of_ones_own_stays_in_the_space(name, factor):
    slow = {"drop_rule": "wait"} if factor < 1.0 else {}
    scenario = load_scenario("balanced", slots=6, fading_scale=0.5, background_load=0.5, observation="oracle", **slow)
    trace = draw_trace(scenario, 1)
    assert check_trace(trace, scenario) is trace
    with pytest.raises(InvalidInput, match=rf"^options\.trace\.{name}: got "):
        check_trace(replace(trace, **{name: getattr(trace, name) * factor}), scenario)


@pytest.mark.parametrize(
    "changes, field",
    [
        ({"arrivals_per_slot": 0}, "arrivals_per_slot"),
        ({"arrivals_per_slot": 1.5}, "arrivals_per_slot"),
        ({"reach": 9}, "reach"),
        ({"reach": 0}, "reach"),
        ({"fading_scale": 0.0}, "fading_scale"),
        ({"fading_slots": 0.5}, "fading_slots"),
        ({"background_load": -1.0}, "background_load"),
        ({"background_load": 1e7}, "background_load"),
        ({"background_slots": float("nan")}, "background_slots"),
        ({"beacon_slots": 0}, "beacon_slots"),
        ({"bursts": {"swing": 1}}, "bursts"),
    ],
)
def test_what_is_out_of_range_is_named(changes, field):
    with pytest.raises(InvalidInput, match=field):
        load_scenario("balanced", **changes)
    for place, values in {"swing": (1.5, 1.0), "size_cv": (0.5, 1e9)}.items():
        with pytest.raises(InvalidInput, match=f"bursts.{place}"):
            Bursts(values[0], 30.0, 0.5, 1e6, values[1], 1e9, 1.0)


EVERYTHING = {
    "arrivals_per_slot": 3,
    "reach": 4,
    "fading_scale": 0.4,
    "background_load": 0.9,
    "beacon_slots": 4,
    "slots": 12,
    "devices": 4,
    "servers": 6,
}


@pytest.mark.parametrize("observation", ["acknowledged", "oracle", "extended", "printed_mean"])
@pytest.mark.parametrize("clocks", READINGS["clocks_seen"])
def test_environments_and_learners_take_everything_at_once(observation, clocks):
    from aiecof.agents.methods import METHODS
    from aiecof.envs import OffloadingEnv, OffloadingVecEnv

    scenario = load_scenario("balanced", observation=observation, clocks_seen=clocks, bursts=CODE, **EVERYTHING)
    env, rng = OffloadingEnv(scenario), np.random.default_rng(0)
    seen, _ = env.reset(seed=0)
    steps = 0
    while True:
        assert env.observation_space.contains(seen)
        seen, _, terminated, truncated, _ = env.step(int(rng.integers(5)))
        steps += 1
        if terminated or truncated:
            break
    assert steps == 12 * 3 * 4
    rows = OffloadingVecEnv(scenario, seed=0)
    for name in ("toppo", "dqn", "a2c"):
        METHODS[name].build(rows, 0, **({"sequence_length": 4} if name == "toppo" else {})).learn(12 * 3 * 4)


def test_rules_read_an_oracle_and_those_that_coordinate_need_servers_that_all_share():
    scenario = load_scenario("balanced", observation="oracle", **EVERYTHING)
    trace = draw_trace(scenario, 2, 0)
    for name, entry in POLICIES.items():
        if entry.information == COORDINATED:
            with pytest.raises(InvalidInput, match="reach"):
                evaluate(make_policy(name, scenario), scenario, trace)
        else:
            assert evaluate(make_policy(name, scenario), scenario, trace).done


@pytest.mark.parametrize("name", ["arrivals_per_slot", "reach", "fading_scale", "background_load"])
def test_lower_bound_does_not_know_what_goes_beyond_the_paper(name):
    scenario = load_scenario("balanced", slots=6, devices=2, servers=6, **{name: EVERYTHING[name]})
    with pytest.raises(InvalidInput, match=name):
        lower_bound(scenario, draw_trace(scenario, 1))
