"""One attention call, checked and in one form: what every backend is handed."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Literal, TypeAlias

import torch
from torch import Tensor

from rlstab.errors import UserError, suggest
from rlstab.kernels.sigmoid_attention.checks import (
    MAX_HEAD_DIM,
    check_flag,
    check_index,
    check_is_tensor,
    check_real_type,
    check_scores,
    check_window,
)
from rlstab.kernels.sigmoid_attention.masks import Intervals, rows_that_see, visible_intervals
from rlstab.kernels.sigmoid_attention.transforms import readable

Layout: TypeAlias = Literal["bthd", "bhtd"]
Bias: TypeAlias = "float | Tensor | Literal['count']"
SigmoidMode: TypeAlias = Literal["auto", "exact", "newton", "tanh"]
Precision: TypeAlias = Literal["ieee", "tf32x3", "tf32"]

Gradients: TypeAlias = tuple[Tensor | None, Tensor | None, Tensor | None, Tensor | None, Tensor | None]
"""Of q, k, v, the bias and the slopes."""


@dataclass(frozen=True)
class Problem:
    """Tensors as ``(B, H, T, d)`` views, and what acts on their scores.

    Parameters
    ----------
    q, k, v
        ``(B, Hq, m, d)``, ``(B, Hkv, n, d)``, ``(B, Hkv, n, dv)`` with ``Hq`` a multiple of ``Hkv``.
    scale
        Factor of the scores.
    bias
        Added to the scores: a number, ``(Hq,)``, ``(B, m)``, or ``"count"``: minus the logarithm of the number of keys
        that the row sees.
    alibi_slopes
        ``(Hq,)``: every score gets ``-slope * |distance|``.
    causal, window, row_start, row_end, kv_lens, sigmoid_mode, precision
        See `rlstab.kernels.sigmoid_attention.sigmoid_attention`.
    """

    q: Tensor
    k: Tensor
    v: Tensor
    scale: float
    bias: Bias = 0.0
    alibi_slopes: Tensor | None = None
    causal: bool = False
    window: int | None = None
    row_start: Tensor | None = None
    row_end: Tensor | None = None
    kv_lens: Tensor | None = None
    sigmoid_mode: SigmoidMode = "auto"
    precision: Precision = "ieee"
    deterministic: bool = True
    """Whether gradients have to be the same to the last digit each time."""
    specialised: bool = False
    """Whether the forward pass is the warp-specialised kernel's, rather than chosen by its sizes."""

    @property
    def bias_tensor(self) -> Tensor | None:
        """The bias, if it is a tensor."""
        return self.bias if isinstance(self.bias, Tensor) else None

    def with_tensors(self, q: Tensor, k: Tensor, v: Tensor, bias: Tensor | None, slopes: Tensor | None) -> Problem:
        """The same problem on other tensors; ``bias`` counts only where this one's is a tensor."""
        kept = self.bias if bias is None else bias
        return replace(self, q=q, k=k, v=v, bias=kept, alibi_slopes=slopes)

    def detached(self) -> Problem:
        """The same problem, without the graph that its tensors come from."""
        bias, slopes = self.bias_tensor, self.alibi_slopes
        return self.with_tensors(
            self.q.detach(),
            self.k.detach(),
            self.v.detach(),
            None if bias is None else bias.detach(),
            None if slopes is None else slopes.detach(),
        )

    @property
    def group(self) -> int:
        """Query heads that share a key head."""
        return self.q.shape[1] // self.k.shape[1]

    def intervals(self) -> Intervals:
        """Keys that each row sees."""
        return visible_intervals(
            self.q.shape[2],
            self.k.shape[2],
            causal=self.causal,
            window=self.window,
            row_start=self.row_start,
            kv_lens=self.kv_lens,
            device=self.q.device,
        )

    def row_bias(self, intervals: Intervals, dtype: torch.dtype) -> Tensor:
        """The bias as a tensor that broadcasts against ``(B, Hq, m, 1)``."""
        if isinstance(self.bias, Tensor):
            bias = self.bias.to(dtype)
            return bias[None, :, None, None] if bias.ndim == 1 else bias[:, None, :, None]
        if self.bias == "count":
            # A row that sees nothing has no score to add it to.
            return -intervals.count().clamp(min=1).to(dtype).log()[:, None, :, None]
        return torch.tensor(float(self.bias), dtype=dtype, device=self.q.device)

    def distances(self, begin: int, end: int) -> Tensor:
        """Distance in steps between each query and the keys ``begin`` to ``end - 1``: ``(m, end - begin)``, int64."""
        queries = torch.arange(self.q.shape[2], device=self.q.device) + (self.k.shape[2] - self.q.shape[2])
        return (queries[:, None] - torch.arange(begin, end, device=self.q.device)).abs()


