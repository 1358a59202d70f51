from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from rlstab.envs.hybrid.corridor import target_height
from rlstab.envs.registry import make_vec
from rlstab.errors import UserError
from rlstab.policies.roa.pogobot import PogobotModel
from rlstab.policies.roa.policy import RoaPolicy, make_model
from rlstab.sim2real.contract import Training
from rlstab.sim2real.export import export_policy
from rlstab.sim2real.layout import layout_of
from rlstab.sim2real.policy_onnx import OnnxPolicy

ID = "rlstab/Pogobot-v0"


@pytest.fixture
def model() -> PogobotModel:
    torch.manual_seed(0)
    return PogobotModel()


def test_the_lyapunov_function_is_zero_at_the_reference_alone(model: PogobotModel) -> None:
    rng = torch.Generator().manual_seed(1)
    reference = torch.rand((500, 2), generator=rng) * torch.tensor([3.0, 2.2]) + torch.tensor([0.0, 1.2])
    error = torch.randn((500, 2), generator=rng)
    assert (model.value(reference, reference) == 0.0).all()
    assert (model.value(reference + error, reference) > 0.0).all()
    tiny = model.value(reference + 1e-6, reference)
    assert (tiny >= 0.0).all()
    # Bounds of Q: one half and two along the diagonal, one half beside it.
    unit = error / torch.tensor([2.0, 1.5])
    assert (model.value(reference + error, reference) <= 0.5 * (2.5 * unit.norm(dim=1)) ** 2 + unit.norm(dim=1)).all()


def test_levels_are_positive_and_the_margin_lowers_them(model: PogobotModel) -> None:
    reference = torch.tensor([[1.0, 1.5], [0.5, 3.0]])
    before = model.level(reference)
    model.margin.fill_(0.3)
    assert (before > 0.0).all()
    torch.testing.assert_close(model.level(reference), before * np.exp(-0.3))


def test_controls_keep_their_limits_and_actions_are_shares_of_them() -> None:
    model = PogobotModel(largest_angle=0.3, largest_force=2000.0)
    x, c = 10.0 * torch.randn(200, 2), torch.randn(200, 2)
    control = model.control(x, c)
    assert (control.abs() <= torch.tensor([0.3, 2000.0])).all()
    torch.testing.assert_close(model.to_action(control), control / torch.tensor([0.3, 2000.0]))


def test_the_observation_is_read_as_apex_and_reference(model: PogobotModel) -> None:
    env = make_vec(ID, 6, seed=2)
    observation, _ = env.reset()
    x, c = model.read(torch.as_tensor(observation, dtype=torch.float64))
    state = env.physics.qpos
    np.testing.assert_allclose(x, state[:, [1, 2]])
    floor, ceiling, speed = state[:, 13], state[:, 14], state[:, 15]
    np.testing.assert_allclose(c, np.stack([speed, target_height(floor, ceiling) - floor], -1))


def test_flights_of_a_foreseen_hop_are_ballistic(model: PogobotModel) -> None:
    x, u = torch.tensor([[1.0, 1.5], [2.0, 2.0]]).double(), torch.tensor([[0.0, 0.0], [0.2, 1000.0]]).double()
    hops = model.double().predict(x, u)
    drop = x[:, 1] - u[:, 0].cos()
    torch.testing.assert_close(hops.falling, (0.2 * drop).sqrt(), atol=1e-6, rtol=0)
    torch.testing.assert_close(hops.foot, x[:, 0] * hops.falling + u[:, 0].sin())
    rise = hops.y - hops.lifted.cos()
    torch.testing.assert_close(5.0 * hops.rising**2, rise.clamp(min=1e-3))
    torch.testing.assert_close(hops.dx, hops.foot + hops.lifted.sin() + hops.xdot * hops.rising)


def test_a_policy_comes_back_from_its_state_and_from_onnx(model: PogobotModel, tmp_path: Path) -> None:
    env = make_vec(ID, 4, seed=0)
    policy = RoaPolicy(env.single_observation_space, env.single_action_space, model)
    observation, _ = env.reset()
    action, _ = policy.predict(observation)
    again, _ = RoaPolicy.from_state(policy.state_dict()).predict(observation)
    np.testing.assert_array_equal(action, again)
    layout = layout_of(make_vec(ID, 1), ID)
    artefact = export_policy(policy, tmp_path / "hopper.onnx", layout, Training(ID))
    exported, _ = OnnxPolicy.from_artefact(artefact).predict(observation.astype(np.float32))
    np.testing.assert_allclose(exported, action, atol=1e-5)


def test_an_unknown_system_is_named_with_its_nearest() -> None:
    with pytest.raises(UserError, match="pogobot"):
        make_model("pogobott")
