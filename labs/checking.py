"""What a hand-in is worth: put it back into shape, run it in the sandbox, read off points and what to look at."""

import ast
import builtins
import sys
from copy import deepcopy
from dataclasses import dataclass, field

import nbformat
from IPython.core.inputtransformer2 import TransformerManager
from nbformat import NotebookNode
from sandbox import Sandbox, bound_names, parsed

HELPFUL = {
    "numpy",
    "pandas",
    "scipy",
    "torch",
    "matplotlib",
    "seaborn",
    "math",
    "itertools",
    "functools",
    "collections",
}
HELPFUL |= {"statistics", "heapq", "bisect", "copy", "dataclasses", "typing", "operator", "random", "time", "fractions"}
TELLING = {
    "get_ipython",
    "globals",
    "locals",
    "vars",
    "exec",
    "eval",
    "compile",
    "open",
    "setattr",
    "delattr",
    "breakpoint",
    "read_csv",
    "read_pickle",
    "loadtxt",
}
TELLING |= {
    "_getframe",
    "f_locals",
    "f_back",
    "f_globals",
    "ast_transformers",
    "_tracker",
    "settrace",
    "setprofile",
    "modules",
}
PLAIN = {"__init__", "__call__", "__name__", "__len__", "__iter__", "__getitem__", "__doc__", "__post_init__"}


def tag(cell: NotebookNode) -> dict:
    """What nbgrader noted about a cell."""
    return cell.metadata.get("nbgrader", {})


def part(cell: NotebookNode) -> str:
    """What a code cell is: `check`, `answer`, `locked` or `free`."""
    note = tag(cell)
    return next((name for name, key in PARTS.items() if note.get(key)), "free")


PARTS = {"check": "grade", "answer": "solution", "locked": "locked"}


def with_year(notebook: NotebookNode, year: int | None) -> NotebookNode:
    """The variant of a lab: everything that it draws follows from the `YEAR` of its first code cell."""
    notebook = deepcopy(notebook)
    first = next(cell for cell in notebook.cells if cell.cell_type == "code")
    lines = first.source.splitlines()
    [at] = [i for i, line in enumerate(lines) if line.startswith("YEAR = ")]
    if year is not None:
        lines[at] = f"YEAR = {year}" + lines[at].partition(str(year_of(notebook)))[2]
    first.source = "\n".join(lines)
    return notebook


def year_of(notebook: NotebookNode) -> int | None:
    """The `YEAR` of a lab, or None if its first code cell has none."""
    sources = (cell.source for cell in notebook.cells if cell.cell_type == "code")
    lines = [line for line in next(sources, "").splitlines() if line.startswith("YEAR = ")]
    return ast.literal_eval(parsed(lines[0]).body[0].value) if lines else None


def solution(cell: NotebookNode) -> str:
    """The source of a solved cell without the marks."""
    return "\n".join(line for line in cell.source.splitlines() if "### BEGIN" not in line and "### END" not in line)


def restored(source: NotebookNode, handed_in: NotebookNode) -> NotebookNode:
    """The lab with the student's answers and own cells; locked cells and checks are those of the source."""
    answers, before, waiting = {}, {}, []
    for cell in handed_in.cells:
        name = tag(cell).get("grade_id")
        if name is None:
            waiting.append(cell)
        elif name not in before:  # a copied cell counts once
            before[name], waiting = waiting, []
            answers[name] = cell.source
    whole = nbformat.v4.new_notebook(metadata=source.metadata)
    for cell in source.cells:
        name = tag(cell).get("grade_id")
        if name is not None:
            mine = deepcopy(cell)
            if part(cell) == "answer":
                mine.source = answers.get(name, "raise NotImplementedError()")
            whole.cells += [*before.get(name, []), mine]
    whole.cells += waiting
    return whole


def cells_to_run(source: NotebookNode, whole: NotebookNode) -> list[dict]:
    """Code cells as the sandbox takes them."""
    solutions = {tag(cell)["grade_id"]: solution(cell) for cell in source.cells if part(cell) == "answer"}
    code = [cell for cell in whole.cells if cell.cell_type == "code"]
    kinds = [part(cell) for cell in code]
    jobs = []
    for at, (cell, kind) in enumerate(zip(code, kinds, strict=True)):
        job = {"role": kind if kind in ("check", "locked") else "student", "source": cell.source}
        if kind == "answer":
            job["solution"] = solutions[tag(cell)["grade_id"]]
        if kind == "check":
            job["last"] = next((later for later in kinds[at + 1 :] if later != "locked"), "answer") != "check"
        jobs.append(job)
    return jobs


def _top_level(body: list[ast.stmt]):
    for node in body:
        yield node
        for block in ("body", "orelse", "finalbody"):
            if not isinstance(node, ast.FunctionDef | ast.ClassDef):
                yield from _top_level(getattr(node, block, []))


def imported(tree: ast.AST) -> set[str]:
    """Modules, and names of modules of the package, that a tree imports."""
    found = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            found |= {entry.name for entry in node.names}
        if isinstance(node, ast.ImportFrom) and node.module:
            inside = node.module.split(".")[0] in ("aiecof", "aiecof_book")
            found |= {f"{node.module}.{entry.name}" for entry in node.names} if inside else {node.module}
    return found


