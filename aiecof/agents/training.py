"""Training runs: a folder each, resumable from their last checkpoint, and their evaluation on traces no training saw.

A run folder holds `run.json` (what was run, with which versions, how long it took), `curve.csv` (every metric of every
training episode) and `checkpoint.safetensors` (weights, optimizer, replay buffer and random states: tensors only, no
pickled code); a training on requests keeps them as `requests.npz`. A file is replaced only by a complete new one, and
by one process at a time (`lock`).
"""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Callable
from dataclasses import asdict
from functools import cached_property
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch as th
from safetensors.torch import save
from stable_baselines3.common.base_class import BaseAlgorithm
from stable_baselines3.common.callbacks import BaseCallback

from aiecof import __version__
from aiecof.agents.learned import DESCRIPTION, LearnedPolicy, act_on, fitting, put_weights, read_tensors
from aiecof.agents.learned import FORMAT as POLICY_FORMAT
from aiecof.agents.methods import Method, method
from aiecof.agents.policies import evaluate
from aiecof.checks import InvalidInput, check_integer, check_kind
from aiecof.envs import OffloadingVecEnv
from aiecof.envs.spaces import check_trace
from aiecof.files import alone, conform, read_json, reading, write_whole
from aiecof.requests.tasks import RequestTrace, load_request_trace
from aiecof.system.scenario import Scenario, scenario_from_dict
from aiecof.system.simulator import Simulator
from aiecof.system.workload import draw_trace

PACKAGES = ("numpy", "torch", "stable-baselines3", "sb3-contrib", "numba")
_FORMAT, _TRAINING = "aiecof run 1", "aiecof training 1"
"""Formats of a checkpoint, and of run.json."""
_COUNTERS = {"num_timesteps": int, "_n_updates?": int, "_n_calls?": int, "pos?": int, "full?": bool, "explorer?": dict}
_STATE = {"counters": _COUNTERS, "curve": [{str: float}]}


def _random_state() -> dict[str, th.Tensor]:
    name, keys, position, has_gauss, gauss = np.random.get_state()  # noqa: NPY002 (SB3's buffers draw from it)
    return {
        "random.torch": th.get_rng_state(),
        "random.numpy": th.from_numpy(keys.astype(np.int64)),
        "random.numpy_rest": th.tensor([position, has_gauss, gauss], dtype=th.float64),
    }


def _set_random_state(tensors: dict[str, th.Tensor]) -> None:
    th.set_rng_state(tensors["random.torch"])
    position, has_gauss, gauss = tensors["random.numpy_rest"].tolist()
    keys = tensors["random.numpy"].numpy().astype(np.uint32)
    np.random.set_state(("MT19937", keys, int(position), int(has_gauss), gauss))  # noqa: NPY002


def _replay_arrays(model: BaseAlgorithm) -> dict[str, np.ndarray]:
    buffer = getattr(model, "replay_buffer", None)
    if buffer is None:
        return {}
    return {
        name: getattr(buffer, name) for name in ("observations", "next_observations", "actions", "rewards", "dones")
    }


def _tensors(model: BaseAlgorithm) -> dict[str, th.Tensor]:
    """Everything that the rest of a training depends on, as named tensors."""
    tensors = {f"policy.{name}": value for name, value in model.policy.state_dict().items()}
    for index, entries in model.policy.optimizer.state_dict()["state"].items():
        tensors |= {f"optimizer.{index}.{name}": th.as_tensor(value) for name, value in entries.items()}
    for name, array in _replay_arrays(model).items():
        used = len(array) if model.replay_buffer.full else model.replay_buffer.pos
        tensors[f"replay.{name}"] = th.from_numpy(array[:used])
    return {name: value.contiguous() for name, value in (tensors | _random_state()).items()}


def _weights(tensors: dict[str, th.Tensor]) -> dict[str, th.Tensor]:
    return {name.removeprefix("policy."): value for name, value in tensors.items() if name.startswith("policy.")}


def _restore(model: BaseAlgorithm, tensors: dict[str, th.Tensor], counters: dict[str, Any]) -> None:
    state: dict[int, dict[str, th.Tensor]] = {}
    for name, value in tensors.items():
        if name.startswith("optimizer."):
            _, index, entry = name.split(".", 2)
            state.setdefault(int(index), {})[entry] = value
    groups = model.policy.optimizer.state_dict()["param_groups"]
    model.policy.optimizer.load_state_dict({"state": state, "param_groups": groups})
    for name, array in _replay_arrays(model).items():
        stored = tensors[f"replay.{name}"].numpy()
        array[: len(stored)] = stored
    for name in ("num_timesteps", "_n_updates", "_n_calls"):
        if name in counters:
            setattr(model, name, counters[name])
    if _replay_arrays(model):
        model.replay_buffer.pos, model.replay_buffer.full = counters["pos"], counters["full"]
        model.action_space.np_random.bit_generator.state = counters["explorer"]
    _set_random_state(tensors)


