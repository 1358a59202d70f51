from __future__ import annotations

import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from rlstab.analysis.robustness.forced import Plant
from rlstab.analysis.robustness.pushes import PushReport, push_test
from rlstab.errors import UserError
from rlstab.policies.linear import LinearPolicy

MakeLinear: TypeAlias = Callable[[str, Any], LinearPolicy]


def report(survived: np.ndarray, falls: float = 0.0) -> PushReport:
    impulse = np.arange(1, len(survived) + 1) * 0.5
    directions = tuple(f"d{index}" for index in range(survived.shape[2]))
    return PushReport(
        env_id="Hopper-v5",
        policy="P",
        body="torso",
        mass_kg=10.0,
        seed=0,
        direction=directions,
        falls_undisturbed=falls,
        impulse=impulse,
        duration=np.full(survived.shape[1], 0.1),
        onset=np.arange(survived.shape[3]) * 0.1,
        survived=survived,
        recovered=survived,
    )


def test_the_critical_push_is_where_a_tenth_falls() -> None:
    # Impulses 0.5, 1.0, 1.5: all of ten survive, then eight, then none.
    survived = np.zeros((3, 1, 1, 10), bool)
    survived[0] = True
    survived[1, ..., :8] = True
    assert report(survived).critical_worst == pytest.approx(0.75)


def test_one_that_survives_all_has_the_largest_and_one_that_falls_by_itself_none() -> None:
    survived = np.ones((3, 1, 2, 4), bool)
    assert report(survived).critical_worst == 1.5
    assert report(survived, falls=0.5).critical_worst == 0.0
    assert "falls with nobody pushing" in report(survived, falls=0.5).summary()


@given(st.integers(0, 2**12 - 1))
def test_more_survival_never_lowers_the_critical_push(bits: int) -> None:
    survived = np.array([bits >> place & 1 for place in range(12)], bool).reshape(3, 1, 1, 4)
    more = survived.copy()
    more[0] = True
    assert report(more).critical_worst >= report(survived).critical_worst
    assert 0.0 <= report(survived).critical_worst <= 1.5


def test_hard_pushes_fell_the_pendulum_and_soft_ones_do_not(
    balancer: LinearPolicy, pendulum: Plant, tmp_path: Path
) -> None:
    found = push_test(balancer, pendulum, impulses=(0.001, 30.0), durations=(0.0, 0.1), onsets=2)
    assert found.survived.shape == (2, 2, 2, 2)
    assert found.survived[0].all()
    assert not found.survived[1].any()
    assert found.falls_undisturbed == 0.0
    assert found.duration[0] == pytest.approx(pendulum.dt)
    assert found.recovered[0].all()
    assert 0.0 < found.critical_worst < 30.0
    found.save(tmp_path / "pushes.json")
    assert PushReport.load(tmp_path / "pushes.json").summary() == found.summary()


def test_no_push_is_survived_by_what_falls_by_itself(pendulum: Plant, linear_policy: MakeLinear) -> None:
    unstable = linear_policy("InvertedPendulum-v5", [[0.0, 20.0, 0.0, 5.0]])
    found = push_test(unstable, pendulum, impulses=(0.01,), durations=(0.0,), onsets=2)
    assert found.falls_undisturbed == 1.0
    assert found.critical_worst == 0.0


@pytest.mark.parametrize("changes", [{"impulses": ()}, {"impulses": (0.0,)}, {"impulses": (2.0, 1.0)}, {"onsets": 0}])
def test_pushes_of_nothing_are_refused(balancer: LinearPolicy, pendulum: Plant, changes: dict[str, Any]) -> None:
    with pytest.raises(UserError, match="pushes need"):
        push_test(balancer, pendulum, **changes)


def test_the_mean_is_over_directions_and_durations() -> None:
    survived = np.ones((2, 1, 2, 4), bool)
    survived[:, :, 1] = False
    found = report(survived)
    first, second = found.critical()[0]
    assert found.critical_mean == pytest.approx((first + second) / 2)
    assert dataclasses.replace(found, survived=np.ones_like(survived)).critical_mean == 1.0
