"""The labs: what students get, what the teacher's page says, and which wrong answers their grading finds out."""

import ast
import importlib.util
import re
from pathlib import Path

import nbformat
import pytest
from nbgrader.nbgraderformat import MetadataValidator
from nbgrader.preprocessors import ClearHiddenTests, ClearSolutions

ROOT = Path(__file__).resolve().parent.parent
SOURCES = {path.stem: path for path in sorted((ROOT / "labs/source").glob("*/*.ipynb"))}
PAGE = (ROOT / "book/labs.md").read_text(encoding="utf-8")
TASK = re.compile(r"^## Task (\d+): (.+) \((\d+) min, (\d+) points?\)$", re.MULTILINE)
SPEC = importlib.util.spec_from_file_location("build_labs", ROOT / "labs/build.py")
build = importlib.util.module_from_spec(SPEC)
SPEC.loader.exec_module(build)

WRONG = {
    "slots for seconds": (
        "lab1_costs",
        "seconds",
        ("size_mbit / rate_mbps", "size_mbit / rate_mbps / slot_s"),
        "seconds-test",
    ),
    "a slot begun too late": (
        "lab1_costs",
        "slots",
        "def slots(seconds, slot_s):\n    return ceil(round(seconds / slot_s, 1))",
        "slots-test",
    ),
    "the last slot is too late": ("lab1_costs", "follow", ("done > last", "done >= last"), "follow-test"),
    "the next begins in the same slot": ("lab1_costs", "follow", ("ends[-1] + 1", "ends[-1]"), "follow-test"),
    "joules of whole slots": (
        "lab1_costs",
        "joules",
        ("work_gcycle * 1e9", "device_ghz * 1e8 * slots(work_gcycle / device_ghz, slot_s)"),
        "joules-test",
    ),
    "power for energy": ("lab1_costs", "half", ('"a", "e", "b"', '"b", "e", "a"'), "half-test"),
    "sending not rounded": (
        "lab1_costs",
        "break-even",
        ("slots(size_mbit / rate_mbps, slot_s)", "size_mbit / rate_mbps / slot_s"),
        "break-even-test",
    ),
    "all at home": ("lab1_costs", "plan", "plan = np.zeros((3, 3), int)", "plan-test"),
    "the plan of a rule": (
        "lab1_costs",
        "plan",
        "plan = np.array([[1, 2, 1], [2, 1, 2], [1, 2, 1]])",
        "best-plan-test",
    ),
    "the tasks of the exam": (
        "lab2_rules",
        "baseline",
        ("scenario), lessons)", "scenario), draw_trace(scenario, EPISODES, YEAR))"),
        "baseline-test",
    ),
    "not in pairs": (
        "lab2_rules",
        "compare",
        "from scipy.stats import ttest_ind\n\n\ndef compare(first, second, trace):\n"
        '    costs = [play(policy, trace)["cost"] for policy in (first, second)]\n'
        "    return costs[0].mean() - costs[1].mean(), *ttest_ind(*costs).confidence_interval()",
        "compare-test",
    ),
    "the wait forgotten": ("lab2_rules", "done-at-home", ("seen.wait_slots + ", ""), "done-at-home-test"),
    "the last slot not allowed": ("lab2_rules", "in-time", ("<=", "<"), "in-time-test"),
    "the busiest of the episode": ("lab2_rules", "busiest", ("sum(axis=-1)", "sum(axis=(-2, -1))"), "busiest-test"),
    "judged by the lessons": ("lab2_rules", "held-out", ('"evaluation"', '"train"'), "held-out-test"),
    "devices that talk": (
        "lab2_rules",
        "my-rule",
        ("        return (home", "        home = home.mean(axis=1, keepdims=True)\n        return (home"),
        "my-rule-test",
    ),
    "a rule of the book": (
        "lab2_rules",
        "my-rule",
        ("return (home <= way + 1)", "return (seen.wait_slots <= 5)"),
        "best-rules-test",
    ),
    "steps of an episode": ("lab3_training", "counts", ("EPISODES * registered", "registered"), "counts-test"),
    "a value after the end": (
        "lab3_training",
        "advantages",
        (
            "ahead, following = np.zeros(len(rewards)), 0.0, 0.0",
            "ahead, following = np.zeros(len(rewards)), 0.0, values[-1]",
        ),
        "advantages-test",
    ),
    "a band on both sides": (
        "lab3_training",
        "pushes",
        "def pushes(ratio, advantage, epsilon):\n    return abs(ratio - 1) < epsilon",
        "pushes-test",
    ),
    "an exam on known tasks": (
        "lab3_training",
        "exam",
        "def exam(run):\n"
        '    trace = draw_trace(scenario, EXAM, run.description["seed"], split="train")\n'
        '    return evaluate(run.policy(seed=run.description["seed"]), scenario, trace).metrics()["reward"].mean()',
        "exam-test",
    ),
    "chosen by the exam": (
        "lab3_training",
        "tuning",
        ('trained(seed, **changes).curve["reward"][-LAST:].mean()', "exam(trained(seed, **changes))"),
        "tuning-test",
    ),
    "the most likely action of all": ("lab4_claims", "recorded", ('runs[runs["counts"]]', "GREEDY"), "recorded-test"),
    "the spread for the error": ("lab4_claims", "interval", (" / np.sqrt(len(values))", ""), "interval-test"),
    "seeds that one side lacks": ("lab4_claims", "differences", (".dropna()", ".fillna(0.0)"), "differences-test"),
    "in the order of the rows": (
        "lab4_claims",
        "differences",
        "def differences(rows, first, second, metric):\n"
        '    one, other = (rows[rows["method"] == name] for name in (first, second))\n'
        '    return pd.Series(one[metric].to_numpy() - other[metric].to_numpy(), index=one["seed"])',
        "differences-test",
    ),
    "adjusted out of order": ("lab4_claims", "holm", ("np.maximum.accumulate", ""), "holm-test"),
    "not adjusted": ("lab4_claims", "adjusted", ("holm(single)", "single"), "adjusted-test"),
    "the interval of a difference": ("lab4_claims", "equivalent", ("0.9)", "0.95)"), "equivalent-test"),
    "more energy is better": (
        "lab4_claims",
        "judge",
        ('low > 0 if metric == "reward" else high < 0', "low > 0"),
        "judge-test",
    ),
    "rules left out": ("lab4_claims", "judge", ("in OWN_RULES", "in ()"), "judge-test"),
}
"""What went wrong -> lab, answer, the wrong answer (or what to exchange in the right one), the test that must fail."""
LONG = {name for name, (_, _, _, test) in WRONG.items() if test in ("exam-test", "tuning-test", "best-rules-test")}


