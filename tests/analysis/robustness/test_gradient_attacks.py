"""Attacks by gradient against policies whose worst change is known."""

from __future__ import annotations

from typing import Any

import gymnasium
import numpy as np
import pytest
import stable_baselines3 as sb3
import torch
from gymnasium import spaces
from hypothesis import given
from hypothesis import strategies as st

from rlstab.analysis.evaluation import evaluate
from rlstab.analysis.robustness.action_value import ActionValue
from rlstab.analysis.robustness.gradient_attacks import CriticAttack, MaximalActionDifference, RobustSarsa
from rlstab.analysis.robustness.observation_attacks import AttackedPolicy, AttackState, RandomUniform, RandomVertex
from rlstab.analysis.robustness.victims import victim_of
from rlstab.errors import UserError
from rlstab.policies.actor_critic import ActorCriticPolicy, NetworkConfig
from rlstab.policies.sb3 import SB3Policy

slopes = st.lists(st.floats(0.1, 3.0) | st.floats(-3.0, -0.1), min_size=1, max_size=6)


def linear(gain: list[list[float]], value: list[float] | None = None, std: float = 1.0) -> ActorCriticPolicy:
    """``a = K o``, ``V = w o``."""
    observed = spaces.Box(-np.inf, np.inf, (len(gain[0]),), np.float64)
    acts = spaces.Box(-np.inf, np.inf, (len(gain),), np.float32)
    config = NetworkConfig(hidden_sizes=(), normalize_observation=False, log_std_init=float(np.log(std)))
    policy = ActorCriticPolicy(observed, acts, config)
    with torch.no_grad():
        policy.module.actor.layers[0].weight.copy_(torch.tensor(gain))
        if value is not None:
            policy.module.critic.layers[0].weight.copy_(torch.tensor([value]))
    return policy


def change_of(policy: Any, attack: Any, observations: np.ndarray, seed: int = 0) -> np.ndarray:
    count = len(observations)
    place = AttackState(None, np.arange(count, dtype=np.uint64), np.zeros(count, np.int64))
    return AttackedPolicy(policy, attack, seed).changes(observations, place)


@given(gain=slopes, epsilon=st.floats(0.01, 1.0), seed=st.integers(0, 99))
def test_of_one_linear_action_the_largest_difference_is_along_the_gains_signs(
    gain: list[float], epsilon: float, seed: int
) -> None:
    observations = np.random.default_rng(seed).normal(size=(5, len(gain)))
    found = change_of(linear([gain]), MaximalActionDifference(epsilon=epsilon), observations, seed)
    along = found * np.sign(gain)
    # Ten steps from a corner one step away reach at least nine tenths of the radius, all to one side.
    assert ((along >= 0.89 * epsilon).all(1) | (along <= -0.89 * epsilon).all(1)).all()
    longer = change_of(
        linear([gain]), MaximalActionDifference(epsilon=epsilon, steps=25, step=0.1 * epsilon), observations
    )
    np.testing.assert_allclose(np.abs(longer), epsilon, rtol=1e-5)


@given(weight=slopes, epsilon=st.floats(0.01, 1.0), seed=st.integers(0, 99))
def test_on_a_linear_critic_the_attack_goes_down_its_slope(weight: list[float], epsilon: float, seed: int) -> None:
    observations = np.random.default_rng(seed).normal(size=(5, len(weight)))
    policy = linear([[1.0] * len(weight)], weight)
    found = change_of(policy, CriticAttack(epsilon=epsilon), observations, seed)
    assert (-found * np.sign(weight) >= 0.89 * epsilon).all()
    longer = change_of(policy, CriticAttack(epsilon=epsilon, steps=11, step=0.1 * epsilon), observations, seed)
    np.testing.assert_allclose(longer, -epsilon * np.broadcast_to(np.sign(weight), longer.shape), rtol=1e-5)


