"""Files that are whole at any moment, folders that one process works in, and where the project's folders are."""

from __future__ import annotations

import hashlib
import json
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

from aiecof.checks import InvalidInput

if TYPE_CHECKING:
    from filelock import AcquireReturnProxy

PACKAGE = Path(__file__).resolve().parent


def write_whole(path: Path, content: bytes) -> None:
    """Write a file so that at any moment either its old content or all of the new one is there."""
    draft = path.with_name(path.name + ".part")
    try:
        with open(draft, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        os.replace(draft, path)
    except OSError as error:
        draft.unlink(missing_ok=True)
        raise InvalidInput("folder", str(path.parent), f"a folder that can be written ({error.strerror})") from None


def make_folder(name: str, path: Path) -> Path:
    """The folder at a path; `InvalidInput` for the field `name` if there can be none."""
    try:
        path.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InvalidInput(name, str(path), f"a folder that can be written ({error.strerror})") from None
    return path


def alone(folder: Path) -> AcquireReturnProxy:
    """Work in a folder (`with alone(folder):`), made if need be; others wait, and a process that is killed lets go."""
    from filelock import FileLock

    try:
        return FileLock(make_folder("folder", folder) / "lock", is_singleton=True).acquire()
    except OSError as error:
        raise InvalidInput("folder", str(folder), f"a folder that can be written ({error.strerror})") from None


def digest(path: Path) -> str:
    """SHA-256 of a file, or "none"."""
    return hashlib.sha256(path.read_bytes()).hexdigest() if path.exists() else "none"


def read_json(name: str, path: Path) -> Any:
    """The content of a JSON file; `InvalidInput` for the field `name` if it cannot be read."""
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise InvalidInput(name, str(path), f"a readable JSON file ({error})") from None


def checkout() -> Path | None:
    """The repository that the package stands in; None if it was installed without it."""
    root = PACKAGE.parent
    return root if (root / "pyproject.toml").is_file() else None


def home() -> Path:
    """Where `results/` and `runs/` are written: the repository, else the working directory. Never the package."""
    return checkout() or Path.cwd()


def results_folder() -> Path:
    """Where results are read: those of the repository or of the working directory, else those of the wheel."""
    found = home() / "results"
    carried = PACKAGE / "results"
    return carried if not found.is_dir() and carried.is_dir() else found
