"""The figures of the experiments from their tables: nothing here simulates or trains.

Curves and points carry 95 % t intervals over the seeds; printed values of the paper are open diamonds. TOPPO has the
first accent, the best of the others the second; rules are dashed.
"""

import io
import textwrap
from collections.abc import Callable, Iterable
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from numpy.typing import ArrayLike

from aiecof.checks import InvalidInput, check_calls, check_choice
from aiecof.drawing.style import (
    FIRST,
    GREY,
    INK,
    LABELS,
    SECOND,
    axis_range,
    called,
    check_columns,
    draw_curves,
    draw_points,
    draw_sweep,
    errors_of,
    in_style,
    intervals,
    label_lines,
    number,
    panels,
    plain_log,
    stressed,
    styled,
)
from aiecof.files import digest, make_folder, results_folder, write_whole
from aiecof.study.curves import curves_of
from aiecof.study.grids import EVALUATION, UNTRAINED
from aiecof.study.paper import NAMES, printed
from aiecof.study.statistics import mean_interval
from aiecof.study.store import condition, declared, looking_at, manifest, read_table, status
from aiecof.study.store import experiment_table as table

_ORDER = (*NAMES, "always-local", "greedy", "frugal", "threshold-power-of-two")


def complete_seeds(rows: pd.DataFrame) -> pd.DataFrame:
    """The rows of the seeds that have the most of them: what is compared has to rest on the same networks."""
    check_choice("rows", "seed", tuple(map(str, rows)))
    counts = rows.groupby("seed").size()
    return rows[rows["seed"].isin(counts.index[counts == counts.max()])]


def _on(rows: pd.DataFrame, scenario: str) -> pd.DataFrame:
    """The rows on one scenario, which has to be there."""
    return rows[rows["scenario"] == check_choice("scenario", scenario, tuple(rows["scenario"].unique()))]


def relative_to(rows: pd.DataFrame, metric: str, **reference: str) -> pd.DataFrame:
    """The rows with a metric less that of the row called `reference` in the same setting, with the same seed."""
    keys = [name for name in ("scenario", "seed", "kind", "tasks", "devices", "capacity") if name in rows]
    if len(reference) != 1:
        raise InvalidInput("reference", reference, "one column and its value, such as method='toppo'")
    [(label, value)] = reference.items()
    check_columns(rows, metric, reference=label)
    check_choice(label, value, tuple(rows[label].unique()))
    base = rows[rows[label] == value].set_index(keys)[metric]
    base = base.reindex(pd.MultiIndex.from_frame(rows[keys])).to_numpy()
    return rows.assign(**{metric: rows[metric].to_numpy() - base})


def progress(*names: str, results: Path | None = None) -> str:
    """How much of what was declared has been run, of some experiments; in full, or only in part, or not at all."""
    state = status(results).set_index("experiment").reindex(names)
    parts = [
        f"`{row.Index}` {row.done:.0f} of {row.trials:.0f} trials" if row.trials > 0 else f"`{row.Index}` none yet"
        for row in state.itertuples()
    ]
    missing = " ".join(state.index[state["missing"].ne(0)])
    return f"Run: {', '.join(parts)}." + (f" `aiecof run {missing}` computes what is missing." if missing else "")


def said(values: ArrayLike, form: str = "+.3g", within: tuple[float, float] = (-np.inf, np.inf)) -> str:
    """Mean over seeds and its 95 % interval in words; seeds that do not differ give none, and it says so.

    within : (float, float)
        Lowest and highest value there can be, as in `mean_interval`.
    """
    mean, low, high = mean_interval(values, within=within)
    shown = number(mean, form)
    return f"{shown} [{number(low, form)}, {number(high, form)}]" if low < high else f"{shown} ({_alike(values)})"


def holds(differences: ArrayLike) -> str:
    """Whether paired differences are positive: "yes", "no", "open" if the 95 % interval covers 0, or "equal"."""
    mean, low, high = mean_interval(differences)
    answer = "open"
    if low > 0.0 or high < 0.0:
        answer = "yes" if mean > 0.0 else "no"
    elif low == high == 0.0:
        answer = "equal"
    return answer if low < high else f"{answer} ({_alike(differences)})"


def leaves_out_zero(differences: ArrayLike) -> bool:
    """Whether the 95 % interval of paired differences has 0 outside."""
    return holds(differences).split()[0] in ("yes", "no")


def _alike(values: ArrayLike) -> str:
    return {0: "no results", 1: "one seed"}.get(np.size(values), f"alike on {np.size(values)} seeds")


