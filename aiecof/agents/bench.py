"""How fast the compiled simulator, the environments and the learning methods are, on one core."""

import itertools
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from sb3_contrib import RecurrentPPO
from stable_baselines3.common.base_class import BaseAlgorithm

import aiecof.envs as envs
from aiecof.agents.learned import LearnedPolicy
from aiecof.agents.methods import METHODS
from aiecof.checks import check_choice, check_integer
from aiecof.envs import OffloadingVecEnv
from aiecof.system.kernels import decide_replicas
from aiecof.system.reference import simulate
from aiecof.system.scenario import Scenario, load_scenario
from aiecof.system.simulator import Simulator
from aiecof.system.workload import Trace, draw_trace

REPLICAS = (1, 64)
DIVIDED = 256
"""Replicas of which threads take their share."""
DEVICES = (30, 100, 300, 1_000, 3_000, 10_000)
SCALES = (30, 100, 300, 1_000)
"""Devices among which training is compared."""
SCALED = ("toppo", "toppo-transformer", "mappo", "a2c", "dqn")
"""Methods of which it is measured."""
PRINTED_BATCH, ITS_SEQUENCES = 64, 4
"""The paper's batch size, and slots of a sequence that divide it."""
MINIBATCHES = {16: 4, 32: 4, 64: 4, 60: 10, 300: 10, 1_000: 10}
"""Transitions of a minibatch -> slots of its sequences: the paper's batch sizes need sequences that divide them."""


def best_time(run: Callable[[], object], seconds: float = 1.0, clock: Callable[[], float] | None = None) -> float:
    """Shortest time of a call [s], of as many as fit in `seconds`, after one that compiles and warms up.

    clock : callable, optional
        By default `time.perf_counter`.
    """
    clock = clock or time.perf_counter
    run()
    times = []
    while sum(times) < seconds or len(times) < 3:
        start = clock()
        run()
        times.append(clock() - start)
    return min(times)


def _episodes(scenario: Scenario, replicas: int) -> tuple[Simulator, Trace, np.ndarray]:
    trace = draw_trace(scenario, replicas, seed=0)
    actions = np.random.default_rng(0).integers(scenario.actions, size=trace.size.shape)
    return Simulator(scenario), trace, actions


def _step_through(simulator: Simulator, trace: Trace, actions: np.ndarray) -> None:
    simulator.reset(trace)
    while not simulator.done:
        simulator.step(actions[:, simulator.slot])


