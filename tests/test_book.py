"""What a page is made of, and a tiny book in a temporary folder: what executes a notebook again, what fails a build."""

import argparse
import importlib.util
import json
import os
import re
import subprocess
from pathlib import Path
from zipfile import ZipFile

import build
import downloads
import launch
import matplotlib
import matplotlib.pyplot as plt
import nbformat
import numpy as np
import page_parts
import pandas as pd
import pytest
from aiecof_book import cover, page, reference, tables

from aiecof import draw_trace
from aiecof.checks import InvalidInput
from aiecof.drawing import style
from aiecof.study.statistics import Interval
from aiecof.system import scenario

matplotlib.use("svg")
ROOT = Path(__file__).resolve().parent.parent

CELL = """\
import sys
sys.path.insert(0, "aiecof")
import formula
with open("executions.txt", "a") as log:
    print("executed", file=log)
print(f"energy = {formula.energy(3)} J")
"""


@pytest.fixture
def book(tmp_path):
    """A book of one page and one notebook, which prints 9 J and counts its executions."""
    notebook = nbformat.v4.new_notebook()
    notebook.cells = [nbformat.v4.new_markdown_cell("# Energy"), nbformat.v4.new_code_cell(CELL)]
    nbformat.write(notebook, tmp_path / "energy.ipynb")
    (tmp_path / "aiecof").mkdir()
    write_formula(tmp_path, "frequency**2")
    (tmp_path / "start.md").write_text("# Start\n", encoding="utf-8")
    toc = "format: jb-book\nroot: start\nchapters: [{file: energy}]\n"
    (tmp_path / "_toc.yml").write_text(toc, encoding="utf-8")
    config = "title: Tiny\nonly_build_toc_files: true\nexecute: {execute_notebooks: cache}\n"
    (tmp_path / "_config.yml").write_text(config, encoding="utf-8")
    return tmp_path


def write_formula(root: Path, expression: str) -> None:
    source = f"def energy(frequency):\n    return {expression}\n"
    (root / "aiecof/formula.py").write_text(source, encoding="utf-8")


def executions(root: Path) -> int:
    return len((root / "executions.txt").read_text().splitlines())


def printed_energy(root: Path) -> str:
    page = (root / "_build/html/energy.html").read_text(encoding="utf-8")
    return re.search(r"energy = (\d+) J", page).group(1)


@pytest.mark.slow
def test_a_changed_formula_is_executed_again_and_an_unchanged_one_is_not(book, monkeypatch):
    monkeypatch.delenv("FORCE", raising=False)
    assert build.main(book) == 0
    assert (printed_energy(book), executions(book)) == ("9", 1)

    assert build.main(book) == 0
    assert (printed_energy(book), executions(book)) == ("9", 1)

    write_formula(book, "frequency**3")
    assert build.main(book) == 0
    assert (printed_energy(book), executions(book)) == ("27", 2)


@pytest.mark.slow
def test_a_warning_fails_the_build_every_time(book):
    (book / "start.md").write_text("# Start\n\n[nowhere](#nowhere)\n", encoding="utf-8")
    assert build.main(book) == 1
    assert build.main(book) == 1


@pytest.mark.slow
def test_a_failing_notebook_fails_the_build(book):
    write_formula(book, "frequency / 0")
    assert build.main(book) == 1


@pytest.mark.parametrize(
    ("name", "what"),
    [
        ("aiecof/deep/new.py", "outputs"),
        ("aiecof/deep/new.toml", "outputs"),
        ("book/aiecof_book/new.py", "outputs"),
        ("results/table.csv", "outputs"),
        ("_toc.yml", "pages"),
        ("book/page_parts.py", "pages"),
    ],
)
def test_fingerprint_sees_every_input(book, name, what):
    before = build.fingerprint(book, what)
    (book / name).parent.mkdir(parents=True, exist_ok=True)
    (book / name).write_text("changed", encoding="utf-8")
    assert build.fingerprint(book, what) != before


def test_fingerprint_tells_a_moved_boundary(book):
    for first, second in [("ab", "c"), ("a", "bc")]:
        (book / "aiecof/one.py").write_text(first)
        (book / "aiecof/two.py").write_text(second)
        if first == "ab":
            before = build.fingerprint(book, "outputs")
    assert build.fingerprint(book, "outputs") != before


