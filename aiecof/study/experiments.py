"""The experiments, declared as data: which method meets which scenario with which seeds.

A `Trial` is what can be computed on its own: one method on one network, judged on held-out episodes. Experiments share
trials, so Table IV, its curves (Figs. 5, 6) and the middle points of the sweeps are computed once.
"""

import hashlib
import json
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from functools import cached_property, lru_cache
from typing import Any

import numpy as np

from aiecof.agents.methods import METHODS
from aiecof.agents.rules import COORDINATED, POLICIES
from aiecof.checks import check_choice
from aiecof.study import grids
from aiecof.study.grids import BOUND, EVALUATION, LEARNED, QUICK_EVALUATION, QUICK_TRAINING, TRAINING
from aiecof.study.lower_bound import lower_bound
from aiecof.study.store import Declared, Player
from aiecof.system.scenario import READINGS, Scenario, TaskKind, Weights, load_scenario
from aiecof.system.simulator import Simulator
from aiecof.system.workload import draw_trace


@lru_cache(maxsize=512)
def dynamics_fingerprint(scenario: Scenario) -> str:
    """Hash of what two episodes come to, so that a changed equation makes new trials."""
    trace = draw_trace(scenario, 2, split="reference")
    actions = np.random.default_rng(0).integers(scenario.actions, size=trace.size.shape)
    simulator = Simulator(scenario)
    simulator.run(trace, actions)
    totals = [f"{value:.6g}" for row in simulator.totals.tolist() for value in row]
    return hashlib.sha256(json.dumps(totals).encode()).hexdigest()[:16]


@lru_cache(maxsize=1)
def bound_fingerprint() -> str:
    """Hash of the lower bound on two small episodes, so that a changed bound makes new trials."""
    scenario = load_scenario("balanced", devices=4, servers=2, slots=10)
    costs = lower_bound(scenario, draw_trace(scenario, 2, split="reference"))
    return hashlib.sha256(json.dumps([f"{cost:.6g}" for cost in costs]).encode()).hexdigest()[:16]


@dataclass(frozen=True)
class Trial:
    """One method on one scenario with one seed.

    method : str
        Of `METHODS`, `POLICIES`, or `BOUND`.
    episodes : int
        Of training; 0 for what is not trained.
    changes : dict
        Hyperparameters, or parameters of a rule, that differ from the registry's.
    streams : {"batch", "episode"}
        Whether the held-out episodes of a learned policy share a random stream: those of the first results do.
    """

    method: str
    scenario: Scenario
    seed: int
    episodes: int = 0
    evaluation: int = EVALUATION
    changes: dict[str, Any] = field(default_factory=dict)
    streams: str = "batch"

    @property
    def learned(self) -> bool:
        """Whether it is trained."""
        return self.method in METHODS

    @property
    def description(self) -> dict[str, Any]:
        """Everything that decides the result."""
        values = METHODS[self.method].values(**self.changes) if self.learned else self.changes
        own = {"bound": bound_fingerprint()} if self.method == BOUND else {}
        own |= {"streams": self.streams} if self.learned and self.streams != "batch" else {}
        return {
            "method": self.method,
            "scenario": self.scenario.fingerprint,
            "dynamics": dynamics_fingerprint(self.scenario),
            "seed": self.seed,
            "episodes": self.episodes,
            "evaluation": self.evaluation,
            "values": values,
        } | own

    @cached_property
    def fingerprint(self) -> str:
        """Hash of the description; the trial's name in `results/` and of its folder."""
        return hashlib.sha256(json.dumps(self.description, sort_keys=True).encode()).hexdigest()[:16]


@dataclass(frozen=True)
class Cell:
    """A trial of an experiment without its seed, and where it stands in the experiment's table."""

    labels: dict[str, Any]
    method: str
    scenario: Scenario
    episodes: int
    changes: dict[str, Any]

    def trial(self, seed: int, quick: bool = False, streams: str = "batch") -> Trial:
        """With a seed; the quick one is trained and judged on a few episodes."""
        episodes = min(self.episodes, QUICK_TRAINING) if quick else self.episodes
        judged = QUICK_EVALUATION if quick else EVALUATION
        return Trial(self.method, self.scenario, seed, episodes, judged, self.changes, streams)


def cell(method: str, scenario: Scenario, labels: dict[str, Any] | None = None, episodes=TRAINING, **changes) -> Cell:
    """A cell labelled with method and scenario, and more."""
    named = {"scenario": scenario.name, "method": method} | (labels or {})
    return Cell(named, method, scenario, episodes if method in METHODS else 0, changes)


