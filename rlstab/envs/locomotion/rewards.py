"""What a walking robot is rewarded and charged for, each a function of batched quantities alone.

Every function gives ``(n,)``, per second, before its weight. Feet are in the order of ``LEGS`` and joints in that of
``JOINTS`` of `rlstab.envs.locomotion.legs`.

References
----------
MuJoCo Playground (Zakka et al. 2025, arXiv:2502.08844), Go1 joystick task: the terms and their weights.
"""

from __future__ import annotations

import numpy as np

from rlstab.envs.physics.interface import BoolArray, FloatArray

_STANDING_COMMAND = 0.01
"""Commands of a smaller norm ask to stand still."""
_POSE_WEIGHTS = np.tile([1.0, 1.0, 0.1], 4)
"""Of abduction, hip and knee: a knee has to bend."""
SHORTEST_SWING = 0.1
"""Seconds a foot must be in the air for a step to pay."""


def tracking(error: FloatArray, sigma: float) -> FloatArray:
    """``exp(-|error|^2 / sigma)`` of ``error (n, k)``: 1 at best. ``sigma`` in the error's units squared."""
    return np.exp(-np.vecdot(error, error) / sigma)


def squared(rows: FloatArray) -> FloatArray:
    """Sum of squares of ``rows (n, k)``."""
    return np.vecdot(rows, rows)


def moving(command: FloatArray) -> FloatArray:
    """1 where ``command (n, 3)`` asks to move, 0 where it asks to stand."""
    return (np.linalg.norm(command, axis=1) > _STANDING_COMMAND).astype(np.float64)


def beyond(position: FloatArray, limits: tuple[FloatArray, FloatArray]) -> FloatArray:
    """How far joints at ``position (n, 12)`` are beyond ``limits`` (low and high, ``(12,)`` each) in sum, rad."""
    low, high = limits
    return np.sum(np.maximum(low - position, 0.0) + np.maximum(position - high, 0.0), axis=1)


def pose(offset: FloatArray) -> FloatArray:
    """1 in the reference pose, less the further joints are from it by ``offset (n, 12)``, rad."""
    return np.exp(-np.sum(np.square(offset) * _POSE_WEIGHTS, axis=1))


def torque(effort: FloatArray) -> FloatArray:
    """Norm plus sum of the sizes of joint torques ``effort (n, 12)``, N m."""
    return np.sqrt(squared(effort)) + np.sum(np.abs(effort), axis=1)


def power(effort: FloatArray, speed: FloatArray) -> FloatArray:
    """Sum of the sizes of each joint's power, W, from torque ``(n, 12)`` N m and speed ``(n, 12)`` rad/s."""
    return np.sum(np.abs(effort * speed), axis=1)


def slip(velocity: FloatArray, touching: BoolArray) -> FloatArray:
    """Squared horizontal speed of feet on the ground, in sum, (m/s)^2, from ``velocity (n, 4, 3)`` in the world."""
    return np.sum(np.sum(np.square(velocity[..., :2]), axis=2) * touching, axis=1)


def clearance(height: FloatArray, velocity: FloatArray, wanted: float) -> FloatArray:
    """Distance of feet from their ``wanted`` height (m) where they move: times the root of their horizontal speed.

    ``height (n, 4)`` m above the ground, ``velocity (n, 4, 3)`` m/s in the world.
    """
    speed = np.linalg.norm(velocity[..., :2], axis=2)
    return np.sum(np.abs(height - wanted) * np.sqrt(speed), axis=1)


def swing_height(peak: FloatArray, landed: BoolArray, wanted: float) -> FloatArray:
    """Squared relative error of the ``peak (n, 4)`` height (m) of swings that have just ``landed (n, 4)``."""
    return np.sum(np.square(peak / wanted - 1.0) * landed, axis=1)


def air_time(seconds: FloatArray, landed: BoolArray) -> FloatArray:
    """How much longer than `SHORTEST_SWING` were swings of ``seconds (n, 4)`` that have just ``landed (n, 4)``."""
    return np.sum((seconds - SHORTEST_SWING) * landed, axis=1)
