"""The command that makes requests of real services the tasks of a network."""

import math
from typing import Annotated

import typer

from aiecof.cli.chosen import Devices, ScenarioName, Settings, chosen_scenario
from aiecof.cli.console import AsJson, number, print_json, print_table

Format = Annotated[
    str,
    typer.Option(help="azure, burstgpt, mooncake, or csv with columns time (in seconds), size, work and perhaps user."),
]
Speed = Annotated[
    float | None, typer.Option(help="Seconds of the file in a second; by default what gives the scenario's load.")
]
Rounds = Annotated[
    int | None, number("arrivals_per_slot", 1, "Rounds of decisions in a slot; by default as many as it takes.")
]
ROWS = {
    "count": "Requests, or tasks",
    "mean": "In a second, or slot",
    "dispersion": "Their variance over their mean",
    "lag_1": "Their correlation with the next",
    "size_cv": "CV of size",
    "work_cv": "CV of work",
    "rank_correlation": "Rank correlation of size and work",
    "busiest_tenth": "Share of the busiest tenth",
}
"""Statistic -> heading."""
REASONS = {
    "failed": "had nothing to send or to compute",
    "no_round": "came to a device whose rounds of the slot were taken",
    "no_episode": "came after the last whole episode",
}
"""Why a request is no task -> the end of a sentence."""


def trace(
    file: Annotated[str, typer.Argument(help="Requests of a real service.")],
    format: Format,
    scenario: ScenarioName = "balanced",
    out: Annotated[str | None, typer.Option(help="Where the trace goes, for --trace of other commands.")] = None,
    speed: Speed = None,
    arrivals_per_slot: Rounds = None,
    seed: Annotated[int, number("seed", 0, "Seed of the network, and of who has a request.", 2**63)] = 0,
    devices: Devices = None,
    settings: Settings = None,
    as_json: AsJson = False,
) -> None:
    """Make requests of a real service the tasks of a network; say what they are like, and what becomes of each.

    The first half of the episodes is for training, the rest is kept back.
    """
    chosen = chosen_scenario(scenario, devices, settings)

    from aiecof.requests.formats import read_requests, statistics
    from aiecof.requests.tasks import request_trace
    from aiecof.system.workload import draw_trace

    requests = read_requests(file, format)
    made = request_trace(requests, chosen, seed=seed, speed=speed, arrivals_per_slot=arrivals_per_slot)
    rounds = made.scenario.arrivals_per_slot
    found = {
        "file": statistics(requests),
        "tasks": statistics(made.trace, rounds),
        "scenario": statistics(draw_trace(chosen, 20, seed), chosen.arrivals_per_slot),
    }
    if out is not None:
        made.save(out)
    counts = {"episodes": made.trace.episodes, "training": made.training, "arrivals_per_slot": rounds}
    if as_json:
        print_json(found | counts | {"left_out": made.left_out})
        return
    _print_statistics(f"{file} on {chosen.devices} devices", chosen.name, found)
    print(
        "  {episodes} episodes, of which {training} to train on; {arrivals_per_slot} round(s) a slot".format(**counts)
    )
    for reason, count in made.left_out.items():
        print(f"  {count:,} of {len(requests):,} requests {REASONS[reason]}")
    print(f"  written to {out}" if out else "  not written: no --out")


def _print_statistics(title: str, scenario: str, found: dict[str, dict[str, float]]) -> None:
    titles = ["", "File, by second", "Tasks, by slot", f"{scenario} itself, by slot"]
    rows = ([heading, *(_shown(name, part[name]) for part in found.values())] for name, heading in ROWS.items())
    print_table(title, titles, rows)


def _shown(name: str, value: float) -> str:
    """A statistic in a cell, "-" where there is none."""
    return "-" if math.isnan(value) else f"{value:,.0f}" if name == "count" else f"{value:.3g}"
