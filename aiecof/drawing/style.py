"""How figures look, and what methods and networks are called in figures, tables and sentences.

Grey is context; two accents are for what a figure is about. A line is named beside its end, so that no legend has to be
searched. `COLOURS` are named, because a page of the book gives them other values on dark ground.
"""

import re
from collections.abc import Callable, Iterable, Mapping
from contextlib import AbstractContextManager
from functools import wraps
from pathlib import Path
from typing import NamedTuple

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.axis import Axis
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter
from numpy.typing import ArrayLike

from aiecof.checks import check_calls, check_choice
from aiecof.metrics import ANY, METRICS
from aiecof.study.curves import MEASURES
from aiecof.study.grids import REPRESENTATIVES
from aiecof.study.paper import NAMES
from aiecof.study.statistics import mean_interval
from aiecof.study.store import manifest

INK, GREY, FAINT, FIRST, SECOND = "#24292f", "#6e7781", "#d8dee4", "#0b5cad", "#b3440a"
COLOURS = {"ink": INK, "grey": GREY, "faint": FAINT, "first": FIRST, "second": SECOND}
"""Text; context; lines that only guide the eye; the two accents."""
WIDTH, SMALLEST = 525 / 72, 9.0
"""Inches of a figure, which make 700 pixels of a page; points of its smallest text, 12 pixels there."""
LONGEST = 24
"""Letters of names beside a panel."""
RC = {
    "axes.axisbelow": True,
    "axes.edgecolor": GREY,
    "axes.grid": True,
    "axes.grid.axis": "y",
    "axes.labelcolor": INK,
    "axes.spines.right": False,
    "axes.spines.top": False,
    "axes.titlecolor": INK,
    "axes.titlelocation": "left",
    "axes.titlesize": SMALLEST + 1.0,
    "axes.titleweight": "bold",
    "figure.constrained_layout.use": True,
    "figure.facecolor": "none",
    "axes.facecolor": "none",
    "font.size": SMALLEST,
    "grid.color": FAINT,
    "grid.linewidth": 0.6,
    "legend.frameon": False,
    "lines.linewidth": 1.2,
    "savefig.facecolor": "none",
    "svg.fonttype": "none",  # text stays text: it can be selected, and read aloud
    "svg.hashsalt": "aiecof",
    "text.color": INK,
    "xtick.color": GREY,
    "xtick.labelcolor": INK,
    "ytick.color": GREY,
    "ytick.labelcolor": INK,
}

LABELS = {name: measure.axis for name, measure in MEASURES.items()}
"""Metric, or measure of a curve -> label of its axis."""

NETWORKS = {
    "plain": "plain network",
    "nine-rows": "nine-row network",
    "fitted": "light-load network",
    "balanced": "shared-load network",
    "table-iii": "network of Table III",
}
"""Scenario -> what it is called: `fitted` can do all work at home, `balanced` only with the servers' help."""
CHANGES = {
    "printed": "",
    "shown": "mean shown",
    "spent": "energy until a drop",
    "extended": "more seen",
    "mended": "mended reward",
}
"""Arm of the plan -> what is not as printed in it."""
ARMS = {
    f"{arm}-{name}": f"{NETWORKS[name]}, {change}" if change else NETWORKS[name]
    for arm, change in CHANGES.items()
    for name in REPRESENTATIVES
}
"""Arm on a network -> what it is called."""
METHODS = NAMES | {
    "double-dqn": "Double DQN",
    "dueling-dqn": "Dueling DQN",
    "ppo": "PPO",
    "ppo-stacked": "PPO, 4 observations",
    "toppo-transformer": "TOPPO, Transformer",
    "toppo-keeping": "TOPPO, helped",
    "mappo": "MAPPO",
    "always-local": "always at home",
    "greedy": "greedy",
    "greedy-coordinated": "greedy, coordinated",
    "frugal": "frugal",
    "least-loaded": "least loaded server",
    "threshold-power-of-two": "threshold",
    "threshold-random": "threshold, random server",
    "threshold-least-loaded": "threshold, least loaded",
    "threshold-spread": "threshold, spread",
    "mixture-random": "coin",
    "best-rule": "best rule",
    "best-coin": "best coin",
    "mixture-power-of-two": "coin, better of two",
    "lower-bound": "lower bound",
}
"""Method, rule or mark -> what it is called; a coin decides alone who stays at home."""


def called(name: object) -> str:
    """A method, a network or an arm by its name in words; anything else as it is."""
    return METHODS.get(name) or NETWORKS.get(name) or ARMS.get(name) or str(name)


def number(value: float, form: str) -> str:
    """A number as a page has it: with a minus sign, none before a zero, and a space before a percent sign."""
    text = re.sub(r"^-(?=[^1-9]*$)", "", f"{value:{form}}")
    return re.sub(r"(?<=\d)%$", "\N{NO-BREAK SPACE}%", text.replace("-", "\N{MINUS SIGN}", 1))


