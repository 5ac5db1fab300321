"""Files of another version, damaged or foreign: whatever a reader meets, it says in one line what is wrong."""

import io
import json
import os
import shutil
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd
import pytest
from safetensors.torch import load, save
from test_runner import TINY, declare

from aiecof.agents.learned import load_policy
from aiecof.agents.training import Run, train
from aiecof.checks import InvalidInput
from aiecof.files import alone, check_name, conform, make_folder, plain_name, read_json, write_whole
from aiecof.study import runner
from aiecof.study.experiments import Experiment, cell, trials_of
from aiecof.study.runner import run
from aiecof.study.store import TUNING, add_rows, experiment_table, manifest, read_table, write_table
from aiecof.system.scenario import load_scenario
from aiecof.system.workload import draw_trace, load_trace

EXPERIMENTS = {"first": Experiment("?", 1, (cell("a2c", TINY, episodes=2), cell("random", TINY)))}


class Kind(NamedTuple):
    """A format: where a good file of it is, how it is read, how many bad ones are tried at least, and what it says."""

    path: str
    read: Callable[[Path], object]
    least: int
    form: str = ""


def _trial(place):
    [trial] = [trial for trial in trials_of(EXPERIMENTS).values() if trial.learned]
    return runner.run_trial(trial, place / "runs")


KINDS = {
    "manifest": Kind("results/manifest.json", lambda place: manifest(place / "results"), 30, "aiecof results 2"),
    "runs": Kind("results/runs.csv", lambda place: read_table("runs.csv", place / "results"), 45),
    "experiment": Kind("results/first.csv", lambda place: experiment_table("first", place / "results"), 40),
    "curves": Kind("results/curves.parquet", lambda place: read_table("curves.parquet", place / "results"), 30),
    "devices": Kind("results/devices.parquet", lambda place: read_table("devices.parquet", place / "results"), 15),
    "result": Kind("runs/{trial}/result.json", _trial, 50, "aiecof result 1"),
    "run": Kind("training/run.json", lambda place: Run(place / "training"), 30, "aiecof training 1"),
    "checkpoint": Kind(
        "training/checkpoint.safetensors", lambda place: Run(place / "training").load(), 25, "aiecof run 1"
    ),
    "policy": Kind(
        "policy.safetensors", lambda place: load_policy(place / "policy.safetensors"), 25, "aiecof policy 1"
    ),
    "trace": Kind("trace.npz", lambda place: load_trace(place / "trace.npz", TINY), 25, "aiecof trace 1"),
    "scenario": Kind("scenario.json", lambda place: load_scenario(str(place / "scenario.json")), 25),
}
SCENARIO = {
    "name": "mine",
    "base": "balanced",
    "devices": 4,
    "tau_max_slots": 9,
    "arrival_probability": 0.5,
    "device_frequency_ghz": [2.0, 4.0],
    "task_kinds": {"only": {"size_mbit": [1.0, 2.0], "share": 1.0}},
    "weights": {"delay": 1.0},
    "readings": {"drop_rule": "wait"},
}


@pytest.fixture(autouse=True)
def declared(monkeypatch):
    declare(monkeypatch, EXPERIMENTS)


@pytest.fixture(scope="module")
def good(tmp_path_factory):
    """A good file of every format."""
    place = tmp_path_factory.mktemp("good")
    with pytest.MonkeyPatch.context() as patch:
        declare(patch, EXPERIMENTS)
        assert run(["first"], folder=place / "runs", results=place / "results") == []
    training = train("a2c", TINY, 2, 0, place / "training")
    training.export(place / "policy.safetensors")
    draw_trace(TINY, 2).save(place / "trace.npz")
    (place / "scenario.json").write_text(json.dumps(SCENARIO))
    return place


def spot(kind, place):
    """Where the file of a format is."""
    [trial] = [name for name, entry in trials_of(EXPERIMENTS).items() if entry.learned]
    return place / KINDS[kind].path.format(trial=trial)


@pytest.fixture
def copied(good, tmp_path):
    shutil.copytree(good, tmp_path / "copy")
    return tmp_path / "copy"


# --- bad files ---------------------------------------------------------------------------------------------------

Bad = Iterator[tuple[str, bytes]]
"""What is wrong, and the content of a file of which it is."""


