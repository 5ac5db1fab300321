"""TOPPO and the learning methods it is compared with, on Stable-Baselines3 and sb3-contrib (Eqs. 32-37).

The docstrings of the functions and methods below say which of the equations of Section IV-B each one is.
"""

from typing import Any

import numpy as np
import torch as th
from sb3_contrib import RecurrentPPO
from sb3_contrib.common.recurrent.type_aliases import RNNStates
from stable_baselines3.common.buffers import RolloutBuffer
from stable_baselines3.common.utils import explained_variance
from torch.nn import functional

from aiecof.agents.memories import State
from aiecof.agents.networks import ToppoPolicy
from aiecof.checks import InvalidInput, check_integer, check_number

AT_ONCE = 2_000
"""Sequences whose log-probabilities are computed in one call: more take memory and save no time."""


def value_loss(values: th.Tensor, targets: th.Tensor) -> th.Tensor:
    """Mean squared distance of the critic from its target (Eq. 33).

    values : (...) float
        V_phi(s_t).
    targets : (...) float
        V-hat(s_t); the print has r + gamma V(s_{t+1}), SB3 the GAE return A_t + V(s_t), the same for lambda = 0 (R40).
    """
    return functional.mse_loss(targets, values)


def clipped_objective(ratio: th.Tensor, advantages: th.Tensor, decides: th.Tensor, clip_range: float) -> th.Tensor:
    """PPO's clipped surrogate, averaged over the slots in which a device decides (Eq. 36).

    ratio, advantages : (...) float
        pi_theta / pi_theta_old, and A_t.
    decides : (...) float
        1 where there is a task, else 0.
    clip_range : float
        epsilon.
    """
    surrogate = th.min(ratio * advantages, ratio.clamp(1 - clip_range, 1 + clip_range) * advantages)
    return (surrogate * decides).sum() / decides.sum().clamp(min=1.0)


