"""Levels found by sums of squares are below the exact ones, and near them."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.linalg import solve_continuous_lyapunov

from rlstab.analysis.certificates.lyapunov.sums_of_squares import roa_sos
from rlstab.errors import UserError

VAN_DER_POL = [{(0, 1): -1.0}, {(1, 0): 1.0, (2, 1): 1.0, (0, 1): -1.0}]
"""In reversed time: stable within its limit cycle."""
FORM = solve_continuous_lyapunov(np.array([[0.0, 1.0], [-1.0, -1.0]]), -np.eye(2))


def _exact() -> float:
    """Least V where it does not fall, on a fine grid."""
    x, y = np.meshgrid(*[np.linspace(-3, 3, 1201)] * 2)
    value = FORM[0, 0] * x**2 + 2 * FORM[0, 1] * x * y + FORM[1, 1] * y**2
    slope = (2 * FORM[0, 0] * x + 2 * FORM[0, 1] * y) * -y
    slope += (2 * FORM[0, 1] * x + 2 * FORM[1, 1] * y) * (x + (x**2 - 1) * y)
    return float(value[(slope >= 0) & (value > 1e-3)].min())


def test_the_level_of_the_reversed_van_der_pol_oscillator() -> None:
    bracket = roa_sos(VAN_DER_POL, FORM, 0.1, 10.0, relative=1e-2)
    assert 0.97 * _exact() <= bracket.proved <= 1.001 * _exact()


def test_a_cubic_in_one_state() -> None:
    # x' = -x + x^3 descends for |x| < 1.
    assert roa_sos([{(1,): -1.0, (3,): 1.0}], [[1.0]], 0.1, 5.0).proved == pytest.approx(1.0, abs=3e-3)


def test_an_unstable_field_has_no_level() -> None:
    assert roa_sos([{(1,): 1.0}], [[1.0]], 0.1, 5.0).proved == 0.0


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (([{(1,): -1.0}], np.eye(2)), "symmetric matrix for 1 states"),
        (([{(1, 0): -1.0}], np.eye(1)), "1 exponents"),
    ],
)
def test_what_makes_no_sense_is_refused(arguments, message: str) -> None:
    with pytest.raises(UserError, match=message):
        roa_sos(*arguments, 0.1, 1.0)
    with pytest.raises(UserError, match="must be even"):
        roa_sos([{(1,): -1.0}], np.eye(1), 0.1, 1.0, multiplier_degree=1)
