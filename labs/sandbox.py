"""Run hand-ins where they can do no harm, and check their answers with names that they cannot change.

`Sandbox` starts a worker (this file as a program) with Linux namespaces of its own: no network, no processes but its
own, every folder read-only except an empty /tmp and home. The worker imports what the labs need once and forks for each
hand-in. A fork runs the student's cells in IPython and the checks outside it, in a namespace that holds only the
answers and what the locked cells made before the student's first line. Where a check failed, the solution stands in for
the answer in the tasks that follow. A cell that takes too long is stopped, and the hand-in runs again without it.
"""

import ast
import contextlib
import ctypes
import json
import os
import resource
import select
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
import traceback
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
SPACES = "unshare --user --map-root-user --net --ipc --uts --mount --mount-proc --pid --fork --kill-child".split()
MEMORY, FILE, PROCESSES, SCRATCH = 8 << 30, 64 << 20, 64, "size=256m"
MOST_STOPPED = 6  # cells of one hand-in that may be stopped before the rest of it is given up
LONGEST_OUTPUT = 20_000
WATCHED = {"aiecof", "aiecof_book", "builtins", "itertools", "math", "numpy", "pandas", "scipy"}
NEW_USER, READ_ONLY, REMOUNT, BIND, RECURSIVE, PRIVATE = 0x10000000, 1, 32, 4096, 16384, 1 << 18
KEPT_FLAGS = {"nosuid": 2, "nodev": 4, "noexec": 8, "noatime": 1024, "nodiratime": 2048, "relatime": 1 << 21}


_PARSING = threading.Lock()


class SandboxError(Exception):
    """The sandbox cannot be made here, or has ended; the message says why."""


def available() -> bool:
    """Whether this machine lets a user make the namespaces."""
    return bool(shutil.which(SPACES[0])) and not subprocess.run([*SPACES, "true"], capture_output=True).returncode


class Sandbox:
    """A worker that runs one hand-in after the other; `hidden` folders are empty for it.

    With `trusted`, the worker has no namespaces: limits and checks are the same, but a hand-in acts with your rights.
    """

    def __init__(self, hidden: list[Path] = (), trusted: bool = False):
        if not trusted and not available():
            raise SandboxError(
                "hand-ins cannot be locked in: `unshare` may not make user namespaces on this machine. "
                "Grade in a container without a network, and add --trusted there"
            )
        spaces = [] if trusted else SPACES
        command = [*spaces, sys.executable, "-I", __file__, *map(str, () if trusted else (ROOT / "labs", *hidden))]
        surroundings = {"PATH": os.environ["PATH"], "HOME": str(Path.home()), "OMP_NUM_THREADS": "1"}
        surroundings |= {"SEALED": "" if trusted else "yes", "LANG": "C.UTF-8", "MPLBACKEND": "agg"}
        self.process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=surroundings, cwd="/"
        )

    def run(self, cells: list[dict], seconds: float) -> dict:
        """Outputs of each cell and what the hand-in changed outside its own names."""
        try:
            print(json.dumps({"cells": cells, "seconds": seconds}), file=self.process.stdin, flush=True)
            line = self.process.stdout.readline()
        except BrokenPipeError:
            line = ""
        if not line:
            raise SandboxError(f"the worker ended with code {self.process.wait()}")
        return json.loads(line)

    def __enter__(self) -> "Sandbox":
        return self

    def __exit__(self, *_) -> None:
        self.process.stdin.close()
        self.process.wait()


# What follows runs in the worker.


def _system_call(name: str, *arguments) -> None:
    libc = ctypes.CDLL(None, use_errno=True)
    if getattr(libc, name)(*(text.encode() if isinstance(text, str) else text for text in arguments)):
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()), arguments)


def _mount_points() -> list[tuple[str, int]]:
    rows = [line.split() for line in Path("/proc/self/mountinfo").read_text().splitlines()]
    names = [row[4].encode().decode("unicode_escape") for row in rows]
    return [(n, sum(KEPT_FLAGS.get(o, 0) for o in row[5].split(","))) for n, row in zip(names, rows, strict=True)]


