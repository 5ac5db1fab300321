"""Traces: what a seed decides, the distributions, and files that come back whole or not at all."""

import zipfile

import numpy as np
import pytest
from aiecof_book.toy import toy_scenario, toy_trace
from scipy import stats

from aiecof.checks import InvalidInput
from aiecof.system.scenario import TaskKind, load_scenario
from aiecof.system.simulator import Simulator
from aiecof.system.workload import SPLITS, Trace, draw_trace, load_trace

ARRAYS = list(toy_trace().arrays())
TASKS, NETWORK = ARRAYS[:3], ARRAYS[3:]
BEYOND = {"fading_scale": ("fade", 0.5), "background_load": ("background", 0.5), "reach": ("reach", 2)}


def small(**changes):
    return load_scenario("balanced", **({"devices": 4, "servers": 3, "slots": 12} | changes))


def large(**changes):
    return load_scenario("balanced", **({"devices": 50, "servers": 40, "slots": 200} | changes))


def same(first, second, names=ARRAYS):
    """Which of the arrays are equal bit by bit."""
    return [name for name in names if getattr(first, name).tobytes() == getattr(second, name).tobytes()]


@pytest.mark.parametrize("network", ["run", "episode"])
@pytest.mark.parametrize("split", SPLITS)
def test_an_episode_is_the_same_whatever_is_drawn_with_it(network, split):
    scenario = small(network=network)
    together = draw_trace(scenario, 5, seed=3, split=split)
    assert same(together, draw_trace(scenario, 5, seed=3, split=split)) == ARRAYS
    assert same(together[:2], draw_trace(scenario, 2, seed=3, split=split)) == ARRAYS
    for episode in range(5):
        alone = draw_trace(scenario, 1, seed=3, first=episode, split=split)
        assert same(together[episode : episode + 1], alone) == ARRAYS


def test_episodes_seeds_and_splits_differ():
    scenario = small()
    drawn = [draw_trace(scenario, 3, seed=seed, split=split) for seed in (0, 1) for split in SPLITS]
    episodes = [trace.size[b] for trace in drawn for b in range(3)]
    assert len({episode.tobytes() for episode in episodes}) == len(episodes)
    assert np.abs(np.corrcoef([episode.ravel() for episode in episodes]) - np.eye(18)).max() < 0.6


def test_readings_do_not_change_the_tasks():
    """Every policy and every reading of the dynamics meets the same tasks."""
    plain = draw_trace(small(), 2, seed=4)
    other = small(tau_max_slots=3, drop_rule="wait", load="literal", network="episode", channel_queue="none")
    assert same(plain, draw_trace(other, 2, seed=4), TASKS) == TASKS


def test_decisions_do_not_change_the_trace():
    scenario = small()
    trace, kept = draw_trace(scenario, 2, seed=5), draw_trace(scenario, 2, seed=5)
    for action in range(scenario.actions):
        Simulator(scenario).run(trace, np.full(trace.size.shape, action))
    assert same(trace, kept) == ARRAYS


def test_one_network_for_a_run_or_one_for_an_episode():
    run = [draw_trace(small(network="run"), 3, seed=1, split=split) for split in SPLITS]
    for trace in run:
        assert same(trace[:1], trace[1:2], NETWORK) == NETWORK
        assert same(trace, run[0], NETWORK) == NETWORK  # what was learned on one network is judged on it
    episode = draw_trace(small(network="episode"), 3, seed=1)
    assert same(episode[:1], episode[1:2], NETWORK) == ["rate"]  # a fixed rate
    other = draw_trace(small(network="run"), 3, seed=2)
    assert same(other, run[0], NETWORK) == ["rate"]


def uniform_p(values, low, high):
    return stats.kstest(values, stats.uniform(low, high - low).cdf).pvalue


def test_distributions_of_tasks():
    scenario = large()
    trace = draw_trace(scenario, 3, seed=6)
    has_task = trace.has_task
    count = has_task.sum()
    assert stats.binomtest(int(count), has_task.size, scenario.arrival_probability).pvalue > 1e-3
    assert np.all((trace.kind >= 0) == has_task) and np.all(trace.kind[~has_task] == -1)
    [kind] = scenario.task_kinds
    assert uniform_p(trace.size[has_task], *kind.size) > 1e-3
    cycles = (trace.size * trace.density)[has_task] / scenario.workload_scale
    assert uniform_p(cycles, *scenario.workload_range) > 1e-3
    assert abs(stats.spearmanr(trace.size[has_task], cycles).statistic) < 4 / np.sqrt(count)
    assert np.all(np.isfinite(trace.density)) and np.all(trace.density > 0)


