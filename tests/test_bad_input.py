"""What cannot be used is refused: in one line that names field, value and what is allowed, before anything is written.

Two tables. `API` has a call that works for each public function, and `REFUSED` what each kind of argument may not be;
every argument is replaced by all of them in turn. `COMMANDS` has command lines and how their refusal begins.
"""

import inspect
import math
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
import pytest

from aiecof import envs
from aiecof.agents import methods, policies, rules, training
from aiecof.agents.learned import LearnedPolicy, load_policy
from aiecof.checks import InvalidInput, check_choice, check_kind, check_memory, checked
from aiecof.drawing import figures, style
from aiecof.envs.spaces import check_trace
from aiecof.study import claims, curves, experiments, front, paper, print_limits, runner, statistics, store
from aiecof.study.lower_bound import lower_bound
from aiecof.study.own import read_experiment
from aiecof.study.verify import verify
from aiecof.system import reference
from aiecof.system.observations import observation_fields, observation_width
from aiecof.system.scenario import from_units, load_scenario
from aiecof.system.simulator import Simulator, check_actions
from aiecof.system.workload import draw_trace, load_trace

SMALL = load_scenario({"base": "balanced", "name": "small", "devices": 3, "servers": 2, "slots": 20})
OTHER = SMALL.replace(devices=4)
TRACE = draw_trace(SMALL, 2)
ACTIONS = np.zeros(TRACE.size.shape, int)
RULE = rules.make_policy("frugal", SMALL)
ROWS = pd.DataFrame({"method": ["toppo", "dqn"], "scenario": "small", "seed": 0, "reward": [1.0, 2.0], "devices": 3})


class Call(NamedTuple):
    """A call that works.

    bad : dict
        Argument -> values that it may not have, beside those of its kind.
    skip : tuple of str
        Arguments that may be anything of their annotation's kind, or that are left as they are.
    """

    function: Callable[..., Any]
    good: dict[str, Any]
    bad: dict[str, list[Any]] = {}
    skip: tuple[str, ...] = ()


def begun() -> Simulator:
    simulator = Simulator(SMALL)
    simulator.reset(TRACE)
    return simulator


def seen() -> tuple[np.ndarray, np.ndarray]:
    simulator = Simulator(SMALL)
    return simulator.reset(TRACE), simulator.has_task


def observe(observations: np.ndarray, has_task: np.ndarray) -> np.ndarray:
    RULE.reset(2)
    return RULE(observations, has_task)


def vector(**keywords: Any) -> Any:
    return envs.OffloadingVecEnv(SMALL, **keywords)


def stepped(actions: np.ndarray) -> Any:
    env = vector(seed=0)
    env.reset()
    return env.step(actions)


def device(**keywords: Any) -> Any:
    return envs.DeviceEnv(SMALL, **keywords)


def reset(options: Any, seed: int = 0) -> Any:
    return envs.DeviceEnv(SMALL).reset(seed=seed, options=options)


def stepped_device(action: Any) -> Any:
    env = envs.DeviceEnv(SMALL)
    env.reset(seed=0)
    return env.step(action)


def stepped_joint(action: Any) -> Any:
    env = envs.JointEnv(SMALL)
    env.reset(seed=0)
    return env.step(action)


def stepped_parallel(actions: Any) -> Any:
    env = envs.ParallelOffloadingEnv(SMALL)
    env.reset(seed=0)
    return env.step(actions)


def values(method: str, **changes: Any) -> dict[str, Any]:
    return methods.method(method).values(**changes)


