from __future__ import annotations

import numpy as np
import pytest

from rlstab.envs.disturbance import ExternalWrench, RandomForce, Range
from rlstab.errors import UserError

MASS = 2.001


def velocity_changes(env, steps):
    """Change of the box's velocity in each control step, ``(steps, num_envs, 6)``."""
    env.reset(seed=0)
    velocities = [env.physics.qvel[:, :6].copy()]
    for _ in range(steps):
        env.step(np.zeros((env.num_envs, 1)))
        velocities.append(env.physics.qvel[:, :6].copy())
    return np.diff(velocities, axis=0)


def test_a_push_gives_the_impulse_over_mass_and_only_while_it_lasts(make_box):
    push = ExternalWrench("box", force=(3.0, 0.0, -1.0), start_s=0.02, duration_s=0.03)
    arm_share = ExternalWrench("arm", force=(0.003 / 2, 0.0, -0.0005), start_s=0.02, duration_s=0.03)
    env = make_box([push, arm_share])
    changes = velocity_changes(env, 8)
    # Forces in proportion to the masses translate both bodies alike: no rotation disturbs the arithmetic.
    expected = np.array([3.0, 0.0, -1.0]) * 0.01 / 2.0
    np.testing.assert_allclose(changes[2:5, :, :3], np.broadcast_to(expected, (3, 3, 3)), atol=1e-9)
    np.testing.assert_allclose(changes[[0, 1, 5, 6, 7]], 0.0, atol=1e-9)


def test_a_force_in_the_body_frame_turns_with_the_body(make_box):
    # The box is turned a quarter about z, so its x axis is the world's y axis.
    changes = velocity_changes(make_box([ExternalWrench("box", force=(4.0, 0.0, 0.0), frame="body")]), 1)
    np.testing.assert_allclose(changes[0, :, :2], [[0.0, 4.0 * 0.01 / MASS]] * 3, rtol=2e-3, atol=1e-6)


def test_a_torque_in_the_world_frame_turns_the_body(make_box):
    changes = velocity_changes(make_box([ExternalWrench("box", torque=(0.0, 0.0, 0.1))]), 1)
    inertia = 2.0 / 12 * (0.2**2 + 0.4**2)
    np.testing.assert_allclose(changes[0, :, 5], 0.1 * 0.01 / inertia, rtol=1e-3)


def test_a_periodic_push_comes_again(make_box):
    push = ExternalWrench("box", force=(1.0, 0.0, 0.0), start_s=0.01, duration_s=0.01, period_s=0.03)
    pushed = np.abs(velocity_changes(make_box([push], 1), 8)[:, 0, 0]) > 1e-4
    assert pushed.tolist() == [False, True, False, False, True, False, False, True]


def test_the_shortest_push_lasts_one_control_step(make_box):
    push = ExternalWrench("box", force=(1.0, 0.0, 0.0), duration_s=1e-6)
    pushed = np.abs(velocity_changes(make_box([push], 1), 3)[:, 0, 0]) > 1e-4
    assert pushed.tolist() == [True, False, False]


def test_ranges_are_drawn_for_each_world_and_episode(make_box):
    env = make_box([ExternalWrench("box", force=(Range(1.0, 2.0), 0.0, 0.0))], 4)
    first = velocity_changes(env, 1)[0, :, 0] * MASS / 0.01
    assert len(np.unique(first.round(6))) == 4
    assert np.all((first > 0.99) & (first < 2.01))
    env.reset()
    env.step(np.zeros((4, 1)))
    assert not np.allclose(env.physics.qvel[:, 0] * MASS / 0.01, first)


def test_random_forces_hold_keep_their_size_and_point_everywhere(make_box):
    env = make_box([RandomForce("box", 2.0, hold_steps=3)], 40)
    env.reset(seed=1)
    (effect,) = env.disturbances
    seen = []
    for _ in range(6):
        env.step(np.zeros((40, 1)))
        seen.append(effect.value[:, :3].copy())
    np.testing.assert_array_equal(seen[0], seen[2])
    assert not np.allclose(seen[2], seen[3])
    np.testing.assert_allclose(np.linalg.norm(seen[0], axis=1), 2.0)
    assert np.all(np.abs(seen[0].mean(axis=0)) < 0.8)


@pytest.mark.parametrize(("directions", "missing"), [("horizontal", 2), ("sagittal", 1)])
def test_random_forces_stay_in_their_plane(make_box, directions, missing):
    env = make_box([RandomForce("box", Range(1.0, 3.0), directions=directions)], 10)
    env.reset(seed=0)
    env.step(np.zeros((10, 1)))
    value = env.disturbances[0].value
    assert np.all(value[:, missing] == 0)
    assert np.all(np.linalg.norm(value[:, :3], axis=1) >= 1.0)


def test_improbable_random_forces_are_mostly_absent(make_box):
    env = make_box([RandomForce("box", 1.0, probability=0.2)], 200)
    env.reset(seed=0)
    env.step(np.zeros((200, 1)))
    share = np.mean(np.linalg.norm(env.disturbances[0].value, axis=1) > 0)
    assert 0.1 < share < 0.3


def test_an_unknown_body_is_refused_with_the_near_name(make_box):
    with pytest.raises(UserError, match="did you mean 'box'"):
        make_box([ExternalWrench("bux")])


@pytest.mark.parametrize(
    "settings",
    [
        {"force": (1.0, 2.0)},
        {"force": (float("nan"), 0.0, 0.0)},
        {"frame": "camera"},
        {"start_s": -1.0},
        {"duration_s": -1.0},
        {"period_s": 0.0},
        {"period_s": Range(1.0, 2.0)},
        {"torque": "xyz"},
    ],
)
def test_nonsense_pushes_are_refused(settings):
    with pytest.raises(UserError):
        ExternalWrench("box", **settings)


@pytest.mark.parametrize(
    "settings",
    [
        {"hold_steps": 0},
        {"hold_steps": 1.5},
        {"hold_steps": Range(1, 3)},
        {"probability": 1.5},
        {"probability": Range(0, 1)},
        {"directions": "up"},
        {"magnitude": -1},
    ],
)
def test_nonsense_random_forces_are_refused(settings):
    with pytest.raises(UserError):
        RandomForce("box", **{"magnitude": 1.0, **settings})
