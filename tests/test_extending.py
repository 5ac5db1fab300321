"""A learner and a rule that a user registers take part everywhere, without another line being changed."""

import json
import shutil
from dataclasses import replace

import matplotlib
import numpy as np
import pytest
from typer.testing import CliRunner

from aiecof.agents import methods, rules
from aiecof.checks import InvalidInput
from aiecof.cli.app import app
from aiecof.drawing import figures
from aiecof.files import results_folder
from aiecof.metrics import METRICS
from aiecof.study import runner, store
from aiecof.study.claims import claims
from aiecof.study.grids import TRAINING

matplotlib.use("svg")
EXPERIMENTS = ("table_iv", "figure_5", "figure_8", "figure_9")


class Stubborn(rules.AlwaysLocal):
    """Never offloads, and says so."""


def judged(trial, folder):
    """A made-up result in place of hours of training: the two newcomers are the best."""
    rng = np.random.default_rng([trial.seed, len(trial.method)])
    good = trial.method in ("newcomer", "stubborn") or (trial.method == "toppo") * 0.9
    values = {name: 1.0 + metric.better * 0.5 * good for name, metric in METRICS.items()}
    values |= {"drop_rate": 0.3 - 0.2 * good, "load": 0.3 + 0.5 * good, "local_share": 0.5}
    row = {name: value * (1.0 + 1e-4 * rng.normal()) for name, value in values.items()}
    rest = {"load": [0.5] * 3, "clock": [4e9] * 3}
    if trial.learned:
        curve = {name: np.linspace(0.0, value, trial.episodes).tolist() for name, value in row.items()}
        return {"sampled": row, "greedy": row}, rest | {"curve": curve, "wall_time": 1.0}
    return {"rule": row}, rest


@pytest.fixture(scope="module")
def results(tmp_path_factory):
    """Results of some experiments in which a learner and a rule take part that nobody foresaw."""
    place = tmp_path_factory.mktemp("extended")
    shutil.copytree(results_folder() / "paper", place / "results/paper")
    methods.register("newcomer", replace(methods.METHODS["a2c"], name="newcomer"))
    rules.register("stubborn", rules.Entry("stays", rules.NOTHING, Stubborn))
    try:
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(runner, "_judge", judged)
            failures = runner.run(EXPERIMENTS, folder=place / "runs", results=place / "results")
        assert failures == []
    finally:
        del methods.METHODS["newcomer"], rules.POLICIES["stubborn"]
    return place / "results"


def test_status_counts_their_trials(results):
    counts = store.status(results).set_index("experiment")
    committed = store.manifest().experiments
    for name, newcomers in {"table_iv": 2, "figure_5": 1, "figure_8": 2, "figure_9": 2}.items():
        declared = store.declared(name, results)
        cells = declared.cells - committed[name].cells
        settings = {"figure_8": 5 * 2, "figure_9": 3 * 2, "table_iv": 3}.get(name, 1)
        assert cells == newcomers * settings, name
        assert counts.loc[name, "missing"] == 0 and counts.loc[name, "done"] == len(declared.runs)


def test_they_are_in_the_tables(results):
    assert store.manifest(results).players["newcomer"] == store.Player("learned", True)
    assert store.manifest(results).players["stubborn"] == store.Player("rule", True)
    for name in ("table_iv", "figure_8", "figure_9"):
        assert {"newcomer", "stubborn"} <= set(store.experiment_table(name, results)["method"])
    curves = store.read_table("curves.parquet", results)
    assert (curves.groupby("run").size() == TRAINING).all()


def test_claims_compare_with_them(results):
    verdicts = {entry.claim.name: entry for entry in claims(results, "fitted")}
    assert "beside the paper's: reward of toppo and newcomer" in verdicts["reward-best"].evidence
    assert "as good without learning: stubborn" in verdicts["energy-lowest"].evidence


def test_figures_show_them(results, tmp_path):
    assert set(figures.draw_all(tmp_path, results)) >= {"figure_5", "figure_8", "figure_9", "table_iv"}
    for name in ("figure_8", "figure_9", "table_iv"):
        drawn = (tmp_path / f"{name}.svg").read_text(encoding="utf-8")
        assert "newcomer" in drawn and "stubborn" in drawn, name
    assert "newcomer" in (tmp_path / "figure_5.svg").read_text(encoding="utf-8")


def test_the_command_says_so_too(results, monkeypatch):
    monkeypatch.setattr(store, "results_folder", lambda: results)
    found = json.loads(CliRunner().invoke(app, ["claims", "--arm", "fitted", "--json"]).stdout)
    assert any("newcomer" in row["evidence"] for row in found)


def test_names_of_the_package_cannot_be_taken():
    with pytest.raises(InvalidInput, match="name: got 'a2c'"):
        methods.register("a2c", methods.METHODS["a2c"])
    with pytest.raises(InvalidInput, match="name: got 'frugal'"):
        rules.register("frugal", rules.Entry("stays", rules.NOTHING, Stubborn))
    with pytest.raises(InvalidInput, match="entry.information"):
        rules.register("oracle", rules.Entry("knows", "everything", Stubborn))