def make_problem(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    *,
    scale: float | None,
    bias: Bias | None,
    causal: bool,
    window: int | None,
    row_start: Tensor | None,
    row_end: Tensor | None,
    kv_lens: Tensor | None,
    alibi_slopes: Tensor | None,
    layout: Layout,
) -> Problem:
    """Check the arguments of a call and bring them into one form.

    Shapes and types are checked always; what integer tensors hold only on a CPU, as a GPU would have to be waited for.

    Raises
    ------
    UserError
        An argument does not fit; the message names it.
    """
    if layout not in ("bthd", "bhtd"):
        raise UserError(f"layout is '{layout}', it must be 'bthd' or 'bhtd'{suggest(str(layout), ('bthd', 'bhtd'))}")
    for name, tensor in (("q", q), ("k", k), ("v", v)):
        _check_tensor(name, tensor, q)
    if layout == "bthd":
        q, k, v = q.transpose(1, 2), k.transpose(1, 2), v.transpose(1, 2)
    _check_shapes(q, k, v)
    batch, heads, num_queries, dim = q.shape
    num_keys = k.shape[2]
    causal, window = check_flag("causal", causal), check_window(window)
    if window is not None and not causal:
        raise UserError("window needs causal=True: it holds the newest keys, the query's own included")
    if causal and num_queries > num_keys:
        raise UserError(f"causal attention needs at least as many keys as queries, got {num_keys} and {num_queries}")
    if row_start is not None:
        if not causal or num_queries != num_keys:
            raise UserError("row_start needs causal=True and as many keys as queries")
        check_index("row_start", row_start, (batch, num_queries), q)
        _check_starts(row_start)
    if row_end is not None:
        if row_start is None:
            raise UserError("row_end goes with row_start: use both as segments_to_rows gives them")
        check_index("row_end", row_end, (batch, num_keys), q)
        _check_ends(row_end, row_start)
    if kv_lens is not None:
        check_index("kv_lens", kv_lens, (batch,), q)
        _check_lengths(kv_lens, num_keys)
    check_scores(scale, bias, alibi_slopes, q, heads, (batch, num_queries))
    return Problem(
        q,
        k,
        v,
        scale=1.0 / math.sqrt(dim) if scale is None else float(scale),
        bias=0.0 if bias is None else bias,
        alibi_slopes=alibi_slopes,
        causal=causal,
        window=window,
        row_start=row_start,
        row_end=row_end,
        kv_lens=kv_lens,
    )


def _check_tensor(name: str, tensor: Tensor, q: Tensor) -> None:
    check_is_tensor(name, tensor)
    if tensor.ndim != 4:
        raise UserError(f"{name} must have four axes (see layout), got shape {tuple(tensor.shape)}")
    check_real_type(name, tensor)
    if tensor.dtype != q.dtype:
        raise UserError(f"{name} is {tensor.dtype} and q is {q.dtype}: give all three one dtype")
    if tensor.device != q.device:
        raise UserError(f"{name} is on {tensor.device} and q on {q.device}: move all three to one device")


def _check_shapes(q: Tensor, k: Tensor, v: Tensor) -> None:
    (batch, heads, _, dim), (kv_heads, num_keys) = q.shape, k.shape[1:3]
    if k.shape[0] != batch or v.shape[0] != batch:
        raise UserError(f"q, k and v must have one batch size, got {batch}, {k.shape[0]} and {v.shape[0]}")
    if k.shape[3] != dim:
        raise UserError(f"q and k must have one head dimension, got {dim} and {k.shape[3]}")
    if v.shape[1] != kv_heads or v.shape[2] != num_keys:
        raise UserError(
            f"k and v must have the same heads and length, got {kv_heads} x {num_keys} and {v.shape[1]} x {v.shape[2]}"
        )
    for name, size in (("q and k", dim), ("v", v.shape[3])):
        if not 1 <= size <= MAX_HEAD_DIM:
            raise UserError(f"the head dimension of {name} is {size}, it must lie between 1 and {MAX_HEAD_DIM}")
    if kv_heads == 0 or heads % kv_heads or heads == 0:
        raise UserError(f"the heads of q must be a multiple of those of k, got {heads} and {kv_heads}")


def _check_starts(row_start: Tensor) -> None:
    if not readable(row_start) or not row_start.numel():
        return
    rows = torch.arange(row_start.shape[1], dtype=row_start.dtype)
    if bool(((row_start < 0) | (row_start > rows)).any()):
        raise UserError("row_start must be from 0 to the number of its row: use what segments_to_rows gives")
    if bool((row_start[:, 1:] < row_start[:, :-1]).any()):
        raise UserError("row_start must not fall from one row to the next: use what segments_to_rows gives")


def _check_ends(row_end: Tensor, row_start: Tensor) -> None:
    if readable(row_end) and readable(row_start) and not bool((row_end == rows_that_see(row_start)).all()):
        raise UserError("row_end must be the last row that sees each key: use row_start and row_end of one call")


def _check_lengths(kv_lens: Tensor, num_keys: int) -> None:
    if not readable(kv_lens):
        return
    wrong = kv_lens[(kv_lens < 0) | (kv_lens > num_keys)]
    if wrong.numel():
        raise UserError(f"kv_lens must be from 0 to {num_keys}, the number of keys, got {int(wrong[0])}")