def in_style() -> AbstractContextManager[None]:
    """The one style of all figures, whatever a user's own settings say (`with in_style():`)."""
    return plt.style.context(["default", RC])


def styled(draw: Callable[..., Figure]) -> Callable[..., Figure]:
    """Draw in the one style of all figures."""

    @wraps(draw)
    def inside(*args, **kwargs) -> Figure:
        with in_style():
            return draw(*args, **kwargs)

    return inside


def panels(rows: int = 1, columns: int = 1, height: float = 2.6, **options) -> tuple[Figure, np.ndarray]:
    """A figure as wide as a page, its panels `height` inches high; the panels as a (rows, columns) array."""
    options = {"figsize": (WIDTH, height * rows + 0.3), "squeeze": False} | options
    return plt.subplots(rows, columns, **options)


def check_columns(rows: pd.DataFrame, metric: str, **columns: str) -> None:
    """`InvalidInput` for a metric, or for a column under some parameter's name, that the rows do not have."""
    check_choice("metric", metric, tuple(name for name in MEASURES if name in rows))
    for name, column in columns.items():
        check_choice(name, column, tuple(map(str, rows)))


def stressed(rows: pd.DataFrame, metric: str, by: str = "method", ours: str = "") -> dict[str, str]:
    """Who gets an accent: TOPPO the first, and the best of the others the second; without TOPPO the best the first.

    ours : str
        Who has the first accent although no row is its own.
    """
    check_columns(rows, metric, by=by)
    better = METRICS[metric].better if metric in METRICS else -1
    ranked = (better * rows.groupby(by)[metric].mean()).sort_values(ascending=False).index
    first = [ours] if ours else [name for name in ranked if name in ("toppo", "TOPPO")]
    return dict(zip([*first, *(name for name in ranked if name not in first)], (FIRST, SECOND), strict=False))


def plain_log(axis: Axis) -> None:
    """Label a logarithmic axis with whole numbers instead of small exponents."""
    axis.axes.set(**{f"{axis.axis_name}scale": "log"})
    axis.set_major_locator(LogLocator(subs=(1.0, 3.0), numticks=8))
    axis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axis.set_minor_formatter(NullFormatter())


class _End(NamedTuple):
    """Where a line ends, as a share of the panel's height, and what it is called there."""

    at: float
    colour: str
    names: list[str]

    @property
    def text(self) -> str:
        """Its names, as many as fit beside a panel, and how many more there are."""
        fit = max(1, sum(len(", ".join(self.names[: k + 1])) <= LONGEST for k in range(len(self.names))))
        rest = len(self.names) - fit
        shown = [*self.names[:fit], *([f"{rest} more"] if rest else [])]
        return ", ".join(shown[:-1]) + f" and {shown[-1]}" if len(shown) > 1 else shown[0]


def _ends(ax: Axes, step: float) -> list[_End]:
    """The ends of a panel's lines from below; those of one colour that meet share one."""
    found: list[_End] = []
    to_panel = ax.transData + ax.transAxes.inverted()
    handles = zip(*ax.get_legend_handles_labels(), strict=True)
    lines = [(getattr(handle, "lines", [handle])[0], name) for handle, name in handles]
    lasts = [(to_panel.transform(line.get_xydata()[-1])[1], line.get_color(), name) for line, name in lines]
    for at, colour, name in sorted(lasts):
        near = [end for end in found if end.colour == colour and at - end.at < 0.3 * step]
        if near:
            near[-1].names.append(name)
        else:
            found.append(_End(at, colour, [name]))
    return found


def _apart(places: Iterable[float], step: float) -> np.ndarray:
    """Sorted places, moved as little as it takes to be a step apart."""
    groups: list[list[float]] = []  # of places that touch: their sum less their steps, and their number
    for place in places:
        groups.append([place, 1])
        while (
            len(groups) > 1
            and groups[-1][0] / groups[-1][1] - groups[-2][0] / groups[-2][1]
            < step * (groups[-1][1] + groups[-2][1]) / 2.0
        ):
            total, number = groups.pop()
            groups[-1] = [groups[-1][0] + total, groups[-1][1] + number]
    return np.concatenate(
        [[total / number + step * (k - (number - 1) / 2.0) for k in range(number)] for total, number in groups] or [[]]
    )


def label_lines(*axes: Axes, renamed: Mapping[str, str] | None = None) -> None:
    """Name every labelled line beside its end, right of its panel, in its colour; the last thing to do to a panel."""
    axes[0].figure.draw_without_rendering()
    for ax in axes:
        step = 1.3 * SMALLEST / (ax.get_window_extent().height / ax.figure.dpi * 72.0)
        ends = _ends(ax, step)
        for end, y in zip(ends, _apart([end.at for end in ends], step), strict=True):
            text = (renamed or {}).get(end.text, end.text)
            ax.annotate(
                text,
                (1.0, min(max(end.at, 0.0), 1.0)),
                (1.035, y),
                "axes fraction",
                "axes fraction",
                {"arrowstyle": "-", "color": end.colour, "lw": 0.5, "shrinkA": 1, "shrinkB": 0, "relpos": (0.0, 0.5)},
                color=end.colour,
                va="center",
                annotation_clip=False,
            )


