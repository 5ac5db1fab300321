"""The search over readings: its numbers by another route, its rules, and what it left in `results/`."""

import numpy as np
import pandas as pd
import pytest
from aiecof_book import blind
from typer.testing import CliRunner

from aiecof.agents.policies import episode_metrics, record_actions
from aiecof.agents.rules import make_policy
from aiecof.agents.training import train
from aiecof.cli import results as commands
from aiecof.cli.app import app
from aiecof.reconstruction import calibration, reward_agreement, statements, tuning
from aiecof.reconstruction.calibration import CHOICES, COLUMNS, CONSTANTS, DYNAMICS, MEASURES, SEARCHED
from aiecof.study import store
from aiecof.study.experiments import network
from aiecof.study.grids import LEARNED, UNTRAINED
from aiecof.study.paper import NAMES, printed_rows
from aiecof.study.store import read_table
from aiecof.system import reference
from aiecof.system.scenario import READINGS, load_scenario
from aiecof.system.simulator import Simulator
from aiecof.system.workload import draw_trace

FITTED = load_scenario("fitted")
SCALED = {"family": "d: cycles a task, scaled"}
FIRST = {name: values[0] for name, values in CHOICES.items()}


def candidate(name, **changes):
    """A scenario as a candidate."""
    scenario = load_scenario(name)
    constants = {key: getattr(scenario, key) for key in ("workload_scale", *CONSTANTS)}
    readings = {key: getattr(scenario.readings, key) for key in (*DYNAMICS, *MEASURES)}
    return SCALED | constants | readings | FIRST | changes


def row_of(rows, wanted):
    """The one row with the values of a candidate."""
    names = [name for name in (*MEASURES, *CHOICES) if name in wanted]
    [row] = rows[(rows[names] == pd.Series(wanted)[names]).all(axis=1)].to_dict("records")
    return row


# --- numbers by another route ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "choice", [{}, {"places": "all_but_one", "order": "shared"}, {"levels": 2, "order": "first"}, {"places": "servers"}]
)
def test_errors_by_another_route(choice):
    """`fitted` as a candidate: the worst deviation of the two rules, played slot by slot on other traces."""
    wanted = candidate("fitted", **choice)
    row = row_of(calibration.candidate_errors(wanted, 20, ("busy_share",)), wanted)
    scenario = FITTED.replace(network="episode")
    rules = {name: {key: wanted[key] for key in keys} for name, keys in PARAMETERS.items()}
    played = {name: episode_metrics(make_policy(name, scenario, **p), scenario, 40) for name, p in rules.items()}
    for column in COLUMNS:
        ours = {name: played[name][column].mean() / printed_rows().loc[NAMES[name], column] for name in UNTRAINED}
        assert row[f"error_{column}"] == pytest.approx(max(abs(ratio - 1) for ratio in ours.values()), abs=0.04)
    assert row["error"] == max(row[f"error_{column}"] for column in COLUMNS)


PARAMETERS = {"random": ("levels",), "round-robin": ("places", "order")}


@pytest.mark.parametrize("load", calibration.RUNS[1:])
def test_literal_loads_by_the_event_simulation(load):
    """One episode of both rules under another candidate, whose energy and load are added up from the tasks."""
    wanted = candidate("fitted", load=load, load_mean="decisions", energy_mean="slots", device_rounding="ceil")
    scenario = calibration.candidate_scenario(wanted)
    trace = draw_trace(scenario, 1, split="reference")
    for rule, ours in zip(UNTRAINED, calibration.numbers(wanted, 1)[:, 0], strict=True):
        actions = record_actions(make_policy(rule, scenario), scenario, trace)
        tasks = reference.simulate(scenario, trace, actions)[0]
        done, there = tasks[tasks["fate"] == 1], tasks[tasks["fate"] > 0]
        energy = sum(tasks[f"{part}_energy"].sum() for part in ("waiting", "transmission", "computing"))
        expected = [done["delay_slots"].mean() * scenario.slot_duration, energy / tasks.size]
        expected += [1 - len(done) / len(there), there["load"].mean()]
        np.testing.assert_allclose(ours, expected, rtol=1e-9)


# --- departures --------------------------------------------------------------------------------------------------


def test_a_departure_without_effect_does_not_count():
    """A share of tasks has no mean over slots; what a dropped task has cost does not matter among completed ones."""
    silent = {"load_mean": "decisions", "dropped_energy": "none"}
    spoken = {"load": "local_share", "energy_mean": "completed", "channel_queue": "none", "order": "first"}
    found = calibration.put_back(candidate("balanced", **silent, **spoken))
    assert found == candidate("balanced", **spoken)
    assert calibration.departures(pd.DataFrame([found])).tolist() == [len(spoken)]


