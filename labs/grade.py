"""Grade an export of hand-ins in one command: a folder or zip from Moodle, Canvas or anywhere, in; marks out.

    python labs/grade.py EXPORT --roster ROSTER.csv --course ../course

Every file of the export ends up graded or in `report.csv` with the reason. `marks-LAB.csv` is the roster with the
points in the platform's column and what is missing in another. See `book/teaching.md`.
"""

import argparse
import contextlib
import csv
import io
import re
import sys
import unicodedata
import zipfile
from collections import defaultdict
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from queue import SimpleQueue

import nbformat
from checking import Report, grade, tag, with_year
from course import SOURCE, LabError, record, sources
from nbformat import NotebookNode
from sandbox import Sandbox, SandboxError

LARGEST = 20 << 20  # bytes of a hand-in
PATTERNS = (
    r"(?P<name>[^/]+)_(?P<id>\d+)_assignsubmission_[a-z]+_?/?(?P<file>.+)",  # Moodle, flat or in folders
    r"(?P<name>[^_/]+)_(?:LATE_)?(?P<id>\d+)_\d+_(?P<file>.+)",  # Canvas
    r"(?P<name>[^/]+)/(?P<file>.+)",  # a folder a student
    r"(?P<name>.+?)[_-](?P<file>lab\d.*)",
)
RANKING = re.compile(r"^Ranking: (\S+) (.+)$", re.MULTILINE)


@dataclass
class HandIn:
    """A notebook of the export and whose it is; `row` of the roster, or None."""

    path: str
    name: str
    number: str
    lab: str = ""
    notebook: NotebookNode | None = None
    row: int | None = None
    version: tuple = ()
    report: Report | None = None

    @property
    def student(self) -> str:
        """A name that can be a folder's."""
        plain = unicodedata.normalize("NFKD", self.name).encode("ascii", "ignore").decode()
        return re.sub(r"\W+", "-", f"{plain} {self.number}".strip()).strip("-").lower() or "unknown"


@dataclass
class Roster:
    """A CSV file of the platform, whose rows are the students."""

    path: Path | None
    head: list[str] = field(default_factory=list)
    rows: list[list[str]] = field(default_factory=list)

    @classmethod
    def read(cls, path: Path | None) -> "Roster":
        """A Moodle grading worksheet, a Canvas gradebook or any table with a column of names or numbers."""
        if path is None:
            return cls(None)
        rows = [row for row in csv.reader(io.StringIO(path.read_text("utf-8-sig"))) if row]
        if len(rows) < 2:
            raise LabError(f"{path}: no students there")
        return cls(path, rows[0], [row + [""] * (len(rows[0]) - len(row)) for row in rows[1:]])

    def column(self, *names: str) -> int | None:
        """The first of these columns that is there."""
        return next((self.head.index(name) for name in names if name in self.head), None)

    @property
    def students(self) -> list[int]:
        """Rows that are students: Canvas puts the most points into one."""
        return [i for i, row in enumerate(self.rows) if "points possible" not in row[0].strip().lower()]

    def keys(self, row: int) -> set[str]:
        """What a hand-in of this student may be called."""
        names = ("Identifier", "ID", "SIS User ID", "SIS Login ID", "ID number", "Username", "Student", "Full name",
                 "Name", "Email address", "First name", "Last name")  # fmt: skip
        found = {name: self.rows[row][self.head.index(name)] for name in names if name in self.head}
        values = [found.get(name, "") for name in names[:-2]]
        values += [values[names.index("Email address")].partition("@")[0]]
        values += [f"{found.get('First name', '')} {found.get('Last name', '')}"]
        number = found.get("Identifier", "").rpartition(" ")[2]
        return {letters(value) for value in (*values, number)} - {""}


def letters(name: str) -> str:
    """Letters and digits of a name in one case and without accents, its words in alphabetical order."""
    plain = unicodedata.normalize("NFKD", name).encode("ascii", "ignore").decode() or name
    return "".join(sorted(re.findall(r"\w+", plain.casefold().replace("_", " "))))


def files_of(export: Path) -> list[tuple[str, bytes, tuple]]:
    """Path, content and date of each file; a zip file in the export is opened, nothing is written."""
    if export.is_dir():
        paths = [path for path in sorted(export.rglob("*")) if path.is_file()]
        found = [(path.relative_to(export).as_posix(), path.read_bytes(), (path.stat().st_mtime,)) for path in paths]
    else:
        found = list(unzipped(export.read_bytes(), ""))
    for name, content, date in list(found):
        if zipfile.is_zipfile(io.BytesIO(content)):
            found.remove((name, content, date))
            found += unzipped(content, name.rpartition(".")[0])
    kept = [entry for entry in found if "__MACOSX" not in entry[0] and not Path(entry[0]).name.startswith(".")]
    return kept


