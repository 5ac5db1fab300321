"""The system model, Eqs. (1)-(24), in the paper's order: one pure function each.

Every function takes arrays (NumPy broadcasting) or scalars, and the compiled simulator calls the same code:
`register_jitable` leaves a plain Python function for the interpreter and lets Numba compile it into a kernel.
Delays are in slots where the name says so, everything else is SI. A slot index counts from 0; a task that
completes *in* slot l is finished when slot l ends, so a delay is l - t + 1 slots. Where a service is not rounded
up, l is a fraction: the instant of completion less one slot.
"""

import numpy as np
from numba.extending import register_jitable

ROUND_OFF = 1e-9
"""Slots: less than this is rounding, so that a task that fits exactly neither gains a slot nor misses its deadline."""


@register_jitable
def _in_slots(duration, rounded):
    return np.ceil(duration - ROUND_OFF) if rounded else duration


def decode_action(action, servers):
    """Offloading decision and server choice of an action (Eq. 1).

    action : (...) int
        0 runs the task on the device, n = 1..N on server n.
    servers : int
        N.

    Returns eta, (...) int (1 for local), and xi, (..., N) int, with sum over n of xi = 1(eta = 0).
    """
    action = np.asarray(action)
    eta = (action == 0).astype(int)
    xi = (action[..., None] == np.arange(1, servers + 1)).astype(int)
    return eta, xi


@register_jitable
def waiting_delay(previous_end, slot):
    """Slots until the queue is free (Eq. 2).

    previous_end : (...) float
        Latest slot in which an earlier task of the queue completes or is dropped, -1 if there was none.
    slot : (...) float
        Slot in which the task joins the queue.

    Clean form [max l(t') - t + 1]+: the printed one loses the maximum and turns negative on an idle queue (R1).
    """
    return np.maximum(previous_end - slot + 1.0, 0.0)


@register_jitable
def computing_delay(size, density, frequency, slot_duration, rounded=True):
    """Slots of service on a processor (Eq. 3).

    size, density : (...) float
        Task size [bit], 0 where the task goes elsewhere, and computational density [cycle/bit].
    frequency, slot_duration : (...) float
        Clock [Hz] and length of a slot [s].
    rounded : bool
        Whether a started slot counts whole (reading R9); the print's brackets are a ceiling (R2).
    """
    return _in_slots(size / (frequency * slot_duration / density), rounded)


@register_jitable
def completion_slot(slot, wait_slots, service_slots, tau_max_slots, drop_on_wait=False):
    """Slot in which a task completes or is dropped (Eq. 4).

    slot : (...) float
        Slot in which the task was generated.
    wait_slots, service_slots : (...) float
        From generation to the start of the service, and of the service itself.
    tau_max_slots : float
        Allowed slots.
    drop_on_wait : bool
        False: min(t + W + D - 1, t + tau_max - 1); the print has lost the first -1 (R3). True: as printed, only a
        wait of tau_max or more drops (R10).
    """
    finish = slot + wait_slots + service_slots - 1.0
    deadline = slot + tau_max_slots - 1.0
    served = drop_on_wait & (wait_slots < tau_max_slots - ROUND_OFF)
    return np.minimum(finish, np.maximum(deadline, finish * served))


@register_jitable
def total_energy(waiting, computing):
    """Energy of local execution [J]: static while waiting plus dynamic while computing (Eq. 6).

    waiting, computing : (...) float
        Eq. (7) and Eq. (9) [J].
    """
    return waiting + computing


@register_jitable
def waiting_energy(power, wait_slots, slot_duration):
    """Static energy of a task that waits on a device or on a server [J] (Eqs. 7, 20).

    power, wait_slots, slot_duration : (...) float
        Static power [W], slots waited, and length of a slot [s].
    """
    return power * wait_slots * slot_duration


@register_jitable
def computing_power(capacitance, frequency):
    """Dynamic power of a processor [W], c f^3 (Eqs. 8, 21).

    capacitance : float
        Switched capacitance c [J s^2 / cycle^3]; 1e-26 in print (R25).
    frequency : (...) float
        Clock [Hz].
    """
    return capacitance * frequency**3


@register_jitable
def computing_energy(capacitance, frequency, size, density):
    """Dynamic energy of a whole task [J], c f^2 x rho (Eqs. 9, 22).

    capacitance, frequency : (...) float
        Switched capacitance [J s^2 / cycle^3] and clock [Hz].
    size, density : (...) float
        [bit] and [cycle/bit].
    """
    return capacitance * frequency**2 * size * density


@register_jitable
def energy_of_power(power, duration):
    """Energy as power times time [J] (Eq. 10).

    power : (...) float
        [W].
    duration : (...) float
        [s]. With the time actually computed, x rho / f, this equals Eq. (9); with the rounded one it does not (R37).
    """
    return power * duration


