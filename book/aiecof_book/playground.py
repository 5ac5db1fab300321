"""The playground of the book: recorded episodes and the equations to play with, as HTML fragments of its pages.

A fragment is a section with its data as JSON and the scripts in `book/_static` that bring it to life. They need no
library and no network. The sliders compute the equations a second time, in JavaScript; the tests hold them against
`model`, `simulator` and `limits`.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import asdict
from typing import Any

import numpy as np

from aiecof.agents.policies import Policy, evaluate
from aiecof.checks import InvalidInput
from aiecof.study.paper import printed
from aiecof.system.kernels import DROPPED
from aiecof.system.model import recorded_energy
from aiecof.system.scenario import Scenario
from aiecof.system.workload import Trace

STATIC = "../_static"
"""Where a page of the book finds the scripts."""
BANDWIDTH = 2e6
"""Hz. Of ours, as Table III gives only the rate; it and the noise make a gain of 1 give that rate by Eq. (13)."""
_KINDS = {
    "replay": (
        "Replay of an episode",
        "The figure further down this page shows its queues in still pictures.",
        ("playground", "playground-episode", "playground-replay"),
    ),
    "task": (
        "The costs of one task",
        'Its equations and their figures are in <a href="one_task.html">What does one task cost?</a>',
        ("playground", "playground-costs", "playground-task"),
    ),
    "capacity": (
        "Capacity and arrivals",
        'Its arithmetic is in <a href="tables.html#feasibility">Who can carry the load?</a>',
        ("playground", "playground-capacity"),
    ),
}
"""Kind of a fragment -> its name, where to look without scripts, and its scripts in the order in which they run."""


def _fragment(kind: str, data: dict[str, Any]) -> str:
    label, instead, names = _KINDS[kind]
    content = json.dumps(data, separators=(",", ":")).replace("<", "\\u003c")  # no "</script>" within the data
    scripts = "".join(f'<script src="{STATIC}/{name}.js" defer></script>' for name in names)
    return (
        f'<link rel="stylesheet" href="{STATIC}/playground.css">'
        f'<section class="playground" data-playground="{kind}" aria-label="{label}">'
        f'<p class="playground-fallback">Here is something to play with, in the built book and in a browser that runs '
        f"JavaScript. {instead}</p>"
        f'<script type="application/json">{content}</script></section>{scripts}'
    )


def _short(values: np.ndarray) -> list[float]:
    """Rounded to a millionth; whole numbers without a point, which halves the page."""
    return [int(value) if value.is_integer() else value for value in np.round(values, 6).tolist()]


def _recorded(policy: Policy, scenario: Scenario, trace: Trace) -> dict[str, list[float]]:
    """What became of every task of an episode, in the order of decisions: places, stages [slots], energies [J]."""
    tasks = evaluate(policy, scenario, trace, record=True).tasks[trace.has_task]
    energy = recorded_energy(tasks)
    stages = {
        "channel_wait": tasks["transmission_wait_slots"],
        "sending": tasks["transmission_slots"],
        "wait": tasks["wait_slots"],
        "computing": tasks["computing_slots"],
    }
    columns = {"place": tasks["place"], "dropped": tasks["fate"] == DROPPED, "energy": energy} | stages
    return {name: _short(np.asarray(values, float)) for name, values in columns.items()}


def replay(policies: dict[str, Policy], scenario: Scenario, trace: Trace, start: int = 0, glance: bool = False) -> str:
    """HTML of an episode to step through, under several policies side by side.

    policies : dict
        Name to show -> policy.
    trace : Trace
        One episode.
    start : int
        Slot at which it opens; `#at=45` in the address of the page goes before it.
    glance : bool
        Show the pictures alone, and let them run at once where the reader has not asked for less motion.
    """
    if trace.episodes != 1:
        raise InvalidInput("trace.episodes", trace.episodes, "1")
    if scenario.readings.edge_wait_from != "arrival":
        raise InvalidInput("readings.edge_wait_from", scenario.readings.edge_wait_from, "arrival: stages must add up")
    _, slot, device = np.nonzero(trace.has_task)
    size, density = trace.size[trace.has_task], trace.density[trace.has_task]
    tasks = {"slot": slot, "device": device, "size": size / 1e6, "work": size * density / 1e9}
    clocks = {"device": trace.device_frequency[0] / 1e9, "server": trace.server_frequency[0] / 1e9}
    data = {
        "slots": scenario.slots,
        "start": start,
        "glance": glance,
        "step": scenario.slot_duration,
        "tau": scenario.tau_max_slots,
        "clocks": {name: _short(values) for name, values in clocks.items()},
        "tasks": {name: _short(np.asarray(values, float)) for name, values in tasks.items()},
        "policies": {name: _recorded(policy, scenario, trace) for name, policy in policies.items()},
    }
    return _fragment("replay", data)


def _middle(scenario: Scenario) -> dict[str, float]:
    """A task of middle size [bit] and work [cycle], and machines of middle clocks [Hz]."""
    size = sum(kind.share * np.mean(kind.size) for kind in scenario.task_kinds)
    work = np.mean(scenario.workload_range) * scenario.workload_scale
    if scenario.readings.workload == "per_bit":
        work *= size
    middle = {"size": size, "work": work, "device_frequency": np.mean(scenario.device_frequency)}
    return {name: float(value) for name, value in middle.items()}


def task_sliders(scenarios: Iterable[Scenario]) -> str:
    """HTML of sliders over the costs of one task, Eqs. (2) to (24), under the readings of each scenario.

    scenarios : iterable of Scenario
        With a fixed rate. The first one is shown at the start.
    """
    shown = {}
    for scenario in scenarios:
        if scenario.transmission_rate is None:
            raise InvalidInput("transmission_rate", None, "a fixed rate, from which the noise follows")
        middle, signal = _middle(scenario), 2.0 ** (scenario.transmission_rate / BANDWIDTH) - 1.0
        shown[scenario.name] = {
            "size": middle["size"],
            "density": middle["work"] / middle["size"],
            "device_frequency": middle["device_frequency"],
            "server_frequency": float(np.mean(scenario.server_frequency)),
            "transmission_power": scenario.transmission_power,
            "tau_max_slots": scenario.tau_max_slots,
            "waiting_power": scenario.waiting_power,
            "capacitance": scenario.switched_capacitance,
            "load_cap": scenario.load_cap,
            "slot_duration": scenario.slot_duration,
            "bandwidth": BANDWIDTH,
            "noise": scenario.transmission_power / signal,
            "readings": asdict(scenario.readings),
        }
    return _fragment("task", {"scenarios": shown})


def capacity_sliders(scenarios: Iterable[Scenario]) -> str:
    """HTML of sliders over what comes to a device and what it can do: when can it keep as much as TOPPO's printed load?

    scenarios : iterable of Scenario
        The first one is shown at the start. Their tasks' works spread as Table III's around the middle.
    """
    shown, load = {}, float(printed("load")["toppo"])
    for scenario in scenarios:
        low, high = scenario.workload_range
        shown[scenario.name] = _middle(scenario) | {
            "arrival_probability": scenario.arrival_probability,
            "slots": scenario.slots,
            "tau_max_slots": scenario.tau_max_slots,
            "slot_duration": scenario.slot_duration,
            "spread": (high - low) / (high + low),
            "share": load / scenario.load_cap,
            "load": load,
        }
    return _fragment("capacity", {"scenarios": shown})
