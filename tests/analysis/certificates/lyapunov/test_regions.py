"""Volumes bracket the truth, and estimates of regions say what was seen."""

from __future__ import annotations

import math

import numpy as np
import pytest

from rlstab.analysis.certificates.lyapunov.loop import ClosedLoop
from rlstab.analysis.certificates.lyapunov.regions import (
    ellipsoid_volume,
    inscribed_level,
    monte_carlo_volume,
    roa_bisection,
    roa_grid,
    roa_sampling,
    sublevel_volume,
)
from rlstab.analysis.certificates.lyapunov.verifier import Claim, verify
from rlstab.envs.plants import CartPole, InvertedPendulum, PathTracking
from rlstab.errors import UserError
from rlstab.policies.lyapunov import QuadraticLyapunov, discrete_lyapunov, lqr


def _loop(plant, weight: float = 10.0) -> ClosedLoop:
    feedback = lqr(plant, control_weight=weight)[0]
    return ClosedLoop(plant, feedback, discrete_lyapunov(plant, feedback))


def test_volumes_of_an_ellipse_agree() -> None:
    loop = _loop(PathTracking())
    assert isinstance(loop.lyapunov, QuadraticLyapunov)
    matrix = loop.lyapunov.matrix
    rho = inscribed_level(matrix, loop.half_widths)
    exact = ellipsoid_volume(matrix, rho)
    low, high = sublevel_volume(loop, rho)
    assert low <= exact <= high <= 1.003 * low
    estimate, below, above = monte_carlo_volume(loop, rho, 20_000)
    assert below < exact < above
    assert estimate == pytest.approx(exact, rel=0.05)
    # The largest that fits touches the box, and one larger is cut off.
    assert sublevel_volume(loop, 1.5 * rho)[1] < ellipsoid_volume(matrix, 1.5 * rho)


def test_the_volume_of_a_ball() -> None:
    assert ellipsoid_volume(np.eye(3), 4.0) == pytest.approx(4 / 3 * math.pi * 8)
    assert inscribed_level(np.diag([1.0, 4.0]), [3.0, 1.0]) == pytest.approx(4.0)


def test_what_converges_holds_what_is_proved() -> None:
    loop = _loop(PathTracking())
    grid = roa_grid(loop, cells=60, steps=300)
    level = roa_sampling(loop, 5000, steps=300)
    assert level.unstable >= 50

    def proves(rho: float) -> bool:
        return verify(loop, Claim(rho=rho, c1=0.01 * rho)).status == "proved"

    bracket = roa_bisection(proves, 1.0, 400.0, relative=1e-2)
    assert bracket.proved < bracket.failed <= 1.02 * bracket.proved
    assert bracket.proved == pytest.approx(85.3, rel=0.03)
    assert sublevel_volume(loop, bracket.proved)[1] < grid.volume
    assert bracket.proved < level.rho


def test_bisection_keeps_what_was_accepted() -> None:
    assert roa_bisection(lambda rho: rho <= 3.0, 0.1, 10.0).proved == pytest.approx(3.0, rel=2e-3)
    assert roa_bisection(lambda rho: True, 0.1, 10.0) == (10.0, math.inf, 1)
    assert roa_bisection(lambda rho: False, 0.1, 10.0) == (0.0, 0.1, 2)
    with pytest.raises(UserError, match="0 < low < high"):
        roa_bisection(lambda rho: True, 2.0, 1.0)


def test_a_level_needs_starts_that_fail() -> None:
    small = InvertedPendulum(box=(0.1, 0.1))
    loop = ClosedLoop(small, *lqr(small, control_weight=1.0), box=(12.0, 12.0))
    assert roa_sampling(loop, 2000).unstable >= 50
    calm = PathTracking(box=(0.1, 0.1), control_low=(-5.0,), control_high=(5.0,))
    with pytest.raises(UserError, match="50 are needed"):
        roa_sampling(ClosedLoop(calm, *lqr(calm)), 60)


def test_what_makes_no_sense_is_refused() -> None:
    with pytest.raises(UserError, match="too large"):
        roa_grid(ClosedLoop(CartPole(), *lqr(CartPole())))
    with pytest.raises(UserError, match="positive definite"):
        ellipsoid_volume(-np.eye(2), 1.0)
