"""Scenarios: units, the printed values, and one clear error for every kind of bad input."""

import json
import math
import pickle
from dataclasses import fields, replace

import numpy as np
import pytest

from aiecof.checks import InvalidInput
from aiecof.system.scenario import (
    BEYOND,
    READINGS,
    SCENARIOS,
    TABLE_III,
    TASK_KINDS,
    Readings,
    Scenario,
    TaskKind,
    Weights,
    from_units,
    load_scenario,
)
from aiecof.system.workload import draw_trace

BALANCED = load_scenario("balanced")
SHANNON = {"bandwidth_mhz": 5, "channel_gain": [1e-7, 2e-7], "noise_power": 1e-8}
NO_NUMBER = [math.nan, math.inf, -math.inf, True, "3", None, [3], 10**400]


def assert_one_error(error: InvalidInput, field: str, value: object = ...) -> None:
    """The message is one line that names the field, the value and what is allowed."""
    assert error.args[0] == field
    assert str(error).startswith(f"{field}: got ") and ", allowed: " in str(error) and "\n" not in str(error)
    if value is not ...:
        assert repr(value)[:180] in str(error)
    assert len(error.args[2]) > 3


def scenario_file(folder, content) -> str:
    path = folder / "mine.json"
    path.write_text(content if isinstance(content, str) else json.dumps(content), encoding="utf-8")
    return str(path)


# --- what is printed ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", SCENARIOS)
def test_table_iii_is_what_every_scenario_is_made_of(name):
    scenario = load_scenario(name)
    assert (scenario.devices, scenario.servers, scenario.slots) == (30, 8, 100)
    assert scenario.slot_duration == 0.1
    assert scenario.device_frequency == (3.0e9, 5.0e9)
    assert scenario.server_frequency == (30.0e9, 41.8e9)
    assert scenario.transmission_rate == 14e6
    largest = 8e6 if name == "nine-rows" else 10e6  # 2 to 8 Mbit in the text of Section V-A
    assert [kind.size for kind in scenario.task_kinds] == [(2e6, largest)]
    assert scenario.workload_range == (2000e6, 3000e6)
    assert (scenario.waiting_power, scenario.transmission_power) == (0.1, 2.3)
    assert (scenario.arrival_probability, scenario.load_cap) == (0.6, 0.98)
    assert scenario.switched_capacitance == 1e-26


def test_only_table_iii_keeps_the_printed_workload():
    assert load_scenario("table-iii").workload_scale == 1.0
    assert (load_scenario("fitted").workload_scale, load_scenario("balanced").workload_scale) == (0.18, 0.25)


@pytest.mark.parametrize(
    ("name", "sizes"),
    [
        ("services", [(1e6, 3e6), (5e6, 10e6), (3e6, 10e6)]),
        ("factory", [(2e6, 4e6), (5e6, 8e6)]),
        ("uniform", [(2e6, 10e6)]),
    ],
)
def test_task_mixtures_are_the_papers(name, sizes):
    scenario = from_units(TABLE_III | {"tau_max_slots": 8, "task_kinds": name})
    assert [kind.size for kind in scenario.task_kinds] == sizes
    assert math.isclose(sum(kind.share for kind in scenario.task_kinds), 1.0)
    assert set(TASK_KINDS) == {"uniform", "services", "factory"}


def test_derived_values():
    assert BALANCED.actions == 9
    assert math.isclose(BALANCED.tau_max, 0.8)
    assert BALANCED.largest_size == 10e6


# --- units -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "value", "field", "si"),
    [
        ("device_frequency_ghz", [4.35, 5], "device_frequency", (4_350_000_000.0, 5e9)),
        ("device_frequency_mhz", [1.1, 2.3], "device_frequency", (1_100_000.0, 2_300_000.0)),
        ("device_frequency", [3e9, 4e9], "device_frequency", (3e9, 4e9)),
        ("workload_range_megacycles", (0.1, 0.3), "workload_range", (100_000.0, 300_000.0)),
        ("slot_duration_ms", 9, "slot_duration", 0.009),
        ("slot_duration", 0.2, "slot_duration", 0.2),
        ("transmission_rate_mbps", 8.7, "transmission_rate", 8_700_000.0),
    ],
)
def test_units_are_converted_exactly(tmp_path, name, value, field, si):
    path = scenario_file(tmp_path, {"tau_max_slots": 8, name: value})
    assert getattr(load_scenario(path), field) == si