WIDTH = observation_width(SMALL)
OBSERVATIONS, HAS_TASK = seen()
BROKEN = [
    np.full(OBSERVATIONS.shape, np.nan, np.float32),
    OBSERVATIONS[:1],
    OBSERVATIONS[..., :-1],
    OBSERVATIONS[0],
    OBSERVATIONS.astype(int),
    OBSERVATIONS.astype(str),
    np.full(OBSERVATIONS.shape, np.inf),
    None,
]
WRONG_ACTIONS = [
    ACTIONS - 1,
    ACTIONS + 3,
    ACTIONS * 1.0,
    ACTIONS[:1],
    ACTIONS[0],
    ACTIONS.astype(str),
    ACTIONS > 0,
    None,
]
NAMES = ["nonsense", "", "TOPPO ", "x" * 500, None, 3, ["toppo"]]
NO_COUNT = [-1, 2.5, "3", None, True, math.nan, 10**400]
NO_PATH = [3, "\0", ["results"], 1.5]
NO_SCENARIO = ["small", None, 3, {}]
NO_TRACE = ["trace", None, np.zeros(3), TRACE.size]
REFUSED: dict[str, list[Any]] = {
    "int": NO_COUNT,
    "float": ["much", True, math.nan, [0.5], 10**400, "0.5"],
    "str": NAMES,
    "Path": NO_PATH,
    "Scenario": NO_SCENARIO,
    "Trace": NO_TRACE,
    "DataFrame": [None, "rows", {"seed": [1]}, [[1, 2]]],
    "Callable": [3, "print"],
    "ndarray": [None, "abc", [object()]],
    "ArrayLike": ["abc", [object()], ["a", "b"], {"a": 1}, [[1.0], [1.0, 2.0]], [math.inf, 1.0], [1 + 2j]],
    "bool": ["yes", 1.5, 3],
}
"""Word in an annotation -> values that are not of its kind, or of its kind and never allowed."""


def kind_of(annotation: Any) -> str:
    text = annotation if isinstance(annotation, str) else inspect.formatannotation(annotation)
    order = (
        "Callable",
        "Path",
        "Scenario",
        "Trace",
        "DataFrame",
        "ArrayLike",
        "ndarray",
        "bool",
        "int",
        "float",
        "str",
    )
    return next((word for word in order if word in text), "")