def test_a_departure_counts_as_soon_as_it_has_an_effect():
    for changes in ({"load_mean": "decisions"}, {"dropped_energy": "none"}, {"order": "slot"}, {"levels": 2}):
        assert calibration.put_back(candidate("balanced", **changes)) == candidate("balanced", **changes)


def test_a_density_is_a_departure():
    table = pd.DataFrame([candidate("balanced"), candidate("balanced") | {"family": "e: cycles/bit, scaled"}])
    assert calibration.departures(table).tolist() == [0, 1]


def test_equals_are_those_within_the_spread_of_the_best():
    best = candidate("fitted", error=0.1)
    twin = best | {"in_flight": "exclude"}
    far = best | {"error": 0.5}
    numbers = calibration.numbers(best, calibration.FINE)
    tie = np.max(np.std(numbers, axis=1, ddof=1) / np.mean(numbers, axis=1))
    for error, count in ((0.1 + 0.9 * tie, 2), (0.1 + 1.1 * tie, 1)):
        found = calibration.equals(pd.DataFrame([far, twin | {"error": error}, best]))
        assert len(found) == count and found["tie"].iloc[0] == pytest.approx(tie)
    assert found["departures"].tolist() == [4]


# --- the learned rows as evidence --------------------------------------------------------------------------------


def test_fit_recovers_a_known_share():
    """Coins that pass through a printed row at .7 and miss it the more the farther away their share is."""
    row = printed_rows().loc["DQN", list(COLUMNS)].to_numpy(float)
    shares = np.array(calibration.SHARES)
    coins = row * (1.0 + np.array([1.0, -2.0, 0.5, 1.5]) * (shares - 0.7)[:, None, None])
    share, error = calibration.fit_shares(coins)
    assert share[LEARNED.index("dqn"), 0] == pytest.approx(0.7) and error[LEARNED.index("dqn"), 0] < 1e-9
    assert (np.delete(error[:, 0], LEARNED.index("dqn")) > 0.01).all()


def test_learned_rows_by_another_route():
    """One coin on `fitted`, played on other traces, misses a row as the fit says that it does."""
    wanted = candidate("fitted", error=0.1, departures=4)
    judged = calibration.judge(pd.DataFrame([wanted])).iloc[0]
    scenario = FITTED.replace(network="episode")
    for method in ("toppo", "d3qn"):
        coin = make_policy("mixture-random", scenario, local_probability=judged[f"share_{method}"])
        metrics = episode_metrics(coin, scenario, 20)
        ratios = [metrics[name].mean() / printed_rows().loc[NAMES[method], name] for name in COLUMNS]
        assert judged[f"error_{method}"] == pytest.approx(np.abs(np.array(ratios) - 1).max(), abs=0.05)
    assert judged["error_nine"] == max(judged[f"error_{method}"] for method in LEARNED)
    assert judged["local_wins"] and judged["short"] <= 0


# --- statements about rules --------------------------------------------------------------------------------------


def numbers_of(*candidates, **options):
    return statements.rule_numbers(pd.DataFrame(candidates), **options)


def test_what_rules_come_to_by_another_route():
    """The best coin, the best opening and always at home on one candidate, played slot by slot on the same tasks."""
    found = numbers_of(candidate("fitted")).iloc[0]
    scenario = network("fitted", "printed", network="episode")
    trace = draw_trace(scenario, calibration.JUDGED, split="reference")
    played = {
        share: episode_metrics(
            make_policy("mixture-random", scenario, local_probability=share), scenario, calibration.JUDGED, trace=trace
        )
        for share in (0.0, 0.74, 0.76, 0.78, 0.8, 1.0)
    }
    rewards = {share: metrics["reward"].mean() for share, metrics in played.items()}
    assert found["coin_reward"] == pytest.approx(max(rewards.values()), rel=1e-9)
    assert abs(found["kept"] - max(rewards, key=rewards.get)) < 0.03
    assert found["home_drops"] == pytest.approx(played[1.0]["drop_rate"].mean(), rel=1e-9)
    tasks = (trace.size > 0).cumsum(axis=1)
    away = record_actions(make_policy("mixture-random", scenario, local_probability=0.0), scenario, trace)
    run = Simulator(scenario)
    run.run(trace, np.where(tasks <= found["opening"], away, 0))
    assert found["coin_reward"] + found["opening_lead"] == pytest.approx(run.metrics()["reward"].mean(), rel=1e-9)


