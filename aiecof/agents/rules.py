"""Rules, the policies without learning, and their registry.

Each is marked by the information it uses: `nothing`, the device's `own observation`, or `coordination within a slot`,
for which the devices that decide in the same slot would have to tell each other what they decided.
"""

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, redirect_stdout
from functools import partial
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from traceback import extract_tb
from typing import Any, NamedTuple

import numpy as np

from aiecof.agents.policies import Policy
from aiecof.checks import InvalidInput, check_choice, check_integer, check_number, checked, did_you_mean
from aiecof.system import model
from aiecof.system.observations import Seen
from aiecof.system.scenario import Scenario

NOTHING, OWN, COORDINATED = "nothing", "own observation", "coordination within a slot"
SINGLE_PRECISION = 1e-5
"""Slots: observations are float32, so a time that is a whole number of slots may come out this far from it."""


class Random(Policy):
    """Every place is equally likely, the device included; or staying is as likely as leaving (R34).

    levels : int
        1: one draw among all places. 2: stay or leave with probability 1/2, then any server (Section III-A).
    """

    def __init__(self, scenario: Scenario, seed: int = 0, *, levels: int = 1):
        self.levels = check_integer("levels", levels, 1, 2)
        super().__init__(scenario, seed)

    def decide(self, seen: Seen) -> np.ndarray:
        if self.levels == 1:
            return self.below(self.scenario.actions)
        return np.where(self.uniform() < 0.5, 0, 1 + self.below(self.scenario.choices))


CIRCLES, ORDERS = ("all", "all_but_one", "servers"), ("own", "first", "slot", "shared")


class RoundRobin(Policy):
    """The places in turn (R34).

    places : str
        What a circle goes around: `all` is 0, 1, ..., N; `all_but_one` has no server N; `servers` has no device.
    order : str
        `own`: a circle for each device, one step a task; device m begins with the circle's place m, counted round.
        `first`: all begin with the first place. `slot`: as `own`, one step a slot. `shared`: one circle for all
        devices, whose tasks take the places in the order of their decisions.
    """

    def __init__(self, scenario: Scenario, seed: int = 0, *, places: str = "all", order: str = "own"):
        check_choice("places", places, CIRCLES)
        self.order = check_choice("order", order, ORDERS)
        shortest = {"all": (0, 0), "all_but_one": (0, 1), "servers": (1, 0)}[places]
        self._circle = np.arange(shortest[0], scenario.actions - shortest[1])
        super().__init__(scenario, seed)

    def reset(self, episodes: int, first: int = 0) -> None:
        super().reset(episodes, first)
        devices = self.scenario.devices
        start = np.arange(devices) if self.order in ("own", "slot") else np.zeros(devices, np.int64)
        self._next = np.tile(start, (episodes, 1))

    def decide(self, seen: Seen) -> np.ndarray:
        steps = np.ones_like(seen.has_task) if self.order == "slot" else seen.has_task
        turn = self._next
        if self.order == "shared":
            turn = turn + np.cumsum(steps, axis=1) - steps
            steps = np.sum(steps, axis=1, keepdims=True)
        self._next = self._next + steps
        return self._circle[turn % len(self._circle)]


class AlwaysLocal(Policy):
    """Never offload."""

    def decide(self, seen: Seen) -> np.ndarray:
        return np.zeros(seen.has_task.shape, np.int64)


def random_server(policy: Policy, seen: Seen, away: np.ndarray) -> np.ndarray:
    """Any server."""
    return 1 + policy.below(policy.scenario.choices)


def least_loaded_server(policy: Policy, seen: Seen, away: np.ndarray) -> np.ndarray:
    """The server with the smallest backlog: the same one for all devices of a slot, since they see the same queues."""
    return 1 + np.argmin(seen.backlog_slots, axis=-1)


def better_of_two_servers(policy: Policy, seen: Seen, away: np.ndarray) -> np.ndarray:
    """Of two different servers drawn at random, the one with the smaller backlog."""
    servers = policy.scenario.choices
    first = policy.below(servers)
    second = (first + 1 + policy.below(max(servers - 1, 1))) % servers
    backlog = [np.take_along_axis(seen.backlog_slots, n[..., None], -1)[..., 0] for n in (first, second)]
    return 1 + np.where(backlog[0] <= backlog[1], first, second)