@given(scale=st.lists(st.floats(0.01, 10.0), min_size=2, max_size=2))
def test_scales_are_units_of_the_observation(scale: list[float]) -> None:
    """With two actions the corner that moves them most depends on the scales."""
    gain = np.array([[1.0, 0.4], [0.3, -1.0]])
    policy = linear(gain.tolist())
    attack = MaximalActionDifference(epsilon=0.5, steps=20, step=0.05, scales=(scale[0], scale[1]))
    found = change_of(policy, attack, np.zeros((8, 2)))
    corners = 0.5 * np.array([[1, 1], [1, -1]]) * scale
    best = np.square(corners @ gain.T).sum(1).max()
    reached = np.square(found * scale @ gain.T).sum(1)
    assert reached.max() <= best * (1 + 1e-4)
    assert reached.max() >= 0.98 * best


def test_a_stronger_attack_moves_a_policy_further_than_chance() -> None:
    observed = spaces.Box(-np.inf, np.inf, (6,), np.float64)
    policy = ActorCriticPolicy(observed, spaces.Box(-1.0, 1.0, (2,)), NetworkConfig(hidden_sizes=(32, 32)), seed=1)
    with torch.no_grad():
        policy.module.actor.layers[-1].weight.mul_(100.0)
    observations = np.random.default_rng(0).normal(size=(64, 6))
    divergence = victim_of(policy).divergence_from(torch.as_tensor(observations).float())

    def moved(attack: Any) -> np.ndarray:
        change = change_of(policy, attack, observations)
        return divergence(torch.as_tensor(observations + change).float()).detach().numpy()

    strongest = moved(MaximalActionDifference(epsilon=0.3))
    assert (strongest >= moved(RandomUniform(epsilon=0.3))).mean() > 0.98
    assert (strongest >= moved(RandomVertex(epsilon=0.3))).mean() > 0.9
    assert strongest.mean() > 2.0 * moved(RandomVertex(epsilon=0.3)).mean()


def test_returns_fall_with_the_strength_of_the_attack() -> None:
    """A regulated mass: its observation is what its controller multiplies."""
    observed = spaces.Box(-np.inf, np.inf, (2,), np.float64)
    policy = linear([[-2.3, -2.4]])
    policy.observation_space = observed

    def under(attack: Any) -> float:
        found = evaluate(AttackedPolicy(policy, attack), "rlstab/LinearQuadratic-S2-v0", episodes=16)
        return float(found.returns.mean())

    natural = float(evaluate(policy, "rlstab/LinearQuadratic-S2-v0", episodes=16).returns.mean())
    chance, worst = under(RandomUniform(epsilon=0.2)), under(MaximalActionDifference(epsilon=0.2))
    assert worst < chance < natural


@pytest.mark.parametrize("action", [spaces.Discrete(3), spaces.MultiDiscrete([2, 2]), spaces.MultiBinary(2)])
def test_discrete_actions(action: gymnasium.Space) -> None:
    observed = spaces.Box(-1.0, 1.0, (4,), np.float32)
    policy = ActorCriticPolicy(observed, action, NetworkConfig(hidden_sizes=(8,)), seed=2)
    with torch.no_grad():
        policy.module.actor.layers[-1].weight.mul_(100.0)
    observations = np.random.default_rng(0).normal(size=(200, 4)).astype(np.float32)
    clean, _ = policy.predict(observations, deterministic=True)

    def flipped(attack: Any) -> float:
        found, _ = AttackedPolicy(policy, attack).predict(observations, deterministic=True)
        return float((found != clean).reshape(200, -1).any(1).mean())

    assert flipped(MaximalActionDifference(epsilon=0.3)) > 1.2 * flipped(RandomUniform(epsilon=0.3)) > 0.0


def test_one_observation_is_attacked_as_in_a_batch() -> None:
    policy = linear([[1.0, -2.0]], [1.0, 1.0])
    attacked = AttackedPolicy(policy, MaximalActionDifference(epsilon=0.2))
    batch, _ = attacked.predict(np.ones((3, 2)), deterministic=True)
    alone, _ = attacked.predict(np.ones(2), deterministic=True)
    np.testing.assert_allclose(batch[0], alone, rtol=1e-6)


