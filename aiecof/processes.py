"""Processes that end together: workers follow their parent, and a termination is an interrupt."""

import os
import signal
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any


def follow(parent: int) -> None:
    """Begin a worker process: end with its parent, and leave to it what a terminal or a scheduler sends to all.

    parent : int
        Its process id; in the parent itself nothing happens. On Windows, where an orphan keeps the id of its parent, a
        worker ends when it has been idle for a while.
    """
    if parent == os.getpid():
        return
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)
    threading.Thread(target=_watch, args=(parent,), daemon=True).start()


def workers() -> dict[str, Any]:
    """Options of `joblib.Parallel` with which its workers `follow` this process."""
    return {"initializer": follow, "initargs": (os.getpid(),)}


def _watch(parent: int) -> None:
    while os.getppid() == parent:
        time.sleep(0.5)
    os._exit(1)


@contextmanager
def ended_as_interrupted() -> Iterator[None]:
    """SIGTERM, which a scheduler sends before it kills, raises `KeyboardInterrupt` as SIGINT does."""

    def interrupt(number: int, frame: FrameType | None) -> None:
        raise KeyboardInterrupt

    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.signal(signal.SIGTERM, interrupt)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)
