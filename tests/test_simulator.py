"""The compiled simulator against hand computation, conservation, a queueing law, and itself taken apart."""

import json
import os
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from aiecof_book.toy import TOY_ACTIONS, toy_scenario, toy_trace
from hypothesis import given, settings
from hypothesis import strategies as st
from strategies import OWN_SCALE, cases, plain_trace, repeatable, small_scenario

import aiecof
from aiecof.checks import InvalidInput
from aiecof.envs.spaces import check_trace, observation_space
from aiecof.system.observations import observation_fields
from aiecof.system.scenario import READINGS, TaskKind, Weights, load_scenario
from aiecof.system.simulator import Simulator, reference_energy
from aiecof.system.workload import Trace, draw_trace

# `toy_trace` under `TOY_ACTIONS`, worked out by hand. Sending: size / 2 Mbit, rounded up. Computing: Gcycles / 0.4 on
# a device, rounded up; / 4 on server 1 and / 2 on server 2, not rounded. Deadline: 4 slots. All in slots; "on until"
# says from which instant to which the task is computed, "end" is the instant before which it is over, less one.
#
#  t  m  where  Mbit  Gcycles | channel   sends    arrives | processor free  on until     | fate, delay
#  0  0  local     2    0.8   |                            | 0               0   - 2      | done, 2
#  0  1  1         4    2.0   | free at 0  0 - 2   2       | 0               2   - 2.5    | done, 2.5
#  1  0  local     4    0.8   |                            | 2               2   - 4      | done, 3
#  1  1  1         2    4.0   | free at 2  2 - 3   3       | 2.5             3   - 4      | done, 3
#  2  0  1         2    2.0   | free at 0  2 - 3   3       | 4               4   - 4.5    | done, 2.5
#  2  1  local     2    0.4   |                            | 0               2   - 3      | done, 1
#  3  0  1         4    4.0   | free at 3  3 - 5   5       | 4.5             5   - 6      | done, 3
#  3  1  local     4    1.0   |                            | 3               3   - 6      | done, 3
#  4  0  2         2    1.0   | free at 0  4 - 5   5       | 0               5   - 5.5    | done, 1.5
#  4  1  2         2    1.0   | free at 0  4 - 5   5       | 5.5             5.5 - 6      | done, 2
#  5  1  local     6    2.0   |                            | 6               6   - (11)   | dropped at 9, 4
#  6  0  local     6    0.4   |                            | 4               6   - 7      | done, 1
#  7  0  1         8    0.4   | free at 5  7 - 11  (11)    |                              | lost at 11, 4
#  7  1  local     2    0.4   |                            | 9               9   - 10     | done, 3
TOY_CELLS = [
    (0, 0),
    (0, 1),
    (1, 0),
    (1, 1),
    (2, 0),
    (2, 1),
    (3, 0),
    (3, 1),
    (4, 0),
    (4, 1),
    (5, 1),
    (6, 0),
    (7, 0),
    (7, 1),
]
TOY_OUTCOMES = {
    "place": [0, 1, 0, 1, 1, 0, 1, 0, 2, 2, 0, 0, 1, 0],
    "fate": [1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 2, 1, 2, 1],
    "transmission_wait_slots": [0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0],
    "transmission_slots": [0, 2, 0, 1, 1, 0, 2, 0, 1, 1, 0, 0, 4, 0],
    "wait_slots": [0, 0, 1, 0, 1, 0, 0, 0, 0, 0.5, 1, 0, 0, 2],
    "computing_slots": [2, 0.5, 2, 1, 0.5, 1, 1, 3, 0.5, 0.5, 3, 1, 0, 1],
    "delay_slots": [2, 2.5, 3, 3, 2.5, 1, 3, 3, 1.5, 2, 4, 1, 4, 3],
    "end_slot": [1, 1.5, 3, 3, 3.5, 2, 5, 5, 4.5, 5, 8, 6, 10, 9],
    # 0.1 W x 0.1 s a slot of waiting; 2.3 W x 0.05 s a Mbit; c f^2 = 160 J a Gcycle on a device, 16 kJ and 4 kJ on
    # the servers. The dropped task computed 3 of its 5 slots.
    "waiting_energy": [0, 0, 0.01, 0, 0.01, 0, 0, 0, 0, 0.005, 0.01, 0, 0, 0.02],
    "transmission_energy": [0, 0.46, 0, 0.23, 0.23, 0, 0.46, 0, 0.23, 0.23, 0, 0, 0.92, 0],
    "computing_energy": [128, 32000, 128, 64000, 32000, 64, 64000, 160, 4000, 4000, 192, 64, 0, 64],
    "load": [0.98, 0, 0.98, 0, 0.98, 0.98, 0.98, 0.98, 0, 0.98, 0.98, 0.98, 0, 0.98],
}
TOY_BUSY = [[0, 1, 2, 3, 6], [2, 3, 4, 5, 6, 7]]
"""Slots in which each device computes: 0-4 and 6-7; 2-6, 6-9 and 9-10."""