def stamp(rows: pd.DataFrame, *names: str, results: Path | None = None) -> Figure:
    """The current figure, marked with its experiments, the digests of their tables, and the seeds of the rows drawn."""
    fig, doubts = plt.gcf(), [f"STALE: {doubt}" for doubt in _doubts(names, results)]
    place = results_folder() if results is None else results
    tables = ", ".join(f"{name} {digest(place / f'{name}.csv')[:8]}" for name in names)
    text = textwrap.fill("; ".join([tables, f"seeds: {_seeds(rows)}", *doubts]), 110)
    fig.supxlabel(text, x=0.99, ha="right", fontsize=7, color=SECOND if doubts else GREY)
    return fig


def _doubts(names: Iterable[str], results: Path | None) -> list[str]:
    return [f"{name} is not up to date ({doubt})" for name in names if (doubt := condition(name, results))]


def _counts(rows: pd.DataFrame) -> pd.Series:
    """Seeds of each cell of an experiment that has any among some rows."""
    labels = [name for name in rows if name not in ("seed", "run", "wall_time", *LABELS)]
    return rows.groupby(labels, dropna=False)["seed"].nunique()


def _seeds(rows: pd.DataFrame) -> str:
    """How many seeds the settings in some rows of an experiment have: a number, or the least and the most."""
    counts = _counts(rows)
    return " to ".join(str(count) for count in sorted({counts.min(), counts.max()}))


def provenance(*names: str, results: Path | None = None) -> str:
    """What the tables of some experiments rest on, whether they still belong to the code, and what computes them."""
    parts, lengths = [], read_table("runs.csv", results).drop_duplicates("run").set_index("run")["episodes"]
    for name in names:
        rows, experiment = table(name, results), declared(name, results)
        trained = sorted(episodes for episodes in lengths.reindex(rows["run"]).dropna().unique() if episodes)
        begun = len(_counts(rows))
        where = "each of " if begun == experiment.cells else f"{begun} of "
        parts.append(
            f"`{name}`: {_seeds(rows)} of {experiment.seeds} declared seeds in {where}{experiment.cells} cells, "
            f"{len(rows)} trials, {rows['wall_time'].sum() / 3600:.1f} hours of computing"
            + f", trained for {' or '.join(f'{episodes:.0f}' for episodes in trained)} episodes"
            * bool(trained)
        )
    again = f"`aiecof run {' '.join(names)}` computes what is missing; with another `--folder`, `--results`: all."
    warning = "".join(f"**Stale results**: {doubt}. " for doubt in _doubts(names, results))
    judged = f"Judged on {EVALUATION} held-out episodes a seed."
    return f"{warning}{'; '.join(parts)}. {judged} {again}"


_SETTINGS = {"a": "actor {actor:g}, critic {critic:g}", "b": "batch of {batch_size:g}", "c": "gamma {gamma:g}"}


def settings(part: str, results: Path | None = None) -> pd.DataFrame:
    """The table of Fig. 3(a), (b) or (c), of its complete seeds, with every row's `setting` in words."""
    check_choice("part", part, tuple(_SETTINGS))
    rows = complete_seeds(table(f"figure_3{part}", results))
    return rows.assign(setting=[_SETTINGS[part].format(**row) for row in rows.to_dict("records")])


@styled
def figure_3(results: Path | None = None) -> Figure:
    """Reward while learning, by the two learning rates, the batch size and the discount factor."""
    _, axes = panels(3, height=2.1, sharex=True)
    tables = [settings(part, results) for part in "abc"]
    for ax, rows, title in zip(axes.flat, tables, ("learning rates", "batch size", "discount"), strict=True):
        curves = curves_of(rows, results)
        draw_curves(ax, curves, "reward", "setting")
        ax.set(title=title, ylim=axis_range(curves["reward"]))
        ax.label_outer()
    label_lines(*axes.flat)
    return stamp(pd.concat(tables), "figure_3a", "figure_3b", "figure_3c", results=results)


@styled
def figure_4(results: Path | None = None, metrics: Iterable[str] = ("delay", "drop_rate")) -> Figure:
    """Delay and share of dropped tasks, or other metrics, against the number of tasks, for kinds A and B."""
    rows, metrics = complete_seeds(table("figure_4", results)), list(metrics)
    _, axes = panels(len(metrics), 2, sharex=True, sharey="row")
    for line, metric in zip(axes, metrics, strict=True):
        for ax, (kind, group) in zip(line, rows.groupby("kind"), strict=True):
            draw_sweep(ax, group, "tasks", metric, results=results, accents=stressed(rows, metric))
            ax.set(xlabel="tasks of a device in 100 slots", title=f"tasks of kind {kind}" if ax in axes[0] else "")
            ax.label_outer()
    label_lines(*axes[:, 1])
    return stamp(rows, "figure_4", results=results)


