"""Softmax attention by torch's own kernels, over the same intervals of keys.

Those kernels have first derivatives in reverse mode alone: all others are those of its plain operations.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.nn.attention import SDPBackend, sdpa_kernel

from rlstab.kernels.sigmoid_attention.problem import Problem
from rlstab.kernels.sigmoid_attention.transforms import holds_several, under_transform


def attend(problem: Problem) -> Tensor:
    """Weigh values by the softmax of scores: ``(B, Hq, m, dv)``, zero in rows that see no key."""
    num_queries, num_keys = problem.q.shape[2], problem.k.shape[2]
    masks = (problem.window, problem.row_start, problem.kv_lens, problem.alibi_slopes)
    everything = all(mask is None for mask in masks)
    if everything and (not problem.causal or num_queries == num_keys):
        return _weighed(problem, None, problem.causal)
    intervals = problem.intervals()
    visible = intervals.mask(0, num_keys)[:, None]
    empty = (intervals.count() == 0)[:, None, :, None]
    # A row without keys would be 0/0: it gets all of them, and is set to zero afterwards.
    mask = visible | empty
    if problem.alibi_slopes is not None:
        slopes = problem.alibi_slopes.to(problem.q.dtype)[:, None, None]
        offsets = -slopes * problem.distances(0, num_keys).to(problem.q.dtype)
        mask = torch.where(mask, offsets, float("-inf"))
    return torch.where(empty, 0.0, _weighed(problem, mask, False))


def _weighed(problem: Problem, mask: Tensor | None, causal: bool) -> Tensor:
    tensors = (problem.q, problem.k, problem.v)
    options: dict[str, Any] = {"scale": problem.scale, "enable_gqa": problem.group > 1, "is_causal": causal}
    if under_transform(list(tensors)):
        return _plainly(*tensors, mask, options)
    learns = torch.is_grad_enabled() and any(tensor.requires_grad for tensor in tensors)
    # A mask that learns is left to torch, which then takes plain operations by itself.
    if torch.compiler.is_compiling() or not learns or (mask is not None and mask.requires_grad):
        return F.scaled_dot_product_attention(*tensors, attn_mask=mask, **options)
    function: Any = _Softmax
    return function.apply(*tensors, mask, options)


def _plainly(q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None, options: dict[str, Any]) -> Tensor:
    with sdpa_kernel(SDPBackend.MATH):
        return F.scaled_dot_product_attention(q, k, v, attn_mask=mask, **options)


class _Softmax(torch.autograd.Function):
    """Torch's attention, whose second derivatives are those of plain operations on the same tensors."""

    @staticmethod
    def forward(ctx: Any, *arguments: Any) -> Tensor:
        q, k, v, mask, options = arguments
        ctx.save_for_backward(q, k, v, mask)
        ctx.options = options
        needed = ctx.needs_input_grad
        with torch.enable_grad():
            # A graph of its own, kept for the first derivative: nothing is computed twice.
            ctx.leaves = [t.detach().requires_grad_(need) for t, need in zip((q, k, v), needed, strict=False)]
            ctx.out = F.scaled_dot_product_attention(*ctx.leaves, attn_mask=mask, **options)
        return ctx.out.detach()

    @staticmethod
    def backward(ctx: Any, *grads: Any) -> Any:
        (grad_out,) = grads
        needed = ctx.needs_input_grad[:3]
        again = torch.is_grad_enabled()
        out: Tensor = ctx.out
        leaves: list[Tensor] = ctx.leaves
        if again or holds_several(grad_out):
            q, k, v, mask = ctx.saved_tensors
            leaves = [q, k, v]
            with torch.enable_grad():
                out = _plainly(q, k, v, mask, ctx.options)
        wanted = [leaf for leaf, need in zip(leaves, needed, strict=True) if need]
        found = iter(torch.autograd.grad(out, wanted, grad_out, create_graph=again, retain_graph=True))
        return (*(next(found) if need else None for need in needed), None, None)
