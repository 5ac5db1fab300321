"""How low the objective (26) can get on a trace: a bound that no policy beats, even if it knows all tasks beforehand.

Times count in slots; slot t begins at the instant t. Arrays over tasks are (T, M).
"""

from typing import NamedTuple

import numpy as np
from numba import njit
from scipy.optimize import isotonic_regression

from aiecof.checks import InvalidInput, check_calls
from aiecof.system import model
from aiecof.system.kernels import run_locally, run_on_server, scaled_cost
from aiecof.system.model import ROUND_OFF
from aiecof.system.objective import mean_cost
from aiecof.system.scenario import Scenario
from aiecof.system.simulator import Simulator, parameters
from aiecof.system.workload import Trace

STEPS, RATE = 80, 0.2
"""How often `lower_bound` corrects its prices, and by how much of their unit at first."""
FINENESS = 128
"""Classes of waits in a slot, where services on a device are not whole slots."""


class _Servers(NamedTuple):
    """Offloading at its best, (T, M, N) each: cost of completing without a wait (inf: impossible), slots of service,
    slot of the earliest arrival and slots from its beginning to that arrival; and (T, M): cost of being dropped."""

    cost: np.ndarray
    work: np.ndarray
    slot: np.ndarray
    delay: np.ndarray
    drop: np.ndarray


class _Devices(NamedTuple):
    """A task on its own device, for each of K classes of waits.

    `cost`, (M, T, K): at least, without the variance of the loads (inf: no task). `load`, (M, T, K, 2): least and
    largest after the decision. `next`, (M, T, K, 2): first and last class of the wait one slot later. `waiting`,
    (K, 2): least and largest load of a device with such a wait. `limit`, (M, T, 2): largest load before and after the
    decision under any policy. `per_slot`: classes in a slot.
    """

    cost: np.ndarray
    load: np.ndarray
    next: np.ndarray
    waiting: np.ndarray
    limit: np.ndarray
    per_slot: int


class _Prices(NamedTuple):
    """What the parts of the network are charged for what they share.

    `work`, (N, S): for work that reaches a server in a slot, in units of `rush`; falls by at most 1 a slot. `load`,
    (T, M, 2): for a load before and after the decision, in units of `spread`. `waits`, (N,), and `share`, (T,): the
    parts of the waits on a server and of the variance that are counted at all, 0..1.
    """

    work: np.ndarray
    waits: np.ndarray
    load: np.ndarray
    share: np.ndarray


class _Problem(NamedTuple):
    """One episode. `rush`, (N,): cost of a slot of delay over the longest service; `spread`: of a unit of variance,
    over M; `decisions`, (T, M, 2): number of those in a slot that meet a device before and after its own."""

    servers: _Servers
    devices: _Devices
    has_task: np.ndarray
    rush: np.ndarray
    spread: float
    decisions: np.ndarray


@njit
def _fill_servers(p, size, density, clock, rate, servers):
    """Write the outcome of every task on every server if it meets nobody."""
    for t, m, n in np.ndindex(servers.cost.shape):
        if size[t, m] > 0.0:
            out = run_on_server(p, size[t, m], density[t, m], clock[n], rate[m, n], -1.0, -1.0, t)
            energy = model.task_energy(out.waiting_energy, out.transmission_energy, out.computing_energy)
            if not out.dropped:
                servers.cost[t, m, n] = scaled_cost(p, energy, out.delay * p["slot_duration"], False, 0.0)
                servers.work[t, m, n] = out.computing
                servers.slot[t, m, n] = int(t + out.transmission + ROUND_OFF)
                servers.delay[t, m, n] = t + out.transmission - servers.slot[t, m, n]


@njit
def _fill_late(p, size, density, clock, rate, left, late):
    """Write whether a task would be late on a server, (T, M, N), if all before it were sent there and waited for."""
    step, channel_end, server_end = p["slot_duration"], np.zeros(late.shape[1:]), np.zeros(late.shape[2])
    for t, m, n in np.ndindex(late.shape):
        if size[t, m] > 0.0:
            sent_from = max(channel_end[m, n], t) if p["queue_channels"] else t
            channel_end[m, n] = sent_from + model.transmission_delay(size[t, m], rate[m].min(), step, p["ceil_channel"])
            service = model.computing_delay(size[t, m], density[t, m], clock[n], step, p["ceil_server"])
            server_end[n] = max(server_end[n], channel_end[m, n]) + service
            late[t, m, n] = server_end[n] > t + left[t] + ROUND_OFF


