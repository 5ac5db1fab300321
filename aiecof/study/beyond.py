"""The experiments beyond the paper, declared as data: real requests, hidden things, many devices, other weights."""

from itertools import product
from typing import Any

from aiecof.agents.methods import METHODS
from aiecof.agents.rules import POLICIES
from aiecof.study import grids
from aiecof.study.grids import TRAINING
from aiecof.study.trials import Cell, Experiment, cell
from aiecof.system.scenario import Scenario, Weights, load_scenario


def _requests() -> list[Cell]:
    """Who wins on a bursty workload: every rule, and fewer learners, for whom its many rounds are long episodes."""
    scenario = load_scenario("bursty")
    learned = [cell(name, scenario, episodes=TRAINING // 2) for name in grids.BEYOND_LEARNED]
    return learned + [cell(name, scenario) for name in POLICIES]


def _blind_rules() -> list[tuple[str, dict[str, Any]]]:
    """Rules that use nothing of what the hidden settings hide, with their values."""
    coins = [("mixture-random", {"local_probability": share}) for share in grids.FEW_COINS]
    waits = [("threshold-random", {"threshold_slots": wait}) for wait in grids.WAITS]
    return [("always-local", {}), *coins, *waits]


def _seeing_rules() -> list[tuple[str, dict[str, Any]]]:
    """Rules that use what they see of clocks, channels and servers, with their values."""
    names = ("greedy", "threshold-power-of-two", "threshold-least-loaded")
    waits = [(name, {"threshold_slots": wait}) for name in names for wait in grids.WAITS]
    return [("greedy", {}), ("frugal", {}), *waits]


def _knowing() -> list[Cell]:
    """What it is worth to see what is hidden: rules that see it beside rules that do not."""
    cells = []
    for name in grids.HIDDEN:
        shown = load_scenario(name)
        views = {"shown": (shown, [*_blind_rules(), *_seeing_rules()])}
        views["everything"] = (shown.replace(observation="oracle"), _seeing_rules())
        for sees, (scenario, rules) in views.items():
            for rule, values in rules:
                labels = {"sees": sees, "value": next(iter(values.values()), "")}
                cells.append(cell(rule, scenario, labels, **values))
    return cells


def _recall() -> list[Cell]:
    """Whether a memory finds out what is hidden, where knowing it is worth something."""
    cells = []
    for name in grids.WORTH_KNOWING:
        shown = load_scenario(name)
        for sees, values, methods, changes in grids.RECALLING:
            scenario = shown.replace(observation="oracle") if sees == "everything" else shown
            labels = {"sees": sees, "values": values}
            cells += [cell(method, scenario, labels, grids.LONG_TRAINING, **changes) for method in methods]
    return cells


def crowd(devices: int) -> Scenario:
    """`balanced` with servers in proportion, of which each device reaches eight (R67)."""
    servers = round(devices * 8 / 30)
    return load_scenario("balanced", devices=devices, servers=servers, reach=8)


def _thousand() -> list[Cell]:
    """More devices and servers: trained there with as many transitions as at 30, or at 30 and played there.

    TOPPO is trained among the most devices for as many episodes, too, with a minibatch in proportion.
    """
    first, most, cells = crowd(grids.CROWDS[0]), crowd(grids.CROWDS[-1]), []
    for devices in grids.CROWDS:
        scenario, few = crowd(devices), TRAINING * first.devices // devices
        there = {"devices": devices, "trained": devices, "budget": "transitions"}
        for method in grids.SCALED:
            cells.append(cell(method, scenario, there, few))
            if devices > first.devices:
                cells.append(cell(method, scenario, there | {"trained": first.devices}, trained=first))
        cells += [cell(rule, scenario, there | {"trained": "", "budget": ""}) for rule in grids.CROWD_RULES]
    labels = {"devices": most.devices, "trained": most.devices, "budget": "episodes"}
    batch = METHODS["toppo"].values()["batch_size"] * most.devices // first.devices
    return [*cells, cell("toppo", most, labels, batch_size=batch)]


def weightings() -> dict[str, Weights]:
    """Name -> weights: the centre of the four aims, and what stresses one, two or three of them alike."""
    aims, found = ("delay", "energy", "drop", "load"), {}
    for stressed in product((True, False), repeat=4):
        count = sum(stressed)
        if not count:
            continue
        rest = grids.UNSTRESSED * (4 - count)
        weights = [(1.0 - rest) / count if on else grids.UNSTRESSED for on in stressed]
        named = " and ".join(aim for aim, on in zip(aims, stressed, strict=True) if on)
        found["all alike" if count == 4 else named] = Weights(*weights)
    return found


def _front() -> list[Cell]:
    """Policies trained under other weights, and rules with other values, which no weights change."""
    cells = []
    for name in (*grids.REPRESENTATIVES, "balanced"):
        scenario = load_scenario(name)
        for label, weights in weightings().items():
            labels = {"weights": label, "value": ""}
            cells.append(cell("toppo", scenario.replace(weights=weights), labels))
        for rule, values in [*_blind_rules(), *_seeing_rules()]:
            labels = {"weights": "", "value": next(iter(values.values()), "")}
            cells.append(cell(rule, scenario, labels, **values))
    return cells


def beyond() -> dict[str, Experiment]:
    """Everything beyond the paper, in the order of the part of the book."""
    found = {
        "requests": ("Do real requests change the answer?", 5, _requests()),
        "knowing": ("What is it worth to see what is hidden?", 10, _knowing()),
        "recall": ("Does a memory find out what is hidden?", 10, _recall()),
        "thousand": ("Does it work for a thousand devices?", 5, _thousand()),
        "front": ("What can be had at once?", 5, _front()),
    }
    return {
        name: Experiment(question, seeds, tuple(cells), True, 1) for name, (question, seeds, cells) in found.items()
    }
