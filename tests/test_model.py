"""Equations (1)-(24), each by a second route: by hand, by playing time forward, by integrating power, by its units."""

import math
from fractions import Fraction

import numpy as np
import pytest
from aiecof_book.toy import TOY_ACTIONS, toy_scenario, toy_trace
from hypothesis import given
from hypothesis import strategies as st
from numba import njit

from aiecof.system import model
from aiecof.system.scenario import load_scenario
from aiecof.system.simulator import Simulator
from aiecof.system.workload import draw_trace

GHZ, MBIT, GCYCLE, STEP = 1e9, 1e6, 1e9, 0.1


@pytest.fixture
def rng():
    return np.random.default_rng(7)


def slots_played(amount: Fraction, speed: Fraction, step: Fraction) -> int:
    """Whole slots until `amount` is worked off at `speed` a second, one slot after the other."""
    slots = 0
    while amount > 0:
        amount -= speed * step
        slots += 1
    return slots


def integral(power, until: float, parts: int = 100_000) -> float:
    """Integral of a power [W] that depends on time [s]."""
    middle = (np.arange(parts) + 0.5) * until / parts
    return float(np.sum(power(middle)) * until / parts)


# --- decisions ---------------------------------------------------------------------------------------------------


def test_exactly_the_offloaded_tasks_have_one_server():
    """The constraint, for every action of several networks (Eq. 1)."""
    for servers in (1, 2, 8):
        actions = np.arange(servers + 1).reshape(1, -1)
        eta, xi = model.decode_action(actions, servers)
        assert eta.shape == (1, servers + 1) and xi.shape == (1, servers + 1, servers)
        for action in range(servers + 1):
            assert eta[0, action] == (1 if action == 0 else 0)
            assert sum(xi[0, action]) == (1 if eta[0, action] == 0 else 0)
            assert [n + 1 for n in range(servers) if xi[0, action, n]] == ([action] if action else [])


# --- delays ------------------------------------------------------------------------------------------------------


@given(st.lists(st.tuples(st.integers(0, 5), st.integers(1, 6)), min_size=1, max_size=30))
def test_waits_are_those_of_lindleys_recursion(jobs):
    """A queue played forward by the gaps between its jobs (Eq. 2)."""
    slot, last, lindley, previous = 0, -1.0, 0, None
    for gap, service in jobs:
        slot += gap
        lindley = 0 if previous is None else max(lindley + previous - gap, 0)
        wait = model.waiting_delay(last, slot)
        assert wait == lindley
        last, previous = max(last, slot + wait + service - 1), service


def test_a_wait_by_hand():
    """A queue busy up to and including slot 4 (Eq. 2)."""
    assert [model.waiting_delay(4.0, slot) for slot in (2, 4, 5, 9)] == [3.0, 1.0, 0.0, 0.0]
    assert model.waiting_delay(-1.0, 0) == 0.0
    assert model.waiting_delay(4.25, 3) == 2.25


@given(st.integers(1, 200), st.integers(1, 12), st.integers(1, 60), st.integers(1, 20))
def test_a_service_is_as_long_as_it_takes(size, density, frequency, step):
    """Cycles worked off slot by slot, in exact fractions (Eq. 3)."""
    size, density, frequency, step = (
        Fraction(size, 7),
        Fraction(density, 3),
        Fraction(frequency, 11),
        Fraction(step, 13),
    )
    numbers = [float(value) for value in (size, density, frequency, step)]
    assert model.computing_delay(*numbers) == slots_played(size * density, frequency, step)
    exact = size * density / frequency / step
    assert math.isclose(model.computing_delay(*numbers, rounded=False), exact, rel_tol=1e-12)


