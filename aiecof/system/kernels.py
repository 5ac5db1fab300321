"""The compiled dynamics of one slot and of whole episodes, calling the equations in `model` and `objective`.

Scalars and records go from function to function, whole arrays only into the outermost ones, which take their views once
an episode: counting references to arrays costs more than the equations do. `p` is the record that
`simulator.parameters` makes of a scenario. With `NUMBA_DISABLE_JIT=1` all of this is plain Python to step through.
"""

from collections import namedtuple

import numpy as np

from aiecof.system import model, objective
from aiecof.system.compiling import inlined, kernel
from aiecof.system.views import observe

COMPLETED, DROPPED, IN_FLIGHT = 1, 2, 3

_FLOATS = "wait_slots transmission_wait_slots transmission_slots computing_slots delay_slots end_slot"
_FLOATS += " waiting_energy transmission_energy computing_energy load cost reward"
TASK = np.dtype([("place", "i4"), ("fate", "i4")] + [(name, "f8") for name in _FLOATS.split()])
"""Outcome of a task: place (0 device, n server n, -1 no task), fate (0 no task, 1 completed, 2 dropped, 3 in flight at
the end), slots spent in each stage, slot of completion or drop, energies [J], load of the device at the decision, cost
(Eq. 25), reward (Eq. 31)."""

DEVICE = np.dtype([(name, "f8") for name in ("end", "energy", "delay", "tasks", "local", "counted", "failed")])
TOTAL = np.dtype(
    [(name, "f8") for name in ("tasks", "local", "completed", "dropped", "in_flight", "delay_completed", "delay")]
    + [(name, "f8") for name in ("energy_completed", "energy", "load_slots", "load_decisions", "reward", "cost")]
)

DRAWN = tuple("size density device_frequency server_frequency rate fade background reach".split())
_STATE = " devices last channel_end server_end own_end told_end answers load moments totals tasks terms"
Arrays = namedtuple("Arrays", [*DRAWN, *_STATE.split()])
"""Everything a kernel reads or writes, as NumPy arrays with first axis B.

Not in `Trace` or `Simulator`: `last`, a device's latest place plus 1; `own_end`, without what others bring; `told_end`,
as of the latest beacon; `answers`, (B, T, M, C+1, 2), what a device hears of a place in a slot.
"""

_STAGES = "delay wait transmission_wait transmission computing waiting_energy transmission_energy computing_energy"
Outcome = namedtuple("Outcome", "dropped lost start end " + _STAGES)
"""What a decision does to its task: two flags, slots, and joules."""


@inlined
def _part(value, until):
    """The part of a stage that fits in the time that is left."""
    return min(value, max(until, 0.0))


@inlined
def _counted_energy(p, dropped, whole, spent):
    """Energy that counts for a task: all of it, or what the reading says of a dropped one (R21)."""
    if not dropped or p["dropped_energy"] == 1:
        return whole
    return spent if p["dropped_energy"] == 0 else 0.0


@inlined
def _processor_energy(p, dropped, size, density, frequency, wait, waited, computed):
    """Static and dynamic energy of a task on a device or a server [J]."""
    step, power = p["slot_duration"], p["waiting_power"]
    static = model.waiting_energy(power, wait, step)
    dynamic = model.computing_energy(p["capacitance"], frequency, size, density)
    done = min(computed / model.computing_delay(size, density, frequency, step, False), 1.0)
    static = _counted_energy(p, dropped, static, model.waiting_energy(power, waited, step))
    return static, _counted_energy(p, dropped, dynamic, dynamic * done)


@inlined
def run_locally(p, size, density, frequency, previous_end, slot):
    """What becomes of a task on its device."""
    wait = model.waiting_delay(previous_end, slot)  # (2)
    service = model.computing_delay(size, density, frequency, p["slot_duration"], p["ceil_device"])  # (3)
    end = min(model.completion_slot(slot, wait, service, p["tau"], p["drop_on_wait"]), p["horizon"])  # (4)
    dropped = model.completion_slot(slot, wait, service, np.inf) - end > model.ROUND_OFF
    left = end - slot + 1.0 if dropped else np.inf
    waited, computed = _part(wait, left), _part(service, left - wait)
    static, dynamic = _processor_energy(p, dropped, size, density, frequency, wait, waited, computed)  # (7), (9)
    delay = waited + computed  # the task's part of (5)
    return Outcome(dropped, False, slot + wait, end, delay, waited, 0.0, 0.0, computed, static, 0.0, dynamic)


