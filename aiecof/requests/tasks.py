"""Requests as the tasks of a network: scaled to its load, spread over its devices and cut into episodes."""

from __future__ import annotations

import hashlib
import io
import json
import zipfile
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from statistics import NormalDist
from tempfile import TemporaryDirectory

import numpy as np

from aiecof.checks import InvalidInput, check_integer, check_number, checked
from aiecof.files import check_format, conform, plain_name, reading, write_whole
from aiecof.requests.formats import Requests, statistics
from aiecof.system.scenario import Bursts, Scenario, TaskKind, scenario_from_dict
from aiecof.system.workload import Trace, draw_trace, load_trace

_FORMAT = "aiecof request trace 1"
_ENTRY = "requests.json"
_CONTENT = {"format": str, "scenario": dict, "training": int, "left_out": {str: int}}
MOST_ROUNDS = 64
"""Tasks of a device in a slot, at most."""


@dataclass(frozen=True)
class RequestTrace:
    """Requests as tasks, and the scenario that they are tasks of.

    scenario : Scenario
        The one asked for, with as many rounds a slot as the requests take, ranges that hold them, and `Bursts` fitted
        to them: what it draws itself, such as the tasks of the reference energy, is like them.
    trace : Trace
        All episodes, in the order of time.
    training : int
        How many of the episodes, the first ones, are for training.
    left_out : dict
        Why requests became no task -> how many: `failed` had nothing to send or nothing to compute, `no_round` came to
        a device and slot whose rounds were taken, `no_episode` came after the last whole episode.
    """

    scenario: Scenario
    trace: Trace
    training: int
    left_out: dict[str, int]

    @property
    def training_trace(self) -> Trace:
        """The episodes to learn from."""
        return self.trace[: self.training]

    @property
    def evaluation_trace(self) -> Trace:
        """The episodes kept back, all of them later."""
        return self.trace[self.training :]

    @property
    def checksum(self) -> str:
        """SHA-256 of the trace and of where its training ends."""
        digest = hashlib.sha256(str(self.training).encode())
        for _, values in sorted(self.trace.arrays().items()):
            digest.update(np.ascontiguousarray(values).tobytes())
        return digest.hexdigest()

    def save(self, path: str | Path) -> None:
        """Write a file that `load_request_trace` reads, and `load_trace` as well."""
        content = {"format": _FORMAT, "scenario": asdict(self.scenario)}
        content |= {"training": self.training, "left_out": self.left_out}
        with TemporaryDirectory() as folder:
            self.trace.save(draft := Path(folder) / "trace.npz")
            file = io.BytesIO(draft.read_bytes())
        with zipfile.ZipFile(file, "a", zipfile.ZIP_DEFLATED) as archive:
            archive.writestr(_ENTRY, json.dumps(content))
        write_whole(Path(path), file.getvalue())


@checked
def load_request_trace(path: Path) -> RequestTrace:
    """Read what `RequestTrace.save` wrote; a damaged or foreign file raises `InvalidInput`."""
    with reading("trace", path, "a file that `aiecof trace` wrote"):
        with zipfile.ZipFile(path) as archive:
            content = json.loads(archive.read(_ENTRY))
        conform("trace", content, _CONTENT)
        check_format("trace", path, content["format"], _FORMAT)
        scenario = scenario_from_dict(content["scenario"])
        trace = load_trace(path, scenario)
        check_integer("trace.training", content["training"], 1, trace.episodes - 1)
    return RequestTrace(scenario, trace, content["training"], content["left_out"])


