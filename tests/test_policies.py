"""Policies without learning: each rule on a hand-made observation, and what they are known to do."""

import numpy as np
import pytest
from aiecof_book.toy import toy_scenario, toy_trace

from aiecof.agents.policies import episode_metrics, evaluate
from aiecof.agents.rules import COORDINATED, NOTHING, OWN, POLICIES, longest_service_slots, make_policy
from aiecof.checks import InvalidInput
from aiecof.system.observations import observation_fields, read_observations
from aiecof.system.scenario import load_scenario
from aiecof.system.simulator import Simulator
from aiecof.system.workload import draw_trace

BALANCED = load_scenario("balanced")
FIVE = load_scenario("balanced", devices=5, servers=3)
EVERY = pytest.mark.parametrize("name", POLICIES)


def observation(scenario, episodes=1, **fields):
    """Observations in which the named fields have the given values, and who has a task; by default an easy one."""
    shape = (episodes, scenario.devices)
    task = {"task_index": 1, "size": 2e6, "workload": 0.4e9, "deadline_slots": scenario.tau_max_slots}
    network = {"server_frequency": 40e9, "device_frequency": 4e9}
    layout = observation_fields(scenario)
    observations = np.zeros((*shape, max(columns.stop for columns, _ in layout.values())), np.float32)
    for name, (columns, scale) in layout.items():
        value = np.asarray((task | network | fields).get(name, 0.0), float)
        width = columns.stop - columns.start
        value = value if value.ndim and value.shape[-1] == width else value[..., None]
        observations[..., columns] = np.broadcast_to(value, (*shape, width)) / scale
    return observations, observations[..., 0] > 0


def actions(name, scenario=FIVE, episodes=1, parameters=None, **fields):
    policy = make_policy(name, scenario, 3, **parameters or {})
    policy.reset(episodes)
    chosen = policy(*observation(scenario, episodes, **fields))
    assert chosen.shape == (episodes, scenario.devices) and chosen.dtype == np.int64
    return chosen


# --- the registry ------------------------------------------------------------------------------------------------


def test_every_policy_says_what_it_knows():
    assert all(entry.information in (NOTHING, OWN, COORDINATED) and entry.description for entry in POLICIES.values())
    assert {"random", "round-robin", "always-local", "greedy", "threshold-power-of-two"} <= set(POLICIES)


@EVERY
def test_a_policy_sees_no_more_than_it_says(name):
    """A blind one ignores observations; one that sees its own does not notice what the others see."""
    information = POLICIES[name].information
    rng = np.random.default_rng(0)
    wait, backlog = rng.integers(0, 9, (1, 5)), rng.uniform(0, 8, (1, 5, 3))
    before = actions(name, wait_slots=wait, backlog_slots=backlog)[0, -1]
    wait[0, :-1] = 8 - wait[0, :-1]
    if information == NOTHING:
        wait[0, -1], backlog[0, -1] = 8, 8 - backlog[0, -1]
    if information != COORDINATED:
        assert actions(name, wait_slots=wait, backlog_slots=backlog)[0, -1] == before


@EVERY
@pytest.mark.parametrize("scenario", ["table-iii", "fitted", "balanced"])
def test_equal_seeds_give_equal_runs(name, scenario):
    scenario = load_scenario(scenario, devices=6, servers=3, slots=25)
    trace = draw_trace(scenario, 3, 1)
    runs = [evaluate(make_policy(name, scenario, seed), scenario, trace, record=True).tasks for seed in (5, 5, 6)]
    assert runs[0].tobytes() == runs[1].tobytes()
    if scenario.name == "balanced":
        uses_chance = name.endswith(("random", "power-of-two"))
        assert (runs[0].tobytes() != runs[2].tobytes()) == uses_chance


@EVERY
def test_an_episode_does_not_depend_on_its_batch(name):
    scenario = load_scenario("balanced", devices=6, servers=3, slots=25)
    policy, trace = make_policy(name, scenario, 2), draw_trace(scenario, 4, 1)
    together = evaluate(policy, scenario, trace, record=True).tasks
    apart = [evaluate(policy, scenario, trace[b : b + 1], record=True, first=b).tasks for b in (2, 0, 3, 1)]
    for b, alone in zip((2, 0, 3, 1), apart, strict=True):
        assert alone[0].tobytes() == together[b].tobytes()


def test_metrics_are_those_of_one_batch(monkeypatch):
    scenario = load_scenario("balanced", devices=20, servers=3, slots=50)
    policy, told = make_policy("random", scenario, 4), []
    whole = evaluate(policy, scenario, draw_trace(scenario, 5, 4)).metrics()
    monkeypatch.setattr("aiecof.agents.policies.BATCH", 2 * 20 * 50)
    parts = episode_metrics(policy, scenario, 5, 4, progress=told.append)
    assert told == [2, 4, 5]
    assert all(np.array_equal(parts[name], whole[name]) for name in whole)


