"""Draw the house, which modules there are, what each is and what it imports of the others, into CONTRIBUTING.md.

.venv/bin/python book/house.py
"""

import ast
import re
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
HOMES = {"aiecof": ROOT / "aiecof", "aiecof_book": ROOT / "book/aiecof_book"}
ORDER = {
    "aiecof": "checks metrics doors files processes",
    "aiecof.system": "scenario model workload objective observations compiling views kernels simulator reference",
    "aiecof.requests": "formats tasks",
    "aiecof.envs": "spaces episodes rendering gymnasium_env slot_envs vector_env pettingzoo_env vec_env",
    "aiecof.agents": "policies rules memories heads networks dqn toppo central methods learned training bench",
    "aiecof.study": "grids store statistics paper front curves evidence verdicts claims "
    "lower_bound print_limits trials beyond experiments own runner verify",
    "aiecof.drawing": "style figures",
    "aiecof.reconstruction": "reward_agreement calibration statements tuning edge_services",
    "aiecof.board": "suite adapters cards",
    "aiecof.cli": "console chosen results board requests app",
    "aiecof_book": "blind tables page cover reference toy optimum recall complexity equations playground",
}
"""Folder -> its modules; each imports only what stands before it. The facts of `study` end with `claims`."""
START, END = "<!-- house: drawn by book/house.py -->\n", "<!-- end of the house -->\n"


def ranks() -> dict[str, int]:
    """Module or folder -> its place; a folder, which opens its door to its modules, comes after them."""
    names = [
        name for folder, modules in ORDER.items() for name in (*(f"{folder}.{m}" for m in modules.split()), folder)
    ]
    names.remove("aiecof")  # the front door leads to everything but the book's helpers
    first = names.index("aiecof.cli") + 1
    return {name: rank for rank, name in enumerate([*names[:first], "aiecof", "aiecof.__main__", *names[first:]])}


def sources() -> dict[str, str]:
    """Module or folder -> source, for every file that is there."""
    found = {}
    for home in HOMES.values():
        for path in sorted(home.rglob("*.py")):
            parts = path.relative_to(home.parent).with_suffix("").parts
            found[".".join(parts).removesuffix(".__init__")] = path.read_text(encoding="utf-8")
    return found


def imported(module: str, source: str) -> set[str]:
    """What a module's source imports of the house, anywhere in it; the version is for everybody."""
    known, found = ranks(), set()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            base = (
                ".".join([*module.split(".")[: -node.level], *filter(None, [node.module])])
                if node.level
                else node.module
            )
            names = {alias.name for alias in node.names} - ({"__version__"} if base == "aiecof" else set())
            found |= {f"{base}.{name}" if f"{base}.{name}" in known else base for name in names}
    return {name for name in found if name.split(".")[0] in HOMES}


def first_sentence(source: str) -> str:
    """How a module's docstring begins."""
    [paragraph, *_] = (ast.get_docstring(ast.parse(source)) or "").split("\n\n")
    return re.split(r"(?<=\.)\s+(?=[A-Z`])", paragraph)[0].replace("\n", " ")


def drawing() -> str:
    """The house as a table in Markdown."""
    return "".join(f"{line}\n" for line in _lines())


def _lines() -> Iterator[str]:
    texts, known = sources(), ranks()
    yield "| Module | Lines | What it is | Imports |"
    yield "|---|---:|---|---|"
    for folder, modules in ORDER.items():
        rooms = {f"{folder}.{module}": texts[f"{folder}.{module}"] for module in modules.split()}
        total = sum(len(text.splitlines()) for text in [texts[folder], *rooms.values()])
        yield f"| **`{folder}`** | **{total}** | **{first_sentence(texts[folder])}** | |"
        for name, text in rooms.items():
            below = sorted(imported(name, text), key=known.__getitem__)
            listed = ", ".join(f"`{other.removeprefix('aiecof.')}`" for other in below)
            short = name.rpartition(".")[2]
            yield f"| `{short}` | {len(text.splitlines())} | {first_sentence(text)} | {listed} |".replace("|  |", "| |")


def main() -> None:
    document = ROOT / "CONTRIBUTING.md"
    before, _, rest = document.read_text(encoding="utf-8").partition(START)
    after = rest.partition(END)[2]
    document.write_text(f"{before}{START}\n{drawing()}\n{END}{after}", encoding="utf-8")


if __name__ == "__main__":
    main()
