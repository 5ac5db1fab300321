"""What is around a command: terminals, disks, folders, a user's own settings; none breaks or bends what comes out."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import matplotlib
import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest
from typer.testing import CliRunner

from aiecof import files
from aiecof.agents import training
from aiecof.cli import results as commands
from aiecof.cli.app import app
from aiecof.drawing import figures
from aiecof.drawing.style import styled
from aiecof.metrics import ANY, METRICS, SHARE
from aiecof.reconstruction import calibration, edge_services, tuning
from aiecof.study import store
from aiecof.study.statistics import mean_interval

ROOT = Path(__file__).resolve().parent.parent
LINUX = pytest.mark.skipif(not sys.platform.startswith("linux"), reason="/dev/full, /proc")
LISTS = ["scenarios", "policies", "methods", "equations", "status", "claims"]
RCPARAMS = {
    "text.usetex": True,
    "font.size": 31.0,
    "font.family": ["monospace"],
    "axes.facecolor": "red",
    "axes.prop_cycle": matplotlib.cycler(color=["yellow"]),
    "figure.figsize": [1.0, 1.0],
    "lines.linewidth": 9.0,
    "savefig.bbox": "tight",
    "savefig.dpi": 20.0,
    "svg.fonttype": "path",
    "xtick.labelsize": 3.0,
}


def fail(*args, **kwargs):
    raise AssertionError("this is not to be called")


def invoke(*arguments, charset="utf-8", **environment):
    return CliRunner(charset=charset).invoke(app, list(map(str, arguments)), env=environment)


def program(*arguments, cwd=None, redirect="", **environment):
    """The command in a process of its own, under a shell that may redirect its streams."""
    command = ["sh", "-c", f'exec "$@" {redirect}', "sh", sys.executable, "-m", "aiecof", *map(str, arguments)]
    options = {"capture_output": True, "cwd": cwd, "timeout": 300, "env": os.environ | environment}
    return subprocess.run(command, **options)


def refused(result, message):
    assert isinstance(result.exception, SystemExit), result.exception
    assert (result.exit_code, result.stdout, result.stderr.count("\n")) == (2, "", 1)
    assert result.stderr.startswith(f"error: {message}"), result.stderr


# --- a user's settings -------------------------------------------------------------------------------------------


def test_a_user_s_matplotlibrc_bends_no_figure(tmp_path, monkeypatch):
    chosen = ("figure_5", "figure_7", "table_iv")
    monkeypatch.setattr(figures, "FIGURES", {name: figures.FIGURES[name] for name in chosen})
    matplotlib.use("svg")
    figures.draw_all(tmp_path / "plain")
    with plt.rc_context(RCPARAMS):
        figures.draw_all(tmp_path / "own")
    for name in chosen:
        plain, own = ((tmp_path / place / f"{name}.svg").read_bytes() for place in ("plain", "own"))
        assert plain == own and b"<text" in own


def test_a_figure_in_a_notebook_has_the_style_too():
    @styled
    def draw():
        fig, ax = plt.subplots()
        ax.set_title("title")
        return fig

    with plt.rc_context(RCPARAMS):
        fig = draw()
    assert not fig.axes[0].title.get_usetex() and fig.axes[0].title.get_fontsize() < 20.0
    plt.close(fig)


# --- terminals ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("charset", ["ascii", "latin-1", "utf-8"])
@pytest.mark.parametrize("command", [[], ["bench"], *([name] for name in LISTS), *([name, "--help"] for name in LISTS)])
def test_every_list_is_printed_in_every_charset(command, charset):
    result = invoke(*command, charset=charset)
    if command == ["bench"]:
        assert result.exit_code == 2 and result.stderr.count("\n") == 1
    else:
        assert result.exit_code == 0, result.exception
        assert result.stdout_bytes.decode(charset) and result.stderr == ""


@pytest.mark.parametrize("charset", ["ascii", "latin-1"])
def test_names_that_a_charset_lacks_are_printed(charset, tmp_path):
    """A file of a name, in a message and in a result."""
    name = "größe-模型"
    refused(invoke("simulate", "--scenario", tmp_path / f"{name}.json", charset=charset), "scenario: got ")
    (tmp_path / f"{name}.json").write_text('{"base": "plain"}', encoding="utf-8-sig")
    result = invoke("simulate", "--scenario", tmp_path / f"{name}.json", "--episodes", 1, charset=charset)
    assert result.exit_code == 0, result.stderr
    out = tmp_path / name
    result = invoke("figures", "--out", out, "--results", tmp_path, charset=charset)
    refused(result, "results: got ")


@pytest.mark.slow
@pytest.mark.parametrize(
    "environment",
    [
        {"PYTHONIOENCODING": "latin-1"},
        {"LC_ALL": "C"},
        {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"},
    ],
)
@pytest.mark.parametrize("command", [["--help"], *([name] for name in LISTS), ["simulate", "--episodes", "1"]])
def test_every_list_is_printed_in_every_locale(command, environment):
    result = program(*command, **environment)
    assert (result.returncode, result.stderr) == (0, b"") and result.stdout


@pytest.mark.parametrize("width", [40, 60, 80])
@pytest.mark.parametrize("command", LISTS)
def test_a_narrow_terminal_loses_nothing(command, width, monkeypatch):
    """Everything is there, folded, and no line is wider than the terminal."""
    cells = []
    table = commands.print_table.__globals__["Table"]
    monkeypatch.setattr(table, "add_row", lambda self, *row, add=table.add_row: cells.extend(row) or add(self, *row))
    result = invoke(command, COLUMNS=str(width))
    lines = result.stdout.splitlines()
    wide = [line for line in lines if len(line.rstrip()) > width and not line.startswith("  ")]
    assert result.exit_code == 0 and cells and not wide, wide[:3]
    everything = "".join(result.stdout.split())
    words = {word for cell in cells for word in str(cell).split() if len(word) <= width // 4}
    assert words and not {word for word in words if word not in everything}
    assert "…" not in result.stdout


# --- streams -----------------------------------------------------------------------------------------------------


@LINUX
@pytest.mark.parametrize("command", [["scenarios"], ["policies", "--json"], ["--version"], ["--help"]])
def test_a_full_output_is_one_line(command):
    result = program(*command, redirect="> /dev/full")
    said = b"error: standard output: got 'No space left on device', allowed: a place that can be read or written\n"
    assert (result.returncode, result.stderr) == (2, said)


def test_a_closed_output_is_one_line():
    result = program("scenarios", redirect=">&-")
    said = b"error: standard output: got 'a closed one', allowed: one that is open\n"
    assert (result.returncode, result.stderr) == (2, said)


def test_closed_errors_and_input_do_not_matter():
    assert program("scenarios", redirect="2>&-").returncode == 0
    assert program("nothing", redirect="2>&-").returncode == 2
    assert program("scenarios", redirect="<&-").returncode == 0


@pytest.mark.parametrize("command", ["equations", "scenarios --json"])
def test_a_reader_that_has_enough_is_quiet(command):
    shell = f"{sys.executable} -m aiecof {command} | head -n 1"
    result = subprocess.run(["sh", "-c", shell], capture_output=True, timeout=300)
    assert result.stderr == b"" and result.stdout.count(b"\n") == 1


# --- places ------------------------------------------------------------------------------------------------------


@pytest.fixture
def unwritable(tmp_path, monkeypatch):
    """The project's folders are where nothing can be written."""
    (tmp_path / "results").write_text("a file")
    monkeypatch.setattr(files, "home", lambda: tmp_path)
    for module in (commands, store, sys.modules["aiecof.cli.app"]):
        monkeypatch.setattr(module, "home", lambda: tmp_path)
    return tmp_path / "results"