def _servers(scenario: Scenario, trace: Trace, b: int, p: np.void) -> _Servers:
    size, density, clock, rate = trace.size[b], trace.density[b], trace.server_frequency[b], trace.rate[b]
    shape = (*size.shape, scenario.servers)
    left = np.minimum(scenario.tau_max_slots, p["horizon"] + 1.0 - np.arange(scenario.slots))
    late = np.zeros(shape, bool)
    _fill_late(p, size, density, clock, rate, left, late)
    energy = model.transmission_energy(scenario.transmission_power, size[..., None], rate)
    booked, queue = scenario.readings.dropped_energy, scenario.readings.channel_queue
    if booked == "full":
        whole = model.computing_energy(scenario.switched_capacitance, clock, size[..., None], density[..., None])
        energy = energy + whole
    elif booked == "spent" and queue == "none":
        energy = np.minimum(energy, scenario.transmission_power * left[:, None, None] * scenario.slot_duration)
    else:
        energy = np.zeros(shape)  # while it waits for its channel a task spends nothing
    drop = scaled_cost(p, energy, left[:, None, None] * scenario.slot_duration, True, 0.0)
    drop = np.where(late, drop, np.inf).min(axis=-1)
    servers = _Servers(np.full(shape, np.inf), np.zeros(shape), np.zeros(shape, np.int64), np.zeros(shape), drop)
    _fill_servers(p, size, density, clock, rate, servers)
    return servers


@njit
def _fill_devices(p, size, density, clock, least_load, width, devices):
    """Write what becomes of a task at both ends of each class of waits: in between, nothing is beyond them."""
    busy_share = not (p["literal_load"] or p["local_share_load"])
    for m, t, k in np.ndindex(devices.cost.shape):
        if size[t, m] <= 0.0:
            continue
        for side in range(2):
            wait = k / devices.per_slot + side * width
            out = run_locally(p, size[t, m], density[t, m], clock[m], t + wait - 1.0, t)
            load = min(wait + out.computing, p["load_cap"]) if busy_share else least_load[t, m]
            energy = model.total_energy(out.waiting_energy, out.computing_energy)
            cost = scaled_cost(
                p, energy, out.delay * p["slot_duration"], out.dropped, 0.0 if p["variance_cost"] else load
            )
            left = max(out.end, t + wait - 1.0, t * 1.0) - t
            devices.cost[m, t, k] = min(devices.cost[m, t, k], cost)
            devices.load[m, t, k, side], devices.next[m, t, k, side] = load, int((left + ROUND_OFF) * devices.per_slot)


def _largest_loads(p: np.void, service: np.ndarray) -> np.ndarray:
    """Largest load before and after each decision, (M, T, 2): a device that keeps all of its tasks is busy longest.

    service : (T, M) float
        Of each task on its device [slots].
    """
    limit, wait = np.zeros((*service.T.shape, 2)), np.zeros(service.shape[1])
    for t, work in enumerate(service):
        latest = np.minimum(wait, p["tau"]) + work if p["drop_on_wait"] else np.minimum(wait + work, p["tau"])
        after = np.maximum(wait, np.minimum(latest, p["horizon"] + 1.0 - t))
        limit[:, t, 0], limit[:, t, 1] = wait, after
        wait = np.maximum(after - 1.0, 0.0)
    return np.minimum(limit, p["load_cap"])


def _devices(scenario: Scenario, trace: Trace, b: int, p: np.void) -> _Devices:
    size, density, clock = trace.size[b], trace.density[b], trace.device_frequency[b]
    whole, cap = scenario.readings.device_rounding == "ceil", scenario.load_cap
    per_slot, width = (1, 0.0) if whole else (FINENESS, 1.0 / FINENESS - 1.5 * ROUND_OFF)
    service = model.computing_delay(size, density, clock, scenario.slot_duration, whole)
    longest = scenario.tau_max_slots + (service.max() if scenario.readings.drop_rule == "wait" else 0.0)
    shape = (scenario.devices, scenario.slots, int(np.ceil(longest)) * per_slot + 1)
    waiting = np.minimum(np.arange(shape[2])[:, None] / per_slot + [0.0, width], cap)
    load, following = np.zeros((*shape, 2)), np.zeros((*shape, 2), np.int32)
    devices = _Devices(np.full(shape, np.inf), load, following, waiting, _largest_loads(p, service), per_slot)
    least_load = 1.0 / np.maximum(np.cumsum(size > 0.0, axis=0), 1)  # of local tasks: this one at least is local
    if p["literal_load"]:  # what executes in the slot is this task or an earlier one
        own = model.device_load(size, density, clock, (np.ceil(service) + 1.0) * p["load_step"], cap)
        least_load = np.minimum.accumulate(np.where(size > 0.0, own, cap), axis=0)
    _fill_devices(p, size, density, clock, least_load, width, devices)
    return devices


