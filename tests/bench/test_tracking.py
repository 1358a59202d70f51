from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from rlstab.bench.tracking import TASK, TERMS, TrackingReport, measure_tracking
from rlstab.envs.registry import make_vec

LIMIT = 12


class Kicking:
    """Throws its legs about, so that the base is soon on the ground."""

    def __init__(self) -> None:
        env = make_vec(TASK)
        self.observation_space, self.action_space = env.single_observation_space, env.single_action_space

    def predict(
        self, observation: Any, state: Any = None, episode_start: Any = None, deterministic: bool = False
    ) -> tuple[Any, Any]:
        return np.tile(np.float32([0.0, 1.0, -1.0]), (len(observation), 4)), state


def measured(policy: Any = None, limit: int = LIMIT, **changes: Any) -> TrackingReport:
    return measure_tracking(policy, 0, episodes=3, seed=5, num_threads=1, max_episode_steps=limit, **changes)


def test_a_share_is_that_of_the_exponentials_over_a_whole_episode() -> None:
    env: Any = make_vec(TASK, 3, 5, num_threads=1, max_episode_steps=LIMIT)
    env.reset(seed=5)
    expected = np.zeros((2, 3))
    for _ in range(LIMIT):
        env.step(np.zeros((3, 12), np.float32))
        expected += [env.reward_terms[name] for name in TERMS]
    report = measured()
    most = LIMIT * env.task.tracking_maximum(env.dt)
    np.testing.assert_allclose(report.shares, expected.sum(0) / most)
    np.testing.assert_allclose(report.linear, expected[0] / (LIMIT * env.dt))
    low, high = report.interval()
    assert 0.0 < low <= report.share <= high < 1.0


def test_weights_of_the_training_do_not_count_but_its_robot_does() -> None:
    plain = measured()
    weighted = measured(env_kwargs={"tracking_linear_weight": 20.0, "termination_weight": -9.0, "least_reward": -1.0})
    np.testing.assert_array_equal(weighted.shares, plain.shares)
    assert not np.array_equal(measured(env_kwargs={"tracking_sigma": 0.5}).shares, plain.shares)


def test_what_is_missed_after_a_fall_counts() -> None:
    short, long = measured(Kicking(), 400), measured(Kicking(), 800)
    assert short.fell.all()
    np.testing.assert_array_equal(short.lengths, long.lengths)
    np.testing.assert_allclose(short.shares, 2.0 * long.shares)


def test_a_report_comes_back_from_its_file(tmp_path: Path) -> None:
    report = measured()
    again = TrackingReport.load(report.save(tmp_path / "report"))
    assert again.summary() == report.summary()
    assert again.share == pytest.approx(report.share)
    report.plot()