STAGES = ("transmission_wait_slots", "transmission_slots", "wait_slots", "computing_slots")


def run(scenario, trace, actions):
    simulator = Simulator(scenario, record=True)
    simulator.run(trace, actions)
    return simulator


def random_case(episodes=3, seed=1, **changes):
    scenario = small_scenario(devices=3, servers=2, slots=9, tau=4, **changes)
    trace = draw_trace(scenario, episodes, seed)
    return scenario, trace, np.random.default_rng(seed).integers(scenario.actions, size=trace.size.shape)


def energy_of(tasks):
    return tasks["waiting_energy"] + tasks["transmission_energy"] + tasks["computing_energy"]


def toy_loads():
    load = np.zeros((8, 2))
    for device, slots in enumerate(TOY_BUSY):
        load[slots, device] = 0.98
    return load


@pytest.mark.parametrize("name", TOY_OUTCOMES)
def test_toy_trace_by_hand(name):
    tasks = run(toy_scenario(), toy_trace(), TOY_ACTIONS[None]).tasks[0]
    actual = [float(tasks[cell][name]) for cell in TOY_CELLS]
    np.testing.assert_allclose(actual, TOY_OUTCOMES[name], rtol=1e-12, atol=1e-12)


def test_toy_trace_loads_by_hand():
    simulator = run(toy_scenario(), toy_trace(), TOY_ACTIONS[None])
    np.testing.assert_allclose(simulator.load[0], toy_loads())


def test_toy_rewards_and_costs_by_hand():
    """Four decisions, with the device's own history as reference, in seconds and joules, all weights a quarter."""
    scenario = toy_scenario(**OWN_SCALE, weights=Weights(), cost_load="level")
    tasks = run(scenario, toy_trace(), TOY_ACTIONS[None]).tasks[0]
    uneven = 0.49**2  # variance of the loads 0.98 and 0
    # Device 1 until slot 5: joules, slots, one of six failed. A dropped task earns nothing for the energy it saved.
    joules = [32000.46, 64000.23, 64, 160, 4000.235, 192.01]
    assert np.log2(np.mean(joules) / joules[-1]) > 0
    history = 1 - np.mean([2.5, 3, 1, 3, 2, 4]) / 4
    expected = {
        (0, 0): (0 + (1 - 2 / 4) + 1 - uneven, 0.2 + 128 + 0.98),
        (0, 1): (0 + (1 - 2.5 / 4) + 1 - uneven, 0.25 + 32000.46),
        (1, 0): (np.log2(128.005 / 128.01) + (1 - 2.5 / 4) + 1 - uneven, 0.3 + 128.01 + 0.98),
        (5, 1): (0 + history + 5 / 6 - uneven, 0.4 + 192.01 + 1 + 0.98),
    }
    for cell, (reward, cost) in expected.items():
        assert tasks[cell]["reward"] == pytest.approx(reward / 4, abs=1e-9), cell
        assert tasks[cell]["cost"] == pytest.approx(cost / 4, rel=1e-12), cell


def test_toy_metrics_by_hand():
    """12 of 14 tasks are completed, in 27.5 slots; device 0 computes in 5 of 8 slots, device 1 in 6."""
    scenario = toy_scenario(delay_mean="completed", energy_mean="completed", load_mean="slots")
    metrics = run(scenario, toy_trace(), TOY_ACTIONS[None]).metrics()
    joules = sum(sum(TOY_OUTCOMES[name]) for name in TOY_OUTCOMES if name.endswith("energy")) - 192.01 - 0.92
    expected = {"delay": 2.75 / 12, "energy": joules / 12, "drop_rate": 2 / 14, "load": 0.98 * 11 / 16}
    for name, value in (expected | {"local_share": 7 / 14}).items():
        assert metrics[name] == pytest.approx([value], rel=1e-12), name


def test_toy_means_by_kind_by_hand():
    """Tasks of up to 4 Mbit of one kind, the larger of another: of the three large ones two are dropped."""
    trace = toy_trace()
    trace = replace(trace, kind=np.where(trace.has_task, trace.size > 5e6, -1).astype(int))
    kinds = (TaskKind("small", (1e6, 5e6), 0.5), TaskKind("large", (5e6, 9e6), 0.5))
    scenario = toy_scenario(task_kinds=kinds, delay_mean="completed", energy_mean="tasks")
    found = run(scenario, trace, TOY_ACTIONS[None]).metrics_by_kind()
    # Computed, late on the device and late on the way: 64 J; 192 J and a slot of waiting; 2.3 W for 4 slots.
    assert found["large"]["delay"] == pytest.approx([0.1])
    assert found["large"]["energy"] == pytest.approx([(64 + 192.01 + 0.92) / 3])
    assert found["large"]["drop_rate"] == pytest.approx([2 / 3])
    assert found["small"]["delay"] == pytest.approx([0.1 * (27.5 - 1) / 11])
    assert found["small"]["drop_rate"] == pytest.approx([0])


