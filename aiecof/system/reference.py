"""The same system as a plain event simulation in SimPy: slow, made to be read, written apart from the equations.

Here nothing is computed ahead: tasks queue, are sent, served and dropped as time passes. Time counts in slots and is
an instant, so slot l ends at l + 1. An episode is played in two acts. First the channels, on which no server has any
influence: they tell which tasks arrive where, and when. Then the processors: devices and servers.

It knows three edge services that the compiled simulator does not, because under them later decisions change the fate
of earlier tasks: `arrival_order` (first in, first out in the order in which tasks reach a server; of two that arrive
together, the one decided first), `equal_sharing` (the devices with work on a server share its processor equally at
every instant, the tasks of one device one after the other) and `slotted_sharing` (the same, but shares are fixed when a
slot begins: `share_slots`).
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Callable, Generator, Hashable
from dataclasses import dataclass

import numpy as np
import simpy

from aiecof.checks import checked
from aiecof.system.kernels import COMPLETED, DEVICE, DROPPED, IN_FLIGHT, TASK
from aiecof.system.scenario import Scenario
from aiecof.system.simulator import check_actions, reference_energy
from aiecof.system.workload import Trace

ROUND_OFF = 1e-9  # slots: what fits up to rounding, fits


@dataclass
class Task:
    """A task: what is known when it is decided, and the instants that the simulation fills in.

    `patience` is the instant at which it is dropped if its service has not begun, `limit` the one at which it is
    dropped even while it is served. `start` is the instant of its turn, also if it is dropped before.
    """

    row: int
    slot: int
    device: int
    place: int
    server: int
    size: float
    cycles: float
    frequency: float
    rate: float
    sending: float
    service: float
    patience: float
    limit: float
    send_start: float = 0.0
    arrival: float = 0.0
    start: float = 0.0
    end: float = 0.0
    served: float = 0.0
    lost: bool = False
    completed: bool = False


class Station:
    """A channel or a processor: queues, and a capacity of one that those in service share equally.

    With one queue there is never more than one in service. Under equal sharing every device has its own queue.
    """

    def __init__(self, env: simpy.Environment):
        self.env = env
        self.queues = defaultdict(lambda: simpy.Resource(env))
        self.in_service = 0
        self.changed = env.event()

    def _change(self, by: int) -> None:
        self.in_service += by
        self.changed.succeed()
        self.changed = self.env.event()

    def serve(self, work: float, limit: float) -> Generator:
        """Process: serve `work` [slots of the whole capacity] until the instant `limit`; returns the work done."""
        left = work
        self._change(+1)
        while left > ROUND_OFF and self.env.now < limit - ROUND_OFF:
            since, share = self.env.now, 1.0 / self.in_service
            yield self.changed | self.env.timeout(min(left / share, limit - since))
            left -= (self.env.now - since) * share
        self._change(-1)
        return work - left


def share_slots(tasks: list[Task]) -> None:
    """Second act at one server of the paper's ancestors, slot by slot, for all tasks decided for it.

    A device is active in a slot if a task of it is in the queue when the slot begins, be it one that has just expired.
    The active devices get equal shares of the whole slot, each for one task; what this task leaves of it is lost.
    """
    queued, slot = sorted(tasks, key=lambda task: round(task.arrival, 9)), 0
    while queued:
        queues = defaultdict(list)
        for task in queued:
            if task.arrival <= slot + ROUND_OFF:
                queues[task.device].append(task)
        active = sum(any(task.arrival <= task.patience + ROUND_OFF for task in queue) for queue in queues.values())
        for queue in queues.values():
            _serve_slot(queue, slot, 1.0 / max(active, 1))
        queued = [task for task in queued if not task.end]
        slot += 1


def _serve_slot(queue: list[Task], slot: int, share: float) -> None:
    """Give a device's share of a slot to the first task of its queue that is in time; the expired ones leave."""
    for task in queue:
        if not task.served:
            task.start = float(slot)
        if task.served or slot < task.patience - ROUND_OFF:
            task.served = min(task.served + share, task.service)
            task.completed = task.served >= task.service - ROUND_OFF
            task.end = slot + 1.0 if task.completed or slot + 1 >= task.limit - ROUND_OFF else 0.0
            return
        task.end = task.patience


