"""A network small enough to follow slot by slot, whose every outcome is worked out by hand in the book and in tests."""

from __future__ import annotations

import numpy as np

from aiecof.system.scenario import Scenario, load_scenario
from aiecof.system.workload import Trace

TOY_ACTIONS = np.array([[0, 1], [0, 1], [1, 0], [1, 0], [2, 2], [0, 0], [0, 0], [1, 0]])
"""(T, M) decisions for `toy_trace`."""


def toy_scenario(**changes) -> Scenario:
    """Two devices, two servers, eight slots and a deadline of four: small enough to follow slot by slot."""
    small = {"devices": 2, "servers": 2, "slots": 8, "tau_max_slots": 4} | changes
    return load_scenario("balanced", **small)


def toy_trace() -> Trace:
    """A hand-made trace for `toy_scenario`.

    Both devices run at 4 GHz, the servers at 40 and 20 GHz, every channel at 20 Mbit/s: 2 Mbit a slot. A task of
    x Mbit takes ceil(x / 2) slots on the channel; one of w Gcycles takes w / 0.4 slots on a device, w / 4 on
    server 1 and w / 2 on server 2.
    """
    mbit = np.array([[2, 4], [4, 2], [2, 2], [4, 4], [2, 2], [0, 6], [6, 0], [8, 2]], dtype=float)
    gcycles = np.array([[0.8, 2.0], [0.8, 4.0], [2.0, 0.4], [4.0, 1.0], [1.0, 1.0], [1, 2.0], [0.4, 1], [0.4, 0.4]])
    density = gcycles * 1e9 / np.where(mbit > 0, mbit * 1e6, 1e6)
    return Trace(
        size=mbit[None] * 1e6,
        density=density[None],
        kind=np.where(mbit > 0, 0, -1)[None],
        device_frequency=np.full((1, 2), 4e9),
        server_frequency=np.array([[40e9, 20e9]]),
        rate=np.full((1, 2, 2), 20e6),
    )
