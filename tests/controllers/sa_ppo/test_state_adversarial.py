"""The regulariser is what the theory says, changes nothing where its weight is zero, and does what it is for."""

from __future__ import annotations

import copy
import math
from typing import Any, Literal

import gymnasium
import numpy as np
import pytest
import torch
from gymnasium import spaces
from hypothesis import given
from hypothesis import strategies as st

from rlstab.controllers.sa_ppo.state_adversarial import NearbyMinibatch, RegularisedGradient, StateAdversarialLearner
from rlstab.controllers.sa_ppo.state_adversarial_config import StateAdversarialConfig
from rlstab.envs.registry import make_vec
from rlstab.errors import UserError
from rlstab.learning.flat import FlatParameters
from rlstab.learning.on_policy import OnPolicyLearner
from rlstab.learning.on_policy_config import OnPolicyConfig
from rlstab.learning.surrogate import Minibatch, gradient_rule
from rlstab.policies.actor_critic import ActorCritic, NetworkConfig

SMALL: dict[str, Any] = {"n_steps": 64, "batch_size": 64, "n_epochs": 3, "hidden_sizes": (16,)}


def made(env_id: str = "InvertedPendulum-v5", **changes: Any) -> StateAdversarialLearner:
    config = StateAdversarialConfig(**{**SMALL, "ramp": 0.0, **changes})
    return StateAdversarialLearner(make_vec(env_id, 2, 0), config, total_steps=4096)


def linear(gain: list[list[float]], std: list[float]) -> StateAdversarialLearner:
    """A learner whose actor is a matrix."""
    matrix = torch.tensor(gain)
    learner = made()
    box = spaces.Box(-np.inf, np.inf, (matrix.shape[1],), np.float32)
    acts = spaces.Box(-1.0, 1.0, (len(matrix),), np.float32)
    config = NetworkConfig(actor_hidden_sizes=(), normalize_observation=False)
    learner.network = ActorCritic(box, acts, config, torch.Generator())
    with torch.no_grad():
        learner.network.actor.layers[0].weight.copy_(matrix)
        learner.network.head.log_std.copy_(torch.tensor(std).log())
    return learner


@given(
    st.lists(st.floats(0.5, 3.0) | st.floats(-3.0, -0.5), min_size=1, max_size=6),
    st.floats(0.2, 1.0),
    st.floats(0.05, 1.0),
    st.sampled_from(["sgld", "pgd"]),
)
def test_of_one_linear_answer_the_maximum_is_known(
    gain: list[float], std: float, radius: float, inner: Literal["sgld", "pgd"]
) -> None:
    learner = linear([gain], [std])
    learner.config = StateAdversarialConfig(inner=inner, inner_steps=20)
    features = torch.randn(5, len(gain), generator=torch.Generator().manual_seed(1))
    change = learner._worst_change(radius, features, None)
    assert float(change.abs().max()) <= radius * (1 + 1e-6)
    actor, head = learner.network.actor, learner.network.head
    found = head.divergence(actor(features), actor(features + change)).detach().numpy()
    exact = 0.5 * (radius * np.abs(gain).sum() / std) ** 2
    assert (found <= exact * (1 + 1e-3)).all()
    # A search that begins near the observation, with noise, may end a few steps short of the corner.
    assert (found >= (0.7 if inner == "sgld" else 0.999) * exact).all()


@pytest.mark.parametrize("activation", ["tanh", "elu"])
def test_the_gradient_is_that_of_the_known_maximum(activation: str) -> None:
    gain, std, radius, kappa = torch.tensor([[0.5, -2.0, 1.0]]), 0.7, 0.1, 3.0
    learner = linear(gain.tolist(), [std])
    network = learner.network
    network.actor.activation = activation
    flat = FlatParameters(network.parameters())
    inputs = torch.randn(8, 3)
    nearby = inputs + radius * gain.sign()
    zeros = torch.zeros(8)
    batch = NearbyMinibatch(torch.zeros(8, 1), zeros, zeros, zeros, zeros, inputs, nearby)
    rule = RegularisedGradient(network, lambda batch: None, kappa)
    rule(batch)
    size = float(gain.abs().sum())
    torch.testing.assert_close(float(rule.found[0]), 0.5 * (radius * size / std) ** 2)
    expected = kappa * (radius / std) ** 2 * size * gain.sign()
    torch.testing.assert_close(network.actor.layers[0].weight.grad, expected)
    # Neither the offset nor the noise is to blame.
    assert float(flat.gradient.abs().sum()) == pytest.approx(float(expected.abs().sum()), rel=1e-5)


