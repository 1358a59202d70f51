"""Turning vectors between the world and a body. Quaternions are w, x, y, z and turn the body's frame into the world's.

A free joint's ``qvel[:3]`` is in the world frame and ``qvel[3:6]`` already in the body's: only the former is turned.
"""

from __future__ import annotations

import numpy as np

from rlstab.envs.physics.interface import FloatArray


def to_body(quaternion: FloatArray, vector: FloatArray) -> FloatArray:
    """Components in the body's frame of a world ``vector (n, 3)``."""
    w, axis = quaternion[:, :1], quaternion[:, 1:]
    # The inverse rotation has the opposite axis: v + 2 (u x v) w + 2 u x (u x v) with u = -axis.
    twice = 2.0 * np.cross(vector, axis)
    return vector + w * twice + np.cross(twice, axis)


def up(quaternion: FloatArray) -> FloatArray:
    """The world's upward direction in the body's frame, ``(n, 3)``: the last row of the rotation matrix."""
    w, x, y, z = quaternion.T
    return np.stack((2.0 * (x * z - w * y), 2.0 * (y * z + w * x), 1.0 - 2.0 * (x * x + y * y)), axis=1)


def forward(quaternion: FloatArray) -> FloatArray:
    """The body's forward direction in the world frame, ``(n, 3)``: the first column of the rotation matrix."""
    w, x, y, z = quaternion.T
    return np.stack((1.0 - 2.0 * (y * y + z * z), 2.0 * (x * y + w * z), 2.0 * (x * z - w * y)), axis=1)


def about_vertical(angle: float) -> FloatArray:
    """Quaternion ``(4,)`` of a turn by ``angle`` (rad) about the vertical."""
    return np.array([np.cos(angle / 2.0), 0.0, 0.0, np.sin(angle / 2.0)])