def intervals(rows: pd.DataFrame, by: str, metric: str, within: tuple[float, float] | None = None) -> pd.DataFrame:
    """Mean over seeds, low, high and number of seeds of a metric for each value of `by`.

    within : (float, float) or None
        Lowest and highest value there can be; None takes those of the metric. Of differences it is `ANY`.
    """
    check_columns(rows, metric, by=by)
    groups = rows.groupby(by, sort=False)[metric]
    within = MEASURES[metric].within if within is None else within
    found = pd.DataFrame({value: mean_interval(entries, within=within)._asdict() for value, entries in groups}).T
    return found.assign(seeds=groups.size())


def errors_of(found: pd.DataFrame) -> np.ndarray:
    """(2, n): how far the interval reaches below and above each mean."""
    return np.stack([found["mean"] - found["low"], found["high"] - found["mean"]])


def draw_curves(
    ax: Axes,
    curves: pd.DataFrame,
    metric: str,
    by: str = "method",
    window: int = 5,
    accents: Mapping[str, str] | None = None,
) -> None:
    """Moving means over `window` episodes, averaged over seeds, with bands, one a value of `by`; accents in colour."""
    check_columns(curves, metric, by=by, curves="episode")
    accents = stressed(curves, metric, by) if accents is None else accents
    for value, group in curves.groupby(by, sort=False):
        wide = group.pivot(index="episode", columns="seed", values=metric).rolling(window, min_periods=1).mean()
        mean, low, high = np.array([mean_interval(row, within=MEASURES[metric].within) for row in wide.to_numpy()]).T
        colour, front = accents.get(value, GREY), value in accents
        ax.plot(wide.index, mean, color=colour, label=called(value), lw=1.8 if front else 0.9, zorder=2 + front)
        ax.fill_between(wide.index, low, high, color=colour, alpha=0.15, linewidth=0)
    ax.set(xlabel="training episode", ylabel=LABELS[metric])
    ax.margins(x=0.01)


def axis_range(values: ArrayLike) -> tuple[float, float]:
    """Limits of an axis that show every seed: the interval of two or three may be many times as wide."""
    low, high = np.nanmin(values), np.nanmax(values)
    margin = 0.1 * (high - low) or 0.05 * abs(high) or 1.0
    return low - margin, high + margin


def draw_sweep(
    ax: Axes,
    rows: pd.DataFrame,
    x: str,
    metric: str,
    by: str = "method",
    results: Path | None = None,
    accents: Mapping[str, str] | None = None,
) -> None:
    """Means over seeds with intervals against `x`, a line a value of `by`; rules are dashed, accents coloured.

    Equal values stand side by side, so that none hides another.
    """
    check_columns(rows, metric, by=by, x=x)
    accents = stressed(rows, metric, by) if accents is None else accents
    groups, dashed = list(rows.groupby(by, sort=False)), manifest(results).of_kind("rule")
    values = np.unique(rows[x])
    step = 0.5 * min(np.diff(values), default=1.0) / max(len(groups), 2)
    for index, (value, group) in enumerate(groups):
        found, front = intervals(group, x, metric).sort_index(), value in accents
        style = {"color": accents.get(value, GREY), "lw": 1.8 if front else 0.9, "zorder": 2 + front}
        style |= {"marker": "o", "ms": 5 if front else 3, "ls": "--" if value in dashed else "-"}
        place = found.index + step * (index - (len(groups) - 1) / 2)
        ax.errorbar(place, found["mean"], errors_of(found), elinewidth=0.8, label=called(value), **style)
    ax.set(xlabel=x, ylabel=LABELS[metric], xticks=values, ylim=axis_range(rows[metric]))


def draw_points(ax: Axes, rows: pd.DataFrame, by: str, metric: str) -> None:
    """Means over seeds with intervals, a line of the picture a value of `by`; the ticks are the seeds."""
    found = intervals(rows, by, metric, within=ANY)
    y = np.arange(len(found))
    ax.plot(rows[metric], rows[by].map(dict(zip(found.index, y, strict=True))), "|", color=GREY, ms=9)
    ax.errorbar(found["mean"], y, xerr=errors_of(found), fmt="o", color=FIRST, ms=5, capsize=3)
    ax.set(yticks=y, yticklabels=map(called, found.index), ylim=(len(found) - 0.5, -0.5))
    ax.set(xlim=axis_range([*rows[metric], 0.0]))


check_calls(globals())
