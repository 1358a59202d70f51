"""Whatever the weights, the car's networks are a Lyapunov function, a controller that rests at zero, and a level."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import rlstab.envs
from rlstab.policies.roa.car import DOMAIN, FRICTIONS, SPEEDS, STARTS, CarModel, quadratic
from rlstab.policies.roa.policy import RoaPolicy, make_model
from rlstab.sim2real.contract import Training
from rlstab.sim2real.export import export_policy
from rlstab.sim2real.layout import layout_of
from rlstab.sim2real.policy_onnx import OnnxPolicy

ENV = "rlstab/CarTracking-v0"


class Spaces:
    """What an export asks of an environment."""

    def __init__(self, observation_space: Any, action_space: Any) -> None:
        self.observation_space, self.action_space = observation_space, action_space


@pytest.fixture
def model() -> CarModel:
    torch.manual_seed(3)
    made = CarModel()
    for parameter in made.parameters():
        # Also where training begins at zero.
        torch.nn.init.normal_(parameter, std=0.2)
    return made


@pytest.fixture
def modes() -> torch.Tensor:
    rng = np.random.default_rng(0)
    drawn = np.exp(rng.uniform(np.log([FRICTIONS[0], SPEEDS[0]]), np.log([FRICTIONS[1], SPEEDS[1]]), (200, 2)))
    return torch.tensor(drawn, dtype=torch.float32)


def states(count: int) -> torch.Tensor:
    return torch.tensor(np.random.default_rng(1).uniform(-1.0, 1.0, (count, 7)) * STARTS, dtype=torch.float32)


def test_v_is_zero_at_the_reference_and_positive_elsewhere(model: CarModel, modes: torch.Tensor) -> None:
    x = states(200)
    assert bool((model.value(0.0 * x, modes) == 0.0).all())
    assert bool((model.value(x, modes) > 0.0).all())
    assert bool((model.level(modes) > 0.0).all())
    factor = model.factor(modes)
    assert bool((factor.tril(-1) == 0.0).all())
    assert bool((factor.diagonal(dim1=1, dim2=2) > 0.0).all())
    expected = 0.5 * torch.einsum("nij,nj->ni", factor, x).square().sum(1)
    torch.testing.assert_close(model.value(x, modes), expected)
    torch.testing.assert_close(quadratic(factor, x), expected)


def test_controls_are_zero_at_the_reference_and_within_limits(model: CarModel, modes: torch.Tensor) -> None:
    x = states(200)
    assert float(model.control(0.0 * x, modes).detach().abs().max()) == 0.0
    far = model.control(100.0 * x, modes)
    assert float(far.detach().abs().max()) == 8.0


def test_fresh_networks_are_linear_until_the_limit() -> None:
    torch.manual_seed(0)
    model = CarModel(limit=1e6)
    x, mode = states(50), torch.tensor([[0.1, 5.0]]).expand(50, -1)
    linear = -torch.einsum("nij,nj->ni", model.gain(mode), x)
    torch.testing.assert_close(model.control(x, mode), linear, rtol=1e-4, atol=1e-2)


def test_a_mode_that_was_tuned_is_the_same_mode(model: CarModel, modes: torch.Tensor) -> None:
    x = states(200)
    torch.testing.assert_close(model.steer(x, model.tune(modes)), model.control(x, modes))


def test_the_margin_lowers_the_level(model: CarModel, modes: torch.Tensor) -> None:
    before = model.level(modes)
    model.margin.fill_(1.0)
    torch.testing.assert_close(model.level(modes), before / np.e)


def test_observations_tell_state_and_mode(model: CarModel) -> None:
    env = rlstab.envs.make_vec(ENV, 4)
    observation, _ = env.reset(seed=0)
    x, mode = model.read(torch.from_numpy(np.asarray(observation, np.float32)))
    env.close()
    assert np.allclose(x, observation[:, :7])
    assert set(np.round(mode[:, 0].tolist(), 6)) <= {0.1, 1.0}
    assert bool(((mode[:, 1] >= SPEEDS[0]) & (mode[:, 1] <= SPEEDS[1])).all())


def test_a_policy_comes_back_from_what_it_saves(model: CarModel) -> None:
    env = rlstab.envs.make_vec(ENV, 3)
    policy = RoaPolicy(env.single_observation_space, env.single_action_space, model)
    observation, _ = env.reset(seed=1)
    env.close()
    again = RoaPolicy.from_state(policy.state_dict())
    assert np.array_equal(again.predict(observation)[0], policy.predict(observation)[0])
    assert again.predict(observation[0])[0].shape == (2,)
    other = make_model("car", hidden_sizes=(8,), state_sizes=(4,), limit=3.0)
    assert other.settings() == {"hidden_sizes": (8,), "state_sizes": (4,), "limit": 3.0}


def test_modes_begin_inside_the_domain_of_v() -> None:
    assert all(start < most for start, most in zip(STARTS, DOMAIN, strict=True))


def test_an_exported_policy_acts_as_the_networks_do(tmp_path: Path) -> None:
    torch.manual_seed(0)
    model = CarModel()
    torch.nn.init.normal_(model.state_network[-1].weight, std=0.02)
    env = rlstab.envs.make_vec(ENV, 5)
    policy = RoaPolicy(env.single_observation_space, env.single_action_space, model)
    layout = layout_of(Spaces(env.single_observation_space, env.single_action_space), ENV)
    export_policy(policy, tmp_path / "policy.onnx", layout, Training(ENV))
    observation, _ = env.reset(seed=2)
    env.close()
    action = OnnxPolicy.load(tmp_path / "policy.onnx").predict(observation)[0]
    assert action.shape == (5, 2)
    np.testing.assert_allclose(action, policy.predict(observation)[0], atol=1e-4)


def test_modes_that_nobody_trained_on_are_the_nearest_that_are(model: CarModel) -> None:
    x = states(3)
    odd = torch.tensor([[0.0, -5.0], [7.0, 900.0], [0.1, 3.0]])
    near = torch.tensor([[0.1, 3.0], [1.0, 30.0], [0.1, 3.0]])
    assert torch.equal(model.control(x, odd), model.control(x, near))
    assert torch.equal(model.value(x, odd), model.value(x, near))
