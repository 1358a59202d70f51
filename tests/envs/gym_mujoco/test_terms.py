"""The shared pieces against plain numpy and Python."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from rlstab.envs.gym_mujoco import terms
from rlstab.envs.physics.interface import FloatArray

ROWS = hnp.arrays(np.float64, hnp.array_shapes(min_dims=2, max_dims=2, max_side=8), elements=st.floats(-1e6, 1e6))
ANY_ROWS = hnp.arrays(np.float64, hnp.array_shapes(min_dims=2, max_dims=2, max_side=8))
BOUNDS = st.tuples(st.floats(allow_nan=False), st.floats(allow_nan=False))


@given(ANY_ROWS, BOUNDS)
def test_clip_is_numpys(values: FloatArray, bounds: tuple[float, float]) -> None:
    np.testing.assert_array_equal(terms.clip(values, bounds), np.clip(values, *bounds))


@given(ANY_ROWS, BOUNDS)
def test_between_is_pythons_chained_comparison(values: FloatArray, bounds: tuple[float, float]) -> None:
    low, high = bounds
    expected = [[low < value < high for value in row] for row in values.tolist()]
    np.testing.assert_array_equal(terms.between(values, bounds), expected)
    np.testing.assert_array_equal(terms.every(terms.between(values, bounds)), [all(row) for row in expected])


@given(ROWS)
def test_squared_norm_is_numpys(rows: FloatArray) -> None:
    np.testing.assert_allclose(terms.squared_norm(rows), np.square(rows).sum(axis=1), rtol=1e-12)


def test_flat_keeps_worlds_apart() -> None:
    rows = np.arange(24.0).reshape(2, 3, 4)
    np.testing.assert_array_equal(terms.flat(rows), [range(12), range(12, 24)])
