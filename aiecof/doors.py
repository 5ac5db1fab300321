"""Names that a package offers and imports when they are first used (PEP 562)."""

import sys
from collections.abc import Callable
from importlib import import_module
from traceback import walk_tb
from typing import Any

EXTRAS = {
    "onnxruntime": "clients",
    "torch": "agents",
    "stable_baselines3": "agents",
    "sb3_contrib": "agents",
    "safetensors": "agents",
    "pettingzoo": "agents",
    "filelock": "study",
    "joblib": "study",
    "matplotlib": "study",
    "moocore": "study",
    "optuna": "study",
    "pandas": "study",
    "pyarrow": "study",
    "seaborn": "study",
}
"""Module of another project -> the extra of this one that brings it."""


def missing_extra(error: ModuleNotFoundError) -> str:
    """What to install so that a missing module is there; empty if no extra brings it."""
    extra = EXTRAS.get((error.name or "").partition(".")[0])
    if extra and any(f.f_globals["__name__"].startswith("aiecof.agents.") for f, _ in walk_tb(error.__traceback__)):
        extra = "agents"  # which has its own share of what `study` brings
    return f"{error.name} is not installed: pip install 'aiecof[{extra}]'" if extra else ""


def open_door(package: str, places: dict[str, str]) -> tuple[Callable[[str], Any], Callable[[], list[str]]]:
    """`__getattr__` and `__dir__` of a package that offers names of other modules.

    places : dict
        Name -> module that has it.
    """

    def load(name: str) -> Any:
        if name not in places:
            raise AttributeError(f"module {package!r} has no attribute {name!r}")
        try:
            value = getattr(import_module(places[name]), name)
        except ModuleNotFoundError as error:
            if hint := missing_extra(error):
                raise ModuleNotFoundError(f"{package}.{name}: {hint}", name=error.name) from error
            raise
        setattr(sys.modules[package], name, value)
        return value

    return load, lambda: sorted({*vars(sys.modules[package]), *places})
