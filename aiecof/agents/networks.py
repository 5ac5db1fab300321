"""Networks of the learning methods, as policies of Stable-Baselines3 and sb3-contrib."""

from typing import Any

import torch as th
from gymnasium import spaces
from sb3_contrib.common.recurrent.policies import RecurrentActorCriticPolicy
from stable_baselines3.common.policies import ActorCriticPolicy, BasePolicy
from stable_baselines3.common.torch_layers import MlpExtractor
from stable_baselines3.dqn.policies import DQNPolicy, QNetwork
from torch import nn

from aiecof.system.observations import SIZE

State = tuple[th.Tensor, th.Tensor]


def trainable_parameters(policy: BasePolicy) -> int:
    """Number of parameters that the optimizer of a policy changes; a target network is a copy and does not count."""
    return sum(part.numel() for group in policy.optimizer.param_groups for part in group["params"])


class NoDecisionWithoutTask:
    """Mixin for actor-critic policies: a device without a task has one action, to do nothing.

    Its log-probability is 0 and so is its entropy, whatever the network says: such a slot moves neither the policy
    nor its entropy, and the probability ratio is 1. It does enter the value loss, because the value of that state is
    what the decision before it bootstraps from. `size_column` is where an observation holds the size of the task.
    """

    size_column = SIZE

    def decides(self, observations: th.Tensor) -> th.Tensor:
        """1.0 where an observation, (..., F), holds a task, else 0.0."""
        return (observations[..., self.size_column] > 0).to(observations.dtype)

    def forward(self, obs: th.Tensor, *args: Any, **kwargs: Any) -> tuple[Any, ...]:
        """Actions, values and log-probabilities (and, of a recurrent policy, its next state)."""
        actions, values, log_prob, *state = super().forward(obs, *args, **kwargs)
        return actions, values, log_prob * self.decides(obs), *state

    def evaluate_actions(self, obs: th.Tensor, *args: Any, **kwargs: Any) -> tuple[th.Tensor, th.Tensor, th.Tensor]:
        """Values, log-probabilities and entropies of given actions."""
        values, log_prob, entropy = super().evaluate_actions(obs, *args, **kwargs)
        decides = self.decides(obs)
        return values, log_prob * decides, entropy * decides


class MlpPolicy(NoDecisionWithoutTask, ActorCriticPolicy):
    """Two separate multilayer perceptrons for policy and value: PPO, A2C and AC without memory.

    history : int
        Observations stacked into one; the newest is the last.
    """

    def __init__(self, observation_space: spaces.Box, *args: Any, history: int = 1, **kwargs: Any):
        super().__init__(observation_space, *args, **kwargs)
        width = observation_space.shape[0] // history
        self.size_column = width * (history - 1) + SIZE


