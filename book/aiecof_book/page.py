"""What a chapter is made of: checked sentences, the answer box, predictions, tables, figures and provenance.

Each call shows its part of the page, from a cell that the page hides. What an author says about results is a sentence
of `checked`: it stands on the page only while its condition holds, or the book is not built.
"""

from __future__ import annotations

import io
import re
from collections.abc import Iterable, Mapping
from html import escape
from itertools import count
from numbers import Real
from string import Formatter

import matplotlib.pyplot as plt
import pandas as pd
from markdown_it import MarkdownIt
from matplotlib.figure import Figure

from aiecof import __version__
from aiecof.checks import InvalidInput
from aiecof.drawing import figures
from aiecof.drawing.style import COLOURS, RC, called, in_style, number
from aiecof.metrics import ANY
from aiecof.study import claims
from aiecof.study.curves import MEASURES
from aiecof.study.evidence import PRIMARY, Facts
from aiecof.study.statistics import Interval, mean_interval
from aiecof_book.tables import html_table

plt.rcParams.update(RC)  # a page draws in one style, also what it draws itself
_numbers = count(1)


def _readable() -> None:
    """Have cells print numbers and intervals with four digits."""
    from IPython import get_ipython

    if (shell := get_ipython()) is not None:
        plain = shell.display_formatter.formatters["text/plain"]
        plain.float_precision = "%.4g"
        fields = "Interval(mean={0.mean:.4g}, low={0.low:.4g}, high={0.high:.4g})"
        plain.for_type(Interval, lambda value, printer, _: printer.text(fields.format(value)))


_readable()


class _Sentence(Formatter):
    """Puts numbers into a sentence as pages have them."""

    def format_field(self, value: object, form: str) -> str:
        return number(value, form) if isinstance(value, Real) else super().format_field(value, form)


class FalseSentence(AssertionError):
    """A sentence of the book that its condition no longer bears out."""


class Checked(str):
    """A sentence that held when it was written onto the page."""


def checked(sentence: str, holds: bool, **numbers: object) -> Checked:
    """A sentence with its numbers, if its condition holds; else `FalseSentence`, which names it.

    sentence : str
        Plain words of an author, with `{name}` or `{name:.1f}` where a number goes.
    holds : bool
        What must be true of the results for the sentence to be true. An answer in words is refused: "no" is not False.
    numbers : object
        What is filled in.
    """
    text = _Sentence().vformat(sentence, (), numbers)
    if isinstance(holds, str) or holds is None:
        raise InvalidInput("holds", holds, "a truth value: say what must be true of the results")
    if not holds:
        raise FalseSentence(f'the results do not bear out the sentence: "{text}" Rewrite it, or what it rests on')
    return Checked(text)


def _must_be_checked(**sentences: str) -> None:
    for name, sentence in sentences.items():
        if not isinstance(sentence, Checked):
            raise InvalidInput(name, sentence, "a sentence of `checked`")


def _inline(text: str) -> str:
    """HTML of a line of Markdown; a link to a notebook or another source leads to its page."""
    html = MarkdownIt().renderInline(text)
    return re.sub(r'(href="(?!\w+:)[^"#]+)\.(?:ipynb|md)(?=[#"])', r"\1.html", html)


def _show_html(text: str) -> None:
    from IPython.display import HTML, display

    display(HTML(text))


def quotable(name: str, value: object) -> None:
    """Hand a value of a notebook to other pages of the book: what MyST-NB's `glue` does, which need not be there."""
    from IPython.display import display

    hidden = "application/papermill.record/"
    scrapbook = {"name": name, "mime_prefix": hidden}
    display({f"{hidden}text/plain": str(value)}, raw=True, metadata={"scrapbook": scrapbook})


def say(*sentences: str) -> None:
    """A paragraph of sentences, in Markdown."""
    from IPython.display import Markdown, display

    display(Markdown(" ".join(sentences)))


def answer(finding: Checked, number: Checked, why: str) -> None:
    """The answer box of a chapter, right under its title; other pages may quote `answer` and `number`.

    finding, number : Checked
        The answer to the question of the title, and the number it rests on with its interval.
    why : str
        Why it matters.
    """
    from IPython.display import Markdown, display

    _must_be_checked(finding=finding, number=number)
    lines = "\n\n".join((f"**{finding}**", number, why))
    display(Markdown(f'<aside class="answer" aria-label="Answer">\n\n{lines}\n\n</aside>'))
    quotable("answer", finding)
    quotable("number", number)


def predict(question: str, options: Mapping[str, bool | str], reply: Checked, figure: str) -> None:
    """A prediction to choose before the figure that answers it; at most two a page.

    options : mapping
        What can be chosen -> whether the results say so. Text is no, and a word to whoever has chosen it.
    reply : Checked
        What the results say, and why.
    figure : str
        Name of the figure or table that answers, further down the page.
    """
    _must_be_checked(reply=reply)
    hints = [answer if isinstance(answer, str) else "" for answer in options.values()]
    right = [k for k, answer in enumerate(options.values()) if not isinstance(answer, str) and answer]
    if len(right) != 1:
        raise FalseSentence(f'the results must bear out one of the options of "{question}": {dict(options)}')
    name = f"prediction-{next(_numbers)}"
    choices = "".join(
        f'<label data-hint="{escape(hint)}"><input type="radio" name="{name}"> <span>{_inline(option)}</span></label>'
        for option, hint in zip(options, hints, strict=True)
    )
    _show_html(
        f'<form class="predict" data-figure="{escape(figure)}" data-right="{right[0]}">'
        f"<fieldset><legend><b>Predict.</b> {_inline(question)}</legend>{choices}</fieldset>"
        "<details><summary>What the results say</summary>"
        f"<p>{_inline([*options][right[0]])}. {_inline(reply)}</p></details>"
        '<p class="reply" aria-live="polite"></p></form>'
    )