def seal(hidden: list[str]) -> list[str]:
    """Make every folder of the namespace read-only but for a few empty ones, /tmp and home among them: those."""
    _system_call("mount", "none", "/", None, RECURSIVE | PRIVATE, None)
    needed = {str(Path(path).resolve()): os.open(path, os.O_PATH) for path in (sys.prefix, sys.base_prefix, ROOT)}
    empty = [str(path.resolve()) for path in map(Path, ("/tmp", "/var/tmp", "/dev/shm", "/run", Path.home()))]
    empty = [path for path in dict.fromkeys(empty) if path != "/" and Path(path).is_dir()]
    for path in empty:
        _system_call("mount", "none", path, "tmpfs", 0, SCRATCH)
    outermost = []  # a folder inside another one comes with it
    for path, descriptor in sorted(needed.items()):
        within = any(Path(path).is_relative_to(other) for other in outermost)
        if any(Path(path).is_relative_to(folder) for folder in empty) and not within:
            Path(path).mkdir(parents=True, exist_ok=True)
            _system_call("mount", f"/proc/self/fd/{descriptor}", path, None, BIND | RECURSIVE, None)
            outermost.append(path)
        os.close(descriptor)
    for path in filter(os.path.isdir, hidden):
        _system_call("mount", "none", path, "tmpfs", READ_ONLY, SCRATCH)
    for path, flags in _mount_points():
        if path not in empty and not path.startswith(("/proc", "/sys", "/dev")):
            _system_call("mount", "none", path, None, REMOUNT | BIND | READ_ONLY | flags, None)
    return empty


def sweep(folders: list[str]) -> None:
    """Remove what a hand-in left; what is mounted read-only below these folders stays."""
    for entry in (entry for folder in folders for entry in Path(folder).iterdir()):
        if entry.is_dir() and not entry.is_symlink():
            shutil.rmtree(entry, ignore_errors=True)
        else:
            entry.unlink(missing_ok=True)


class Untouched:
    """What the libraries' modules and classes held before a hand-in ran."""

    def __init__(self):
        self.kept = {}
        for name, module in list(sys.modules.items()):
            if module is not None and name.split(".")[0] in WATCHED:
                self._keep(name, module, callable if not name.startswith("aiecof") else lambda value: True)
                for key, value in list(vars(module).items()):
                    if isinstance(value, type) and value.__module__ == name:
                        self._keep(f"{name}.{key}", value, lambda value: callable(value) or hasattr(value, "__get__"))

    def _keep(self, label, owner, wanted) -> None:
        held = {key: (value, self._code(value)) for key, value in list(vars(owner).items()) if wanted(value)}
        self.kept[label] = owner, held

    @staticmethod
    def _code(value):
        return getattr(value, "__code__", None) if callable(value) else None

    def restore(self) -> list[str]:
        """Undo every change; names what was changed."""
        changed = []
        for label, (owner, held) in self.kept.items():
            now = vars(owner)
            for key, (value, code) in held.items():
                if now.get(key) is not value and not key.startswith("__abc"):
                    setattr(owner, key, value)
                    changed.append(f"{label}.{key}")
                elif code is not None and value.__code__ is not code:
                    value.__code__ = code
                    changed.append(f"{label}.{key}")
        return changed


def parsed(source: str) -> ast.Module:
    """The tree of a source, one at a time: CPython counts how deep trees are in a place that threads share."""
    with _PARSING:
        return ast.parse(source)


def bound_names(source: str) -> set[str]:
    """Names that a solution gives a value to, or a part of a value."""
    found = set()
    for node in parsed(source).body:
        for target in getattr(node, "targets", [getattr(node, "target", None)]):
            for part in target.elts if isinstance(target, ast.Tuple) else [target]:
                while isinstance(part, ast.Subscript | ast.Attribute):
                    part = part.value
                found |= {part.id} if isinstance(part, ast.Name) else set()
        found |= {node.name} if isinstance(node, ast.FunctionDef | ast.ClassDef) else set()
    return found


