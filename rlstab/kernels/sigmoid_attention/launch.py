# pyright: basic
"""Starts the Triton kernels. Imported only when one is to run: it imports Triton."""

from __future__ import annotations

import functools
import logging
import math
from collections.abc import Sequence
from typing import Any

import torch
import triton
from torch import Tensor
from triton.runtime.errors import OutOfResources

from rlstab.errors import UserError
from rlstab.kernels.sigmoid_attention import one_tile, tiled, tiled_backward, tiles
from rlstab.kernels.sigmoid_attention.masks import rows_that_see
from rlstab.kernels.sigmoid_attention.problem import Gradients, Problem
from rlstab.kernels.sigmoid_attention.tiles import LOG2E, Tiling, power_of_two

# Launching takes options that the kernels' own signatures do not have.
_one_forward: Any = one_tile.forward_kernel
_one_backward: Any = one_tile.backward_kernel
_forward: Any = tiled.forward_kernel
_query_gradient: Any = tiled_backward.query_gradient_kernel
_key_gradient: Any = tiled_backward.key_gradient_kernel

_TANH_LOSES = -3.5
"""Below this bias the hardware's tanh, which knows numbers near minus one no better than others, is mostly error."""
_log = logging.getLogger(__name__)


def interpreting() -> bool:
    """Whether kernels are interpreted, on tensors in main memory."""
    return not isinstance(_forward, triton.JITFunction)


def check(problem: Problem) -> None:
    """Refuse what the kernels do not compute.

    Raises
    ------
    UserError
        Tensors are in main memory and kernels are not interpreted, or are float64, or the warp-specialised kernel was
        asked for and does not compute this call.
    """
    if problem.sigmoid_mode == "tanh" and _lowest_bias(problem) < _TANH_LOSES:
        _say_once(
            f"sigmoid_mode='tanh' has no relative accuracy left where biases are below {_TANH_LOSES}, "
            f"here {_lowest_bias(problem):.1f}: 'newton' costs about the same"
        )
    if problem.specialised:
        from rlstab.kernels.sigmoid_attention import launch_specialised

        launch_specialised.check(problem)
        return
    if problem.q.dtype == torch.float64:
        raise UserError("backend 'triton' has no float64: use backend='eager'")
    if problem.q.device.type != "cuda" and not interpreting():
        raise UserError(f"backend 'triton' needs a GPU, q is on {problem.q.device}: use backend='auto'")


def _lowest_bias(problem: Problem) -> float:
    """Of a call, as far as it is known without waiting for a GPU: tensors count as zero."""
    if isinstance(problem.bias, str):
        return -math.log(max(1, min(problem.k.shape[2], problem.window or problem.k.shape[2])))
    return 0.0 if isinstance(problem.bias, Tensor) else float(problem.bias)


@functools.cache
def _say_once(message: str) -> None:
    _log.warning(message)


def forward(problem: Problem) -> Tensor:
    """Compute the output, ``(B, Hq, m, dv)``, without a graph."""
    problem = _prepared(problem)
    batch, heads, num_queries, _ = problem.q.shape
    num_keys = problem.k.shape[2]
    # In the order of the axes that callers have, so that no copy is made when the heads are put together.
    out = problem.q.new_empty(batch, num_queries, heads, problem.v.shape[3]).transpose(1, 2)
    if out.numel() == 0 or num_keys == 0:
        return out.zero_()
    if problem.specialised:
        from rlstab.kernels.sigmoid_attention import launch_specialised

        launch_specialised.forward(problem, out)
        return out
    arguments = (
        problem.q,
        problem.k,
        problem.v,
        out,
        *_row_tensors(problem),
        *_numbers(problem),
        *_sizes(problem),
        *_strides(problem.q, problem.k, problem.v, out),
    )
    if tiles.fits_one_tile(problem):
        capability = architecture(problem.q.device)
        tiling = tiles.one_tile(num_queries, num_keys, tiles.head_block(problem), capability)
        _start(problem, _one_forward, (heads, batch), *arguments, **_constants(problem, tiling))
    else:
        tiling = tiles.forward_tiling(*_class(problem))
        grid = (triton.cdiv(num_queries, tiling.rows), heads, batch)
        _start(problem, _forward, grid, *arguments, **_constants(problem, tiling))
    return out


