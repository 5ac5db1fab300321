"""Figures from results: what is compared, in which words, and that every figure can be drawn."""

import json
import shutil

import matplotlib
import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest
import scipy.stats

from aiecof.checks import InvalidInput
from aiecof.drawing import figures
from aiecof.drawing.figures import FIGURES, complete_seeds, draw_all, holds, intervals, relative_to, said
from aiecof.files import results_folder
from aiecof.study import grids, store
from aiecof.study.store import Manifest

matplotlib.use("svg")
RESULTS = results_folder()


def test_intervals_over_seeds_are_students():
    rows = pd.DataFrame({"method": ["a"] * 4 + ["b"] * 4, "reward": [1.0, 2.0, 4.0, 5.0, 7.0, 7.5, 8.0, 9.0]})
    found = intervals(rows, "method", "reward")
    for name, group in rows.groupby("method"):
        low, high = scipy.stats.ttest_1samp(group["reward"], 0).confidence_interval()
        assert found.loc[name].tolist() == pytest.approx([group["reward"].mean(), low, high, 4])


def test_seeds_with_missing_rows_are_left_out():
    rows = pd.DataFrame({"seed": [0, 0, 1, 1, 2], "method": list("ababa")})
    assert complete_seeds(rows)["seed"].tolist() == [0, 0, 1, 1]


def test_differences_are_taken_on_the_same_network():
    rows = pd.DataFrame(
        {"seed": [0, 1, 0, 1, 2], "variant": ["TOPPO", "TOPPO", "x", "x", "x"], "reward": [1, 10, 3, 11, 5]}
    )
    found = relative_to(rows.assign(scenario="fitted"), "reward", variant="TOPPO")
    np.testing.assert_array_equal(found["reward"], [0, 0, 2, 1, np.nan])


@pytest.mark.parametrize(
    ("differences", "answer"),
    [([1.0, 1.1, 0.9], "yes"), ([-1.0, -1.1, -0.9], "no"), ([-1.0, 1.0, 0.2], "open"), ([2.0], "yes (one seed)")],
)
def test_what_holds(differences, answer):
    assert holds(differences) == answer


def test_one_seed_is_not_sold_as_certainty():
    assert said([3.0], ".1f") == "3.0 (one seed)"
    assert said([3.0, 3.0], ".1f") == "3.0 (alike on 2 seeds)"
    assert said([2.0, 3.0, 4.0], ".1f") == "3.0 [0.5, 5.5]"
    assert said([2.0, 3.0, 4.0], ".1f", (1.0, 4.5)) == "3.0 [1.0, 4.5]"


def test_every_figure_is_drawn_from_what_a_run_writes(tmp_path):
    results = tmp_path / "results"
    shutil.copytree(RESULTS, results, ignore=shutil.ignore_patterns("paper"))
    assert draw_all(tmp_path, results) == list(FIGURES)
    for name in FIGURES:
        assert (tmp_path / f"{name}.svg").stat().st_size > 10_000


def test_what_no_seed_has_whole_is_not_drawn(tmp_path):
    """As after `aiecof run table_iv`, which leaves the trials that Fig. 7 shares with it, and not the others."""
    results = tmp_path / "results"
    shutil.copytree(RESULTS, results)
    table = results / "figure_7.csv"
    rows = pd.read_csv(table)
    rows[rows["stage"].eq("late")].to_csv(table, index=False)
    assert draw_all(tmp_path, results) == [name for name in FIGURES if name != "figure_7"]


def test_missing_results_are_named(tmp_path):
    assert draw_all(tmp_path / "figures", tmp_path) == []
    with pytest.raises(InvalidInput, match="figure_8"):
        figures.figure_8(tmp_path)


def test_where_numbers_come_from_has_the_lengths_of_the_trainings_themselves():
    """As declared: among many devices as many transitions, and where a memory has to be learned twice as long."""
    found = figures.provenance("thousand", "recall", "knowing")
    assert "trained for 3 or 10 or 30 or 100 episodes; `recall`" in found
    assert f"trained for {grids.LONG_TRAINING} episodes; `knowing`" in found and found.count("trained for") == 2


def test_where_numbers_come_from_counts_the_cells_that_have_any(tmp_path):
    results = tmp_path / "results"
    shutil.copytree(RESULTS, results, ignore=shutil.ignore_patterns("paper"))
    assert "`figure_4`: 5 of 5 declared seeds in each of 40 cells, " in figures.provenance("figure_4", results=results)
    table = results / "figure_4.csv"
    rows = pd.read_csv(table)
    rows[rows["kind"].eq("A") & ~(rows["seed"].gt(2) & rows["tasks"].eq(20))].to_csv(table, index=False)
    assert "`figure_4`: 3 to 5 of 5 declared seeds in 20 of 40 " in figures.provenance("figure_4", results=results)


def drawn_stamp(results):
    """The mark that `stamp` leaves on a figure of Fig. 3(b)."""
    plt.figure()
    rows = figures.table("figure_3b", results)
    mark = figures.stamp(rows, "figure_3b", results=results).get_supxlabel()
    plt.close()
    return mark.replace("\n", " ")


def test_a_figure_tells_where_it_comes_from_and_whether_that_is_stale(tmp_path, monkeypatch):
    results = tmp_path / "results"
    shutil.copytree(RESULTS, results)
    found = store.manifest(results)
    digest = json.loads((results / "manifest.json").read_text())["files"]["figure_3b.csv"]
    mark = drawn_stamp(results)
    assert f"figure_3b {digest[:8]}; seeds: " in mark and "STALE" not in mark
    assert "Stale" not in figures.provenance("figure_3b", results=results)

    trials = list(dict.fromkeys(figures.table("figure_3b", results)["run"]))
    with monkeypatch.context() as patch:  # the code of the first trial has changed
        other = store.manifest(results).experiments["figure_3b"]._replace(trials={0: trials[1:]})
        patch.setattr(
            store, "manifest", lambda place: Manifest(**found._asdict() | {"experiments": {"figure_3b": other}})
        )
        assert drawn_stamp(results).endswith(
            f"STALE: figure_3b is not up to date (1 of {len(trials)} trials belong to other code)"
        )
    with monkeypatch.context() as patch:
        patch.setattr(store, "code_state", lambda: "another")
        assert "STALE: figure_3b is not up to date (the code has changed since" in drawn_stamp(results)

    table = results / "figure_3b.csv"
    table.write_text(table.read_text().replace("fitted", "balanced", 1))
    assert "STALE: figure_3b is not up to date (not as it was written)" in drawn_stamp(results)
    assert figures.provenance("figure_3b", results=results).startswith("**Stale results**")
