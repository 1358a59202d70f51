from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from rlstab.sim2real.clock import Pacer, WallClock

PERIOD = 0.02


def starts(clock: Any, work: list[float]) -> tuple[np.ndarray, list[bool]]:
    pacer = Pacer(clock, PERIOD)
    times, overruns = [], []
    for seconds in work:
        overruns.append(pacer.wait())
        times.append(clock.time)
        clock.time += seconds
    return np.array(times), overruns


def test_work_shorter_than_the_period_does_not_drift(clock: Any) -> None:
    times, overruns = starts(clock, [0.003] * 500)
    np.testing.assert_allclose(times, times[0] + PERIOD * np.arange(500), atol=1e-5)
    assert not any(overruns)


def test_one_late_pass_shortens_the_next_wait_only(clock: Any) -> None:
    times, overruns = starts(clock, [0.0, 0.03, 0.0, 0.0])
    np.testing.assert_allclose(np.diff(times), [0.02, 0.03, 0.01], atol=1e-5)
    assert not any(overruns)


def test_being_late_by_more_than_a_period_drops_the_deadlines_in_between(clock: Any) -> None:
    times, overruns = starts(clock, [0.0, 0.115, 0.0, 0.0, 0.0])
    np.testing.assert_allclose(np.diff(times), [0.02, 0.115, 0.02, 0.02], atol=1e-5)
    assert overruns == [False, False, True, False, False]


@pytest.mark.parametrize(("overslept", "calls"), [(0.0, 3), (0.4e-3, 3), (0.6e-3, 0), (5e-3, 0)])
def test_preparations_take_place_only_where_they_delay_nothing(
    clock: Any, monkeypatch: pytest.MonkeyPatch, overslept: float, calls: int
) -> None:
    sleep = clock.sleep
    monkeypatch.setattr(clock, "sleep", lambda seconds: sleep(seconds + overslept))
    prepared: list[float] = []
    pacer = Pacer(clock, PERIOD)
    for _ in range(4):
        pacer.wait(lambda: prepared.append(clock.time))
    assert len(prepared) == calls
    clock.time += 1.5 * PERIOD
    pacer.wait(lambda: pytest.fail("there is no time"))


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=100)
@given(work=st.lists(st.floats(0, 0.2), min_size=3, max_size=40))
def test_commands_never_come_in_a_burst(clock: Any, work: list[float]) -> None:
    times, _ = starts(clock, work)
    # Three starts span at least one period however late things were: at most one deadline is ever made up for.
    assert (times[2:] - times[:-2] > PERIOD - 1e-5).all()


def test_the_wall_clock_moves_forward() -> None:
    clock = WallClock()
    before = clock.now()
    clock.sleep(1e-3)
    assert clock.now() >= before + 1e-3


def test_a_deadline_is_never_early_on_the_wall_clock() -> None:
    clock = WallClock()
    pacer = Pacer(clock, 2e-3)
    pacer.wait()
    first = clock.now()
    waited = [pacer.wait() for _ in range(5)]
    if not any(waited):  # a machine that stalls in between proves nothing
        assert clock.now() - first >= 5 * 2e-3 - 1e-3


@pytest.mark.parametrize("late", [0.0, 0.0199])
def test_the_first_deadline_is_now(clock: Any, late: float) -> None:
    pacer = Pacer(clock, PERIOD)
    clock.time += late
    before = clock.time
    assert not pacer.wait()
    assert clock.time - before < 1e-5
