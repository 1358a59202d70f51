"""Two stable modes, one switching that is stable and one that is not."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.linalg import expm

from rlstab.envs.hybrid.switched_linear import FAST_FIRST, SLOW_FIRST, SwitchedLinear

# Each quarter turn takes pi / (2 sqrt 10) s, decays by exp(-0.1 t), and stretches or squeezes by sqrt 10.
PERIOD = 2.0 * np.pi / np.sqrt(10.0)


@pytest.mark.parametrize(
    ("stable", "growth", "measured"),
    [(False, 100.0 * np.exp(-0.1 * PERIOD), 81.978), (True, 0.01 * np.exp(-0.1 * PERIOD), 0.0081994)],
    ids=["unstable", "stable"],
)
def test_a_revolution_multiplies_the_norm_as_the_exact_solution_does(stable: bool, growth: float, measured: float):
    system = SwitchedLinear(stable=stable)
    state, elapsed = system.start(np.array([[1.0, 0.0]])), 0.0
    for _ in range(4):
        stretch = system.until_event(state, np.zeros((1, 2)), 5.0)
        state, elapsed = stretch.state, elapsed + float(stretch.elapsed[0])
    assert float(np.linalg.norm(state.x)) == pytest.approx(growth, rel=1e-6)
    assert growth == pytest.approx(measured, rel=2e-4)
    assert elapsed == pytest.approx(PERIOD, rel=1e-7)
    assert abs(state.x[0, 1]) < 1e-9


def test_both_modes_alone_are_stable():
    for matrix in (SLOW_FIRST, FAST_FIRST):
        assert np.linalg.eigvals(matrix).real.max() == pytest.approx(-0.1)


def test_the_flow_within_a_mode_is_the_matrix_exponential():
    system = SwitchedLinear()
    x = np.array([[1.0, -0.2], [0.3, 0.1]])
    after = system.advance(system.start(x), np.zeros((2, 2)), 0.02)
    assert after.count.tolist() == [0, 0]
    for row, matrix in enumerate((SLOW_FIRST, FAST_FIRST)):
        np.testing.assert_allclose(after.state.x[row], expm(0.02 * matrix) @ x[row], rtol=0, atol=1e-8)


_STATES = st.lists(st.tuples(*[st.floats(-3, 3).filter(lambda value: abs(value) > 0.05)] * 2), min_size=2, max_size=5)


@given(_STATES, st.booleans())
@settings(max_examples=20, deadline=None)
def test_a_batch_equals_its_worlds_alone_and_is_homogeneous(rows: list[tuple[float, float]], stable: bool):
    system, x = SwitchedLinear(stable=stable), np.array(rows)
    together = system.advance(system.start(x), np.zeros_like(x), 0.7)
    for row in range(len(x)):
        alone = system.advance(system.start(x[row : row + 1]), np.zeros((1, 2)), 0.7)
        np.testing.assert_allclose(alone.state.x[0], together.state.x[row], rtol=1e-12, atol=1e-12)
        assert alone.count[0] == together.count[row]
    twice = system.advance(system.start(2.0 * x), np.zeros_like(x), 0.7)
    np.testing.assert_allclose(twice.state.x, 2.0 * together.state.x, rtol=1e-8, atol=1e-10)


def test_gradients_pass_through_steps_and_events():
    system = SwitchedLinear()
    control = torch.tensor([[0.3, -0.1], [0.0, 0.2]], dtype=torch.float64, requires_grad=True)
    x = torch.tensor([[1.0, -0.2], [0.5, 0.4]], dtype=torch.float64, requires_grad=True)
    assert (system.advance(system.start(x), control, 0.9).count > 0).all()

    def after(x: torch.Tensor, control: torch.Tensor) -> torch.Tensor:
        return system.advance(system.start(x), control, 0.9).state.x

    assert torch.autograd.gradcheck(after, (x, control), eps=1e-6, atol=1e-5)
    plain = system.advance(system.start(x.detach().numpy()), control.detach().numpy(), 0.9)
    np.testing.assert_allclose(plain.state.x, after(x, control).detach().numpy(), rtol=1e-12)