def test_a_service_by_hand():
    """0.5, 0.8 and 0.9 Gcycles at 4 GHz: 0.4 Gcycles a slot (Eq. 3)."""
    size, work = 2 * MBIT, np.array([0.4, 0.5, 0.8, 0.9]) * GCYCLE
    assert model.computing_delay(size, work / size, 4 * GHZ, STEP).tolist() == [1, 2, 2, 3]
    assert np.allclose(model.computing_delay(size, work / size, 4 * GHZ, STEP, False), [1, 1.25, 2, 2.25])
    assert model.computing_delay(0.0, 200.0, 4 * GHZ, STEP) == 0


def test_a_service_that_fills_its_slots_exactly_gains_none():
    """0.3 Gcycles at 1 GHz are three slots of 0.1 s, although 0.3 / 0.1 > 3 in binary numbers (Eq. 3)."""
    multiples, naive = np.arange(1, 400), 0
    for scale in (0.1, 0.3, 0.7, 1e-9):
        slots = model.computing_delay(multiples * scale, 1.0, scale / 0.1, 0.1)
        assert slots.tolist() == multiples.tolist()
        naive += np.sum(np.ceil(multiples * scale / (scale / 0.1 * 0.1)) > multiples)
    assert naive > 0


@pytest.mark.parametrize(
    ("wait", "service", "deadline", "wait_rule"),
    [
        (0.0, 1.0, 5.0, 5.0),  # done in its own slot
        (2.0, 6.0, 12.0, 12.0),  # done in the last allowed slot
        (2.0, 7.0, 12.0, 13.0),  # one slot late: dropped, or served because it waited less than tau
        (7.5, 3.0, 12.0, 14.5),
        (8.0, 1.0, 12.0, 12.0),  # it waited tau: dropped under both
        (30.0, 1.0, 12.0, 12.0),
    ],
)
def test_completion_by_hand(wait, service, deadline, wait_rule):
    """A task of slot 5 with eight slots, to 12 at the latest, under both drop rules (Eq. 4)."""
    assert model.completion_slot(5, wait, service, 8) == deadline
    assert model.completion_slot(5, wait, service, 8, drop_on_wait=True) == wait_rule


@given(st.integers(1, 100), st.integers(1, 60), st.integers(1, 20))
def test_sending_is_as_long_as_it_takes(size, rate, step):
    """Bits sent slot by slot, in exact fractions (Eq. 14)."""
    size, rate, step = Fraction(size, 7), Fraction(rate, 11), Fraction(step, 13)
    numbers = [float(value) for value in (size, rate, step)]
    assert model.transmission_delay(*numbers) == slots_played(size, rate, step)
    assert math.isclose(model.transmission_delay(*numbers, rounded=False), size / rate / step, rel_tol=1e-12)


def test_sending_by_hand():
    """Table III: 1.4 Mbit a slot, so 2 to 10 Mbit take 2 to 8 slots (Eq. 14)."""
    sizes = np.array([0.0, 1.4, 2.0, 2.8, 7.0, 10.0]) * MBIT
    assert model.transmission_delay(sizes, 14 * MBIT, STEP).tolist() == [0, 1, 2, 2, 5, 8]


@given(st.lists(st.tuples(st.integers(0, 3), st.integers(0, 5), st.integers(1, 90)), min_size=1, max_size=20))
def test_a_server_serves_in_order(jobs):
    """A server played forward as one clock that each task moves on (Eq. 18)."""
    slot, last, clock = 0, -1.0, 0.0
    for gap, sending, work in jobs:
        slot += gap
        arrival = slot + sending
        wait, service = model.edge_delay(last, arrival, 1.0, work / 10, 10.0, STEP)
        begin = max(clock, arrival)
        clock = begin + work / 10
        assert math.isclose(arrival + wait, begin, abs_tol=1e-9)
        last = max(last, arrival + wait + service - 1)
        assert math.isclose(last + 1, clock, abs_tol=1e-9)


