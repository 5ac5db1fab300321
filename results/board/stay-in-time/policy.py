"""Stay as long as that is in time; else the server with the shortest wait. From "Does your own rule do better?"."""

import numpy as np

from aiecof.agents.policies import Policy
from aiecof.system import model


class StayInTime(Policy):
    information = "own observation"

    def decide(self, seen):
        own = model.computing_delay(seen.size * seen.density, 1.0, seen.device_frequency, self.scenario.slot_duration)
        waits = np.maximum(seen.channel_wait_slots, seen.backlog_slots)
        return np.where(seen.wait_slots + own <= self.scenario.tau_max_slots, 0, 1 + waits.argmin(axis=-1))
