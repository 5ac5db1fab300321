"""The map equation -> function -> tests -> page of the book -> readings, read from the sources themselves.

A docstring whose first line ends with `(Eq. 9)` or `(Eqs. 7, 20)` claims these equations: a function of the package as
the place where they are written, a test as a check of them. In the book, `(eq-9)=` marks where one is explained.
Nothing is imported, so the map also covers functions that need a compiler. `make book` writes the map into the package,
where `aiecof equations` reads it: an installed package has neither tests nor a book.
"""

from __future__ import annotations

import ast
import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

EQUATIONS = range(1, 38)
"""The system model, the objective, the reward and the learning."""
PARTS = {
    "Tables": {f"table-{number}": f"Table {roman}" for number, roman in enumerate(("I", "II", "III", "IV"), 1)},
    "Figures": {f"figure-{number}": f"Fig. {number}" for number in range(1, 10)},
    "Algorithm": {"algorithm-1": "Algorithm 1"},
    "Equations": {f"eq-{number}": f"Eq. ({number})" for number in EQUATIONS},
}
"""Everything in the paper that has a number: anchor in the book -> name in the paper."""

ROOT = Path(__file__).resolve().parents[2]
MAP = "aiecof/cli/equations.json"
"""Where the package has the map."""
CLAIM = re.compile(r"\(Eqs?\. (\d+(?:, \d+)*)\)\.?$")
ANCHOR = re.compile(r"^(?:\(|:name: )((?:eq|table|figure|algorithm)-\d+)(?:\)=)?\s*$", re.MULTILINE)
TITLE = re.compile(r"^(?: *\")?# (.*?)(?:(?:\\n)?\",?)?$", re.MULTILINE)
READING = re.compile(r"\bR\d+\b")


class Claim(NamedTuple):
    """A function or test that claims an equation, and the readings its docstring names."""

    equation: int
    name: str
    readings: tuple[str, ...]


class Row(NamedTuple):
    """One equation: where it is written, tested and explained, and what was read into it."""

    equation: int
    function: str | None
    tests: tuple[str, ...]
    anchor: str | None
    page: str | None
    readings: tuple[str, ...]


def _functions(node: ast.AST, prefix: str, separator: str) -> Iterator[tuple[str, ast.FunctionDef]]:
    """Functions and methods below a node, by qualified name."""
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.FunctionDef):
            yield prefix + child.name, child
        elif isinstance(child, ast.ClassDef):
            yield from _functions(child, prefix + child.name + separator, separator)


def _claims_in(path: Path, prefix: str, separator: str) -> Iterator[Claim]:
    tree = ast.parse(path.read_text(encoding="utf-8"))
    for name, function in _functions(tree, prefix + separator, separator):
        docstring = ast.get_docstring(function) or ""
        match = CLAIM.search(docstring.partition("\n")[0])
        if match:
            readings = tuple(dict.fromkeys(READING.findall(docstring)))
            for number in match[1].split(", "):
                yield Claim(int(number), name, readings)


def claims_of_functions(root: Path = ROOT) -> list[Claim]:
    """Functions of the package that claim an equation, as `folder.module.function`."""
    package, found = root / "aiecof", []
    for path in sorted(package.rglob("*.py")):
        found += _claims_in(path, ".".join(path.relative_to(package).with_suffix("").parts), ".")
    return found


def claims_of_tests(root: Path) -> list[Claim]:
    """Tests that claim an equation, as pytest names them."""
    paths = sorted((root / "tests").glob("test_*.py"))
    claims = [claim for path in paths for claim in _claims_in(path, f"tests/{path.name}", "::")]
    return [claim for claim in claims if claim.name.rpartition("::")[2].startswith("test_")]


def book_anchors(root: Path) -> list[tuple[str, str]]:
    """Anchors of numbered parts of the paper and the pages that hold them."""
    texts = {path: path.read_text(encoding="utf-8") for path in sorted((root / "book").glob("**/*.md"))}
    for path in sorted((root / "notebooks").glob("*.ipynb")):
        cells = json.loads(path.read_text(encoding="utf-8"))["cells"]
        names = [cell.get("metadata", {}).get("mystnb", {}).get("figure", {}).get("name") for cell in cells]
        parts = ["".join(cell["source"]) for cell in cells if cell["cell_type"] == "markdown"]
        texts[path] = "\n\n".join(parts + [f":name: {name}" for name in names])
    pages = {path.relative_to(root).as_posix(): text for path, text in texts.items()}
    return [(anchor, page) for page, text in pages.items() for anchor in ANCHOR.findall(text)]


def book_titles(root: Path) -> dict[str, str]:
    """Page of the book -> its title, in the order of its table of contents, the start page first."""
    files = re.findall(r"(?:root|file): *(\S+)", (root / "_toc.yml").read_text(encoding="utf-8"))
    pages = [path for file in files for path in root.glob(f"{file}.*") if path.suffix in (".md", ".ipynb")]
    return {page.relative_to(root).as_posix(): TITLE.search(page.read_text(encoding="utf-8"))[1] for page in pages}


def equation_map(root: Path = ROOT) -> list[Row]:
    """One row for each equation of the repository at `root`; of several claims the first."""
    functions = {claim.equation: claim for claim in reversed(claims_of_functions(root))}
    tests, anchors = claims_of_tests(root), dict(reversed(book_anchors(root)))
    rows = []
    for number in EQUATIONS:
        function = functions.get(number)
        checked = tuple(claim.name for claim in tests if claim.equation == number)
        page = anchors.get(f"eq-{number}")
        anchor = f"eq-{number}" if page else None
        readings = function.readings if function else ()
        rows.append(Row(number, function and function.name, checked, anchor, page, readings))
    return rows


def write_map(root: Path = ROOT) -> None:
    """Write the map into the package."""
    rows = [row._asdict() for row in equation_map(root)]
    (root / MAP).write_text(json.dumps(rows, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    write_map()