def test_committed_numbers_are_those_of_the_book_on_the_representatives():
    """On other tasks and networks; and they are computed again, whoever else is computed beside, by two processes."""
    rules, tied = read_table("calibration_rules.parquet"), read_table("calibration_tied.parquet")
    keys = ["workload_scale", *SEARCHED]
    pd.testing.assert_frame_equal(rules[keys], tied[keys])
    pair = calibration.representatives(tied)
    places = [tied.index[(tied[keys] == row[keys]).all(axis=1)].item() for _, row in pair.iterrows()]
    committed, turned = rules.loc[places], places[::-1]
    again = numbers_of(*tied.loc[turned].to_dict("records"), jobs=2).set_index(pd.Index(turned)).loc[places]
    pd.testing.assert_frame_equal(again, committed)
    for name, row in zip(pair.index, committed.to_dict("records"), strict=True):
        coins = blind.coins(name, **blind.PRINTED)
        mean = coins.groupby("value").mean()
        assert row["kept"] == pytest.approx(coins["reward"].unstack().idxmax(axis=1).mean(), abs=0.03)
        assert row["coin_reward"] == pytest.approx(mean["reward"].max(), rel=0.03)
        assert row["home_drops"] == pytest.approx(mean.loc[1.0, "drop_rate"], rel=0.15)
        lead = blind.openings(name).groupby("value")["reward"].mean().max() - mean["reward"].max()
        assert row["opening_lead"] == pytest.approx(lead, rel=0.15)
        own = blind.coins(name).groupby("value").mean()
        assert row["kept_cost"] == own["cost"].idxmin()
        until = blind.coins(name, **(blind.PRINTED | {"dropped_energy": "spent"}))
        assert row["kept"] - row["kept_fewer"] == pytest.approx(
            until["reward"].unstack().idxmax(axis=1).mean(), abs=0.04
        )


def test_statements_fail_on_systems_that_are_bent():
    """On `plain` with a deadline that no server meets, with none at all, with devices that are swamped."""
    bent = [{}, {"tau_max_slots": 2}, {"tau_max_slots": 20, "workload_scale": 0.02}, {"workload_scale": 0.5}]
    plain, short, none, swamped = numbers_of(*(candidate("plain", **changes) for changes in bent)).to_dict("records")
    assert plain["kept_cost"] == 1 and plain["home_saves_low"] > 0 and plain["more_drops_low"] > 0.05
    assert short["more_drops"] < 0 and short["kept_cost"] == 0 and short["home_saves"] < 0
    assert none["home_drops"] == none["more_drops"] == 0 and none["kept_fewer"] == 0
    assert plain["kept_fewer_low"] > 0.05
    assert swamped["home_drops"] > 0.8 and swamped["off_drop_rate"] > 5 > abs(plain["off_drop_rate"])


def test_a_payment_for_the_other_thing_moves_the_best_coin(monkeypatch):
    """With the energy compared with a fixed number the best coin keeps everything, and no opening earns more."""
    usual = numbers_of(candidate("plain")).iloc[0]
    fixed = statements.ARMS["printed"] | {"energy_reference": "random_policy"}
    monkeypatch.setattr(statements, "ARMS", {"printed": fixed, "spent": fixed | {"dropped_energy": "spent"}})
    bent = numbers_of(candidate("plain")).iloc[0]
    assert 0.7 < usual["kept"] < 0.82 and bent["kept"] == 1
    assert usual["opening_lead"] > 10 and bent["opening"] == 0 and bent["opening_lead"] == 0


def test_the_command_makes_the_numbers_alone_from_the_candidates_that_are_there(tmp_path, monkeypatch):
    for module in (commands, store):
        monkeypatch.setattr(module, "home", lambda: tmp_path)
    monkeypatch.setattr(calibration, "search", None)
    refused = CliRunner().invoke(app, ["calibrate", "--rules"])
    assert refused.exit_code == 2 and "`aiecof calibrate` without --rules makes it" in refused.output
    tied = calibration.representatives(read_table("calibration_tied.parquet")).reset_index(drop=True)
    store.write_table("calibration_tied.parquet", tied, tmp_path / "results")
    assert CliRunner().invoke(app, ["calibrate", "--rules"]).exit_code == 0
    found = read_table("calibration_rules.parquet", tmp_path / "results")
    pd.testing.assert_frame_equal(found, statements.rule_numbers(tied))
    assert sorted(store.manifest(tmp_path / "results").files) == [
        "calibration_rules.parquet",
        "calibration_tied.parquet",
    ]


# --- the choice --------------------------------------------------------------------------------------------------