def test_workload_per_bit_is_the_density():
    scenario = large(workload="per_bit", workload_range=(200.0, 300.0), workload_scale=0.5)
    trace = draw_trace(scenario, 1, seed=6)
    assert uniform_p(trace.density[trace.has_task], 100.0, 150.0) > 1e-3


def test_distributions_of_the_network():
    scenario = large(network="episode")
    trace = draw_trace(scenario, 20, seed=7)
    for name in ("device_frequency", "server_frequency"):
        assert uniform_p(getattr(trace, name).ravel(), *getattr(scenario, name)) > 1e-3, name
    assert np.all(trace.rate == scenario.transmission_rate)


def test_mixture_of_kinds():
    kinds = (
        TaskKind("short", (1e6, 2e6), 0.2),
        TaskKind("long", (5e6, 9e6), 0.5),
        TaskKind("same", (3e6, 3e6), 0.3),
    )
    trace = draw_trace(large(task_kinds=kinds), 2, seed=8)
    drawn = trace.kind[trace.has_task]
    counts = np.bincount(drawn, minlength=3)
    assert stats.chisquare(counts, [kind.share * len(drawn) for kind in kinds]).pvalue > 1e-3
    for index, kind in enumerate(kinds[:2]):
        assert uniform_p(trace.size[trace.kind == index], *kind.size) > 1e-3
    assert np.all(trace.size[trace.kind == 2] == 3e6)


KINDS = (TaskKind("short", (1e6, 2e6), 0.3), TaskKind("long", (5e6, 9e6), 0.7))


def test_a_device_has_a_kind_of_its_own():
    """With the network: in every episode, in training as in evaluation; another one for another network."""
    scenario = large(task_kinds=KINDS, kinds_by="device")
    traces = [draw_trace(scenario, 2, seed=3, split=split) for split in SPLITS]
    own = np.concatenate([trace.kind for trace in traces]).max(axis=(0, 1))
    for trace in traces:
        assert np.array_equal(trace.kind, np.where(trace.has_task, own, -1))
        low, high = np.array([kind.size for kind in KINDS]).T
        inside = (low[own] <= trace.size) & (trace.size <= high[own])
        assert np.all(inside[trace.has_task])
    other = draw_trace(scenario, 1, seed=3, network_seed=4)
    assert same(other, draw_trace(scenario, 1, seed=3), ["kind"]) == []
    assert np.array_equal(other.kind[0].max(axis=0), draw_trace(scenario, 1, seed=4).kind[0].max(axis=0))


def test_devices_take_the_kinds_in_their_shares():
    scenario = small(devices=200, slots=20, task_kinds=KINDS, kinds_by="device", network="episode")
    own = draw_trace(scenario, 20, seed=1).kind.max(axis=1)
    counts = np.bincount(own.ravel(), minlength=2)
    assert stats.chisquare(counts, [kind.share * own.size for kind in KINDS]).pvalue > 1e-3


def test_whose_the_kinds_are_changes_nothing_else():
    """The same arrivals, clocks, work, and places within the range of a kind; with one kind nothing at all."""
    by_task, by_device = (draw_trace(small(task_kinds=KINDS, kinds_by=who), 2, seed=5) for who in ("task", "device"))
    assert same(by_task, by_device, NETWORK) == NETWORK
    assert np.array_equal(by_task.has_task, by_device.has_task)
    np.testing.assert_allclose(by_task.size * by_task.density, by_device.size * by_device.density)
    alike = (by_task.kind == by_device.kind) & by_task.has_task
    assert 0 < alike.sum() < by_task.has_task.sum() and np.array_equal(by_task.size[alike], by_device.size[alike])
    assert same(*(draw_trace(small(kinds_by=who), 2, seed=5) for who in ("task", "device"))) == ARRAYS


@pytest.mark.parametrize("network", ["run", "episode"])
def test_one_server_can_be_another(network):
    plain, scaled = (draw_trace(small(network=network, first_server_scale=scale), 3, seed=6) for scale in (1.0, 0.5))
    assert same(plain, scaled, [name for name in ARRAYS if name != "server_frequency"]) == [
        name for name in ARRAYS if name != "server_frequency"
    ]
    np.testing.assert_allclose(scaled.server_frequency, plain.server_frequency * [0.5, 1.0, 1.0])


