"""TOPPO and the baselines against plain recomputations (Eqs. 32-37)."""

import numpy as np
import pytest
import torch as th
from sb3_contrib import RecurrentPPO
from sb3_contrib.common.recurrent.type_aliases import RNNStates
from stable_baselines3.common.callbacks import BaseCallback

from aiecof.agents.heads import two_level_log_probs
from aiecof.agents.memories import CausalTransformer
from aiecof.agents.methods import METHODS
from aiecof.agents.networks import ToppoPolicy
from aiecof.agents.toppo import TOPPO, clipped_objective, value_loss
from aiecof.checks import InvalidInput
from aiecof.envs import OffloadingVecEnv
from aiecof.system.scenario import load_scenario

th.set_num_threads(1)
SMALL = {"devices": 3, "servers": 2, "slots": 20}
MEMORIES = ("lstm", "lstm_window", "transformer")


class Still(BaseCallback):
    """A callback that only lets the training go on."""

    def _on_step(self):
        return True


def collected(memory="lstm", **kwargs):
    """A small TOPPO with one rollout in its buffer and no update yet."""
    env = OffloadingVecEnv(load_scenario("balanced", **SMALL | kwargs.pop("scenario", {})), replicas=2, seed=1)
    network = {"lstm_hidden_size": 16, "net_arch": [16, 16], "memory": memory} | kwargs.pop("network", {})
    model = TOPPO(
        ToppoPolicy, env, **({"n_steps": 40, "batch_size": 60, "seed": 3, "gamma": 0.9} | kwargs), policy_kwargs=network
    )
    model._setup_learn(240)
    callback = Still()
    callback.init_callback(model)
    assert model.collect_rollouts(env, callback, model.rollout_buffer, model.n_steps)
    return model


@pytest.mark.parametrize("head", ["flat", "two_level"])
@pytest.mark.parametrize("memory", MEMORIES)
def test_ratio_is_one_before_the_first_update(memory, head):
    model = collected(memory, network={"action_head": head})
    batch = model.minibatch(slice(None))
    _, log_probs, _ = model.policy.evaluate_sequences(
        batch["observations"], batch["actions"], batch["actor_state"], batch["critic_state"]
    )
    assert th.all((log_probs - batch["log_probs"]).exp() == 1.0)
    assert model.losses(batch, 0.2)["kl"] == 0.0
    assert model.losses(model.minibatch(th.tensor([4, 1, 7])), 0.2)["kl"].abs() < 1e-6


