from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rlstab.analysis import stats
from rlstab.errors import UserError


def test_the_aggregates_are_those_of_rliable() -> None:
    from rliable import metrics

    scores = np.random.default_rng(0).normal(size=(7, 3))
    result = stats.aggregate(scores, resamples=50)
    assert result.get("iqm")[0] == metrics.aggregate_iqm(scores)
    assert result.get("mean")[0] == metrics.aggregate_mean(scores)
    assert result.get("median")[0] == metrics.aggregate_median(scores)
    assert (result.low <= result.value).all()
    assert (result.value <= result.high).all()


def test_with_one_task_the_median_is_over_runs() -> None:
    result = stats.aggregate([1.0, 2.0, 90.0], resamples=20)
    assert result.get("median")[0] == 2.0
    assert (result.num_rows, result.num_tasks) == (3, 1)


@settings(max_examples=20)
@given(
    st.lists(st.floats(-1e3, 1e3), min_size=3, max_size=8),
    st.floats(0.1, 10),
    st.floats(-100, 100),
)
def test_aggregates_follow_a_change_of_scale(scores: list[float], factor: float, shift: float) -> None:
    plain = stats.aggregate(scores, resamples=20)
    scaled = stats.aggregate(np.array(scores) * factor + shift, resamples=20)
    for name in ("value", "low", "high"):
        np.testing.assert_allclose(getattr(scaled, name), getattr(plain, name) * factor + shift, atol=1e-6, rtol=1e-6)


def test_improvement_is_certain_for_separate_scores_and_half_for_equal_ones() -> None:
    certain = stats.probability_of_improvement([4, 5, 6], [1, 2, 3], names=("new", "old"), resamples=50)
    assert (certain.probability, certain.low, certain.high) == (1, 1, 1)
    assert stats.probability_of_improvement([1, 2, 3], [1, 2, 3], resamples=50).probability == 0.5
    assert "P(new > old)" in certain.summary()


def test_improvement_counts_pairs_and_halves_ties() -> None:
    result = stats.probability_of_improvement([1.0, 3.0], [1.0, 2.0, 4.0], resamples=20)
    wins = np.mean([[(x > y) + 0.5 * (x == y) for y in (1.0, 2.0, 4.0)] for x in (1.0, 3.0)])
    assert result.probability == pytest.approx(wins)
    assert result.num_runs == (2, 3)


def test_improvement_needs_the_same_tasks() -> None:
    with pytest.raises(UserError, match="2 tasks"):
        stats.probability_of_improvement(np.ones((3, 2)), np.ones((3, 1)))


def test_tasks_are_matched_by_name_and_not_by_order() -> None:
    x = {"Hopper": [1.0, 2.0, 3.0], "Ant": [100.0, 200.0, 300.0]}
    y = {"Ant": [100.0, 200.0, 300.0], "Hopper": [1.0, 2.0, 3.0]}
    assert stats.probability_of_improvement(x, y, resamples=20).probability == 0.5


def test_tasks_that_only_one_side_has_are_named() -> None:
    x, y = {"Hopper": [1.0, 2.0], "Ant": [1.0, 2.0]}, {"Hopper": [1.0, 2.0], "Swimmer": [1.0, 2.0]}
    with pytest.raises(UserError, match="only one has Ant, Swimmer"):
        stats.probability_of_improvement(x, y)


def test_tasks_by_name_are_not_compared_with_columns() -> None:
    x = {"Hopper": [1.0, 2.0], "Ant": [1.0, 2.0]}
    with pytest.raises(UserError, match="both name their tasks"):
        stats.probability_of_improvement(x, np.ones((2, 2)))
    assert stats.probability_of_improvement({"Hopper": [1.0, 2.0]}, [1.0, 2.0], resamples=20).probability == 0.5


def test_a_profile_falls_from_all_to_none() -> None:
    scores = np.random.default_rng(0).uniform(size=(6, 2))
    profile = stats.performance_profile(scores, resamples=50)
    assert profile.fraction[0] == 1
    assert profile.fraction[-1] == 0
    assert (np.diff(profile.fraction) <= 0).all()
    middle = len(profile.threshold) // 2
    assert profile.fraction[middle] == np.mean(scores > profile.threshold[middle])


def test_results_are_kept_in_files(tmp_path) -> None:
    for result in (
        stats.aggregate([1, 2, 3], resamples=10),
        stats.probability_of_improvement([1, 2], [3, 4], resamples=10),
        stats.performance_profile([1, 2, 3], resamples=10),
    ):
        read = type(result).load(result.save(tmp_path / result.kind))
        assert read.to_dict() == result.to_dict()
        assert repr(read) == repr(result)
