"""Requests of real services: files of several formats, and what their arrivals, sizes and work are like."""

from __future__ import annotations

import json
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from io import BufferedReader
from itertools import islice
from pathlib import Path

import numpy as np

from aiecof.checks import InvalidInput, check_choice, check_memory, checked
from aiecof.files import reading
from aiecof.system.workload import Trace

FORMATS = {
    "azure": ("TIMESTAMP", "ContextTokens", "GeneratedTokens"),
    "burstgpt": ("Timestamp", "Request tokens", "Response tokens"),
    "mooncake": ("timestamp", "input_length", "output_length"),
    "csv": ("time", "size", "work"),
}
"""Format -> its fields for time, size and work; a `csv` may have `user` as well. Mooncake's are lines of JSON."""
MOST_BYTES = 4 * 10**9
"""Size of the largest file that is read [byte]."""
LARGEST = 9e18
"""The largest number in a file: times of today are less, even in nanoseconds, and whole numbers go no further."""
_NUMBER = f"a number from 0 to {LARGEST:g}"
_TIME_UNIT = {"azure": 1e-6, "mooncake": 1e-3}
_BLOCK = 500


@dataclass(frozen=True)
class Requests:
    """Requests in the order of their arrival.

    name : str
        Where they are from.
    time : (n,) float
        Seconds after the first request.
    size, work : (n,) float
        What is sent and what is computed, in the units of the file: tokens of the prompt, tokens generated. A request
        without one of them failed.
    user : (n,) int or None
        Number of the user, from 0 in the order of their first requests.
    """

    name: str
    time: np.ndarray
    size: np.ndarray
    work: np.ndarray
    user: np.ndarray | None = None

    def __post_init__(self):
        columns = {name: getattr(self, name) for name in ("time", "size", "work", "user")}
        for name, values in columns.items():
            if values is None and name == "user":
                continue
            kind = "iu" if name == "user" else "f"
            if not isinstance(values, np.ndarray) or values.dtype.kind not in kind or values.shape != self.time.shape:
                allowed = (
                    f"{'whole numbers' if name == 'user' else 'floats'}, an array of one axis as long as the others"
                )
                raise InvalidInput(f"requests.{name}", values, allowed)
            if values.ndim != 1 or not len(values) or not 0 <= values.min() <= values.max() <= LARGEST:
                raise InvalidInput(f"requests.{name}", values, f"at least one number, each {_NUMBER}")
        if self.time[0] != 0.0 or (np.diff(self.time) < 0.0).any():
            raise InvalidInput("requests.time", self.time, "seconds from 0 on that never fall")

    def __len__(self) -> int:
        return len(self.time)