def _check_shared(scenario: Scenario) -> None:
    if scenario.reach is not None:
        raise InvalidInput("reach", scenario.reach, "none for rules that coordinate: all devices share all servers")


def spread_over_servers(policy: Policy, seen: Seen, away: np.ndarray) -> np.ndarray:
    """The k-th device that offloads in a slot takes the k-th least loaded server, and so on round the servers."""
    _check_shared(policy.scenario)
    order = np.argsort(seen.backlog_slots[:, 0], axis=-1, kind="stable")
    turn = (np.cumsum(away, axis=1) - away) % policy.scenario.servers
    return 1 + np.take_along_axis(order, turn, axis=1)


class Offloading(Policy):
    """Every task goes to a server, which a rule picks.

    server : (policy, seen, away) -> (B, M) int
        Picks servers 1..N for the devices that are `away`, (B, M) bool: with a task that does not stay.
    """

    def __init__(self, scenario: Scenario, seed: int = 0, *, server: Callable[..., np.ndarray]):
        self.server = server
        super().__init__(scenario, seed)

    def stays(self, seen: Seen) -> np.ndarray:
        """(B, M) bool: whose task runs on the device."""
        return np.zeros(seen.has_task.shape, bool)

    def decide(self, seen: Seen) -> np.ndarray:
        away = seen.has_task & ~self.stays(seen)
        return np.where(away, self.server(self, seen, away), 0)


def longest_service_slots(scenario: Scenario) -> float:
    """Slots that the scenario's heaviest task takes on its slowest device."""
    work = scenario.workload_range[1] * scenario.workload_scale
    density = work / scenario.largest_size if scenario.readings.workload == "per_task" else work
    rounded = scenario.readings.device_rounding == "ceil"
    clock = scenario.device_frequency[0]
    return float(model.computing_delay(scenario.largest_size, density, clock, scenario.slot_duration, rounded))


class Threshold(Offloading):
    """A task stays on the device while the wait there is at most `threshold_slots`, else a rule picks a server.

    By default it is the largest with which no local task can be late: tau_max less the longest service.
    """

    def __init__(
        self,
        scenario: Scenario,
        seed: int = 0,
        *,
        server: Callable[..., np.ndarray],
        threshold_slots: float | None = None,
    ):
        if threshold_slots is None:
            threshold_slots = max(scenario.tau_max_slots - longest_service_slots(scenario), 0.0)
        self.threshold_slots = check_number("threshold_slots", threshold_slots, 0.0, open_low=False)
        super().__init__(scenario, seed, server=server)

    def stays(self, seen: Seen) -> np.ndarray:
        return seen.wait_slots <= self.threshold_slots + SINGLE_PRECISION


def _in_slots(slots: np.ndarray, rounding: str) -> np.ndarray:
    """Predicted slots, rounded up where the reading says so, but not for what float32 added."""
    return np.ceil(slots - SINGLE_PRECISION) if rounding == "ceil" else slots


class Mixture(Offloading):
    """A coin decides whether a task stays on the device; a rule picks a server for the others.

    local_probability : float
        Of staying; 0.8 is about the share that Table IV's load of .79 stands for.
    """

    def __init__(
        self,
        scenario: Scenario,
        seed: int = 0,
        *,
        server: Callable[..., np.ndarray],
        local_probability: float = 0.8,
    ):
        self.local_probability = check_number("local_probability", local_probability, 0.0, 1.0, open_low=False)
        super().__init__(scenario, seed, server=server)

    def stays(self, seen: Seen) -> np.ndarray:
        return self.uniform() < self.local_probability


