"""The search over readings: its errors by another route, its choice, and what it left in `results/`."""

import numpy as np
import pandas as pd
import pytest

from aiecof.agents.policies import episode_metrics
from aiecof.agents.rules import make_policy
from aiecof.study import calibration
from aiecof.study.calibration import COLUMNS, CONSTANTS, DYNAMICS, MEASURES
from aiecof.study.store import read_table
from aiecof.system.scenario import load_scenario

FITTED = load_scenario("fitted")
CANDIDATE = {
    "family": "d: cycles a task, scaled",
    **{name: getattr(FITTED, name) for name in ("workload_scale", *CONSTANTS)},
    **{name: getattr(FITTED.readings, name) for name in DYNAMICS},
}


def test_errors_by_another_route():
    """`fitted` as a candidate: the worst deviation of the two rules, simulated on other traces of the scenario."""
    rows = pd.DataFrame(calibration.candidate_errors(CANDIDATE, 20))
    chosen = {name: getattr(FITTED.readings, name) for name in MEASURES}
    [row] = rows[(rows[list(MEASURES)] == pd.Series(chosen)).all(axis=1)].to_dict("records")
    scenario = FITTED.replace(network="episode")
    printed = calibration.printed_rows()
    for column in COLUMNS:
        worst = max(
            abs(
                episode_metrics(make_policy(rule, scenario), scenario, 40)[column].mean() / printed.loc[name, column]
                - 1
            )
            for rule, name in calibration.UNTRAINED.items()
        )
        assert row[f"error_{column}"] == pytest.approx(worst, abs=0.04)
    assert row["error"] == max(row[f"error_{column}"] for column in COLUMNS)


def test_untrained_rows_come_out_within_a_quarter():
    """Random and Round-Robin on `fitted`, over its seeds, beside Table IV."""
    rows = read_table("table_iv.csv")
    printed = calibration.printed_rows()
    for rule, name in calibration.UNTRAINED.items():
        ours = rows[(rows["scenario"] == "fitted") & (rows["method"] == rule)][list(COLUMNS)].mean()
        assert np.all(np.abs(ours / printed.loc[name, list(COLUMNS)] - 1) < 0.25)


def test_fitted_is_what_the_criterion_takes():
    picked = calibration.choose(read_table("calibration_tied.parquet"))
    ours = CANDIDATE | {name: getattr(FITTED.readings, name) for name in MEASURES}
    assert (picked[list(ours)] == pd.Series(ours)).all(axis=1).any()


def test_choice_needs_a_possible_row_then_few_departures_then_a_small_error():
    rows = [(0.5, 1, 0.06), (0.0, 3, 0.06), (0.0, 2, 0.08), (-0.1, 2, 0.0805), (-0.1, 2, 0.09)]
    picked = calibration.choose(pd.DataFrame(rows, columns=["short", "departures", "error"]))
    assert picked.index.tolist() == [2, 3]


def test_departures_are_counted_from_balanced():
    readings = load_scenario("balanced").readings
    same = {name: getattr(readings, name) for name in (*DYNAMICS, *MEASURES)}
    table = pd.DataFrame([same, same | {"channel_queue": "none", "drop_rule": "wait"}])
    assert calibration.departures(table).tolist() == [0, 2]


def test_identifiability_rules_out_what_is_beyond_the_tie():
    candidates = pd.DataFrame([dict.fromkeys(calibration.SEARCHED, "x") | {"error": 0.1}] * 2)
    candidates.loc[1, ["family", "error"]] = "y", 0.3
    table = calibration.identifiability(candidates, tie=0.15).set_index(["reading", "value"])
    assert table.loc[("family", "y"), "ruled_out"] and not table.loc[("family", "x"), "ruled_out"]
    assert table.loc[("drop_rule", "x"), "error"] == 0.1


@pytest.mark.parametrize("name", ["balanced", "fitted"])
def test_default_reward_ranks_rules_as_the_objective_does(name):
    """Spearman's rho by scipy over fresh simulations; at least forty rules."""
    from scipy.stats import spearmanr

    scenario = load_scenario(name, network="episode")
    rules = calibration.rules(scenario)
    assert len(rules) >= 40
    means = [episode_metrics(make_policy(rule, scenario, **changes), scenario, 10) for rule, changes in rules]
    reward, cost = ([entry[key].mean() for entry in means] for key in ("reward", "cost"))
    assert spearmanr(reward, [-value for value in cost]).statistic >= calibration.AGREEMENT


def test_committed_weights_are_the_nearest_that_agree():
    table = read_table("reward_agreement.csv")
    readings, weights = load_scenario("balanced").readings, load_scenario("balanced").weights
    chosen = {name: getattr(readings, name) for name in calibration.REWARDS}
    [row] = table[(table[list(chosen)] == pd.Series(chosen)).all(axis=1)].to_dict("records")
    assert {term: row[f"weight_{term}"] for term in calibration.TERMS} == pytest.approx(vars(weights))


def test_capacity_by_hand():
    """table-iii: 30 devices of 4 GHz against 0.6 tasks a slot of 2.5 Gcycles."""
    assert calibration.local_capacity(load_scenario("table-iii")) == pytest.approx(4e9 * 0.1 / (0.6 * 2.5e9), rel=0.03)
    assert calibration.local_capacity(FITTED) > 0.99
