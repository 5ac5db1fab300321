"""The playground of the book: recorded episodes and the equations to play with, as HTML fragments of its pages.

A fragment is a section with its data as JSON and the scripts in `book/_static` that bring it to life. They need no
library and no network. The sliders compute the equations a second time, in JavaScript; the tests hold them against
`model`, `simulator` and `limits`.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import asdict
from typing import Any

import numpy as np

from aiecof.agents.policies import Policy, evaluate
from aiecof.checks import InvalidInput
from aiecof.drawing.style import called
from aiecof.study.paper import printed, printed_rows
from aiecof.system.kernels import DROPPED
from aiecof.system.model import recorded_energy
from aiecof.system.scenario import Scenario, load_scenario
from aiecof.system.workload import Trace
from aiecof_book.blind import PRINTED, played
from aiecof_book.blind import coin as blind_coin

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
    "coin": (
        "A coin under the printed reward",
        'The table beside it is in <a href="where_table_iv_comes_from.html">Where does Table IV come from?</a>',
        ("playground", "playground-coin"),
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


def _short(values: np.ndarray, decimals: int = 6) -> list[float]:
    """Rounded to a millionth, or as told; whole numbers without a point, which halves the page."""
    return [int(value) if value.is_integer() else value for value in np.round(values, decimals).tolist()]


def _packed(values: list[float]) -> list[float] | str:
    """Whole numbers below 36 as one letter each, as JavaScript's `parseInt` reads them: half of the page again."""
    digits = "0123456789abcdefghijklmnopqrstuvwxyz"
    small = all(isinstance(value, int) and 0 <= value < len(digits) for value in values)
    return "".join(digits[value] for value in values) if small else values


def _recorded(policy: Policy, scenario: Scenario, trace: Trace) -> dict[str, list[float] | str]:
    """What became of every task of an episode, in the order of decisions: places, stages [slots], energies [J]."""
    tasks = evaluate(policy, scenario, trace, record=True).tasks[trace.has_task]
    energy = recorded_energy(tasks)
    stages = {
        "channel_wait": tasks["transmission_wait_slots"],
        "sending": tasks["transmission_slots"],
        "wait": tasks["wait_slots"],
        "computing": tasks["computing_slots"],
    }
    columns = {"place": tasks["place"], "dropped": tasks["fate"] == DROPPED} | stages
    return {name: _packed(_short(np.asarray(values, float))) for name, values in columns.items()} | {
        "energy": _short(energy, 3)
    }


def _recording(policies: dict[str, Policy], scenario: Scenario, trace: Trace) -> dict[str, Any]:
    """An episode under several policies, as the replay reads it."""
    if trace.episodes != 1:
        raise InvalidInput("trace.episodes", trace.episodes, "1")
    if scenario.readings.edge_wait_from != "arrival":
        raise InvalidInput("readings.edge_wait_from", scenario.readings.edge_wait_from, "arrival: stages must add up")
    _, slot, device = np.nonzero(trace.has_task)
    size, density = trace.size[trace.has_task], trace.density[trace.has_task]
    tasks = {"slot": slot, "device": device, "size": size / 1e6, "work": size * density / 1e9}
    clocks = {"device": trace.device_frequency[0] / 1e9, "server": trace.server_frequency[0] / 1e9}
    return {
        "slots": scenario.slots,
        "step": scenario.slot_duration,
        "tau": scenario.tau_max_slots,
        "clocks": {name: _short(values) for name, values in clocks.items()},
        "tasks": {name: _short(np.asarray(values, float), 4) for name, values in tasks.items()},
        "policies": {name: _recorded(policy, scenario, trace) for name, policy in policies.items()},
    }


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
    recording = {"network": "", "seed": ""} | _recording(policies, scenario, trace)
    return _fragment("replay", {"recordings": [recording], "start": start, "glance": glance})


def replays(
    recorded: Mapping[tuple[str, str], tuple[dict[str, Policy], Scenario, Trace]],
    shown: tuple[str, str],
    moments: Mapping[str, str],
    start: int = 0,
) -> str:
    """HTML of several recorded episodes, of which the reader chooses one, and two policies to compare.

    recorded : mapping
        Name of a network and its seed -> what `replay` takes; the first one is shown at the start.
    shown : (str, str)
        The policies at the start.
    moments : mapping
        What to look at -> its place, as it stands in the address of the page: `at=45&policies=toppo,greedy`.
    start : int
        Slot at which it opens.
    """
    recordings = [
        {"network": network, "seed": seed} | _recording(*entry) for (network, seed), entry in recorded.items()
    ]
    data = {"recordings": recordings, "shown": shown, "moments": dict(moments), "start": start, "glance": False}
    return _fragment("replay", data)


def herds(places: np.ndarray, least: int = 6, share: float = 2 / 3) -> np.ndarray:
    """Slots in which at least `least` tasks leave for one server, and they are this share of all that leave.

    places : (T, M) int
        Where the tasks of an episode go: 0 is the device, n server n, -1 that there is none.
    """
    counts = np.stack([(places == n).sum(axis=1) for n in range(1, max(places.max(), 1) + 1)], axis=1)
    crowd = counts.max(axis=1)
    return np.flatnonzero((crowd >= least) & (crowd >= share * counts.sum(axis=1)))


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
        shown[called(scenario.name)] = {
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
        shown[called(scenario.name)] = _middle(scenario) | {
            "arrival_probability": scenario.arrival_probability,
            "slots": scenario.slots,
            "tau_max_slots": scenario.tau_max_slots,
            "slot_duration": scenario.slot_duration,
            "spread": (high - low) / (high + low),
            "share": load / scenario.load_cap,
            "load": load,
        }
    return _fragment("capacity", {"scenarios": shown})


COIN_SHARES = np.linspace(0.0, 1.0, 51)
"""Shares at home that the coin's slider has."""
COIN_METRICS = ("delay", "energy", "drop_rate", "load", "reward")
"""What is shown of a coin, beside the row of Table IV."""


def coin_rows(scenario: Scenario, networks: int = 5, episodes: int = 5) -> dict[str, list[float]]:
    """Metric -> mean for each share of `COIN_SHARES`, over networks (seeds) and held-out episodes.

    A task stays at home where a throw in [0, 1) is below the share, else it goes to any server: the same throws and
    tasks for every share. All metrics are those of one run.
    """
    means = played(scenario, blind_coin, COIN_SHARES, networks, episodes).groupby("value").mean()
    return {name: _short(means[name].to_numpy(), 4) for name in COIN_METRICS}


def coin(scenarios: Iterable[str] = ("plain", "nine-rows", "fitted")) -> str:
    """HTML of a slider over the share at home of a coin, paid by the printed reward, beside TOPPO's printed row.

    scenarios : iterable of str
        Networks; the first one is shown at the start. Their reward is the arm `printed` with equal weights.
    """
    rows = {called(name): coin_rows(load_scenario(name, **PRINTED)) for name in scenarios}
    row = printed_rows().loc["TOPPO"]
    data = {
        "shares": _short(COIN_SHARES),
        "networks": rows,
        "printed": {name: float(row[name]) for name in COIN_METRICS},
    }
    return _fragment("coin", data)
