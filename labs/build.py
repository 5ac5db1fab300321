"""Make the students' edition of the labs in `_build/labs` and prove that the grading works; `make labs` calls this.

Two hand-ins are graded: the solved source must get full marks in every lab, the untouched release none. The release
must hold neither a solution nor a hidden test. `python labs/build.py FOLDER` does the same for a teacher's own sources,
a folder with one lab in each subfolder.
"""

import os
import shutil
import sys
import warnings
from pathlib import Path
from unittest.mock import patch

import nbformat
from nbgrader.apps.api import NbGraderAPI
from nbgrader.coursedir import CourseDirectory
from sqlalchemy.exc import SAWarning
from traitlets.config import Config
from traitlets.config.loader import PyFileConfigLoader

LABS = Path(__file__).resolve().parent
TARGET = LABS.parent / "_build/labs"
SOLVED, EMPTY = "solved", "empty"
REGIONS = ("SOLUTION", "HIDDEN TESTS")


class LabError(Exception):
    """A lab that cannot be released as it is; the message says why."""


def course(root: Path, database: Path) -> NbGraderAPI:
    """Nbgrader on the course in `root`, with the settings that a teacher uses."""
    settings: Config = PyFileConfigLoader("nbgrader_config.py", path=str(LABS)).load_config()
    settings.CourseDirectory.root = str(root)
    settings.CourseDirectory.db_url = f"sqlite:///{database}"
    return NbGraderAPI(CourseDirectory(config=settings), config=settings)


def done(result: dict, what: str) -> None:
    """Raise `LabError` with nbgrader's log if a step of it failed."""
    if not result["success"]:
        raise LabError(f"{what} failed:\n{result.get('log', '')}{result.get('error', '')}")


def secrets(source: nbformat.NotebookNode) -> set[str]:
    """Lines that stand in solutions and hidden tests and nowhere else."""
    inside, outside = set(), set()
    for cell in source.cells:
        region = False
        for line in map(str.strip, cell.source.splitlines()):
            begins, ends = (any(f"### {mark} {name}" in line for name in REGIONS) for mark in ("BEGIN", "END"))
            region = region and not ends or begins
            (inside if region or ends else outside).add(line)
    return {line for line in inside - outside if len(line) > 3}


def leaks(source: nbformat.NotebookNode, released: nbformat.NotebookNode) -> list[str]:
    """Lines of solutions and hidden tests that the release shows."""
    shown = {line.strip() for cell in released.cells for line in cell.source.splitlines()}
    return sorted(secrets(source) & shown)


def release(lab: str, api: NbGraderAPI, root: Path) -> None:
    """Write `release/<lab>` and its zip file."""
    done(api.generate_assignment(lab), f"{lab}: the release")
    shown = leaks(*(nbformat.read(root / step / lab / f"{lab}.ipynb", 4) for step in ("source", "release")))
    if shown:
        raise LabError(f"{lab}: the release shows " + "; ".join(shown))
    shutil.make_archive(str(root / "zip" / lab), "zip", root / "release", lab)


def points(lab: str, api: NbGraderAPI, hand_ins: dict[str, Path]) -> dict[str, float]:
    """Points of each hand-in and `max`, after automatic grading."""
    found = {}
    for student, folder in hand_ins.items():
        handed_in = Path(api.coursedir.format_path("submitted", student, lab))
        shutil.copytree(folder, handed_in)
        done(api.autograde(lab, student), f"{lab}: grading {student}")
        with api.gradebook as book:
            submission = book.find_submission(lab, student)
            found |= {student: submission.score, "max": submission.max_score}
    return found


def surroundings(scratch: Path) -> dict[str, str]:
    """Variables that keep what kernels write, trainings included, in one folder, and let nbgrader find its programs."""
    folders = {name: scratch / name.lower() for name in ("TMPDIR", "IPYTHONDIR", "JUPYTER_RUNTIME_DIR")}
    for folder in folders.values():
        folder.mkdir(parents=True)
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
    return {"PATH": path} | {name: str(folder) for name, folder in folders.items()}


def build(source: Path, target: Path) -> dict[str, dict[str, float]]:
    """Make and check all labs; returns lab -> points of the solved and of the empty hand-in, and the most possible."""
    labs = sorted(path.stem for path in source.glob("*/*.ipynb") if path.stem == path.parent.name)
    if not labs:
        raise LabError(f"{source}: no lab there; a lab is a folder with a notebook of its name")
    shutil.rmtree(target, ignore_errors=True)
    shutil.copytree(source, target / "source", ignore=shutil.ignore_patterns(".ipynb_checkpoints"))
    trial, database = target / "trial", target / "gradebook.db"
    with patch.dict(os.environ, surroundings(target / "scratch")):
        author = course(target, database)
        for lab in labs:
            release(lab, author, target)
        shutil.copytree(target / "source", trial / "source")
        shutil.copy(database, trial)  # the course itself begins without students
        grader, graded = course(trial, trial / database.name), {}
        print(f"{'lab':<20}{SOLVED:>8}{EMPTY:>8}{'max':>8}")
        for lab in labs:
            got = graded[lab] = points(lab, grader, {SOLVED: target / "source" / lab, EMPTY: target / "release" / lab})
            print(f"{lab:<20}{got[SOLVED]:8g}{got[EMPTY]:8g}{got['max']:8g}", flush=True)
    shutil.rmtree(target / "scratch")
    return graded


def main(arguments: list[str], target: Path = TARGET) -> int:
    """Build, print a table of points, and return the exit code."""
    warnings.filterwarnings("ignore", category=SAWarning)  # nbgrader's own way with its database
    try:
        graded = build(Path(arguments[0]) if arguments else LABS / "source", target)
    except LabError as error:
        print(error, file=sys.stderr)
        return 1
    wrong = [lab for lab, got in graded.items() if (got[SOLVED], got[EMPTY]) != (got["max"], 0)]
    if wrong:
        print(f"The solution must get full marks, the untouched release none: {', '.join(wrong)}", file=sys.stderr)
        return 1
    print(f"The students' edition: {target / 'zip'}")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
