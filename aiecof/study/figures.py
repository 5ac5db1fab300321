"""The figures of the experiments from their tables: nothing here simulates or trains.

Colours and markers of a method are the same everywhere, told apart by colour-blind readers, and doubled by a marker.
Curves and points carry 95 % t intervals over the seeds; printed values of the paper are open diamonds.
"""

from collections.abc import Callable, Iterable
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import seaborn as sns
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from numpy.typing import ArrayLike

from aiecof.files import digest, make_folder, results_folder
from aiecof.study.curves import MEASURES, curves_of
from aiecof.study.grids import EVALUATION, TRAINING
from aiecof.study.paper import NAMES, printed
from aiecof.study.statistics import mean_interval
from aiecof.study.store import condition, declared, manifest, read_table
from aiecof.study.store import experiment_table as table

_PALETTE = sns.color_palette("colorblind", 10)
_ORDER = (*NAMES, "always-local", "greedy", "frugal", "threshold-power-of-two")


class _Cycle(dict):
    """A style of its own for each method, and for one that nobody foresaw the next that is free."""

    def __init__(self, values: Iterable, spare: Iterable):
        super().__init__(zip(_ORDER, values, strict=True))
        self._spare = list(spare)

    def __missing__(self, name: str):
        self[name] = self._spare[(len(self) - len(_ORDER)) % len(self._spare)]
        return self[name]


COLOURS = _Cycle(
    [*_PALETTE[:7], "0.6", "0.45", "k", "#5b3a8c", "#a3123a", _PALETTE[9]], ["#1b7837", "#b35806", "#01665e"]
)
MARKERS = _Cycle("osv^<>Dx+*pPX", "h8d")
LABELS = {name: measure.axis for name, measure in MEASURES.items()}


def complete_seeds(rows: pd.DataFrame) -> pd.DataFrame:
    """The rows of the seeds that have the most of them: what is compared has to rest on the same networks."""
    counts = rows.groupby("seed").size()
    return rows[rows["seed"].isin(counts.index[counts == counts.max()])]


def relative_to(rows: pd.DataFrame, metric: str, **reference: str) -> pd.DataFrame:
    """The rows with a metric less that of the row called `reference` in the same setting, with the same seed."""
    keys = [name for name in ("scenario", "seed", "kind", "tasks", "devices", "capacity") if name in rows]
    [(label, value)] = reference.items()
    base = rows[rows[label] == value].set_index(keys)[metric]
    base = base.reindex(pd.MultiIndex.from_frame(rows[keys])).to_numpy()
    return rows.assign(**{metric: rows[metric].to_numpy() - base})


def said(values: ArrayLike, form: str = "+.3g") -> str:
    """Mean over seeds and its 95 % interval in words; seeds that do not differ give none, and it says so."""
    mean, low, high = mean_interval(values)
    shown = f"{mean:{form}}"
    return f"{shown} [{low:{form}}, {high:{form}}]" if low < high else f"{shown} ({_alike(values)})"


def holds(differences: ArrayLike) -> str:
    """Whether paired differences are positive: "yes", "no", "open" if the 95 % interval covers 0, or "equal"."""
    mean, low, high = mean_interval(differences)
    answer = "open"
    if low > 0.0 or high < 0.0:
        answer = "yes" if mean > 0.0 else "no"
    elif low == high == 0.0:
        answer = "equal"
    return answer if low < high else f"{answer} ({_alike(differences)})"


def _alike(values: ArrayLike) -> str:
    return {0: "no results", 1: "one seed"}.get(np.size(values), f"alike on {np.size(values)} seeds")


def stamp(rows: pd.DataFrame, *names: str, results: Path | None = None) -> Figure:
    """The current figure, marked with its experiments, the digests of their tables, and the seeds of the rows drawn."""
    fig, doubts = plt.gcf(), [f"STALE: {doubt}" for doubt in _doubts(names, results)]
    place = results_folder() if results is None else results
    tables = ", ".join(f"{name} {digest(place / f'{name}.csv')[:8]}" for name in names)
    colour = "#a3123a" if doubts else "0.45"
    fig.supxlabel("; ".join([tables, f"seeds: {_seeds(rows)}", *doubts]), x=0.99, ha="right", fontsize=7, color=colour)
    return fig


def _doubts(names: Iterable[str], results: Path | None) -> list[str]:
    return [f"{name} is not up to date ({doubt})" for name in names if (doubt := condition(name, results))]


def _seeds(rows: pd.DataFrame) -> str:
    """How many seeds the settings in some rows of an experiment have: a number, or the least and the most."""
    labels = [name for name in rows if name not in ("seed", "run", "wall_time", *LABELS)]
    counts = rows.groupby(labels, dropna=False)["seed"].nunique()
    return " to ".join(str(count) for count in sorted({counts.min(), counts.max()}))


