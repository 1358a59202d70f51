"""The environments are their plants, step for step, and keep to what every native environment keeps to."""

from __future__ import annotations

from typing import Any

import gymnasium
import numpy as np
import pytest
import torch

from rlstab.envs.check import check_env
from rlstab.envs.plants.task import PlantRegulation
from rlstab.envs.registry import make_task, make_vec, own_ids, runs_natively
from rlstab.envs.tasks import OWN_TASKS
from rlstab.errors import UserError

IDS = [name for name in OWN_TASKS if issubclass(OWN_TASKS[name], PlantRegulation)]


@pytest.mark.parametrize("env_id", IDS)
def test_it_is_known_everywhere_and_nothing_is_wrong_with_it(env_id: str) -> None:
    assert env_id in own_ids()
    assert runs_natively(env_id)
    assert [finding for finding in check_env(env_id, steps=20) if finding.level == "error"] == []


@pytest.mark.parametrize("env_id", IDS)
def test_a_step_is_that_of_the_plant_within_its_limits(env_id: str) -> None:
    env: Any = make_vec(env_id, 5, seed=1, env_kwargs={"start_share": 0.1})
    plant = env.task.plant
    x, _ = env.reset(seed=1)
    assert np.abs(x).min() > 0.0
    rng = np.random.default_rng(0)
    low, high = (torch.tensor(limit, dtype=torch.float64) for limit in (plant.control_low, plant.control_high))
    for _ in range(3):
        u = rng.uniform(2.0 * env.single_action_space.low - 0.1, 2.0 * env.single_action_space.high)
        u = np.tile(u, (5, 1))
        control = torch.clamp(torch.as_tensor(u), low, high)
        expected = torch.stack(tuple(plant.step(torch.as_tensor(x).unbind(-1), control.unbind(-1))), -1).numpy()
        x, _, terminated, _, infos = env.step(u)
        reached = np.where(terminated[:, None], infos.get("final_obs", x), x)
        np.testing.assert_allclose(reached, expected, rtol=1e-12, atol=1e-14)


def test_the_reward_is_that_of_the_docstring_and_leaving_the_box_ends_the_episode() -> None:
    env: Any = make_vec("rlstab/PlantPendulum-v0", 2, seed=0, env_kwargs={"start_share": 1.0})
    x, _ = env.reset(seed=3)
    u = np.full((2, 1), 3.0)
    _, reward, *_ = env.step(u)
    np.testing.assert_allclose(reward, 1.0 - ((x / 12.0) ** 2).mean(1) - 0.01 * 0.25, rtol=1e-12)
    ended, lengths = False, 0
    while not ended:
        seen, _, terminated, _, infos = env.step(np.full((2, 1), 6.0))
        ended, lengths = bool(terminated.any()), lengths + 1
        assert lengths < 200
    world = int(np.flatnonzero(terminated)[0])
    assert (np.abs(infos["final_obs"][world]) > 12.0).any()
    assert (np.abs(seen[world]) <= 12.0).all()


def test_the_limits_are_those_of_the_id_or_of_a_setting() -> None:
    assert make_task("rlstab/PlantPendulum-v0").plant.control_high == (6.0,)
    assert make_task("rlstab/PlantPendulumWeak-v0").plant.control_high == (0.75,)
    assert (
        make_task("rlstab/PlantPendulum-v0", torque_limit=0.75).plant == make_task("rlstab/PlantPendulumWeak-v0").plant
    )
    assert make_task("rlstab/PlantPath-v0").plant.control_low == (-0.84,)
    assert make_task("rlstab/PlantPathTight-v0").plant.control_low == (-0.5,)
    env = make_vec("rlstab/PlantPathTight-v0")
    np.testing.assert_allclose(env.single_action_space.high, 0.5)


@pytest.mark.parametrize("env_id", IDS)
def test_it_goes_on_from_a_state_bit_for_bit(env_id: str) -> None:
    first, second = (make_vec(env_id, 3, seed=seed) for seed in (2, 7))
    first.reset()
    second.reset()
    action = np.tile(first.single_action_space.high, (3, 1))
    first.step(action)
    second.load_state_dict(first.state_dict())
    np.testing.assert_array_equal(first.step(-action)[0], second.step(-action)[0])


@pytest.mark.parametrize("env_id", IDS)
def test_it_draws_pictures_that_show_what_moves(env_id: str) -> None:
    env = gymnasium.make(env_id, render_mode="rgb_array", width=400, height=200)
    env.reset(seed=0)
    first: Any = env.render()
    assert first.shape == (200, 400, 3)
    for _ in range(3):
        env.step(0.9 * env.action_space.high)
    assert not np.array_equal(first, env.render())
    env.close()


def test_what_makes_no_sense_is_said() -> None:
    with pytest.raises(UserError, match="start_share must be between 0 and 1"):
        make_task("rlstab/PlantPath-v0", start_share=2.0)
    with pytest.raises(UserError, match=r"PlantPendulum-v0: .*mass must be positive"):
        make_task("rlstab/PlantPendulum-v0", mass=-1.0)
    with pytest.raises(UserError, match="control_low must be below control_high"):
        make_task("rlstab/PlantPendulum-v0", torque_limit=-1.0)
    with pytest.raises(UserError, match="control_low/0 must be 0 or of a size"):
        make_task("rlstab/PlantPendulum-v0", torque_limit=1e300)
    with pytest.raises(UserError, match=r"did you mean.*rlstab/PlantPendulum-v0"):
        make_vec("PlantPendulum-v0")
    with pytest.raises(UserError, match="no body_mass that could be changed"):
        make_vec("rlstab/PlantPath-v0", 1, disturbances="mass=0.5").reset()
