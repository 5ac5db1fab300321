"""Cards: what a player came to on the suite, and by how much it is ahead of TOPPO, of the best rule and of the bound.

A card is a JSON file with one number a network and metric, from which everything else on it follows. What an
interrupted comparison has played is kept, and the same one goes on from there.
"""

from __future__ import annotations

import hashlib
import json
import math
import re
import shutil
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, nullcontext
from os.path import relpath
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from joblib import Parallel, delayed

from aiecof import __version__
from aiecof.agents.methods import METHODS
from aiecof.agents.policies import evaluate
from aiecof.agents.rules import OWN, own_code
from aiecof.board.adapters import HISTORY, MODEL, file_of, filled, knows, player
from aiecof.board.suite import (
    BEST_COIN,
    BEST_RULE,
    HELPED,
    REFERENCES,
    SETTINGS,
    VERSION,
    Setting,
    own_tasks,
    stored,
    trained_as,
)
from aiecof.checks import InvalidInput, check_calls, check_choice, check_integer
from aiecof.files import alone, digest, home, make_folder, read_json, reading, results_folder, write_whole
from aiecof.metrics import METRICS
from aiecof.processes import workers
from aiecof.study.grids import BOUND
from aiecof.study.statistics import mean_interval, paired_difference
from aiecof.study.store import code_state
from aiecof.study.verify import EQUAL

FORMAT = "aiecof card 2"
_SETTING = {"scenario": str, "best": {str: str}, "values": {str: list}, "means": {str: list}}
_SETTING |= {"less": {str: {str: list}}}
_SCHEMA = dict.fromkeys(("suite", "version", "policy", "sha256", "information", "actions"), str)
_SCHEMA |= {"settings": {str: _SETTING}}
ACTIONS = {True: "greedy", False: "sampled", None: "its own"}
"""Whether a player takes the likeliest places -> what a card says."""
_GREEDY = {said: greedy for greedy, said in ACTIONS.items()}
LEVEL, SLACK = 0.999, 0.1
"""What a model may differ by on another processor: an interval of this level that holds 0, and on each network this
share of the spread between networks."""
Values = dict[str, np.ndarray]
"""Metric -> one mean over the episodes of each network, (seeds,)."""


def measure(place: str, setting: Setting, seed: int, greedy: bool | None = None) -> dict[str, float]:
    """Play the held-out episodes of a network: metric -> mean."""
    scenario, policy = setting.scenario, player(place, setting, seed, greedy)
    with own_code(filled(place, setting, seed)) if file_of(place) else nullcontext():
        metrics = evaluate(policy, scenario, setting.tasks(seed)).metrics()
    return {metric: float(np.mean(metrics[metric])) for metric in METRICS}


def _part(folder: Path, work: tuple[str, Setting, int], greedy: bool | None) -> tuple[tuple, dict[str, float]]:
    """`measure`, or what an earlier comparison left of it, and of what."""
    path = folder / f"{hashlib.sha256(work[0].encode()).hexdigest()[:8]}-{work[1].name}-{work[2]}.json"
    if path.exists():
        return work, read_json("part", path, dict.fromkeys(METRICS, float))
    found = measure(*work, greedy)
    write_whole(path, json.dumps(found).encode())
    return work, found


def _from_trials(place: str) -> bool:
    """Whether the results have what a player comes to: nothing is trained, and no bound computed, for a card."""
    return place in (*METHODS, *HELPED, BOUND)


def _play(
    place: str, where: list[Setting], greedy: bool | None, jobs: int, folder: Path, progress: Callable[[int, int], None]
) -> dict[str, dict[str, Values]]:
    """Player -> setting -> what it came to, for a player and all whom it is compared with."""
    found, work = {}, []
    for who in dict.fromkeys((place, *REFERENCES)):
        if _from_trials(who):
            found[who] = {setting.name: stored(who, setting) for setting in where}
        else:
            found[who] = {s.name: {metric: np.full(len(s.seeds), np.nan) for metric in METRICS} for s in where}
            work += [(who, setting, seed) for setting in where for seed in setting.seeds]
    calls = (delayed(_part)(folder, entry, greedy if entry[0] == place else None) for entry in work)
    finished = Parallel(n_jobs=jobs, return_as="generator_unordered", pre_dispatch=jobs, **workers())(calls)
    for done, ((who, setting, seed), metrics) in enumerate(finished, 1):
        for metric, value in metrics.items():
            found[who][setting.name][metric][setting.seeds.index(seed)] = value
        progress(done, len(work))
    return found