class Greedy(Policy):
    """The place where the task is predicted to finish first, from the device's own observation.

    Devices that see the same queues pick the same server, and each predicts as if it were alone.

    threshold_slots : float, optional
        If given, a task stays on the device while the wait there is at most this, and leaves otherwise.
    """

    def __init__(self, scenario: Scenario, seed: int = 0, *, threshold_slots: float | None = None):
        self.threshold_slots = threshold_slots
        if threshold_slots is not None:
            self.threshold_slots = check_number("threshold_slots", threshold_slots, 0.0, open_low=False)
        super().__init__(scenario, seed)

    def _service(self, seen: Seen, frequency: np.ndarray, rounding: str) -> np.ndarray:
        size, density = seen.size[..., None], np.where(seen.has_task, seen.density, 1.0)[..., None]
        return _in_slots(model.computing_delay(size, density, frequency, self.scenario.slot_duration, False), rounding)

    def predict(self, seen: Seen) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Slots until a task would finish on the device, (B, M), and until it would reach each server and the
        service there, (B, M, N)."""
        scenario, readings = self.scenario, self.scenario.readings
        service = self._service(seen, seen.device_frequency[..., None], readings.device_rounding)
        local = seen.wait_slots + service[..., 0]
        rate = scenario.transmission_rate or model.transmission_rate(
            scenario.bandwidth, np.mean(scenario.channel_gain), scenario.transmission_power, scenario.noise_power
        )
        rate = rate * seen.rate_factor
        sending = model.transmission_delay(seen.size[..., None], rate, scenario.slot_duration, False)
        arrival = seen.channel_wait_slots + _in_slots(sending, readings.transmission_rounding)
        return local, arrival, self._service(seen, seen.server_frequency, readings.server_rounding)

    def decide(self, seen: Seen) -> np.ndarray:
        local, arrival, service = self.predict(seen)
        edge = np.maximum(arrival, seen.backlog_slots) + service
        if self.threshold_slots is not None:
            stays = seen.wait_slots <= self.threshold_slots + SINGLE_PRECISION
            return np.where(stays, 0, 1 + np.argmin(edge, axis=-1))
        return np.argmin(np.concatenate([local[..., None], edge], axis=-1), axis=-1)


class Frugal(Greedy):
    """Of the places where the task is predicted to be in time, the one that takes least energy; else as `Greedy`."""

    def decide(self, seen: Seen) -> np.ndarray:
        local, arrival, service = self.predict(seen)
        scenario = self.scenario
        edge = np.maximum(arrival, seen.backlog_slots) + service
        clocks = np.concatenate([seen.device_frequency[..., None], seen.server_frequency], axis=-1)
        energy = model.computing_energy(
            scenario.switched_capacitance, clocks, seen.size[..., None], seen.density[..., None]
        )
        finish = np.concatenate([local[..., None], edge], axis=-1)
        in_time = finish <= scenario.tau_max_slots + SINGLE_PRECISION
        cheapest = np.argmin(np.where(in_time, energy, np.inf), axis=-1)
        return np.where(in_time.any(axis=-1), cheapest, np.argmin(finish, axis=-1))


class CoordinatedGreedy(Greedy):
    """As `Greedy`, but a device knows what those before it in the same slot have decided."""

    def decide(self, seen: Seen) -> np.ndarray:
        _check_shared(self.scenario)
        local, arrival, service = self.predict(seen)
        tau, drop_on_wait = self.scenario.tau_max_slots, self.scenario.readings.drop_rule == "wait"
        backlog = seen.backlog_slots[:, 0].copy()
        actions = np.zeros(local.shape, np.int64)
        for m in range(self.scenario.devices):
            start = np.maximum(arrival[:, m], backlog)
            best = (np.arange(len(actions)), np.argmin(start + service[:, m], axis=-1))
            away = seen.has_task[:, m] & ((start + service[:, m])[best] < local[:, m])
            actions[:, m] = np.where(away, best[1] + 1, 0)
            reaches = arrival[:, m][best] < tau - SINGLE_PRECISION
            end = model.completion_slot(0.0, start[best], service[:, m][best], tau, drop_on_wait) + 1.0
            backlog[best] = np.where(away & reaches, np.maximum(backlog[best], end), backlog[best])
        return actions


class Entry(NamedTuple):
    """A rule of the registry: what it does, what it has to know, how to make it and what can be set.

    added : bool
        Whether a user has registered it (`register`).
    """

    description: str
    information: str
    factory: Callable[..., Policy]
    parameters: tuple[str, ...] = ()
    added: bool = False


def _threshold(server: Callable[..., np.ndarray]) -> dict[str, Any]:
    return {"factory": partial(Threshold, server=server), "parameters": ("threshold_slots",)}


POLICIES: dict[str, Entry] = {
    "random": Entry("any place, all equally likely", NOTHING, Random, ("levels",)),
    "round-robin": Entry("the places in turn, one a task", NOTHING, RoundRobin, ("places", "order")),
    "always-local": Entry("always on the device", NOTHING, AlwaysLocal),
    "least-loaded": Entry(
        "never local: the server with the least backlog", OWN, partial(Offloading, server=least_loaded_server)
    ),
    "threshold-random": Entry("local up to a wait, else any server", OWN, **_threshold(random_server)),
    "threshold-least-loaded": Entry(
        "local up to a wait, else the server with the least backlog", OWN, **_threshold(least_loaded_server)
    ),
    "threshold-power-of-two": Entry(
        "local up to a wait, else the better of two random servers", OWN, **_threshold(better_of_two_servers)
    ),
    "mixture-random": Entry(
        "local with a fixed probability, else any server",
        NOTHING,
        partial(Mixture, server=random_server),
        ("local_probability",),
    ),
    "mixture-power-of-two": Entry(
        "local with a fixed probability, else the better of two random servers",
        OWN,
        partial(Mixture, server=better_of_two_servers),
        ("local_probability",),
    ),
    "frugal": Entry("the cheapest place in energy of those predicted to be in time", OWN, Frugal),
    "greedy": Entry("where the task is predicted to finish first", OWN, Greedy, ("threshold_slots",)),
    "threshold-spread": Entry(
        "local up to a wait, else spread over the least loaded servers",
        COORDINATED,
        **_threshold(spread_over_servers),
    ),
    "greedy-coordinated": Entry(
        "where the task finishes first, given earlier decisions of the slot", COORDINATED, CoordinatedGreedy
    ),
}
"""Policies without learning, by name."""


@checked
def register(name: str, entry: Entry) -> None:
    """Let a rule of your own take part: in Table IV, in the sweeps, and in what is made of them."""
    check_choice("entry.information", entry.information, (NOTHING, OWN, COORDINATED))
    if name in POLICIES and not POLICIES[name].added:
        raise InvalidInput("name", name, "a name that no rule of the package has")
    POLICIES[name] = entry._replace(added=True)


@contextmanager
def own_code(place: str) -> Iterator[None]:
    """Whatever goes wrong in a rule of a user's own, given as file.py:Class, is an `InvalidInput` that says where.

    What it prints goes to standard error, beside the answer of a command.
    """
    try:
        with redirect_stdout(sys.stderr):
            yield
    except InvalidInput:
        raise
    except (Exception, SystemExit) as error:
        file = Path(place.rpartition(":")[0]).resolve()
        lines = [entry.lineno for entry in extract_tb(error.__traceback__) if Path(entry.filename).resolve() == file]
        where = f" in line {lines[-1]}" if lines else ""
        raise InvalidInput("policy", place, f"a policy that runs ({type(error).__name__}{where}: {error})") from error


def load_rule(place: str) -> Callable[..., Policy]:
    """The rule of a user's own in a file, given as file.py:Class; the file is run, so it has to be trusted."""
    path, _, name = place.rpartition(":")
    if not Path(path).is_file():
        raise InvalidInput("policy", place, "file.py:Class with a file that is there")
    spec = spec_from_file_location(f"rule_{Path(path).stem}", path)
    module = sys.modules[spec.name] = module_from_spec(spec)
    with own_code(place):
        spec.loader.exec_module(module)
    own = [key for key, value in vars(module).items() if getattr(value, "__module__", None) == spec.name]
    found = getattr(module, name, None)
    if not (isinstance(found, type) and issubclass(found, Policy)):
        listed = ", ".join(own) or "nothing of its own"
        raise InvalidInput("policy", place, f"a class made from Policy; the file has {listed}{did_you_mean(name, own)}")
    return found


def make_policy(name: str, scenario: Scenario, seed: int = 0, **parameters: Any) -> Policy:
    """The policy called `name`, or that of a user's own at file.py:Class, with its random streams fixed by `seed`."""
    if isinstance(name, str) and ".py:" in name:
        with own_code(name):
            return load_rule(name)(scenario, seed, **parameters)
    entry = POLICIES[check_choice("policy", name, tuple(POLICIES))]
    for parameter, value in parameters.items():
        if parameter not in entry.parameters:
            raise InvalidInput(f"{name}.{parameter}", value, "parameters " + (", ".join(entry.parameters) or "(none)"))
    return entry.factory(scenario, seed, **parameters)