def _error(error: BaseException) -> dict:
    lines = traceback.format_exception(error, limit=-3)
    return {"output_type": "error", "ename": type(error).__name__, "evalue": str(error)[:2000], "traceback": lines}


def _stream(text: str) -> list[dict]:
    return [{"output_type": "stream", "name": "stdout", "text": text[:LONGEST_OUTPUT]}] if text else []


class HandIn:
    """One hand-in in a process of its own."""

    def __init__(self, cells: list[dict], untouched: Untouched):
        from IPython.core.interactiveshell import InteractiveShell
        from IPython.display import display
        from traitlets.config import Config

        self.cells, self.untouched, self.changed = cells, untouched, set()
        self.trusted = {"__name__": "__main__", "display": display}
        for cell in cells:
            if cell["role"] == "locked":  # one that needs an answer stops, and is none of the checks' business
                with contextlib.suppress(Exception), contextlib.redirect_stdout(None):
                    exec(compile(cell["source"], "locked", "exec"), self.trusted)
        settings = Config()
        settings.HistoryManager.enabled = False
        settings.InteractiveShell.colors = "NoColor"
        self.shell = InteractiveShell.instance(config=settings)
        self.shell.showtraceback = self.shell.showsyntaxerror = lambda *a, **k: None
        self.transformers = self._transformers()
        self.open, self.failed = [], []  # solutions that no check has met yet, and those to put in
        self.helpers = {}  # functions of earlier checks

    def _transformers(self) -> list:
        manager = self.shell.input_transformer_manager
        held = self.shell.ast_transformers, self.shell.input_transformers_post, manager.cleanup_transforms
        return [list(part) for part in (*held, manager.line_transforms, manager.token_transformers)]

    def run(self, cell: dict) -> list[dict]:
        """Outputs of one cell."""
        if cell["role"] == "check":
            return self._check(cell)
        if cell.get("solution"):
            for solution in self.failed:
                with contextlib.suppress(Exception), contextlib.redirect_stdout(None):
                    exec(compile(solution, "solution", "exec"), self.shell.user_ns)
            self.failed = []
            self.open.append(cell["solution"])
        return self._cell(cell["source"])

    def _cell(self, source: str) -> list[dict]:
        from IPython.utils.capture import capture_output

        with capture_output() as said:
            result = self.shell.run_cell(source, store_history=False)
        shown = [{"output_type": "display_data", "data": _plain(out.data), "metadata": {}} for out in said.outputs]
        error = result.error_before_exec or result.error_in_exec
        return _stream(said.stdout) + shown + ([_error(error)] if error else [])

    def _check(self, cell: dict) -> list[dict]:
        if self._transformers() != self.transformers:
            self.changed.add("how IPython reads a cell")
        self.changed.update(self.untouched.restore())
        answers = set().union(*(bound_names(c["solution"]) for c in self.cells if c.get("solution")))
        names = (
            self.helpers
            | self.trusted
            | {name: self.shell.user_ns[name] for name in answers & self.shell.user_ns.keys()}
        )
        said, found = tempfile.TemporaryFile("w+"), []
        try:
            with contextlib.redirect_stdout(said):
                exec(compile(cell["source"], "check", "exec"), names)
        except BaseException as error:
            found = [_error(error)]
            self.failed += [solution for solution in self.open if solution not in self.failed]
        if cell["last"]:
            self.open = []
        self.helpers |= {k: v for k, v in names.items() if getattr(v, "__globals__", None) is names}
        said.seek(0)
        return _stream(said.read()) + found


def _plain(data: dict) -> dict:
    return {kind: text for kind, text in data.items() if isinstance(text, str) and len(text) < 10 * LONGEST_OUTPUT}


def _lock_in(sealed: list[str]) -> None:
    """Take from this process what a hand-in does not need."""
    os.setsid()
    if sealed:  # no power over the worker, which is in the user namespace above
        _system_call("unshare", NEW_USER)
    limits = {"AS": MEMORY, "FSIZE": FILE, "NPROC": PROCESSES, "CORE": 0}
    for name, most in limits.items() if sealed else list(limits.items())[:2]:
        resource.setrlimit(getattr(resource, f"RLIMIT_{name}"), (most, most))
    os.chdir(tempfile.mkdtemp())
    tempfile.tempdir = os.getcwd()
    nowhere = os.open(os.devnull, os.O_RDWR)
    for stream in range(3):
        os.dup2(nowhere, stream)