def test_a_field_in_two_units_is_refused(tmp_path):
    path = scenario_file(tmp_path, {"tau_max_slots": 8, "slot_duration": 0.1, "slot_duration_ms": 100})
    with pytest.raises(InvalidInput) as caught:
        load_scenario(path)
    assert_one_error(caught.value, "slot_duration")


def test_a_file_may_replace_the_rate_by_a_shannon_channel(tmp_path):
    scenario = load_scenario(scenario_file(tmp_path, {"tau_max_slots": 8, **SHANNON}))
    assert scenario.transmission_rate is None
    assert (scenario.bandwidth, scenario.channel_gain, scenario.noise_power) == (5e6, (1e-7, 2e-7), 1e-8)


@pytest.mark.parametrize("missing", SHANNON)
def test_half_a_shannon_channel_is_refused(tmp_path, missing):
    content = {"tau_max_slots": 8} | {name: value for name, value in SHANNON.items() if name != missing}
    with pytest.raises(InvalidInput) as caught:
        load_scenario(scenario_file(tmp_path, content))
    assert_one_error(caught.value, "transmission_rate")


def test_a_rate_and_a_channel_are_refused(tmp_path):
    path = scenario_file(tmp_path, {"tau_max_slots": 8, "transmission_rate_mbps": 14, **SHANNON})
    with pytest.raises(InvalidInput) as caught:
        load_scenario(path)
    assert_one_error(caught.value, "transmission_rate", 14e6)


# --- bad values, field by field ----------------------------------------------------------------------------------

WHOLE = ["devices", "servers", "slots", "tau_max_slots"]
POSITIVE = ["slot_duration", "workload_scale", "switched_capacitance", "transmission_power", "transmission_rate"]
POSITIVE += ["first_server_scale"]
SHARES = ["arrival_probability", "load_cap"]
RANGES = ["device_frequency", "server_frequency", "workload_range"]
BAD = [
    *((name, value) for name in WHOLE for value in [0, -1, 2.0, *NO_NUMBER[:-1]]),
    *(
        (name, value)
        for name in POSITIVE
        for value in [0, -1, *NO_NUMBER]
        if (name, value) != ("transmission_rate", None)
    ),
    *((name, value) for name in SHARES for value in [0, -0.1, 1.1, *NO_NUMBER]),
    *(("waiting_power", value) for value in [-1e-9, *NO_NUMBER]),
    *((name, value) for name in RANGES for value in [(5.0, 3.0), 3.0, (1.0,), (1.0, 2.0, 3.0), "34", None, {}, {1, 2}]),
    *(("task_kinds", value) for value in ["services", (), [], 3, [("a", (1, 2))], (TaskKind("a", (1, 2), 0.4),)]),
    *(("weights", value) for value in [None, (1, 2, 3, 4), {"delay": 1}]),
    *(("readings", value) for value in [None, "wait", {"drop_rule": "wait"}]),
    *(("name", value) for value in [None, 3]),
]


@pytest.mark.parametrize(("name", "value"), BAD, ids=[f"{name}={str(value)[:20]}" for name, value in BAD])
def test_a_bad_value_is_refused_and_named(name, value):
    with pytest.raises(InvalidInput) as caught:
        BALANCED.replace(**{name: value})
    shown = [kind.share for kind in value] if name == "task_kinds" and isinstance(value, tuple) else value
    assert_one_error(caught.value, name, shown)


@pytest.mark.parametrize("name", RANGES)
@pytest.mark.parametrize("value", [0.0, -1.0, *NO_NUMBER])
def test_a_bad_end_of_a_range_is_refused_and_named(name, value):
    for position, pair in enumerate([(value, 5e9), (1.0, value)]):
        with pytest.raises(InvalidInput) as caught:
            BALANCED.replace(**{name: pair})
        assert_one_error(caught.value, f"{name}[{position}]", value)


