from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rlstab.analysis.certificates.lyapunov.statistical import conformal_margin
from rlstab.controllers.roa.levels import check_calibration, decreasing, measured_level
from rlstab.errors import UserError


def test_the_level_lies_below_every_unstable_start():
    values = np.array([[0.1, 0.4, 0.9, 1.6, 2.5], [0.1, 0.4, 0.9, 1.6, 2.5]])
    stable = np.array([[True, True, True, False, False], [True, True, True, True, True]])
    level, found = measured_level(values, stable, fewest=2)
    assert level.tolist() == [0.9, 2.5]
    assert found.tolist() == [True, False]


def test_one_unstable_start_near_the_reference_shrinks_the_level_unless_overlooked():
    values = np.array([[0.1, 0.4, 0.9, 1.6, 2.5]])
    stable = np.array([[True, False, True, True, False]])
    level = measured_level(values, stable)[0]
    assert level.tolist() == pytest.approx([0.4])
    # What fails is outside of V <= level.
    assert level[0] < 0.4
    assert measured_level(values, stable, ignored=1)[0].tolist() == [1.6]


def test_without_a_stable_start_there_is_no_level():
    level, found = measured_level(np.ones((1, 60)), np.zeros((1, 60), bool))
    assert level.tolist() == [0.0]
    assert found.all()


@given(st.integers(0, 10_000), st.integers(0, 3))
@settings(max_examples=50, deadline=None)
def test_at_most_the_overlooked_starts_below_the_level_are_unstable(seed, ignored):
    rng = np.random.default_rng(seed)
    values, stable = rng.exponential(size=(3, 40)), rng.random((3, 40)) < 0.6
    level, _ = measured_level(values, stable, ignored=ignored)
    below = (values < level[:, None]) & ~stable
    assert (below.sum(1) <= ignored).all()


def test_what_has_no_level_is_refused():
    with pytest.raises(UserError, match="not a number"):
        measured_level(np.array([[np.nan, 2.0]]), np.array([[False, True]]))
    with pytest.raises(UserError, match="one shape"):
        measured_level(np.zeros((2, 0)), np.zeros((2, 0), bool))


@pytest.mark.parametrize(("delta", "configurations"), [(0.1, 9), (0.01, 99), (0.5, 1)])
def test_a_confidence_is_refused_exactly_where_calibration_would(delta, configurations):
    check_calibration(delta, configurations)
    conformal_margin(np.zeros(configurations), np.zeros(configurations), delta)
    if configurations > 1:
        with pytest.raises(UserError, match="give at least"):
            check_calibration(delta, configurations - 1)
        with pytest.raises(UserError):
            conformal_margin(np.zeros(configurations - 1), np.zeros(configurations - 1), delta)


def test_shapes_are_checked():
    with pytest.raises(UserError, match="one shape"):
        measured_level(np.ones((1, 3)), np.ones((1, 2), bool))


def test_decrease_is_asked_of_every_step():
    values = np.array([[1.0, 1.0, 1.0, 0.05, np.inf], [0.9, 0.9, 0.9, 0.2, 1.0], [0.8, 0.95, np.inf, 0.04, 0.9]])
    assert decreasing(values, 0.05).tolist() == [True, False, False, False, False]
    # A rise among small values counts for nothing where both ends are small.
    assert decreasing(values, 0.05, near=0.1).tolist() == [True, False, False, True, False]
    assert decreasing(values, 0.05, slack=0.1).tolist() == [True, True, False, False, False]
