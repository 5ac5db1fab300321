"""How functions are compiled: by Numba, cached for as long as no file of the system changes."""

import hashlib
from collections.abc import Callable
from pathlib import Path

import numba

from aiecof.files import cache_folder

# Numba's cache looks only at the file of the function it compiles: without a folder of its own for each state of the
# equations, a changed formula in `model` or `objective` would go on running in its old, cached form.
_SOURCES = [
    Path(__file__).with_name(f"{name}.py") for name in ("model", "objective", "observations", "views", "kernels")
]
_HASH = hashlib.sha256(b"".join(path.read_bytes() for path in _SOURCES)).hexdigest()[:12]
_CACHE = cache_folder(f"kernels-{_HASH}", numba.config.CACHE_DIR)


def _compiled(function: Callable, **options: bool) -> Callable:
    others, numba.config.CACHE_DIR = numba.config.CACHE_DIR, str(_CACHE or numba.config.CACHE_DIR)
    try:
        return numba.njit(cache=_CACHE is not None, error_model="numpy", **options)(function)
    finally:
        numba.config.CACHE_DIR = others


def kernel(function: Callable) -> Callable:
    """Compile a function that is called from outside, and lets other threads run meanwhile."""
    return _compiled(function, nogil=True)


def inlined(function: Callable) -> Callable:
    """Compile a function into those that call it."""
    return _compiled(function, forceinline=True)