def _numbers(values: Iterable[float]) -> list[float | None]:
    """Nine digits of each, as in tables of results; None for NaN, which JSON does not know."""
    return [None if math.isnan(value) else float(f"{value:.9g}") for value in values]


def _array(values: list[float | None]) -> np.ndarray:
    return np.array([np.nan if value is None else value for value in values], float)


def summarised(place: str, setting: Setting, found: dict[str, dict[str, Values]]) -> dict[str, Any]:
    """What a card says of a setting.

    found : dict
        Player -> setting -> what it came to, for the player and those of `REFERENCES` that have been computed there.
    """
    values = {who: {metric: _numbers(found[who][setting.name].get(metric, ())) for metric in METRICS} for who in found}
    arrays = {who: {m: _array(numbers) for m, numbers in entry.items() if numbers} for who, entry in values.items()}
    own, less = arrays[place], {}
    for who in (who for who in REFERENCES if who != place):
        shared = [metric for metric in own if metric in arrays[who]]
        if shared:
            less[who] = {metric: _numbers(paired_difference(own[metric], arrays[who][metric])) for metric in shared}
    return {
        "scenario": setting.scenario.fingerprint,
        "best": {BEST_RULE: str(setting.rule), BEST_COIN: str(setting.coin)},
        "values": {metric: values[place][metric] for metric in own},
        "means": {metric: _numbers(mean_interval(own[metric], within=METRICS[metric].within)) for metric in own},
        "less": less,
    }


def _files(place: str, where: Iterable[Setting]) -> list[str]:
    """The file of a player, or all its files."""
    file = file_of(place)
    return sorted({filled(file, setting, seed) for setting in where for seed in setting.seeds}) if file else []


def _digests(place: str, where: Iterable[Setting]) -> str:
    """Hash of the file of a player, or of all its files; "" if it has none."""
    found = [digest(Path(path)) for path in _files(place, where)]
    if not found:
        return ""
    return found[0] if len(found) == 1 else hashlib.sha256(" ".join(found).encode()).hexdigest()


def _described(place: str, where: list[Setting], greedy: bool | None) -> dict[str, str]:
    """What a player is and knows; who cannot play on one of the settings is refused before anything is played."""
    if not _from_trials(place):
        policies = [player(place, setting, setting.seeds[0], greedy) for setting in where]
        actions = ACTIONS[policies[0].greedy if MODEL.fullmatch(place) else None]
        with own_code(place) if file_of(place) else nullcontext():
            known = knows(policies[0], place)
        return {"sha256": _digests(place, where), "information": known, "actions": actions}
    if missing := [setting.name for setting in where or SETTINGS.values() if not stored(place, setting)]:
        there = ", ".join(name for name, setting in SETTINGS.items() if stored(place, setting)) or "none"
        raise InvalidInput("scenario", missing[0], f"a setting on which the results have trials of {place} ({there})")
    known = "all tasks beforehand"
    if place != BOUND:
        method = METHODS[trained_as(place)[0]]
        known = HISTORY if method.history > 1 or "sequence_length" in method.hyperparameters else OWN
    return {"sha256": "", "information": known, "actions": "of stored trials"}