def test_certain_arrivals_fill_every_slot():
    assert draw_trace(small(arrival_probability=1.0), 2, seed=0).has_task.all()


def test_rates_follow_from_bandwidth_gain_and_noise():
    """Eq. (13): B log2(1 + |h|^2 P / sigma^2), the gain drawn from its range."""
    scenario = small(
        network="episode", transmission_rate=None, bandwidth=2e6, channel_gain=(1e-6, 3e-6), noise_power=1e-8
    )
    trace = draw_trace(scenario, 100, seed=9)
    assert trace.rate.shape == (100, 4, 3)
    gain = (2.0 ** (trace.rate / 2e6) - 1.0) * 1e-8 / scenario.transmission_power
    assert uniform_p(gain.ravel(), 1e-6, 3e-6) > 1e-3
    one = draw_trace(small(**{**shannon(scenario), "channel_gain": (1e-6, 1e-6)}), 1, seed=9)
    np.testing.assert_allclose(one.rate, 2e6 * np.log2(1 + 1e-6 * 2.3 / 1e-8))
    assert Simulator(scenario).run(trace, np.ones(trace.size.shape, int)).any()


def shannon(scenario):
    names = ("transmission_rate", "bandwidth", "channel_gain", "noise_power")
    return {name: getattr(scenario, name) for name in names}


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"episodes": 0}, "episodes: got 0, allowed: a whole number >= 1"),
        ({"episodes": 1.5}, "episodes: got 1.5"),
        ({"seed": -1}, "seed: got -1, allowed: a whole number >= 0"),
        ({"seed": True}, "seed: got True"),
        ({"first": -2}, "first: got -2"),
        ({"split": "test"}, "split: got 'test', allowed: one of train, evaluation, reference"),
    ],
)
def test_impossible_draws_are_refused(arguments, message):
    with pytest.raises(InvalidInput, match=message):
        draw_trace(small(), **arguments)


def test_a_saved_trace_comes_back_bit_by_bit(tmp_path):
    scenario = small(network="episode")
    for name, trace, owner in (
        ("drawn", draw_trace(scenario, 3, 1), scenario),
        ("toy", toy_trace(), toy_scenario()),
    ):
        trace.save(tmp_path / name)
        loaded = load_trace(tmp_path / name, owner)
        assert same(trace, loaded) == ARRAYS
        assert [getattr(loaded, entry).dtype for entry in ARRAYS] == [getattr(trace, entry).dtype for entry in ARRAYS]


@pytest.fixture
def saved(tmp_path):
    path = tmp_path / "trace.npz"
    draw_trace(small(), 1, seed=1).save(path)
    return path


def assert_refused(path, message="trace: got .*allowed: a "):
    with pytest.raises(InvalidInput, match=message):
        load_trace(path, small())