def judged(*rows):
    """Candidates by departures, error, worst error of nine rows, mean error of the learned ones, and a reading."""
    names = ["departures", "error", "error_nine", "mean", "drop_rule"]
    table = pd.DataFrame(rows, columns=names).assign(**{name: "same" for name in DYNAMICS if name != "drop_rule"})
    return table.assign(**{f"error_{method}": table["mean"] for method in LEARNED})


def chosen(*rows):
    table = calibration.representatives(judged(*rows))
    return table["error_nine"].to_dict(), table["mean"].to_dict()


def test_representatives_follow_the_written_rule():
    rows = [(2, 0.08, 0.3, 0.1, "wait"), (1, 0.09, 0.25, 0.1, "wait"), (1, 0.07, 0.4, 0.1, "wait")]
    assert chosen(*rows, (3, 0.09, 0.2, 0.1, "wait"))[0] == {"plain": 0.4, "nine-rows": 0.2}


def test_of_equal_ones_the_first_by_departures_and_error_stands_for_nine_rows():
    rows = [(1, 0.07, 0.4, 0.4, "wait"), (4, 0.1, 0.2, 0.01, "wait"), (3, 0.11, 0.2, 0.02, "wait")]
    equals = [(3, 0.1, 0.2 + 1e-12, 0.03, "wait"), (3, 0.1, 0.2, 0.04, "wait")]
    assert chosen(*rows, *equals)[1] == {"plain": 0.4, "nine-rows": 0.03}


def test_the_second_representative_moves_tasks_differently_if_both_would_be_one():
    rows = [(1, 0.07, 0.2, 0.1, "wait"), (2, 0.07, 0.21, 0.1, "wait"), (2, 0.08, 0.3, 0.1, "deadline")]
    assert chosen(*rows)[0] == {"plain": 0.2, "nine-rows": 0.3}


def test_committed_representatives_are_the_scenarios_of_that_name():
    chosen = calibration.representatives(read_table("calibration_tied.parquet"))
    for name, row in chosen.iterrows():
        found, scenario = calibration.candidate_scenario(row.to_dict()), load_scenario(name)
        same = {key: getattr(found.readings, key) for key in ("workload", *DYNAMICS, *MEASURES)}
        assert {key: getattr(scenario.readings, key) for key in same} == same
        for key in ("tau_max_slots", "largest_size"):
            assert getattr(scenario, key) == getattr(found, key)
        assert scenario.workload_scale == pytest.approx(found.workload_scale, rel=1e-9)


def test_committed_candidates_are_put_back_and_tied():
    tied = read_table("calibration_tied.parquet")
    assert not tied.duplicated(["workload_scale", *SEARCHED]).any()
    assert (tied["error"] <= tied["error"].min() + tied["tie"]).all()
    assert tied["departures"].equals(calibration.departures(tied))
    for row in tied.sample(5, random_state=0)[["workload_scale", *SEARCHED]].to_dict("records"):
        assert calibration.put_back(row) == row


def test_untrained_rows_come_out_within_a_quarter():
    """Random and Round-Robin on `fitted`, over its seeds, beside Table IV."""
    rows = read_table("table_iv.csv")
    for rule, name in NAMES.items():
        if rule in UNTRAINED:
            ours = rows[(rows["scenario"] == "fitted") & (rows["method"] == rule)][list(COLUMNS)].mean()
            assert np.all(np.abs(ours / printed_rows().loc[name, list(COLUMNS)] - 1) < 0.25)


def test_identifiability_rules_out_what_is_beyond_the_tie():
    candidates = pd.DataFrame([dict.fromkeys(SEARCHED, "x") | {"error": 0.1}] * 2)
    candidates.loc[1, ["family", "error"]] = "y", 0.3
    table = calibration.identifiability(candidates, tie=0.15).set_index(["reading", "value"])
    assert table.loc[("family", "y"), "ruled_out"] and not table.loc[("family", "x"), "ruled_out"]
    assert table.loc[("drop_rule", "x"), "error"] == 0.1


def test_a_small_search_finds_what_is_known(monkeypatch):
    """Of four deadlines on `fitted`'s other values, 7 slots."""
    families = {SCALED["family"]: ("per_task", (0.18,))}
    for name, value in {"FAMILIES": families, "FACTORS": (1.0,), "COARSE": 2, "FINE": 4}.items():
        monkeypatch.setattr(calibration, name, value)
    monkeypatch.setattr(calibration, "CONSTANTS", {"tau_max_slots": (6, 7, 8, 20), "largest_size": (10e6,)})
    usual = {name: (getattr(FITTED.readings, name),) for name in DYNAMICS}
    monkeypatch.setattr(calibration, "READINGS", READINGS | usual)
    found = calibration.search()
    assert found["tau_max_slots"].iloc[0] == 7 and set(found["tau_max_slots"]) == {6, 7, 8, 20}
    assert found["error"].is_monotonic_increasing and found["error"].iloc[0] < 0.1


