"""The registry of learning methods: what each is made of, and where every value comes from."""

import math
from dataclasses import dataclass, field, replace
from typing import Any

from stable_baselines3 import A2C, PPO
from stable_baselines3.common.base_class import BaseAlgorithm
from stable_baselines3.common.vec_env import VecFrameStack

from aiecof.agents.central import CentralPolicy, WholeNetwork
from aiecof.agents.dqn import DoubleDQN, RowwiseDQN
from aiecof.agents.heads import server_columns
from aiecof.agents.networks import DuelingPolicy, MlpPolicy, QPolicy, ToppoPolicy, trainable_parameters
from aiecof.agents.toppo import TOPPO
from aiecof.checks import (
    InvalidInput,
    check_choice,
    check_integer,
    check_memory,
    check_number,
    check_type,
    checked,
    did_you_mean,
)
from aiecof.envs import OffloadingVecEnv
from aiecof.system.observations import observation_width
from aiecof.system.scenario import Scenario

PAPER, DEFAULT, READING, TUNED = "paper", "default", "reading", "tuned"
EPISODE = "one episode"

_ADAM = {"eps": 1e-5, "fused": True}
_COMMON: dict[str, tuple[Any, str]] = {"gamma": (0.9, PAPER), "learning_rate": (1e-3, TUNED)}
_PPO = _COMMON | {
    "n_steps": (EPISODE, READING),
    "batch_size": (300, READING),
    "n_epochs": (4, READING),
    "gae_lambda": (0.95, DEFAULT),
    "clip_range": (0.2, DEFAULT),
    "ent_coef": (0.0, DEFAULT),
    "vf_coef": (0.5, DEFAULT),
    "max_grad_norm": (0.5, DEFAULT),
    "target_kl": (0.05, READING),
}
_TOPPO = _PPO | {
    "learning_rate": (1e-3, PAPER),
    "critic_learning_rate": (1e-3, PAPER),
    "sequence_length": (10, READING),
}
_DQN = _COMMON | {
    "buffer_size": (60_000, READING),
    "learning_starts": (3_000, READING),
    "batch_size": (64, PAPER),
    "train_freq": (1, READING),
    "gradient_steps": (1, DEFAULT),
    "target_update_interval": (3_000, READING),
    "exploration_fraction": (0.2, READING),
    "exploration_final_eps": (0.05, DEFAULT),
    "max_grad_norm": (10.0, DEFAULT),
}
_FAST = {"learning_rate": (3e-3, TUNED)}
_A2C = _COMMON | {
    "n_steps": (5, DEFAULT),
    "gae_lambda": (1.0, DEFAULT),
    "ent_coef": (0.0, DEFAULT),
    "vf_coef": (0.5, DEFAULT),
    "max_grad_norm": (0.5, DEFAULT),
}
_TWO_LAYERS = {"net_arch": [64, 64]}

LIMITS: dict[str, tuple[type, float, float, bool]] = {
    "learning_rate": (float, 0.0, 1.0, True),
    "critic_learning_rate": (float, 0.0, 1.0, True),
    "gamma": (float, 0.0, 1.0, False),
    "gae_lambda": (float, 0.0, 1.0, False),
    "clip_range": (float, 0.0, math.inf, True),
    "ent_coef": (float, 0.0, math.inf, False),
    "vf_coef": (float, 0.0, math.inf, False),
    "max_grad_norm": (float, 0.0, math.inf, True),
    "target_kl": (float, 0.0, math.inf, True),
    "exploration_fraction": (float, 0.0, 1.0, True),
    "exploration_final_eps": (float, 0.0, 1.0, False),
    "n_steps": (int, 1, 10**6, False),
    "batch_size": (int, 2, 10**6, False),
    "n_epochs": (int, 1, 1_000, False),
    "sequence_length": (int, 1, 10**6, False),
    "buffer_size": (int, 1, 10**9, False),
    "learning_starts": (int, 0, 10**9, False),
    "train_freq": (int, 1, 10**6, False),
    "gradient_steps": (int, 1, 10**6, False),
    "target_update_interval": (int, 1, 10**9, False),
}
"""Hyperparameter -> its type, lowest and highest value, and whether the lowest itself is left out."""
WORDS = {"n_steps": EPISODE, "target_kl": None}
"""Hyperparameter -> what it may be besides a number."""
SEEDS = 2**32 - 1
"""Highest seed of a training: NumPy's older generator, from which SB3's buffers draw, knows no more."""


