"""The simulator as other tools expect it: Gymnasium, PettingZoo and Stable-Baselines3 environments.

Thin views of `system.simulator.Simulator`, without dynamics of their own: for one trace and the same decisions all give
the same observations and rewards. They differ in what a step is, and who learns:

==========================  =================================  ===================================================
view                        made by                            a step is
==========================  =================================  ===================================================
`DeviceEnv`                 `aiecof/Offloading-v1`             a slot of one device; the others follow a rule
`OffloadingVectorEnv`       `make_vec` of the same id          a slot of B networks, their devices as rows
`OffloadingVecEnv`          itself (Stable-Baselines3)         the same
`MultiObjectiveEnv`         `aiecof/OffloadingMO-v1`           as `DeviceEnv`, with the reward's four terms
`JointEnv`                  `aiecof/OffloadingJoint-v1`        a slot of one network, its devices as one
`ParallelOffloadingEnv`     `parallel_env()`, `env()`          a slot of one network, its devices as agents
`OffloadingEnv`             `aiecof/OffloadingDecision-v1`     one decision, device after device (Algorithm 1)
==========================  =================================  ===================================================

Every view plays the episodes 0, 1, 2, ... of its seed, one more at each reset: episode k is `draw_trace(scenario,
seed=seed, first=k, split=split, network_seed=network_seed)`, so equal seeds give equal episodes. Without a seed the
first reset draws one. A view made with `trace=` plays the episodes of that trace in turn; `trace` among the options of
a reset plays one once, and leaves the count as it is.
"""

from aiecof.doors import open_door

_PLACES = {
    "DeviceEnv": "aiecof.envs.slot_envs",
    "JointEnv": "aiecof.envs.slot_envs",
    "MultiObjectiveEnv": "aiecof.envs.slot_envs",
    "OffloadingEnv": "aiecof.envs.gymnasium_env",
    "OffloadingVecEnv": "aiecof.envs.vec_env",
    "OffloadingVectorEnv": "aiecof.envs.vector_env",
    "ParallelOffloadingEnv": "aiecof.envs.pettingzoo_env",
    "env": "aiecof.envs.pettingzoo_env",
    "parallel_env": "aiecof.envs.pettingzoo_env",
}
__all__ = [*_PLACES]
__getattr__, __dir__ = open_door(__name__, _PLACES)
