from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from rlstab.envs.disturbance import Range
from rlstab.envs.disturbance.ranges import as_vector, check_bounds
from rlstab.errors import UserError

NUMBERS = st.floats(1e-6, 1e6)


@given(NUMBERS, NUMBERS, st.sampled_from(["linear", "log"]), st.integers(0, 2**32))
def test_draws_stay_in_the_range(a, b, scale, seed):
    low, high = sorted((a, b))
    value = Range(low, high, scale).draw(np.random.default_rng(seed))
    assert low * (1 - 1e-12) <= value <= high * (1 + 1e-12)


def test_a_log_range_has_its_geometric_mean_as_median():
    rng = np.random.default_rng(0)
    values = [Range(0.25, 4.0, "log").draw(rng) for _ in range(2000)]
    assert np.median(values) == pytest.approx(1.0, abs=0.08)


def test_integers_include_both_bounds():
    rng = np.random.default_rng(0)
    assert {Range(1, 3).draw_integer(rng) for _ in range(100)} == {1, 2, 3}


@pytest.mark.parametrize("arguments", [(2, 1), (0, math.inf), (math.nan, 1), (0, 1, "log"), (0, 1, "cubic")])
def test_nonsense_ranges_are_refused(arguments):
    with pytest.raises(UserError):
        Range(*arguments)


@pytest.mark.parametrize("value", [-0.1, Range(-1, 1), math.nan, "0.5", None, True])
def test_values_out_of_bounds_are_refused(value):
    with pytest.raises(UserError, match="factor"):
        check_bounds("factor", value, 0.0)


@pytest.mark.parametrize("value", [np.float32(0.5), np.int64(2)])
def test_numbers_of_numpy_are_taken(value):
    check_bounds("factor", value, 0.0)


@pytest.mark.parametrize(
    ("value", "settings", "words"),
    [
        (Range(0, 1), {"fixed": True}, "factor must be a number, got Range"),
        ("2", {"fixed": True}, "factor must be a number, got '2'"),
        (0.5, {"whole": True}, "factor must be whole, got 0.5"),
        (Range(0, 1.5), {"whole": True}, "factor must be whole"),
        (math.inf, {"whole": True}, "factor must be finite"),
    ],
)
def test_ranges_and_fractions_are_refused_where_none_belong(value, settings, words):
    with pytest.raises(UserError, match=words):
        check_bounds("factor", value, 0.0, **settings)


@given(st.integers(0, 1000), st.booleans())
def test_whole_numbers_and_ranges_between_them_are_taken(number, as_float):
    value = float(number) if as_float else number
    check_bounds("factor", value, 0, fixed=True, whole=True)
    check_bounds("factor", Range(value, value + 1), 0, whole=True)


@pytest.mark.parametrize(
    "values",
    [
        "123",
        ["1", "2", "3"],
        [[1], [2], [3]],
        np.eye(3),
        [1, 2, math.nan],
        [1, 2, math.inf],
        [1, 2],
        5.0,
        None,
        {1, 2, 3},
    ],
)
def test_what_is_no_vector_of_three_numbers_is_refused(values):
    with pytest.raises(UserError, match="force needs three numbers or ranges"):
        as_vector("force", values)
