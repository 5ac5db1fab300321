"""PPO in a single file, as CleanRL writes it, on Gymnasium's vector environment."""

import gymnasium
import numpy as np
import torch
from torch import nn
from torch.distributions import Categorical

import aiecof  # noqa: F401 (registers the environments)

GAMMA, LAMBDA, CLIP, EPOCHS, BATCH = 0.9, 0.95, 0.2, 4, 300


def ppo(steps=150_000, seed=0):
    torch.manual_seed(seed)
    env = gymnasium.make_vec(
        "aiecof/Offloading-v1",
        num_envs=30,
        network_seed=0,
        autoreset_mode="SameStep",
    )
    seen, actions = env.single_observation_space.shape[0], env.single_action_space.n
    actor, critic = (
        nn.Sequential(nn.Linear(seen, 64), nn.Tanh(), nn.Linear(64, 64), nn.Tanh(), nn.Linear(64, out))
        for out in (int(actions), 1)
    )
    nn.init.zeros_(actor[-1].weight)
    both = [*actor.parameters(), *critic.parameters()]
    optimizer = torch.optim.Adam(both, lr=1e-3, eps=1e-5)
    slots = env.unwrapped.scenario.slots  # a rollout is an episode
    observation, _ = env.reset(seed=seed)
    for _ in range(steps // (slots * env.num_envs)):
        rollout = []
        for _ in range(slots):
            seen = torch.as_tensor(observation)
            with torch.no_grad():
                choice, value = Categorical(logits=actor(seen)), critic(seen)[:, 0]
            action = choice.sample()
            observation, reward, ended, _, _ = env.step(action.numpy())
            kept = torch.as_tensor(reward, dtype=torch.float32), torch.as_tensor(ended)
            rollout.append((seen, action, choice.log_prob(action), value, *kept))
        update(actor, critic, optimizer, both, *map(torch.stack, zip(*rollout, strict=True)))
    return lambda observations, greedy: act(actor, observations, greedy)


def update(actor, critic, optimizer, both, seen, action, before, value, reward, ended):
    advantage, last = torch.zeros_like(reward), torch.zeros(reward.shape[1])
    for t in reversed(range(len(reward))):
        # No value follows the last slot of an episode, and a rollout ends with it.
        after = torch.zeros_like(last) if ended[t].all() else value[t + 1]
        delta = reward[t] + GAMMA * after - value[t]
        advantage[t] = last = delta + GAMMA * LAMBDA * last * ~ended[t]
    target = (advantage + value).flatten()
    seen, action, before = seen.flatten(0, 1), action.flatten(), before.flatten()
    for _ in range(EPOCHS):
        for rows in torch.randperm(len(target)).split(BATCH):
            choice = Categorical(logits=actor(seen[rows]))
            ratio = (choice.log_prob(action[rows]) - before[rows]).exp()
            gain = advantage.flatten()[rows]
            gain = (gain - gain.mean()) / (gain.std() + 1e-8)
            clipped = torch.min(ratio * gain, ratio.clamp(1 - CLIP, 1 + CLIP) * gain)
            error = (critic(seen[rows])[:, 0] - target[rows]) ** 2
            optimizer.zero_grad()
            (0.5 * error.mean() - clipped.mean()).backward()
            nn.utils.clip_grad_norm_(both, 0.5)
            optimizer.step()


def act(actor, observations, greedy):
    with torch.no_grad():
        logits = actor(torch.as_tensor(np.asarray(observations)))
    return (logits.argmax(-1) if greedy else Categorical(logits=logits).sample()).numpy()
