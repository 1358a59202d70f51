"""Turning vectors, against scipy's rotations."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy.spatial.transform import Rotation

from rlstab.envs.locomotion import frames

components = st.floats(-1.0, 1.0, allow_nan=False, width=32)
quaternions = arrays(np.float64, 4, elements=components).filter(lambda q: np.linalg.norm(q) > 0.1)


@given(quaternions, arrays(np.float64, 3, elements=st.floats(-10, 10)))
def test_vectors_turn_as_scipy_turns_them(quaternion, vector):
    quaternion = quaternion / np.linalg.norm(quaternion)
    rotation = Rotation.from_quat(np.roll(quaternion, -1))
    row = quaternion[None]
    np.testing.assert_allclose(frames.to_body(row, vector[None])[0], rotation.inv().apply(vector), atol=1e-9)
    np.testing.assert_allclose(frames.up(row)[0], rotation.inv().apply([0.0, 0.0, 1.0]), atol=1e-9)
    np.testing.assert_allclose(frames.forward(row)[0], rotation.apply([1.0, 0.0, 0.0]), atol=1e-9)


def test_a_turn_about_the_vertical_faces_the_way_of_its_angle():
    facing = frames.forward(frames.about_vertical(np.pi / 2)[None])[0]
    np.testing.assert_allclose(facing, [0.0, 1.0, 0.0], atol=1e-12)