class Episode:
    """One replica: its tasks in the order of decisions, and the two acts."""

    def __init__(self, scenario: Scenario, trace: Trace, actions: np.ndarray):
        self.scenario = scenario
        self.tasks = [
            self._task(trace, int(row), int(device), int(actions[row, device]))
            for row, device in np.argwhere(trace.size[0] > 0)
        ]
        others = trace.background[0] if trace.background is not None else np.zeros((0, 0))
        self.others = [self._other(int(slot), int(n), float(others[slot, n])) for slot, n in np.argwhere(others)]

    def _other(self, slot: int, server: int, work: float) -> Task:
        """What others bring to a server as a slot begins: a task of no device, which nothing drops."""
        never = math.inf
        row = slot * self.scenario.arrivals_per_slot
        return Task(row, slot, -1, 1, server, 0.0, 0.0, 0.0, 0.0, 0.0, work, never, never, arrival=float(slot))

    def _task(self, trace: Trace, row: int, device: int, place: int) -> Task:
        scenario, readings = self.scenario, self.scenario.readings
        slot, server = row // scenario.arrivals_per_slot, place - 1
        if place and trace.reach is not None:
            server = int(trace.reach[0, device, place - 1])
        size = float(trace.size[0, row, device])
        cycles = size * float(trace.density[0, row, device])
        frequency = float(trace.server_frequency[0, server] if place else trace.device_frequency[0, device])
        rate = float(trace.rate[0, device, place - 1]) if place else math.inf
        if place and trace.fade is not None:
            rate *= float(trace.fade[0, slot, device, place - 1])
        rounding = readings.server_rounding if place else readings.device_rounding
        horizon = float(scenario.slots) if readings.in_flight == "drop" else math.inf
        patience = min(float(slot + scenario.tau_max_slots), horizon)
        limit = patience if readings.drop_rule == "deadline" else horizon
        sending = _rounded(size / (rate * scenario.slot_duration), readings.transmission_rounding)
        service = _rounded(cycles / (frequency * scenario.slot_duration), rounding)
        own = (row, slot, device, place, server, size, cycles, frequency, rate, sending, service, patience, limit)
        return Task(*own, arrival=float(slot))

    def play(self) -> None:
        """Both acts."""
        sent = [task for task in self.tasks if task.place > 0]
        self._act(sent, self._send)
        slotted = self.scenario.readings.edge_service == "slotted_sharing"
        served = [] if slotted else self.others + sent
        local = [task for task in self.tasks if not task.place]
        self._act(sorted(served + local, key=lambda task: (task.row, task.device)), self._compute)
        for server in {task.server for task in sent} if slotted else ():
            share_slots([task for task in self.others + sent if task.server == server])

    def _act(self, tasks: list[Task], life: Callable[[Task], Generator]) -> None:
        self.env = simpy.Environment()
        self.stations = defaultdict(lambda: Station(self.env))
        self.env.process(self._generate(tasks, life))
        self.env.run()

    def _generate(self, tasks: list[Task], life: Callable[[Task], Generator]) -> Generator:
        for task in tasks:
            if task.slot > self.env.now:
                yield self.env.timeout(task.slot - self.env.now)
            self.env.process(life(task))

    def _channel(self, task: Task) -> Hashable:
        shared = {"per_channel": (task.device, task.place), "per_device": task.device}
        return shared.get(self.scenario.readings.channel_queue, (task.row, task.device))

    def _send(self, task: Task) -> Generator:
        """First act: wait for the channel, send, and be lost if the task does not arrive within its patience."""
        channel = self.stations[self._channel(task)]
        with channel.queues[0].request() as turn:
            yield turn
            task.send_start = self.env.now
            task.arrival = self.env.now + task.sending
            yield from channel.serve(task.sending, task.patience)
            task.lost = self.env.now >= task.patience - ROUND_OFF

    def _compute(self, task: Task) -> Generator:
        """Second act: wait for the processor and be served; `_send` knows whether the task gets there.

        A queue in the order of decisions is joined at the decision. Who has the turn and is still on the channel
        keeps the server waiting, because Eq. (18) reserves it. A dropped task stays in the queue, where it delays
        nobody: it passes the turn on at once, and has learnt how long it would have waited.
        """
        env, station = self.env, self.stations[("server", task.server) if task.place else task.device]
        service = self.scenario.readings.edge_service
        arrival = env.timeout(task.arrival - env.now)
        if task.place > 0 and service != "decision_order":
            yield arrival
        queue = station.queues[task.device if service == "equal_sharing" else 0]
        with queue.request() as turn:
            if not task.lost:
                yield (turn & arrival) | env.timeout(task.patience - env.now)
            if not task.lost and env.now < task.patience - ROUND_OFF:
                task.start = env.now
                task.served = yield from station.serve(task.service, task.limit)
                task.end = min(env.now, task.limit)
                task.completed = task.served >= task.service - ROUND_OFF
            else:
                task.end = task.patience
                yield turn
                task.start = max(env.now, task.arrival)

    def record(self, rows: np.ndarray) -> None:
        """Write the outcomes into a (R, M) array of `TASK`."""
        rows["place"] = -1
        for task in self.tasks:
            row = rows[task.row, task.device]
            row["place"], row["fate"] = task.place, self._fate(task)
            self._record_stages(task, row)
            self._record_energy(task, row)

    def _fate(self, task: Task) -> int:
        if self.scenario.readings.in_flight == "exclude" and task.end > self.scenario.slots + ROUND_OFF:
            return IN_FLIGHT
        return COMPLETED if task.completed else DROPPED

    def _record_stages(self, task: Task, row: np.void) -> None:
        if task.place > 0:
            sent_from = min(task.send_start, task.end)
            row["transmission_wait_slots"] = sent_from - task.slot
            row["transmission_slots"] = min(task.arrival, task.end) - sent_from
        if not task.lost:
            row["wait_slots"] = min(task.start, task.end) - task.arrival
            row["computing_slots"] = task.end - min(task.start, task.end)
        if task.completed and self.scenario.readings.edge_wait_from == "decision":
            row["wait_slots"] = task.start - task.slot
        stages = ("transmission_wait_slots", "transmission_slots", "wait_slots", "computing_slots")
        row["delay_slots"] = sum(row[stage] for stage in stages)
        row["end_slot"] = task.end - 1.0

    def _record_energy(self, task: Task, row: np.void) -> None:
        scenario, booking = self.scenario, self.scenario.readings.dropped_energy
        if not task.completed and booking == "none":
            return
        sent = computed = 1.0
        wait = float(row["wait_slots"])
        if not task.completed and booking == "full":
            wait = task.start - task.arrival
        elif not task.completed:
            sending = task.size / (task.rate * scenario.slot_duration)
            sent = min(1.0, float(row["transmission_slots"]) / sending) if task.place > 0 else 0.0
            computed = min(1.0, task.served * task.frequency * scenario.slot_duration / task.cycles)
        row["waiting_energy"] = scenario.waiting_power * wait * scenario.slot_duration
        row["transmission_energy"] = sent * scenario.transmission_power * task.size / task.rate
        row["computing_energy"] = computed * scenario.switched_capacitance * task.frequency**2 * task.cycles

    def loads(self) -> tuple[np.ndarray, np.ndarray]:
        """Load of each device in the slot of each round, (R, M) twice: before its decision of that round, and after it.

        Only the rounds that follow in the same slot add work to a slot that has begun, so that what the device did in a
        slot is what could be known at its decision.
        """
        scenario, rounds = self.scenario, self.scenario.arrivals_per_slot
        before = np.zeros((scenario.decisions, scenario.devices))
        after = np.zeros_like(before)
        if scenario.readings.load == "local_share":
            return self._local_shares(scenario.decisions, scenario.devices)
        for task in self.tasks:
            if task.place == 0 and task.served > 0:
                for slot, load in self._load_of(task):
                    end = (slot + 1) * rounds
                    after[max(slot * rounds, task.row) : end, task.device] += load
                    before[max(slot * rounds, task.row + 1) : end, task.device] += load
        return np.minimum(before, scenario.load_cap), np.minimum(after, scenario.load_cap)

    def _load_of(self, task: Task) -> Generator[tuple[int, float], None, None]:
        first = math.floor(task.start + ROUND_OFF)
        for slot in range(first, self.scenario.slots):
            share = min(task.end, slot + 1.0) - max(task.start, slot)
            if share <= ROUND_OFF:
                return
            if self.scenario.readings.load == "busy_share":
                yield slot, share
                continue
            seconds = self.scenario.readings.load == "literal_seconds"
            elapsed = (slot - first + 1) * (self.scenario.slot_duration if seconds else 1.0)
            yield slot, min(self.scenario.load_cap, task.cycles / (task.frequency * elapsed))

    def _local_shares(self, rounds: int, devices: int) -> tuple[np.ndarray, np.ndarray]:
        local, total = np.zeros((2, rounds + 1, devices))
        for task in self.tasks:
            local[task.row + 1, task.device] += task.place == 0
            total[task.row + 1, task.device] += 1.0
        shares = local.cumsum(axis=0) / np.maximum(total.cumsum(axis=0), 1.0)
        return shares[:-1], shares[1:]

    def judge(self, rows: np.ndarray, fixed_energy: float) -> None:
        """Write load, cost (Eq. 25) and reward (Eq. 31) of every task, in the order of decisions."""
        before, after = self.loads()
        history = np.zeros(self.scenario.devices, DEVICE)
        for task in self.tasks:
            row, m = rows[task.row, task.device], task.device
            seen = np.append(after[task.row, : m + 1], before[task.row, m + 1 :])
            row["load"] = seen[m]
            row["cost"] = self._cost(task, row, fixed_energy, seen)
            history[m]["energy"] += _energy(row)
            history[m]["delay"] += row["delay_slots"] * self.scenario.slot_duration
            history[m]["tasks"] += 1
            if self.scenario.readings.failure_scope == "all" or task.place > 0:
                history[m]["counted"] += 1
                history[m]["failed"] += not task.completed
            row["reward"] = self._reward(task, row, history[m], fixed_energy, seen)

    def _cost(self, task: Task, row: np.void, fixed_energy: float, seen: np.ndarray) -> float:
        scenario, weights = self.scenario, self.scenario.weights
        delay, energy = row["delay_slots"] * scenario.slot_duration, _energy(row)
        if scenario.readings.cost_units == "normalised":
            delay, energy = row["delay_slots"] / scenario.tau_max_slots, energy / fixed_energy
        load = row["load"] if task.place == 0 else 0.0
        if scenario.readings.cost_load == "variance":
            load = float(np.var(seen))
        failed = 0.0 if task.completed else 1.0
        return weights.delay * delay + weights.energy * energy + weights.drop * failed + weights.load * load

    def _reward(self, task: Task, row: np.void, history: np.void, fixed_energy: float, seen: np.ndarray) -> float:
        scenario, readings, weights = self.scenario, self.scenario.readings, self.scenario.weights
        count = history["tasks"] if readings.history_mean == "tasks" else task.slot + 1
        usual = history["energy"] / count if readings.energy_reference == "own_history" else fixed_energy
        energy = _energy(row)
        ratio = 1.0 if energy == usual == 0.0 else energy / usual
        sigma_energy = -math.log2(ratio + 1e-10)
        if readings.dropped_energy_term == "capped" and not task.completed:
            sigma_energy = min(sigma_energy, 0.0)
        if readings.reward_history == "running":
            sigma_delay = 1.0 - history["delay"] / count / scenario.tau_max
            sigma_success = 1.0 - history["failed"] / max(history["counted"], 1)
        else:
            sigma_delay = 1.0 - row["delay_slots"] / scenario.tau_max_slots
            sigma_success = 1.0 if task.completed else 0.0
        gains = weights.energy * sigma_energy + weights.delay * sigma_delay + weights.drop * sigma_success
        sign = 1.0 if readings.load_sign == "plus" else -1.0
        return gains + sign * weights.load * float(np.var(seen))


