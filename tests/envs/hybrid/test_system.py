"""Events of hybrid systems: found where they are, counted, and reported where they have no end or no beginning."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from rlstab.envs.hybrid.arrays import Array, columns
from rlstab.envs.hybrid.system import EventLimitReached, GuardNeverFired, HybridState, HybridSystem
from rlstab.errors import UserError


class BouncingBall(HybridSystem):
    """Height and speed; the floor gives back a share of the speed."""

    modes = ("flight",)
    guards = ("floor",)
    state_size = 2
    control_size = 1

    def __init__(self, restitution: float) -> None:
        self.restitution = restitution

    def flow(self, state: HybridState, control: Array) -> Array:
        return columns(state.x[:, 1], -10.0 + control[:, 0])

    def guard(self, state: HybridState) -> Array:
        return state.x[:, :1]

    def reset(self, state: HybridState, guard: Array) -> HybridState:
        return replace(state, x=columns(state.x[:, 0], -self.restitution * state.x[:, 1]))


def _dropped(*heights: float) -> HybridState:
    x = np.array([[height, 0.0] for height in heights])
    return HybridState(x, np.zeros(len(x), np.int64), x[:, :0])


def test_the_moment_of_an_event_is_exact():
    system = BouncingBall(1.0)
    stretch = system.until_event(_dropped(1.0, 3.2), np.zeros((2, 1)), 2.0)
    np.testing.assert_allclose(stretch.elapsed, np.sqrt(2.0 * np.array([1.0, 3.2]) / 10.0), rtol=1e-12)
    np.testing.assert_allclose(stretch.state.x[:, 1], np.sqrt(20.0 * np.array([1.0, 3.2])), rtol=1e-12)
    assert (stretch.events[-1].before[:, 1] < 0.0).any()


@given(st.floats(0.05, 3.0), st.floats(0.6, 1.0), st.floats(0.3, 1.4))
@settings(max_examples=30, deadline=None)
def test_bounces_are_those_of_the_closed_form(height: float, restitution: float, duration: float):
    system = BouncingBall(restitution)
    stretch = system.advance(_dropped(height), np.zeros((1, 1)), duration)
    speed, moment, impacts = np.sqrt(20.0 * height), np.sqrt(height / 5.0), 0
    while moment < duration and impacts < system.event_limit:
        impacts, speed = impacts + 1, restitution * speed
        moment += speed / 5.0
    if impacts == system.event_limit or abs(moment - duration) < 1e-9:
        return
    assert stretch.count[0] == impacts
    since = duration - (moment - speed / 5.0)
    expected = speed * since - 5.0 * since**2 if impacts else height - 5.0 * duration**2
    assert stretch.state.x[0, 0] == pytest.approx(expected, abs=1e-8)


def test_infinitely_many_events_are_reported():
    system = BouncingBall(0.5)
    stretch = system.advance(_dropped(1.0, 100.0), np.zeros((2, 1)), 2.0)
    assert stretch.limited.tolist() == [True, False]
    assert stretch.elapsed[0] < 2.0
    with pytest.raises(EventLimitReached, match=r"1 of 2 worlds had 50 events .* world 0 at guard 'floor': Zeno"):
        system.within_limit(stretch)


def test_a_reset_that_stays_on_its_guard_is_reported():
    stretch = BouncingBall(0.0).advance(_dropped(1.0), np.zeros((1, 1)), 1.0)
    assert stretch.limited.all()


def test_a_guard_that_never_fires_is_reported():
    system = BouncingBall(1.0)
    with pytest.raises(GuardNeverFired, match=r"no guard of mode 'flight' fired within 1 s in 1 of 2 worlds.* world 1"):
        system.until_event(_dropped(1.0, 9.0), np.zeros((2, 1)), 1.0)


@pytest.mark.parametrize("duration", [0.0, -1.0, np.nan, np.inf])
def test_time_goes_forward(duration: float):
    with pytest.raises(UserError, match="positive number of seconds"):
        BouncingBall(1.0).advance(_dropped(1.0), np.zeros((1, 1)), duration)


def test_the_moment_of_an_event_has_the_derivative_of_the_closed_form():
    height = torch.tensor([1.0, 2.0], dtype=torch.float64, requires_grad=True)
    state = HybridState(columns(height, 0.0), torch.zeros(2, dtype=torch.int64), torch.zeros(2, 0, dtype=torch.float64))
    stretch = BouncingBall(0.8).until_event(state, torch.zeros(2, 1, dtype=torch.float64), 2.0)
    stretch.elapsed.sum().backward()
    np.testing.assert_allclose(height.grad.numpy(), 1.0 / np.sqrt(20.0 * height.detach().numpy()), rtol=1e-6)
