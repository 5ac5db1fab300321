"""The start page, and what leads from it: the claims as a strip of squares, and the verdicts that these lead to."""

from __future__ import annotations

from collections.abc import Iterable
from html import escape

from aiecof.study import verdicts
from aiecof.study.claims import Verdict

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


def strip(found: Iterable[Verdict], page: str = "../notebooks/claims.html") -> str:
    """HTML of the claims as squares, each a link to its verdict on the page of the claims."""
    squares = []
    for entry in found:
        letter, kind = MARKS.get(entry.verdict, (".", "open"))
        words = escape(f"{entry.claim.statement} {entry.verdict}")
        link = f'<a class="{kind}" href="{page}#claim-{entry.claim.name}" title="{words}" aria-label="{words}">'
        squares.append(f"<li>{link}{letter}</a></li>")
    return f'<ul class="strip" aria-label="The claims of the paper and their verdicts">{"".join(squares)}</ul>'


def evidence(found: Iterable[Verdict]) -> str:
    """HTML of every claim with its verdict and the sentence it rests on, where the squares of `strip` lead."""
    entries = "".join(
        f'<dt id="claim-{entry.claim.name}">{escape(entry.claim.statement)}</dt>'
        f"<dd><b>{escape(entry.verdict.capitalize())}</b>: {escape(entry.evidence)}. "
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
