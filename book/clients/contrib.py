"""sb3-contrib: MaskablePPO and RecurrentPPO on the devices as rows."""

import numpy as np
from sb3_contrib import MaskablePPO, RecurrentPPO

from aiecof.envs import OffloadingVecEnv
from clients.sb3 import acting


def maskable(steps=120_000, seed=0):
    env = OffloadingVecEnv("balanced", network_seed=0)
    model = MaskablePPO(
        "MlpPolicy",
        env,
        n_steps=100,
        batch_size=300,
        n_epochs=4,
        gamma=0.9,
        learning_rate=1e-3,
        seed=seed,
        device="cpu",
    )
    # Without a task every action is the same: no mask needed to play.
    return acting(model.learn(steps))


class Recurrent:
    """A policy with memory: a state a device, from slot to slot."""

    def __init__(self, model):
        self.model = model
        self.reset()

    def reset(self):
        self.state = None

    def __call__(self, observations, greedy):
        first = np.full(len(observations), self.state is None)
        action, self.state = self.model.predict(
            observations,
            state=self.state,
            episode_start=first,
            deterministic=greedy,
        )
        return action


def recurrent(steps=150_000, seed=0):
    env = OffloadingVecEnv("balanced", network_seed=0)
    model = RecurrentPPO(
        "MlpLstmPolicy",
        env,
        n_steps=50,
        batch_size=500,
        n_epochs=4,
        gamma=0.9,
        learning_rate=3e-3,
        policy_kwargs={"lstm_hidden_size": 64, "net_arch": []},
        seed=seed,
        device="cpu",
    )
    return Recurrent(model.learn(steps))