@inlined
def run_on_server(p, size, density, frequency, rate, channel_end, server_end, slot):
    """What becomes of a task that is sent to a server."""
    step = p["slot_duration"]
    queue = model.waiting_delay(channel_end, slot)
    sending = model.transmission_delay(size, rate, step, p["ceil_channel"])  # (14)
    arrival = slot + queue + sending
    wait, service = model.edge_delay(server_end, arrival, size, density, frequency, step, p["ceil_server"])  # (18)
    start = arrival + wait
    deadline = min(slot + p["tau"] - 1.0, p["horizon"])
    lost = arrival - 1.0 >= deadline - model.ROUND_OFF
    end = min(model.completion_slot(slot, start - slot, service, p["tau"], p["drop_on_wait"]), p["horizon"])
    end = deadline if lost else end
    dropped = lost or model.completion_slot(slot, start - slot, service, np.inf) - end > model.ROUND_OFF
    left = end - slot + 1.0 if dropped else np.inf
    queued, sent = _part(queue, left), _part(sending, left - queue)
    waited, computed = _part(wait, left - queue - sending), _part(service, left - (start - slot))
    if p["wait_from_decision"] and not dropped:
        wait = waited = start - slot
    delay = queued + sent + waited + computed  # the task's part of (15) and (19)
    static, dynamic = _processor_energy(p, dropped, size, density, frequency, wait, waited, computed)  # (20), (22)
    radio = model.transmission_energy(p["transmission_power"], size, rate)  # (16)
    done = min(sent / model.transmission_delay(size, rate, step, False), 1.0)
    radio = _counted_energy(p, dropped, radio, radio * done)
    return Outcome(dropped, lost, start, end, delay, waited, queued, sent, computed, static, radio, dynamic)


@inlined
def _load_of(p, device, busy):
    """Load of a device in a slot, in the chosen reading of Eq. (12)."""
    if p["local_share_load"]:
        return device["local"] / max(device["tasks"], 1.0)
    return min(busy, p["load_cap"])  # (12), as the busy share of the slot (R13)


@inlined
def _book_load(p, load, outcome, size, density, frequency):
    """Enter the slots in which a local task will execute into its device's load, (T,)."""
    finish = outcome.start + outcome.computing
    if outcome.computing <= model.ROUND_OFF:
        return
    first = int(outcome.start + model.ROUND_OFF)
    slot = first
    while slot < finish - model.ROUND_OFF and slot < load.shape[0]:
        if p["literal_load"]:
            elapsed = (slot - first + 1.0) * p["load_step"]
            share = model.device_load(size, density, frequency, elapsed, p["load_cap"])  # (12)
        else:
            share = min(slot + 1.0, finish) - max(float(slot), outcome.start)
        load[slot] += share
        slot += 1


@inlined
def _add_to_history(p, device, place, outcome, busy):
    """Enter a task into what its device has done; its energy, and the load of the device once it has decided."""
    energy = model.task_energy(outcome.waiting_energy, outcome.transmission_energy, outcome.computing_energy)
    device["energy"] += energy
    device["delay"] += outcome.delay * p["slot_duration"]
    device["tasks"] += 1.0
    device["local"] += place == 0
    if place > 0 or not p["offloaded_failures"]:
        device["counted"] += 1.0
        device["failed"] += outcome.dropped
    return energy, _load_of(p, device, busy)


@inlined
def _add_to_totals(total, fate, place, energy, delay, load, reward, cost):
    total["tasks"] += 1.0
    total["local"] += place == 0
    total["load_decisions"] += load
    total["reward"] += reward
    total["cost"] += cost
    if fate == IN_FLIGHT:
        total["in_flight"] += 1.0
        return
    total["delay"] += delay
    total["energy"] += energy
    if fate == COMPLETED:
        total["completed"] += 1.0
        total["delay_completed"] += delay
        total["energy_completed"] += energy
    else:
        total["dropped"] += 1.0


