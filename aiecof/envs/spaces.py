"""What an environment shows and takes: spaces with bounds that hold, masks, and traces that stay within them."""

import math
from typing import Any

import numpy as np
from gymnasium import spaces

from aiecof.checks import InvalidInput, check_integer
from aiecof.system import model
from aiecof.system.observations import DEADLINE, observation_fields, observation_width
from aiecof.system.scenario import Scenario
from aiecof.system.simulator import reference_energy
from aiecof.system.workload import Trace

ROUNDED = 1.0 + 1e-6
"""A bound in float32 may lie this factor further out."""


def _longest_service(scenario: Scenario, frequency: float, rounding: str) -> float:
    """Slots that the heaviest task takes on the slowest processor."""
    work = scenario.workload_range[1] * scenario.workload_scale
    cycles = work if scenario.readings.workload == "per_task" else work * scenario.largest_size
    slots = cycles / (frequency * scenario.slot_duration)
    return math.ceil(slots) if rounding == "ceil" else slots


def _longest_stay(scenario: Scenario) -> tuple[float, float]:
    """Slots for which a device and a server can be busy at most, once a slot has been decided.

    With `drop_rule="deadline"` nothing is served longer than tau_max after its slot; with `"wait"` a task that starts
    in time is served to its end.
    """
    tau, readings = float(scenario.tau_max_slots), scenario.readings
    if readings.drop_rule == "deadline":
        return tau, tau
    device = _longest_service(scenario, scenario.device_frequency[0], readings.device_rounding)
    return tau + device, tau + _longest_service(scenario, scenario.server_clocks[0], readings.server_rounding)


def _lowest_rate(scenario: Scenario) -> float:
    if scenario.transmission_rate is not None:
        return scenario.transmission_rate * scenario.fading_scale
    return scenario.fading_scale * float(
        model.transmission_rate(
            scenario.bandwidth, scenario.channel_gain[0], scenario.transmission_power, scenario.noise_power
        )
    )


def _most_energy(scenario: Scenario) -> float:
    """More than a task can take: the heaviest on the fastest processor, sent slowly, after the longest wait [J]."""
    work = scenario.workload_range[1] * scenario.workload_scale
    cycles = work if scenario.readings.workload == "per_task" else work * scenario.largest_size
    clock = max(scenario.device_frequency[1], scenario.server_clocks[1])
    radio = scenario.transmission_power * scenario.largest_size / _lowest_rate(scenario)
    waiting = scenario.waiting_power * max(_longest_stay(scenario)) * scenario.slot_duration
    return scenario.switched_capacitance * clock**2 * cycles + radio + waiting


def observation_space(scenario: Scenario) -> spaces.Box:
    """What one device sees, (F,) float32, in the columns of `observations.observation_fields`.

    An entry is a quantity, never negative, over a scale. Sizes, work, clocks and the number of a task end at 1 and the
    deadline at tau_max / T. Waits end at 1 as well where a task ends with its deadline, and with `drop_rule="wait"` at
    (tau_max + longest service) / tau_max. A trace of a user's own that could leave the bounds is refused: see
    `check_trace`.
    """
    high = np.ones(observation_width(scenario))
    fields = observation_fields(scenario)
    device, server = _longest_stay(scenario)
    high[DEADLINE] = scenario.tau_max_slots / scenario.decisions
    others = scenario.slots * scenario.background_load
    bounds = {"wait_slots": device, "backlog_slots": server + others, "server_wait_slots": server + others}
    sent = float(scenario.tau_max_slots) if scenario.readings.edge_wait_from == "decision" else 0.0
    bounds |= {"answered_delay_slots": max(device, server + others) + sent, "mean_energy": _most_energy(scenario)}
    for name, most in bounds.items():
        if name in fields:
            columns, scale = fields[name]
            high[columns] = most / scale
    return spaces.Box(0.0, (high * np.where(high == 1.0, 1.0, ROUNDED)).astype(np.float32), dtype=np.float32)


