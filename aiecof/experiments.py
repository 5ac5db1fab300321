"""The experiments, declared as data: which method meets which scenario with which seeds.

A `Trial` is what can be computed on its own: one method on one network, judged on held-out episodes. Experiments share
trials, so Table IV, its curves (Figs. 5, 6) and the middle points of the sweeps are computed once.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cached_property, lru_cache
from typing import Any

import numpy as np

from aiecof.bounds import lower_bound
from aiecof.config import READINGS, Scenario, TaskKind, check_choice, load_scenario
from aiecof.methods import METHODS
from aiecof.policies import POLICIES
from aiecof.simulator import Simulator
from aiecof.workload import draw_trace

TRAINING, EVALUATION = 100, 20
"""Episodes: of a training (Algorithm 1's e_max has no value; Figs. 3, 5 and 6 show about as many), of an evaluation."""
QUICK_TRAINING, QUICK_EVALUATION = 10, 3
"""The same in the quick profile: enough to see curves rise, too little to judge by."""
BOUND = "lower-bound"
"""Not a method: what none can go below (`aiecof.bounds`)."""

KEPT = tuple((scenario, method) for scenario in ("balanced", "fitted") for method in ("toppo", "dqn", "a2c"))
"""Whose policy of seed 0 is kept in `results/policies/`, so that it can be replayed without training."""
LEARNED = ("toppo", "dqn", "double-dqn", "dueling-dqn", "d3qn", "ac", "a2c")
"""The learned rows of Table IV."""
RIVALS = ("random", "round-robin", "always-local", "greedy", "frugal", "threshold-power-of-two")
"""Rules beside the learned methods in the sweeps: the paper's two, and four on a device's own observation."""


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
    """

    method: str
    scenario: Scenario
    seed: int
    episodes: int = 0
    evaluation: int = EVALUATION
    changes: dict[str, Any] = field(default_factory=dict)

    @property
    def learned(self) -> bool:
        """Whether it is trained."""
        return self.method in METHODS

    @property
    def description(self) -> dict[str, Any]:
        """Everything that decides the result."""
        values = METHODS[self.method].values(**self.changes) if self.learned else self.changes
        own = {"bound": bound_fingerprint()} if self.method == BOUND else {}
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

    def trial(self, seed: int, quick: bool = False) -> Trial:
        """With a seed; the quick one is trained and judged on a few episodes."""
        episodes = min(self.episodes, QUICK_TRAINING) if quick else self.episodes
        judged = QUICK_EVALUATION if quick else EVALUATION
        return Trial(self.method, self.scenario, seed, episodes, judged, self.changes)


def cell(method: str, scenario: Scenario, labels: dict[str, Any] | None = None, episodes=TRAINING, **changes) -> Cell:
    """A cell labelled with method and scenario, and more."""
    named = {"scenario": scenario.name, "method": method} | (labels or {})
    return Cell(named, method, scenario, episodes if method in METHODS else 0, changes)


@dataclass(frozen=True)
class Experiment:
    """A table or figure of the paper, or a question of ours.

    seeds : int
        Networks 0 .. seeds - 1, each with its own training and held-out traces.
    """

    question: str
    seeds: int
    cells: tuple[Cell, ...]

    def trials(self, profile: str = "full") -> Iterator[tuple[dict[str, Any], Trial]]:
        """(labels, trial) of all cells with the first seed, then the second ...: what is cut short is balanced."""
        quick = check_choice("profile", profile, ("full", "quick")) == "quick"
        for seed in range(1 if quick else self.seeds):
            for entry in self.cells:
                yield entry.labels | {"seed": seed}, entry.trial(seed, quick)


def _compared(scenario: Scenario, rules: tuple[str, ...], labels: dict[str, Any] | None = None) -> list[Cell]:
    return [cell(name, scenario, labels) for name in (*LEARNED, *rules)]


FITTED, BALANCED, PRINTED = (load_scenario(name) for name in ("fitted", "balanced", "table-iii"))
DEVICES = (20, 30, 40, 50, 60)
CAPACITIES = (0.5, 1.0, 1.5)
SIZES = {"A": (2e6, 4e6), "B": (5e6, 8e6)}
ARRIVALS = (0.2, 0.4, 0.6, 0.8, 1.0)
RATES = ((1e-3, 1e-3), (1e-3, 1e-4), (1e-4, 1e-3), (1e-4, 1e-4), (1e-2, 1e-2))
BATCHES, DISCOUNTS = (
    (60, 120, 300, 1000),
    (0.0, 0.5, 0.9, 0.99),
)  # whole sequences of 10; 60 is nearest to the paper's 64


def _table_iv() -> list[Cell]:
    return [entry for scenario in (FITTED, BALANCED, PRINTED) for entry in _compared(scenario, (*POLICIES, BOUND))]


def _figure_8() -> list[Cell]:
    return [
        entry
        for scenario in (FITTED, BALANCED)
        for devices in DEVICES
        for entry in _compared(scenario.replace(devices=devices), RIVALS, {"devices": devices})
    ]


def _figure_9() -> list[Cell]:
    cells = []
    for scenario in (FITTED, BALANCED):
        for factor in CAPACITIES:
            low, high = scenario.server_frequency
            changed = scenario.replace(server_frequency=(factor * low, factor * high))
            cells += _compared(changed, RIVALS, {"capacity": factor})
    return cells


def _figure_4() -> list[Cell]:
    return [
        cell(method, changed, {"kind": kind, "tasks": round(100 * arrivals)})
        for kind, size in SIZES.items()
        for arrivals in ARRIVALS
        for changed in [FITTED.replace(task_kinds=(TaskKind(kind, size),), arrival_probability=arrivals)]
        for method in ("toppo", "random", "always-local", "threshold-power-of-two")
    ]


VARIANTS: dict[str, tuple[str, dict[str, Any]]] = {
    "TOPPO": ("toppo", {}),
    "no clipping": ("toppo", {"clip_range": 1e6}),
    "no step limit": ("toppo", {"target_kl": None}),
    "neither": ("toppo", {"clip_range": 1e6, "target_kl": None}),
    "entropy bonus": ("toppo", {"ent_coef": 0.01}),
    "no memory (PPO)": ("ppo", {}),
    "four observations (PPO)": ("ppo-stacked", {}),
    "Transformer": ("toppo-transformer", {}),
}
"""TOPPO less one of its parts, or with another in its place."""

_JUDGED = ("toppo", "dqn", "a2c", "always-local", "frugal", "threshold-power-of-two")
_MEASURES = ("delay_mean", "energy_mean", "load_mean", "edge_service", "cost_units", "cost_load")
"""Readings that change no decision and need no training, or that need another simulator."""


def _readings() -> list[Cell]:
    cells = [cell(method, FITTED, {"reading": "as chosen", "value": ""}) for method in _JUDGED]
    for name, values in READINGS.items():
        for value in values:
            if value != getattr(FITTED.readings, name) and name not in _MEASURES:
                changes = {"workload_range": (200.0, 300.0)} if value == "per_bit" else {}
                if value == "per_bit":
                    changes["workload_scale"] = FITTED.workload_scale * 2.5e9 / 6e6 / 250.0
                changed = FITTED.replace(**{name: value}, **changes)
                cells += [cell(method, changed, {"reading": name, "value": value}) for method in _JUDGED]
    return cells


EXPERIMENTS: dict[str, Experiment] = {
    "table_iv": Experiment("Which method is best, and by how much?", 10, tuple(_table_iv())),
    "figure_8": Experiment("Does it stay so with more devices?", 5, tuple(_figure_8())),
    "figure_9": Experiment("Does it stay so with slower and faster servers?", 5, tuple(_figure_9())),
    "figure_3a": Experiment(
        "Which learning rates?",
        5,
        tuple(
            cell("toppo", FITTED, {"actor": actor, "critic": critic}, learning_rate=actor, critic_learning_rate=critic)
            for actor, critic in RATES
        ),
    ),
    "figure_3b": Experiment(
        "Which batch size?", 5, tuple(cell("toppo", FITTED, {"batch_size": n}, batch_size=n) for n in BATCHES)
    ),
    "figure_3c": Experiment(
        "Which discount factor?", 5, tuple(cell("toppo", FITTED, {"gamma": g}, gamma=g) for g in DISCOUNTS)
    ),
    "figure_4": Experiment("What do more tasks, and larger ones, do?", 5, tuple(_figure_4())),
    "figure_5": Experiment("How fast does each method learn?", 10, tuple(cell(name, FITTED) for name in LEARNED)),
    "figure_6": Experiment(
        "How do energy, delay and drops fall while learning?", 10, tuple(cell(name, FITTED) for name in LEARNED)
    ),
    "figure_7": Experiment(
        "How busy is each device, early and late?",
        10,
        tuple(
            cell("toppo", FITTED, {"stage": stage}, episodes=episodes)
            for stage, episodes in {"early": 1, "late": TRAINING}.items()
        ),
    ),
    "ablation": Experiment(
        "Which part of TOPPO does the work?",
        10,
        tuple(
            cell(method, scenario, {"variant": variant}, **changes)
            for scenario in (BALANCED, FITTED)
            for variant, (method, changes) in VARIANTS.items()
        ),
    ),
    "readings": Experiment("Do the conclusions hang on what was read into the paper?", 3, tuple(_readings())),
}
"""Everything in `results/` that is trained or simulated, in the order of its importance."""