@settings(repeatable, max_examples=40)
@given(
    cases(**OWN_SCALE),
    *(st.sampled_from(READINGS[name]) for name in ("delay_mean", "energy_mean")),
)
def test_means_by_kind_make_up_the_mean(case, delay_mean, energy_mean):
    """Weighted by what they are taken over, they add up to the metrics of the episode."""
    scenario, trace, actions = case
    kinds = tuple(TaskKind(name, (1e5, 1e7), 1 / 3) for name in "abc")
    scenario = scenario.replace(task_kinds=kinds, delay_mean=delay_mean, energy_mean=energy_mean)
    kind = np.random.default_rng(0).integers(3, size=trace.size.shape)
    simulator = run(scenario, replace(trace, kind=np.where(trace.has_task, kind, -1)), actions)
    of_kind = [simulator.trace.kind == index for index in range(3)]
    done = np.array([np.sum(chosen & (simulator.tasks["fate"] == 1), axis=(1, 2)) for chosen in of_kind])
    settled = done + [np.sum(chosen & (simulator.tasks["fate"] == 2), axis=(1, 2)) for chosen in of_kind]
    counts = {"completed": done, "tasks": settled, "slots": np.ones_like(done)}
    parts, whole = simulator.metrics_by_kind().values(), simulator.metrics()
    for name, over in {"delay": delay_mean, "energy": energy_mean, "drop_rate": "tasks"}.items():
        sums = np.nansum([part[name] * count for part, count in zip(parts, counts[over], strict=True)], axis=0)
        total = 1.0 if over == "slots" else counts[over].sum(axis=0)
        np.testing.assert_allclose(sums, np.nan_to_num(whole[name]) * total, rtol=1e-9, atol=1e-9)


def test_means_by_kind_need_the_tasks():
    simulator = Simulator(toy_scenario())
    simulator.run(toy_trace(), TOY_ACTIONS[None])
    with pytest.raises(InvalidInput, match="record: got False, allowed: True"):
        simulator.metrics_by_kind()


@pytest.mark.parametrize("scale", [0.5, 1.0, 3.0])
@pytest.mark.parametrize("changes", [{}, {"drop_rule": "wait"}, {"observation": "printed_mean"}])
def test_what_is_seen_of_another_server_stays_in_its_space(scale, changes):
    scenario, trace, actions = random_case(first_server_scale=scale, **changes)
    columns, unit = observation_fields(scenario)["server_frequency"]
    space, simulator = observation_space(scenario), Simulator(scenario)
    seen = simulator.reset(check_trace(trace, scenario, trace.episodes))
    np.testing.assert_allclose(seen[..., columns] * unit, np.broadcast_to(trace.server_frequency[:, None], (3, 3, 2)))
    for slot in range(scenario.slots):
        assert all(space.contains(row) for row in seen.reshape(-1, seen.shape[-1]))
        seen = simulator.step(actions[:, slot])[0]


def test_a_batch_equals_single_runs():
    scenario, trace, actions = random_case()
    batch = run(scenario, trace, actions)
    for b in range(trace.episodes):
        single = run(scenario, trace[b : b + 1], actions[b : b + 1])
        for name in ("tasks", "load", "totals", "device_end", "server_end"):
            assert getattr(batch, name)[b].tobytes() == getattr(single, name)[0].tobytes(), name


def test_equal_seeds_give_equal_bits():
    first, second = (run(*random_case(seed=7)) for _ in range(2))
    other = run(*random_case(seed=8))
    for name in ("tasks", "load", "totals"):
        assert getattr(first, name).tobytes() == getattr(second, name).tobytes()
        assert getattr(first, name).tobytes() != getattr(other, name).tobytes()


def test_the_order_of_episodes_does_not_matter():
    scenario, trace, actions = random_case()
    forwards, backwards = run(scenario, trace, actions), run(scenario, trace[::-1], actions[::-1])
    assert forwards.tasks.tobytes() == backwards.tasks[::-1].tobytes()


@pytest.mark.parametrize("chunks", [[3], [1, 1, 1], [2, 1]])
def test_slot_by_slot_and_device_by_device_equal_a_run(chunks):
    scenario, trace, actions = random_case()
    whole, stepped = run(scenario, trace, actions), Simulator(scenario, record=True)
    rewards = np.zeros(actions.shape)
    observation = stepped.reset(trace)
    for slot in range(scenario.slots):
        assert not stepped.done and stepped.slot == slot
        np.testing.assert_array_equal(stepped.has_task, trace.size[:, slot] > 0)
        if chunks == [3]:
            observation, rewards[:, slot], done = stepped.step(actions[:, slot])
            assert done == (slot == scenario.slots - 1)
            continue
        first = 0
        for count in chunks:
            rewards[:, slot, first : first + count] = stepped.decide(actions[:, slot, first : first + count])
            first += count
    assert stepped.done
    assert chunks != [3] or not observation.any()
    assert rewards.tobytes() == np.ascontiguousarray(whole.tasks["reward"]).tobytes()
    for name in ("tasks", "load", "totals"):
        assert getattr(stepped, name).tobytes() == getattr(whole, name).tobytes(), name


