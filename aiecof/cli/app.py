"""The `aiecof` command: it parses, calls and prints.

Bad input ends with one line on the standard error and exit code 2, an interrupt with code 130. What a command needs
is imported when it runs, so that the short ones stay short.
"""

import json
from collections.abc import Iterator
from contextlib import nullcontext
from dataclasses import asdict
from os.path import relpath
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console

from aiecof import __version__
from aiecof.cli import results as over_results
from aiecof.cli.board import board, compare
from aiecof.cli.chosen import (
    Devices,
    Episodes,
    OwnTrace,
    ScenarioName,
    Settings,
    chosen_scenario,
    held_out,
    own_requests,
)
from aiecof.cli.console import AsJson, OneLineErrors, number, print_json, print_table, progress_bar
from aiecof.cli.requests import trace as trace_command
from aiecof.cli.results import Results
from aiecof.files import home, make_folder
from aiecof.metrics import METRICS
from aiecof.system.scenario import BEYOND, READINGS, SCENARIOS, Scenario, load_scenario


def _print_version(wanted: bool) -> None:
    if wanted:
        print(__version__)
        raise typer.Exit


app = typer.Typer(
    cls=OneLineErrors,
    add_completion=False,
    pretty_exceptions_enable=False,
)
bench = typer.Typer(cls=OneLineErrors, help="Measure speed.")
SHOWN = [name for name in METRICS if name != "cost"]


@app.callback()
def _root(version: Annotated[bool, typer.Option("--version", callback=_print_version, is_eager=True)] = False) -> None:
    """Offloading of AIGC tasks at the edge: simulate it, train for it, and judge what a paper claims about it.

    To begin with: aiecof simulate --policy frugal. Every command explains itself with --help.
    """


def _pair(values: tuple[float, float], unit: float = 1.0) -> str:
    low, high = (f"{value / unit:g}" for value in values)
    return low if low == high else f"{low} - {high}"


def _describe(scenario: Scenario) -> dict[str, object]:
    """The main parameters of a scenario in the paper's units."""
    per_task = scenario.readings.workload == "per_task"
    work = tuple(scenario.workload_scale * bound for bound in scenario.workload_range)
    rate = scenario.transmission_rate
    return {
        "Devices": scenario.devices,
        "Servers": scenario.servers,
        "Slots": f"{scenario.slots} of {scenario.slot_duration:g} s",
        "Deadline [slots]": scenario.tau_max_slots,
        "Arrival probability": scenario.arrival_probability,
        "Device clock [GHz]": _pair(scenario.device_frequency, 1e9),
        "Server clock [GHz]": _pair(scenario.server_frequency, 1e9),
        "Rate [Mbit/s]": f"{rate / 1e6:g}" if rate else "from bandwidth, gain and noise",
        "Task size [Mbit]": ", ".join(_pair(kind.size, 1e6) for kind in scenario.task_kinds),
        "Workload": _pair(work, 1e6) + " Mcycle/task" if per_task else _pair(work) + " cycle/bit",
    }


def _flat(table: dict[str, Any]) -> Iterator[tuple[str, Any]]:
    """(key, value) of a table and of the tables within."""
    for key, value in table.items():
        yield from _flat(value) if isinstance(value, dict) else [(key, value)]


def scenarios(as_json: AsJson = False) -> None:
    """The named scenarios: their main parameters, and the reading each takes of what the paper leaves open."""
    if as_json:
        every = {name: load_scenario(name) for name in SCENARIOS | BEYOND}
        print_json({name: asdict(entry) | {"fingerprint": entry.fingerprint} for name, entry in every.items()})
        return
    named = {name: load_scenario(name) for name in SCENARIOS}
    described = [_describe(entry) for entry in named.values()]
    print_table("Scenarios", ["", *named], ([name, *(d[name] for d in described)] for name in described[0]))
    choices = ([name, *(getattr(entry.readings, name) for entry in named.values())] for name in READINGS)
    print_table("Readings", ["", *named], choices)
    changes = ([name, "\n".join(f"{key} = {value}" for key, value in _flat(BEYOND[name]))] for name in BEYOND)
    print_table("Beyond the paper", ["", "Base, and what is changed of it"], changes)