# --- the reward --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["balanced", "fitted"])
def test_default_reward_ranks_rules_as_the_objective_does(name):
    """Spearman's rho by scipy over fresh simulations; at least forty rules."""
    from scipy.stats import spearmanr

    scenario = load_scenario(name, network="episode")
    rules = reward_agreement.rules(scenario)
    assert len(rules) >= 40
    means = [episode_metrics(make_policy(rule, scenario, **changes), scenario, 10) for rule, changes in rules]
    reward, cost = ([entry[key].mean() for entry in means] for key in ("reward", "cost"))
    assert spearmanr(reward, [-value for value in cost]).statistic >= reward_agreement.AGREEMENT


def test_committed_weights_are_the_nearest_that_agree():
    table = read_table("reward_agreement.csv")
    readings, weights = load_scenario("balanced").readings, load_scenario("balanced").weights
    chosen = {name: getattr(readings, name) for name in reward_agreement.REWARDS}
    [row] = table[(table[list(chosen)] == pd.Series(chosen)).all(axis=1)].to_dict("records")
    assert {term: row[f"weight_{term}"] for term in reward_agreement.TERMS} == pytest.approx(vars(weights))


# --- the search for hyperparameters ------------------------------------------------------------------------------


def test_everyone_gets_the_same_draws_and_the_printed_values():
    for name in LEARNED:
        first, *others = tuning.configurations(name)
        assert len(others) == tuning.CONFIGURATIONS - 1 >= 15 and others == tuning.configurations(name)[1:]
        assert (first["gamma"], first["learning_rate"]) == (0.9, 1e-3) and first.get("batch_size", 64) == 64
        assert len({str(entry) for entry in others}) == len(others)
        assert {entry["gamma"] for entry in others} > {0.5, 0.99}
    assert tuning.configurations("dqn") == tuning.configurations("d3qn")


def test_the_better_half_is_chosen_by_both_judges_in_turn():
    rows = pd.DataFrame({"configuration": range(6), "reward": [6, 5, 4, 3, 2, 1], "cost": [6, 5, 4, 3, 1, 2]})
    assert tuning.better_half(rows) == [0, 4, 1]


@pytest.fixture
def tiny_search(monkeypatch):
    """Four configurations of two methods on one small network, half of which are stopped after two of four episodes."""
    small = load_scenario("balanced", devices=4, servers=2, slots=20)
    values = {"CONFIGURATIONS": 4, "SEARCH_EPISODES": 4, "FIRST_EPISODES": 2, "LAST": 1, "LEARNED": ("a2c", "toppo")}
    values |= {"SEARCHED": (("balanced", ""),), "network": lambda name, arm: small}
    for name, value in values.items():
        monkeypatch.setattr(tuning, name, value)
    return small


@pytest.mark.slow
def test_half_of_a_search_is_stopped_and_the_rest_is_trained_as_if_never_interrupted(tiny_search, tmp_path):
    done = []
    *_, found = tuning.search(pd.DataFrame(), tmp_path / "runs", on_run=done.append)
    assert done == list(range(1, 2 * 2 * (4 + 2) + 1)) and len(found) == 8
    assert (found.groupby("method")["stopped"].sum() == 2).all()
    for row in found.itertuples():
        values = tuning.configurations(row.method)[row.configuration]
        curves = [
            train(
                row.method, tiny_search, 4, seed, tmp_path / f"{row.method}-{row.configuration}-{seed}", **values
            ).curve
            for seed in tuning.TUNING_SEEDS
        ]
        last = 1 if row.stopped else 3
        for judge in ("reward", "cost"):
            assert getattr(row, judge) == pytest.approx(np.mean([curve[judge][last] for curve in curves]), rel=1e-9)


@pytest.mark.slow
def test_a_search_goes_on_where_it_was(tiny_search, tmp_path, monkeypatch):
    """From the folder, and without one from the table."""
    tables = list(tuning.search(pd.DataFrame(), tmp_path))
    assert [len(table) for table in tables] == [4, 8]
    monkeypatch.setattr(tuning, "train", None)
    again = list(tuning.search(pd.DataFrame(), tmp_path))
    pd.testing.assert_frame_equal(again[-1], tables[-1])
    known = list(tuning.search(tables[-1], tmp_path / "elsewhere"))
    pd.testing.assert_frame_equal(known[-1], tables[-1])
    with pytest.raises(TypeError):
        list(tuning.search(tables[0], tmp_path / "elsewhere"))
