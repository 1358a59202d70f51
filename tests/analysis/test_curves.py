from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from rlstab.analysis.curves import LearningCurve, learning_curve
from rlstab.errors import UserError


def test_runs_meet_on_the_steps_that_all_cover() -> None:
    runs = [(np.array([0.0, 100.0]), np.array([0.0, 100.0])), (np.array([20.0, 80.0]), np.array([40.0, 160.0]))]
    curve = learning_curve(runs, points=7, statistic="mean", resamples=20)
    assert (curve.steps[0], curve.steps[-1]) == (20, 80)
    np.testing.assert_allclose(curve.runs, [curve.steps, 2 * curve.steps])
    np.testing.assert_allclose(curve.value, 1.5 * curve.steps)
    assert ((curve.low <= curve.value) & (curve.value <= curve.high)).all()


def test_the_interquartile_mean_is_rliables_at_every_step() -> None:
    from rliable import metrics

    values = np.random.default_rng(0).normal(size=(7, 5))
    curve = learning_curve([(np.arange(5), row) for row in values], points=5, resamples=10)
    np.testing.assert_allclose(curve.value, [metrics.aggregate_iqm(values[:, [i]]) for i in range(5)])


def test_a_single_run_is_shown_as_logged_without_an_interval() -> None:
    frame = pd.DataFrame({"step": [10, 20, 35], "rollout/return_mean": [1.0, np.nan, 3.0]})
    curve = learning_curve([frame])
    assert curve.steps.tolist() == [10, 35]
    assert curve.value.tolist() == [1, 3]
    assert np.isnan(curve.low).all()


def test_a_resumed_log_out_of_order_is_sorted() -> None:
    curve = learning_curve([([30, 10, 20], [3, 1, 2])])
    assert curve.steps.tolist() == [10, 20, 30]
    assert curve.value.tolist() == [1, 2, 3]


@pytest.mark.parametrize(
    ("runs", "message"),
    [
        ([], "at least one run"),
        ([([1, 2], [np.nan, np.nan])], "run 0 has no values"),
        ([([0, 1], [0, 0]), ([5, 6], [0, 0])], "no steps in common"),
        ([pd.DataFrame({"step": [1], "loss": [2.0]})], "'rollout/return_mean'; they have step, loss"),
    ],
)
def test_curves_that_cannot_be_drawn_are_refused(runs: list, message: str) -> None:
    with pytest.raises(UserError, match=message):
        learning_curve(runs)


def test_an_unknown_statistic_is_refused_with_the_known_ones() -> None:
    with pytest.raises(UserError, match=r"no statistic 'modus'; there are .*mean") as caught:
        learning_curve([([1, 2], [3.0, 4.0])], statistic="modus")  # type: ignore[arg-type]
    assert "\n" not in str(caught.value)


def test_a_curve_is_kept_in_files_and_tables(tmp_path) -> None:
    curve = learning_curve([([1, 2], [3.0, 4.0])], label="ppo")
    read = LearningCurve.load(curve.save(tmp_path / "curve"))
    assert read.to_dict() == curve.to_dict()
    assert curve.to_frame()["value"].tolist() == [3, 4]