def unzipped(content: bytes, folder: str):
    """The files of an archive."""
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        for entry in archive.infolist():
            if not entry.is_dir():
                name = f"{folder}/{entry.filename}" if folder else entry.filename
                yield name, archive.read(entry) if entry.file_size <= LARGEST else b"", entry.date_time


def lab_of(notebook: NotebookNode, labs: dict[str, NotebookNode]) -> str | None:
    """The lab that a notebook was made from, by the cells it has; its name does not matter."""
    mine = {tag(cell).get("grade_id") for cell in notebook.cells} - {None}
    shared = {
        lab: len(mine & {tag(cell).get("grade_id") for cell in source.cells} - {"setup"})
        for lab, source in labs.items()
    }
    best = max(shared, key=shared.get)
    return best if shared[best] else None


def read_hand_in(path: str, content: bytes, date: tuple, labs: dict[str, NotebookNode]) -> HandIn | str:
    """A file of the export, or why it is none."""
    match = next(filter(None, (re.fullmatch(pattern, path) for pattern in PATTERNS)), None)
    if match is None:
        return "its name does not say whose it is"
    if not content:
        return f"empty, or larger than {LARGEST >> 20} MB"
    try:
        with contextlib.redirect_stderr(io.StringIO()):
            notebook = nbformat.reads(content.decode("utf-8"), 4)
            lab = lab_of(notebook, labs)
    except Exception as error:
        return f"not a notebook ({type(error).__name__})"
    if lab is None:
        return "a notebook, but of no lab: its cells are not those that were handed out"
    tries = re.search(r"[-( ](\d+)\)?\.ipynb$", path)
    version = (date, int(tries.group(1)) if tries else 0)
    return HandIn(path, match["name"], match.groupdict().get("id") or "", lab, notebook, None, version)


def collect(export: Path, roster: Roster, labs: dict[str, NotebookNode]) -> tuple[list[HandIn], dict[str, str]]:
    """The hand-ins to grade, one a student and lab, and every other file with the reason."""
    found, left = defaultdict(list), {}
    keys = {key: row for row in roster.students for key in roster.keys(row)}
    for path, content, date in files_of(export):
        hand_in = read_hand_in(path, content, date, labs)
        if isinstance(hand_in, str):
            left[path] = hand_in
            continue
        said = filter(None, (letters(hand_in.number), letters(hand_in.name), "".join(sorted(letters(hand_in.name)))))
        hand_in.row = next((keys[key] for key in said if key in keys), None)
        if hand_in.row is None and roster.path:  # Canvas: the sortable name in one word
            squeezed = {"".join(sorted(key)): row for key, row in keys.items()}
            hand_in.row = squeezed.get("".join(sorted(letters(hand_in.name))))
        if roster.path and hand_in.row is None:
            left[path] = f"no student of {roster.path.name} is called {hand_in.name} {hand_in.number}".strip()
            continue
        found[hand_in.lab, hand_in.student if hand_in.row is None else hand_in.row].append(hand_in)
    chosen = []
    for several in found.values():
        *older, last = sorted(several, key=lambda hand_in: hand_in.version)
        left |= {hand_in.path: f"an earlier hand-in of the same student; graded: {last.path}" for hand_in in older}
        chosen.append(last)
    return chosen, left


def grade_all(hand_ins: list[HandIn], labs: dict[str, NotebookNode], hidden: list[Path], options) -> dict[str, str]:
    """Grade them, `jobs` at a time; returns what could not be graded, with the reason."""
    workers, lost, years = SimpleQueue(), {}, {}
    for row in csv.DictReader(options.key.open(encoding="utf-8")) if options.key else ():
        years |= {(name, row["lab"]): int(row["year"]) for name in (letters(row["student"]), row["student"])}

    def one(hand_in: HandIn) -> None:
        sandbox = workers.get()
        try:
            year = years.get((letters(hand_in.name), hand_in.lab)) or years.get((hand_in.number, hand_in.lab))
            source = with_year(labs[hand_in.lab], year)
            hand_in.report = grade(source, hand_in.notebook, sandbox, options.seconds)
            print(f"{hand_in.student}: {hand_in.report.points:g} of {hand_in.report.most:g}", flush=True)
        except SandboxError as error:
            lost[hand_in.path] = f"not graded: {error}"
            sandbox = Sandbox(hidden, options.trusted)
        finally:
            workers.put(sandbox)

    jobs = max(1, min(options.jobs, len(hand_ins)))
    for _ in range(jobs):
        workers.put(Sandbox(hidden, options.trusted))
    with ThreadPoolExecutor(jobs) as pool:
        list(pool.map(one, hand_ins))
    while not workers.empty():
        workers.get().__exit__()
    return lost


