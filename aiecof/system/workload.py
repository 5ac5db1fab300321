"""Traces: the whole workload of an episode, drawn before any decision, so that every policy meets the same tasks."""

from __future__ import annotations

import hashlib
import io
from dataclasses import dataclass, fields
from pathlib import Path

import numpy as np

from aiecof.checks import InvalidInput, check_choice, check_integer, check_memory, checked
from aiecof.files import check_format, reading, write_whole
from aiecof.system.model import transmission_rate
from aiecof.system.scenario import Bursts, Scenario

_FORMAT = "aiecof trace 1"
SPLITS = ("train", "evaluation", "reference")
"""Independent families of traces: what is learned from, what is judged on, and what fixes the reference energy."""


@dataclass(frozen=True)
class Trace:
    """The tasks and the network of B episodes.

    R are the rounds of decisions, K a slot (`arrivals_per_slot`): slot by slot, round by round; C are the servers that
    a device can send to, all N of them or those within `reach`.

    size : (B, R, M) float
        Task size [bit]; 0 where a device has no task.
    density : (B, R, M) float
        Computational density [cycle/bit].
    kind : (B, R, M) int
        Index into `scenario.task_kinds`; -1 without a task.
    device_frequency, server_frequency : (B, M), (B, N) float
        [Hz].
    rate : (B, M, C) float
        Transmission rates [bit/s].
    fade : (B, T, M, C) float, or None
        Factor on a channel's rate in a slot (R68).
    background : (B, T, N) float, or None
        Work that others bring to a server as a slot begins [slots] (R69).
    reach : (B, M, C) int, or None
        The servers 0 .. N - 1 that a device can send to (R67); None: all of them.
    """

    size: np.ndarray
    density: np.ndarray
    kind: np.ndarray
    device_frequency: np.ndarray
    server_frequency: np.ndarray
    rate: np.ndarray
    fade: np.ndarray | None = None
    background: np.ndarray | None = None
    reach: np.ndarray | None = None

    @property
    def episodes(self) -> int:
        """B."""
        return self.size.shape[0]

    @property
    def has_task(self) -> np.ndarray:
        """(B, R, M) bool: whether a device has a task in a round."""
        return self.size > 0.0

    def __getitem__(self, episodes: slice) -> Trace:
        """The trace of some of the episodes."""
        return Trace(**{name: values[episodes] for name, values in self.arrays().items()})

    def arrays(self) -> dict[str, np.ndarray]:
        """Name -> array of what there is."""
        found = {entry.name: getattr(self, entry.name) for entry in fields(self)}
        return {name: values for name, values in found.items() if values is not None}

    def check(self, scenario: Scenario) -> Trace:
        """Return the trace if it fits the scenario, else raise `InvalidInput`."""
        for name, shape in _shapes(scenario, self.size.shape[0] if self.size.ndim else 0).items():
            values, whole = getattr(self, name), name in ("kind", "reach")
            if (values is None) != (shape is None):
                allowed = "none" if shape is None else f"shape {shape}"
                raise InvalidInput(f"trace.{name}", np.shape(values), f"{allowed} for scenario {scenario.name}")
            if values is None:
                continue
            if values.shape != shape:
                raise InvalidInput(f"trace.{name}", values.shape, f"shape {shape} for scenario {scenario.name}")
            if not np.issubdtype(values.dtype, np.integer if whole else np.floating):
                raise InvalidInput(f"trace.{name}", values.dtype.name, "whole numbers" if whole else "floats")
            low, high = values.min(initial=1.0), values.max(initial=1.0)  # NaN if there is one
            positive = name not in ("size", "kind", "background", "reach")
            if not (0 if positive else -np.inf) < low <= high < np.inf:
                raise InvalidInput(f"trace.{name}", "an entry that is", "finite" + (" and > 0" if positive else ""))
            if name in ("size", "background") and low < 0:
                raise InvalidInput(f"trace.{name}", float(low), "0 (none) or more")
        if self.reach is not None and not 0 <= self.reach.min() <= self.reach.max() < scenario.servers:
            raise InvalidInput("trace.reach", "a server that is", f"one of 0..{scenario.servers - 1}")
        return self

    def save(self, path: str | Path) -> None:
        """Write the trace to a compressed .npz file with a checksum."""
        arrays = self.arrays()
        np.savez_compressed(file := io.BytesIO(), format=_FORMAT, checksum=_checksum(arrays), **arrays)
        write_whole(Path(path), file.getvalue())


_BEYOND = ("fade", "background", "reach")
"""Arrays of a trace that a scenario may do without."""


