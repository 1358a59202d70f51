from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from rlstab.errors import UserError
from rlstab.policies.clf_qp import ClfQp, ClfQpLayer, check_solution, optimality_gap, solve_clf_qp

ORACLES = [
    (3.0, (1.0, -0.5), (0.0, 0.0), 12.0, 1000.0, (-2.4, 1.2), 0.0),
    (3.0, (0.1, -0.05), (0.5, 0.5), 4.0, 10.0, (0.0, 0.75), 2.9625),
    (-4.0, (1.0, 2.0), (0.3, -0.4), 12.0, 1000.0, (0.3, -0.4), 0.0),
    (30.0, (1.0, 1.0), (0.0, 0.0), 4.0, 1000.0, (-4.0, -4.0), 22.0),
    (3.0, (2.0, 0.0), (0.0, 0.0), 12.0, 0.5, (-0.5, 0.0), 2.0),
]


def one_row(bias: float, gain: tuple[float, ...], wished: tuple[float, ...], limit: float, penalty: float) -> ClfQp:
    limits = torch.full((len(gain),), limit, dtype=torch.float64)
    return ClfQp(
        torch.tensor([[bias]], dtype=torch.float64), torch.tensor([[gain]], dtype=torch.float64),
        torch.tensor([wished], dtype=torch.float64), -limits, limits, penalty,
    )  # fmt: skip


@pytest.mark.parametrize(("bias", "gain", "wished", "limit", "penalty", "control", "missed"), ORACLES)
def test_the_closed_form_is_the_solution(
    bias: float, gain: tuple[float, ...], wished: tuple[float, ...], limit: float, penalty: float,
    control: tuple[float, ...], missed: float,
) -> None:  # fmt: skip
    problem = one_row(bias, gain, wished, limit, penalty)
    found = solve_clf_qp(problem)
    torch.testing.assert_close(found.control, torch.tensor([control], dtype=torch.float64), rtol=0.0, atol=1e-12)
    assert float(found.relaxation) == pytest.approx(missed, abs=1e-12)
    assert float(optimality_gap(problem, found.control)) == pytest.approx(0.0, abs=1e-9)


def random_problem(seed: int, batch: int, rows: int, inputs: int, penalty: float) -> ClfQp:
    generator = torch.Generator().manual_seed(seed)

    def normal(*shape: int, scale: float = 1.0) -> torch.Tensor:
        return scale * torch.randn(shape, generator=generator, dtype=torch.float64)

    gain = normal(batch, rows, inputs) * (torch.rand((batch, rows, inputs), generator=generator) > 0.2)
    low = -normal(inputs).abs() - 0.1
    return ClfQp(normal(batch, rows, scale=3.0), gain, normal(batch, inputs, scale=2.0), low, -2.0 * low, penalty)


@given(st.integers(0, 10_000), st.integers(1, 4), st.sampled_from([0.3, 5.0, 1000.0]))
def test_no_admissible_control_is_better(seed: int, inputs: int, penalty: float) -> None:
    problem = random_problem(seed, 16, 1, inputs, penalty)
    found = solve_clf_qp(problem)
    assert bool((found.control >= problem.low).all() & (found.control <= problem.high).all())
    cost = problem.cost(found.control)
    # A bound by duality, which needs no other solver; and what chance finds.
    scale = 1.0 + cost.abs()
    assert bool((optimality_gap(problem, found.control) <= 1e-8 * scale).all())
    for _ in range(20):
        other = problem.low + (problem.high - problem.low) * torch.rand_like(found.control)
        assert bool((problem.cost(other) >= cost - 1e-9 * scale).all())


@given(arrays(np.float64, (3, 2), elements=st.floats(-3, 3)))
def test_the_gap_is_never_below_the_excess_of_cost(controls: np.ndarray) -> None:
    problem = random_problem(3, 3, 1, 2, 7.0)
    admissible = torch.from_numpy(controls).clamp(problem.low, problem.high)
    best = problem.cost(solve_clf_qp(problem).control)
    excess = problem.cost(admissible) - best
    gap = optimality_gap(problem, admissible)
    assert bool((gap >= excess - 1e-9).all())
    distance = (admissible - solve_clf_qp(problem).control).norm(dim=1)
    assert bool((distance <= gap.clamp_min(0.0).sqrt() + 1e-7).all())


