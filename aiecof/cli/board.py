"""The command that plays a policy on the suite of the board, and prints its card."""

from __future__ import annotations

from os.path import relpath
from pathlib import Path
from typing import Annotated, Any

import typer

from aiecof.checks import InvalidInput
from aiecof.cli.chosen import OwnTrace
from aiecof.cli.console import AsJson, print_json, print_table, progress_bar
from aiecof.cli.results import Folder, Jobs
from aiecof.files import plain_name
from aiecof.metrics import METRICS


def compare(
    policy: Annotated[
        str,
        typer.Argument(help="file.py:Class, a model (model.zip:PPO, model.onnx), a rule, or a method with results."),
    ],
    scenario: Annotated[list[str] | None, typer.Option(help="Only this setting of the suite; repeatable.")] = None,
    trace: OwnTrace = None,
    greedy: Annotated[
        bool | None, typer.Option("--greedy/--sampled", help="How a model acts; by default as its family is judged.")
    ] = None,
    out: Annotated[str | None, typer.Option(help="Where the card goes; by default NAME.card.json.")] = None,
    jobs: Jobs = 1,
    folder: Folder = None,
    as_json: AsJson = False,
) -> None:
    """Play a policy on the frozen suite, and say by how much it is ahead of TOPPO, the best rule and the bound.

    All play the same held-out tasks, 20 episodes on each of ten networks a setting. The card is printed and saved.
    """
    from aiecof.board import cards

    name = policy.rpartition(":")[2] if ".py:" in policy else Path(policy.rpartition(":")[0] or policy).stem
    place = Path(out) if out else Path(f"{plain_name(name)}.card.json")
    if trace and scenario:
        raise InvalidInput("scenario", scenario[0], "none beside a trace, which has its own")
    where = {"scenarios": scenario, "trace": Path(trace) if trace else None, "folder": Path(folder) if folder else None}
    with progress_bar("Playing") as update:
        card = cards.compare(policy, **where, greedy=greedy, out=place, jobs=jobs, progress=update)
    if as_json:
        print_json(card)
        return
    print(f"{policy}; actions: {card['actions']}; knows: {card['information']}")
    print(f"suite {card['suite']}, aiecof {card['version']}, file {card['sha256'][:16] or 'of the package'}\n")
    for setting, section in card["settings"].items():
        _print_setting(setting, section)
    print(f"the card is in {relpath(place)}")


def board(
    again: Annotated[
        bool, typer.Option("--again", help="First make every card again, as after a new setting.")
    ] = False,
    jobs: Jobs = 1,
    as_json: AsJson = False,
) -> None:
    """The cards of results/board/: reward and objective of everyone on each setting, the best by reward first.

    Who has not played all networks is ranked by the difference to the best rule on those that it has.
    """
    from aiecof.board import cards
    from aiecof.board.suite import SEEDS, SETTINGS, VERSION

    paths = cards.board()
    if again:
        with progress_bar("Making cards", len(paths)) as update:
            for done, path in enumerate(paths.values(), 1):
                cards.refresh(path, jobs)
                update(done)
    found = {name: cards.read_card(path) for name, path in paths.items()}
    if as_json:
        print_json(found)
        return
    for setting in SETTINGS:
        rows = []
        for name, networks in cards.ranked(found, setting).items():
            section = found[name]["settings"][setting]
            means = [_mean(section["means"][key]) if key in section["means"] else "" for key in ("reward", "cost")]
            ahead = _gap(section["less"].get("toppo", {}).get("reward", [None]))
            part = "" if networks == len(SEEDS) else f" ({networks} networks)"
            rows.append([name + part, *means, ahead, found[name]["information"]])
        heads = ["", "Reward", METRICS["cost"].heading, "Reward less TOPPO", "Knows"]
        print_table(f"{setting}, suite {VERSION}", heads, rows)


def _print_setting(setting: str, section: dict[str, Any]) -> None:
    """Means of a player, and what is left when those of others are taken away."""
    from aiecof.board.suite import REFERENCES

    others = {who: numbers for who, numbers in section["less"].items() if numbers}
    rows = [
        [
            METRICS[name].heading,
            _mean(mean),
            *(_gap(less[name]) if name in less else "" for less in others.values()),
        ]
        for name, mean in section["means"].items()
    ]
    networks = max(len(values) for values in section["values"].values())
    heads = [f"less {REFERENCES[who]}" for who in others]
    print_table(
        f"{setting}: means over {networks} networks (of a trace, episodes), 95 % intervals", ["", "Mean", *heads], rows
    )
    best = [f"{REFERENCES[who]}: {rule}" for who, rule in section["best"].items()]
    print(f"  {'; '.join(best)}")
    missing = [words for who, words in REFERENCES.items() if who not in others]
    if missing:
        print(f"  left out, being itself or without results there: {', '.join(missing)}")
    print()


def _mean(numbers: list[float | None]) -> str:
    return "-" if None in numbers else "{:.4g} ({:.4g} to {:.4g})".format(*numbers)


def _gap(numbers: list[float | None]) -> str:
    """A difference and half its interval, which is symmetric."""
    return "-" if None in numbers else f"{numbers[0]:+.3g} ± {numbers[2] - numbers[0]:.2g}"
