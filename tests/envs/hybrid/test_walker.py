"""The compass walker against tables made by independent code, and against mechanics."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from rlstab.envs.hybrid.system import GuardNeverFired, HybridState
from rlstab.envs.hybrid.walker import (
    Walker,
    accelerations,
    energy,
    impact,
    inertia,
    is_valid,
    kinetic_energy,
    stance_at,
    step_length,
    swing_foot_height,
)
from rlstab.envs.hybrid.walker_gaits import GAITS, gait_lyapunov, gait_torque, output, walk

ANYWHERE = np.array([[0.2, -0.35, -0.7, 0.6]])
START = np.array([[0.129982018648464, -0.259943756071354, -0.668838559330795, 0.285101045253290]])
GAIT = START[:, 0]


def test_accelerations_are_those_of_the_table():
    for x, drift, column in (
        (ANYWHERE, (4.4555788806, 6.5112558680), (0.6425555568, 4.5646427563)),
        (START, (3.2789287216, 5.3713325216), (0.7087876871, 4.6611634426)),
    ):
        ours = accelerations(x)
        np.testing.assert_allclose(ours[0][0], drift, atol=5.1e-11)
        np.testing.assert_allclose(ours[1][0], column, atol=5.1e-11)


def test_the_gait_controller_is_that_of_the_table():
    gait = np.array([0.16])
    y, ydot, _, _ = output(ANYWHERE, gait)
    assert y[0] == pytest.approx(0.446460808661, abs=1e-12)
    assert ydot[0] == pytest.approx(-8.970032054699, abs=1e-12)
    assert gait_lyapunov(ANYWHERE, gait)[0] == pytest.approx(21.848057894578, abs=1e-11)
    assert gait_torque(ANYWHERE, gait)[0] == -4.0
    assert gait_torque(ANYWHERE, -gait)[0] == -4.0
    assert gait_lyapunov(START, GAIT)[0] == pytest.approx(3.271915841796, abs=1e-11)
    assert gait_torque(START, GAIT)[0] == pytest.approx(2.487659802758, abs=1e-11)


def test_a_control_period_is_two_euler_steps():
    after = Walker().advance(stance_at(START, 0.13), gait_torque(START, GAIT)[:, None], 0.01).state.x
    np.testing.assert_allclose(after[0], [0.1234196868, -0.2566685776, -0.6186377993, 0.4548579680], atol=5.1e-11)


def test_passive_swing_keeps_its_energy():
    after = Walker(exact=True).advance(stance_at(START, 0.13), np.zeros((1, 1)), 0.5).state.x
    np.testing.assert_allclose(after[0], [0.00637706, 0.2149753, -0.25196456, 0.51768278], atol=5.1e-9)
    assert energy(START)[0] == pytest.approx(19.8521292179, abs=5.1e-11)
    assert energy(after)[0] == pytest.approx(energy(START)[0], abs=1e-8)


IMPACTS = [
    ((-0.13, 0.26, -0.7, -0.5), (0.13, -0.26, -0.5430549995, 0.1934491813), 0.3253662092, 0.2553132774),
    ((-0.2, 0.4, -0.7, -0.5), (0.2, -0.4, -0.4759502303, 0.2991918458), 0.3444043825, 0.2200065414),
    ((-0.1, 0.2, -1.0, 0.3), (0.1, -0.2, -1.0043664187, 0.0356745009), 0.8432266978, 0.7753774075),
]


@pytest.mark.parametrize(("before", "after", "energy_before", "energy_after"), IMPACTS)
def test_impacts_are_those_of_the_table(before, after, energy_before, energy_after):
    x = np.array([before])
    np.testing.assert_allclose(impact(x)[0], after, atol=5.1e-11)
    assert kinetic_energy(x)[0] == pytest.approx(energy_before, abs=5.1e-11)
    assert kinetic_energy(impact(x))[0] == pytest.approx(energy_after, abs=5.1e-11)


def _masses(x: np.ndarray, foot: float) -> tuple[np.ndarray, np.ndarray]:
    """Places and velocities of mid-stance-leg, hip and mid-swing-leg, ``(3, 2)`` each; the stance foot is at rest."""
    q1, q2, q1d, q2d = x
    stance, swing = np.array([-np.sin(q1), np.cos(q1)]), np.array([np.sin(q1 + q2), -np.cos(q1 + q2)])
    stance_d = q1d * np.array([-np.cos(q1), -np.sin(q1)])
    swing_d = (q1d + q2d) * np.array([np.cos(q1 + q2), np.sin(q1 + q2)])
    places = np.array([0.5 * stance, stance, stance + 0.5 * swing]) + np.array([foot, 0.0])
    return places, np.array([0.5 * stance_d, stance_d, stance_d + 0.5 * swing_d])


def _momentum(places: np.ndarray, velocities: np.ndarray, about: np.ndarray) -> float:
    arms = places - about
    return float((arms[:, 0] * velocities[:, 1] - arms[:, 1] * velocities[:, 0]).sum())


def _momenta(before: np.ndarray) -> tuple[tuple[float, float], tuple[float, float]]:
    """About the new foot, of all; about the hip, of the old stance leg; before and after the impact."""
    foot = float(step_length(before[None])[0])
    places, velocities = _masses(before, 0.0)
    after_places, after_velocities = _masses(impact(before[None])[0], foot)
    np.testing.assert_allclose(after_places, places[::-1], atol=1e-12)
    about, hip = np.array([foot, 0.0]), places[1]
    return (
        (_momentum(places, velocities, about), _momentum(after_places, after_velocities, about)),
        (_momentum(places[:1], velocities[:1], hip), _momentum(after_places[2:], after_velocities[2:], hip)),
    )


def test_angular_momenta_are_those_of_the_table():
    for x, whole, leg in (
        ((-0.13, 0.26, -0.7, -0.5), -0.8779460, 0.1750000),
        ((-0.1, 0.2, -1.0, 0.3), -1.5351332, 0.25),
    ):
        about_foot, about_hip = _momenta(np.array(x))
        np.testing.assert_allclose(about_foot, whole, atol=5.1e-8)
        np.testing.assert_allclose(about_hip, leg, atol=5.1e-8)


@given(st.floats(-0.4, -0.03), st.floats(-2.0, 0.0), st.floats(-2.0, 2.0))
def test_impacts_keep_momenta_and_lose_energy(q1, q1d, q2d):
    x = np.array([q1, -2.0 * q1, q1d, q2d])
    for before, after in _momenta(x):
        assert before == pytest.approx(after, abs=1e-10)
    assert kinetic_energy(impact(x[None]))[0] <= kinetic_energy(x[None])[0] + 1e-12
    assert swing_foot_height(x[None])[0] == pytest.approx(0.0, abs=1e-12)


@given(st.floats(-0.5, 0.5), st.floats(-1.0, 1.0))
def test_the_mass_matrix_is_positive_definite(q1, q2):
    assert np.linalg.eigvalsh(inertia(np.array([[q1, q2, 0.0, 0.0]]))).min() > 0.0


def test_the_gaits_of_the_table_return_to_themselves():
    stretches = walk(GAITS[:, 1:], GAITS[:, 0])
    period, landed = np.zeros(len(GAITS)), np.full((len(GAITS), 4), np.nan)
    for number, stretch in enumerate(stretches):
        fresh = (stretch.count > 0) & (period == 0.0)
        period[fresh] = 0.01 * (number + 1)
        landed[fresh] = stretch.state.x[fresh]
    done = period > 0.0
    assert GAITS[~done, 0].tolist() == [0.2, 0.19]
    np.testing.assert_allclose(landed[3:], GAITS[3:, 1:], rtol=0, atol=7e-6)
    periods = dict(zip(np.round(GAITS[:, 0], 2), np.round(period, 2), strict=True))
    assert [periods[gait] for gait in (0.16, 0.13, 0.10, 0.06)] == [0.99, 0.78, 0.63, 0.53]


class _Continuous(Walker):
    """The exact walker whose torque follows the state without being held."""

    def flow(self, state, control):
        torque = gait_torque(state.x, state.configuration[:, 0])
        return super().flow(state, torque[:, None])


@pytest.mark.slow
def test_limit_cycles_of_the_exact_walker_are_those_of_the_table():
    system = _Continuous(exact=True)
    # The torque has kinks, at which a step of Runge-Kutta is no better than its length.
    system.step_s = 0.0005
    gaits = np.array([0.13, 0.16, 0.10, 0.06])
    here = stance_at(GAITS[[7, 4, 10, 14], 1:], 0.0)
    here.configuration[:, 0] = gaits
    for _ in range(25):
        stretch = system.until_event(here, np.zeros((4, 1)), 1.0)
        here = stretch.state
    cycles = [
        (0.130307, -0.260615, -0.679743, 0.300402),
        (0.159727, -0.319453, -0.739281, 0.446192),
        (0.101582, -0.203164, -0.612600, 0.154228),
    ]
    np.testing.assert_allclose(here.x[:3], cycles, rtol=0, atol=1.5e-6)
    np.testing.assert_allclose(stretch.elapsed, [0.700238, 0.903181, 0.561622, 0.446248], atol=1.5e-6)

    shifts = 1e-5 * np.vstack([np.eye(4)[[0, 2, 3]], -np.eye(4)[[0, 2, 3]]])
    shifts[:, 1] = -2.0 * shifts[:, 0]  # Stay on the guard, where impacts land.
    nearby = stance_at((here.x[:, None] + shifts).reshape(-1, 4), 0.0)
    nearby.configuration[:, 0] = np.repeat(gaits, 6)
    landed = system.until_event(nearby, np.zeros((24, 1)), 1.0).state.x.reshape(4, 6, 4)
    multipliers = [(0.7431, 0.0227, 0.0032), (0.7147, 0.0051, 0.0), (0.8349, 0.0277, 0.0019), (0.9282,)]
    for row, expected in enumerate(multipliers):
        jacobian = ((landed[row, :3] - landed[row, 3:]) / 2e-5)[:, [0, 2, 3]].T
        sizes = np.sort(np.abs(np.linalg.eigvals(jacobian)))[::-1]
        np.testing.assert_allclose(sizes[: len(expected)], expected, atol=1e-2)  # The torque has kinks.


def test_a_foot_that_passes_the_ground_beside_the_other_does_not_strike():
    system = Walker()
    x = np.array([[0.0, 0.005, -0.5, -1.0]])
    stretch = system.advance(stance_at(x, 0.1), np.zeros((1, 1)), 0.02)
    assert stretch.count[0] == 0
    assert system.guard(stretch.state)[0, 0] < 0.0


def test_a_walker_that_falls_back_never_strikes():
    x = np.array([[0.3, -0.4, 0.5, 0.0]])
    with pytest.raises(GuardNeverFired, match="mode 'swing'"):
        Walker().until_event(stance_at(x, 0.1), np.zeros((1, 1)), 0.3)
    after = Walker().advance(stance_at(x, 0.1), np.zeros((1, 1)), 0.5).state.x
    assert not is_valid(after)[0]


@given(st.integers(0, 2**31))
@settings(max_examples=10, deadline=None)
def test_a_batch_equals_its_worlds_alone(seed):
    rng = np.random.default_rng(seed)
    rows = GAITS[rng.integers(3, 17, 3)]
    x = rows[:, 1:] + rng.uniform(-0.01, 0.01, (3, 4))
    together = walk(x, rows[:, 0], 0.7)[-1].state
    for row in range(3):
        alone = walk(x[row : row + 1], rows[row, 0], 0.7)[-1].state
        np.testing.assert_allclose(alone.x[0], together.x[row], atol=1e-11)
        np.testing.assert_allclose(alone.configuration[0], together.configuration[row], atol=1e-12)


@pytest.mark.parametrize("exact", [False, True])
def test_gradients_pass_through_an_impact(exact: bool):
    system = Walker(exact=exact)
    x = torch.tensor([[-0.12, 0.27, -0.7, -0.5], [0.1, -0.25, -0.6, 0.3]], dtype=torch.float64, requires_grad=True)
    torque = torch.tensor([[0.5], [-1.0]], dtype=torch.float64, requires_grad=True)
    configuration = torch.tensor([[0.13, 0.0], [0.1, 0.2]], dtype=torch.float64)

    def after(x: torch.Tensor, torque: torch.Tensor) -> torch.Tensor:
        state = HybridState(x, torch.zeros(2, dtype=torch.int64), configuration)
        stretch = system.advance(state, torque, 0.05)
        assert stretch.count.tolist() == [1, 0]
        return torch.cat([stretch.state.x, stretch.state.configuration], -1)

    assert torch.autograd.gradcheck(after, (x, torque), eps=1e-6, atol=2e-5, rtol=1e-4)
    held = torque.detach().numpy()
    plain = system.advance(
        HybridState(x.detach().numpy(), np.zeros(2, np.int64), configuration.numpy()), held, 0.05
    ).state
    np.testing.assert_allclose(plain.x, after(x, torque)[:, :4].detach().numpy(), rtol=1e-10)


def test_the_controller_is_differentiable():
    x = torch.tensor(START, requires_grad=True)
    gait = torch.tensor(GAIT, requires_grad=True)
    assert torch.autograd.gradcheck(gait_torque, (x, gait))
    assert torch.autograd.gradcheck(gait_lyapunov, (x, gait))
