"""The project files agree with each other, and the package keeps its order."""

import ast
import json
import re
import subprocess
import tomllib
from importlib.metadata import version
from pathlib import Path

import pytest
import yaml
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).resolve().parent.parent
ORDER = (
    "config model objective workload kernels simulator reference envs policies networks agents methods training "
    "tuning complexity statistics bounds calibration experiments runner replay limits verdicts claims figures "
    "playground equations bench console results_cli cli"
).split()
MACHINE_PATH = re.compile(r"(?<![\w.~/-])/(?:home|Users|root|tmp|work|var/folders)/\w|[A-Z]:\\Users")


def read(name: str) -> str:
    return (ROOT / name).read_text(encoding="utf-8")


def project() -> dict:
    return tomllib.loads(read("pyproject.toml"))["project"]


def pins(lines) -> dict[str, str]:
    """Package -> exact version, for lines that must all be `name==version`."""
    found = {}
    for requirement in map(Requirement, lines):
        [specifier] = requirement.specifier
        assert specifier.operator == "==", f"{requirement} is not an exact pin"
        assert not requirement.url and "+" not in specifier.version, requirement
        assert canonicalize_name(requirement.name) not in found, f"{requirement} is there twice"
        found[canonicalize_name(requirement.name)] = specifier.version
    return found


def direct_pins() -> dict[str, str]:
    extras = project()["optional-dependencies"]
    return pins([*project()["dependencies"], *extras["book"], *extras["dev"]])


def lock_lines() -> list[str]:
    return read("requirements.lock").splitlines()


def tracked_files() -> list[Path]:
    command = ["git", "ls-files", "--cached", "--others", "--exclude-standard"]
    listing = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    if listing.returncode:
        pytest.skip("not a git checkout")
    return [ROOT / name for name in listing.stdout.splitlines() if (ROOT / name).is_file()]


def imported_modules(source: str) -> set[str]:
    """Modules of the package that a module's source imports, anywhere in it."""
    found = set()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            base = f"aiecof.{node.module or ''}".rstrip(".") if node.level else node.module
            names = [base, *(f"{base}.{alias.name}" for alias in node.names)]
        else:
            continue
        found |= {name.split(".")[1] for name in names if name.startswith("aiecof.")}
    return found & set(ORDER)


def out_of_order(module: str, source: str) -> set[str]:
    """Imports of a module that are not above it; an unknown module has no place at all."""
    assert module in ORDER, f"aiecof/{module}: give the module its place in ORDER"
    return imported_modules(source) - set(ORDER[: ORDER.index(module)])


def test_requested_packages_are_pinned():
    wanted = {"jupyter", "jupyter-book", "numpy", "torch", "stable-baselines3", "sb3-contrib", "seaborn"}
    assert wanted <= direct_pins().keys()


def test_lock_holds_every_direct_pin():
    lock = pins(lock_lines())
    assert {name: lock.get(name) for name in direct_pins()} == direct_pins()


def test_installed_versions_are_the_pinned_ones():
    installed = {name: version(name).split("+")[0] for name in direct_pins()}
    assert installed == direct_pins()


def test_environment_yml_agrees_with_pyproject():
    dependencies = yaml.safe_load(read("environment.yml"))["dependencies"]
    [python] = [line for line in dependencies if str(line).startswith("python=")]
    assert python.removeprefix("python=") in [c.split()[-1] for c in project()["classifiers"]]
    [pip_lines] = [line["pip"] for line in dependencies if isinstance(line, dict)]
    options = [line for line in pip_lines if line.startswith("-")]
    assert options == ["--constraint requirements.lock", "--editable ."]
    assert pins(line for line in pip_lines if line not in options) == direct_pins()


def test_pre_commit_uses_the_pinned_ruff():
    hooks = yaml.safe_load(read(".pre-commit-config.yaml"))["repos"][0]["hooks"]
    [ruff] = [hook for hook in hooks if hook["id"] == "ruff"]
    assert pins(ruff["additional_dependencies"]) == {"ruff": direct_pins()["ruff"]}


