"""`results/`: the tables, and the manifest that says what they are and what belongs to them.

- `runs.csv`: one row a trial and kind of action: description, versions, seconds, means over the held-out episodes;
- `curves.parquet`: every metric of every training episode;
- `devices.parquet`: clock and mean held-out load of every device;
- `<experiment>.csv`: the labels of an experiment beside its trials' metrics;
- `print_limits.csv`: what Table III allows (`print_limits`);
- `manifest.json`: the digest of each file, so that an edited one is noticed; the experiments as they were declared when
  the results were gathered, with their seeds, cells and trials; who was compared; and the state of the code that names
  the trials. A reader of results needs nothing else: no simulator, no network.
"""

import ast
import hashlib
import io
import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from aiecof.checks import InvalidInput, check_calls, check_choice
from aiecof.files import (
    PACKAGE,
    alone_beside,
    checkout,
    digest,
    home,
    make_folder,
    read_json,
    reading,
    results_folder,
    undisturbed,
    write_whole,
)
from aiecof.metrics import METRICS

MANIFEST, FORMAT = "manifest.json", "aiecof results 2"
_SCHEMA = {
    "format": str,
    "code": str,
    "files": {str: str},
    "players": {str: (str, bool)},
    "experiments": {str: {"question": str, "seeds": int, "cells": int, "trials": {str: [str]}}},
}
TABLES = {"runs.csv": "run actions", "curves.parquet": "run episode", "devices.parquet": "run device"}
"""File in `results/` -> columns that tell its rows apart."""
TUNING = "method learning_rate seed"
"""The same of `tuning.csv`."""
_KINDS = {
    "run method scenario versions actions algorithm quantity family reading value edge_service": "words",
    "seed episodes episode device": "whole numbers >= 0",
    "counts ruled_out": "true or false",
}
_KIND = {name: kind for names, kind in _KINDS.items() for name in names.split()}
"""Column -> what it holds, in every row; the others hold numbers, NaN or finite."""
_METRICS = " ".join(METRICS)
_NEEDED = {
    "runs.csv": f"run method scenario seed episodes versions wall_time actions counts {_METRICS}",
    "curves.parquet": f"run episode {_METRICS}",
    "devices.parquet": "run device clock load",
    "tuning.csv": f"{TUNING} reward",
    "print_limits.csv": "quantity limit",
    "edge_services.csv": "scenario method edge_service episode delay energy drop_rate",
    "identifiability.csv": "reading value error ruled_out",
    "calibration.csv": "family error",
    "calibration_tied.parquet": "family error",
    "paper/table_iv.csv": "algorithm delay energy drop_rate load reward",
}
_EXPERIMENT = f"run scenario method seed wall_time {_METRICS}"
"""Columns that a file, or the table of an experiment, has at least."""
NAMING = (
    "system",
    "envs",
    "agents",
    "study/grids.py",
    "study/trials.py",
    "study/experiments.py",
    "study/lower_bound.py",
)
"""Folders and files of the package that the name of a trial depends on."""


class Declared(NamedTuple):
    """An experiment as it was declared when its results were gathered.

    trials : dict
        Seed -> names of its trials.
    """

    question: str
    seeds: int
    cells: int
    trials: dict[int, list[str]]

    @property
    def runs(self) -> set[str]:
        """Names of all trials."""
        return {run for runs in self.trials.values() for run in runs}


class Player(NamedTuple):
    """Who was compared: "learned", "rule", "coordinated rule" or "bound"; and whether a user had registered it."""

    kind: str
    added: bool


class Manifest(NamedTuple):
    """What belongs to a folder of results."""

    files: dict[str, str] = {}
    code: str = ""
    experiments: dict[str, Declared] = {}
    players: dict[str, Player] = {}

    def of_kind(self, kind: str) -> list[str]:
        """Names of the players of a kind."""
        return [name for name, player in self.players.items() if player.kind == kind]


def _place(results: Path | None) -> Path:
    place = results_folder() if results is None else Path(results)
    if results is None and not place.is_dir():
        raise InvalidInput("results", str(place), f"a folder with results: {_remedy()}")
    return place


def _remedy() -> str:
    """How to get back the results that belong to the package."""
    if checkout():
        return "`git checkout -- results` restores what was committed"
    return "`pip install --force-reinstall aiecof` restores what belongs to the package"


