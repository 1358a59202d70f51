from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeAlias

import numpy as np
import pytest

from rlstab.analysis.robustness.forced import Plant, play_forces
from rlstab.envs.linear.systems import SYSTEMS
from rlstab.errors import UserError
from rlstab.policies.linear import LinearPolicy
from rlstab.runs.environment import EnvSettings

MakeLinear: TypeAlias = Callable[[str, Any], LinearPolicy]


def test_outputs_are_those_of_the_linear_loop(linear_policy: MakeLinear) -> None:
    system = SYSTEMS["S2"]()
    gain = np.array([[3.0, 2.6]])
    plant = Plant.of(EnvSettings("rlstab/LinearQuadratic-S2-v0", env_kwargs={"start_std": 0.0}))
    forces = np.random.default_rng(0).standard_normal((3, 20, 1))
    played = play_forces(linear_policy(plant.env_id, gain), plant, forces, [0, 1, 2])
    for row in range(3):
        x, cost = np.zeros(2), []
        for force in forces[row]:
            u = -gain @ x
            cost.append(x @ system.q @ x + u @ system.r @ u)
            x = system.a @ x + system.b @ u + system.e @ force
        np.testing.assert_allclose(played.costs[row], cost, atol=1e-9)
        np.testing.assert_allclose(np.square(played.outputs[row]).sum(axis=1), cost, atol=1e-9)
    assert played.stood.all()


def test_equal_starts_begin_alike_and_chunks_change_nothing(balancer: LinearPolicy, pendulum: Plant) -> None:
    forces = np.repeat(np.ones((1, 30, 1)), 6, axis=0)
    together = play_forces(balancer, pendulum, forces, [0, 1, 2, 0, 1, 2])
    np.testing.assert_array_equal(together.outputs[:3], together.outputs[3:])
    assert not np.array_equal(together.outputs[0], together.outputs[1])
    apart = play_forces(balancer, pendulum, forces, [0, 1, 2, 0, 1, 2], worlds=2)
    np.testing.assert_allclose(apart.outputs, together.outputs, atol=1e-12)


def test_who_falls_stays_down(balancer: LinearPolicy, pendulum: Plant) -> None:
    forces = np.zeros((2, 60, 1))
    forces[1, 10:15] = 2000.0
    played = play_forces(balancer, pendulum, forces, [0, 0])
    assert played.stood.tolist() == [True, False]
    fall = int(played.fell[1])
    assert 10 <= fall < 20
    assert (played.costs[1, fall + 1 :] == played.costs[1, fall + 1]).all()
    assert (played.outputs[1, fall + 1 :] == played.outputs[1, fall + 1]).all()
    assert played.costs[1, -1] > 100.0 * played.costs[0].max()


@pytest.mark.parametrize("shape", [(2, 5, 2), (2, 5), (0, 5, 1), (3, 5, 1)])
def test_forces_must_fit(balancer: LinearPolicy, pendulum: Plant, shape: tuple[int, ...]) -> None:
    with pytest.raises(UserError, match="forces must be"):
        play_forces(balancer, pendulum, np.zeros(shape), [0, 0])


def test_only_what_can_be_pushed_and_has_a_task_is_a_plant() -> None:
    with pytest.raises(UserError, match="native"):
        Plant.of(EnvSettings("CartPole-v1"))
    with pytest.raises(UserError, match="no cost is known"):
        Plant.of(EnvSettings("Reacher-v5"), body="body0")


def test_a_runner_that_falls_pays_all_of_its_cost_from_then_on() -> None:
    plant = Plant.of(EnvSettings("Hopper-v5"), num_threads=1)

    class Limp:
        def __init__(self) -> None:
            env = plant.make([0], 0.0)
            self.observation_space, self.action_space = env.single_observation_space, env.single_action_space

        def predict(self, observation: Any, **_: Any) -> tuple[Any, None]:
            return np.zeros((len(observation), 3), np.float32), None

    played = play_forces(Limp(), plant, np.zeros((1, 150, 2)), [0])  # pyright: ignore[reportArgumentType]
    fall = int(played.fell[0])
    assert fall < 150
    assert (played.costs[0, fall:] == 1.0).all()