def backward(problem: Problem, grad_out: Tensor, needed: Sequence[bool]) -> Gradients:
    """Gradients of q, k, v, bias and slopes, where ``needed``."""
    problem = _prepared(problem)
    grad_out = _unit_stride(grad_out)
    batch, heads, num_queries, _ = problem.q.shape
    dq, dk, dv = (
        tensor.new_empty(tensor.shape[0], tensor.shape[2], tensor.shape[1], tensor.shape[3]).transpose(1, 2)
        for tensor in (problem.q, problem.k, problem.v)
    )
    parts: dict[str, Any] = {"dtype": torch.float32, "device": problem.q.device}
    dbias = torch.empty((batch, heads, num_queries) if needed[3] else 1, **parts)
    if grad_out.numel() == 0 or problem.k.shape[2] == 0:
        dslopes = torch.zeros(batch, heads, **parts)
        for tensor in (dq, dk, dv, dbias):
            tensor.zero_()
    elif tiles.gradients_fit_one_tile(problem, architecture(problem.q.device)):
        dslopes = torch.empty((batch, heads) if needed[4] else 1, **parts)
        _one_tile_gradients(problem, grad_out, (dq, dk, dv, dbias, dslopes), needed)
    else:
        dslopes = torch.empty((batch, heads, num_queries) if needed[4] else 1, **parts)
        _tiled_gradients(problem, grad_out, (dq, dk, dv, dbias, dslopes), needed)
    bias, slopes = problem.bias_tensor, problem.alibi_slopes
    return (
        dq if needed[0] else None,
        dk if needed[1] else None,
        dv if needed[2] else None,
        dbias.sum((0, 2) if bias.ndim == 1 else 1).to(bias.dtype) if needed[3] and bias is not None else None,
        dslopes.view(batch, heads, -1).sum((0, 2)).to(slopes.dtype) if needed[4] and slopes is not None else None,
    )


_Outputs = tuple[Tensor, Tensor, Tensor, Tensor, Tensor]


def _one_tile_gradients(problem: Problem, grad_out: Tensor, outputs: _Outputs, needed: Sequence[bool]) -> None:
    dq, dk, dv, dbias, dslopes = outputs
    head_dim, dtype, capability, _ = _class(problem)
    lengths = problem.q.shape[2], problem.k.shape[2]
    tiling = tiles.one_tile_gradients(*lengths, head_dim, dtype, capability, problem.group)
    _start(
        problem,
        _one_backward,
        (problem.k.shape[1], problem.q.shape[0]),
        problem.q,
        problem.k,
        problem.v,
        grad_out,
        *(dq, dk, dv, dbias, dslopes),
        *_row_tensors(problem),
        *_numbers(problem),
        problem.scale,
        *_sizes(problem),
        *_strides(problem.q, problem.k, problem.v, grad_out, dq, dk, dv),
        **_constants(problem, tiling),
        BIAS_GRAD=needed[3],
        SLOPES_GRAD=needed[4],
    )


def _tiled_gradients(problem: Problem, grad_out: Tensor, outputs: _Outputs, needed: Sequence[bool]) -> None:
    dq, dk, dv, dbias, dslopes = outputs
    batch, heads, num_queries, _ = problem.q.shape
    kv_heads, num_keys = problem.k.shape[1:3]
    rows, numbers = _row_tensors(problem), (*_numbers(problem), problem.scale, *_sizes(problem))
    inputs = (problem.q, problem.k, problem.v, grad_out)
    if not problem.deterministic and all(needed[:3]) and not any(needed[3:]):
        from rlstab.kernels.sigmoid_attention import launch_fused

        if launch_fused.fits(problem):
            constants = _constants(problem, tiles.fused_tiling(problem.q.shape[3]))
            row_tensors = (*rows, _row_ends(problem))
            if launch_fused.gradients(problem, grad_out, (dq, dk, dv), row_tensors, numbers, constants):
                return
    if needed[0] or needed[3] or needed[4]:
        tiling = tiles.query_gradient_tiling(*_class(problem))
        _start(
            problem,
            _query_gradient,
            (triton.cdiv(num_queries, tiling.rows), heads, batch),
            *inputs,
            *(dq, dbias, dslopes),
            *rows,
            *numbers,
            *_strides(*inputs, dq),
            **_constants(problem, tiling),
            BIAS_GRAD=needed[3],
            SLOPES_GRAD=needed[4],
        )
    if needed[1] or needed[2]:
        tiling = tiles.key_gradient_tiling(*_class(problem))
        _start(
            problem,
            _key_gradient,
            (triton.cdiv(num_keys, tiling.keys), kv_heads, batch),
            *inputs,
            *(dk, dv),
            *rows,
            _row_ends(problem),
            *numbers,
            *_strides(*inputs, dk, dv),
            **_constants(problem, tiling),
        )


