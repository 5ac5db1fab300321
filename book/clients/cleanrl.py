"""PPO in a single file, as CleanRL writes it, on Gymnasium's vector environment."""

import gymnasium
import torch
from torch import nn
from torch.distributions import Categorical

import aiecof  # noqa: F401 (registers the environments)

GAMMA, LAMBDA, CLIP, EPOCHS, BATCH = 0.9, 0.95, 0.2, 4, 300


def network(inputs, outputs):
    return nn.Sequential(
        *(nn.Linear(inputs, 64), nn.Tanh()),
        *(nn.Linear(64, 64), nn.Tanh()),
        nn.Linear(64, outputs),
    )


def ppo(steps=150_000, seed=0):
    torch.manual_seed(seed)
    env = gymnasium.make_vec(
        "aiecof/Offloading-v1",
        num_envs=30,
        network_seed=0,
        autoreset_mode="SameStep",
    )
    [inputs] = env.single_observation_space.shape
    actor = network(inputs, int(env.single_action_space.n))
    critic = network(inputs, 1)
    nn.init.zeros_(actor[-1].weight)  # all places alike at first
    both = nn.ModuleList([actor, critic])
    optimizer = torch.optim.Adam(both.parameters(), lr=1e-3, eps=1e-5)
    slots = env.unwrapped.scenario.slots  # a rollout is an episode
    observation, _ = env.reset(seed=seed)
    for _ in range(steps // (slots * env.num_envs)):
        rollout = []
        for _ in range(slots):
            seen = torch.as_tensor(observation)
            with torch.no_grad():
                choice = Categorical(logits=actor(seen))
                value = critic(seen)[:, 0]
            action = choice.sample()
            observation, reward, ended, _, _ = env.step(action.numpy())
            paid = torch.as_tensor(reward, dtype=torch.float32)
            before = choice.log_prob(action)
            rollout.append((seen, action, before, value, paid))
        columns = zip(*rollout, strict=True)
        update(both, optimizer, *map(torch.stack, columns))

    def act(observations, greedy):
        with torch.no_grad():
            logits = actor(torch.as_tensor(observations))
        sampled = Categorical(logits=logits).sample()
        return (logits.argmax(-1) if greedy else sampled).numpy()

    return act


def update(both, optimizer, seen, action, before, value, reward):
    actor, critic = both
    # The rollout ends with the episode: no value follows its last slot.
    following = torch.cat([value[1:], torch.zeros_like(value[:1])])
    surprise = reward + GAMMA * following - value
    advantage, later = torch.zeros_like(reward), 0.0
    for t in reversed(range(len(reward))):
        advantage[t] = later = surprise[t] + GAMMA * LAMBDA * later
    target = (advantage + value).flatten()
    advantage, action = advantage.flatten(), action.flatten()
    seen, before = seen.flatten(0, 1), before.flatten()
    for _ in range(EPOCHS):
        for rows in torch.randperm(len(target)).split(BATCH):
            choice = Categorical(logits=actor(seen[rows]))
            ratio = (choice.log_prob(action[rows]) - before[rows]).exp()
            gain = advantage[rows]
            gain = (gain - gain.mean()) / (gain.std() + 1e-8)
            near = ratio.clamp(1 - CLIP, 1 + CLIP)
            policy_loss = -torch.min(ratio * gain, near * gain).mean()
            missed = critic(seen[rows])[:, 0] - target[rows]
            value_loss = missed.square().mean()
            optimizer.zero_grad()
            (policy_loss + 0.5 * value_loss).backward()
            nn.utils.clip_grad_norm_(both.parameters(), 0.5)
            optimizer.step()