def compare(
    place: str,
    scenarios: list[str] | None = None,
    *,
    trace: Path | None = None,
    greedy: bool | None = None,
    out: Path | None = None,
    jobs: int = 1,
    folder: Path | None = None,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> dict[str, Any]:
    """Play the suite and return the card; whatever an earlier call played before it was interrupted is not repeated.

    place, greedy
        The player, as `adapters.player` takes it, or a learned method, or the bound, of which the results have trials.
    scenarios : list of str or None
        Settings; None takes all of the suite, or those on which the results have trials.
    trace : Path or None
        Requests of a user's own, as `aiecof trace` wrote them, to play in the place of the suite.
    out : Path or None
        Where the card is saved; the player's file is then named as seen from there.
    jobs, folder, progress
        Processes; where what is played is kept until the card is whole, by default `runs/compare`; and a function to
        call with the networks played and all of them. On requests of one's own it first hears of the rules of which
        the best is chosen.
    """
    jobs = check_integer("jobs", jobs, 1, 1_024)
    if trace is not None:
        suite, where = f"requests {digest(trace)[:16]}", [own_tasks(trace, progress)]
    else:
        suite, usual = VERSION, [name for name, s in SETTINGS.items() if not _from_trials(place) or stored(place, s)]
        names = [check_choice("scenario", name, tuple(SETTINGS)) for name in dict.fromkeys(scenarios or usual)]
        where = [SETTINGS[name] for name in names]
    described = _described(place, where, greedy)
    if out is not None:
        if out.is_dir() or out.resolve() in {Path(file).resolve() for file in _files(place, where)}:
            raise InvalidInput("out", str(out), "a file for the card, neither a folder nor what plays")
        make_folder("out", out.parent)
    with _kept(folder, place, described["sha256"], suite, str(greedy)) as kept:
        found = _play(place, where, greedy, jobs, kept, progress)
        card = {"format": FORMAT, "suite": suite, "version": __version__, "policy": _seen_from(place, out)}
        card |= described | {"settings": {setting.name: summarised(place, setting, found) for setting in where}}
        if out is not None:
            write_whole(out, _written(card).encode())
    return card


def _written(card: dict[str, Any]) -> str:
    """A card as JSON, each list of numbers in a line."""
    text = json.dumps(card, indent=1, allow_nan=False) + "\n"
    return re.sub(r"\[[^\[\]]*\]", lambda numbers: re.sub(r"\s+", " ", numbers[0]), text)


@contextmanager
def _kept(folder: Path | None, *state: str) -> Iterator[Path]:
    """A folder for what is played in some state of affairs; it goes when everything has been."""
    state = (VERSION, __version__, code_state(), *state)
    place = (folder or home() / "runs/compare") / hashlib.sha256(" ".join(state).encode()).hexdigest()[:16]
    with alone(place):
        yield place
    shutil.rmtree(place, ignore_errors=True)


def _seen_from(place: str, out: Path | None) -> str:
    """The name of a player whose file is beside its card, or elsewhere."""
    file = file_of(place)
    return place if out is None or not file else Path(relpath(file, out.parent)).as_posix() + place[len(file) :]


def _any_card(path: Path) -> dict[str, Any]:
    """A card of whatever suite."""
    return read_json("card", path, _SCHEMA, FORMAT, "`aiecof compare` makes it again")


def read_card(path: Path) -> dict[str, Any]:
    """A card of this suite."""
    card = _any_card(path)
    if card["suite"] != VERSION:
        raise InvalidInput("card.suite", card["suite"], f"{VERSION}, the suite of this version, in {path}")
    if not card["settings"]:
        raise InvalidInput("card.settings", card["settings"], f"at least one setting, in {path}")
    for name in card["settings"]:
        check_choice(f"a setting in {path}", name, tuple(SETTINGS))
    return card


def board(results: Path | None = None) -> dict[str, Path]:
    """Name -> card, of every folder of `results/board/`."""
    place = (results_folder() if results is None else results) / "board"
    return {path.parent.name: path for path in sorted(place.glob("*/card.json"))}


def ranked(cards: dict[str, dict[str, Any]], setting: str) -> dict[str, int]:
    """Name -> networks played, of everyone with a card on a setting, the best first.

    By reward, as the difference to the best rule on the networks that both have played: a mean over three easy
    networks does not pass one over all. Who has no reward, like the bound, comes last.
    """
    there = {name: card["settings"][setting] for name, card in cards.items() if setting in card["settings"]}

    def ahead(name: str) -> float:
        if "reward" not in there[name]["values"]:
            return -math.inf
        return there[name]["less"].get(BEST_RULE, {}).get("reward", [0.0])[0] or 0.0

    return {
        name: max(sum(value is not None for value in values) for values in there[name]["values"].values())
        for name in sorted(there, key=ahead, reverse=True)
    }


def refresh(path: Path, jobs: int = 1) -> None:
    """Make a card again, of whatever suite it is; a rule, or a method with results, takes up new settings."""
    card = _any_card(path)
    place = _place(card, path)
    names = [name for name in card["settings"] if name in SETTINGS] if MODEL.fullmatch(place) else None
    compare(place, names, greedy=_GREEDY.get(card["actions"]), out=path, jobs=jobs)


def _place(card: dict[str, Any], path: Path) -> str:
    """The player of a card, its file as seen from here."""
    return str(path.parent / card["policy"]) if file_of(card["policy"]) else card["policy"]


class Check(NamedTuple):
    """How a card came out when it was made again.

    `outcome` is one of `verify.OUTCOMES`; plausible is a trained model that another processor rounds otherwise.
    `difference` is the largest one found, relative to the mean size of the metric, and `why` what speaks against it.
    """

    outcome: str
    difference: float
    why: str = ""


def verify_card(
    path: Path,
    jobs: int = 1,
    folder: Path | None = None,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> Check:
    """Play a card's policy again, work out everything else on it again, and compare.

    path : Path
        The card, which says where its policy's file is, as seen from there.
    """
    jobs, path = check_integer("jobs", jobs, 1, 1_024), Path(path)
    card = read_card(path)
    place, greedy = _place(card, path), _GREEDY.get(card["actions"])
    where = [SETTINGS[name] for name in card["settings"]]
    for key, value in _described(place, where, greedy).items():
        if card[key] != value:
            return Check("differs", math.nan, f"{key}: the card says {card[key]!r}, and it is {value!r}")
    with _kept(folder, place, card["sha256"], card["actions"]) as kept:
        found = _play(place, where, greedy, jobs, kept, progress)
    with reading("card", path, "an undamaged card"):
        checks = [_check(place, setting, card["settings"][setting.name], found) for setting in where]
    return max(checks, key=lambda check: (check.why != "", check.outcome == "plausible", check.difference))


def _check(place: str, setting: Setting, said: dict[str, Any], found: dict[str, dict[str, Values]]) -> Check:
    """Whether a setting of a card is as it is found, and whether the rest of it follows from its values."""
    again = summarised(place, setting, found)
    own = {metric: _array(numbers) for metric, numbers in said["values"].items()}
    follows = summarised(place, setting, found | {place: {setting.name: own}})
    for key, what in {"scenario": "another network", "best": "another rule or coin to compare with"}.items():
        if said[key] != again[key]:
            return Check("differs", math.nan, f"{setting.name}: {what}")
    if unshared := said["less"].keys() ^ again["less"].keys():
        why = "other players than the results have by now; if it is yours, make it again"
        return Check("differs", math.nan, f"{setting.name}: {why} ({', '.join(sorted(unshared))})")
    if not _flat(said).keys() == _flat(follows).keys() == _flat(again).keys():
        return Check("differs", math.nan, f"{setting.name}: other metrics")
    replayed = {metric: _array(numbers) for metric, numbers in again["values"].items()}
    units = {metric: max(float(np.nanmean(np.abs(values))), EQUAL) for metric, values in replayed.items()}
    worst, outcome = 0.0, "equal"
    for (part, metric), numbers in _flat(said).items():
        true = _flat(again if part == "values" else follows)[part, metric]
        difference = _apart(numbers, true, units[metric])
        if not difference <= EQUAL and not (part == "values" and MODEL.fullmatch(place) and _alike(numbers, true)):
            return Check("differs", difference, f"{setting.name}: {metric} of its {part} comes to other numbers")
        outcome = "plausible" if difference > EQUAL else outcome
        worst = max(worst, difference)
    return Check(outcome, worst)


def _flat(section: dict[str, Any]) -> dict[tuple[str, str], np.ndarray]:
    """(Part of a card, metric) -> its numbers."""
    parts = {key: section[key] for key in ("values", "means")} | {
        f"differences to {who}": numbers for who, numbers in section["less"].items()
    }
    return {(part, metric): _array(numbers) for part, entry in parts.items() for metric, numbers in entry.items()}


def _apart(first: np.ndarray, second: np.ndarray, unit: float) -> float:
    """Largest difference of two arrays; infinite where only one has a number."""
    if first.shape != second.shape or (np.isnan(first) != np.isnan(second)).any():
        return math.inf
    return float(np.nanmax(np.abs(first - second), initial=0.0)) / unit


def _alike(old: np.ndarray, new: np.ndarray) -> bool:
    """Whether what differs may be rounding that led to other actions: no trend, and far less than networks differ."""
    gap = mean_interval(new - old, LEVEL)
    return gap.low <= 0.0 <= gap.high and bool(np.nanmax(np.abs(new - old)) <= SLACK * np.nanstd(new))


check_calls(globals())
