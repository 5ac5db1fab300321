"""What devices see, compiled: the columns of `observations`, written from the state of a simulation."""

import numpy as np

from aiecof.system import model, objective
from aiecof.system.compiling import inlined, kernel
from aiecof.system.observations import DEADLINE, SERVERS, SIZE, TASK_INDEX, WAIT, WORKLOAD


@inlined
def _see_own(p, channel_end, clock, seen, slot):
    """The device's own clock and the waits on its channels, from the first entry of `seen` on."""
    seen[0] = clock / p["device_scale"]
    for i in range(channel_end.shape[0]):
        seen[1 + i] = model.waiting_delay(channel_end[0 if p["shared_channel"] else i], slot) / p["tau"]


@inlined
def _see_answers(answers, last, seen, slot):
    """The latest place, and what was heard of each place as the slot began: done after a delay, or dropped."""
    places = answers.shape[1]
    for place in range(places):
        seen[place] = 1.0 if last == place + 1 else 0.0
        seen[places + place] = answers[slot, place, 0]
        seen[2 * places + place] = min(answers[slot, place, 1], 1.0)


@inlined
def _waits(p, a, b, begins, slot, known):
    """Wait on each server in its three senses, (3, N): as told, and as it is with what others bring now; its clock."""
    told = a.told_end if p["beacons"] else (a.own_end if p["own_backlog"] else a.server_end)
    for n in range(known.shape[1]):
        known[0, n] = model.waiting_delay(told[b, n], slot) / p["tau"]
        wait = model.waiting_delay(a.server_end[b, n], slot)
        if p["background"] and begins:
            wait += a.background[b, slot, n]
        known[1, n] = wait / p["tau"]
        known[2, n] = 0.0 if p["hides_clocks"] else a.server_frequency[b, n] / p["server_scale"]


@kernel
def observe(p, a, row, first, observations):
    """Write what every device sees before device `first` decides in a round, (B, M, F)."""
    replicas, devices, _ = observations.shape
    servers, rounds, places = a.rate.shape[2], a.size.shape[1], a.rate.shape[2] + 1
    slot = row // (rounds // a.load.shape[1])
    begins = first == 0 and row % (rounds // a.load.shape[1]) == 0  # then what others bring has yet to join the queues
    known = np.empty((3, a.server_end.shape[1]), np.float32)
    for b in range(replicas):
        _waits(p, a, b, begins, slot, known)
        for m in range(devices):
            seen = observations[b, m]
            size = a.size[b, row, m]
            has_task, work, own = size > 0.0, size if p["work_per_task"] else 1.0, SERVERS + 2 * servers
            seen[TASK_INDEX] = (a.devices[b, m]["tasks"] + 1.0) / rounds if has_task else 0.0
            seen[SIZE] = size / p["size_scale"]
            seen[WORKLOAD] = a.density[b, row, m] * work / p["work_scale"] if has_task else 0.0
            seen[DEADLINE] = p["tau"] / rounds if has_task else 0.0
            seen[WAIT] = model.waiting_delay(a.devices[b, m]["end"], slot) / p["tau"]
            for i in range(servers):
                n = a.reach[b, m, i] if p["reaches"] else i
                seen[SERVERS + i], seen[SERVERS + servers + i] = known[2, n], known[0, n]
                if p["oracle"]:
                    seen[own + 3 * places + 1 + servers + i] = known[1, n]
                    seen[own + 3 * places + 1 + 2 * servers + i] = a.fade[b, slot, m, i] if p["fading"] else 1.0
            if p["shows_mean"]:
                mean = objective.mean_energy(a.devices[b, m]["energy"], max(a.devices[b, m]["tasks"], 1.0))
                seen[own] = mean / p["energy_scale_seen"]
            if p["extended"]:
                _see_own(p, a.channel_end[b, m], a.device_frequency[b, m], seen[own:], slot)
            if p["answers"]:
                _see_answers(a.answers[b, :, m], a.last[b, m], seen[own:], slot)
            if p["oracle"]:
                _see_own(p, a.channel_end[b, m], a.device_frequency[b, m], seen[own + 3 * places :], slot)