def test_a_truncated_file_is_refused(saved):
    content = saved.read_bytes()
    for length in (0, 1, 100, len(content) // 2, len(content) - 30, len(content) - 1):
        saved.write_bytes(content[:length])
        assert_refused(saved)


def test_a_flipped_bit_is_refused_or_changes_nothing(saved):
    """Some bytes of a ZIP file mean nothing, such as its time stamps; no other damage may pass or escape."""
    content, trace = saved.read_bytes(), load_trace(saved, small())
    refused = 0
    for position in range(0, len(content), 3):
        damaged = bytearray(content)
        damaged[position] ^= 1 << (position % 8)
        saved.write_bytes(damaged)
        try:
            assert same(load_trace(saved, small()), trace) == ARRAYS
        except InvalidInput as error:
            refused += 1
            assert str(error).startswith("trace")
    assert refused > len(content) / 6


def rewrite(path, **changes):
    with np.load(path) as file:
        arrays = dict(file) | changes
    np.savez(path, **{name: values for name, values in arrays.items() if values is not None})


@pytest.mark.parametrize("name", [*ARRAYS, "checksum"])
def test_a_missing_array_is_refused(saved, name):
    rewrite(saved, **{name: None})
    assert_refused(saved, name)


def test_a_changed_value_is_refused(saved):
    rewrite(saved, size=draw_trace(small(), 1, seed=2).size)
    assert_refused(saved, "content matches its checksum")


class Bomb:
    def __reduce__(self):
        return exec, ("raise SystemExit('a pickle was executed')",)


@pytest.mark.parametrize("name", [*ARRAYS, "checksum"])
def test_a_pickled_object_is_refused_and_not_executed(saved, name):
    rewrite(saved, **{name: np.array([Bomb()], dtype=object)})
    assert_refused(saved)


def test_other_files_are_refused(tmp_path):
    assert_refused(tmp_path / "missing.npz")
    assert_refused(tmp_path)
    (tmp_path / "text").write_text("size,density\n1,2\n", encoding="utf-8")
    assert_refused(tmp_path / "text")
    np.save(tmp_path / "array.npy", np.zeros(3))
    assert_refused(tmp_path / "array.npy")
    with zipfile.ZipFile(tmp_path / "archive.npz", "w") as archive:
        archive.writestr("size.npy", b"no array")
    assert_refused(tmp_path / "archive.npz")


def test_a_trace_of_another_scenario_is_refused(saved):
    with pytest.raises(InvalidInput, match=r"trace\.size: got \(1, 12, 4\), allowed: shape \(1, 12, 5\)"):
        load_trace(saved, small(devices=5))


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("size", np.nan, r"trace\.size: .*finite"),
        ("size", -1.0, r"trace\.size: got -1.0, allowed: 0 \(none\) or more"),
        ("size", np.inf, r"trace\.size"),
        ("density", 0.0, r"trace\.density: .*> 0"),
        ("density", -np.inf, r"trace\.density"),
        ("device_frequency", 0.0, r"trace\.device_frequency"),
        ("server_frequency", -4e9, r"trace\.server_frequency"),
        ("rate", np.nan, r"trace\.rate"),
    ],
)
def test_impossible_values_are_refused(name, value, message):
    trace = toy_trace()
    getattr(trace, name).flat[0] = value
    with pytest.raises(InvalidInput, match=message):
        trace.check(toy_scenario())
    with pytest.raises(InvalidInput, match=message):
        Simulator(toy_scenario()).reset(trace)


@pytest.mark.parametrize("name", ARRAYS)
@pytest.mark.parametrize("change", ["shape", "text", "object", "complex"])
def test_arrays_of_another_shape_or_type_are_refused(name, change):
    values = getattr(toy_trace(), name)
    kinds = {"text": str, "object": object, "complex": complex}
    wrong = values.astype(kinds[change]) if change in kinds else values[..., :1]
    trace = Trace(**{**vars(toy_trace()), name: wrong})
    with pytest.raises(InvalidInput, match=rf"trace\.{name}: got "):
        trace.check(toy_scenario())


@pytest.mark.parametrize("knob", BEYOND)
def test_what_goes_beyond_the_paper_has_to_be_there_where_it_is_asked_for_and_only_there(tmp_path, knob):
    name, value = BEYOND[knob]
    scenario = small(**{knob: value})
    trace = draw_trace(scenario, 2, 1)
    assert list(trace.arrays()) == [*ARRAYS, name]
    kept = [entry for entry in ARRAYS if entry != "rate" or knob != "reach"]
    assert same(trace, draw_trace(small(), 2, 1), kept) == kept  # nothing else is drawn otherwise
    with pytest.raises(InvalidInput, match=rf"trace\.{name}: got \(2, .*allowed: none"):
        Trace(**draw_trace(small(), 2, 1).arrays() | {name: getattr(trace, name)}).check(small())
    without = Trace(**{entry: values for entry, values in trace.arrays().items() if entry != name})
    with pytest.raises(InvalidInput, match=rf"trace\.{name}: got \(\), allowed: shape"):
        without.check(scenario)
    for wrong in (getattr(trace, name)[..., :1], getattr(trace, name).astype(str)):
        with pytest.raises(InvalidInput, match=rf"trace\.{name}: got "):
            Trace(**trace.arrays() | {name: wrong}).check(scenario)
    impossible = getattr(trace, name).copy()
    impossible.flat[0] = {"fade": 0.0, "background": -1.0, "reach": 3}[name]
    with pytest.raises(InvalidInput, match=rf"trace\.{name}"):
        Trace(**trace.arrays() | {name: impossible}).check(scenario)
