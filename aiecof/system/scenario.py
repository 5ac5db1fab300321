"""Scenarios: what a run of the network is made of, validated, in SI units.

This is the only module that converts units. Every field that the paper leaves open is a *reading*.
"""

from __future__ import annotations

import hashlib
import json
import math
import tomllib
from dataclasses import MISSING, asdict, dataclass, field, fields, replace
from decimal import Decimal
from functools import cached_property
from pathlib import Path
from typing import Any

from aiecof.checks import InvalidInput, check_choice, check_integer, check_number, check_range, check_type, did_you_mean
from aiecof.files import check_name, plain_name, read_json


def _later(default: Any) -> Any:
    """A field that is left out of fingerprints at its default, because scenarios had theirs before it."""
    return field(default=default, metadata={"later": True})


def _reading(*candidates: str, default: str | None = None, later: bool = False) -> Any:
    """A choice between candidates; without another default it is the first of them."""
    return field(default=default or candidates[0], metadata={"candidates": candidates, "later": later})


@dataclass(frozen=True)
class Readings:
    """The choice taken for each open point of the paper; the defaults follow the rule of the ledger.

    Each reading is declared here, with its candidates; `book/readings.md` tells its story.
    """

    workload: str = _reading("per_task", "per_bit")
    drop_rule: str = _reading("deadline", "wait")
    device_rounding: str = _reading("ceil", "none")
    server_rounding: str = _reading("ceil", "none", default="none")
    transmission_rounding: str = _reading("ceil", "none")
    channel_queue: str = _reading("per_channel", "per_device", "none")
    edge_service: str = _reading("decision_order", "arrival_order", "equal_sharing", "slotted_sharing")
    edge_wait_from: str = _reading("arrival", "decision")
    network: str = _reading("run", "episode")
    kinds_by: str = _reading("task", "device", later=True)
    in_flight: str = _reading("complete", "exclude", "drop")
    dropped_energy: str = _reading("spent", "full", "none")
    load: str = _reading("busy_share", "literal", "literal_seconds", "local_share")
    load_mean: str = _reading("slots", "decisions")
    delay_mean: str = _reading("completed", "tasks", "slots")
    energy_mean: str = _reading("completed", "tasks", "slots", default="tasks")
    energy_reference: str = _reading("own_history", "random_policy", default="random_policy")
    reward_history: str = _reading("running", "task")
    history_mean: str = _reading("tasks", "slots")
    failure_scope: str = _reading("offloaded", "all", default="all")
    dropped_energy_term: str = _reading("printed", "capped", default="capped")
    load_sign: str = _reading("plus", "minus", default="minus")
    cost_units: str = _reading("si", "normalised", default="normalised")
    cost_load: str = _reading("level", "variance", default="variance")
    observation: str = _reading("printed", "extended", "printed_mean", "acknowledged", "oracle", default="extended")
    clocks_seen: str = _reading("shown", "hidden", later=True)
    backlog_seen: str = _reading("all", "own", later=True)

    def __post_init__(self):
        for entry in fields(self):
            check_choice(f"readings.{entry.name}", getattr(self, entry.name), READINGS[entry.name])


READINGS: dict[str, tuple[str, ...]] = {entry.name: entry.metadata["candidates"] for entry in fields(Readings)}
"""Every reading and its candidates."""


@dataclass(frozen=True)
class Weights:
    """The lambdas of Eqs. (25) and (30), by what they weigh: the paper numbers them differently in each."""

    delay: float = 0.25
    energy: float = 0.25
    drop: float = 0.25
    load: float = 0.25

    def __post_init__(self):
        for entry in fields(self):
            weight = check_number(f"weights.{entry.name}", getattr(self, entry.name), 0.0, 1.0, open_low=False)
            object.__setattr__(self, entry.name, weight)


@dataclass(frozen=True)
class TaskKind:
    """A family of AIGC tasks: sizes uniform in `size` [bit], drawn with probability `share`."""

    name: str
    size: tuple[float, float]
    share: float = 1.0

    def __post_init__(self):
        check_type("task_kinds.name", self.name, str)
        object.__setattr__(self, "size", check_range(f"task_kinds.{self.name}.size", self.size))
        object.__setattr__(self, "share", check_number(f"task_kinds.{self.name}.share", self.share, 0.0, 1.0))


