"""First derivatives by fast code, higher ones by the reference."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol

import torch
from torch import Tensor

from rlstab.kernels.sigmoid_attention import reference
from rlstab.kernels.sigmoid_attention.problem import Gradients, Problem
from rlstab.kernels.sigmoid_attention.transforms import holds_several, without_autocast


class Implementation(Protocol):
    """Code that computes the output and its gradients without a graph."""

    def forward(self, problem: Problem) -> Tensor:
        """``(B, Hq, m, dv)``."""
        ...

    def backward(self, problem: Problem, grad_out: Tensor, needed: Sequence[bool]) -> Gradients:
        """Gradients where ``needed``."""
        ...


def attend(problem: Problem, implementation: Implementation) -> Tensor:
    """Run ``implementation`` with reverse mode on top.

    Not for forward mode or `torch.func` transforms: see `dispatch`. Where a graph of the backward pass is asked for
    (double backward), the reference makes it, in memory that grows with the square of the length.
    """
    inputs = (problem.q, problem.k, problem.v, problem.bias_tensor, problem.alibi_slopes)
    return _Attention.apply(*inputs, problem, implementation)  # type: ignore[no-any-return]


def differentiable_gradients(problem: Problem, grad_out: Tensor, needed: Sequence[bool]) -> Gradients:
    """Gradients with a graph of their own, where gradients are enabled, by the reference."""
    inputs = (problem.q, problem.k, problem.v, problem.bias_tensor, problem.alibi_slopes)
    wanted = [tensor for tensor, want in zip(inputs, needed, strict=True) if want and tensor is not None]
    again = torch.is_grad_enabled()
    with torch.enable_grad(), without_autocast(problem.q.device):
        found = iter(torch.autograd.grad(reference.attend(problem), wanted, grad_out, create_graph=again))
    q, k, v, bias, slopes = (next(found) if want else None for want in needed)
    return q, k, v, bias, slopes


class _Attention(torch.autograd.Function):
    """Saves its inputs alone: weights are computed again."""

    @staticmethod
    def forward(ctx: Any, *arguments: Any) -> Tensor:
        *tensors, problem, implementation = arguments
        ctx.save_for_backward(*tensors)
        # The tensors are also in `problem`; kept there with their graph, they would outlive it.
        ctx.problem, ctx.implementation = problem.detached(), implementation
        return implementation.forward(ctx.problem)

    @staticmethod
    def backward(ctx: Any, *grads: Any) -> Any:
        (grad_out,) = grads
        needed = ctx.needs_input_grad[:5]
        # Several cotangents come as one tensor that fast code can't take apart.
        if torch.is_grad_enabled() or holds_several(grad_out):
            found = differentiable_gradients(ctx.problem.with_tensors(*ctx.saved_tensors), grad_out, needed)
        else:
            found = ctx.implementation.backward(ctx.problem, grad_out, needed)
        return (*found, None, None)