def test_a_reset_forgets_everything():
    scenario, trace, actions = random_case()
    used = run(scenario, trace, actions[:, ::-1])
    first = used.reset(trace)
    used.run(trace, actions)
    fresh = Simulator(scenario, record=True)
    assert first.tobytes() == fresh.reset(trace).tobytes()
    fresh.run(trace, actions)
    assert used.tasks.tobytes() == fresh.tasks.tobytes()
    assert used.totals.tobytes() == fresh.totals.tobytes()


@pytest.mark.parametrize("threads", [2, 3, 40])
def test_threads_divide_the_replicas_and_change_nothing(threads):
    scenario = load_scenario("balanced", devices=5, servers=3, slots=30)
    trace = draw_trace(scenario, 7, seed=3)
    actions = np.random.default_rng(3).integers(scenario.actions, size=trace.size.shape)
    alone, divided = Simulator(scenario, record=True), Simulator(scenario, record=True)
    assert alone.run(trace, actions).tobytes() == divided.run(trace, actions, threads).tobytes()
    assert alone.tasks.tobytes() == divided.tasks.tobytes() and alone.totals.tobytes() == divided.totals.tobytes()


def test_recording_changes_nothing():
    scenario, trace, actions = random_case()
    silent = Simulator(scenario)
    rewards = silent.run(trace, actions)
    recorded = run(scenario, trace, actions)
    assert silent.totals.tobytes() == recorded.totals.tobytes()
    assert silent.load.tobytes() == recorded.load.tobytes()
    np.testing.assert_array_equal(rewards, recorded.tasks["reward"])
    assert silent.tasks.size == 0


@settings(repeatable, max_examples=100)
@given(cases(**OWN_SCALE))
def test_every_task_has_one_fate_and_its_stages_add_up(case):
    scenario, trace, actions = case
    simulator = run(scenario, trace, actions)
    tasks, totals = simulator.tasks, simulator.totals
    np.testing.assert_array_equal(tasks["fate"] > 0, trace.has_task)
    np.testing.assert_array_equal(tasks["place"], np.where(trace.has_task, actions, -1))
    np.testing.assert_array_equal(totals["tasks"], trace.has_task.sum(axis=(1, 2)))
    for fate, name in enumerate(("completed", "dropped", "in_flight"), 1):
        np.testing.assert_array_equal(totals[name], np.sum(tasks["fate"] == fate, axis=(1, 2)), err_msg=name)
    stages = [tasks[stage] for stage in STAGES]
    assert min(stage.min() for stage in stages) >= 0
    np.testing.assert_allclose(sum(stages), tasks["delay_slots"], atol=1e-9)
    if scenario.readings.edge_wait_from == "arrival":
        decided, slots = trace.has_task, np.arange(scenario.slots)[:, None]
        np.testing.assert_allclose((tasks["end_slot"] - slots + 1)[decided], tasks["delay_slots"][decided], atol=1e-9)
        late = tasks["delay_slots"] > scenario.tau_max_slots + 1e-9
        assert scenario.readings.drop_rule == "wait" or not np.any(late)


@settings(repeatable, max_examples=100)
@given(cases(device_rounding="none", server_rounding="none", transmission_rounding="none", dropped_energy="spent"))
def test_energy_is_power_times_time(case):
    """Of every task, also of a dropped one: the slots recorded for each stage, times the power drawn in it."""
    scenario, trace, actions = case
    tasks = run(scenario, trace, actions).tasks
    for b, t, m in np.argwhere(trace.has_task):
        task, place = tasks[b, t, m], actions[b, t, m]
        clock = trace.server_frequency[b, place - 1] if place else trace.device_frequency[b, m]
        powers = {
            "waiting_energy": ("wait_slots", scenario.waiting_power),
            "transmission_energy": ("transmission_slots", scenario.transmission_power),
            "computing_energy": ("computing_slots", scenario.switched_capacitance * clock**3),
        }
        for name, (stage, power) in powers.items():
            assert task[name] == pytest.approx(power * task[stage] * scenario.slot_duration, abs=1e-9), name


