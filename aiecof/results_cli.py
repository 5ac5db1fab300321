"""The commands around `results/`: compute, look at what is there, verify, judge."""

from __future__ import annotations

import sys
from collections.abc import Callable
from os.path import relpath
from pathlib import Path
from typing import Annotated

import typer

from aiecof.config import InvalidInput, check_choice
from aiecof.console import AsJson, print_json, print_table, progress_bar, whole

Profile = Annotated[str, typer.Option(help="full, or quick: one seed and few episodes, to see it work.")]
Folder = Annotated[str | None, typer.Option(help="Where trials work; by default runs/.")]
Jobs = Annotated[str, typer.Option(metavar="INTEGER", help="Processes.")]


def run(
    experiment: Annotated[list[str], typer.Argument(help="Experiments, or all; `aiecof status` lists them.")],
    profile: Profile = "full",
    jobs: Jobs = "1",
    seeds: Annotated[str | None, typer.Option(metavar="INTEGER", help="Only the first few seeds.")] = None,
    folder: Folder = None,
    results: Annotated[str | None, typer.Option(help="Where tables go; by default results/, or runs/quick.")] = None,
) -> None:
    """Compute what is missing of some experiments; what is there, here or in results/, is not computed again."""
    from aiecof import runner
    from aiecof.experiments import EXPERIMENTS

    names = list(EXPERIMENTS) if experiment == ["all"] else experiment
    place = Path(folder) if folder else runner.RUNS
    tables = Path(results) if results else runner.RESULTS if profile == "full" else place / "quick"
    first = None if seeds is None else whole("seeds", seeds, 1)
    with progress_bar("Trials") as update:
        failures = runner.run(names, profile, whole("jobs", jobs, 1), first, place, tables, update)
    print(f"tables are in {relpath(tables)}")
    for failure in failures:
        print(f"error: {failure}", file=sys.stderr)
    if failures:
        raise typer.Exit(1)


def trial(
    fingerprint: Annotated[str, typer.Argument(help="Of the trial, as the Snakefile hands it over.")],
    profile: Profile = "full",
    folder: Folder = None,
) -> None:
    """Compute one trial: what a job of a cluster calls."""
    from aiecof import runner
    from aiecof.experiments import EXPERIMENTS

    trials = runner.trials_of(EXPERIMENTS, profile)
    runner.run_trial(trials[check_choice("trial", fingerprint, tuple(trials))], Path(folder) if folder else runner.RUNS)


def status(as_json: AsJson = False) -> None:
    """What is done of each experiment, what is missing, and whether results/ is as it was written."""
    from aiecof import runner

    table, edited, stale = runner.status(), runner.edited(), runner.stale()
    if as_json:
        print_json({"experiments": table.to_dict("records"), "edited": edited, "stale": stale})
        return
    print_table("Experiments", [name.replace("_", " ") for name in table.columns], table.itertuples(index=False))
    print("  edited by hand or gone: " + (", ".join(edited) or "none"))
    print("  stale trials, which no experiment declares: " + (", ".join(stale) or "none"))


def verify(
    sample: Annotated[str, typer.Option(metavar="INTEGER", help="Trials to compute again.")] = "5",
    seed: Annotated[str, typer.Option(metavar="INTEGER", help="Seed of their choice.")] = "0",
) -> None:
    """Compute some random trials of results/ again and compare; exit code 1 if one comes out otherwise."""
    from aiecof import runner

    edited = runner.edited()
    if edited:
        raise InvalidInput("results", ", ".join(edited), "files as `aiecof run` wrote them")
    table = runner.verify(whole("sample", sample, 1), whole("seed", seed, 0))
    rows = ([*row[:3], f"{row.difference:.1e}", "yes" if row.passed else "no"] for row in table.itertuples(index=False))
    print_table("Computed again", ["Trial", "Method", "Seed", "Relative difference", "Passed"], rows)
    if not table["passed"].all():
        raise typer.Exit(1)


def calibrate(jobs: Jobs = "1") -> None:
    """Search the readings that explain the untrained rows of Table IV, and the reward that follows the objective."""
    from aiecof import calibration
    from aiecof.runner import write_table

    count = whole("jobs", jobs, 1)
    with progress_bar("Candidates") as update:
        candidates = calibration.search(count, update)
    tied = calibration.attainability(candidates, count)
    write_table("calibration.csv", calibration.best_of_families(candidates))
    write_table("calibration_tied.parquet", tied)
    write_table("identifiability.csv", calibration.identifiability(candidates, tied["tie"].iloc[0]))
    write_table("reward_agreement.csv", calibration.reward_agreement())
    print("wrote results/calibration.csv, calibration_tied.parquet, identifiability.csv, reward_agreement.csv")


def replay() -> None:
    """Play kept policies and rules under the edge services that only the plain event simulation knows."""
    import torch

    from aiecof.replay import replay_edge_services
    from aiecof.runner import write_table

    torch.set_num_threads(1)
    write_table("edge_services.csv", replay_edge_services())
    print("wrote results/edge_services.csv")


def claims(as_json: AsJson = False) -> None:
    """Every claim of the paper with the verdict that the results come to."""
    from aiecof.claims import claims as judge
    from aiecof.claims import count

    verdicts = judge()
    if as_json:
        print_json([verdict.row for verdict in verdicts])
        return
    rows = ([row["place"], row["statement"], row["verdict"]] for row in (verdict.row for verdict in verdicts))
    print_table("Claims", ["Place", "Claim", "Verdict"], rows)
    print_table("Verdicts", ["Verdict", "Claims"], count(verdicts).items())


def figures(
    out: Annotated[str, typer.Option(help="Folder for the drawings.")] = "_build/figures",
    results: Annotated[str, typer.Option(help="Folder with the results.")] = "results",
) -> None:
    """Draw every figure whose results are there, as SVG; nothing is simulated or trained."""
    import matplotlib

    matplotlib.use("svg")
    from aiecof.figures import draw_all

    drawn = draw_all(Path(out), Path(results))
    if not drawn:
        raise InvalidInput("results", results, "a folder with results: `aiecof run` makes them")
    print(f"drew {', '.join(drawn)} into {out}")


COMMANDS: tuple[Callable[..., None], ...] = (run, trial, status, verify, calibrate, replay, claims, figures)