def _shapes(scenario: Scenario, b: int) -> dict[str, tuple[int, ...] | None]:
    """Shape of each array of a trace of B episodes; None for what the scenario does without."""
    m, n, t = scenario.devices, scenario.servers, scenario.slots
    shapes: dict[str, tuple[int, ...] | None] = dict.fromkeys(("size", "density", "kind"), (b, scenario.decisions, m))
    shapes |= {"device_frequency": (b, m), "server_frequency": (b, n), "rate": (b, m, scenario.choices)}
    return shapes | {
        "fade": (b, t, m, scenario.choices) if scenario.fading_scale < 1.0 else None,
        "background": (b, t, n) if scenario.background_load > 0.0 else None,
        "reach": (b, m, scenario.choices) if scenario.reach is not None else None,
    }


def _checksum(arrays: dict[str, np.ndarray]) -> str:
    digest = hashlib.sha256()
    for name in sorted(arrays):
        digest.update(name.encode() + str((arrays[name].dtype, arrays[name].shape)).encode())
        digest.update(np.ascontiguousarray(arrays[name]).tobytes())
    return digest.hexdigest()


@checked
def load_trace(path: str | Path, scenario: Scenario) -> Trace:
    """Read a trace written by `Trace.save`; a damaged file or one of another shape raises `InvalidInput`."""
    names = [entry.name for entry in fields(Trace)]
    with reading("trace", path, "a readable trace file"), np.load(path, allow_pickle=False) as file:
        check_format("trace", path, str(file["format"]) if "format" in file else None, _FORMAT)
        arrays = {name: file[name] for name in names if name in file or name not in _BEYOND}
        checksum = str(file["checksum"])
    if checksum != _checksum(arrays):
        raise InvalidInput("trace", str(path), "a file whose content matches its checksum")
    return Trace(**arrays).check(scenario)


@checked
def draw_trace(
    scenario: Scenario,
    episodes: int = 1,
    seed: int = 0,
    *,
    first: int = 0,
    split: str = "evaluation",
    network_seed: int | None = None,
) -> Trace:
    """Draw the traces of episodes `first` .. `first + episodes - 1`.

    Equal (scenario, seed, split, episode) give equal tasks, whatever else is drawn. With `network="run"` the seed
    alone decides the clocks and channels, so training and evaluation with one seed share one network; with
    `"episode"` each episode has its own. `network_seed`, if given, takes the seed's place in clocks and channels.
    The kind of a device (`kinds_by="device"`, R27) belongs to the network; otherwise all is drawn as without it.
    """
    for name, value, low in (("episodes", episodes, 1), ("seed", seed, 0), ("first", first, 0)):
        check_integer(name, value, low, 2**63)
    needed = scenario.devices * (64.0 * scenario.decisions + 32.0 * scenario.choices)
    links = scenario.devices * scenario.choices if scenario.fading_scale < 1.0 else 0
    needed += 8.0 * scenario.slots * (links + scenario.servers * (scenario.background_load > 0.0))
    check_memory("episodes", episodes, episodes * needed)
    branch = SPLITS.index(check_choice("split", split, SPLITS))
    place = seed if network_seed is None else check_integer("network_seed", network_seed, 0)
    per_episode = scenario.readings.network == "episode"
    drawn, network = [], () if per_episode else _draw_network(scenario, [place, 2])
    for episode in range(first, first + episodes):
        machines, kinds, weights = network or _draw_network(scenario, [place, 2, branch, episode])
        tasks = _draw_tasks(scenario, np.random.default_rng([seed, 1, branch, episode]), kinds, weights)
        hidden = _draw_hidden(scenario, np.random.default_rng([seed, 6, branch, episode]))
        drawn.append(tasks | machines | hidden)
    return Trace(**{name: np.stack([arrays[name] for arrays in drawn]) for name in drawn[0]})


def _draw_kinds(scenario: Scenario, rng: np.random.Generator, shape: int | tuple[int, ...]) -> np.ndarray:
    return rng.choice(len(scenario.task_kinds), shape, p=[entry.share for entry in scenario.task_kinds])