def provenance(*names: str, results: Path | None = None) -> str:
    """What the tables of some experiments rest on, whether they still belong to the code, and what computes them."""
    parts = []
    for name in names:
        rows, experiment = table(name, results), declared(name, results)
        parts.append(
            f"`{name}`: {_seeds(rows)} of {experiment.seeds} declared seeds in each of {experiment.cells} cells, "
            f"{len(rows)} trials, {rows['wall_time'].sum() / 3600:.1f} hours of computing"
        )
    again = f"`aiecof run {' '.join(names)}` computes what is missing; with another `--folder`, `--results`: all."
    warning = "".join(f"**Stale results**: {doubt}. " for doubt in _doubts(names, results))
    trained = f"Trained for {TRAINING} episodes, judged on {EVALUATION} held-out ones a seed."
    return f"{warning}{'; '.join(parts)}. {trained} {again}"


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
        known = by == "method"
        colour = COLOURS[value] if known else _PALETTE[index % 10]
        apart = {"markevery": (4 * index, 25), "ms": 5}  # where curves coincide
        marks = {"marker": MARKERS[value]} | apart if known else {}
        ax.plot(wide.index, mean, color=colour, label=NAMES.get(value, value), **marks)
        ax.fill_between(wide.index, low, high, color=colour, alpha=0.15, linewidth=0)
    ax.set(xlabel="training episode", ylabel=LABELS[metric])


def _range(values: ArrayLike) -> tuple[float, float]:
    """Limits of an axis that show every seed: the interval of two or three may be many times as wide."""
    low, high = np.nanmin(values), np.nanmax(values)
    margin = 0.1 * (high - low) or 0.05 * abs(high) or 1.0
    return low - margin, high + margin


def draw_sweep(
    ax: Axes, rows: pd.DataFrame, x: str, metric: str, by: str = "method", results: Path | None = None
) -> None:
    """Means over seeds with intervals against `x`, a line a value of `by`; rules are dashed.

    Equal values stand side by side, so that none hides another.
    """
    groups, dashed = list(rows.groupby(by, sort=False)), manifest(results).of_kind("rule")
    values = np.unique(rows[x])
    step = 0.5 * min(np.diff(values), default=1.0) / max(len(groups), 2)
    for index, (value, group) in enumerate(groups):
        found = intervals(group, x, metric).sort_index()
        known = by == "method"
        style = {"marker": MARKERS[value] if known else "o", "color": COLOURS[value] if known else _PALETTE[index % 10]}
        style |= {"ms": 5} | ({"ls": "--", "lw": 1} if value in dashed else {"ls": "-", "lw": 1.5})
        place = found.index + step * (index - (len(groups) - 1) / 2)
        ax.errorbar(place, found["mean"], _errors(found), elinewidth=0.8, label=NAMES.get(value, value), **style)
    ax.set(xlabel=x, ylabel=LABELS[metric], xticks=values, ylim=_range(rows[metric]))


def draw_points(ax: Axes, rows: pd.DataFrame, by: str, metric: str) -> None:
    """Means over seeds with intervals, a line of the picture a value of `by`; the ticks are the seeds."""
    found = intervals(rows, by, metric)
    y = np.arange(len(found))
    ax.plot(rows[metric], rows[by].map(dict(zip(found.index, y, strict=True))), "|", color="0.5", ms=9)
    ax.errorbar(found["mean"], y, xerr=_errors(found), fmt="ko", ms=5, capsize=3)
    ax.set(yticks=y, yticklabels=found.index, ylim=(len(found) - 0.5, -0.5), xlim=_range([*rows[metric], 0.0]))


def _legend(fig: Figure, ax: Axes) -> None:
    """The legend below all panels."""
    fig.legend(*ax.get_legend_handles_labels(), loc="outside lower center", ncols=4, frameon=False)


_SETTINGS = {"a": "actor {actor:g}, critic {critic:g}", "b": "batch of {batch_size:g}", "c": "gamma {gamma:g}"}


def settings(part: str, results: Path | None = None) -> pd.DataFrame:
    """The table of Fig. 3(a), (b) or (c), of its complete seeds, with every row's `setting` in words."""
    rows = complete_seeds(table(f"figure_3{part}", results))
    return rows.assign(setting=[_SETTINGS[part].format(**row) for row in rows.to_dict("records")])


