"""The only dynamics: B replicas of M devices, slot by slot, compiled, calling `model` and `objective`.

Within a slot all devices observe first and then decide in the order of their index. A decision fixes the whole
fate of its task, because queues are first in, first out in the order of decisions: Eq. (18) reserves the server.
"""

from concurrent.futures import ThreadPoolExecutor
from dataclasses import fields
from functools import lru_cache, partial

import numpy as np

from aiecof.checks import InvalidInput, check_integer, checked
from aiecof.system import kernels, views
from aiecof.system.model import recorded_energy
from aiecof.system.objective import mean_cost
from aiecof.system.observations import observation_fields, observation_width
from aiecof.system.scenario import READINGS, Readings, Scenario
from aiecof.system.workload import Trace, draw_trace


@lru_cache(maxsize=256)
def reference_energy(scenario: Scenario, episodes: int | None = None, seed: int = 0) -> float:
    """Mean energy a task costs under the Random policy on a scenario [J] (readings R17, R20).

    episodes : int or None
        None takes as many as hold about a thousand devices, so that large networks take no longer than small ones.
    """
    episodes = max(2, -(-960 // scenario.devices)) if episodes is None else episodes
    plain = scenario.replace(energy_reference="own_history", cost_units="si", in_flight="complete")
    trace = draw_trace(plain, episodes, seed, split="reference")
    actions = np.random.default_rng([seed, 3]).integers(scenario.actions, size=trace.size.shape)
    simulator = Simulator(plain)
    simulator.run(trace, actions)
    energy = float(simulator.totals["energy"].sum() / max(simulator.totals["tasks"].sum(), 1.0))
    if energy == 0:
        allowed = "a reference above 0, but here no Random task costs energy"
        raise InvalidInput("readings.energy_reference", "0 J", allowed)
    return energy


_FLAGS = {
    "ceil_device": ("device_rounding", "ceil"),
    "ceil_server": ("server_rounding", "ceil"),
    "ceil_channel": ("transmission_rounding", "ceil"),
    "drop_on_wait": ("drop_rule", "wait"),
    "wait_from_decision": ("edge_wait_from", "decision"),
    "shared_channel": ("channel_queue", "per_device"),
    "exclude_in_flight": ("in_flight", "exclude"),
    "variance_cost": ("cost_load", "variance"),
    "own_reference": ("energy_reference", "own_history"),
    "running_reward": ("reward_history", "running"),
    "per_slot_history": ("history_mean", "slots"),
    "offloaded_failures": ("failure_scope", "offloaded"),
    "cap_dropped": ("dropped_energy_term", "capped"),
    "work_per_task": ("workload", "per_task"),
    "extended": ("observation", "extended"),
    "shows_mean": ("observation", "printed_mean"),
    "local_share_load": ("load", "local_share"),
    "oracle": ("observation", "oracle"),
    "own_backlog": ("backlog_seen", "own"),
}
"""Flag of a kernel -> the reading that sets it, and with which value."""


def parameters(scenario: Scenario) -> np.void:
    """The scenario as the record that the compiled functions read."""
    readings, weights, layout = scenario.readings, scenario.weights, observation_fields(scenario)
    normalised = readings.cost_units == "normalised"
    needs_reference = normalised or readings.energy_reference == "random_policy"
    reference = reference_energy(scenario) if needs_reference else 1.0
    values = {flag: getattr(readings, name) == value for flag, (name, value) in _FLAGS.items()}
    values |= {f"weight_{entry.name}": getattr(weights, entry.name) for entry in fields(weights)}
    same = ("slot_duration", "waiting_power", "transmission_power", "load_cap", "tau_max")
    values |= {name: getattr(scenario, name) for name in same}
    values |= {
        "queue_channels": readings.channel_queue != "none",
        "literal_load": readings.load in ("literal", "literal_seconds"),
        "load_step": scenario.slot_duration if readings.load == "literal_seconds" else 1.0,
        "dropped_energy": READINGS["dropped_energy"].index(readings.dropped_energy),
        "capacitance": scenario.switched_capacitance,
        "tau": scenario.tau_max_slots,
        "horizon": scenario.slots - 1 if readings.in_flight == "drop" else np.inf,
        "reference_energy": reference,
        "delay_scale": scenario.tau_max if normalised else 1.0,
        "energy_scale": reference if normalised else 1.0,
        "load_sign": 1.0 if readings.load_sign == "plus" else -1.0,
        "size_scale": layout["size"][1],
        "work_scale": layout["workload"][1],
        "server_scale": layout["server_frequency"][1],
        "device_scale": scenario.device_frequency[1],
        "energy_scale_seen": scenario.largest_energy,
        "beacon_slots": scenario.beacon_slots,
        "beacons": scenario.beacon_slots > 1,
        "background": scenario.background_load > 0.0,
        "fading": scenario.fading_scale < 1.0,
        "reaches": scenario.reach is not None,
        "answers": readings.observation in ("acknowledged", "oracle"),
        "hides_clocks": readings.clocks_seen == "hidden" and readings.observation != "oracle",
    }
    kinds = [(name, "?" if isinstance(value, bool) else "f8") for name, value in values.items()]
    return np.array([tuple(values.values())], kinds)[0]


def check_actions(actions: np.ndarray, servers: int, shape: tuple[int, ...]) -> np.ndarray:
    """Return actions as int64 if all are whole numbers 0..N and their shape is the one asked for."""
    actions = np.asarray(actions)
    allowed = f"whole numbers 0..{servers}, shape {shape}"
    if actions.dtype.kind not in "iu":
        raise InvalidInput("actions", actions.dtype.name, allowed)
    if actions.shape != shape:
        raise InvalidInput("actions", actions.shape, allowed)
    whole = actions.astype(np.int64, copy=False)
    numbers = whole.view(np.uint64)  # so that the negative ones are the largest
    if numbers.size and numbers.max() > servers:
        raise InvalidInput("actions", int(actions[numbers > servers][0]), allowed)
    return whole


def task_means(tasks: np.ndarray, scenario: Scenario, chosen: np.ndarray | bool = True) -> dict[str, np.ndarray]:
    """Delay [s], energy [J] and drop rate of recorded tasks, (B,) each, averaged as the scenario reads it (R14).

    tasks : (B, T, M) `TASK`
        Outcomes, of either simulation.
    chosen : (B, T, M) bool
        Which of the tasks; a mean over slots is over all slots even so, and a mean over nothing is NaN.
    """
    readings, axes = scenario.readings, (1, 2)
    done = chosen & (tasks["fate"] == kernels.COMPLETED)
    settled = done | (chosen & (tasks["fate"] == kernels.DROPPED))
    counted = {"completed": done, "tasks": settled, "slots": settled}
    delay, energy = tasks["delay_slots"] * scenario.slot_duration, recorded_energy(tasks)
    means = {}
    with np.errstate(invalid="ignore"):
        for name, amount, over in (("delay", delay, readings.delay_mean), ("energy", energy, readings.energy_mean)):
            count = scenario.slots * scenario.devices if over == "slots" else counted[over].sum(axes)
            means[name] = np.where(counted[over], amount, 0.0).sum(axes) / count
        return means | {"drop_rate": 1.0 - done.sum(axes) / settled.sum(axes)}


def _array(name: str, meaning: str) -> property:
    return property(lambda self: getattr(self._arrays, name), doc=meaning)


class Simulator:
    """B replicas of a scenario's network, advanced together.

    scenario : Scenario
        Its edge service must be `decision_order`; the others are in `aiecof.system.reference`.
    record, keep_terms : bool
        Whether to keep the outcome of every task (`tasks`), and the terms of the latest rewards (`terms`). Loads per
        slot (`load`) and sums (`totals`) always are.

    `reset` with a trace, then `step` with (B, M) actions once a slot, or once a round where a slot has several (`slot`
    counts rounds); or `decide` device by device; or `run` with all
    actions at once.
    """

    @checked
    def __init__(self, scenario: Scenario, *, record: bool = False, keep_terms: bool = False):
        if scenario.readings.edge_service != "decision_order":
            allowed = "decision_order (aiecof.system.reference.simulate knows the other edge services)"
            raise InvalidInput("readings.edge_service", scenario.readings.edge_service, allowed)
        self.scenario = scenario
        self.record = record
        self.keep_terms = keep_terms
        self._parameters = parameters(scenario)
        self._width = observation_width(scenario)
        self._episode: kernels.Arrays | None = None
        self.slot = self.next_device = 0

    def reset(self, trace: Trace) -> np.ndarray:
        """Start the episodes of a trace and return the first observations, (B, M, F) float32."""
        self._begin(trace)
        return self.observe()

    @checked
    def _begin(self, trace: Trace) -> None:
        scenario, needed = self.scenario, self._parameters
        b, r, m = trace.check(scenario).size.shape
        t, n, c, nothing = scenario.slots, scenario.servers, scenario.choices, (b, 0, 0)
        unset = {"fade": np.empty((b, 0, 0, 0)), "background": np.empty(nothing), "reach": np.empty(nothing, np.int64)}
        drawn = {name: unset.get(name) for name in kernels.DRAWN} | trace.arrays()
        kinds = {name: np.int64 if name == "reach" else np.float64 for name in kernels.DRAWN}
        self._episode = kernels.Arrays(
            **{name: np.ascontiguousarray(drawn[name], kind) for name, kind in kinds.items()},
            devices=np.zeros((b, m), kernels.DEVICE),
            last=np.zeros((b, m), np.int64),
            channel_end=np.full((b, m, c), -1.0),
            server_end=np.full((b, n), -1.0),
            own_end=np.full((b, n), -1.0),
            told_end=np.full((b, n), -1.0),
            answers=np.zeros((b, t, m, c + 1, 2) if needed["answers"] else (b, 0, 0, 0, 0), np.float32),
            load=np.zeros((b, t, m)),
            moments=np.zeros((b, 2)),
            totals=np.zeros(b, kernels.TOTAL),
            tasks=np.zeros((b, r, m) if self.record else (0, 0, 0), kernels.TASK),
            terms=np.zeros((b, m, 4) if self.keep_terms else (0, 0, 4)),
        )
        self._arrays.devices["end"] = -1.0
        self._arrays.tasks["place"] = -1
        self.trace = trace
        self.slot = self.next_device = 0

    @property
    def _arrays(self) -> kernels.Arrays:
        """What the kernels work on, from the first reset on."""
        if self._episode is None:
            raise InvalidInput("slot", None, "a slot of an episode: call reset first")
        return self._episode

    @property
    def replicas(self) -> int:
        """B."""
        return len(self._arrays.size)

    @property
    def done(self) -> bool:
        """Whether all rounds have been decided."""
        return self.slot >= self.scenario.decisions

    @property
    def has_task(self) -> np.ndarray:
        """(B, M) bool: who has a task in the current round."""
        return self._arrays.size[:, self.slot] > 0.0

    tasks = _array("tasks", "(B, R, M) `TASK`: what became of every task, if `record`.")
    terms = _array("terms", "(B, M, 4) float: terms of the latest rewards (Eq. 29), if `keep_terms`; else 0.")
    totals = _array("totals", "(B,) `TOTAL`: sums over tasks; delays in seconds, energies in joules.")
    server_end = _array("server_end", "(B, N) float: latest slot for which each server is reserved.")
    channel_end = _array("channel_end", "(B, M, C) float: latest slot in which a channel is busy; one queue: column 0.")

    @property
    def load(self) -> np.ndarray:
        """(B, T, M) float: load of each device in each slot, capped, as decided so far."""
        return np.minimum(self._arrays.load, self.scenario.load_cap)

    @property
    def device_end(self) -> np.ndarray:
        """(B, M) float: latest slot in which each device is busy."""
        return self._arrays.devices["end"]

    def observe(self) -> np.ndarray:
        """What every device sees now, (B, M, F) float32; `observation_fields` names the columns. Zeros at the end."""
        observations = self._nothing_seen(self.replicas)
        if not self.done:
            views.observe(self._parameters, self._arrays, self.slot, self.next_device, observations)
        return observations

    def _nothing_seen(self, replicas: int) -> np.ndarray:
        return np.zeros((replicas, self.scenario.devices, self._width), np.float32)

    def decide(self, actions: np.ndarray) -> np.ndarray:
        """Decisions of the next K devices, (B, K) int; returns their rewards, (B, K). The last device ends the slot."""
        count = np.shape(actions)[-1] if np.ndim(actions) == 2 else 0
        check_integer("devices deciding", count, 1, self.scenario.devices - self.next_device)
        actions = check_actions(actions, self.scenario.choices, (self.replicas, count))
        return self._decide(actions, self._nothing_seen(0))

    def _decide(self, actions: np.ndarray, seen: np.ndarray) -> np.ndarray:
        if self.done:
            raise InvalidInput("slot", self.slot, f"below {self.scenario.decisions}: call reset first")
        rewards = np.zeros(actions.shape)
        self._arrays.terms.fill(0.0)
        kernels.decide_replicas(self._parameters, self._arrays, self.slot, self.next_device, actions, rewards, seen)
        self.next_device = (self.next_device + actions.shape[1]) % self.scenario.devices
        self.slot += self.next_device == 0
        return rewards

    def step(self, actions: np.ndarray) -> tuple[np.ndarray, np.ndarray, bool]:
        """One round, a slot if it has one: (B, M) actions -> observations (B, M, F), rewards (B, M), done."""
        actions = check_actions(actions, self.scenario.choices, (self.replicas, self.scenario.devices))
        seen = self._nothing_seen(self.replicas)
        rewards = self.decide(actions) if self.next_device else self._decide(actions, seen)
        return seen, rewards, self.done

    def run(self, trace: Trace, actions: np.ndarray, threads: int = 1) -> np.ndarray:
        """Whole episodes for actions known beforehand, (B, R, M), on some threads; returns the rewards, (B, R, M)."""
        self._begin(trace)
        actions = check_actions(actions, self.scenario.choices, trace.size.shape)
        rewards = np.zeros(actions.shape)
        run = partial(kernels.run_episodes, self._parameters, self._arrays, actions, rewards)
        if check_integer("threads", threads, 1, 1024) == 1:
            run(0, self.replicas)
        else:
            bounds = np.linspace(0, self.replicas, threads + 1).astype(int)
            with ThreadPoolExecutor(threads) as pool:
                list(pool.map(run, bounds[:-1], bounds[1:]))
        self.slot = self.scenario.decisions
        return rewards

    def metrics_by_kind(self) -> dict[str, dict[str, np.ndarray]]:
        """Kind of task -> `task_means` of its own; it takes `record`."""
        if not self.record:
            raise InvalidInput("record", self.record, "True for means by kind")
        kinds = enumerate(self.scenario.task_kinds)
        return {kind.name: task_means(self.tasks, self.scenario, self.trace.kind == index) for index, kind in kinds}

    def metrics(self, readings: Readings | None = None) -> dict[str, np.ndarray]:
        """(B,) each: delay [s], energy [J], drop_rate, load, reward, local_share and cost of the finished episodes.

        The readings `delay_mean`, `energy_mean` and `load_mean` decide what a mean is taken over (R14), those of the
        scenario if no others are given; `reward` is the sum over an episode's slots, averaged over devices, and `cost`
        is the objective (26). A mean over nothing is NaN.
        """
        if not self.done:
            raise InvalidInput("slot", self.slot, f"{self.scenario.decisions}, the end of the episodes")
        scenario, totals = self.scenario, self.totals
        readings = readings or scenario.readings
        cells = float(scenario.slots * scenario.devices)
        settled = totals["completed"] + totals["dropped"]
        counts = {"completed": totals["completed"], "tasks": settled, "slots": np.full(self.replicas, cells)}
        suffix = {"completed": "_completed", "tasks": "", "slots": ""}
        with np.errstate(invalid="ignore", divide="ignore"):
            load = totals["load_slots"] / cells
            if readings.load_mean == "decisions":
                load = totals["load_decisions"] / totals["tasks"]
            if readings.load == "local_share":
                load = totals["local"] / totals["tasks"]
            return {
                "delay": totals["delay" + suffix[readings.delay_mean]] / counts[readings.delay_mean],
                "energy": totals["energy" + suffix[readings.energy_mean]] / counts[readings.energy_mean],
                "drop_rate": totals["dropped"] / settled,
                "load": load,
                "reward": totals["reward"] / scenario.devices,
                "local_share": totals["local"] / totals["tasks"],
                "cost": mean_cost(totals["cost"], scenario.slots, scenario.devices),
            }
