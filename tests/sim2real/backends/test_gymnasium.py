from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import gymnasium
import numpy as np
import pytest

from rlstab.analysis.evaluation import evaluate
from rlstab.envs.registry import make_vec
from rlstab.errors import UserError
from rlstab.policies.actor_critic import ActorCriticPolicy
from rlstab.sim2real.backends.gymnasium import GymnasiumRobot
from rlstab.sim2real.contract import Contract, Training
from rlstab.sim2real.deploy import deploy
from rlstab.sim2real.export import export_policy
from rlstab.sim2real.layout import layout_of


class Walk(gymnasium.Env[Any, Any]):
    """A user's own environment: one number, pushed by the action; ends beyond 2."""

    observation_space = gymnasium.spaces.Box(-10, 10, (1,), np.float32)
    action_space = gymnasium.spaces.Box(-1, 1, (1,), np.float32)
    dt = 0.05

    def reset(self, *, seed: int | None = None, options: Any = None) -> Any:
        super().reset(seed=seed)
        self.place = self.np_random.uniform(-1, 1, 1).astype(np.float32)
        return self.place, {}

    def step(self, action: Any) -> Any:
        self.place = self.place + self.dt * action + np.float32(0.1)
        return self.place, float(self.place[0]), bool(abs(self.place[0]) > 2), False, {}


@pytest.fixture(scope="module")
def walk(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, ActorCriticPolicy]:
    env = make_vec(Walk)
    policy = ActorCriticPolicy(env.single_observation_space, env.single_action_space, seed=1)
    path = tmp_path_factory.mktemp("walk") / "policy.onnx"
    export_policy(policy, path, layout_of(env, "Walk-v0"), Training("Walk-v0"))
    env.close()
    return path, policy


def test_a_users_own_environment_is_deployed_as_evaluated(walk: tuple[Path, ActorCriticPolicy]) -> None:
    path, policy = walk
    report = deploy(path, "gymnasium", env_id=Walk, seed=4, episodes=3, realtime=False)
    evaluated = evaluate(policy, Walk, episodes=3, seed=4)
    np.testing.assert_allclose(np.array(report.returns, float), evaluated.returns, rtol=1e-5)
    np.testing.assert_array_equal(report.lengths, evaluated.lengths)
    assert report.control_dt == 0.05


def test_discrete_actions_reach_the_environment(tmp_path: Path) -> None:
    env = gymnasium.make("CartPole-v1")
    policy = ActorCriticPolicy(env.observation_space, env.action_space, seed=3)
    path = tmp_path / "policy.onnx"
    export_policy(policy, path, layout_of(env, "CartPole-v1"), Training("CartPole-v1"))
    with pytest.raises(UserError, match="no control period"):
        deploy(path)
    report = deploy(path, seed=2, episodes=3, realtime=False)
    assert report.backend == "gymnasium"
    np.testing.assert_array_equal(report.returns, evaluate(policy, "CartPole-v1", episodes=3, seed=2).returns)


def test_an_environment_that_does_not_fit_is_refused(walk: tuple[Path, ActorCriticPolicy]) -> None:
    layout = layout_of(make_vec(Walk), "Walk-v0")
    faster = dataclasses.replace(layout, control_dt=0.01)
    robot = GymnasiumRobot(Walk)
    with pytest.raises(UserError, match=r"control_dt is 0\.05, the controller was exported for 0\.01"):
        robot.connect(Contract(faster, "feedforward", Training("Walk-v0")))
    robot.close()
