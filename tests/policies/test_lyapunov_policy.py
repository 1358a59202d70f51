"""The policy computes what the proof is about, survives a checkpoint, and exports to the same numbers."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from gymnasium.spaces import Box

from rlstab.envs.plants import InvertedPendulum, PathTracking
from rlstab.envs.registry import make_vec
from rlstab.errors import UserError
from rlstab.policies.loading import policy_from_state
from rlstab.policies.lyapunov_policy import LyapunovPolicy, LyapunovShapes
from rlstab.sim2real.contract import Training
from rlstab.sim2real.export import export_policy
from rlstab.sim2real.layout import layout_of
from rlstab.sim2real.policy_onnx import OnnxPolicy

LINEAR = LyapunovShapes(None, None)


def _policy(shapes: LyapunovShapes | None = None, seed: int = 0) -> LyapunovPolicy:
    env = make_vec("rlstab/PlantPath-v0")
    spaces = env.single_observation_space, env.single_action_space
    return LyapunovPolicy(*spaces, PathTracking(), shapes, seed=seed)


def test_the_equilibrium_is_kept_and_commands_are_limited() -> None:
    policy = _policy()
    assert policy.predict(np.zeros(2))[0] == np.float32(0.1)
    torch.nn.init.constant_(policy.module.controller.net[-1].bias, 0.3)  # type: ignore[index, union-attr]
    assert policy.predict(np.zeros(2))[0] == np.float32(0.1)
    policy.module.controller.equilibrium.fill_(50.0)
    actions, _ = policy.predict(np.random.default_rng(0).uniform(-3.0, 3.0, (40, 2)))
    assert actions.shape == (40, 1)
    assert actions.dtype == np.float32
    np.testing.assert_array_equal(actions, np.float32(0.84))


@pytest.mark.parametrize("shapes", [None, LINEAR, LyapunovShapes((5,), (7, 3))])
def test_it_is_rebuilt_from_its_state_with_its_plant(shapes: LyapunovShapes | None) -> None:
    policy = _policy(shapes, seed=3)
    policy.module.level.fill_(2.5)
    if shapes is LINEAR:
        policy.module.controller.gain.copy_(torch.tensor([[0.4, 1.1]]))
    again = policy_from_state(policy.state_dict())
    assert isinstance(again, LyapunovPolicy)
    assert again.plant == policy.plant
    assert again.level == 2.5
    states = np.random.default_rng(1).uniform(-3.0, 3.0, (30, 2))
    np.testing.assert_array_equal(policy.predict(states)[0], again.predict(states)[0])
    values = [each.module.lyapunov(torch.as_tensor(states)) for each in (policy, again)]
    assert torch.equal(*values)


def test_first_weights_follow_from_the_seed_alone() -> None:
    torch.manual_seed(1)
    expected = torch.rand(1)
    torch.manual_seed(1)
    first, second, other = (_policy(seed=seed).module.state_dict() for seed in (4, 4, 5))
    assert torch.equal(torch.rand(1), expected)
    name = "controller.net.0.weight"
    assert torch.equal(first[name], second[name])
    assert not torch.equal(first[name], other[name])


@pytest.mark.parametrize("shapes", [None, LINEAR])
def test_an_export_computes_the_same_commands(shapes: LyapunovShapes | None, tmp_path) -> None:
    policy = _policy(shapes)
    layout = layout_of(make_vec("rlstab/PlantPath-v0"), "rlstab/PlantPath-v0")
    export_policy(policy, tmp_path / "policy.onnx", layout, Training("rlstab/PlantPath-v0"))
    exported = OnnxPolicy.load(tmp_path / "policy.onnx")
    states = np.random.default_rng(2).uniform(-3.0, 3.0, (200, 2)).astype(np.float32)
    np.testing.assert_allclose(exported.predict(states)[0], policy.predict(states)[0], rtol=2e-7, atol=1e-7)
    assert [field.name for field in exported.contract.layout.observation.fields] == ["distance", "heading"]


def test_spaces_of_another_plant_and_unknown_plants_are_refused() -> None:
    with pytest.raises(UserError, match="inverted-pendulum has states and controls"):
        LyapunovPolicy(Box(-1.0, 1.0, (4,)), Box(-1.0, 1.0, (1,)), InvertedPendulum())
    state = _policy().state_dict()
    state["config"]["plant"]["id"] = "rocket"
    with pytest.raises(UserError, match="unknown plant 'rocket'"):
        policy_from_state(state)
