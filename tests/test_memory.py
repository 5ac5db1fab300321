"""Memories remember: a task that nothing else solves, whose answer is known, and a rule that remembers by hand."""

import numpy as np
import pytest
import torch as th
from aiecof_book.recall import CueVecEnv, RemembersChannels, learn_cue
from stable_baselines3.common.vec_env import VecEnv, VecFrameStack

from aiecof.agents.methods import method
from aiecof.agents.networks import NoDecisionWithoutTask
from aiecof.agents.policies import evaluate
from aiecof.agents.rules import make_policy
from aiecof.checks import InvalidInput
from aiecof.system.observations import SERVERS, SIZE
from aiecof.system.scenario import load_scenario
from aiecof.system.workload import draw_trace

SEEDS = range(3)
SURE, CHANCE = 0.95, (0.4, 0.6)
"""Shares of right answers among 750: of who remembers, and five standard errors to either side of one in two."""


def late(name, seed, **changes):
    """Share of right answers in the last ten episodes of a training."""
    return learn_cue(name, seed, **changes)[-10:].mean()


def played(env: VecEnv, answer):
    """Observations (T, rows, F), rewards (T, rows) and the ends (T, rows) of an episode with one kind of answer."""
    seen, rewards, ends = [env.reset()], [], []
    while not ends or not ends[-1].any():
        observations, reward, done, infos = env.step(answer(seen))
        seen.append(observations)
        rewards.append(reward)
        ends.append(done)
    return np.array(seen[:-1]), np.array(rewards), np.array(ends), infos


def remembered(seen):
    """The cue of the first slot."""
    return np.argmax(seen[0][:, SERVERS:], axis=1)


def test_a_cue_is_shown_once_and_asked_for_at_the_end():
    env = CueVecEnv(rows=400, cues=4, delay=5, seed=1)
    seen, rewards, ends, infos = played(env, remembered)
    assert seen.shape[:2] == (6, 400)
    assert (seen[0, :, SERVERS:].sum(axis=1) == 1).all() and not seen[1:, :, SERVERS:].any()
    np.testing.assert_allclose(seen[0, :, SERVERS:].mean(axis=0), 0.25, atol=0.1)
    np.testing.assert_array_equal(NoDecisionWithoutTask().decides(th.as_tensor(seen)).sum(0), 1)
    assert (seen[-1, :, SIZE] == 1).all()
    np.testing.assert_array_equal(rewards.sum(axis=0), 1)
    np.testing.assert_array_equal(np.flatnonzero(ends.all(axis=1)), [5])
    assert not ends[:-1].any()
    np.testing.assert_array_equal(infos[7]["terminal_observation"], 6 / 6 * np.eye(SERVERS + 4)[0])


def test_who_does_not_remember_is_right_by_chance():
    env = CueVecEnv(rows=2000, cues=4, delay=5)
    played(env, lambda seen: np.zeros(2000, int))
    played(env, remembered)
    assert env.right == [pytest.approx(0.25, abs=0.05), 1.0]


def test_cues_are_drawn_anew_and_repeat_with_the_seed():
    first, second, other = (CueVecEnv(rows=50, seed=seed) for seed in (3, 3, 4))
    for _ in range(2):
        np.testing.assert_array_equal(first.reset(), second.reset())
    assert (first.reset() != other.reset()).any() and (first.reset() != first.reset()).any()


def test_four_stacked_observations_reach_as_far_as_they_say():
    """Within reach of the stack the cue stands in the last observation, beyond it does not."""
    for delay, there in ((3, True), (4, False)):
        env = VecFrameStack(CueVecEnv(rows=8, delay=delay), 4)
        seen, *_ = played(env, lambda seen: np.zeros(8, int))
        cues = seen[-1].reshape(8, 4, -1)[:, :, SERVERS:]
        assert cues.any() == there


@pytest.mark.parametrize(
    ("field", "values"),
    [("rows", {"rows": 0}), ("cues", {"cues": 1}), ("delay", {"delay": 0}), ("seed", {"seed": -1})],
)
def test_bad_input_is_refused(field, values):
    with pytest.raises(InvalidInput, match=field):
        CueVecEnv(**values)


def test_answers_of_another_shape_are_refused():
    env = CueVecEnv(rows=3)
    env.reset()
    with pytest.raises(InvalidInput, match="actions"):
        env.step(np.zeros(2, int))


@pytest.mark.slow
@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("name", ["toppo", "toppo-transformer"])
def test_a_memory_learns_to_remember(name, seed):
    assert late(name, seed) > SURE


