"""The scenario that a command line describes, or the requests that take its place."""

from __future__ import annotations

import json
from dataclasses import fields
from typing import TYPE_CHECKING, Annotated, Any

import typer

from aiecof.checks import InvalidInput, did_you_mean
from aiecof.cli.console import number
from aiecof.system.scenario import READINGS, UNITS, Bursts, Scenario, Weights, load_scenario

if TYPE_CHECKING:
    from aiecof.requests.tasks import RequestTrace
    from aiecof.system.workload import Trace

ScenarioName = Annotated[str, typer.Option(help="Name of a scenario, or path to a JSON file.")]
Devices = Annotated[int | None, number("devices", 1, "Another number of devices.", 10**5)]
FIELDS = tuple(entry.name for entry in fields(Scenario) if entry.name not in ("readings", "weights"))
PARTS = {"weights": Weights, "bursts": Bursts}
"""Fields of a scenario that have fields of their own."""
OwnTrace = Annotated[
    str | None, typer.Option(metavar="FILE.npz", help="Requests of your own, as `aiecof trace` wrote them.")
]
Episodes = Annotated[
    int | None, number("episodes", 1, "Held-out episodes; 20, or with a trace of your own all that it has.")
]
Settings = Annotated[
    list[str] | None,
    typer.Option("--set", metavar="KEY=VALUE", help="Change a field, reading or weight: weights.drop=0.4; repeatable."),
]


def chosen_scenario(scenario: str, devices: int | None, settings: list[str] | None = None) -> Scenario:
    """The scenario with what `--set` and `--devices` change, each value of the type that its field has."""
    table: dict[str, Any] = {}
    inner = {part: tuple(entry.name for entry in fields(kind)) for part, kind in PARTS.items()}
    for setting in settings or ():
        key, found, text = setting.partition("=")
        part, _, name = key.rpartition(".")
        if name in READINGS:
            part = part or "readings"
        known = {"": FIELDS, "readings": tuple(READINGS), **inner}.get(part, ())
        bare = name.removesuffix(next((unit for unit in UNITS if name.endswith(unit)), ""))
        if not found or bare not in known:
            every = (*FIELDS, *READINGS, *(f"{of}.{name}" for of, names in inner.items() for name in names))
            allowed = "KEY=VALUE with a field, a reading, weights.NAME or bursts.NAME as key: "
            raise InvalidInput("set", setting, allowed + ", ".join(known or every) + did_you_mean(key, every))
        place = table.setdefault(part, {}) if part else table
        if not isinstance(place, dict) or name in place:
            raise InvalidInput("set", setting, f"each key once: {key} is there already")
        place[name] = text if part == "readings" or name in ("name", "task_kinds") else _value(setting, text)
    changes = {} if devices is None else {"devices": devices}
    return load_scenario({"base": scenario} | table if table else scenario, **changes)


def _value(setting: str, text: str) -> Any:
    """A number, a pair such as 2,4, or a mapping in JSON."""
    try:
        return json.loads(f"[{text}]" if "," in text and text[0] not in "[{" else text)
    except (ValueError, RecursionError):
        raise InvalidInput("set", setting, "KEY=VALUE with a number, or two with a comma between them") from None


def held_out(requests: RequestTrace | None, episodes: int | None) -> tuple[Trace | None, int]:
    """The episodes kept back of a trace of one's own, or None; and how many episodes to play."""
    if requests is None:
        return None, episodes or 20
    kept = requests.evaluation_trace
    return kept, episodes or kept.episodes


def own_requests(
    trace: str | None, scenario: str, devices: int | None, settings: list[str] | None
) -> RequestTrace | None:
    """What `--trace` names, if it is there; no other scenario may be asked for beside it."""
    if trace is None:
        return None
    for name, value, plain in (("scenario", scenario, "balanced"), ("devices", devices, None), ("set", settings, None)):
        if value not in (plain, []):
            raise InvalidInput(name, value, f"none beside a trace: {trace} has its own, chosen by `aiecof trace`")

    from aiecof.requests.tasks import load_request_trace

    return load_request_trace(trace)
