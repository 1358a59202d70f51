# Triton's language is not Python's: pyright sees the host's types of what the kernels call.
# pyright: basic, reportArgumentType=false, reportCallIssue=false, reportGeneralTypeIssues=false
# pyright: reportOperatorIssue=false
"""Short windows: one program owns all scores of a head.

Everything is read once and written once. The backward pass makes all five products in one program, without atomics, so
that it is deterministic; its programs own a key head and go through the query heads that share it.
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
    """Grid: (query heads, batch)."""
    head, batch = tl.program_id(0), tl.program_id(1)
    far, kv_head = batch.to(tl.int64), head // GROUP
    rows, keys = tl.arange(0, BLOCK_M), tl.arange(0, BLOCK_N)
    dims, value_dims = tl.arange(0, BLOCK_D), tl.arange(0, BLOCK_V)
    q = load_tile(q_ptr + far * stride_qb + head * stride_qh, rows, stride_qm, dims, num_queries, DIM)
    k = load_tile(k_ptr + far * stride_kb + kv_head * stride_kh, keys, stride_kn, dims, num_keys, DIM)
    v = load_tile(v_ptr + far * stride_vb + kv_head * stride_vh, keys, stride_vn, value_dims, num_keys, VALUE_DIM)
    length = num_keys
    if HAS_LENS:
        length = tl.minimum(tl.load(kv_lens + batch), num_keys)
    # Rows beyond the end are computed as the last one, and not stored.
    row = tl.minimum(rows, num_queries - 1)
    position = row + (num_keys - num_queries)
    first = first_key(row, position, window, row_start + far * num_queries, HAS_WINDOW, HAS_START)
    last = last_key(position, length, CAUSAL)
    offset = row_offset(bias, constant, batch, head, row, num_queries, BIAS)
    slope = slope_of(slopes, head, ALIBI)
    z = scores(q, k, scale, offset, slope, position, keys, ALIBI, PRECISION, INTERPRET)
    p = sigmoid(z, visible_keys(first, last)[:, None], MODE, BIAS, INTERPRET)
    # Keys beyond the end have zero values: they need no mask.
    if CAUSAL or HAS_LENS:
        p = tl.where((keys[None, :] >= first[:, None]) & (keys[None, :] <= last[:, None]), p, 0.0)
    out = product(p.to(v.dtype), v, PRECISION, INTERPRET)
    base = out_ptr + far * stride_ob + head * stride_oh
    store_tile(base, rows, stride_om, value_dims, num_queries, VALUE_DIM, out)


@triton.jit
def backward_kernel(
    q_ptr,
    k_ptr,
    v_ptr,
    grad_ptr,
    dq_ptr,
    dk_ptr,
    dv_ptr,
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
    BIAS_GRAD: tl.constexpr,
    SLOPES_GRAD: tl.constexpr,
    MODE: tl.constexpr,
    PRECISION: tl.constexpr,
    INTERPRET: tl.constexpr,
):
    """Grid: (key heads, batch). ``dbias`` is ``(B, Hq, m)``, ``dslopes`` ``(B, Hq)``; the host sums over the rest."""
    kv_head, batch = tl.program_id(0), tl.program_id(1)
    far = batch.to(tl.int64)
    rows, keys = tl.arange(0, BLOCK_M), tl.arange(0, BLOCK_N)
    dims, value_dims = tl.arange(0, BLOCK_D), tl.arange(0, BLOCK_V)
    length = num_keys
    if HAS_LENS:
        length = tl.minimum(tl.load(kv_lens + batch), num_keys)
    row = tl.minimum(rows, num_queries - 1)
    position = row + (num_keys - num_queries)
    first = first_key(row, position, window, row_start + far * num_queries, HAS_WINDOW, HAS_START)
    last = last_key(position, length, CAUSAL)
    dk = tl.zeros([BLOCK_N, BLOCK_D], dtype=tl.float32)
    dv = tl.zeros([BLOCK_N, BLOCK_V], dtype=tl.float32)
    for member in tl.range(0, GROUP, disable_licm=True):
        head = kv_head * GROUP + member
        # Read anew for each head: kept through all of them, in the orders that the products want, they spill.
        k = load_tile(k_ptr + far * stride_kb + kv_head * stride_kh, keys, stride_kn, dims, num_keys, DIM)
        v = load_tile(v_ptr + far * stride_vb + kv_head * stride_vh, keys, stride_vn, value_dims, num_keys, VALUE_DIM)
        q = load_tile(q_ptr + far * stride_qb + head * stride_qh, rows, stride_qm, dims, num_queries, DIM)
        base = grad_ptr + far * stride_gb + head * stride_gh
        grad = load_tile(base, rows, stride_gm, value_dims, num_queries, VALUE_DIM)
        offset = row_offset(bias, constant, batch, head, row, num_queries, BIAS)
        slope = slope_of(slopes, head, ALIBI)
        # Queries along the rows, as in the forward pass: what a row sees is a few numbers a thread, not a whole vector.
        z = scores(q, k, scale, offset, slope, position, keys, ALIBI, PRECISION, INTERPRET)
        p = sigmoid(z, visible_keys(first, last)[:, None], MODE, BIAS, INTERPRET)
        if CAUSAL or HAS_LENS:
            p = tl.where((keys[None, :] >= first[:, None]) & (keys[None, :] <= last[:, None]), p, 0.0)
        dv += product(tl.trans(p.to(grad.dtype)), grad, PRECISION, INTERPRET)
        t = p * product(grad, tl.trans(v), PRECISION, INTERPRET)
        # P (1 - P) G; zero for rows and keys beyond the end, whose gradients and values are zero.
        ds = tl.fma(-p, t, t)
        entry = far * tl.num_programs(0) * GROUP + head
        if BIAS_GRAD:
            tl.store(dbias_ptr + entry * num_queries + rows, tl.sum(ds, axis=1), mask=rows < num_queries)
        if SLOPES_GRAD:
            distance = tl.abs(position[:, None] - keys[None, :]).to(tl.float32)
            tl.store(dslopes_ptr + entry, 0.0 - tl.sum(ds * distance))
        ds = ds.to(k.dtype)
        dq = product(ds, k, PRECISION, INTERPRET) * grad_scale
        store_tile(dq_ptr + far * stride_dqb + head * stride_dqh, rows, stride_dqm, dims, num_queries, DIM, dq)
        dk += product(tl.trans(ds), q, PRECISION, INTERPRET)
    base = dk_ptr + far * stride_dkb + kv_head * stride_dkh
    store_tile(base, keys, stride_dkn, dims, num_keys, DIM, dk * grad_scale)
    store_tile(dv_ptr + far * stride_dvb + kv_head * stride_dvh, keys, stride_dvn, value_dims, num_keys, VALUE_DIM, dv)