def damaged(content: bytes) -> Bad:
    """What can happen to any file."""
    rng = np.random.default_rng(0)
    yield "empty", b""
    for share in (0.02, 0.3, 0.6, 0.9):
        yield f"cut off at {share:.0%}", content[: int(share * len(content))].rstrip(b"\n")
    yield "its last byte is missing", content.rstrip()[:-1]
    for size in (1, 7, 512, 5000):
        yield f"{size} random bytes", rng.bytes(size)
    yield "zeros", bytes(len(content))
    yield "in UTF-16", content.decode("latin-1").encode("utf-16")
    yield "of pickle", b"\x80\x04\x95\x0b\x00\x00\x00\x00\x00\x00\x00]\x94(K\x01K\x02e."
    yield "a page of the web", b"<!doctype html>\n<title>404</title>\n"


WRONG = {str: 7, bool: "yes", int: "many", float: "much", list: {}, dict: [], type(None): "something"}


def places(content: object, path: tuple = ()) -> Iterator[tuple]:
    """The ways to everything in a JSON value; of a list to the first entry."""
    entries = (
        content.items() if isinstance(content, dict) else enumerate(content[:1]) if isinstance(content, list) else ()
    )
    for key, value in entries:
        yield (*path, key)
        yield from places(value, (*path, key))


def changed(content: object, path: tuple, value: object = None, gone: bool = False) -> bytes:
    """A JSON value with another entry, or without it."""
    content = json.loads(json.dumps(content))
    holder = content
    for key in path[:-1]:
        holder = holder[key]
    if gone:
        del holder[path[-1]]
    else:
        holder[path[-1]] = value
    return json.dumps(content).encode()


def at(content, path):
    for key in path:
        content = content[key]
    return content


def bad_json(kind: str, content: bytes) -> Bad:
    """Another type at each key, each key missing that is needed, infinite numbers, other versions."""
    table = json.loads(content)
    for value in ([], "text", 3, None, True):
        yield f"only {value!r}", json.dumps(value).encode()
    yield "too deep", b"[" * 100_000
    yield "a number too long", b'{"seed": ' + b"9" * 5000 + b"}"
    spared = {"manifest": {("files",), ("experiments",), ("players",)}, "scenario": set(places(SCENARIO))}
    for path in places(table):
        if path[0] == "hyperparameters" and len(path) > 2:
            continue  # they go to the networks as they are
        value = at(table, path)
        yield f"{path} of another type", changed(table, path, WRONG[type(value)])
        optional = path[0] in ("wall_time", "format", "curve", "load", "clock", "processor", "threads")
        keyed = isinstance(path[-1], str) and not (kind == "manifest" and len(path) == 2 or path[-1].isdigit())
        free = path[0] in ("hyperparameters", "versions", "actions") and len(path) > 1
        free |= path[0] == "scenario" and len(path) > 1
        if keyed and not optional and not free and path not in spared.get(kind, ()):
            yield f"{path} is missing", changed(table, path, gone=True)
        if type(value) in (int, float):
            yield f"{path} infinite", changed(table, path, float("inf"))
            yield f"{path} too small", changed(table, path, -1) if type(value) is int else b"{}" + content
    yield from other_versions(kind, lambda form: json.dumps(table | {"format": form}).encode())


def other_versions(kind: str, written: Callable[[object], bytes]) -> Bad:
    if KINDS[kind].form:
        word, _, version = KINDS[kind].form.rpartition(" ")
        yield "newer", written(f"{word} {int(version) + 1}")
        yield "much newer", written(f"{word} 99999")
        yield "older", written(f"{word} 0")
        yield "another format", written("aiecof elsewhere 1")


