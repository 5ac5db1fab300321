"""Envelope Q-learning (Yang et al. 2019) in a single file: one network that knows what to do under any weights."""

from copy import deepcopy
from functools import cache

import mo_gymnasium
import numpy as np
import torch
from torch import nn

import aiecof  # noqa: F401 (registers the environments)

GAMMA, BATCH, DRAWN, EVERY, STALE, LEAST = 0.9, 64, 4, 4, 1_000, 0.05
WEIGHTS = (0.2, 0.25, 0.25, 0.3)  # delay, energy, drop, load


class Values(nn.Module):
    """Observations (..., F), weights (..., 4) -> values (..., N+1, 4)."""

    def __init__(self, inputs, actions, aims):
        super().__init__()
        self.shape = actions, aims
        self.layers = nn.Sequential(
            *(nn.Linear(inputs + aims, 64), nn.ReLU()),
            *(nn.Linear(64, 64), nn.ReLU()),
            nn.Linear(64, actions * aims),
        )

    def forward(self, seen, weights):
        values = self.layers(torch.cat([seen, weights], -1))
        return values.unflatten(-1, self.shape)

    def worth(self, seen, weights):
        """What each action is worth under the weights: (..., N+1)."""
        return (self(seen, weights) @ weights[..., None])[..., 0]


def learn(steps=30_000, seed=0, weights=WEIGHTS):
    return acting(all_weights(steps, seed), weights)


@cache
def all_weights(steps, seed):
    torch.manual_seed(seed)
    draw = np.random.default_rng(seed)
    env = mo_gymnasium.make("aiecof/OffloadingMO-v1", network_seed=0)
    inputs, aims = env.observation_space.shape[0], env.unwrapped.reward_dim
    actions = int(env.action_space.n)
    values = Values(inputs, actions, aims)
    target = deepcopy(values)
    optimizer = torch.optim.Adam(values.parameters(), lr=1e-3)
    widths = (inputs, 1, aims, inputs, 1)
    kept = [torch.zeros(steps, width) for width in widths]
    ended = True
    for step in range(steps):
        if ended:
            seen, _ = env.reset(seed=None if step else seed)
            weights = weightings(draw, aims)
        if draw.random() < max(LEAST, 1 - 5 * step / steps):
            action = int(draw.integers(actions))
        else:
            with torch.no_grad():
                worth = values.worth(torch.as_tensor(seen), weights)
            action = int(worth.argmax())
        following, reward, ended, _, _ = env.step(action)
        row = (seen, [action], reward, following, [not ended])
        for column, value in zip(kept, row, strict=True):
            column[step] = torch.as_tensor(value)
        seen = following
        if step > STALE and step % EVERY == 0:
            rows = torch.as_tensor(draw.integers(step, size=BATCH))
            batch = [column[rows] for column in kept]
            drawn = weightings(draw, aims, DRAWN)
            update(values, target, optimizer, batch, drawn)
        if step % STALE == 0:
            target.load_state_dict(values.state_dict())
    return values


def weightings(draw, aims, *count):
    found = draw.dirichlet(np.ones(aims), *count)
    return torch.as_tensor(found, dtype=torch.float32)


def update(values, target, optimizer, batch, drawn):
    """Every transition of the batch, under each of the drawn weights."""
    seen, action, reward, following, goes_on = batch
    weights = drawn[:, None].expand(-1, BATCH, -1)  # (W, B, 4)
    again = (len(drawn), -1, -1)
    with torch.no_grad():
        # The envelope: the best that is known of under any of the weights.
        known = target(following.expand(again), weights)  # (W, B, N+1, 4)
        known = known.transpose(0, 1).flatten(1, 2)  # (B, W (N+1), 4)
        best = torch.einsum("bka,wa->wbk", known, drawn).argmax(-1)
        later = known[torch.arange(BATCH), best]  # (W, B, 4)
        wanted = reward + GAMMA * goes_on * later
    found = values(seen.expand(again), weights)
    found = found[:, torch.arange(BATCH), action[:, 0].long()]
    missed = ((found - wanted) * weights).sum(-1)
    apart = nn.functional.smooth_l1_loss(found, wanted)
    optimizer.zero_grad()
    (apart + missed.square().mean()).backward()
    nn.utils.clip_grad_norm_(values.parameters(), 10.0)
    optimizer.step()


def acting(values, weights):
    weights = torch.tensor(weights, dtype=torch.float32)

    def act(observations, greedy):
        rows = len(observations)
        with torch.no_grad():
            seen = torch.as_tensor(observations)
            worth = values.worth(seen, weights.expand(rows, -1))
        any_place = torch.randint(worth.shape[1], (rows,))
        explores = (torch.rand(rows) < LEAST) & (not greedy)
        return torch.where(explores, any_place, worth.argmax(-1)).numpy()

    return act
