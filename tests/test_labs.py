"""The labs: what students get, what the teacher's page says, and how an export of hand-ins becomes marks."""

import ast
import csv
import importlib.util
import re
import sys
import time
import zipfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import nbformat
import pytest
from nbgrader.nbgraderformat import MetadataValidator
from nbgrader.preprocessors import ClearHiddenTests, ClearSolutions

from aiecof.board.cards import compare

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT / "labs"))

import checking  # noqa: E402  (the scripts of the labs)
import grade as grading  # noqa: E402
import kit  # noqa: E402
import regressions  # noqa: E402
import sandbox  # noqa: E402

SPEC = importlib.util.spec_from_file_location(
    "build_labs", ROOT / "labs/build.py"
)  # the book has a script `build`, too
build = importlib.util.module_from_spec(SPEC)
SPEC.loader.exec_module(build)
SOURCES = {path.stem: path for path in sorted((ROOT / "labs/source").glob("*/*.ipynb"))}
PAGE = (ROOT / "book/labs.md").read_text(encoding="utf-8")
TASK = re.compile(r"^## Task (\d+): (.+) \((\d+) min, (\d+) points?\)$", re.MULTILINE)


def read(lab: str) -> nbformat.NotebookNode:
    return nbformat.read(SOURCES[lab], 4)


def graded(cell) -> dict:
    return cell.metadata.get("nbgrader", {})


def tasks(lab: str) -> list[tuple[int, str, int, int]]:
    """Number, title, minutes and points of each task, as its heading says."""
    text = "\n".join(cell.source for cell in read(lab).cells if cell.cell_type == "markdown")
    return [(int(number), title, int(minutes), int(points)) for number, title, minutes, points in TASK.findall(text)]


@pytest.mark.parametrize("lab", SOURCES)
def test_a_source_is_valid_and_its_ids_are_unique(lab):
    notebook = read(lab)
    nbformat.validate(notebook)
    MetadataValidator().validate_nb(notebook)
    ids = [graded(cell)["grade_id"] for cell in notebook.cells if graded(cell)]
    assert len(ids) == len(set(ids)) and len({cell.id for cell in notebook.cells}) == len(notebook.cells)
    for cell in notebook.cells:
        assert cell.cell_type == "markdown" or ast.parse(cell.source) is not None
        if graded(cell).get("solution"):
            assert graded(cell)["grade"] is False and "### BEGIN SOLUTION" in cell.source
        if graded(cell).get("grade"):
            assert "### BEGIN HIDDEN TESTS" in cell.source and graded(cell)["locked"]


@pytest.mark.parametrize("lab", SOURCES)
def test_points_of_a_task_are_those_of_its_tests(lab):
    found, number = {}, 0
    for cell in read(lab).cells:
        if cell.cell_type == "markdown" and TASK.search(cell.source):
            number = int(TASK.search(cell.source).group(1))
        found[number] = found.get(number, 0) + graded(cell).get("points", 0)
    assert {key: value for key, value in found.items() if key} == {entry[0]: entry[3] for entry in tasks(lab)}
    assert found[0] == 0 and 5 <= len(tasks(lab)) <= 8


@pytest.mark.parametrize("lab", SOURCES)
def test_the_first_cell_and_the_page_say_what_the_tasks_add_up_to(lab):
    minutes, points = (sum(entry[part] for entry in tasks(lab)) for part in (2, 3))
    assert f"{len(tasks(lab))} tasks, {minutes} minutes, {points} points" in read(lab).cells[0].source
    [row] = re.findall(rf"^\| `{lab}` \|.*\| (\d+) \| (\d+) \| (\d+) \|$", PAGE, re.MULTILINE)
    assert tuple(map(int, row)) == (len(tasks(lab)), minutes, points)
    section = PAGE.split(f"`{lab}`)\n")[1].split("\n## ")[0].split("\n### ")[0]
    rows = re.findall(r"^\| (\d+) (.+?) \| .* \| (\d+) \| (\d+) \|$", section, re.MULTILINE)
    assert [(int(number), title, int(least), int(most)) for number, title, least, most in rows] == tasks(lab)