@checked
def request_trace(
    requests: Requests,
    scenario: Scenario,
    *,
    seed: int = 0,
    network_seed: int | None = None,
    speed: float | None = None,
    arrivals_per_slot: int | None = None,
    training_share: float = 0.5,
) -> RequestTrace:
    """Make requests the tasks of a scenario's network (R65).

    Sizes and work are scaled to the means of the scenario, the work as cycles a task. Users take turns at the devices
    in the order of their first requests; without users each request comes to a device at random. Clocks and channels
    are those of `draw_trace` for these seeds.

    speed : float or None
        Seconds of the file in a second of the network; None: as many as make the mean number of tasks a slot that of
        the scenario.
    arrivals_per_slot : int or None
        Rounds in a slot, at most `MOST_ROUNDS`; None: as many as the requests take.
    training_share : float
        Share of the episodes for training; one at least is, and one at least is kept back.
    """
    check_integer("seed", seed, 0, 2**63)
    check_number("training_share", training_share, 0.0, 1.0, open_low=False)
    if arrivals_per_slot is not None:
        check_integer("arrivals_per_slot", arrivals_per_slot, 1, MOST_ROUNDS)
    good = (requests.size > 0.0) & (requests.work > 0.0)
    slot, episodes = _slots(requests.time[good], scenario, speed)
    device = requests.user
    if device is None:
        device = np.random.default_rng([seed, 7]).integers(scenario.devices, size=len(requests))
    device = device[good] % scenario.devices
    whole = slot < episodes * scenario.slots
    turn = _turns(slot[whole] * scenario.devices + device[whole])
    rounds = min(MOST_ROUNDS, int(turn.max()) + 1) if arrivals_per_slot is None else arrivals_per_slot
    changed = scenario.replace(arrivals_per_slot=rounds, name=plain_name(f"{scenario.name}-{Path(requests.name).stem}"))
    size, cycles = _scaled(requests.size[good], requests.work[good], scenario)
    taken = turn < rounds
    left_out = {"failed": len(requests) - len(slot), "no_round": int((~taken).sum()), "no_episode": int((~whole).sum())}
    chosen = np.flatnonzero(whole)[taken]
    place = *np.divmod(slot[chosen] * rounds + turn[taken], changed.decisions), device[chosen]
    training = min(max(round(training_share * episodes), 1), episodes - 1)
    drawn = _networks(changed, training, episodes, seed, network_seed)
    shape = episodes, changed.decisions, changed.devices
    arrays = {"size": np.zeros(shape), "density": np.ones(shape), "kind": np.full(shape, -1)}
    tasks = {"size": size[chosen], "density": cycles[chosen] / size[chosen], "kind": 0}
    for name, values in tasks.items():
        arrays[name][place] = values
    trace = Trace(**drawn | arrays)
    changed = _fitted(changed, trace)
    return RequestTrace(changed, trace.check(changed), training, left_out)


def _slots(time: np.ndarray, scenario: Scenario, speed: float | None) -> tuple[np.ndarray, int]:
    """Slot of each request, and the number of whole episodes."""
    length = float(time[-1] - time[0]) * len(time) / (len(time) - 1) if len(time) > 1 else 0.0
    if length == 0.0:
        raise InvalidInput("requests", f"{len(time)} that did not fail", "requests at different times")
    if speed is None:
        count = len(time) / (scenario.devices * scenario.arrival_probability)
    else:
        count = length / check_number("speed", speed) / scenario.slot_duration
    least, most = 2 * scenario.slots, 10**6 * scenario.slots
    if not least <= count <= most:
        field, found, remedy = ("speed", speed, "speed") if speed else ("requests", len(time), "number of devices")
        allowed = f"what lasts {least:,} to {most:,} slots, two episodes at least, where these last {count:,.6g}"
        raise InvalidInput(field, found, f"{allowed}: take another {remedy}")
    return np.floor((time - time[0]) * (count / length)).astype(np.int64), int(count / scenario.slots)


def _turns(place: np.ndarray) -> np.ndarray:
    """How many of the requests before each came to the same place."""
    order = np.argsort(place, kind="stable")
    counted = np.arange(len(place))
    begins = np.diff(place[order], prepend=-1) > 0
    turns = np.empty_like(counted)
    turns[order] = counted - np.maximum.accumulate(np.where(begins, counted, 0))
    return turns