def test_only_a_change_or_force_drops_what_is_cached(book):
    outputs, pages = book / "_build/.jupyter_cache/kept", book / "_build/html/kept"

    def build_again(**options):
        kind = build.drop_stale(book, **options)
        left = outputs.exists(), pages.exists()
        for kept in (outputs, pages):
            kept.parent.mkdir(exist_ok=True)
            kept.touch()
        return kind, left

    assert build_again() == ("whole", (False, False))
    (book / "start.md").write_text("# Another text\n")
    assert build_again() == ("changes", (True, True))
    (book / "_toc.yml").write_text("format: jb-book\nroot: start\n")
    assert build_again() == ("pages", (True, False))
    write_formula(book, "frequency**3")
    assert build_again() == ("whole", (False, False))
    assert build_again(force=True) == ("whole", (False, False))


def test_a_build_says_what_it_executes_and_how_long_it_takes(tmp_path, capsys):
    (tmp_path / "_build").mkdir()
    assert build.lasts(tmp_path, "whole") == build.USUAL["whole"]
    build.keep_seconds(tmp_path, "whole", 254.4)
    build.keep_seconds(tmp_path, "changes", 9.0)
    assert build.lasts(tmp_path, "whole") == "the last time 4 min 14 s"
    lines = [
        "reading sources... [ 24%] a",
        "/b/notebooks/a.ipynb: Executing notebook",
        "Executed notebook in 5.04",
    ]
    done = "0"
    for line in [*lines, "writing output... [  2%] a", "writing output... [  4%] b"]:
        done = build.tell(line, done)
    executed, *rest = capsys.readouterr().out.splitlines()
    assert executed.split() == ["24", "%", "notebooks/a.ipynb", "5.0", "s"]
    assert rest == ["Rendering the pages."]


def test_downloads_are_what_is_there(tmp_path):
    downloads.refresh(tmp_path)  # no book, nothing to do
    assert not (tmp_path / "_build").exists()
    page, pdf = tmp_path / "_build/html" / downloads.PAGE, tmp_path / "_build/aiecof.pdf"
    for path, text in [
        (tmp_path / "notebooks/a.ipynb", "{}"),
        (tmp_path / "_build/html/results/runs.csv", "1"),
        (tmp_path / "_build/labs/zip/lab1.zip", "lab"),
        (page.with_name("start.html"), "start"),
        (page, '<p>Here:</p><ul id="files"><li>nothing</li></ul>'),
        (pdf, "printed"),
    ]:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
    os.utime(page.with_name("start.html"), (1e9, 1e9))

    downloads.refresh(tmp_path)
    links = set(re.findall(r'href="../downloads/([^"]+)"', page.read_text(encoding="utf-8")))
    assert links == {"aiecof.pdf", "notebooks.zip", "results.zip", "lab1.zip"}
    assert links == {path.name for path in (tmp_path / "_build/html/downloads").iterdir()}
    with ZipFile(tmp_path / "_build/html/downloads/results.zip") as results:
        assert results.namelist() == ["results/runs.csv"]

    os.utime(pdf, (9e8, 9e8))  # printed before the page was written
    downloads.refresh(tmp_path)
    assert "<code>make pdf</code>" in page.read_text(encoding="utf-8")
    assert not (tmp_path / "_build/html/downloads/aiecof.pdf").exists()


def test_an_equation_that_would_show_red_is_found(tmp_path):
    pages = tmp_path / "_build/html/notebooks"
    pages.mkdir(parents=True)
    (pages / "good.html").write_text(r"\[x \cr y \tag{1}\]", encoding="utf-8")
    (pages / "bad.html").write_text(r"\[\begin{split} x \\ y \tag{1} \end{split}\]", encoding="utf-8")
    assert build.broken_equations(tmp_path) == ["_build/html/notebooks/bad.html"]


FALSE = f"""\
sys.path.insert(0, {str(ROOT)!r})  # before the tiny book's own folder of that name
from aiecof_book import page
page.checked("TOPPO gains {{gain:.1f}}.", -1.0 > 0, gain=-1.0)
"""


@pytest.mark.slow
def test_a_sentence_that_is_false_fails_the_build(book, capfd):
    notebook = nbformat.read(book / "energy.ipynb", as_version=4)
    notebook.cells.append(nbformat.v4.new_code_cell(FALSE))
    nbformat.write(notebook, book / "energy.ipynb")
    with (book / "_config.yml").open("a", encoding="utf-8") as config:  # as the book has it
        config.write("sphinx: {config: {nb_execution_raise_on_error: true}}\n")
    assert build.main(book) == 1
    assert "TOPPO gains \N{MINUS SIGN}1.0." in "".join(capfd.readouterr())


