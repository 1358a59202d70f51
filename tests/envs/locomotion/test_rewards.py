"""Terms of the reward, by hand."""

import numpy as np
import pytest

from rlstab.envs.locomotion import rewards

FEET_OFF = np.zeros((1, 4), bool)


def test_tracking_is_one_at_best_and_one_over_e_at_sigma():
    error = np.array([[0.0, 0.0], [0.3, 0.4]])
    np.testing.assert_allclose(rewards.tracking(error, 0.25), [1.0, np.exp(-1.0)])


def test_who_is_told_to_stand_does_not_move():
    np.testing.assert_array_equal(rewards.moving(np.array([[0.0, 0.0, 0.0], [0.0, 0.0, 0.02]])), [0.0, 1.0])


def test_joints_are_charged_for_what_is_beyond_their_limits():
    position = np.array([[-1.5, 0.0, 2.0]])
    assert rewards.beyond(position, (np.full(3, -1.0), np.full(3, 1.5)))[0] == pytest.approx(1.0)


def test_the_pose_forgives_knees():
    offset = np.zeros((2, 12))
    offset[0, 0], offset[1, 2] = 0.5, 0.5
    np.testing.assert_allclose(rewards.pose(offset), [np.exp(-0.25), np.exp(-0.025)])


def test_torque_and_power():
    effort, speed = np.zeros((1, 12)), np.ones((1, 12))
    effort[0, :2] = 3.0, -4.0
    assert rewards.torque(effort)[0] == pytest.approx(5.0 + 7.0)
    assert rewards.power(effort, speed)[0] == pytest.approx(7.0)


def test_feet_slip_only_where_they_touch():
    velocity = np.zeros((1, 4, 3))
    velocity[0, :2] = 3.0, 4.0, 100.0
    touching = np.array([[True, False, True, True]])
    assert rewards.slip(velocity, touching)[0] == pytest.approx(25.0)


def test_moving_feet_are_to_be_at_their_height():
    velocity = np.zeros((1, 4, 3))
    velocity[0, 0, 0], velocity[0, 1, 1] = 4.0, 1.0
    height = np.array([[0.02, 0.15, 0.5, 0.5]])
    assert rewards.clearance(height, velocity, 0.1)[0] == pytest.approx(0.08 * 2.0 + 0.05)


def test_only_feet_that_landed_are_judged_for_their_swing():
    landed = np.array([[True, False, False, True]])
    assert rewards.swing_height(np.array([[0.05, 9.0, 9.0, 0.1]]), landed, 0.1)[0] == pytest.approx(0.25)
    assert rewards.air_time(np.array([[0.3, 9.0, 9.0, 0.05]]), landed)[0] == pytest.approx(0.2 - 0.05)
    assert rewards.air_time(np.ones((1, 4)), FEET_OFF)[0] == 0.0
