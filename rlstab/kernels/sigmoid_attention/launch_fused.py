# pyright: basic
"""Starts the kernel that computes all gradients at once. Imported only when it is to run: it imports Triton."""

from __future__ import annotations

import functools
import logging
from typing import Any

import torch
import triton
from torch import Tensor

from rlstab.errors import UserError
from rlstab.kernels.sigmoid_attention import fused_backward, tiles
from rlstab.kernels.sigmoid_attention.launch import architecture, interpreting
from rlstab.kernels.sigmoid_attention.problem import Problem
from rlstab.kernels.sigmoid_attention.tile_copies import aligned, compiled_warps, let_allocate

# Launching takes options that the kernel's own signature does not have.
_gradient: Any = fused_backward.gradient_kernel
_log = logging.getLogger(__name__)


def fits(problem: Problem) -> bool:
    """Whether the kernel computes the gradients of this call's tensors q, k and v."""
    dim, value_dim = problem.q.shape[3], problem.v.shape[3]
    if dim not in tiles.TILE_COPY_DIMS or value_dim != dim or architecture(problem.q.device) != tiles.HOPPER:
        return False
    return interpreting() or problem.q.dtype in (torch.float16, torch.bfloat16)


def gradients(
    problem: Problem,
    grad_out: Tensor,
    outputs: tuple[Tensor, Tensor, Tensor],
    rows: tuple[Tensor, ...],
    numbers: tuple[float, ...],
    constants: dict[str, Any],
) -> bool:
    """Fill the gradients of q, k and v; ``False`` if this version of Triton does not compile the kernel."""
    dq, dk, dv = outputs
    q, grad_out = aligned(problem.q), aligned(grad_out)
    sums = torch.zeros(problem.q.shape, dtype=torch.float32, device=q.device)
    tensors = (q, problem.k, problem.v, grad_out)
    arguments = (
        *(*tensors, sums, dk, dv),
        *rows,
        *numbers,
        *(stride for tensor in (*tensors, dk, dv) for stride in tensor.stride()[:3]),
    )
    constants = {name: value for name, value in constants.items() if name not in ("VALUE_DIM", "BLOCK_D", "BLOCK_V")}
    grid = (triton.cdiv(problem.k.shape[2], constants["BLOCK_N"]), problem.k.shape[1], problem.q.shape[0])
    let_allocate()
    if not interpreting():
        try:
            compiled_warps("the gradients of deterministic=False", _gradient, arguments, constants, grid)
        except UserError as error:
            _say_once(str(error))
            return False
    _gradient[grid](*arguments, **constants)
    dq.copy_(sums.mul_(problem.scale))
    return True


@functools.cache
def _say_once(message: str) -> None:
    _log.warning("%s; two deterministic kernels compute them", message)
