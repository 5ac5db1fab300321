"""The experiments, declared as data: which method meets which scenario with which seeds.

Experiments share trials (`trials`), so Table IV, its curves (Figs. 5, 6) and the middle points of the sweeps are
computed once.
"""

import json
from collections.abc import Iterable
from dataclasses import replace
from itertools import product
from typing import Any

import pandas as pd

from aiecof.agents.methods import METHODS
from aiecof.agents.rules import COORDINATED, POLICIES
from aiecof.checks import check_calls, check_choice
from aiecof.files import results_folder
from aiecof.study import grids
from aiecof.study.beyond import beyond
from aiecof.study.grids import BOUND, LEARNED, TRAINING
from aiecof.study.store import Declared, Player, read_table
from aiecof.study.trials import Cell, Experiment, Trial, cell
from aiecof.system.scenario import READINGS, Scenario, TaskKind, Weights, load_scenario


def network(name: str, arm: str = "", **changes: Any) -> Scenario:
    """A named network with some changes, under an arm if there is one.

    The printed reward comes with equal weights, which the paper gives no values.
    """
    if not arm:
        return load_scenario(name, **changes)
    weights = {} if arm == "mended" else {"weights": Weights()}
    return load_scenario(name, **grids.ARMS[arm], **weights).replace(**changes)


def printed_values(method: str) -> dict[str, Any]:
    """The printed hyperparameters that a method has."""
    known = METHODS[method].hyperparameters if method in METHODS else ()
    return {name: value for name, value in grids.PRINTED_VALUES.items() if name in known}


def _cell(arm: str, method: str, scenario: Scenario, labels: dict[str, Any], episodes=TRAINING, **changes) -> Cell:
    """A cell with the registry's hyperparameters, or on an arm with the printed ones, the coin with its share."""
    if not arm:
        return cell(method, scenario, labels, episodes, **changes)
    coin = {"local_probability": grids.COIN} if method == "mixture-random" else {}
    return cell(method, scenario, labels, episodes, **printed_values(method) | coin | changes)


def _marked(cells: Iterable[Cell]) -> list[Cell]:
    """The same cells, each labelled with what the method knows of its network."""
    learned = dict.fromkeys(METHODS, "its observation")
    known = learned | {name: entry.information for name, entry in POLICIES.items()} | grids.KNOWS
    return [replace(entry, labels=entry.labels | {"knows": known[entry.method]}) for entry in cells]


def _compared(scenario: Scenario, rules: Iterable[str], labels: dict[str, Any] | None = None, arm="") -> list[Cell]:
    learners = (*LEARNED, *(name for name, method in METHODS.items() if method.added))
    return [_cell(arm, name, scenario, labels or {}) for name in (*learners, *rules)]


def _sweep_rules(arm: str = "") -> list[str]:
    added = (name for name, entry in POLICIES.items() if entry.added)
    return [*grids.SWEEP_RULES, *(("mixture-random",) if arm else ()), *added]


def _table_iv() -> list[Cell]:
    scenarios = [load_scenario(name) for name in ("fitted", "balanced", "table-iii")]
    return [entry for scenario in scenarios for entry in _compared(scenario, (*POLICIES, BOUND))]


def _figure_3(part: str, names: Iterable[str] = ("fitted",), arm: str = "") -> list[Cell]:
    """TOPPO with other values of a hyperparameter: labels beside what they change."""
    rates = [{"actor": actor, "critic": critic} for actor, critic in grids.RATES]
    batches = grids.SMALL_BATCHES if arm else grids.BATCHES
    labels, renamed = {
        "a": (rates, {"actor": "learning_rate", "critic": "critic_learning_rate"}),
        "b": ([{"batch_size": size} for size in batches], {}),
        "c": ([{"gamma": gamma} for gamma in grids.DISCOUNTS], {}),
    }[part]
    return [
        _cell(arm, "toppo", network(name, arm), mark, **{renamed.get(key, key): value for key, value in mark.items()})
        for name in names
        for mark in labels
    ]


def _figure_4(names: Iterable[str] = ("fitted",), arm: str = "") -> list[Cell]:
    rules = ("random", "always-local", "threshold-power-of-two", *(("mixture-random",) if arm else ()))
    cells = []
    for name, (kind, size) in product(names, grids.SIZES.items()):
        for arrivals in grids.ARRIVALS[:: 2 if arm else 1]:
            changed = network(name, arm, task_kinds=(TaskKind(kind, size),), arrival_probability=arrivals)
            labels = {"kind": kind, "tasks": round(100 * arrivals)}
            cells += [_cell(arm, method, changed, labels) for method in ("toppo", *rules)]
    return cells


