"""Whatever ends a run, and whenever: nothing is lost, no process stays, and two runs into one folder keep all rows.

AIECOF_KILLS=60 .venv/bin/python -m pytest -s -m slow tests/test_kills.py -k random
AIECOF_PAIRS=12 .venv/bin/python -m pytest -m slow tests/test_kills.py -k pair
"""

import gc
import json
import os
import random
import signal
import subprocess
import sys
import time
import traceback
from contextlib import contextmanager

import pytest
import test_runner
from test_runner import TINY, assert_same_tables, declare, started, wait_until

from aiecof.study.experiments import Experiment, cell, trials_of
from aiecof.study.runner import run
from aiecof.study.store import edited, read_table

EXPERIMENTS = {
    "first": Experiment("?", 2, (cell("a2c", TINY, episodes=25), cell("random", TINY))),
    "second": Experiment("?", 1, (cell("toppo", TINY, episodes=12), cell("greedy", TINY), cell("frugal", TINY))),
}
KILLS, PAIRS = int(os.environ.get("AIECOF_KILLS", 6)), int(os.environ.get("AIECOF_PAIRS", 2))
IN_A_ROW = 3
"""Kills of runs in one folder before the run that is let be."""
DRIVER = """
import sys
sys.path.insert(0, sys.argv.pop(1))
import test_kills, test_runner
test_runner.declare(test_runner.pytest.MonkeyPatch(), test_kills.EXPERIMENTS)
test_runner.app()
"""

pytestmark = [pytest.mark.slow, pytest.mark.skipif(os.name == "nt", reason="sends signals")]


@pytest.fixture(autouse=True)
def declared(monkeypatch):
    declare(monkeypatch, EXPERIMENTS)


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory):
    """Results of a run that nothing ended."""
    place = tmp_path_factory.mktemp("undisturbed")
    with pytest.MonkeyPatch.context() as patch:
        declare(patch, EXPERIMENTS)
        assert run(list(EXPERIMENTS), folder=place / "runs", results=place / "results") == []
    return place / "results"


def in_session(leader):
    """The processes of a session that still run."""
    listed = subprocess.run(["ps", "-A", "-o", "sid=,stat=,args="], capture_output=True, text=True, check=True).stdout
    rows = [line.split(maxsplit=2) for line in listed.splitlines()]
    return [row for row in rows if row[0] == str(leader) and not row[1].startswith("Z")]


def finished(place):
    """Trial -> time and content of its result."""
    found = (place / "runs").glob("*/result.json")
    return {path.parent.name: (path.stat().st_mtime_ns, path.read_bytes()) for path in found}


def allowed(seconds):
    """The same on a machine that has other things to do as well."""
    return seconds * max(1.0, os.getloadavg()[0] / os.cpu_count())


def ended(leader):
    """Exit code of a child, or None."""
    pid, status = os.waitpid(leader, os.WNOHANG)
    return os.waitstatus_to_exitcode(status) if pid else None


def end(leader, number, group):
    """Send a signal to a child or to its group; seconds until nothing of its session is left, its exit code."""
    begun, codes = time.monotonic(), []
    (os.killpg if group else os.kill)(leader, number)
    wait_until(lambda: codes.append(ended(leader)) or codes[-1] is not None)
    wait_until(lambda: not in_session(leader))
    return time.monotonic() - begun, codes[-1]


@contextmanager
def forked(place, jobs, names=tuple(EXPERIMENTS), runs="runs"):
    """`aiecof run` in a copy of this process, which spares the imports; a session of its own."""
    where = ["--folder", str(place / runs), "--results", str(place / "results")]
    arguments = ["run", *names, "--jobs", jobs, *where]
    leader = os.fork()
    if not leader:
        code = 1
        try:
            os.setsid()
            # Python swallows an interrupt of what the collector calls: a callback of Hypothesis's, or the end of what
            # other tests have left. pytest's hook then formats a traceback, which breaks an `ast.parse` that is under
            # way. A command of a user's has none of these.
            gc.callbacks.clear()
            gc.freeze()
            sys.unraisablehook = sys.__unraisablehook__
            signal.signal(signal.SIGINT, signal.default_int_handler)
            for stream in (1, 2):
                os.dup2(os.open(place / "errors", os.O_CREAT | os.O_WRONLY | os.O_APPEND), stream)
            test_runner.app(arguments)
        except SystemExit as error:
            code = error.code
        except KeyboardInterrupt:  # before the command has begun to listen
            code = 130
        except BaseException:
            (place / "errors").write_text(traceback.format_exc(), encoding="utf-8")
        finally:
            os._exit(code)
    yield leader
    if in_session(leader):
        os.killpg(leader, signal.SIGKILL)


