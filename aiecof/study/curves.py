"""Measures of a training curve, and of the devices' loads."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd

from aiecof.checks import InvalidInput, check_calls
from aiecof.metrics import METRICS, SHARE, Metric
from aiecof.study.store import experiment_table, read_table

FINAL, SMOOTH, NEAR, EARLY, NOISE = 20, 5, 0.95, 40, 3.0
"""Episodes of the final level, of a moving mean; share of the gain that is near-optimal; episodes that are early;
standard errors within which a moving mean cannot be told from the final level."""


def _check_curve(rewards: np.ndarray, least: int) -> None:
    if rewards.ndim != 1 or rewards.dtype.kind not in "iuf" or len(rewards) < least or not np.isfinite(rewards).all():
        raise InvalidInput("rewards", rewards, f"finite numbers of at least {least} episodes, shape (E,)")


def episodes_to_near_optimal(rewards: np.ndarray) -> float:
    """Episodes after which the smoothed reward has made 95 % of its way from Random's to its final level, for good.

    rewards : (E,) float
        Of the training episodes, above Random's reward on the same network. The way of a training that ends below
        Random leads down.

    Where the noise of single episodes, from the differences of successive ones in the second half, is so large that a
    moving mean at the final level would often lie below these 95 %, `NOISE` standard errors below that level are near
    enough. One more than there are if that never lasts.
    """
    _check_curve(rewards, FINAL)
    level = rewards[-FINAL:].mean()
    noise = np.diff(rewards[len(rewards) // 2 :]).std() / 2.0**0.5
    near = max((1.0 - NEAR) * abs(level), NOISE * noise * (1.0 / SMOOTH + 1.0 / FINAL) ** 0.5)
    smooth = np.convolve(rewards, np.full(SMOOTH, 1.0 / SMOOTH), "valid")
    below = np.flatnonzero(np.sign(level) * (smooth - level) < -near)
    return float(SMOOTH + (below[-1] + 1 if below.size else 0))


def lead_over_near(rewards: np.ndarray) -> float:
    """How far the `FINAL` episodes after the early ones are, in the mean, beyond 95 % of the way to the final level."""
    _check_curve(rewards, EARLY + FINAL)
    level = rewards[-FINAL:].mean()
    return float(np.sign(level) * (rewards[EARLY : EARLY + FINAL].mean() - NEAR * level))


def roughness(rewards: np.ndarray) -> float:
    """Distance of an episode's reward from the mean of its two neighbours, root mean square: a steady rise has none."""
    _check_curve(rewards, 3)
    return float(np.sqrt(np.mean((rewards[1:-1] - (rewards[:-2] + rewards[2:]) / 2.0) ** 2)))


def early_roughness(rewards: np.ndarray) -> float:
    """`roughness` of the first episodes."""
    return roughness(rewards[:EARLY])


def late_roughness(rewards: np.ndarray) -> float:
    """`roughness` of the episodes after them."""
    return roughness(rewards[EARLY:])


CURVES: dict[str, Callable[[np.ndarray], float]] = {
    "soon": episodes_to_near_optimal,
    "near": lead_over_near,
    "rough": roughness,
    "early_rough": early_roughness,
    "late_rough": late_roughness,
}
"""Name -> measure of a training curve, in rewards above Random's."""
IMBALANCE = "imbalance"

MEASURES: dict[str, Metric] = METRICS | {
    "success_rate": Metric("Success rate", "share of tasks that succeed", "", 1, SHARE),
    "soon": Metric("Episodes to near-optimal", "episodes to near-optimal", "", -1),
    "near": Metric("Lead over near-optimal", "reward beyond 95 % of the way", "reward", 1),
    "rough": Metric("Roughness", "roughness", "reward", -1),
    "early_rough": Metric("Early roughness", "roughness early in the training", "reward", -1),
    "late_rough": Metric("Late roughness", "roughness late in the training", "reward", -1),
    IMBALANCE: Metric("Spread of device loads", "spread of the devices' loads", "", -1),
}
"""Everything that a claim or a figure compares: the metrics of an episode, and what is measured on top of them."""


def curves_of(rows: pd.DataFrame, results: Path | None = None) -> pd.DataFrame:
    """Every training episode of the trials in a table, with the table's labels."""
    labels = rows[[name for name in rows if name not in (*MEASURES, "wall_time")]]
    return labels.merge(read_table("curves.parquet", results), on="run")


def random_rewards(results: Path | None = None) -> pd.Series:
    """Reward of Random in Table IV, by scenario and seed."""
    rows = experiment_table("table_iv", results).query("method == 'random'")
    return rows.set_index(["scenario", "seed"])["reward"]


def measured(rows: pd.DataFrame, results: Path | None = None) -> pd.DataFrame:
    """The rows with two measures of each training curve: `soon` and `rough`.

    The first is NaN where Table IV has no Random on the same network.
    """
    random = random_rewards(results)
    curves = curves_of(rows, results).sort_values("episode").groupby(["scenario", "seed", "run"])["reward"]
    found = {}
    for (*network, run), curve in curves:
        above = curve.to_numpy(float) - random.get(tuple(network), np.nan)
        soon = episodes_to_near_optimal(above) if np.isfinite(above).all() else np.nan
        found[run] = {"soon": soon, "rough": roughness(curve.to_numpy(float))}
    return rows.join(pd.DataFrame(found).T, on="run")


check_calls(globals())
