"""Bounded least squares against SciPy's, and the references that the baselines aim at."""

from __future__ import annotations

import numpy as np
from scipy.optimize import least_squares

from rlstab.controllers.roa.pogobot.deadbeat import LIMITS, border_reference, segment_reference, solve_deadbeat
from rlstab.controllers.roa.pogobot.domain import take_hops
from rlstab.envs.hybrid.corridor import Corridor


def test_controls_are_those_of_bounded_least_squares() -> None:
    rng = np.random.default_rng(0)
    apices = rng.uniform([0.0, 1.1], [2.5, 2.5], (8, 2))
    references = rng.uniform([0.3, 1.2], [2.5, 3.4], (8, 2))
    controls = solve_deadbeat(apices, references)
    assert (np.abs(controls) <= LIMITS).all()
    after, _, _, failed = take_hops(apices, controls)
    ours = ((after - references) ** 2).sum(1)
    assert not failed.any()
    for row in range(8):

        def residual(z: np.ndarray, row: int = row) -> np.ndarray:
            reached, _, _, lost = take_hops(apices[row : row + 1], (z * LIMITS)[None])
            return np.full(2, 10.0) if lost[0] else (reached - references[row])[0]

        guesses = ([0.16 * apices[row, 0], 0.0], [0.28 * apices[row, 0], 0.0])
        best = min(2.0 * least_squares(residual, guess, bounds=(-1.0, 1.0)).cost for guess in guesses)
        assert ours[row] <= best + 1e-6


def test_one_hop_repeats_the_symmetric_apices_of_the_specification() -> None:
    apices = np.array([[3.0, 1.3], [1.0, 1.5], [2.0, 2.0], [0.75, 1.8]])
    controls = solve_deadbeat(apices, apices)
    np.testing.assert_allclose(controls[:, 0], [0.2300432025, 0.0800746364, 0.1509913707, 0.0584250876], atol=1e-7)
    np.testing.assert_allclose(controls[:, 1], 0.0, atol=1e-2)


def test_near_a_border_the_height_is_one_that_the_border_can_be_passed_with() -> None:
    rows = np.array([[5.0, 0.0, 3.0, 1.0], [5.0, 1.0, 3.0, 2.0], [5.0, 1.0, 2.4, 1.5]])
    configuration = np.tile(Corridor(rows).configuration(), (4, 1))
    apices = np.array([[1.0, 1.0, 1.5], [3.0, 1.0, 1.5], [6.0, 1.0, 2.5], [9.0, 1.0, 2.5]])
    plain, near = segment_reference(apices, configuration), border_reference(apices, configuration)
    np.testing.assert_allclose(plain, [[1.0, 1.8], [1.0, 1.8], [2.0, 2.4], [2.0, 2.4]])
    np.testing.assert_allclose(near, [[1.0, 1.8], [1.0, 2.1], [2.0, 2.4], [2.0, 2.3]])
