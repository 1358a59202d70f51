from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.autograd import forward_ad

from rlstab.kernels.sigmoid_attention import ops, reference, sigmoid_attention
from rlstab.kernels.sigmoid_attention.problem import Problem, make_problem

from .cases import CASES, Case

NAMES = ("causal", "episodes and window", "one key head", "grouped", "padded")


def problem_of(case: Case) -> Problem:
    options = {
        "scale": None,
        "bias": None,
        "causal": False,
        "window": None,
        "row_start": None,
        "row_end": None,
        "kv_lens": None,
        "alibi_slopes": None,
        **case.arguments(),
    }
    problem = make_problem(*case.tensors(), **options)

    def leaf(tensor: Tensor | None) -> Tensor | None:
        return None if tensor is None else tensor.clone().requires_grad_()

    q, k, v = (tensor.requires_grad_() for tensor in (problem.q, problem.k, problem.v))
    return problem.with_tensors(q, k, v, leaf(problem.bias_tensor), leaf(problem.alibi_slopes))


def arguments(problem: Problem, monkeypatch: pytest.MonkeyPatch) -> tuple[Any, ...]:
    """What the operator is called with for a problem."""
    seen: list[tuple[Any, ...]] = []
    monkeypatch.setattr(ops, "sigmoid_attention", lambda *given: seen.append(given))
    ops.attend(problem)
    monkeypatch.undo()
    return seen[0]


@pytest.mark.parametrize("name", NAMES)
def test_torch_s_own_checks_of_operators_pass(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    case = next(case for case in CASES if case.name == name)
    given = arguments(problem_of(case), monkeypatch)
    torch.library.opcheck(ops.sigmoid_attention, given)


@pytest.mark.parametrize("name", NAMES)
def test_output_and_gradients_are_the_reference_s(name: str) -> None:
    problem = problem_of(next(case for case in CASES if case.name == name))
    tensors = [problem.q, problem.k, problem.v, problem.bias_tensor, problem.alibi_slopes]
    inputs = [tensor for tensor in tensors if tensor is not None]
    found, expected = ops.attend(problem), reference.attend(problem)
    torch.testing.assert_close(found, expected, rtol=1e-12, atol=1e-12)
    for each, other in zip(
        torch.autograd.grad(found.square().sum(), inputs),
        torch.autograd.grad(expected.square().sum(), inputs),
        strict=True,
    ):
        torch.testing.assert_close(each, other, rtol=1e-11, atol=1e-12)


def test_second_derivatives_are_right() -> None:
    problem = problem_of(Case("", queries=3, keys=3, dim=2, value_dim=1, options={"causal": True, "bias": -1.0}))

    def call(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        return ops.attend(replace(problem, q=q, k=k, v=v))

    assert torch.autograd.gradgradcheck(call, (problem.q, problem.k, problem.v))


@pytest.mark.parametrize("batched", [(0, None, None), (1, 0, None), (0, 0, 0)])
@pytest.mark.parametrize("name", ["causal", "one key head", "episodes and window"])
def test_vmap_is_a_loop(name: str, batched: tuple[int | None, ...]) -> None:
    problem = problem_of(next(case for case in CASES if case.name == name)).detached()
    inputs = [problem.q, problem.k, problem.v]
    stacked = [
        tensor if dim is None else torch.stack([tensor * factor for factor in (1.0, 0.5, -1.0)], dim)
        for tensor, dim in zip(inputs, batched, strict=True)
    ]

    def call(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        return ops.attend(replace(problem, q=q, k=k, v=v))

    found = torch.vmap(call, in_dims=batched)(*stacked)
    for index in range(3):
        one = [t if dim is None else t.select(dim, index) for t, dim in zip(stacked, batched, strict=True)]
        torch.testing.assert_close(found[index], call(*one), rtol=1e-12, atol=1e-12)


def test_vmap_over_biases_of_heads_is_a_loop() -> None:
    problem = problem_of(next(case for case in CASES if case.name == "one key head")).detached()
    biases = torch.stack([problem.bias_tensor, problem.bias_tensor - 1])
    found = torch.vmap(lambda bias: ops.attend(replace(problem, bias=bias)))(biases)
    for each, bias in zip(found, biases, strict=True):
        torch.testing.assert_close(each, ops.attend(replace(problem, bias=bias)), rtol=1e-12, atol=1e-12)


def compiled(function: Any) -> Any:
    torch.compiler.reset()
    return torch.compile(function, fullgraph=True, backend="aot_eager")


def test_a_compiled_call_is_one_operator_and_the_same() -> None:
    q, k, v = (tensor.requires_grad_() for tensor in Case("").tensors(torch.float32))
    graphs: list[Any] = []

    def call(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        return sigmoid_attention(q, k, v, causal=True, bias="count", backend="blockwise", layout="bhtd")

    def keep(module: Any, inputs: Any) -> Any:
        graphs.append(module)
        return module.forward

    torch.compiler.reset()
    torch.compile(call, fullgraph=True, backend=keep)(q, k, v)
    assert "rlstab.sigmoid_attention" in graphs[0].code
    found = compiled(call)(q, k, v)
    torch.testing.assert_close(found, call(q, k, v))
    for each, other in zip(
        torch.autograd.grad(found.sum(), (q, k, v)), torch.autograd.grad(call(q, k, v).sum(), (q, k, v)), strict=True
    ):
        torch.testing.assert_close(each, other)


Q, K, V = Case("").tensors()


def forward_mode_call(q: Tensor) -> Tensor:
    return sigmoid_attention(q, K, V, causal=True, bias=-1.0, backend="blockwise", layout="bhtd")


def tangent_of(function: Any, q: Tensor) -> Tensor | None:
    with forward_ad.dual_level():
        return forward_ad.unpack_dual(function(forward_ad.make_dual(q, torch.ones_like(q)))).tangent


def test_forward_mode_of_compiled_code_is_not_silently_zero() -> None:
    ones = torch.ones_like(Q)
    expected = torch.func.jvp(forward_mode_call, (Q,), (ones,))[1]
    assert expected.norm() > 0.01
    found = compiled(lambda q: torch.func.jvp(forward_mode_call, (q,), (ones,))[1])(Q)
    torch.testing.assert_close(found, expected)
    function = torch.compile(forward_mode_call, backend="aot_eager")
    # First without tangents, so that there is code to be used again.
    function(Q)
    torch.testing.assert_close(torch.func.jvp(function, (Q,), (ones,))[1], expected)
    torch.testing.assert_close(tangent_of(function, Q), expected)
