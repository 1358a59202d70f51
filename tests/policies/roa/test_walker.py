"""Networks of the walker: V and level where theory wants them, and the controller of the table."""

from __future__ import annotations

import gymnasium
import numpy as np
import pytest
import torch

from rlstab.controllers.roa.walker.data import gait_states, orbits
from rlstab.envs.hybrid.walker_gaits import GAITS, gait_torque
from rlstab.policies.loading import policy_from_state
from rlstab.policies.roa.policy import RoaPolicy, make_model
from rlstab.policies.roa.walker import SLOWEST, WIDEST, WalkerModel


@pytest.fixture(scope="module")
def model() -> WalkerModel:
    torch.manual_seed(0)
    model = WalkerModel((16, 16), 8)
    starts, table = orbits(29, 41)
    model.set_orbits(torch.as_tensor(starts), torch.as_tensor(table))
    return model


def policy(model: WalkerModel) -> RoaPolicy:
    observed = gymnasium.spaces.Box(-np.inf, np.inf, (5,), np.float32)
    return RoaPolicy(observed, gymnasium.spaces.Box(-4.0, 4.0, (1,), np.float32), model)


def test_v_is_zero_on_every_orbit_and_positive_elsewhere(model: WalkerModel):
    gait = np.linspace(SLOWEST, WIDEST, 50)
    on = torch.as_tensor(gait_states(gait), dtype=torch.float32)
    configuration = torch.as_tensor(gait[:, None], dtype=torch.float32)
    # States between two rows of the table are those of the table, to the rounding of single precision.
    assert model.value(on, configuration).max() < 1e-6
    _, reference = model.nearest(on + 0.3 * torch.randn(50, 4), configuration)
    assert model.value(reference, configuration).max() < 1e-6
    off = model.value(on + 0.2 * torch.randn(50, 4), configuration)
    assert off.min() > 0.0


def test_orbits_are_those_of_the_table_of_gaits(model: WalkerModel):
    rows = GAITS[2:]
    _, reference = model.nearest(torch.as_tensor(rows[:, 1:]).float(), torch.as_tensor(rows[:, :1]).float())
    # Rows 2 to 16 are gaits of the grid; the first of them is known to 6e-4 only.
    np.testing.assert_allclose(reference.numpy(), rows[:, 1:], atol=1e-3)
    np.testing.assert_allclose(reference.numpy()[1:], rows[1:, 1:], atol=1e-4)


def test_the_level_is_positive_and_the_margin_lowers_it(model: WalkerModel):
    configuration = torch.tensor([[0.05], [0.13]])
    torch.testing.assert_close(model.level(configuration), torch.ones(2))
    model.margin.fill_(0.5)
    torch.testing.assert_close(model.level(configuration), torch.full((2,), float(np.exp(-0.5))))
    model.margin.zero_()


def test_the_controller_is_the_gaits_and_is_told_the_gait_by_its_observation(model: WalkerModel):
    x, gait = GAITS[2:10, 1:], GAITS[2:10, 0]
    observation = np.concatenate([x, gait[:, None]], 1).astype(np.float32)
    action, _ = policy(model).predict(observation)
    np.testing.assert_allclose(action[:, 0], gait_torque(x, gait), atol=2e-4)


def test_a_policy_comes_back_from_its_state(model: WalkerModel):
    there = policy_from_state(policy(model).state_dict()).module
    assert isinstance(there, WalkerModel)
    x, configuration = torch.randn(5, 4), torch.full((5, 1), 0.1)
    torch.testing.assert_close(there.value(x, configuration), model.value(x, configuration))
    assert there.settings() == model.settings()
    assert isinstance(make_model("walker", **model.settings()), WalkerModel)