@pytest.mark.parametrize("head", ["flat", "two_level"])
@pytest.mark.parametrize("memory", MEMORIES)
def test_log_probabilities_are_those_the_actions_were_drawn_with(memory, head):
    model = collected(memory, network={"action_head": head})
    data, state = model.rollout_buffer, model.policy.initial_state(model.n_envs)
    for slot in range(model.n_steps):
        if slot == SMALL["slots"]:
            state = model.policy.initial_state(model.n_envs)
        log_probs, state = model.policy.act(th.as_tensor(data.observations[slot])[None], state)
        stored = model._sequences["log_probs"].unflatten(1, (4, model.n_envs))[slot % 10, slot // 10]
        chosen = log_probs[0].gather(1, th.as_tensor(data.actions[slot]).long()).squeeze(1)
        decides = model.policy.decides(th.as_tensor(data.observations[slot]))
        th.testing.assert_close(stored, chosen * decides, atol=1e-5, rtol=0)


@pytest.mark.parametrize("memory", MEMORIES)
def test_the_future_changes_no_past_output(memory):
    policy = collected(memory).policy
    observations = th.rand(12, 5, policy.features_dim)
    changed = observations.clone()
    changed[7:] += 1.0
    state = policy.initial_state(5)
    for output in (policy.act, policy.value):
        before, after = output(observations, state)[0], output(changed, state)[0]
        th.testing.assert_close(before[:7], after[:7])
        assert not th.allclose(before[7:], after[7:])


@pytest.mark.parametrize("memory", MEMORIES)
def test_a_sequence_cut_in_two_gives_the_same_outputs(memory):
    policy = collected(memory).policy
    observations, state = th.rand(12, 5, policy.features_dim), policy.initial_state(5)
    whole, _ = policy.act(observations, state)
    first, state = policy.act(observations[:5], state)
    second, _ = policy.act(observations[5:], state)
    th.testing.assert_close(whole, th.cat([first, second]), atol=1e-5, rtol=1e-5)


def test_the_transformer_forgets_what_left_its_window():
    memory = CausalTransformer(3, 8, window=4)
    past, state = th.rand(9, 2, 3), (th.zeros(4, 2, 4), th.zeros(4, 2, 4))
    changed = past.clone()
    changed[0] += 1.0
    before, after = memory(past, state)[0], memory(changed, state)[0]
    assert not th.allclose(before[4], after[4])
    th.testing.assert_close(before[5:], after[5:])


@pytest.mark.parametrize("window", [1, 4])
def test_a_window_s_decision_depends_on_the_last_observations_alone(window):
    """On each of the last `window`, on none before; and it is what the LSTM says of those from a zero state."""
    policy = collected("lstm_window", network={"window": window, "concatenate": False}).policy
    past = th.rand(9, 2, policy.features_dim)
    decided = policy.act(past, policy.initial_state(2))[0][-1]
    for slot in range(9):
        changed = past.clone()
        changed[slot] += 1.0
        after = policy.act(changed, policy.initial_state(2))[0][-1]
        assert th.equal(after, decided) == (slot < 9 - window)
    for slot in range(9):
        output, _ = policy.lstm_actor.lstm(past[max(0, slot + 1 - window) : slot + 1])
        th.testing.assert_close(policy.lstm_actor(past, policy.initial_state(2))[0][slot], output[-1])


def test_a_window_is_carried_from_sequence_to_sequence_and_empty_at_an_episode_s_start():
    model = collected("lstm_window", network={"window": 4})
    observations = th.as_tensor(model.rollout_buffer.observations)
    for name in ("actor_state", "critic_state"):
        before = model._sequences[name][0].unflatten(1, (4, model.n_envs))
        assert not before[:, [0, 2]].any()
        for sequence, slot in ((1, 10), (3, 30)):
            assert th.equal(before[:, sequence, :, :-1], observations[slot - 3 : slot])
            assert (before[:, sequence, :, -1] == 1.0).all()


@pytest.mark.parametrize("bad", [{"memory": "gru"}, {"action_head": "three"}, {"memory": "lstm_window", "window": 0}])
def test_an_unknown_part_of_the_network_is_refused(bad):
    with pytest.raises(InvalidInput, match=next(reversed(bad))):
        collected(network=bad)


def test_two_levels_are_a_coin_and_a_place():
    """Probabilities, entropy and gradients against the two decisions written out, one after the other (R63)."""
    scores = 3 * th.randn(50, 5, dtype=th.float64)
    log_probs = two_level_log_probs(scores)
    expected = np.empty((50, 5))
    for row, (stay, *places) in enumerate(scores.tolist()):
        home = 1 / (1 + np.exp(-stay))
        expected[row] = [home, *((1 - home) * np.exp(places) / np.exp(places).sum())]
    np.testing.assert_allclose(log_probs.exp(), expected, rtol=1e-12)
    coin, where = expected[:, 0], expected[:, 1:] / expected[:, 1:].sum(axis=1, keepdims=True)
    entropy = -coin * np.log(coin) - (1 - coin) * np.log(1 - coin)
    entropy -= (1 - coin) * (where * np.log(where)).sum(axis=1)
    np.testing.assert_allclose(-(log_probs.exp() * log_probs).sum(-1), entropy, rtol=1e-12)
    assert th.autograd.gradcheck(two_level_log_probs, scores[:3].requires_grad_())
    assert two_level_log_probs(th.tensor([[90.0, 0.0, 0.0], [-90.0, 0.0, 0.0]])).isfinite().all()


@th.no_grad()
def test_entropies_and_log_probabilities_are_those_of_the_head():
    model = collected(network={"action_head": "two_level"})
    batch = model.minibatch(slice(None))
    states = batch["actor_state"], batch["critic_state"]
    _, chosen, entropy = model.policy.evaluate_sequences(batch["observations"], batch["actions"], *states)
    probabilities = model.policy.act(batch["observations"], states[0])[0].exp()
    th.testing.assert_close(probabilities.sum(-1), th.ones(chosen.shape))
    for place in np.ndindex(*chosen.shape):
        decides, own = batch["decides"][place].item(), probabilities[place].numpy()
        assert chosen[place].item() == pytest.approx(decides * np.log(own[batch["actions"][place]]), abs=1e-5)
        assert entropy[place].item() == pytest.approx(-decides * (own * np.log(own)).sum(), abs=1e-5)


@th.no_grad()
@pytest.mark.parametrize(("head", "share"), [("flat", 1 / 3), ("two_level", 1 / 2)])
def test_an_untrained_policy_stays_as_its_head_says(head, share):
    model = collected(network={"action_head": head})
    observations = th.as_tensor(model.rollout_buffer.observations)
    log_probs, _ = model.policy.act(observations, model.policy.initial_state(model.n_envs))
    assert log_probs[..., 0].exp().numpy() == pytest.approx(share, abs=0.02)
    starts = th.zeros(40 * model.n_envs)
    state = RNNStates(*(model.policy.initial_state(40 * model.n_envs) for _ in range(2)))
    distribution, _ = model.policy.get_distribution(observations.flatten(0, 1), state.pi, starts)
    assert distribution.distribution.probs[:, 0].numpy() == pytest.approx(share, abs=0.02)


def test_memory_is_empty_where_an_episode_starts_and_not_elsewhere():
    model = collected()
    for name in ("actor_state", "critic_state"):
        hidden = model._sequences[name][0].unflatten(1, (4, model.n_envs))
        assert th.all(hidden[:, [0, 2]] == 0.0)
        assert th.all(hidden[:, [1, 3]].abs().sum(-1) > 0.0)


def test_an_episode_start_inside_a_sequence_is_refused():
    with pytest.raises(InvalidInput, match="sequence_length"):
        collected(scenario={"slots": 12}, n_steps=40)


def test_td_errors_and_advantages_are_those_of_plain_numpy():
    """By the sums themselves, backwards through every episode (Eqs. 32, 35)."""
    model = collected()
    data, gamma, decay = model.rollout_buffer, model.gamma, model.gae_lambda
    starts = np.concatenate([data.episode_starts[1:], model._last_episode_starts[None]])
    last = np.zeros(model.n_envs)
    following = np.concatenate([data.values[1:], last[None]])
    errors = data.rewards + gamma * following * (1 - starts) - data.values
    expected, running = np.zeros_like(errors), np.zeros(model.n_envs)
    for slot in reversed(range(model.n_steps)):
        running = errors[slot] + gamma * decay * (1 - starts[slot]) * running
        expected[slot] = running
    np.testing.assert_allclose(data.advantages, expected, rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(data.returns, expected + data.values, rtol=1e-4, atol=1e-5)
    assert np.all(starts[[19, 39]] == 1.0) and starts.sum() == 2 * model.n_envs


def test_losses_are_those_of_plain_numpy():
    """Element by element (Eqs. 33, 36)."""
    rng = np.random.default_rng(0)
    ratio, advantages = rng.uniform(0.5, 1.5, (5, 7)), rng.normal(size=(5, 7))
    decides = rng.random((5, 7)) < 0.6
    expected = [
        min(r * a, np.clip(r, 0.8, 1.2) * a)
        for r, a, d in zip(ratio.flat, advantages.flat, decides.flat, strict=True)
        if d
    ]
    arguments = [th.as_tensor(values) for values in (ratio, advantages, decides.astype(float))]
    assert clipped_objective(*arguments, 0.2).item() == pytest.approx(np.mean(expected))
    values, targets = rng.normal(size=9), rng.normal(size=9)
    expected = np.mean((values - targets) ** 2)
    assert value_loss(th.as_tensor(values), th.as_tensor(targets)).item() == pytest.approx(expected)


def test_without_concatenation_it_is_stock_recurrent_ppo(monkeypatch):
    """Same weights, same rollout, one minibatch: equal losses and gradients (Eqs. 33, 34, 36, 37)."""
    shared = {"gamma": 0.9, "n_epochs": 1, "max_grad_norm": 1e9, "ent_coef": 0.01, "seed": 3}
    network = {"lstm_hidden_size": 16, "net_arch": [16, 16]}
    scenario = {"arrival_probability": 1.0}
    ours = collected(
        scenario=scenario, n_steps=20, batch_size=120, sequence_length=20, network={"concatenate": False}, **shared
    )
    env = OffloadingVecEnv(ours.get_env().scenario, replicas=2, seed=1)
    stock = RecurrentPPO("MlpLstmPolicy", env, n_steps=20, batch_size=120, policy_kwargs=network, **shared)
    stock._setup_learn(120)
    stock.policy.load_state_dict(ours.policy.state_dict())
    data, buffer = ours.rollout_buffer, stock.rollout_buffer
    zeros = tuple(th.zeros(1, 6, 16) for _ in range(2))
    log_probs = ours._sequences["log_probs"]
    for slot in range(20):
        stored = data.observations[slot], data.actions[slot], data.rewards[slot], data.episode_starts[slot]
        values = th.as_tensor(data.values[slot])
        buffer.add(*stored, values, log_probs[slot], lstm_states=RNNStates(zeros, zeros))
    buffer.advantages, buffer.returns = data.advantages.copy(), data.returns.copy()
    monkeypatch.setattr(np.random, "randint", lambda *args, **kwargs: 0)
    stock.train()
    ours.train()
    for name, other in (("value", "value_loss"), ("policy", "policy_gradient_loss"), ("entropy", "entropy_loss")):
        loss, expected = (m.logger.name_to_value[f"train/{key}"] for m, key in ((ours, name), (stock, other)))
        assert loss == pytest.approx(expected, rel=1e-4, abs=1e-6)
    gradients = dict(stock.policy.named_parameters())
    for name, parameter in ours.policy.named_parameters():
        th.testing.assert_close(parameter.grad, gradients[name].grad, atol=1e-6, rtol=1e-4, msg=name)


def test_actor_and_critic_have_their_own_learning_rates():
    """alpha and beta, and nothing of the critic's loss reaches the actor (Eqs. 34, 37)."""
    model = collected(learning_rate=1e-3, critic_learning_rate=1e-4, n_epochs=1)
    model.train()
    actor, critic = model.policy.optimizer.param_groups
    assert (actor["lr"], critic["lr"]) == (1e-3, 1e-4)
    counts = [sum(parameter.numel() for parameter in group["params"]) for group in (actor, critic)]
    assert sum(counts) == sum(parameter.numel() for parameter in model.policy.parameters())
    model.update(model.minibatch(slice(None)), 0.2)
    model.policy.optimizer.zero_grad()
    model.losses(model.minibatch(slice(None)), 0.2)["value"].backward()
    assert all(parameter.grad is None or not parameter.grad.any() for parameter in actor["params"])


def test_a_large_step_ends_the_update():
    model = collected(learning_rate=0.5, target_kl=1e-9, n_epochs=10)
    model.train()
    assert model._n_updates == 1


@pytest.mark.parametrize("name", ["toppo", "ppo", "ppo-stacked", "a2c"])
def test_slots_without_a_task_move_no_policy(name):
    env = OffloadingVecEnv(load_scenario("balanced", **SMALL), seed=1)
    method = METHODS[name]
    model = method.build(env, seed=0)
    observations = th.rand(10, 3 * method.history, env.observation_space.shape[0]).flatten(1)
    observations = observations.reshape(10, 3, -1)
    newest = env.observation_space.shape[0] * (method.history - 1)
    observations[:, 1, newest + 1] = 0.0
    policy = model.policy
    results = []
    for actions in (th.zeros(10, 3, dtype=th.long), th.tensor([0, 2, 0]).expand(10, 3)):
        if name == "toppo":
            state = policy.initial_state(3)
            results.append(policy.evaluate_sequences(observations, actions, state, state))
        else:
            values, log_probs, entropy = policy.evaluate_actions(observations.flatten(0, 1), actions.flatten())
            results.append((values.reshape(10, 3), log_probs.reshape(10, 3), entropy.reshape(10, 3)))
    for first, second in zip(*results, strict=True):
        assert th.equal(first, second)
    values, log_probs, entropy = results[0]
    assert not log_probs[:, 1].any() and not entropy[:, 1].any()
    assert log_probs[:, 0].all() and entropy[:, 2].all() and values[:, 1].all()


@pytest.mark.parametrize("name", ["dqn", "double-dqn", "dueling-dqn", "d3qn"])
def test_without_a_task_all_actions_have_one_value(name):
    """So the maximum over them, from which the slot before bootstraps, is no maximum over noise."""
    env = OffloadingVecEnv(load_scenario("balanced", **SMALL), seed=1)
    model = METHODS[name].build(env, 0)
    observations = th.rand(6, env.observation_space.shape[0])
    with_task = model.q_net(observations)
    observations[:, 1] = 0.0
    values, raw = model.q_net(observations), model.q_net.action_values(observations)
    assert (with_task.std(dim=1) > 0).all()
    th.testing.assert_close(values, raw.mean(dim=1, keepdim=True).expand(-1, env.action_space.n))
    assert (raw.max(dim=1).values > values.max(dim=1).values).all()


def test_a_step_is_torch_s_own_to_the_last_digit():
    """`clip_grad_norm_` on each network, then Adam, beside the one call for both."""
    model = collected(network={"optimizer_kwargs": {"eps": 1e-5, "fused": True}}, max_grad_norm=0.05)
    other = collected(network={"optimizer_kwargs": {"eps": 1e-5, "fused": True}}, max_grad_norm=0.05)
    plain = th.optim.Adam(other.policy.optimizer.param_groups, eps=1e-5, fused=True)
    for chosen in (th.arange(3), th.arange(3, 12), th.arange(2, 9)):
        assert model.update(model.minibatch(chosen), 0.2) is not None
        losses = other.losses(other.minibatch(chosen), 0.2)
        plain.zero_grad()
        (losses["policy"] + other.vf_coef * losses["value"]).backward()
        for group in plain.param_groups:
            th.nn.utils.clip_grad_norm_(group["params"], 0.05)
        plain.step()
    others = other.policy.state_dict()
    assert all(th.equal(value, others[name]) for name, value in model.policy.state_dict().items())


def test_a_network_s_step_is_limited_by_its_own_gradient():
    """A critic that is far off does not slow the actor."""
    moves = []
    for scale in (1.0, 1e6):
        model = collected(max_grad_norm=0.5)
        batch = model.minibatch(slice(None))
        batch["returns"] = batch["returns"] * scale
        model.update(batch, 0.2)
        actor, critic = model.policy.optimizer.param_groups
        norms = [
            th.cat([p.grad.flatten() for p in group["params"] if p.grad is not None]).norm()
            for group in (actor, critic)
        ]
        assert norms[1] <= 0.5 + 1e-5
        moves.append(norms[0].item())
    assert moves[0] == pytest.approx(moves[1], rel=1e-5) and moves[0] > 0


def linear(layer, weights, bias=0.0):
    """Set a linear layer to given numbers."""
    with th.no_grad():
        layer.weight.copy_(th.as_tensor(weights))
        layer.bias.fill_(bias)


def test_double_dqn_values_the_online_choice_with_the_target_network():
    env = OffloadingVecEnv(load_scenario("balanced", **SMALL), seed=1)
    model = METHODS["double-dqn"].build(env, 0, policy_kwargs={"net_arch": []})
    width = env.observation_space.shape[0]
    online, target = np.zeros((3, width)), np.zeros((3, width))
    online[:, 0], target[:, 0] = [1.0, 3.0, 2.0], [10.0, 20.0, 30.0]
    linear(model.q_net.q_net[0], online)
    linear(model.q_net_target.q_net[0], target)
    observations = th.zeros(2, width)
    observations[:, 0], observations[:, 1] = th.tensor([1.0, -1.0]), 1.0
    assert model.next_values(observations).flatten().tolist() == [20.0, -10.0]
    assert model.q_net_target(observations).max(1).values.tolist() == [30.0, -10.0]


@pytest.mark.parametrize("name", ["dueling-dqn", "d3qn"])
def test_dueling_is_value_plus_centred_advantage(name):
    env = OffloadingVecEnv(load_scenario("balanced", **SMALL), seed=1)
    model = METHODS[name].build(env, 0, policy_kwargs={"net_arch": [2]})
    width = env.observation_space.shape[0]
    for network, scale in ((model.q_net, 1.0), (model.q_net_target, 10.0)):
        body = np.zeros((2, width))
        body[0, 0] = body[1, 1] = 1.0
        linear(network.q_net[0], body)
        linear(network.state_value, scale * np.array([[1.0, 1.0]]))
        linear(network.advantage, scale * np.array([[0.0, 3.0], [3.0, 0.0], [0.0, 0.0]]))
    observations = th.zeros(1, width)
    observations[0, :2] = th.tensor([1.0, 2.0])
    assert model.q_net(observations).flatten().tolist() == [6.0, 3.0, 0.0]
    assert model.q_net_target(observations).flatten().tolist() == [60.0, 30.0, 0.0]
    if name == "d3qn":
        with th.no_grad():
            model.q_net.advantage.weight.neg_()
        assert model.next_values(observations).item() == 0.0


def test_one_step_of_double_dqn_is_the_hand_computed_one(monkeypatch):
    env = OffloadingVecEnv(load_scenario("balanced", **SMALL), seed=1)
    model = METHODS["double-dqn"].build(env, 0, policy_kwargs={"net_arch": []}, learning_starts=0)
    model.learn(30)
    data = model.replay_buffer.sample(8)
    monkeypatch.setattr(model.replay_buffer, "sample", lambda *args, **kwargs: data)
    online, target = (
        [value.detach().numpy().copy() for value in network.q_net[0].parameters()]
        for network in (model.q_net, model.q_net_target)
    )

    def values(observations, parameters):
        raw = observations @ parameters[0].T + parameters[1]
        return np.where(observations[:, 1:2] > 0, raw, raw.mean(axis=1, keepdims=True))

    observations, following = data.observations.numpy(), data.next_observations.numpy()
    assert (following[:, 1] == 0).any() and (following[:, 1] > 0).any()
    chosen = values(following, online).argmax(1)
    value = values(following, target)[np.arange(8), chosen]
    targets = data.rewards.numpy()[:, 0] + 0.9 * (1 - data.dones.numpy()[:, 0]) * value
    errors = values(observations, online)[np.arange(8), data.actions.numpy()[:, 0]] - targets
    huber = np.where(np.abs(errors) < 1, 0.5 * errors**2, np.abs(errors) - 0.5).mean()
    model.train(1, 8)
    assert model.logger.name_to_value["train/loss"] == pytest.approx(huber, rel=1e-5)


def test_exploration_tosses_a_coin_for_every_row():
    env = OffloadingVecEnv(load_scenario("balanced", devices=200, slots=20), seed=1)
    model = METHODS["dqn"].build(env, 0)
    observations = env.reset()
    model.exploration_rate = 0.5
    greedy, _ = model.predict(observations, deterministic=True)
    mixed, _ = model.predict(observations)
    assert 0.25 < np.mean(greedy != mixed) < 0.6


def test_a2c_sees_further_than_ac():
    a2c, ac = METHODS["a2c"].hyperparameters, METHODS["ac"].hyperparameters
    different = {name for name in a2c if a2c[name] != ac[name]}
    assert different == {"n_steps", "gae_lambda"}
    assert (ac["n_steps"][0], ac["gae_lambda"][0]) == (1, 0.0)


def test_minibatches_of_slots_without_tasks_teach_nothing_and_break_nothing():
    """Where slots have several rounds, most rounds are empty, and so are whole minibatches."""
    env = OffloadingVecEnv("balanced", seed=0, slots=20, devices=2, arrival_probability=0.02)
    model = METHODS["toppo"].build(env, 0, batch_size=10, sequence_length=10)
    before = {name: value.clone() for name, value in model.policy.state_dict().items()}
    model.learn(20 * 2 * 5)
    after = model.policy.state_dict()
    assert all(value.isfinite().all() for value in after.values())
    assert any((after[name] != value).any() for name, value in before.items())
