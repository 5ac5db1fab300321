"""DQN and Double DQN for devices that share a policy, on Stable-Baselines3."""

import numpy as np
import torch as th
from stable_baselines3 import DQN
from torch.nn import functional


class RowwiseDQN(DQN):
    """SB3's DQN with an exploration coin for each row instead of one for all of them.

    Thirty devices that share a policy would otherwise explore, or herd, all in the same slot.
    """

    def predict(self, observation, state=None, episode_start=None, deterministic=False):
        """Epsilon-greedy actions, (rows,); greedy if `deterministic`."""
        actions, state = self.policy.predict(observation, state, episode_start, deterministic=True)
        if not deterministic:
            rng = self.action_space.np_random
            explores = rng.random(np.shape(actions)) < self.exploration_rate
            actions = np.where(explores, rng.integers(self.action_space.n, size=np.shape(actions)), actions)
        return actions, state


class DoubleDQN(RowwiseDQN):
    """Double DQN: the online network chooses the next action, the target network values it."""

    def next_values(self, observations: th.Tensor) -> th.Tensor:
        """Value of the next state under the double target, (S, F) -> (S, 1)."""
        chosen = self.q_net(observations).argmax(dim=1, keepdim=True)
        return self.q_net_target(observations).gather(1, chosen)

    def train(self, gradient_steps: int, batch_size: int = 100) -> None:
        """SB3's DQN update with `next_values` in place of the target network's maximum."""
        self.policy.set_training_mode(True)
        self._update_learning_rate(self.policy.optimizer)
        losses = []
        for _ in range(gradient_steps):
            data = self.replay_buffer.sample(batch_size, env=self._vec_normalize_env)
            with th.no_grad():
                targets = data.rewards + (1 - data.dones) * self.gamma * self.next_values(data.next_observations)
            values = self.q_net(data.observations).gather(1, data.actions.long())
            loss = functional.smooth_l1_loss(values, targets)
            losses.append(loss.item())
            self.policy.optimizer.zero_grad()
            loss.backward()
            th.nn.utils.clip_grad_norm_(self.policy.parameters(), self.max_grad_norm)
            self.policy.optimizer.step()
        self._n_updates += gradient_steps
        self.logger.record("train/n_updates", self._n_updates, exclude="tensorboard")
        self.logger.record("train/loss", np.mean(losses))
