"""Requests of real services: files read and refused, what they are like, and the tasks that they become."""

import gzip
import json
import os
import time
import zipfile
from dataclasses import fields, replace
from datetime import datetime, timedelta

import numpy as np
import pandas as pd
import pytest
import torch as th
from typer.testing import CliRunner

from aiecof.agents.policies import record_actions
from aiecof.agents.training import Run, train
from aiecof.checks import InvalidInput
from aiecof.cli.app import app
from aiecof.envs import DeviceEnv, JointEnv, OffloadingEnv, OffloadingVecEnv, OffloadingVectorEnv, ParallelOffloadingEnv
from aiecof.envs.spaces import check_trace
from aiecof.requests import formats
from aiecof.requests.formats import FORMATS, Requests, read_requests, statistics
from aiecof.requests.tasks import load_request_trace, request_trace
from aiecof.system.scenario import TaskKind, load_scenario
from aiecof.system.workload import Trace, draw_trace, load_trace

th.set_num_threads(1)
TINY = load_scenario("balanced", devices=3, servers=2, slots=20)
HEADS = {
    "azure": "TIMESTAMP,ContextTokens,GeneratedTokens\n",
    "burstgpt": "Timestamp,Model,Request tokens,Response tokens,Total tokens,Log Type\n",
    "mooncake": "",
    "csv": "time,size,work\n",
}


def line(form, when, size, work):
    """A request as a line of a format."""
    if form == "azure":
        moment = datetime(2023, 11, 16, 18, 15, 46) + timedelta(seconds=when)
        return f"{moment:%Y-%m-%d %H:%M:%S.%f}0,{size},{work}\n"
    if form == "burstgpt":
        return f"{when},ChatGPT,{size},{work},{size + work},Conversation log\n"
    if form == "mooncake":
        row = {"timestamp": round(1000 * when), "input_length": size, "output_length": work, "hash_ids": [1, 2]}
        return json.dumps(row) + "\n"
    return f"{when},{size},{work}\n"


def text(form, rows):
    return HEADS[form] + "".join(line(form, *row) for row in rows)


ROWS = [(5.0, 374, 44), (5.25, 396, 109), (5.25, 879, 55), (7.5, 91, 16), (1000.125, 2, 1)]


@pytest.fixture
def written(tmp_path):
    def write(content, name="requests.txt"):
        path = tmp_path / name
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
        return path

    return write


def some(n=500, seed=0, users=None, **changes):
    """Requests of a busy service, every size its own."""
    rng = np.random.default_rng(seed)
    when = np.r_[0.0, np.cumsum(rng.exponential(1.0, n - 1) * rng.choice([0.1, 4.0], n - 1))]
    user = None if users is None else rng.integers(users, size=n)
    columns = {"time": when, "size": rng.permutation(n) + 1.0, "work": rng.lognormal(3.0, 1.0, n), "user": user}
    return Requests("service.csv", **columns | changes)


def same(first, second):
    return all(np.array_equal(getattr(first, e.name), getattr(second, e.name)) for e in fields(Trace))


# Files


@pytest.mark.parametrize("form", FORMATS)
def test_a_file_of_each_format_is_read(form, written):
    found = read_requests(written(text(form, ROWS)), form)
    when, size, work = np.array(ROWS, float).T
    assert found.time == pytest.approx(when - 5.0, abs=1e-6)
    assert (found.size == size).all() and (found.work == work).all()
    assert found.user is None and len(found) == 5 and found.name == "requests.txt"


@pytest.mark.parametrize("form", FORMATS)
@pytest.mark.parametrize("change", ["\r\n", "mark", "no end", "blank end", "long blank end"])
def test_ends_of_lines_and_a_mark_at_the_start_do_not_matter(form, change, written):
    plain = text(form, ROWS)
    content = {
        "\r\n": plain.replace("\n", "\r\n"),
        "mark": "\ufeff" + plain,
        "no end": plain.rstrip(),
        "blank end": plain + "\n\r\n \n",
        "long blank end": plain + "\n" * (2 * formats._BLOCK),
    }[change]
    first, second = read_requests(written(plain, "a"), form), read_requests(written(content, "b"), form)
    for name in ("time", "size", "work"):
        assert (getattr(first, name) == getattr(second, name)).all()


@pytest.mark.parametrize("form", FORMATS)
def test_blank_lines_are_refused_between_blocks_and_not_after_the_last(form, written):
    rows = [(i, 1, 1) for i in range(formats._BLOCK - 1)]
    whole = text(form, rows) + "\n\n"
    assert len(read_requests(written(whole), form)) == len(rows)
    number = len(rows) + 1 + (form != "mooncake")
    with pytest.raises(InvalidInput, match=f"line {number}, (columns|JSON): got ''"):
        read_requests(written(whole + line(form, 1e4, 1, 1)), form)


def test_offsets_of_times_are_taken_off(written, recwarn):
    moments = ("2024-05-10 23:00:00+02:00", "2024-05-10 21:00:01Z", "2024-05-10T16:00:02-05:00")
    found = read_requests(written(HEADS["azure"] + "".join(f"{when},1,1\n" for when in moments)), "azure")
    assert found.time.tolist() == [0.0, 1.0, 2.0] and not recwarn.list