@settings(repeatable, max_examples=60)
@given(cases(device_rounding="ceil", server_rounding="ceil", transmission_rounding="ceil", **OWN_SCALE))
def test_rounded_stages_book_whole_slots_and_exact_energy(case):
    scenario, trace, actions = case
    tasks, unit = run(scenario, trace, actions).tasks, scenario.slot_duration
    for b, t, m in np.argwhere(tasks["fate"] == 1):
        task, place, size = tasks[b, t, m], actions[b, t, m], trace.size[b, t, m]
        clock = trace.server_frequency[b, place - 1] if place else trace.device_frequency[b, m]
        seconds = size * trace.density[b, t, m] / clock
        assert task["computing_slots"] == np.ceil(round(seconds / unit, 6))
        assert task["computing_energy"] == pytest.approx(scenario.switched_capacitance * clock**3 * seconds)
        if place:
            seconds = size / trace.rate[b, m, place - 1]
            assert task["transmission_slots"] == np.ceil(round(seconds / unit, 6))
            assert task["transmission_energy"] == pytest.approx(scenario.transmission_power * seconds)


@settings(repeatable, max_examples=100)
@given(cases(load="busy_share", **OWN_SCALE))
def test_load_of_a_slot_is_the_time_computed_in_it(case):
    scenario, trace, actions = case
    simulator = run(scenario, trace, actions)
    tasks = simulator.tasks
    start = np.arange(scenario.slots)[:, None] + tasks["wait_slots"]
    end = start + tasks["computing_slots"]
    busy = np.zeros(tasks.shape)
    for slot in range(scenario.slots):
        overlap = np.minimum(end, slot + 1) - np.maximum(start, slot)
        busy[:, slot] = np.where(tasks["place"] == 0, np.maximum(overlap, 0), 0).sum(axis=1)
    assert busy.max(initial=0) <= 1 + 1e-9
    np.testing.assert_allclose(simulator.load, np.minimum(busy, scenario.load_cap), atol=1e-9)
    # nothing decided later computes in this slot: what is recorded at the decision is the load of the whole slot
    decided = trace.has_task
    np.testing.assert_allclose(tasks["load"][decided], simulator.load[decided], atol=1e-9)


def test_a_task_that_never_ran_loads_nothing():
    """The second task's turn would come at instant 2.5, but it is dropped at instant 2: only the first computes."""
    exact = {"device_rounding": "none", "load": "literal", "load_cap": 1.0}
    scenario = small_scenario(devices=1, servers=1, slots=3, tau=1, drop_rule="wait", **exact)
    trace = plain_trace(size=[[[1], [1], [0]]], service=[[[2.5], [1], [0]]])
    simulator = Simulator(scenario, record=True)
    simulator.run(trace, np.zeros((1, 3, 1), int))
    assert simulator.tasks["fate"].ravel().tolist() == [1, 2, 0]
    np.testing.assert_allclose(simulator.load.ravel(), [0.25, 0.125, 0.25 / 3])


@settings(repeatable, max_examples=100)
@given(cases(edge_wait_from="arrival", dropped_energy="spent", **OWN_SCALE))
def test_an_observation_is_the_state_in_si_units(case):
    """Recomputed from what earlier slots recorded; the queues end where their last task does."""
    scenario, trace, actions = case
    for observation in ("printed", "extended"):
        check_observations(scenario.replace(observation=observation), trace, actions)


def check_observations(scenario, trace, actions):
    simulator = run(scenario, trace, actions)
    tasks = simulator.tasks.copy()
    simulator.reset(trace)
    layout = observation_fields(scenario)
    assert simulator.observe().shape[-1] == max(columns.stop for columns, _ in layout.values())
    for slot in range(scenario.slots):
        seen, expected = simulator.observe(), state(scenario, trace, tasks, slot)
        assert set(expected) == set(layout)
        for name, (columns, scale) in layout.items():
            np.testing.assert_allclose(
                seen[..., columns] * scale, expected[name], rtol=1e-5, atol=1e-5 * scale, err_msg=name
            )
        simulator.step(actions[:, slot])


def state(scenario, trace, tasks, slot):
    """Name -> (B, M, columns), in SI units and slots, from the tasks decided before a slot."""
    has_task = trace.has_task[:, slot, :, None]
    past = tasks[:, :slot]
    servers = np.arange(1, scenario.actions)
    begins = np.arange(slot)[:, None]
    sent = begins + past["transmission_wait_slots"] + past["transmission_slots"]
    arrived = past["wait_slots"] + past["computing_slots"] > 0
    own = past["place"][..., None] == servers

    def wait(end, mine, axis):
        return np.maximum(np.where(mine, end, 0.0).max(axis=axis, initial=0.0) - slot, 0.0)

    to_server = (own & arrived[..., None]).any(axis=-1) if slot else arrived
    backlog = wait(past["end_slot"][..., None] + 1, own & to_server[..., None], (1, 2))
    channel = wait(sent[..., None], own, 1)
    if scenario.readings.channel_queue == "per_device":
        channel = np.broadcast_to(channel.max(axis=-1, keepdims=True), channel.shape)
    work = trace.size if scenario.readings.workload == "per_task" else 1.0
    shape = (*has_task.shape[:2], scenario.servers)
    everything = {
        "task_index": np.where(has_task, (past["fate"] > 0).sum(axis=1)[..., None] + 1, 0),
        "size": trace.size[:, slot, :, None],
        "workload": np.where(has_task, (trace.density * work)[:, slot, :, None], 0.0),
        "deadline_slots": np.where(has_task, scenario.tau_max_slots, 0),
        "wait_slots": wait(past["end_slot"] + 1, past["place"] == 0, 1)[..., None],
        "server_frequency": np.broadcast_to(trace.server_frequency[:, None], shape),
        "backlog_slots": np.broadcast_to(backlog[:, None], shape),
        "device_frequency": trace.device_frequency[..., None],
        "channel_wait_slots": channel * (scenario.readings.channel_queue != "none"),
    }
    return {name: everything[name] for name in observation_fields(scenario)}