@pytest.mark.parametrize("lab", SOURCES)
def test_the_chapters_that_a_lab_needs_are_linked_on_the_page(lab):
    [needed] = re.findall(
        r"^\*\*You need\*\* these chapters of the book: (.+?)\n\n", read(lab).cells[0].source, re.M | re.S
    )
    [row] = re.findall(rf"^\| `{lab}` \|.*$", PAGE, re.MULTILINE)
    links = dict(re.findall(r"\[([^]]+)\]\(([^)]+)\)", row))
    assert list(links) == re.findall(r"\*([^*]+)\*", " ".join(needed.split()))
    for title, target in links.items():
        page = ROOT / "book" / target
        first = nbformat.read(page, 4).cells[0].source if page.suffix == ".ipynb" else page.read_text(encoding="utf-8")
        assert re.findall(r"^# (.+)$", first, re.M)[0] == title


def test_secrets_are_the_lines_between_the_marks():
    shared = "total = 0"
    cells = [f"{shared}\n### BEGIN SOLUTION\nanswer = 42\n{shared}\n### END SOLUTION\nprint(answer)"]
    cells += ["assert answer\n### BEGIN HIDDEN TESTS\nassert answer == 42\n### END HIDDEN TESTS"]
    source, released = nbformat.v4.new_notebook(), nbformat.v4.new_notebook()
    source.cells = [nbformat.v4.new_code_cell(text) for text in cells]
    released.cells = [nbformat.v4.new_code_cell("total = 0\nraise NotImplementedError()\nprint(answer)")]
    assert build.leaks(source, released) == []
    released.cells.append(nbformat.v4.new_code_cell("if True:\n    assert answer == 42"))
    assert build.leaks(source, released) == ["assert answer == 42"]
    assert "### END SOLUTION" in build.leaks(source, source)


@pytest.mark.parametrize("lab", SOURCES)
def test_the_students_edition_has_every_task_and_no_solution(lab):
    notebook, resources = read(lab), {}
    for step in (ClearSolutions(), ClearHiddenTests()):  # what `nbgrader generate_assignment` does to the cells
        notebook, resources = step.preprocess(notebook, resources)
    assert build.leaks(read(lab), notebook) == []
    answers = [cell for cell in notebook.cells if graded(cell).get("solution")]
    assert answers and all("raise NotImplementedError()" in cell.source for cell in answers)
    assert all(cell.source.strip() for cell in notebook.cells if graded(cell).get("grade"))


@pytest.mark.parametrize("lab", SOURCES)
def test_every_hidden_check_says_what_is_wrong(lab):
    for cell in read(lab).cells:
        if graded(cell).get("grade"):
            asserts = [node for node in ast.walk(ast.parse(cell.source)) if isinstance(node, ast.Assert)]
            assert asserts and all(node.msg is not None for node in asserts), graded(cell)["grade_id"]


@pytest.mark.parametrize("lab", SOURCES)
def test_the_gallery_has_eight_of_each_kind_and_meets_every_check(lab):
    listed = regressions.answers(ROOT / f"labs/handins/{lab}.md")
    kinds = [answer.kind for answer in listed]
    assert all(kinds.count(kind) >= 8 for kind in ("right", "wrong", "cheat"))
    checks = {graded(cell)["grade_id"] for cell in read(lab).cells if graded(cell).get("grade")}
    met = set().union(*(answer.checks for answer in listed if answer.kind == "wrong"))
    assert met == checks
    for hand_in in regressions.packed(listed):
        regressions.notebook(read(lab), read(lab), hand_in)  # what it exchanges is there


