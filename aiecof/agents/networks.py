"""Networks of the learning methods, as policies of Stable-Baselines3 and sb3-contrib."""

from functools import partial
from typing import Any

import torch as th
from gymnasium import spaces
from sb3_contrib.common.recurrent.policies import RecurrentActorCriticPolicy
from stable_baselines3.common.policies import ActorCriticPolicy, BasePolicy
from stable_baselines3.dqn.policies import DQNPolicy, QNetwork
from torch import nn

from aiecof.agents.heads import ActionHead
from aiecof.agents.memories import CausalTransformer, State, Window, WindowLSTM, run_lstm
from aiecof.checks import InvalidInput, check_choice, check_integer, check_number
from aiecof.system.observations import SIZE


def trainable_parameters(policy: BasePolicy) -> int:
    """Number of parameters that the optimizer of a policy changes; a target network is a copy and does not count."""
    return sum(part.numel() for group in policy.optimizer.param_groups for part in group["params"])


class ClippedAdam(th.optim.Adam):
    """Adam behind a limit to the norm of each parameter group's gradient, in as few calls as small networks deserve.

    To the last digit what `clip_grad_norm_` on every group and then Adam's fused step do.
    """

    @th.no_grad()
    def clipped_step(self, max_norm: float) -> None:
        """One step of all parameters, each of which has a gradient."""
        for group in self.param_groups:
            parameters = group["params"]
            gradients = [parameter.grad for parameter in parameters]
            norm = th.linalg.vector_norm(th.stack(th._foreach_norm(gradients)))
            th._foreach_mul_(gradients, (max_norm / (norm + 1e-6)).clamp(max=1.0))
            if parameters[0] not in self.state:
                for part in parameters:
                    moments = {name: th.zeros_like(part) for name in ("exp_avg", "exp_avg_sq")}
                    self.state[part] |= {"step": th.zeros(())} | moments
            states = [self.state[part] for part in parameters]
            means, squares, steps = ([state[name] for state in states] for name in ("exp_avg", "exp_avg_sq", "step"))
            th._foreach_add_(steps, 1)
            beta1, beta2 = group["betas"]
            numbers = {name: group[name] for name in ("lr", "weight_decay", "eps", "amsgrad", "maximize")}
            th._fused_adam_(parameters, gradients, means, squares, [], steps, beta1=beta1, beta2=beta2, **numbers)


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


class MlpPolicy(ActionHead, NoDecisionWithoutTask, ActorCriticPolicy):
    """Two separate multilayer perceptrons for policy and value: PPO, A2C and AC without memory.

    history : int
        Observations stacked into one; the newest is the last.
    action_head, server_columns
        As for `ActionHead`; one score a server takes a history of 1.
    """

    def __init__(self, observation_space: spaces.Box, *args: Any, history: int = 1, **kwargs: Any):
        super().__init__(observation_space, *args, **kwargs)
        if history > 1 and self.per_server:
            raise InvalidInput("policy_kwargs.action_head", self.action_head, "flat or two_level with a history")
        width = observation_space.shape[0] // history
        self.size_column = width * (history - 1) + SIZE


