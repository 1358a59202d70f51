# Triton's language is not Python's: pyright sees the host's types of what the kernels call.
# pyright: basic, reportArgumentType=false, reportCallIssue=false, reportGeneralTypeIssues=false
# pyright: reportOperatorIssue=false
"""Pieces that the kernels share: the sigmoid, and the masks and biases of a tile of scores.

Kernels work on ``z = -log2(e) (scale <q, k> + bias)``, so that the sigmoid is ``1 / (1 + 2^z)``; scale and bias come
from the host already multiplied. Minus the logarithm of the number ``n`` of visible keys is a bias that needs no
logarithm, whose polynomial costs as much as two scores: the sigmoid is ``1 / (1 + n 2^z)`` then.
"""

from __future__ import annotations

import triton
import triton.language as tl

from rlstab.kernels.sigmoid_attention.tiles import BIAS_COUNT, BIAS_HEAD, BIAS_ROW, LOG2E

# Constants of kernels have to be of this type.
_COUNT = tl.constexpr(BIAS_COUNT)
_HEAD = tl.constexpr(BIAS_HEAD)
_ROW = tl.constexpr(BIAS_ROW)
_LOG2E = tl.constexpr(LOG2E)
_MINUS_HALF_LN2 = tl.constexpr(-0.5 / LOG2E)
# Subtracting the bits of a float from this negates its exponent and, roughly, inverts its mantissa.
_RECIPROCAL_SEED = tl.constexpr(0x7EF311C7)


@triton.jit
def sigmoid(z, count, MODE: tl.constexpr, BIAS: tl.constexpr, INTERPRET: tl.constexpr):
    """``1 / (1 + 2^z)``, or ``1 / (1 + count 2^z)`` where the bias is by count.

    ``exact``: an ordinary division, two special-function operations. ``newton``: the reciprocal by an integer seed and
    two Newton steps, one such operation, relative error 7e-6. ``tanh``: the hardware's tanh; its error is absolute.
    """
    if MODE == "newton":
        # Beyond 2^120 the seed would leave the normal numbers; the sigmoid is zero there in any precision. A minimum
        # drops what is not a number, unless it is told otherwise.
        power = tl.exp2(tl.minimum(z, 96.0 if BIAS == _COUNT else 120.0, propagate_nan=tl.PropagateNan.ALL))
        y = tl.fma(power, count, 1.0) if BIAS == _COUNT else 1.0 + power
        r = (-y.to(tl.int32, bitcast=True) + _RECIPROCAL_SEED).to(tl.float32, bitcast=True)
        r = r * tl.fma(-y, r, 2.0)
        return r * tl.fma(-y, r, 2.0)
    elif MODE == "tanh" and not INTERPRET:
        if BIAS == _COUNT:
            z += tl.log2(count)
        half = z * _MINUS_HALF_LN2
        t = tl.inline_asm_elementwise("tanh.approx.f32 $0, $1;", "=r,r", [half], dtype=tl.float32, is_pure=True, pack=1)
        return tl.fma(t, 0.5, 0.5)
    elif BIAS == _COUNT:
        return 1.0 / tl.fma(tl.exp2(z), count, 1.0)
    else:
        return 1.0 / (1.0 + tl.exp2(z))


@triton.jit
def product(a, b, PRECISION: tl.constexpr, INTERPRET: tl.constexpr):
    """Matrix product accumulated in float32. The interpreter multiplies bfloat16 wrongly, and says nothing."""
    if INTERPRET:
        return tl.dot(a.to(tl.float32), b.to(tl.float32), input_precision="ieee")
    else:
        return tl.dot(a, b, input_precision=PRECISION)


@triton.jit
def load_tile(base, rows, stride, columns, num_rows, num_columns):
    """Rows and columns of a matrix with unit stride along the columns; zero beyond its ends."""
    at = base + rows.to(tl.int64)[:, None] * stride + columns[None, :]
    return tl.load(at, mask=(rows < num_rows)[:, None] & (columns < num_columns)[None, :], other=0.0)


@triton.jit
def store_tile(base, rows, stride, columns, num_rows, num_columns, values):
    """The inverse of `load_tile`."""
    at = base + rows.to(tl.int64)[:, None] * stride + columns[None, :]
    tl.store(at, values.to(base.dtype.element_ty), mask=(rows < num_rows)[:, None] & (columns < num_columns)[None, :])


@triton.jit
def first_key(row, position, window, starts, HAS_WINDOW: tl.constexpr, HAS_START: tl.constexpr):
    """The first key that a row (or each of several) sees; ``starts`` points to the rows of the batch entry."""
    first = position * 0
    if HAS_WINDOW:
        first = tl.maximum(first, position - window + 1)
    if HAS_START:
        first = tl.maximum(first, tl.load(starts + row))
    return first


@triton.jit
def last_key(position, length, CAUSAL: tl.constexpr):
    """The last key that a row (or each of several) sees; ``length`` is that of the batch entry."""
    last = position * 0 + (length - 1)
    if CAUSAL:
        last = tl.minimum(last, position)
    return last


@triton.jit
def visible_keys(first, last):
    """How many keys each row sees, and 1 where it sees none, float32."""
    return tl.maximum(last - first + 1, 1).to(tl.float32)


@triton.jit
def row_offset(bias, constant, batch, head, rows, num_queries, BIAS: tl.constexpr):
    """What the bias adds to ``z`` in each row, float32: ``-log2(e) b``. A bias by count adds zero: `sigmoid` has it."""
    if BIAS == _HEAD:
        return tl.zeros(rows.shape, tl.float32) - tl.load(bias + head).to(tl.float32) * _LOG2E
    elif BIAS == _ROW:
        return -tl.load(bias + batch.to(tl.int64) * num_queries + rows).to(tl.float32) * _LOG2E
    else:
        return tl.zeros(rows.shape, tl.float32) + constant


@triton.jit
def scores(
    q,
    k,
    scale,
    offset,
    slope,
    position,
    keys,
    ALIBI: tl.constexpr,
    PRECISION: tl.constexpr,
    INTERPRET: tl.constexpr,
):
    """``z`` of a tile. ``slope`` comes multiplied by ``log2(e)``."""
    z = tl.fma(product(q, tl.trans(k), PRECISION, INTERPRET), scale, offset[:, None])
    if ALIBI:
        z = tl.fma(tl.abs(position[:, None] - keys[None, :]).to(tl.float32), slope, z)
    return z


@triton.jit
def transposed_scores(
    k,
    q,
    scale,
    offset,
    slope,
    position,
    keys,
    ALIBI: tl.constexpr,
    PRECISION: tl.constexpr,
    INTERPRET: tl.constexpr,
):
    """``z`` of a tile with keys along the rows, as the gradients of keys and values multiply it."""
    z = tl.fma(product(k, tl.trans(q), PRECISION, INTERPRET), scale, offset[None, :])
    if ALIBI:
        z = tl.fma(tl.abs(position[None, :] - keys[:, None]).to(tl.float32), slope, z)
    return z


@triton.jit
def slope_of(slopes, head, ALIBI: tl.constexpr):
    """The slope of a head as `scores` takes it."""
    if ALIBI:
        return tl.load(slopes + head).to(tl.float32) * _LOG2E
    else:
        return 0.0