def _draw_tasks(
    scenario: Scenario, rng: np.random.Generator, own_kinds: np.ndarray, weights: np.ndarray
) -> dict[str, np.ndarray]:
    shape, bursts = (scenario.decisions, scenario.devices), scenario.bursts
    if bursts is None:
        arrives = rng.random(shape) < scenario.arrival_probability
    else:
        arrives = _burst_arrivals(scenario, bursts, rng, weights)
    kind = _draw_kinds(scenario, rng, shape)
    if scenario.readings.kinds_by == "device":
        kind[:] = own_kinds
    low, high = np.array([entry.size for entry in scenario.task_kinds]).T
    size = low[kind] + (high - low)[kind] * rng.random(shape)
    work = rng.uniform(*scenario.workload_range, shape)
    if bursts is not None:
        size = np.clip(_lognormal(rng, bursts.size_mean, bursts.size_cv, shape), low[kind], high[kind])
        work = np.clip(_lognormal(rng, bursts.work_mean, bursts.work_cv, shape), *scenario.workload_range)
    work = work * scenario.workload_scale
    density = work / size if scenario.readings.workload == "per_task" else work
    return {"size": np.where(arrives, size, 0.0), "density": density, "kind": np.where(arrives, kind, -1)}


def _lognormal(rng: np.random.Generator, mean: float, cv: float, shape: tuple[int, ...]) -> np.ndarray:
    """Lognormal numbers of a mean and a coefficient of variation."""
    variance = np.log1p(cv**2)
    return mean * np.exp(np.sqrt(variance) * rng.standard_normal(shape) - variance / 2.0)


def _two_states(rng: np.random.Generator, slots: int, count: int, sojourn_slots: float) -> np.ndarray:
    """(T, count) bool: processes that are on or off for `sojourn_slots` slots on average."""
    begins = rng.random(count) < 0.5
    turns = rng.random((slots, count)) < 1.0 / sojourn_slots
    turns[0] = False
    return (begins + np.cumsum(turns, axis=0)) % 2 == 1


def _burst_arrivals(scenario: Scenario, bursts: Bursts, rng: np.random.Generator, weights: np.ndarray) -> np.ndarray:
    """(R, M) bool: Poisson numbers of tasks in the first rounds of each slot; what exceeds the rounds is cut off."""
    busy = _two_states(rng, scenario.slots, 1, bursts.sojourn_slots)
    rate = scenario.arrival_probability * weights * np.where(busy, 1.0 + bursts.swing, 1.0 - bursts.swing)
    arrives = np.arange(scenario.arrivals_per_slot)[:, None] < rng.poisson(rate)[:, None, :]
    return arrives.reshape(scenario.decisions, scenario.devices)


def _draw_hidden(scenario: Scenario, rng: np.random.Generator) -> dict[str, np.ndarray]:
    """What devices do not see come: fading channels (R68) and the work of others on the servers (R69)."""
    hidden = {}
    if scenario.fading_scale < 1.0:
        links = (scenario.devices, scenario.choices)
        bad = _two_states(rng, scenario.slots, links[0] * links[1], scenario.fading_slots)
        hidden["fade"] = np.where(bad, scenario.fading_scale, 1.0).reshape(-1, *links)
    if scenario.background_load > 0.0:
        on = _two_states(rng, scenario.slots, scenario.servers, scenario.background_slots)
        hidden["background"] = np.where(on, scenario.background_load, 0.0)
    return hidden


def _draw_network(scenario: Scenario, seed: list[int]) -> tuple[dict[str, np.ndarray], np.ndarray, np.ndarray]:
    """Clocks of devices and servers and rates of the channels, and the kinds and the weights that devices keep."""
    rng = np.random.default_rng(seed)
    devices = rng.uniform(*scenario.device_frequency, scenario.devices)
    servers = rng.uniform(*scenario.server_frequency, scenario.servers)
    servers[0] *= scenario.first_server_scale
    rate = np.full((scenario.devices, scenario.choices), scenario.transmission_rate or 0.0)
    if scenario.transmission_rate is None:
        gain = rng.uniform(*scenario.channel_gain, rate.shape)
        rate = transmission_rate(scenario.bandwidth, gain, scenario.transmission_power, scenario.noise_power)
    kinds, weights = _draw_kinds(scenario, rng, scenario.devices), np.ones(scenario.devices)
    machines = {"device_frequency": devices, "server_frequency": servers, "rate": rate}
    if scenario.reach is not None:
        order = np.argsort(rng.random((scenario.devices, scenario.servers)), axis=1)
        machines["reach"] = np.sort(order[:, : scenario.reach], axis=1)
    if scenario.bursts is not None:
        heavy = rng.permutation(scenario.devices) < -(-scenario.devices // 10)
        share = scenario.bursts.heavy_share if not heavy.all() else 1.0
        weights = np.where(heavy, share / heavy.sum(), (1.0 - share) / max((~heavy).sum(), 1)) * scenario.devices
    return machines, kinds, weights