def _counters(model: BaseAlgorithm) -> dict[str, Any]:
    counters = {
        name: getattr(model, name) for name in ("num_timesteps", "_n_updates", "_n_calls") if hasattr(model, name)
    }
    if _replay_arrays(model):
        explorer = model.action_space.np_random.bit_generator.state
        counters |= {"pos": model.replay_buffer.pos, "full": model.replay_buffer.full, "explorer": explorer}
    return counters


class Run:
    """A run folder.

    folder : Path
        Where it is; `run.json` must be there.
    """

    def __init__(self, folder: str | Path):
        self.folder = check_kind("run", folder, Path)
        with reading("run", folder, "the folder of a training run"):
            self.description: dict[str, Any] = read_json("run", self.folder / "run.json", DESCRIPTION, _TRAINING)
            self.description.pop("format", None)
            self.method: Method = method(self.description["method"])
            self.method.values(**self.description["hyperparameters"])
            self.scenario = scenario_from_dict(self.description["scenario"])

    @property
    def checkpoint(self) -> Path:
        """Weights and everything else needed to go on."""
        return self.folder / "checkpoint.safetensors"

    @property
    def fingerprint(self) -> str:
        """Hash of everything that decides the run but its length."""
        names = ("method", "seed", "hyperparameters", "requests")
        chosen = [self.description[name] for name in names if name in self.description]
        content = json.dumps([*chosen, self.scenario.fingerprint], sort_keys=True)
        return hashlib.sha256(content.encode()).hexdigest()[:16]

    @cached_property
    def requests(self) -> RequestTrace | None:
        """What it is trained on in place of traces that its seed draws."""
        if "requests" not in self.description:
            return None
        found = load_request_trace(self.folder / "requests.npz")
        if found.checksum != self.description["requests"]:
            raise InvalidInput(
                "run.requests", str(self.folder / "requests.npz"), "the requests that the run began with"
            )
        return found

    @property
    def curve(self) -> pd.DataFrame:
        """One row a training episode, one column a metric; all checkpointed episodes."""
        return pd.DataFrame(self._read(with_tensors=False)[1]["curve"])

    @property
    def finished(self) -> bool:
        """Whether all episodes are done."""
        return self.checkpoint.exists() and len(self.curve) >= self.description["episodes"]

    def _read(self, with_tensors: bool = True) -> tuple[dict[str, th.Tensor], dict[str, Any]]:
        with reading("checkpoint", self.checkpoint, "an undamaged checkpoint"):
            header, tensors = read_tensors("checkpoint", self.checkpoint, _FORMAT, with_tensors=with_tensors)
            if header.get("run") != self.fingerprint:
                raise InvalidInput("checkpoint", str(self.checkpoint), "the checkpoint of this run")
            state = json.loads(header["state"])
            conform("checkpoint", state, _STATE)
        return tensors, state

    def save(self, model: BaseAlgorithm, curve: list[dict[str, float]]) -> None:
        """Write a checkpoint and the curve so far."""
        state = json.dumps({"counters": _counters(model), "curve": curve})
        header = {"format": _FORMAT, "run": self.fingerprint, "state": state}
        write_whole(self.checkpoint, save(_tensors(model), header))
        write_whole(self.folder / "curve.csv", pd.DataFrame(curve).to_csv(index_label="episode").encode())

    def build(self, episode: int = 0) -> BaseAlgorithm:
        """The untrained algorithm, in front of training episode number `episode`."""
        seed = self.description["seed"]
        trace = self.requests and self.requests.training_trace
        env = OffloadingVecEnv(self.scenario, seed=seed, first=episode, trace=trace)
        return self.method.build(env, seed, **self.description["hyperparameters"])

    def load(self) -> tuple[BaseAlgorithm, list[dict[str, float]]]:
        """The algorithm as the last checkpoint left it, and the curve up to there."""
        tensors, state = self._read()
        model = self.build(len(state["curve"]))
        with reading("checkpoint", self.checkpoint, "the weights and the state of this network"):
            put_weights(model, _weights(tensors))
            _restore(model, tensors, state["counters"])
        return model, state["curve"]

    def go_on(self, watch: _Watch) -> None:
        """Train from the last checkpoint to the end."""
        model, watch.curve[:] = self.load() if self.checkpoint.exists() else (self.build(), [])
        begun = time.perf_counter()
        left = self.description["episodes"] * self.scenario.decisions * self.scenario.devices - model.num_timesteps
        model.learn(left, callback=watch, reset_num_timesteps=False, log_interval=None)
        self.save(model, watch.curve)
        self.description["wall_time"] = self.description.get("wall_time", 0.0) + time.perf_counter() - begun
        _describe(self.folder, self.description)

    def export(self, path: Path) -> None:
        """Write the network's weights and the run's description, all that is needed to act (`load_policy`)."""
        header = {"format": POLICY_FORMAT, "run": json.dumps(self.description)}
        write_whole(path, save(_weights(self._read()[0]), header))

    def policy(self, scenario: Scenario | None = None, **how: Any) -> LearnedPolicy:
        """What was learned, ready to act on the run's scenario or another (`learned.fitting` says which).

        The keywords are those of `learned.act_on`.
        """
        weights, shaped = _weights(self._read()[0]), fitting(self.description, scenario)
        with reading("checkpoint", self.checkpoint, "the weights of this network"):
            return act_on(shaped, self.description, weights, scenario=scenario, **how)

    def evaluate(
        self,
        episodes: int = 20,
        *,
        scenario: Scenario | None = None,
        seed: int | None = None,
        **how: Any,
    ) -> Simulator:
        """Play held-out traces of the run's network, of another seed's or of another scenario's; the simulator after.

        A run on requests plays those that were kept back, unless another scenario is asked for.

        The other keywords are those of `policy`.
        """
        seed, scenario = self.description["seed"] if seed is None else seed, scenario or self.scenario
        if self.requests and scenario == self.scenario:
            trace = self.requests.evaluation_trace
            trace = trace[: check_integer("episodes", episodes, 1, trace.episodes)]
        else:
            trace = draw_trace(scenario, episodes, seed, split="evaluation")
        return evaluate(self.policy(scenario, seed=seed, **how), scenario, trace)


