"""Advantages and reward scaling against their definitions."""

import numpy as np
import torch
from hypothesis import given
from hypothesis import strategies as st
from numpy.testing import assert_allclose

from rlstab.learning.rollout import ReturnNormalizer, Rollout, Storage, generalised_advantages


def definition(rewards, values, dones, gamma, lam):
    """Sum over k of (gamma lam)^k delta_{t+k}, stopped at the end of the episode, written as the double loop it is."""
    steps, worlds = rewards.shape
    advantages = np.zeros((steps, worlds))
    for world in range(worlds):
        for start in range(steps):
            weight = 1.0
            for t in range(start, steps):
                alive = 1.0 - dones[t, world]
                delta = rewards[t, world] + gamma * values[t + 1, world] * alive - values[t, world]
                advantages[start, world] += weight * delta
                if not alive:
                    break
                weight *= gamma * lam
    return advantages


@given(seed=st.integers(0, 10_000), gamma=st.floats(0.0, 1.0), lam=st.floats(0.0, 1.0))
def test_advantages_match_their_definition(seed, gamma, lam):
    rng = np.random.default_rng(seed)
    rewards, values = rng.normal(size=(7, 3)), rng.normal(size=(8, 3))
    dones = (rng.random((7, 3)) < 0.25).astype(float)
    tensors = [torch.tensor(array, dtype=torch.float64) for array in (rewards, values, dones)]
    advantages, returns = generalised_advantages(*tensors, gamma, lam)
    assert_allclose(advantages.numpy(), definition(rewards, values, dones, gamma, lam), atol=1e-9)
    assert_allclose(returns.numpy(), advantages.numpy() + values[:-1], atol=1e-12)


def test_full_lambda_gives_monte_carlo_returns():
    rewards = torch.ones((4, 1))
    dones = torch.tensor([[0.0], [0.0], [0.0], [1.0]])
    _, returns = generalised_advantages(rewards, torch.randn((5, 1)), dones, 0.5, 1.0)
    assert_allclose(returns[:, 0].numpy(), [1.875, 1.75, 1.5, 1.0], rtol=1e-6)


@given(seed=st.integers(0, 1000), split=st.integers(1, 29))
def test_return_scale_does_not_depend_on_how_rollouts_are_cut(seed, split):
    rng = np.random.default_rng(seed)
    rewards = torch.tensor(rng.normal(3.0, 2.0, (30, 2)), dtype=torch.float32)
    dones = torch.tensor(rng.random((30, 2)) < 0.1, dtype=torch.float32)
    whole = ReturnNormalizer(2, 0.9, torch.device("cpu"))
    scaled = whole(rewards, dones)
    parts = ReturnNormalizer(2, 0.9, torch.device("cpu"))
    parts(rewards[:split], dones[:split])
    parts(rewards[split:], dones[split:])
    assert_allclose(parts.var, whole.var, rtol=1e-4)
    assert_allclose(parts.running.numpy(), whole.running.numpy(), rtol=1e-5)
    assert_allclose(scaled.numpy(), np.clip(rewards.numpy() / np.sqrt(whole.var + 1e-8), -10, 10), rtol=1e-5)

    returns, running = [], np.zeros(2)
    for reward, done in zip(rewards.numpy(), dones.numpy(), strict=True):
        running = reward + running
        returns.append(running)
        running = 0.9 * running * (1.0 - done)
    assert_allclose(whole.var, np.var(returns), rtol=1e-3)


def test_truncations_are_kept_and_terminations_are_not():
    rollout = Rollout(3, 4, Storage((2,), torch.float32, (1,), torch.float32), torch.device("cpu"))
    final = np.arange(8.0).reshape(4, 2)
    terminated = np.array([True, False, True, False])
    truncated = np.array([False, True, True, False])
    rollout.record(1, np.ones(4), terminated, truncated, {"final_obs": final, "_final_obs": terminated | truncated})
    steps, worlds, observations = rollout.truncations()
    # World 2 did both at once: it fell, so there is nothing to bootstrap from.
    assert steps.tolist() == [1]
    assert worlds.tolist() == [1]
    assert_allclose(observations.numpy(), final[[1]])
    assert rollout.dones[1].tolist() == [1.0, 1.0, 1.0, 0.0]
    rollout.clear()
    assert rollout.truncations() is None