@pytest.fixture(scope="module")
def durations(tmp_path_factory):
    """Number of processes -> seconds of a run that nothing ends."""
    found = {}
    for jobs in ("1", "2"):
        place, begun = tmp_path_factory.mktemp("duration"), time.monotonic()
        with pytest.MonkeyPatch.context() as patch:
            declare(patch, EXPERIMENTS)
            with forked(place, jobs) as leader:
                wait_until(lambda leader=leader: ended(leader) is not None)
        found[jobs] = time.monotonic() - begun
    return found


@pytest.mark.parametrize("seed", range(-(-KILLS // IN_A_ROW)))
def test_random_kills_lose_nothing(seed, tmp_path, undisturbed, durations):
    """Each folder is killed in some times, and then let be."""
    rng, jobs = random.Random(seed), str(1 + seed % 2)
    for _ in range(IN_A_ROW):
        number = rng.choice([signal.SIGKILL, signal.SIGINT, signal.SIGTERM])
        group, moment = rng.random() < 0.5, rng.uniform(0.0, 2.0 * durations[jobs])
        code, before = 0, {}
        while code == 0:  # what has ended by itself is tried again at an earlier moment
            moment /= 2.0
            with forked(tmp_path, jobs) as leader:
                time.sleep(moment)
                before, code = finished(tmp_path), ended(leader)
                if code is None:
                    took, code = end(leader, number, group)
        what = f"{number.name} to {'the group' if group else 'the parent'} after {moment:.1f} s, {jobs} job(s)"
        print(f"{what}: {len(before)} trials done, gone after {took:.1f} s, exit code {code}")
        assert took < (5.0 if number == signal.SIGKILL else allowed(3.0)), f"{what}: {took:.1f} s"
        assert code in (-number, 130), f"{what}: {(tmp_path / 'errors').read_text()}"
        assert before.items() <= finished(tmp_path).items(), what
        for _, content in finished(tmp_path).values():
            assert json.loads(content)["actions"], what
    kept = finished(tmp_path)
    assert run(list(EXPERIMENTS), folder=tmp_path / "runs", results=tmp_path / "results") == []
    assert kept.items() <= finished(tmp_path).items(), "a finished trial was computed again"
    assert_same_tables(tmp_path / "results", undisturbed)
    assert edited(tmp_path / "results") == []
    assert not list(tmp_path.rglob("*.part"))


@pytest.mark.parametrize("number, group", [(signal.SIGINT, True), (signal.SIGTERM, False)])
def test_an_interrupt_takes_three_seconds_and_says_how_to_go_on(number, group, tmp_path):
    with started(tmp_path, *EXPERIMENTS, "--jobs", "2", driver=DRIVER) as process:
        wait_until(lambda: finished(tmp_path) or process.poll() is not None)
        took, code = end(process.pid, number, group)
        process.returncode = code
    assert code == 130
    said = "interrupted: what is finished is kept, and the same command goes on from there\n"
    assert (tmp_path / "errors").read_text() == said
    assert took < allowed(3.0)
    assert set(read_table("runs.csv", tmp_path / "results")["run"]) == finished(tmp_path).keys()


def _all_ended(codes, *leaders):
    codes |= {leader: ended(leader) for leader in leaders if codes.get(leader) is None}
    return None not in codes.values()


@pytest.mark.parametrize("attempt", range(PAIRS))
def test_a_pair_of_runs_into_one_folder_loses_no_row(attempt, tmp_path, undisturbed):
    """Each with a folder for its trials, and each with half of the experiments: neither has what the other computes."""
    with forked(tmp_path, "1", ["first"], "one") as one, forked(tmp_path, "1", ["second"], "other") as other:
        codes = {}
        wait_until(lambda: _all_ended(codes, one, other))
    assert codes == {one: 0, other: 0}, (tmp_path / "errors").read_text()
    assert set(read_table("runs.csv", tmp_path / "results")["run"]) == set(trials_of(EXPERIMENTS))
    assert_same_tables(tmp_path / "results", undisturbed)
    assert edited(tmp_path / "results") == []
