"""What a device sees: the columns of an observation, their scales, and the way back to SI units."""

from typing import NamedTuple

import numpy as np

from aiecof.checks import InvalidInput, check_type
from aiecof.system.scenario import Scenario

TASK_INDEX, SIZE, WORKLOAD, DEADLINE, WAIT, SERVERS = range(6)
"""Columns of an observation; from `SERVERS` on the clocks and backlogs of the C servers within reach, then its own."""


def observation_fields(scenario: Scenario) -> dict[str, tuple[slice, float]]:
    """Name -> (columns, scale) of an observation; an entry times its scale is in SI units or slots.

    The printed state s = {mu, x, rho, T_max, D_wait, f_n, Q_n(t-1)} (Section IV-A): index of the task, its size
    [bit], its workload [cycle] or density [cycle/bit] (`readings.workload`), its deadline [slots], the wait on the
    device [slots], the clocks of the servers [Hz] and their backlogs [slots] as the decisions of earlier slots left
    them. `observation="extended"` adds the device's own clock [Hz] and the waits on its channels [slots];
    `"printed_mean"` adds what the printed reward compares with, the mean energy of the device's tasks so far [J].
    `"acknowledged"` adds the device's latest place (one entry each) and what it heard at the start of the slot of each
    place: the delay of a task that was done there [slots], and whether one was dropped. `"oracle"` adds to that the
    device's own clock, the waits on its channels, those on the servers as they are, and the factors on its rates (R68).
    Without a task the first four are 0; clocks are 0 where they are hidden (`clocks_seen`).
    """
    n = check_type("scenario", scenario, Scenario).choices
    tau, work = float(scenario.tau_max_slots), scenario.workload_range[1] * scenario.workload_scale
    backlogs, own = SERVERS + n, SERVERS + 2 * n
    layout = {
        "task_index": (slice(TASK_INDEX, SIZE), float(scenario.decisions)),
        "size": (slice(SIZE, WORKLOAD), scenario.largest_size),
        "workload": (slice(WORKLOAD, DEADLINE), work),
        "deadline_slots": (slice(DEADLINE, WAIT), float(scenario.decisions)),
        "wait_slots": (slice(WAIT, SERVERS), tau),
        "server_frequency": (slice(SERVERS, backlogs), scenario.server_clocks[1]),
        "backlog_slots": (slice(backlogs, own), tau),
    }
    if scenario.readings.observation == "extended":
        layout["device_frequency"] = (slice(own, own + 1), scenario.device_frequency[1])
        layout["channel_wait_slots"] = (slice(own + 1, own + 1 + n), tau)
    elif scenario.readings.observation == "printed_mean":
        layout["mean_energy"] = (slice(own, own + 1), scenario.largest_energy)
    elif scenario.readings.observation in ("acknowledged", "oracle"):
        for name, scale in (("last_place", 1.0), ("answered_delay_slots", tau), ("answered_drop", 1.0)):
            layout[name] = (slice(own, own + n + 1), scale)
            own += n + 1
    if scenario.readings.observation == "oracle":
        layout["device_frequency"] = (slice(own, own + 1), scenario.device_frequency[1])
        layout["channel_wait_slots"] = (slice(own + 1, own + 1 + n), tau)
        layout["server_wait_slots"] = (slice(own + 1 + n, own + 1 + 2 * n), tau)
        layout["rate_factor"] = (slice(own + 1 + 2 * n, own + 1 + 3 * n), 1.0)
    return layout


def observation_width(scenario: Scenario) -> int:
    """F, the number of columns of `observation_fields`."""
    return max(columns.stop for columns, _ in observation_fields(scenario).values())


class Seen(NamedTuple):
    """What the devices see, in SI units and slots; first axes (B, M)."""

    has_task: np.ndarray
    size: np.ndarray
    density: np.ndarray
    wait_slots: np.ndarray
    backlog_slots: np.ndarray
    server_frequency: np.ndarray
    device_frequency: np.ndarray
    channel_wait_slots: np.ndarray
    rate_factor: np.ndarray


def read_observations(scenario: Scenario, observations: np.ndarray, has_task: np.ndarray) -> Seen:
    """Undo the scaling of `observation_fields`.

    observations : (B, M, F) float
        As `Simulator.step` returns them.
    has_task : (B, M) bool
        Who has a task.

    The printed state shows neither the device's own clock nor the queues on its channels: there, the middle of the
    scenario's range and 0 stand in for them, as the middle does for clocks of servers that are hidden. An oracle's
    backlogs are the waits as they are.
    """
    fields = observation_fields(scenario)
    shape = (*np.shape(has_task), observation_width(scenario))
    if np.shape(observations) != shape or shape[1] != scenario.devices:
        expected = (*shape[:1], scenario.devices, shape[-1])
        raise InvalidInput("observations", np.shape(observations), f"shape {expected} for scenario {scenario.name}")
    seen = {name: observations[..., columns].astype(float) * scale for name, (columns, scale) in fields.items()}
    size, work = seen["size"][..., 0], seen["workload"][..., 0]
    if scenario.readings.workload == "per_task":
        work = np.divide(work, size, out=np.zeros_like(work), where=size > 0.0)
    clock = seen.get("device_frequency", np.full((*shape[:2], 1), np.mean(scenario.device_frequency)))
    channel = seen.get("channel_wait_slots", np.zeros_like(seen["backlog_slots"]))
    wait, servers = seen["wait_slots"][..., 0], seen["server_frequency"]
    backlog = seen.get("server_wait_slots", seen["backlog_slots"])
    if scenario.readings.clocks_seen == "hidden" and scenario.readings.observation != "oracle":
        servers = np.full_like(servers, np.mean(scenario.server_clocks))
    factor = seen.get("rate_factor", np.ones_like(seen["backlog_slots"]))
    return Seen(np.asarray(has_task, bool), size, work, wait, backlog, servers, clock[..., 0], channel, factor)
