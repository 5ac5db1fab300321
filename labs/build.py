"""Make the students' edition of the labs in `_build/labs` and prove that the grading works; `make labs` calls this.

nbgrader grades two hand-ins of each lab: the solved source must get full marks, the untouched release none, and the
release must hold neither a solution nor a hidden test. The sandbox grades the hand-ins of `labs/handins`: right answers
by another road, wrong ones, cheats. `--year N` makes a variant with other numbers, networks and claims, and its key;
with `--students LIST` each line of the list gets a variant. `python labs/build.py FOLDER` takes a teacher's own labs.
"""

import argparse
import os
import shutil
import sys
import time
import warnings
from pathlib import Path
from unittest.mock import patch

import nbformat
import regressions
from checking import grade, read, with_year
from course import LABS, SOURCE, LabError, course, done, points, sources, surroundings
from nbformat import NotebookNode
from nbgrader.apps.api import NbGraderAPI
from sandbox import Sandbox, SandboxError, available
from sqlalchemy.exc import SAWarning

TARGET = LABS.parent / "_build/labs"
SOLVED, EMPTY = "solved", "empty"
REGIONS = ("SOLUTION", "HIDDEN TESTS")
TRIES = 20  # variants to look through until one lets the solution have all points


def secrets(source: NotebookNode) -> set[str]:
    """Lines that stand in solutions and hidden tests and nowhere else."""
    inside, outside = set(), set()
    for cell in source.cells:
        region = False
        for line in map(str.strip, cell.source.splitlines()):
            begins, ends = (any(f"### {mark} {name}" in line for name in REGIONS) for mark in ("BEGIN", "END"))
            region = region and not ends or begins
            (inside if region or ends else outside).add(line)
    return {line for line in inside - outside if len(line) > 3}


def leaks(source: NotebookNode, released: NotebookNode) -> list[str]:
    """Lines of solutions and hidden tests that the release shows."""
    shown = {line.strip() for cell in released.cells for line in cell.source.splitlines()}
    return sorted(secrets(source) & shown)


def release(lab: str, api: NbGraderAPI, root: Path) -> NotebookNode:
    """Write `release/<lab>` and its zip file."""
    done(api.generate_assignment(lab), f"{lab}: the release")
    solved, released = (read(root / step / lab / f"{lab}.ipynb") for step in ("source", "release"))
    if shown := leaks(solved, released):
        raise LabError(f"{lab}: the release shows " + "; ".join(shown))
    shutil.make_archive(str(root / "zip" / lab), "zip", root / "release", lab)
    return released


def build(source: Path, target: Path, year: int | None = None) -> list[str]:
    """Make and check all labs; returns what is wrong with them."""
    labs = {lab: with_year(notebook, year) for lab, notebook in sources(source).items()}
    shutil.rmtree(target, ignore_errors=True)
    for lab, notebook in labs.items():
        (target / "source" / lab).mkdir(parents=True)
        nbformat.write(notebook, target / "source" / lab / f"{lab}.ipynb")
    trial, wrong, releases = target / "trial", [], {}
    with patch.dict(os.environ, surroundings(target / "scratch")):
        author = course(target, target / "gradebook.db")
        for lab in labs:
            releases[lab] = release(lab, author, target)
        shutil.copytree(target / "source", trial / "source")
        shutil.copy(target / "gradebook.db", trial)  # the course itself begins without students
        grader = course(trial, trial / "gradebook.db")
        print(f"{'lab':<16}{SOLVED:>8}{EMPTY:>8}{'of':>6}{'seconds':>9}")
        for lab in labs:
            begin = time.monotonic()
            full, most = points(lab, grader, SOLVED, labs[lab])
            none, _ = points(lab, grader, EMPTY, releases[lab])
            print(f"{lab:<16}{full:8g}{none:8g}{most:6g}{time.monotonic() - begin:9.0f}", flush=True)
            wrong += [f"{lab}: the solution gets {full:g} of {most:g}"] * (full != most)
            wrong += [f"{lab}: the untouched edition gets {none:g}"] * (none != 0)
    shutil.rmtree(target / "scratch")
    if source == SOURCE and year is None:
        wrong += regressions.check(labs, releases, LABS / "handins", trusted=not available())
    return wrong


def personal(source: Path, target: Path, students: list[str], year: int) -> None:
    """A variant of each lab for each student, in `personal/<student>/`, and `personal/key.csv` that tells its year."""
    labs, rows = sources(source), []
    with Sandbox() as sandbox, patch.dict(os.environ, surroundings(target / "scratch")):
        for number, student in enumerate(students):
            for lab, notebook in labs.items():
                for years in range(year + number * TRIES, year + (number + 1) * TRIES):
                    variant = with_year(notebook, years)
                    report = grade(variant, variant, sandbox, 300)
                    if report.points == report.most:
                        break
                else:
                    raise LabError(f"{lab}: no variant for {student} lets the solution have all points")
                root = target / "personal" / student
                (root / "source" / lab).mkdir(parents=True)
                nbformat.write(variant, root / "source" / lab / f"{lab}.ipynb")
                release(lab, course(root, root / "gradebook.db"), root)
                rows.append(f"{student},{lab},{years}\n")
    shutil.rmtree(target / "scratch")
    (target / "personal/key.csv").write_text("student,lab,year\n" + "".join(rows), "utf-8")


def main(arguments: list[str], target: Path = TARGET) -> int:
    """Build, print a table of points, and return the exit code."""
    parser = argparse.ArgumentParser(description="Make the students' edition of the labs and try out the grading.")
    parser.add_argument("source", type=Path, nargs="?", default=SOURCE, help="a folder with a lab in each subfolder")
    parser.add_argument("--year", type=int, help="the variant; it is left in _build/labs/YEAR, its key in source/")
    parser.add_argument(
        "--students", type=Path, help="a list of students, a line each: a variant for each, from --year on"
    )
    options = parser.parse_args(arguments)
    target = target if options.year is None else target / str(options.year)
    warnings.filterwarnings("ignore", category=SAWarning)  # nbgrader's own way with its database
    try:
        wrong = build(options.source, target, options.year)
        if options.students and not wrong:
            personal(options.source, target, options.students.read_text("utf-8").split(), options.year or 1)
    except (LabError, SandboxError, OSError) as error:
        wrong = [str(error)]
    if wrong:
        print(*wrong, sep="\n", file=sys.stderr)
        return 1
    print(f"The students' edition: {target / 'zip'}")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