def test_a_server_by_hand():
    """Reserved up to and including slot 9.25; 1 Gcycle at 40 GHz is a quarter of a slot (Eq. 18)."""
    task = (2 * MBIT, GCYCLE / (2 * MBIT), 40 * GHZ, STEP)
    assert np.allclose(model.edge_delay(9.25, 7, *task), (3.25, 0.25))
    assert np.allclose(model.edge_delay(9.25, 11, *task), (0.0, 0.25))
    assert np.allclose(model.edge_delay(9.25, 7, *task, rounded=True), (3.25, 1.0))


# --- energy ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("clock", "watts"), [(1 * GHZ, 10.0), (4 * GHZ, 640.0), (36 * GHZ, 466_560.0)])
def test_power_by_hand(clock, watts):
    """The printed c = 1e-26: 640 W on a device, almost half a megawatt on a server (Eqs. 8, 21)."""
    assert math.isclose(model.computing_power(1e-26, clock), watts)


def test_energy_is_power_times_the_time_computed(rng):
    """Two forms of one energy agree with the exact time, and not with the rounded one (Eqs. 9, 10, 22)."""
    clock, size, work = rng.uniform(3, 42, 50) * GHZ, rng.uniform(2, 10, 50) * MBIT, rng.uniform(0.5, 3, 50) * GCYCLE
    density = work / size
    energy = model.computing_energy(1e-26, clock, size, density)
    power = model.computing_power(1e-26, clock)
    exact = model.computing_delay(size, density, clock, STEP, False) * STEP
    assert np.allclose(energy, model.energy_of_power(power, exact), rtol=1e-12)
    rounded = model.computing_delay(size, density, clock, STEP) * STEP
    assert np.all(model.energy_of_power(power, rounded) > energy)


def test_computing_energy_by_hand():
    """640 W for 2.5 Gcycles / 4 GHz = 0.625 s (Eqs. 9, 10, 22)."""
    assert math.isclose(model.computing_energy(1e-26, 4 * GHZ, 5 * MBIT, 500.0), 400.0)
    assert math.isclose(model.energy_of_power(640.0, 0.625), 400.0)


def test_energy_is_the_integral_of_power():
    """0.1 W while it waits, c f^3 while it computes, in either place (Eqs. 6, 7, 20, 23)."""
    for clock, add in [(4 * GHZ, model.total_energy), (36 * GHZ, model.edge_energy)]:
        wait_slots, size, density = 3.5, 5 * MBIT, 500.0
        service = model.computing_delay(size, density, clock, STEP, False) * STEP
        dynamic = model.computing_power(1e-26, clock)
        static = model.waiting_energy(0.1, wait_slots, STEP)
        assert math.isclose(static, 0.035)
        whole = add(static, model.computing_energy(1e-26, clock, size, density))
        begin = wait_slots * STEP
        drawn = integral(lambda t: np.where(t < begin, 0.1, dynamic), begin + service)  # noqa: B023
        assert math.isclose(whole, drawn, rel_tol=1e-4)


def test_sending_energy_by_hand():
    """2.3 W for the 5/7 s that 10 Mbit take at 14 Mbit/s, whatever the slot (Eq. 16)."""
    assert math.isclose(model.transmission_energy(2.3, 10 * MBIT, 14 * MBIT), 2.3 * 5 / 7)
    seconds = model.transmission_delay(10 * MBIT, 14 * MBIT, 0.02, False) * 0.02
    assert math.isclose(model.transmission_energy(2.3, 10 * MBIT, 14 * MBIT), integral(lambda t: 2.3 + 0 * t, seconds))


# --- load and channel --------------------------------------------------------------------------------------------


def test_load_by_hand():
    """1 Gcycle at 4 GHz needs a quarter of a second (Eq. 12)."""
    elapsed = np.array([0.2, 0.25, 0.5, 1.0])
    assert np.allclose(model.device_load(5 * MBIT, 200.0, 4 * GHZ, elapsed), [0.98, 0.98, 0.5, 0.25])
    assert model.device_load(5 * MBIT, 200.0, 4 * GHZ, 0.25, cap=2.0) == 1.0
    # With the clock in cycles a second and the time in slots, as printed, the load of a busy device is small.
    assert math.isclose(model.device_load(5 * MBIT, 200.0, 4 * GHZ, 1.0), 0.25)


