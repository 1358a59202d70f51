from __future__ import annotations

import math

import pytest

from rlstab.controllers.roa.monitor import StabilityMonitor
from rlstab.errors import UserError


def follow(monitor: StabilityMonitor, *values: float) -> None:
    for value in values:
        monitor.step(value)


def test_a_trajectory_for_which_everything_holds():
    monitor = StabilityMonitor(alpha=0.1)
    monitor.enter(1.0, level=2.0)
    follow(monitor, 0.9, 0.5)
    monitor.enter(1.5, level=1.5)
    follow(monitor, 1.2)
    report = monitor.finish()
    assert report.first_failure is None
    assert report.jump == 3.0
    assert report.needed_dwell == pytest.approx(math.log(3.0) / -math.log(0.9))
    assert [mode.dwell for mode in report.modes] == [2, 1]
    assert report.summary()["grade"] == "empirical"


def test_the_first_failure_is_named():
    monitor = StabilityMonitor(alpha=0.1)
    monitor.enter(1.0, level=2.0)
    follow(monitor, 0.9, 0.89)
    monitor.enter(3.0, level=2.0)
    report = monitor.finish()
    assert report.first_failure == "A2 failed in mode 0: V did not fall by 0.1 at step 2"
    assert not report.modes[1].inside


def test_a_switch_outside_the_level_set_fails_a3():
    monitor = StabilityMonitor(alpha=0.1)
    monitor.enter(1.0, level=2.0)
    monitor.step(0.5)
    monitor.enter(3.0, level=2.0)
    failure = monitor.finish().first_failure
    assert failure is not None
    assert failure.startswith("A3 failed on entering mode 1: V = 3 is above rho = 2")


def test_leaving_the_domain_fails_a2_though_v_falls():
    monitor = StabilityMonitor(alpha=0.1)
    monitor.enter(1.0, level=2.0)
    monitor.step(0.5, in_domain=False)
    monitor.step(0.1)
    assert monitor.finish().first_failure == "A2 failed in mode 0: the state left the domain of V at step 1"


def test_slack_overlooks_small_rises_only():
    monitor = StabilityMonitor(alpha=0.1, slack=0.01)
    monitor.enter(0.001, level=1.0)
    follow(monitor, 0.01, 0.5)
    assert monitor.finish().modes[0].first_rise == 2


def test_it_can_be_read_and_gone_on_with():
    monitor = StabilityMonitor(alpha=0.5)
    assert monitor.finish().modes == ()
    monitor.enter(1.0, level=1.0)
    assert monitor.finish().modes[0].dwell == 0
    monitor.step(0.5)
    assert monitor.finish().modes[0].dwell == 1
    assert math.isnan(monitor.finish().jump)


@pytest.mark.parametrize("value", [-1.0, math.nan])
def test_what_is_no_lyapunov_function_is_refused(value):
    monitor = StabilityMonitor(alpha=0.1)
    with pytest.raises(UserError, match="not negative"):
        monitor.enter(value, level=1.0)


def test_misuse_is_refused():
    with pytest.raises(UserError, match="before any mode began"):
        StabilityMonitor(alpha=0.1).step(1.0)
    with pytest.raises(UserError, match="alpha must be between"):
        StabilityMonitor(alpha=1.0)


def test_modes_that_are_too_short_fail_a4():
    monitor = StabilityMonitor(alpha=0.1)
    monitor.enter(1.0, level=4.0)
    follow(monitor, 0.9)
    monitor.enter(3.0, level=4.0)
    report = monitor.finish()
    assert report.first_failure is None
    assert report.dwell_failure == "A4 failed: a mode lasted 1 steps, and more than 11.43 are needed"
    assert report.summary()["dwell"] == report.dwell_failure


def test_modes_that_last_fail_nothing():
    monitor = StabilityMonitor(alpha=0.5)
    monitor.enter(1.0, level=4.0)
    follow(monitor, 0.5, 0.25, 0.12)
    monitor.enter(0.4, level=4.0)
    assert monitor.finish().dwell_failure is None
    assert StabilityMonitor(alpha=0.5).finish().dwell_failure is None


def test_a_switch_from_rest_needs_modes_without_end():
    monitor = StabilityMonitor(alpha=0.1)
    monitor.enter(1.0, level=4.0)
    monitor.step(0.0)
    monitor.enter(1.0, level=4.0)
    assert str(monitor.finish().dwell_failure).endswith("more than inf are needed")


def test_infinity_is_neither_inside_nor_falling():
    monitor = StabilityMonitor(alpha=0.1)
    monitor.enter(math.inf, level=math.inf)
    monitor.step(math.inf)
    (mode,) = monitor.finish().modes
    assert not mode.inside
    assert mode.first_rise == 1
