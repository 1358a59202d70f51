# pyright: basic
"""The fast code as operators of torch, so that compilers see one node instead of what is inside.

Plain reverse mode goes through `function`, which costs less; these are for graphs: `torch.compile` and `torch.export`.
They have no forward-mode derivative (torch has no way to register one, and would answer zero): `dispatch` keeps such
calls away.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from rlstab.kernels.sigmoid_attention import blockwise
from rlstab.kernels.sigmoid_attention.function import Implementation, differentiable_gradients
from rlstab.kernels.sigmoid_attention.problem import Problem

_TENSORS = ("q", "k", "v", "bias", "slopes", "row_start", "row_end", "kv_lens")


def attend(problem: Problem) -> Tensor:
    """Compute a call as one operator."""
    bias = problem.bias
    return sigmoid_attention(
        problem.q,
        problem.k,
        problem.v,
        problem.bias_tensor,
        problem.alibi_slopes,
        problem.row_start,
        problem.row_end,
        problem.kv_lens,
        problem.scale,
        0.0 if isinstance(bias, (Tensor, str)) else float(bias),
        bias == "count" if isinstance(bias, str) else False,
        problem.causal,
        problem.window,
        problem.sigmoid_mode,
        problem.precision,
        problem.specialised,
        problem.deterministic,
    )


@torch.library.custom_op("rlstab::sigmoid_attention", mutates_args=())
def sigmoid_attention(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    bias: Tensor | None,
    slopes: Tensor | None,
    row_start: Tensor | None,
    row_end: Tensor | None,
    kv_lens: Tensor | None,
    scale: float,
    constant_bias: float,
    count_bias: bool,
    causal: bool,
    window: int | None,
    sigmoid_mode: str,
    precision: str,
    specialised: bool,
    deterministic: bool,
) -> Tensor:
    """``(B, Hq, m, dv)``, heads next to each other in memory."""
    problem = _problem(
        (q, k, v, bias, slopes, row_start, row_end, kv_lens),
        (scale, constant_bias, count_bias, causal, window, sigmoid_mode, precision, specialised, deterministic),
    )
    return _implementation(problem).forward(problem)


@sigmoid_attention.register_fake
def _(q: Tensor, k: Tensor, v: Tensor, *_: Any) -> Tensor:
    return q.new_empty(q.shape[0], q.shape[2], q.shape[1], v.shape[3]).transpose(1, 2)


@torch.library.custom_op("rlstab::sigmoid_attention_backward", mutates_args=())
def sigmoid_attention_backward(
    grad_out: Tensor,
    q: Tensor,
    k: Tensor,
    v: Tensor,
    bias: Tensor | None,
    slopes: Tensor | None,
    row_start: Tensor | None,
    row_end: Tensor | None,
    kv_lens: Tensor | None,
    scale: float,
    constant_bias: float,
    count_bias: bool,
    causal: bool,
    window: int | None,
    sigmoid_mode: str,
    precision: str,
    specialised: bool,
    deterministic: bool,
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
    """Gradients of q, k, v, bias and slopes; empty for what is not there."""
    problem = _problem(
        (q, k, v, bias, slopes, row_start, row_end, kv_lens),
        (scale, constant_bias, count_bias, causal, window, sigmoid_mode, precision, specialised, deterministic),
    )
    needed = (True, True, True, bias is not None, slopes is not None)
    found = _implementation(problem).backward(problem, grad_out, needed)
    dq, dk, dv, dbias, dslopes = (q.new_empty(0) if tensor is None else tensor for tensor in found)
    return _heads_together(dq), _heads_together(dk), _heads_together(dv), dbias, dslopes


@sigmoid_attention_backward.register_fake
def _(
    grad_out: Tensor, q: Tensor, k: Tensor, v: Tensor, bias: Tensor | None, slopes: Tensor | None, *_: Any
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
    def like(tensor: Tensor) -> Tensor:
        batch, heads, length, dim = tensor.shape
        return tensor.new_empty(batch, length, heads, dim).transpose(1, 2)

    def small(tensor: Tensor | None) -> Tensor:
        return q.new_empty(0) if tensor is None else tensor.new_empty(tensor.shape)

    return like(q), like(k), like(v), small(bias), small(slopes)


def _save(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
    ctx.save_for_backward(*inputs[: len(_TENSORS)])
    ctx.options = inputs[len(_TENSORS) :]


def _backward(ctx: Any, grad_out: Tensor) -> tuple[Tensor | None, ...]:
    tensors: tuple[Tensor | None, ...] = ctx.saved_tensors
    needed = ctx.needs_input_grad[:5]
    if torch.is_grad_enabled():
        found: Sequence[Tensor | None] = differentiable_gradients(_problem(tensors, ctx.options), grad_out, needed)
    else:
        found = sigmoid_attention_backward(grad_out, *tensors, *ctx.options)
    wanted = [tensor if want else None for tensor, want in zip(found, needed, strict=True)]
    rest = len(_TENSORS) - len(wanted) + len(ctx.options)
    return (*wanted, *[None] * rest)


sigmoid_attention.register_autograd(_backward, setup_context=_save)


@sigmoid_attention.register_vmap
def _(info: Any, in_dims: tuple[int | None, ...], *arguments: Any) -> tuple[Tensor, int]:
    tensors, options = arguments[: len(_TENSORS)], arguments[len(_TENSORS) :]
    size = info.batch_size
    moved = [
        tensor if tensor is None or dim is None else tensor.movedim(dim, 0)
        for tensor, dim in zip(tensors, in_dims, strict=False)
    ]
    batched: dict[str, bool] = {name: dim is not None for name, dim in zip(_TENSORS, in_dims, strict=False)}
    bias = moved[_TENSORS.index("bias")]
    by_head = bias is not None and bias.ndim == (2 if batched["bias"] else 1)
    if (by_head and batched["bias"]) or batched["slopes"]:
        # Each entry has heads of its own: there is no batch axis to put them along.
        each = [
            sigmoid_attention(
                *(
                    tensor[index] if batched[name] and tensor is not None else tensor
                    for name, tensor in zip(_TENSORS, moved, strict=True)
                ),
                *options,
            )
            for index in range(size)
        ]
        return torch.stack(each), 0

    def folded(name: str, tensor: Tensor | None) -> Tensor | None:
        if tensor is None or name == "slopes" or (name == "bias" and by_head):
            return tensor
        whole = tensor if batched[name] else tensor.expand(size, *tensor.shape)
        return whole.flatten(0, 1)

    out = sigmoid_attention(*(folded(name, tensor) for name, tensor in zip(_TENSORS, moved, strict=True)), *options)
    return out.unflatten(0, (size, -1)), 0


def _implementation(problem: Problem) -> Implementation:
    if problem.q.device.type == "cpu" and not problem.specialised:
        return blockwise
    from rlstab.kernels.sigmoid_attention import launch

    return launch


def _problem(tensors: Sequence[Tensor | None], options: Sequence[Any]) -> Problem:
    q, k, v, bias, slopes, row_start, row_end, kv_lens = tensors
    scale, constant, count, causal, window, mode, precision, specialised, deterministic = options
    assert q is not None
    assert k is not None
    assert v is not None
    return Problem(
        q,
        k,
        v,
        scale=scale,
        bias=bias if bias is not None else "count" if count else constant,
        alibi_slopes=slopes,
        causal=causal,
        window=window,
        row_start=row_start,
        row_end=row_end,
        kv_lens=kv_lens,
        sigmoid_mode=mode,
        precision=precision,
        specialised=specialised,
        deterministic=deterministic,
    )


def _heads_together(tensor: Tensor) -> Tensor:
    return tensor.transpose(1, 2).contiguous().transpose(1, 2)
