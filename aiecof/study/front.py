"""What can be had at once: policies that none other beats in every aim, and the volume of what they beat.

The aims are the four columns of Table IV with the direction that it gives them (`METRICS`): less delay, energy and
drops, and more load. The paper praises a high load there and pays for an even one in its reward (R18); what a policy is
judged by here is the table. Every seed is a network of its own, so fronts and volumes are those of a seed, and
intervals are over seeds (`statistics`).
"""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import moocore
import numpy as np
import pandas as pd
from scipy.cluster.hierarchy import fcluster, linkage

from aiecof.checks import InvalidInput, check_calls, check_choice, check_number
from aiecof.metrics import METRICS
from aiecof.study.paper import COLUMNS

AIMS = COLUMNS
"""Delay, energy, drops and load."""
BEYOND = 0.1
"""How far the reference point lies beyond the worst of a front, as a share of the front's width: its ends count too."""


class Box(NamedTuple):
    """What volumes are shares of, between two points in costs: the better a value, the lower.

    best, reference : (A,) float
        The best that any row has of each aim, and the reference point of the hypervolume.
    """

    best: np.ndarray
    reference: np.ndarray


def costs(rows: pd.DataFrame, aims: Sequence[str] = AIMS) -> np.ndarray:
    """(n, A): the aims of some rows, with the sign that makes less better."""
    missing = [name for name in aims if name not in rows]
    if missing or not len(aims):
        raise InvalidInput("aims", list(aims), f"metrics among {', '.join(name for name in METRICS if name in rows)}")
    signs = [-METRICS[check_choice("aims", name, tuple(METRICS))].better for name in aims]
    values = rows[list(aims)].to_numpy(float)
    if not np.isfinite(values).all():
        raise InvalidInput("rows", values, "finite numbers in every aim")
    return values * signs


def nondominated(rows: pd.DataFrame, aims: Sequence[str] = AIMS) -> pd.Series:
    """Which rows lie on the front of their seed: no other is as good in every aim and better in one.

    rows : DataFrame
        A row a policy and seed: `seed` and the aims. Equal rows are on the front together.
    """
    found = pd.Series(False, rows.index)
    for _, places in _by_seed(rows):
        found.iloc[places] = moocore.is_nondominated(costs(rows.iloc[places], aims), keep_weakly=True)
    return found


def box(rows: pd.DataFrame, aims: Sequence[str] = AIMS) -> Box:
    """The box of a scenario, from all its rows: its reference point lies just beyond the fronts of all seeds."""
    if rows.empty:
        raise InvalidInput("rows", rows, "at least one row")
    best, worst = costs(rows, aims).min(axis=0), costs(rows[nondominated(rows, aims)], aims).max(axis=0)
    return Box(best, worst + BEYOND * np.where(worst > best, worst - best, 1.0))


def hypervolume(rows: pd.DataFrame, within: Box, aims: Sequence[str] = AIMS) -> float:
    """Share of a box where some row is at least as good in every aim, from 0 to 1 [-]; exact (Fonseca et al., 2006)."""
    if within.best.shape != (len(aims),):
        raise InvalidInput("within", within.best, f"a box of {len(aims)} aims")
    scaled = (costs(rows, aims) - within.best) / (within.reference - within.best)
    return float(moocore.hypervolume(np.maximum(scaled, 0.0), ref=np.ones(len(aims)))) if len(scaled) else 0.0


def volumes(rows: pd.DataFrame, groups: Mapping[str, pd.Series], aims: Sequence[str] = AIMS) -> pd.DataFrame:
    """Hypervolume of some groups of policies on each seed, in the box of all rows: a row a seed, a column a group.

    groups : mapping
        Name -> which rows belong to it; they may overlap. What a group adds to others is a difference of two columns.
    """
    within, found = box(rows, aims), {}
    for seed, places in _by_seed(rows):
        chosen = {name: rows.iloc[places][np.asarray(group)[places]] for name, group in groups.items()}
        found[seed] = {name: hypervolume(part, within, aims) for name, part in chosen.items()}
    return pd.DataFrame.from_dict(found, "index").rename_axis("seed")


def contributions(rows: pd.DataFrame, by: str, aims: Sequence[str] = AIMS) -> pd.DataFrame:
    """What the volume of all loses without the rows of one value of a column: a row a seed, a column a value."""
    check_choice("by", by, tuple(map(str, rows)))
    others = {value: rows[by] != value for value in rows[by].unique()}
    found = volumes(rows, {"": pd.Series(True, rows.index)} | others, aims)
    return found.pop("").to_numpy()[:, None] - found


def alike(rows: pd.DataFrame, by: str, most: float = 0.05, aims: Sequence[str] = AIMS) -> list[list[str]]:
    """Values of a column that end as one and the same policy: groups of which no two differ by more than `most`.

    most : float
        Share of the box's side, in the aim where two differ most; means over seeds are compared.
    """
    most = check_number("most", most)
    best, reference = box(rows, aims)
    means = rows.groupby(check_choice("by", by, tuple(map(str, rows))), sort=False)[list(aims)].mean()
    if len(means) < 2:
        return [[name] for name in means.index]
    tree = linkage(costs(means, aims) / (reference - best), "complete", "chebyshev")
    return [list(group) for group in means.groupby(fcluster(tree, most, "distance"), sort=False).groups.values()]


def _by_seed(rows: pd.DataFrame) -> list[tuple[int, np.ndarray]]:
    check_choice("rows", "seed", tuple(map(str, rows)))
    return list(rows.reset_index(drop=True).groupby("seed").indices.items())


check_calls(globals())