def reward_space(scenario: Scenario) -> spaces.Box:
    """The terms of a reward (Eq. 29): delay, energy, drop and load, (4,) float32, each the larger the better."""
    readings, tau = scenario.readings, float(scenario.tau_max_slots)
    longest = max(_longest_stay(scenario)) + (tau if readings.edge_wait_from == "decision" else 0.0)
    most = float(scenario.slots)  # times the mean of the tasks so far, of which the latest is one
    if readings.energy_reference == "random_policy":
        most = max(1.0, _most_energy(scenario) / reference_energy(scenario))
    low = np.array([1.0 - longest / tau, -math.log2(most), 0.0, -0.25])
    return spaces.Box((low * ROUNDED - 1e-6).astype(np.float32), np.array([1.0, 34.0, 1.0, 0.0], np.float32))


def action_masks(scenario: Scenario, has_task: np.ndarray) -> np.ndarray:
    """(..., N+1) int8: 1 for what may be decided; without a task only to stay, which changes nothing.

    has_task : (...) bool
        Who has a task.
    """
    masks = np.ones((*np.shape(has_task), scenario.actions), np.int8)
    masks[..., 1:] = np.asarray(has_task)[..., None]
    return masks


def shared_masks(scenario: Scenario) -> tuple[np.ndarray, np.ndarray]:
    """The masks without and with a task, (N+1,) int8 each, for many to hold and nobody to change."""
    masks = action_masks(scenario, np.array([False, True]))
    masks.flags.writeable = False
    return masks[0], masks[1]


def check_action(name: str, action: Any, scenario: Scenario) -> int:
    """Return an action as an int if it is one of the scenario's."""
    # What SB3's `predict` returns for one observation is an array without axes.
    return check_integer(name, np.asarray(action)[()], 0, scenario.choices)


def check_trace(trace: Any, scenario: Scenario, episodes: int | None = None, field: str = "options.trace") -> Trace:
    """Return a trace of a user's own if it fits and no observation of it can leave the space.

    Sizes, work, clocks and the work of others may not exceed the scenario's ranges, and no channel be better than its
    good state. Where its slowest processor bounds a wait
    (`drop_rule="wait"`) or an energy (`observation="printed_mean"`), clocks and rates may not be lower either.
    """
    count = trace.check(scenario).episodes if isinstance(trace, Trace) else 0
    if count == 0 or count != (episodes or count):
        found = getattr(trace, "episodes", trace)
        raise InvalidInput(field, found, f"a Trace of {episodes or 'some'} episode(s)")
    readings = scenario.readings
    slow = readings.drop_rule == "wait" or readings.observation == "printed_mean"
    work = trace.density * trace.size if readings.workload == "per_task" else trace.density * trace.has_task
    columns = {
        "size": (trace.size, 0.0, scenario.largest_size),
        "density": (work, 0.0, scenario.workload_range[1] * scenario.workload_scale),
        "device_frequency": (trace.device_frequency, slow * scenario.device_frequency[0], scenario.device_frequency[1]),
        "server_frequency": (trace.server_frequency, slow * scenario.server_clocks[0], scenario.server_clocks[1]),
        "rate": (trace.rate, slow * _lowest_rate(scenario) / scenario.fading_scale, math.inf),
    }
    if trace.fade is not None:
        columns["fade"] = (trace.fade, slow * scenario.fading_scale, 1.0)
    if trace.background is not None:
        columns["background"] = (trace.background, 0.0, scenario.background_load)
    for name, (values, low, high) in columns.items():
        for found in (float(values.min()), float(values.max())):
            if not low * (1 - 1e-9) <= found <= high * (1 + 1e-9):
                what = "work of the tasks " if name == "density" else ""
                allowed = f"{what}within [{low:g}, {high:g}], so that observations stay in their space"
                raise InvalidInput(f"{field}.{name}", found, f"{allowed} (change the scenario's ranges)")
    return trace
