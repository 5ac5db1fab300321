"""The figures of the experiments from their tables: nothing here simulates or trains.

Colours and markers of a method are the same everywhere, told apart by colour-blind readers, and doubled by a marker.
Curves and points carry 95 % t intervals over the seeds; printed values of the paper are open diamonds.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import seaborn as sns
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from aiecof.config import InvalidInput
from aiecof.runner import RESULTS, read_table
from aiecof.statistics import mean_interval

_PALETTE = sns.color_palette("colorblind", 10)
NAMES = {
    "toppo": "TOPPO",
    "dqn": "DQN",
    "double-dqn": "DoubleDQN",
    "dueling-dqn": "DuelingDQN",
    "d3qn": "D3QN",
    "ac": "AC",
    "a2c": "A2C",
    "random": "Random",
    "round-robin": "Round-Robin",
}
"""Method -> its name in Table IV."""
_ORDER = [*NAMES, "always-local", "greedy", "frugal", "threshold-power-of-two"]
COLOURS = dict(zip(_ORDER, [*_PALETTE[:7], "0.6", "0.45", "k", *_PALETTE[7:]], strict=True))
MARKERS = dict(zip(_ORDER, "osv^<>Dx+*pPX", strict=True))
LABELS = {
    "delay": "delay of a task [s]",
    "energy": "energy of a task [J]",
    "drop_rate": "share of dropped tasks [-]",
    "load": "load of a device [-]",
    "reward": "reward of an episode [-]",
    "cost": "objective (26) [-]",
}


def table(name: str, results: Path = RESULTS) -> pd.DataFrame:
    """The table of an experiment; a missing one raises `InvalidInput`."""
    found = read_table(f"{name}.csv", results)
    if not len(found):
        raise InvalidInput("experiment", name, f"one with results: `aiecof run {name}` makes them")
    return found


def printed(metric: str, results: Path = RESULTS) -> pd.Series:
    """A column of the printed Table IV by our names of the methods."""
    rows = read_table("paper/table_iv.csv", results).set_index("algorithm")[metric]
    return rows.rename({theirs: ours for ours, theirs in NAMES.items()})


def curves_of(rows: pd.DataFrame, results: Path = RESULTS) -> pd.DataFrame:
    """Every training episode of the trials in a table, with the table's labels."""
    labels = rows[[name for name in rows if name not in (*LABELS, "local_share", "wall_time")]]
    return labels.merge(read_table("curves.parquet", results), on="run")


def intervals(rows: pd.DataFrame, by: str, metric: str) -> pd.DataFrame:
    """Mean over seeds, low, high and number of seeds of a metric for each value of `by`."""
    groups = rows.groupby(by, sort=False)[metric]
    found = pd.DataFrame({value: mean_interval(entries)._asdict() for value, entries in groups}).T
    return found.assign(seeds=groups.size())


def _errors(found: pd.DataFrame) -> np.ndarray:
    """(2, n): how far the interval reaches below and above each mean."""
    return np.stack([found["mean"] - found["low"], found["high"] - found["mean"]])


def draw_curves(ax: Axes, curves: pd.DataFrame, metric: str, by: str = "method", window: int = 5) -> None:
    """Moving means over `window` episodes, averaged over seeds, with bands, one a value of `by`."""
    for index, (value, group) in enumerate(curves.groupby(by, sort=False)):
        wide = group.pivot(index="episode", columns="seed", values=metric).rolling(window, min_periods=1).mean()
        mean, low, high = np.array([mean_interval(row) for row in wide.to_numpy()]).T
        colour = COLOURS.get(value, _PALETTE[index % 10])
        ax.plot(wide.index, mean, color=colour, label=NAMES.get(value, value))
        ax.fill_between(wide.index, low, high, color=colour, alpha=0.15, linewidth=0)
    ax.set(xlabel="training episode", ylabel=LABELS[metric])


def draw_sweep(ax: Axes, rows: pd.DataFrame, x: str, metric: str, by: str = "method") -> None:
    """Means over seeds with intervals against `x`, a line a value of `by`; rules are dashed."""
    for index, (value, group) in enumerate(rows.groupby(by, sort=False)):
        found = intervals(group, x, metric).sort_index()
        style = {"marker": MARKERS.get(value, "o"), "color": COLOURS.get(value, _PALETTE[index % 10]), "ms": 5}
        dashed = "--" if value in _ORDER[7:] else "-"
        ax.errorbar(
            found.index, found["mean"], _errors(found), ls=dashed, capsize=2, label=NAMES.get(value, value), **style
        )
    ax.set(xlabel=x, ylabel=LABELS[metric])