class _Watch(BaseCallback):
    """Collects the metrics of each episode, and saves where every row stands between two episodes."""

    def __init__(self, run: Run, every: int, on_episode: Callable[[int], None] | None):
        super().__init__()
        self.run, self.every, self.on_episode = run, every, on_episode
        self.curve: list[dict[str, float]] = []

    def _on_training_start(self) -> None:
        self._saved = len(self.curve)

    def _on_step(self) -> bool:
        info = self.locals["infos"][0]
        if "episode_metrics" in info:
            self.curve.append(info["episode_metrics"])
            if self.on_episode is not None:
                self.on_episode(len(self.curve))
        return True

    def _on_rollout_start(self) -> None:
        if len(self.curve) >= self._saved + self.every and self.model._last_episode_starts.all():
            self.run.save(self.model, self.curve)
            self._saved = len(self.curve)


def _describe(folder: Path, description: dict[str, Any]) -> None:
    write_whole(folder / "run.json", json.dumps({"format": _TRAINING} | description, indent=1).encode())


def _open(folder: Path, description: dict[str, Any], requests: RequestTrace | None) -> Run:
    """The run in a folder, made now or begun earlier; one of another kind is refused."""
    description = json.loads(json.dumps(description))
    if not (folder / "run.json").exists():
        if requests is not None:
            requests.save(folder / "requests.npz")
        _describe(folder, description)
    run = Run(folder)
    begun = run.description | {
        "scenario": json.loads(json.dumps(asdict(run.scenario)))
    }  # with fields of later versions
    for name, value in ({"requests": None} | description).items():
        if name not in ("versions", "episodes") and begun.get(name) != value:
            found = run.scenario.name if name == "scenario" else begun.get(name)
            raise InvalidInput(f"folder.{name}", found, f"a run with the {name} asked for, or an empty folder")
    if run.description["episodes"] != description["episodes"]:
        raise InvalidInput("episodes", description["episodes"], f"{run.description['episodes']}, as the run began")
    return run


def train(
    name: str,
    scenario: Scenario,
    episodes: int,
    seed: int,
    folder: str | Path,
    *,
    requests: RequestTrace | None = None,
    checkpoint_every: int = 10,
    on_episode: Callable[[int], None] | None = None,
    **changes: Any,
) -> Run:
    """Train a method, or go on with a training that was stopped; an equal call on a finished run does nothing.

    episodes : int
        Training episodes; every one is `slots` x `devices` transitions.
    seed : int
        Of the network's weights, the exploration, the training traces and (`network="run"`) the clocks.
    requests : RequestTrace or None
        Learn from its training episodes, in turn; the scenario is its own, or one that differs in weights or readings.
    on_episode : callable
        Called with the number of episodes done.
    changes : object
        Hyperparameters that differ from those of `methods.METHODS`.
    """
    for field, value in (("episodes", episodes), ("checkpoint_every", checkpoint_every)):
        check_integer(field, value, 1)
    values = method(name).values(**changes)
    versions = {package: version(package) for package in PACKAGES} | {"aiecof": __version__}
    description = {"method": name, "scenario": asdict(scenario), "episodes": episodes}
    description |= {"seed": seed, "hyperparameters": values, "versions": versions}
    if requests is not None:
        check_trace(requests.trace, scenario, field="requests")
        description["requests"] = requests.checksum
    if not (Path(folder) / "run.json").exists():
        method(name).check(scenario, seed, values)
    with alone(Path(folder)):
        run = _open(Path(folder), description, requests)
        if not run.finished:
            run.go_on(_Watch(run, checkpoint_every, on_episode))
    return run
