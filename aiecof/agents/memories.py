"""Memories of the learning methods: what holds a device's history, as modules with the interface of `nn.LSTM`."""

import torch as th
from torch import nn
from torch.nn import functional

from aiecof.checks import check_integer

State = tuple[th.Tensor, th.Tensor]
MANY = 1_000
"""Devices from which on a Transformer's decision is computed in the order of sums that takes least time."""


class Window(nn.Module):
    """A memory of a device's latest observations, with the interface of `nn.LSTM`.

    The state it carries is the `window` observations before the sequence, each with a flag that tells a real one (1)
    from the emptiness before an episode (0).
    """

    num_layers = 1

    def __init__(self, input_size: int, hidden_size: int, window: int):
        super().__init__()
        self.input_size, self.hidden_size, self.window = input_size, hidden_size, window

    @property
    def state_shape(self) -> tuple[int, int]:
        """(window, F + 1): what one device carries from sequence to sequence."""
        return self.window, self.input_size + 1

    def extended(self, sequence: th.Tensor, state: State) -> tuple[th.Tensor, State]:
        """(L, S, F) and a window of (W, S, F + 1) -> both in a row, (W + L, S, F + 1), and the next window."""
        tokens = th.cat([state[0], functional.pad(sequence, (0, 1), value=1.0)])
        return tokens, (tokens[len(sequence) :], state[1])


def run_lstm(lstm: nn.LSTM, sequence: th.Tensor, state: State) -> tuple[th.Tensor, State]:
    """An LSTM's own `forward` without its checks: (L, S, F) and a state -> outputs (L, S, H) and the next state."""
    how = lstm.bias, lstm.num_layers, lstm.dropout, lstm.training, lstm.bidirectional, lstm.batch_first
    output, hidden, cell = th.lstm(sequence, state, lstm._flat_weights, *how)
    return output, (hidden, cell)


class WindowLSTM(Window):
    """An LSTM that begins at every decision from a zero state and reads the latest observations (R64).

    lstm : nn.LSTM
        What reads; it is given no state.
    observations : int
        How many it reads at most, the present one included; fewer where the episode is younger.
    """

    def __init__(self, lstm: nn.LSTM, observations: int = 10):
        super().__init__(lstm.input_size, lstm.hidden_size, check_integer("window", observations, 1) - 1)
        self.lstm = lstm

    def forward(self, sequence: th.Tensor, state: State) -> tuple[th.Tensor, State]:
        """(L, S, F) and a window of (W, S, F + 1) -> outputs (L, S, H) and the next window."""
        tokens, state = self.extended(sequence, state)
        windows = tokens.unfold(0, self.window + 1, 1).permute(3, 0, 1, 2).flatten(1, 2)
        last = windows[..., -1].sum(dim=0).long() - 1
        order = (th.arange(self.window + 1)[:, None] + self.window - last).clamp(max=self.window)
        real_first = windows[..., :-1].gather(0, order[..., None].expand(-1, -1, self.input_size))
        outputs = self.lstm(real_first)[0].gather(0, last[None, :, None].expand(-1, -1, self.hidden_size))
        return outputs.view(*sequence.shape[:2], -1), state


class CausalTransformer(Window):
    """One causal transformer block over a device's latest observations.

    Every output sees its own observation and the `window` before it, never a later one.
    """

    def __init__(self, input_size: int, hidden_size: int, window: int = 16, heads: int = 4):
        super().__init__(input_size, hidden_size, window)
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

    def forward(self, sequence: th.Tensor, state: State) -> tuple[th.Tensor, State]:
        """(L, S, F) and a window of (W, S, F + 1) -> outputs (L, S, H) and the next window."""
        length, rows, _ = sequence.shape
        tokens, state = self.extended(sequence, state)
        real = tokens[..., -1] > 0
        x = self.embed(tokens[..., :-1])
        bias = self._bias(length, real.T[:, None, None, :])
        mix = self._mix_newest if length == 1 and rows >= MANY else self._mix
        x = x[self.window :] + self.project(mix(self.norm(x), bias))
        return x + self.feed(x), state

    def _mix(self, x: th.Tensor, bias: th.Tensor) -> th.Tensor:
        """What attention makes of tokens, (W + L, S, H), for the last L of them: (L, S, H)."""
        shape = (*x.shape[:2], self.heads, self.hidden_size // self.heads)
        q, k, v = (part.reshape(shape).permute(1, 2, 0, 3) for part in self.attend(x).chunk(3, dim=-1))
        scores = q[:, :, self.window :] @ k.transpose(-1, -2) / shape[-1] ** 0.5 + bias
        return (scores.softmax(-1) @ v).permute(2, 0, 1, 3).flatten(2)

    def _mix_newest(self, x: th.Tensor, bias: th.Tensor) -> th.Tensor:
        """The same for the last token alone, without the keys and values of the others.

        q . (K x) = (K' q) . x, and the sum of a V x is V times the sum of a x: a third of the time for a thousand
        devices, but other last digits than those that results were computed with.
        """
        each = (self.heads, self.hidden_size // self.heads)
        q, k, v = (part.unflatten(0, each) for part in self.attend.weight.chunk(3))
        q_bias, k_bias, v_bias = (part.unflatten(0, each) for part in self.attend.bias.chunk(3))
        query = th.einsum("sc,hdc->shd", x[-1], q) + q_bias
        past = x.transpose(0, 1)
        scores = th.einsum("shd,hdc->shc", query, k) @ past.transpose(1, 2) + (query * k_bias).sum(-1, keepdim=True)
        shares = (scores / each[1] ** 0.5 + bias.squeeze(2)).softmax(-1)
        return (th.einsum("shc,hdc->shd", shares @ past, v) + v_bias).flatten(1)[None]

    def _bias(self, length: int, real: th.Tensor) -> th.Tensor:
        """Attention bias by distance into the past; minus infinity for the future, the far past and the unreal."""
        age = th.arange(length)[:, None] + self.window - th.arange(length + self.window)[None, :]
        inside = (age >= 0) & (age <= self.window)
        bias = self.position[age.clamp(0, self.window)].permute(2, 0, 1)
        return bias[None].masked_fill(~(inside & real), -th.inf)
