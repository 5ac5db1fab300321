"""Heads of the learning methods: what makes a decision among N + 1 places of a network's last layer."""

from itertools import chain
from typing import Any

import torch as th
from gymnasium import spaces
from stable_baselines3.common.distributions import Distribution
from stable_baselines3.common.policies import ActorCriticPolicy
from stable_baselines3.common.torch_layers import BaseFeaturesExtractor, MlpExtractor
from stable_baselines3.common.type_aliases import Schedule
from torch import nn
from torch.nn import functional

from aiecof.checks import check_choice, check_type
from aiecof.system.observations import observation_fields
from aiecof.system.scenario import Scenario

HEADS = ("flat", "two_level", "per_server", "two_level_per_server")
"""One softmax over all places; to stay or to leave and then where (R63); both with one score a server."""


def two_level_log_probs(scores: th.Tensor) -> th.Tensor:
    """Log-probabilities of a decision in two steps, to stay or to leave and then where to (R63).

    scores : (..., N + 1) float
        The first says how likely the device stays, by a sigmoid; the others choose the server, by a softmax.
    """
    stay, places = scores[..., :1], scores[..., 1:]
    return th.cat([functional.logsigmoid(stay), functional.logsigmoid(-stay) + places.log_softmax(-1)], dim=-1)


def server_columns(scenario: Scenario) -> list[list[int]]:
    """Columns of an observation that hold an entry for each server within reach: C numbers for each kind of entry.

    Found by asking which fields of `observation_fields` grow with one more server. Where a field has an entry for the
    device as well, that is its first.
    """
    larger = observation_fields(scenario.replace(servers=scenario.choices + 1, reach=None))
    return [
        list(range(columns.stop - scenario.choices, columns.stop))
        for name, (columns, _) in observation_fields(scenario).items()
        if larger[name][0].stop - larger[name][0].start > columns.stop - columns.start
    ]


class ServerFeatures(BaseFeaturesExtractor):
    """An observation in the order that a head with one score a server needs.

    columns : list of lists of int
        `server_columns`: K kinds of entries of C servers each.

    First what the layers read, of one length whatever C is: the columns that belong to no server, and of each kind of
    entry the mean, the least and the largest over the servers. `features_dim` counts these. After them, C x K numbers:
    the entries of each server.
    """

    def __init__(self, observation_space: spaces.Box, columns: list[list[int]]):
        own = sorted(set(range(observation_space.shape[0])) - set(chain(*columns)))
        super().__init__(observation_space, len(own) + 3 * len(columns))
        self.own, self.columns = th.tensor(own), th.tensor(columns)

    def forward(self, observations: th.Tensor) -> th.Tensor:
        """(..., F) -> (..., features_dim + C K)."""
        servers = observations[..., self.columns]
        pooled = servers.mean(-1), servers.amin(-1), servers.amax(-1)
        return th.cat([observations[..., self.own], *pooled, servers.transpose(-1, -2).flatten(-2)], dim=-1)


class SplitExtractor(MlpExtractor):
    """SB3's layers where the actor reads the first features only, and what follows all features passes it by.

    own, seen : int
        Features that the actor and the critic read.
    """

    def __init__(self, own: int, seen: int, *args: object):
        super().__init__(seen, *args)
        if own < seen:
            self.policy_net = MlpExtractor(own, *args).policy_net
        self.own, self.seen = own, seen

    def forward_actor(self, features: th.Tensor) -> th.Tensor:
        """(..., seen + more) -> (..., latent + more)."""
        return th.cat([self.policy_net(features[..., : self.own]), features[..., self.seen :]], dim=-1)

    def forward_critic(self, features: th.Tensor) -> th.Tensor:
        """(..., seen + more) -> (..., latent)."""
        return self.value_net(features[..., : self.seen])


class ServerScores(nn.Module):
    """One score for staying, from the device's features, and one for each server, from them and the server's entries.

    latent, kinds, hidden : int
        Features of the device, entries of a server (K), and width of the small network that all servers share.

    The weights do not know how many servers there are, and servers that change places change scores.
    """

    def __init__(self, latent: int, kinds: int, hidden: int = 32):
        super().__init__()
        self.latent, self.kinds = latent, kinds
        self.stay, self.device = nn.Linear(latent, 1), nn.Linear(latent, hidden)
        self.server, self.score = nn.Linear(kinds, hidden, bias=False), nn.Linear(hidden, 1)
        for layer, gain in {self.stay: 0.01, self.device: 2**0.5, self.server: 2**0.5, self.score: 0.01}.items():
            ActorCriticPolicy.init_weights(layer, gain)

    def forward(self, features: th.Tensor) -> th.Tensor:
        """(..., latent + C K) -> scores, (..., C + 1)."""
        latent = features[..., : self.latent]
        servers = features[..., self.latent :].unflatten(-1, (-1, self.kinds))
        both = th.tanh(self.device(latent).unsqueeze(-2) + self.server(servers))
        return th.cat([self.stay(latent), self.score(both).squeeze(-1)], dim=-1)


class ActionHead:
    """Mixin for actor-critic policies: how the last layer's scores become a decision.

    action_head : {"flat", "two_level", "per_server", "two_level_per_server"}
        One softmax over all places, or to stay or to leave and then where (R63); and either with one score a server,
        so that the weights fit any number of servers.
    server_columns : list of lists of int, optional
        Of the function of that name; needed for one score a server.
    """

    def __init__(
        self,
        *args: Any,
        action_head: str = "flat",
        server_columns: list[list[int]] | None = None,
        **kwargs: Any,
    ):
        self.action_head = check_choice("policy_kwargs.action_head", action_head, HEADS)
        self.per_server = action_head.endswith("per_server")
        if self.per_server:
            check_type("policy_kwargs.server_columns", server_columns, list)
            columns = {"columns": server_columns}
            kwargs |= {"features_extractor_class": ServerFeatures, "features_extractor_kwargs": columns}
        super().__init__(*args, **kwargs)

    def _build(self, lr_schedule: Schedule) -> None:
        super()._build(lr_schedule)
        if self.per_server:
            self.action_net = ServerScores(self.mlp_extractor.latent_dim_pi, len(self.features_extractor.columns))
            self.optimizer = self.optimizer_class(self.parameters(), lr=lr_schedule(1), **self.optimizer_kwargs)

    def _build_mlp_extractor(self) -> None:
        self.mlp_extractor = self.layers(self.features_dim)

    def layers(self, width: int) -> MlpExtractor:
        """The fully connected layers of actor and critic behind so many features."""
        how = self.net_arch, self.activation_fn, self.device
        return SplitExtractor(width, width, *how) if self.per_server else MlpExtractor(width, *how)

    def sorted(self, observations: th.Tensor) -> th.Tensor:
        """Observations, (..., F), as the layers read them: in their own order unless there is one score a server."""
        return self.features_extractor(observations) if self.per_server else observations

    def logits(self, latent: th.Tensor) -> th.Tensor:
        """What a softmax makes probabilities of, (..., N + 1)."""
        scores = self.action_net(latent)
        return two_level_log_probs(scores) if self.action_head.startswith("two_level") else scores

    def log_probs(self, latent: th.Tensor) -> th.Tensor:
        """Log-probabilities of all places, (..., N + 1)."""
        logits = self.logits(latent)
        return logits if self.action_head.startswith("two_level") else logits.log_softmax(-1)

    def _get_action_dist_from_latent(self, latent_pi: th.Tensor) -> Distribution:
        return self.action_dist.proba_distribution(action_logits=self.logits(latent_pi))
