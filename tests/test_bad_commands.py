"""Command lines that cannot be used: one line on the standard error, exit code 2, nothing written."""

import json

import pytest
from typer.testing import CliRunner

from aiecof.cli.app import app

COUNTS = ("0", "-1", "2.5", "many", "nan", "inf", "", "1e3", "0x10", "9" * 25, "--", "None")
COMMANDS = [
    ("simulate --scenario blanced", "scenario: got 'blanced'", "did you mean 'balanced'?"),
    ("simulate --scenario nowhere.json", "scenario: got 'nowhere.json'", "readable"),
    ("simulate --scenario .", "scenario: got '.'", "path ending in .json"),
    ("simulate --policy frugl", "policy: got 'frugl'", "did you mean 'frugal'?"),
    ("simulate --policy nowhere.py:Mine", "policy: got 'nowhere.py:Mine'", "a file that is there"),
    ("simulate --policy rule.py:Mien", "policy: got 'rule.py:Mien'", "did you mean 'Mine'?"),
    ("simulate --policy rule.py:number", "policy: got 'rule.py:number'", "a class made from Policy"),
    ("simulate --policy rule.py:", "policy: got 'rule.py:'", "a class made from Policy"),
    ("simulate --policy rule.py:Abstract", "policy: got 'rule.py:Abstract'", "TypeError"),
    ("simulate --policy rule.py:Fails --episodes 1", "policy: got 'rule.py:Fails'", "ZeroDivisionError in line 16"),
    ("simulate --policy rule.py:Shape --episodes 1", "actions: got (2, 2)", "shape (1, 30)"),
    ("simulate --policy rule.py:Text --episodes 1", "actions: got 'str", "whole numbers"),
    ("simulate --policy broken.py:Mine", "policy: got 'broken.py:Mine'", "SyntaxError"),
    ("simulate --policy exits.py:Mine", "policy: got 'exits.py:Mine'", "SystemExit"),
    ("simulate --set", "command line: got 'simulate --set'", "--help"),
    ("simulate --set devices", "set: got 'devices'", "KEY=VALUE"),
    ("simulate --set =3", "set: got '=3'", "KEY=VALUE"),
    ("simulate --set devises=3", "set: got 'devises=3'", "did you mean 'devices'?"),
    ("simulate --set devices=three", "set: got 'devices=three'", "a number"),
    ("simulate --set devices=2.5", "devices: got 2.5", "a whole number"),
    ("simulate --set devices=0", "devices: got 0", ">= 1"),
    ("simulate --set devices=3000000", "devices: got 3000000", "<= 100000"),
    ("simulate --set devices=true", "devices: got True", "a whole number"),
    ("simulate --set devices=null", "devices: got None", "a whole number"),
    ("simulate --set devices=[3", "set: got 'devices=[3'", "a number"),
    ("simulate --set tau_max_slots=1" + "0" * 30, "tau_max_slots: got 1", "<= 1000000"),
    ("simulate --set slots=1e3", "slots: got 1000.0", "a whole number"),
    ("simulate --set slots=5 --set slots=6", "set: got 'slots=6'", "each key once"),
    ("simulate --set arrival_probability=1.5", "arrival_probability: got 1.5", "<= 1"),
    ("simulate --set arrival_probability=NaN", "arrival_probability: got nan", "finite"),
    ("simulate --set waiting_power=-1", "waiting_power: got -1", ">= 0"),
    ("simulate --set device_frequency_ghz=5,3", "device_frequency: got", "in this order"),
    ("simulate --set device_frequency_ghz=5", "device_frequency: got", "a pair"),
    ("simulate --set device_frequency_ghz=3,4,5", "device_frequency: got", "a pair"),
    (
        "simulate --set device_frequency_gz=3,4",
        "set: got 'device_frequency_gz=3,4'",
        "did you mean 'device_frequency'?",
    ),
    ("simulate --set device_frequency_ghz=3,x", "set: got 'device_frequency_ghz=3,x'", "two with a comma"),
    ("simulate --set drop_rule=wiat", "readings.drop_rule: got 'wiat'", "did you mean 'wait'?"),
    ("simulate --set drop_rule=", "readings.drop_rule: got ''", "deadline"),
    ("simulate --set drop_rul=wait", "set: got 'drop_rul=wait'", "did you mean 'drop_rule'?"),
    ("simulate --set readings.drop=wait", "set: got 'readings.drop=wait'", "drop_rule"),
    ("simulate --set weights.dorp=0.3", "set: got 'weights.dorp=0.3'", "did you mean 'weights.drop'?"),
    ("simulate --set weights.drop=2", "weights.drop: got 2", "<= 1"),
    ("simulate --set weights=3", "set: got 'weights=3'", "KEY=VALUE"),
    ("simulate --set nothing.drop=2", "set: got 'nothing.drop=2'", "KEY=VALUE"),
    ("simulate --set task_kinds=nonsense", "task_kinds: got 'nonsense'", "uniform"),
    ("simulate --set edge_service=equal_sharing", "readings.edge_service: got 'equal_sharing'", "decision_order"),
    ("simulate --episods 3", "option: got '--episods'", "did you mean '--episodes'?"),
    ("simulate --polcy frugal", "option: got '--polcy'", "did you mean '--policy'?"),
    ("simulate --seed", "command line: got 'simulate --seed'", "--help"),
    ("simulate extra", "command line: got 'simulate extra'", "--help"),
    ("smulate", "command: got 'smulate'", "did you mean 'simulate'?"),
    ("Simulate", "command: got 'Simulate'", "did you mean 'simulate'?"),
    ("bench", "bench: got", "simulator, environments, training"),
    ("bench simulater", "command: got 'simulater'", "did you mean 'simulator'?"),
    ("scenarios --json=3", "command line: got 'scenarios --json=3'", "--help"),
    ("--versoin", "option: got '--versoin'", "did you mean '--version'?"),
    ("train", "command line: got 'train'", "method"),
    ("train topo", "method: got 'topo'", "did you mean 'toppo'?"),
    ("train toppo --seed 4294967296", "seed: got '4294967296'", "<= 4294967295"),
    ("train toppo --scenario blanced", "scenario: got 'blanced'", "did you mean 'balanced'?"),
    ("train toppo --set devises=3", "set: got 'devises=3'", "did you mean 'devices'?"),
    (
        "train toppo --set slots=15 --episodes 1 --folder new",
        "sequence_length: got 10",
        "a divisor of the episode's 15",
    ),
    ("evaluate nowhere", "run: got 'nowhere", "No such file"),
    ("evaluate .", "run: got '", "No such file"),
    ("evaluate", "command line: got 'evaluate'", "run"),
    ("run", "command line: got 'run'", "--help"),
    ("run tabel_iv", "experiment: got 'tabel_iv'", "did you mean 'table_iv'?"),
    ("run table_iv --profile slow", "profile: got 'slow'", "quick"),
    ("run table_iv --jobs 1000000", "jobs: got '1000000'", "<= "),
    ("run nowhere.json", "experiment: got 'nowhere.json'", "readable"),
    ("run mine.json table_iv", "experiment: got ['mine.json', 'table_iv']", "a file on its own"),
    ("trial zzz", "trial: got 'zzz'", "names, of which the nearest are"),
    ("trial 0000", "trial: got '0000'", "names, of which the nearest are"),
    ("claims --arm pritned-plain", "arm: got 'pritned-plain'", "did you mean 'printed-plain'?"),
    ("claims --arm=", "arm: got ''", "printed"),
    ("tune sarsa --results out --folder runs", "method: got 'sarsa'", "toppo"),
]
COMMANDS += [
    (f"{command} {option} {value}", f"{option[2:]}: got '{value}'", "a whole number")
    for command, option in (
        ("simulate", "--episodes"),
        ("simulate", "--devices"),
        ("train a2c", "--episodes"),
        ("train a2c", "--devices"),
        ("evaluate nowhere", "--episodes"),
        ("run table_iv", "--jobs"),
        ("run table_iv", "--seeds"),
        ("verify", "--sample"),
    )
    for value in COUNTS
    if value not in ("", "--")
]
COMMANDS += [
    (f"{command} --seed {value}", f"seed: got '{value}'", ">= 0")
    for command in ("simulate", "train a2c", "verify")
    for value in ("-1", "2.5", "x", "9" * 25)
]
RULE = """from aiecof.agents.policies import Policy
import numpy as np

number = 3


class Mine(Policy):
    def decide(self, seen):
        return np.zeros(seen.has_task.shape, np.int64)


class Abstract(Policy):
    pass
class Fails(Policy):
    def decide(self, seen):
        return 1 / 0


class Shape(Policy):
    def decide(self, seen):
        return np.zeros((2, 2), int)


class Text(Policy):
    def decide(self, seen):
        return "home"
"""
EXPERIMENTS = [
    ("[1]", "experiment: got", "a dict"),
    ("{", "experiment: got", "readable"),
    ("{}", "experiment.methods: got", "at least one"),
    ('{"methods": ["toppo"]}', "experiment.scenarios: got", "at least one"),
    ('{"methods": [], "scenarios": ["balanced"]}', "experiment.methods: got []", "at least one"),
    ('{"methods": "toppo", "scenarios": ["balanced"]}', "experiment.methods: got 'toppo'", "a list"),
    ('{"methods": ["topo"], "scenarios": ["balanced"]}', "experiment.methods: got 'topo'", "did you mean 'toppo'?"),
    ('{"methods": [3], "scenarios": ["balanced"]}', "experiment.methods: got 3", "a dict"),
    ('{"methods": [{}], "scenarios": ["balanced"]}', "experiment.methods: got None", "one of"),
    (
        '{"methods": [{"method": "toppo", "gama": 1}], "scenarios": ["balanced"]}',
        "changes: got",
        "did you mean 'gamma'?",
    ),
    ('{"methods": [{"method": "toppo", "gamma": 2}], "scenarios": ["balanced"]}', "gamma: got 2", "<= 1"),
    ('{"methods": [{"method": "toppo", "learning_rate": NaN}], "scenarios": ["balanced"]}', "", "finite"),
    ('{"methods": [{"method": "frugal", "gamma": 1}], "scenarios": ["balanced"]}', "frugal.gamma: got 1", "parameters"),
    ('{"methods": [{"method": "lower-bound", "x": 1}], "scenarios": ["balanced"]}', "experiment.methods.lower", "no"),
    ('{"methods": ["dqn"], "scenarios": ["blanced"]}', "scenario: got 'blanced'", "did you mean 'balanced'?"),
    ('{"methods": ["dqn"], "scenarios": [3]}', "scenario: got 3", "balanced"),
    ('{"methods": ["dqn"], "scenarios": ["balanced", "balanced"]}', "experiment.scenarios: got", "names of their own"),
    ('{"methods": ["dqn"], "scenarios": [{"base": "blanced"}]}', "scenario: got 'blanced'", "did you mean"),
    ('{"methods": ["dqn"], "scenarios": [{"base": "balanced", "devises": 3}]}', "scenario.devises: got 3", "devices"),
    ('{"methods": ["dqn"], "scenarios": [{"devices": 3}]}', "scenario: got", "tau_max_slots"),
    ('{"methods": ["dqn"], "scenarios": ["balanced"], "seed": 3}', "experiment.seed: got 3", "did you mean 'seeds'?"),
    ('{"methods": ["dqn"], "scenarios": ["balanced"], "seeds": 0}', "experiment.seeds: got 0", ">= 1"),
    ('{"methods": ["dqn"], "scenarios": ["balanced"], "seeds": "3"}', "experiment.seeds: got '3'", "whole number"),
    ('{"methods": ["dqn"], "scenarios": ["balanced"], "seeds": 100000}', "experiment.seeds: got 100000", "<= 1000"),
    ('{"methods": ["dqn"], "scenarios": ["balanced"], "episodes": 0}', "experiment.episodes: got 0", ">= 1"),
    ('{"methods": ["dqn"], "scenarios": ["balanced"], "name": "../x"}', "experiment.name: got '../x'", "letters"),
    ('{"methods": ["dqn"], "scenarios": ["balanced"], "name": ""}', "experiment.name: got ''", "letters"),
    ('{"methods": ["dqn"], "scenarios": ["balanced"], "name": 3}', "experiment.name: got 3", "text"),
    ('{"methods": ["dqn"], "scenarios": ["balanced"], "question": 3}', "experiment.question: got 3", "text"),
]
SCENARIOS = [
    ('{"base": "blanced"}', "scenario: got 'blanced'", "did you mean 'balanced'?"),
    ('{"base": 3}', "scenario: got 3", "balanced"),
    ('{"base": "mine.json"}', "base: got 'mine.json'", "not based on itself"),
    ('{"base": "balanced", "devises": 3}', "scenario.devises: got 3", "did you mean 'devices'?"),
    ('{"base": "balanced", "readings": 3}', "readings: got 3", "a mapping"),
    (
        '{"base": "balanced", "readings": {"drop_rul": "wait"}}',
        "readings.drop_rul: got 'wait'",
        "did you mean 'drop_rule'?",
    ),
    ('{"base": "balanced", "weights": {"dorp": 1}}', "weights.dorp: got 1", "did you mean 'drop'?"),
    ('{"base": "balanced", "weights": [1]}', "weights: got [1]", "a mapping"),
    ('{"base": "balanced", "tau_max_slots": 1e30}', "tau_max_slots: got 1e+30", "<= 1000000"),
    ('{"base": "balanced", "servers": 20000}', "servers: got 20000", "<= 10000"),
    ('{"base": "balanced", "slots": 10000000}', "slots: got 10000000", "<= 1000000"),
    ('{"base": "balanced", "bandwidth_mhz": 5}', "transmission_rate: got", "bandwidth"),
]