def test_its_gradients_are_those_of_the_solution() -> None:
    problem = random_problem(1, 12, 1, 3, 5.0)

    def solve(bias: torch.Tensor, gain: torch.Tensor, wished: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        found = solve_clf_qp(ClfQp(bias, gain, wished, problem.low, problem.high, problem.penalty))
        return found.control, found.relaxation

    dense = torch.where(problem.gain == 0.0, 0.7, problem.gain)
    inputs = [tensor.clone().requires_grad_() for tensor in (problem.bias, dense, problem.reference)]
    assert torch.autograd.gradcheck(solve, inputs, eps=1e-7, atol=1e-5)


def test_inputs_without_limits_and_states_without_gain_are_solved() -> None:
    infinite = torch.full((2,), torch.inf, dtype=torch.float64)
    zero = torch.zeros((1, 1, 2), dtype=torch.float64)
    bias, wished = torch.tensor([[3.0]], dtype=torch.float64), torch.tensor([[1.0, -2.0]], dtype=torch.float64)
    stuck = solve_clf_qp(ClfQp(bias, zero, wished, -infinite, infinite, 10.0))
    assert stuck.control.tolist() == wished.tolist()
    assert float(stuck.relaxation) == 3.0  # Nothing can be done there, and it says so.
    free = solve_clf_qp(ClfQp(bias, zero + torch.tensor([1.0, 0.0]), wished, -infinite, infinite, 1000.0))
    assert free.control.tolist() == [[-3.0, -2.0]]
    assert float(free.relaxation) == 0.0


def test_several_rows_are_solved_by_cvxpylayers_and_agree_with_the_closed_form_for_one() -> None:
    layer = ClfQpLayer(inputs=2, rows=1, penalty=5.0)
    problem = random_problem(5, 6, 1, 2, 5.0)
    bias = problem.bias.clone().requires_grad_()
    twin = problem.bias.clone().requires_grad_()
    parts = (problem.gain, problem.reference, problem.low, problem.high, problem.penalty)
    ours, theirs = solve_clf_qp(ClfQp(bias, *parts)), layer.solve(ClfQp(twin, *parts))
    torch.testing.assert_close(theirs.control, ours.control, rtol=0.0, atol=1e-5)
    torch.testing.assert_close(theirs.relaxation, ours.relaxation, rtol=0.0, atol=1e-5)
    ours.control.square().sum().backward()
    theirs.control.square().sum().backward()
    torch.testing.assert_close(twin.grad, bias.grad, rtol=1e-3, atol=1e-3)


def test_two_rows_hold_both() -> None:
    problem = random_problem(8, 6, 2, 2, 500.0)
    found = ClfQpLayer(inputs=2, rows=2, penalty=500.0).solve(problem)
    torch.testing.assert_close(found.relaxation, problem.missed(found.control), rtol=0.0, atol=1e-5)
    assert bool((optimality_gap(problem, found.control.clamp(problem.low, problem.high)) < 1e-2).all())


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda u, r: (u, r - 0.1), "missed decrease is larger"),
        (lambda u, r: (u + 100.0, r + 1e4), "above its limit"),
        (lambda u, r: (torch.zeros_like(u), r + 20.0), "from the optimum"),
        (lambda u, r: (u * torch.nan, r), "NaN"),
    ],
)
def test_a_wrong_answer_of_a_solver_is_refused(change: Any, words: str) -> None:
    problem = one_row(*ORACLES[0][:5])
    right = solve_clf_qp(problem)
    check_solution(problem, right.control, right.relaxation)
    control, relaxation = change(right.control, right.relaxation)
    with pytest.raises(UserError, match=words):
        check_solution(problem, control, relaxation)


@pytest.mark.parametrize(
    ("field", "value", "words"),
    [
        ("bias", torch.zeros(2), "bias"),
        ("gain", torch.zeros(1, 1, 3), "gain"),
        ("low", torch.full((2,), 50.0), "above its upper"),
        ("penalty", 0.0, "penalty"),
        ("bias", torch.tensor([[torch.nan]]), "finite"),
    ],
)
def test_bad_problems_are_refused_in_one_line(field: str, value: object, words: str) -> None:
    good = one_row(*ORACLES[0][:5])
    parts = {name: getattr(good, name) for name in ("bias", "gain", "reference", "low", "high", "penalty")}
    with pytest.raises(UserError, match=words):
        ClfQp(**(parts | {field: value}))


def test_the_closed_form_refuses_several_rows() -> None:
    with pytest.raises(UserError, match="ClfQpLayer"):
        solve_clf_qp(random_problem(0, 2, 2, 2, 1.0))