class TOPPO(RecurrentPPO):
    """PPO with ActorLSTM and CriticLSTM on fixed-length, time-major sequences (Algorithm 1).

    The same algorithm as sb3-contrib's RecurrentPPO, which pads and loops where an episode starts inside a minibatch.
    Here all rows of an environment start and end their episodes together, on the boundary of a sequence, so nothing is
    padded and nothing is reset inside a sequence; only the memory's state at the start of each sequence is kept. Of a
    rollout the actor alone runs slot by slot: values and log-probabilities follow afterwards in a few calls.

    learning_rate, critic_learning_rate : float
        lr1 of the actor and lr2 of the critic.
    sequence_length : int
        Slots through which gradients flow back; must divide n_steps.
    batch_size : int
        Transitions of a minibatch; a multiple of `sequence_length`.
    target_kl, max_grad_norm : float
        The "step size constraint" that the paper names without a formula, as declared in reading R38. The norm is
        that of each network's own gradient: in a joint one the critic's, much the larger, would slow the actor.

    The other parameters are RecurrentPPO's.
    """

    def __init__(
        self,
        policy: str | type[ToppoPolicy],
        env: Any,
        learning_rate: float = 1e-3,
        critic_learning_rate: float | None = None,
        sequence_length: int = 10,
        n_steps: int = 100,
        batch_size: int = 300,
        **kwargs: Any,
    ):
        self.critic_learning_rate = learning_rate if critic_learning_rate is None else critic_learning_rate
        self.sequence_length = check_integer("sequence_length", sequence_length, 1)
        check_number("critic_learning_rate", self.critic_learning_rate)
        for name, value in (("n_steps", n_steps), ("batch_size", batch_size)):
            if check_integer(name, value, 1) % sequence_length:
                raise InvalidInput(name, value, f"a multiple of sequence_length = {sequence_length}")
        super().__init__(policy, env, learning_rate, n_steps=n_steps, batch_size=batch_size, **kwargs)

    def _setup_model(self) -> None:
        super()._setup_model()
        self.rollout_buffer = RolloutBuffer(
            self.n_steps,
            self.observation_space,
            self.action_space,
            device=self.device,
            gae_lambda=self.gae_lambda,
            gamma=self.gamma,
            n_envs=self.n_envs,
        )
        self._last_lstm_states = RNNStates(*(self.policy.initial_state(self.n_envs) for _ in range(2)))

    def _update_learning_rate(self, optimizers: th.optim.Optimizer) -> None:
        super()._update_learning_rate(optimizers)
        progress = self.lr_schedule(self._current_progress_remaining) / self.lr_schedule(1.0)
        optimizers.param_groups[1]["lr"] = progress * self.critic_learning_rate

    def _keep(self, state: State) -> State:
        """The state with the rows emptied whose episode starts now."""
        keep = 1.0 - th.as_tensor(self._last_episode_starts, dtype=th.float32)[None, :, None]
        return state[0] * keep, state[1] * keep

    def collect_rollouts(self, env: Any, callback: Any, rollout_buffer: RolloutBuffer, n_rollout_steps: int) -> bool:
        """Fill the buffer with n_rollout_steps slots of every row (Algorithm 1, lines 5-10)."""
        self.policy.set_training_mode(False)
        rollout_buffer.reset()
        callback.on_rollout_start()
        actor, critic = self._last_lstm_states
        actor_starts, critic = [], self._keep(critic)
        unknown = th.zeros(env.num_envs)
        for step in range(n_rollout_steps):
            if step % self.sequence_length == 0:
                actor = self._keep(actor)
                actor_starts.append(actor)
            elif np.any(self._last_episode_starts):
                raise InvalidInput("sequence_length", self.sequence_length, "a divisor of the episode's slots")
            with th.no_grad():
                log_probs, actor = self.policy.act(th.as_tensor(self._last_obs)[None], actor)
                actions = log_probs[0].exp().multinomial(1)
            new_obs, rewards, dones, infos = env.step(actions.squeeze(1).numpy())
            self.num_timesteps += env.num_envs
            callback.update_locals(locals())
            if not callback.on_step():
                return False
            self._update_info_buffer(infos, dones)
            rollout_buffer.add(self._last_obs, actions.numpy(), rewards, self._last_episode_starts, unknown, unknown)
            self._last_obs, self._last_episode_starts = new_obs, dones
        self._last_lstm_states = RNNStates(actor, self._evaluate_rollout(rollout_buffer, actor_starts, critic))
        callback.on_rollout_end()
        return True

    @th.no_grad()
    def _evaluate_rollout(self, buffer: RolloutBuffer, actor_starts: list[State], critic: State) -> State:
        """TD errors and generalised advantages of a whole rollout (Eqs. 32, 35).

        Both are computed by SB3's `RolloutBuffer.compute_returns_and_advantage`, from the critic's values. The
        log-probabilities of the actions are computed here as well, by the calls that the updates will make, so that
        the ratio is 1 before the first of them. Returns the critic's state at the end.
        """
        observations = th.as_tensor(buffer.observations)
        starts = th.as_tensor(buffer.episode_starts)
        critic_starts = []
        for first in range(0, len(observations), self.sequence_length):
            keep = 1.0 - starts[first][None, :, None]
            critic = critic[0] * keep, critic[1] * keep
            critic_starts.append(critic)
            values, critic = self.policy.value(observations[first : first + self.sequence_length], critic)
            buffer.values[first : first + self.sequence_length] = values.numpy()
        last, _ = self.policy.value(th.as_tensor(self._last_obs)[None], self._keep(critic))
        buffer.compute_returns_and_advantage(last[0], self._last_episode_starts)
        self._sequences = {
            "observations": self._by_sequence(observations),
            "actions": self._by_sequence(th.as_tensor(buffer.actions[..., 0]).long()),
            "decides": self._by_sequence(self.policy.decides(observations)),
            "advantages": self._by_sequence(th.as_tensor(buffer.advantages)),
            "returns": self._by_sequence(th.as_tensor(buffer.returns)),
        }
        pairs = [
            [th.cat(part, dim=1) for part in zip(*states, strict=True)] for states in (actor_starts, critic_starts)
        ]
        self._sequences["actor_state"], self._sequences["critic_state"] = (tuple(pair) for pair in pairs)
        data = self._sequences
        parts = (self.minibatch(chosen) for chosen in th.arange(data["advantages"].shape[1]).split(AT_ONCE))
        names = ("observations", "actions", "actor_state", "critic_state")
        found = [self.policy.evaluate_sequences(*(part[name] for name in names))[1] for part in parts]
        data["log_probs"] = th.cat(found, dim=1)
        return critic

    def _by_sequence(self, values: th.Tensor) -> th.Tensor:
        """(T, R, ...) -> (L, T / L * R, ...): all sequences side by side, time first."""
        parts = values.unflatten(0, (-1, self.sequence_length)).transpose(0, 1)
        return parts.flatten(1, 2).contiguous()

    def minibatch(self, chosen: th.Tensor | slice) -> dict[str, Any]:
        """Some sequences of the current rollout, time first."""
        if isinstance(chosen, slice):
            chosen = th.arange(self._sequences["advantages"].shape[1])[chosen]
        return {
            name: tuple(part.index_select(1, chosen) for part in values)
            if isinstance(values, tuple)
            else values.index_select(1, chosen)
            for name, values in self._sequences.items()
        }

    def losses(self, batch: dict[str, Any], clip_range: float) -> dict[str, th.Tensor]:
        """The terms of a minibatch's loss, `policy` (Eq. 36), `value` (Eq. 33) and `entropy`; its `ratio` and `kl`."""
        values, log_probs, entropy = self.policy.evaluate_sequences(
            batch["observations"], batch["actions"], batch["actor_state"], batch["critic_state"], self.ent_coef != 0.0
        )
        decides = batch["decides"]
        count = decides.sum().clamp(min=1.0)
        advantages = batch["advantages"]
        chosen = advantages[decides > 0]
        if self.normalize_advantage and len(chosen) > 1:  # a minibatch of slots without tasks has nothing to normalise
            advantages = (advantages - chosen.mean()) / (chosen.std() + 1e-8)
        log_ratio = log_probs - batch["log_probs"]
        ratio = log_ratio.exp()
        with th.no_grad():
            kl = ((ratio - 1 - log_ratio) * decides).sum() / count
        return {
            "policy": -clipped_objective(ratio, advantages, decides, clip_range),
            "value": value_loss(values, batch["returns"]),
            "entropy": -entropy.sum() / count,
            "kl": kl,
            "ratio": ratio,
            "decides": decides,
        }

    def update(self, batch: dict[str, Any], clip_range: float) -> dict[str, th.Tensor] | None:
        """One gradient step of both networks, each at its own learning rate (Eqs. 34, 37).

        batch : dict
            Of `minibatch`.
        clip_range : float
            epsilon.

        Returns the losses, or None, without a step, if the policy has moved too far already (R38).
        """
        losses = self.losses(batch, clip_range)
        if self.target_kl is not None and losses["kl"] > 1.5 * self.target_kl:
            return None
        self.policy.optimizer.zero_grad()
        loss = losses["policy"] + self.vf_coef * losses["value"]
        if self.ent_coef:
            loss = loss + self.ent_coef * losses["entropy"]
        loss.backward()
        self.policy.optimizer.clipped_step(self.max_grad_norm)
        return {name: part.detach() for name, part in losses.items()}

    def train(self) -> None:
        """`n_epochs` passes over the rollout's sequences in random order (Algorithm 1, lines 11-18)."""
        self.policy.set_training_mode(True)
        self._update_learning_rate(self.policy.optimizer)
        clip_range = self.clip_range(self._current_progress_remaining)
        size = self.batch_size // self.sequence_length
        count = self._sequences["advantages"].shape[1]
        history = []
        for _ in range(self.n_epochs):
            for chunk in th.randperm(count).split(size):
                losses = self.update(self.minibatch(chunk), clip_range)
                if losses is None:
                    break
                history.append(losses)
            self._n_updates += 1
            if losses is None:
                break
        buffer = self.rollout_buffer
        for name in ("policy", "value", "entropy", "kl"):
            self.logger.record(f"train/{name}", float(np.mean([losses[name].item() for losses in history] or [np.nan])))
        if history:
            ratios, decides = (th.cat([losses[name] for losses in history], dim=1) for name in ("ratio", "decides"))
            outside = (((ratios - 1).abs() > clip_range) * decides).sum() / decides.sum().clamp(min=1.0)
            self.logger.record("train/clip_fraction", outside.item())
        self.logger.record(
            "train/explained_variance", explained_variance(buffer.values.flatten(), buffer.returns.flatten())
        )
        self.logger.record("train/n_updates", self._n_updates)

    def _excluded_save_params(self) -> list[str]:
        return [*super()._excluded_save_params(), "_sequences"]
