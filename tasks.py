"""What can be done here, one command each: `python tasks.py NAME`, or `make NAME` where there is make.

It needs Python and git only, on Linux, macOS and Windows, and nothing that `setup` installs.
"""

import os
import re
import shutil
import subprocess
import sys
import tempfile
import venv
from collections.abc import Callable
from pathlib import Path

ROOT = Path(__file__).resolve().parent
VENV = ROOT / ".venv"
BIN = VENV / ("Scripts" if os.name == "nt" else "bin")
LOCK, CONSTRAINTS = ROOT / "requirements.lock", ROOT / "constraints.txt"
OLDEST, NEWEST = (3, 11, 5), (3, 13)
JOBS = os.environ.get("JOBS", "2")
ACCELERATORS = re.compile(r"(torch|triton|nvidia-|cuda-)")
"""Packages that `setup` leaves to the installation of PyTorch."""


def call(program: str, *arguments: object) -> None:
    """Run a program of the environment, or end with its exit code."""
    # One thread a process: the episodes are small, and several threads only slow them down.
    environment = {"OMP_NUM_THREADS": "1"} | os.environ
    done = subprocess.run([str(BIN / program), *map(str, arguments)], cwd=ROOT, env=environment, check=False)
    if done.returncode:
        sys.exit(done.returncode)


def python(*arguments: object) -> None:
    call("python", *arguments)


def pip(*arguments: object) -> None:
    python("-m", "pip", "install", "--quiet", "--disable-pip-version-check", *arguments)


def ready() -> None:
    """Set up unless that is done, and the project and its locks are as they were then."""
    stamp = VENV / ".installed"
    wanted = (ROOT / "pyproject.toml", LOCK, CONSTRAINTS)
    if not stamp.is_file() or any(path.stat().st_mtime > stamp.stat().st_mtime for path in wanted):
        setup()


def create(folder: Path) -> None:
    """Make a virtual environment, or leave one that is there as it was made, be it with copies or with links."""
    venv.create(folder, with_pip=True, symlinks=os.name != "nt")


def setup() -> None:
    """create .venv and install the pinned environment into it"""
    if not OLDEST <= sys.version_info[:3] or sys.version_info[:2] > NEWEST:
        sys.exit("Python 3.11 (3.11.5 or later), 3.12 or 3.13 is needed; with make: make setup PYTHON=python3.12")
    print("Installing into .venv; this takes a few minutes the first time.", flush=True)
    create(VENV)
    pip("--require-hashes", "--no-deps", "--requirement", LOCK)
    # Alone, because it may come from another index, which then has wheels for another kind of machine.
    index = os.environ.get("TORCH_INDEX")
    pip("--constraint", CONSTRAINTS, "torch", *(["--index-url", index] if index else []))
    pip("--no-deps", "--no-build-isolation", "--editable", ".")
    python("-m", "pip", "check")
    (VENV / ".installed").touch()


def setup_labs() -> None:
    """create .venv with what the course labs and their grading need, and nothing else"""
    create(VENV)
    index = os.environ.get("TORCH_INDEX")
    pip("--constraint", CONSTRAINTS, "torch", *(["--index-url", index] if index else []))
    pip("--constraint", CONSTRAINTS, "--editable", ".[agents,study]", "jupyterlab", "ipykernel", "nbgrader")
    (VENV / ".labs").touch()


def book() -> None:
    """build the book into _build/html/index.html (FORCE=1 executes every notebook again)"""
    python("book/build.py")


def test() -> None:
    """run every test"""
    python("-m", "pytest", "-n", "2")


def clients() -> None:
    """install other libraries into .venv and have them learn in the environments"""
    pip("--constraint", CONSTRAINTS, "--editable", ".[clients]")
    python("-m", "pytest", "-n", "2", "-m", "clients", "tests/test_clients.py", "tests/test_board.py")


def check() -> None:
    """open every page of the built book in headless Chromium, without a network"""
    python("-m", "pytest", "-n", "2", "-m", "book", "tests/test_pages.py")


def pdf() -> None:
    """print the built book into _build/aiecof.pdf (with Chromium)"""
    python("book/pdf.py")
    python("book/downloads.py")


