"""Convergence to 0 is proved where it holds, and nowhere else."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from rlstab.analysis.certificates.lyapunov.loop import ClosedLoop
from rlstab.analysis.certificates.lyapunov.origin import contraction, enclosing_box, prove_convergence
from rlstab.analysis.certificates.lyapunov.verifier import Budget, Claim, verify
from rlstab.envs.plants import CartPole, InvertedPendulum, PathTracking, PlanarQuadrotor, Plant
from rlstab.policies.lyapunov import LinearFeedback, LyapunovNetwork, QuadraticLyapunov, discrete_lyapunov, lqr


def _loop(plant: Plant, weight: float = 10.0) -> ClosedLoop:
    feedback = lqr(plant, control_weight=weight)[0]
    return ClosedLoop(plant, feedback, discrete_lyapunov(plant, feedback))


@pytest.mark.parametrize(
    ("plant", "c1"), [(InvertedPendulum(), 1.0), (PathTracking(), 0.05), (CartPole(), 1e-3), (PlanarQuadrotor(), 1e-2)]
)
def test_small_sets_contract_in_a_quadratic_norm(plant: Plant, c1: float) -> None:
    loop = _loop(plant, 1.0)
    proof = prove_convergence(loop, c1)
    assert proof is not None
    assert proof.levels == (0.0, 0.0)
    x = torch.tensor(proof.half_widths) * (2 * torch.rand(2000, plant.state_size, dtype=torch.float64) - 1)
    form = QuadraticLyapunov(proof.matrix)
    assert bool((form(loop.step(x)) <= proof.contraction**2 * form(x)).all())


def test_a_set_that_is_too_large_for_slopes_is_bridged_by_branch_and_bound() -> None:
    loop = _loop(PathTracking())
    assert verify(loop, Claim(rho=84.0, c1=8.4)).status == "proved"
    proof = prove_convergence(loop, 8.4)
    assert proof is not None
    assert 0.0 < proof.levels[0] < proof.levels[1]
    assert proof.boxes > 0


def test_a_loop_that_is_unstable_at_the_origin_is_not_certified() -> None:
    plant = InvertedPendulum()
    loop = ClosedLoop(plant, LinearFeedback([[0.5, 0.1]], (0.0,)), QuadraticLyapunov(np.eye(2)))
    assert prove_convergence(loop, 0.1, Budget(seconds=2.0)) is None


def test_a_loop_that_rests_elsewhere_is_not_certified() -> None:
    plant = PathTracking()
    feedback = lqr(plant)[0]
    loop = ClosedLoop(plant, LinearFeedback(feedback.gain.numpy(), (0.1001,)), lqr(plant)[1])
    assert prove_convergence(loop, 0.1) is None


def test_a_form_that_does_not_contract_says_so() -> None:
    loop = _loop(InvertedPendulum())
    assert contraction(loop, np.eye(2), torch.full((2,), 1e-3, dtype=torch.float64)) > 1.0
    assert contraction(loop, -np.eye(2), torch.full((2,), 1e-3, dtype=torch.float64)) == np.inf


def test_the_enclosing_box_holds_the_set_and_not_much_more() -> None:
    torch.manual_seed(0)
    loop = ClosedLoop(InvertedPendulum(), lqr(InvertedPendulum())[0], LyapunovNetwork(2))
    half, _ = enclosing_box(loop.lyapunov, loop.half_widths, 0.5)
    x = loop.sample(400_000, 0)
    reached = x[loop.value(x) <= 0.5].abs().amax(0)
    assert bool((reached <= half).all())
    assert bool((half <= 1.1 * reached + 0.02 * loop.half_widths).all())


def test_slopes_that_are_not_numbers_do_not_contract() -> None:
    loop = _loop(InvertedPendulum())
    side = torch.full((2,), torch.nan, dtype=torch.float64)
    assert contraction(loop, np.eye(2), side) == np.inf


def test_bounds_that_are_not_numbers_leave_nothing_out_of_the_box() -> None:
    class Nothing(torch.nn.Module):
        def forward(self, x):
            return (x * torch.nan).sum(-1)

    within = torch.ones(2, dtype=torch.float64)
    assert torch.equal(enclosing_box(Nothing(), within, 1.0, refinements=3)[0], within)