def policies(as_json: AsJson = False) -> None:
    """The policies without learning, and what each has to know."""
    from aiecof.agents.rules import POLICIES

    if as_json:
        shown = ("description", "information", "parameters")
        print_json({name: {key: getattr(entry, key) for key in shown} for name, entry in POLICIES.items()})
        return
    rows = ([name, entry.information, entry.description] for name, entry in POLICIES.items())
    print_table("Policies", ["Name", "Uses", "Rule"], rows)


def equations(as_json: AsJson = False) -> None:
    """Where each equation is: its function, its tests, its page of the book, and what was read into it."""
    rows = json.loads(Path(__file__).with_name("equations.json").read_text(encoding="utf-8"))
    if as_json:
        print_json(rows)
        return
    cells = (
        [f"({r['equation']})", r["function"] or "", "\n".join(r["tests"]), r["page"] or "", " ".join(r["readings"])]
        for r in rows
    )
    print_table("Equations", ["", "Function", "Tests", "Page of the book", "Readings"], cells)


def simulate(
    scenario: ScenarioName = "balanced",
    policy: Annotated[
        str, typer.Option(help="A policy (`aiecof policies`), or a class of your own: file.py:Class.")
    ] = "random",
    episodes: Episodes = None,
    seed: Annotated[int, number("seed", 0, "Seed of tasks, network and policy.", 2**63)] = 0,
    devices: Devices = None,
    settings: Settings = None,
    trace: OwnTrace = None,
    as_json: AsJson = False,
) -> None:
    """Simulate episodes under a policy and print means with 95 % intervals over the episodes."""
    own = own_requests(trace, scenario, devices, settings)
    chosen = own.scenario if own else chosen_scenario(scenario, devices, settings)
    kept, count = held_out(own, episodes)

    from aiecof.agents.policies import episode_metrics
    from aiecof.agents.rules import make_policy, own_code
    from aiecof.study.statistics import mean_interval

    rule = make_policy(policy, chosen, seed)
    with own_code(policy) if ".py:" in policy else nullcontext(), progress_bar("Simulating", count) as update:
        metrics = episode_metrics(rule, chosen, count, seed, trace=kept, progress=update)
    intervals = {name: mean_interval(metrics[name], within=METRICS[name].within)._asdict() for name in SHOWN}
    if as_json:
        print_json(intervals)
        return
    title = f"{policy} on {chosen.name}: {count} episodes, {chosen.devices} devices, seed {seed}"
    rows = (
        [METRICS[name].heading, f"{entry['mean']:.4g}", f"{entry['low']:.4g} to {entry['high']:.4g}"]
        for name, entry in intervals.items()
    )
    print_table(title, ["", "Mean", "95 % interval"], rows)


@bench.command()
def simulator(as_json: AsJson = False) -> None:
    """Device-slots per second of the compiled simulator on one core, beside the plain event simulation."""
    from aiecof.agents.bench import bench_simulator

    with Console(stderr=True).status("Measuring, for about 15 seconds"):
        measured = bench_simulator()
    if as_json:
        print_json(measured)
        return
    key = "device_slots_per_second"
    titles = {key: "Dynamics and rewards", f"{key}_with_observations": "With observations"}
    speeds = ([title, *(f"{speed / 1e6:.1f}" for speed in measured[name].values())] for name, title in titles.items())
    replicas = [f"{count} replica(s)" for count in measured[key]]
    print_table("Million device-slots per second (30 devices, 8 servers)", ["", *replicas], speeds)
    print(f"  {measured['reference_ratio']:,.0f} times the plain event simulation\n")
    costs = ([devices, f"{cost:.1f}"] for devices, cost in measured["scaling"].items())
    print_table("Cost of one device in one slot", ["Devices", "ns"], costs)


@bench.command()
def environments(as_json: AsJson = False) -> None:
    """Device-slots per second of the environments on one core, beside the compiled calls that they stand on."""
    from aiecof.agents.bench import bench_environments

    with Console(stderr=True).status("Measuring, for about 15 seconds"):
        measured = bench_environments()
    if as_json:
        print_json(measured)
        return
    speeds, above = measured["device_slots_per_second"], measured["above_kernel"]
    replicas = list(speeds["kernel"])
    rows = (
        [name, *(f"{by[count] / 1e6:.3f}" if count in by else "" for count in replicas), f"{above.get(name, 0.0):.1f}"]
        for name, by in speeds.items()
    )
    titles = ["View", *(f"{count} replica(s)" for count in replicas), "Above the kernel [us]"]
    print_table("Million device-slots per second (30 devices, 8 servers)", titles, rows)
    print(f"  A picture takes {measured['picture']:.1f} ms\n")