def _figure_7(names: Iterable[str] = ("fitted",), arm: str = "") -> list[Cell]:
    stages = {"early": 1, "late": TRAINING}
    return [_cell(arm, "toppo", network(name, arm), {"stage": s}, n) for name in names for s, n in stages.items()]


def _figure_8(names: Iterable[str] = ("fitted", "balanced"), arm: str = "") -> list[Cell]:
    counts = grids.FEW_DEVICES if arm else grids.DEVICES
    return [
        entry
        for name, devices in product(names, counts)
        for entry in _compared(network(name, arm, devices=devices), _sweep_rules(arm), {"devices": devices}, arm)
    ]


def _figure_9(names: Iterable[str] = ("fitted", "balanced"), arm: str = "") -> list[Cell]:
    cells = []
    for scenario, factor in product([network(name, arm) for name in names], grids.CAPACITIES):
        low, high = scenario.server_frequency
        changed = scenario.replace(server_frequency=(factor * low, factor * high))
        cells += _compared(changed, _sweep_rules(arm), {"capacity": factor}, arm)
    return cells


def _one_server(names: Iterable[str], arm: str) -> list[Cell]:
    """Fig. 9 with one server slower or faster than the others; fewer methods than with all of them."""
    judged = (*grids.JUDGED, "mixture-random")
    return [
        _cell(arm, method, network(name, arm, first_server_scale=factor), {"capacity": factor})
        for name, factor in product(names, grids.CAPACITIES)
        for method in judged
    ]


def _ablation(names: Iterable[str] = ("balanced", "fitted"), arm: str = "") -> list[Cell]:
    return [
        _cell(arm, method, network(name, arm), {"variant": variant}, **changes)
        for name in names
        for variant, (method, changes) in grids.VARIANTS.items()
    ]


def _readings(names: Iterable[str] = ("fitted",), arm: str = "") -> list[Cell]:
    judged, cells = (*grids.JUDGED, *(("mixture-random",) if arm else ())), []
    for chosen in (network(name, arm) for name in names):
        cells += [_cell(arm, method, chosen, {"reading": "as chosen", "value": ""}) for method in judged]
        for name, value in ((name, value) for name, values in READINGS.items() for value in values):
            left_out = name in grids.UNPLAYED or (name, value) in grids.UNPLAYED_VALUES
            if value == getattr(chosen.readings, name) or left_out:
                continue
            changes: dict[str, Any] = {name: value}
            if value == "per_bit":  # the same work for a task of middle size
                work, size = sum(chosen.workload_range) / 2, sum(chosen.task_kinds[0].size) / 2
                scale = chosen.workload_scale * work / size / 250.0
                changes |= {"workload_range": (200.0, 300.0), "workload_scale": scale}
            changed = chosen.replace(**changes)
            cells += [_cell(arm, method, changed, {"reading": name, "value": value}) for method in judged]
    return cells


def _arm(arm: str) -> list[Cell]:
    cells, labels = [], {"arm": arm, "share": ""}
    for scenario in (network(name, arm) for name in grids.REPRESENTATIVES):
        cells += [_cell(arm, name, scenario, labels) for name in LEARNED]
        bound = [BOUND] if arm == "printed" else []  # it knows no reward: one arm is enough
        cells += [cell(name, scenario, labels) for name in (*POLICIES, *bound)]
        coins = [(labels | {"share": share}, share) for share in grids.COINS]
        cells += [cell("mixture-random", scenario, mark, local_probability=share) for mark, share in coins]
    return cells


def _memory() -> list[Cell]:
    return [
        _cell(arm, method, network(name, arm), {"arm": arm})
        for arm in grids.MEMORY_ARMS
        for name in grids.REPRESENTATIVES
        for method in ("toppo", *grids.MEMORIES)
    ]


def _networks_of_toppo(column: str, values: dict[str, dict[str, Any]], arms: Iterable[str]) -> list[Cell]:
    """TOPPO with its network built otherwise: value of a column -> changes of the network; early and late in training.

    Early is after one episode, as in Fig. 7(a).
    """
    return [
        _cell(arm, "toppo", network(name, arm), {"arm": arm, column: value, "stage": stage}, episodes, **changes)
        for arm, name in product(arms, grids.REPRESENTATIVES)
        for stage, episodes in (("early", 1), ("late", TRAINING))
        for value, kwargs in values.items()
        for changes in ({"policy_kwargs": kwargs} if kwargs else {},)
    ]


def _unseen() -> list[Cell]:
    scenarios = [network(name, "printed", network="episode") for name in grids.REPRESENTATIVES]
    rules = _sweep_rules("printed")
    return _marked(entry for scenario in scenarios for entry in _compared(scenario, rules, arm="printed"))


