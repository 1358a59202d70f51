"""Sequences of different lengths, packed one behind the other."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from rlstab.errors import UserError, suggest
from rlstab.kernels.sigmoid_attention.attention import sigmoid_attention
from rlstab.kernels.sigmoid_attention.checks import check_flag, check_is_tensor, check_window

_OPTIONS = ("scale", "bias", "alibi_slopes", "backend", "sigmoid_mode", "precision", "deterministic")


def sigmoid_attention_varlen(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    cu_seqlens: Tensor,
    *,
    causal: bool = False,
    window: int | None = None,
    **options: Any,
) -> Tensor:
    """Attend within each of several sequences that share one axis.

    Parameters
    ----------
    q, k, v
        ``(N, Hq, d)``, ``(N, Hkv, d)``, ``(N, Hkv, dv)``: all steps of all sequences.
    cu_seqlens
        ``(S + 1,)`` integers from 0 to ``N``, non-decreasing: sequence ``s`` takes the steps ``cu_seqlens[s]`` to
        ``cu_seqlens[s + 1] - 1``.
    causal, window
        As for `sigmoid_attention`.
    **options
        The others of `sigmoid_attention` that do not name rows: scale, bias (``"count"``, a number, a vector of heads
        or ``None``), alibi_slopes, backend, sigmoid_mode, precision, deterministic.

    Returns
    -------
    Tensor
        ``(N, Hq, dv)``.

    Raises
    ------
    UserError
        An argument does not fit.
    """
    causal, window = check_flag("causal", causal), check_window(window)
    if window is not None and not causal:
        raise UserError("window needs causal=True: it holds the newest keys, the query's own included")
    _check_options(options)
    _check_packed(q, k, v, cu_seqlens)
    bounds = cu_seqlens.to(torch.int64)
    lengths = bounds.diff()
    if not causal:
        # Every row sees its whole sequence: padded, since the kernels' intervals end at the row or at one length.
        longest = int(lengths.max()) if len(lengths) else 0
        where = torch.arange(longest, device=q.device)[None] < lengths[:, None]
        padded = [_pad(tensor, where) for tensor in (q, k, v)]
        out = sigmoid_attention(*padded, kv_lens=lengths, **options)
        return out[where]
    sequence = torch.repeat_interleave(torch.arange(len(lengths), device=q.device), lengths)
    start = bounds[:-1][sequence]
    steps = torch.arange(len(q), device=q.device)
    if window is not None:
        start = torch.maximum(start, steps - (window - 1))
    row_start = start.to(torch.int32)[None]
    return sigmoid_attention(q[None], k[None], v[None], causal=True, row_start=row_start, **options)[0]


def _check_options(options: dict[str, Any]) -> None:
    for name in options:
        if name not in _OPTIONS:
            raise UserError(
                f"{name} is no option of packed sequences, they are {', '.join(_OPTIONS)}{suggest(name, _OPTIONS)}"
            )
    bias = options.get("bias")
    if isinstance(bias, Tensor) and bias.ndim != 1:
        raise UserError(f"bias must have shape (Hq,) for packed sequences, got {tuple(bias.shape)}")


def _check_packed(q: Tensor, k: Tensor, v: Tensor, cu_seqlens: Tensor) -> None:
    for name, tensor in (("q", q), ("k", k), ("v", v), ("cu_seqlens", cu_seqlens)):
        check_is_tensor(name, tensor)
        if tensor.device != q.device:
            raise UserError(f"{name} is on {tensor.device} and q on {q.device}: move all to one device")
    total = q.shape[0] if q.ndim == 3 else -1
    if q.ndim != 3 or k.ndim != 3 or v.ndim != 3 or k.shape[0] != total or v.shape[0] != total:
        shapes = f"{tuple(q.shape)}, {tuple(k.shape)} and {tuple(v.shape)}"
        raise UserError(f"q, k and v must have shape (N, H, d) with the same N, got {shapes}")
    if cu_seqlens.ndim != 1 or cu_seqlens.dtype not in (torch.int32, torch.int64) or len(cu_seqlens) < 2:
        given = f"{tuple(cu_seqlens.shape)} {cu_seqlens.dtype}"
        raise UserError(f"cu_seqlens must be a vector of at least two int32 or int64, got {given}")
    if cu_seqlens.is_meta:
        raise UserError("cu_seqlens has no values on meta, and the sequences follow from them: use another device")
    if int(cu_seqlens[0]) != 0 or int(cu_seqlens[-1]) != total or bool((cu_seqlens.diff() < 0).any()):
        raise UserError(f"cu_seqlens must rise from 0 to {total}, the steps of q")


def _pad(tensor: Tensor, where: Tensor) -> Tensor:
    padded = tensor.new_zeros(*where.shape, *tensor.shape[1:])
    padded[where] = tensor
    return padded
