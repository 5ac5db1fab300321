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
from pathlib import Path
from typing import Any, NamedTuple

import pandas as pd

from aiecof.checks import InvalidInput, check_choice
from aiecof.files import PACKAGE, checkout, digest, home, make_folder, read_json, results_folder, write_whole

MANIFEST, FORMAT = "manifest.json", "aiecof results 2"
TABLES = {"runs.csv": "run actions", "curves.parquet": "run episode", "devices.parquet": "run device"}
"""File in `results/` -> columns that tell its rows apart."""
NAMING = ("system", "envs", "agents", "study/grids.py", "study/experiments.py", "study/lower_bound.py")
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


def code_state(package: Path = PACKAGE) -> str:
    """Hash of the code that names trials, without its docstrings, comments and blank lines."""
    found = [path for name in NAMING for path in ((package / name).rglob("*") if "." not in name else [package / name])]
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
    content = read_json("manifest", path)
    if not isinstance(content, dict) or content.get("format") != FORMAT:
        found = content.get("format", "no format") if isinstance(content, dict) else type(content).__name__
        raise InvalidInput("manifest", found, f"{FORMAT} in {path}: {_remedy()}")
    try:
        experiments = {
            name: Declared(
                e["question"], e["seeds"], e["cells"], {int(seed): runs for seed, runs in e["trials"].items()}
            )
            for name, e in content["experiments"].items()
        }
        players = {name: Player(*entry) for name, entry in content["players"].items()}
        return Manifest(dict(content["files"]), str(content["code"]), experiments, players)
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise InvalidInput("manifest", str(path), f"an undamaged manifest ({error!r})") from None


def _write_manifest(entry: Manifest, results: Path) -> None:
    content: dict[str, Any] = {"format": FORMAT, "code": entry.code, "files": entry.files, "players": entry.players}
    content["experiments"] = {name: declared._asdict() for name, declared in entry.experiments.items()}
    text = json.dumps(content, indent=1) + "\n"
    if not (results / MANIFEST).exists() or (results / MANIFEST).read_text(encoding="utf-8") != text:
        write_whole(results / MANIFEST, text.encode())


def declare(experiments: dict[str, Declared], players: dict[str, Player], results: Path | None = None) -> None:
    """Write into the manifest what was declared, and the state of the code that says so."""
    place = make_folder("results", _written(results))
    before = manifest(place)
    _write_manifest(Manifest(before.files, code_state(), experiments, players), place)


def _written(results: Path | None) -> Path:
    return home() / "results" if results is None else Path(results)


def read_table(name: str, results: Path | None = None) -> pd.DataFrame:
    """A file of `results/`; an empty table if there is none."""
    path = _place(results) / name
    if not path.exists():
        return pd.DataFrame()
    return pd.read_csv(path, dtype={"run": str}) if path.suffix == ".csv" else pd.read_parquet(path)


def write_result(name: str, content: bytes, results: Path | None = None) -> None:
    """Write a file of `results/` and its digest into the manifest.

    The digest goes first: after a kill between the two the file is the old one, which the next gathering replaces.
    """
    place = _written(results)
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


def experiment_table(name: str, results: Path | None = None) -> pd.DataFrame:
    """The table of an experiment; a missing one raises `InvalidInput`."""
    found = read_table(f"{name}.csv", results)
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
    found = set(read_table(file, place)["run"])
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
