"""What a page of the book needs in its cells and no figure does."""

from __future__ import annotations


def quotable(name: str, value: object) -> None:
    """Hand a value of a notebook to other pages of the book: what MyST-NB's `glue` does, which need not be there."""
    from IPython.display import display

    hidden = "application/papermill.record/"
    scrapbook = {"name": name, "mime_prefix": hidden}
    display({f"{hidden}text/plain": str(value)}, raw=True, metadata={"scrapbook": scrapbook})