def test_a_sentence_is_checked_and_filled_in():
    assert page.checked("It gains {gain:.1f}.", True, gain=1.25) == "It gains 1.2."
    with pytest.raises(page.FalseSentence, match="It gains 1.2"):
        page.checked("It gains {gain:.1f}.", np.bool_(False), gain=1.25)
    with pytest.raises(InvalidInput, match="holds"):
        page.checked("It gains.", "no")


@pytest.mark.parametrize(
    "value, form, text",
    [
        (-0.3, ".0f", "0"),
        (-0.004, ".2f", "0.00"),
        (-0.0, "", "0.0"),
        (-0.004, ".1%", "−0.4 %"),
        (-0.0004, ".0%", "0 %"),
        (-1234.0, ",.0f", "−1,234"),
        (-10.0, "g", "−10"),
        (-2e-7, ".1g", "−2e-07"),
        (3, "", "3"),
        (0.5, "+.1f", "+0.5"),
    ],
)
def test_a_number_has_a_minus_sign_and_no_zero_has_one(value, form, text):
    text = text.replace(" ", "\N{NO-BREAK SPACE}")
    assert style.number(value, form) == text
    assert page.checked(f"It is {{value:{form}}}.", True, value=value) == f"It is {text}."


def test_an_interval_around_nothing_is_not_minus_zero():
    rows = pd.DataFrame({"gap": [Interval(-0.3, -15.0, 15.0), Interval(-0.3, -0.3, -0.3)]}, index=["dqn", "a2c"])
    found = tables.html_table(rows, "Gaps")
    assert "<td>0 ± 15</td>" in found and "<td>−0.3</td>" in found


def test_an_interval_that_ends_with_the_share_shows_both_ends():
    cells = {"dqn": Interval(0.02, 0.0, 0.09), "a2c": Interval(0.3, 0.25, 0.35), "ac": Interval(0.95, 0.88, 1.0)}
    found = tables.html_table(pd.Series(cells, name="drops").to_frame(), "Drops")
    assert "<td>0.02 [0.00, 0.09]</td>" in found and "<td>0.30 ± 0.05</td>" in found
    assert "<td>0.95 [0.88, 1.00]</td>" in found


def test_a_comparison_ends_where_shares_end():
    """By hand: 99 and 100 have the mean 99.5 and half an interval of 12.7 times half the difference."""
    shares = pd.Series([99.0, 100.0, 40.0, 60.0], index=["dqn", "dqn", "a2c", "a2c"])
    found = page.compared({"home": shares, "same": shares}, ["dqn", "a2c"], {"home": (0, 100)})
    assert found.loc["dqn", "home"] == pytest.approx((99.5, 99.5 - 12.7062 / 2, 100.0), abs=1e-3)
    assert found.loc["dqn", "same"] == pytest.approx((99.5, 99.5 - 12.7062 / 2, 99.5 + 12.7062 / 2), abs=1e-3)
    assert found.loc["a2c", "home"] == pytest.approx((50.0, 0.0, 100.0), abs=1e-3)


def test_findings_are_checked_sentences():
    with pytest.raises(InvalidInput, match="finding"):
        page.answer("It wins.", page.checked("By 1.", True), "It matters.")
    with pytest.raises(InvalidInput, match="finding"):
        page.show(plt.figure(), "It wins.", "Nothing.", "fig")


@pytest.mark.parametrize("options", [{"a": True, "b": True}, {"a": False, "b": "tempting"}])
def test_a_prediction_has_one_answer(options):
    with pytest.raises(page.FalseSentence, match="Which?"):
        page.predict("Which?", options, page.checked("That.", True), figure="fig")


@pytest.mark.parametrize("half, places", [(0.0, 0), (0.0004, 4), (0.00012, 5), (0.3, 2), (0.4, 1), (2.9, 1), (30.0, 0)])
def test_decimals_come_from_the_interval(half, places):
    assert tables.decimals(half) == places


def test_a_table_has_names_units_and_the_best_marked():
    rows = pd.DataFrame(
        {"delay": [Interval(0.2, 0.1, 0.3), Interval(0.3, 0.3, 0.3)]}, index=["toppo", "mixture-random"]
    )
    found = tables.html_table(rows, "Delays")
    assert "Delay [s]" in found and "<b>0.20 ± 0.10</b>" in found and ">coin</th>" in found and "<td>0.3</td>" in found
    with pytest.raises(InvalidInput, match="at most 6"):
        tables.html_table(pd.DataFrame([[1] * 6]), "Too wide")