API: dict[str, Call] = {
    call.function.__qualname__ if not name else name: call
    for name, call in (
        ("load_scenario", Call(load_scenario, {"source": "balanced"}, {"source": [*NAMES, "a.json", {}, {"base": 3}]})),
        ("from_units", Call(from_units, {"table": {}}, {"table": [{}, None, 3, [1], {"devices": 3}, {3: 1}]})),
        ("draw_trace", Call(draw_trace, {"scenario": SMALL, "episodes": 1, "seed": 0, "first": 0, "split": "train"})),
        ("draw_trace at once", Call(draw_trace, {"scenario": SMALL}, {"episodes": [10**12, 10**20]})),
        ("load_trace", Call(load_trace, {"path": "nowhere.npz", "scenario": SMALL}, {"path": ["nowhere.npz", "."]})),
        ("observation_fields", Call(observation_fields, {"scenario": SMALL})),
        ("Simulator", Call(Simulator, {"scenario": SMALL, "record": False, "keep_terms": False})),
        ("Simulator.reset", Call(Simulator(SMALL).reset, {"trace": TRACE}, {"trace": [draw_trace(OTHER, 1)]})),
        ("Simulator.step", Call(lambda actions: begun().step(actions), {}, {"actions": WRONG_ACTIONS})),
        ("Simulator.run", Call(lambda actions: begun().run(TRACE, actions), {}, {"actions": WRONG_ACTIONS})),
        (
            "Simulator before reset",
            Call(lambda actions: Simulator(SMALL).step(actions), {}, {"actions": [ACTIONS[:, 0]]}),
        ),
        ("metrics before the end", Call(lambda slots: begun().metrics(), {}, {"slots": [0]})),
        ("check_actions", Call(lambda actions: check_actions(actions, 2, (2, 20, 3)), {}, {"actions": WRONG_ACTIONS})),
        ("reference", Call(reference.simulate, {"scenario": SMALL, "trace": TRACE, "actions": ACTIONS})),
        ("lower_bound", Call(lower_bound, {"scenario": SMALL, "trace": TRACE}, {"trace": [draw_trace(OTHER, 1)]})),
        ("make_policy", Call(rules.make_policy, {"name": "frugal", "scenario": SMALL, "seed": 0})),
        (
            "make_policy with",
            Call(
                lambda **changes: rules.make_policy("mixture-random", SMALL, **changes),
                {},
                {"local_probability": [2, -1, math.nan, "x", None], "threshold_slots": [3]},
            ),
        ),
        (
            "a rule in a file",
            Call(lambda name: rules.make_policy(name, SMALL), {}, {"name": ["a.py:A", ".py:", "x.py:"]}),
        ),
        (
            "a policy",
            Call(
                observe,
                {"observations": OBSERVATIONS, "has_task": HAS_TASK},
                {"observations": BROKEN, "has_task": [None, HAS_TASK[0], HAS_TASK * 1.0, "abc"]},
                ("observations", "has_task"),
            ),
        ),
        ("Policy.reset", Call(RULE.reset, {"episodes": 1, "first": 0})),
        (
            "evaluate",
            Call(
                policies.evaluate,
                {"policy": RULE, "scenario": SMALL, "trace": TRACE, "first": 0},
                {"policy": [rules.Frugal, rules.make_policy("frugal", OTHER), lambda seen, has: seen]},
            ),
        ),
        (
            "episode_metrics",
            Call(policies.episode_metrics, {"policy": RULE, "scenario": SMALL, "episodes": 1, "seed": 0}),
        ),
        ("record_actions", Call(policies.record_actions, {"policy": RULE, "scenario": SMALL, "trace": TRACE})),
        (
            "rules.register",
            Call(
                rules.register,
                {"name": "mine", "entry": rules.POLICIES["random"]},
                {"name": ["frugal", 3, None], "entry": [None, "frugal", RULE]},
                ("name", "entry"),
            ),
        ),
        ("method", Call(methods.method, {"name": "toppo"})),
        ("check_trace", Call(lambda trace: check_trace(trace, SMALL, 2), {}, {"trace": NO_TRACE})),
        (
            "OffloadingVecEnv",
            Call(
                vector,
                {},
                {
                    "replicas": NO_COUNT,
                    "first": NO_COUNT[:3],
                    "split": NAMES,
                    "render_mode": ["human", 3],
                    "network_seed": NO_COUNT[:3],
                    "reward": [3, "energy"],
                    "seed": [-1, 2.5, "3", True],
                },
            ),
        ),
        (
            "OffloadingVecEnv.step",
            Call(stepped, {}, {"actions": [[0], np.zeros(3), np.zeros((3, 1), int), None, "abc", [9] * 3]}),
        ),
        (
            "DeviceEnv",
            Call(
                device,
                {},
                {
                    "device": [3, -1, 1.5, "0"],
                    "others": ["nonsense", 3, 2.5],
                    "weights": [3, {"dorp": 1.0}, {"drop": 2.0}],
                    "devices": NO_COUNT,
                    "drop_rule": ["never", 3, None],
                    "split": NAMES,
                },
            ),
        ),
        (
            "DeviceEnv.reset",
            Call(
                reset,
                {"options": None},
                {
                    "options": [3, "trace", {"tarce": 1}, {"trace": 3}, {"trace": draw_trace(OTHER, 1)}, {"device": 9}],
                    "seed": [-1, 2.5, "3"],
                },
                ("options", "seed"),
            ),
        ),
        ("DeviceEnv.step", Call(stepped_device, {}, {"action": [-1, 3, 0.5, "0", None, [0, 1], math.nan, True]})),
        (
            "JointEnv.step",
            Call(stepped_joint, {}, {"action": [0, [0], [0, 0, 9], [0.5, 0, 0], "abc", None, [-1, 0, 0]]}),
        ),
        (
            "ParallelOffloadingEnv.step",
            Call(
                stepped_parallel,
                {},
                {
                    "actions": [
                        {},
                        {"agent_0": 0},
                        {f"agent_{m}": 9 for m in range(3)},
                        {f"agent_{m}": "a" for m in range(3)},
                        None,
                        [0, 0, 0],
                    ]
                },
            ),
        ),
        (
            "mean_interval",
            Call(statistics.mean_interval, {"values": [1.0, 2.0], "level": 0.95}, {"level": [0.0, 1.0, 2]}),
        ),
        (
            "paired_difference",
            Call(
                statistics.paired_difference,
                {"first": [1.0, 2.0], "second": [1.0, 2.0]},
                {"second": [[1.0], [1.0, 2.0, 3.0]]},
            ),
        ),
        ("one_sided", Call(statistics.one_sided, {"differences": [1.0, 2.0]})),
        (
            "holm",
            Call(
                statistics.holm,
                {"chances": [0.1]},
                {"chances": [[2.0], [-0.1], [[0.1]], "abc", [math.nan]]},
                ("chances",),
            ),
        ),
        ("rank_correlation", Call(statistics.rank_correlation, {"first": [1.0, 2.0], "second": [1.0, 2.0]})),
        ("probability_of_improvement", Call(statistics.probability_of_improvement, {"first": [1.0], "second": [2.0]})),
        (
            "roughness",
            Call(curves.roughness, {"rewards": np.arange(50.0)}, {"rewards": [np.zeros(2), np.full(9, np.nan)]}),
        ),
        (
            "episodes_to_near_optimal",
            Call(
                curves.episodes_to_near_optimal,
                {"rewards": np.arange(50.0)},
                {"rewards": [np.zeros(3), np.zeros((30, 2)), np.array(["a"] * 30)]},
            ),
        ),
        ("curves_of", Call(curves.curves_of, {"rows": ROWS.assign(run="x"), "results": None})),
        ("printed", Call(paper.printed, {"metric": "delay", "results": None})),
        ("read_table", Call(store.read_table, {"name": "runs.csv", "results": None}, skip=("name",))),
        ("experiment_table", Call(store.experiment_table, {"name": "table_iv", "results": None})),
        ("declared", Call(store.declared, {"name": "table_iv", "results": None})),
        ("manifest", Call(store.manifest, {"results": None})),
        ("status", Call(store.status, {"results": None})),
        ("stale", Call(store.stale, {"results": None})),
        ("complete_seeds", Call(figures.complete_seeds, {"rows": ROWS}, {"rows": [ROWS[["method"]]]})),
        (
            "relative_to",
            Call(
                figures.relative_to,
                {"rows": ROWS, "metric": "reward", "method": "toppo"},
                {"method": NAMES, "metric": ["drop_rate", "seed"]},
            ),
        ),
        ("settings", Call(figures.settings, {"part": "a", "results": None})),
        (
            "figure_4",
            Call(figures.figure_4, {"results": None, "metrics": ("delay",)}, {"metrics": [["nonsense"], "delay", [3]]}),
        ),
        (
            "figure_8",
            Call(
                figures.figure_8,
                {"results": None, "metric": "reward"},
                {"scenario": ["nonsense", 3], "less": ["nonsense", 3], "arm": ["nonsense", "shown", 3]},
            ),
        ),
        (
            "figure_9",
            Call(figures.figure_9, {"results": None, "scenario": "fitted"}, {"arm": ["nonsense", "shown", 3]}),
        ),
        (
            "table_iv",
            Call(figures.table_iv, {"results": None, "scenario": "fitted"}, {"methods": [["nonsense"], "toppo", [3]]}),
        ),
        ("ablation", Call(figures.ablation, {"results": None, "metric": "reward"})),
        (
            "draw_all",
            Call(figures.draw_all, {"out": "x", "results": None}, {"out": [__file__, *NO_PATH]}, ("results",)),
        ),
        (
            "intervals",
            Call(style.intervals, {"rows": ROWS, "by": "method", "metric": "reward"}, {"rows": [ROWS[["seed"]]]}),
        ),
        ("claims", Call(claims.claims, {"results": None, "arm": "printed"})),
        ("experiment", Call(experiments.experiment, {"name": "table_iv"})),
        (
            "trials_of",
            Call(
                experiments.trials_of,
                {"names": ["table_iv"], "profile": "full"},
                {"names": [["nonsense"], "table_iv", 3, [None]]},
            ),
        ),
        (
            "run",
            Call(
                runner.run,
                {"names": ["table_iv"], "profile": "quick", "jobs": 1, "seeds": 1, "folder": None, "results": None},
                {"names": [["nonsense"], "table_iv", 3], "seeds": [0, -1, "3", 2.5]},
                ("names", "seeds", "results", "folder"),
            ),
        ),
        ("verify", Call(verify, {"sample": 1, "results": None})),
        ("least_energy", Call(print_limits.least_energy, {"scenario": SMALL, "trace": TRACE, "drop_rate": 0.1})),
        ("read_experiment", Call(read_experiment, {"path": "nowhere.json"}, {"path": ["nowhere.json"]})),
        ("Run", Call(training.Run, {"folder": "nowhere"}, {"folder": ["nowhere", *NO_PATH]}, ("folder",))),
        ("load_policy", Call(load_policy, {"path": "nowhere"}, {"path": ["nowhere", __file__, *NO_PATH]}, ("path",))),
        ("check_choice", Call(lambda word: check_choice("word", word, ("one", "two")), {}, {"word": NAMES})),
        ("check_kind", Call(lambda value: check_kind("value", value, int | None), {}, {"value": ["3", 2.5, True]})),
        ("check_memory", Call(lambda needed: check_memory("size", 1, needed), {}, {"needed": [1e18]})),
    )
}
HYPERPARAMETERS = {
    "learning_rate": [0, -1, math.nan, math.inf, "1e-3", None, 2, True],
    "gamma": [2, -0.1, math.nan, "x", None],
    "n_epochs": [0, -1, 2.5, None, 10**9],
    "clip_range": [-1, 0, math.nan, "x", None],
    "gae_lambda": [1.5, -0.1, math.nan],
    "ent_coef": [-1, math.nan, "auto"],
    "batch_size": [0, -10, 64, 2.5, None],
    "n_steps": [0, -1, 15, "two episodes"],
    "sequence_length": [0, -1, 7, None],
    "target_kl": [0, -1, math.nan],
    "critic_learning_rate": [0, math.nan],
    "policy_kwargs": [3, {"net_arch": [0]}, {"net_arch": "x"}, {"lstm_hidden_size": 0}],
    "learning_rte": [1e-3],
}
REPLAY = {
    "buffer_size": [0, -1, 2.5, "big", 10**12],
    "learning_starts": [-1, 0.5],
    "train_freq": [0, "step"],
    "gradient_steps": [0, -2],
    "target_update_interval": [0],
    "exploration_fraction": [0, 2, math.nan],
    "exploration_final_eps": [-0.1, 1.1],
}