@pytest.mark.parametrize("name", ["bandwidth", "noise_power"])
@pytest.mark.parametrize("value", [0.0, -1.0, *NO_NUMBER])
def test_a_bad_channel_is_refused_and_named(name, value):
    channel = {"transmission_rate": None, "bandwidth": 5e6, "channel_gain": (1e-7, 2e-7), "noise_power": 1e-8}
    with pytest.raises(InvalidInput) as caught:
        BALANCED.replace(**channel | {name: value})
    assert_one_error(caught.value, name if value is not None else "transmission_rate")


@pytest.mark.parametrize("name", [entry.name for entry in fields(Weights)])
@pytest.mark.parametrize("value", [-0.1, 1.1, *NO_NUMBER])
def test_a_bad_weight_is_refused_and_named(name, value):
    with pytest.raises(InvalidInput) as caught:
        Weights(**{name: value})
    assert_one_error(caught.value, f"weights.{name}", value)


@pytest.mark.parametrize("name", READINGS)
@pytest.mark.parametrize("value", ["nonsense", "", None, 1, ["none"]])
def test_an_unknown_reading_is_refused_and_named(name, value):
    with pytest.raises(InvalidInput) as caught:
        BALANCED.replace(**{name: value})
    assert_one_error(caught.value, f"readings.{name}", value)
    assert all(candidate in caught.value.args[2] for candidate in READINGS[name])


@pytest.mark.parametrize("value", [0.0, 1.5, *NO_NUMBER])
def test_a_bad_task_kind_is_refused_and_named(value):
    with pytest.raises(InvalidInput) as caught:
        TaskKind("text", (1e6, 2e6), share=value)
    assert_one_error(caught.value, "task_kinds.text.share", value)
    with pytest.raises(InvalidInput) as caught:
        TaskKind("text", (value, 2e6)) if value != 1.5 else TaskKind("text", (2.0, value))
    assert caught.value.args[0].startswith("task_kinds.text.size")


# --- bad files and names -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["nonsense", "", "BALANCED", None, 3, ["balanced"]])
def test_an_unknown_scenario_is_refused(name):
    with pytest.raises(InvalidInput) as caught:
        load_scenario(name)
    assert_one_error(caught.value, "scenario", name)
    assert all(known in caught.value.args[2] for known in SCENARIOS)


@pytest.mark.parametrize(
    "content", ["", "{", "[1, 2]", '"balanced"', "null", "{" * 100_000, "[" * 100_000, '{"a": 1,}']
)
def test_a_damaged_file_is_refused(tmp_path, content):
    with pytest.raises(InvalidInput) as caught:
        load_scenario(scenario_file(tmp_path, content))
    assert caught.value.args[0] == "scenario"


def test_a_file_that_is_not_there_or_not_text_is_refused(tmp_path):
    with pytest.raises(InvalidInput, match="nowhere.json"):
        load_scenario(str(tmp_path / "nowhere.json"))
    (tmp_path / "folder.json").mkdir()
    with pytest.raises(InvalidInput, match="folder.json"):
        load_scenario(str(tmp_path / "folder.json"))
    (tmp_path / "bytes.json").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(InvalidInput, match="bytes.json"):
        load_scenario(str(tmp_path / "bytes.json"))


@pytest.mark.parametrize(
    ("content", "field"),
    [
        ({"device_frequenzy": [1, 2]}, "scenario.device_frequenzy"),
        ({"weights": {"delays": 0.1}}, "weights.delays"),
        ({"weights": [0.1, 0.2]}, "weights"),
        ({"readings": {"drop": "wait"}}, "readings.drop"),
        ({"readings": "wait"}, "readings"),
        ({"task_kinds": "pictures"}, "task_kinds"),
        ({"task_kinds": [1]}, "task_kinds"),
        ({"task_kinds": {"text": [1, 2]}}, "task_kinds.text"),
        ({"task_kinds": {"text": {}}}, "task_kinds.text.size"),
        ({"task_kinds": {"text": {"size_mbit": [1, 2], "colour": 1}}}, "task_kinds.text.colour"),
        ({"task_kinds": {"text": {"size_mbit": [0, 2]}}}, "task_kinds.text.size_mbit"),
        ({"slot_duration_ms": "100"}, "slot_duration_ms"),
        ({"slot_duration_ms": math.nan}, "slot_duration_ms"),
        ({"device_frequency_ghz": [5, 3]}, "device_frequency"),
        ({"device_frequency_ghz": {"low": 3}}, "device_frequency_ghz"),
    ],
)
def test_a_wrong_entry_of_a_file_is_named(tmp_path, content, field):
    with pytest.raises(InvalidInput) as caught:
        load_scenario(scenario_file(tmp_path, {"tau_max_slots": 8} | content))
    assert_one_error(caught.value, field)