@pytest.mark.parametrize(
    ("arguments", "field"),
    [
        (("nonsense", FIVE), "policy"),
        ((None, FIVE), "policy"),
        (("random", FIVE, -1), "seed"),
        (("random", FIVE, 1.5), "seed"),
    ],
)
def test_bad_input_is_refused(arguments, field):
    with pytest.raises(InvalidInput) as caught:
        make_policy(*arguments)
    assert caught.value.args[0] == field


@pytest.mark.parametrize("value", [-1, np.nan, np.inf, "3", True])
def test_bad_parameters_are_refused(value):
    with pytest.raises(InvalidInput, match="threshold_slots"):
        make_policy("threshold-random", FIVE, threshold_slots=value)
    with pytest.raises(InvalidInput, match=r"always-local.threshold_slots.*none"):
        make_policy("always-local", FIVE, threshold_slots=3)
    with pytest.raises(InvalidInput, match="levels"):
        make_policy("random", FIVE, levels=value)
    for name in ("places", "order"):
        with pytest.raises(InvalidInput, match=name):
            make_policy("round-robin", FIVE, **{name: value})


def test_observations_of_another_scenario_or_batch_are_refused():
    policy = make_policy("random", FIVE)
    for other in (FIVE.replace(servers=4), FIVE.replace(devices=4), FIVE.replace(observation="printed")):
        with pytest.raises(InvalidInput, match="observations"):
            policy(*observation(other))
    with pytest.raises(InvalidInput, match="1 episodes"):
        policy(*observation(FIVE, 2))


# --- what they see -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("workload", ["per_task", "per_bit"])
@pytest.mark.parametrize("shown", ["printed", "extended"])
def test_observations_are_read_back(workload, shown):
    """What a policy reads is what the trace and the simulator hold."""
    work = {"workload_range": (200.0, 300.0), "workload_scale": 1.0} if workload == "per_bit" else {}
    scenario = FIVE.replace(workload=workload, observation=shown, network="episode", **work)
    trace = draw_trace(scenario, 2, 0)
    simulator = Simulator(scenario)
    observations = simulator.reset(trace)
    for _ in range(4):
        observations, _, _ = simulator.step(np.tile(np.arange(5) % 4, (2, 1)))
    seen = read_observations(scenario, observations, simulator.has_task)
    has_task = trace.has_task[:, 4]
    assert np.allclose(seen.size, trace.size[:, 4], rtol=1e-6)
    assert np.allclose(seen.density[has_task], trace.density[:, 4][has_task], rtol=1e-5)
    assert (
        np.allclose(seen.wait_slots, np.maximum(simulator.device_end - 3, 0), atol=1e-5) and seen.wait_slots.max() > 0
    )
    assert np.allclose(seen.backlog_slots[:, 2], np.maximum(simulator.server_end - 3, 0), atol=1e-5)
    assert np.allclose(seen.server_frequency[:, 1], trace.server_frequency)
    own = trace.device_frequency if shown == "extended" else np.full((2, 5), 4e9)
    assert np.allclose(seen.device_frequency, own)
    assert (seen.channel_wait_slots.max() > 0) == (shown == "extended")


# --- the rules, one by one ---------------------------------------------------------------------------------------


def test_random_is_uniform():
    counts = np.bincount(actions("random", BALANCED, episodes=600).ravel(), minlength=9)
    expected = 600 * 30 / 9
    assert np.sum((counts - expected) ** 2 / expected) < 26.1  # chi-square, 8 degrees of freedom: one in a thousand


def test_round_robin_cycles_over_the_tasks_of_each_device():
    policy = make_policy("round-robin", FIVE)
    observations, _ = observation(FIVE)
    has_task = np.array([[True, True, False, True, True]])
    taken = [policy(observations, has_task if slot % 2 else ~has_task)[0] for slot in range(8)]
    assert [row[1] for row in taken[1::2]] == [1, 2, 3, 0]
    assert [row[4] for row in taken[1::2]] == [0, 1, 2, 3]
    assert [row[2] for row in taken[::2]] == [2, 3, 0, 1]
    policy.reset(1)
    assert policy(observations, has_task)[0].tolist() == [0, 1, 2, 3, 0]