def test_citation_cites_software_and_paper():
    citation = yaml.safe_load(read("CITATION.cff"))
    assert {"cff-version", "message", "title", "authors"} <= citation.keys()
    assert str(citation["version"]) == project()["version"]
    assert citation["license"] == project()["license"]
    [paper] = citation["references"]
    bibliography = re.sub(r"[{}]", "", read("book/references.bib"))
    assert paper["title"].lower() in re.sub(r"\s+", " ", bibliography).lower()
    assert [author["family-names"] for author in paper["authors"]] == [
        *("Zhang", "Li", "Tang", "Zhu", "Zhang", "Sikdar")
    ]


def test_package_version_is_the_project_version():
    assert f'__version__ = "{project()["version"]}"' in read("aiecof/__init__.py")


@pytest.mark.parametrize("document", ["README.md", "CONTRIBUTING.md", "book/index.md", ".ci/run"])
def test_documented_make_targets_exist(document):
    targets = set(re.findall(r"^([a-z]+):", read("Makefile"), flags=re.MULTILINE))
    commands = set(re.findall(r"(?:^| {4}|`)make ([a-z]+)", read(document), flags=re.MULTILINE))
    assert commands and commands <= targets


@pytest.mark.parametrize("document", ["README.md", "CONTRIBUTING.md"])
def test_linked_files_exist(document):
    links = re.findall(r"\]\(([^)#:]+)\)", read(document))
    assert [link for link in links if not (ROOT / link).exists()] == []


def test_every_target_is_phony_and_explained():
    makefile = read("Makefile")
    targets = re.findall(r"^([a-z]+):", makefile, flags=re.MULTILINE)
    [phony] = re.findall(r"^\.PHONY: (.*)$", makefile, flags=re.MULTILINE)
    explained = re.findall(r"^([a-z]+):.*  ## \w", makefile, flags=re.MULTILINE)
    assert sorted(targets) == sorted(phony.split()) == sorted(explained)


def test_modules_import_only_modules_above():
    package = ROOT / "aiecof"
    units = [*package.glob("*.py"), *(path.parent for path in package.glob("*/__init__.py"))]
    assert units
    for unit in units:
        if unit.stem in ("__init__", "__main__"):
            continue
        for path in [unit] if unit.is_file() else unit.rglob("*.py"):
            wrong = out_of_order(unit.stem, path.read_text(encoding="utf-8"))
            assert not wrong, f"{path.relative_to(ROOT)} imports {sorted(wrong)}, which stand below it"


@pytest.mark.parametrize(
    "source",
    [
        "import aiecof.cli.app",
        "from aiecof import __version__, cli",
        "from aiecof.cli.app import main",
        "from . import cli",
        "from .cli import main",
        "def late():\n    from aiecof import cli as command_line",
    ],
)
def test_an_import_from_below_is_found(source):
    assert out_of_order("model", source) == {"cli"}
    with pytest.raises(AssertionError, match="ORDER"):
        out_of_order("stranger", source)


def test_no_file_names_a_path_of_a_machine():
    for path in tracked_files():
        content = path.read_bytes()
        if b"\0" in content or "mathjax" in path.parts:
            continue
        found = MACHINE_PATH.search(content.decode("utf-8"))
        assert not found, f"{path.relative_to(ROOT)} names {found.group()}..."


def test_a_path_of_a_machine_is_found():
    assert MACHINE_PATH.search("see " + "/".join(["", "home", "ada", "aiecof"]))
    assert not MACHINE_PATH.search("https://example.org/home/page and notebooks/tmp/x")


def test_notebooks_hold_no_outputs():
    for path in tracked_files():
        if path.suffix == ".ipynb":
            cells = json.loads(path.read_text(encoding="utf-8"))["cells"]
            assert not any(cell.get("outputs") for cell in cells), f"{path.name} holds outputs"