def test_a_figure_follows_the_colours_of_the_page():
    fig, ax = plt.subplots()
    ax.plot([0, 1], color=style.FIRST)
    ax.set_title("words")
    found = page.svg_of(fig, "A <line>")
    assert f"var(--figure-first, {style.FIRST})" in found and ">words</text>" in found
    assert 'aria-label="A &lt;line&gt;"' in found and "<metadata" not in found
    assert fig.number not in plt.get_fignums()


NOTEBOOKS = sorted((ROOT / "notebooks").glob("*.ipynb"))


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_every_notebook_has_the_set_up_cell(path):
    cells = json.loads(path.read_text(encoding="utf-8"))["cells"]
    assert [cell for cell in cells if cell["id"] == launch.NAME] == [cells[1]] == [launch.cell()], "run book/launch.py"


def run_set_up(monkeypatch, installed: bool, address: str) -> list[list[str]]:
    """Commands that the set-up cell would run."""
    commands = []
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: object() if installed else None)
    monkeypatch.setattr(subprocess, "run", lambda command, check: commands.append(command))
    monkeypatch.setattr(os, "chdir", lambda folder: commands.append(["cd", folder]))
    exec(launch.CELL.format(address=address), {})
    return commands


def test_the_set_up_cell_installs_where_nothing_is_installed(monkeypatch):
    assert run_set_up(monkeypatch, True, "") == []
    clone, install, enter = run_set_up(monkeypatch, False, "https://example.org/a")
    assert clone[:2] == ["git", "clone"] and "https://example.org/a" in clone
    assert install[-1] == "./book[agents,study]" and enter == ["cd", "book/notebooks"]
    with pytest.raises(SystemExit, match="pip install"):
        run_set_up(monkeypatch, False, "")


def test_the_repository_has_one_address():
    """Where an address is missing in `_config.yml`, no page, button or line of installation has one either."""
    own = re.compile(r"https?://(?:github|gitlab)\.com/[\w-]+/aiecof\b")
    files = [*ROOT.glob("*.md"), *ROOT.glob("*.cff"), *ROOT.glob("*.toml"), *ROOT.glob("book/**/*.md"), *NOTEBOOKS]
    found = {match for path in files for match in own.findall(path.read_text(encoding="utf-8"))}
    assert found <= {launch.address()}


def test_reference_has_every_public_name_and_every_command():
    text = reference.commands()
    assert "## `aiecof simulate`" in text and "`--scenario`" in text and "## `aiecof bench training`" in text
    system = reference.api("system", ["scenario", "model"])
    assert ".. autofunction:: aiecof.system.model.waiting_delay" in system
    assert ".. autoclass:: aiecof.system.scenario.Scenario\n   :members:" in system
    assert "._" not in system


def test_a_long_signature_is_cut_short_and_completed():
    whole = "(" + ", ".join(f"{name}='{values[0]}'" for name, values in scenario.READINGS.items()) + ")"
    assert reference.short_signature(scenario.Readings, whole).count("=") == 3
    lines = [*reference.arguments(scenario.Readings)]
    assert sum(line.startswith("   * - ``") for line in lines) == len(scenario.READINGS)
    assert "     - ``ceil``, ``none``" in lines and "     - ``'ceil'``" in lines
    assert reference.short_signature(draw_trace, "(a, go=<function <lambda>>, b=2)") == "(a, go=..., b=2)"
    assert [*reference.arguments(scenario.Weights)] == [*reference.arguments(draw_trace)] == []
    inherited = type("Inherited", (argparse.ArgumentParser,), {})
    assert [*reference.arguments(inherited)][-1] == "Its arguments are those of ``argparse.ArgumentParser``."


def test_evidence_names_methods_in_words():
    said = cover._in_words("load of toppo at capacity 0.5 and dqn, shown-plain")
    assert said == "load of TOPPO at capacity 0.5 and DQN, plain network (mean shown)"
    found = cover._in_words("advantage -58.3 [-113, 2.4]; as good: mixture-power-of-two, a2c, printed-plain")
    assert found == "advantage −58.3 [−113, 2.4]; as good: coin (better of two), A2C, plain network"


def test_a_page_marks_what_is_made():
    assert page_parts.clone("") == ""
    assert page_parts.clone("https://example.org/a/b") == "```sh\ngit clone https://example.org/a/b\ncd b\n```"


def test_an_equation_in_a_docstring_is_linked():
    lines = ["Wait of a task (Eqs. 2, 17).", "Where |x| is (Eq. 3)."]
    page_parts.adapt_docstring(None, "function", "name", None, None, lines)
    assert lines == ["Wait of a task (Eqs. :ref:`2 <eq-2>`, :ref:`17 <eq-17>`).", r"Where \|x\| is (Eq. 3)."]
