# pyright: basic
"""Starts the warp-specialised forward kernel. Imported only when one is to run: it imports Triton."""

from __future__ import annotations

import functools
import logging
from typing import Any

import torch
import triton
from torch import Tensor

from rlstab.errors import UserError
from rlstab.kernels.sigmoid_attention import specialised, tiles
from rlstab.kernels.sigmoid_attention.launch import architecture, interpreting
from rlstab.kernels.sigmoid_attention.problem import Problem
from rlstab.kernels.sigmoid_attention.tile_copies import aligned, compiled_warps, let_allocate
from rlstab.kernels.sigmoid_attention.tiles import LOG2E

# Launching takes options that the kernel's own signature does not have.
_forward: Any = specialised.forward_kernel

_log = logging.getLogger(__name__)


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
    types = (torch.float16, torch.bfloat16, *([torch.float32] if interpreting() else []))
    if problem.q.dtype not in types:
        reason = f"computes float16 and bfloat16, q is {problem.q.dtype}"
    elif row_masks:
        reason = f"has no {row_masks[0]}"
    elif not isinstance(problem.bias, (int, float)):
        reason = "has one number for a bias, or none"
    elif dim not in tiles.TILE_COPY_DIMS or value_dim != dim:
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
    q, k, v = (aligned(tensor) for tensor in (problem.q, problem.k, problem.v))
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
    let_allocate()
    if not interpreting():
        warps = compiled_warps("backend 'specialised'", _forward, arguments, constants, grid)
        if warps <= tiling.num_warps:
            _say_once(f"Triton {triton.__version__} did not specialise the warps of backend 'specialised'")
    _forward[grid](*arguments, **constants)


@functools.cache
def _say_once(message: str) -> None:
    # The result is right all the same.
    _log.warning(message)