def handed_in(lab: str, changes: dict[str, str], own: str = "") -> nbformat.NotebookNode:
    """A solved lab with other answers and, at its end, a cell of the student's own."""
    notebook = read(lab)
    for cell in notebook.cells:
        cell.source = changes.get(cell.id, checking.solution(cell) if graded(cell).get("solution") else cell.source)
    notebook.cells += [nbformat.v4.new_code_cell(own)] * bool(own)
    return notebook


def test_a_lab_is_put_back_into_shape():
    source, mine = (
        read("lab1_costs"),
        handed_in("lab1_costs", {"slots": "def slots(*_): return 1", "slots-test": "pass"}),
    )
    del mine.cells[[cell.id for cell in mine.cells].index("follow-test")]
    mine.cells.append(next(cell for cell in mine.cells if cell.id == "slots"))  # copied
    whole = {graded(cell)["grade_id"]: cell.source for cell in checking.restored(source, mine).cells if graded(cell)}
    assert whole["slots"] == "def slots(*_): return 1"
    assert "HIDDEN" in whole["slots-test"] and "HIDDEN" in whole["follow-test"]
    assert list(whole) == [graded(cell)["grade_id"] for cell in source.cells if graded(cell)]


@pytest.mark.parametrize(
    ("code", "what"),
    [
        ("import os", "imports os"),
        ("import aiecof_book.toy", "imports aiecof_book.toy, which the lab does not hand out"),
        ("def price(plan): return 0", "makes another price"),
        ("np.isclose = max", "changes np.isclose"),
        ("class A:\n    __eq__ = 1\n    def __eq__(self, other): return True", "uses __eq__"),
        ("%load x.py", "uses get_ipython"),
        ("from math import floor\nname = floor(2.5)", None),
    ],
)
def test_what_a_teacher_should_look_at_is_named(code, what):
    found = checking.suspicions(read("lab1_costs"), handed_in("lab1_costs", {}, code))
    assert found == ([f"a cell of its own: {what}"] if what else [])


@pytest.mark.parametrize("long", [200, 1_000, 100_000])
def test_a_cell_that_is_too_deep_is_no_end_of_grading(long):
    deep = "total = " + " + ".join(["1"] * long)
    found = checking.suspicions(read("lab1_costs"), handed_in("lab1_costs", {}, f"import os\n{deep}"))
    assert found in (["a cell of its own: imports os"], ["a cell of its own: is too deep to be looked at"])


def test_trees_are_made_one_at_a_time(monkeypatch):
    """CPython 3.11 counts their depth in one place for all threads, and a class is graded by several."""
    inside, most, parse = [], [], ast.parse

    def slow(source, *args, **kwargs):
        inside.append(source)
        most.append(len(inside))
        time.sleep(1e-3)
        inside.pop()
        return parse(source, *args, **kwargs)

    monkeypatch.setattr(ast, "parse", slow)
    source, mine = read("lab1_costs"), handed_in("lab1_costs", {}, "import os")
    with ThreadPoolExecutor(8) as pool:
        found = list(pool.map(lambda _: checking.suspicions(source, mine), range(16)))
    assert found == [["a cell of its own: imports os"]] * 16 and len(most) > 16 and max(most) == 1


def test_a_variant_changes_the_year_alone():
    source = read("lab1_costs")
    other = checking.with_year(source, 2031)
    assert checking.year_of(other) == 2031 and checking.year_of(source) == 2026
    assert checking.with_year(other, 2026) == source == checking.with_year(source, None)


def test_names_are_compared_without_accents_case_and_order():
    assert grading.letters("Müller, Zoë") == grading.letters("zoe muller") != grading.letters("Zoe Miller")


SEALED = pytest.mark.skipif(not sandbox.available(), reason="no user namespaces for users on this machine")
ACTS = {
    "a file in the project": f"open({str(ROOT / 'labs/x')!r}, 'w')",
    "a solution": f"open({str(SOURCES['lab1_costs'])!r})",
    "a large file": "open('x', 'wb').write(bytes(100 << 20))",
    "a connection": "import socket; socket.create_connection(('192.0.2.1', 80), 5)",
    "memory": "bytearray(20 << 30)",
    "the worker": "open('/proc/1/mem', 'r+b')",
    "an exit": "import os; os._exit(0)",
}


