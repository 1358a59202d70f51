"""The hopper against tables made by independent code, and against conservation laws."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import brentq

from rlstab.envs.hybrid.corridor import Corridor, flat, random_corridor
from rlstab.envs.hybrid.pogobot import APEX, FALLEN, GRAVITY, LEG, MASS, Hop, Pogobot, euler_hop, hop

# Speed, height, angle, force; next apex (x, xdot, y) and time, exactly and as the benchmark's own simulator has it.
TABLE = np.array(
    [
        [3.0, 1.3, 0.23004320, 0, 1.988903, 3.0, 1.3, 0.671271, 1.99492, 3.0, 1.30518, 0.6733],
        [
            *(3.951056516295154, 1.392705144665068, 0.324894128831083, 1394.991746366024),
            *(2.559328, 3.215683, 1.369385, 0.721799, 2.56907, 3.21028, 1.37663, 0.7253),
        ],
        [1.0, 1.5, 0, 0, 1.073407, 1.864756, 1.376134, 0.769796, 1.07808, 1.86477, 1.38250, 0.7726],
        [1.0, 1.5, 0.05, 1000, 0.775039, 1.189432, 1.288830, 0.722782, 0.77800, 1.18364, 1.29726, 0.7270],
        [2.0, 2.0, 0.15, -1500, 2.606365, 2.482455, 2.474116, 1.168917, 2.59535, 2.44970, 2.49092, 1.1729],
        [0, 1.5, 0, 3000, 0, 0, 1.111260, 0.618142, 0, 0, 1.11534, 0.6213],
        [-1.0, 1.8, -0.1, 500, -0.759772, -0.629544, 1.697123, 0.940054, -0.7599, -0.62516, 1.70661, 0.9431],
        [1.5, 1.6, 0.2, 2000, 0.757312, 0.400584, 1.324703, 0.764473, 0.75642, 0.39144, 1.33213, 0.7681],
        [2.5, 1.4, 0.25, -1000, 1.952410, 2.137175, 1.765594, 0.859659, 1.94676, 2.10989, 1.77722, 0.8630],
    ]
)


def _hop(decisions: np.ndarray) -> Hop:
    n = len(decisions)
    return hop(np.zeros(n), *decisions[:, :4].T, flat(n))


def _energy(xdot: np.ndarray, y: np.ndarray) -> np.ndarray:
    return MASS * (xdot**2 / 2.0 + GRAVITY * y)


def test_the_apex_map_is_that_of_the_table():
    after = _hop(TABLE)
    assert not after.failed.any()
    np.testing.assert_allclose(np.stack([after.x, after.xdot, after.y, after.time], -1), TABLE[:, 4:8], atol=6e-7)
    change = _energy(after.xdot, after.y) - _energy(TABLE[:, 0], TABLE[:, 1])
    np.testing.assert_allclose(change[[3, 4, 5]], [-152.345914, 465.796090, -310.991783], atol=1e-4)


def test_the_benchmarks_simulator_is_reproduced():
    np.testing.assert_allclose(np.stack(euler_hop(*TABLE[:, :4].T), -1), TABLE[:, 8:], atol=6e-6)


def test_the_map_with_closed_flights_is_the_hybrid_system():
    system, n = Pogobot(), len(TABLE)
    start = system.start(np.zeros(n), *TABLE[:, :3].T, flat(n))
    stretch = system.advance(start, TABLE[:, 3:4], 3.0)
    after = _hop(TABLE)
    assert (stretch.state.mode == APEX).all()
    assert stretch.count.tolist() == [4] * n
    np.testing.assert_allclose(stretch.state.x[:, 0], after.x, atol=1e-7)
    np.testing.assert_allclose(stretch.state.x[:, 2], after.y, atol=1e-7)
    np.testing.assert_allclose(stretch.elapsed, after.time, atol=1e-7)


@given(st.floats(-3, 3), st.floats(1.1, 2.5), st.floats(-0.3, 0.3), st.floats(-3000, 3000))
@settings(max_examples=12, deadline=None)
def test_energy_changes_by_the_work_of_the_extra_force(xdot, y, angle, force):
    after = _hop(np.array([[xdot, y, angle, force]]))
    if after.failed[0]:
        return
    work = -force * (LEG - after.shortest[0])
    assert _energy(after.xdot, after.y)[0] - _energy(xdot, y) == pytest.approx(work, abs=1e-3)
    mirrored = _hop(np.array([[-xdot, y, -angle, force]]))
    assert mirrored.x[0] == pytest.approx(-after.x[0], abs=1e-9)
    assert mirrored.y[0] == pytest.approx(after.y[0], abs=1e-9)


@pytest.mark.parametrize("y", [1.2, 1.9])
def test_standing_still_is_a_fixed_point(y: float):
    after = _hop(np.array([[0.0, y, 0.0, 0.0]]))
    assert (after.x[0], after.xdot[0]) == (0.0, 0.0)
    assert after.y[0] == pytest.approx(y, abs=1e-8)


def _derivative(xdot: float, y: float, angle: float, step: float = 1e-4) -> np.ndarray:
    base = np.array([xdot, y, angle, 0.0])
    shifts = np.diag([step, step, step, 1.0])
    after = _hop(np.vstack([base + shifts, base - shifts]))
    out = np.stack([after.xdot, after.y], -1)
    return ((out[:4] - out[4:]) / (2.0 * np.diag(shifts))[:, None]).T


@pytest.mark.parametrize(
    ("xdot", "y", "symmetric", "unstable"),
    [
        (3.0, 1.3, 0.2300432025, 1.604724),
        (1.0, 1.5, 0.0800746364, 1.908010),
        (2.0, 2.0, 0.1509913707, 2.255046),
        (0.75, 1.8, 0.0584250876, 2.156712),
    ],
)
def test_symmetric_angles_and_multipliers_are_those_of_the_table(xdot, y, symmetric, unstable):
    def gained(angle: float) -> float:
        return float(_hop(np.array([[xdot, y, angle, 0.0]])).xdot[0]) - xdot

    angle = brentq(gained, symmetric - 0.01, symmetric + 0.01, xtol=1e-12)
    assert angle == pytest.approx(symmetric, abs=1e-8)
    sizes = np.sort(np.abs(np.linalg.eigvals(_derivative(xdot, y, angle)[:, :2])))
    np.testing.assert_allclose(sizes, [1.0, unstable], atol=2e-5)


def test_the_jacobian_is_that_of_the_table_and_what_torch_derives():
    angle = 0.0800746364
    derivative = _derivative(1.0, 1.5, angle)
    np.testing.assert_allclose(derivative[:, :2], [[1.8964, -0.1161], [-0.08964, 1.01161]], atol=6e-5)
    np.testing.assert_allclose(derivative[:, 2], [-11.3785501, 1.137855], rtol=2e-6)
    np.testing.assert_allclose(derivative[:, 3], [-0.0001209, -0.0002216], atol=6e-8)

    def after(decision: torch.Tensor) -> torch.Tensor:
        x = torch.zeros(1, dtype=torch.float64)
        configuration = torch.tensor(flat())
        taken = hop(x, *(decision[index : index + 1] for index in range(4)), configuration)
        return torch.cat([taken.xdot, taken.y])

    decision = torch.tensor([1.0, 1.5, angle, 0.0], dtype=torch.float64)
    jacobian = torch.autograd.functional.jacobian(after, decision)
    np.testing.assert_allclose(np.asarray(jacobian), derivative, rtol=1e-5, atol=1e-8)


@given(st.integers(0, 2**31))
@settings(max_examples=5, deadline=None)
def test_a_batch_equals_its_worlds_alone(seed):
    rng = np.random.default_rng(seed)
    decisions = rng.uniform([-2, 1.1, -0.4, -4000], [3, 2.2, 0.4, 4000], (4, 4))
    together = _hop(decisions)
    for row in range(4):
        alone = _hop(decisions[row : row + 1])
        assert alone.failed[0] == together.failed[row]
        np.testing.assert_allclose(alone.x[0], together.x[row], atol=1e-10)
        np.testing.assert_allclose(alone.y[0], together.y[row], atol=1e-10)


def test_machine_code_and_the_general_integrator_take_the_same_hops():
    rng, n = np.random.default_rng(2), 120
    drawn = [random_corridor(np.random.default_rng(seed))[0].configuration() for seed in range(12)]
    corridors = np.stack([*drawn * 5, *flat(60)])
    arguments = [*rng.uniform([0, -2, 1.2, -0.4, -5000], [18, 3, 2.5, 0.4, 5000], (n, 5)).T, corridors]
    fast = hop(*arguments)
    slow = hop(*(torch.tensor(argument) for argument in arguments))
    assert 20 < fast.failed.sum() < 100
    np.testing.assert_array_equal(fast.failed, slow.failed)
    for name in ("x", "xdot", "y", "time", "shortest", "touchdown", "liftoff"):
        # The moment of failing is without meaning.
        kept = ~fast.failed if name in ("time", "shortest") else slice(None)
        np.testing.assert_allclose(getattr(fast, name)[kept], np.asarray(getattr(slow, name))[kept], atol=1e-10)


STEP = Corridor(np.array([[2.0, 0.0, 3.0, 1.0], [2.0, 0.5, 2.0, 1.0]])).configuration()


@pytest.mark.parametrize(
    ("name", "x", "xdot", "y", "angle", "force", "failed"),
    [
        ("lands on the step", 1.9, 1.5, 1.7, 0.1, 0.0, False),
        ("runs its foot into the step", 1.5, 3.0, 1.3, 0.3, 0.0, True),
        ("meets the lower ceiling", 1.9, 1.5, 2.2, 0.1, 0.0, True),
        ("stays before the step", 0.5, 0.0, 1.5, 0.0, 0.0, False),
        ("does not fit over the step", 2.5, 0.0, 1.3, 0.0, 0.0, True),
        ("falls over", 0.5, 0.0, 1.5, 0.9, 0.0, True),
    ],
)
def test_corridors_have_walls(name, x, xdot, y, angle, force, failed):
    arguments = [np.array([value]) for value in (x, xdot, y, angle, force)]
    after = hop(*arguments, STEP[None])
    assert after.failed[0] == failed, name
    system = Pogobot()
    start = system.start(*arguments[:4], STEP[None])
    mode = system.advance(start, arguments[4][:, None], 3.0).state.mode[0]
    assert mode == (FALLEN if failed else APEX), name
