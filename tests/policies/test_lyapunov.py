"""Networks for certified control vanish where they must; linear designs solve their equations."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from rlstab.envs.plants import PLANTS, InvertedPendulum, PlanarQuadrotor
from rlstab.errors import UserError
from rlstab.policies.lyapunov import (
    LinearFeedback,
    LyapunovNetwork,
    NetworkFeedback,
    QuadraticLyapunov,
    discrete_lyapunov,
    linearise,
    lqr,
)


def test_networks_are_exact_at_the_origin_and_positive_elsewhere() -> None:
    torch.manual_seed(0)
    plant = PlanarQuadrotor()
    control = NetworkFeedback(6, plant.equilibrium_control)(torch.zeros(3, 6, dtype=torch.float64))
    assert torch.allclose(control, torch.tensor(plant.equilibrium_control, dtype=torch.float64), atol=1e-15)
    value = LyapunovNetwork(6)
    assert float(value(torch.zeros(6, dtype=torch.float64)).detach()) < 1e-15
    x = torch.randn(100, 6, dtype=torch.float64)
    assert bool((value(x) >= value.eps * x.abs().amax(1)).all())


@pytest.mark.parametrize("name", sorted(PLANTS))
def test_lqr_stabilises_and_its_cost_falls_by_what_is_paid(name: str) -> None:
    plant = PLANTS[name]()
    a, b = linearise(plant)
    feedback, cost = lqr(plant, control_weight=2.0)
    closed = a - b @ feedback.gain.numpy()
    assert np.abs(np.linalg.eigvals(closed)).max() < 1.0
    paid = np.eye(len(a)) + 2.0 * feedback.gain.numpy().T @ feedback.gain.numpy()
    assert np.allclose(closed.T @ cost.matrix @ closed - cost.matrix, -paid, atol=1e-6)
    unit = discrete_lyapunov(plant, feedback).matrix
    assert np.allclose(closed.T @ unit @ closed - unit, -np.eye(len(a)), atol=1e-6)


def test_the_quadratic_form_is_that_of_its_matrix() -> None:
    matrix = np.array([[2.0, 0.3], [0.3, 0.5]])
    x = torch.randn(10, 2, dtype=torch.float64)
    expected = np.einsum("ni,ij,nj->n", x.numpy(), matrix, x.numpy())
    assert np.allclose(QuadraticLyapunov(matrix)(x).numpy(), expected)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: QuadraticLyapunov([[1.0, 2.0], [2.0, 1.0]]), "positive definite"),
        (lambda: QuadraticLyapunov([[1.0, 2.0], [0.0, 5.0]]), "square and symmetric"),
        (lambda: QuadraticLyapunov([[float("nan")]]), "finite numbers"),
        (lambda: LinearFeedback([[1.0, 2.0]], (0.0, 0.0)), "1 rows for 2 controls"),
        (lambda: lqr(InvertedPendulum(), control_weight=0.0), "control_weight must be positive"),
        (lambda: discrete_lyapunov(InvertedPendulum(), LinearFeedback([[0.0, 0.0]], (0.0,))), "is unstable"),
    ],
)
def test_what_makes_no_sense_is_refused(make, message: str) -> None:
    with pytest.raises(UserError, match=message):
        make()
