"""Pages that lead to others: the start page, its strip of claims and the verdicts these lead to, and the gallery."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping
from html import escape
from pathlib import Path

import matplotlib.pyplot as plt
import pandas as pd
from matplotlib.figure import Figure
from matplotlib.text import Text

from aiecof.drawing.style import ARMS, GREY, METHODS, WIDTH, called, styled
from aiecof.study import verdicts
from aiecof.study.claims import Verdict
from aiecof.study.statistics import mean_interval
from aiecof_book.page import svg_of

MARKS = {
    verdicts.REPRODUCED: ("R", "holds"),
    verdicts.DIRECTION: ("D", "holds"),
    verdicts.MATCHED: ("M", "shared"),
    verdicts.UNDECIDED: ("?", "open"),
    verdicts.EQUIVALENT: ("=", "open"),
    verdicts.UNTESTABLE: ("\N{EN DASH}", "open"),
    verdicts.REFUTED: ("X", "fails"),
    verdicts.INCONSISTENT: ("I", "fails"),
    verdicts.IMPOSSIBLE: ("!", "fails"),
}
"""Verdict -> its letter, and the kind that colours it."""


@styled
def bars(values: pd.DataFrame, accents: Mapping[str, str], label: str) -> Figure:
    """A bar with its interval for every column of values, as wide as half a page.

    values : DataFrame
        One row a seed.
    accents : mapping
        Column -> its colour; the others are grey.
    """
    fig, ax = plt.subplots(figsize=(WIDTH * 0.6, 0.5 + 0.22 * len(values.columns)))
    for y, name in enumerate(values):
        mean, low, high = mean_interval(values[name])
        colour = accents.get(name, GREY)
        ax.barh(y, mean, 0.6, color=colour, alpha=0.45)
        ax.plot([low, high], [y, y], color=colour)
        ax.annotate(f"{mean:.0f}", (high, y), (4, 0), textcoords="offset points", va="center", color=colour)
    ax.set(yticks=range(len(values.columns)), yticklabels=map(called, values), xlabel=label)
    ax.grid(visible=False)
    ax.invert_yaxis()
    return fig


def anchor(entry: Verdict) -> str:
    """Where a claim stands on the page of the claims: its name, without what a selector of CSS could not have."""
    return "claim-" + entry.claim.name.replace(".", "-")


def strip(found: Iterable[Verdict], page: str = "../notebooks/claims.html") -> str:
    """HTML of the claims as squares, each a link to its verdict on the page of the claims."""
    squares = []
    for entry in found:
        letter, kind = MARKS.get(entry.verdict, (".", "open"))
        words = escape(f"{entry.claim.statement} {entry.verdict}")
        link = f'<a class="{kind}" href="{page}#{anchor(entry)}" title="{words}" aria-label="{words}">'
        squares.append(f"<li>{link}{letter}</a></li>")
    return f'<ul class="strip" aria-label="The claims of the paper and their verdicts">{"".join(squares)}</ul>'


def _in_words(text: str) -> str:
    """What a verdict rests on, with methods and arms by their names and minus signs."""
    text = re.sub(r"(?<![\w-])-(?=\d)", "\N{MINUS SIGN}", text)
    names = {key: re.sub(", (.+)", r" (\1)", name) for key, name in (METHODS | ARMS).items()}  # they stand in lists
    return re.sub(r"[a-z][a-z0-9-]*", lambda word: names.get(word[0], word[0]), text)


def evidence(found: Iterable[Verdict]) -> str:
    """HTML of every claim with its verdict and the sentence it rests on, where the squares of `strip` lead."""
    entries = "".join(
        f'<dt id="{anchor(entry)}">{escape(entry.claim.statement)}</dt>'
        f"<dd><b>{escape(entry.verdict.capitalize())}</b>: {escape(_in_words(entry.evidence))}. "
        f"<small>{escape(entry.claim.place)}</small></dd>"
        for entry in found
    )
    return f'<dl class="verdicts">{entries}</dl>'


def front(picture: str, caption: str, replay: str, beside: str, squares: str) -> str:
    """HTML of the start page below its findings: a picture and the running replay side by side, and the strip."""
    return (
        f'<div class="front"><figure><div class="drawing" tabindex="0" role="group" aria-label="Figure">{picture}</div>'
        f"<figcaption>{caption}</figcaption>{squares}</figure>"
        f"<div>{replay}<p>{beside}</p></div></div>"
    )


def gallery(pages: Mapping[str, tuple[str, Figure]], folder: Path = Path()) -> str:
    """Markdown of a card for each page: its figure without words, its question, and its answer if it has a box.

    pages : mapping
        Notebook of the folder, without its ending -> what the paper calls its figure, and the figure.
    """
    cards = []
    for name, (paper, figure) in pages.items():
        cells = json.loads((folder / f"{name}.ipynb").read_text(encoding="utf-8"))["cells"]
        question = "".join(cells[0]["source"]).partition("\n")[0].removeprefix("# ")
        answered = any("page.answer(" in "".join(cell["source"]) for cell in cells)
        answer = f"{{glue:text}}`{name}.ipynb::answer:s`\n" if answered else ""
        cards.append(
            f":::{{grid-item-card}} {paper}: {question}\n:link: {name}\n:link-type: doc\n\n"
            f'<div class="thumbnail">{_thumbnail(figure)}</div>\n\n{answer}:::\n'
        )
    return "::::{grid} 1 2 2 2\n:gutter: 3\n\n" + "\n".join(cards) + "::::\n"


def _thumbnail(figure: Figure) -> str:
    """A figure without words, in one line of HTML."""
    for text in figure.findobj(Text):
        text.set_visible(False)
    return svg_of(figure, "").replace('role="img" aria-label=""', 'aria-hidden="true"').replace("\n", " ")