def tuned_values(found: pd.DataFrame) -> dict[str, dict[str, Any]]:
    """The best configurations of a search: what they were judged by, "reward", "cost" or both -> their values.

    found : DataFrame
        Rows of `grids.SEARCH` of one method on one network; the best are among those that were not stopped.
    """
    whole, best = found[~found["stopped"].astype(bool)], {}
    for judge, place in {"reward": whole["reward"].idxmax(), "cost": whole["cost"].idxmin()}.items():
        best.setdefault(whole.loc[place, "values"], []).append(judge)
    return {" and ".join(judges): json.loads(values) for values, judges in best.items()}


def _tuned() -> list[Cell]:
    """The rules, and each method as the search that is in the results found it best; before it, the rules alone."""
    table, cells = read_table(grids.SEARCH, results_folder()), []
    for name, arm in grids.SEARCHED:
        scenario = network(name, arm)
        for method in LEARNED if len(table) else ():
            rows = table[(table["scenario"] == name) & (table["method"] == method)]
            for judge, values in tuned_values(rows).items() if len(rows) else ():
                cells.append(cell(method, scenario, {"tuned_for": judge}, **values))
        cells += [_cell("printed", rule, scenario, {"tuned_for": ""}) for rule in _sweep_rules("printed")]
    return _marked(cells)


def _planned() -> dict[str, Experiment]:
    """The experiments of the plan, in its order; of the sweeps the quick profile has one cell each."""
    arms = {f"arm_{arm}": (f"Who wins on the arm {arm}?", 10, _arm(arm)) for arm in grids.ARMS}
    whole = {"memory": ("Does a memory help, and why?", 10, _memory())} | arms
    networks = grids.REPRESENTATIVES, "printed"
    sweeps = {
        "tuned": ("Who wins after the same search for everyone?", _tuned()),
        "unseen": ("Who wins on networks that no training saw?", _unseen()),
        "heads": ("One choice among all places, or to leave and then where?", _networks_of_toppo(*grids.HEADS)),
        "carried": (
            "Is the memory carried, or does it begin anew at each decision?",
            _networks_of_toppo(*grids.CARRIED),
        ),
        "printed_figure_8": ("As figure_8, with the printed reward?", _marked(_figure_8(*networks))),
        "printed_figure_9": ("As figure_9, with the printed reward?", _marked(_figure_9(*networks))),
        "printed_figure_9_one": ("And with one server changed instead of all?", _marked(_one_server(*networks))),
        "printed_figure_3a": ("As figure_3a, with the printed reward?", _figure_3("a", *networks)),
        "printed_figure_3b": ("As figure_3b, and are small batches unsteady?", _figure_3("b", *networks)),
        "printed_figure_3c": ("As figure_3c, with the printed reward?", _figure_3("c", *networks)),
        "printed_figure_7": ("As figure_7, with the printed reward?", _figure_7(*networks)),
        "printed_ablation": ("As ablation, with the printed reward?", _ablation(*networks)),
        "printed_figure_4": ("As figure_4, with the printed reward?", _marked(_figure_4(*networks))),
        "printed_readings": ("As readings, with the printed reward?", _marked(_readings(*networks))),
    }
    found = {name: Experiment(question, seeds, tuple(cells), True) for name, (question, seeds, cells) in whole.items()}
    few = {name: Experiment(question, 5, tuple(cells), True, 1) for name, (question, cells) in sweeps.items()}
    further = {name: replace(entry, cells=tuple(_marked(entry.cells))) for name, entry in beyond().items()}
    return found | few | further


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
    }
    return {name: Experiment(q, seeds, tuple(cells)) for name, (q, seeds, cells) in found.items()} | _planned()


def experiment(name: str) -> Experiment:
    """The experiment called `name`."""
    found = experiments()
    return found[check_choice("experiment", name, tuple(found))]


def trials_of(
    names: Iterable[str], profile: str = "full", own: dict[str, Experiment] | None = None
) -> dict[str, Trial]:
    """Name -> trial of some experiments, each once, all first seeds first; `own` stands in for those of the package."""
    declared = own or experiments()
    chosen = [declared[check_choice("experiment", name, tuple(declared))] for name in names]
    found = {trial.fingerprint: trial for entry in chosen for _, trial in entry.trials(profile)}
    return dict(sorted(found.items(), key=lambda item: item[1].seed))


def declarations(profile: str = "full", own: dict[str, Experiment] | None = None) -> dict[str, Declared]:
    """What the manifest keeps of the experiments; `own` stands in for those of the package."""
    found = {}
    for name, entry in (own or experiments()).items():
        trials: dict[int, list[str]] = {}
        for _, trial in entry.trials(profile):
            trials.setdefault(trial.seed, []).append(trial.fingerprint)
        found[name] = Declared(entry.question, len(trials), len(trials[0]), trials)
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


check_calls(globals())
