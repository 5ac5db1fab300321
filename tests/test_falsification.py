"""Verdicts on the committed results, with the results bent: what has to change, and what must not."""

import numpy as np
import pytest

from aiecof.metrics import METRICS
from aiecof.study.claims import CLAIMS, decide
from aiecof.study.evidence import ARM_NAMES, FEWEST, Facts, NoResults
from aiecof.study.grids import LEARNED
from aiecof.study.store import manifest, read_table
from aiecof.study.verdicts import (
    DIRECTION,
    IMPOSSIBLE,
    INCONSISTENT,
    MATCHED,
    REFUTED,
    REPRODUCED,
    UNDECIDED,
    Better,
)

SWEEPS = [f"figure_{name}.csv" for name in ("3a", "3b", "3c", "4", "7", "8", "9")]
RESULTS = {*(arm.table for arm in ARM_NAMES.values()), *SWEEPS, "ablation.csv", "memory.csv"}


def whole(arm):
    """Whether all learned methods have been trained with enough seeds there."""
    try:
        return all(len(Facts.of(arm=arm).sample("table_iv.csv", {"method": name}, "reward")) for name in LEARNED)
    except NoResults:
        return False


ARMS = [name for name in ARM_NAMES if whole(name)]
GOOD, BAD = {REPRODUCED, MATCHED, DIRECTION}, {REFUTED}


def verdicts(arm, bend=lambda name, table: table):
    """Claim -> verdict on an arm, with every table of results bent."""

    def read(name):
        table = read_table(name)
        return bend(name, table.copy()) if name in RESULTS and len(table) else table

    facts = Facts(read, manifest(), arm)
    return {claim.name: decide(claim, facts).verdict for claim in CLAIMS}


def improved(share):
    """TOPPO's rows better by a share, everywhere."""

    def bend(name, table):
        rows = table["method"] == "toppo"
        for metric, entry in METRICS.items():
            table.loc[rows, metric] *= 1.0 + entry.better * share * np.sign(table.loc[rows, metric])
        return table

    return bend


@pytest.mark.parametrize("arm", ARMS)
def test_a_thousandth_changes_no_verdict(arm):
    """But for one that may stand at the edge of an interval, and none turns into its opposite."""
    before, after = verdicts(arm), verdicts(arm, improved(1e-3))
    changed = {name: (before[name], after[name]) for name in before if before[name] != after[name]}
    assert len(changed) <= 1, changed
    assert not any(first in BAD and second in GOOD for first, second in changed.values())


@pytest.mark.parametrize("arm", ARMS)
def test_a_fifth_changes_what_it_should(arm):
    """No claim that TOPPO is better fares worse, and its reward is won or, where seeds differ by more, left open."""
    before, after = verdicts(arm), verdicts(arm, improved(0.2))
    for name in ("reward-learned", "reward-best"):
        assert after[name] in GOOD | {UNDECIDED} and (after[name] in GOOD or arm == "printed-nine-rows")
    for claim in CLAIMS:
        better = isinstance(claim.test, Better) and claim.test.winners == ({"method": "toppo"},)
        if better and before[claim.name] in GOOD and not set(claim.test.metrics) & {"soon", "rough", "early_rough"}:
            assert after[claim.name] in GOOD, claim.name


@pytest.mark.parametrize("arm", ARMS)
def test_exchanged_names_turn_comparisons_round(arm):
    """With TOPPO and Random exchanged, what Random lost TOPPO loses."""

    def exchange(name, table):
        return table.assign(method=table["method"].replace({"toppo": "random", "random": "toppo"}))

    after = verdicts(arm, exchange)
    assert after["reward-best"] == after["learning-pays"] == REFUTED


@pytest.mark.parametrize("arm", ARMS)
def test_fewer_seeds_only_move_towards_undecided(arm):
    """A comparison that held or was refuted may become undecided, and never its opposite."""

    def first(seeds):
        return verdicts(arm, lambda name, table: table[table["seed"] < seeds])

    before = verdicts(arm)
    for after in (first(FEWEST), first(2 * FEWEST)):
        for name in before:
            assert not (before[name] in GOOD and after[name] in BAD), name
            assert not (before[name] in BAD and after[name] in GOOD), name
    assert set(first(FEWEST - 1).values()) <= {UNDECIDED, INCONSISTENT, IMPOSSIBLE}
