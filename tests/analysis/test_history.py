from __future__ import annotations

from pathlib import Path
from typing import Any

import gymnasium
import numpy as np
import pytest
import torch
from gymnasium.spaces import Box, Discrete, MultiBinary, MultiDiscrete

from rlstab.analysis.history import HistoryGains, first_steps, history_gains
from rlstab.envs import make_vec
from rlstab.errors import UserError
from rlstab.policies.transformer.config import TransformerConfig
from rlstab.policies.transformer.network import TransformerActorCritic
from rlstab.policies.transformer.policy import TransformerPolicy


def network(action: Any = None, **shape: Any) -> TransformerActorCritic:
    config = TransformerConfig(**{"width": 16, "num_heads": 2, "window": 4, "num_layers": 2, **shape})
    policy = TransformerPolicy(Box(-1.0, 1.0, (3,)), action or Box(-1.0, 1.0, (2,)), config=config)
    with torch.no_grad():
        policy.module.actor.layers[-1].weight.mul_(30.0)
    return policy.module.double()


def windows(count: int = 5, length: int = 12) -> torch.Tensor:
    return torch.randn(count, length, 3, generator=torch.Generator().manual_seed(0), dtype=torch.float64)


@pytest.mark.parametrize("attention", ["sigmoid", "softmax"])
@pytest.mark.parametrize("action", [Box(-1.0, 1.0, (2,)), Discrete(4)])
def test_gains_are_those_of_finite_differences(attention: str, action: Any) -> None:
    net, observations = network(action, attention=attention), windows(3, 6)
    gains = history_gains(net, observations)
    for age in range(6):
        norms = []
        for window in observations:
            columns = []
            for entry in range(3):
                step = torch.zeros(6, 3, dtype=torch.float64)
                step[5 - age, entry] = 1e-5
                up, down = net.outputs((window + step)[None]), net.outputs((window - step)[None])
                columns.append((up - down).detach()[0] / 2e-5)
            norms.append(float(torch.linalg.matrix_norm(torch.stack(columns, 1), 2)))
        assert gains.mean[age] == pytest.approx(np.mean(norms), rel=1e-5)
        assert gains.worst[age] == pytest.approx(np.max(norms), rel=1e-5)


def test_nothing_older_than_the_window_matters() -> None:
    gains = history_gains(network(), windows())
    assert (gains.worst[:7] > 0).all()
    assert (gains.worst[7:] == 0).all()


def test_a_constant_offset_moves_outputs_by_no_more_than_its_gain() -> None:
    net, observations = network(), windows()
    gains = history_gains(net, observations)
    offset = 1e-6 * torch.tensor([1.0, -2.0, 0.5], dtype=torch.float64)
    moved = (net.outputs(observations + offset) - net.outputs(observations)).norm(dim=1).max()
    assert float(moved.detach()) <= gains.bias * float(offset.norm()) * (1 + 1e-4)


def test_observations_count_in_standard_deviations() -> None:
    net, observations = network(), windows()
    before = history_gains(net, observations)
    assert net.normalizer is not None
    net.normalizer.var.fill_(4.0)
    after = history_gains(net, 2.0 * observations)
    np.testing.assert_allclose(after.mean, before.mean, rtol=1e-6)


def test_the_result_is_saved_drawn_and_summed_up(tmp_path: Path) -> None:
    gains = history_gains(network(), windows())
    again = HistoryGains.load(gains.save(tmp_path / "gains"))
    np.testing.assert_array_equal(again.worst, gains.worst)
    assert gains.summary()["largest gain now"] == gains.worst[0]
    assert len(gains.plot().lines) == 2


def test_what_cannot_be_differentiated_is_refused() -> None:
    with pytest.raises(UserError, match="must be real numbers"):
        history_gains(network(), torch.zeros(2, 5, 3, dtype=torch.uint8))
    with pytest.raises(UserError, match="must be real numbers"):
        history_gains(network(), torch.zeros(0, 5, 3))


@pytest.mark.parametrize(
    "space",
    [Discrete(3, start=5), MultiDiscrete([2, 3]), MultiDiscrete([2, 3], start=[4, -1]), MultiBinary(3)],
    ids=str,
)
def test_actions_before_are_those_that_the_head_samples(space: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    class Still(gymnasium.Env):
        observation_space = Box(-1.0, 1.0, (3,))
        action_space = space

        def reset(self, *, seed: int | None = None, options: Any = None) -> Any:
            super().reset(seed=seed)
            return np.full(3, 0.5, np.float32), {}

        def step(self, action: Any) -> Any:
            assert self.action_space.contains(action)
            return np.full(3, 0.5, np.float32), 0.0, False, False, {}

    monkeypatch.setitem(gymnasium.registry, "Still-v0", gymnasium.envs.registration.EnvSpec("Still-v0", Still))
    policy = TransformerPolicy(Still.observation_space, space)
    observations, actions = first_steps(policy, "Still-v0", 4, episodes=2)
    head = policy.module.head
    outputs = policy.module.outputs(observations[:, :2], actions[:, :2]).detach()
    torch.testing.assert_close(actions[:, 2].float(), head.mode(outputs).float())


@pytest.mark.parametrize(("env_id", "most"), [("rlstab/PassiveTMaze-v0", 51), ("InvertedPendulum-v5", 1000)])
def test_the_first_steps_of_episodes_are_played(env_id: str, most: int) -> None:
    env = make_vec(env_id, 1)
    policy = TransformerPolicy(env.single_observation_space, env.single_action_space)
    observations, actions = first_steps(policy, env_id, 2000, episodes=3, seed=4)
    length = observations.shape[1]
    assert observations.shape[:2] == actions.shape[:2] == (3, length)
    assert 1 < length <= most
    assert not actions[:, 0].any()
    again = make_vec(env_id, 3, 4)
    torch.testing.assert_close(observations[:, 0], torch.as_tensor(again.reset(seed=4)[0]).float())
    assert len(history_gains(policy.module, observations, actions).mean) == length