@pytest.mark.parametrize(
    ("parameters", "slots"),
    [
        ({"places": "all_but_one"}, [[0, 1, 2, 0, 1], [0, 2, 0, 0, 2]]),
        ({"places": "servers"}, [[1, 2, 3, 1, 2], [1, 3, 1, 1, 3]]),
        ({"order": "first"}, [[0, 0, 0, 0, 0], [0, 1, 1, 0, 1]]),
        ({"order": "slot"}, [[0, 1, 2, 3, 0], [1, 2, 3, 0, 1]]),
        ({"order": "shared"}, [[0, 0, 1, 2, 2], [3, 3, 0, 1, 1]]),
        ({"order": "shared", "places": "servers"}, [[1, 1, 2, 3, 3], [1, 1, 2, 3, 3]]),
    ],
)
def test_round_robin_goes_around_other_places_in_other_orders(parameters, slots):
    """By hand: three servers; devices 1, 2 and 4 have a task, so only theirs and their successors' circles move."""
    policy = make_policy("round-robin", FIVE, **parameters)
    observations, _ = observation(FIVE)
    has_task = np.array([[False, True, True, False, True]])
    assert [policy(observations, has_task)[0].tolist() for _ in slots] == slots


def test_random_of_two_levels_stays_with_one_half():
    places = actions("random", BALANCED, 600, {"levels": 2}).ravel()
    expected = np.array([1 / 2] + [1 / 16] * 8) * places.size
    assert np.sum((np.bincount(places, minlength=9) - expected) ** 2 / expected) < 26.1  # as above


def test_round_robin_uses_every_place_equally_often():
    scenario = load_scenario("balanced", arrival_probability=1.0, slots=90)
    places = evaluate(make_policy("round-robin", scenario), scenario, draw_trace(scenario, 1), record=True).tasks[
        "place"
    ]
    for m in range(30):
        assert np.bincount(places[0, :, m], minlength=9).tolist() == [10] * 9


def test_always_local_and_never_local():
    assert not actions("always-local", wait_slots=100).any()
    assert actions("least-loaded", wait_slots=0, backlog_slots=[3, 1, 2]).tolist() == [[2] * 5]


@pytest.mark.parametrize("name", [name for name in POLICIES if name.startswith("threshold")])
@pytest.mark.parametrize("tau", [7, 8])
def test_a_threshold_is_included(name, tau):
    """Also where the wait, divided by tau in single precision, does not come back as a whole number."""
    scenario = FIVE.replace(tau_max_slots=tau)
    for threshold in range(tau):
        waits = threshold + np.array([-1, 0, 0, 1, 2])
        away = actions(name, scenario, parameters={"threshold_slots": threshold}, wait_slots=waits[None])[0] > 0
        assert away.tolist() == [False, False, False, True, True]


def test_a_device_without_a_task_offloads_nothing():
    for name in ("threshold-spread", "least-loaded", "greedy-coordinated"):
        assert not actions(name, task_index=0, size=0, workload=0, wait_slots=9).any()


@pytest.mark.parametrize(
    ("scenario", "longest", "threshold"), [("balanced", 3, 5), ("fitted", 1.8, 5.2), ("table-iii", 10, 10)]
)
def test_the_default_threshold_leaves_room_for_the_longest_task(scenario, longest, threshold):
    """750 Mcycles at 3 GHz are 2.5 slots, rounded up; 540 are 1.8; 3000 are 10."""
    scenario = load_scenario(scenario)
    assert np.isclose(longest_service_slots(scenario), longest)
    assert np.isclose(make_policy("threshold-random", scenario).threshold_slots, threshold)
    assert make_policy("threshold-random", scenario.replace(tau_max_slots=1)).threshold_slots == 0


def test_by_default_no_local_task_of_a_threshold_is_late():
    scenario = load_scenario("balanced", network="episode")
    policy = make_policy("threshold-random", scenario)
    tasks = evaluate(policy, scenario, draw_trace(scenario, 20), record=True).tasks
    assert not np.any((tasks["place"] == 0) & (tasks["fate"] == 2)) and np.any(tasks["fate"] == 2)
    looser = make_policy("threshold-random", scenario, threshold_slots=policy.threshold_slots + 1)
    tasks = evaluate(looser, scenario, draw_trace(scenario, 20), record=True).tasks
    assert np.any((tasks["place"] == 0) & (tasks["fate"] == 2))


def test_threshold_random_uses_every_server():
    chosen = actions("threshold-random", BALANCED, episodes=300, wait_slots=8)
    counts = np.bincount(chosen.ravel(), minlength=9)
    assert counts[0] == 0 and np.sum((counts[1:] - 1125) ** 2 / 1125) < 24.3  # 7 degrees of freedom