@pytest.mark.slow
@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("name", ["ppo", "ppo-stacked"])
def test_without_a_memory_there_is_nothing_to_learn(name, seed):
    assert CHANCE[0] < late(name, seed) < CHANCE[1]


@pytest.mark.slow
@pytest.mark.parametrize("seed", SEEDS)
def test_a_stack_that_reaches_back_to_the_cue_is_memory_enough(seed):
    assert late("ppo-stacked", seed, delay=3) > SURE


@pytest.mark.slow
@pytest.mark.parametrize("seed", SEEDS)
def test_an_lstm_that_begins_by_forgetting_does_not_learn_across_the_border_of_its_sequences(seed):
    """Its state crosses it, but what was heard is gone by then, and no gradient says to keep it (R38)."""
    assert CHANCE[0] < late("toppo", seed, sequence_length=6) < CHANCE[1]


@pytest.mark.slow
@pytest.mark.parametrize("seed", SEEDS)
def test_one_that_begins_by_keeping_does(seed):
    """What arrives need only be read, which gradients within a sequence can teach. It may be lost again later on."""
    curve = learn_cue("toppo", seed, sequence_length=6, policy_kwargs={"forget_bias": 2.0})
    assert np.convolve(curve, np.full(3, 1 / 3), "valid").max() > SURE


@pytest.mark.slow
def test_thirty_slots_are_too_long_for_an_lstm_that_begins_by_forgetting():
    """Not for want of gradients: the sequence is whole. The same network that begins by keeping learns it."""
    assert CHANCE[0] < late("toppo", 0, delay=29) < CHANCE[1]
    assert late("toppo", 0, delay=29, policy_kwargs={"forget_bias": 2.0}) > SURE


def network(**changes):
    """The untrained network of TOPPO on the task."""
    values = {"n_steps": 12, "batch_size": 12, "sequence_length": 12, "policy_kwargs": changes}
    return method("toppo").build(CueVecEnv(), 0, **values).policy


def test_a_forget_bias_moves_the_forget_gates_of_both_lstms_and_nothing_else():
    plain, keeping = (network(**changes).state_dict() for changes in ({}, {"forget_bias": 2.0}))
    moved = {name: (keeping[name] - plain[name]) for name in plain if not keeping[name].equal(plain[name])}
    assert {*moved} == {"lstm_actor.bias_ih_l0", "lstm_critic.bias_ih_l0"}
    for change in moved.values():
        gates = change.view(4, -1)  # PyTorch's order: input, forget, cell, output
        np.testing.assert_allclose(gates[1], 2.0, atol=1e-6)
        assert not gates[[0, 2, 3]].any()


@pytest.mark.parametrize("value", [-1.0, "much", float("nan")])
def test_a_forget_bias_is_a_number(value):
    with pytest.raises(InvalidInput, match="forget_bias"):
        network(forget_bias=value)


@pytest.mark.slow
def test_a_transformer_learns_across_the_border_of_sequences():
    """It carries the observations themselves, so that it does not matter in which sequence they stand."""
    assert late("toppo-transformer", 0, sequence_length=6) > SURE


def test_a_rule_that_remembers_its_channels_does_better_where_they_fade():
    scenario = load_scenario("fading", fading_slots=300)
    trace = draw_trace(scenario, 4, seed=5)
    rules = RemembersChannels(scenario), make_policy("threshold-random", scenario, threshold_slots=2.0)
    mine, blind = (evaluate(rule, scenario, trace).metrics()["reward"] for rule in rules)
    assert (mine > blind + 2.0).all()


def test_beliefs_follow_what_is_heard():
    """After an answer as late as a bad channel would give it the belief is high, after one in time low."""
    scenario = load_scenario("fading", fading_slots=1e6)
    trace = draw_trace(scenario, 4, seed=5)
    rule = RemembersChannels(scenario)
    evaluate(rule, scenario, trace)
    bad = trace.fade[:, -1] < 1.0
    asked = np.abs(rule.bad - 0.5) > 0.4
    assert asked.mean() > 0.5
    assert ((rule.bad > 0.5) == bad)[asked].mean() > 0.8


def test_what_is_remembered_ends_with_the_episode():
    scenario = load_scenario("fading", slots=20)
    trace, rule = draw_trace(scenario, 2, seed=5), RemembersChannels(scenario)
    first, second = (evaluate(rule, scenario, trace).metrics()["reward"] for _ in range(2))
    np.testing.assert_array_equal(first, second)


def test_a_rule_that_remembers_needs_answers():
    with pytest.raises(InvalidInput, match="observation"):
        RemembersChannels(load_scenario("balanced"))
