"""Every equation is written once, tested, explained in the book, and its readings are in the ledger."""

import inspect
import json
import re
from collections import Counter
from pathlib import Path
from pkgutil import resolve_name

import pytest
from aiecof_book.equations import (
    EQUATIONS,
    MAP,
    PARTS,
    Row,
    book_anchors,
    book_titles,
    claims_of_functions,
    claims_of_tests,
    equation_map,
)

from aiecof.system.scenario import READINGS

ROOT = Path(__file__).resolve().parent.parent
LEDGER = ROOT / "book/readings.md"
EVERY = pytest.mark.parametrize("row", equation_map(ROOT), ids=lambda row: f"eq-{row.equation}")


def test_every_equation_is_claimed_once():
    counts = Counter(claim.equation for claim in claims_of_functions())
    assert counts == dict.fromkeys(range(1, 38), 1), "the paper has 37 equations"
    assert [row.equation for row in equation_map(ROOT)] == list(EQUATIONS) == list(range(1, 38))


def test_the_command_has_the_map_as_it_is():
    """`python -m aiecof_book.equations` writes it."""
    rows = json.loads((ROOT / MAP).read_text(encoding="utf-8"))
    assert rows == json.loads(json.dumps([row._asdict() for row in equation_map(ROOT)]))


@EVERY
def test_the_function_is_there_and_says_so(row):
    """Found through the compiled function where there is one, not through the source that the map reads."""
    function = resolve_name(f"aiecof.{row.function}")
    first = inspect.getdoc(getattr(function, "py_func", function)).splitlines()[0]
    assert str(row.equation) in re.findall(r"\d+", first[first.index("(Eq") :])


@EVERY
def test_every_equation_is_tested(row):
    assert row.tests
    for test in row.tests:
        path, *_, name = test.split("::")
        assert f"def {name}(" in (ROOT / path).read_text(encoding="utf-8")


def test_a_test_claims_only_equations_that_there_are():
    assert {claim.equation for claim in claims_of_tests(ROOT)} <= set(range(1, 38))


@EVERY
def test_every_equation_is_explained_in_the_book(row):
    assert row.anchor == f"eq-{row.equation}" and (ROOT / row.page).is_file()


def test_every_numbered_part_of_the_paper_has_one_place_in_the_book():
    numbered = {anchor for parts in PARTS.values() for anchor in parts}
    assert len(numbered) == 37 + 4 + 9 + 1
    assert Counter(name for name, _ in book_anchors(ROOT)) == dict.fromkeys(numbered, 1)


def test_pages_have_the_titles_they_show():
    titles = book_titles(ROOT)
    assert next(iter(titles)) == "book/index.md"
    assert titles["book/notation.md"] == "Notation"
    assert titles["notebooks/table_iv.ipynb"] == "Which method is best?"
    assert {page for _, page in book_anchors(ROOT)} <= titles.keys()


def test_a_question_that_is_a_link_is_asked_by_the_page_it_leads_to():
    """By its title, or by the beginning of it."""
    titles, wrong = book_titles(ROOT), []
    for page in titles:
        text = (ROOT / page).read_text(encoding="utf-8")
        if page.endswith(".ipynb"):
            text = "\n".join("".join(cell["source"]) for cell in json.loads(text)["cells"])
        text = re.sub(r'"\s*\n\s*f?"', "", text)  # strings over several lines
        for words, target in re.findall(r"\[([^\]\[]+)\?\]\(([\w./-]+\.(?:ipynb|md))", text):
            asked = titles[(ROOT / page).parent.joinpath(target).resolve().relative_to(ROOT).as_posix()]
            wrong += [] if asked.startswith(" ".join(words.split())) else [(page, words, asked)]
    assert len(titles) > 30 and not wrong


@EVERY
def test_the_readings_of_an_equation_are_in_the_ledger(row):
    ledger = LEDGER.read_text(encoding="utf-8")
    assert [reading for reading in row.readings if not re.search(rf"\b{reading}\b", ledger)] == []


@pytest.mark.parametrize("reading", READINGS)
def test_every_choice_of_the_configuration_is_in_the_ledger(reading):
    assert f"`{reading}`" in LEDGER.read_text(encoding="utf-8")


# --- the map itself ----------------------------------------------------------------------------------------------


@pytest.fixture
def repository(tmp_path):
    """A package with two functions, a test, and a book with a page and a notebook."""
    for folder in ("aiecof/system", "tests", "book", "notebooks"):
        (tmp_path / folder).mkdir(parents=True)
    (tmp_path / "aiecof/system/power.py").write_text(
        'def one():\n    """What it is (Eq. 3).\n\n    See (Eq. 4); reading R9, (R2) and R9.\n    """\n\n\n'
        'def two():\n    """More (Eqs. 7, 20)."""\n\n\ndef none():\n    """About Eq. (5) only."""\n'
    )
    (tmp_path / "tests/test_power.py").write_text(
        'def helper():\n    """(Eq. 3)."""\n\n\ndef test_one():\n    """By hand (Eqs. 3, 7)."""\n\n\n'
        'class TestMore:\n    def test_two(self):\n        """By hand (Eq. 20)."""\n'
    )
    (tmp_path / "book/page.md").write_text("# Page\n\n(eq-3)=\n$$ x \\tag{3} $$\n\nsee [](#eq-7) and `(eq-20)=`\n")
    (tmp_path / "notebooks/note.ipynb").write_text(
        '{"cells": [{"cell_type": "markdown", "source": ["(eq-7)=\\n", "$$ y $$"]},'
        ' {"cell_type": "code", "source": ["(eq-9)=\\n"]}]}'
    )
    return tmp_path


def test_claims_are_read_from_first_lines(repository):
    claims = claims_of_functions(repository)
    names = [(3, "system.power.one"), (7, "system.power.two"), (20, "system.power.two")]
    assert [(claim.equation, claim.name) for claim in claims] == names
    assert claims[0].readings == ("R9", "R2")


def test_only_tests_test(repository):
    assert [claim[:2] for claim in claims_of_tests(repository)] == [
        (3, "tests/test_power.py::test_one"),
        (7, "tests/test_power.py::test_one"),
        (20, "tests/test_power.py::TestMore::test_two"),
    ]


def test_anchors_are_read_from_pages_and_notebooks(repository):
    assert book_anchors(repository) == [("eq-3", "book/page.md"), ("eq-7", "notebooks/note.ipynb")]


def test_a_package_without_its_repository_has_functions_but_no_book(tmp_path):
    (tmp_path / "aiecof").symlink_to(ROOT / "aiecof")
    rows = equation_map(tmp_path)
    assert rows[8] == Row(9, "system.model.computing_energy", (), None, None, rows[8].readings)
    assert all(row.function and row.page is row.anchor is None for row in rows)
