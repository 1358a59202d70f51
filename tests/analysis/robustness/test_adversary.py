from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
import pytest

from rlstab.analysis.robustness.adversary import AdversaryEnv, AdversaryReport, train_adversaries
from rlstab.analysis.robustness.forced import Plant
from rlstab.envs.disturbance import ExternalWrench
from rlstab.envs.registry import make_vec
from rlstab.errors import UserError
from rlstab.learning.on_policy_config import OnPolicyConfig
from rlstab.policies.linear import LinearPolicy

MakeLinear: TypeAlias = Callable[[str, Any], LinearPolicy]

SMALL = OnPolicyConfig(n_steps=32, batch_size=128, n_epochs=4)


def test_it_earns_what_the_victim_loses_under_its_force(balancer: LinearPolicy, pendulum: Plant) -> None:
    env = AdversaryEnv(balancer, pendulum, 10.0, num_envs=2, seed=3)
    same = make_vec(
        "InvertedPendulum-v5", 2, 3, disturbances=(ExternalWrench("pole", (5.0, 0.0, 0.0)),), max_episode_steps=1000
    )
    observation, _ = env.reset(seed=3)
    expected, _ = same.reset(seed=3)
    np.testing.assert_array_equal(observation, expected)
    for _ in range(5):
        observation, reward, *_ = env.step(np.full((2, 1), 0.5, np.float32))
        expected, earned, *_ = same.step(balancer.predict(expected)[0])
        np.testing.assert_allclose(observation, expected, atol=1e-12)
        np.testing.assert_array_equal(reward, -earned)


def test_forces_are_shortened_to_the_longest(balancer: LinearPolicy, pendulum: Plant) -> None:
    env = AdversaryEnv(balancer, pendulum, 10.0, num_envs=1)
    env.reset(seed=0)
    port: Any = env.env.disturbances[0]
    env.step(np.array([[7.0]]))
    assert port.value[0, 0] == 10.0


def test_an_adversary_learns_to_fell_what_stands(balancer: LinearPolicy, pendulum: Plant, tmp_path: Path) -> None:
    report = train_adversaries(
        balancer,
        pendulum,
        max_force=1.0,
        steps=8192,
        learning_rates=(1e-3, 3e-3),
        seeds=(0,),
        episodes=4,
        max_episode_steps=100,
        config=SMALL,
    )
    assert report.calm.mean() == 100.0
    assert report.returns.mean() < 50.0
    assert report.fell.all()
    assert report.returns.mean() == min(report.mean_returns)
    assert len(report.mean_returns) == 2
    report.save(tmp_path / "report.json")
    assert AdversaryReport.load(tmp_path / "report.json").summary() == report.summary()


def test_the_same_seed_gives_the_same_adversary(balancer: LinearPolicy, pendulum: Plant) -> None:
    def mean() -> tuple[float, ...]:
        settings: dict[str, Any] = {"steps": 1024, "learning_rates": (1e-3,), "seeds": (1,), "episodes": 2}
        return train_adversaries(
            balancer, pendulum, max_force=0.5, max_episode_steps=50, config=SMALL, **settings
        ).mean_returns

    assert mean() == mean()


@pytest.mark.parametrize("changes", [{"max_force": 0.0}, {"max_force": -1.0}, {"steps": 0}, {"seeds": ()}])
def test_a_budget_of_nothing_is_refused(balancer: LinearPolicy, pendulum: Plant, changes: dict[str, Any]) -> None:
    with pytest.raises(UserError):
        train_adversaries(balancer, pendulum, **({"max_force": 1.0} | changes))


def test_another_robots_policy_is_refused(pendulum: Plant, linear_policy: MakeLinear) -> None:
    stranger = linear_policy("rlstab/LinearQuadratic-S1-v0", [[1.0]])
    with pytest.raises(UserError, match="made for"):
        AdversaryEnv(stranger, pendulum, 1.0)
