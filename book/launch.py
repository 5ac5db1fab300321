"""Write the set-up cell into every notebook; after a change of the repository's address or of the cell:

.venv/bin/python book/launch.py
"""

import json
from pathlib import Path

import yaml

ROOT = Path(__file__).resolve().parent.parent
NAME = "set-up"
CELL = """\
# Nothing happens here where the package is installed. On Colab this gets it.
import importlib.util
import os
import subprocess
import sys

REPOSITORY = "{address}"
if not importlib.util.find_spec("aiecof_book"):
    if not REPOSITORY:
        raise SystemExit("install the package first, in a copy of the repository: pip install '.[agents,study]'")
    subprocess.run(["git", "clone", "--depth", "1", REPOSITORY, "book"], check=True)
    subprocess.run([sys.executable, "-m", "pip", "install", "--quiet", "./book[agents,study]"], check=True)
    os.chdir("book/notebooks")
"""


def address(root: Path = ROOT) -> str:
    """Of the repository, as `_config.yml` has it; empty if it has none."""
    return yaml.safe_load((root / "_config.yml").read_text(encoding="utf-8"))["repository"]["url"]


def cell(root: Path = ROOT) -> dict:
    """The set-up cell, which pages do not show."""
    source = CELL.format(address=address(root)).rstrip("\n").splitlines(keepends=True)
    metadata = {"tags": ["remove-cell"]}
    return {
        "cell_type": "code",
        "execution_count": None,
        "id": NAME,
        "metadata": metadata,
        "outputs": [],
        "source": source,
    }


def write(path: Path, root: Path = ROOT) -> None:
    """Put the cell behind a notebook's title, in the place of an older one."""
    notebook = json.loads(path.read_text(encoding="utf-8"))
    cells = [entry for entry in notebook["cells"] if entry.get("id") != NAME]
    notebook["cells"] = [*cells[:1], cell(root), *cells[1:]]
    path.write_text(json.dumps(notebook, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")


if __name__ == "__main__":
    for path in sorted((ROOT / "notebooks").glob("*.ipynb")):
        write(path)