def bad_table(kind: str, content: bytes) -> Bad:
    """Columns that are missing or hold something else, infinite numbers, rows that are there twice."""
    csv = KINDS[kind].path.endswith("csv")
    table = pd.read_csv(io.BytesIO(content), dtype={"run": str}) if csv else pd.read_parquet(io.BytesIO(content))
    if "wall_time" in table:  # seconds that all happen to be whole
        table = table.astype({"wall_time": float})

    def written(rows: pd.DataFrame) -> bytes:
        return rows.to_csv(index=False).encode() if csv else rows.to_parquet(index=False)

    for name in table.columns.drop(["processor", "threads"], errors="ignore"):
        yield f"{name} is missing", written(table.drop(columns=name))
        yield f"{name} has another name", written(table.rename(columns={name: f"{name}s"}))
        if pd.api.types.is_numeric_dtype(table[name]):
            words = table[name].astype(object)
            words.iloc[-1] = "much"
            yield f"{name} of words", written(table.assign(**{name: words.astype(str)}))
        if pd.api.types.is_float_dtype(table[name]):
            for value in (np.inf, -np.inf):
                rows = table.copy()
                rows.loc[0, name] = value
                yield f"{name} of {value}", written(rows)
        else:
            holes = table[name].astype(object)
            holes.iloc[0] = None
            yield f"{name} with a hole", written(table.assign(**{name: holes}))
        if pd.api.types.is_integer_dtype(table[name]):
            yield f"{name} of fractions", written(table.assign(**{name: table[name] + 0.5}))
            yield f"{name} below 0", written(table.assign(**{name: -1 - table[name]}))
    yield "a row twice", written(pd.concat([table, table.head(1)]))
    yield "all rows twice", written(pd.concat([table, table]))
    if csv:
        yield "a cell too many", content + content.splitlines()[-1] + b",1,2\n"


def bad_tensors(kind: str, content: bytes) -> Bad:
    """Headers that are not what they should be; tensors that are missing, or of other numbers, shapes and types."""
    length = int.from_bytes(content[:8], "little")
    header, tensors = json.loads(content[8 : 8 + length])["__metadata__"], load(content)
    told = "run" if kind == "policy" else "state"
    for key in header:
        yield f"without {key}", save(tensors, {name: text for name, text in header.items() if name != key})
        yield f"{key} of another kind", save(tensors, header | {key: "[]"})
    yield "no header", save(tensors)
    for text in ("", "{", "null", "[1, 2]", '"text"'):
        yield f"header {text!r}", save(tensors, header | {told: text})
    described = json.loads(header[told])
    for path in places(described):
        if path[0] in ("method", "seed", "scenario", "counters", "curve", "hyperparameters") and len(path) < 3:
            wrong = changed(described, path, WRONG[type(at(described, path))]).decode()
            yield f"{path} of another type", save(tensors, header | {told: wrong})
    for path in ([key] for key in described if key not in ("wall_time", "format")):
        yield f"without {path}", save(tensors, header | {told: changed(described, path, gone=True).decode()})
    names = [name for name in tensors if "weight" in name][:2]
    for name in names:
        value = tensors[name]
        others = {"missing": None, "another type": value.double(), "whole": value.long(), "another shape": value[:-1]}
        others |= {"a NaN": value.clone().fill_(float("nan")), "infinite": value.clone().fill_(float("inf"))}
        for what, other in others.items():
            rest = {key: entry for key, entry in tensors.items() if key != name}
            yield f"{name}: {what}", save(rest | ({} if other is None else {name: other.contiguous()}), header)
    yield from other_versions(kind, lambda form: save(tensors, header | {"format": form}))


def bad_trace(kind: str, content: bytes) -> Bad:
    """Arrays that are missing, or of other numbers, shapes and types, under a checksum that is right."""
    from aiecof.system.workload import _checksum

    with np.load(io.BytesIO(content)) as file:
        form, arrays = file["format"], {name: file[name] for name in file.files if name not in ("format", "checksum")}

    def written(**entries: object) -> bytes:
        np.savez(file := io.BytesIO(), **entries)
        return file.getvalue()

    for name, values in arrays.items():
        rest = {key: entry for key, entry in arrays.items() if key != name}
        yield f"without {name}", written(format=form, checksum=_checksum(rest), **rest)
        others = {"another shape": values[..., :-1], "another type": values.astype("U5"), "one number": np.float64(1.0)}
        if name != "kind":
            others |= {"a NaN": values * np.nan, "infinite": values + np.inf, "negative": -1.0 - values}
        for what, other in others.items():
            spoiled = {key: np.asarray(entry) for key, entry in (rest | {name: other}).items()}
            yield f"{name}: {what}", written(format=form, checksum=_checksum(spoiled), **spoiled)
        objects = values.astype(object)
        yield f"{name} of objects", written(format=form, checksum="", **rest, **{name: objects})
    yield "another checksum", written(format=form, checksum="0", **arrays)
    yield "no checksum", written(format=form, **arrays)
    np.save(alone := io.BytesIO(), arrays["size"])
    yield "one array", alone.getvalue()
    yield from other_versions(kind, lambda form: written(format=form, checksum=_checksum(arrays), **arrays))