def test_a_missing_field_is_named(tmp_path):
    with pytest.raises(InvalidInput, match="none for tau_max_slots"):
        load_scenario(scenario_file(tmp_path, {"devices": 3}))
    for name in TABLE_III:
        without = {key: value for key, value in TABLE_III.items() if key != name}
        field = "transmission_rate" if name.startswith("transmission_rate") else "scenario"
        with pytest.raises(InvalidInput) as caught:
            from_units(without | {"tau_max_slots": 8})
        assert_one_error(caught.value, field)


@pytest.mark.parametrize("table", [None, [1], "balanced", {1: 2}])
def test_a_table_that_is_no_mapping_is_refused(table):
    with pytest.raises(InvalidInput) as caught:
        from_units(table)
    assert_one_error(caught.value, "scenario", table)


# --- copies and fingerprints -------------------------------------------------------------------------------------


def test_replace_changes_fields_and_readings_and_nothing_else():
    changed = BALANCED.replace(devices=5, drop_rule="wait", load_sign="plus")
    assert (changed.devices, changed.readings.drop_rule, changed.readings.load_sign) == (5, "wait", "plus")
    assert changed.replace(devices=30, drop_rule="deadline", load_sign="minus") == BALANCED
    assert BALANCED.replace(readings=Readings(load="literal"), drop_rule="wait").readings == Readings(
        load="literal", drop_rule="wait"
    )
    with pytest.raises(InvalidInput) as caught:
        BALANCED.replace(device=5)
    assert_one_error(caught.value, "scenario.device", 5)


def test_every_reading_has_a_default_among_its_candidates():
    assert {entry.name for entry in fields(Readings)} == set(READINGS)
    assert all(len(set(candidates)) == len(candidates) >= 2 for candidates in READINGS.values())


def test_a_fingerprint_depends_on_everything_but_the_name():
    assert BALANCED.replace(name="other").fingerprint == BALANCED.fingerprint
    shannon = {"transmission_rate": None, "bandwidth": 5e6, "channel_gain": (1e-7, 2e-7), "noise_power": 1e-8}
    changes = [
        *({name: getattr(BALANCED, name) + 1} for name in WHOLE),
        *({name: getattr(BALANCED, name) / 2} for name in [*POSITIVE, *SHARES, "waiting_power"]),
        *({name: (1.0, 2.0)} for name in RANGES),
        {"task_kinds": (TaskKind("text", (1e6, 2e6)),)},
        {"weights": Weights(delay=0.3)},
        *({name: next(c for c in READINGS[name] if c != getattr(BALANCED.readings, name))} for name in READINGS),
        shannon,
        *({name: 2} for name in ("arrivals_per_slot", "reach", "beacon_slots")),
        *({name: 0.5} for name in ("fading_scale", "background_load")),
        *({name: 20.0} for name in ("fading_slots", "background_slots")),
        {"bursts": load_scenario("bursty").bursts},
    ]
    prints = [BALANCED.replace(**change).fingerprint for change in changes]
    assert len({BALANCED.fingerprint, *prints}) == len(changes) + 1
    assert {name for change in changes for name in change} >= {e.name for e in fields(Scenario)} - {"name", "readings"}


def test_what_came_later_leaves_the_fingerprint_as_it_was():
    """Results of the first edition are stored under it."""
    assert BALANCED.fingerprint == "62a806f59477917c"
    assert BALANCED.replace(first_server_scale=1, kinds_by="task").fingerprint == BALANCED.fingerprint