def refused(line: str, beginning: str, allowed: str) -> None:
    result = CliRunner().invoke(app, line.split())
    assert isinstance(result.exception, SystemExit), result.exception
    assert result.exit_code == 2 and result.stdout == ""
    [told] = result.stderr.splitlines()
    assert told.startswith(f"error: {beginning}") and ": got " in told, told
    assert allowed in told[told.index(", allowed: ") :] and len(told) < 1_500, told


@pytest.fixture
def here(tmp_path, monkeypatch):
    """A folder with rules and an experiment in it; nothing else may be there afterwards."""
    for name, text in {"rule.py": RULE, "broken.py": "def (", "exits.py": "raise SystemExit(0)"}.items():
        (tmp_path / name).write_text(text, encoding="utf-8")
    good = {"methods": ["frugal"], "scenarios": ["balanced"], "seeds": 1}
    (tmp_path / "mine.json").write_text(json.dumps(good), encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    before = {path.name for path in tmp_path.iterdir()} | {"__pycache__"}
    yield tmp_path
    assert {path.name for path in tmp_path.iterdir()} <= before


@pytest.mark.parametrize("line, beginning, allowed", COMMANDS)
def test_a_bad_command_line_is_refused_in_one_line(here, line, beginning, allowed):
    if line.startswith("tune"):
        line = line.replace("out", str(here)).replace("runs", str(here / "runs"))
    refused(line, beginning, allowed)


@pytest.mark.parametrize("content, beginning, allowed", EXPERIMENTS)
def test_a_bad_file_of_an_experiment_is_refused_in_one_line(here, content, beginning, allowed):
    (here / "mine.json").write_text(content, encoding="utf-8")
    refused("run mine.json", beginning, allowed)


@pytest.mark.parametrize("content, beginning, allowed", SCENARIOS)
def test_a_bad_scenario_file_is_refused_in_one_line(here, content, beginning, allowed):
    (here / "mine.json").write_text(content, encoding="utf-8")
    refused("simulate --scenario mine.json --episodes 1", beginning, allowed)
