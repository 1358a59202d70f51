"""First derivatives by fast code, higher ones by the reference."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import fields
from typing import Any, Protocol

import torch
from torch import Tensor

from rlstab.kernels.sigmoid_attention import reference
from rlstab.kernels.sigmoid_attention.problem import Gradients, Problem
from rlstab.kernels.sigmoid_attention.transforms import holds_several, without_autocast

_TENSORS = ("q", "k", "v", "bias", "alibi_slopes", "row_start", "row_end", "kv_lens")
"""Of a problem; the first five may have gradients."""


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
    tensors, options = _apart(problem)
    return _Attention.apply(*tensors, options, implementation)  # type: ignore[no-any-return]


def differentiable_gradients(problem: Problem, grad_out: Tensor, needed: Sequence[bool]) -> Gradients:
    """Gradients with a graph of their own, where gradients are enabled, by the reference."""
    inputs = (problem.q, problem.k, problem.v, problem.bias_tensor, problem.alibi_slopes)
    wanted = [tensor for tensor, want in zip(inputs, needed, strict=True) if want and tensor is not None]
    again = torch.is_grad_enabled()
    with torch.enable_grad(), without_autocast(problem.q.device):
        found = iter(torch.autograd.grad(reference.attend(problem), wanted, grad_out, create_graph=again))
    q, k, v, bias, slopes = (next(found) if want else None for want in needed)
    return q, k, v, bias, slopes


def _apart(problem: Problem) -> tuple[list[Tensor | None], dict[str, Any]]:
    """Tensors of a problem, and the rest of it by name."""
    values = {field.name: getattr(problem, field.name) for field in fields(problem)}
    tensors = {name: values.pop(name) for name in _TENSORS if isinstance(values[name], Tensor)}
    return [tensors.get(name) for name in _TENSORS], values


def _together(tensors: Sequence[Tensor | None], options: Mapping[str, Any]) -> Problem:
    """The inverse of `_apart`."""
    given = {name: tensor for name, tensor in zip(_TENSORS, tensors, strict=True) if tensor is not None}
    return Problem(**given, **options)


class _Attention(torch.autograd.Function):
    """Saves its inputs alone: weights are computed again.

    All that the backward pass reads is saved by autograd, masks included, and nothing else is kept. So changes in place
    are noticed, and hooks of saved tensors decide where they are meanwhile.
    """

    @staticmethod
    def forward(ctx: Any, *arguments: Any) -> Tensor:
        *tensors, options, implementation = arguments
        ctx.save_for_backward(*tensors)
        ctx.options, ctx.implementation = options, implementation
        return implementation.forward(_together(tensors, options).detached())

    @staticmethod
    def backward(ctx: Any, *grads: Any) -> Any:
        (grad_out,) = grads
        needed = ctx.needs_input_grad[:5]
        problem = _together(ctx.saved_tensors, ctx.options)
        # Several cotangents come as one tensor that fast code can't take apart.
        if torch.is_grad_enabled() or holds_several(grad_out):
            found = differentiable_gradients(problem, grad_out, needed)
        else:
            found = ctx.implementation.backward(problem.detached(), grad_out, needed)
        return (*found, *[None] * (len(ctx.needs_input_grad) - len(found)))