@settings(repeatable, max_examples=60)
@given(cases(**OWN_SCALE))
def test_totals_and_metrics_equal_what_was_recorded(case):
    scenario, trace, actions = case
    for mean in ("completed", "tasks", "slots"):
        for load_mean in ("slots", "decisions"):
            chosen = scenario.replace(delay_mean=mean, energy_mean=mean, load_mean=load_mean)
            simulator = run(chosen, trace, actions)
            expected = recomputed_metrics(chosen, simulator.tasks, simulator.load)
            actual = simulator.metrics()
            assert set(actual) == set(expected)
            for name, values in expected.items():
                np.testing.assert_allclose(
                    actual[name], values, rtol=1e-9, atol=1e-9, err_msg=f"{name} {mean} {load_mean}"
                )


def recomputed_metrics(scenario, tasks, load):
    readings, unit = scenario.readings, scenario.slot_duration
    rows = {name: [] for name in ("delay", "energy", "drop_rate", "load", "reward", "local_share", "cost")}
    for episode, slots in zip(tasks, load, strict=True):
        decided, settled = episode[episode["fate"] > 0], episode[np.isin(episode["fate"], (1, 2))]
        completed = settled[settled["fate"] == 1]
        over = {"completed": completed, "tasks": settled, "slots": settled}
        count = {"completed": len(completed), "tasks": len(settled), "slots": episode.size}
        delay, joules = over[readings.delay_mean], over[readings.energy_mean]
        rows["delay"].append(divide(delay["delay_slots"].sum() * unit, count[readings.delay_mean]))
        rows["energy"].append(divide(energy_of(joules).sum(), count[readings.energy_mean]))
        rows["drop_rate"].append(divide(np.sum(settled["fate"] == 2), len(settled)))
        local = divide(np.sum(decided["place"] == 0), len(decided))
        by_decision = divide(decided["load"].sum(), len(decided))
        of_load = {"slots": slots.mean(), "decisions": by_decision}[readings.load_mean]
        rows["load"].append(local if readings.load == "local_share" else of_load)
        rows["reward"].append(decided["reward"].sum() / scenario.devices)
        rows["local_share"].append(local)
        rows["cost"].append(decided["cost"].sum() / episode.size)
    return rows


def divide(total, count):
    return total / count if count else np.nan


def test_queueing_law():
    """Always local, five slots a task, no deadline: a Geo/D/1 queue waits p s (s - 1) / (2 (1 - p s)) = 6 slots.

    Every replica holds 32 independent queues. They begin empty; the first 500 slots, until that is forgotten, are left
    out.
    """
    p, s = 0.15, 5
    law = p * s * (s - 1) / (2 * (1 - p * s))
    assert law == pytest.approx(6.0)
    scenario = load_scenario(
        "balanced",
        devices=32,
        servers=1,
        slots=3000,
        tau_max_slots=10**6,
        arrival_probability=p,
        workload_scale=1.0,
        device_frequency=(4e9, 4e9),
        workload_range=(s * 4e8, s * 4e8),
        **OWN_SCALE,
    )
    simulator = Simulator(scenario)
    simulator.reset(draw_trace(scenario, 32, seed=3))
    local = np.zeros((32, 32), int)
    for _ in range(500):
        simulator.decide(local)
    begun = simulator.totals.copy()
    while not simulator.done:
        simulator.decide(local)
    tasks = simulator.totals["tasks"] - begun["tasks"]
    delay = (simulator.totals["delay"] - begun["delay"]) / scenario.slot_duration
    assert not simulator.totals["dropped"].any()
    waits = delay / tasks - s
    error = waits.std(ddof=1) / np.sqrt(len(waits))
    assert error < 0.15
    assert abs(waits.mean() - law) < 3 * error


@settings(repeatable, max_examples=80)
@given(cases(drop_rule="deadline", in_flight="complete", **OWN_SCALE))
def test_a_later_deadline_never_drops_a_local_task_more(case):
    """Slack = tau - backlog: a task of D slots is dropped if the slack is less, and takes min(D, slack) of it.

    Between slots the slack grows by one, up to tau. Both steps keep the order of two slacks, so that the queue with
    the later deadline always has more of it.
    """
    scenario, trace, actions = case
    local = np.zeros_like(actions)
    strict, lenient = (
        run(scenario.replace(tau_max_slots=scenario.tau_max_slots + extra), trace, local) for extra in (0, 1)
    )
    assert not np.any((lenient.tasks["fate"] == 2) & (strict.tasks["fate"] == 1))