@styled
def figure_5(results: Path | None = None) -> Figure:
    """Reward while learning, by method."""
    rows = table("figure_5", results)
    _, [[ax]] = panels(height=3.6)
    draw_curves(ax, curves_of(rows, results), "reward", window=1)
    label_lines(ax)
    return stamp(rows, "figure_5", results=results)


@styled
def figure_6(results: Path | None = None) -> Figure:
    """Energy, delay and drops while learning, by method; diamonds are the printed Table IV."""
    rows = table("figure_6", results)
    curves = curves_of(rows, results)
    _, axes = panels(3, sharex=True)
    for ax, metric in zip(axes.flat, ("energy", "delay", "drop_rate"), strict=True):
        accents = stressed(curves, metric)
        draw_curves(ax, curves, metric, window=1, accents=accents)
        for method, value in printed(metric).items():
            if method in set(curves["method"]):
                place = {"marker": "D", "mfc": "none", "ls": "none", "clip_on": False}
                ax.plot(curves["episode"].max(), value, mec=accents.get(method, GREY), **place)
        ax.set(title=("", "diamonds: printed in Table IV")[ax is axes[0, 0]])
        if metric == "energy":
            plain_log(ax.yaxis)
        else:
            ax.set(ylim=(0, None))
        ax.label_outer()
    label_lines(*axes.flat)
    return stamp(rows, "figure_6", results=results)


@styled
def figure_7(results: Path | None = None) -> Figure:
    """Load of each device, sorted by its clock, before and after training."""
    rows = table("figure_7", results)
    devices = read_table("devices.parquet", results).merge(rows[["run", "stage", "seed"]], on="run")
    devices["rank"] = devices.groupby("run")["clock"].rank(method="first").astype(int)
    paper = {"early": (0.4257, "after the first training episode"), "late": (0.7925, "after the whole training")}
    _, axes = panels(2, sharex=True, sharey=True)
    for ax, (stage, (level, title)) in zip(axes.flat, paper.items(), strict=True):
        group = devices[devices["stage"] == stage]
        found, ours = intervals(group, "rank", "load").sort_index(), group["load"].mean()
        ax.bar(found.index, found["mean"], yerr=errors_of(found), color=GREY, alpha=0.5, ecolor=GREY, capsize=1.5)
        ends = [found.index.min() - 0.5, found.index.max() + 0.5]
        ax.plot(ends, [level, level], color=SECOND, ls="--", label="printed mean")
        ax.plot(ends, [ours, ours], color=FIRST, label="our mean")
        ax.set(title=title, ylabel=LABELS["load"], ylim=(0, 1))
        ax.margins(x=0.01)
    axes[1, 0].set(xlabel="device, the one with the slowest clock first")
    label_lines(*axes.flat)
    return stamp(rows, "figure_7", results=results)


def _sweep(part: str, arm: str, results: Path | None) -> tuple[str, pd.DataFrame]:
    """Name and rows of a sweep, the first one or that of an arm, of the seeds that have the most of it on a network."""
    name = f"{arm}_{part}" if check_choice("arm", arm, ("", "printed")) else part
    networks = table(name, results).groupby("scenario", sort=False)
    return name, pd.concat([complete_seeds(rows) for _, rows in networks])


@styled
def figure_8(
    results: Path | None = None, metric: str = "reward", less: str = "", scenario: str = "", arm: str = ""
) -> Figure:
    """A metric against the number of devices, by method, on both scenarios or one.

    less : str
        A method whose metric is subtracted on every network; then methods far from it, the untrained, are left out.
    arm : "" or "printed"
        Whose sweep: the first one, with the mended reward, or that with the reward as printed.
    """
    name, rows = _sweep("figure_8", arm, results)
    check_columns(rows, metric)
    rows = _on(rows, scenario) if scenario else rows
    if less:
        rows = relative_to(rows, metric, method=less)
        rows = rows[~rows["method"].isin([less, *UNTRAINED, "always-local", "greedy"])]
    _, axes = panels(rows["scenario"].nunique(), height=2.8, sharex=True)
    for ax, (network, group) in zip(axes.flat, rows.groupby("scenario", sort=False), strict=True):
        draw_sweep(ax, group, "devices", metric, results=results, accents=stressed(rows, metric, ours=less))
        if less:
            ax.axhline(0.0, color=FIRST, lw=1.8)
        ax.set(title=called(network), ylabel=LABELS[metric] + f"\nless that of {called(less)}" * bool(less))
        ax.label_outer()
    label_lines(*axes.flat)
    return stamp(rows, name, results=results)


