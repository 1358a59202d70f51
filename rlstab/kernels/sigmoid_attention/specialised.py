# Triton's language is not Python's: pyright sees the host's types of what the kernels call.
# pyright: basic, reportArgumentType=false, reportCallIssue=false, reportGeneralTypeIssues=false
# pyright: reportOperatorIssue=false
"""Long sequences on Hopper: some warps of a program fetch tiles, the others compute.

The compiler only divides the warps so where a loop is plain: it must be the only one, without branches, and what masks
compare has to be made of numbers rather than read from rows. So there are a constant bias, the causal mask and a window
of constant length, compared in every tile; tiles that no row sees are still never visited. Tiles are described to the
hardware from the beginning of each head, so that what lies beyond a sequence's end is zero when read and dropped when
written, whatever its length.
"""

from __future__ import annotations

import triton
import triton.language as tl

from rlstab.kernels.sigmoid_attention.tiles import BIAS_CONSTANT
from rlstab.kernels.sigmoid_attention.triton_common import product, sigmoid

_CONSTANT = tl.constexpr(BIAS_CONSTANT)


# Lengths of sequences are of no use to the compiler here: one program serves all.
@triton.jit(do_not_specialize=["num_queries", "num_keys", "window"])
def forward_kernel(
    q_ptr,
    k_ptr,
    v_ptr,
    out_ptr,
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
    BLOCK_M: tl.constexpr,
    BLOCK_N: tl.constexpr,
    CAUSAL: tl.constexpr,
    HAS_WINDOW: tl.constexpr,
    MODE: tl.constexpr,
    PRECISION: tl.constexpr,
    INTERPRET: tl.constexpr,
):
    """Grid: (tiles of rows, query heads, batch). The last rows, which see most, come first."""
    tile = tl.num_programs(0) - 1 - tl.program_id(0)
    head, batch = tl.program_id(1), tl.program_id(2)
    far, kv_head = batch.to(tl.int64), head // GROUP
    begin = tile * BLOCK_M
    q_tiles = tl.make_tensor_descriptor(
        q_ptr + far * stride_qb + head * stride_qh,
        shape=[num_queries, DIM],
        strides=[stride_qm, 1],
        block_shape=[BLOCK_M, DIM],
    )
    k_tiles = tl.make_tensor_descriptor(
        k_ptr + far * stride_kb + kv_head * stride_kh,
        shape=[num_keys, DIM],
        strides=[stride_kn, 1],
        block_shape=[BLOCK_N, DIM],
    )
    v_tiles = tl.make_tensor_descriptor(
        v_ptr + far * stride_vb + kv_head * stride_vh,
        shape=[num_keys, DIM],
        strides=[stride_vn, 1],
        block_shape=[BLOCK_N, DIM],
    )
    out_tiles = tl.make_tensor_descriptor(
        out_ptr + far * stride_ob + head * stride_oh,
        shape=[num_queries, DIM],
        strides=[stride_om, 1],
        block_shape=[BLOCK_M, DIM],
    )
    q = q_tiles.load([begin, 0])
    position = begin + tl.arange(0, BLOCK_M) + (num_keys - num_queries)
    low, high = 0, num_keys
    if CAUSAL:
        high = tl.minimum(num_keys, begin + BLOCK_M + (num_keys - num_queries))
    if HAS_WINDOW:
        low = (tl.maximum(begin + (num_keys - num_queries) - window + 1, 0) // BLOCK_N) * BLOCK_N
    acc = tl.zeros([BLOCK_M, DIM], dtype=tl.float32)
    for start in tl.range(low, high, BLOCK_N, warp_specialize=True):
        k = k_tiles.load([start, 0])
        v = v_tiles.load([start, 0])
        z = tl.fma(product(q, tl.trans(k), PRECISION, INTERPRET), scale, constant)
        p = sigmoid(z, 1.0, MODE, _CONSTANT, INTERPRET)
        if CAUSAL:
            keys = start + tl.arange(0, BLOCK_N)
            visible = keys[None, :] <= position[:, None]
            if HAS_WINDOW:
                visible = visible & (keys[None, :] > position[:, None] - window)
            p = tl.where(visible, p, 0.0)
        # Keys beyond the end have zero values: they need no mask.
        acc += product(p.to(v.dtype), v, PRECISION, INTERPRET)
    out_tiles.store([begin, 0], acc.to(out_ptr.dtype.element_ty))
