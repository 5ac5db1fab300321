"""What the paper claims of its results: place, statement, and the test that decides it (`aiecof.verdicts`).

From the abstract, the contributions of Section I, Section V and the conclusion. Left out is what the paper itself puts
to no test (that doing without a cloud saves time), and the level of the reward, whose weights are not printed (R19).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import cache, partial
from pathlib import Path

from aiecof.experiments import ARRIVALS, BATCHES, CAPACITIES, DEVICES, DISCOUNTS, LEARNED, RATES
from aiecof.runner import RESULTS, read_table
from aiecof.verdicts import (
    IMBALANCE,
    NO_RESULTS,
    PRINTED_NAMES,
    TOPPO,
    VERDICTS,
    Decision,
    NoResults,
    Read,
    Where,
    better,
    converged_by,
    grows,
    level,
    saves,
    unchanged,
)


@dataclass(frozen=True)
class Claim:
    """One claim of the paper.

    place : str
        Where it stands.
    statement : str
        What it says, in our words; where nothing else is named, of TOPPO.
    decide : callable
        A test of `aiecof.verdicts` with its parameters: what reads `results/` -> (verdict, evidence).
    """

    name: str
    place: str
    statement: str
    decide: Callable[[Read], Decision]


@dataclass(frozen=True)
class Verdict:
    """What became of a claim: one of `VERDICTS`, and the numbers behind it in one sentence."""

    claim: Claim
    verdict: str
    evidence: str

    @property
    def row(self) -> dict[str, str]:
        """Name, place, statement, verdict and evidence."""
        claim = {name: getattr(self.claim, name) for name in ("name", "place", "statement")}
        return claim | {"verdict": self.verdict, "evidence": self.evidence}


PERCENTAGES: dict[str, dict[str, float]] = {
    "reward": dict(zip(LEARNED[1:], (8.36, 12.08, 8.43, 19.97, 11.61, 8.82), strict=True)),
    "energy": {"round-robin": 74.57, "random": 76.10}
    | {"dqn": 29.94, "double-dqn": 17.73, "dueling-dqn": 12.14, "ac": 4.56, "a2c": 4.64},
    "delay": {"round-robin": 66.11, "random": 68.09}
    | {"dqn": 21.48, "double-dqn": 10.91, "dueling-dqn": 7.09, "ac": 4.84, "a2c": 3.96},
}
"""Metric -> rival -> TOPPO's advantage in percent, as the text of Section V-C states it."""
_COMPARATIVES = {"reward": "higher", "energy": "lower", "delay": "shorter"}
_ALSO_IN_SECTION_I = ("energy-round-robin", "delay-round-robin")
KINDS, GROWING = ("A", "B"), {"delay": "mean delay", "drop_rate": "failure rate"}

