"""The ledger of readings and the configuration say the same."""

import re
from pathlib import Path

import pytest

from aiecof.system.scenario import READINGS, SCENARIOS, load_scenario

LEDGER = (Path(__file__).resolve().parent.parent / "book/readings.md").read_text(encoding="utf-8")
ENTRIES = dict(re.findall(r"^### R(\d+) — .*?$(.*?)(?=^\(r\d+\)=|^## |\Z)", LEDGER, flags=re.MULTILINE | re.DOTALL))
CHOICES = dict(re.findall(r"^- \*\*Choice\.\*\* `(\w+)`: (.*)\.$", LEDGER, flags=re.MULTILINE))


def chosen(sentence: str) -> dict[str, str]:
    """Scenario -> value, from "`wait` in table-iii; `deadline` in fitted, balanced"."""
    found = {}
    for value, scenarios in re.findall(r"`(\w+)` (?:in )?([\w, -]+)", sentence):
        names = SCENARIOS if scenarios == "everywhere" else scenarios.split(", ")
        found |= dict.fromkeys(names, value)
    return found


def test_numbers_run_from_1_and_have_anchors():
    numbers = [int(number) for number in re.findall(r"^### R(\d+) — ", LEDGER, flags=re.MULTILINE)]
    anchors = [int(number) for number in re.findall(r"^\(r(\d+)\)=$", LEDGER, flags=re.MULTILINE)]
    assert numbers == anchors == list(range(1, len(numbers) + 1))


def test_every_selectable_reading_has_its_choice():
    assert CHOICES.keys() == READINGS.keys()


@pytest.mark.parametrize("key", READINGS)
def test_ledger_tells_what_each_scenario_chooses(key):
    assert chosen(CHOICES[key]) == {name: getattr(load_scenario(name).readings, key) for name in SCENARIOS}


@pytest.mark.parametrize("key", READINGS)
def test_ledger_names_every_candidate(key):
    [entry] = [text for text in ENTRIES.values() if f"`{key}`:" in text]
    assert set(READINGS[key]) <= set(re.findall(r"`(\w+)`", entry))


def test_code_cites_only_readings_that_exist():
    for path in Path(__file__).resolve().parent.parent.glob("aiecof/**/*.py"):
        cited = set(re.findall(r"\bR(\d+)\b", path.read_text(encoding="utf-8")))
        assert cited <= ENTRIES.keys(), f"{path.name} cites {sorted(cited - ENTRIES.keys())}"
