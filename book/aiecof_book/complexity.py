"""Parameters and multiply-adds of TOPPO's update, counted from its networks (Section IV-C).

A multiply-add is one weight times one input, added up: two floating-point operations. Biases, activations and the
optimizer take a share that does not grow with the product of two widths, and are left out, as in the paper.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

from torch import nn

from aiecof.agents.networks import ToppoPolicy
from aiecof.agents.toppo import TOPPO
from aiecof.checks import InvalidInput


class Layer(NamedTuple):
    """A layer with weights; `multiply_adds` are those of one observation on its way forward."""

    network: str
    name: str
    kind: str
    inputs: int
    outputs: int
    parameters: int
    multiply_adds: int


def _layer(network: str, name: str, module: nn.Module) -> Layer:
    if isinstance(module, nn.LSTM):
        shape = module.input_size, module.hidden_size
        multiply_adds = 4 * shape[1] * sum(shape)
    else:
        shape = module.in_features, module.out_features
        multiply_adds = shape[0] * shape[1]
    parameters = sum(part.numel() for part in module.parameters())
    return Layer(network, name, type(module).__name__, *shape, parameters, multiply_adds)


def layers(policy: ToppoPolicy) -> list[Layer]:
    """All layers with weights, those of the actor first, each network in the order in which data pass it."""
    if policy.memory != "lstm":
        raise InvalidInput("memory", policy.memory, "lstm, which is what the paper counts")
    body = policy.mlp_extractor
    networks = {
        "actor": (policy.lstm_actor, body.policy_net, policy.action_net),
        "critic": (policy.lstm_critic, body.value_net, policy.value_net),
    }
    found = []
    for network, (memory, hidden, head) in networks.items():
        connected = [module for module in (*hidden, head) if isinstance(module, nn.Linear)]
        found.append(_layer(network, "LSTM", memory))
        found += [_layer(network, f"layer {number}", module) for number, module in enumerate(connected, 1)]
    return found


def printed_multiply_adds(network: Iterable[Layer]) -> int:
    """D = H^2 + a1 b1 + a2 b2 + a3 b3 of one network, as the paper prints it (Section IV-C).

    It lacks the LSTM's other three gates and the weights of its input.
    """
    return sum(layer.outputs**2 if layer.kind == "LSTM" else layer.multiply_adds for layer in network)


def gradient_multiply_adds(network: Iterable[Layer], sequence_length: int) -> float:
    """Multiply-adds of one transition in one gradient step: forward, and back through time.

    Back, every weight is used twice, for the gradient of the layer's input and for its own, but for what needs no
    gradient: the observation that the LSTM reads, and the state in which a sequence of `sequence_length` slots begins.
    """
    total = 0.0
    for layer in network:
        total += 3 * layer.multiply_adds
        if layer.kind == "LSTM":
            total -= 4 * layer.outputs * (layer.inputs + layer.outputs / sequence_length)
    return total


def rollout_multiply_adds(model: TOPPO) -> dict[str, float]:
    """Multiply-adds of one rollout and the update behind it, by stage, if the KL stops none of the gradient steps.

    The critic runs twice over a rollout: for the advantages, with the state behind the last slot, and again beside the
    log-probabilities.
    """
    found = layers(model.policy)
    forward = {
        name: sum(layer.multiply_adds for layer in found if layer.network == name) for name in ("actor", "critic")
    }
    transitions = model.n_steps * model.n_envs
    steps = gradient_multiply_adds(found, model.sequence_length)
    return {
        "acting": transitions * forward["actor"],
        "values": (transitions + model.n_envs) * forward["critic"],
        "log-probabilities": transitions * sum(forward.values()),
        "gradient steps": model.n_epochs * transitions * steps,
    }