def _check_values(values: dict[str, Any]) -> None:
    """Raise `InvalidInput` for a hyperparameter out of its limits, or one that does not fit another."""
    for name, (kind, low, high, is_open) in LIMITS.items():
        if name not in values or (name in WORDS and values[name] == WORDS[name]):
            continue
        try:
            if kind is int:
                check_integer(name, values[name], low, high)
            else:
                check_number(name, values[name], low, high, open_low=is_open)
        except InvalidInput as error:
            more = f", or {WORDS[name]}" if name in WORDS else ""
            raise InvalidInput(name, values[name], error.args[2] + more) from None
    kwargs = check_type("policy_kwargs", values.get("policy_kwargs", {}), dict)
    layers = kwargs.get("net_arch", [])
    for part in layers.values() if isinstance(layers, dict) else [layers]:
        for width in check_type("policy_kwargs.net_arch", part, list):
            check_integer("policy_kwargs.net_arch", width, 1, 10**5)
    check_integer("policy_kwargs.lstm_hidden_size", kwargs.get("lstm_hidden_size", 1), 1, 10**5)
    length = values.get("sequence_length", 1)
    for name in ("batch_size", "n_steps"):
        if values.get(name, EPISODE) != EPISODE and values[name] % length:
            raise InvalidInput(name, values[name], f"a multiple of sequence_length = {length}")


@dataclass(frozen=True)
class Method:
    """A learning method of Table IV, an ablation or an extension.

    hyperparameters : dict
        Name in SB3 -> (value, source), the source being "paper", "default" (of SB3), "reading" or "tuned".
    history : int
        Observations stacked for a network without memory.
    counts : {"sampled", "greedy"}
        Which of its actions an evaluation counts: actor-critic methods are judged by the policy they optimise, which
        is random, and value methods by their greedy one.
    added : bool
        Whether a user has registered it (`register`).
    """

    name: str
    family: str
    network: str
    algorithm: type[BaseAlgorithm]
    policy: type
    hyperparameters: dict[str, tuple[Any, str]]
    policy_kwargs: dict[str, Any] = field(default_factory=dict)
    history: int = 1
    counts: str = "sampled"
    added: bool = False

    def values(self, **changes: Any) -> dict[str, Any]:
        """Every hyperparameter, with some changed; `policy_kwargs` holds those of the network."""
        if unknown := set(changes) - set(self.hyperparameters) - {"policy_kwargs"}:
            allowed = f"hyperparameters of {self.name}: {', '.join(self.hyperparameters)}"
            raise InvalidInput("changes", sorted(unknown), allowed + did_you_mean(min(unknown), self.hyperparameters))
        registered = {name: value for name, (value, _) in self.hyperparameters.items()}
        _check_values(registered | changes)
        return registered | changes | {"policy_kwargs": self.policy_kwargs | changes.get("policy_kwargs", {})}

    @checked
    def check(self, scenario: Scenario, seed: int, values: dict[str, Any]) -> None:
        """Raise `InvalidInput` for a training that could not begin, before anything of it is written."""
        check_integer("seed", seed, 0, SEEDS)
        if scenario.decisions % (length := values.get("sequence_length", 1)):
            raise InvalidInput("sequence_length", length, f"a divisor of the episode's {scenario.decisions} rounds")
        size = values.get("buffer_size", 0)
        check_memory("buffer_size", size, 8.0 * size * (observation_width(scenario) * self.history + 4))
        self.build(OffloadingVecEnv(scenario, seed=seed), seed, **values)

    def build(self, env: OffloadingVecEnv, seed: int, **changes: Any) -> BaseAlgorithm:
        """The algorithm on an environment, with some hyperparameters changed."""
        values = self.values(**changes)
        if values.get("n_steps") == EPISODE:
            values["n_steps"] = env.scenario.decisions
            values["batch_size"] = min(values["batch_size"], env.scenario.decisions * env.num_envs)
        network = values["policy_kwargs"]
        if str(network.get("action_head", "")).endswith("per_server"):
            network |= {"server_columns": server_columns(env.scenario)}
        if issubclass(self.policy, CentralPolicy):
            env = WholeNetwork(env)
        env = VecFrameStack(env, self.history) if self.history > 1 else env
        try:
            return self.algorithm(self.policy, env, seed=seed, device="cpu", **values)
        except (AssertionError, TypeError) as error:
            allowed = f"what {self.policy.__name__} and {self.algorithm.__name__} take ({error})"
            raise InvalidInput("policy_kwargs", values["policy_kwargs"], allowed) from None