@settings(repeatable, max_examples=80)
@given(cases(drop_rule="deadline", in_flight="complete", **OWN_SCALE))
def test_a_deadline_that_drops_nothing_changes_nothing(case):
    scenario, trace, actions = case
    free = run(scenario.replace(tau_max_slots=500), trace, actions)
    longest = int(np.ceil(free.tasks["end_slot"].max() + 1.0)) + 1
    bounded = run(scenario.replace(tau_max_slots=longest), trace, actions)
    assert not np.any(free.tasks["fate"] == 2)
    for name in ("fate", "wait_slots", "delay_slots", "end_slot", "load", "computing_energy"):
        np.testing.assert_array_equal(free.tasks[name], bounded.tasks[name], err_msg=name)


@settings(repeatable, max_examples=80)
@given(cases(**OWN_SCALE))
def test_names_of_servers_do_not_matter(case):
    scenario, trace, actions = case
    renamed = Trace(
        **{**vars(trace), "server_frequency": trace.server_frequency[:, ::-1], "rate": trace.rate[..., ::-1]}
    )
    mirrored = np.where(actions > 0, scenario.servers + 1 - actions, 0)
    first, second = run(scenario, trace, actions).tasks, run(scenario, renamed, mirrored).tasks
    for name in first.dtype.names:
        if name != "place":
            np.testing.assert_array_equal(first[name], second[name], err_msg=name)


@settings(repeatable, max_examples=80)
@given(cases(**OWN_SCALE))
def test_slots_of_half_the_length_and_twice_the_speed_are_the_same_slots(case):
    scenario, trace, actions = case
    faster = Trace(
        **{
            **vars(trace),
            "device_frequency": 2 * trace.device_frequency,
            "server_frequency": 2 * trace.server_frequency,
            "rate": 2 * trace.rate,
        }
    )
    halved = scenario.replace(slot_duration=scenario.slot_duration / 2)
    first, second = run(scenario, trace, actions).tasks, run(halved, faster, actions).tasks
    for name in (
        "fate",
        "wait_slots",
        "transmission_wait_slots",
        "transmission_slots",
        "computing_slots",
        "end_slot",
    ):
        np.testing.assert_array_equal(first[name], second[name], err_msg=name)
    np.testing.assert_allclose(2 * second["waiting_energy"], first["waiting_energy"])
    np.testing.assert_allclose(second["computing_energy"], 4 * first["computing_energy"])


def test_reference_energy_does_not_depend_on_what_it_is_used_for():
    base = small_scenario()
    expected = reference_energy(base)
    assert expected > 0
    for change in (
        {"energy_reference": "own_history"},
        {"cost_units": "si"},
        {"in_flight": "drop"},
        {"load_sign": "plus"},
    ):
        assert reference_energy(base.replace(**change)) == expected
    assert reference_energy(base.replace(waiting_power=1.4)) > expected


SMALL_RUN = """
import json
from aiecof.system.simulator import Simulator
from aiecof_book.toy import TOY_ACTIONS, toy_scenario, toy_trace

simulator = Simulator(toy_scenario(energy_reference="own_history", cost_units="si"), record=True)
rewards = simulator.run(toy_trace(), TOY_ACTIONS[None])
columns = {name: simulator.tasks[name].ravel().tolist() for name in simulator.tasks.dtype.names}
print(json.dumps(columns | {"rewards": rewards.ravel().tolist()}))
"""


def run_apart(folder: Path, **environment) -> dict[str, list[float]]:
    """`SMALL_RUN` in an interpreter of its own, with the package found in `folder`."""
    variables = {**os.environ, "PYTHONPATH": str(folder), "OMP_NUM_THREADS": "1", **environment}
    command = [sys.executable, "-c", SMALL_RUN]
    finished = subprocess.run(command, env=variables, cwd=folder, capture_output=True, text=True, check=False)
    assert finished.returncode == 0, finished.stderr
    return json.loads(finished.stdout)


PACKAGE = Path(aiecof.__file__).resolve().parent


def test_without_compilation_the_numbers_are_the_same():
    plain = run_apart(PACKAGE.parent, NUMBA_DISABLE_JIT="1")
    tasks = run(toy_scenario(**OWN_SCALE), toy_trace(), TOY_ACTIONS[None]).tasks
    for name in tasks.dtype.names:
        np.testing.assert_allclose(plain[name], tasks[name].ravel(), rtol=1e-12, atol=1e-12, err_msg=name)