def test_equal_scenarios_have_equal_fingerprints_however_they_were_written():
    other = BALANCED.replace(
        devices=np.int64(30), waiting_power=np.float64(0.1), device_frequency=[3_000_000_000, 5_000_000_000]
    ).replace(workload_scale=np.float32(0.25), arrival_probability=0.6, task_kinds=list(BALANCED.task_kinds))
    assert other == BALANCED and other.fingerprint == BALANCED.fingerprint and hash(other) == hash(BALANCED)
    whole, real = BALANCED.replace(arrival_probability=1), BALANCED.replace(arrival_probability=1.0)
    assert whole.fingerprint == real.fingerprint


def test_an_error_survives_the_way_between_processes():
    error = InvalidInput("devices", 0, "a whole number >= 1")
    assert str(pickle.loads(pickle.dumps(error))) == str(error) == "devices: got 0, allowed: a whole number >= 1"


@pytest.mark.parametrize("name", BEYOND)
def test_each_scenario_beyond_the_paper_changes_balanced_in_what_it_is_about(name):
    scenario, base = load_scenario(name), load_scenario("balanced")
    about = {
        "bursty": {"bursts", "arrivals_per_slot", "task_kinds", "workload_range"},
        "hidden-clocks": {"device_frequency", "server_frequency"},
        "fading": {"fading_scale"},
        "slow-fading": {"fading_scale", "fading_slots"},
        "background": {"background_load"},
        "beacons": {"beacon_slots", "servers", "server_frequency"},
    }[name]
    slow = set() if name in ("bursty", "hidden-clocks") else {"device_frequency", "transmission_rate", "weights"}
    changed = {entry.name for entry in fields(scenario) if getattr(scenario, entry.name) != getattr(base, entry.name)}
    assert changed - {"name", "readings"} == about | slow


@pytest.mark.parametrize("change", [{"swing": 0.5}, {"size_mean_mbit": 3}, {"size_mean": 3e6, "swing": 0.1}])
def test_a_scenario_changes_some_of_the_bursts_that_it_is_based_on(change):
    base = load_scenario("bursty").bursts
    found = load_scenario({"base": "bursty", "bursts": change}).bursts
    expected = {name.removesuffix("_mbit"): v * 1e6 if name.endswith("_mbit") else v for name, v in change.items()}
    assert found == replace(base, **expected) != base
    assert load_scenario({"base": "bursty", "bursts": None}).bursts is None
    for wrong in (5, {"swing": 2}, {"swung": 0.5}):
        with pytest.raises(InvalidInput, match="^bursts"):
            load_scenario({"base": "bursty", "bursts": wrong})


def test_bursty_has_the_statistics_that_it_is_fitted_to():
    """Those quoted with the scenario, over many networks: which devices are busy is drawn with the network."""
    scenario, counts, size, work, busiest = load_scenario("bursty"), [], [], [], []
    for seed in range(12):
        trace = draw_trace(scenario, 40, seed, split="reference")
        slots = trace.has_task.reshape(40, 100, 8, 30)
        counts.append(slots.sum(axis=(2, 3)).reshape(40, 10, 10).sum(axis=2))
        own = np.sort(slots.sum(axis=(0, 1, 2)))[::-1]
        busiest.append(own[:3].sum() / own.sum())
        size.append(trace.size[trace.has_task])
        work.append((trace.size * trace.density)[trace.has_task])
    seconds, size, work = np.concatenate(counts), np.concatenate(size), np.concatenate(work)
    away = seconds - seconds.mean()
    assert (away**2).mean() / seconds.mean() == pytest.approx(13.2, rel=0.15)
    assert (away[:, 1:] * away[:, :-1]).mean() / (away**2).mean() == pytest.approx(0.76, abs=0.05)
    assert size.std() / size.mean() == pytest.approx(0.96, rel=0.05)
    assert work.std() / work.mean() == pytest.approx(2.15, rel=0.1)
    assert np.mean(busiest) == pytest.approx(0.57, abs=0.02)
    assert seconds.mean() == pytest.approx(180, rel=0.05)
    assert (size.mean(), work.mean()) == pytest.approx((6e6, 625e6), rel=0.05)