def _fork(cells: list[dict], stopped: dict[int, str], untouched: Untouched, sealed: list[str]) -> tuple[int, int]:
    read, write = os.pipe()
    pid = os.fork()
    if pid:
        os.close(write)
        return pid, read
    try:
        _lock_in(sealed)
        with open(write, "w") as told:
            hand_in = HandIn(cells, untouched)
            for index, cell in enumerate(cells):
                print(json.dumps({"begins": index}), file=told, flush=True)
                if index in stopped:
                    cell = cell | {"source": f"raise TimeoutError({stopped[index]!r})"}
                outputs = hand_in.run(cell)
                print(json.dumps({"index": index, "outputs": outputs}), file=told, flush=True)
            print(json.dumps({"changed": sorted(hand_in.changed)}), file=told, flush=True)
    finally:
        os._exit(0)


def _follow(read: int, seconds: float, until: float) -> tuple[dict[int, list], list[str] | None, int, str]:
    """What a fork told: outputs, what it changed (None: it did not come to its end), the last cell, what went wrong."""
    outputs, changed, at, rest, why = {}, None, 0, b"", "its process ended"
    while changed is None:
        if not select.select([read], [], [], max(0.0, min(seconds, until - time.monotonic())))[0]:
            why = f"stopped after {seconds:g} seconds"
            break
        data = os.read(read, 1 << 16)
        if not data:
            break
        *lines, rest = (rest + data).split(b"\n")
        for told in map(json.loads, lines):
            at = told.get("begins", at)
            changed = told.get("changed", changed)
            if "index" in told:
                outputs[told["index"]] = told["outputs"]
    os.close(read)
    return outputs, changed, at, why


def supervise(job: dict, untouched: Untouched, sealed: list[str]) -> dict:
    """Run a hand-in to its end, if need be without the cells that do not end."""
    cells, seconds, stopped = job["cells"], job["seconds"], {}
    until = time.monotonic() + max(60.0, 15 * seconds)
    while True:
        pid, read = _fork(cells, stopped, untouched, sealed)
        outputs, changed, at, why = _follow(read, seconds, until)
        with contextlib.suppress(ProcessLookupError):
            os.kill(-1, signal.SIGKILL) if sealed else os.killpg(pid, signal.SIGKILL)
        with contextlib.suppress(ChildProcessError):
            while os.waitpid(-1, 0)[0] != pid or sealed:  # what it has started ends with it
                pass
        sweep(sealed)
        if changed is not None or len(stopped) == MOST_STOPPED or time.monotonic() > until:
            break
        stopped[at] = why
    unknown = [{"output_type": "error", "ename": "TimeoutError", "evalue": why, "traceback": [why]}]
    told = [outputs.get(index, unknown) for index in range(len(cells))]
    return {
        "outputs": told,
        "changed": changed or [],
        "stopped": stopped if changed is not None else stopped | {at: why},
    }


def worker(hidden: list[str]) -> None:
    """Serve jobs, a line each, until the input ends."""
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    os.set_inheritable(answers.fileno(), False)
    import aiecof_book.optimum  # noqa: F401
    import IPython.core.interactiveshell  # noqa: F401
    import pandas  # noqa: F401
    import scipy.stats  # noqa: F401
    import torch

    import aiecof
    import aiecof.agents.methods

    torch.set_num_threads(1)
    scenario = aiecof.load_scenario("balanced", slots=2)
    aiecof.evaluate(aiecof.make_policy("random", scenario), scenario, aiecof.draw_trace(scenario, 1, 0), record=True)
    sealed = seal(hidden) if os.environ["SEALED"] else []
    untouched = Untouched()
    for line in sys.stdin:
        print(json.dumps(supervise(json.loads(line), untouched, sealed)), file=answers, flush=True)


if __name__ == "__main__":
    worker(sys.argv[1:])
