"""Objective and reward, Eqs. (25)-(31): one pure function each, shared with the compiled simulator."""

import numpy as np
from numba.extending import register_jitable

from aiecof.system.model import decode_action

_TINY = 1e-300  # makes the ratio of two zero energies 1


@register_jitable
def task_cost(delay, energy, dropped, load, weight_delay, weight_energy, weight_drop, weight_load):
    """Cost F of one task (Eq. 25).

    delay, energy : (...) float
        [s] and [J] as printed, or both divided by a scale so that they can be added (reading R20).
    dropped : (...) bool
        mu^dead: whether the task failed (R35).
    load : (...) float
        L of the device for a local task and 0 for an offloaded one as printed, or the variance of the loads (R61).
    weight_delay, weight_energy, weight_drop, weight_load : float
        lambda_1, lambda_2, lambda_3, lambda_4 of Eq. (25); no values in print (R19).
    """
    return weight_delay * delay + weight_energy * energy + weight_drop * dropped + weight_load * load


def mean_cost(cost_sum, slots, devices):
    """Objective: mean cost over slots and devices, slots without a task costing nothing (Eq. 26).

    cost_sum : (...) float
        Sum of Eq. (25) over the tasks of an episode.
    slots, devices : int
        T, M.

    `constraint_violations` counts what breaks c1-c5 (R36).
    """
    return cost_sum / float(slots * devices)


def constraint_violations(tasks, servers, tau_max_slots):
    """Number of recorded tasks that break each of the constraints c1-c5 of Eq. (26).

    tasks : (..., T, M) structured array
        Outcomes as `kernels.TASK` records them.
    servers : int
        N.
    tau_max_slots : int
        [slots].

    Returns a dict c1..c5 -> count. A dropped task is the model's answer to c4 and c5, so only completed ones count
    there; "<" is read as "finishes in its last allowed slot at the latest". c2 counts tasks without a place, c3 those
    that break Eq. (1): offloaded, and on no server.
    """
    done, decided = tasks[tasks["fate"] == 1], tasks[tasks["fate"] > 0]
    late = done["delay_slots"] > tau_max_slots + 1e-9
    local, _ = decode_action(done["place"], servers)
    stays, server = decode_action(decided["place"], servers)
    return {
        "c1": int(np.sum(~np.isfinite(decided["end_slot"]) | (decided["end_slot"] < 0))),
        "c2": int(np.sum(decided["place"] < 0)),
        "c3": int(np.sum((decided["place"] >= 0) & (server.sum(axis=-1) != 1 - stays))),
        "c4": int(np.sum(late & (local == 1))),
        "c5": int(np.sum(late & (local == 0))),
    }


@register_jitable
def mean_delay(delay_sum, count):
    """l_D: mean delay of a device's tasks so far [s] (Eq. 27).

    delay_sum : (...) float
        Sum of the delays [s].
    count : (...) float
        T_k, the slots elapsed, or the number of tasks (reading R16).
    """
    return delay_sum / count


@register_jitable
def mean_energy(energy_sum, count):
    """l_E: mean energy of a device's tasks so far [J] (Eq. 28).

    energy_sum : (...) float
        Sum of the energies [J].
    count : (...) float
        T_k, the slots elapsed, or the number of tasks (reading R16).
    """
    return energy_sum / count


@register_jitable
def reward_terms(energy, reference_energy, delay, tau_max, failed, decided, load_variance):
    """sigma_E, sigma_D, sigma_F and sigma_L (Eq. 29).

    energy, reference_energy : (...) float
        Energy of the latest task and l_E, the energy it is compared with [J] (R17, R22).
    delay, tau_max : (...) float
        l_D and D_max [s].
    failed, decided : (...) float
        g and G: failed tasks and all tasks counted (R23).
    load_variance : (...) float
        Mean over devices of the squared distance from the mean load (R32).
    """
    ratio = (energy + _TINY) / (reference_energy + _TINY)
    sigma_energy = -np.log2(ratio + 1e-10)
    sigma_delay = 1.0 - delay / tau_max
    sigma_success = 1.0 - failed / np.maximum(decided, 1.0)
    return sigma_energy, sigma_delay, sigma_success, load_variance


@register_jitable
def reward(terms, weight_energy, weight_delay, weight_drop, weight_load, load_sign):
    """Weighted sum of the four terms (Eq. 30).

    terms : 4-tuple of (...) float
        Eq. (29).
    weight_energy, weight_delay, weight_drop, weight_load : float
        lambda_1, lambda_2, lambda_3, lambda_4 of Eq. (30), in its order (R19).
    load_sign : float
        +1 as printed, which pays for an uneven load, or -1 (reading R18).
    """
    sigma_energy, sigma_delay, sigma_success, sigma_load = terms
    gains = weight_energy * sigma_energy + weight_delay * sigma_delay + weight_drop * sigma_success
    return gains + load_sign * weight_load * sigma_load


@register_jitable
def decision_terms(p, device, energy, delay, dropped, load_variance, slot):
    """The four terms behind the reward of one decision; what goes in is told in `decision_reward`."""
    count = slot + 1.0 if p["per_slot_history"] else device["tasks"]
    reference = mean_energy(device["energy"], count) if p["own_reference"] else p["reference_energy"]
    failed, counted = device["failed"], device["counted"]
    if p["running_reward"]:
        delay = mean_delay(device["delay"], count)
    else:
        failed, counted = 1.0 * dropped, 1.0
    terms = reward_terms(energy, reference, delay, p["tau_max"], failed, counted, load_variance)
    if dropped and p["cap_dropped"]:
        terms = (min(terms[0], 0.0), terms[1], terms[2], terms[3])
    return terms


@register_jitable
def decision_reward(p, device, energy, delay, dropped, load_variance, slot):
    """Reward R_m(t) of one decision, r(s, a) (Eq. 31).

    p : record
        `parameters(scenario)`.
    device : DEVICE record
        The device's own history, the task included.
    energy, delay : float
        Of the task [J], [s].
    dropped : bool
        Whether the task is dropped.
    load_variance : float
        Of the devices' loads, once this device has decided.
    slot : int
        t, from 0.

    What l_E and l_D are means over is R16, what the energy is compared with R17, which failures count R23, whether the
    past or this task alone counts R24, what a dropped task's energy term is R22.
    """
    terms = decision_terms(p, device, energy, delay, dropped, load_variance, slot)
    weights = p["weight_energy"], p["weight_delay"], p["weight_drop"], p["weight_load"]
    return reward(terms, weights[0], weights[1], weights[2], weights[3], p["load_sign"])