@SEALED
@pytest.mark.slow
def test_the_sandbox_stops_what_a_hand_in_must_not_do():
    cells = [{"role": "student", "source": source, "solution": ""} for source in ACTS.values()]
    cells += [{"role": "check", "source": "print('still here')", "last": True}]
    with sandbox.Sandbox() as worker:
        *acts, last = worker.run(cells, 60)["outputs"]
        left = worker.run([{"role": "student", "source": "import os; print(os.listdir('/tmp'))", "solution": ""}], 60)
    assert {name: outputs[-1]["output_type"] for name, outputs in zip(ACTS, acts, strict=True)} == dict.fromkeys(
        ACTS, "error"
    )
    seen = set(re.findall(r"'([^']+)'", left["outputs"][0][0]["text"])) - set(ROOT.parts)
    assert last[0]["text"] == "still here\n" and len(seen) == 1  # its own folder


MOODLE = "Identifier,Full name,Email address,Status,Grade,Maximum Grade,Last modified (grade),Feedback comments\n"
PUPILS = ("Ada Lovelace", "Ben Bitdiddle", "Zoë Müller", "Dan Dare", "Eve Adams")
FOREVER = "def slots(seconds, slot_s):\n    while True:\n        pass"
WRITES = "for place in ('mine.txt', '/' + 'tmp/ours.txt', {home!r}):\n    open(place, 'w').write('x')"
QUIET = """import ast
class Quiet(ast.NodeTransformer):
    visit_Assert = lambda self, node: ast.Pass()
get_ipython().ast_transformers.append(Quiet())"""


@pytest.fixture
def export(tmp_path):
    """A Moodle export: a wrong name, a loop, one that writes files, a cheat, an older try, a text; one is missing."""
    files = {
        "Ada Lovelace_101_assignsubmission_file_/my lab (1).ipynb": handed_in("lab1_costs", {}),
        "Ada Lovelace_101_assignsubmission_file_/my lab.ipynb": handed_in("lab1_costs", {"slots": "slots = 3"}),
        "Ben Bitdiddle_102_assignsubmission_file_/lab1_costs.ipynb": handed_in("lab1_costs", {"slots": FOREVER}),
        "Muller Zoe_0_assignsubmission_file_LAB1.ipynb": handed_in(
            "lab1_costs", {}, WRITES.format(home=str(tmp_path / "theirs.txt"))
        ),
        "Dan Dare_104_assignsubmission_file_/lab1_costs.ipynb": handed_in(
            "lab1_costs", {"seconds": QUIET, "follow": "pass", "plan": "plan = 0"}
        ),
    }
    with zipfile.ZipFile(tmp_path / "export.zip", "w") as archive:
        for name, notebook in files.items():
            archive.writestr(name, nbformat.writes(notebook))
        archive.writestr("Ada Lovelace_101_assignsubmission_file_/read me.txt", "sorry")
        archive.writestr("Mallory_109_assignsubmission_file_/lab1_costs.ipynb", nbformat.writes(read("lab1_costs")))
    rows = [f"Participant 10{i},{name},,Submitted,,100.00,-,\n" for i, name in enumerate(PUPILS, 1)]
    (tmp_path / "roster.csv").write_text("\ufeff" + MOODLE + "".join(rows), "utf-8")
    return tmp_path


