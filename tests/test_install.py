"""The wheel, away from the repository: it says the same, carries its results, and stays as it was installed."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
SOURCES = ("pyproject.toml", "README.md", "LICENSE", "aiecof", "book/aiecof_book", "results")
pytestmark = pytest.mark.slow


def pip(*arguments: object) -> None:
    command = [sys.executable, "-m", "pip", "--quiet", "--disable-pip-version-check", *map(str, arguments)]
    subprocess.run(command, check=True)


def files(folder: Path) -> set[str]:
    """What is in a folder, but for caches."""
    found = (path.relative_to(folder) for path in folder.rglob("*") if path.is_file())
    return {path.as_posix() for path in found if "__pycache__" not in path.parts}


@pytest.fixture(scope="module")
def installed(tmp_path_factory):
    """A folder with the wheel and nothing else; the packages that it needs are those of this environment."""
    source, wheels, site = (tmp_path_factory.mktemp(name) for name in ("source", "wheels", "site"))
    for name in SOURCES:
        (source / name).parent.mkdir(exist_ok=True)
        if (ROOT / name).is_dir():
            shutil.copytree(ROOT / name, source / name, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            shutil.copy(ROOT / name, source)
    pip("wheel", "--no-deps", "--no-index", "--no-build-isolation", "--wheel-dir", wheels, source)
    pip("install", "--no-deps", "--no-index", "--target", site, *wheels.iterdir())
    return site


def python(folder: Path, *arguments: str, site: Path | None = None) -> subprocess.CompletedProcess:
    """Run Python in a folder, on the installed wheel or on the repository."""
    environment = os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": str(site or ROOT)}
    command = [sys.executable, *arguments]
    return subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, check=False)


def test_wheel_holds_package_helpers_and_results(installed):
    places = {"aiecof": "aiecof", "book/aiecof_book": "aiecof_book", "results": "aiecof/results"}
    expected = {f"{place}/{file}" for name, place in places.items() for file in files(ROOT / name)}
    assert {file for file in files(installed) if file.startswith(("aiecof/", "aiecof_book/"))} == expected


@pytest.mark.parametrize("command", ["simulate --episodes 2 --seed 1", "scenarios", "equations", "claims", "--version"])
def test_wheel_says_what_the_repository_says(installed, tmp_path, command):
    before = files(installed)
    found = python(tmp_path, "-m", "aiecof", *command.split(), site=installed)
    assert found.returncode == 0 and not found.stderr
    assert found.stdout == python(ROOT, "-m", "aiecof", *command.split()).stdout
    assert files(installed) == before and not files(tmp_path)


def test_wheel_registers_the_environment(installed, tmp_path):
    code = "import aiecof, gymnasium; print(aiecof.__file__, gymnasium.make('aiecof/Offloading-v1').reset(seed=1)[1])"
    found = python(tmp_path, "-c", code, site=installed)
    assert found.stdout.startswith(str(installed)) and "has_task" in found.stdout and not found.stderr


def test_what_a_run_makes_is_where_it_was_called(installed, tmp_path):
    before = files(installed)
    assert python(tmp_path, "-m", "aiecof", "train", "a2c", "--episodes", "1", site=installed).returncode == 0
    assert files(installed) == before
    assert {path.name for path in tmp_path.iterdir()} == {"runs"}


@pytest.mark.parametrize("command", ["claims", "figures"])
@pytest.mark.parametrize(
    "checkout, remedy", [(False, "pip install --force-reinstall"), (True, "git checkout -- results")]
)
def test_missing_results_say_how_to_restore_them(installed, tmp_path, command, checkout, remedy):
    site = tmp_path / "site"
    shutil.copytree(installed, site, ignore=shutil.ignore_patterns("results", "__pycache__"))
    if checkout:
        shutil.copy(ROOT / "pyproject.toml", site)
    found = python(tmp_path, "-m", "aiecof", command, site=site)
    assert found.returncode == 2
    assert found.stderr.startswith("error: results: ") and remedy in found.stderr
