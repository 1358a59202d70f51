# Triton's language is not Python's: pyright sees the host's types of what the kernels call.
# pyright: basic, reportArgumentType=false, reportCallIssue=false, reportGeneralTypeIssues=false
# pyright: reportOperatorIssue=false
"""Any length: programs own a tile of rows (or keys) and go through the tiles of keys (or rows) that it can see.

Visible keys are an interval, so a loop has three parts: tiles that some rows see from some key on, tiles that all rows
see whole, and tiles that some rows see up to some key. Only the first and the last part compare positions, and tiles
that no row sees are never visited. Zeros beyond the ends need no comparison: a key there has no value, a row no
gradient.
"""

from __future__ import annotations

import triton
import triton.language as tl

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
    visible_keys,
)


@triton.jit
def key_ranges(
    begin,
    end,
    offset,
    length,
    window,
    starts,
    BLOCK_N: tl.constexpr,
    CAUSAL: tl.constexpr,
    HAS_WINDOW: tl.constexpr,
    HAS_START: tl.constexpr,
    HAS_LENS: tl.constexpr,
):
    """Where the three parts of the loop over keys begin and end, for the rows ``begin`` to ``end``, both included."""
    first = first_key(begin, begin + offset, window, starts, HAS_WINDOW, HAS_START)
    first_of_all = first_key(end, end + offset, window, starts, HAS_WINDOW, HAS_START)
    last = last_key(end + offset, length, CAUSAL)
    last_of_all = last_key(begin + offset, length, CAUSAL)
    low = (first // BLOCK_N) * BLOCK_N
    # Nothing is visible where the last key comes before the first.
    high = tl.maximum(((last + BLOCK_N) // BLOCK_N) * BLOCK_N, low)
    body_low = tl.minimum(((first_of_all + BLOCK_N - 1) // BLOCK_N) * BLOCK_N, high)
    body_high = high
    if CAUSAL or HAS_LENS:
        body_high = tl.minimum(tl.maximum(((last_of_all + 1) // BLOCK_N) * BLOCK_N, body_low), high)
    return low, body_low, body_high, high


@triton.jit
def _add_values(
    acc,
    q,
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
    MODE: tl.constexpr,
    PRECISION: tl.constexpr,
    INTERPRET: tl.constexpr,
):
    """Add what the keys ``low`` to ``high - 1`` bring to the output of some rows."""
    dims, value_dims = tl.arange(0, BLOCK_D), tl.arange(0, BLOCK_V)
    for start in tl.range(low, high, BLOCK_N):
        keys = start + tl.arange(0, BLOCK_N)
        k = load_tile(k_base, keys, stride_kn, dims, num_keys, DIM)
        v = load_tile(v_base, keys, stride_vn, value_dims, num_keys, VALUE_DIM)
        z = scores(q, k, scale, offset, slope, position, keys, ALIBI, PRECISION, INTERPRET)
        p = sigmoid(z, visible_keys(first, last)[:, None], MODE, BIAS, INTERPRET)
        if MASKED:
            p = tl.where((keys[None, :] >= first[:, None]) & (keys[None, :] <= last[:, None]), p, 0.0)
        acc += product(p.to(v.dtype), v, PRECISION, INTERPRET)
    return acc


@triton.jit
def forward_kernel(
    q_ptr,
    k_ptr,
    v_ptr,
    out_ptr,
    bias,
    slopes,
    row_start,
    kv_lens,
    scale,
    constant,
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
    stride_ob,
    stride_oh,
    stride_om,
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
    """Grid: (tiles of rows, query heads, batch). The last rows, which see most, come first."""
    tile = tl.num_programs(0) - 1 - tl.program_id(0)
    head, batch = tl.program_id(1), tl.program_id(2)
    far, kv_head = batch.to(tl.int64), head // GROUP
    begin = tile * BLOCK_M
    rows, dims, value_dims = begin + tl.arange(0, BLOCK_M), tl.arange(0, BLOCK_D), tl.arange(0, BLOCK_V)
    q = load_tile(q_ptr + far * stride_qb + head * stride_qh, rows, stride_qm, dims, num_queries, DIM)
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
    acc = tl.zeros([BLOCK_M, BLOCK_V], dtype=tl.float32)
    for part in tl.static_range(3):
        if part == 1 or (part == 0 and (HAS_WINDOW or HAS_START)) or (part == 2 and (CAUSAL or HAS_LENS)):
            at = low if part == 0 else body_low if part == 1 else body_high
            until = body_low if part == 0 else body_high if part == 1 else high
            acc = _add_values(
                acc,
                q,
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
                MODE,
                PRECISION,
                INTERPRET,
            )
    base = out_ptr + far * stride_ob + head * stride_oh
    store_tile(base, rows, stride_om, value_dims, num_queries, VALUE_DIM, acc)