@pytest.mark.parametrize(
    ("command", "module", "work"),
    [
        (["tune"], tuning, "tune"),
        (["calibrate"], calibration, "search"),
        (["replay"], edge_services, "replay_edge_services"),
    ],
)
def test_where_results_go_is_tried_before_the_work(command, module, work, unwritable, monkeypatch):
    monkeypatch.setattr(module, work, fail)
    refused(invoke(*command), f"results: got '{unwritable}', allowed: a folder that can be written")


@pytest.mark.parametrize("option", ["--out", "--results"])
@pytest.mark.parametrize("spoilt", ["file", "file/below", "/dev/null"])
def test_figures_refuse_a_place_before_they_draw(option, spoilt, tmp_path, monkeypatch):
    monkeypatch.setattr(figures, "FIGURES", dict.fromkeys(figures.FIGURES, fail))
    (tmp_path / "file").write_text("here")
    place = {"--out": tmp_path / "out", option: tmp_path / spoilt}
    refused(invoke("figures", *(word for pair in place.items() for word in pair)), f"{option[2:]}: got ")


def test_results_of_others_are_read_where_no_lock_can_be(tmp_path, monkeypatch):
    monkeypatch.setattr(files, "_lock", lambda name, file: (_ for _ in ()).throw(files.InvalidInput(name, "", "")))
    store_place = files.undisturbed(tmp_path)
    with store_place:
        pass