def suspicions(source: NotebookNode, whole: NotebookNode) -> list[str]:
    """What a teacher should look at in the student's own cells; a careless student may do most of it as well."""
    code = [cell for cell in source.cells if cell.cell_type == "code"]
    locked = [parsed(cell.source) for cell in code if part(cell) == "locked"]
    checks = [parsed(cell.source) for cell in code if part(cell) == "check"]
    handed_out = set().union(*map(imported, locked))
    own = {name for cell in code if part(cell) == "answer" for name in bound_names(solution(cell))}
    given = {name for tree in locked for name in bound_names(ast.unparse(tree))}
    given |= {entry.asname or entry.name for tree in locked for node in ast.walk(tree)
              if isinstance(node, ast.Import | ast.ImportFrom) for entry in node.names}  # fmt: skip
    named = [node for tree in checks for node in ast.walk(tree) if isinstance(node, ast.Name)]
    used, set_there = ({node.id for node in named if isinstance(node.ctx, kind)} for kind in (ast.Load, ast.Store))
    protected = (used & (given | set(dir(builtins)))) - own - set_there
    found = []
    for cell in whole.cells:
        if cell.cell_type == "code" and part(cell) in ("answer", "free"):
            where = tag(cell).get("grade_id", "a cell of its own")
            try:
                tree = parsed(TransformerManager().transform_cell(cell.source))
                found += [f"{where}: {what}" for what in _seen(tree, handed_out, protected, given)]
            except (SyntaxError, ValueError):
                continue
            except (RecursionError, MemoryError):
                found.append(f"{where}: is too deep to be looked at")
    return list(dict.fromkeys(found))


def _seen(tree: ast.Module, handed_out: set[str], protected: set[str], given: set[str]):
    """The suspicions about one cell."""
    for name in sorted(imported(tree) - handed_out):
        inside = name.split(".")[0] in ("aiecof", "aiecof_book")
        if inside or name.split(".")[0] not in HELPFUL:
            yield f"imports {name}" + (", which the lab does not hand out" if inside else "")
    for node in _top_level(tree.body):
        parts = isinstance(node, ast.Assign) and any(
            isinstance(to, ast.Attribute | ast.Subscript) for to in node.targets
        )
        names = set() if parts or isinstance(node, ast.For | ast.With) else bound_names(ast.unparse(node))
        yield from (f"makes another {name}" for name in sorted(names & protected))
    modules = {entry.asname or entry.name.split(".")[0] for node in ast.walk(tree)
               if isinstance(node, ast.Import | ast.ImportFrom) for entry in node.names}  # fmt: skip
    for node in ast.walk(tree):
        name = getattr(node, "attr", None) or getattr(node, "id", None) or getattr(node, "name", None) or ""
        hidden = isinstance(name, str) and name.startswith("__") and name.endswith("__") and name not in PLAIN
        if name in TELLING or hidden:
            yield f"uses {name}"
        if isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Store):
            root = node
            while isinstance(root, ast.Attribute):
                root = root.value
            if isinstance(root, ast.Name) and root.id in modules | given:
                yield f"changes {ast.unparse(node)}"


@dataclass
class Report:
    """A graded hand-in: points, and what was lost where and why; `notebook` has the outputs."""

    notebook: NotebookNode
    points: float = 0
    most: float = 0
    missing: dict[str, tuple[float, str]] = field(default_factory=dict)
    flags: list[str] = field(default_factory=list)

    def lost(self) -> str:
        """What is missing, in a line."""
        return "; ".join(f"{name} (-{points:g}): {why}" for name, (points, why) in self.missing.items())


def grade(source: NotebookNode, handed_in: NotebookNode, sandbox: Sandbox, seconds: float) -> Report:
    """Run a hand-in and count its points."""
    whole = restored(source, handed_in)
    told = sandbox.run(cells_to_run(source, whole), seconds)
    report = Report(whole, flags=suspicions(source, whole))
    report.flags += [f"changed while it ran: {name}" for name in told["changed"]]
    code = [cell for cell in whole.cells if cell.cell_type == "code"]
    report.flags += [
        f"{tag(code[int(at)]).get('grade_id', 'a cell of its own')}: {why}" for at, why in told["stopped"].items()
    ]
    for cell, outputs in zip(code, told["outputs"], strict=True):
        cell.outputs, cell.execution_count = [nbformat.from_dict(output) for output in outputs], None
        if part(cell) == "check":
            worth = tag(cell)["points"]
            errors = [output for output in cell.outputs if output.output_type == "error"]
            report.most += worth
            report.points += 0 if errors else worth
            if errors:
                why = (
                    errors[0].evalue
                    if errors[0].ename == "AssertionError"
                    else f"{errors[0].ename}: {errors[0].evalue}"
                )
                report.missing[tag(cell)["grade_id"]] = worth, " ".join(why.split())[:200]
    report.notebook.cells.append(
        nbformat.v4.new_markdown_cell(
            "\n".join(["**To look at**", "", *(f"- {flag}" for flag in report.flags)])
            if report.flags
            else "Nothing was changed outside the answers."
        )
    )
    return report


def read(path) -> NotebookNode:
    """A notebook of any version."""
    return nbformat.read(path, 4)


if __name__ == "__main__":  # one hand-in: python labs/checking.py SOURCE HAND_IN
    with Sandbox() as sandbox:
        report = grade(read(sys.argv[1]), read(sys.argv[2]), sandbox, 120)
    print(f"{report.points:g} of {report.most:g}", report.lost(), *report.flags, sep="\n")