def _legend(fig: Figure, ax: Axes) -> Figure:
    fig.legend(*ax.get_legend_handles_labels(), loc="outside right upper", frameon=False, fontsize=8)
    return fig


def _panels(count: int, width: float = 3.3, height: float = 3.2) -> tuple[Figure, np.ndarray]:
    fig, axes = plt.subplots(1, count, figsize=(width * count + 1.6, height), layout="constrained", squeeze=False)
    return fig, axes[0]


def figure_3(results: Path = RESULTS) -> Figure:
    """Reward while learning, by the two learning rates, the batch size and the discount factor."""
    fig, axes = _panels(3, 3.6)
    rates, sizes, discounts = (table(f"figure_3{part}", results) for part in "abc")
    rates["setting"] = [f"actor {row.actor:g}, critic {row.critic:g}" for row in rates.itertuples()]
    sizes["setting"] = [f"batch {size}" for size in sizes["batch_size"]]
    discounts["setting"] = [f"gamma {gamma:g}" for gamma in discounts["gamma"]]
    for ax, rows, title in zip(
        axes, (rates, sizes, discounts), ("learning rates", "batch size", "discount"), strict=True
    ):
        draw_curves(ax, curves_of(rows, results), "reward", "setting")
        ax.set(title=title)
        ax.legend(fontsize=7, frameon=False)
    return fig


def figure_4(results: Path = RESULTS) -> Figure:
    """Delay and share of dropped tasks against the number of tasks, for kinds A and B."""
    rows = table("figure_4", results)
    fig, axes = plt.subplots(2, 2, figsize=(8.5, 5.5), sharex=True, layout="constrained")
    for line, metric in zip(axes, ("delay", "drop_rate"), strict=True):
        for ax, (kind, group) in zip(line, rows.groupby("kind"), strict=True):
            draw_sweep(ax, group, "tasks", metric)
            ax.set(title=f"kind {kind}", xlabel="tasks a device in 100 slots")
    return _legend(fig, axes[0, 0])


def figure_5(results: Path = RESULTS) -> Figure:
    """Reward while learning, by method."""
    fig, axes = _panels(1, 6.5, 4.0)
    draw_curves(axes[0], curves_of(table("figure_5", results), results), "reward")
    return _legend(fig, axes[0])


def figure_6(results: Path = RESULTS) -> Figure:
    """Energy, delay and drops while learning, by method; diamonds are the printed Table IV."""
    fig, axes = _panels(3)
    curves = curves_of(table("figure_6", results), results)
    for ax, metric in zip(axes, ("energy", "delay", "drop_rate"), strict=True):
        draw_curves(ax, curves, metric)
        rows = printed(metric, results)
        for method in curves["method"].unique():
            ax.plot(curves["episode"].max() + 3, rows[method], "D", mfc="none", mec=COLOURS[method], clip_on=False)
    axes[0].set_yscale("log")
    return _legend(fig, axes[0])


def figure_7(results: Path = RESULTS) -> Figure:
    """Load of each device, sorted by its clock, before and after training."""
    rows = table("figure_7", results)
    devices = read_table("devices.parquet", results).merge(rows[["run", "stage", "seed"]], on="run")
    devices["rank"] = devices.groupby("run")["clock"].rank(method="first").astype(int)
    fig, axes = _panels(2, 3.8)
    paper = {"early": 0.4257, "late": 0.7925}
    for ax, stage in zip(axes, paper, strict=True):
        group = devices[devices["stage"] == stage]
        found = intervals(group, "rank", "load").sort_index()
        ax.bar(found.index, found["mean"], yerr=_errors(found), color=_PALETTE[0], ecolor="0.4")
        ax.axhline(paper[stage], color="k", ls="--", label="printed mean")
        ax.axhline(group["load"].mean(), color=_PALETTE[3], label="our mean")
        ax.set(title=stage, xlabel="device, slowest first", ylabel=LABELS["load"], ylim=(0, 1))
    return _legend(fig, axes[0])


