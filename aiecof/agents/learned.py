"""What was learned, ready to act: a trained network as a policy, and the file that holds one."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import torch as th
from safetensors import safe_open
from stable_baselines3.common.base_class import BaseAlgorithm

from aiecof.agents.methods import method
from aiecof.agents.networks import ToppoPolicy
from aiecof.agents.policies import check_observations
from aiecof.checks import InvalidInput, check_choice, check_integer
from aiecof.envs import OffloadingVecEnv
from aiecof.files import check_format, conform, reading
from aiecof.system.scenario import Scenario, scenario_from_dict

FORMAT = "aiecof policy 1"


DESCRIPTION = {
    "format?": str,
    "method": str,
    "scenario": dict,
    "episodes": int,
    "seed": int,
    "hyperparameters": dict,
    "versions": {str: str},
    "wall_time?": float,
}
"""What is written of a training."""


def read_tensors(
    name: str, path: str | Path, form: str, *, with_tensors: bool = True
) -> tuple[dict[str, str], dict[str, th.Tensor]]:
    """Header and tensors of a file of tensors in some format; every failure, and every infinite number, is refused."""
    with reading(name, path, f"an undamaged {name}"):
        with safe_open(path, "pt", backend="pread") as file:  # mmap opens it twice: it may be two files
            header = file.metadata() or {}
            check_format(name, path, header.get("format", "no format"), form)
            tensors = {entry: file.get_tensor(entry) for entry in (file.keys() if with_tensors else ())}
        for entry, value in tensors.items():
            if not value.isfinite().all():
                raise InvalidInput(f"{name}.{entry}", "a number that is not finite", "finite numbers")
    return header, tensors


def put_weights(model: BaseAlgorithm, weights: dict[str, th.Tensor]) -> None:
    """Give a network its weights, which have to be of its shapes and types."""
    for name, own in model.policy.state_dict().items():
        if name in weights and weights[name].dtype != own.dtype:
            raise InvalidInput(name, str(weights[name].dtype), str(own.dtype))
    model.policy.load_state_dict(weights)


class LearnedPolicy:
    """A trained network as a policy: observations (B, M, F) -> actions (B, M), with the memory that it keeps.

    Sampled actions follow the actor's distribution; those of a value network are epsilon-greedy with the last epsilon
    of its training. Every episode has a random stream of its own, fixed by the seed and its number; with
    `streams="batch"` the episodes of a call share one, as they did when the first results were computed.
    """

    information = "own observation and its history"

    def __init__(self, model: BaseAlgorithm, history: int, greedy: bool, seed: int = 0, streams: str = "episode"):
        self.policy, self.history, self.greedy = model.policy, history, greedy
        self.streams = check_choice("streams", streams, ("episode", "batch"))
        self.policy.set_training_mode(False)
        self.epsilon = getattr(model, "exploration_final_eps", 0.0)
        self.seed = check_integer("seed", seed, 0, 2**63)
        self._generator = th.Generator()
        self._streams: list[np.random.Generator] | None = None

    def reset(self, episodes: int, first: int = 0) -> None:
        """Forget everything; the next observations begin the episodes from `first` on."""
        check_integer("episodes", episodes, 1, 10**6)
        check_integer("first", first, 0, 2**63)
        self._generator.manual_seed(int(np.random.SeedSequence([self.seed, 5, first]).generate_state(1)[0]))
        self._streams = [np.random.default_rng([self.seed, 5, first + episode]) for episode in range(episodes)]
        self._memory: Any = None

    @th.no_grad()
    def __call__(self, observations: np.ndarray, has_task: np.ndarray) -> np.ndarray:
        """One action for every device; those of devices without a task mean nothing."""
        check_observations(observations, has_task, None if self._streams is None else len(self._streams))
        width = self.policy.observation_space.shape[0] // self.history
        if observations.shape[2] != width:
            raise InvalidInput("observations", observations.shape, f"{width} entries a device, as in training")
        rows = th.as_tensor(observations).flatten(0, 1)
        scores = self._scores(rows)
        if self.greedy:
            return scores.argmax(-1).numpy().reshape(has_task.shape)
        sample = self._from_batch if self.streams == "batch" else self._from_episodes
        return sample(scores).reshape(has_task.shape)

    def _from_batch(self, scores: th.Tensor) -> np.ndarray:
        if not hasattr(self.policy, "q_net"):
            return scores.softmax(-1).multinomial(1, generator=self._generator).squeeze(1).numpy()
        explores = th.rand(len(scores), generator=self._generator) < self.epsilon
        anything = th.randint(scores.shape[-1], (len(scores),), generator=self._generator)
        return th.where(explores, anything, scores.argmax(-1)).numpy()

    def _from_episodes(self, scores: th.Tensor) -> np.ndarray:
        """The place at which each device's number in [0, 1) falls into its distribution."""
        chances = scores.double().softmax(-1).numpy()
        if hasattr(self.policy, "q_net"):
            chances = np.full(chances.shape, self.epsilon / chances.shape[1])
            chances[np.arange(len(chances)), scores.argmax(-1).numpy()] += 1.0 - self.epsilon
        drawn = np.concatenate([stream.random(len(chances) // len(self._streams)) for stream in self._streams])
        return (np.cumsum(chances, axis=1)[:, :-1] <= drawn[:, None]).sum(axis=1)

    def _scores(self, rows: th.Tensor) -> th.Tensor:
        if isinstance(self.policy, ToppoPolicy):
            state = self.policy.initial_state(len(rows)) if self._memory is None else self._memory
            log_probs, self._memory = self.policy.act(rows[None], state)
            return log_probs[0]
        if self.history > 1:
            past = th.zeros(len(rows), rows.shape[1] * self.history) if self._memory is None else self._memory
            rows = self._memory = th.cat([past[:, rows.shape[1] :], rows], dim=1)
        if hasattr(self.policy, "q_net"):
            return self.policy.q_net(rows)
        return self.policy.get_distribution(rows).distribution.logits


def load_policy(
    path: str | Path, *, greedy: bool | None = None, seed: int = 0, streams: str = "episode"
) -> tuple[LearnedPolicy, Scenario]:
    """What `Run.export` wrote, ready to act, and the scenario that it was trained on."""
    with reading("policy", path, "an undamaged policy, as `Run.export` writes it"):
        header, weights = read_tensors("policy", path, FORMAT)
        description = json.loads(header["run"])
        conform("policy", description, DESCRIPTION)
        scenario, chosen = scenario_from_dict(description["scenario"]), method(description["method"])
        env = OffloadingVecEnv(scenario, seed=description["seed"])
        model = chosen.build(env, description["seed"], **description["hyperparameters"])
        put_weights(model, weights)
    greedy = chosen.counts == "greedy" if greedy is None else greedy
    return LearnedPolicy(model, chosen.history, greedy, seed, streams), scenario