@styled
def figure_9(results: Path | None = None, scenario: str = "fitted", arm: str = "") -> Figure:
    """Energy, delay, load and drops against the capacity of the servers, on one scenario; `arm` as in `figure_8`."""
    name, rows = _sweep("figure_9", arm, results)
    rows = _on(rows, scenario)
    _, axes = panels(4, height=2.2, sharex=True)
    for ax, metric in zip(axes.flat, ("energy", "delay", "load", "drop_rate"), strict=True):
        draw_sweep(ax, rows, "capacity", metric, results=results)
        ax.set(xlabel="server clock, as a multiple of Table III's")
        ax.label_outer()
    axes[0, 0].set(ylim=(rows["energy"].min() / 2.0, rows["energy"].max() * 2.0))
    plain_log(axes[0, 0].yaxis)
    label_lines(*axes.flat)
    return stamp(rows, name, results=results)


def _shown(results: Path | None) -> list[str]:
    """Who is in the picture of Table IV: the paper's methods, the rules of the sweeps, and whoever was added."""
    players = manifest(results).players
    return [*_ORDER, *(name for name, player in players.items() if player.added)]


@styled
def table_iv(results: Path | None = None, scenario: str = "fitted", methods: Iterable[str] = ()) -> Figure:
    """The four objectives and the reward of each method beside the printed ones."""
    rows = _on(table("table_iv", results), scenario)
    for name in (methods := list(methods)):
        check_choice("methods", name, tuple(rows["method"].unique()))
    rows = rows[rows["method"].isin(methods or _shown(results))]
    names = sorted(rows["method"].unique(), key=[*_ORDER, *rows["method"].unique()].index)
    _, axes = panels(2, 3, height=0.7 + 0.2 * len(names), sharey=True)
    *panel, last = axes.flat
    for ax, metric in zip(panel, ("delay", "energy", "drop_rate", "load", "reward"), strict=True):
        found, paper = intervals(rows, "method", metric).loc[names], printed(metric)
        accents = stressed(rows, metric)
        for y, (name, errors) in enumerate(zip(names, errors_of(found).T, strict=True)):
            colour = accents.get(name, GREY)
            ax.errorbar(found["mean"].iloc[y], y, xerr=errors[:, None], fmt="o", ms=4, color=colour, capsize=2)
            ax.plot(paper.get(name, np.nan), y, "D", ms=5, mfc="none", mec=INK)
        ax.set(xlabel=LABELS[metric], yticks=range(len(names)), yticklabels=[called(name) for name in names])
    axes[0, 0].invert_yaxis()
    plain_log(axes[0, 1].xaxis)
    kinds = {"ours: mean and\n95 % interval": ("o", GREY), "printed in Table IV": ("D", "none")}
    handles = [Line2D([], [], ls="none", marker=m, mfc=fill, mec=INK, label=kind) for kind, (m, fill) in kinds.items()]
    last.legend(handles=handles, loc="center", title=called(scenario))
    last.axis("off")
    return stamp(rows, "table_iv", results=results)


@styled
def ablation(results: Path | None = None, metric: str = "reward") -> Figure:
    """A metric of TOPPO less one of its parts, or with another in its place, less TOPPO's own, on both scenarios."""
    rows = relative_to(complete_seeds(table("ablation", results)), metric, variant="TOPPO")
    groups = rows[rows["variant"] != "TOPPO"].groupby("scenario", sort=False)
    _, axes = panels(1, groups.ngroups, height=3.0, sharey=True)
    for ax, (scenario, group) in zip(axes[0], groups, strict=True):
        draw_points(ax, group, "variant", metric)
        ax.axvline(0.0, color=INK, lw=1)
        ax.set(title=called(scenario), xlabel=f"{LABELS[metric]}\nless TOPPO's")
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
    with looking_at(results):
        return _draw_all(out, results)


def _draw_all(out: Path, results: Path | None) -> list[str]:
    drawn, experiments = [], manifest(results).experiments
    for name, draw in FIGURES.items():
        needed = [f"{name}{part}" for part in "abc"] if name == "figure_3" else [name]
        tables = {part: read_table(f"{part}.csv", results) for part in needed if part in experiments}
        whole = [len(t) and t.groupby("seed").size().max() >= experiments[part].cells for part, t in tables.items()]
        if len(whole) == len(needed) and all(whole):
            with in_style():
                fig, drawing = draw(results), io.BytesIO()
                fig.savefig(drawing, format="svg", facecolor="white", metadata={"Date": None})
            plt.close(fig)
            write_whole(out / f"{name}.svg", drawing.getvalue())
            drawn.append(name)
    return drawn


check_calls(globals())