def _start(problem: Problem, kernel: Any, grid: tuple[int, ...], *arguments: Any, **constants: Any) -> None:
    try:
        kernel[grid](*arguments, **constants)
    except OutOfResources as error:
        device = problem.q.device
        name = torch.cuda.get_device_name(device) if device.type == "cuda" else str(device)
        dims = max(problem.q.shape[3], problem.v.shape[3])
        raise UserError(
            f"backend 'triton' takes {error.required} of {error.name} for head dimension {dims} in {problem.q.dtype}, "
            f"{name} has {error.limit}: use backend='eager'"
        ) from error


def _prepared(problem: Problem) -> Problem:
    check(problem)
    bias, slopes = problem.bias_tensor, problem.alibi_slopes
    return problem.with_tensors(
        _unit_stride(problem.q),
        _unit_stride(problem.k),
        _unit_stride(problem.v),
        None if bias is None else bias.contiguous(),
        None if slopes is None else slopes.contiguous(),
    )


def _class(problem: Problem) -> tuple[int, torch.dtype, int, int]:
    """What tilings of any length depend on."""
    device = problem.q.device
    return tiles.head_block(problem), problem.q.dtype, architecture(device), shared_memory(device)


@functools.cache
def shared_memory(device: torch.device) -> int:
    """Bytes that a program can have."""
    if device.type != "cuda":
        return tiles.SHARED_MEMORY[tiles.HOPPER]
    return int(torch.cuda.get_device_properties(device).shared_memory_per_block_optin)


@functools.cache
def architecture(device: torch.device) -> int:
    """Compute capability times ten; what is interpreted is cut into tiles as on a Hopper."""
    if device.type != "cuda":
        return tiles.HOPPER
    major, minor = torch.cuda.get_device_capability(device)
    return 10 * major + minor


def _unit_stride(tensor: Tensor) -> Tensor:
    return tensor if tensor.stride(3) == 1 or tensor.shape[3] == 1 else tensor.contiguous()


def _strides(*tensors: Tensor) -> tuple[int, ...]:
    return tuple(stride for tensor in tensors for stride in tensor.stride()[:3])


def _sizes(problem: Problem) -> tuple[int, int, int]:
    return problem.q.shape[2], problem.k.shape[2], problem.window or 0


def _numbers(problem: Problem) -> tuple[float, float]:
    """Scale and constant bias as they enter ``z``."""
    return -LOG2E * problem.scale, tiles.constant_offset(problem)


def _row_tensors(problem: Problem) -> tuple[Tensor, ...]:
    """Bias, slopes, row_start and kv_lens; anything in the place of one that is not there, as it is not read."""
    nothing = problem.q
    bias, slopes = problem.bias_tensor, problem.alibi_slopes
    return (
        nothing if bias is None else bias,
        nothing if slopes is None else slopes,
        nothing if problem.row_start is None else _indices(problem.row_start),
        nothing if problem.kv_lens is None else _indices(problem.kv_lens),
    )


def _row_ends(problem: Problem) -> Tensor:
    if problem.row_start is None:
        return problem.q
    return rows_that_see(problem.row_start) if problem.row_end is None else _indices(problem.row_end)


def _indices(tensor: Tensor) -> Tensor:
    return tensor.to(torch.int32).contiguous()


def _constants(problem: Problem, tiling: Tiling) -> dict[str, Any]:
    masks = tiles.masks_of(problem)
    dim, value_dim = problem.q.shape[3], problem.v.shape[3]
    return {
        "GROUP": problem.group,
        "DIM": dim,
        "VALUE_DIM": value_dim,
        "BLOCK_M": tiling.rows,
        "BLOCK_N": tiling.keys,
        "BLOCK_D": power_of_two(dim),
        "BLOCK_V": power_of_two(value_dim),
        "CAUSAL": masks.causal,
        "HAS_WINDOW": masks.has_window,
        "HAS_START": masks.has_start,
        "HAS_LENS": masks.has_lens,
        "BIAS": tiles.bias_kind(problem),
        "ALIBI": problem.alibi_slopes is not None,
        "MODE": tiles.sigmoid_mode(problem),
        "PRECISION": problem.precision,
        "INTERPRET": interpreting(),
        "num_warps": tiling.num_warps,
        "num_stages": tiling.num_stages,
    }