def figure_3(results: Path | None = None) -> Figure:
    """Reward while learning, by the two learning rates, the batch size and the discount factor."""
    _, axes = plt.subplots(3, 1, figsize=(7.5, 7.5), sharex=True, layout="constrained")
    tables = [settings(part, results) for part in "abc"]
    for ax, rows, title in zip(axes, tables, ("(a) learning rates", "(b) batch size", "(c) discount"), strict=True):
        curves = curves_of(rows, results)
        draw_curves(ax, curves, "reward", "setting")
        for line, style in zip(ax.lines, ("-", "--", "-.", ":", (0, (6, 1, 1, 1, 1, 1))), strict=False):
            line.set(linestyle=style, linewidth=1.8)
        ax.set(title=title, ylim=_range(curves["reward"]))
        ax.label_outer()
        ax.legend(loc="center left", bbox_to_anchor=(1, 0.5), frameon=False)
    return stamp(pd.concat(tables), "figure_3a", "figure_3b", "figure_3c", results=results)


def figure_4(results: Path | None = None, metrics: Iterable[str] = ("delay", "drop_rate")) -> Figure:
    """Delay and share of dropped tasks, or other metrics, against the number of tasks, for kinds A and B."""
    rows, metrics = complete_seeds(table("figure_4", results)), list(metrics)
    shape = {"figsize": (7.5, 2.7 * len(metrics) + 0.8), "squeeze": False}
    fig, axes = plt.subplots(len(metrics), 2, sharex=True, sharey="row", layout="constrained", **shape)
    for line, metric in zip(axes, metrics, strict=True):
        for ax, (kind, group) in zip(line, rows.groupby("kind"), strict=True):
            draw_sweep(ax, group, "tasks", metric, results=results)
            ax.set(xlabel="tasks of a device in 100 slots", title=f"kind {kind}" if ax in axes[0] else "")
            ax.label_outer()
    _legend(fig, axes[0, 0])
    return stamp(rows, "figure_4", results=results)


def figure_5(results: Path | None = None) -> Figure:
    """Reward while learning, by method."""
    rows = table("figure_5", results)
    _, ax = plt.subplots(figsize=(7.0, 4.0), layout="constrained")
    draw_curves(ax, curves_of(rows, results), "reward", window=1)
    ax.legend(ncols=2, loc="lower right")
    return stamp(rows, "figure_5", results=results)


def figure_6(results: Path | None = None) -> Figure:
    """Energy, delay and drops while learning, by method; diamonds are the printed Table IV."""
    rows = table("figure_6", results)
    curves = curves_of(rows, results)
    _, axes = plt.subplots(2, 2, figsize=(7.5, 5.8), layout="constrained")
    *panels, last = axes.flat
    for ax, metric in zip(panels, ("energy", "delay", "drop_rate"), strict=True):
        draw_curves(ax, curves, metric, window=1)
        for method, value in printed(metric).items():
            if method in set(curves["method"]):
                ax.plot(curves["episode"].max() + 4, value, "D", mfc="none", mec=COLOURS[method], clip_on=False)
        ax.set(**{"yscale": "log"} if metric == "energy" else {"ylim": (0, None)})
    diamond = Line2D([], [], ls="none", marker="D", mfc="none", mec="0.3", label="printed in Table IV")
    last.legend(handles=[*panels[0].get_legend_handles_labels()[0], diamond], loc="center")
    last.axis("off")
    return stamp(rows, "figure_6", results=results)


def figure_7(results: Path | None = None) -> Figure:
    """Load of each device, sorted by its clock, before and after training."""
    rows = table("figure_7", results)
    devices = read_table("devices.parquet", results).merge(rows[["run", "stage", "seed"]], on="run")
    devices["rank"] = devices.groupby("run")["clock"].rank(method="first").astype(int)
    paper = {"early": (0.4257, "after the first training episode"), "late": (0.7925, "after the whole training")}
    _, axes = plt.subplots(2, 1, figsize=(7, 5.6), sharex=True, sharey=True, layout="constrained")
    for ax, (stage, (level, title)) in zip(axes, paper.items(), strict=True):
        group = devices[devices["stage"] == stage]
        found = intervals(group, "rank", "load").sort_index()
        ax.bar(found.index, found["mean"], yerr=_errors(found), color=_PALETTE[0], ecolor="0.4", capsize=1.5)
        ax.axhline(level, color="k", ls="--", label="printed mean")
        ax.axhline(group["load"].mean(), color=_PALETTE[3], label="our mean")
        ax.set(title=f"{stage}: {title}", ylabel=LABELS["load"], ylim=(0, 1))
    axes[0].legend(loc="upper right", ncols=2)
    axes[1].set(xlabel="device, the one with the slowest clock first")
    return stamp(rows, "figure_7", results=results)


def figure_8(results: Path | None = None, metric: str = "reward") -> Figure:
    """A metric against the number of devices, by method, on both scenarios."""
    rows = complete_seeds(table("figure_8", results))
    fig, axes = plt.subplots(1, 2, figsize=(7.5, 5), sharey=True, layout="constrained")
    for ax, (scenario, group) in zip(axes, rows.groupby("scenario"), strict=True):
        draw_sweep(ax, group, "devices", metric, results=results)
        ax.set(title=scenario, xlabel="devices M")
        ax.label_outer()
    _legend(fig, axes[0])
    return stamp(rows, "figure_8", results=results)