def test_attacks_leave_the_policy_and_the_random_numbers_as_they_are() -> None:
    policy = linear([[1.0, -2.0]], [1.0, 1.0])
    before = torch.get_rng_state()
    for attack in (MaximalActionDifference(epsilon=0.2), CriticAttack(epsilon=0.2)):
        AttackedPolicy(policy, attack).predict(np.ones((3, 2)), deterministic=True)
    assert torch.equal(before, torch.get_rng_state())
    assert all(parameter.grad is None for parameter in policy.module.parameters())


@pytest.mark.parametrize(
    ("algorithm", "env_id"), [("sac", "Pendulum-v1"), ("td3", "Pendulum-v1"), ("dqn", "CartPole-v1")]
)
def test_policies_of_stable_baselines(algorithm: str, env_id: str) -> None:
    env = gymnasium.make(env_id)
    model = getattr(sb3, algorithm.upper())("MlpPolicy", env, seed=0, buffer_size=10)
    policy = SB3Policy(model.policy, algorithm, env.observation_space, env.action_space)
    _attack_hard(policy, len(np.atleast_1d(env.observation_space.sample())))


@pytest.mark.parametrize("env_id", ["Pendulum-v1", "CartPole-v1"])
def test_on_policy_networks_of_stable_baselines(env_id: str) -> None:
    policy = sb3.PPO("MlpPolicy", env_id, seed=0, n_steps=8, batch_size=8).policy
    _attack_hard(policy, len(policy.observation_space.sample()))


def _attack_hard(policy: Any, size: int) -> None:
    observations = np.random.default_rng(0).normal(size=(16, size)).astype(np.float32)
    victim = victim_of(policy)
    clean = torch.as_tensor(observations)
    divergence = victim.divergence_from(clean)
    surprise = divergence(clean).detach().numpy()
    for attack, gain in (
        (MaximalActionDifference(epsilon=0.3), lambda seen: divergence(seen).detach().numpy() - surprise),
        (CriticAttack(epsilon=0.3), lambda seen: (victim.value(clean) - victim.value(seen)).detach().numpy()),
    ):
        found, chance = (
            gain(torch.as_tensor(observations + change_of(policy, kind, observations)).float())
            for kind in (attack, RandomUniform(epsilon=0.3))
        )
        assert found.mean() > 0.0
        assert found.mean() > chance.mean()
        action, _ = AttackedPolicy(policy, attack).predict(observations, deterministic=True)
        assert policy.action_space.contains(action[0])


def test_an_action_value_says_where_to_go() -> None:
    """``Q = -a``: the worst is the largest action, along the signs of its gain."""
    policy = linear([[1.0, -2.0]])
    value = ActionValue(2, policy.action_space, (), torch.Generator())
    with torch.no_grad():
        value.network.layers[0].weight.copy_(torch.tensor([[0.0, 0.0, -1.0]]))
    attack = RobustSarsa(epsilon=0.2, steps=20, step=0.02, action_value=value)
    found = change_of(policy, attack, np.random.default_rng(0).normal(size=(4, 2)))
    np.testing.assert_allclose(found, np.broadcast_to([0.2, -0.2], (4, 2)), rtol=1e-5)


def test_actions_without_gradient_are_refused_in_a_line() -> None:
    policy = sb3.PPO("MlpPolicy", _Bits(), n_steps=8, batch_size=8).policy
    with pytest.raises(UserError, match="Box and Discrete actions"):
        AttackedPolicy(policy, MaximalActionDifference(epsilon=0.1)).predict(np.zeros((1, 2), np.float32))


class _Bits(gymnasium.Env):
    observation_space = spaces.Box(-1.0, 1.0, (2,))
    action_space = spaces.MultiBinary(2)

    def reset(self, *, seed: int | None = None, options: Any = None) -> Any:
        return np.zeros(2, np.float32), {}

    def step(self, action: Any) -> Any:
        return np.zeros(2, np.float32), 0.0, False, False, {}