class _Reader:
    """A file, and the line at which its next block begins."""

    def __init__(self, path: Path, file: BufferedReader):
        self.path, self.file, self.line = path, file, 1

    def problem(self, place: int, field: str, found: object, allowed: str) -> InvalidInput:
        """What is wrong with a field in a line of the block."""
        found = found.decode(errors="replace").rstrip("\r\n") if isinstance(found, bytes) else found
        return InvalidInput(f"{self.path}, line {self.line + place}, {field}", found, allowed)

    def blocks(self) -> Iterator[list[bytes]]:
        """The lines from here on, in blocks; blank ones at the end of the file are none."""
        blank: list[bytes] = []
        while block := list(islice(self.file, _BLOCK)):
            count = len(block)
            while count and not block[count - 1].strip():
                count -= 1
            if count:
                if blank:
                    yield blank  # which nobody takes: it was not the end of the file
                yield block[:count]
                self.line += count
            blank = blank or block[count : count + 1]

    def csv(self, names: tuple[str, ...]) -> Iterator[list[list[bytes]]]:
        """The columns with these names, and the column `user` if there is one, block by block."""
        head = self.file.readline().removeprefix(b"\xef\xbb\xbf")
        header = [name.strip().strip('"') for name in self._text([head]).rstrip("\r\n").split(",")]
        if any(header.count(name) != 1 for name in names) or header.count("user") > 1:
            allowed = f"columns {', '.join(names)}, each once, with commas between them, and user at most once"
            raise self.problem(0, "header", head, allowed)
        places = [header.index(name) for name in (*names, "user") if name in header]
        self.line = 2
        for lines in self.blocks():
            self._text(lines)
            commas = [line.count(b",") for line in lines]
            if commas.count(len(header) - 1) != len(lines):
                place = next(i for i, count in enumerate(commas) if count != len(header) - 1)
                raise self.problem(place, "columns", lines[place], f"{len(header)}, as in the header")
            cells = b",".join([line.rstrip(b"\r\n") for line in lines]).split(b",") if lines else []
            yield [cells[place :: len(header)] for place in places]

    def _text(self, lines: list[bytes]) -> str:
        content = b"".join(lines)
        try:
            return content.decode()
        except UnicodeDecodeError as error:
            place = content.count(b"\n", 0, error.start)
            raise self.problem(place, "encoding", hex(content[error.start]), "text in UTF-8") from None

    def json_lines(self, names: tuple[str, ...]) -> Iterator[list[list[float]]]:
        """The values under these names, block by block."""
        for lines in self.blocks():
            if self.line == 1 and lines:
                lines[0] = lines[0].removeprefix(b"\xef\xbb\xbf")
            try:
                rows = json.loads(b"[" + b",".join(lines) + b"]")
                columns = [[row[name] for row in rows] for name in names]
                fits = len(rows) == len(lines) and {type(cell) for column in columns for cell in column} <= {int, float}
            except (ValueError, KeyError, TypeError, RecursionError):
                fits = False
            if not fits:
                self._check_objects(lines, names)
            yield columns

    def _check_objects(self, lines: list[bytes], names: tuple[str, ...]) -> None:
        allowed = f"an object with {', '.join(names)}"
        for place, line in enumerate(lines):
            try:
                row = json.loads(line)
            except (ValueError, RecursionError):
                row = None
            if not isinstance(row, dict):
                raise self.problem(place, "JSON", line, allowed)
            for name in names:
                if type(row.get(name)) not in (int, float):
                    raise self.problem(place, name, row.get(name, "nothing"), _NUMBER)

    def numbers(self, field: str, cells: list, convert: Callable[[list], np.ndarray], dated: bool) -> np.ndarray:
        """A column as numbers from 0 to `LARGEST`; only if one is not, each is looked at."""
        try:
            found = convert(cells)
        except (ValueError, OverflowError):
            found = np.array([_or_nan(convert, cell) for cell in cells])
        good = (found >= 0.0) & (found <= LARGEST)
        if not good.all():
            place = int(good.argmin())
            allowed = "a time such as 2023-11-16 18:17:03.9799600" if dated else _NUMBER
            raise self.problem(place, field, cells[place], allowed)
        return found


def _floats(cells: list) -> np.ndarray:
    if cells and isinstance(cells[0], bytes) and b"_" in b"".join(cells):
        raise ValueError  # Python's own way of writing 1000
    return np.array(list(map(float, cells)), float)


def _microseconds(cells: list[bytes]) -> np.ndarray:
    if cells and min(map(len, cells)) < 19:
        raise ValueError  # numpy knows words such as "now"
    plain = [cell.removesuffix(b"+00:00").removesuffix(b"Z") for cell in cells]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # numpy takes an offset such as +02:00 off, and warns of it
        return np.array(plain, "S").astype("M8[us]").astype(np.int64).astype(float)


def _codes(known: dict[bytes, int], cells: list[bytes]) -> np.ndarray:
    """Numbers of names, in the order in which they are first met."""
    return np.array([known.setdefault(cell, len(known)) for cell in cells], np.int64)


def _or_nan(convert: Callable[[list], np.ndarray], cell: object) -> float:
    try:
        return float(convert([cell])[0])
    except (ValueError, OverflowError):
        return np.nan


def _columns(reader: _Reader, names: tuple[str, ...], format: str) -> Iterator[list[np.ndarray]]:
    """Times, sizes, work and users, if there are any, block by block."""
    users: dict[bytes, int] = {}
    dated, last, count = format == "azure", 0.0, 0
    converters = [_microseconds if dated else _floats, _floats, _floats, partial(_codes, users)]
    for columns in (reader.json_lines if format == "mooncake" else reader.csv)(names):
        cells = zip((*names, "user"), columns, converters, strict=False)
        found = [reader.numbers(*column, dated and column[0] == names[0]) for column in cells]
        falls = np.diff(found[0], prepend=last) < 0.0
        if falls.any():
            place, allowed = int(falls.argmax()), "no time before that of the line above: sort the file"
            raise reader.problem(place, names[0], columns[0][place], allowed)
        last, count = found[0][-1], count + len(found[0])
        yield found
    if not count:
        raise reader.problem(0, names[0], "nothing", "at least one request")


