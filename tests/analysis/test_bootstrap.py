from __future__ import annotations

import numpy as np
import pytest

from rlstab.analysis.bootstrap import bootstrap, format_interval, score_matrix
from rlstab.errors import UserError


def column_means(sample: np.ndarray) -> np.ndarray:
    return sample.mean(axis=0)


def test_equal_seeds_give_equal_intervals_and_leave_global_numbers_alone() -> None:
    scores = np.random.default_rng(0).normal(size=(6, 2))
    np.random.seed(1)  # rliable would draw from this one
    expected = np.random.random()
    np.random.seed(1)
    first, second, other = (bootstrap((scores,), column_means, resamples=50, seed=seed) for seed in (3, 3, 4))
    assert np.random.random() == expected
    for a, b in zip(first, second, strict=True):
        np.testing.assert_array_equal(a, b)
    assert not np.array_equal(first[1], other[1])


def test_the_interval_of_a_normal_mean_has_the_width_theory_gives() -> None:
    scores = np.random.default_rng(1).normal(10.0, 2.0, size=(200, 1))
    value, low, high = bootstrap((scores,), column_means, resamples=2000)
    half = 1.96 * scores.std() / np.sqrt(200)
    assert value[0] == pytest.approx(scores.mean())
    assert low[0] == pytest.approx(value[0] - half, abs=0.1 * half)
    assert high[0] == pytest.approx(value[0] + half, abs=0.1 * half)


def test_whole_rows_stay_together() -> None:
    scores = np.stack([np.arange(5.0), -np.arange(5.0)], axis=1)

    def row_sums(sample: np.ndarray) -> np.ndarray:
        return np.array([np.abs(sample.sum(axis=1)).max()])

    assert bootstrap((scores,), row_sums, resamples=50, whole_rows=True)[2][0] == 0
    assert bootstrap((scores,), row_sums, resamples=50, whole_rows=False)[2][0] > 0


def test_a_single_row_has_no_interval() -> None:
    value, low, high = bootstrap((np.array([[4.0]]),), column_means)
    assert value[0] == 4
    assert np.isnan([low[0], high[0]]).all()
    assert format_interval(low[0], high[0]) == ""


@pytest.mark.parametrize("arguments", [{"level": 1.0}, {"level": 0.0}, {"resamples": 0}])
def test_senseless_settings_are_refused(arguments: dict) -> None:
    with pytest.raises(UserError, match="level must lie"):
        bootstrap((np.ones((3, 1)),), column_means, **arguments)


def test_scores_become_runs_by_tasks() -> None:
    assert score_matrix([1, 2, 3]).shape == (3, 1)
    assert score_matrix({"a": [1, 2], "b": [3, 4]}).tolist() == [[1, 3], [2, 4]]


@pytest.mark.parametrize(
    ("scores", "message"),
    [
        ([], "not empty"),
        (np.zeros((2, 2, 2)), "shape"),
        ([1.0, np.nan], "run 1 on task 0 is nan"),
        ({"a": [1, 2], "b": [1]}, "a: 2, b: 1"),
    ],
)
def test_bad_scores_are_refused(scores: object, message: str) -> None:
    with pytest.raises(UserError, match=message):
        score_matrix(scores)  # type: ignore[arg-type]