@pytest.mark.parametrize(("ratio", "bits"), [(1, 1.0), (3, 2.0), (7, 3.0), (1023, 10.0), (0.41421356237, 0.5)])
def test_shannon_numbers(ratio, bits):
    """A signal-to-noise ratio of 2^k - 1 carries k bits a second for each hertz (Eq. 13)."""
    noise, power = 1e-9, 2.3
    assert math.isclose(model.transmission_rate(5e6, ratio * noise / power, power, noise), bits * 5e6, rel_tol=1e-9)


def test_shannon_rate_is_used_by_a_scenario_without_a_rate():
    """Rates of a drawn trace, recomputed from the gains that were drawn (Eq. 13)."""
    channel = {"bandwidth": 2e6, "channel_gain": (3e-9, 9e-9), "noise_power": 2.3e-10}
    trace = draw_trace(load_scenario("balanced").replace(transmission_rate=None, **channel), 1, 0)
    assert 2e6 * math.log2(31) <= trace.rate.min() < trace.rate.max() <= 2e6 * math.log2(91)
    assert len(np.unique(trace.rate)) == trace.rate.size


# --- units, and one code for all ---------------------------------------------------------------------------------

S, BIT, CYCLE, JOULE, ONE = (1, 0, 0, 0), (0, 1, 0, 0), (0, 0, 1, 0), (0, 0, 0, 1), (0, 0, 0, 0)


def unit(**powers):
    """Powers of second, bit, cycle and joule."""
    return tuple(powers.get(name, 0) for name in ("s", "bit", "cycle", "joule"))


DENSITY, CLOCK, RATE = unit(cycle=1, bit=-1), unit(cycle=1, s=-1), unit(bit=1, s=-1)
WATT, CAPACITANCE = unit(joule=1, s=-1), unit(joule=1, s=2, cycle=-3)
UNITS = {
    model.waiting_delay: ([ONE, ONE], ONE),
    model.computing_delay: ([BIT, DENSITY, CLOCK, S], ONE),
    model.completion_slot: ([ONE, ONE, ONE, ONE], ONE),
    model.total_energy: ([JOULE, JOULE], JOULE),
    model.waiting_energy: ([WATT, ONE, S], JOULE),
    model.computing_power: ([CAPACITANCE, CLOCK], WATT),
    model.computing_energy: ([CAPACITANCE, CLOCK, BIT, DENSITY], JOULE),
    model.energy_of_power: ([WATT, S], JOULE),
    model.device_load: ([BIT, DENSITY, CLOCK, S], ONE),
    model.transmission_rate: ([RATE, ONE, WATT, WATT], RATE),  # the logarithm of the print is in bits a cycle
    model.transmission_delay: ([BIT, RATE, S], ONE),
    model.transmission_energy: ([WATT, BIT, RATE], JOULE),
    model.edge_delay: ([ONE, ONE, BIT, DENSITY, CLOCK, S], ONE),
    model.edge_energy: ([JOULE, JOULE], JOULE),
}
BY_NAME = pytest.mark.parametrize("function", UNITS, ids=lambda function: function.__name__)


def exact(function, arguments):
    """The function without rounding up and without a cap, which hide the units."""
    rounds = function in (model.computing_delay, model.transmission_delay, model.edge_delay)
    free = [False] if rounds else [math.inf] if function is model.device_load else []
    return np.asarray(function(*arguments, *free), float)


@BY_NAME
def test_equations_agree_in_their_units(function, rng):
    """Measured in other units, every argument and the result change by what their units say."""
    sizes = np.array([3.0, 7.0, 0.3, 11.0])  # another second, bit, cycle and joule
    arguments, result = UNITS[function]
    values = rng.uniform(0.5, 2.0, len(arguments))
    rescaled = [
        value * np.prod(sizes ** np.array(power, float)) for value, power in zip(values, arguments, strict=True)
    ]
    expected = exact(function, values) * np.prod(sizes ** np.array(result, float))
    assert np.allclose(exact(function, rescaled), expected, rtol=1e-12)