@dataclass(frozen=True)
class Experiment:
    """A table or figure of the paper, or a question of ours.

    seeds : int
        Networks 0 .. seeds - 1, each with its own training and held-out traces.
    planned : bool
        Whether it belongs to the plan of the second look: a learned method is judged by sampled actions, not by those
        that count for its family, and every held-out episode has a random stream of its own.
    """

    question: str
    seeds: int
    cells: tuple[Cell, ...]
    planned: bool = False

    def trials(self, profile: str = "full") -> Iterator[tuple[dict[str, Any], Trial]]:
        """(labels, trial) of all cells with the first seed, then the second ...: what is cut short is balanced."""
        quick = check_choice("profile", profile, ("full", "quick")) == "quick"
        for seed in range(1 if quick else self.seeds):
            for entry in self.cells:
                yield entry.labels | {"seed": seed}, entry.trial(seed, quick, "episode" if self.planned else "batch")


def _compared(scenario: Scenario, rules: Iterable[str], labels: dict[str, Any] | None = None) -> list[Cell]:
    learners = (*LEARNED, *(name for name, method in METHODS.items() if method.added))
    return [cell(name, scenario, labels) for name in (*learners, *rules)]


def _sweep_rules() -> list[str]:
    return [*grids.SWEEP_RULES, *(name for name, entry in POLICIES.items() if entry.added)]


def _table_iv() -> list[Cell]:
    scenarios = [load_scenario(name) for name in ("fitted", "balanced", "table-iii")]
    return [entry for scenario in scenarios for entry in _compared(scenario, (*POLICIES, BOUND))]


def _figure_3(part: str) -> list[Cell]:
    fitted = load_scenario("fitted")
    if part == "a":
        rates = [{"actor": actor, "critic": critic} for actor, critic in grids.RATES]
        names = {"actor": "learning_rate", "critic": "critic_learning_rate"}
        return [cell("toppo", fitted, r, **{names[network]: rate for network, rate in r.items()}) for r in rates]
    name, values = {"b": ("batch_size", grids.BATCHES), "c": ("gamma", grids.DISCOUNTS)}[part]
    return [cell("toppo", fitted, {name: value}, **{name: value}) for value in values]


def _figure_4() -> list[Cell]:
    cells = []
    for kind, size in grids.SIZES.items():
        for arrivals in grids.ARRIVALS:
            changed = load_scenario("fitted", task_kinds=(TaskKind(kind, size),), arrival_probability=arrivals)
            labels = {"kind": kind, "tasks": round(100 * arrivals)}
            rules = ("random", "always-local", "threshold-power-of-two")
            cells += [cell(method, changed, labels) for method in ("toppo", *rules)]
    return cells


def _figure_7() -> list[Cell]:
    stages = {"early": 1, "late": TRAINING}
    return [cell("toppo", load_scenario("fitted"), {"stage": s}, episodes=n) for s, n in stages.items()]


def _figure_8() -> list[Cell]:
    return [
        entry
        for name in ("fitted", "balanced")
        for devices in grids.DEVICES
        for entry in _compared(load_scenario(name, devices=devices), _sweep_rules(), {"devices": devices})
    ]


def _figure_9() -> list[Cell]:
    cells = []
    for scenario in (load_scenario("fitted"), load_scenario("balanced")):
        low, high = scenario.server_frequency
        for factor in grids.CAPACITIES:
            changed = scenario.replace(server_frequency=(factor * low, factor * high))
            cells += _compared(changed, _sweep_rules(), {"capacity": factor})
    return cells


def _ablation() -> list[Cell]:
    return [
        cell(method, load_scenario(name), {"variant": variant}, **changes)
        for name in ("balanced", "fitted")
        for variant, (method, changes) in grids.VARIANTS.items()
    ]


def _readings() -> list[Cell]:
    fitted = load_scenario("fitted")
    cells = [cell(method, fitted, {"reading": "as chosen", "value": ""}) for method in grids.JUDGED]
    for name, values in READINGS.items():
        for value in values:
            left_out = name in grids.UNPLAYED or (name, value) in grids.UNPLAYED_VALUES
            if value == getattr(fitted.readings, name) or left_out:
                continue
            changes: dict[str, Any] = {name: value}
            if value == "per_bit":  # the same work for a task of middle size
                scale = fitted.workload_scale * 2.5e9 / 6e6 / 250.0
                changes |= {"workload_range": (200.0, 300.0), "workload_scale": scale}
            changed = fitted.replace(**changes)
            cells += [cell(method, changed, {"reading": name, "value": value}) for method in grids.JUDGED]
    return cells


