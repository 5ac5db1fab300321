"""Whoever can play: rules of the package, a class of a user's own, and trained models of other libraries.

A player is named by a word: `frugal`, or another rule; `best-rule` or `best-coin` of a setting; `file.py:Class`; or the
file of a model, by the ending of its name:

=================  ====================================================================================================
`.zip:CLASS`       Stable-Baselines3 or sb3-contrib, a class of either: `model.zip:PPO`, `model.zip:RecurrentPPO`
`.safetensors`     what `aiecof train` leaves, through `Run.export`
`.pt`, `.pt2`      TorchScript, and what `torch.export.save` wrote: `forward(observations)` gives a score for each place
`.pth`             a pickled module, which `torch.save` wrote: plain PyTorch, TorchRL's, or an actor of Tianshou
`.onnx`            ONNX: the first input are observations, the first output scores
=================  ====================================================================================================

A score is the logarithm of a probability, up to a constant; a value (of a Q-network) is played `greedy`. Modules get
rows, (R, F), one for each device; with `:devices` behind the name (B, M, F), devices apart, as TorchRL has them.
`{scenario}` and `{seed}` in a name stand for the setting and the number of the network, for a model trained on each.

A memory begins each episode anew. A TorchScript module with `initial_state(rows)` takes the state as well and returns
(scores, state); a pickled one with `forward(observations, state)` begins with None; further inputs of ONNX begin with
zeros and take what the further outputs gave, in their order.

Python files, `.zip` and `.pth` run the code that is in them: play only what you trust.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from importlib import import_module
from inspect import signature
from pathlib import Path
from typing import Any

import numpy as np

from aiecof.agents.learned import LearnedPolicy, load_policy
from aiecof.agents.methods import METHODS
from aiecof.agents.policies import Plays, check_observations
from aiecof.agents.rules import NOTHING, OWN, POLICIES, make_policy
from aiecof.board.suite import BEST_COIN, BEST_RULE, HELPED, Setting
from aiecof.checks import InvalidInput, check_choice, did_you_mean
from aiecof.files import reading
from aiecof.study.grids import BOUND
from aiecof.system.observations import observation_width
from aiecof.system.scenario import Scenario

SHAPES = ("rows", "devices")
HISTORY = LearnedPolicy.information
MODEL = re.compile(r"(?P<path>.+\.(?P<ending>zip|safetensors|pt|pt2|pth|onnx))(?::(?P<kind>\w*))?")


class Model:
    """A trained model as a policy: (B, M, F) observations -> (B, M) actions.

    Each kind has its `scores`: observations -> a score for each place, with the same first axes.

    path, kind : str
        File, and what stands behind its name.
    greedy : bool or None
        Whether to take the best place and not one drawn by the scores; None is what the model is usually judged by.
    """

    information = OWN
    scores: Callable[[np.ndarray], np.ndarray]

    def __init__(self, scenario: Scenario, seed: int, path: str, kind: str, greedy: bool | None):
        self.scenario, self.seed, self.path, self.greedy = scenario, seed, path, bool(greedy)
        self.width = observation_width(scenario)
        self.kind = check_choice("policy", kind or SHAPES[0], SHAPES)

    def reset(self, episodes: int, first: int = 0) -> None:
        """Forget everything; the next observations begin the episodes from `first` on."""
        self._streams = [np.random.default_rng([self.seed, 5, first + episode]) for episode in range(episodes)]
        self.memory: Any = None

    def __call__(self, observations: np.ndarray, has_task: np.ndarray) -> np.ndarray:
        """One action for every device; those of devices without a task mean nothing."""
        check_observations(observations, has_task, len(self._streams))
        scores = np.asarray(self.scores(self._shaped(observations)), float)
        expected = (*has_task.shape, self.scenario.actions)
        if scores.size != np.prod(expected) or scores.shape[-1] != expected[-1]:
            raise InvalidInput("scores", scores.shape, f"{expected[-1]} for each of {has_task.size} devices")
        if not np.isfinite(scores.max(axis=-1)).all():
            raise InvalidInput("scores", "NaN or infinity", "numbers, or -inf for a place that is never taken")
        scores = scores.reshape(expected)
        if self.greedy:
            return scores.argmax(axis=-1)
        chances = np.exp(scores - scores.max(axis=-1, keepdims=True))
        bounds = np.cumsum(chances, axis=-1) / chances.sum(axis=-1, keepdims=True)
        drawn = np.stack([stream.random(has_task.shape[1]) for stream in self._streams])
        return (bounds[..., :-1] <= drawn[..., None]).sum(axis=-1)

    def _shaped(self, observations: np.ndarray) -> np.ndarray:
        return observations if self.kind == "devices" else observations.reshape(-1, self.width)

    def check_width(self, width: object) -> None:
        """Refuse a model that was made for other observations, as far as it says so."""
        if isinstance(width, int) and width != self.width:
            allowed = f"a model for the {self.width} columns of {self.scenario.name}, not for {width}"
            raise InvalidInput("policy", self.path, f"{allowed}: --scenario chooses settings")


class StableBaselines(Model):
    """A model of Stable-Baselines3 or sb3-contrib, through its `predict`: value networks are judged greedy."""

    def __init__(self, scenario: Scenario, seed: int, path: str, kind: str, greedy: bool | None):
        super().__init__(scenario, seed, path, "", greedy)
        libraries = [import_module(name) for name in ("stable_baselines3", "sb3_contrib")]
        known = {
            name: value for library in libraries for name, value in vars(library).items() if hasattr(value, "predict")
        }
        check_choice(f"class of {Path(path).name}", kind, tuple(known))
        with reading("policy", path, f"a model that {kind} saved"):
            self.model = known[kind].load(path, device="cpu")
        seen = self.model.observation_space.shape
        if not seen or len(seen) != 1:
            raise InvalidInput("policy", path, f"a model for the {self.width} numbers that a device sees")
        self.check_width(seen[0])
        self.greedy = hasattr(self.model, "exploration_rate") if greedy is None else greedy
        self.information = HISTORY if hasattr(self.model.policy, "lstm_actor") else OWN

    def reset(self, episodes: int, first: int = 0) -> None:
        from stable_baselines3.common.utils import set_random_seed

        super().reset(episodes, first)
        set_random_seed(int(np.random.SeedSequence([self.seed, 5, first]).generate_state(1)[0]))

    def __call__(self, observations: np.ndarray, has_task: np.ndarray) -> np.ndarray:
        check_observations(observations, has_task, len(self._streams))
        begins = np.full(has_task.size, self.memory is None)
        rows = self._shaped(observations)
        actions, self.memory = self.model.predict(rows, self.memory, begins, deterministic=self.greedy)
        return actions.reshape(has_task.shape)


class TorchModule(Model):
    """A module of PyTorch in one of three kinds of files."""

    def __init__(self, scenario: Scenario, seed: int, path: str, kind: str, greedy: bool | None):
        import torch

        super().__init__(scenario, seed, path, kind, greedy)
        with reading("policy", path, "a module that PyTorch can load and call"):
            if path.endswith(".pt2"):
                self.module = torch.export.load(path).module()
            elif path.endswith(".pt"):
                self.module = torch.jit.load(path, map_location="cpu").eval()
            else:
                self.module = torch.load(path, map_location="cpu", weights_only=False).eval()
            self.scripted = hasattr(self.module, "initial_state")
            takes_state = path.endswith(".pth") and "state" in signature(self.module.forward).parameters
        self.remembers = self.scripted or takes_state
        self.information = getattr(self.module, "information", HISTORY if self.remembers else OWN)

    def scores(self, observations: np.ndarray) -> np.ndarray:
        import torch

        with torch.no_grad():
            seen = torch.as_tensor(observations)
            if self.scripted and self.memory is None:
                self.memory = self.module.initial_state(len(seen))
            found = self.module(seen, self.memory) if self.remembers else self.module(seen)
        if isinstance(found, tuple):
            found, self.memory = found
        return found.numpy()


class Onnx(Model):
    """A model in ONNX, played by onnxruntime."""

    def __init__(self, scenario: Scenario, seed: int, path: str, kind: str, greedy: bool | None):
        from onnxruntime import InferenceSession

        super().__init__(scenario, seed, path, kind, greedy)
        with reading("policy", path, "a model in ONNX"):
            self.session = InferenceSession(path, providers=["CPUExecutionProvider"])
            self.seen, *self.states = self.session.get_inputs()
        self.check_width(self.seen.shape[-1])
        if isinstance(self.seen.shape[0], int):
            raise InvalidInput("policy", path, f"a model whose first axis is open, not {self.seen.shape[0]}")
        self.information = HISTORY if self.states else OWN

    def scores(self, observations: np.ndarray) -> np.ndarray:
        if self.memory is None:
            shapes = [[n if isinstance(n, int) else len(observations) for n in entry.shape] for entry in self.states]
            self.memory = [np.zeros(shape, np.float32) for shape in shapes]
        given = {entry.name: value for entry, value in zip(self.states, self.memory, strict=True)}
        found, *self.memory = self.session.run(None, given | {self.seen.name: observations})
        return found


ADAPTERS = {"zip": StableBaselines, "pt": TorchModule, "pt2": TorchModule, "pth": TorchModule, "onnx": Onnx}
"""Ending of a file's name -> who plays it."""


