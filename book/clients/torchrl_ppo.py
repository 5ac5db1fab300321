"""TorchRL: multi-agent PPO on the PettingZoo environment, all agents sharing a network."""

import torch
from tensordict.nn import TensorDictModule
from torch.distributions import Categorical
from torchrl.collectors import Collector
from torchrl.envs import PettingZooWrapper
from torchrl.modules import (
    MultiAgentMLP,
    ProbabilisticActor,
    ValueOperator,
)
from torchrl.objectives import ClipPPOLoss, ValueEstimators

from aiecof.envs import parallel_env

EPOCHS, BATCH = 4, 10  # slots a minibatch, of 30 agents each


def ppo(steps=75_000, seed=0):
    torch.manual_seed(seed)
    env = parallel_env(scenario="balanced", network_seed=0)
    env = PettingZooWrapper(env, categorical_actions=True)
    env.set_seed(seed)
    [group] = env.group_map  # "agent"
    agents, seen = env.observation_spec[group, "observation"].shape
    body = {
        "n_agent_inputs": seen,
        "n_agents": agents,
        "share_params": True,
        "depth": 2,
        "num_cells": 64,
        "activation_class": torch.nn.Tanh,
    }
    logits = MultiAgentMLP(**body, n_agent_outputs=9, centralized=False)
    actor = ProbabilisticActor(
        TensorDictModule(
            logits,
            in_keys=[(group, "observation")],
            out_keys=[(group, "logits")],
        ),
        in_keys=[(group, "logits")],
        out_keys=[(group, "action")],
        distribution_class=Categorical,
        return_log_prob=True,
        log_prob_key=(group, "action_log_prob"),
    )
    critic = ValueOperator(
        MultiAgentMLP(**body, n_agent_outputs=1, centralized=False),
        in_keys=[(group, "observation")],
        out_keys=[(group, "state_value")],
    )
    loss = ClipPPOLoss(
        actor,
        critic,
        clip_epsilon=0.2,
        entropy_bonus=False,
    )
    loss.set_keys(
        reward=(group, "reward"),
        action=(group, "action"),
        value=(group, "state_value"),
        done=(group, "done"),
        terminated=(group, "terminated"),
        sample_log_prob=(group, "action_log_prob"),
    )
    gae = ValueEstimators.GAE
    loss.make_value_estimator(gae, gamma=0.9, lmbda=0.95)
    optimizer = torch.optim.Adam(loss.parameters(), lr=1e-3)
    frames = {"frames_per_batch": 100, "total_frames": steps // agents}
    for data in Collector(env, actor, **frames):
        with torch.no_grad():
            loss.value_estimator(data)
        gain = data["advantage"]
        data["advantage"] = (gain - gain.mean()) / gain.std()
        for _ in range(EPOCHS):
            for rows in torch.randperm(len(data)).split(BATCH):
                parts = loss(data[rows])
                optimizer.zero_grad()
                total = parts["loss_objective"]
                total = total + 0.5 * parts["loss_critic"]
                total.backward()
                torch.nn.utils.clip_grad_norm_(loss.parameters(), 0.5)
                optimizer.step()

    def act(observations, greedy):
        rows = torch.as_tensor(observations).unflatten(0, (-1, agents))
        with torch.no_grad():
            found = logits(rows).flatten(0, 1)
        sampled = Categorical(logits=found).sample()
        return (found.argmax(-1) if greedy else sampled).numpy()

    return act
