"""What an experiment is made of: trials, which can be computed each on its own, and cells, trials without a seed."""

import hashlib
import json
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from functools import cached_property, lru_cache
from typing import Any

import numpy as np

from aiecof.agents.methods import METHODS
from aiecof.checks import check_choice
from aiecof.study.grids import BOUND, EVALUATION, QUICK_EVALUATION, QUICK_TRAINING, TRAINING
from aiecof.study.lower_bound import lower_bound
from aiecof.system.scenario import Scenario, load_scenario
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
    trained : Scenario, optional
        Where it was trained, if it plays elsewhere.
    """

    method: str
    scenario: Scenario
    seed: int
    episodes: int = 0
    evaluation: int = EVALUATION
    changes: dict[str, Any] = field(default_factory=dict)
    streams: str = "batch"
    trained: Scenario | None = None

    @property
    def source(self) -> "Trial | None":
        """The trial whose training this one plays elsewhere."""
        return self.trained and replace(self, scenario=self.trained, trained=None)

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
        own |= {"trained": self.source.fingerprint} if self.source else {}
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
    trained: Scenario | None = None

    def trial(self, seed: int, quick: bool = False, streams: str = "batch") -> Trial:
        """With a seed; the quick one is trained and judged on a few episodes."""
        episodes = min(self.episodes, QUICK_TRAINING) if quick else self.episodes
        judged = QUICK_EVALUATION if quick else EVALUATION
        return Trial(self.method, self.scenario, seed, episodes, judged, self.changes, streams, self.trained)


def cell(
    method: str,
    scenario: Scenario,
    labels: dict[str, Any] | None = None,
    episodes: int = TRAINING,
    trained: Scenario | None = None,
    **changes: Any,
) -> Cell:
    """A cell labelled with method and scenario, and more."""
    named = {"scenario": scenario.name, "method": method} | (labels or {})
    return Cell(named, method, scenario, episodes if method in METHODS else 0, changes, trained)


@dataclass(frozen=True)
class Experiment:
    """A table or figure of the paper, or a question of ours.

    seeds : int
        Networks 0 .. seeds - 1, each with its own training and held-out traces.
    planned : bool
        Whether it belongs to the plan of the second look: a learned method is judged by sampled actions, not by those
        that count for its family, and every held-out episode has a random stream of its own.
    quick : int or None
        How many of its cells the quick profile has, the first ones; None: all.
    """

    question: str
    seeds: int
    cells: tuple[Cell, ...]
    planned: bool = False
    quick: int | None = None

    def trials(self, profile: str = "full") -> Iterator[tuple[dict[str, Any], Trial]]:
        """(labels, trial) of all cells with the first seed, then the second ...: what is cut short is balanced."""
        quick = check_choice("profile", profile, ("full", "quick")) == "quick"
        for seed in range(1 if quick else self.seeds):
            for entry in self.cells[: self.quick if quick else None]:
                yield entry.labels | {"seed": seed}, entry.trial(seed, quick, "episode" if self.planned else "batch")
