"""The closed-form gradient is autograd's, and autograd's loss is Stable-Baselines3's."""

import numpy as np
import pytest
import torch
from gymnasium import spaces
from hypothesis import given, settings
from hypothesis import strategies as st

from rlstab.learning.flat import FlatParameters
from rlstab.learning.on_policy_config import OnPolicyConfig
from rlstab.learning.surrogate import AutogradGradient, ClosedFormGradient, Minibatch, gradient_rule
from rlstab.policies.actor_critic import ActorCriticPolicy, NetworkConfig

CONTINUOUS = spaces.Box(-1.0, 1.0, (3,))
DISCRETE = spaces.Discrete(4)


def make_batch(policy: ActorCriticPolicy, count: int, seed: int) -> Minibatch:
    """Samples whose probability ratios are spread well outside the clip range."""
    rng = torch.Generator().manual_seed(seed)
    network = policy.module
    inputs = torch.randn((count, 5), generator=rng)
    with torch.no_grad():
        outputs = network.actor(inputs)
        actions = network.head.sample(outputs, rng)
        log_probs = network.head(outputs).log_prob(actions) + 0.3 * torch.randn(count, generator=rng)
    draw = lambda: torch.randn(count, generator=rng)  # noqa: E731
    return Minibatch(
        inputs=inputs, actions=actions, log_probs=log_probs, advantages=draw(), returns=draw(), values=draw()
    )


@settings(max_examples=30)
@given(
    seed=st.integers(0, 1000),
    count=st.integers(2, 70),
    action_space=st.sampled_from([CONTINUOUS, DISCRETE]),
    activation=st.sampled_from(["tanh", "relu"]),
    hidden=st.sampled_from([(), (7,), (6, 5), (8, 4, 6)]),
    ent_coef=st.sampled_from([0.0, 0.03]),
    normalize=st.booleans(),
)
def test_closed_form_equals_autograd(seed, count, action_space, activation, hidden, ent_coef, normalize):
    config = OnPolicyConfig(ent_coef=ent_coef, normalize_advantage=normalize)
    network_config = NetworkConfig(hidden_sizes=hidden, activation=activation, log_std_init=-0.4)
    policy = ActorCriticPolicy(spaces.Box(-9.0, 9.0, (5,)), action_space, network_config, seed)
    with torch.no_grad():  # Small initial output weights would hide errors in the actor's gradient.
        policy.module.actor.linears[-1].weight.mul_(50.0)
    flat = FlatParameters(policy.module.parameters())
    batch = make_batch(policy, count, seed)

    flat.gradient.zero_()
    expected_statistics = AutogradGradient(policy.module, config)(batch).summary(config.clip_range)
    expected = flat.gradient.clone()
    flat.gradient.fill_(123.0 if action_space is DISCRETE else 0.0)  # The closed form writes; it never adds.
    statistics = ClosedFormGradient(policy.module, config)(batch).summary(config.clip_range)

    torch.testing.assert_close(flat.gradient, expected, rtol=2e-4, atol=2e-6)
    for name, value in expected_statistics.items():
        torch.testing.assert_close(statistics[name], value, rtol=1e-4, atol=1e-6)


def test_gradient_matches_stable_baselines3():
    """One step of plain gradient descent on the same samples moves both learners' networks alike."""
    import gymnasium
    from stable_baselines3 import PPO
    from stable_baselines3.common.vec_env import DummyVecEnv

    sb3 = PPO("MlpPolicy", DummyVecEnv([lambda: gymnasium.make("Pendulum-v1")]), n_steps=64, batch_size=64, seed=3)
    policy = ActorCriticPolicy(sb3.observation_space, sb3.action_space, NetworkConfig(normalize_observation=False), 0)
    ours, theirs = policy.module, sb3.policy
    linear = lambda network: [layer for layer in network if isinstance(layer, torch.nn.Linear)]  # noqa: E731
    their_actor = [*linear(theirs.mlp_extractor.policy_net), theirs.action_net]
    their_critic = [*linear(theirs.mlp_extractor.value_net), theirs.value_net]
    pairs = [*zip(ours.actor.layers, their_actor, strict=True), *zip(ours.critic.layers, their_critic, strict=True)]
    with torch.no_grad():
        for mine, other in pairs:
            mine.weight.copy_(other.weight)
            mine.bias.copy_(other.bias)
    flat = FlatParameters(ours.parameters())
    rng = torch.Generator().manual_seed(0)
    draw = lambda *shape: torch.randn(shape, generator=rng)  # noqa: E731
    observations, actions, advantages, returns = draw(64, 3), draw(64, 1), draw(64), draw(64)

    values, log_prob, entropy = theirs.evaluate_actions(observations, actions)
    old = log_prob.detach() + 0.3 * draw(64)
    normalised = (advantages - advantages.mean()) / (advantages.std() + 1e-8)
    ratio = torch.exp(log_prob - old)
    surrogate = -torch.min(normalised * ratio, normalised * torch.clamp(ratio, 0.8, 1.2)).mean()
    loss = surrogate + 0.01 * -torch.mean(entropy) + 0.5 * torch.nn.functional.mse_loss(returns, values.flatten())
    theirs.zero_grad()
    loss.backward()

    config = OnPolicyConfig(ent_coef=0.01)
    ClosedFormGradient(ours, config)(
        Minibatch(
            inputs=observations,
            actions=actions,
            log_probs=old,
            advantages=advantages,
            returns=returns,
            values=values.detach().flatten(),
        )
    )
    for mine, other in pairs:
        torch.testing.assert_close(mine.weight.grad, other.weight.grad, rtol=1e-4, atol=1e-6)
        torch.testing.assert_close(mine.bias.grad, other.bias.grad, rtol=1e-4, atol=1e-6)
    torch.testing.assert_close(ours.head.log_std.grad, theirs.log_std.grad, rtol=1e-4, atol=1e-6)
    assert float(flat.gradient.abs().max()) > 0.0


@pytest.mark.parametrize(
    ("network", "config", "space"),
    [
        (NetworkConfig(activation="elu"), OnPolicyConfig(), CONTINUOUS),
        (NetworkConfig(), OnPolicyConfig(clip_range_vf=0.2), CONTINUOUS),
        (NetworkConfig(), OnPolicyConfig(), spaces.MultiDiscrete([2, 3])),
    ],
)
def test_autograd_serves_what_has_no_closed_form(network, config, space):
    policy = ActorCriticPolicy(spaces.Box(-9.0, 9.0, (5,)), space, network)
    rule = gradient_rule(policy.module, config)
    assert isinstance(rule, AutogradGradient)
    flat = FlatParameters(policy.module.parameters())
    rule(make_batch(policy, 16, 0))
    assert np.isfinite(flat.gradient.numpy()).all()
    assert float(flat.gradient.abs().sum()) > 0.0


def test_clip_gradient_bounds_the_norm():
    layer = torch.nn.Linear(4, 3)
    flat = FlatParameters(layer.parameters())
    flat.gradient.copy_(torch.arange(15.0))
    norm = flat.clip_gradient(0.5)
    assert float(norm) == pytest.approx(float(torch.arange(15.0).norm()))
    assert float(flat.gradient.norm()) == pytest.approx(0.5, rel=1e-4)
    assert layer.weight.grad is not None
    assert float(layer.weight.grad.norm()) < 0.5
