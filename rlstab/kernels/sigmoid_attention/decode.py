"""Attention of one new step at a time, over a ring buffer of the newest steps."""

from __future__ import annotations

import importlib.util
import math
from typing import Literal, TypeAlias

import torch
from torch import Tensor

from rlstab.errors import UserError
from rlstab.kernels.sigmoid_attention.checks import (
    check_choice,
    check_is_tensor,
    check_real_type,
    check_scores,
    check_whole,
)
from rlstab.kernels.sigmoid_attention.problem import Bias
from rlstab.kernels.sigmoid_attention.ring_cache import RingCache, check_ring, slot_ages
from rlstab.kernels.sigmoid_attention.transforms import as_autocast_does, without_autocast

StepBackend: TypeAlias = Literal["auto", "eager", "triton"]


def sigmoid_attention_decode(
    q: Tensor,
    k_cache: Tensor,
    v_cache: Tensor,
    count: Tensor,
    *,
    scale: float | None = None,
    bias: Bias | None = "count",
    alibi_slopes: Tensor | None = None,
) -> Tensor:
    """Attend from the newest step to all that a ring buffer holds, itself included.

    Equal to the row of `sigmoid_attention` for that step with a window of the buffer's length and the episode's
    beginning in ``row_start``.

    Parameters
    ----------
    q
        ``(B, Hq, d)``.
    k_cache, v_cache
        ``(B, Hkv, W, d)``, ``(B, Hkv, W, dv)``, the newest step written.
    count
        ``(B,)``: steps written since the episode began, the newest included. Zero: the output is zero. Negative ones
        are refused on a CPU; a GPU would have to be waited for.
    scale
        Default ``1 / sqrt(d)``.
    bias
        ``"count"``, a number, or ``(Hq,)``. A bias a row is a number for each environment, ``(B, 1)``. ``None``: zero.
    alibi_slopes
        ``(Hq,)``.

    Returns
    -------
    Tensor
        ``(B, Hq, dv)``, in the dtype of ``q``; that of autocast where it is at work, as in `sigmoid_attention`.

    Raises
    ------
    UserError
        An argument does not fit.
    """
    _check(q, k_cache, v_cache, count, scale, bias, alibi_slopes)
    (q,) = as_autocast_does(q)
    with without_autocast(q.device):
        return _decode(q, k_cache, v_cache, count, scale, bias, alibi_slopes)


def _decode(
    q: Tensor,
    k_cache: Tensor,
    v_cache: Tensor,
    count: Tensor,
    scale: float | None,
    bias: Bias | None,
    alibi_slopes: Tensor | None,
) -> Tensor:
    scores, written = _scores(q, k_cache, count, scale, alibi_slopes)
    scores = scores + _bias(bias, count, k_cache.shape[2], scores.dtype)
    weights = torch.where(written, torch.sigmoid(scores), 0.0)
    return _sum_of_values(weights, written, v_cache).to(q.dtype)


@torch.no_grad()
def sigmoid_attention_step(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    cache: RingCache,
    *,
    scale: float | None = None,
    bias: Bias | None = "count",
    alibi_slopes: Tensor | None = None,
    backend: StepBackend = "auto",
    parts: int | None = None,
) -> Tensor:
    """Write one step into a ring buffer and attend from it: `RingCache.write` and `sigmoid_attention_decode` in one.

    On a GPU a single kernel does both, or two where there are few environments. It changes the cache, takes no
    gradients, and can be captured in a CUDA graph.

    Parameters
    ----------
    q, k, v
        ``(B, Hq, d)``, ``(B, Hkv, d)``, ``(B, Hkv, dv)``.
    cache
        The buffer; call its ``begin`` first where an episode begins.
    scale, bias, alibi_slopes
        As for `sigmoid_attention_decode`.
    backend
        ``"auto"``, ``"eager"`` or ``"triton"``.
    parts
        Among how many programs at most the kernel divides the keys of an environment's head, whose sums are then added
        in a fixed order. ``None``: as many as it takes to have two programs a multiprocessor. Plain operations have
        none.

    Returns
    -------
    Tensor
        ``(B, Hq, dv)``, in the dtype of ``q``.

    Raises
    ------
    UserError
        An argument does not fit.
    """
    q, k, v = _checked_step(q, k, v, cache, scale, bias, alibi_slopes)
    check_choice("backend", backend, ("auto", "eager", "triton"))
    if parts is not None:
        parts = check_whole("parts", parts, 1)
    on_gpu = q.device.type == "cuda" and q.dtype != torch.float64
    if backend == "triton" or (backend == "auto" and on_gpu and importlib.util.find_spec("triton") is not None):
        from rlstab.kernels.sigmoid_attention import launch_decode

        if not on_gpu and not launch_decode.interpreting():
            raise UserError(f"backend 'triton' needs a GPU and no float64, q is {q.dtype} on {q.device}: use 'auto'")
        factor = q.shape[2] ** -0.5 if scale is None else scale
        return launch_decode.step(q, k, v, cache, factor, bias, alibi_slopes, parts)
    cache.write_checked(k, v)
    with without_autocast(q.device):
        return _decode(q, cache.k, cache.v, cache.count, scale, bias, alibi_slopes)