@SEALED
@pytest.mark.slow
def test_an_export_becomes_marks_in_one_command(export):
    command = [export / "export.zip", "--roster", export / "roster.csv", "--course", export / "course", "--seconds", 20]
    assert grading.main([str(part) for part in command]) == 0
    with (export / "course/marks-lab1_costs.csv").open(encoding="utf-8") as file:
        marks = {row["Full name"]: row for row in csv.DictReader(file)}
    assert [*marks] == list(PUPILS)
    assert {name: row["Grade"] for name, row in marks.items()} == dict(
        zip(PUPILS, ("100", "85", "100", "50", ""), strict=True)
    )
    ada, ben, zoe, dan, eve = (marks[name] for name in PUPILS)
    assert ada["Missing"] == ada["To look at"] == "" and eve["Missing"] == "no hand-in" == eve["Feedback comments"]
    assert ben["Missing"].startswith("slots-test (-3)") and "stopped after 20 seconds" in ben["To look at"]
    assert "uses open" in zoe["To look at"] and not (export / "theirs.txt").exists()
    assert "uses ast_transformers" in dan["To look at"] and "how IPython reads a cell" in dan["To look at"]
    with (export / "course/report.csv").open(encoding="utf-8") as file:
        became = {row["file"]: row["what became of it"] for row in csv.DictReader(file)}
    assert len(became) == 7 and [*became.values()].count("graded") == 4
    assert "an earlier hand-in" in became["Ada Lovelace_101_assignsubmission_file_/my lab.ipynb"]
    assert "no student" in became["Mallory_109_assignsubmission_file_/lab1_costs.ipynb"]
    assert len(list((export / "course/feedback").glob("*/lab1_costs/lab1_costs.html"))) == 4
    assert (export / "course/ranking-lab1_costs.csv").read_text("utf-8").count("cost of the plan") == 3


def test_canvas_names_and_its_gradebook(tmp_path):
    """Canvas writes names in one word and numbers that the gradebook has; the row of the most points stays."""
    text = "Student,ID,SIS User ID,SIS Login ID,Section,Lab 1 (77)\n    Points Possible,,,,,40\n"
    (tmp_path / "book.csv").write_text(text + '"Doe, Jane",501,,jd,A,\n"Roe, Rick",502,,rr,A,\n', "utf-8")
    (tmp_path / "all").mkdir()
    for name in ("doejane_LATE_501_9_lab1_costs-1.ipynb", "roerick_777_9_lab1_costs.ipynb"):
        nbformat.write(read("lab1_costs"), tmp_path / "all" / name)
    roster = grading.Roster.read(tmp_path / "book.csv")
    hand_ins, left = grading.collect(tmp_path / "all", roster, {"lab1_costs": read("lab1_costs")})
    assert {hand_in.row: hand_in.name for hand_in in hand_ins} == {1: "doejane", 2: "roerick"} and not left
    hand_ins[0].report = checking.Report(read("lab1_costs"), points=15, most=20, missing={"slots-test": (5, "why")})
    grading.write_marks(tmp_path / "marks.csv", roster, {1: hand_ins[0]})
    rows = list(csv.reader((tmp_path / "marks.csv").open(encoding="utf-8")))
    assert [row[5:] for row in rows[1:]] == [["40", "", ""], ["30", "slots-test (-5): why", ""], ["", "no hand-in", ""]]


def test_slides_come_from_the_book_and_every_discussion_has_an_answer(tmp_path):
    for lab, notebook in kit.sources(kit.SOURCE).items():
        assert kit.questions(notebook).keys() == kit.discussed(lab).keys()
        for page in kit.chapters(lab).values():
            (tmp_path / page).parent.mkdir(parents=True, exist_ok=True)
            (tmp_path / page).with_name("f.svg").write_text("<svg/>", "utf-8")
            text = '<article><aside class="answer">Answered.</aside><img alt="Finding" src="f.svg"></article>'
            (tmp_path / page).write_text(text, "utf-8")
        made = kit.slides(lab, notebook, tmp_path)
        wanted = ["Answered.", 'alt="Finding" src="data:image/svg+xml;base64', "Your tasks", "What went wrong"]
        assert all(text in made for text in wanted) and made.count("What might be said") == len(kit.discussed(lab))
        assert all(entry[1] in made for entry in tasks(lab))
        assert kit.rubric(notebook).count("\n| `") == sum(graded(cell).get("grade", False) for cell in notebook.cells)