STATEMENTS: dict[str, tuple[str, str]] = {
    "improvement": ("Abstract", "Delay, energy and load are all better than under the eight other methods."),
    "stability": ("Abstract; Section I", "Clipping and a limited step make the training steadier."),
    "memory": ("Abstract; Section I", "The LSTM helps: the reward is higher than without a memory."),
    "clipping": ("Section I", "Clipping by itself makes the training steadier."),
    "temporal-features": ("Section I", "The LSTM does better than a network that is shown four observations."),
    "utilisation-gain": ("Section I", "The devices' processors are used about 85 % more after training than before."),
    "reward-range": ("Section I", "Over six learned methods the reward is 8.36 to 19.97 % higher."),
    "reward-learned": ("Section I", "The reward is higher than under each of the six other learned methods."),
    "load-spread": ("Section I", "The load is spread over the devices more evenly than by the six learned methods."),
    "actor-rate": ("Fig. 3(a)", "With 1e-3 for the actor, and 1e-3 or 1e-4 for the critic, the reward is highest."),
    "critic-rate": ("Fig. 3(a)", "With 1e-3 for the actor, a critic at 1e-3 learns faster than one at 1e-4."),
    "rate-high": ("Section V-B", "Too high a learning rate, 1e-2 against 1e-3, makes the training unsteady."),
    "rate-low": ("Section V-B", "Too low a learning rate, 1e-4 against 1e-3, makes the training slow."),
    "batch-best": ("Fig. 3(b)", f"With a batch of 64 (here {BATCHES[0]}) the reward is highest."),
    "batch-large": ("Section V-B", f"Larger batches make the training steadier: {BATCHES[-1]} against {BATCHES[0]}."),
    "batch-small": ("Section V-B", f"Smaller batches learn faster: {BATCHES[0]} against {BATCHES[-1]}."),
    "gamma-0-fast": ("Fig. 3(c)", "With gamma at 0 the training converges sooner than at 0.9."),
    "gamma-0-low": ("Fig. 3(c)", "With gamma at 0 the reward ends lower than at 0.5, 0.9 or 0.99."),
    "gamma-best": ("Fig. 3(c)", "With gamma at 0.9 the reward is highest."),
    "gamma-0.99-slow": ("Fig. 3(c)", "With gamma at 0.99 the training is slower at first than at 0.9."),
    **{
        f"{metric}-grows-{kind}": ("Fig. 4", f"The {words} of tasks of kind {kind} grows with their number.")
        for metric, words in GROWING.items()
        for kind in KINDS
    },
    "learning-pays": ("Section V-C", "Every learned method earns more than Round-Robin and Random."),
    "reward-best": ("Fig. 5", "The reward is higher than under the eight other methods."),
    "reward-untrained": ("Sections V-C, VI", "The reward is about 100 % higher than under Round-Robin and Random."),
    **{
        f"{metric}-{rival}": (
            "Sections I, V-C" if f"{metric}-{rival}" in _ALSO_IN_SECTION_I else "Section V-C",
            f"The {metric} is {percent:g} % {_COMPARATIVES[metric]} than under {PRINTED_NAMES[rival]}.",
        )
        for metric, percents in PERCENTAGES.items()
        for rival, percent in percents.items()
    },
    "near-optimal": ("Section V-C", "The training is near-optimal after 40 episodes."),
    "converges-first": ("Section V-C", "The training converges sooner than that of the six other learned methods."),
    "actor-critic-slow": ("Section V-C", "AC and A2C converge later."),
    "actor-critic-unsteady": ("Section V-C", "AC and A2C are less steady early in their training."),
    "energy-lowest": ("Fig. 6(a)", "The energy is lower than under the eight other methods."),
    "delay-shortest": ("Fig. 6(b)", "The delay is shorter than under the eight other methods."),
    "failures-fewest": ("Fig. 6(c)", "Fewer tasks fail than under the eight other methods."),
    "level-delay": ("Table IV", "The mean delay is 0.265."),
    "level-energy": ("Table IV", "The mean energy is 984.17."),
    "level-drops": ("Table IV", "6.3 % of the tasks fail."),
    "level-load": ("Table IV", "The mean load is 0.7925."),
    "utilisation-early": ("Fig. 7(a)", "Early in the training the devices' processors are used to 42.57 %."),
    "utilisation-late": ("Fig. 7(b)", "Late in the training the devices' processors are used to 79.25 %."),
    "local-tasks": ("Section V-C", "Early in the training fewer tasks run on their device than later."),
    "devices-few": ("Fig. 8", "With 20 devices AC and A2C earn more."),
    "devices-many": ("Fig. 8", "From 30 devices on the reward is higher than under the eight other methods."),
    "capacity-best": ("Fig. 9", "Energy, delay, load and success are best, however fast the servers are."),
    "capacity-flat": ("Fig. 9", "How fast the servers are hardly changes them."),
    "energy-most": ("Section VI", "Over six learned methods up to 43.56 % of the energy is saved."),
    "delay-most": ("Section VI", "Over six learned methods the delay is up to 33.9 % shorter."),
    "reward-least": ("Section VI", "Over six learned methods the reward is at least 8.36 % higher."),
    "memory-everywhere": ("Section VI", "The LSTM makes energy, delay and load all better."),
    "devices-more": ("Section VI", "As the tasks become more, with 40 to 60 devices, the reward stays the highest."),
    "transformer": ("Section VI", "With a Transformer for the LSTM the reward is higher still."),
}
"""Name -> place and statement of each claim."""


def _methods(*names: str) -> tuple[Where, ...]:
    return tuple({"method": name} for name in names)