@checked
def read_requests(path: Path, format: str) -> Requests:
    """Requests of a file; what is wrong with one raises `InvalidInput` with the line, the field, the value.

    format : str
        `azure`, the Azure LLM inference traces of 2023 and 2024 (to the microsecond); `burstgpt`; `mooncake`; or `csv`,
        a table with the columns time [s], size and work, and user if it has one. Other columns are passed over. The
        times may not fall.
    """
    names = FORMATS[check_choice("format", format, tuple(FORMATS))]
    with reading("requests", path, "a file of requests"):
        if not path.is_file():
            raise InvalidInput("requests", str(path), "a file that is there")
        if (length := path.stat().st_size) > MOST_BYTES:
            most = f"a file of at most {MOST_BYTES / 1e9:g} GB, not {length / 1e9:.1f}"
            raise InvalidInput("requests", str(path), most)
        check_memory("requests", str(path), 4.0 * length)
        with open(path, "rb") as file:
            if file.peek(2).startswith(b"\x1f\x8b"):
                raise InvalidInput("requests", str(path), "a file that is not compressed: unpack it first")
            parts = list(_columns(_Reader(path, file), names, format))
    time, *others = (np.concatenate(column) for column in zip(*parts, strict=True))
    return Requests(path.name, (time - time[0]) * _TIME_UNIT.get(format, 1.0), *others)


def _ranks(values: np.ndarray) -> np.ndarray:
    _, place, count = np.unique(values, return_inverse=True, return_counts=True)
    return (np.cumsum(count) - (count - 1) / 2.0)[place]


def _cv(values: np.ndarray) -> float:
    return float(values.std() / values.mean()) if len(values) else np.nan


@checked
def statistics(source: Requests | Trace, rounds: int = 1) -> dict[str, float]:
    """What requests are like in seconds, or the tasks of a trace in slots.

    rounds : int
        Rounds in a slot of the trace (`arrivals_per_slot`).

    Returns `count`; `mean` and `dispersion` (variance over mean) of the number in a second or slot, and its correlation
    with the next one, `lag_1`; `size_cv` and `work_cv`, coefficients of variation; `rank_correlation` of size and work
    (Spearman); and `busiest_tenth`, the share that a tenth of the users, or of the devices, makes. A ratio over
    nothing, and what takes users that are not known, is NaN.
    """
    if isinstance(source, Trace):
        tasks, slots, owners = source.has_task, source.size.shape[1] // rounds, source.size.shape[2]
        episode, row, owner = np.nonzero(tasks)
        cell = episode * (slots + 1) + row // rounds
        cells, pairs = source.episodes * slots, source.episodes * (slots - 1)
        size, work = source.size[tasks], source.size[tasks] * source.density[tasks]
    else:
        cell, owner, owners = np.floor(source.time).astype(np.int64), source.user, 0
        cells, pairs = int(cell[-1]) + 1, int(cell[-1])
        size, work = source.size, source.work
    at, count = np.unique(cell, return_counts=True)
    mean = np.float64(len(cell)) / cells
    variance = np.square(count, dtype=float).sum() / cells - mean**2
    makes = np.sort(np.bincount(owner, minlength=owners))[::-1] if owner is not None else np.zeros(0)
    with np.errstate(invalid="ignore", divide="ignore"):
        product = (count[1:] * count[:-1])[np.diff(at) == 1].sum() / np.float64(pairs)
        together = np.corrcoef(_ranks(size), _ranks(work))[0, 1] if len(cell) > 1 else np.nan
        return {
            "count": float(len(cell)),
            "mean": float(mean),
            "dispersion": float(variance / mean),
            "lag_1": float((product - mean**2) / variance),
            "size_cv": _cv(size),
            "work_cv": _cv(work),
            "rank_correlation": float(together),
            "busiest_tenth": float(makes[: -(-len(makes) // 10)].sum() / np.float64(makes.sum())),
        }
