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
from aiecof.system.scenario import Scenario

_FORMAT = "aiecof trace 1"
SPLITS = ("train", "evaluation", "reference")
"""Independent families of traces: what is learned from, what is judged on, and what fixes the reference energy."""


@dataclass(frozen=True)
class Trace:
    """The tasks and the network of B episodes.

    size : (B, T, M) float
        Task size [bit]; 0 where a device has no task.
    density : (B, T, M) float
        Computational density [cycle/bit].
    kind : (B, T, M) int
        Index into `scenario.task_kinds`; -1 without a task.
    device_frequency, server_frequency : (B, M), (B, N) float
        [Hz].
    rate : (B, M, N) float
        Transmission rates [bit/s].
    """

    size: np.ndarray
    density: np.ndarray
    kind: np.ndarray
    device_frequency: np.ndarray
    server_frequency: np.ndarray
    rate: np.ndarray

    @property
    def episodes(self) -> int:
        """B."""
        return self.size.shape[0]

    @property
    def has_task(self) -> np.ndarray:
        """(B, T, M) bool: whether a device generates a task in a slot."""
        return self.size > 0.0

    def __getitem__(self, episodes: slice) -> Trace:
        """The trace of some of the episodes."""
        return Trace(*(getattr(self, entry.name)[episodes] for entry in fields(self)))

    def check(self, scenario: Scenario) -> Trace:
        """Return the trace if it fits the scenario, else raise `InvalidInput`."""
        b, m, n = self.size.shape[0] if self.size.ndim else 0, scenario.devices, scenario.servers
        shapes = dict.fromkeys(("size", "density", "kind"), (b, scenario.slots, m))
        shapes |= {"device_frequency": (b, m), "server_frequency": (b, n), "rate": (b, m, n)}
        for name, shape in shapes.items():
            values = getattr(self, name)
            if values.shape != shape:
                raise InvalidInput(f"trace.{name}", values.shape, f"shape {shape} for scenario {scenario.name}")
            if not np.issubdtype(values.dtype, np.integer if name == "kind" else np.floating):
                raise InvalidInput(f"trace.{name}", values.dtype.name, "whole numbers" if name == "kind" else "floats")
            low, high = values.min(initial=1.0), values.max(initial=1.0)  # NaN if there is one
            positive = name not in ("size", "kind")
            if not (0 if positive else -np.inf) < low <= high < np.inf:
                raise InvalidInput(f"trace.{name}", "an entry that is", "finite" + (" and > 0" if positive else ""))
            if name == "size" and low < 0:
                raise InvalidInput("trace.size", float(low), "0 (no task) or a size > 0")
        return self

    def save(self, path: str | Path) -> None:
        """Write the trace to a compressed .npz file with a checksum."""
        arrays = {entry.name: getattr(self, entry.name) for entry in fields(self)}
        np.savez_compressed(file := io.BytesIO(), format=_FORMAT, checksum=_checksum(arrays), **arrays)
        write_whole(Path(path), file.getvalue())


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
        arrays = {name: file[name] for name in names}
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
    check_memory("episodes", episodes, episodes * scenario.devices * (64.0 * scenario.slots + 32.0 * scenario.servers))
    branch = SPLITS.index(check_choice("split", split, SPLITS))
    place = seed if network_seed is None else check_integer("network_seed", network_seed, 0)
    per_episode = scenario.readings.network == "episode"
    drawn, network = [], () if per_episode else _draw_network(scenario, [place, 2])
    for episode in range(first, first + episodes):
        machines, kinds = network or _draw_network(scenario, [place, 2, branch, episode])
        drawn.append(_draw_tasks(scenario, np.random.default_rng([seed, 1, branch, episode]), kinds) + machines)
    return Trace(*(np.stack(arrays) for arrays in zip(*drawn, strict=True)))


def _draw_kinds(scenario: Scenario, rng: np.random.Generator, shape: int | tuple[int, ...]) -> np.ndarray:
    return rng.choice(len(scenario.task_kinds), shape, p=[entry.share for entry in scenario.task_kinds])


def _draw_tasks(scenario: Scenario, rng: np.random.Generator, own_kinds: np.ndarray) -> tuple[np.ndarray, ...]:
    shape = (scenario.slots, scenario.devices)
    arrives = rng.random(shape) < scenario.arrival_probability
    kind = _draw_kinds(scenario, rng, shape)
    if scenario.readings.kinds_by == "device":
        kind[:] = own_kinds
    low, high = np.array([entry.size for entry in scenario.task_kinds]).T
    size = low[kind] + (high - low)[kind] * rng.random(shape)
    work = rng.uniform(*scenario.workload_range, shape) * scenario.workload_scale
    density = work / size if scenario.readings.workload == "per_task" else work
    return np.where(arrives, size, 0.0), density, np.where(arrives, kind, -1)


def _draw_network(scenario: Scenario, seed: list[int]) -> tuple[tuple[np.ndarray, ...], np.ndarray]:
    """Clocks of devices and servers and rates of the channels, and the kinds that devices keep."""
    rng = np.random.default_rng(seed)
    devices = rng.uniform(*scenario.device_frequency, scenario.devices)
    servers = rng.uniform(*scenario.server_frequency, scenario.servers)
    servers[0] *= scenario.first_server_scale
    rate = np.full((scenario.devices, scenario.servers), scenario.transmission_rate or 0.0)
    if scenario.transmission_rate is None:
        gain = rng.uniform(*scenario.channel_gain, rate.shape)
        rate = transmission_rate(scenario.bandwidth, gain, scenario.transmission_power, scenario.noise_power)
    return (devices, servers, rate), _draw_kinds(scenario, rng, scenario.devices)
