"""Fronts and their volumes, against cases by hand, a count of random points, and what domination promises."""

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from aiecof.checks import InvalidInput
from aiecof.study.front import AIMS, Box, alike, box, contributions, costs, hypervolume, nondominated, volumes

PAIR = ("delay", "energy")


def policies(points, aims=PAIR, seed=0, **columns):
    """A table of policies, one a point."""
    return pd.DataFrame(points, columns=list(aims)).assign(seed=seed, **columns)


def unit(count):
    return Box(np.zeros(count), np.ones(count))


def random_policies(count, seed=0):
    draw = np.random.default_rng(seed).random((count, 4))
    return policies(draw, AIMS)


def beaten(first, second):
    """Whether the first of two points in costs beats the second."""
    return (first <= second).all() and (first < second).any()


def test_the_direction_of_each_aim_is_that_of_table_iv():
    row = policies([[1.0, 2.0, 0.3, 0.4]], AIMS)
    assert costs(row).tolist() == [[1.0, 2.0, 0.3, -0.4]]


def test_a_front_by_hand():
    rows = policies([[1, 4], [2, 2], [4, 1], [3, 3], [2, 5], [2, 2]])
    assert nondominated(rows, PAIR).tolist() == [True, True, True, False, False, True]


def test_more_load_lies_on_the_front():
    rows = policies([[1, 0.5], [1, 0.7], [2, 0.6]], ("delay", "load"))
    assert nondominated(rows, ("delay", "load")).tolist() == [False, True, False]


def test_a_front_is_that_of_a_seed():
    """The second network is slower: what is best there would be beaten by anything on the first."""
    rows = pd.concat([policies([[1, 1], [2, 2]]), policies([[8, 8], [9, 9]], seed=1)])
    assert nondominated(rows, PAIR).tolist() == [True, False, True, False]


@given(st.integers(0, 10**6), st.integers(1, 25), st.integers(2, 5))
@settings(deadline=None, max_examples=40)
def test_a_front_is_what_nothing_beats(seed, count, values):
    """Few values make many ties and equal points."""
    points = np.random.default_rng(seed).integers(values, size=(count, 4))
    rows = policies(points, AIMS)
    found = costs(rows)
    expected = [not any(beaten(other, mine) for other in found) for mine in found]
    assert nondominated(rows).tolist() == expected


def test_a_volume_by_hand():
    """Of a square with side 1: all but the strips left of and below three steps."""
    rows = policies([[0.2, 0.7], [0.5, 0.4], [0.8, 0.1]])
    assert hypervolume(rows, unit(2), PAIR) == pytest.approx(0.8 * 0.3 + 0.5 * 0.3 + 0.2 * 0.3)
    assert hypervolume(rows[:0], unit(2), PAIR) == 0.0


def test_a_volume_in_four_aims_by_hand():
    """Two points share a block: 0.5^4 each, less (0.5 0.25)^2 that both beat; load is turned about."""
    rows = policies([[0.5, 0.5, 0.5, -0.5], [0.75, 0.25, 0.75, -0.25]], AIMS)
    first, second, both = 0.5**4, (0.25 * 0.75) ** 2, (0.25 * 0.5) ** 2
    assert hypervolume(rows, unit(4)) == pytest.approx(first + second - both)


def test_a_volume_is_the_share_of_random_points_that_are_beaten():
    rows = random_policies(12)
    within = Box(np.array([0.0, 0.0, 0.0, -1.0]), np.array([1.0, 1.0, 1.0, 0.0]))
    thrown = np.random.default_rng(1).random((100_000, 4)) + within.best
    hit = (costs(rows)[:, None] <= thrown).all(axis=2).any(axis=0)
    error = hit.std() / np.sqrt(len(hit))
    assert abs(hypervolume(rows, within) - hit.mean()) < 4 * error < 0.01


def test_what_lies_beyond_the_reference_adds_nothing():
    rows = policies([[0.2, 0.7], [0.1, 1.5], [3.0, 0.0]])
    assert hypervolume(rows, unit(2), PAIR) == hypervolume(rows[:1], unit(2), PAIR) == pytest.approx(0.8 * 0.3)


def test_units_have_no_part_in_a_volume():
    rows = random_policies(10)
    other = rows.assign(energy=3600 * rows["energy"], delay=rows["delay"] - 5)
    assert hypervolume(other, box(other)) == pytest.approx(hypervolume(rows, box(rows)))


