"""The action value learned for an attack, against the exact one of a linear loop."""

from __future__ import annotations

from typing import Any

import gymnasium
import numpy as np
import pytest
import torch
from gymnasium import spaces

from rlstab.analysis.evaluation import evaluate
from rlstab.analysis.robustness.action_value import ActionValue, learn_action_value
from rlstab.analysis.robustness.gradient_attacks import RobustSarsa
from rlstab.analysis.robustness.observation_attacks import AttackedPolicy, RandomUniform
from rlstab.errors import UserError
from rlstab.policies.actor_critic import ActorCriticPolicy, NetworkConfig

GAIN, STD, GAMMA = 0.9, 0.3, 0.9
S1 = "rlstab/LinearQuadratic-S1-v0"


def regulator() -> ActorCriticPolicy:
    """``u ~ N(-0.9 x, 0.3^2)`` on ``x' = 1.1 x + u``."""
    observed = spaces.Box(-np.inf, np.inf, (1,), np.float64)
    acts = spaces.Box(-np.inf, np.inf, (1,), np.float32)
    config = NetworkConfig(hidden_sizes=(), normalize_observation=False, log_std_init=float(np.log(STD)))
    policy = ActorCriticPolicy(observed, acts, config)
    with torch.no_grad():
        policy.module.actor.layers[0].weight.fill_(-GAIN)
    return policy


def exact(x: np.ndarray, u: np.ndarray) -> np.ndarray:
    """``Q = -(x^2 + u^2) + gamma V(1.1 x + u)`` with ``V = -(p x^2 + c)``."""
    loop = 1.1 - GAIN
    p = (1.0 + GAIN**2) / (1.0 - GAMMA * loop**2)
    c = (1.0 + GAMMA * p) * STD**2 / (1.0 - GAMMA)
    return -(x**2 + u**2) - GAMMA * (p * (1.1 * x + u) ** 2 + c)


def test_on_a_linear_loop_it_is_close_to_the_exact_one() -> None:
    value = learn_action_value(regulator(), S1, steps=20_000, gamma=GAMMA, smoothness=0.0, passes=15)
    rng = np.random.default_rng(0)
    x = rng.normal(scale=0.35, size=(500, 1))
    u = -GAIN * x + STD * rng.normal(size=(500, 1))
    found = value(torch.as_tensor(x).float(), torch.as_tensor(u).float()).numpy()
    true = exact(x, u)[:, 0]
    assert np.corrcoef(found, true)[0, 1] > 0.98
    assert np.sqrt(np.square(found - true).mean()) < 0.2 * true.std()
    assert 0.0 < value.explained < 1.0


def test_smoothness_flattens_it() -> None:
    def slope(smoothness: float) -> float:
        value = learn_action_value(
            regulator(), S1, steps=4000, gamma=GAMMA, smoothness=smoothness, radius=0.5, passes=20, learning_rate=3e-3
        )
        action = torch.linspace(-1.0, 1.0, 50)[:, None].requires_grad_()
        (gradient,) = torch.autograd.grad(value(torch.zeros(50, 1), action).sum(), action)
        return float(gradient.abs().mean())

    assert slope(10.0) < 0.5 * slope(0.0)


def test_an_attack_by_it_costs_more_than_chance() -> None:
    policy = regulator()
    value = learn_action_value(policy, S1, steps=10_000, gamma=GAMMA, passes=15)

    def cost(attack: Any) -> float:
        return -float(evaluate(AttackedPolicy(policy, attack), S1, episodes=16).returns.mean())

    assert cost(RobustSarsa(epsilon=0.3, action_value=value)) > 2.0 * cost(RandomUniform(epsilon=0.3))


class Corridor(gymnasium.Env):
    """Going right earns, going left costs; a limit cuts episodes, or a wall ends them."""

    observation_space = spaces.Box(-10.0, 10.0, (1,), np.float32)
    action_space = spaces.Discrete(2, start=1)

    def reset(self, *, seed: int | None = None, options: Any = None) -> Any:
        super().reset(seed=seed)
        self.place, self.steps = self.np_random.uniform(-1.0, 1.0), 0
        return np.array([self.place], np.float32), {}

    def step(self, action: Any) -> Any:
        move = 0.1 if action == 2 else -0.1
        self.place += move
        self.steps += 1
        return np.array([self.place], np.float32), move, self.place < -1.5, self.steps >= 15, {}


def test_discrete_actions_and_time_limits() -> None:
    policy = ActorCriticPolicy(Corridor.observation_space, Corridor.action_space, NetworkConfig(hidden_sizes=(4,)))
    value = learn_action_value(policy, Corridor, steps=4000, num_envs=4, gamma=0.5, passes=20, noise=0.1)
    place = torch.linspace(-0.5, 0.5, 5)[:, None]
    left, right = (value(place, torch.eye(2)[[index] * 5]).numpy() for index in (0, 1))
    np.testing.assert_allclose(right - left, 0.2, atol=0.08)
    mixed = value(place, torch.full((5, 2), 0.5)).numpy()
    np.testing.assert_allclose(mixed, 0.5 * (left + right), atol=1e-6)


def test_box_actions_count_as_clipped_but_keep_their_slope() -> None:
    value = ActionValue(1, spaces.Box(-1.0, 1.0, (1,)), (8,), torch.Generator().manual_seed(0))
    beyond = torch.tensor([[3.0]], requires_grad=True)
    found = value(torch.zeros(1, 1), beyond)
    assert float(found.detach()) == float(value(torch.zeros(1, 1), torch.ones(1, 1)).detach())
    (slope,) = torch.autograd.grad(found.sum(), beyond)
    assert float(slope) != 0.0


def test_learning_is_repeated_by_its_seed_and_leaves_the_generators_alone() -> None:
    policy, state = regulator(), torch.get_rng_state()
    one, two = (learn_action_value(policy, S1, steps=320, passes=2, seed=3) for _ in range(2))
    assert all(torch.equal(a, b) for a, b in zip(one.state_dict().values(), two.state_dict().values(), strict=True))
    assert torch.equal(state, torch.get_rng_state())


def test_what_cannot_be_is_said_in_a_line() -> None:
    with pytest.raises(UserError, match="2 steps of every world"):
        learn_action_value(regulator(), S1, steps=8)
    with pytest.raises(UserError, match="Box and Discrete actions"):
        ActionValue(1, spaces.MultiBinary(2), (8,), torch.Generator())
