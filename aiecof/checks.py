"""What may go in: the one error for a value that cannot be used, and the checks that raise it."""

import builtins
import inspect
import math
import sys
from collections import abc
from collections.abc import Callable, Iterable
from difflib import get_close_matches
from functools import cache, wraps
from numbers import Integral, Real
from pathlib import Path
from types import FunctionType, NoneType, UnionType
from typing import Any, ParamSpec, TypeVar, Union, get_args, get_origin

P, R = ParamSpec("P"), TypeVar("R")
LONGEST, FEW = 200, 40
"""Characters of a value in a message; names that are listed before only those are that are near."""


class InvalidInput(ValueError):
    """A value that cannot be used: the message names the field, the value and what is allowed, in one line."""

    def __init__(self, field_name: str, value: object, allowed: str):
        super().__init__(field_name, value, allowed)  # the arguments as they are, so that it can be pickled

    def __str__(self) -> str:
        name, value, allowed = self.args
        return " ".join(f"{name}: got {_shown(value)}, allowed: {allowed}".split())


def _shown(value: object) -> str:
    """A value in a message: what says least of it is left out."""
    if hasattr(value, "shape") and value.shape != ():
        return f"{type(value).__name__} of shape {value.shape}"
    try:
        shown = repr(value)
    except ValueError:  # Python writes out no number of more than some thousand digits
        shown = f"a number of about {int(math.log10(abs(value))) + 1} digits"
    return shown if len(shown) <= LONGEST else f"{shown[: LONGEST - 20]}... ({len(shown):,} characters)"


def did_you_mean(word: object, known: Iterable[str]) -> str:
    """The end of a message that offers the known name nearest to a word; empty if none is near."""
    near = get_close_matches(str(word), list(known), 1)
    return f"; did you mean {near[0]!r}?" if near else ""


def check_number(name: str, value: object, low: float = 0.0, high: float = math.inf, *, open_low: bool = True) -> float:
    """Return `value` as a float if it is a finite number within (low, high] or [low, high]."""
    bound = f"a finite number {'>' if open_low else '>='} {low:g}" + (f" and <= {high:g}" if high < math.inf else "")
    limit = sys.float_info.max
    finite = abs(value) <= limit if isinstance(value, int) else isinstance(value, Real) and math.isfinite(value)
    if isinstance(value, bool) or not finite or value > high or value < low or (open_low and value == low):
        raise InvalidInput(name, value, bound)
    return float(value)


def check_integer(name: str, value: object, low: int, high: int | None = None) -> int:
    """Return `value` as an int if it is a whole number within [low, high]."""
    bound = f"a whole number >= {low}" + (f" and <= {high}" if high is not None else "")
    if isinstance(value, bool) or not isinstance(value, Integral) or value < low or (high is not None and value > high):
        raise InvalidInput(name, value, bound)
    return int(value)


def check_choice(name: str, value: object, allowed: tuple[str, ...]) -> str:
    """Return `value` if it is one of the `allowed` words."""
    if not isinstance(value, str) or value not in allowed:
        listed = allowed
        if len(allowed) > FEW:
            listed = get_close_matches(str(value), allowed, 3, 0.4) or allowed[:3]
        several = f"{len(allowed):,} names, of which the nearest are " if len(allowed) > FEW else ""
        raise InvalidInput(name, value, f"one of {several}{', '.join(listed)}{did_you_mean(value, allowed)}")
    return value


def check_type(name: str, value: object, kind: type) -> Any:
    """Return `value` if it is a `kind`."""
    if not isinstance(value, kind):
        raise InvalidInput(name, value, f"a {kind.__name__}")
    return value


def check_range(name: str, value: object, low: float = 0.0) -> tuple[float, float]:
    """Return `value` as (lowest, highest) if it is an ordered pair of finite numbers above `low`."""
    if not isinstance(value, list | tuple) or len(value) != 2:
        raise InvalidInput(name, value, "a pair [lowest, highest]")
    first, last = (check_number(f"{name}[{i}]", entry, low) for i, entry in enumerate(value))
    if first > last:
        raise InvalidInput(name, value, "a pair [lowest, highest] in this order")
    return first, last


def free_memory() -> float:
    """Memory that is free [byte]; infinite where the system does not say."""
    try:
        with open("/proc/meminfo", encoding="ascii") as file:
            return 1024.0 * next(int(line.split()[1]) for line in file if line.startswith("MemAvailable"))
    except (OSError, StopIteration, ValueError):
        return math.inf


