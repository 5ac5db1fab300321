"""The hand-ins of `labs/handins` and what they must get: right answers everything, wrong ones less, cheats a flag.

A hand-in is a heading, `## KIND: what it does (`ANSWER`)`, and a block of code in place of that answer: `python` the
whole of it, `diff` a part to exchange (lines with - and +). A wrong one names the checks that it loses,
`(`ANSWER` -> `CHECK`)`. A cheat in the cell `setup` stands below it in an otherwise untouched notebook. Answers to
different tasks go into one hand-in, since a gap costs only its own points.
"""

import re
import time
from concurrent.futures import ThreadPoolExecutor
from copy import deepcopy
from dataclasses import dataclass
from pathlib import Path
from queue import SimpleQueue

import nbformat
from checking import Report, grade, solution, tag
from nbformat import NotebookNode
from sandbox import Sandbox

HEADING = re.compile(
    r"^## (?P<kind>right|wrong|cheat): (?P<name>.+?) \(`(?P<answer>[\w-]+)`(?: -> (?P<checks>[^)]+))?\)\n"
    r"(?P<why>.*?)^```(?P<form>python|diff)\n(?P<code>.*?)^```$",
    re.MULTILINE | re.DOTALL,
)
SECONDS = 300  # a cell, on a machine that may be busy


@dataclass(frozen=True)
class Answer:
    """One answer of the gallery."""

    kind: str
    name: str
    answer: str
    checks: frozenset[str]
    why: str
    form: str
    code: str

    def source(self, right: str) -> str:
        """What stands in the cell."""
        if self.form == "python":
            return self.code
        old, new = ("\n".join(line[2:] for line in self.code.splitlines() if line[0] == sign) for sign in "-+")
        if old not in right:
            raise ValueError(f"{self.name}: not in the solution: {old}")
        return right.replace(old, new)


def answers(path: Path) -> list[Answer]:
    """The answers that a page of the gallery holds."""
    text = path.read_text("utf-8")
    found = []
    for match in HEADING.finditer(text):
        parts = match.groupdict()
        checks = frozenset(re.findall(r"`([\w-]+)`", parts["checks"] or ""))
        found.append(Answer(**parts | {"checks": checks, "why": parts["why"].strip()}))
    if len(found) != text.count("\n## "):
        raise ValueError(f"{path}: {text.count(chr(10) + '## ')} headings, {len(found)} hand-ins")
    return found


def packed(listed: list[Answer]) -> list[list[Answer]]:
    """As few hand-ins as there can be, with one kind each and one answer to a task."""
    hand_ins = []
    for one in listed:
        free = (h for h in hand_ins if h[0].kind == one.kind and "setup" not in {a.answer for a in [*h, one]}
                and one.answer not in {a.answer for a in h})  # fmt: skip
        hand_in = next(free, None)
        if hand_in is None:
            hand_ins.append(hand_in := [])
        hand_in.append(one)
    return hand_ins


def notebook(source: NotebookNode, empty: NotebookNode, hand_in: list[Answer]) -> NotebookNode:
    """The notebook that is handed in."""
    if hand_in[0].answer == "setup":
        made = deepcopy(empty)
        at = next(i for i, cell in enumerate(made.cells) if tag(cell).get("grade_id") == "setup")
        made.cells.insert(at + 1, nbformat.v4.new_code_cell(hand_in[0].code))
        return made
    made, wanted = deepcopy(source), {answer.answer: answer for answer in hand_in}
    for cell in made.cells:
        name = tag(cell).get("grade_id")
        if tag(cell).get("solution"):
            cell.source = solution(cell)
        if name in wanted:
            cell.source = wanted.pop(name).source(cell.source)
    if wanted:
        raise ValueError(f"no such answer: {', '.join(wanted)}")
    return made


def complaints(lab: str, hand_in: list[Answer], report: Report) -> list[str]:
    """What a report should not say."""
    lost, kind = set(report.missing), hand_in[0].kind
    names = f"{lab}: {kind} {', '.join(answer.name for answer in hand_in)}"
    if kind == "right":
        return [f"{names}: lost {report.lost()}"] * bool(lost) + [f"{names}: flagged {report.flags}"] * bool(
            report.flags
        )
    if kind == "wrong":
        meant = frozenset().union(*(answer.checks for answer in hand_in))
        unfair = {name: report.missing[name] for name in lost - meant}
        return [f"{names}: not lost {sorted(meant - lost)}, lost as well {unfair}"] * (lost != meant)
    if hand_in[0].answer == "setup":
        return [f"{names}: {report.points:g} points, no flag"] * (report.points > 0 and not report.flags)
    seen = {answer: lost & answer.checks or any(flag.startswith(f"{answer.answer}: ") for flag in report.flags)
            for answer in hand_in}  # fmt: skip
    run_time = any(flag.startswith("changed") for flag in report.flags)
    return [
        f"{lab}: cheat {answer.name}: neither caught nor flagged" for answer in seen if not (seen[answer] or run_time)
    ]


def check(
    labs: dict[str, NotebookNode], empty: dict[str, NotebookNode], gallery: Path, trusted: bool, jobs: int = 2
) -> list[str]:
    """Grade the gallery of each lab and print how it went; returns what is wrong."""
    workers, jobs_of, wrong = SimpleQueue(), [], []
    for _ in range(jobs):
        workers.put(Sandbox(trusted=trusted))
    listed = {lab: answers(gallery / f"{lab}.md") for lab in labs}

    def one(job: tuple[str, list[Answer]]) -> tuple[str, list[Answer], Report, float]:
        lab, hand_in = job
        sandbox, begin = workers.get(), time.monotonic()
        try:
            report = grade(labs[lab], notebook(labs[lab], empty[lab], hand_in), sandbox, SECONDS)
        finally:
            workers.put(sandbox)
        return lab, hand_in, report, time.monotonic() - begin

    jobs_of = [(lab, hand_in) for lab in labs for hand_in in packed(listed[lab])]
    with ThreadPoolExecutor(jobs) as pool:
        results = list(pool.map(one, jobs_of))
    while not workers.empty():
        workers.get().__exit__()
    print(f"{'lab':<16}{'right':>8}{'wrong':>8}{'cheats':>8}{'hand-ins':>10}{'seconds':>9}")
    for lab in labs:
        kinds = [sum(answer.kind == kind for answer in listed[lab]) for kind in ("right", "wrong", "cheat")]
        mine = [(hand_in, report, seconds) for name, hand_in, report, seconds in results if name == lab]
        print(
            f"{lab:<16}{kinds[0]:8}{kinds[1]:8}{kinds[2]:8}{len(mine):10}{sum(entry[2] for entry in mine):9.0f}",
            flush=True,
        )
        wrong += [line for hand_in, report, _ in mine for line in complaints(lab, hand_in, report)]
    return wrong