def figure_8(results: Path = RESULTS, metric: str = "reward") -> Figure:
    """A metric against the number of devices, by method, on both scenarios."""
    rows = table("figure_8", results)
    fig, axes = _panels(2, 4.2, 4.0)
    for ax, (scenario, group) in zip(axes, rows.groupby("scenario"), strict=True):
        draw_sweep(ax, group, "devices", metric)
        ax.set(title=scenario, xlabel="devices M")
    return _legend(fig, axes[0])


def figure_9(results: Path = RESULTS, scenario: str = "fitted") -> Figure:
    """Energy, delay, load and drops against the capacity of the servers, by method, on one scenario."""
    rows = table("figure_9", results)
    rows = rows[rows["scenario"] == scenario]
    fig, axes = _panels(4, 2.9, 3.4)
    for ax, metric in zip(axes, ("energy", "delay", "load", "drop_rate"), strict=True):
        draw_sweep(ax, rows, "capacity", metric)
        ax.set(xlabel="server clocks, Table III = 1")
    axes[0].set_yscale("log")
    return _legend(fig, axes[0])


def table_iv(results: Path = RESULTS, scenario: str = "fitted", methods: Iterable[str] = COLOURS) -> Figure:
    """The four objectives and the reward of each method beside the printed ones."""
    rows = table("table_iv", results)
    rows = rows[(rows["scenario"] == scenario) & rows["method"].isin(list(methods))]
    names = [name for name in COLOURS if name in set(rows["method"])]
    fig, axes = plt.subplots(1, 5, figsize=(12.5, 4.2), sharey=True, layout="constrained")
    for ax, metric in zip(axes, ("delay", "energy", "drop_rate", "load", "reward"), strict=True):
        found, paper = intervals(rows, "method", metric).loc[names], printed(metric, results)
        errors = _errors(found)
        for y, name in enumerate(names):
            ax.errorbar(
                found["mean"].iloc[y], y, xerr=errors[:, [y]], fmt=MARKERS[name], color=COLOURS[name], capsize=2
            )
            if name in paper:
                ax.plot(paper[name], y, "D", mfc="none", mec="k")
        ax.set(xlabel=LABELS[metric])
    axes[0].set(yticks=range(len(names)), yticklabels=[NAMES.get(name, name) for name in names])
    axes[0].invert_yaxis()
    axes[1].set_xscale("log")
    return fig


def ablation(results: Path = RESULTS, metric: str = "reward") -> Figure:
    """A metric of TOPPO without its parts, or with others in their place, on both scenarios; points are seeds."""
    rows = table("ablation", results)
    scenarios = list(rows["scenario"].unique())
    fig, axes = plt.subplots(1, len(scenarios), figsize=(9, 3.6), sharey=True, layout="constrained", squeeze=False)
    for ax, scenario in zip(axes[0], scenarios, strict=True):
        group = rows[rows["scenario"] == scenario]
        found = intervals(group, "variant", metric)
        y = np.arange(len(found))
        ax.errorbar(found["mean"], y, xerr=_errors(found), fmt="ko", capsize=3)
        ax.plot(group[metric], group["variant"].map(dict(zip(found.index, y, strict=True))), "|", color="0.5")
        ax.set(title=scenario, xlabel=LABELS[metric], yticks=y, yticklabels=found.index)
    axes[0][0].invert_yaxis()
    return fig


FIGURES: dict[str, Callable[[Path], Figure]] = {
    "figure_3": figure_3,
    "figure_4": figure_4,
    "figure_5": figure_5,
    "figure_6": figure_6,
    "figure_7": figure_7,
    "figure_8": figure_8,
    "figure_9": figure_9,
    "table_iv": table_iv,
    "ablation": ablation,
}
"""Name -> function that draws it from a folder of results."""


def draw_all(out: Path, results: Path = RESULTS) -> list[str]:
    """Draw every figure whose table is there, as SVG; returns the names of those drawn."""
    out.mkdir(parents=True, exist_ok=True)
    drawn = []
    for name, draw in FIGURES.items():
        needed = [f"{name}{part}.csv" for part in "abc"] if name == "figure_3" else [f"{name}.csv"]
        if all((results / file).exists() for file in needed):
            fig = draw(results)
            fig.savefig(out / f"{name}.svg", metadata={"Date": None})
            plt.close(fig)
            drawn.append(name)
    return drawn