def summary(rows: pd.DataFrame, by: str | list[str], metrics: Iterable[str]) -> pd.DataFrame:
    """Mean and 95 % interval over seeds of some metrics, one row for each value of `by`, for `table`."""
    groups = rows.groupby(by, sort=False)
    found = {
        name: [mean_interval(group[metric], within=MEASURES[metric].within) for metric in metrics]
        for name, group in groups
    }
    index = pd.MultiIndex.from_tuples(found, names=by) if isinstance(by, list) else pd.Index([*found], name=by)
    table = pd.DataFrame(index=index, columns=[*metrics], dtype=object)
    for column, metric in enumerate(table):
        table[metric] = pd.Series([values[column] for values in found.values()], index=index, dtype=object)
    return table


def compared(
    columns: Mapping[str, pd.Series], names: Iterable[str], within: Mapping[str, tuple[float, float]] | None = None
) -> pd.DataFrame:
    """Mean and 95 % interval of several columns of values for each name, for `table`.

    columns : mapping
        Head -> values, with the names as the first level of their index.
    within : mapping, optional
        Head -> lowest and highest value there can be; percentages of tasks end at 0 and 100.
    """
    names, ends = [*names], within or {}
    found = {
        head: [mean_interval(values.loc[name], within=ends.get(head, ANY)) for name in names]
        for head, values in columns.items()
    }
    return pd.DataFrame({head: pd.Series(cells, index=names, dtype=object) for head, cells in found.items()})


def table(rows: pd.DataFrame, caption: str, name: str = "", best: Mapping[str, int] | None = None) -> None:
    """A table: names in words, units in the heads, decimals from the intervals, the best of a column marked.

    rows : DataFrame
        At most six columns with the index. Cells are numbers, `Interval` or text; a name of a method, network or metric
        is put into words. Of two levels of the index, the first one heads its rows.
    caption : str
        What it shows, in a line of Markdown.
    best : mapping
        Column -> 1 if more is better, -1 if less is; those of metrics are known. `{}` marks nothing.
    """
    _show_html(html_table(rows, _inline(caption), name, best))


def svg_of(fig: Figure, alt: str) -> str:
    """The figure as SVG to stand in a page: its text is text, its colours follow the page's; it is closed."""
    drawn = io.StringIO()
    with in_style():
        fig.savefig(drawn, format="svg", metadata={"Date": None})
    plt.close(fig)
    text = drawn.getvalue()
    text = text[text.index("<svg") :]
    text = re.sub(r"<(metadata|style)\b.*?</\1>", "", text, flags=re.DOTALL)
    text = re.sub(r'<g id="[^"]*"', "<g", text)  # several figures of a page would share these
    text = re.sub(r'(<svg[^>]*?) width="[^"]*"', r"\1", text)
    text = re.sub(r'(<svg[^>]*?) height="[^"]*"', r"\1", text)
    for name, colour in COLOURS.items():
        text = text.replace(colour, f"var(--figure-{name}, {colour})")
    return text.replace("<svg", f'<svg role="img" aria-label="{escape(alt)}"', 1)


def show(fig: Figure, finding: Checked, alt: str, name: str, caption: str = "") -> None:
    """A figure under its finding.

    finding : Checked
        What it shows, as its title.
    alt : str
        What can be seen in it, for who cannot see it.
    name : str
        What a prediction calls it, and the end of its address.
    caption : str
        How to read it: what lines, bands and marks are.
    """
    _must_be_checked(finding=finding)
    stamp = fig.get_supxlabel()
    fig.supxlabel("")
    stale = ' class="stale"' if "STALE" in stamp else ""
    _show_html(
        f'<figure class="finding" id="{escape(name)}"><p class="finding-title">{_inline(finding)}</p>'
        f'<div class="drawing" tabindex="0" role="group" aria-label="Figure">{svg_of(fig, alt)}</div>'
        f"<figcaption>{_inline(caption)} <small{stale}>{escape(stamp)}</small></figcaption></figure>"
    )


def provenance(*experiments: str, place: str = "", note: str = "", arm: str = PRIMARY) -> None:
    """Where the numbers of a page come from, folded.

    experiments : str
        Tables of `results/` that it reads.
    place : str
        Where the paper makes the claims that the page is about, as `claims.toml` names it, or how its places begin
        ("Fig. 3"); their verdicts are shown.
    note : str
        What else a reader needs to repeat it: scenarios, seeds, files.
    arm : str
        Where the claims are judged.
    """
    parts = [f"aiecof {__version__}.", note, figures.provenance(*experiments) if experiments else ""]
    lines = [" ".join(filter(None, parts))]
    if links := [f'<a href="../results/{name}.csv" download>{name}.csv</a>' for name in experiments]:
        lines.append(f"Data: {', '.join(links)}.")
    if place:
        facts = Facts.of(arm=arm)
        found = [claims.decide(claim, facts) for claim in claims.CLAIMS if claim.place.startswith(place)]
        verdicts = "; ".join(f"*{entry.claim.statement}* {entry.verdict}" for entry in found)
        lines.append(f"Claims on the {called(arm)}: {verdicts}. [What the verdicts mean](claims.ipynb)")
    body = "".join(f"<p>{line if line.startswith('Data') else _inline(line)}</p>" for line in lines)
    _show_html(f'<details class="provenance"><summary>Where this comes from</summary>{body}</details>')