def _means(scenario: Scenario) -> tuple[float, float]:
    """Mean size [bit] and work [cycle] of the scenario's own tasks."""
    size = sum(kind.share * np.mean(kind.size) for kind in scenario.task_kinds)
    work = np.mean(scenario.workload_range)
    if (bursts := scenario.bursts) is not None:
        of_kind = partial(_cut_mean, bursts.size_mean, bursts.size_cv)
        size = sum(kind.share * of_kind(kind.size) for kind in scenario.task_kinds)
        work = _cut_mean(bursts.work_mean, bursts.work_cv, scenario.workload_range)
    return float(size), float(work) * scenario.workload_scale * (1.0 if _per_task(scenario) else float(size))


def _cut_mean(mean: float, cv: float, bounds: tuple[float, float]) -> float:
    """Mean of lognormal numbers that are cut off at bounds."""
    if cv == 0.0:
        return min(max(mean, bounds[0]), bounds[1])
    variance = np.log1p(cv**2)
    plain = NormalDist(np.log(mean) - variance / 2.0, np.sqrt(variance))
    (below, below_size), (within, within_size) = (
        (plain.cdf(bound), (plain + variance).cdf(bound)) for bound in np.log(bounds)
    )
    return bounds[0] * below + mean * (within_size - below_size) + bounds[1] * (1.0 - within)


def _per_task(scenario: Scenario) -> bool:
    return scenario.readings.workload == "per_task"


def _scaled(size: np.ndarray, work: np.ndarray, scenario: Scenario) -> tuple[np.ndarray, np.ndarray]:
    """Sizes [bit] and work [cycle] with the scenario's means."""
    bits, cycles = _means(scenario)
    return size * (bits / size.mean()), work * (cycles / work.mean())


def _networks(
    scenario: Scenario, training: int, episodes: int, seed: int, network_seed: int | None
) -> dict[str, np.ndarray]:
    """What `draw_trace` draws for the episodes of both splits."""
    counts = {"train": training, "evaluation": episodes - training}
    parts = [
        draw_trace(scenario, count, seed, split=split, network_seed=network_seed).arrays()
        for split, count in counts.items()
    ]
    return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}


def _fitted(scenario: Scenario, trace: Trace) -> Scenario:
    """The scenario with ranges that hold the tasks, and `Bursts` fitted to them by the method of moments.

    The number of tasks in a slot is Poisson with a mean that swings: its variance is the mean plus the square of mean
    times swing, and the covariance of neighbours is that square times 1 - 2 / sojourn. More than one task a device and
    slot on average cannot be asked for: of requests that come faster, it draws fewer.
    """
    tasks = trace.has_task
    size, density = trace.size[tasks], trace.density[tasks]
    work = (density * size if _per_task(scenario) else density) / scenario.workload_scale
    kinds = [size.min(), size.max(), *(bound for kind in scenario.task_kinds for bound in kind.size)]
    bounds = [work.min(), work.max(), *scenario.workload_range]
    found = statistics(trace, scenario.arrivals_per_slot)
    beyond, lag = max(found["dispersion"] - 1.0, 0.0), found["lag_1"]  # which takes two slots
    turning = (1.0 - lag * found["dispersion"] / beyond) / 2.0 if beyond and np.isfinite(lag) else 0.5
    bursts = Bursts(
        swing=min(float(np.sqrt(beyond / found["mean"])), 1.0),
        sojourn_slots=1.0 / min(max(turning, 1.0 / scenario.slots), 1.0),
        heavy_share=found["busiest_tenth"],
        size_mean=float(size.mean()),
        size_cv=found["size_cv"],
        work_mean=float(work.mean()),
        work_cv=float(work.std() / work.mean()),
    )
    return scenario.replace(
        arrival_probability=min(found["mean"] / scenario.devices, 1.0),
        task_kinds=(TaskKind("requests", (float(min(kinds)), float(max(kinds)))),),
        workload_range=(float(min(bounds)), float(max(bounds))),
        bursts=bursts,
    )