@pytest.mark.parametrize("ending", ["+00:00", "Z", ""])
def test_times_of_both_azure_traces_are_read(ending, written):
    moments = ["2024-05-10 23:59:59.999", "2024-05-11 00:00:00", "2024-05-11 00:00:00.0000015"]
    content = "GeneratedTokens,TIMESTAMP,ContextTokens\n" + "".join(f"7,{when}{ending},9\n" for when in moments)
    found = read_requests(written(content), "azure")
    assert found.time == pytest.approx([0.0, 0.001, 0.001001], abs=1e-9)
    assert set(found.size) == {9.0} and set(found.work) == {7.0}


def test_users_are_numbered_as_they_come(written):
    content = "user,size,time,work,note\nzoë,1,0,1,\nbob,2,0,1,x\nzoë,3,1.5,1,\n7,4,2,1,\n"
    found = read_requests(written(content), "csv")
    assert found.user.tolist() == [0, 1, 0, 2] and found.size.tolist() == [1, 2, 3, 4]


DAMAGE = {
    "empty file": (lambda form: "", 1, "header|at least one request"),
    "only a header": (lambda form: HEADS[form], "1|2", "at least one request|header"),
    "only blank lines": (lambda form: "\n\n\n", 1, "header|at least one request"),
    "no header": (lambda form: text(form, ROWS).removeprefix(HEADS[form]), 1, "header"),
    "another header": (lambda form: HEADS[form].replace("or", "ro").replace("e", "a") + "1,2,3\n", 1, "header|JSON"),
    "utf-16": (lambda form: text(form, ROWS).encode("utf-16"), 1, "encoding|JSON"),
    "binary": (lambda form: bytes(range(256)) * 40, 1, "encoding|header|JSON"),
    "latin-1": (lambda form: text(form, ROWS).encode().replace(b"879", b"87\xe9"), "2|3|4", "encoding|JSON"),
    "zero bytes": (lambda form: text(form, ROWS).replace("879", "\0"), "3|4", ""),
    "cut off": (lambda form: text(form, ROWS)[: text(form, ROWS).rindex(",")], "5|6", "columns|JSON"),
    "blank line": (lambda form: text(form, ROWS[:2]) + "\n" + line(form, *ROWS[3]), "3|4", "columns|JSON"),
    "unsorted": (lambda form: text(form, ROWS[::-1]), "2|3", "sort the file"),
}
for _name, _cell in {
    "negative": "-879",
    "not a number": "nan",
    "infinite": "inf",
    "too large": "1e999",
    "a word": "many",
    "python's thousands": "8_79",
    "nothing": "",
    "two numbers": "87 9",
    "quoted": '"879"',
    "true": "true",
    "a long number": "9" * 400,
    "what sums cannot hold": "1e308",
}.items():
    DAMAGE[_name] = (
        lambda form, cell=_cell: text(form, ROWS).replace(" 879", f" {cell}").replace(",879,", f",{cell},"),
    )
    DAMAGE[_name] += ("3|4", "tokens|Tokens|size|input_length|JSON")


@pytest.mark.parametrize("form", FORMATS)
@pytest.mark.parametrize("damage", DAMAGE)
def test_a_damaged_file_is_refused_by_line(form, damage, written):
    content, number, words = DAMAGE[damage]
    if (form, damage) == ("mooncake", "no header"):
        return  # which is a good file
    path = written(content(form))
    with pytest.raises(InvalidInput) as refused:
        read_requests(path, form)
    message = str(refused.value)
    assert "\n" not in message and "got" in message and "allowed" in message
    assert any(f"{path}, line {entry}, " in message for entry in str(number).split("|")), message
    assert not words or any(word in message for word in words.split("|")), message


@pytest.mark.parametrize("form", FORMATS)
@pytest.mark.parametrize("place", [0, formats._BLOCK - 2, formats._BLOCK - 1, formats._BLOCK, 2 * formats._BLOCK + 7])
def test_the_line_is_right_in_every_block(form, place, written):
    rows = [(i / 8, 10, 10) for i in range(2 * formats._BLOCK + 9)]
    rows[place] = (place / 8, -1, 10)
    with pytest.raises(InvalidInput) as refused:
        read_requests(written(text(form, rows)), form)
    assert f"line {place + 1 + (form != 'mooncake')}, {FORMATS[form][1]}: got" in str(refused.value)
    rows[place] = ((place - 1.5) / 8 if place else 1e6, 1, 10)
    with pytest.raises(InvalidInput, match="sort the file") as refused:
        read_requests(written(text(form, rows)), form)
    assert f"line {(place or 1) + 1 + (form != 'mooncake')}, {FORMATS[form][0]}: got" in str(refused.value)


