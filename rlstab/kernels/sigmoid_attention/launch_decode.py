# pyright: basic
"""Starts the decode kernel. Imported only when it is to run: it imports Triton."""

from __future__ import annotations

import functools
from typing import Any

import torch
import triton
from torch import Tensor

from rlstab.kernels.sigmoid_attention import decode_kernel
from rlstab.kernels.sigmoid_attention.decode import RingCache
from rlstab.kernels.sigmoid_attention.problem import Bias
from rlstab.kernels.sigmoid_attention.tiles import (
    BIAS_CONSTANT,
    BIAS_COUNT,
    BIAS_HEAD,
    BIAS_ROW,
    LOG2E,
    power_of_two,
)

_step: Any = decode_kernel.step_kernel
_sum: Any = decode_kernel.sum_kernel
_KEYS_A_TILE = 32
_NUM_WARPS = 2
_SUM_BLOCK, _SUM_WARPS = 256, 2
_PROGRAMS_A_MULTIPROCESSOR = 2
"""With fewer programs than this, heads are divided."""
_NO_GPU = 1
"""Multiprocessors of what is interpreted: nothing is divided unless it is asked for."""


def interpreting() -> bool:
    """Whether kernels are interpreted, on tensors in main memory."""
    return not isinstance(_step, triton.JITFunction)


def parts_of(programs: int, window: int, multiprocessors: int) -> int:
    """Among how many programs the keys of a head are divided, where one each would make ``programs`` of them."""
    wanted = _PROGRAMS_A_MULTIPROCESSOR * multiprocessors
    return 1 if programs >= wanted else min(triton.cdiv(wanted, programs), triton.cdiv(window, _KEYS_A_TILE))


def step(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    cache: RingCache,
    scale: float,
    bias: Bias | None,
    alibi_slopes: Tensor | None,
    parts: int | None = None,
) -> Tensor:
    """Write a step and attend from it, in one launch or, with ``parts``, in two; ``(B, Hq, dv)``."""
    batch, heads, dim = q.shape
    kv_heads, window, value_dim = cache.v.shape[1:]
    out = torch.empty(batch, heads, value_dim, dtype=q.dtype, device=q.device)
    if out.numel() == 0:
        return out
    block = min(_KEYS_A_TILE, power_of_two(window))
    if parts is None:
        parts = parts_of(batch * kv_heads, window, _multiprocessors(q.device))
    part_keys = triton.cdiv(triton.cdiv(window, block), parts) * block
    # Fewer, where some would have no keys.
    parts = triton.cdiv(window, part_keys)
    sums = out if parts == 1 else torch.empty(parts, *out.shape, dtype=torch.float32, device=q.device)
    q, k, v = (tensor if tensor.stride(2) == 1 else tensor.contiguous() for tensor in (q, k, v))
    kind, constant = _bias(bias)
    group = heads // kv_heads
    _step[kv_heads, batch, parts](
        q,
        k,
        v,
        cache.k,
        cache.v,
        cache.count,
        sums,
        bias.contiguous() if isinstance(bias, Tensor) else q,
        q if alibi_slopes is None else alibi_slopes.expand(heads).contiguous(),
        -LOG2E * scale,
        constant,
        *q.stride()[:2],
        *k.stride()[:2],
        *v.stride()[:2],
        *cache.k.stride(),
        *cache.v.stride(),
        *cache.count.stride(),
        *out.stride()[:2],
        part_keys,
        out.numel(),
        GROUP=group,
        WINDOW=window,
        DIM=dim,
        VALUE_DIM=value_dim,
        BLOCK_G=1 << (group - 1).bit_length(),
        BLOCK_N=block,
        BLOCK_D=power_of_two(dim),
        BLOCK_V=power_of_two(value_dim),
        BIAS=kind,
        ALIBI=alibi_slopes is not None,
        MODE="newton" if q.dtype in (torch.float16, torch.bfloat16) else "exact",
        PARTS=parts > 1,
        INTERPRET=interpreting(),
        num_warps=_NUM_WARPS,
    )
    if parts > 1:
        grid = (triton.cdiv(out.numel(), _SUM_BLOCK),)
        _sum[grid](sums, out, out.numel(), parts, BLOCK=_SUM_BLOCK, num_warps=_SUM_WARPS)
    cache.count += 1
    return out


def _bias(bias: Bias | None) -> tuple[int, float]:
    if isinstance(bias, Tensor):
        return (BIAS_HEAD if bias.ndim == 1 else BIAS_ROW), 0.0
    if isinstance(bias, str):
        return BIAS_COUNT, 0.0
    return BIAS_CONSTANT, -LOG2E * float(bias or 0.0)


@functools.cache
def _multiprocessors(device: torch.device) -> int:
    return torch.cuda.get_device_properties(device).multi_processor_count if device.type == "cuda" else _NO_GPU
