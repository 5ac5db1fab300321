"""The commands around `results/`: compute, look at what is there, verify, judge."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from os.path import relpath
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from aiecof.checks import InvalidInput, check_choice
from aiecof.cli.console import AsJson, number, print_json, print_table, progress_bar
from aiecof.files import home, make_folder

if TYPE_CHECKING:
    from aiecof.study.trials import Experiment

Profile = Annotated[str, typer.Option(help="full, or quick: one seed and few episodes, to see it work.")]
Folder = Annotated[str | None, typer.Option(help="Where trials work; by default runs/.")]
Results = Annotated[str | None, typer.Option(help="Where tables go; by default results/, or runs/quick.")]
Jobs = Annotated[int, number("jobs", 1, "Processes.", 4 * (os.cpu_count() or 1))]

TIED = "calibration_tied.parquet"


def run(
    experiment: Annotated[
        list[str], typer.Argument(help="Experiments, or all; `aiecof status` lists them. Or a JSON file with your own.")
    ],
    profile: Profile = "full",
    jobs: Jobs = 1,
    seeds: Annotated[int | None, number("seeds", 1, "Only the first few seeds.")] = None,
    scenario: Annotated[str | None, typer.Option(help="Only on the scenarios of this name.")] = None,
    folder: Folder = None,
    results: Results = None,
) -> None:
    """Compute what is missing of some experiments; what is there, here or in results/, is not computed again.

    `aiecof run mine.json` computes an experiment of your own, into results-mine/.
    """
    from aiecof.study import experiments, runner
    from aiecof.study.own import check_place

    place = Path(folder) if folder else runner.runs_folder()
    own = _own(experiment)
    names = list(own or (experiments.experiments() if experiment == ["all"] else experiment))
    usual = home() / "results" if profile == "full" else place / "quick"
    if own:
        usual = Path(f"results-{names[0]}" + ("-quick" if profile == "quick" else ""))
    tables = Path(results) if results else usual
    if own:
        check_place(own, tables)
    told: list[tuple[int, int]] = []
    with progress_bar("Trials") as update:

        def tell(done: int, total: int) -> None:
            told.append((done, total))
            update(done, total)

        failures = runner.run(names, profile, jobs, seeds, scenario, place, tables, tell, own)
    (there, total), (done, _) = told[0], told[-1]
    print(f"{total} trials: {there} were there, {done - there - len(failures)} computed, {len(failures)} failed")
    print(f"tables are in {relpath(tables)}")
    for failure in failures:
        print(f"error: {failure}", file=sys.stderr)
    if failures:
        raise typer.Exit(1)


def _own(experiment: list[str]) -> dict[str, Experiment] | None:
    """The experiment of a file, if it is one."""
    from aiecof.study.own import read_experiment

    if not any(name.endswith(".json") for name in experiment):
        return None
    if len(experiment) > 1:
        raise InvalidInput("experiment", experiment, "a file on its own, or names")
    return read_experiment(experiment[0])


def trial(
    fingerprint: Annotated[str, typer.Argument(help="Of the trial, as the Snakefile hands it over.")],
    profile: Profile = "full",
    folder: Folder = None,
) -> None:
    """Compute one trial: what a job of a cluster calls."""
    from aiecof.study import experiments, runner

    trials = experiments.trials_of(experiments.experiments(), profile)
    chosen = trials[check_choice("trial", fingerprint, tuple(trials))]
    runner.run_trial(chosen, Path(folder) if folder else runner.runs_folder())


def status(as_json: AsJson = False) -> None:
    """What is done of each experiment, what is missing, and whether results/ is as it was written."""
    from aiecof.study import store

    table, edited, stale = store.status(), store.edited(), store.stale()
    current = store.manifest().code == store.code_state()
    if as_json:
        print_json({"experiments": table.to_dict("records"), "edited": edited, "stale": stale, "current": current})
        return
    print_table("Experiments", [name.replace("_", " ") for name in table.columns], table.itertuples(index=False))
    print("  edited by hand or gone: " + (", ".join(edited) or "none"))
    print("  stale trials, which no experiment declares: " + (", ".join(stale) or "none"))
    if not current:
        print("  the code has changed since: `aiecof gather` finds out which trials that concerns")


def gather(folder: Folder = None, results: Results = None) -> None:
    """Gather finished trials into results/, and write down which trials the code declares now."""
    from aiecof.study import runner

    work, place = Path(folder) if folder else runner.runs_folder(), Path(results) if results else home() / "results"
    runner.collect("full", work, place)
    print(f"gathered into {relpath(place)}")


def verify(
    sample: Annotated[int, number("sample", 1, "Trials to compute again.")] = 5,
    seed: Annotated[int, number("seed", 0, "Seed of their choice.")] = 0,
    jobs: Jobs = 1,
    folder: Annotated[
        str | None, typer.Option(help="Where they are computed and kept; by default runs/verify.")
    ] = None,
    results: Results = None,
    card: Annotated[
        list[str] | None,
        typer.Option(help="Instead of trials a card: a file, a name on the board, or all; repeatable."),
    ] = None,
) -> None:
    """Compute some random trials of results/ again and compare; exit code 1 if one of them differs.

    Equal: every number, to a millionth; rules, bounds and trainings on the recorded processor have to be.

    Plausible: on another processor, which rounds otherwise, the training began alike and parted later, and its numbers
    are no farther apart than those of two such trainings; 1 in 100 genuine ones fails this test.

    Differs: everything else. Stop it at any moment: what is computed is kept, and the same command goes on.

    --card plays the policy of a card again: rules have to be equal, trained models at least plausible.
    """
    if card:
        return _verify_cards(card, jobs, folder, results)
    from aiecof.study.store import edited as edited_files
    from aiecof.study.verify import OUTCOMES, TOGETHER
    from aiecof.study.verify import verify as compute_again

    place = Path(results) if results else None
    edited = edited_files(place)
    if edited:
        raise InvalidInput("results", ", ".join(edited), "files as `aiecof run` wrote them")

    def show(row: dict[str, Any]) -> None:
        parted = "" if row["parted"] is None else f", parted in episode {row['parted']}"
        why = f" ({row['why']})" if row["why"] else ""
        told = f"{row['run']}  {row['outcome']:9}  {row['difference']:.1e}  {row['method']} on {row['scenario']}"
        print(f"{told}, seed {row['seed']}{parted}; processor {row['processor']}{why}", flush=True)

    table = compute_again(sample, seed, place, Path(folder) if folder else None, jobs, show)
    for cell, rows in table[table["why"] == TOGETHER].groupby("cell"):
        print(f"differ together, all of cell {cell}: {' '.join(rows['run'])}")
    print(", ".join(f"{(table['outcome'] == outcome).sum()} {outcome}" for outcome in OUTCOMES))
    if (table["outcome"] == "differs").any():
        raise typer.Exit(1)


def _verify_cards(named: list[str], jobs: int, folder: str | None, results: str | None) -> None:
    """Make cards again and compare; exit code 1 if one of them differs."""
    from aiecof.board import cards

    known = cards.board(Path(results) if results else None)
    chosen = [
        path for name in named for path in ([*known.values()] if name == "all" else [known.get(name, Path(name))])
    ]
    outcomes = []
    for path in chosen:
        with progress_bar(f"Playing {path}") as update:
            found = cards.verify_card(path, jobs, Path(folder) if folder else None, update)
        why = f" ({found.why})" if found.why else ""
        print(f"{found.outcome:9}  {found.difference:.1e}  {path.parent.name}/{path.name}{why}", flush=True)
        outcomes.append(found.outcome)
    if "differs" in outcomes:
        raise typer.Exit(1)


def calibrate(
    jobs: Jobs = 1,
    rules: Annotated[
        bool, typer.Option("--rules", help="Only what rules come to under the candidates that are there.")
    ] = False,
) -> None:
    """Search the readings that explain the rows of Table IV, and the reward that follows the objective.

    Under every candidate that explains them, coins and openings are played at last, into calibration_rules.parquet.
    """
    from aiecof.reconstruction import calibration, statements
    from aiecof.reconstruction.reward_agreement import reward_agreement
    from aiecof.study.store import read_table, write_table

    make_folder("results", home() / "results")
    if rules:
        tied = read_table(TIED, home() / "results")
        if tied.empty:
            raise InvalidInput("results", TIED, "one that is there: `aiecof calibrate` without --rules makes it")
    else:
        with progress_bar("Candidates") as update:
            candidates = calibration.search(jobs, update)
        tied = calibration.judge(calibration.equals(candidates, jobs), jobs)
        best = candidates.groupby("family").head(5).sort_values(["family", "error"], kind="stable")
        write_table("calibration.csv", best)
        write_table(TIED, tied)
        write_table("identifiability.csv", calibration.identifiability(candidates, tied["tie"].iloc[0]))
        write_table("reward_agreement.csv", reward_agreement())
        print(f"wrote results/calibration.csv, {TIED}, identifiability.csv, reward_agreement.csv")
    with progress_bar("Rules") as update:
        write_table("calibration_rules.parquet", statements.rule_numbers(tied, jobs, update))
    print("wrote results/calibration_rules.parquet")


def search(jobs: Jobs = 1, folder: Folder = None, results: Results = None) -> None:
    """The same random search for every learned method's hyperparameters; what is found or trained is not repeated."""
    from aiecof.reconstruction import tuning
    from aiecof.study.grids import SEARCH
    from aiecof.study.runner import runs_folder
    from aiecof.study.store import read_table, write_table

    work, place = Path(folder) if folder else runs_folder() / "search", Path(results) if results else home() / "results"
    known = read_table(SEARCH, place) if place.is_dir() else read_table(SEARCH)
    with progress_bar("Trainings") as update:
        for table in tuning.search(known, work, jobs, update):
            write_table(SEARCH, table, place)
    print(f"wrote {relpath(place / SEARCH)}")