@pytest.mark.parametrize(
    "when", ["now", "today", "NaT", "2023-11-16", "16/11/2023 18:15:46.00", "2023-13-16 18:15:46", "1"]
)
def test_only_dates_are_times_of_azure(when, written):
    content = text("azure", ROWS) + f"{when},1,1\n"
    with pytest.raises(InvalidInput, match="line 7, TIMESTAMP: got .*, allowed: a time such as 2023"):
        read_requests(written(content), "azure")


@pytest.mark.parametrize(
    "entry", ["[1, 2, 3]", "7", '"x"', "{}", "{", '{"timestamp": 1}, {"timestamp": 1}', "[" * 5000, "null"]
)
def test_every_line_of_mooncake_is_an_object(entry, written):
    with pytest.raises(InvalidInput, match="line 6, (JSON|timestamp): got"):
        read_requests(written(text("mooncake", ROWS) + entry + "\n"), "mooncake")


def test_what_is_too_large_is_refused_before_it_is_read(tmp_path, monkeypatch):
    path = tmp_path / "huge.csv"
    path.touch()
    os.truncate(path, formats.MOST_BYTES + 1)
    with pytest.raises(InvalidInput, match="requests: got .*huge.csv.*at most 4 GB"):
        read_requests(path, "csv")
    os.truncate(path, 10**8)
    monkeypatch.setattr("aiecof.checks.free_memory", lambda: 1e6)
    with pytest.raises(InvalidInput, match="what fits in memory"):
        read_requests(path, "csv")


def test_what_is_compressed_is_not_taken_for_text(written):
    for form in FORMATS:
        with pytest.raises(InvalidInput, match="requests: got .*not compressed: unpack it"):
            read_requests(written(gzip.compress(text(form, ROWS).encode())), form)


def test_a_column_that_is_there_twice_is_refused(written):
    for head in ("time,size,work,work", "time,size,work,user,user"):
        with pytest.raises(InvalidInput, match="line 1, header: got"):
            read_requests(written(head + "\n1,1,1,1,1\n"), "csv")


@pytest.mark.parametrize("path", ["nowhere.csv", ".", os.devnull, "a\0b", "a" * 300])
def test_what_is_no_file_is_refused(path):
    with pytest.raises(InvalidInput):
        read_requests(path, "csv")
    with pytest.raises(InvalidInput, match="did you mean 'mooncake'"):
        read_requests(path.replace("\0", ""), "moncake")