_LSTM = {**_TWO_LAYERS, "lstm_hidden_size": 64, "optimizer_kwargs": _ADAM}
_MLP = {**_TWO_LAYERS, "optimizer_kwargs": _ADAM}

METHODS: dict[str, Method] = {
    method.name: method
    for method in (
        Method("toppo", "actor-critic", "LSTM, state concatenated, 2 layers", TOPPO, ToppoPolicy, _TOPPO, _LSTM),
        Method("dqn", "value", "2 layers", RowwiseDQN, QPolicy, _DQN, _TWO_LAYERS, counts="greedy"),
        Method("double-dqn", "value", "2 layers", DoubleDQN, QPolicy, _DQN, _TWO_LAYERS, counts="greedy"),
        Method(
            "dueling-dqn", "value", "2 layers, dueling", RowwiseDQN, DuelingPolicy, _DQN, _TWO_LAYERS, counts="greedy"
        ),
        Method(
            "d3qn", "value", "2 layers, dueling", DoubleDQN, DuelingPolicy, _DQN | _FAST, _TWO_LAYERS, counts="greedy"
        ),
        Method(
            "ac",
            "actor-critic",
            "2 layers",
            A2C,
            MlpPolicy,
            _A2C | {"n_steps": (1, READING), "gae_lambda": (0.0, READING)},
            _TWO_LAYERS,
        ),
        Method("a2c", "actor-critic", "2 layers", A2C, MlpPolicy, _A2C, _TWO_LAYERS),
        Method("ppo", "ablation", "2 layers", PPO, MlpPolicy, _PPO | _FAST, _MLP),
        Method(
            "ppo-stacked",
            "ablation",
            "4 observations, 2 layers",
            PPO,
            MlpPolicy,
            _PPO | _FAST,
            _MLP | {"history": 4},
            4,
        ),
        Method(
            "toppo-transformer",
            "extension",
            "causal transformer, state concatenated, 2 layers",
            TOPPO,
            ToppoPolicy,
            _TOPPO | {"learning_rate": (3e-4, TUNED), "critic_learning_rate": (3e-4, TUNED)},
            _LSTM | {"memory": "transformer"},
        ),
        Method("mappo", "extension", "2 layers, critic of the whole network", PPO, CentralPolicy, _PPO, _MLP),
    )
}
"""Name -> method: the seven learned rows of Table IV, two ablations, the paper's future work, and a central critic."""


def register(name: str, entry: Method) -> None:
    """Let a method of your own take part: in Table IV, the curves and the sweeps, and in what is made of them."""
    check_choice("counts", entry.counts, ("sampled", "greedy"))
    if name != entry.name or (name in METHODS and not METHODS[name].added):
        raise InvalidInput("name", name, "the method's own name, one that no method of the package has")
    METHODS[name] = replace(entry, added=True)


def method(name: str) -> Method:
    """The method called `name`; an unknown one raises `InvalidInput`."""
    return METHODS[check_choice("method", name, tuple(METHODS))]


def parameter_count(name: str, scenario: str = "balanced") -> int:
    """`networks.trainable_parameters` of a method on a scenario."""
    return trainable_parameters(method(name).build(OffloadingVecEnv(scenario), 0).policy)
