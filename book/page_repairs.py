"""Sphinx extension: what other extensions leave on the pages that keeps somebody from using them.

- Jupyter Book loads Thebe for live cells, which this book does not have: its pages work without a network. Its script
  stands twice on every page, and the second one is an error in the reader's console.
- The theme loads its icons twice, as fonts and as a script that draws them: a third of the weight of a page.
- Sphinx calls a bibliography a list of things that are no list items, which confuses screen readers.
"""

from pathlib import Path


def repair(app, pagename, templatename, context, doctree):
    """Change the context of a page before it is written."""
    scripts = context.get("script_files", [])
    context["script_files"] = [s for s in scripts if "thebe" not in f"{s} {getattr(s, 'attributes', {})}".lower()]
    if "body" in context:
        context["body"] = context["body"].replace('role="list" class="citation-list"', 'class="citation-list"')


def lighten(app, exception):
    """Leave the icons to the fonts."""
    for script in Path(app.outdir).glob("_static/vendor/fontawesome/*/js/all.min.js"):
        script.write_text("", encoding="ascii")


def setup(app):
    """After the extensions that add them."""
    app.connect("html-page-context", repair, priority=900)
    app.connect("build-finished", lighten, priority=900)
    return {"parallel_read_safe": True}
