"""Files that are whole at any moment, one reader a format, folders that one process works in, and where folders are.

Whatever is wrong with a file, its reader says it with an `InvalidInput`. A format is a word and a version, such as
"aiecof run 1"; a file that says none is of the first version, which said none.
"""

from __future__ import annotations

import hashlib
import json
import math
import os
import re
import warnings
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Any
from uuid import uuid4

from aiecof.checks import InvalidInput

if TYPE_CHECKING:
    from contextlib import AbstractContextManager

    from filelock import AcquireReturnProxy

PACKAGE = Path(__file__).resolve().parent
DRAFT = ".part"
"""How the name of a file ends that is not whole yet."""
_WHERE = "a folder that can be written"


def write_whole(path: Path, content: bytes) -> None:
    """Write a file so that at any moment either its old content or all of the new one is there."""
    if os.path.isdir(path):
        raise InvalidInput("file", str(path), "the name of a file, not a folder")
    draft = path.with_name(f"{path.name}.{uuid4().hex[:12]}{DRAFT}")
    try:
        with open(draft, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        os.replace(draft, path)
    except OSError as error:
        raise InvalidInput("folder", str(path.parent), f"{_WHERE} ({error.strerror})") from None
    finally:
        _forget(draft)


def _forget(draft: Path) -> None:
    try:
        draft.unlink(missing_ok=True)
    except (OSError, ValueError):
        pass  # where nothing can be written, nothing can be deleted


def make_folder(name: str, path: Path) -> Path:
    """The folder at a path, in which something has been written; `InvalidInput` for `name` if nothing can be."""
    path = Path(path)
    draft = path / f"{uuid4().hex[:12]}{DRAFT}"
    try:
        path.mkdir(parents=True, exist_ok=True)
        draft.write_bytes(bytes(4096))
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or error
        raise InvalidInput(name, str(path), f"{_WHERE} ({reason})") from None
    finally:
        _forget(draft)
    return path


def _lock(name: str, file: Path) -> AcquireReturnProxy:
    from filelock import FileLock

    try:
        return FileLock(file, is_singleton=True).acquire()  # one a path, so that a holder may take it again
    except OSError as error:
        raise InvalidInput(name, str(file.parent), f"{_WHERE} ({error.strerror})") from None


def alone(folder: Path) -> AcquireReturnProxy:
    """Work in a folder (`with alone(folder):`), made if need be; others wait, and a process that is killed lets go."""
    folder = make_folder("folder", folder).resolve()
    held = _lock("folder", folder / "lock")
    _sweep(folder.glob(f"*{DRAFT}"))
    return held


def alone_beside(folder: Path) -> AcquireReturnProxy:
    """The same, with the lock beside the folder: for one of which every file is listed."""
    folder = make_folder("results", folder).resolve()
    held = _lock("results", folder.with_name(f"{folder.name}.lock"))
    _sweep(folder.rglob(f"*{DRAFT}"))
    return held


def undisturbed(folder: Path) -> AbstractContextManager[Any]:
    """Read from a folder while nobody writes into it by `alone_beside`, as far as a lock can be had there."""
    try:
        folder = folder.resolve()
        written = folder.is_dir() and PACKAGE not in folder.parents
        return _lock("results", folder.with_name(f"{folder.name}.lock")) if written else nullcontext()
    except InvalidInput:
        return nullcontext()


def _sweep(drafts: Iterable[Path]) -> None:
    """Forget what killed processes were writing; who does this is alone."""
    for draft in drafts:
        _forget(draft)


def check_name(name: str, value: object) -> str:
    """Return `value` if a file or a folder can be called so anywhere."""
    if not isinstance(value, str) or not re.fullmatch(r"(?!\.)[A-Za-z0-9._-]{1,64}", value):
        raise InvalidInput(name, value, "at most 64 letters (a to z), digits and . _ -, and no . at the beginning")
    return value


def plain_name(text: str) -> str:
    """A name that `check_name` takes, as near to a text as that is."""
    return re.sub(r"[^A-Za-z0-9._-]+", "-", text).lstrip(".")[:64] or "custom"


def digest(path: Path) -> str:
    """SHA-256 of a file, or "none"."""
    with reading("file", path, "a file that can be read"):
        return hashlib.sha256(path.read_bytes()).hexdigest() if path.exists() else "none"


@contextmanager
def reading(name: str, path: str | Path, what: str) -> Iterator[None]:
    """Read a file (`with reading(...):`): whatever goes wrong is an `InvalidInput` that names it and asks for `what`.

    Everything is caught, because a damaged file makes its parser fail in any way.
    """
    try:
        yield
    except InvalidInput as error:
        if str(path) in str(error):
            raise
        raise InvalidInput(name, str(path), f"{what} ({error})") from None
    except Exception as error:
        reason = " ".join(f"{type(error).__name__} {error}".split())
        raise InvalidInput(name, str(path), f"{what} ({reason[:200]})") from None


def check_format(name: str, path: str | Path, found: object, expected: str, remedy: str = "") -> None:
    """`InvalidInput` if a file says that it is of another format, or of another version.

    found : object
        What the file says; None is the first version.
    """
    word, _, version = expected.rpartition(" ")
    if found == expected or (found is None and version == "1"):
        return
    other = re.fullmatch(re.escape(word) + r" (\d{1,9})", found) if isinstance(found, str) else None
    wanted = f"{expected} in {path}"
    if other and int(other[1]) > int(version):
        wanted += " (it was made by a newer version: upgrade aiecof)"
    elif other:
        wanted += " (it was made by an older version)"
    raise InvalidInput(f"{name}.format", found, wanted + (f": {remedy}" if remedy else ""))


def read_json(name: str, path: Path, schema: Any = None, form: str = "", remedy: str = "") -> Any:
    """The content of a JSON file, with or without a byte-order mark; `InvalidInput` if it cannot be read.

    name : str
        The field that `InvalidInput` names.
    schema : optional
        What it has to conform to (`conform`).
    form : str
        Format that a mapping says under "format" (`check_format`); empty if it says none.
    """
    with reading(name, path, "a readable JSON file"):
        content = json.loads(path.read_text(encoding="utf-8-sig"))
        if form:
            conform(name, content, dict)
            check_format(name, path, content.get("format"), form, remedy)
        conform(name, content, schema)
    return content


_KINDS: dict[Any, tuple[tuple[type, ...], str]] = {
    dict: ((dict,), "a mapping"),
    list: ((list,), "a list"),
    str: ((str,), "a text"),
    bool: ((bool,), "true or false"),
    int: ((int,), "a whole number >= 0"),
    float: ((int, float), "a number"),
}


def conform(name: str, value: Any, schema: Any) -> None:
    """`InvalidInput`, for the field `name` or one in it, if a value read from JSON does not have the form of a schema.

    schema : one of
        `{"key": schema}` (a key that ends with "?" may be missing, others may be there besides); `{str: schema}`, any
        keys; `[schema]`; a tuple, a list of that length; a type, of which int is 0 or more and float may be NaN, which
        stands for a mean over nothing, and not infinite; None, anything.
    """
    if schema is None:
        return
    kind = _kind(schema)
    types, wanted = _KINDS[kind]
    fits = isinstance(value, types) and (kind is bool or not isinstance(value, bool))
    if fits and kind in (int, float):
        fits = value >= 0 if kind is int else not math.isinf(value)
    if not fits or (isinstance(schema, tuple) and len(value) != len(schema)):
        wanted += f" of {len(schema)}" if isinstance(schema, tuple) else ""
        raise InvalidInput(name, value, wanted)
    if isinstance(schema, list | tuple):
        for place, entry in enumerate(value):
            conform(f"{name}[{place}]", entry, schema[place] if isinstance(schema, tuple) else schema[0])
    elif isinstance(schema, dict):
        _conform_keys(name, value, schema)


def _conform_keys(name: str, value: dict[str, Any], schema: dict[Any, Any]) -> None:
    if str in schema:
        for key, entry in value.items():
            conform(f"{name}.{key}", entry, schema[str])
        return
    for key, entry in schema.items():
        if (plain := key.removesuffix("?")) in value:
            conform(f"{name}.{plain}", value[plain], entry)
        elif not key.endswith("?"):
            raise InvalidInput(f"{name}.{key}", "nothing", "a value" if entry is None else _KINDS[_kind(entry)][1])


def _kind(schema: Any) -> type:
    return list if isinstance(schema, list | tuple) else dict if isinstance(schema, dict) else schema


def cache_folder(name: str, given: str = "") -> Path | None:
    """A folder for what is compiled: in `given` if that is not empty, else in the package, or in the user's cache.

    Where none can be written there is none, and a warning, one for a process and its workers.
    """
    for place in [Path(given)] if given else [PACKAGE / "__pycache__", Path("~/.cache/aiecof").expanduser()]:
        try:
            return make_folder("cache", place / name)
        except InvalidInput:
            continue
    if os.environ.setdefault("AIECOF_WARNED", str(os.getpid())) == str(os.getpid()):
        warnings.warn("every start compiles: no folder for its work can be written", stacklevel=2)
    return None


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
