# Triton's language is not Python's: pyright sees the host's types of what the kernels call.
# pyright: basic, reportArgumentType=false, reportCallIssue=false, reportGeneralTypeIssues=false
# pyright: reportOperatorIssue=false
"""One new step of each environment: write it into the ring buffer and attend over what the buffer holds.

What counts is memory traffic: a program reads the keys and values of one key head once, for all query heads that share
it, and stops at what was written. Products are sums of elementwise products in float32: one query is too few for a
matrix unit.

With few environments there are fewer programs than the GPU runs at a time. Several then share the keys of one head,
each adds up its part, and a second kernel adds the parts, always in the same order.
"""

from __future__ import annotations

import triton
import triton.language as tl

from rlstab.kernels.sigmoid_attention.tiles import BIAS_HEAD, BIAS_ROW, LOG2E
from rlstab.kernels.sigmoid_attention.triton_common import sigmoid

_HEAD = tl.constexpr(BIAS_HEAD)
_ROW = tl.constexpr(BIAS_ROW)
_LOG2E = tl.constexpr(LOG2E)
# Of all queries with all keys of a tile, element by element.
_PRODUCTS = tl.constexpr(4096)
_ONE = tl.constexpr(1)


@triton.jit
def step_kernel(
    q_ptr,
    k_ptr,
    v_ptr,
    k_cache,
    v_cache,
    count_ptr,
    out_ptr,
    bias,
    slopes,
    scale,
    constant,
    stride_qb,
    stride_qh,
    stride_kb,
    stride_kh,
    stride_vb,
    stride_vh,
    stride_kcb,
    stride_kch,
    stride_kcw,
    stride_kcd,
    stride_vcb,
    stride_vch,
    stride_vcw,
    stride_vcd,
    stride_count,
    stride_ob,
    stride_oh,
    part_keys,
    stride_op,
    GROUP: tl.constexpr,
    WINDOW: tl.constexpr,
    DIM: tl.constexpr,
    VALUE_DIM: tl.constexpr,
    BLOCK_G: tl.constexpr,
    BLOCK_N: tl.constexpr,
    BLOCK_D: tl.constexpr,
    BLOCK_V: tl.constexpr,
    BIAS: tl.constexpr,
    ALIBI: tl.constexpr,
    MODE: tl.constexpr,
    PARTS: tl.constexpr,
    INTERPRET: tl.constexpr,
):
    """Grid: (key heads, environments, parts). ``count`` is that of before the step; the host adds one.

    With ``PARTS``, a program goes through ``part_keys`` slots, a multiple of ``BLOCK_N``, and ``out`` holds sums of
    parts in float32, ``stride_op`` apart; otherwise it goes through all of them.

    ``BLOCK_N`` is the most keys that are looked at together; fewer where their products would not hold in registers.
    """
    WIDTH: tl.constexpr = BLOCK_G * (BLOCK_D if BLOCK_D > BLOCK_V else BLOCK_V)
    FITTING: tl.constexpr = _PRODUCTS // WIDTH if WIDTH < _PRODUCTS else _ONE
    KEYS: tl.constexpr = BLOCK_N if BLOCK_N < FITTING else FITTING
    kv_head, batch = tl.program_id(0), tl.program_id(1)
    far = batch.to(tl.int64)
    members, dims, value_dims = tl.arange(0, BLOCK_G), tl.arange(0, BLOCK_D), tl.arange(0, BLOCK_V)
    heads, in_group = kv_head * GROUP + members, members < GROUP
    in_key, in_value = dims < DIM, value_dims < VALUE_DIM
    q_at = q_ptr + far * stride_qb + heads[:, None] * stride_qh + dims[None, :]
    q = tl.load(q_at, mask=in_group[:, None] & in_key[None, :], other=0.0).to(tl.float32)
    new_k = tl.load(k_ptr + far * stride_kb + kv_head * stride_kh + dims, mask=in_key, other=0.0)
    new_v = tl.load(v_ptr + far * stride_vb + kv_head * stride_vh + value_dims, mask=in_value, other=0.0)
    before = tl.load(count_ptr + batch * stride_count)
    slot, written = (before % WINDOW).to(tl.int32), tl.minimum(before + 1, WINDOW).to(tl.int32)
    k_base, v_base = (
        k_cache + far * stride_kcb + kv_head * stride_kch,
        v_cache + far * stride_vcb + kv_head * stride_vch,
    )
    # Kept apart from the features' numbers: those of inputs are next to each other, those of a cache perhaps not.
    k_dims, v_dims = dims * stride_kcd, value_dims * stride_vcd
    begin, end = 0, written
    if PARTS:
        begin = tl.program_id(2) * part_keys
        end = tl.minimum(written, begin + part_keys)
        out_ptr += tl.program_id(2).to(tl.int64) * stride_op
    # One writes; none reads what it writes.
    if tl.program_id(2) == 0:
        tl.store(k_base + slot * stride_kcw + k_dims, new_k.to(k_cache.dtype.element_ty), mask=in_key)
        tl.store(v_base + slot * stride_vcw + v_dims, new_v.to(v_cache.dtype.element_ty), mask=in_value)
    offset = tl.zeros([BLOCK_G], tl.float32) + constant
    if BIAS == _HEAD:
        offset = -tl.load(bias + heads, mask=in_group, other=0.0).to(tl.float32) * _LOG2E
    elif BIAS == _ROW:
        offset = tl.zeros([BLOCK_G], tl.float32) - tl.load(bias + batch).to(tl.float32) * _LOG2E
    slope = tl.zeros([BLOCK_G], tl.float32)
    if ALIBI:
        slope = tl.load(slopes + heads, mask=in_group, other=0.0).to(tl.float32) * _LOG2E
    acc = tl.zeros([BLOCK_G, BLOCK_V], tl.float32)
    for start in tl.range(begin, end, KEYS):
        slots = start + tl.arange(0, KEYS)
        # The new step is taken from registers: what was just stored may not be there to be read yet.
        is_old, is_new = (slots < written) & (slots != slot), slots == slot
        k_at = k_base + slots[:, None] * stride_kcw + k_dims[None, :]
        k = tl.load(k_at, mask=is_old[:, None] & in_key[None, :], other=0.0).to(tl.float32)
        k = tl.where(is_new[:, None], new_k.to(k_cache.dtype.element_ty).to(tl.float32)[None, :], k)
        v_at = v_base + slots[:, None] * stride_vcw + v_dims[None, :]
        v = tl.load(v_at, mask=is_old[:, None] & in_value[None, :], other=0.0).to(tl.float32)
        v = tl.where(is_new[:, None], new_v.to(v_cache.dtype.element_ty).to(tl.float32)[None, :], v)
        z = tl.fma(tl.sum(q[:, None, :] * k[None, :, :], axis=2), scale, offset[:, None])
        if ALIBI:
            # Slots behind the newest are older by a whole turn of the ring.
            age = tl.where(slots <= slot, slot - slots, slot - slots + WINDOW)
            z = tl.fma(age.to(tl.float32)[None, :], slope[:, None], z)
        # Slots that were never written have zero values: they need no mask.
        p = sigmoid(z, written.to(tl.float32), MODE, BIAS, INTERPRET)
        acc += tl.sum(p[:, :, None] * v[None, :, :], axis=1)
    out_at = out_ptr + far * stride_ob + heads[:, None] * stride_oh + value_dims[None, :]
    tl.store(out_at, acc.to(out_ptr.dtype.element_ty), mask=in_group[:, None] & in_value[None, :])


@triton.jit
def sum_kernel(part_ptr, out_ptr, size, parts, BLOCK: tl.constexpr):
    """Add ``parts`` vectors of ``size`` numbers, the first first. Grid: (tiles of a vector)."""
    at = tl.program_id(0).to(tl.int64) * BLOCK + tl.arange(0, BLOCK)
    acc = tl.zeros([BLOCK], tl.float32)
    part_at = part_ptr + at
    for _ in tl.range(0, parts):
        acc += tl.load(part_at, mask=at < size, other=0.0)
        part_at += size
    tl.store(out_ptr + at, acc.to(out_ptr.dtype.element_ty), mask=at < size)