@register_jitable
def device_load(size, density, frequency, elapsed, cap=0.98):
    """CPU utilisation: demand over capacity, capped (Eq. 12).

    size, density : (...) float
        Of the task that executes [bit], [cycle/bit].
    frequency : (...) float
        [Hz].
    elapsed : (...) float
        t - t' + 1, in slots or in seconds (reading R13); in seconds the equation has no unit left over.
    cap : float
        0.98.
    """
    return np.minimum(cap, density * size / (frequency * elapsed))


def transmission_rate(bandwidth, gain, power, noise):
    """Shannon rate of a channel [bit/s] (Eq. 13).

    bandwidth, gain : (...) float
        [Hz], and |h|^2, dimensionless.
    power, noise : (...) float
        Transmission and noise power [W].
    """
    return bandwidth * np.log2(1.0 + gain * power / noise)


@register_jitable
def transmission_delay(size, rate, slot_duration, rounded=True):
    """Slots on the channel (Eq. 14).

    size, rate : (...) float
        [bit], 0 where the task stays on the device, and [bit/s].
    slot_duration : float
        [s]. The print multiplies by it, which gives s^2 (R4).
    rounded : bool
        Whether a started slot counts whole (R9).

    The wait for the channel, if it has a queue (R11), is `waiting_delay`.
    """
    return _in_slots(size / (rate * slot_duration), rounded)


@register_jitable
def transmission_energy(power, size, rate):
    """Energy of sending a task [J], P x / r (Eq. 16).

    The print divides by dt as well: watts times slots (R5).

    power, size, rate : (...) float
        Transmission power [W], [bit] and [bit/s].
    """
    return power * size / rate


@register_jitable
def edge_delay(previous_end, slot, size, density, frequency, slot_duration, rounded=False):
    """Slots a task waits and slots it is served on an edge server (Eq. 18).

    previous_end : (...) float
        Latest slot in which a task decided earlier for this server completes or is dropped, -1 if none.
    slot : (...) float
        Slot from which the wait counts: the arrival at the server, or the generation (reading R8).
    size, density : (...) float
        [bit], [cycle/bit]; the print has lost the density (R6).
    frequency, slot_duration : (...) float
        Clock of the server [Hz] and length of a slot [s].
    rounded : bool
        Whether a started slot counts whole (R9).

    Returns (wait, service); D_edge is their sum. Tasks are served in the order of their decisions (R12).
    """
    return waiting_delay(previous_end, slot), computing_delay(size, density, frequency, slot_duration, rounded)


@register_jitable
def edge_energy(waiting, computing):
    """Energy a task costs its edge server [J] (Eq. 23).

    waiting, computing : (...) float
        Eq. (20) and Eq. (22) [J]. In print the left side of (22) is that of this equation (R7).
    """
    return waiting + computing


@register_jitable
def task_energy(waiting, transmission, computing):
    """Energy of a task, wherever it runs [J].

    waiting, transmission, computing : (...) float
        Eq. (7) or (20), Eq. (16) or 0, Eq. (9) or (22) [J].

    Eq. (6) for a local task; Eq. (23) and what it takes to send it for an offloaded one, as in Eq. (25).
    """
    return edge_energy(waiting + transmission, computing)


def recorded_energy(tasks):
    """`task_energy` of recorded tasks, (...) `kernels.TASK` [J]."""
    return task_energy(tasks["waiting_energy"], tasks["transmission_energy"], tasks["computing_energy"])


def episode_totals(tasks, slot_duration):
    """Sums over all slots, devices and servers of a recorded episode (Eqs. 5, 11, 15, 17, 19, 24).

    tasks : (..., T, M) structured array
        Outcomes as `kernels.TASK` records them.
    slot_duration : float
        [s].

    Returns a dict: `local_delay`, `transmission_delay`, `edge_delay` [s] and `local_energy`, `transmission_energy`,
    `edge_energy` [J], each summed over the last two axes. The print calls both (11) and (24) E_InDe (R7).
    """
    local = decode_action(tasks["place"], 0)[0] == 1
    processor = (tasks["wait_slots"] + tasks["computing_slots"]) * slot_duration
    channel = (tasks["transmission_wait_slots"] + tasks["transmission_slots"]) * slot_duration
    energies = tasks["waiting_energy"], tasks["computing_energy"]
    terms = {
        "local_delay": np.where(local, processor, 0.0),
        "local_energy": np.where(local, total_energy(*energies), 0.0),
        "transmission_delay": channel,
        "transmission_energy": tasks["transmission_energy"],
        "edge_delay": np.where(local, 0.0, processor),
        "edge_energy": np.where(local, 0.0, edge_energy(*energies)),
    }
    return {name: values.sum(axis=(-2, -1)) for name, values in terms.items()}