def check_memory(name: str, value: object, needed: float) -> float:
    """Return an estimate of the memory that a value makes necessary [byte] if as much is free."""
    if needed > (free := free_memory()):
        allowed = f"what fits in memory: it takes about {needed / 1e9:.1f} GB, and {free / 1e9:.1f} GB are free"
        raise InvalidInput(name, value, allowed)
    return needed


_WORDS = {int: "a whole number", float: "a finite number", bool: "true or false", str: "text", Path: "a path"}
_GROUPS = (abc.Iterable, abc.Sequence, abc.Collection, abc.Set, list, tuple, set, frozenset)


def _fits(value: Any, kind: Any) -> bool:
    """Whether a value is what an annotation says, as far as one look at it tells."""
    origin = get_origin(kind)
    if origin in (Union, UnionType):
        return any(_fits(value, part) for part in get_args(kind))
    if kind in (int, float):
        number = isinstance(value, Integral if kind is int else Real) and not isinstance(value, bool)
        return number and (isinstance(value, Integral) or math.isfinite(value))
    if kind is Path:
        return isinstance(value, str | Path) and "\0" not in str(value)
    if kind is Any or isinstance(kind, TypeVar):
        return True
    if origin is abc.Callable:
        return callable(value)
    if origin in _GROUPS:
        entries = value if isinstance(value, list | tuple) and len(get_args(kind)) == 1 else ()
        return (
            not isinstance(value, str | bytes)
            and isinstance(value, origin)
            and all(_fits(entry, get_args(kind)[0]) for entry in entries)
        )
    return isinstance(value, origin or kind) if isinstance(origin or kind, type) else True


def _word(kind: Any) -> str:
    """What an annotation allows, in a word."""
    if get_origin(kind) in (Union, UnionType):
        return " or ".join(dict.fromkeys(_word(part) for part in get_args(kind)))
    if kind in (None, NoneType):
        return "None"
    if get_origin(kind) is abc.Callable:
        return "a function"
    if get_origin(kind) in _GROUPS:
        return f"a list of {_word(get_args(kind)[0]).removeprefix('a ')}" if get_args(kind) else "a list"
    return _WORDS.get(kind) or f"a {getattr(get_origin(kind) or kind, '__name__', kind)}"


def check_kind(name: str, value: Any, kind: Any) -> Any:
    """Return `value` if it is what the annotation `kind` says, text that stands for a path as a Path."""
    if not _fits(value, kind):
        raise InvalidInput(name, value, _word(kind))
    takes_path = kind is Path or Path in get_args(kind)
    return Path(value) if takes_path and value is not None else value


def checked(function: Callable[P, R]) -> Callable[P, R]:
    """The function, its arguments checked against its annotations: a wrong one is an `InvalidInput` that names it.

    An unknown keyword, or a missing argument, stays the `TypeError` that Python makes of it. A `Path` may be given as
    text. For what is called once in a while, not once a slot.
    """
    signature = inspect.signature(function)

    @cache
    def kinds() -> dict[str, Any]:
        """Annotations of the parameters; later than the function, which may stand before what they name."""
        names = {**builtins.__dict__, **inspect.unwrap(function).__globals__}
        written = {name: entry.annotation for name, entry in signature.parameters.items()}
        return {
            name: eval(kind, names) if isinstance(kind, str) else Any if kind is inspect.Parameter.empty else kind
            for name, kind in written.items()
        }

    @wraps(function)
    def call(*args: P.args, **keywords: P.kwargs) -> R:
        given = signature.bind(*args, **keywords)
        for name, value in given.arguments.items():
            kind = kinds().get(name, Any)
            if signature.parameters[name].kind is inspect.Parameter.VAR_POSITIONAL:
                given.arguments[name] = tuple(check_kind(name, entry, kind) for entry in value)
            elif signature.parameters[name].kind is not inspect.Parameter.VAR_KEYWORD:
                given.arguments[name] = check_kind(name, value, kind)
        return function(*given.args, **given.kwargs)

    return call


def check_calls(module: dict[str, Any]) -> None:
    """Make every public function of a module `checked`: its last line, `check_calls(globals())`."""
    for name, value in module.items():
        if isinstance(value, FunctionType) and value.__module__ == module["__name__"] and not name.startswith("_"):
            module[name] = checked(value)
