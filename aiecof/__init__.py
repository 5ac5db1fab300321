"""Executable reproduction of AIECOF: computation offloading for AIGC services at the edge."""

from gymnasium.envs.registration import register

__version__ = "0.1.0"

# An entry point as text: `aiecof.envs`, and with it Stable-Baselines3 and torch, is imported by the first `make`.
register(id="aiecof/Offloading-v0", entry_point="aiecof.envs:OffloadingEnv")
