"""The pendulum of the simulator, close to upright, against the table of the H-infinity specification (S5)."""

from __future__ import annotations

import numpy as np
import pytest

from rlstab.analysis.robustness import linear
from rlstab.analysis.robustness.forced import Plant
from rlstab.analysis.robustness.linearize import linearize


def test_the_pendulum_in_the_simulator_has_the_gains_of_the_table(pendulum: Plant) -> None:
    system = linearize(pendulum, np.diag([1.0, 10.0, 0.1, 0.1]), [[0.1]])
    assert system.dt == pytest.approx(0.04)
    gain = linear.lqr(system)
    np.testing.assert_allclose(gain, [[-1.7189, -12.1453, -2.0146, -1.9015]], atol=1e-4)
    loop = linear.close(system, gain)
    assert linear.h_infinity_norm(loop)[0] == pytest.approx(0.156510, abs=1e-6)
    assert linear.finite_horizon_gain(loop, 250)[0] == pytest.approx(0.155037, abs=1e-6)
    best = linear.optimal_level(system)
    assert best == pytest.approx(0.089293, abs=1e-6)
    robust = linear.solve_game(system, 1.05 * best).control
    np.testing.assert_allclose(robust, [[-9.4534, -32.0163, -10.5287, -5.9193]], atol=1e-3)
    assert linear.h_infinity_norm(linear.close(system, robust))[0] == pytest.approx(0.093444, abs=1e-6)
