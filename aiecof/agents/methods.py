"""The registry of learning methods: what each is made of, and where every value comes from."""

from dataclasses import dataclass, field, replace
from typing import Any

from stable_baselines3 import A2C, PPO
from stable_baselines3.common.base_class import BaseAlgorithm
from stable_baselines3.common.vec_env import VecFrameStack

from aiecof.agents.dqn import DoubleDQN, RowwiseDQN
from aiecof.agents.networks import DuelingPolicy, MlpPolicy, QPolicy, ToppoPolicy, trainable_parameters
from aiecof.agents.toppo import TOPPO
from aiecof.checks import InvalidInput, check_choice
from aiecof.envs import OffloadingVecEnv

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
            raise InvalidInput("changes", sorted(unknown), allowed)
        registered = {name: value for name, (value, _) in self.hyperparameters.items()}
        return registered | changes | {"policy_kwargs": self.policy_kwargs | changes.get("policy_kwargs", {})}

    def build(self, env: OffloadingVecEnv, seed: int, **changes: Any) -> BaseAlgorithm:
        """The algorithm on an environment, with some hyperparameters changed."""
        values = self.values(**changes)
        if values.get("n_steps") == EPISODE:
            values["n_steps"] = env.scenario.slots
            values["batch_size"] = min(values["batch_size"], env.scenario.slots * env.num_envs)
        env = VecFrameStack(env, self.history) if self.history > 1 else env
        return self.algorithm(self.policy, env, seed=seed, device="cpu", **values)


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
    )
}
"""Name -> method: the seven learned rows of Table IV, two ablations, and the paper's future work."""


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