def read(lab: str) -> nbformat.NotebookNode:
    return nbformat.read(SOURCES[lab], 4)


def graded(cell) -> dict:
    return cell.metadata.get("nbgrader", {})


def tasks(lab: str) -> list[tuple[int, str, int, int]]:
    """Number, title, minutes and points of each task, as its heading says."""
    text = "\n".join(cell.source for cell in read(lab).cells if cell.cell_type == "markdown")
    return [(int(number), title, int(minutes), int(points)) for number, title, minutes, points in TASK.findall(text)]


def run(source: str, names: dict) -> None:
    exec(compile(source, "cell", "exec"), names)


def swapped(right: str, wrong: str | tuple[str, str]) -> str:
    """The wrong answer; a pair exchanges a part of the right one, which must be there."""
    if isinstance(wrong, str):
        return wrong
    assert wrong[0] in right
    return right.replace(*wrong)


def fails(lab: str, answer: str, wrong: str | tuple[str, str], test: str) -> tuple[bool, bool]:
    """Whether a test refuses the right answer, and the wrong one; only the cells that it needs are run."""
    cells = {cell.id: cell for cell in read(lab).cells if cell.cell_type == "code"}
    names = {"__name__": "__main__", "display": lambda table: None}
    refused = []
    for cell_id, cell in cells.items():
        if cell_id == answer:
            break
        if not graded(cell).get("grade") and not cell_id.startswith(("answer-", "curves", "marks", "try")):
            run(cell.source, names)
    if "GREEDY" in wrong:
        names["GREEDY"] = names["runs"][names["runs"]["actions"] == "greedy"]
    for source in (cells[answer].source, swapped(cells[answer].source, wrong)):
        later = dict(names)
        run(source, later)
        try:
            for cell_id in ["my-rule-test", test] if test == "best-rules-test" else [test]:
                run(cells[cell_id].source, later)
        except AssertionError:
            refused.append(True)
        else:
            refused.append(False)
    return tuple(refused)


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
        assert first.startswith(f"# {title}\n")


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


def test_every_graded_test_meets_a_wrong_answer():
    tested = {(lab, test) for lab, _, _, test in WRONG.values()}
    every = {
        (lab, graded(cell)["grade_id"]) for lab in SOURCES for cell in read(lab).cells if graded(cell).get("grade")
    }
    simple = {("lab2_rules", "greedy-test"), ("lab4_claims", "false-alarm-test")}
    trained = {("lab3_training", "gain-test"), ("lab3_training", "verdict-test")}
    assert every - tested == simple | trained


@pytest.mark.parametrize("name", [pytest.param(n, marks=[pytest.mark.slow] if n in LONG else []) for n in WRONG])
def test_a_wrong_answer_fails_and_the_right_one_passes(name):
    assert fails(*WRONG[name]) == (False, True)


@pytest.mark.slow
def test_the_grading_holds_in_another_year(tmp_path):
    """The parameters that the teacher's page tells to change, changed; the build checks points and leaks."""
    changes = {
        "lab1_costs": ("workload_scale=0.5", "workload_scale=0.6"),
        "lab2_rules": (
            'load_scenario("balanced", network="episode")',
            'load_scenario("balanced", network="episode", devices=24)',
        ),
        "lab3_training": ("devices=6", "devices=7"),
        "lab4_claims": ('"balanced", "reward"', '"table-iii", "delay"'),
    }
    for lab, change in changes.items():
        text = swapped(SOURCES[lab].read_text(encoding="utf-8"), tuple(part.replace('"', '\\"') for part in change))
        (tmp_path / "source" / lab).mkdir(parents=True)
        (tmp_path / "source" / lab / f"{lab}.ipynb").write_text(swapped(text, ("YEAR = 2026", "YEAR = 2031")), "utf-8")
    assert build.main([str(tmp_path / "source")], tmp_path / "labs") == 0


@pytest.mark.slow
def test_a_solution_that_is_wrong_stops_the_build(tmp_path, capsys):
    text = SOURCES["lab1_costs"].read_text(encoding="utf-8")
    (tmp_path / "source/lab1_costs").mkdir(parents=True)
    (tmp_path / "source/lab1_costs/lab1_costs.ipynb").write_text(
        swapped(text, ("done > last", "done >= last")), "utf-8"
    )
    assert build.main([str(tmp_path / "source")], tmp_path / "labs") == 1
    assert "lab1_costs" in capsys.readouterr().err


def test_a_folder_without_labs_is_refused(tmp_path, capsys):
    (tmp_path / "source").mkdir()
    assert build.main([str(tmp_path / "source")], tmp_path / "labs") == 1
    assert "no lab there" in capsys.readouterr().err