def file_of(place: str) -> str:
    """The file of a player, "" if it has none, as it is named: with `{scenario}` and `{seed}`."""
    if found := MODEL.fullmatch(place):
        return found["path"]
    return place.rpartition(":")[0] if ".py:" in place else ""


def filled(place: str, setting: Setting, seed: int) -> str:
    """The name of a player on a network of a setting."""
    return place.replace("{scenario}", setting.name).replace("{seed}", str(seed))


def player(place: str, setting: Setting, seed: int, greedy: bool | None = None) -> Plays:
    """Who is called `place`, on network `seed` of a setting.

    greedy : bool or None
        As in `Model`; rules play as they are.
    """
    scenario, place = setting.scenario, filled(place, setting, seed)
    if place == BEST_RULE:
        return setting.rule.policy(scenario, seed)
    if place == BEST_COIN:
        return setting.coin.policy(scenario, seed)
    if ".py:" in place or place in POLICIES:
        return make_policy(place, scenario, seed)
    found = MODEL.fullmatch(place)
    if not found:
        known = (*POLICIES, *METHODS, *HELPED, BEST_RULE, BEST_COIN, BOUND)
        allowed = "file.py:Class, the file of a model (.zip:PPO, .safetensors, .pt, .pt2, .pth, .onnx), a rule, "
        allowed += "or who has results"
        raise InvalidInput("policy", place, allowed + did_you_mean(place, known))
    if not Path(found["path"]).is_file():
        raise InvalidInput("policy", place, "a file that is there")
    if found["ending"] == "safetensors":
        return load_policy(found["path"], greedy=greedy, seed=seed)[0]
    return ADAPTERS[found["ending"]](scenario, seed, found["path"], found["kind"] or "", greedy)


def knows(policy: Plays, place: str) -> str:
    """What a player says that it knows."""
    if place in POLICIES:
        return POLICIES[place].information
    if place == BEST_COIN:
        return NOTHING
    found = getattr(policy, "information", OWN if place == BEST_RULE else "not declared")
    if not isinstance(found, str) or not 0 < len(found.strip()) <= 80 or "\n" in found:
        raise InvalidInput("information", found, "what the policy knows, in a line of at most 80 characters")
    return found.strip()
