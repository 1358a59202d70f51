# Triton's language is not Python's: pyright sees the host's types of what the kernels call.
# pyright: basic, reportArgumentType=false, reportCallIssue=false, reportGeneralTypeIssues=false
# pyright: reportOperatorIssue=false
"""Gradients of long sequences by one kernel: five products instead of the seven of `tiled_backward`.

Programs own a tile of keys. What their keys bring to the gradients of the queries they add to a buffer in float32,
whole tiles at a time, by the hardware's own copies (TMA). In which order is up to the hardware, so these gradients
differ from run to run in their last digits. Masks are compared in every tile that is visited: with loops of their own
for tiles that need none, registers spill.
"""

from __future__ import annotations

import triton
import triton.language as tl

from rlstab.kernels.sigmoid_attention.tiled_backward import row_ranges
from rlstab.kernels.sigmoid_attention.triton_common import (
    first_key,
    last_key,
    load_tile,
    product,
    row_offset,
    sigmoid,
    slope_of,
    store_tile,
    transposed_scores,
    visible_keys,
)


# Lengths of sequences are of no use to the compiler here: one program serves all.
@triton.jit(do_not_specialize=["num_queries", "num_keys", "window"])
def gradient_kernel(
    q_ptr,
    k_ptr,
    v_ptr,
    grad_ptr,
    dq_sum_ptr,
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
    BLOCK_M: tl.constexpr,
    BLOCK_N: tl.constexpr,
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
    """Grid: (tiles of keys, key heads, batch). ``dq_sum``: zeros, ``(B, Hq, m, d)`` in float32, without ``scale``."""
    tile, kv_head, batch = tl.program_id(0), tl.program_id(1), tl.program_id(2)
    far = batch.to(tl.int64)
    begin = tile * BLOCK_N
    keys, dims = begin + tl.arange(0, BLOCK_N), tl.arange(0, DIM)
    k = load_tile(k_ptr + far * stride_kb + kv_head * stride_kh, keys, stride_kn, dims, num_keys, DIM)
    v = load_tile(v_ptr + far * stride_vb + kv_head * stride_vh, keys, stride_vn, dims, num_keys, DIM)
    length = num_keys
    if HAS_LENS:
        length = tl.minimum(tl.load(kv_lens + batch), num_keys)
    shift = num_keys - num_queries
    starts = row_start + far * num_queries
    end = tl.minimum(begin + BLOCK_N, num_keys) - 1
    low, _, _, high = row_ranges(
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
    dk = tl.zeros([BLOCK_N, DIM], dtype=tl.float32)
    dv = tl.zeros([BLOCK_N, DIM], dtype=tl.float32)
    for member in range(GROUP):
        head = kv_head * GROUP + member
        q_tiles = tl.make_tensor_descriptor(
            q_ptr + far * stride_qb + head * stride_qh,
            shape=[num_queries, DIM],
            strides=[stride_qm, 1],
            block_shape=[BLOCK_M, DIM],
        )
        grad_tiles = tl.make_tensor_descriptor(
            grad_ptr + far * stride_gb + head * stride_gh,
            shape=[num_queries, DIM],
            strides=[stride_gm, 1],
            block_shape=[BLOCK_M, DIM],
        )
        dq_base = dq_sum_ptr + (far * (tl.num_programs(1) * GROUP) + head) * num_queries * DIM
        dq_tiles = tl.make_tensor_descriptor(
            dq_base, shape=[num_queries, DIM], strides=[DIM, 1], block_shape=[BLOCK_M, DIM]
        )
        slope = slope_of(slopes, head, ALIBI)
        for start in tl.range(low, high, BLOCK_M):
            q = q_tiles.load([start, 0])
            grad = grad_tiles.load([start, 0])
            rows = start + tl.arange(0, BLOCK_M)
            row = tl.minimum(rows, num_queries - 1)
            position = row + shift
            # Dropped by the compiler where neither a mask nor a bias needs them.
            first = first_key(row, position, window, starts, HAS_WINDOW, HAS_START)
            last = last_key(position, length, CAUSAL)
            offset = row_offset(bias, constant, batch, head, row, num_queries, BIAS)
            z = transposed_scores(k, q, scale, offset, slope, position, keys, ALIBI, PRECISION, INTERPRET)
            p = sigmoid(z, visible_keys(first, last)[None, :], MODE, BIAS, INTERPRET)
            # Of 128 dimensions Triton 3.6 spills registers where nothing is compared.
            if CAUSAL or HAS_LENS or DIM > 64:
                visible = keys[:, None] <= last[None, :]
                if HAS_WINDOW or HAS_START:
                    visible = visible & (keys[:, None] >= first[None, :])
                p = tl.where(visible, p, 0.0)
            dv += product(p.to(grad.dtype), grad, PRECISION, INTERPRET)
            t = p * product(v, tl.trans(grad), PRECISION, INTERPRET)
            ds = tl.fma(-p, t, t).to(q.dtype)
            dk += product(ds, q, PRECISION, INTERPRET)
            dq = product(tl.trans(ds), k, PRECISION, INTERPRET)
            if INTERPRET:
                # It knows no sums by descriptors.
                dq_at = dq_base + rows[:, None] * DIM + dims[None, :]
                tl.atomic_add(dq_at, dq, mask=rows[:, None] + 0 * dims[None, :] < num_queries)
            else:
                dq_tiles.atomic_add([start, 0], dq)
    base = dk_ptr + far * stride_dkb + kv_head * stride_dkh
    store_tile(base, keys, stride_dkn, dims, num_keys, DIM, dk * grad_scale)
    store_tile(dv_ptr + far * stride_dvb + kv_head * stride_dvh, keys, stride_dvn, dims, num_keys, DIM, dv)