def test_least_loaded_devices_herd():
    """All devices of a slot see the same queues, so they all pick the same server."""
    chosen = actions("threshold-least-loaded", wait_slots=[[0, 8, 8, 8, 8]], backlog_slots=[4.0, 3.5, 9.0])
    assert chosen.tolist() == [[0, 2, 2, 2, 2]]


def test_power_of_two_takes_the_better_of_two():
    backlog = np.arange(8.0)[::-1]  # server 8 is idle, server 1 the longest queue
    chosen = actions("threshold-power-of-two", BALANCED, episodes=2000, wait_slots=8, backlog_slots=backlog)
    shares = np.bincount(chosen.ravel(), minlength=9) / chosen.size
    # Of 28 pairs of different servers, k - 1 have server k as the better one; the worst is never taken.
    assert shares[0] == shares[1] == 0
    assert np.allclose(shares[1:], np.arange(8) / 28, atol=0.006)


def test_power_of_two_looks_at_two_servers_only():
    """Whatever the backlog of the other servers, the same two are compared."""
    ranks = [np.arange(8.0), np.arange(8.0)[::-1]]
    low, high = (actions("threshold-power-of-two", BALANCED, wait_slots=8, backlog_slots=rank) for rank in ranks)
    assert np.all(low < high)
    for server in range(1, 9):
        backlog = np.where(np.arange(1, 9) == server, 0.0, ranks[0] + 1.0)
        chosen = actions("threshold-power-of-two", BALANCED, wait_slots=8, backlog_slots=backlog)
        assert np.array_equal(chosen == server, (low == server) | (high == server))


def test_one_server_is_enough_for_every_rule():
    scenario = load_scenario("balanced", devices=3, servers=1, slots=10)
    for name in POLICIES:
        evaluate(make_policy(name, scenario), scenario, draw_trace(scenario, 2))
    assert actions("threshold-power-of-two", scenario, wait_slots=8).tolist() == [[1, 1, 1]]


def test_spread_takes_every_server_before_one_twice():
    backlog = np.array([[3.0, 0.5, 7.0, 0.5, 2.0, 9.0, 1.0, 4.0]])
    wait = np.full((1, 30), 8.0)
    wait[0, [0, 3, 4]] = 0.0
    chosen = actions("threshold-spread", BALANCED, wait_slots=wait, backlog_slots=backlog[:, None])[0]
    assert chosen[[0, 3, 4]].tolist() == [0, 0, 0]
    away = chosen[chosen > 0]
    assert away[:8].tolist() == [2, 4, 7, 5, 1, 8, 3, 6]  # by backlog, then by number
    assert away.tolist() == (away[:8].tolist() * 4)[:27]


def test_spread_counts_each_episode_for_itself():
    backlog = np.array([[[1.0, 2.0, 3.0]], [[3.0, 2.0, 1.0]]])
    chosen = actions("threshold-spread", episodes=2, wait_slots=8, backlog_slots=backlog)
    assert chosen.tolist() == [[1, 2, 3, 1, 2], [3, 2, 1, 3, 2]]


# --- predicted completion ----------------------------------------------------------------------------------------


def test_greedy_by_hand():
    """0.8 Gcycles take 2 slots at 4 GHz and 0.2 at 40 GHz; 4 Mbit take 3 slots at 14 Mbit/s."""
    task = {"size": 4e6, "workload": 0.8e9}
    # Local: wait + 2. Servers: the later of arrival (channel + 3) and backlog, plus 0.2.
    waits = np.array([[0.0, 1.0, 2.0, 5.0, 7.0]])
    assert actions("greedy", **task, wait_slots=waits, backlog_slots=[3.5, 9, 9]).tolist() == [[0, 0, 1, 1, 1]]
    assert actions("greedy", **task, wait_slots=waits, backlog_slots=[9, 5.5, 9]).tolist() == [[0, 0, 0, 2, 2]]
    busy = {"channel_wait_slots": [3.0, 0.0, 0.0]}
    assert actions("greedy", **task, **busy, wait_slots=9, backlog_slots=[0, 3.1, 4]).tolist() == [[2] * 5]
    faster = {"server_frequency": [30e9, 30e9, 41e9]}
    assert actions("greedy", **task, **faster, wait_slots=9).tolist() == [[3] * 5]
    slower = {"device_frequency": [[3e9, 3e9, 4e9, 4e9, 5e9]]}  # 2.67, so 3 slots; 2; 1.6, so 2
    assert actions("greedy", **task, **slower, wait_slots=1).tolist() == [[1, 1, 0, 0, 0]]


