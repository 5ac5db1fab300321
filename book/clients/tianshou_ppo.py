"""Tianshou: PPO on copies of the environment with one device among others."""

import gymnasium
import torch
from tianshou.algorithm import PPO
from tianshou.algorithm.modelfree.reinforce import (
    ProbabilisticActorPolicy,
)
from tianshou.algorithm.optim import AdamOptimizerFactory
from tianshou.data import Collector, VectorReplayBuffer
from tianshou.env import DummyVectorEnv
from tianshou.trainer import OnPolicyTrainerParams
from tianshou.utils.net.common import Net
from tianshou.utils.net.discrete import DiscreteActor, DiscreteCritic
from torch.distributions import Categorical

import aiecof  # noqa: F401 (registers the environments)


def make():
    return gymnasium.make("aiecof/Offloading-v1", network_seed=0)


def ppo(steps=60_000, seed=0):
    torch.manual_seed(seed)
    env = DummyVectorEnv([make] * 10)
    env.seed(seed)
    seen, actions = env.observation_space[0], env.action_space[0]
    body = {
        "state_shape": seen.shape,
        "hidden_sizes": [64, 64],
        "activation": torch.nn.Tanh,
    }
    actor = DiscreteActor(
        preprocess_net=Net(**body),
        action_shape=actions.n,
        softmax_output=False,
    )
    critic = DiscreteCritic(preprocess_net=Net(**body))
    policy = ProbabilisticActorPolicy(
        actor=actor,
        dist_fn=lambda logits: Categorical(logits=logits),
        action_space=actions,
        observation_space=seen,
        action_scaling=False,
    )
    algorithm = PPO(
        policy=policy,
        critic=critic,
        optim=AdamOptimizerFactory(lr=1e-3),
        gamma=0.9,
        gae_lambda=0.95,
        ent_coef=0.0,
        max_grad_norm=0.5,
    )
    collector = Collector(algorithm, env, VectorReplayBuffer(1_000, 10))
    algorithm.run_training(
        OnPolicyTrainerParams(
            training_collector=collector,
            max_epochs=1,
            epoch_num_steps=steps,
            collection_step_num_env_steps=1_000,  # one episode each
            update_step_num_repetitions=4,
            batch_size=100,
            show_progress=False,
            verbose=False,
        )
    )

    def act(observations, greedy):
        with torch.no_grad():
            logits, _ = actor(observations)
        sampled = Categorical(logits=logits).sample()
        return (logits.argmax(-1) if greedy else sampled).numpy()

    return act