class CausalTransformer(nn.Module):
    """One causal transformer block over a device's latest observations, with the interface of `nn.LSTM`.

    The state it carries is a window of the `window` observations before the sequence, each with a flag that tells a
    real one (1) from the emptiness before an episode (0). Every output sees its own observation and the `window`
    before it, never a later one.
    """

    num_layers = 1

    def __init__(self, input_size: int, hidden_size: int, window: int = 16, heads: int = 4):
        super().__init__()
        self.input_size, self.hidden_size, self.window = input_size, hidden_size, window
        self.embed = nn.Linear(input_size, hidden_size)
        self.position = nn.Parameter(th.zeros(window + 1, heads))
        self.heads = heads
        self.norm = nn.LayerNorm(hidden_size)
        self.attend = nn.Linear(hidden_size, 3 * hidden_size)
        self.project = nn.Linear(hidden_size, hidden_size)
        self.feed = nn.Sequential(
            nn.LayerNorm(hidden_size),
            nn.Linear(hidden_size, hidden_size),
            nn.GELU(),
            nn.Linear(hidden_size, hidden_size),
        )

    @property
    def state_shape(self) -> tuple[int, int]:
        """(window, F + 1): what one device carries from sequence to sequence."""
        return self.window, self.input_size + 1

    def forward(self, sequence: th.Tensor, state: State) -> tuple[th.Tensor, State]:
        """(L, S, F) and a window of (W, S, F + 1) -> outputs (L, S, H) and the next window."""
        length, rows, _ = sequence.shape
        flagged = th.cat([sequence, th.ones_like(sequence[..., :1])], dim=-1)
        tokens = th.cat([state[0], flagged])
        real = tokens[..., -1] > 0
        x = self.embed(tokens[..., :-1])
        shape = (len(tokens), rows, self.heads, self.hidden_size // self.heads)
        q, k, v = (part.reshape(shape).permute(1, 2, 0, 3) for part in self.attend(self.norm(x)).chunk(3, dim=-1))
        scores = q[:, :, self.window :] @ k.transpose(-1, -2) / shape[-1] ** 0.5
        scores = scores + self._bias(length, real.T[:, None, None, :])
        mixed = (scores.softmax(-1) @ v).permute(2, 0, 1, 3).reshape(length, rows, self.hidden_size)
        x = x[self.window :] + self.project(mixed)
        return x + self.feed(x), (tokens[length:], state[1])

    def _bias(self, length: int, real: th.Tensor) -> th.Tensor:
        """Attention bias by distance into the past; minus infinity for the future, the far past and the unreal."""
        age = th.arange(length)[:, None] + self.window - th.arange(length + self.window)[None, :]
        inside = (age >= 0) & (age <= self.window)
        bias = self.position[age.clamp(0, self.window)].permute(2, 0, 1)
        return bias[None].masked_fill(~(inside & real), -th.inf)


class ToppoPolicy(NoDecisionWithoutTask, RecurrentActorCriticPolicy):
    """ActorLSTM and CriticLSTM, each followed by two fully connected layers (Section IV-B, Fig. 2).

    The output of the LSTM is concatenated with the current state before the fully connected layers. Actor and critic
    share nothing, so that each has a learning rate of its own: parameter group 0 of the optimizer is the actor's,
    group 1 the critic's.

    concatenate : bool
        False leaves the concatenation out, which is stock sb3-contrib's network.
    memory : {"lstm", "transformer"}
        What carries the history; "transformer" is the paper's future work.
    """

    def __init__(self, *args: Any, concatenate: bool = True, memory: str = "lstm", **kwargs: Any):
        self.concatenate = concatenate
        self.memory = memory
        super().__init__(*args, **kwargs)
        if memory == "transformer":
            self.lstm_actor = CausalTransformer(self.features_dim, self.lstm_output_dim, **self.lstm_kwargs)
            self.lstm_critic = CausalTransformer(self.features_dim, self.lstm_output_dim, **self.lstm_kwargs)
            self.lstm_hidden_state_shape = (self.lstm_actor.window, 1, self.features_dim + 1)
        critic = [
            *self.lstm_critic.parameters(),
            *self.mlp_extractor.value_net.parameters(),
            *self.value_net.parameters(),
        ]
        ours = {id(parameter) for parameter in critic}
        actor = [parameter for parameter in self.parameters() if id(parameter) not in ours]
        rate = self.optimizer.param_groups[0]["lr"]
        self.optimizer = self.optimizer_class([{"params": actor}, {"params": critic}], lr=rate, **self.optimizer_kwargs)

    def _build_mlp_extractor(self) -> None:
        width = self.lstm_output_dim + (self.features_dim if self.concatenate else 0)
        self.mlp_extractor = MlpExtractor(width, self.net_arch, self.activation_fn, self.device)

    def initial_state(self, rows: int) -> State:
        """Empty memory for some rows: two tensors, (layers or window, rows, width)."""
        depth, _, width = self.lstm_hidden_state_shape
        return th.zeros(depth, rows, width), th.zeros(depth, rows, width)

    def remember(self, memory: nn.Module, observations: th.Tensor, state: State) -> tuple[th.Tensor, State]:
        """Run a memory over time-major sequences, (L, S, F): features for the layers behind it, and the next state."""
        output, state = memory(observations, state)
        return (th.cat([output, observations], dim=-1) if self.concatenate else output), state

    def act(self, observations: th.Tensor, state: State) -> tuple[th.Tensor, State]:
        """Log-probabilities of all actions, (L, S, A), for sequences (L, S, F), and the actor's next state."""
        features, state = self.remember(self.lstm_actor, observations, state)
        return self.action_net(self.mlp_extractor.forward_actor(features)).log_softmax(-1), state

    def value(self, observations: th.Tensor, state: State) -> tuple[th.Tensor, State]:
        """Values, (L, S), of sequences (L, S, F), and the critic's next state."""
        features, state = self.remember(self.lstm_critic, observations, state)
        return self.value_net(self.mlp_extractor.forward_critic(features)).squeeze(-1), state

    def evaluate_sequences(
        self, observations: th.Tensor, actions: th.Tensor, actor_state: State, critic_state: State
    ) -> tuple[th.Tensor, th.Tensor, th.Tensor]:
        """Values, log-probabilities and entropies, (L, S) each, of time-major sequences that hold no episode start."""
        log_probs, _ = self.act(observations, actor_state)
        values, _ = self.value(observations, critic_state)
        decides = self.decides(observations)
        chosen = log_probs.gather(-1, actions.unsqueeze(-1)).squeeze(-1)
        return values, chosen * decides, -(log_probs.exp() * log_probs).sum(-1) * decides

    def _process_sequence(
        self, features: th.Tensor, lstm_states: State, episode_starts: th.Tensor, lstm: nn.Module
    ) -> tuple[th.Tensor, State]:
        """What sb3-contrib's own methods call: the same memory on padded, sequence-major batches, with resets."""
        rows = lstm_states[0].shape[1]
        sequence = features.reshape(rows, -1, features.shape[-1]).swapaxes(0, 1)
        going_on = (1.0 - episode_starts.reshape(rows, -1).swapaxes(0, 1)).unsqueeze(-1).unsqueeze(1)
        outputs = []
        for observations, keep in zip(sequence, going_on, strict=True):
            lstm_states = keep * lstm_states[0], keep * lstm_states[1]
            output, lstm_states = self.remember(lstm, observations.unsqueeze(0), lstm_states)
            outputs.append(output)
        return th.cat(outputs).transpose(0, 1).flatten(0, 1), lstm_states


class TaskQNetwork(QNetwork):
    """SB3's Q-network, for which a device without a task has one action, to do nothing.

    All values of such a state are their mean: a maximum over actions that mean nothing would only pick up noise.
    """

    size_column = SIZE

    def forward(self, obs: th.Tensor) -> th.Tensor:
        """(S, F) -> Q-values, (S, A)."""
        values = self.action_values(obs)
        idle = obs[:, self.size_column : self.size_column + 1] <= 0
        return th.where(idle, values.mean(dim=1, keepdim=True), values)

    def action_values(self, obs: th.Tensor) -> th.Tensor:
        """What the network says of every action, (S, F) -> (S, A)."""
        return super().forward(obs)


class DuelingQNetwork(TaskQNetwork):
    """Q(s, a) = V(s) + A(s, a) - mean over a of A(s, a): one stream for the state, one for the actions."""

    def __init__(self, *args: Any, **kwargs: Any):
        super().__init__(*args, **kwargs)
        *body, head = self.q_net
        self.q_net = nn.Sequential(*body)
        self.state_value = nn.Linear(head.in_features, 1)
        self.advantage = nn.Linear(head.in_features, head.out_features)

    def action_values(self, obs: th.Tensor) -> th.Tensor:
        """V + A - mean A, (S, F) -> (S, A)."""
        latent = super().action_values(obs)
        advantage = self.advantage(latent)
        return self.state_value(latent) + advantage - advantage.mean(dim=1, keepdim=True)


class QPolicy(DQNPolicy):
    """SB3's DQN policy with `TaskQNetwork`."""

    network_class: type[TaskQNetwork] = TaskQNetwork

    def make_q_net(self) -> TaskQNetwork:
        """A new Q-network."""
        arguments = self._update_features_extractor(self.net_args, features_extractor=None)
        return self.network_class(**arguments).to(self.device)


class DuelingPolicy(QPolicy):
    """The same with the dueling network."""

    network_class = DuelingQNetwork