@bench.command()
def training(as_json: AsJson = False) -> None:
    """Transitions per second of each learning method on one thread, TOPPO beside stock sb3-contrib."""
    from aiecof.agents.bench import bench_training

    with Console(stderr=True).status("Measuring, for about two minutes"):
        measured = bench_training()
    if as_json:
        print_json(measured)
        return
    rows = ([name, f"{speed:,.0f}"] for name, speed in measured["transitions_per_second"].items())
    print_table("Training on balanced, 30 devices, one thread", ["Method", "Transitions per second"], rows)
    pairs = (
        [size, *(f"{speeds[name]:,.0f}" for name in ("toppo", "stock")), f"{speeds['ratio']:.1f}"]
        for size, speeds in measured["by_minibatch"].items()
    )
    print_table("TOPPO and stock RecurrentPPO", ["Minibatch", "TOPPO", "Stock", "Ratio"], pairs)
    print(f"  PPO without memory, minibatches of 64: {measured['ppo_minibatch_64']:,.0f}\n")


@bench.command()
def scale(
    devices: Annotated[list[int] | None, typer.Argument(help="Numbers of devices.")] = None,
    method: Annotated[list[str] | None, typer.Option(help="Methods, one --method each.")] = None,
    as_json: AsJson = False,
) -> None:
    """Training speed, memory and time of a decision with up to a thousand devices, on one thread."""
    from aiecof.agents.bench import SCALED, SCALES, bench_scale

    with Console(stderr=True).status("Measuring, for some minutes"):
        measured = bench_scale(devices or SCALES, method or SCALED)
    if as_json:
        print_json(measured)
        return
    places = (0, 2, 2, 0)
    rows = (
        [name, batch, count, *("" if v is None else f"{v:,.{n}f}" for v, n in zip(found.values(), places, strict=True))]
        for name, by_batch in measured.items()
        for batch, by_count in by_batch.items()
        for count, found in by_count.items()
    )
    titles = ["Method", "Batch", "Devices", "Transitions per second", "s an episode", "ms a decision", "MB"]
    print_table("Training on networks that grow, 8 servers within reach, one thread", titles, rows)


def methods(as_json: AsJson = False) -> None:
    """The learning methods: family, network, parameters, hyperparameters and where each value comes from."""
    from aiecof.agents.methods import METHODS, parameter_count

    if as_json:
        shown = ("family", "network", "hyperparameters", "history", "counts")
        described = {name: {key: getattr(entry, key) for key in shown} for name, entry in METHODS.items()}
        print_json({name: entry | {"parameters": parameter_count(name)} for name, entry in described.items()})
        return
    rows = ([name, m.family, m.network, f"{parameter_count(name):,}", m.counts] for name, m in METHODS.items())
    print_table("Methods", ["Name", "Family", "Network", "Parameters", "Judged by"], rows)
    names = sorted({key for entry in METHODS.values() for key in entry.hyperparameters})
    cells = (
        [
            key,
            *("{} ({})".format(*m.hyperparameters[key]) if key in m.hyperparameters else "" for m in METHODS.values()),
        ]
        for key in names
    )
    print_table("Hyperparameters (and source)", ["", *METHODS], cells)


