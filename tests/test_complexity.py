"""Counts of parameters and multiply-adds, by hand and by torch's own counter."""

import pytest
import torch as th
from aiecof_book.complexity import gradient_multiply_adds, layers, printed_multiply_adds, rollout_multiply_adds
from stable_baselines3.common.callbacks import BaseCallback
from torch.utils.flop_counter import FlopCounterMode

from aiecof.agents.methods import METHODS
from aiecof.agents.networks import trainable_parameters
from aiecof.checks import InvalidInput
from aiecof.envs import OffloadingVecEnv
from aiecof.system.scenario import load_scenario

th.set_num_threads(1)


@pytest.fixture
def model():
    """A tiny TOPPO: 12 entries of an observation, 5 hidden units, layers of 4 and 3, 3 actions."""
    env = OffloadingVecEnv(load_scenario("balanced", devices=3, servers=2, slots=20), seed=1)
    network = {"lstm_hidden_size": 5, "net_arch": [4, 3]}
    return METHODS["toppo"].build(env, 0, sequence_length=5, batch_size=60, target_kl=None, policy_kwargs=network)


def counted(run) -> int:
    """Multiply-adds of a call as torch counts them; its fused LSTM, which it does not see into, is switched off."""
    with th.backends.mkldnn.flags(enabled=False), FlopCounterMode(display=False) as counter:
        run()
    operations = counter.get_total_flops()
    assert operations % 2 == 0
    return operations // 2


def test_a_tiny_network_is_counted_by_hand(model):
    actor = [layer for layer in layers(model.policy) if layer.network == "actor"]
    assert [(layer.kind, layer.inputs, layer.outputs) for layer in actor] == [
        ("LSTM", 12, 5),
        ("Linear", 17, 4),
        ("Linear", 4, 3),
        ("Linear", 3, 3),
    ]
    assert [layer.multiply_adds for layer in actor] == [4 * (12 * 5 + 5 * 5), 17 * 4, 4 * 3, 3 * 3]
    assert [layer.parameters for layer in actor] == [4 * (12 * 5 + 5 * 5 + 2 * 5), 18 * 4, 5 * 3, 4 * 3]
    assert printed_multiply_adds(actor) == 5 * 5 + 17 * 4 + 4 * 3 + 3 * 3


def test_the_layers_hold_all_parameters(model):
    assert sum(layer.parameters for layer in layers(model.policy)) == trainable_parameters(model.policy)
    assert trainable_parameters(model.policy) == sum(part.numel() for part in model.policy.parameters())


def test_a_target_network_does_not_count():
    policy = METHODS["dqn"].build(OffloadingVecEnv("balanced", devices=3), 0).policy
    assert trainable_parameters(policy) == sum(part.numel() for part in policy.q_net.parameters())


@pytest.mark.parametrize("length", [1, 5, 20])
def test_a_gradient_step_is_what_torch_counts(model, length):
    policy = model.policy
    observations, state = th.rand(length, 7, policy.features_dim), policy.initial_state(7)
    actions = th.zeros(length, 7, dtype=th.long)

    def forward():
        return policy.evaluate_sequences(observations, actions, state, state)

    assert counted(forward) == 7 * length * sum(layer.multiply_adds for layer in layers(policy))
    expected = 7 * length * gradient_multiply_adds(layers(policy), length)
    assert counted(lambda: sum(part.sum() for part in forward()).backward()) == pytest.approx(expected)


class Still(BaseCallback):
    """A callback that only lets the training go on."""

    def _on_step(self):
        return True


def test_a_rollout_and_its_update_are_what_torch_counts(model):
    model._setup_learn(60)
    still = Still()
    still.init_callback(model)
    stages = rollout_multiply_adds(model)
    rollout = counted(lambda: model.collect_rollouts(model.env, still, model.rollout_buffer, model.n_steps))
    assert rollout == stages["acting"] + stages["values"] + stages["log-probabilities"]
    assert counted(model.train) == pytest.approx(stages["gradient steps"])


def test_another_memory_is_refused():
    policy = METHODS["toppo-transformer"].build(OffloadingVecEnv("balanced", devices=3), 0).policy
    with pytest.raises(InvalidInput, match="lstm"):
        layers(policy)