@dataclass(frozen=True)
class Bursts:
    """A workload as uneven as that of real services, in place of one task at most with a fixed probability (R66).

    A device has a Poisson number of tasks in a slot. Its mean is `arrival_probability`, times a factor that all
    devices share, which is 1 + `swing` or 1 - `swing` for `sojourn_slots` slots on average, and times the weight of the
    device: a tenth of the devices, drawn with the network, make `heavy_share` of all tasks. Sizes [bit] and work (as
    `workload_range`, before its scale) are lognormal with the means and coefficients of variation given here, cut off
    at the ranges of the scenario.
    """

    swing: float
    sojourn_slots: float
    heavy_share: float
    size_mean: float
    size_cv: float
    work_mean: float
    work_cv: float

    def __post_init__(self):
        limits = {"swing": 1.0, "heavy_share": 1.0, "size_cv": 1e6, "work_cv": 1e6}
        for entry in fields(self):
            low = 1.0 if entry.name == "sojourn_slots" else 0.0
            value, high = getattr(self, entry.name), limits.get(entry.name, math.inf)
            is_open = entry.name in ("size_mean", "work_mean")
            object.__setattr__(
                self, entry.name, check_number(f"bursts.{entry.name}", value, low, high, open_low=is_open)
            )


@dataclass(frozen=True)
class Scenario:
    """One network and the readings under which it is simulated; everything in SI units (Table III).

    The channel is either a fixed `transmission_rate` [bit/s], or `bandwidth` [Hz], `channel_gain` (a range,
    dimensionless) and `noise_power` [W], from which Eq. (13) gives the rate. `workload_range` is in cycles a task or in
    cycles a bit, as `readings.workload` says. `first_server_scale` is a factor on the clock of server 1.

    Beyond the paper, and off unless set: up to `arrivals_per_slot` tasks of a device in a slot, decided in as many
    rounds (R66); a device sends only to `reach` of the servers (R67); the rate of a channel is `fading_scale` times as
    high in a bad state, and states last `fading_slots` on average (R68); others bring `background_load` slots of work a
    slot to a server for `background_slots` on average, and nothing for as long (R69); the backlogs that devices see are
    those of the latest beacon, every `beacon_slots` (R70).
    """

    name: str
    devices: int
    servers: int
    slots: int
    slot_duration: float
    device_frequency: tuple[float, float]
    server_frequency: tuple[float, float]
    workload_range: tuple[float, float]
    task_kinds: tuple[TaskKind, ...]
    arrival_probability: float
    tau_max_slots: int
    waiting_power: float
    transmission_power: float
    workload_scale: float = 1.0
    switched_capacitance: float = 1e-26
    load_cap: float = 0.98
    transmission_rate: float | None = None
    bandwidth: float | None = None
    channel_gain: tuple[float, float] | None = None
    noise_power: float | None = None
    first_server_scale: float = _later(1.0)
    arrivals_per_slot: int = _later(1)
    reach: int | None = _later(None)
    fading_scale: float = _later(1.0)
    fading_slots: float = _later(30.0)
    background_load: float = _later(0.0)
    background_slots: float = _later(30.0)
    beacon_slots: int = _later(1)
    bursts: Bursts | None = _later(None)
    weights: Weights = field(default_factory=Weights)
    readings: Readings = field(default_factory=Readings)

    def __post_init__(self):
        check_name("name", self.name)
        for name, kind in {"weights": Weights, "readings": Readings}.items():
            check_type(name, getattr(self, name), kind)
        most = {"devices": 10**5, "servers": 10**4, "slots": 10**6, "tau_max_slots": 10**6}
        for name, high in (most | {"arrivals_per_slot": 64, "beacon_slots": 10**6}).items():
            self._set(name, check_integer(name, getattr(self, name), 1, high))
        if self.reach is not None:
            self._set("reach", check_integer("reach", self.reach, 1, self.servers))
        for name, high in {"waiting_power": math.inf, "background_load": 1e6}.items():
            self._set(name, check_number(name, getattr(self, name), 0.0, high, open_low=False))
        for name in ("fading_slots", "background_slots"):
            self._set(name, check_number(name, getattr(self, name), 1.0, open_low=False))
        if self.bursts is not None:
            check_type("bursts", self.bursts, Bursts)
        shares = ("arrival_probability", "load_cap", "fading_scale")
        scales = ("workload_scale", "first_server_scale")
        for name in ("slot_duration", "switched_capacitance", "transmission_power", *scales, *shares):
            self._set(name, check_number(name, getattr(self, name), 0.0, 1.0 if name in shares else math.inf))
        for name in ("device_frequency", "server_frequency", "workload_range"):
            self._set(name, check_range(name, getattr(self, name)))
        self._check_kinds()
        self._check_channel()

    def _set(self, name: str, value: object):
        object.__setattr__(self, name, value)  # one type for equal values, so that their fingerprints are equal

    def _check_kinds(self):
        kinds = self.task_kinds
        if not isinstance(kinds, list | tuple) or not all(isinstance(kind, TaskKind) for kind in kinds):
            raise InvalidInput("task_kinds", kinds, "a sequence of TaskKind")
        if abs(sum(kind.share for kind in kinds) - 1.0) > 1e-9:
            raise InvalidInput("task_kinds", [kind.share for kind in kinds], "shares that add up to 1")
        self._set("task_kinds", tuple(kinds))

    def _check_channel(self):
        shannon = ["bandwidth", "channel_gain", "noise_power"]
        given = [name for name in ["transmission_rate", *shannon] if getattr(self, name) is not None]
        if given not in (["transmission_rate"], shannon):
            raise InvalidInput("transmission_rate", self.transmission_rate, f"a rate, or all of {', '.join(shannon)}")
        for name in given:
            check = check_range if name == "channel_gain" else check_number
            self._set(name, check(name, getattr(self, name)))

    @property
    def choices(self) -> int:
        """Number of servers that a device can send to."""
        return self.reach or self.servers

    @property
    def actions(self) -> int:
        """Number of places a task can run: 0 is the device itself, n = 1..N is server n, or the n-th within reach."""
        return self.choices + 1

    @property
    def decisions(self) -> int:
        """Rounds of decisions in an episode: T, times the tasks that a device can have in a slot."""
        return self.slots * self.arrivals_per_slot

    @property
    def tau_max(self) -> float:
        """Longest allowed time of a task [s]."""
        return self.tau_max_slots * self.slot_duration

    @property
    def largest_size(self) -> float:
        """Largest task [bit]."""
        return max(kind.size[1] for kind in self.task_kinds)

    @property
    def server_clocks(self) -> tuple[float, float]:
        """Lowest and highest clock that a server can have [Hz]."""
        low, high = self.server_frequency
        return low * min(1.0, self.first_server_scale), high * max(1.0, self.first_server_scale)

    @property
    def largest_energy(self) -> float:
        """Energy of the heaviest task on the fastest server [J]."""
        work = self.workload_range[1] * self.workload_scale
        cycles = work if self.readings.workload == "per_task" else work * self.largest_size
        return self.switched_capacitance * self.server_clocks[1] ** 2 * cycles

    @cached_property
    def fingerprint(self) -> str:
        """Hash of everything that decides an episode (the name does not).

        What came later is left out at its default, so that scenarios keep their fingerprints.
        """
        content = asdict(self) | {"name": ""}
        for part, table in ((self, content), (self.readings, content["readings"])):
            for entry in fields(part):
                if entry.metadata.get("later") and table[entry.name] == entry.default:
                    del table[entry.name]
        return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()[:16]

    def replace(self, **changes: Any) -> Scenario:
        """A copy with some fields changed; a reading may be named directly."""
        readings = {name: changes.pop(name) for name in list(changes) if name in READINGS}
        _fields_of(Scenario, "scenario", changes)
        before = check_type("readings", changes.get("readings", self.readings), Readings)
        return replace(self, **changes | {"readings": replace(before, **readings)})


