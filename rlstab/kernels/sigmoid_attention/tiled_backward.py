# Triton's language is not Python's: pyright sees the host's types of what the kernels call.
# pyright: basic, reportArgumentType=false, reportCallIssue=false, reportGeneralTypeIssues=false
# pyright: reportOperatorIssue=false
"""Gradients for any length: two kernels, each with the loops of `tiled`.

They compute the weights once more each (seven products instead of five), so that no two programs add to one number: the
gradients are deterministic.
"""

from __future__ import annotations

import triton
import triton.language as tl

from rlstab.kernels.sigmoid_attention.tiled import key_ranges
from rlstab.kernels.sigmoid_attention.triton_common import (
    first_key,
    last_key,
    load_tile,
    product,
    row_offset,
    scores,
    sigmoid,
    slope_of,
    store_tile,
    transposed_scores,
    visible_keys,
)


@triton.jit
def row_ranges(
    begin,
    end,
    offset,
    num_queries,
    length,
    window,
    row_ends,
    BLOCK_M: tl.constexpr,
    CAUSAL: tl.constexpr,
    HAS_WINDOW: tl.constexpr,
    HAS_START: tl.constexpr,
    HAS_LENS: tl.constexpr,
):
    """The same for the loop over rows, for the keys ``begin`` to ``end``."""
    first = begin * 0
    first_of_all = first
    if CAUSAL:
        first = tl.maximum(begin - offset, 0)
        first_of_all = tl.maximum(end - offset, 0)
    last = first * 0 + num_queries - 1
    last_of_all = last
    if HAS_WINDOW:
        last = tl.minimum(last, end - offset + window - 1)
        last_of_all = tl.minimum(last_of_all, begin - offset + window - 1)
    if HAS_START:
        last = tl.minimum(last, tl.load(row_ends + end))
        last_of_all = tl.minimum(last_of_all, tl.load(row_ends + begin))
    # Padded keys are seen by no row; a tile that holds any is compared throughout.
    last = tl.where(begin < length, last, -1)
    last_of_all = tl.where(end < length, last_of_all, -1)
    low = (first // BLOCK_M) * BLOCK_M
    high = tl.maximum(((last + BLOCK_M) // BLOCK_M) * BLOCK_M, low)
    body_low = tl.minimum(((first_of_all + BLOCK_M - 1) // BLOCK_M) * BLOCK_M, high)
    body_high = high
    if HAS_WINDOW or HAS_START or HAS_LENS:
        body_high = tl.minimum(tl.maximum(((last_of_all + 1) // BLOCK_M) * BLOCK_M, body_low), high)
    return low, body_low, body_high, high


@triton.jit
def _add_query_gradients(
    dq,
    dbias,
    dslope,
    q,
    grad,
    low,
    high,
    k_base,
    v_base,
    stride_kn,
    stride_vn,
    scale,
    offset,
    slope,
    position,
    first,
    last,
    num_keys,
    DIM: tl.constexpr,
    VALUE_DIM: tl.constexpr,
    BLOCK_N: tl.constexpr,
    BLOCK_D: tl.constexpr,
    BLOCK_V: tl.constexpr,
    MASKED: tl.constexpr,
    BIAS: tl.constexpr,
    ALIBI: tl.constexpr,
    BIAS_GRAD: tl.constexpr,
    SLOPES_GRAD: tl.constexpr,
    MODE: tl.constexpr,
    PRECISION: tl.constexpr,
    INTERPRET: tl.constexpr,
):
    """Add what the keys ``low`` to ``high - 1`` bring to the gradients of some rows."""
    dims, value_dims = tl.arange(0, BLOCK_D), tl.arange(0, BLOCK_V)
    for start in tl.range(low, high, BLOCK_N):
        keys = start + tl.arange(0, BLOCK_N)
        k = load_tile(k_base, keys, stride_kn, dims, num_keys, DIM)
        v = load_tile(v_base, keys, stride_vn, value_dims, num_keys, VALUE_DIM)
        z = scores(q, k, scale, offset, slope, position, keys, ALIBI, PRECISION, INTERPRET)
        p = sigmoid(z, visible_keys(first, last)[:, None], MODE, BIAS, INTERPRET)
        if MASKED:
            p = tl.where((keys[None, :] >= first[:, None]) & (keys[None, :] <= last[:, None]), p, 0.0)
        t = p * product(grad, tl.trans(v), PRECISION, INTERPRET)
        ds = tl.fma(-p, t, t)
        if BIAS_GRAD:
            dbias += tl.sum(ds, axis=1)
        if SLOPES_GRAD:
            dslope += tl.sum(ds * tl.abs(position[:, None] - keys[None, :]).to(tl.float32), axis=1)
        dq += product(ds.to(k.dtype), k, PRECISION, INTERPRET)
    return dq, dbias, dslope


@triton.jit
def query_gradient_kernel(
    q_ptr,
    k_ptr,
    v_ptr,
    grad_ptr,
    dq_ptr,
    dbias_ptr,
    dslopes_ptr,
    bias,
    slopes,
    row_start,
    kv_lens,
    scale,
    constant,
    grad_scale,
    num_queries,
    num_keys,
    window,
    stride_qb,
    stride_qh,
    stride_qm,
    stride_kb,
    stride_kh,
    stride_kn,
    stride_vb,
    stride_vh,
    stride_vn,
    stride_gb,
    stride_gh,
    stride_gm,
    stride_dqb,
    stride_dqh,
    stride_dqm,
    GROUP: tl.constexpr,
    DIM: tl.constexpr,
    VALUE_DIM: tl.constexpr,
    BLOCK_M: tl.constexpr,
    BLOCK_N: tl.constexpr,
    BLOCK_D: tl.constexpr,
    BLOCK_V: tl.constexpr,
    CAUSAL: tl.constexpr,
    HAS_WINDOW: tl.constexpr,
    HAS_START: tl.constexpr,
    HAS_LENS: tl.constexpr,
    BIAS: tl.constexpr,
    ALIBI: tl.constexpr,
    BIAS_GRAD: tl.constexpr,
    SLOPES_GRAD: tl.constexpr,
    MODE: tl.constexpr,
    PRECISION: tl.constexpr,
    INTERPRET: tl.constexpr,
):
    """Gradients of queries; of bias and slopes in parts ``(B, Hq, m)``. Grid: (tiles of rows, query heads, batch)."""
    tile = tl.num_programs(0) - 1 - tl.program_id(0)
    head, batch = tl.program_id(1), tl.program_id(2)
    far, kv_head = batch.to(tl.int64), head // GROUP
    begin = tile * BLOCK_M
    rows, dims, value_dims = begin + tl.arange(0, BLOCK_M), tl.arange(0, BLOCK_D), tl.arange(0, BLOCK_V)
    q = load_tile(q_ptr + far * stride_qb + head * stride_qh, rows, stride_qm, dims, num_queries, DIM)
    grad_base = grad_ptr + far * stride_gb + head * stride_gh
    grad = load_tile(grad_base, rows, stride_gm, value_dims, num_queries, VALUE_DIM)
    length = num_keys
    if HAS_LENS:
        length = tl.minimum(tl.load(kv_lens + batch), num_keys)
    shift = num_keys - num_queries
    row = tl.minimum(rows, num_queries - 1)
    position = row + shift
    starts = row_start + far * num_queries
    first = first_key(row, position, window, starts, HAS_WINDOW, HAS_START)
    last = last_key(position, length, CAUSAL)
    offset = row_offset(bias, constant, batch, head, row, num_queries, BIAS)
    slope = slope_of(slopes, head, ALIBI)
    end = tl.minimum(begin + BLOCK_M, num_queries) - 1
    low, body_low, body_high, high = key_ranges(
        begin, end, shift, length, window, starts, BLOCK_N, CAUSAL, HAS_WINDOW, HAS_START, HAS_LENS
    )
    k_base, v_base = k_ptr + far * stride_kb + kv_head * stride_kh, v_ptr + far * stride_vb + kv_head * stride_vh
    dq = tl.zeros([BLOCK_M, BLOCK_D], dtype=tl.float32)
    dbias = tl.zeros([BLOCK_M], dtype=tl.float32)
    dslope = tl.zeros([BLOCK_M], dtype=tl.float32)
    for part in tl.static_range(3):
        if part == 1 or (part == 0 and (HAS_WINDOW or HAS_START)) or (part == 2 and (CAUSAL or HAS_LENS)):
            at = low if part == 0 else body_low if part == 1 else body_high
            until = body_low if part == 0 else body_high if part == 1 else high
            dq, dbias, dslope = _add_query_gradients(
                dq,
                dbias,
                dslope,
                q,
                grad,
                at,
                until,
                k_base,
                v_base,
                stride_kn,
                stride_vn,
                scale,
                offset,
                slope,
                position,
                first,
                last,
                num_keys,
                DIM,
                VALUE_DIM,
                BLOCK_N,
                BLOCK_D,
                BLOCK_V,
                part != 1,
                BIAS,
                ALIBI,
                BIAS_GRAD,
                SLOPES_GRAD,
                MODE,
                PRECISION,
                INTERPRET,
            )
    base = dq_ptr + far * stride_dqb + head * stride_dqh
    store_tile(base, rows, stride_dqm, dims, num_queries, DIM, dq * grad_scale)
    entry = (far * tl.num_programs(1) + head) * num_queries + rows
    if BIAS_GRAD:
        tl.store(dbias_ptr + entry, dbias, mask=rows < num_queries)
    if SLOPES_GRAD:
        tl.store(dslopes_ptr + entry, 0.0 - dslope, mask=rows < num_queries)


@triton.jit
def _add_key_gradients(
    dk,
    dv,
    k,
    v,
    keys,
    low,
    high,
    q_base,
    grad_base,
    bias,
    slopes,
    starts,
    stride_qh,
    stride_qm,
    stride_gh,
    stride_gm,
    scale,
    constant,
    batch,
    head,
    shift,
    length,
    num_queries,
    window,
    GROUP: tl.constexpr,
    DIM: tl.constexpr,
    VALUE_DIM: tl.constexpr,
    BLOCK_M: tl.constexpr,
    BLOCK_D: tl.constexpr,
    BLOCK_V: tl.constexpr,
    MASKED: tl.constexpr,
    CAUSAL: tl.constexpr,
    HAS_WINDOW: tl.constexpr,
    HAS_START: tl.constexpr,
    BIAS: tl.constexpr,
    ALIBI: tl.constexpr,
    MODE: tl.constexpr,
    PRECISION: tl.constexpr,
    INTERPRET: tl.constexpr,
):
    """Add what the rows ``low`` to ``high - 1`` of ``GROUP`` heads bring to the gradients of some keys.

    ``head`` is the first of them. One loop for all heads: around a loop for each, registers spill.
    """
    dims, value_dims = tl.arange(0, BLOCK_D), tl.arange(0, BLOCK_V)
    start = low
    for turn in tl.range(low, low + (high - low) * GROUP, BLOCK_M):
        if GROUP == 1:
            start = turn
        rows = start + tl.arange(0, BLOCK_M)
        slope = slope_of(slopes, head, ALIBI)
        q = load_tile(q_base + head * stride_qh, rows, stride_qm, dims, num_queries, DIM)
        grad = load_tile(grad_base + head * stride_gh, rows, stride_gm, value_dims, num_queries, VALUE_DIM)
        row = tl.minimum(rows, num_queries - 1)
        position = row + shift
        # Dropped by the compiler where neither a mask nor a bias needs them.
        first = first_key(row, position, window, starts, HAS_WINDOW, HAS_START)
        last = last_key(position, length, CAUSAL)
        offset = row_offset(bias, constant, batch, head, row, num_queries, BIAS)
        z = transposed_scores(k, q, scale, offset, slope, position, keys, ALIBI, PRECISION, INTERPRET)
        p = sigmoid(z, visible_keys(first, last)[None, :], MODE, BIAS, INTERPRET)
        if MASKED:
            p = tl.where((keys[:, None] >= first[None, :]) & (keys[:, None] <= last[None, :]), p, 0.0)
        dv += product(p.to(grad.dtype), grad, PRECISION, INTERPRET)
        t = p * product(v, tl.trans(grad), PRECISION, INTERPRET)
        ds = tl.fma(-p, t, t)
        dk += product(ds.to(q.dtype), q, PRECISION, INTERPRET)
        if GROUP > 1:
            start += BLOCK_M
            head = tl.where(start < high, head, head + 1)
            start = tl.where(start < high, start, low)
    return dk, dv


@triton.jit
def key_gradient_kernel(
    q_ptr,
    k_ptr,
    v_ptr,
    grad_ptr,
    dk_ptr,
    dv_ptr,
    bias,
    slopes,
    row_start,
    kv_lens,
    row_end,
    scale,
    constant,
    grad_scale,
    num_queries,
    num_keys,
    window,
    stride_qb,
    stride_qh,
    stride_qm,
    stride_kb,
    stride_kh,
    stride_kn,
    stride_vb,
    stride_vh,
    stride_vn,
    stride_gb,
    stride_gh,
    stride_gm,
    stride_dkb,
    stride_dkh,
    stride_dkn,
    stride_dvb,
    stride_dvh,
    stride_dvn,
    GROUP: tl.constexpr,
    DIM: tl.constexpr,
    VALUE_DIM: tl.constexpr,
    BLOCK_M: tl.constexpr,
    BLOCK_N: tl.constexpr,
    BLOCK_D: tl.constexpr,
    BLOCK_V: tl.constexpr,
    CAUSAL: tl.constexpr,
    HAS_WINDOW: tl.constexpr,
    HAS_START: tl.constexpr,
    HAS_LENS: tl.constexpr,
    BIAS: tl.constexpr,
    ALIBI: tl.constexpr,
    MODE: tl.constexpr,
    PRECISION: tl.constexpr,
    INTERPRET: tl.constexpr,
):
    """Gradients of keys and values. Grid: (tiles of keys, key heads, batch). The first keys are seen by most rows."""
    tile, kv_head, batch = tl.program_id(0), tl.program_id(1), tl.program_id(2)
    far = batch.to(tl.int64)
    begin = tile * BLOCK_N
    keys, dims, value_dims = begin + tl.arange(0, BLOCK_N), tl.arange(0, BLOCK_D), tl.arange(0, BLOCK_V)
    k = load_tile(k_ptr + far * stride_kb + kv_head * stride_kh, keys, stride_kn, dims, num_keys, DIM)
    v = load_tile(v_ptr + far * stride_vb + kv_head * stride_vh, keys, stride_vn, value_dims, num_keys, VALUE_DIM)
    length = num_keys
    if HAS_LENS:
        length = tl.minimum(tl.load(kv_lens + batch), num_keys)
    shift = num_keys - num_queries
    starts = row_start + far * num_queries
    end = tl.minimum(begin + BLOCK_N, num_keys) - 1
    low, body_low, body_high, high = row_ranges(
        begin,
        end,
        shift,
        num_queries,
        length,
        window,
        row_end + far * num_keys,
        BLOCK_M,
        CAUSAL,
        HAS_WINDOW,
        HAS_START,
        HAS_LENS,
    )
    dk = tl.zeros([BLOCK_N, BLOCK_D], dtype=tl.float32)
    dv = tl.zeros([BLOCK_N, BLOCK_V], dtype=tl.float32)
    for part in tl.static_range(3):
        if part == 1 or (part == 0 and CAUSAL) or (part == 2 and (HAS_WINDOW or HAS_START or HAS_LENS)):
            at = low if part == 0 else body_low if part == 1 else body_high
            until = body_low if part == 0 else body_high if part == 1 else high
            dk, dv = _add_key_gradients(
                dk,
                dv,
                k,
                v,
                keys,
                at,
                until,
                q_ptr + far * stride_qb,
                grad_ptr + far * stride_gb,
                bias,
                slopes,
                starts,
                stride_qh,
                stride_qm,
                stride_gh,
                stride_gm,
                scale,
                constant,
                batch,
                kv_head * GROUP,
                shift,
                length,
                num_queries,
                window,
                GROUP,
                DIM,
                VALUE_DIM,
                BLOCK_M,
                BLOCK_D,
                BLOCK_V,
                part != 1,
                CAUSAL,
                HAS_WINDOW,
                HAS_START,
                BIAS,
                ALIBI,
                MODE,
                PRECISION,
                INTERPRET,
            )
    base = dk_ptr + far * stride_dkb + kv_head * stride_dkh
    store_tile(base, keys, stride_dkn, dims, num_keys, DIM, dk * grad_scale)
    store_tile(dv_ptr + far * stride_dvb + kv_head * stride_dvh, keys, stride_dvn, value_dims, num_keys, VALUE_DIM, dv)
