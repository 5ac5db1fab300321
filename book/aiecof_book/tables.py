"""Tables of the pages: one place for names, units, decimals and alignment."""

from __future__ import annotations

import math
from collections.abc import Mapping
from html import escape
from numbers import Real

import numpy as np
import pandas as pd

from aiecof.checks import InvalidInput
from aiecof.drawing.style import called, number
from aiecof.metrics import METRICS
from aiecof.study.statistics import Interval

MOST, LONG = 6, 40
"""Columns, that of the names among them; letters of a name that may go on in the next line."""


def decimals(half: float) -> int:
    """Decimals for a number that is known to within `half`: two digits of a width that begins with 1 to 3, else one."""
    if not half > 0.0:
        return 0
    power = math.floor(math.log10(half))
    return max(0, -power + (half / 10.0**power < 3.5))


def _cell(value: object, places: int) -> str:
    """Text of a cell; `places` are the decimals of a number that brings no interval."""
    if isinstance(value, Interval):
        half = (value.high - value.low) / 2.0
        if not half > 0.0:
            return "\N{EN DASH}" if math.isnan(value.mean) else number(value.mean, ".3g")
        form = f",.{decimals(half)}f"
        if abs(value.high + value.low - 2.0 * value.mean) >= 10.0 ** -decimals(half):  # cut off where a share ends
            return f"{number(value.mean, form)} [{number(value.low, form)}, {number(value.high, form)}]"
        return f"{number(value.mean, form)} ± {number(half, form)}"
    if isinstance(value, Real) and not isinstance(value, bool):
        return "\N{EN DASH}" if math.isnan(value) else number(value, f",.{places}f")
    return escape(called(value)).replace("_", "_<wbr>")  # names of the code may go on in the next line


def _places(column: pd.Series) -> int:
    """Decimals of the numbers of a column: three digits of the largest, none of whole numbers."""
    numbers = [float(value) for value in column if isinstance(value, Real) and np.isfinite(value)]
    if not numbers or all(value.is_integer() for value in numbers):
        return 0
    return max(0, 2 - math.floor(math.log10(max(map(abs, numbers)))))


def _best(column: pd.Series, better: int) -> set[int]:
    """Positions of the best values of a column."""
    values = [value.mean if isinstance(value, Interval) else value for value in column]
    ranked = [better * value if isinstance(value, Real) else -math.inf for value in values]
    return {k for k, value in enumerate(ranked) if value == np.nanmax(ranked) > -math.inf}


def html_table(rows: pd.DataFrame, caption: str, name: str = "", best: Mapping[str, int] | None = None) -> str:
    """HTML of `page.table`, whose caption is HTML."""
    if len(rows.columns) + 1 > MOST:
        raise InvalidInput("rows", f"{len(rows.columns) + 1} columns", f"at most {MOST}, the names among them")
    better = {column: METRICS[column].better for column in rows if column in METRICS} if best is None else best
    marked = {column: _best(rows[column], better[column]) for column in rows if column in better}
    places = {column: _places(rows[column]) for column in rows}
    left = {column for column in rows if rows[column].map(lambda value: isinstance(value, str)).any()}
    heads = "".join(
        f"<th scope='col'{' class=words' if column in left else ''}>"
        f"{escape(METRICS[column].heading if column in METRICS else str(column))}</th>"
        for column in rows
    )
    grouped = isinstance(rows.index, pd.MultiIndex)
    body, last = "", None
    for k, (label, row) in enumerate(zip(rows.index, rows.itertuples(index=False, name=None), strict=True)):
        group, label = label if grouped else (None, label)
        if grouped and group != last:
            body += f"<tr class='group'><th colspan='{len(rows.columns) + 1}'>{escape(called(group))}</th></tr>"
            last = group
        said = called(label)
        body += f"<tr><th scope='row'{' class=words' if len(said) > LONG else ''}>{escape(said)}</th>"
        for column, value in zip(rows, row, strict=True):
            text = _cell(value, places[column])
            text = f"<b>{text}</b>" if k in marked.get(column, ()) else text
            body += f"<td{' class=words' if column in left else ''}>{text}</td>"
        body += "</tr>"
    names = [str(part) for part in rows.index.names if part]
    return (
        f"<div class='table-box' id='{escape(name)}' tabindex='0' role='group' aria-label='Table'>"
        f"<table class='numbers'><caption><span>{caption}</span></caption>"
        f"<thead><tr><th scope='col'>{escape(names[-1] if names else '')}</th>{heads}</tr></thead>"
        f"<tbody>{body}</tbody></table></div>"
    )