@pytest.mark.slow
def test_a_changed_formula_is_compiled_again(tmp_path):
    """A cache that looks only at the kernels' own file would go on with the old formula."""
    shutil.copytree(PACKAGE, tmp_path / "aiecof", ignore=shutil.ignore_patterns("__pycache__"))
    before = run_apart(tmp_path)
    cached = len(list(tmp_path.rglob("*.nbc")))
    assert cached > 0
    assert run_apart(tmp_path) == before and len(list(tmp_path.rglob("*.nbc"))) == cached
    source = tmp_path / "aiecof" / "system" / "model.py"
    formula = "return power * wait_slots * slot_duration"
    text = source.read_text(encoding="utf-8")
    assert text.count(formula) == 1
    source.write_text(text.replace(formula, formula + " * 3.0"), encoding="utf-8")
    after = run_apart(tmp_path)
    assert sum(before["waiting_energy"]) > 0
    np.testing.assert_allclose(after["waiting_energy"], 3 * np.array(before["waiting_energy"]))
    assert after["computing_energy"] == before["computing_energy"]


@pytest.mark.parametrize(
    ("actions", "message"),
    [
        (TOY_ACTIONS[None] + 1, r"actions: got 3, allowed: whole numbers 0\.\.2, shape \(1, 8, 2\)"),
        (TOY_ACTIONS[None] - 1, "actions: got -1, allowed"),
        (TOY_ACTIONS[None] / 1.0, "actions: got 'float64', allowed"),
        (TOY_ACTIONS[None] > 0, "actions: got 'bool', allowed"),
        (TOY_ACTIONS, r"actions: got \(8, 2\), allowed"),
        ([["a"]], "actions: got 'str"),
        (None, "actions: got 'object'"),
    ],
)
def test_impossible_actions_are_refused(actions, message):
    with pytest.raises(InvalidInput, match=message):
        Simulator(toy_scenario()).run(toy_trace(), actions)


@pytest.mark.parametrize("actions", [[[0]], [[0, 0, 0]], [0, 0], 0, [[0, 3]], [[0.0, 1.0]], np.zeros((2, 2), int)])
def test_impossible_steps_are_refused_and_change_nothing(actions):
    simulator = Simulator(toy_scenario())
    simulator.reset(toy_trace())
    with pytest.raises(InvalidInput, match="actions: got .*allowed: whole numbers"):
        simulator.step(actions)
    assert simulator.slot == 0 and not simulator.totals["tasks"].any()


@pytest.mark.parametrize("actions", [np.zeros((1, 0), int), np.zeros((1, 3), int), np.zeros(2, int), 1])
def test_deciding_for_devices_that_are_not_there_is_refused(actions):
    simulator = Simulator(toy_scenario())
    simulator.reset(toy_trace())
    with pytest.raises(InvalidInput, match="devices deciding: got .*allowed: a whole number >= 1"):
        simulator.decide(actions)


def test_a_slot_is_decided_once():
    simulator = Simulator(toy_scenario())
    simulator.reset(toy_trace())
    simulator.decide([[0]])
    with pytest.raises(InvalidInput, match="devices deciding: got 2, allowed: a whole number >= 1 and <= 1"):
        simulator.step([[0, 0]])


def test_stepping_before_a_reset_is_refused():
    with pytest.raises(InvalidInput, match="slot: got None, allowed: .*call reset first"):
        Simulator(toy_scenario()).step([[0, 0]])


def test_stepping_past_the_end_is_refused():
    simulator = run(toy_scenario(), toy_trace(), TOY_ACTIONS[None])
    assert simulator.done and not simulator.observe().any()
    with pytest.raises(InvalidInput, match="slot: got 8, allowed: below 8"):
        simulator.step([[0, 0]])


@pytest.mark.parametrize(
    ("changes", "field"),
    [({"devices": 3}, "size"), ({"slots": 9}, "size"), ({"servers": 3}, "server_frequency")],
)
def test_a_trace_of_another_scenario_is_refused(changes, field):
    with pytest.raises(InvalidInput, match=rf"trace\.{field}: got \(1, .*allowed: shape \(1, "):
        Simulator(toy_scenario(**changes)).reset(toy_trace())


@pytest.mark.parametrize("service", READINGS["edge_service"][1:])
def test_other_edge_services_are_refused(service):
    with pytest.raises(InvalidInput, match=rf"readings\.edge_service: got '{service}', allowed: decision_order"):
        Simulator(toy_scenario(edge_service=service))


def test_a_reference_energy_of_zero_is_refused():
    """One slot is too short for any of these tasks, and a dropped one costs nothing: there is nothing to divide by."""
    scenario = toy_scenario(tau_max_slots=1, dropped_energy="none")
    for needed in ({"energy_reference": "own_history"}, {"cost_units": "si"}):
        with pytest.raises(InvalidInput, match="reference"):
            Simulator(scenario.replace(**needed)).run(toy_trace(), TOY_ACTIONS[None])
    unneeded = scenario.replace(**OWN_SCALE)
    assert np.all(np.isfinite(Simulator(unneeded).run(toy_trace(), TOY_ACTIONS[None])))