def figure_9(results: Path | None = None, scenario: str = "fitted") -> Figure:
    """Energy, delay, load and drops against the capacity of the servers, by method, on one scenario."""
    rows = complete_seeds(table("figure_9", results))
    rows = rows[rows["scenario"] == scenario]
    fig, axes = plt.subplots(2, 2, figsize=(7.5, 6.5), sharex=True, layout="constrained")
    for ax, metric in zip(axes.flat, ("energy", "delay", "load", "drop_rate"), strict=True):
        draw_sweep(ax, rows, "capacity", metric, results=results)
        ax.set(xlabel="server clock, Table III = 1" if ax in axes[1] else "")
    axes[0, 0].set(yscale="log", ylim=(rows["energy"].min() / 2.0, rows["energy"].max() * 2.0))
    _legend(fig, axes[0, 0])
    return stamp(rows, "figure_9", results=results)


def _shown(results: Path | None) -> list[str]:
    """Who is in the picture of Table IV: the paper's methods, the rules of the sweeps, and whoever was added."""
    players = manifest(results).players
    return [*_ORDER, *(name for name, player in players.items() if player.added)]


def table_iv(results: Path | None = None, scenario: str = "fitted", methods: Iterable[str] = ()) -> Figure:
    """The four objectives and the reward of each method beside the printed ones."""
    rows = table("table_iv", results)
    rows = rows[(rows["scenario"] == scenario) & rows["method"].isin(list(methods) or _shown(results))]
    names = sorted(rows["method"].unique(), key=[*_ORDER, *rows["method"].unique()].index)
    _, axes = plt.subplots(2, 3, figsize=(9, 1.6 + 0.42 * len(names)), sharey=True, layout="constrained")
    *panels, last = axes.flat
    for ax, metric in zip(panels, ("delay", "energy", "drop_rate", "load", "reward"), strict=True):
        found, paper = intervals(rows, "method", metric).loc[names], printed(metric)
        for y, (name, errors) in enumerate(zip(names, _errors(found).T, strict=True)):
            style = {"fmt": MARKERS[name], "color": COLOURS[name], "capsize": 2}
            ax.errorbar(found["mean"].iloc[y], y, xerr=errors[:, None], **style)
            ax.plot(paper.get(name, np.nan), y, "D", mfc="none", mec="k")
        ax.set(xlabel=LABELS[metric], yticks=range(len(names)), yticklabels=[NAMES.get(name, name) for name in names])
    axes[0, 0].invert_yaxis()
    axes[0, 1].set_xscale("log")
    kinds = {"ours: mean and\n95 % interval": ("o", "0.3"), "printed in Table IV": ("D", "none")}
    handles = [Line2D([], [], ls="none", marker=m, mfc=fill, mec="k", label=kind) for kind, (m, fill) in kinds.items()]
    last.legend(handles=handles, loc="center", title=scenario)
    last.axis("off")
    return stamp(rows, "table_iv", results=results)


def ablation(results: Path | None = None, metric: str = "reward") -> Figure:
    """A metric of TOPPO less one of its parts, or with another in its place, less TOPPO's own, on both scenarios."""
    rows = relative_to(complete_seeds(table("ablation", results)), metric, variant="TOPPO")
    groups = rows[rows["variant"] != "TOPPO"].groupby("scenario")
    _, axes = plt.subplots(1, groups.ngroups, figsize=(7.5, 3.6), sharey=True, layout="constrained", squeeze=False)
    for ax, (scenario, group) in zip(axes[0], groups, strict=True):
        draw_points(ax, group, "variant", metric)
        ax.axvline(0.0, color="k", lw=1)
        ax.set(title=f"{scenario}, {group['seed'].nunique()} seeds", xlabel=f"{LABELS[metric]}\nless TOPPO's")
    return stamp(rows, "ablation", results=results)


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


def draw_all(out: Path, results: Path | None = None) -> list[str]:
    """Draw every figure of which some seed is whole, as SVG; returns the names of those drawn."""
    make_folder("out", out)
    drawn, experiments = [], manifest(results).experiments
    for name, draw in FIGURES.items():
        needed = [f"{name}{part}" for part in "abc"] if name == "figure_3" else [name]
        tables = {part: read_table(f"{part}.csv", results) for part in needed if part in experiments}
        whole = [len(t) and t.groupby("seed").size().max() >= experiments[part].cells for part, t in tables.items()]
        if len(whole) == len(needed) and all(whole):
            fig = draw(results)
            fig.savefig(out / f"{name}.svg", metadata={"Date": None})
            plt.close(fig)
            drawn.append(name)
    return drawn
