"""Executable reproduction of AIECOF: computation offloading for AIGC services at the edge.

What most users need is offered here and imported when it is first used: `aiecof.load_scenario("balanced")`.
"""

from gymnasium.envs.registration import register

from aiecof.doors import open_door

__version__ = "0.2.0"

_PLACES = {
    "InvalidInput": "aiecof.checks",
    "Scenario": "aiecof.system.scenario",
    "Weights": "aiecof.system.scenario",
    "load_scenario": "aiecof.system.scenario",
    "draw_trace": "aiecof.system.workload",
    "read_requests": "aiecof.requests.formats",
    "request_trace": "aiecof.requests.tasks",
    "load_request_trace": "aiecof.requests.tasks",
    "Simulator": "aiecof.system.simulator",
    "Policy": "aiecof.agents.policies",
    "make_policy": "aiecof.agents.rules",
    "evaluate": "aiecof.agents.policies",
    "train": "aiecof.agents.training",
    "load_policy": "aiecof.agents.learned",
    "DeviceEnv": "aiecof.envs",
    "OffloadingEnv": "aiecof.envs",
    "OffloadingVecEnv": "aiecof.envs",
    "ParallelOffloadingEnv": "aiecof.envs",
    "lower_bound": "aiecof.study.lower_bound",
    "mean_interval": "aiecof.study.statistics",
    "paired_difference": "aiecof.study.statistics",
    "read_table": "aiecof.study.store",
}
__all__ = [*_PLACES]
__getattr__, __dir__ = open_door(__name__, _PLACES)

# Entry points as text: an environment is imported by the first `make`.
_ROWS = "aiecof.envs.vector_env:OffloadingVectorEnv"
register(id="aiecof/Offloading-v1", entry_point="aiecof.envs.slot_envs:DeviceEnv", vector_entry_point=_ROWS)
register(id="aiecof/OffloadingJoint-v1", entry_point="aiecof.envs.slot_envs:JointEnv")
# A checker of Gymnasium expects one number as the reward.
register(id="aiecof/OffloadingMO-v1", entry_point="aiecof.envs.slot_envs:MultiObjectiveEnv", disable_env_checker=True)
for _id in ("aiecof/OffloadingDecision-v1", "aiecof/Offloading-v0"):
    register(id=_id, entry_point="aiecof.envs.gymnasium_env:OffloadingEnv")