def write_marks(path: Path, roster: Roster, graded: dict[int, HandIn]) -> None:
    """The roster with grades; nothing else of it changes. Moodle reads its feedback column, too."""
    mark, feedback = roster.column("Grade"), roster.column("Feedback comments")
    if mark is None and "SIS Login ID" in roster.head:  # Canvas: the first assignment, behind the fixed columns
        fixed = {"Student", "ID", "SIS User ID", "SIS Login ID", "Root Account", "Section", "Integration ID", "Notes"}
        mark = next((i for i, name in enumerate(roster.head) if name not in fixed), None)
    head = [*roster.head, *(["Grade"] if mark is None else []), "Missing", "To look at"]
    most = roster.column("Maximum Grade")
    above = next((row[mark] for i, row in enumerate(roster.rows) if i not in roster.students and mark is not None), "")
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(head)
        for i, row in enumerate(roster.rows):
            row, hand_in = list(row), graded.get(i)
            grade, missing, flags = "", "no hand-in" if i in roster.students else "", ""
            if hand_in and hand_in.report:
                report = hand_in.report
                top = row[most] if most is not None else above
                scale = float(top) / report.most if re.fullmatch(r"\s*\d+(\.\d+)?\s*", top or "") else 1.0
                grade, missing, flags = f"{report.points * scale:g}", report.lost(), "; ".join(report.flags)
            elif hand_in:
                missing = "handed in, but not graded"
            if mark is None:
                row.append(grade)
            elif i in roster.students:
                row[mark] = grade
            if feedback is not None:
                row[feedback] = missing
            writer.writerow([*row, missing, flags])


def write_ranking(path: Path, hand_ins: list[HandIn]) -> None:
    """The open task's result of each student, the best first; `path` is left out if the lab has none."""
    rows = []
    for hand_in in hand_ins:
        for cell in hand_in.report.notebook.cells if hand_in.report else ():
            for output in cell.get("outputs", ()):
                rows += [
                    (float(value), what, hand_in.student) for value, what in RANKING.findall(output.get("text", ""))
                ]
    if rows:
        rows.sort(reverse="reward" in rows[0][1])
        with path.open("w", newline="", encoding="utf-8") as file:
            csv.writer(file).writerows([("value", "what", "student"), *rows])


def run(export: Path, options) -> Path:
    """Collect, grade and write everything into the course's folder; returns that."""
    labs = {lab: with_year(source, options.year) for lab, source in sources(options.source).items()}
    roster, course = Roster.read(options.roster), options.course
    hand_ins, left = collect(export, roster, labs)
    course.mkdir(parents=True, exist_ok=True)
    hidden = [course, *([export] if export.is_dir() else []), options.source]
    left |= grade_all(hand_ins, labs, [path.resolve() for path in hidden], options)
    for lab in sorted({hand_in.lab for hand_in in hand_ins}):
        mine = [hand_in for hand_in in hand_ins if hand_in.lab == lab]
        if roster.path:
            everyone = roster
            graded = {hand_in.row: hand_in for hand_in in mine}
        else:
            everyone = Roster(None, ["Student", "ID"], [[hand_in.name, hand_in.number] for hand_in in mine])
            graded = dict(enumerate(mine))
        write_marks(course / f"marks-{lab}.csv", everyone, graded)
        write_ranking(course / f"ranking-{lab}.csv", mine)
        record(course, lab, labs[lab], {h.student: h.report.notebook for h in mine if h.report})
    rows = [
        (
            h.path,
            h.student,
            h.lab,
            "graded" if h.report else left[h.path],
            "; ".join(h.report.flags) if h.report else "",
        )
        for h in hand_ins
    ]
    rows += [(path, "", "", why, "") for path, why in left.items() if path not in {h.path for h in hand_ins}]
    with (course / "report.csv").open("w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows([("file", "student", "lab", "what became of it", "to look at"), *rows])
    for path, why in left.items():
        print(f"{path}: {why}", file=sys.stderr)
    return course


def main(arguments: list[str]) -> int:
    """Grade an export and return the exit code: 0 if every file was graded."""
    parser = argparse.ArgumentParser(description="Grade an export of hand-ins.")
    parser.add_argument("export", type=Path, help="a folder or zip file")
    parser.add_argument("--roster", type=Path, help="the grading worksheet of Moodle or the gradebook of Canvas, CSV")
    parser.add_argument("--course", type=Path, default=Path("course"), help="where everything is written")
    parser.add_argument("--source", type=Path, default=SOURCE, help="the solved labs")
    parser.add_argument("--year", type=int, help="the variant that was handed out")
    parser.add_argument("--key", type=Path, help="the key.csv of variants for each student")
    parser.add_argument("--seconds", type=float, default=120, help="longest time of a cell")
    parser.add_argument("--jobs", type=int, default=2, help="hand-ins at a time")
    parser.add_argument("--trusted", action="store_true", help="without namespaces: in a container of your own")
    options = parser.parse_args(arguments)
    try:
        course = run(options.export, options)
    except (LabError, SandboxError, OSError, zipfile.BadZipFile) as error:
        print(error, file=sys.stderr)
        return 1
    print(f"Marks, report and feedback: {course}")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
