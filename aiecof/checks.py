"""What may go in: the one error for a value that cannot be used, and the checks that raise it."""

import math
import sys
from numbers import Integral, Real
from typing import Any


class InvalidInput(ValueError):
    """A value that cannot be used: the message names the field, the value and what is allowed."""

    def __init__(self, field_name: str, value: object, allowed: str):
        super().__init__(field_name, value, allowed)  # the arguments as they are, so that it can be pickled

    def __str__(self) -> str:
        return "{}: got {!r}, allowed: {}".format(*self.args)


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
        raise InvalidInput(name, value, "one of " + ", ".join(allowed))
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