SPOILT = {"json": bad_json, "csv": bad_table, "parquet": bad_table, "safetensors": bad_tensors, "npz": bad_trace}


def refusal(kind: str, place: Path, what: str) -> str:
    """What a reader says of the bad file in a place."""
    try:
        found = KINDS[kind].read(place)
    except InvalidInput as error:
        said = str(error)
    else:
        raise AssertionError(f"{kind}: {what} is taken for {found!r}"[:300])
    assert "\n" not in said and len(said) < 900, (what, said)
    assert ": got " in said and ", allowed: " in said, (what, said)
    if kind not in ("scenario", "trace"):  # of which the fields have names of their own
        assert str(spot(kind, place).parent) in said, (what, said)
    return said


@pytest.mark.parametrize("kind", KINDS)
def test_bad_files_are_refused_in_one_line(kind, copied):
    """A file that is damaged in any of these ways; and what a table, a JSON file ... can have of its own."""
    path = spot(kind, copied)
    KINDS[kind].read(copied)
    content, tried = path.read_bytes(), 0
    for what, bad in [*damaged(content), *SPOILT[path.suffix[1:]](kind, content)]:
        path.write_bytes(bad)
        said = refusal(kind, copied, what)
        assert ("newer version" in said) == ("newer" in what), (what, said)
        tried += 1
    path.write_bytes(content)
    KINDS[kind].read(copied)
    assert tried >= KINDS[kind].least, tried


def test_that_is_many_bad_files():
    assert sum(kind.least for kind in KINDS.values()) >= 150


@pytest.mark.parametrize("kind", KINDS)
def test_what_is_no_file_is_refused(kind, copied):
    path = spot(kind, copied)
    content = path.read_bytes()
    path.unlink()
    path.mkdir()
    assert path.name in refusal(kind, copied, "a folder") or kind in ("run", "result")
    path.rmdir()
    if Path("/proc/self/mem").exists():
        path.symlink_to("/proc/self/mem")
        refusal(kind, copied, "a file that cannot be read")
        path.unlink()
    path.write_bytes(content)
    KINDS[kind].read(copied)


# --- good files --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["manifest", "runs", "experiment", "result", "run", "scenario"])
def test_a_byte_order_mark_changes_nothing(kind, copied):
    path = spot(kind, copied)
    before = KINDS[kind].read(copied)
    path.write_bytes(b"\xef\xbb\xbf" + path.read_bytes())
    after = KINDS[kind].read(copied)
    if isinstance(before, pd.DataFrame):
        pd.testing.assert_frame_equal(before, after)
    else:
        assert vars(before) == vars(after) if isinstance(before, Run) else before == after


@pytest.mark.parametrize("kind", ["result", "run", "trace"])
def test_a_file_of_the_first_version_says_none(kind, copied):
    """As those that were written before there was a second."""
    path = spot(kind, copied)
    if path.suffix == ".npz":
        with np.load(path) as file:
            entries = {name: file[name] for name in file.files if name != "format"}
        np.savez(path, **entries)
    else:
        content = json.loads(path.read_text())
        assert content.pop("format") == KINDS[kind].form
        path.write_text(json.dumps(content))
    KINDS[kind].read(copied)


def test_means_over_nothing_stay_empty(tmp_path):
    """NaN stands for them in a table and in a result."""
    write_table("t.csv", pd.DataFrame({"run": ["a"], "delay": [np.nan]}), tmp_path)
    assert read_table("t.csv", tmp_path)["delay"].isna().all()
    conform("value", float("nan"), float)


def test_rows_are_added_not_replaced(tmp_path):
    """What another process has tuned stays, and what was tuned again is there once."""
    rows = pd.DataFrame({"method": ["a2c", "ac"], "learning_rate": 0.01, "seed": 1000, "reward": [1.0, 2.0]})
    add_rows("tuning.csv", rows.head(1), TUNING, tmp_path)
    add_rows("tuning.csv", rows.assign(reward=[3.0, 4.0]), TUNING, tmp_path)
    add_rows("tuning.csv", rows.tail(1), TUNING, tmp_path)
    found = read_table("tuning.csv", tmp_path).set_index("method")["reward"]
    assert found.to_dict() == {"a2c": 3.0, "ac": 2.0}


