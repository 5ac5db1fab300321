"""A tiny book in a temporary folder: what re-executes a notebook, and what fails a build."""

import re
from pathlib import Path

import build
import nbformat
import pytest

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
    "name", ["aiecof/deep/new.py", "aiecof/deep/new.toml", "book/aiecof_book/new.py", "results/table.csv", "_toc.yml"]
)
def test_fingerprint_sees_every_input(book, name):
    before = build.fingerprint(book)
    (book / name).parent.mkdir(parents=True, exist_ok=True)
    (book / name).write_text("changed", encoding="utf-8")
    assert build.fingerprint(book) != before


def test_fingerprint_tells_a_moved_boundary(book):
    for first, second in [("ab", "c"), ("a", "bc")]:
        (book / "aiecof/one.py").write_text(first)
        (book / "aiecof/two.py").write_text(second)
        if first == "ab":
            before = build.fingerprint(book)
    assert build.fingerprint(book) != before


def test_only_a_change_or_force_drops_the_cache(book):
    cached = book / "_build/.jupyter_cache/kept"
    assert build.drop_stale(book)
    cached.parent.mkdir()
    cached.touch()
    (book / "start.md").write_text("# Another text\n")
    assert not build.drop_stale(book) and cached.exists()
    assert build.drop_stale(book, force=True) and not cached.exists()


def test_an_equation_that_would_show_red_is_found(tmp_path):
    pages = tmp_path / "_build/html/notebooks"
    pages.mkdir(parents=True)
    (pages / "good.html").write_text(r"\[x \cr y \tag{1}\]", encoding="utf-8")
    (pages / "bad.html").write_text(r"\[\begin{split} x \\ y \tag{1} \end{split}\]", encoding="utf-8")
    assert build.broken_equations(tmp_path) == ["_build/html/notebooks/bad.html"]