def bench_simulator(seconds: float = 1.0) -> dict[str, Any]:
    """Speed of the compiled simulator on the `balanced` scenario (30 devices, 8 servers), actions at random.

    seconds : float
        Time for each measurement [s]; the best of its repetitions counts.

    Returns a dict: `device_slots_per_second`, by number of replicas, of dynamics and rewards (`Simulator.run`), and
    `device_slots_per_second_with_observations` (`Simulator.step`); `reference_ratio`, how often faster than the
    event simulation `reference.simulate` on the first of the same episodes; `device_slots_per_second_by_threads`, of
    `DIVIDED` replicas on 1, 2, 4, ... threads, as many as there are cores; `scaling`, by number of devices, what one
    device costs in one slot [ns], without the reference energy, which would have to be found for each number.
    """
    scenario = load_scenario("balanced")
    plain, observed = {}, {}
    for replicas in REPLICAS:
        simulator, trace, actions = _episodes(scenario, replicas)
        plain[str(replicas)] = actions.size / best_time(partial(simulator.run, trace, actions), seconds)
        step_through = partial(_step_through, simulator, trace, actions)
        observed[str(replicas)] = actions.size / best_time(step_through, seconds)
    reference = actions[:1].size / best_time(partial(simulate, scenario, trace[:1], actions[:1]), seconds)
    simulator, trace, actions = _episodes(scenario, DIVIDED)
    threads = [2**k for k in range((os.cpu_count() or 1).bit_length())]
    divided = {
        str(count): actions.size / best_time(partial(simulator.run, trace, actions, count), seconds)
        for count in threads
    }
    scaling = {}
    for devices in DEVICES:
        larger = scenario.replace(devices=devices, energy_reference="own_history", cost_units="si")
        simulator, trace, actions = _episodes(larger, max(1, 1_000 // devices))
        scaling[str(devices)] = 1e9 * best_time(partial(simulator.run, trace, actions), seconds) / actions.size
    return {
        "device_slots_per_second": plain,
        "device_slots_per_second_with_observations": observed,
        "device_slots_per_second_by_threads": divided,
        "reference_ratio": plain[str(REPLICAS[-1])] / reference,
        "scaling": scaling,
    }


def _rows_episode(env: Any, actions: np.ndarray) -> None:
    """An episode of rows, (T, B M); the last step of SB3's rows begins the next one by itself."""
    if not isinstance(env, OffloadingVecEnv):
        env.reset()
    for chosen in actions:
        env.step(chosen)


def _agents_episode(env: envs.ParallelOffloadingEnv, actions: list[dict[str, int]]) -> None:
    env.reset()
    for chosen in actions:
        env.step(chosen)


def _kernel_episode(simulator: Simulator, actions: np.ndarray, rewards: np.ndarray, seen: np.ndarray) -> None:
    """What a step calls, decisions and observations, and nothing around it."""
    for slot, chosen in enumerate(actions):
        decide_replicas(simulator._parameters, simulator._arrays, slot, 0, chosen, rewards, seen)


def _episodes_by_view(scenario: Scenario, replicas: int) -> dict[str, Callable[[], object]]:
    """View -> an episode of it: those with several networks, and at one network all."""
    simulator, trace, actions = _episodes(scenario, replicas)
    seen, slots = simulator.reset(trace), np.ascontiguousarray(actions.swapaxes(0, 1))
    rows, one = slots.reshape(len(slots), -1), slots[:, 0]
    sb3, vector = OffloadingVecEnv(scenario, replicas, seed=0), envs.OffloadingVectorEnv(rows.shape[1], scenario)
    sb3.reset()
    found = {
        "kernel": partial(_kernel_episode, simulator, slots, np.zeros(slots.shape[1:]), seen),
        "OffloadingVecEnv": partial(_rows_episode, sb3, rows),
        "OffloadingVectorEnv": partial(_rows_episode, vector, rows),
    }
    if replicas > 1:
        return found
    parallel = envs.ParallelOffloadingEnv(scenario)
    named = [dict(zip(parallel.possible_agents, chosen.tolist(), strict=True)) for chosen in one]
    return found | {
        "ParallelOffloadingEnv": partial(_agents_episode, parallel, named),
        "JointEnv": partial(_rows_episode, envs.JointEnv(scenario), one),
        "DeviceEnv": partial(_rows_episode, envs.DeviceEnv(scenario), one[:, 0]),
        "OffloadingEnv": partial(_rows_episode, envs.OffloadingEnv(scenario), one.reshape(-1)),
    }


def bench_environments(seconds: float = 1.0) -> dict[str, Any]:
    """Speed of the environments on the `balanced` scenario (30 devices, 8 servers), whole episodes, actions at random.

    seconds : float
        Time for each measurement [s]; the best of its repetitions counts.

    Returns a dict: `device_slots_per_second`, by view and number of replicas, every device of the network counted, of
    which `DeviceEnv` asks its learner for one and a rule for the others; `kernel` is what they stand on, decisions and
    observations alone. `above_kernel`, by view, how much longer than the kernel's a slot of one network takes [us];
    `picture`, the time of a picture [ms].
    """
    scenario = load_scenario("balanced")
    speeds: dict[str, dict[str, float]] = {}
    for replicas in REPLICAS:
        count = replicas * scenario.slots * scenario.devices
        for name, episode in _episodes_by_view(scenario, replicas).items():
            speeds.setdefault(name, {})[str(replicas)] = count / best_time(episode, seconds)
    slot = {name: 1e6 * scenario.devices / by_replicas[str(REPLICAS[0])] for name, by_replicas in speeds.items()}
    env = envs.DeviceEnv(scenario, render_mode="rgb_array")
    env.reset(seed=0)
    return {
        "device_slots_per_second": speeds,
        "above_kernel": {name: time - slot["kernel"] for name, time in slot.items() if name != "kernel"},
        "picture": 1e3 * best_time(env.render, seconds / 4),
    }


def _transitions_per_second(model: BaseAlgorithm, episodes: int) -> float:
    """Of a training that has already played an episode; by processor time, which other programs disturb least."""
    before, start = model.num_timesteps, time.process_time()
    slots = model.get_env().get_attr("scenario")[0].slots
    model.learn(episodes * slots * model.n_envs, reset_num_timesteps=False, log_interval=None)
    return (model.num_timesteps - before) / (time.process_time() - start)


def _warm(model: BaseAlgorithm) -> BaseAlgorithm:
    _transitions_per_second(model, 1)
    return model


def stock_recurrent_ppo(env: OffloadingVecEnv, batch_size: int, n_epochs: int, seed: int = 0) -> RecurrentPPO:
    """sb3-contrib's RecurrentPPO as it comes, with TOPPO's sizes and otherwise TOPPO's hyperparameters."""
    names = ("gamma", "learning_rate", "gae_lambda", "clip_range", "ent_coef", "vf_coef", "max_grad_norm")
    values = {name: METHODS["toppo"].hyperparameters[name][0] for name in names}
    network = {name: METHODS["toppo"].policy_kwargs[name] for name in ("lstm_hidden_size", "net_arch")}
    sizes = {"n_steps": env.scenario.slots, "batch_size": batch_size, "n_epochs": n_epochs}
    return RecurrentPPO("MlpLstmPolicy", env, seed=seed, device="cpu", policy_kwargs=network, **sizes, **values)


def bench_training(episodes: int = 3, repetitions: int = 3) -> dict[str, Any]:
    """Training speed on `balanced` (30 devices), one thread, each method with its registered hyperparameters.

    episodes : int
        Training episodes of one measurement, after one that warms up.
    repetitions : int
        Times that TOPPO and stock RecurrentPPO are measured in turn, for each size of the minibatch.

    Returns a dict: `transitions_per_second` by method; `toppo_over_stock`, the median of TOPPO's speed over that of
    stock RecurrentPPO with the same layers, epochs and TOPPO's minibatch; `by_minibatch`, the two speeds (medians)
    and their ratio for every size in `MINIBATCHES`; `ppo_minibatch_64`, SB3's PPO without memory with minibatches of
    64.
    """
    torch.set_num_threads(1)
    scenario = load_scenario("balanced")
    values = METHODS["toppo"].hyperparameters
    epochs, usual = values["n_epochs"][0], values["batch_size"][0]
    by_minibatch = {}
    for size, length in MINIBATCHES.items():
        changes = {"batch_size": size, "sequence_length": length, "target_kl": None}
        ours = _warm(METHODS["toppo"].build(OffloadingVecEnv(scenario, seed=0), 0, **changes))
        stock = _warm(stock_recurrent_ppo(OffloadingVecEnv(scenario, seed=0), size, epochs))
        pairs = [
            (_transitions_per_second(ours, episodes), _transitions_per_second(stock, 1)) for _ in range(repetitions)
        ]
        speeds = dict(zip(("toppo", "stock"), np.median(pairs, axis=0).tolist(), strict=True))
        by_minibatch[str(size)] = speeds | {"ratio": float(np.median([first / second for first, second in pairs]))}
    speeds = {}
    for name, method in METHODS.items():
        model = _warm(method.build(OffloadingVecEnv(scenario, seed=0), 0))
        speeds[name] = float(np.median([_transitions_per_second(model, episodes) for _ in range(repetitions)]))
    small = _warm(METHODS["ppo"].build(OffloadingVecEnv(scenario, seed=0), 0, batch_size=64, target_kl=None))
    return {
        "transitions_per_second": speeds,
        "toppo_over_stock": by_minibatch[str(usual)]["ratio"],
        "by_minibatch": by_minibatch,
        "ppo_minibatch_64": float(np.median([_transitions_per_second(small, episodes) for _ in range(repetitions)])),
    }


def scaled_scenario(devices: int) -> Scenario:
    """`balanced` with more devices, servers in proportion, and 8 of them within reach of each device."""
    scenario = load_scenario("balanced")
    servers = max(1, round(scenario.servers * devices / scenario.devices))
    return scenario.replace(devices=devices, servers=servers, reach=min(servers, scenario.servers))


def _batches(name: str, devices: int) -> dict[str, dict[str, Any]]:
    """Which batch -> hyperparameters with it; a method without one updates on all devices anyway."""
    known = METHODS[name].hyperparameters
    same = {"target_kl": None} if "target_kl" in known else {}  # so that no update ends early
    if "batch_size" not in known:
        return {"all devices": same}
    same |= {"sequence_length": ITS_SEQUENCES} if "sequence_length" in known else {}
    more = PRINTED_BATCH * devices // SCALES[0] // ITS_SEQUENCES * ITS_SEQUENCES
    sizes = {"printed": PRINTED_BATCH, "in proportion": max(more, PRINTED_BATCH)}
    return {batch: same | {"batch_size": size} for batch, size in sizes.items()}


def _peak_memory() -> float | None:
    """Most memory that this process has had [MB]; None where the system does not say."""
    status = Path("/proc/self/status")
    lines = status.read_text(encoding="utf-8").splitlines() if status.is_file() else []
    return next((int(line.split()[1]) / 1024 for line in lines if line.startswith("VmHWM")), None)


def measure_scale(name: str, devices: int, batch: str, repetitions: int) -> dict[str, float | None]:
    """What `bench_scale` says of a method with one of its batches on one network; memory is that of this process."""
    torch.set_num_threads(1)
    scenario, chosen = scaled_scenario(devices), METHODS[name]
    begun = _peak_memory()
    model = chosen.build(OffloadingVecEnv(scenario, seed=0), 0, **_batches(name, devices)[batch])
    episodes = max(1, 2 * SCALES[0] // devices)
    speed = max(_transitions_per_second(model, episodes) for _ in range(repetitions))
    peak, env = _peak_memory(), OffloadingVecEnv(scenario, seed=0)
    observations = env.reset().reshape(1, devices, -1)
    policy = LearnedPolicy(model, chosen.history, chosen.counts == "greedy")
    policy.reset(1)
    decide = partial(policy, observations, env.has_task.reshape(1, -1))
    return {
        "transitions_per_second": speed,
        "seconds_per_episode": scenario.decisions * devices / speed,
        "decision_ms": 1e3 * best_time(decide, 0.3 * repetitions, time.process_time),
        "memory_mb": None if peak is None or begun is None else peak - begun,
    }


_ALONE = "\n".join(
    (
        "import json, sys",
        "from aiecof.agents.bench import measure_scale",
        "print(json.dumps(measure_scale(*json.loads(sys.argv[1]))))",
    )
)
"""A measurement in a process of its own: memory that was used once is not given back."""


def bench_scale(
    devices: Iterable[int] = SCALES, names: Iterable[str] = SCALED, repetitions: int = 2
) -> dict[str, dict[str, dict[str, dict[str, float | None]]]]:
    """Training and deciding for many devices, one thread: servers in proportion, 8 of them within reach of each.

    devices : iterable of int
        M.
    names : iterable of str
        Of `methods.METHODS`.
    repetitions : int
        Measurements, of which the best counts; the first also compiles and warms up.

    Returns a dict, method -> which batch -> M -> `transitions_per_second` and `seconds_per_episode` of a training with
    its updates; `decision_ms`, what a trained policy takes for one decision of all devices; and `memory_mb`, what
    training takes beside the imported packages at most (None where the system does not say). Times are processor times,
    which on one thread are those of a core that nobody else uses. The batch is "printed", 64 whatever M is, or "in
    proportion", 64 for every 30 devices; A2C updates on all devices.
    """
    counts = [check_integer("devices", count, 1, 100_000) for count in devices]
    chosen = [check_choice("method", name, tuple(METHODS)) for name in names]
    check_integer("repetitions", repetitions, 1, 1_000)
    found: dict[str, dict[str, dict[str, dict[str, float | None]]]] = {}
    for name, count in itertools.product(chosen, counts):
        for batch in _batches(name, count):
            command = [
                sys.executable,
                "-W",
                "ignore::UserWarning",
                "-c",
                _ALONE,
                json.dumps([name, count, batch, repetitions]),
            ]
            printed = subprocess.run(command, stdout=subprocess.PIPE, check=True).stdout
            found.setdefault(name, {}).setdefault(batch, {})[str(count)] = json.loads(printed)
    return found
