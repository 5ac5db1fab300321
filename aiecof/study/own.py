"""An experiment of your own, from a JSON file: which methods meet which scenarios, and with how many seeds."""

from pathlib import Path
from typing import Any

from aiecof.agents.methods import METHODS, method
from aiecof.agents.rules import POLICIES, make_policy
from aiecof.checks import InvalidInput, check_choice, check_integer, check_kind, checked, did_you_mean
from aiecof.files import read_json
from aiecof.study.grids import BOUND, TRAINING
from aiecof.study.store import manifest
from aiecof.study.trials import Cell, Experiment, cell
from aiecof.system.scenario import Scenario, load_scenario

KEYS = {"name": str, "question": str, "methods": list, "scenarios": list, "seeds": int, "episodes": int}
"""What the file may hold; `methods` and `scenarios` it must."""
MOST_SEEDS, MOST_EPISODES = 1_000, 100_000


@checked
def read_experiment(path: Path) -> dict[str, Experiment]:
    """Name -> experiment of a JSON file; anything that it should not hold raises `InvalidInput`.

    The file holds `methods`, names or `{"method": "toppo", "gamma": 0.99}` with changed hyperparameters or parameters
    of a rule; `scenarios`, names or mappings as in a scenario file, `{"name": "slow", "base": "balanced", ...}`; and
    may hold `name` (else the file's), `question`, `seeds` (5) and `episodes` of training.
    """
    content = check_kind("experiment", read_json("experiment", path), dict)
    for key, value in content.items():
        if key not in KEYS:
            raise InvalidInput(f"experiment.{key}", value, "keys " + ", ".join(KEYS) + did_you_mean(key, KEYS))
        check_kind(f"experiment.{key}", value, KEYS[key])
    for key in ("methods", "scenarios"):
        if not content.get(key):
            raise InvalidInput(f"experiment.{key}", content.get(key, "none"), f"a list of at least one of the {key}")
    name = content.get("name", path.stem)
    if not all(letter.isascii() and (letter.isalnum() or letter in "_-") for letter in name) or not 0 < len(name) <= 64:
        raise InvalidInput("experiment.name", name, "up to 64 letters, digits, _ and -")
    seeds = check_integer("experiment.seeds", content.get("seeds", 5), 1, MOST_SEEDS)
    episodes = check_integer("experiment.episodes", content.get("episodes", TRAINING), 1, MOST_EPISODES)
    scenarios = [load_scenario(entry) for entry in content["scenarios"]]
    named = [entry.name for entry in scenarios]
    if repeated := sorted({entry for entry in named if named.count(entry) > 1}):
        raise InvalidInput("experiment.scenarios", repeated, "scenarios with names of their own: give each a `name`")
    cells = [_cell(entry, scenario, episodes) for scenario in scenarios for entry in content["methods"]]
    return {name: Experiment(content.get("question", ""), seeds, tuple(cells))}


def _cell(entry: Any, scenario: Scenario, episodes: int) -> Cell:
    changes = dict(check_kind("experiment.methods", {"method": entry} if isinstance(entry, str) else entry, dict))
    known = (*METHODS, *POLICIES, BOUND)
    name = check_choice("experiment.methods", changes.pop("method", None), known)
    if name in METHODS:
        method(name).check(scenario, 0, method(name).values(**changes))
    elif name in POLICIES:
        make_policy(name, scenario, **changes)
    elif changes:
        raise InvalidInput(f"experiment.methods.{name}", changes, "no changes")
    words = " ".join(f"{key}={value}" for key, value in changes.items())
    return cell(name, scenario, {"changes": words}, episodes, **changes)


def check_place(own: dict[str, Experiment], results: Path) -> Path:
    """Return a folder of results if nothing but the experiments of one's own is in it."""
    if results.is_dir() and (others := sorted(manifest(results).experiments.keys() - own.keys())):
        raise InvalidInput("results", str(results), f"a folder of its own: {others[0]} is in this one")
    return results