def replay() -> None:
    """Play kept policies and rules under the edge services that only the plain event simulation knows."""
    import torch

    from aiecof.reconstruction.edge_services import replay_edge_services
    from aiecof.study.store import write_table

    torch.set_num_threads(1)
    make_folder("results", home() / "results")
    write_table("edge_services.csv", replay_edge_services())
    print("wrote results/edge_services.csv")


def claims(
    arm: Annotated[str | None, typer.Option(help="Judge on one arm; without it, on every arm.")] = None,
    as_json: AsJson = False,
) -> None:
    """Every claim of the paper with the verdict that the results come to, on one arm or on every one."""
    from aiecof.study.claims import claims as judge
    from aiecof.study.claims import count, on_every_arm

    if arm is None:
        rows = on_every_arm()
        if as_json:
            print_json(rows)
            return
        arms = list(rows[0]["verdicts"])
        print_table("Claims", ["Claim", *arms], ([row["name"], *row["verdicts"].values()] for row in rows))
        print("  `aiecof claims --arm ARM` has the statements and the evidence")
        return
    verdicts = judge(arm=arm)
    if as_json:
        print_json([verdict.row for verdict in verdicts])
        return
    cells = ([row["place"], row["statement"], row["verdict"]] for row in (verdict.row for verdict in verdicts))
    print_table("Claims", ["Place", "Claim", "Verdict"], cells)
    print_table("Verdicts", ["Verdict", "Claims"], count(verdicts).items())


def figures(
    out: Annotated[str, typer.Option(help="Folder for the drawings.")] = "_build/figures",
    results: Annotated[str | None, typer.Option(help="Folder with the results; by default results/.")] = None,
) -> None:
    """Draw every figure whose results are there, as SVG; nothing is simulated or trained."""
    import matplotlib

    matplotlib.use("svg")
    from aiecof.drawing.figures import draw_all

    drawn = draw_all(Path(out), Path(results) if results else None)
    if not drawn:
        raise InvalidInput("results", results, "a folder with results: `aiecof run` makes them")
    print(f"drew {', '.join(drawn)} into {out}")


UPKEEP: tuple[Callable[..., None], ...] = (trial, gather, verify, calibrate, search, replay)
"""Commands for those who look after the results."""