@njit
def _least(square, linear, low, high):
    """The x in [low, high] with the least square x^2 + linear x, and that value."""
    if square > 0.0:
        x = min(max(-0.5 * linear / square, low), high)
    else:
        x = low if linear > 0.0 else high
    return x, (square * x + linear) * x


@njit
def _schedule(d, away, square, linear, local, loads):
    """Sum over devices of the least cost of all their slots; writes the decisions, (T, M), and loads, (T, M, 2).

    `square` and `linear`, (T, M, 2), price a device's load before and after its decision.
    """
    devices, slots, classes = d.cost.shape
    value, moves, total = np.zeros((slots + 1, classes)), np.zeros((slots, classes), np.int32), 0.0
    for m in range(devices):
        for t in range(slots - 1, -1, -1):
            for k in range(classes):
                low, high, here = d.waiting[k, 0], d.waiting[k, 1], d.cost[m, t, k]
                best, move = away[t, m] + _least(square[t, m, 1], linear[t, m, 1], low, high)[1], -1
                best += value[t + 1, max(k - d.per_slot, 0)]
                if here < np.inf:
                    here += _least(square[t, m, 1], linear[t, m, 1], d.load[m, t, k, 0], d.load[m, t, k, 1])[1]
                    for j in range(d.next[m, t, k, 0], d.next[m, t, k, 1] + 1):
                        if here + value[t + 1, j] < best:
                            best, move = here + value[t + 1, j], j
                value[t, k] = best + _least(square[t, m, 0], linear[t, m, 0], low, high)[1]
                moves[t, k] = move
        total += value[0, 0]
        k = 0
        for t in range(slots):
            local[t, m] = moves[t, k] >= 0
            after = d.load[m, t, k] if local[t, m] else d.waiting[k]
            loads[t, m, 0] = _least(square[t, m, 0], linear[t, m, 0], d.waiting[k, 0], d.waiting[k, 1])[0]
            loads[t, m, 1] = _least(square[t, m, 1], linear[t, m, 1], after[0], after[1])[0]
            k = moves[t, k] if local[t, m] else max(k - d.per_slot, 0)
    return total


@njit
def _mean_loads(has_task, limit, price, share, loads, squares):
    """Sum over decisions of the least - share x M x (mean load)^2 - prices x loads, loads within their limits.

    It is concave and depends on two sums only, so that it is least where loads are filled in the order of their
    prices, up to some place. Writes those loads, (T, M, 2), and M x (mean load)^2, (T,), summed over decisions.
    """
    devices, total = has_task.shape[1], 0.0
    for t, m in np.ndindex(has_task.shape):
        if not has_task[t, m]:
            continue
        prices = np.array([price[t, i, int(i <= m)] for i in range(devices)])
        order, filled, paid = np.argsort(-prices), 0.0, 0.0
        best, last, square = 0.0, 0, 0.0
        for rank, i in enumerate(order):
            top = limit[i, t, int(i <= m)]
            filled, paid = filled + top, paid + prices[i] * top
            if -share[t] * filled * filled / devices - paid < best:
                best, last, square = -share[t] * filled * filled / devices - paid, rank + 1, filled * filled / devices
        total += best
        squares[t] += square
        for i in order[:last]:
            loads[t, i, int(i <= m)] += limit[i, t, int(i <= m)]
    return total


def _problem(scenario: Scenario, trace: Trace, b: int) -> _Problem:
    p, has_task = parameters(scenario), trace.has_task[b]
    servers = _servers(scenario, trace, b, p)
    longest = servers.work.max(axis=(0, 1))
    rush = scaled_cost(p, 0.0, scenario.slot_duration, False, 0.0) / np.where(longest > 0.0, longest, np.inf)
    counted = scenario.readings.cost_load == "variance" and scenario.readings.load == "busy_share"
    spread = scenario.weights.load / scenario.devices if counted else 0.0
    before = np.cumsum(has_task, axis=1) - has_task
    decisions = np.stack([before, has_task.sum(axis=1, keepdims=True) - before], axis=-1).astype(float)
    return _Problem(servers, _devices(scenario, trace, b, p), has_task, rush, spread, decisions)