UNITS = {"_ghz": 1e9, "_mhz": 1e6, "_mbit": 1e6, "_mbps": 1e6, "_megacycles": 1e6, "_ms": 1e-3}

_TABLES = tomllib.loads(Path(__file__).with_name("scenarios.toml").read_text(encoding="utf-8"))
TABLE_III: dict[str, Any] = _TABLES["table_iii"]
"""Table III (and the 100 slots of Fig. 4) as printed, in the paper's units."""
TASK_KINDS: dict[str, dict[str, Any]] = _TABLES["task_kinds"]
"""Task mixtures: Table III; the text, image and audio services of Section III-A; the factory of Fig. 4."""
SCENARIOS: dict[str, dict[str, Any]] = _TABLES["scenarios"]
"""Named scenarios, as changes of `TABLE_III`: the printed parameters, a reconstruction of Table IV, a balanced load."""
BEYOND: dict[str, dict[str, Any]] = _TABLES["beyond"]
"""Named scenarios beyond the paper: a bursty workload, and networks that hide one thing each (R66-R70)."""


def _to_si(table: object, prefix: str = "") -> dict[str, Any]:
    """Strip unit suffixes from the names and multiply the values by what the unit stands for."""
    if not isinstance(table, dict) or not all(isinstance(name, str) for name in table):
        raise InvalidInput(prefix.rstrip(".") or "scenario", table, "a mapping from names to values")
    converted = {}
    for name, value in table.items():
        unit = next((suffix for suffix in UNITS if name.endswith(suffix)), None)
        if unit is not None:
            pair = isinstance(value, list | tuple)
            # In decimals, so that 4.35 GHz is 4350000000.0 Hz and not the product of two rounded numbers.
            numbers = [Decimal(repr(check_number(prefix + name, entry))) for entry in (value if pair else [value])]
            entries = [float(number * Decimal(repr(UNITS[unit]))) for number in numbers]
            name, value = name.removesuffix(unit), tuple(entries) if pair else entries[0]
        if name in converted:
            raise InvalidInput(prefix + name, value, "each field once, in one unit")
        converted[name] = value
    return converted