@inlined
def _record(task, place, fate, outcome, load, cost, reward):
    task["place"], task["fate"] = place, fate
    task["wait_slots"], task["transmission_wait_slots"] = outcome.wait, outcome.transmission_wait
    task["transmission_slots"], task["computing_slots"] = outcome.transmission, outcome.computing
    task["delay_slots"], task["end_slot"] = outcome.delay, outcome.end
    task["waiting_energy"], task["transmission_energy"] = outcome.waiting_energy, outcome.transmission_energy
    task["computing_energy"] = outcome.computing_energy
    task["load"], task["cost"], task["reward"] = load, cost, reward


@inlined
def scaled_cost(p, energy, delay, dropped, load):
    """Cost of a task whose delay and energy are measured in the units of R20."""
    weights = p["weight_delay"], p["weight_energy"], p["weight_drop"], p["weight_load"]
    delay, energy = delay / p["delay_scale"], energy / p["energy_scale"]
    return objective.task_cost(delay, energy, dropped, load, weights[0], weights[1], weights[2], weights[3])  # (25)


@inlined
def _sum_loads(p, devices, load, slot, moments):
    """Sum of the devices' loads and of their squares at the start of a slot."""
    first = second = 0.0
    for m in range(devices.shape[0]):
        busy = _load_of(p, devices[m], load[m, slot])
        first += busy
        second += busy * busy
    moments[0], moments[1] = first, second


@inlined
def _exchange_load(moments, count, before, after):
    """Variance of the devices' loads once one of them has changed (R32)."""
    moments[0] += after - before
    moments[1] += after * after - before * before
    mean = moments[0] / count
    return max(moments[1] / count - mean * mean, 0.0)


@inlined
def _settle(p, total, device, place, outcome, energy, load, load_variance, slot, slots):
    """Fate, cost and reward of a task, entered into the totals."""
    delay, dropped = outcome.delay * p["slot_duration"], outcome.dropped
    fate = DROPPED if dropped else COMPLETED
    if p["exclude_in_flight"] and outcome.end > slots - 1.0 + model.ROUND_OFF:
        fate = IN_FLIGHT  # (R15)
    reward = objective.decision_reward(p, device, energy, delay, dropped, load_variance, slot)  # (31)
    charged = load_variance if p["variance_cost"] else load * (place == 0)
    cost = scaled_cost(p, energy, delay, dropped, charged)
    _add_to_totals(total, fate, place, energy, delay, load, reward, cost)
    return fate, cost, reward


@inlined
def _tell(p, a, b, slot):
    """Send a beacon, if it is time for one, that says until when each server is reserved (R70)."""
    if p["beacons"] and (slot + 1) % p["beacon_slots"] == 0:
        a.told_end[b, :] = a.own_end[b] if p["own_backlog"] else a.server_end[b]


