"""Small scenarios with traces and decisions, drawn by hypothesis and shared by the tests."""

import signal

import numpy as np
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st

from aiecof.system.scenario import READINGS, Scenario, TaskKind, Weights
from aiecof.system.workload import Trace

WEIGHTS = Weights(delay=0.15, energy=0.35, drop=0.6, load=0.9)  # all different, so that a mix-up shows
RATE, FREQUENCY = 10e6, 4e9  # what one device has; the servers are a few times faster

DYNAMICS = (
    "drop_rule device_rounding server_rounding transmission_rounding channel_queue edge_wait_from "
    "in_flight dropped_energy load"
).split()
"""The readings that change what becomes of a task."""

JUDGEMENT = (
    "energy_reference reward_history history_mean failure_scope dropped_energy_term load_sign cost_units cost_load"
).split()
"""The readings that change only what a task is worth."""

OWN_SCALE = {"energy_reference": "own_history", "cost_units": "si"}
"""Readings that need no reference energy, which takes a thousand episodes of its own."""


repeatable = settings(
    deadline=None,
    derandomize=True,
    database=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
)


def small_scenario(devices=2, servers=2, slots=8, tau=4, slot_duration=0.1, **changes) -> Scenario:
    """A scenario whose own draws have the size of those of `small_trace`."""
    fields = {
        "device_frequency": (FREQUENCY, FREQUENCY),
        "server_frequency": (2 * FREQUENCY, 4 * FREQUENCY),
        "workload_range": (0.2 * FREQUENCY * slot_duration, FREQUENCY * slot_duration),
        "task_kinds": (TaskKind("any", (0.2 * RATE * slot_duration, 2.0 * RATE * slot_duration)),),
        "transmission_rate": RATE,
    }
    scenario = Scenario(
        name="small",
        devices=devices,
        servers=servers,
        slots=slots,
        slot_duration=slot_duration,
        arrival_probability=0.6,
        tau_max_slots=tau,
        waiting_power=0.7,
        transmission_power=2.3,
        weights=WEIGHTS,
        **fields,
    )
    return scenario.replace(**changes)


def small_trace(
    scenario: Scenario, seed: int, grain: float, busy: float, episodes: int = 1, longest: float = 4.0
) -> Trace:
    """A trace in which sending and service take multiples of `grain` slots, or any time if `grain` is 0.

    A device computes at most `longest` slots, sends for a little more than its deadline, and is `busy` that often.
    Whole and simple fractions of slots make tasks finish, arrive and expire at the very same instant.
    """
    rng = np.random.default_rng(seed)
    shape = (episodes, scenario.decisions, scenario.devices)
    unit = scenario.slot_duration

    def amount(shape, low, high):
        values = rng.uniform(low, high, shape)
        return np.maximum(np.round(values / grain), 1) * grain if grain else values

    def speed(shape, choices):
        return rng.choice(choices, shape) if grain else rng.uniform(min(choices), max(choices), shape)

    size = amount(shape, 0.1, 0.8 * scenario.tau_max_slots + 1) * RATE * unit
    cycles = amount(shape, 0.1, longest) * FREQUENCY * unit
    size = np.where(rng.random(shape) < busy, size, 0.0)
    return Trace(
        size=size,
        density=cycles / np.where(size > 0, size, 1.0),
        kind=np.where(size > 0, 0, -1),
        device_frequency=speed((episodes, scenario.devices), [1.0, 2.0]) * FREQUENCY,
        server_frequency=speed((episodes, scenario.servers), [1.0, 2.0, 4.0]) * FREQUENCY,
        rate=speed((episodes, scenario.devices, scenario.choices), [1.0, 2.0]) * RATE,
        **hidden(scenario, rng, episodes, grain),
    )


def hidden(scenario: Scenario, rng: np.random.Generator, episodes: int, grain: float) -> dict[str, np.ndarray]:
    """What a trace has beyond the paper, where the scenario asks for it."""
    found = {}
    if scenario.reach is not None:
        order = np.argsort(rng.random((episodes, scenario.devices, scenario.servers)), axis=-1)
        found["reach"] = order[..., : scenario.reach]
    if scenario.fading_scale < 1.0:
        links = (scenario.devices, scenario.choices)
        found["fade"] = rng.choice([1.0, scenario.fading_scale], (episodes, scenario.slots, *links))
    if scenario.background_load > 0.0:
        shape = (episodes, scenario.slots, scenario.servers)
        work = rng.choice([0.0, 0.5, 1.0, 2.0], shape) if grain else rng.uniform(0.0, 2.0, shape)
        found["background"] = work * scenario.background_load
    return found


BEYOND = {
    "arrivals_per_slot": st.integers(1, 4),
    "fading_scale": st.sampled_from([0.25, 0.5, 1.0]),
    "background_load": st.sampled_from([0.0, 0.25, 1.0]),
}
"""What a scenario may have beyond the paper and that changes what becomes of a task; with some it has a `reach` too."""


def plain_trace(size, service):
    """Sizes in slots of sending, services in slots of a device; the one server is twice as fast."""
    unit = 0.1
    bits = np.asarray(size, float) * RATE * unit
    cycles = np.asarray(service, float) * FREQUENCY * unit
    episodes, _, devices = bits.shape
    return Trace(
        size=bits,
        density=np.where(bits > 0, cycles, 1.0) / np.where(bits > 0, bits, 1.0),
        kind=np.where(bits > 0, 0, -1),
        device_frequency=np.full((episodes, devices), FREQUENCY),
        server_frequency=np.full((episodes, 1), 2.0 * FREQUENCY),
        rate=np.full((episodes, devices, 1), RATE),
    )


@st.composite
def cases(draw, beyond=False, **fixed):
    """(scenario, trace, actions) with all of `DYNAMICS` and `JUDGEMENT` drawn, but for what is `fixed`."""
    choices = {name: st.sampled_from(READINGS[name]) for name in (*DYNAMICS, *JUDGEMENT)} | {
        "devices": st.integers(1, 4),
        "servers": st.integers(1, 3),
        "slots": st.integers(1, 12),
        "tau": st.integers(1, 8),
        "slot_duration": st.sampled_from([0.1, 0.3, 1.0]),
        "load_cap": st.sampled_from([0.98, 0.6, 1.0]),
    }
    drawn = {name: draw(values, label=name) for name, values in choices.items() if name not in fixed}
    if beyond:
        drawn |= {name: draw(values, label=name) for name, values in BEYOND.items() if name not in fixed}
        servers = (drawn | fixed)["servers"]
        drawn["reach"] = draw(st.sampled_from([None, *range(1, servers + 1)]), label="reach")
    scenario = small_scenario(**(drawn | fixed))
    seed = draw(st.integers(0, 2**31), label="seed")
    grain = draw(st.sampled_from([0.0, 0.1, 0.25, 1.0]), label="grain")
    busy = draw(st.sampled_from([0.3, 0.7, 1.0]), label="busy")
    episodes = draw(st.integers(1, 2), label="episodes")
    longest = draw(st.sampled_from([1.0, 4.0, 10.0]), label="longest")
    trace = small_trace(scenario, seed, grain, busy, episodes, longest)
    local = draw(st.sampled_from([0.2, 0.5, 1.0]), label="local")
    rng = np.random.default_rng(seed + 1)
    shape = trace.size.shape
    away = rng.integers(1, scenario.actions, shape)
    return scenario, trace, np.where(rng.random(shape) < local, 0, away)


def hear_interrupts() -> None:
    """For a started program: hear SIGINT, which a shell makes everything ignore that it runs in the background."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)
