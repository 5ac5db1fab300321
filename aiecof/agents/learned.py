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
from aiecof.checks import InvalidInput, check_choice, check_integer, check_type
from aiecof.envs import OffloadingVecEnv
from aiecof.files import check_format, conform, reading
from aiecof.system.observations import observation_fields, observation_width
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
    "requests?": str,
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


def _scales(trained: Scenario, played: Scenario) -> np.ndarray | None:
    """Factors that give what is seen in one scenario the scales of training, (F,); None if all are 1."""
    factors, own = np.ones(observation_width(played), np.float32), observation_fields(trained)
    for name, (columns, scale) in observation_fields(played).items():
        factors[columns] = scale / own[name][1]
    return None if (factors == 1.0).all() else factors


class LearnedPolicy:
    """A trained network as a policy: observations (B, M, F) -> actions (B, M), with the memory that it keeps.

    Sampled actions follow the actor's distribution; those of a value network are epsilon-greedy with the last epsilon
    of its training. Every episode has a random stream of its own, fixed by the seed and its number; with
    `streams="batch"` the episodes of a call share one, as they did when the first results were computed. Observations
    are multiplied by `scales`, (F,), if there are some.
    """

    information = "own observation and its history"

    def __init__(
        self,
        model: BaseAlgorithm,
        history: int,
        greedy: bool,
        seed: int = 0,
        streams: str = "episode",
        scales: np.ndarray | None = None,
    ):
        self.policy, self.history, self.greedy = model.policy, history, greedy
        self.streams = check_choice("streams", streams, ("episode", "batch"))
        self.policy.set_training_mode(False)
        self.epsilon = getattr(model, "exploration_final_eps", 0.0)
        self.seed = check_integer("seed", seed, 0, 2**63)
        self.scales = scales
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
        width = self.policy.observation_space.shape[0] // (self.history * getattr(self.policy, "views", 1))
        if observations.shape[2] != width:
            raise InvalidInput("observations", observations.shape, f"{width} entries a device, as in training")
        rows = th.as_tensor(observations if self.scales is None else observations * self.scales).flatten(0, 1)
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


def fitting(description: dict[str, Any], scenario: Scenario | None = None) -> Scenario:
    """The scenario on which the network of a training has the shape that it needs to act on another.

    description : dict
        Of the run, as in `DESCRIPTION`.
    scenario : Scenario, optional
        Devices share one policy, so there may be more of them than in training, or fewer. They have to see what they
        saw there, and to decide among as many places, unless the network has one score a server; else `InvalidInput`.
    """
    trained = scenario_from_dict(description["scenario"])
    scenario = trained if scenario is None else check_type("scenario", scenario, Scenario)
    seen, known = (", ".join(observation_fields(entry)) for entry in (scenario, trained))
    if seen != known:
        raise InvalidInput("scenario.observation", seen, f"what devices saw in training on {trained.name}: {known}")
    if scenario.choices == trained.choices:
        return trained
    if not description["hyperparameters"]["policy_kwargs"].get("action_head", "").endswith("per_server"):
        allowed = f"{trained.choices} within reach, as in training on {trained.name}, without one score a server"
        raise InvalidInput("scenario.servers", scenario.choices, allowed)
    return trained.replace(servers=scenario.choices, reach=None)


def act_on(
    shaped: Scenario,
    description: dict[str, Any],
    weights: dict[str, th.Tensor],
    *,
    scenario: Scenario | None = None,
    greedy: bool | None = None,
    seed: int = 0,
    streams: str = "episode",
) -> LearnedPolicy:
    """What a training left, ready to act: its weights in a network made for what `fitting` returns.

    scenario : Scenario, optional
        Where it will play, if not where it was trained: what is seen there is put on the scales of the training.
    greedy : bool, optional
        By default the kind of action that counts for the method's family.
    seed, streams
        As for `LearnedPolicy`.
    """
    chosen = method(description["method"])
    env = OffloadingVecEnv(shaped, seed=description["seed"])
    model = chosen.build(env, description["seed"], **description["hyperparameters"])
    put_weights(model, weights)
    greedy = chosen.counts == "greedy" if greedy is None else greedy
    return LearnedPolicy(model, chosen.history, greedy, seed, streams, _scales(shaped, scenario or shaped))


def load_policy(path: str | Path, scenario: Scenario | None = None, **how: Any) -> tuple[LearnedPolicy, Scenario]:
    """What `Run.export` wrote, ready to act on a scenario, by default that of its training; and the scenario.

    scenario : Scenario, optional
        Another one: `fitting` says which fit.
    how : object
        The keywords of `act_on`.
    """
    what = "an undamaged policy, as `Run.export` writes it"
    with reading("policy", path, what):
        header, weights = read_tensors("policy", path, FORMAT)
        description = json.loads(header["run"])
        conform("policy", description, DESCRIPTION)
        trained = fitting(description)
        description["hyperparameters"] = method(description["method"]).values(**description["hyperparameters"])
    shaped = fitting(description, scenario)
    with reading("policy", path, what):
        return act_on(shaped, description, weights, scenario=scenario, **how), scenario or trained