def bad_calls(call: Call) -> Iterator[tuple[str, dict[str, Any]]]:
    """(words, arguments): the good call with one argument that is bad, for each argument and each bad value."""
    try:
        parameters = inspect.signature(call.function).parameters
    except ValueError:
        parameters = {}
    for name in dict.fromkeys([*call.good, *call.bad]):
        found = list(call.bad.get(name, []))
        if name in call.good and name not in call.skip and name in parameters:
            optional = "None" in str(parameters[name].annotation)
            found += [
                value
                for value in REFUSED.get(kind_of(parameters[name].annotation), [])
                if not (value is None and optional)
                and not (isinstance(value, str) and value == parameters[name].default)
            ]
        for index, value in enumerate(found):
            yield f"{name}-{index}", call.good | {name: value}


def do(call: Call, arguments: dict[str, Any]) -> Any:
    return call.function(**arguments)


CASES = [pytest.param(call, bad, id=f"{name}-{words}") for name, call in API.items() for words, bad in bad_calls(call)]


def assert_one_line(message: str) -> None:
    """It names the field, the value and what is allowed."""
    name, got, rest = message.partition(": got ")
    value, told, allowed = rest.partition(", allowed: ")
    assert name and got and value and told and len(allowed) > 2
    assert "\n" not in message and len(message) < 1_500


