"""The simulator as other tools expect it: a Gymnasium, a PettingZoo and a Stable-Baselines3 environment.

Three thin views of `system.simulator.Simulator`, without dynamics of their own: for one trace and the same decisions
all three give the same observations and rewards. They differ in what a step is: one device's decision
(`OffloadingEnv`), one slot of one network (`ParallelOffloadingEnv`), one slot of several replicas whose devices share
a policy (`OffloadingVecEnv`).

Every view plays the episodes 0, 1, 2, ... of its seed, one more at each reset: episode k is
`draw_trace(scenario, seed=seed, first=k, split=split)`, so equal seeds give equal episodes. Without a seed the first
reset draws one. `trace` among the options of a reset plays that trace instead, and leaves the count as it is.
"""

from aiecof.doors import open_door

__all__ = ["OffloadingEnv", "OffloadingVecEnv", "ParallelOffloadingEnv"]
__getattr__, __dir__ = open_door(
    __name__,
    {
        "OffloadingEnv": "aiecof.envs.gymnasium_env",
        "OffloadingVecEnv": "aiecof.envs.vec_env",
        "ParallelOffloadingEnv": "aiecof.envs.pettingzoo_env",
    },
)