def quick() -> None:
    """retrain a small version of every experiment into runs/quick, in under 10 minutes"""
    call("aiecof", "run", "all", "--profile", "quick", "--jobs", JOBS)
    call("aiecof", "figures", "--results", "runs/quick", "--out", "_build/figures-quick")


def bench() -> None:
    """measure the speed of the simulator, of the environments and of the training"""
    for part in ("simulator", "environments", "training"):
        call("aiecof", "bench", part)


def results() -> None:
    """compute what is missing in results/, JOBS=2 at a time (from nothing: many hours; it resumes)"""
    if not (ROOT / "results/tuning.csv").is_file():
        call("aiecof", "tune")
    if not (ROOT / "results/calibration.csv").is_file():
        call("aiecof", "calibrate", "--jobs", JOBS)
    call("aiecof", "run", "all", "--jobs", JOBS)
    call("aiecof", "replay")


def figures() -> None:
    """draw every figure from results/ into _build/figures/"""
    call("aiecof", "figures")


def labs() -> None:
    """make the students' edition of the course labs in _build/labs and try out their grading"""
    python("labs/build.py")
    python("book/downloads.py")


def lint() -> None:
    """check style and format with ruff"""
    call("ruff", "check", ".")
    call("ruff", "format", "--check", ".")


def lock() -> None:
    """renew requirements.lock and constraints.txt after a change of pyproject.toml, with uv; pins that fit stay"""
    options = ["--quiet", "--universal", "--generate-hashes", "--no-annotate", "--no-header", "--extra", "book"]
    options += ["--extra", "dev", "--python-version", ".".join(map(str, OLDEST))]
    with tempfile.TemporaryDirectory() as folder:
        whole = Path(folder) / "whole.lock"
        shutil.copy(CONSTRAINTS, whole)  # uv keeps the versions of the file that it writes
        subprocess.run(
            ["uv", "pip", "compile", *options, "--output-file", whole, "pyproject.toml"], check=True, cwd=ROOT
        )
        packages = re.split(r"^(?=\S)", whole.read_text(), flags=re.MULTILINE)
    kept = (package for package in packages if not ACCELERATORS.match(package) or package.startswith("torch=="))
    write_lock([package for package in kept if package.strip()])


def write_lock(packages: list[str]) -> None:
    """Write what uv found: versions and digests of all packages but PyTorch, and the versions of all alone."""
    told = "# `make lock` writes this: "
    digests = "".join(package for package in packages if not package.startswith("torch=="))
    LOCK.write_text(
        f"{told}every package of the book and its tests but PyTorch, with the digests of its files.\n{digests}"
    )
    versions = "".join(re.split(r"[ ;\\]", package)[0] + "\n" for package in packages)
    CONSTRAINTS.write_text(
        f"{told}the versions of requirements.lock and of PyTorch, for `pip install --constraint`.\n{versions}"
    )


def clean() -> None:
    """remove the built book and every cache; .venv stays"""
    folders = [ROOT / name for name in ("_build", ".pytest_cache", ".ruff_cache", ".hypothesis")]
    for source in ("aiecof", "book", "labs", "tests"):
        folders += (ROOT / source).rglob("__pycache__")
    for folder in folders:
        shutil.rmtree(folder, ignore_errors=True)


def help() -> None:
    """list these commands"""
    for name, task in TASKS.items():
        print(f"  {name:10} {task.__doc__}")


WITHOUT = (setup, setup_labs, lock, clean, help)
"""Those that do not need the environment."""
TASKS: dict[str, Callable[[], None]] = {
    task.__name__.replace("_", "-"): task
    for task in (
        *(setup, setup_labs, book, test, clients, check, pdf, quick),
        *(results, figures, bench, labs, lint, lock, clean, help),
    )
}


def main(names: list[str]) -> None:
    for name in names or ["help"]:
        if name not in TASKS:
            sys.exit(f"error: task: got {name!r}, allowed: one of {', '.join(TASKS)}")
        if TASKS[name] not in WITHOUT and not (name == "labs" and (VENV / ".labs").is_file()):
            ready()
        TASKS[name]()


if __name__ == "__main__":
    main(sys.argv[1:])