def test_slides_without_a_book_are_refused(tmp_path):
    with pytest.raises(kit.LabError, match="build the book first"):
        kit.slides("lab1_costs", read("lab1_costs"), tmp_path)


@SEALED
@pytest.mark.slow
def test_a_student_is_graded_by_the_variant_that_was_handed_out(tmp_path):
    (tmp_path / "source/lab1_costs").mkdir(parents=True)
    nbformat.write(read("lab1_costs"), tmp_path / "source/lab1_costs/lab1_costs.ipynb")
    build.personal(tmp_path / "source", tmp_path, ["ada"], 2040)
    key = (tmp_path / "personal/key.csv").read_text("utf-8").splitlines()[1].split(",")
    mine = checking.with_year(read("lab1_costs"), int(key[2]))
    (tmp_path / "in/ada").mkdir(parents=True)
    numbers = {"seconds": "device_s, sending_s, server_s = 0.37, 0.21, 0.05"}  # somebody else's
    nbformat.write(mine, tmp_path / "in/ada/lab1_costs.ipynb")
    (tmp_path / "in/ben").mkdir()
    nbformat.write(handed_in("lab1_costs", numbers), tmp_path / "in/ben/lab1_costs.ipynb")
    command = [tmp_path / "in", "--course", tmp_path / "course", "--key", tmp_path / "personal/key.csv"]
    assert grading.main([str(part) for part in command]) == 0
    marks = list(csv.DictReader((tmp_path / "course/marks-lab1_costs.csv").open(encoding="utf-8")))
    assert {row["Student"]: row["Grade"] for row in marks} == {"ada": "20", "ben": "18"}
    year = checking.year_of(nbformat.read(tmp_path / "course/autograded/ada/lab1_costs/lab1_costs.ipynb", 4))
    assert year == int(key[2])


@pytest.mark.slow
def test_the_command_plays_what_lab_6_compares(tmp_path, monkeypatch):
    """The file of the student's class has the lab's numbers on its card."""
    monkeypatch.chdir(tmp_path)
    cells, names = {cell.id: cell.source for cell in read("lab6_compare").cells}, {}
    for name in ("setup", "mine", "on-the-board", "interval", "ahead"):
        exec(cells[name], names)
    (tmp_path / "mine.py").write_text(cells["mine"], "utf-8")
    card = compare("mine.py:Mine", ["balanced"], folder=tmp_path / "kept")
    section = card["settings"]["balanced"]
    assert section["values"]["cost"] == pytest.approx(names["mine"].mean(axis=1))
    assert section["less"]["best-rule"]["cost"] == pytest.approx(names["ahead"])


@pytest.mark.slow
def test_the_grading_holds_in_another_year(tmp_path):
    assert build.main(["--year", "2031"], tmp_path / "labs") == 0
    assert checking.year_of(nbformat.read(tmp_path / "labs/2031/release/lab5_reward/lab5_reward.ipynb", 4)) == 2031


@pytest.mark.slow
def test_a_solution_that_is_wrong_stops_the_build(tmp_path, capsys):
    notebook = handed_in("lab1_costs", {})
    cell = next(cell for cell in notebook.cells if cell.id == "follow")
    cell.source = next(c.source for c in read("lab1_costs").cells if c.id == "follow").replace(
        "done > last", "done >= last"
    )
    (tmp_path / "source/lab1_costs").mkdir(parents=True)
    nbformat.write(notebook, tmp_path / "source/lab1_costs/lab1_costs.ipynb")
    assert build.main([str(tmp_path / "source")], tmp_path / "labs") == 1
    assert "lab1_costs" in capsys.readouterr().err


def test_a_folder_without_labs_is_refused(tmp_path, capsys):
    (tmp_path / "source").mkdir()
    assert build.main([str(tmp_path / "source")], tmp_path / "labs") == 1
    assert "no lab there" in capsys.readouterr().err
