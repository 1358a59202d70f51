"""The gains and condition numbers of the table, and what they do to the nonlinear car."""

from __future__ import annotations

import numpy as np
import pytest

from rlstab.envs.hybrid.car import euler_step
from rlstab.envs.hybrid.car_lqr import car_lqr
from rlstab.errors import UserError

ROWS = {
    (1.0, 3.0): ([0.981816, 3.660706, 3.315472, 0.045845, 0.041546], 669.4),
    (1.0, 10.0): ([0.961044, 7.933349, 5.998826, 0.279542, 0.451033], 421.9),
    (1.0, 30.0): ([0.929160, 14.673788, 13.587741, 1.053609, 3.670433], 1175.3),
    (0.1, 3.0): ([0.982578, 3.509757, 3.853021, 0.465247, 0.425667], 115.0),
    (0.1, 10.0): ([0.969493, 6.190736, 10.234222, 1.658211, 3.891097], 446.8),
    (0.1, 30.0): ([0.960400, 8.075459, 30.878849, 2.803420, 21.322564], 5355.5),
}


@pytest.mark.parametrize("mode", ROWS)
def test_gains_and_condition_numbers_are_those_of_the_table(mode):
    row, condition = ROWS[mode]
    regulator = car_lqr(*mode)
    np.testing.assert_allclose(regulator.gain[0, [1, 2, 4, 5, 6]], row, atol=5.1e-7)
    np.testing.assert_allclose(regulator.gain[1, [0, 3]], [0.991377, 1.727051], atol=5.1e-7)
    assert np.linalg.cond(regulator.p) == pytest.approx(condition, abs=0.051)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("mode", "settled", "decreasing"),
    [((1.0, 3.0), 1.000, 0.316), ((1.0, 20.0), 0.948, 0.176), ((0.1, 10.0), 0.597, 0.109), ((0.1, 30.0), 0.274, 0.020)],
)
def test_as_many_starts_settle_as_in_the_table(mode, settled, decreasing):
    n = 8000
    x = np.random.default_rng(0).uniform(-1.0, 1.0, (n, 7))
    mu, v, w = (np.full(n, value) for value in (*mode, 0.0))
    regulator = car_lqr(*mode)
    falls = np.ones(n, bool)
    value = np.einsum("ni,ij,nj->n", x, regulator.p, x) / 2.0
    for step in range(500):
        x = euler_step(x, np.clip(-x @ regulator.gain.T, -12.0, 12.0), mu, v, w)
        if step < 100:
            before, value = value, np.einsum("ni,ij,nj->n", x, regulator.p, x) / 2.0
            falls &= value <= 0.99 * before + 0.001
    # Three standard deviations of a share of 8000, and of that of 20 000 in the table.
    assert (np.linalg.norm(x, axis=1) < 0.1).mean() == pytest.approx(settled, abs=0.02)
    assert falls.mean() == pytest.approx(decreasing, abs=0.02)


def test_a_smaller_control_weight_makes_errors_cheaper_and_none_is_refused():
    x = np.array([0.1, 0.3, 0.0, 0.2, 0.2, 0.0, 0.0])
    costs = [x @ car_lqr(0.1, 5.0, control_weight=weight).p @ x for weight in (1.0, 0.1, 0.01)]
    assert costs == sorted(costs, reverse=True)
    with pytest.raises(UserError, match="control_weight must be positive"):
        car_lqr(1.0, 5.0, control_weight=0.0)