@pytest.mark.parametrize("action", [spaces.Box(-1.0, 1.0, (2,)), spaces.Discrete(3), spaces.MultiDiscrete([2, 3])])
@pytest.mark.parametrize("activation", ["tanh", "relu", "silu"])
def test_both_terms_are_differentiated(action: gymnasium.Space, activation: str) -> None:
    generator = torch.Generator().manual_seed(0)
    config = NetworkConfig(hidden_sizes=(8, 8), activation=activation)
    network = ActorCritic(spaces.Box(-1.0, 1.0, (4,)), action, config, generator)
    with torch.no_grad():
        network.actor.layers[-1].weight.mul_(100.0)
    flat = FlatParameters(network.parameters())
    inputs = torch.randn(6, 4, generator=generator)
    outputs = network.actor(inputs)
    actions = network.head.sample(outputs.detach(), generator).detach()
    log_probs = network.head(outputs).log_prob(actions).detach()
    parts = (actions, log_probs, torch.randn(6), torch.randn(6), torch.zeros(6), inputs)
    nearby = inputs + 0.1 * torch.randn(6, 4, generator=generator)
    plain = gradient_rule(network, OnPolicyConfig())
    flat.gradient.zero_()
    plain(Minibatch(*parts))
    first = flat.gradient.clone()
    flat.gradient.zero_()
    network.head.divergence(network.actor(inputs), network.actor(nearby)).mean().backward(
        inputs=list(network.actor.parameters())
    )
    second = flat.gradient.clone()
    flat.gradient.zero_()
    RegularisedGradient(network, plain, 1.5)(NearbyMinibatch(*parts, nearby))
    assert float(second.abs().max()) > 1e-4
    torch.testing.assert_close(flat.gradient, first + 1.5 * second, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("off", [{"kappa": 0.0}, {"epsilon": 0.0}])
def test_without_weight_or_radius_it_is_ppo_bit_for_bit(off: dict[str, float]) -> None:
    ours = made(**off)
    theirs = OnPolicyLearner(make_vec("InvertedPendulum-v5", 2, 0), OnPolicyConfig(**SMALL), total_steps=4096)
    for _ in range(3):
        ours.iterate()
        theirs.iterate()
    assert torch.equal(ours._flat.vector, theirs._flat.vector)


def test_the_radius_grows() -> None:
    learner = made(ramp=0.5, epsilon=0.2)
    radii = [learner.iterate()["train/epsilon"] for _ in range(24)]
    np.testing.assert_allclose(radii, 0.2 * np.minimum(1.0, np.arange(24) / 16), rtol=1e-6)


@pytest.mark.parametrize("inner", ["sgld", "pgd"])
def test_training_makes_the_policy_less_sensitive(inner: Literal["sgld", "pgd"]) -> None:
    def sensitivity(kappa: float) -> float:
        learner = made(kappa=kappa, epsilon=0.2, learning_rate=3e-3, inner=inner)
        for _ in range(20):
            learner.iterate()
        learner.config = StateAdversarialConfig(inner="pgd")
        features = learner.network.features(learner._rollout.observations.flatten(0, 1))
        change = learner._worst_change(0.2, features, None)
        actor = learner.network.actor
        moved = (actor(features + change) - actor(features)).detach()
        return float(moved.square().sum(-1).mean())

    assert sensitivity(30.0) < 0.3 * sensitivity(0.0)


def test_discrete_actions() -> None:
    learner = made("CartPole-v1")
    learner.iterate()
    metrics = learner.iterate()
    assert math.isfinite(metrics["train/divergence"])
    assert metrics["train/divergence"] > 0.0


def test_a_resumed_learner_equals_an_uninterrupted_one() -> None:
    one, two = made(), made()
    one.iterate()
    two.load_state_dict(copy.deepcopy(one.state_dict()))
    for _ in range(2):
        one.iterate()
        two.iterate()
    assert torch.equal(one._flat.vector, two._flat.vector)


def test_pictures_are_refused() -> None:
    class Pictures(gymnasium.Env):
        observation_space = spaces.Box(0, 255, (3, 40, 40), np.uint8)
        action_space = spaces.Discrete(2)

        def reset(self, *, seed: int | None = None, options: Any = None) -> Any:
            return np.zeros((3, 40, 40), np.uint8), {}

        def step(self, action: Any) -> Any:
            return np.zeros((3, 40, 40), np.uint8), 0.0, False, False, {}

    with pytest.raises(UserError, match="pictures"):
        StateAdversarialLearner(make_vec(Pictures, 1, 0))