def _fields_of(kind: type, name: str, table: object) -> dict[str, Any]:
    """Return `table` if it is a mapping whose keys are all fields of the dataclass `kind`."""
    known = [entry.name for entry in fields(kind)]
    if not isinstance(table, dict):
        raise InvalidInput(name, table, "a mapping with fields " + ", ".join(known))
    for key in table:
        if key not in known:
            raise InvalidInput(f"{name}.{key}", table[key], "fields " + ", ".join(known) + did_you_mean(key, known))
    return table


def from_units(table: dict[str, Any], name: str = "custom") -> Scenario:
    """Build a scenario from a table in the paper's units, such as `TABLE_III` with some changes.

    A name may carry one of the unit suffixes in `UNITS` (`device_frequency_ghz`); without one it is SI.
    """
    content = {"name": name} | _to_si(table)
    known = _fields_of(Scenario, "scenario", content)
    needed = [entry.name for entry in fields(Scenario) if entry.default is entry.default_factory is MISSING]
    missing = [name for name in needed if name not in known]
    if missing:
        raise InvalidInput("scenario", f"none for {', '.join(missing)}", "every field of Table III and tau_max_slots")
    kinds = content["task_kinds"]
    if isinstance(kinds, str):
        kinds = TASK_KINDS[check_choice("task_kinds", kinds, tuple(TASK_KINDS))]
    if not isinstance(kinds, dict):
        raise InvalidInput("task_kinds", kinds, "a mapping of kinds, or one of " + ", ".join(TASK_KINDS))
    entries = {kind: _to_si(value, f"task_kinds.{kind}.") for kind, value in kinds.items()}
    content["task_kinds"] = tuple(
        TaskKind(**_fields_of(TaskKind, f"task_kinds.{kind}", {"name": kind, "size": None} | value))
        for kind, value in entries.items()
    )
    if not isinstance(content.get("bursts"), Bursts | None):
        table = _fields_of(Bursts, "bursts", _to_si(content["bursts"], "bursts."))
        if missing := [entry.name for entry in fields(Bursts) if entry.name not in table]:
            raise InvalidInput("bursts", f"none for {', '.join(missing)}", "all fields of Bursts")
        content["bursts"] = Bursts(**table)
    content["weights"] = Weights(**_fields_of(Weights, "weights", content.get("weights", {})))
    content["readings"] = Readings(**_fields_of(Readings, "readings", content.get("readings", {})))
    return Scenario(**known)


def load_scenario(source: str | Path | dict[str, Any], **changes: Any) -> Scenario:
    """Return the scenario called `source`, or the one in the JSON file at that path, with `changes` applied.

    A file, or a mapping like it, holds changes of `TABLE_III`, or of the scenario that it names as its `base`:
    `{"base": "balanced", "tau_max_slots": 9, "device_frequency_ghz": [2, 4], "readings": {"drop_rule": "wait"}}`. One
    with bandwidth, channel_gain and noise_power replaces the fixed rate.
    """
    return from_units(_table(source, 9)).replace(**changes)


def _table(source: object, bases: int) -> dict[str, Any]:
    """What a name, a file or a mapping says, in SI units, over all that it is based on; `bases` may stand below it."""
    named = SCENARIOS | BEYOND
    if isinstance(source, dict):
        own = _to_si(source)
    elif str(source) in named or str(source).endswith(".json"):
        content = named.get(str(source)) or read_json("scenario", Path(str(source)))
        own = {"name": plain_name(Path(str(source)).stem)} | _to_si(content)
    else:
        allowed = f"one of {', '.join(named)}, or a path ending in .json{did_you_mean(source, named)}"
        raise InvalidInput("scenario", source, allowed)
    if "base" in own and not bases:
        raise InvalidInput("base", own["base"], "a scenario that is not based on itself")
    base = _table(own.pop("base"), bases - 1) if "base" in own else _to_si(TABLE_III)
    kept = {name: value for name, value in base.items() if name != "transmission_rate" or "bandwidth" not in own}
    for name in ("readings", "weights", "bursts"):
        before, now = base.get(name) or {}, own.get(name)
        if isinstance(before, dict) and isinstance(now, dict):
            own[name] = _to_si(before, f"{name}.") | _to_si(now, f"{name}.")
    return kept | own


def scenario_from_dict(content: dict[str, Any]) -> Scenario:
    """The scenario that `dataclasses.asdict` wrote into a run."""
    kinds = tuple(TaskKind(kind["name"], tuple(kind["size"]), kind["share"]) for kind in content["task_kinds"])
    bursts = content.get("bursts")
    content = content | {"bursts": bursts and Bursts(**bursts)}
    parts = {"task_kinds": kinds, "weights": Weights(**content["weights"]), "readings": Readings(**content["readings"])}
    return Scenario(**content | parts)