def _armed(name: str, arm: str) -> Scenario:
    """A representative under an arm: the printed reward comes with equal weights, which it gives no values."""
    weights = {} if arm == "mended" else {"weights": Weights()}
    return load_scenario(name, **grids.ARMS[arm], **weights)


def _printed_values(method: str) -> dict[str, Any]:
    """The printed hyperparameters that a method has."""
    known = METHODS[method].hyperparameters
    return {name: value for name, value in grids.PRINTED_VALUES.items() if name in known}


def _arm(arm: str) -> list[Cell]:
    cells, labels = [], {"arm": arm, "share": ""}
    for scenario in (_armed(name, arm) for name in grids.REPRESENTATIVES):
        cells += [cell(name, scenario, labels, **_printed_values(name)) for name in LEARNED]
        cells += [cell(name, scenario, labels) for name in POLICIES]
        coins = [(labels | {"share": share}, share) for share in grids.COINS]
        cells += [cell("mixture-random", scenario, mark, local_probability=share) for mark, share in coins]
    return cells


def _memory() -> list[Cell]:
    return [
        cell(method, _armed(name, arm), {"arm": arm}, **_printed_values(method))
        for arm in grids.MEMORY_ARMS
        for name in grids.REPRESENTATIVES
        for method in ("toppo", *grids.MEMORIES)
    ]


def experiments() -> dict[str, Experiment]:
    """Everything in `results/` that is trained or simulated, in the order of its importance.

    Beside what the grids name, whatever is registered as a method or a rule takes part.
    """
    fitted = load_scenario("fitted")
    learning = _compared(fitted, ())
    found = {
        "table_iv": ("Which method is best, and by how much?", 10, _table_iv()),
        "figure_8": ("Does it stay so with more devices?", 5, _figure_8()),
        "figure_9": ("Does it stay so with slower and faster servers?", 5, _figure_9()),
        "figure_3a": ("Which learning rates?", 5, _figure_3("a")),
        "figure_3b": ("Which batch size?", 5, _figure_3("b")),
        "figure_3c": ("Which discount factor?", 5, _figure_3("c")),
        "figure_4": ("What do more tasks, and larger ones, do?", 5, _figure_4()),
        "figure_5": ("How fast does each method learn?", 10, learning),
        "figure_6": ("How do energy, delay and drops fall while learning?", 10, learning),
        "figure_7": ("How busy is each device, early and late?", 10, _figure_7()),
        "ablation": ("Which part of TOPPO does the work?", 10, _ablation()),
        "readings": ("Do the conclusions depend on what was read into the paper?", 3, _readings()),
        "memory": ("Does a memory help, and why?", 10, _memory()),
    }
    found |= {f"arm_{arm}": (f"Who wins on the arm {arm}?", 10, _arm(arm)) for arm in grids.ARMS}
    planned = {"memory", *(f"arm_{arm}" for arm in grids.ARMS)}
    return {
        name: Experiment(question, seeds, tuple(cells), name in planned)
        for name, (question, seeds, cells) in found.items()
    }


def experiment(name: str) -> Experiment:
    """The experiment called `name`."""
    found = experiments()
    return found[check_choice("experiment", name, tuple(found))]


def trials_of(names: Iterable[str], profile: str = "full") -> dict[str, Trial]:
    """Name -> trial of some experiments, each once, all first seeds first."""
    declared = experiments()
    chosen = [declared[check_choice("experiment", name, tuple(declared))] for name in names]
    found = {trial.fingerprint: trial for entry in chosen for _, trial in entry.trials(profile)}
    return dict(sorted(found.items(), key=lambda item: item[1].seed))


def declarations(profile: str = "full") -> dict[str, Declared]:
    """What the manifest keeps of the experiments."""
    found = {}
    for name, entry in experiments().items():
        trials: dict[int, list[str]] = {}
        for _, trial in entry.trials(profile):
            trials.setdefault(trial.seed, []).append(trial.fingerprint)
        found[name] = Declared(entry.question, len(trials), len(entry.cells), trials)
    return found


def players() -> dict[str, Player]:
    """Who is compared in Table IV, as the manifest keeps it."""
    found = {}
    for name in dict.fromkeys(entry.method for entry in experiment("table_iv").cells):
        if name in METHODS:
            found[name] = Player("learned", METHODS[name].added)
        elif name in POLICIES:
            coordinated = POLICIES[name].information == COORDINATED
            found[name] = Player("coordinated rule" if coordinated else "rule", POLICIES[name].added)
        else:
            found[name] = Player("bound", False)
    return found