@pytest.mark.parametrize("folder", ["notebooks", "book"])
def test_commands_work_from_any_folder_of_the_project(folder, monkeypatch, tmp_path):
    monkeypatch.chdir(ROOT / folder)
    assert invoke("status", "--json").exit_code == 0
    asked = []
    monkeypatch.setattr(training, "train", lambda *args, **options: asked.append(args[4]) or fail())
    with pytest.raises(AssertionError):
        CliRunner().invoke(app, ["train", "a2c"], catch_exceptions=False)
    monkeypatch.setattr(tuning, "tune", lambda names, place, **options: asked.append(place) or fail())
    with pytest.raises(AssertionError):
        CliRunner().invoke(app, ["tune", "--results", str(tmp_path)], catch_exceptions=False)
    places = [Path(place).resolve() for place in asked]
    assert places == [ROOT / "runs/a2c-balanced-30-100-0", ROOT / "runs/tuning"]


def test_a_scenario_file_may_begin_with_a_byte_order_mark(tmp_path):
    path = tmp_path / "mine.json"
    path.write_text('{"base": "balanced", "devices": 3}', encoding="utf-8-sig")
    result = invoke("simulate", "--scenario", path, "--episodes", 1)
    assert result.exit_code == 0 and "mine" in result.stdout and "3 devices" in result.stdout


@pytest.mark.slow
@LINUX
def test_without_a_cache_it_is_slower_with_one_warning(tmp_path):
    """The package's folder for compiled code is a file, and the home is none."""
    shutil.copytree(ROOT / "aiecof", tmp_path / "aiecof", ignore=shutil.ignore_patterns("__pycache__"))
    (tmp_path / "aiecof/__pycache__").write_text("")
    result = program("simulate", "--episodes", 1, cwd=tmp_path, HOME="/dev/null", NUMBA_CACHE_DIR="")
    assert result.returncode == 0 and b"Drop rate" in result.stdout
    assert result.stderr.count(b"Warning") == 1 and b"every start compiles" in result.stderr
    given = tmp_path / "given"
    result = program("simulate", "--episodes", 1, cwd=tmp_path, HOME="/dev/null", NUMBA_CACHE_DIR=str(given))
    assert (result.returncode, result.stderr) == (0, b"") and list(given.rglob("*.nbi"))


# --- intervals ---------------------------------------------------------------------------------------------------


def test_the_interval_of_a_share_ends_at_0_and_1():
    """Two values .02 and .30: mean .16, half width 12.706 x .14 = 1.779."""
    assert mean_interval([0.02, 0.30], within=SHARE) == (pytest.approx(0.16), 0.0, 1.0)
    free = mean_interval([0.02, 0.30])
    assert (free.low, free.high) == (pytest.approx(0.16 - 1.779, abs=1e-3), pytest.approx(0.16 + 1.779, abs=1e-3))
    assert mean_interval([0.02, 1.30], within=SHARE).high == 1.30, "what is no share keeps its values"
    assert mean_interval([0.5, 0.5], within=SHARE) == (0.5, 0.5, 0.5)
    assert all(np.isnan(mean_interval([], within=SHARE)))


def test_commands_and_figures_print_no_impossible_share():
    found = json.loads(invoke("simulate", "--policy", "always-local", "--episodes", 2, "--json").stdout)
    for name, interval in found.items():
        lowest, highest = METRICS[name].within
        assert lowest <= interval["low"] <= interval["mean"] <= interval["high"] <= highest, name
    rows = pd.DataFrame({"method": "a", "seed": [0, 1], "drop_rate": [0.0, 0.4], "energy": [0.0, 1.0]})
    assert figures.intervals(rows, "method", "drop_rate").loc["a", ["low", "high"]].tolist() == [0.0, 1.0]
    assert figures.intervals(rows, "method", "energy").loc["a", "low"] == 0.0
    assert figures.intervals(rows, "method", "drop_rate", within=ANY).loc["a", "low"] < -1.0, "a difference may be"
