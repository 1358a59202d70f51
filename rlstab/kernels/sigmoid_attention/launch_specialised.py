# pyright: basic
"""Starts the warp-specialised forward kernel. Imported only when one is to run: it imports Triton."""

from __future__ import annotations

import logging
from contextvars import ContextVar
from typing import Any

import torch
import triton
from torch import Tensor

from rlstab.errors import UserError
from rlstab.kernels.sigmoid_attention import specialised, tiles
from rlstab.kernels.sigmoid_attention.launch import architecture, interpreting
from rlstab.kernels.sigmoid_attention.problem import Problem
from rlstab.kernels.sigmoid_attention.tiles import LOG2E, Tiling

# Launching takes options that the kernel's own signature does not have.
_forward: Any = specialised.forward_kernel

_ALIGNED_BYTES = 16
"""Descriptors of tiles begin, and step from row to row, at multiples of this."""
_HEAD_DIMS = (64, 128)

_log = logging.getLogger(__name__)
_can_allocate: ContextVar[bool] = ContextVar("_can_allocate", default=False)
_compiled: set[tuple[Any, ...]] = set()


def check(problem: Problem) -> None:
    """Refuse a call that the kernel does not compute.

    Raises
    ------
    UserError
        The message says what does not fit, and what does it instead.
    """
    dim, value_dim = problem.q.shape[3], problem.v.shape[3]
    row_masks = [name for name in ("row_start", "kv_lens", "alibi_slopes") if getattr(problem, name) is not None]
    device, reason = problem.q.device, None
    if problem.q.dtype not in (torch.float16, torch.bfloat16) and not interpreting():
        reason = f"computes float16 and bfloat16, q is {problem.q.dtype}"
    elif row_masks:
        reason = f"has no {row_masks[0]}"
    elif not isinstance(problem.bias, (int, float)):
        reason = "has one number for a bias, or none"
    elif dim not in _HEAD_DIMS or value_dim != dim:
        reason = f"computes head dimensions 64 and 128 of q, k and v alike, got {dim} and {value_dim}"
    elif not interpreting() and device.type != "cuda":
        reason = f"needs a GPU, q is on {device}"
    elif architecture(device) != tiles.HOPPER:
        reason = f"needs a GPU of compute capability 9.0, {device} has {architecture(device) / 10}"
    if reason is not None:
        raise UserError(f"backend 'specialised' {reason}: use backend='auto'")


def forward(problem: Problem, out: Tensor) -> None:
    """Fill ``out``, ``(B, Hq, m, d)`` with unit stride along the last axis.

    Raises
    ------
    UserError
        The call does not fit, or this version of Triton does not compile the kernel.
    """
    check(problem)
    batch, heads, num_queries, dim = problem.q.shape
    q, k, v = (_aligned(tensor) for tensor in (problem.q, problem.k, problem.v))
    tiling = tiles.specialised_tiling(dim)
    masks = tiles.masks_of(problem)
    constants = {
        "GROUP": problem.group,
        "DIM": dim,
        "BLOCK_M": tiling.rows,
        "BLOCK_N": tiling.keys,
        "CAUSAL": masks.causal,
        "HAS_WINDOW": masks.has_window,
        "MODE": tiles.sigmoid_mode(problem),
        "PRECISION": problem.precision,
        "INTERPRET": interpreting(),
        "num_warps": tiling.num_warps,
        "num_stages": tiling.num_stages,
    }
    arguments = (
        *(q, k, v, out),
        -LOG2E * problem.scale,
        tiles.constant_offset(problem),
        *(num_queries, k.shape[2], problem.window or 0),
        *(stride for tensor in (q, k, v, out) for stride in tensor.stride()[:3]),
    )
    grid = (triton.cdiv(num_queries, tiling.rows), heads, batch)
    _let_allocate()
    if not interpreting():
        _probe(arguments, constants, grid, tiling)
    _forward[grid](*arguments, **constants)


def _probe(arguments: tuple[Any, ...], constants: dict[str, Any], grid: tuple[int, ...], tiling: Tiling) -> None:
    """Compile before anything runs: what compilers raise is theirs, and does not tell a user what to do."""
    q, *_ = arguments
    # Strides are what else a compiler is told of: whether they are one, and divisible by 16.
    key = (q.device, q.dtype, *constants.values(), *arguments[-12:])
    if key in _compiled:
        return
    try:
        kernel = _forward.warmup(*arguments, grid=grid, **constants)
    except Exception as error:
        cause = (str(error).strip() or type(error).__name__).splitlines()[0][:120]
        message = f"Triton {triton.__version__} does not compile backend 'specialised' ({cause}): use backend='auto'"
        raise UserError(message) from error
    if kernel.metadata.num_warps <= tiling.num_warps:
        # The result is right all the same.
        _log.warning("Triton %s did not specialise the warps of backend 'specialised'", triton.__version__)
    _compiled.add(key)


def _aligned(tensor: Tensor) -> Tensor:
    """The tensor, or a copy that descriptors of tiles can describe."""
    element = tensor.element_size()
    fits = tensor.data_ptr() % _ALIGNED_BYTES == 0 and tensor.stride(3) == 1
    for size, stride in zip(tensor.shape[:3], tensor.stride()[:3], strict=True):
        fits = fits and (size == 1 or (stride > 0 and stride * element % _ALIGNED_BYTES == 0))
    return tensor if fits else tensor.clone(memory_format=torch.contiguous_format)


def _let_allocate() -> None:
    """Let Triton ask torch for the memory that descriptors lie in; it keeps the way to ask by thread."""
    if not _can_allocate.get():
        triton.set_allocator(_allocate)
        _can_allocate.set(True)


def _allocate(size: int, alignment: int, stream: int | None) -> Tensor:
    return torch.empty(size, dtype=torch.int8, device="cuda")