@pytest.mark.slow
@pytest.mark.parametrize("form", FORMATS)
def test_a_million_requests_load_in_five_seconds(form, tmp_path):
    path = tmp_path / "million"
    rng = np.random.default_rng(0)
    size = rng.integers(1, 9999, 1000).tolist()
    with open(path, "w") as file:
        file.write(HEADS[form])
        for thousand in range(1000):
            file.writelines(line(form, thousand + i / 1000, entry, entry // 3) for i, entry in enumerate(size))
    best = np.inf
    for _ in range(3):
        begun = time.process_time()  # a file that has just been written is in memory
        found = read_requests(path, form)
        best = min(best, time.process_time() - begun)
    assert len(found) == 10**6 and found.size.sum() == 1000 * sum(size)
    assert best < 5.0


@pytest.mark.parametrize(
    ("name", "values"),
    [
        ("time", np.array([0.0, 2.0, 1.0])),
        ("time", np.array([1.0, 2.0, 3.0])),
        ("time", np.array([0, 1, 2])),
        ("time", np.zeros((3, 1))),
        ("size", np.array([1.0, -1.0, 1.0])),
        ("size", np.array([1.0, 1.0])),
        ("work", np.array([1.0, np.nan, 1.0])),
        ("work", [1.0, 1.0, 1.0]),
        ("user", np.array([0.0, 1.0, 2.0])),
        ("user", np.array([0, -1, 2])),
    ],
)
def test_requests_of_ones_own_are_checked(name, values):
    good = {"time": np.array([0.0, 1.0, 1.0]), "size": np.ones(3), "work": np.ones(3), "user": np.zeros(3, int)}
    assert len(Requests("mine", **good)) == 3
    with pytest.raises(InvalidInput, match=r"^requests\."):
        Requests("mine", **good | {name: values})


# Statistics


def test_statistics_by_hand():
    when = np.array([0.0, 0.1, 0.2, 1.9, 3.0, 3.5])  # 3, 1, 0, 2 in the seconds
    size, work = np.array([1.0, 2, 3, 4, 5, 6]), np.array([6.0, 5, 4, 3, 2, 1])
    found = statistics(Requests("mine", when, size, work, np.array([0, 0, 0, 0, 1, 2])))
    assert found["count"] == 6 and found["mean"] == 1.5
    assert found["dispersion"] == pytest.approx(1.25 / 1.5)
    assert found["lag_1"] == pytest.approx(((3 * 1 + 1 * 0 + 0 * 2) / 3 - 1.5**2) / 1.25)
    assert found["size_cv"] == found["work_cv"] == pytest.approx(size.std() / 3.5)
    assert found["rank_correlation"] == pytest.approx(-1.0)
    assert found["busiest_tenth"] == pytest.approx(4 / 6)


def test_statistics_of_what_is_short_say_nothing_instead_of_warning(recwarn):
    one = Requests("mine", np.zeros(1), np.ones(1), np.ones(1))
    second = Requests("mine", np.array([0.0, 0.5]), np.array([1.0, 2.0]), np.array([1.0, 2.0]))
    nobody = draw_trace(TINY.replace(arrival_probability=1e-12), 1)
    assert [name for name, value in statistics(nobody).items() if not np.isnan(value)] == ["count", "mean"]
    for requests, correlation in ((one, np.nan), (second, 1.0)):
        found = statistics(requests)
        assert np.isnan(found["lag_1"]) and found["dispersion"] == 0.0
        assert found["rank_correlation"] == pytest.approx(correlation, nan_ok=True)
    assert not recwarn.list


def test_the_busiest_tenth_is_one_of_all_devices():
    size = np.zeros((1, 30, 30))
    size[0, :, :10] = 1.0  # ten of thirty have all tasks, and three of them make a tenth
    nothing = np.zeros(0)
    trace = Trace(size, np.ones(size.shape), size.astype(int) - 1, nothing, nothing, nothing)
    assert statistics(trace)["busiest_tenth"] == pytest.approx(0.3)


def test_statistics_of_a_trace_by_hand():
    size = np.zeros((2, 4, 2))  # two slots of two rounds
    size[0, 0, 0] = size[0, 1, 0] = size[0, 2, 1] = size[1, 0, 0] = 2.0
    size[1, 3, 1] = 4.0
    nothing = np.zeros(0)
    trace = Trace(size, np.full(size.shape, 3.0), size.astype(int), nothing, nothing, nothing)
    found = statistics(trace, 2)  # 2, 1 and 1, 1 in the slots
    assert found["count"] == 5 and found["mean"] == 1.25
    assert found["dispersion"] == pytest.approx(0.1875 / 1.25)
    assert found["lag_1"] == pytest.approx(((2 * 1 + 1 * 1) / 2 - 1.25**2) / 0.1875)
    assert found["work_cv"] == pytest.approx(found["size_cv"]) == pytest.approx(0.8 / 2.4)
    assert found["busiest_tenth"] == pytest.approx(3 / 5)


def test_rank_correlation_shares_ranks():
    rng = np.random.default_rng(1)
    size, work = rng.integers(1, 6, 200) * 1.0, rng.integers(1, 9, 200) * 1.0
    found = statistics(Requests("mine", np.arange(200.0), size, work))
    expected = pd.Series(size).corr(pd.Series(work), method="spearman")
    assert found["rank_correlation"] == pytest.approx(expected) and np.isnan(found["busiest_tenth"])


def test_the_load_of_the_paper_has_the_statistics_of_a_coin():
    found = statistics(draw_trace(load_scenario("balanced"), 50, 0))
    assert found["dispersion"] == pytest.approx(0.4, abs=0.03) and found["lag_1"] == pytest.approx(0.0, abs=0.03)
    assert found["size_cv"] == pytest.approx(0.385, abs=0.01) and found["work_cv"] == pytest.approx(0.115, abs=0.01)


# Tasks


def by_hand(requests, scenario, rounds, device):
    """Episode, row and device -> number of the request, one after the other."""
    good = [i for i in range(len(requests)) if requests.size[i] > 0 and requests.work[i] > 0]
    first, last, n = requests.time[good[0]], requests.time[good[-1]], len(good)
    slots = n / (scenario.devices * scenario.arrival_probability)
    width = (last - first) * n / (n - 1) / slots
    found, lost, there = {}, {"failed": len(requests) - n, "no_round": 0, "no_episode": 0}, {}
    for i in good:
        slot = int((requests.time[i] - first) / width)
        if slot >= int(slots / scenario.slots) * scenario.slots:
            lost["no_episode"] += 1
            continue
        place = there.setdefault((slot, device(i)), [])
        place.append(i)
        if len(place) > rounds:
            lost["no_round"] += 1
            continue
        row = slot * rounds + len(place) - 1
        found[row // (scenario.slots * rounds), row % (scenario.slots * rounds), device(i)] = i
    return found, lost


@pytest.mark.parametrize("rounds", [1, 2, None])
@pytest.mark.parametrize("workload", ["per_task", "per_bit"])
def test_every_request_is_the_task_it_should_be(rounds, workload):
    changes = {"workload_range": (1e3, 2e3)} if workload == "per_bit" else {}
    scenario = TINY.replace(workload=workload, **changes)
    requests = some(users=17)
    requests.work[::9] = 0.0
    made = request_trace(requests, scenario, arrivals_per_slot=rounds)
    rounds = made.scenario.arrivals_per_slot
    found, lost = by_hand(requests, scenario, rounds, lambda i: requests.user[i] % 3)
    assert lost == made.left_out and lost["failed"] == 56 and len(found) == made.trace.has_task.sum()
    good = (requests.size > 0) & (requests.work > 0)
    bits = np.mean(scenario.task_kinds[0].size) / requests.size[good].mean()
    mean = np.mean(scenario.workload_range) * scenario.workload_scale
    cycles = (
        mean * (1.0 if workload == "per_task" else np.mean(scenario.task_kinds[0].size)) / requests.work[good].mean()
    )
    for place, i in found.items():
        assert made.trace.size[place] == pytest.approx(requests.size[i] * bits)
        assert made.trace.size[place] * made.trace.density[place] == pytest.approx(requests.work[i] * cycles)
        assert made.trace.kind[place] == 0
    assert (made.trace.kind[~made.trace.has_task] == -1).all()


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("rounds", [1, 3, None])
@pytest.mark.parametrize("speed", [None, 0.5, 40.0])
def test_no_request_is_lost(seed, rounds, speed):
    requests = some(seed=seed, users=None if seed % 2 else 5)
    requests.size[:: 7 + seed] = 0.0
    made = request_trace(requests, TINY, seed=seed, arrivals_per_slot=rounds, speed=speed)
    assert made.trace.has_task.sum() + sum(made.left_out.values()) == len(requests)
    assert made.left_out["failed"] == (requests.size == 0).sum()
    assert rounds or not made.left_out["no_round"]
    assert check_trace(made.trace, made.scenario).episodes == made.trace.episodes


def test_rounds_end_at_64():
    requests = some(time=np.repeat(np.arange(5.0), 100))
    made = request_trace(requests, TINY.replace(devices=1, slots=2), speed=5.0)
    assert made.scenario.arrivals_per_slot == 64 and made.left_out["no_round"] == 4 * 36
    with pytest.raises(InvalidInput, match="arrivals_per_slot: got 65"):
        request_trace(requests, TINY, arrivals_per_slot=65)


def test_load_and_means_are_those_of_the_scenario():
    requests = some(20_000)
    made = request_trace(requests, TINY)
    found = statistics(made.trace, made.scenario.arrivals_per_slot)
    assert found["mean"] == pytest.approx(TINY.devices * TINY.arrival_probability, rel=0.02)
    tasks = made.trace.has_task
    assert made.trace.size[tasks].mean() == pytest.approx(np.mean(TINY.task_kinds[0].size), rel=0.01)
    work = (made.trace.size * made.trace.density)[tasks].mean()
    assert work == pytest.approx(np.mean(TINY.workload_range) * TINY.workload_scale, rel=0.01)
    twice = request_trace(requests, TINY, speed=2 * requests.time[-1] / made.trace.episodes / TINY.slots / 0.1)
    assert twice.trace.episodes == pytest.approx(made.trace.episodes / 2, abs=1)


def test_the_scenario_draws_tasks_like_the_requests():
    requests = some(20_000)
    made = request_trace(replace(requests, size=np.random.default_rng(1).lognormal(3.0, 0.8, 20_000)), TINY)
    rounds = made.scenario.arrivals_per_slot
    own, drawn = statistics(made.trace, rounds), statistics(draw_trace(made.scenario, 400, 1), rounds)
    for name, near in {"mean": 0.1, "dispersion": 0.35, "size_cv": 0.15, "work_cv": 0.2}.items():
        assert drawn[name] == pytest.approx(own[name], rel=near), name
    assert drawn["lag_1"] == pytest.approx(own["lag_1"], abs=0.15)


def test_network_is_the_one_that_the_seed_draws():
    made = request_trace(some(), TINY, seed=3)
    other = request_trace(some(), TINY, seed=3, network_seed=8)
    for name in ("device_frequency", "server_frequency", "rate"):
        expected = getattr(draw_trace(TINY, 1, 3), name)[0]
        assert (getattr(made.trace, name) == expected).all()
        assert (getattr(other.trace, name) == getattr(draw_trace(TINY, 1, 3, network_seed=8), name)[0]).all()
    hidden = TINY.replace(fading_scale=0.2, background_load=0.4, reach=1, network="episode")
    made = request_trace(some(), hidden, seed=3)
    expected = draw_trace(hidden, made.training, 3, split="train")
    assert (made.training_trace.fade == expected.fade).all() and (made.training_trace.reach == expected.reach).all()


def test_on_a_bursty_network_tasks_have_the_means_that_it_draws():
    bursty = load_scenario("bursty", devices=10)
    own, drawn = request_trace(some(30_000), bursty).trace, draw_trace(bursty, 100, network_seed=0)
    for trace in (own, drawn):
        size = trace.size[trace.has_task]
        work = (trace.size * trace.density)[trace.has_task]
        assert size.mean() == pytest.approx(6.015e6, rel=0.02) and work.mean() == pytest.approx(618e6, rel=0.03)
    even = bursty.replace(bursts=replace(bursty.bursts, size_cv=0.0, work_cv=0.0))
    tasks = request_trace(some(30_000), even).trace
    assert tasks.size[tasks.has_task].mean() == pytest.approx(6.2e6, rel=0.02)


def test_episodes_of_one_slot_have_no_next_slot():
    made = request_trace(some(), TINY.replace(slots=1))
    assert made.scenario.bursts.sojourn_slots == 1.0 and made.scenario.bursts.swing > 0.0


def test_splits_are_disjoint_and_in_order():
    requests = some()
    made = request_trace(requests, TINY, training_share=0.7)
    first, second = made.training_trace, made.evaluation_trace
    assert first.episodes + second.episodes == made.trace.episodes and first.episodes == made.training
    early, late = (set(part.size[part.has_task]) for part in (first, second))
    assert early and late and not early & late
    when = dict(
        zip(requests.size * (np.mean(TINY.task_kinds[0].size) / requests.size.mean()), requests.time, strict=True)
    )
    near = {round(size): moment for size, moment in when.items()}
    assert max(near[round(size)] for size in early) <= min(near[round(size)] for size in late)
    for share, training in ((0.0, 1), (1.0, made.trace.episodes - 1)):
        assert request_trace(requests, TINY, training_share=share).training == training


def test_users_keep_their_device_and_others_are_drawn():
    requests = some(users=4)
    by_user = request_trace(requests, TINY).trace.has_task.sum((0, 1))
    assert by_user[0] > 1.5 * by_user[1:].max()  # users 0 and 3
    nobody = replace(requests, user=None)
    first, again, other = (request_trace(nobody, TINY, seed=seed, network_seed=0) for seed in (0, 0, 1))
    assert same(first.trace, again.trace) and not np.array_equal(first.trace.has_task, other.trace.has_task)
    assert first.trace.has_task.sum((0, 1)).min() > 100


@pytest.mark.parametrize(
    ("requests", "keywords", "message"),
    [
        (some(50), {}, "requests: got 50, allowed: what lasts 40 to"),
        (some(2, time=np.zeros(2)), {}, "different times"),
        (some(1), {}, "requests: got '1 that did not fail'"),
        (some(9, size=np.zeros(9)), {}, "requests: got '0 that did not fail'"),
        (some(), {"speed": 0.0}, "speed: got 0"),
        (some(), {"speed": np.nan}, "speed: got nan"),
        (some(), {"speed": 1e-300}, "speed: got 1e-300"),
        (some(), {"speed": 1e9}, "speed: got"),
        (some(), {"arrivals_per_slot": 0}, "arrivals_per_slot: got 0"),
        (some(), {"training_share": 1.5}, "training_share: got 1.5"),
        (some(), {"seed": -1}, "seed: got -1"),
        ("file.csv", {}, "requests: got 'file.csv'"),
    ],
)
def test_what_makes_no_trace_is_refused(requests, keywords, message):
    with pytest.raises(InvalidInput, match=f"^{message}" if ":" in message else message):
        request_trace(requests, TINY, **keywords)


# Files of traces


def test_a_trace_comes_back_whole(tmp_path):
    made = request_trace(some(), TINY.replace(fading_scale=0.5))
    made.save(tmp_path / "mine.npz")
    found = load_request_trace(tmp_path / "mine.npz")
    assert found.scenario == made.scenario and found.scenario.fingerprint == made.scenario.fingerprint
    assert same(found.trace, made.trace) and found.training == made.training and found.left_out == made.left_out
    assert found.checksum == made.checksum != request_trace(some(), TINY, seed=1).checksum
    assert same(load_trace(tmp_path / "mine.npz", made.scenario), made.trace)


def test_damaged_and_foreign_traces_are_refused(tmp_path):
    path = tmp_path / "mine.npz"
    made = request_trace(some(), TINY)
    made.save(path)
    whole = path.read_bytes()
    rng = np.random.default_rng(0)
    bad = [b"", b"not a file", whole[:-30], whole[: len(whole) // 2]]
    for place in rng.integers(100, len(whole) - 2000, 40):
        bad.append(whole[:place] + bytes([whole[place] ^ 255]) + whole[place + 1 :])
    for content in bad:
        path.write_bytes(content)
        try:
            found = load_request_trace(path)
        except InvalidInput as refused:
            assert "\n" not in str(refused)
        else:  # where a byte means nothing, such as the time in the archive
            assert same(found.trace, made.trace)
    made.trace.save(path)
    with pytest.raises(InvalidInput, match="a file that `aiecof trace` wrote"):
        load_request_trace(path)


@pytest.mark.parametrize(
    "change",
    [{"format": "aiecof request trace 2"}, {"training": 0}, {"training": 10**6}, {"training": "5"}, {"left_out": 3}]
    + [{"scenario": {}}, {"scenario": None}, {"scenario": {"devices": 3}}],
)
def test_a_trace_that_says_something_else_is_refused(change, tmp_path):
    made = request_trace(some(), TINY)
    made.save(tmp_path / "mine.npz")
    with zipfile.ZipFile(tmp_path / "mine.npz") as archive:
        entries = {name: archive.read(name) for name in archive.namelist()}
    entries["requests.json"] = json.dumps(json.loads(entries["requests.json"]) | change).encode()
    with zipfile.ZipFile(tmp_path / "other.npz", "w") as archive:
        for name, content in entries.items():
            archive.writestr(name, content)
    with pytest.raises(InvalidInput, match="other.npz"):
        load_request_trace(tmp_path / "other.npz")


# Environments


def played(trace, scenario):
    """Sizes in the first slot of each episode that the views show, episode after episode."""
    rows = OffloadingVecEnv(scenario, seed=1, trace=trace)
    vector = OffloadingVectorEnv(scenario.devices, scenario, trace=trace)
    single, joint = OffloadingEnv(scenario, trace=trace), JointEnv(scenario, trace=trace)
    device, agents = (
        DeviceEnv(scenario, trace=trace, others="always-local"),
        ParallelOffloadingEnv(scenario, trace=trace),
    )
    for env in (rows, vector, single, joint, device, agents):
        sizes = []
        for _ in range(2 * trace.episodes + 1):
            env.reset()
            sizes.append(env.simulator.trace.size[0])
        yield type(env).__name__, np.array(sizes)


def test_every_view_plays_the_episodes_in_turn():
    made = request_trace(some(), TINY)
    expected = made.training_trace.size[np.arange(2 * made.training + 1) % made.training]
    for name, sizes in played(made.training_trace, made.scenario):
        assert np.array_equal(sizes, expected), name


def test_replicas_take_episodes_beside_each_other():
    made = request_trace(some(), TINY)
    env = OffloadingVecEnv(made.scenario, replicas=2, seed=0, first=1, trace=made.trace[:3])
    env.reset()
    assert np.array_equal(env.simulator.trace.size, made.trace.size[[1, 2]])
    env.reset()
    assert np.array_equal(env.simulator.trace.size, made.trace.size[[0, 1]])


def test_a_trace_that_leaves_the_space_is_refused():
    made = request_trace(some(), TINY)
    for trace in (made.trace, "mine.npz", made.trace[:0]):
        with pytest.raises(InvalidInput, match="^trace"):
            OffloadingVecEnv(TINY, trace=trace)


# Learning


@pytest.fixture(scope="module")
def made():
    return request_trace(some(), TINY)


def run(requests, folder, **changes):
    return train("a2c", requests.scenario, 6, 1, folder, requests=requests, checkpoint_every=2, **changes)


def test_training_learns_from_its_own_part_only(made, tmp_path):
    late = made.trace.size.copy()
    late[made.training :] *= 0.5
    early = made.trace.size.copy()
    early[: made.training] *= 0.5
    first = run(made, tmp_path / "first").curve
    assert first.equals(run(replace(made, trace=replace(made.trace, size=late)), tmp_path / "late").curve)
    assert not first.equals(run(replace(made, trace=replace(made.trace, size=early)), tmp_path / "early").curve)


def test_training_on_requests_goes_on_by_itself(made, tmp_path):
    class Stop(Exception):
        pass

    def stop(done):
        if done == 5:
            raise Stop

    whole = run(made, tmp_path / "whole")
    with pytest.raises(Stop):
        run(made, tmp_path / "stopped", on_episode=stop)
    begun = Run(tmp_path / "stopped")
    assert len(begun.curve) == 4 and same(begun.requests.trace, made.trace)
    assert run(begun.requests, tmp_path / "stopped").curve.equals(whole.curve)
    assert (whole.evaluate(2).trace.size == made.evaluation_trace.size[:2]).all()
    with pytest.raises(InvalidInput, match="^episodes: got 1000"):
        whole.evaluate(1000)


def test_a_folder_with_other_requests_is_refused(made, tmp_path):
    run(made, tmp_path)
    moved = replace(made, training=made.training - 1)
    with pytest.raises(InvalidInput, match=r"^folder\.requests"):
        run(moved, tmp_path)
    with pytest.raises(InvalidInput, match=r"^folder\.requests"):
        train("a2c", made.scenario, 6, 1, tmp_path)
    moved.save(tmp_path / "requests.npz")
    with pytest.raises(InvalidInput, match=r"^run\.requests"):
        Run(tmp_path).evaluate(1)


def test_requests_of_another_network_are_refused_before_anything_is_written(made, tmp_path):
    with pytest.raises(InvalidInput, match="^trace"):
        train("a2c", TINY.replace(devices=4), 1, 0, tmp_path / "new", requests=made)
    assert not (tmp_path / "new").exists()


def test_a_run_from_before_later_fields_goes_on(tmp_path):
    train("a2c", TINY, 2, 1, tmp_path)
    content = json.loads((tmp_path / "run.json").read_text())
    for name in ("arrivals_per_slot", "bursts", "reach", "beacon_slots"):
        del content["scenario"][name]
    (tmp_path / "run.json").write_text(json.dumps(content))
    assert train("a2c", TINY, 2, 1, tmp_path).finished


def test_what_was_learned_sees_the_scales_of_its_training(tmp_path, monkeypatch):
    trained = train("a2c", TINY, 1, 1, tmp_path)
    wide = TINY.replace(
        task_kinds=(TaskKind("wide", (1e5, 4 * TINY.largest_size)),),
        workload_range=(TINY.workload_range[0], 3 * TINY.workload_range[1]),
    )
    trace, shown = draw_trace(TINY, 2, 9), []
    for scenario in (TINY, wide):
        policy, seen = trained.policy(scenario), []
        monkeypatch.setattr(policy, "_scores", lambda rows, seen=seen: seen.append(rows) or th.zeros(len(rows), 3))
        record_actions(policy, scenario, trace)
        shown.append(th.stack(seen))
    assert trained.policy().scales is None and trained.policy(wide).scales.max() == 4.0
    assert shown[0].any() and th.allclose(*shown, rtol=1e-6)


# Commands


def command(*arguments):
    result = CliRunner().invoke(app, [str(argument) for argument in arguments])
    assert result.exception is None or isinstance(result.exception, SystemExit), result.exception
    return result


@pytest.fixture
def service(written):
    requests = some(1500)
    rows = zip(requests.time, requests.size.astype(int), requests.work, strict=True)
    return written(text("csv", rows), "service.csv")


SMALL = ("--devices", 3, "--set", "slots=20", "--set", "servers=2")


def test_from_a_file_to_what_was_learned(service, tmp_path):
    out, folder = tmp_path / "mine.npz", tmp_path / "run"
    shown = json.loads(command("trace", service, "--format", "csv", *SMALL, "--out", out, "--json").stdout)
    assert shown["file"]["count"] == 1500 == shown["tasks"]["count"] + sum(shown["left_out"].values())
    found = statistics(read_requests(service, "csv"))
    assert found.pop("busiest_tenth") != (share := shown["file"].pop("busiest_tenth")) and share is None
    assert shown["file"] == pytest.approx(found)
    kept = shown["episodes"] - shown["training"]
    table = command("trace", service, "--format", "csv", *SMALL)
    assert "balanced itself" in table.stdout and f"{shown['training']} to train on" in table.stdout
    simulated = command("simulate", "--trace", out, "--policy", "greedy")
    assert f"{kept} episodes, 3 devices" in simulated.stdout
    assert command("train", "a2c", "--trace", out, "--episodes", 3, "--folder", folder).exit_code == 0
    assert (folder / "requests.npz").exists()
    own = json.loads(command("evaluate", folder, "--json").stdout)
    out.rename(tmp_path / "other.npz")
    given = json.loads(command("evaluate", folder, "--trace", tmp_path / "other.npz", "--json").stdout)
    assert own == given and own["sampled"]["reward"]["mean"] == pytest.approx(
        Run(folder).evaluate(kept, greedy=False).metrics()["reward"].mean()
    )
    few = json.loads(command("evaluate", folder, "--episodes", 2, "--json").stdout)
    assert few["sampled"]["reward"] != own["sampled"]["reward"]


def test_a_rule_meets_the_held_out_part(service, tmp_path):
    out = tmp_path / "mine.npz"
    command("trace", service, "--format", "csv", *SMALL, "--out", out, "--arrivals-per-slot", 2, "--speed", 5)
    made = load_request_trace(out)
    assert made.scenario.arrivals_per_slot == 2
    shown = json.loads(command("simulate", "--trace", out, "--policy", "frugal", "--json").stdout)
    from aiecof import evaluate, make_policy

    metrics = evaluate(make_policy("frugal", made.scenario), made.scenario, made.evaluation_trace).metrics()
    assert shown["reward"]["mean"] == pytest.approx(metrics["reward"].mean())


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ("trace service.csv", "command line: got 'trace service.csv'"),
        ("trace service.csv --format cvs", "format: got 'cvs'"),
        ("trace nowhere.csv --format csv", "requests: got 'nowhere.csv'"),
        ("trace service.csv --format azure", "service.csv, line 1, header: got 'time,size,work'"),
        ("trace service.csv --format csv --speed 0", "speed: got 0.0"),
        ("trace service.csv --format csv --arrivals-per-slot 65", "arrivals_per_slot: got 65"),
        ("trace service.csv --format csv --arrivals-per-slot none", "arrivals_per_slot: got 'none'"),
        ("trace service.csv --format csv --devices 900", "requests: got 1500"),
        ("trace service.csv --format csv --devices 3 --set slots=20 --out no/where.npz", "folder: got 'no'"),
        ("trace service.csv --format csv --devices 3 --set slots=20 --out .", "file: got '.'"),
        (f"trace {'a' * 300} --format csv", "requests: got 'aaa"),
        ("simulate --trace nowhere.npz", "trace: got 'nowhere.npz'"),
        ("simulate --trace service.csv", "trace: got 'service.csv'"),
        ("simulate --trace nowhere.npz --scenario plain", "scenario: got 'plain'"),
        ("train a2c --trace nowhere.npz --devices 3", "devices: got 3"),
        ("train a2c --trace nowhere.npz --set slots=3", "set: got ['slots=3']"),
        ("evaluate nowhere --trace nowhere.npz", "run: got 'nowhere"),
    ],
)
def test_commands_that_cannot_be_used(arguments, message, service, monkeypatch):
    monkeypatch.chdir(service.parent)
    result = command(*arguments.split())
    assert result.exit_code == 2 and result.stdout == "" and result.stderr.count("\n") == 1
    assert result.stderr.startswith(f"error: {message}"), result.stderr


def test_help_names_every_format():
    shown = " ".join(command("trace", "--help").stdout.split())
    assert all(form in shown for form in FORMATS)