class ToppoPolicy(ActionHead, NoDecisionWithoutTask, RecurrentActorCriticPolicy):
    """ActorLSTM and CriticLSTM, each followed by two fully connected layers (Section IV-B, Fig. 2).

    The output of the LSTM is concatenated with the current state before the fully connected layers. Actor and critic
    share nothing, so that each has a learning rate of its own: parameter group 0 of the optimizer is the actor's,
    group 1 the critic's.

    concatenate : bool
        False leaves the concatenation out, which is stock sb3-contrib's network.
    memory : {"lstm", "lstm_window", "transformer"}
        What holds the history: an LSTM whose state is carried through the episode; one that at every decision reads
        the latest observations from a zero state (R64); or the paper's future work.
    window : int, optional
        How many observations "lstm_window" reads, by default 10, or "transformer" sees beside the present one, 16.
    forget_bias : float
        Added to the biases of the LSTMs' forget gates before the training. With 0 an LSTM begins by forgetting half of
        its state a slot, and of what is 30 slots old no gradient is left; with 2 it keeps nine tenths (R38).
    action_head, server_columns
        As for `ActionHead`.
    optimizer_class : type
        A `ClippedAdam`.
    """

    def __init__(
        self,
        *args: Any,
        concatenate: bool = True,
        memory: str = "lstm",
        window: int | None = None,
        forget_bias: float = 0.0,
        **kwargs: Any,
    ):
        self.concatenate = concatenate
        self.memory = check_choice("memory", memory, ("lstm", "lstm_window", "transformer"))
        super().__init__(*args, **{"optimizer_class": ClippedAdam} | kwargs)
        self.forget_bias = check_number("policy_kwargs.forget_bias", forget_bias, 0.0, open_low=False)
        for lstm in (self.lstm_actor, self.lstm_critic):
            lstm.bias_ih_l0.data[lstm.hidden_size : 2 * lstm.hidden_size] += forget_bias
        length = () if window is None else (check_integer("window", window, 1),)
        if memory == "transformer":
            sizes = self.features_dim, self.lstm_output_dim, *length
            self.lstm_actor, self.lstm_critic = CausalTransformer(*sizes), CausalTransformer(*sizes)
        elif memory == "lstm_window":
            self.lstm_actor, self.lstm_critic = (
                WindowLSTM(lstm, *length) for lstm in (self.lstm_actor, self.lstm_critic)
            )
        if isinstance(self.lstm_actor, Window):
            depth, width = self.lstm_actor.state_shape
            self.lstm_hidden_state_shape = (depth, 1, width)
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
        self.mlp_extractor = self.layers(width)

    def initial_state(self, rows: int) -> State:
        """Empty memory for some rows: two tensors, (layers or window, rows, width)."""
        depth, _, width = self.lstm_hidden_state_shape
        return th.zeros(depth, rows, width), th.zeros(depth, rows, width)

    def remember(self, memory: nn.Module, observations: th.Tensor, state: State) -> tuple[th.Tensor, State]:
        """Run a memory over time-major sequences, (L, S, F): features for the layers behind it, and the next state."""
        run = partial(run_lstm, memory) if isinstance(memory, nn.LSTM) else memory
        output, state = run(observations[..., : self.features_dim], state)
        beside = observations if self.concatenate else observations[..., self.features_dim :]
        return th.cat([output, beside], dim=-1), state

    def act(self, observations: th.Tensor, state: State) -> tuple[th.Tensor, State]:
        """Log-probabilities of all actions, (L, S, A), for sequences (L, S, F), and the actor's next state."""
        features, state = self.remember(self.lstm_actor, self.sorted(observations), state)
        log_probs = self.log_probs(self.mlp_extractor.forward_actor(features.flatten(0, 1)))
        return log_probs.view(*observations.shape[:2], -1), state

    def value(self, observations: th.Tensor, state: State) -> tuple[th.Tensor, State]:
        """Values, (L, S), of sequences (L, S, F), and the critic's next state."""
        features, state = self.remember(self.lstm_critic, self.sorted(observations), state)
        values = self.value_net(self.mlp_extractor.forward_critic(features.flatten(0, 1)))
        return values.view(observations.shape[:2]), state

    def evaluate_sequences(
        self,
        observations: th.Tensor,
        actions: th.Tensor,
        actor_state: State,
        critic_state: State,
        entropy_gradient: bool = True,
    ) -> tuple[th.Tensor, th.Tensor, th.Tensor]:
        """Values, log-probabilities and entropies, (L, S) each, of time-major sequences that hold no episode start."""
        log_probs, _ = self.act(observations, actor_state)
        values, _ = self.value(observations, critic_state)
        decides = self.decides(observations)
        chosen = log_probs.gather(-1, actions.unsqueeze(-1)).squeeze(-1)
        with th.set_grad_enabled(th.is_grad_enabled() and entropy_gradient):
            entropy = -(log_probs.exp() * log_probs).sum(-1)
        return values, chosen * decides, entropy * decides

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