def _along(column: str, values: Iterable[float]) -> tuple[Where, ...]:
    return tuple({column: value} for value in values)


RIVALS, UNTRAINED = LEARNED[1:], ("round-robin", "random")
OTHERS, LEARNED_RIVALS = _methods(*UNTRAINED, *RIVALS), _methods(*RIVALS)
REWARD, SOON, STEADY = ("reward",), ("episodes to near-optimal",), ("roughness",)
MEASURED = ("energy", "delay", "load", "success_rate")
TASKS = tuple(round(100 * probability) for probability in ARRIVALS)
ABOUT = 2.5
"""Points that "about" leaves open: rounding to the nearest five."""
FAST, SLOW_CRITIC, *OTHER_RATES = ({"actor": actor, "critic": critic} for actor, critic in RATES)
LOW, HIGH = {"actor": 1e-4, "critic": 1e-4}, {"actor": 1e-2, "critic": 1e-2}
FEW, MANY = {"batch_size": BATCHES[0]}, {"batch_size": BATCHES[-1]}
MYOPIC, FAR, FARTHEST = {"gamma": 0.0}, {"gamma": 0.9}, {"gamma": 0.99}

_beats = partial(better, winners=(TOPPO,))
_whole = partial(better, table="ablation.csv", winners=({"variant": "TOPPO"},))
_late = partial(better, table="figure_7.csv", winners=({"stage": "late"},), losers=({"stage": "early"},))
_rates = partial(better, table="figure_3a.csv")
_batches = partial(better, table="figure_3b.csv", winners=(FEW,))
_gammas = partial(better, table="figure_3c.csv")
_devices = partial(better, table="figure_8.csv", metrics=REWARD)

