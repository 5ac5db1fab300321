"""A course as nbgrader keeps it: the labs, the grade book, the hand-ins and the pages for students."""

import os
import shutil
import sys
import tempfile
import warnings
from pathlib import Path
from unittest.mock import patch

import nbformat
from checking import read
from nbformat import NotebookNode
from nbgrader.apps.api import NbGraderAPI
from nbgrader.coursedir import CourseDirectory
from nbgrader.preprocessors import CheckCellMetadata, LimitOutput, NbGraderPreprocessor, SaveAutoGrades
from sqlalchemy.exc import SAWarning
from traitlets.config import Config
from traitlets.config.loader import PyFileConfigLoader

LABS = Path(__file__).resolve().parent
SOURCE = LABS / "source"


class LabError(Exception):
    """A lab or an export that cannot be used as it is; the message says why."""


def sources(folder: Path) -> dict[str, NotebookNode]:
    """The solved labs of a folder, with one lab in each subfolder."""
    found = {path.stem: read(path) for path in sorted(folder.glob("*/*.ipynb")) if path.stem == path.parent.name}
    if not found:
        raise LabError(f"{folder}: no lab there; a lab is a folder with a notebook of its name")
    return found


def course(root: Path, database: Path, **changes) -> NbGraderAPI:
    """Nbgrader on the course in `root`, with the settings that a teacher uses."""
    settings: Config = PyFileConfigLoader("nbgrader_config.py", path=str(LABS)).load_config()
    settings.CourseDirectory.root = str(root)
    settings.CourseDirectory.db_url = f"sqlite:///{database}"
    settings.Autograde |= changes
    return NbGraderAPI(CourseDirectory(config=settings), config=settings)


def done(result: dict, what: str) -> None:
    """Raise `LabError` with nbgrader's log if a step of it failed."""
    if not result["success"]:
        raise LabError(f"{what} failed:\n{result.get('log', '')}{result.get('error', '')}")


def points(lab: str, api: NbGraderAPI, student: str, notebook: NotebookNode) -> tuple[float, float]:
    """Points of a hand-in and the most possible, after nbgrader's own grading."""
    handed_in = Path(api.coursedir.format_path("submitted", student, lab))
    handed_in.mkdir(parents=True, exist_ok=True)
    nbformat.write(notebook, handed_in / f"{lab}.ipynb")
    done(api.autograde(lab, student, force=True), f"{lab}: grading {student}")
    with api.gradebook as book:
        submission = book.find_submission(lab, student)
        return submission.score, submission.max_score


class Executed(NbGraderPreprocessor):
    """Stands where nbgrader would run a notebook: takes the one that the sandbox has run."""

    notebooks: dict[tuple[str, str], NotebookNode] = {}

    def preprocess(self, nb, resources):
        """The notebook with its outputs."""
        return self.notebooks[resources["nbgrader"]["student"], resources["nbgrader"]["assignment"]], resources


def surroundings(scratch: Path) -> dict[str, str]:
    """Variables that keep what kernels write, trainings included, in one folder, and let nbgrader find its programs."""
    folders = {name: scratch / name.lower() for name in ("TMPDIR", "IPYTHONDIR", "JUPYTER_RUNTIME_DIR")}
    for folder in folders.values():
        folder.mkdir(parents=True)
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
    return {"PATH": path} | {name: str(folder) for name, folder in folders.items()}


def record(root: Path, lab: str, source: NotebookNode, graded: dict[str, NotebookNode]) -> None:
    """Enter hand-ins that the sandbox has run into nbgrader's grade book, and write a page for each student."""
    (root / "source" / lab).mkdir(parents=True, exist_ok=True)
    nbformat.write(source, root / "source" / lab / f"{lab}.ipynb")
    shutil.copy(LABS / "nbgrader_config.py", root)
    steps = [Executed, LimitOutput, SaveAutoGrades, CheckCellMetadata]
    with warnings.catch_warnings(), tempfile.TemporaryDirectory() as scratch:
        warnings.simplefilter("ignore", SAWarning)  # nbgrader's own way with its database
        with patch.dict(os.environ, surroundings(Path(scratch))):
            api = course(root, root / "gradebook.db", autograde_preprocessors=steps)
            done(api.generate_assignment(lab, force=True), f"{lab}: the release")
            for student, notebook in graded.items():
                Executed.notebooks = {(student, lab): notebook}
                points(lab, api, student, notebook)
                done(api.generate_feedback(lab, student, force=True), f"{lab}: feedback for {student}")
