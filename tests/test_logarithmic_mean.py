"""The coin under the printed energy term: its best share at home has the logarithmic mean of the two energies.

The functions are those that a reader of the chapter sees, taken from its cell.
"""

import json
from pathlib import Path

import numpy as np
import pytest
from aiecof_book import blind
from scipy.optimize import minimize_scalar
from scipy.stats import binom

from aiecof import draw_trace, load_scenario
from aiecof.system import objective

CHAPTER = Path(__file__).resolve().parent.parent / "notebooks/where_table_iv_comes_from.ipynb"
ENERGIES = pytest.mark.parametrize("a, b", [(71.4, 5762.0), (71.6, 4555.0), (1.0, 2.0), (3.0, 3.3), (0.5, 500.0)])


def functions():
    cells = {cell["id"]: "".join(cell["source"]) for cell in json.loads(CHAPTER.read_text(encoding="utf-8"))["cells"]}
    found = {"np": np, "binom": binom}
    exec(cells["coin"], found)
    return found["log_mean"], found["energy_term"]


log_mean, energy_term = functions()


def term(share, a, b):
    """Expected energy term of a coin whose mean has settled."""
    mean = share * a + (1 - share) * b
    home, away = (objective.reward_terms(energy, mean, 0, 1, 0, 1, 0)[0] for energy in (a, b))
    return share * home + (1 - share) * away


def best_share(a, b):
    return (b - log_mean(a, b)) / (b - a)


@ENERGIES
def test_the_derivative_vanishes_at_the_logarithmic_mean_and_nowhere_else(a, b):
    share, step = best_share(a, b), 1e-5

    def slope(at):
        return (term(at + step, a, b) - term(at - step, a, b)) / (2 * step)

    assert abs(slope(share)) < 1e-5 * max(1.0, term(share, a, b))
    assert slope(share - 0.05) > 0 > slope(share + 0.05)


@ENERGIES
def test_no_share_earns_more(a, b):
    found = minimize_scalar(lambda share: -term(share, a, b), bounds=(0, 1), options={"xatol": 1e-9})
    assert found.x == pytest.approx(best_share(a, b), abs=1e-3)
    assert -found.fun == pytest.approx(term(best_share(a, b), a, b), rel=1e-6)


@ENERGIES
def test_it_lies_between_the_geometric_and_the_arithmetic_mean(a, b):
    assert a < np.sqrt(a * b) < log_mean(a, b) < (a + b) / 2 < b
    assert log_mean(a, b) == pytest.approx(log_mean(b, a)) == pytest.approx(log_mean(10 * a, 10 * b) / 10)


@pytest.mark.parametrize("a", [0.5, 71.4, 4000.0])
def test_two_energies_that_grow_alike_have_themselves_as_their_mean(a):
    gaps = [abs(log_mean(a, a * (1 + excess)) / a - 1) for excess in (1e-1, 1e-2, 1e-3, 1e-4)]
    assert gaps == sorted(gaps, reverse=True) and gaps[-1] < 1e-4
    assert best_share(a, a * (1 + 1e-4)) == pytest.approx(0.5, abs=1e-3)


@ENERGIES
def test_a_device_that_always_does_the_same_earns_nothing(a, b):
    for share in (0.0, 1.0):
        assert term(share, a, b) == pytest.approx(0, abs=1e-8)
        assert energy_term(share, a, b, 60) == pytest.approx(0, abs=1e-8)


@pytest.mark.parametrize("share", [0.3, 0.78])
def test_the_term_over_the_first_tasks_is_that_of_many_devices(share):
    a, b, tasks, devices = 71.4, 5762.0, 60, 20_000
    energy = np.where(np.random.default_rng(0).random((devices, tasks)) < share, a, b)
    running = objective.mean_energy(energy.cumsum(axis=1), np.arange(1, tasks + 1))
    earned = objective.reward_terms(energy, running, 0, 1, 0, 1, 0)[0].mean(axis=1)
    assert earned.mean() == pytest.approx(energy_term(share, a, b, tasks), abs=5 * earned.std() / np.sqrt(devices))


def test_with_more_tasks_the_best_share_rises_to_that_of_the_logarithmic_mean():
    a, b, shares = 71.4, 5762.0, np.linspace(0.6, 0.9, 61)
    tops = [shares[np.argmax([energy_term(p, a, b, n) for p in shares])] for n in (10, 60, 1500)]
    assert tops == sorted(tops) and tops[1] == pytest.approx(0.75, abs=0.01)
    assert tops[-1] == pytest.approx(best_share(a, b), abs=0.01)


def test_an_opening_sends_the_first_tasks_of_every_device_and_no_other():
    trace = draw_trace(load_scenario("plain", devices=3), 2, seed=0)
    leaves = ~blind.opening(2, trace, np.zeros(trace.size.shape)) & (trace.size > 0)
    for episode, device in np.ndindex(2, 3):
        tasks = np.flatnonzero(trace.size[episode, :, device])
        assert np.flatnonzero(leaves[episode, :, device]).tolist() == tasks[:2].tolist()


def test_the_printed_reward_pays_an_opening_more_than_the_coin_that_keeps_as_many():
    scenario = load_scenario("plain", **blind.PRINTED)
    begun = blind.played(scenario, blind.opening, [6], networks=3, episodes=2)
    tossed = blind.played(scenario, blind.coin, [begun["local_share"].mean()], networks=3, episodes=2)
    assert abs(begun["local_share"].mean() - tossed["local_share"].mean()) < 0.02
    assert begun["reward"].min() > tossed["reward"].max() + 5