def _rounded(slots: float, rounding: str) -> float:
    return float(math.ceil(slots - ROUND_OFF)) if rounding == "ceil" else slots


def _energy(row: np.void) -> float:
    return float(row["waiting_energy"] + row["transmission_energy"] + row["computing_energy"])


@checked
def simulate(scenario: Scenario, trace: Trace, actions: np.ndarray) -> np.ndarray:
    """Play the episodes of a trace and return the outcome of every task, (B, R, M) `TASK`.

    scenario : Scenario
        Any reading, any edge service. A fixed reference energy is that of the service in the order of decisions.
    trace : Trace
        B episodes.
    actions : (B, R, M) int
        0 local, n = 1..N server n, or the n-th within reach; ignored where there is no task.
    """
    trace.check(scenario)
    actions = check_actions(actions, scenario.choices, trace.size.shape)
    fixed_energy = math.nan
    if scenario.readings.cost_units != "si" or scenario.readings.energy_reference != "own_history":
        fixed_energy = reference_energy(scenario.replace(edge_service="decision_order"))
    tasks = np.zeros(trace.size.shape, TASK)
    for index in range(trace.episodes):
        episode = Episode(scenario, trace[index : index + 1], actions[index])
        episode.play()
        episode.record(tasks[index])
        episode.judge(tasks[index], fixed_energy)
    return tasks