def _value(problem: _Problem, prices: _Prices) -> tuple[float, _Prices]:
    """The bound on the sum of all costs at some prices, and the direction in which each price raises it."""
    servers, devices, has_task, rush, spread, decisions = problem
    toll = prices.work[np.arange(len(rush)), servers.slot] - servers.work / 2.0 - servers.delay
    offers = servers.cost + servers.work * toll * rush * prices.waits
    chosen = offers.argmin(axis=-1)
    best = offers.min(axis=-1)
    away = np.where(has_task, np.minimum(best, servers.drop), 0.0)
    local, loads = np.zeros(away.shape, bool), np.zeros(decisions.shape)
    square, linear = spread * decisions * prices.share[:, None, None], spread * decisions * prices.load
    total = _schedule(devices, away, square, linear, local, loads)
    earned = np.where(prices.work < 1.0, prices.work**2 / 2.0, prices.work - 0.5).sum(axis=1)
    total -= float(rush * prices.waits @ earned)
    shared, squares = np.zeros(decisions.shape), np.zeros(len(away))
    total += spread * _mean_loads(has_task, devices.limit, prices.load, prices.share, shared, squares)

    arrived = np.zeros(prices.work.shape)
    t, m = np.nonzero(has_task & ~local & (best < servers.drop))
    n = chosen[t, m]
    np.add.at(arrived, (n, servers.slot[t, m, n]), servers.work[t, m, n])
    paid = np.bincount(n, servers.work[t, m, n] * toll[t, m, n], len(rush))
    variance = (decisions * loads**2).sum(axis=(1, 2)) - squares
    return total, _Prices(arrived - np.minimum(prices.work, 1.0), paid - earned, decisions * loads - shared, variance)


def _episode_bound(scenario: Scenario, trace: Trace, b: int) -> float:
    """The best bound on the way of projected AdaGrad over the prices."""
    problem = _problem(scenario, trace, b)
    slots, devices = scenario.slots, scenario.devices
    index = np.arange(slots + scenario.tau_max_slots + 1.0)
    work, waits, share = np.zeros((scenario.servers, len(index))), np.ones(scenario.servers), np.ones(slots)
    usual = problem.devices.limit.mean(axis=(0, 2))
    prices = _Prices(work, waits, np.tile(-usual[:, None, None], (1, devices, 2)), share)
    history = [np.zeros_like(price) for price in prices]
    best = -np.inf
    for _ in range(STEPS):
        value, slopes = _value(problem, prices)
        best = max(best, value)
        for price, slope, squares in zip(prices, slopes, history, strict=True):
            squares += slope**2
            price += RATE * slope / np.sqrt(np.maximum(squares, 1e-30))
        rising = np.array([isotonic_regression(row).x for row in work + index])
        np.clip(rising, index, len(index), out=work)
        work -= index
        for part in (waits, share):
            np.clip(part, 0.0, 1.0, out=part)
    return mean_cost(best, slots, devices)


def lower_bound(scenario: Scenario, trace: Trace) -> np.ndarray:
    """A cost that no policy goes below on a trace, even if it knows the trace: of `metrics()["cost"]`, (B,).

    scenario : Scenario
        With the edge service `decision_order`, any other reading, and nothing that goes beyond the paper's network.
    trace : Trace
        B episodes.

    The bound is a Lagrangian one. What the devices share is cut apart and priced, each part does what is best for
    itself, and whatever the prices are, the sum is no more than the cost of any schedule. Gradient ascent looks for
    good prices; that it ends early makes the bound lower, never wrong.

    - A device's queue depends on its own decisions alone: dynamic programming over its wait, in `FINENESS` classes a
      slot where services are not whole slots, each costing what its better end costs.
    - An offloaded task that completes costs no less than if it met nobody. One that is dropped costs the drop, the
      time until then, and the energy counted in any case; only where all earlier tasks together would make it late.
    - A server has one task at a time. If W is the work on it that a slot begins with, the integral of that work grows
      by at least W^2 / 2, or W - 1/2 if W > 1, and is also the sum of service x (wait + service / 2). Tasks pay a price
      y for their work, and what the server earns less that cost is at most y^2 / 2 a slot, or y - 1/2 if y > 1, as long
      as prices fall by no more than 1 a slot.
    - A variance is the mean square less the squared mean: devices pay the squares and a price for their loads, and
      each decision gets the squared mean at the loads that are best for it.

    Not counted: waits for channels, what an early decision that arrives late does to those behind it, and the
    variance of loads that are not `busy_share`.
    """
    Simulator(scenario)  # refuses what it does not know
    for name, none in (("arrivals_per_slot", 1), ("reach", None), ("fading_scale", 1.0), ("background_load", 0.0)):
        if getattr(scenario, name) != none:
            raise InvalidInput(name, getattr(scenario, name), f"{none} for the lower bound")
    trace.check(scenario)
    return np.array([_episode_bound(scenario, trace, b) for b in range(trace.episodes)])


check_calls(globals())