# --- schemas, names and places -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("value", "schema", "message"),
    [
        ({"a": {}}, {"a": {"b": int}}, "x.a.b: got 'nothing', allowed: a whole number >= 0"),
        ({"a": [1, "2"]}, {"a": [int]}, "x.a[1]: got '2', allowed: a whole number >= 0"),
        ({"a": True}, {"a": int}, "x.a: got True, allowed: a whole number >= 0"),
        ({"a": -1}, {str: int}, "x.a: got -1, allowed: a whole number >= 0"),
        (["a"], (str, bool), "x: got ['a'], allowed: a list of 2"),
        (float("-inf"), float, "x: got -inf, allowed: a number"),
        (None, dict, "x: got None, allowed: a mapping"),
    ],
)
def test_a_schema_says_where_it_is_broken(value, schema, message):
    with pytest.raises(InvalidInput) as error:
        conform("x", value, schema)
    assert str(error.value) == message


def test_a_schema_takes_what_conforms():
    conform("x", {"a": 1, "more": None}, {"a": int, "b?": str})
    conform("x", [["a", True], ["b", False]], [(str, bool)])
    conform("x", object(), None)


BAD_NAMES = [
    "",
    ".",
    "..",
    "../../x",
    ".hidden",
    "a/b",
    "a\\b",
    "a b",
    "a\nb",
    "a\x1b[31m",
    "a\0",
    "ä",
    "a" * 65,
    "a:b",
    "*",
]


@pytest.mark.parametrize("name", [*BAD_NAMES, None, 3])
def test_names_that_no_folder_can_have(name, tmp_path):
    with pytest.raises(InvalidInput, match="^name: got .*, allowed: at most 64 letters"):
        TINY.replace(name=name)
    (tmp_path / "bad.json").write_text(json.dumps(SCENARIO | {"name": name}))
    with pytest.raises(InvalidInput, match="^name: got "):
        load_scenario(str(tmp_path / "bad.json"))


@pytest.mark.parametrize("name", ["a", "plain", "nine-rows", "v1.2_b", "-", "a" * 64])
def test_names_that_it_can(name):
    assert TINY.replace(name=name).name == name == plain_name(name)


@pytest.mark.parametrize("name", BAD_NAMES[1:])
def test_a_file_s_own_name_is_made_plain(name, tmp_path):
    check_name("name", plain_name(name))
    content = {key: value for key, value in SCENARIO.items() if key != "name"}
    path = tmp_path / f"{name}.json".replace("/", "").replace("\0", "")
    path.write_text(json.dumps(content))
    check_name("name", load_scenario(str(path)).name)


def test_what_killed_writers_left_is_swept(tmp_path):
    (tmp_path / "run.json.0123456789ab.part").write_bytes(b"half")
    with alone(tmp_path):
        assert [path.name for path in tmp_path.iterdir()] == ["lock"]


def test_writers_of_one_file_do_not_meet(tmp_path, monkeypatch):
    """Each has a draft of its own."""
    drafts = []
    monkeypatch.setattr(os, "replace", lambda draft, path: drafts.append(Path(draft).name))
    for _ in range(2):
        write_whole(tmp_path / "file", b"content")
    assert len(set(drafts)) == 2 and all(name.startswith("file.") and name.endswith(".part") for name in drafts)


@pytest.mark.parametrize("spoilt", ["file", "file/below", "/dev/null/x", "/proc/x", "a\0b"])
def test_places_that_cannot_be_written(spoilt, tmp_path):
    (tmp_path / "file").write_text("here")
    with pytest.raises(InvalidInput, match="^out: got .*, allowed: a folder that can be written"):
        make_folder("out", tmp_path / spoilt)


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="/dev/full")
def test_a_full_disk_is_said(tmp_path, monkeypatch):
    """The draft that is tried goes where nothing fits."""
    monkeypatch.setattr(Path, "write_bytes", lambda path, content: open("/dev/full", "wb", 0).write(content))
    with pytest.raises(InvalidInput, match="No space left on device"):
        make_folder("out", tmp_path)


def test_a_readable_file_is_read(tmp_path):
    (tmp_path / "x.json").write_text("[1]")
    assert read_json("x", tmp_path / "x.json", [int]) == [1]