@pytest.mark.parametrize("call, arguments", CASES)
def test_a_bad_argument_is_refused(call, arguments):
    with pytest.raises(InvalidInput) as caught:
        do(call, arguments)
    assert_one_line(str(caught.value))


@pytest.mark.parametrize("name, value", [(name, value) for name, found in HYPERPARAMETERS.items() for value in found])
def test_a_bad_hyperparameter_is_refused_before_a_folder_is_made(name, value, tmp_path):
    with pytest.raises(InvalidInput) as caught:
        training.train("toppo", SMALL, 1, 0, tmp_path / "run", **{name: value})
    assert_one_line(str(caught.value))
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("name, value", [(name, value) for name, found in REPLAY.items() for value in found])
def test_a_bad_hyperparameter_of_a_value_method_is_refused(name, value, tmp_path):
    with pytest.raises(InvalidInput) as caught:
        training.train("dqn", SMALL, 1, 0, tmp_path / "run", **{name: value})
    assert_one_line(str(caught.value))
    assert not (tmp_path / "run").exists()


def test_a_seed_that_numpy_does_not_know_is_refused_before_a_folder_is_made(tmp_path):
    with pytest.raises(InvalidInput, match="seed: got 4294967296"):
        training.train("a2c", SMALL, 1, 2**32, tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_every_hyperparameter_has_limits_that_its_registered_values_keep():
    for entry in methods.METHODS.values():
        assert entry.hyperparameters.keys() <= methods.LIMITS.keys()
        entry.values()


@pytest.mark.parametrize(
    "module", [claims, curves, experiments, figures, front, paper, print_limits, runner, statistics, store, style]
)
def test_every_public_function_of_the_study_checks_its_arguments(module):
    """An unknown keyword is the `TypeError` that Python makes of it."""
    own = {name: value for name, value in vars(module).items() if getattr(value, "__module__", "") == module.__name__}
    functions = [value for name, value in own.items() if inspect.isfunction(value) and not name.startswith("_")]
    assert functions
    for function in functions:
        assert function.__code__.co_name == "call", f"{function.__name__} is not checked"
        if not any(entry.kind is entry.VAR_KEYWORD for entry in inspect.signature(function).parameters.values()):
            with pytest.raises(TypeError):
                function(nonsense=1)


def test_a_checked_function_takes_text_for_a_path_and_leaves_the_rest_as_it_is():
    @checked
    def take(path: Path, count: int | None = None, *names: str, scale: float = 1.0):
        return path, count, names, scale

    assert take("a/b", None, "x", scale=2) == (Path("a/b"), None, ("x",), 2)
    assert take.__name__ == "take"
    for arguments, keywords in (((3,), {}), (("a", 1.5), {}), (("a", 1, 2), {}), (("a",), {"scale": math.nan})):
        with pytest.raises(InvalidInput):
            take(*arguments, **keywords)


def test_many_names_are_not_all_listed_and_a_long_value_is_cut():
    names = tuple(f"{number:016x}" for number in range(3_000))
    with pytest.raises(InvalidInput) as caught:
        check_choice("trial", "0" * 14 + "z1", names)
    assert len(str(caught.value)) < 250 and "3,000 names" in str(caught.value) and "did you mean" in str(caught.value)
    assert len(str(InvalidInput("text", "x" * 10_000, "less"))) < 300
    assert "digits" in str(InvalidInput("number", 10**10_000, "less"))


def test_a_learned_policy_refuses_what_it_was_not_trained_for():
    env = envs.OffloadingVecEnv(SMALL, seed=0)
    learned = LearnedPolicy(methods.METHODS["a2c"].build(env, 0), 1, True)
    with pytest.raises(InvalidInput, match="call reset first"):
        learned(OBSERVATIONS, HAS_TASK)
    learned.reset(2)
    assert learned(OBSERVATIONS, HAS_TASK).shape == HAS_TASK.shape
    for broken in BROKEN:
        with pytest.raises(InvalidInput) as caught:
            learned(broken, HAS_TASK)
        assert_one_line(str(caught.value))
