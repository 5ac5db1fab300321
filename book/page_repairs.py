"""Sphinx extension: what other extensions leave on the pages that keeps somebody from using them.

- Jupyter Book loads Thebe for live cells, which this book does not have: its pages work without a network. Its script
  stands twice on every page, and the second one is an error in the reader's console.
- The theme loads its icons twice, as fonts and as a script that draws them: a third of the weight of a page.
- Sphinx calls a bibliography a list of things that are no list items, which confuses screen readers.
- The theme's buttons that unfold the contents have no name, and every page loads the logos of firms beforehand.
- Pages without an equation load MathJax if something that they quote could have one.
- Pages have moved since the first edition; a link or a bookmark to an old address leads to the new one.
"""

import re
from pathlib import Path

REDIRECTS = {
    "00_tables": "tables",
    "01_cost_of_one_task": "one_task",
    "02_reward": "reward",
    "03_without_learning": "rules",
    "04_first_policy": "first_policy",
    "05_how_toppo_learns": "how_toppo_learns",
    "06_baselines": "baselines",
    "07_cost_of_training": "cost_of_training",
    "08_calibration": "reconstruction",
    "09_consistency": "consistency",
    "10_table_iv": "table_iv",
    "11_hyperparameters": "figure_3",
    "12_more_tasks": "figure_4",
    "13_learning_curves": "figure_5",
    "14_falling_costs": "figure_6",
    "15_utilisation": "figure_7",
    "16_more_devices": "figure_8",
    "17_server_capacity": "figure_9",
    "18_ablation": "ablation",
    "19_other_readings": "other_readings",
    "20_optimum": "optimum",
    "21_claims": "claims",
    "22_replay": "replay",
    "23_sliders": "one_task",
    "24_your_own_policy": "your_own_rule",
    "25_paper_index": "paper_index",
    "26_where_table_iv_comes_from": "where_table_iv_comes_from",
}
"""Notebook of the first edition -> the one that took over its content."""
MOVED = """<!DOCTYPE html><html lang="en"><head><meta charset="utf-8"><title>Moved</title>
<meta http-equiv="refresh" content="0; url={0}.html"><link rel="canonical" href="{0}.html"></head>
<body><p>This page has moved: <a href="{0}.html">{0}</a>.</p></body></html>
"""


def repair(app, pagename, templatename, context, doctree):
    """Change the context of a page before it is written."""
    body = context.get("body", "")
    unused = ("thebe",) if 'class="math' in body else ("thebe", "mathjax")
    scripts = {script: f"{script} {getattr(script, 'attributes', '')}".lower() for script in context["script_files"]}
    context["script_files"] = [script for script, text in scripts.items() if not any(name in text for name in unused)]
    if body:
        context["body"] = body.replace('role="list" class="citation-list"', 'class="citation-list"')


def lighten(app, exception):
    """Leave the icons to the fonts."""
    for script in Path(app.outdir).glob("_static/vendor/fontawesome/*/js/all.min.js"):
        script.write_text("", encoding="ascii")


def finish(app, exception):
    """Give the buttons that unfold a part of the contents a name; load the logos of firms only where one is seen."""
    for page in Path(app.outdir).rglob("*.html"):
        text = page.read_text(encoding="utf-8")
        finished = text.replace('<summary><span class="toctree', '<summary aria-label="Its pages"><span class="toctree')
        finished = re.sub(r'<link rel="preload"[^>]*fa-brands[^>]*>\n?', "", finished)
        if finished != text:
            page.write_text(finished, encoding="utf-8")


def redirect(app, exception):
    """Put a page that leads on where one of the first edition was, if its successor is there."""
    for old, new in REDIRECTS.items():
        folder = Path(app.outdir, "notebooks")
        if (folder / f"{new}.html").exists() and not (folder / f"{old}.html").exists():
            (folder / f"{old}.html").write_text(MOVED.format(new), encoding="utf-8")


def setup(app):
    """After the extensions that add them."""
    app.connect("html-page-context", repair, priority=900)
    app.connect("build-finished", lighten, priority=900)
    app.connect("build-finished", finish)
    app.connect("build-finished", redirect)
    return {"parallel_read_safe": True}