TESTS: dict[str, Callable[[Read], Decision]] = {
    "improvement": partial(_beats, metrics=("delay", "energy", "load"), losers=OTHERS),
    "stability": partial(_whole, metrics=STEADY, losers=({"variant": "neither"},)),
    "memory": partial(_whole, metrics=REWARD, losers=({"variant": "no memory (PPO)"},)),
    "clipping": partial(_whole, metrics=STEADY, losers=({"variant": "no clipping"},)),
    "temporal-features": partial(_whole, metrics=REWARD, losers=({"variant": "four observations (PPO)"},)),
    "utilisation-gain": partial(_late, metrics=("load",), printed=(85.0, 85.0)),
    "reward-range": partial(saves, metric="reward", rivals=RIVALS, printed=(8.36, 19.97)),
    "reward-learned": partial(_beats, metrics=REWARD, losers=LEARNED_RIVALS),
    "load-spread": partial(_beats, metrics=(IMBALANCE,), losers=LEARNED_RIVALS),
    "actor-rate": partial(_rates, metrics=REWARD, winners=(FAST, SLOW_CRITIC), losers=tuple(OTHER_RATES)),
    "critic-rate": partial(_rates, metrics=SOON, winners=(FAST,), losers=(SLOW_CRITIC,)),
    "rate-high": partial(_rates, metrics=STEADY, winners=(FAST,), losers=(HIGH,)),
    "rate-low": partial(_rates, metrics=SOON, winners=(FAST,), losers=(LOW,)),
    "batch-best": partial(_batches, metrics=REWARD, losers=_along("batch_size", BATCHES[1:])),
    "batch-large": partial(_batches, metrics=STEADY, winners=(MANY,), losers=(FEW,)),
    "batch-small": partial(_batches, metrics=SOON, losers=(MANY,)),
    "gamma-0-fast": partial(_gammas, metrics=SOON, winners=(MYOPIC,), losers=(FAR,)),
    "gamma-0-low": partial(_gammas, metrics=REWARD, winners=_along("gamma", DISCOUNTS[1:]), losers=(MYOPIC,)),
    "gamma-best": partial(_gammas, metrics=REWARD, winners=(FAR,), losers=_along("gamma", (0.0, 0.5, 0.99))),
    "gamma-0.99-slow": partial(_gammas, metrics=SOON, winners=(FAR,), losers=(FARTHEST,)),
    **{
        f"{metric}-grows-{kind}": partial(
            grows, metric=metric, table="figure_4.csv", where=TOPPO | {"kind": kind}, along="tasks", values=TASKS
        )
        for metric in GROWING
        for kind in KINDS
    },
    "learning-pays": partial(better, metrics=REWARD, winners=_methods(*LEARNED), losers=_methods(*UNTRAINED)),
    "reward-best": partial(_beats, metrics=REWARD, losers=OTHERS),
    "reward-untrained": partial(saves, metric="reward", rivals=UNTRAINED, printed=(100.0, 100.0), tolerance=ABOUT),
    **{
        f"{metric}-{rival}": partial(saves, metric=metric, rivals=(rival,), printed=(percent, percent))
        for metric, percents in PERCENTAGES.items()
        for rival, percent in percents.items()
    },
    "near-optimal": partial(converged_by, episodes=40),
    "converges-first": partial(_beats, metrics=SOON, losers=LEARNED_RIVALS),
    "actor-critic-slow": partial(_beats, metrics=SOON, losers=_methods("ac", "a2c")),
    "actor-critic-unsteady": partial(_beats, metrics=("early roughness",), losers=_methods("ac", "a2c")),
    "energy-lowest": partial(_beats, metrics=("energy",), losers=OTHERS),
    "delay-shortest": partial(_beats, metrics=("delay",), losers=OTHERS),
    "failures-fewest": partial(_beats, metrics=("drop_rate",), losers=OTHERS),
    "level-delay": partial(level, metric="delay"),
    "level-energy": partial(level, metric="energy"),
    "level-drops": partial(level, metric="drop_rate"),
    "level-load": partial(level, metric="load"),
    "utilisation-early": partial(level, metric="load", value=0.4257, where={"stage": "early"}, table="figure_7.csv"),
    "utilisation-late": partial(level, metric="load", value=0.7925, where={"stage": "late"}, table="figure_7.csv"),
    "local-tasks": partial(_late, metrics=("local_share",)),
    "devices-few": partial(_devices, winners=_methods("ac", "a2c"), losers=(TOPPO,), at=_along("devices", [20])),
    "devices-many": partial(_devices, winners=(TOPPO,), losers=OTHERS, at=_along("devices", DEVICES[1:])),
    "capacity-best": partial(
        _beats, metrics=MEASURED, losers=OTHERS, table="figure_9.csv", at=_along("capacity", CAPACITIES)
    ),
    "capacity-flat": partial(unchanged, metrics=MEASURED, table="figure_9.csv", along="capacity", values=CAPACITIES),
    "energy-most": partial(saves, metric="energy", rivals=RIVALS, printed=(None, 43.56)),
    "delay-most": partial(saves, metric="delay", rivals=RIVALS, printed=(None, 33.9)),
    "reward-least": partial(saves, metric="reward", rivals=RIVALS, printed=(8.36, None)),
    "memory-everywhere": partial(_whole, metrics=("delay", "energy", "load"), losers=({"variant": "no memory (PPO)"},)),
    "devices-more": partial(_devices, winners=(TOPPO,), losers=OTHERS, at=_along("devices", DEVICES[2:])),
    "transformer": partial(
        _whole, metrics=REWARD, winners=({"variant": "Transformer"},), losers=({"variant": "TOPPO"},)
    ),
}
"""Name -> the test that decides the claim."""

CLAIMS = tuple(Claim(name, *STATEMENTS[name], TESTS[name]) for name in STATEMENTS)


def decide(claim: Claim, read: Read) -> Verdict:
    """The verdict on one claim."""
    try:
        return Verdict(claim, *claim.decide(read))
    except NoResults as missing:
        return Verdict(claim, NO_RESULTS, str(missing))


def claims(results: Path = RESULTS) -> list[Verdict]:
    """The verdict on every claim, in the paper's order, from the tables in a folder."""
    read = cache(lambda name: read_table(name, results))
    return [decide(claim, read) for claim in CLAIMS]


def count(verdicts: Iterable[Verdict]) -> dict[str, int]:
    """How many claims got each of `VERDICTS`, zeros included."""
    counted = Counter(entry.verdict for entry in verdicts)
    return {verdict: counted[verdict] for verdict in VERDICTS}