def code_state(package: Path | None = None) -> str:
    """Hash of the code that names trials, without its docstrings, comments and blank lines."""
    places = [(package or PACKAGE) / name for name in NAMING]
    found = [path for place in places for path in (place.rglob("*") if not place.suffix else [place])]
    content = [line for path in sorted(found) if path.suffix in (".py", ".toml") for line in _bare(path)]
    return hashlib.sha256("\n".join(content).encode()).hexdigest()[:16]


def _bare(path: Path) -> list[str]:
    """The lines of a source that do something."""
    source, texts = path.read_text(encoding="utf-8"), set()
    for node in ast.walk(ast.parse(source)) if path.suffix == ".py" else ():
        if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant) and isinstance(node.value.value, str):
            texts |= set(range(node.lineno, node.end_lineno + 1))
    lines = enumerate(source.splitlines(), 1)
    return [line for number, line in lines if number not in texts and line.strip() and line.strip()[0] != "#"]


def manifest(results: Path | None = None) -> Manifest:
    """The manifest of a folder of results; an empty one if there is none."""
    path = _place(results) / MANIFEST
    if not path.exists():
        return Manifest()
    content = read_json("manifest", path, _SCHEMA, FORMAT, _remedy())
    with reading("manifest", path, "an undamaged manifest"):
        experiments = {
            name: Declared(
                e["question"], e["seeds"], e["cells"], {int(seed): runs for seed, runs in e["trials"].items()}
            )
            for name, e in content["experiments"].items()
        }
        players = {name: Player(*entry) for name, entry in content["players"].items()}
    return Manifest(content["files"], content["code"], experiments, players)


def _write_manifest(entry: Manifest, results: Path) -> None:
    content: dict[str, Any] = {"format": FORMAT, "code": entry.code, "files": entry.files, "players": entry.players}
    content["experiments"] = {name: declared._asdict() for name, declared in entry.experiments.items()}
    text = json.dumps(content, indent=1) + "\n"
    if not (results / MANIFEST).exists() or (results / MANIFEST).read_text(encoding="utf-8") != text:
        write_whole(results / MANIFEST, text.encode())


def declare(experiments: dict[str, Declared], players: dict[str, Player], results: Path | None = None) -> None:
    """Write into the manifest what was declared, and the state of the code that says so."""
    with writing(results) as place:
        _write_manifest(Manifest(manifest(place).files, code_state(), experiments, players), place)


@contextmanager
def writing(results: Path | None = None) -> Iterator[Path]:
    """Read and write a folder of results (`with writing(...) as place:`), made if need be; others wait meanwhile."""
    place = home() / "results" if results is None else Path(results)
    with alone_beside(place):
        yield place


@contextmanager
def looking_at(results: Path | None = None) -> Iterator[Path]:
    """Read a folder of results in one state; who writes into it waits meanwhile."""
    place = _place(results)
    with undisturbed(place):
        yield place


def read_table(name: str, results: Path | None = None, needed: str | None = None) -> pd.DataFrame:
    """A file of `results/`; an empty table if there is none, `InvalidInput` if it is not what it should be.

    needed : str or None
        Columns that it has at least; by default those of the file, if it is not the table of an experiment.
    """
    path = _place(results) / name
    with reading("table", path, "an undamaged table"):
        if not path.exists():
            return pd.DataFrame()
        content = io.BytesIO(path.read_bytes())
        csv = path.suffix == ".csv"
        if csv and not content.getvalue().endswith(b"\n"):
            raise InvalidInput("end", content.getvalue()[-10:], "a line that is whole")
        table = pd.read_csv(content, dtype={"run": str}, encoding="utf-8-sig") if csv else pd.read_parquet(content)
        _check_columns(table, (_NEEDED.get(name, "") if needed is None else needed).split())
        keys = TABLES[name].split() if name in TABLES else [n for n in table if n not in (*METRICS, "wall_time")]
        if table.duplicated(keys).any():
            raise InvalidInput("row", table.loc[table.duplicated(keys), keys[0]].iloc[0], "each row once")
    return table


def _check_columns(table: pd.DataFrame, needed: list[str]) -> None:
    missing = [name for name in needed if name not in table]
    if missing:
        raise InvalidInput("column", f"no {missing[0]}", "all of " + ", ".join(needed))
    types = pd.api.types
    fits = {
        "words": lambda values: values.map(lambda value: isinstance(value, str)).all(),
        "whole numbers >= 0": lambda values: types.is_integer_dtype(values) and (values >= 0).all(),
        "true or false": types.is_bool_dtype,
        "numbers": lambda values: types.is_numeric_dtype(values) and not types.is_bool_dtype(values),
    }
    for name in table if len(table) else ():
        kind = _KIND.get(name, "numbers")
        if name in needed and not fits[kind](table[name]):
            raise InvalidInput(f"column {name}", str(table[name].dtype), f"{kind} in every row")
        if types.is_float_dtype(table[name]) and np.isinf(table[name]).any():
            raise InvalidInput(f"column {name}", "an infinite number", "finite numbers")