def test_greedy_does_not_see_its_clock_in_the_printed_state():
    printed = FIVE.replace(observation="printed", device_frequency=(1e9, 7e9))
    assert actions("greedy", printed, size=4e6, workload=0.8e9, wait_slots=1).tolist() == [[0] * 5]
    assert actions("greedy", printed, size=4e6, workload=0.8e9, wait_slots=2).tolist() == [[1] * 5]


def test_greedy_without_a_rate_takes_the_middle_of_the_channel():
    """A gain between 1 and 5 in units of noise over power is 3 in the middle: two bits a second for each hertz."""
    channel = {"bandwidth": 7e6, "channel_gain": (1 / 2.3, 5 / 2.3), "noise_power": 1.0}
    scenario = FIVE.replace(transmission_rate=None, **channel)
    policy = make_policy("greedy", scenario)
    _, arrival, _ = policy.predict(read_observations(scenario, *observation(scenario, size=4e6)))
    assert np.allclose(arrival, 3)


def test_greedy_predictions_come_true_for_a_device_alone():
    """One device, nobody else: every task completes when it was predicted to, in the best of the places."""
    scenario = toy_scenario(devices=1, servers=2, tau_max_slots=8, slots=40, network="episode")
    policy, trace = make_policy("greedy", scenario), draw_trace(scenario, 8, 2)
    simulator = Simulator(scenario, record=True)
    observations, predicted = simulator.reset(trace), np.full(trace.size.shape, np.nan)
    policy.reset(8)
    while not simulator.done:
        seen = read_observations(scenario, observations, simulator.has_task)
        local, arrival, service = policy.predict(seen)
        edge = np.maximum(arrival, seen.backlog_slots) + service
        predicted[:, simulator.slot] = np.minimum(local, edge.min(-1))
        observations, _, _ = simulator.step(policy(observations, simulator.has_task))
    done = simulator.tasks["fate"] == 1
    assert done.sum() > 100
    assert np.allclose(simulator.tasks["delay_slots"][done], predicted[done], atol=1e-4)


def test_coordinated_greedy_reckons_with_the_decisions_before_it():
    """Five tasks of 0.2 slots at 30 GHz that reach the servers together, after two slots."""
    task = {"size": 2e6, "workload": 0.6e9, "server_frequency": 30e9, "wait_slots": 9}
    assert actions("greedy", **task).tolist() == [[1] * 5]
    assert actions("greedy-coordinated", **task).tolist() == [[1, 2, 3, 1, 2]]
    # They would finish at 2.2 and 2.5; 2.4 and 2.5; 2.6 and 2.5; 2.6 and 2.7; 2.8 and 2.7.
    uneven = {"backlog_slots": [2.0, 2.3, 9.0]}
    assert actions("greedy-coordinated", **task, **uneven).tolist() == [[1, 1, 2, 1, 2]]


def test_coordinated_greedy_books_nothing_for_a_task_lost_on_its_channel():
    """10 Mbit need eight slots, of which there are three; the next task finds server 1 as it was."""
    scenario = FIVE.replace(tau_max_slots=3)
    chosen = actions("greedy-coordinated", scenario, size=[[10e6] + [2e6] * 4], wait_slots=30, backlog_slots=[0, 1, 30])
    assert chosen[0, :2].tolist() == [1, 1]


# --- what is known of them ---------------------------------------------------------------------------------------


def test_what_rules_are_worth_on_the_balanced_load():
    metrics = {name: episode_metrics(make_policy(name, BALANCED), BALANCED, 20) for name in POLICIES}
    drop = {name: float(values["drop_rate"].mean()) for name, values in metrics.items()}
    # Neither side can carry the load alone, so deciding matters.
    assert 0.10 < drop["random"] < 0.18 and drop["always-local"] > 0.25 and drop["least-loaded"] > 0.4
    for name in ("threshold-random", "threshold-power-of-two", "threshold-spread", "greedy", "greedy-coordinated"):
        assert np.all(metrics[name]["drop_rate"] < metrics["random"]["drop_rate"])
    assert drop["threshold-spread"] < drop["threshold-random"] and drop["greedy"] < drop["threshold-spread"]
    assert metrics["greedy-coordinated"]["delay"].mean() < metrics["greedy"]["delay"].mean()
    assert metrics["always-local"]["local_share"].tolist() == [1.0] * 20
    assert metrics["least-loaded"]["local_share"].tolist() == [0.0] * 20


def test_every_rule_runs_on_the_toy_trace():
    for name in POLICIES:
        simulator = evaluate(make_policy(name, toy_scenario()), toy_scenario(), toy_trace(), record=True)
        assert simulator.done and np.array_equal(simulator.tasks["fate"] > 0, toy_trace().has_task)