def softmax_attention_decode(
    q: Tensor,
    k_cache: Tensor,
    v_cache: Tensor,
    count: Tensor,
    *,
    scale: float | None = None,
    bias: Bias | None = None,
    alibi_slopes: Tensor | None = None,
) -> Tensor:
    """Do as `sigmoid_attention_decode` with softmax weights, to which a bias of a row or a head makes no difference.

    Returns
    -------
    Tensor
        ``(B, Hq, dv)``; zero where nothing was written.

    Raises
    ------
    UserError
        An argument does not fit.
    """
    _check(q, k_cache, v_cache, count, scale, bias, alibi_slopes)
    (q,) = as_autocast_does(q)
    with without_autocast(q.device):
        return _softmax_decode(q, k_cache, v_cache, count, scale, alibi_slopes)


@torch.no_grad()
def softmax_attention_step(
    q: Tensor, k: Tensor, v: Tensor, cache: RingCache, *, alibi_slopes: Tensor | None = None
) -> Tensor:
    """Do as `sigmoid_attention_step` with softmax weights, by plain operations."""
    q, k, v = _checked_step(q, k, v, cache, None, None, alibi_slopes)
    cache.write_checked(k, v)
    with without_autocast(q.device):
        return _softmax_decode(q, cache.k, cache.v, cache.count, None, alibi_slopes)


def _softmax_decode(
    q: Tensor, k_cache: Tensor, v_cache: Tensor, count: Tensor, scale: float | None, alibi_slopes: Tensor | None
) -> Tensor:
    scores, written = _scores(q, k_cache, count, scale, alibi_slopes)
    # Rows without any key would be 0/0.
    weights = torch.where(written, scores, float("-inf")).softmax(2).nan_to_num(0.0)
    return _sum_of_values(weights, written, v_cache).to(q.dtype)


def _scores(
    q: Tensor, k_cache: Tensor, count: Tensor, scale: float | None, slopes: Tensor | None
) -> tuple[Tensor, Tensor]:
    """Scores ``(B, Hq, W)`` without bias, and which slots were written, ``(B, 1, W)``."""
    batch, heads, dim = q.shape
    kv_heads, window = k_cache.shape[1:3]
    dtype = torch.promote_types(q.dtype, torch.float32)
    ages, written = slot_ages(count, window)
    queries = q.to(dtype).reshape(batch, kv_heads, heads // kv_heads, dim)
    scores = (queries @ k_cache.to(dtype).transpose(2, 3)).reshape(batch, heads, window)
    scores = scores * (1.0 / math.sqrt(dim) if scale is None else scale)
    if slopes is not None:
        scores = scores - slopes.to(dtype)[:, None] * ages[:, None].to(dtype)
    return scores, written[:, None]


def _sum_of_values(weights: Tensor, written: Tensor, v_cache: Tensor) -> Tensor:
    batch, kv_heads, window, dim = v_cache.shape
    # What was never written may hold anything, NaN included.
    values = torch.where(written[..., None], v_cache.to(weights.dtype), 0.0)
    heads = weights.shape[1]
    out = weights.view(batch, kv_heads, heads // kv_heads, window) @ values
    return out.view(batch, heads, dim)


def _bias(bias: Bias | None, count: Tensor, window: int, dtype: torch.dtype) -> Tensor | float:
    """Broadcasts against ``(B, Hq, W)``."""
    if bias is None:
        return 0.0
    if isinstance(bias, Tensor):
        return bias.to(dtype)[:, None] if bias.ndim == 1 else bias.to(dtype)[:, :, None]
    if isinstance(bias, str):
        return -count.clamp(1, window).to(dtype).log()[:, None, None]
    return float(bias)


def _checked_step(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    cache: RingCache,
    scale: float | None,
    bias: Bias | None,
    alibi_slopes: Tensor | None,
) -> tuple[Tensor, ...]:
    """Refuse what does not fit, before anything is written; queries, keys and values as autocast has them."""
    if not isinstance(cache, RingCache):  # pyright: ignore[reportUnnecessaryIsInstance]
        raise UserError(f"cache must be a RingCache, got {type(cache).__name__}: make one with RingCache.empty")
    _check(q, cache.k, cache.v, cache.count, scale, bias, alibi_slopes)
    given = as_autocast_does(q, k, v)
    cache.check_new(*given[1:])
    return given


def _check(
    q: Tensor,
    k_cache: Tensor,
    v_cache: Tensor,
    count: Tensor,
    scale: float | None,
    bias: Bias | None,
    alibi_slopes: Tensor | None,
) -> None:
    check_is_tensor("q", q)
    if q.ndim != 3:
        raise UserError(f"q must have shape (B, Hq, d), got {tuple(q.shape)}")
    check_real_type("q", q)
    check_ring(k_cache, v_cache, count, q)
    batch, heads, dim = q.shape
    kv_heads = k_cache.shape[1]
    if k_cache.shape[3] != dim:
        raise UserError(f"q {tuple(q.shape)} and k_cache {tuple(k_cache.shape)} do not fit together: dimensions differ")
    if heads == 0 or heads % kv_heads:
        raise UserError(f"the heads of q must be a multiple of those of the cache, got {heads} and {kv_heads}")
    check_scores(scale, bias, alibi_slopes, q, heads, (batch, 1))