def train(
    method: Annotated[str, typer.Argument(help="Name of a method; `aiecof methods` lists them.")],
    scenario: ScenarioName = "balanced",
    episodes: Annotated[int, number("episodes", 1, "Training episodes.")] = 100,
    seed: Annotated[int, number("seed", 0, "Seed of weights, exploration, tasks, network.", 2**32 - 1)] = 0,
    devices: Devices = None,
    settings: Settings = None,
    trace: OwnTrace = None,
    folder: Annotated[str | None, typer.Option(help="Run folder; by default made from the other words.")] = None,
) -> None:
    """Train a method; an interrupted training goes on from its last checkpoint when called again."""
    own = own_requests(trace, scenario, devices, settings)
    chosen = own.scenario if own else chosen_scenario(scenario, devices, settings)
    changed = f"-{own.checksum[:6]}" if own else f"-{chosen.fingerprint[:6]}" if settings else ""
    place = folder or relpath(home() / f"runs/{method}-{chosen.name}-{chosen.devices}{changed}-{episodes}-{seed}")

    import torch

    from aiecof.agents.training import train as run_training

    torch.set_num_threads(1)
    with progress_bar(f"Training {method}", episodes) as update:
        run = run_training(method, chosen, episodes, seed, place, requests=own, on_episode=update)
    last = run.curve.tail(10).mean()
    print(f"{place}: {episodes} episodes, {run.description['wall_time']:.0f} s; last ten: ", end="")
    print(", ".join(f"{name} {last[name]:.4g}" for name in SHOWN))


def evaluate(
    run: Annotated[str, typer.Argument(help="A run folder that `aiecof train` wrote.")],
    episodes: Episodes = None,
    trace: OwnTrace = None,
    as_json: AsJson = False,
) -> None:
    """Play held-out traces with what was learned: actions sampled and greedy, the one that counts marked."""

    from aiecof.agents.policies import episode_metrics
    from aiecof.agents.training import Run
    from aiecof.requests.tasks import load_request_trace
    from aiecof.study.statistics import mean_interval

    opened = Run(run)
    own = load_request_trace(trace) if trace else opened.requests
    where = own.scenario if own and trace else opened.scenario
    kept, count = held_out(own, episodes)
    measured = {}
    for kind in ("sampled", "greedy"):
        seed = opened.description["seed"]
        learned = opened.policy(where, greedy=kind == "greedy", seed=seed)
        with progress_bar(f"Playing {kind}", count) as update:
            metrics = episode_metrics(learned, where, count, seed, trace=kept, progress=update)
        measured[kind] = {n: mean_interval(metrics[n], within=METRICS[n].within)._asdict() for n in SHOWN}
    if as_json:
        print_json({"counts": opened.method.counts, **measured})
        return
    titles = [f"{kind}{' (counts)' if kind == opened.method.counts else ''}" for kind in measured]
    rows = (
        [
            METRICS[name].heading,
            *("{mean:.4g} ({low:.4g} to {high:.4g})".format(**measured[kind][name]) for kind in measured),
        ]
        for name in SHOWN
    )
    print_table(f"{run}: {count} held-out episodes, 95 % intervals", ["", *titles], rows)


def tune(
    method: Annotated[list[str] | None, typer.Argument(help="Methods; all of them without this.")] = None,
    results: Results = None,
    folder: Annotated[str | None, typer.Option(help="Where the runs go; by default runs/tuning.")] = None,
) -> None:
    """Train every method with three learning rates and write what each reached: where "tuned" values come from."""
    import torch

    from aiecof.agents.methods import METHODS
    from aiecof.reconstruction import tuning
    from aiecof.study.store import TUNING, add_rows

    torch.set_num_threads(1)
    names, place = method or list(METHODS), make_folder("results", Path(results or home() / "results"))
    total = len(names) * len(tuning.LEARNING_RATES) * len(tuning.TUNING_SEEDS)
    with progress_bar("Tuning", total) as update:
        table = tuning.tune(names, folder or home() / "runs/tuning", on_run=update)
    add_rows("tuning.csv", table, TUNING, place)
    print(table.groupby(["method", "learning_rate"])["reward"].mean().unstack().round(1).to_string())


PANELS = {
    "To begin with": (simulate, scenarios, policies, methods),
    "Learning": (train, evaluate),
    "Requests of your own": (trace_command,),
    "Your method against all": (compare, board),
    "The study of the paper": (over_results.status, over_results.claims, over_results.figures, over_results.run),
    "Where things are, and how fast": (equations,),
    "For those who look after the results": (*over_results.UPKEEP, tune),
}
"""Heading in the help -> commands, those that a newcomer needs at the top."""
for _panel, _commands in PANELS.items():
    for _command in _commands:
        app.command(rich_help_panel=_panel)(_command)
app.add_typer(bench, name="bench", rich_help_panel="Where things are, and how fast")