@BY_NAME
def test_scalars_arrays_and_compiled_code_agree(function, rng):
    columns = rng.uniform(0.5, 20.0, (len(UNITS[function][0]), 6, 5))
    together = np.array(function(*columns))
    compiled = njit(function)
    for i, j in np.ndindex(6, 5):
        alone = function(*columns[:, i, j].tolist())
        assert np.allclose(together[..., i, j], alone, rtol=1e-14, atol=0)
        assert np.allclose(compiled(*columns[:, i, j].tolist()), alone, rtol=1e-14, atol=0)


# --- sums over an episode ----------------------------------------------------------------------------------------


def recorded(scenario, trace, actions):
    simulator = Simulator(scenario, record=True)
    simulator.run(trace, actions)
    return simulator.tasks


def test_sums_of_a_recorded_episode(rng):
    """Task by task in plain loops, with the energies recomputed from delays and powers (Eqs. 5, 11, 15, 17, 19, 24)."""
    scenario = load_scenario("balanced", devices=4, servers=2, slots=30, dropped_energy="full")
    trace = draw_trace(scenario, 2, 3)
    actions = rng.integers(3, size=trace.size.shape)
    tasks = recorded(scenario, trace, actions)
    totals = model.episode_totals(tasks, STEP)
    for b in range(2):
        sums = dict.fromkeys(totals, 0.0)
        for t, m in np.ndindex(30, 4):
            task, size = tasks[b, t, m], trace.size[b, t, m]
            if size == 0:
                continue
            place = "local" if actions[b, t, m] == 0 else "edge"
            clock = (
                trace.device_frequency[b, m] if place == "local" else trace.server_frequency[b, actions[b, t, m] - 1]
            )
            sums[f"{place}_delay"] += 0.1 * (task["wait_slots"] + task["computing_slots"])
            sums[f"{place}_energy"] += task["waiting_energy"] + 1e-26 * clock**3 * (
                trace.density[b, t, m] * size / clock
            )
            if place == "edge":
                sums["transmission_delay"] += 0.1 * (task["transmission_slots"] + task["transmission_wait_slots"])
                sums["transmission_energy"] += 2.3 * size / 14e6
        for name, value in sums.items():
            assert value > 0 and math.isclose(totals[name][b], value, rel_tol=1e-9), name
    delays = totals["local_delay"] + totals["transmission_delay"] + totals["edge_delay"]
    assert np.allclose(delays, 0.1 * tasks["delay_slots"].sum((1, 2)))


def test_sums_of_the_toy_episode_by_hand():
    """Its first two slots (Eqs. 5, 11, 15, 17, 19, 24).

    Device 0 computes twice for two slots and waits for one. Device 1 sends 4 Mbit in two slots, then waits one for
    the channel and sends 2 Mbit in one. Server 1 needs half a slot for the first task and one for the second, which
    finds it free.
    """
    tasks = recorded(toy_scenario(network="episode"), toy_trace(), TOY_ACTIONS[None])[:, :2]
    totals = {name: float(value[0]) for name, value in model.episode_totals(tasks, STEP).items()}
    assert math.isclose(totals["local_delay"], 0.1 * (2 + (1 + 2)))
    assert math.isclose(totals["transmission_delay"], 0.1 * (2 + (1 + 1)))
    assert math.isclose(totals["edge_delay"], 0.1 * (0.5 + 1.0))
    assert math.isclose(totals["local_energy"], 640 * 0.4 + 0.1 * 0.1)
    assert math.isclose(totals["transmission_energy"], 2.3 * (0.2 + 0.1))
    assert math.isclose(totals["edge_energy"], 1e-26 * 40e9**3 * 0.15)