@inlined
def _take_in(p, a, b, row):
    """Let the work that others bring join the queues of the servers as a slot begins (R69)."""
    rounds = a.size.shape[1] // a.load.shape[1]
    if p["background"] and row % rounds == 0:
        for n in range(a.server_end.shape[1]):
            work = a.background[b, row // rounds, n]
            if work > 0.0:
                a.server_end[b, n] = max(a.server_end[b, n], row // rounds - 1.0) + work


@inlined
def _sent(outcome, slot):
    """Last slot of a task on its channel."""
    return slot + outcome.transmission_wait + outcome.transmission - 1.0


@inlined
def _reserve(p, outcome, n, slot, server_end, own_end):
    """Reserve server n for a task, also in the queue as it would be if nobody else brought work."""
    if not outcome.lost:
        server_end[n] = max(server_end[n], outcome.end)
        if p["own_backlog"]:
            own_end[n] = max(own_end[n], _sent(outcome, slot)) + outcome.computing


@inlined
def _answer(answers, last, m, place, outcome, tau):
    """Enter the latest place, and what the device will hear of it in the slot that begins when it is over, or next."""
    last[m] = place + 1
    slot = int(np.ceil(outcome.end + 1.0 - model.ROUND_OFF))
    if slot < answers.shape[0]:
        if outcome.dropped:
            answers[slot, m, place, 1] += 1.0
        else:
            answers[slot, m, place, 0] = outcome.delay / tau


@inlined
def _terms(p, device, outcome, energy, load_variance, slot):
    """The four terms of a reward (29)."""
    delay = outcome.delay * p["slot_duration"]
    return objective.decision_terms(p, device, energy, delay, outcome.dropped, load_variance, slot)


@kernel
def _decide(p, a, b, begin, first, actions, rewards):
    """Decisions of devices first .. first + K - 1 of one replica in S rounds; actions and rewards are (S, K)."""
    size, density, clock, rate, slots = a.size[b], a.density[b], a.device_frequency[b], a.rate[b], a.load.shape[1]
    server_clock, total, moments, tasks, terms = a.server_frequency[b], a.totals[b], a.moments[b], a.tasks, a.terms
    devices, channel_end, server_end, load = a.devices[b], a.channel_end[b], a.server_end[b], a.load[b].T
    fade, reach, own_end, last, answers = a.fade[b], a.reach[b], a.own_end[b], a.last[b], a.answers[b]
    for s in range(actions.shape[0]):
        row, slot = begin + s, (begin + s) // (a.size.shape[1] // slots)
        if first == 0:
            _sum_loads(p, devices, load, slot, moments)
            _take_in(p, a, b, row)
        for k in range(actions.shape[1]):
            m, place = first + k, actions[s, k]  # (1)
            bits, work = size[row, m], density[row, m]
            if bits <= 0.0:
                continue
            device, busy = devices[m], _load_of(p, devices[m], load[m, slot])
            if place == 0:
                outcome = run_locally(p, bits, work, clock[m], device["end"], slot)
                device["end"] = max(device["end"], outcome.end)
                _book_load(p, load[m], outcome, bits, work, clock[m])
            else:
                n, c = place - 1, 0 if p["shared_channel"] else place - 1
                speed = rate[m, n] * (fade[slot, m, n] if p["fading"] else 1.0)
                n = reach[m, n] if p["reaches"] else n
                outcome = run_on_server(p, bits, work, server_clock[n], speed, channel_end[m, c], server_end[n], slot)
                if p["queue_channels"]:
                    channel_end[m, c] = max(channel_end[m, c], _sent(outcome, slot))
                _reserve(p, outcome, n, slot, server_end, own_end)
            if p["answers"]:
                _answer(answers, last, m, place, outcome, p["tau"])
            energy, now = _add_to_history(p, device, place, outcome, load[m, slot])
            variance = _exchange_load(moments, load.shape[0], busy, now)
            fate, cost, rewards[s, k] = _settle(p, total, device, place, outcome, energy, now, variance, slot, slots)
            if tasks.shape[0]:
                _record(tasks[b, row, m], place, fate, outcome, now, cost, rewards[s, k])
            if terms.shape[0]:
                terms[b, m] = _terms(p, device, outcome, energy, variance, slot)
        if first + actions.shape[1] == load.shape[0] and row + 1 == (slot + 1) * (a.size.shape[1] // slots):
            total["load_slots"] += moments[0]
            _tell(p, a, b, slot)


@kernel
def decide_replicas(p, a, row, first, actions, rewards, seen):
    """`_decide` in every replica, actions and rewards (B, K); seen, (B, M, F) or empty: what devices see afterwards."""
    for b in range(actions.shape[0]):
        _decide(p, a, b, row, first, actions[b : b + 1], rewards[b : b + 1])
    if seen.shape[0] and row + 1 < a.size.shape[1]:
        observe(p, a, row + 1, 0, seen)


@kernel
def run_episodes(p, a, actions, rewards, begin, end):
    """All rounds of replicas begin .. end - 1; actions and rewards are (B, R, M)."""
    for b in range(begin, end):
        _decide(p, a, b, 0, 0, actions[b], rewards[b])
