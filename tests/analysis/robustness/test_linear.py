"""Exact gains against analytic ones and against the table of the H-infinity specification."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rlstab.analysis.robustness import linear
from rlstab.analysis.robustness.linear import Loop
from rlstab.envs.linear.systems import SYSTEMS, LinearSystem
from rlstab.errors import UserError

LQR = {
    "S1": [[0.703428]],
    "S2": [[2.955437, 2.604675]],
    "S3": [[-8.488708, -8.978882, -53.211847, -11.948345]],
}
NORM = {"S1": 2.026132, "S2": 0.504357, "S3": 6.355233}
H2 = {"S1": 1.331830, "S2": 0.120363, "S3": 1.294049}
FINITE = {
    "S1": {50: 2.0219, 100: 2.0251, 200: 2.0259, 500: 2.0261},
    "S2": {50: 0.4546, 100: 0.4822, 200: 0.4971, 500: 0.5030},
    "S3": {50: 3.9548, 100: 5.5949, 200: 6.2481, 500: 6.3482},
}
DISCOUNTED = {
    "S1": {0.99: 2.0094, 0.995: 2.0177, 0.999: 2.0245},
    "S2": {0.99: 0.4721, 0.995: 0.4876, 0.999: 0.5009},
    "S3": {0.99: 5.2158, 0.995: 5.7476, 0.999: 6.2271},
}
OPTIMAL = {"S1": 1.486607, "S2": 0.326503, "S3": 3.322053}
ROBUST = {
    ("S1", 1.05): ([[1.0422]], 1.53298, 1.4468),
    ("S1", 1.2): ([[0.9327]], 1.64218, 1.3870),
    ("S1", 2.0): ([[0.7702]], 1.88339, 1.3370),
    ("S2", 1.05): ([[7.8649, 10.5660]], 0.34149, 0.19776),
    ("S2", 1.2): ([[5.0923, 5.6401]], 0.37733, 0.14325),
    ("S2", 2.0): ([[3.3946, 3.1657]], 0.45726, 0.12189),
    ("S3", 1.05): ([[-66.862, -57.932, -218.958, -48.316]], 3.47756, 2.3418),
    ("S3", 1.2): ([[-33.221, -29.709, -123.422, -27.357]], 3.89421, 1.67798),
    ("S3", 2.0): ([[-13.098, -12.838, -66.290, -14.820]], 5.18501, 1.3296),
}
NAMES = sorted(SYSTEMS)


def regulated(name: str) -> Loop:
    system = SYSTEMS[name]()
    return linear.close(system, linear.lqr(system))


@pytest.mark.parametrize("name", NAMES)
def test_the_regulator_and_its_norms(name: str) -> None:
    np.testing.assert_allclose(linear.lqr(SYSTEMS[name]()), LQR[name], atol=1e-6)
    assert linear.h_infinity_norm(regulated(name))[0] == pytest.approx(NORM[name], abs=1e-6)
    assert linear.h2_norm(regulated(name)) == pytest.approx(H2[name], abs=1e-6)


def test_the_peak_is_where_it_is_known_to_be() -> None:
    for name in ("S1", "S3"):
        assert linear.h_infinity_norm(regulated(name))[1] == pytest.approx(0.0, abs=1e-4)
    _, angle = linear.h_infinity_norm(regulated("S2"))
    assert angle / (2 * np.pi * SYSTEMS["S2"]().dt) == pytest.approx(0.178, abs=1e-3)


@pytest.mark.parametrize(("damping", "norm"), [(0.05, 10.012523), (0.1, 5.025189), (0.3, 1.747141)])
def test_a_resonance_sampled_finely_has_its_analytic_peak(damping: float, norm: float) -> None:
    from scipy.signal import cont2discrete

    a, b, c = np.array([[0.0, 1.0], [-1.0, -2 * damping]]), np.array([[0.0], [1.0]]), np.array([[1.0, 0.0]])
    ad, bd, *_ = cont2discrete((a, b, c, np.zeros((1, 1))), 1e-3, method="zoh")
    gain, angle = linear.h_infinity_norm(Loop(ad, bd, c))
    assert norm == pytest.approx(1 / (2 * damping * np.sqrt(1 - damping**2)), abs=1e-6)
    assert gain == pytest.approx(norm, rel=1e-5)
    assert angle / 1e-3 == pytest.approx(np.sqrt(1 - 2 * damping**2), rel=1e-4)


@pytest.mark.parametrize("name", NAMES)
def test_gains_over_finite_horizons_and_with_discounts(name: str) -> None:
    loop = regulated(name)
    for steps, gain in FINITE[name].items():
        assert linear.finite_horizon_gain(loop, steps)[0] == pytest.approx(gain, abs=6e-5)
    for discount, gain in DISCOUNTED[name].items():
        assert linear.h_infinity_norm(loop.discounted(discount))[0] == pytest.approx(gain, abs=6e-5)


@pytest.mark.parametrize("name", NAMES)
def test_the_worst_disturbance_does_what_it_claims(name: str) -> None:
    loop = regulated(name)
    gain, disturbance = linear.finite_horizon_gain(loop, 200)
    state, energy = np.zeros(len(loop.a)), 0.0
    for push in disturbance:
        energy += float((loop.c @ state) @ (loop.c @ state))
        state = loop.a @ state + loop.b @ push
    assert (disturbance**2).sum() == pytest.approx(1.0)
    assert np.sqrt(energy) == pytest.approx(gain, rel=1e-9)


@pytest.mark.parametrize("name", NAMES)
def test_the_optimal_level(name: str) -> None:
    system = SYSTEMS[name]()
    level = linear.optimal_level(system)
    assert level == pytest.approx(OPTIMAL[name], abs=1e-6)
    solution = linear.solve_game(system, 1.001 * level)
    assert solution is not None
    assert linear.h_infinity_norm(linear.close(system, solution.control))[0] <= 1.001 * level
    assert linear.solve_game(system, 0.999 * level) is None


def test_the_optimal_level_of_the_scalar_system_is_analytic() -> None:
    assert linear.optimal_level(SYSTEMS["S1"](), 1e-10) == pytest.approx(np.sqrt(2.21), rel=1e-8)


@pytest.mark.parametrize(("name", "factor"), sorted(ROBUST))
def test_robust_controls_and_what_they_cost(name: str, factor: float) -> None:
    system = SYSTEMS[name]()
    solution = linear.solve_game(system, factor * linear.optimal_level(system, 1e-9))
    assert solution is not None
    gain, norm, cost = ROBUST[name, factor]
    np.testing.assert_allclose(solution.control, gain, rtol=2e-5, atol=6e-4)
    loop = linear.close(system, solution.control)
    assert linear.h_infinity_norm(loop)[0] == pytest.approx(norm, rel=2e-5)
    assert linear.h2_norm(loop) == pytest.approx(cost, rel=1e-4)


@settings(deadline=None, max_examples=40)
@given(seed=st.integers(0, 10_000), n=st.integers(1, 5), k=st.integers(1, 3), p=st.integers(1, 3))
def test_the_norm_is_the_maximum_over_frequencies(seed: int, n: int, k: int, p: int) -> None:
    rng = np.random.default_rng(seed)
    a = rng.standard_normal((n, n))
    a *= rng.uniform(0.1, 0.99) / np.abs(np.linalg.eigvals(a)).max()
    loop = Loop(a, rng.standard_normal((n, k)), rng.standard_normal((p, n)))
    gain, angle = linear.h_infinity_norm(loop)
    fine = max(loop.response(angle) for angle in np.linspace(0.0, np.pi, 2001))
    assert fine <= gain * (1 + 1e-6)
    assert loop.response(angle) == pytest.approx(gain)
    assert linear.finite_horizon_gain(loop, 40)[0] <= gain * (1 + 1e-9)


def test_an_unstable_loop_has_no_finite_gain() -> None:
    loop = Loop(np.array([[1.001]]), np.ones((1, 1)), np.ones((1, 1)))
    assert linear.h_infinity_norm(loop)[0] == np.inf
    assert linear.h2_norm(loop) == np.inf
    # A discount hides it, which is why a discounted gain is no bound.
    assert linear.h_infinity_norm(loop.discounted(0.99))[0] < np.inf


def test_what_makes_no_system_is_refused() -> None:
    eye = np.eye(2)
    with pytest.raises(UserError, match="b has shape"):
        LinearSystem(a=eye, b=np.ones((3, 1)), e=eye, q=eye, r=np.eye(1))
    with pytest.raises(UserError, match="r must be symmetric and positive definite"):
        LinearSystem(a=eye, b=eye, e=eye, q=eye, r=np.zeros((2, 2)))
    with pytest.raises(UserError, match="finite"):
        LinearSystem(a=np.full((2, 2), np.nan), b=eye, e=eye, q=eye, r=eye)
    with pytest.raises(UserError, match="gain has shape"):
        linear.close(SYSTEMS["S2"](), np.ones((1, 3)))
    with pytest.raises(UserError, match="no linear-quadratic regulator"):
        linear.lqr(LinearSystem(a=2 * eye, b=np.zeros((2, 1)), e=eye, q=eye, r=np.eye(1)))