def write_result(name: str, content: bytes, results: Path | None = None) -> None:
    """Write a file of `results/` and its digest into the manifest.

    The digest goes first: after a kill between the two the file is the old one, which the next gathering replaces.
    """
    with writing(results) as place:
        make_folder("results", (place / name).parent)
        before = manifest(place)
        files = dict(sorted((before.files | {name: hashlib.sha256(content).hexdigest()}).items()))
        _write_manifest(before._replace(files=files), place)
        write_whole(place / name, content)


def write_table(name: str, table: pd.DataFrame, results: Path | None = None) -> None:
    """Write a table into `results/`, as CSV or Parquet."""
    if name.endswith(".csv"):
        content = table.to_csv(index=False, float_format="%.9g").encode()
    else:
        buffer = io.BytesIO()
        table.to_parquet(buffer, index=False, compression="zstd")
        content = buffer.getvalue()
    write_result(name, content, results)


def add_rows(name: str, table: pd.DataFrame, keys: str, results: Path | None = None) -> None:
    """Write rows into a table of `results/` that may have others; equal `keys`, columns, are the same row."""
    with writing(results):
        table = pd.concat([read_table(name, results), table]).drop_duplicates(keys.split(), keep="last")
        write_table(name, table, results)


def experiment_table(name: str, results: Path | None = None) -> pd.DataFrame:
    """The table of an experiment; a missing one raises `InvalidInput`."""
    found = read_table(f"{name}.csv", results, _EXPERIMENT)
    if found.empty:
        raise InvalidInput("experiment", name, f"one with results: {restoring(name, results)}")
    return found


def restoring(name: str, results: Path | None = None) -> str:
    """How to get the results of an experiment back."""
    computing = f"`aiecof run {name}` computes it"
    return f"{_remedy()}, {computing}" if results is None else f"{computing}; {results} has none"


def edited(results: Path | None = None) -> list[str]:
    """Files that are not as they were written: changed by hand, or gone."""
    place = _place(results)
    return [name for name, expected in manifest(place).files.items() if digest(place / name) != expected]


def condition(name: str, results: Path | None = None) -> str:
    """Why the table of an experiment is not to be trusted, in a few words; empty if it is."""
    place, file = _place(results), f"{name}.csv"
    entry = manifest(place)
    if entry.files.get(file) != digest(place / file):
        return "not as it was written"
    if entry.code != code_state():
        return "the code has changed since: `aiecof gather` finds out whether that concerns it"
    found = set(read_table(file, place, _EXPERIMENT).get("run", ()))
    gone = found - entry.experiments[name].runs if name in entry.experiments else found
    return f"{len(gone)} of {len(found)} trials belong to other code" if gone else ""


def stale(results: Path | None = None) -> list[str]:
    """Trials in `results/` that no experiment declares: their scenario, method or equations have changed."""
    declared = {run for entry in manifest(results).experiments.values() for run in entry.runs}
    found = read_table("runs.csv", results).get("run", pd.Series(dtype=str))
    return [run for run in found.unique() if run not in declared]


def status(results: Path | None = None) -> pd.DataFrame:
    """One row an experiment: seeds declared, trials declared, done, missing, hours of computing."""
    runs = read_table("runs.csv", results)
    seconds = runs.groupby("run")["wall_time"].first() if len(runs) else pd.Series(dtype=float)
    rows = []
    for name, entry in manifest(results).experiments.items():
        whole = next(
            (seed for seed, names in entry.trials.items() if not set(names) <= set(seconds.index)), entry.seeds
        )
        done = [run for run in entry.runs if run in seconds.index]
        hours = seconds[done].sum() / 3600
        missing = len(entry.runs) - len(done)
        rows.append([name, entry.seeds, whole, len(entry.runs), len(done), missing, round(hours, 2)])
    return pd.DataFrame(rows, columns=["experiment", "seeds", "complete_seeds", "trials", "done", "missing", "hours"])


def declared(name: str, results: Path | None = None) -> Declared:
    """What an experiment was declared as when its results were gathered."""
    found = manifest(results).experiments
    return found[check_choice("experiment", name, tuple(found))]


check_calls(globals())