def test_a_box_reaches_beyond_its_front_and_no_further():
    """The third row is beaten, so that its delay of 90 does not make room; the front is from (1, 5) to (3, 1)."""
    rows = policies([[1, 5], [3, 1], [90, 2]])
    best, reference = box(rows, PAIR)
    assert best.tolist() == [1, 1] and reference == pytest.approx([3.2, 5.4])
    assert hypervolume(rows, Box(best, reference), PAIR) > hypervolume(rows[:1], Box(best, reference), PAIR) > 0


def test_a_box_is_that_of_all_seeds():
    rows = pd.concat([policies([[1, 5], [3, 1]]), policies([[2, 9], [4, 2]], seed=1)])
    assert box(rows, PAIR).best.tolist() == [1, 1]
    assert box(rows, PAIR).reference == pytest.approx([4.3, 9.8])


def test_a_box_of_one_point_has_room():
    best, reference = box(policies([[1, 5]]), PAIR)
    assert (reference > best).all() and hypervolume(policies([[1, 5]]), Box(best, reference), PAIR) == 1.0


def test_volumes_of_groups_are_those_of_each_seed():
    rows = pd.concat([random_policies(9, seed).assign(seed=seed, method=list("aaabbbccc")) for seed in range(3)])
    found = volumes(rows, {"a": rows["method"] == "a", "not c": rows["method"] != "c", "none": rows["method"] == "d"})
    assert found.index.tolist() == [0, 1, 2] and (found["none"] == 0).all()
    assert (found["not c"] >= found["a"]).all() and (found["a"] > 0).all()
    alone = rows[(rows["seed"] == 1) & (rows["method"] == "a")]
    assert found.loc[1, "a"] == hypervolume(alone, box(rows))


def test_contributions_by_hand():
    """Without an end of the front its step is lost; without the middle its square, less what (0.6, 0.6) still beats."""
    rows = policies([[0.2, 0.7], [0.5, 0.4], [0.8, 0.1], [0.6, 0.6]], method=list("abcd"))
    found = contributions(rows, "method", PAIR).loc[0]
    side = 1.1 * 0.6
    assert found["b"] == pytest.approx((0.3**2 - 0.2 * 0.1) / side**2) and found["d"] == 0
    assert found["a"] == pytest.approx(0.3 * 0.06 / side**2) == pytest.approx(found["c"])


@given(st.integers(0, 10**6), st.integers(2, 12))
@settings(deadline=None, max_examples=30)
def test_only_the_front_has_volume_and_more_policies_never_have_less(seed, count):
    rows = random_policies(count, seed)
    within = box(rows)
    whole, lost = hypervolume(rows, within), contributions(rows.assign(name=range(count)), "name").loc[0]
    assert hypervolume(rows[nondominated(rows)], within) == pytest.approx(whole)
    assert hypervolume(rows[1:], within) <= whole + 1e-12
    assert (lost[~nondominated(rows).to_numpy()].abs() < 1e-12).all() and lost.min() > -1e-12


def test_policies_that_end_alike_are_found():
    """Three within 4 % of a side of each other, one far off in delay alone; the fourth differs in the mean of seeds."""
    first = policies([[0.00, 1], [0.02, 1], [0.04, 1], [1.0, 0]], name=list("abcd"))
    second = policies([[0.00, 1], [0.02, 1], [0.04, 1], [1.0, 0]], seed=1, name=list("abcd"))
    both = pd.concat([first, second])
    assert alike(both, "name", 0.05, PAIR) == [["a", "b", "c"], ["d"]]
    assert alike(both, "name", 0.019, PAIR) == [["a", "b"], ["c"], ["d"]]
    assert alike(first[:1], "name", 0.05, PAIR) == [["a"]]


@pytest.mark.parametrize(
    "call",
    [
        lambda rows: costs(rows, ()),
        lambda rows: costs(rows, ("delay", "speed")),
        lambda rows: costs(rows, ("seed",)),
        lambda rows: costs(rows.assign(delay=np.nan)),
        lambda rows: nondominated(rows.drop(columns="seed")),
        lambda rows: box(rows[:0]),
        lambda rows: hypervolume(rows, unit(3)),
        lambda rows: contributions(rows, "method"),
        lambda rows: alike(rows, "seed", 0.0),
        lambda rows: alike(rows, "name"),
    ],
)
def test_what_has_no_front_is_refused(call):
    with pytest.raises(InvalidInput, match="aims|rows|within|by|most"):
        call(random_policies(3))
