"""Attention of one new step at a time, over a ring buffer of the newest steps.

The order of the keys in the buffer does not matter to a sum, so nothing is ever moved: the newest step overwrites the
oldest, and an episode begins by setting its count to zero.
"""

from __future__ import annotations

import importlib.util
import math
from dataclasses import dataclass
from typing import Literal, TypeAlias

import numpy as np
import torch
from numpy.typing import ArrayLike
from torch import Tensor

from rlstab.errors import UserError
from rlstab.kernels.sigmoid_attention.problem import Bias, check_is_tensor, check_real_type
from rlstab.kernels.sigmoid_attention.transforms import as_autocast_does, readable, without_autocast

StepBackend: TypeAlias = Literal["auto", "eager", "triton"]


@dataclass
class RingCache:
    """Keys and values of the newest ``window`` steps of each environment.

    Parameters
    ----------
    k, v
        ``(B, Hkv, W, d)`` and ``(B, Hkv, W, dv)``. What lies beyond the count is never read.
    count
        ``(B,)`` int64: steps written since the episode began. Step ``s`` lies in slot ``s % W``.
    """

    k: Tensor
    v: Tensor
    count: Tensor

    @classmethod
    def empty(
        cls,
        batch: int,
        kv_heads: int,
        window: int,
        dim: int,
        value_dim: int | None = None,
        *,
        dtype: torch.dtype = torch.float32,
        device: torch.device | str = "cpu",
    ) -> RingCache:
        """Make room for ``window`` steps.

        Raises
        ------
        UserError
            A size is not positive.
        """
        sizes = {"batch": batch, "kv_heads": kv_heads, "window": window, "dim": dim, "value_dim": value_dim or dim}
        for name, size in sizes.items():
            if size < 1:
                raise UserError(f"{name} must be at least 1, got {size}")
        shape = (batch, kv_heads, window)
        return cls(
            torch.zeros(*shape, dim, dtype=dtype, device=device),
            torch.zeros(*shape, value_dim or dim, dtype=dtype, device=device),
            torch.zeros(batch, dtype=torch.int64, device=device),
        )

    @property
    def window(self) -> int:
        """Steps it holds."""
        return self.k.shape[2]

    def begin(self, episode_start: ArrayLike | Tensor) -> None:
        """Forget everything in the environments where ``episode_start``, ``(B,)`` bool, is true.

        Raises
        ------
        UserError
            It has another shape or type.
        """
        self.count.masked_fill_(episode_starts(episode_start, self.count), 0)

    @torch.no_grad()
    def write(self, k: Tensor, v: Tensor) -> None:
        """Add one step: ``(B, Hkv, d)`` and ``(B, Hkv, dv)``."""
        slot = (self.count % self.window)[:, None, None, None]
        self.k.scatter_(2, slot.expand(-1, self.k.shape[1], 1, self.k.shape[3]), k[:, :, None].to(self.k.dtype))
        self.v.scatter_(2, slot.expand(-1, self.v.shape[1], 1, self.v.shape[3]), v[:, :, None].to(self.v.dtype))
        self.count += 1


def episode_starts(given: ArrayLike | Tensor, like: Tensor) -> Tensor:
    """Check which environments begin an episode, given as a tensor, an array or a list.

    Parameters
    ----------
    given
        ``(B,)`` bool.
    like
        Something with ``B`` entries, on the device where the answer is needed.

    Raises
    ------
    UserError
        It has another shape or type.
    """
    try:
        starts = given if isinstance(given, Tensor) else torch.as_tensor(np.asarray(given), device=like.device)
    except (TypeError, ValueError):
        raise UserError(f"episode_start must be {len(like)} booleans, got {type(given).__name__}") from None
    if starts.dtype != torch.bool or starts.shape != (len(like),):
        raise UserError(
            f"episode_start must be {len(like)} booleans, one an environment, got {tuple(starts.shape)} {starts.dtype}"
        )
    if starts.device != like.device:
        raise UserError(f"episode_start is on {starts.device} and the memory on {like.device}")
    return starts


def slot_ages(count: Tensor, window: int) -> tuple[Tensor, Tensor]:
    """How many steps ago each slot was written, and whether it was written at all.

    Parameters
    ----------
    count
        ``(B,)``: steps written.
    window
        Number of slots.

    Returns
    -------
    ages, written
        ``(B, W)`` int64, zero for the newest; and bool.
    """
    slots = torch.arange(window, device=count.device)
    ages = (count[:, None] - 1 - slots) % window
    return ages, ages < count[:, None]


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
    _check(q, k_cache, v_cache, count)
    _check_count(count)
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
    scores = scores + _bias(bias, count, k_cache.shape[2], q.shape[1], scores.dtype)
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
    _check(q, cache.k, cache.v, cache.count)
    q, k, v = as_autocast_does(q, k, v)
    for name, tensor, stored in (("k", k, cache.k), ("v", v, cache.v)):
        _check_cached(name, tensor, q)
        if tensor.shape != (*stored.shape[:2], stored.shape[3]):
            wanted = (*stored.shape[:2], stored.shape[3])
            raise UserError(f"{name} must have shape {tuple(wanted)} as in the cache, got {tuple(tensor.shape)}")
    _bias(bias, cache.count, cache.window, q.shape[1], torch.float32)  # Refuses what does not fit.
    if backend not in ("auto", "eager", "triton"):
        raise UserError(f"backend is '{backend}', it must be one of auto, eager, triton")
    if parts is not None and parts < 1:
        raise UserError(f"parts must be at least 1, got {parts}")
    on_gpu = q.device.type == "cuda" and q.dtype != torch.float64
    if backend == "triton" or (backend == "auto" and on_gpu and importlib.util.find_spec("triton") is not None):
        from rlstab.kernels.sigmoid_attention import launch_decode

        if not on_gpu and not launch_decode.interpreting():
            raise UserError(f"backend 'triton' needs a GPU and no float64, q is {q.dtype} on {q.device}: use 'auto'")
        factor = q.shape[2] ** -0.5 if scale is None else scale
        return launch_decode.step(q, k, v, cache, factor, bias, alibi_slopes, parts)
    cache.write(k, v)
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
    _check(q, k_cache, v_cache, count)
    _check_count(count)
    (q,) = as_autocast_does(q)
    with without_autocast(q.device):
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
    out = weights.view(batch, kv_heads, -1, window) @ values
    return out.view(batch, -1, dim)


def _bias(bias: Bias | None, count: Tensor, window: int, heads: int, dtype: torch.dtype) -> Tensor | float:
    """Broadcasts against ``(B, Hq, W)``."""
    if bias is None:
        return 0.0
    if isinstance(bias, Tensor):
        if tuple(bias.shape) == (heads,):
            return bias.to(dtype)[:, None]
        if tuple(bias.shape) == (len(count), 1):
            return bias.to(dtype)[:, :, None]
        raise UserError(f"bias must have shape ({heads},) or ({len(count)}, 1), got {tuple(bias.shape)}")
    if isinstance(bias, str):
        if bias != "count":
            raise UserError(f"bias is '{bias}', it must be a number, a tensor or 'count'")
        return -count.clamp(1, window).to(dtype).log()[:, None, None]
    return float(bias)


def _check(q: Tensor, k_cache: Tensor, v_cache: Tensor, count: Tensor) -> None:
    for name, tensor in (("q", q), ("k_cache", k_cache), ("v_cache", v_cache), ("count", count)):
        check_is_tensor(name, tensor)
    if q.ndim != 3:
        raise UserError(f"q must have shape (B, Hq, d), got {tuple(q.shape)}")
    check_real_type("q", q)
    for name, cache in (("k_cache", k_cache), ("v_cache", v_cache)):
        if cache.ndim != 4:
            raise UserError(f"{name} must have shape (B, Hkv, W, d), got {tuple(cache.shape)}")
        _check_cached(name, cache, q)
    batch, heads, dim = q.shape
    if k_cache.shape[:3] != v_cache.shape[:3] or k_cache.shape[0] != batch or k_cache.shape[3] != dim:
        raise UserError(
            f"q {tuple(q.shape)}, k_cache {tuple(k_cache.shape)} and v_cache {tuple(v_cache.shape)} do not fit together"
        )
    kv_heads, window = k_cache.shape[1:3]
    if kv_heads == 0 or heads == 0 or heads % kv_heads:
        raise UserError(f"the heads of q must be a multiple of those of the cache, got {heads} and {kv_heads}")
    if window == 0 or dim == 0:
        raise UserError(f"k_cache must have room for a step and a feature, got shape {tuple(k_cache.shape)}")
    if tuple(count.shape) != (batch,) or count.dtype not in (torch.int32, torch.int64):
        raise UserError(f"count must be {batch} whole numbers, got {tuple(count.shape)} {count.dtype}")
    if count.device != q.device:
        raise UserError(f"count is on {count.device} and q on {q.device}")


def _check_cached(name: str, tensor: Tensor, q: Tensor) -> None:
    """Refuse types that would lose what the others have: half precisions and float32 may meet, float64 stays alone."""
    check_is_tensor(name, tensor)
    check_real_type(name, tensor)
    if (tensor.dtype == torch.float64) != (q.dtype == torch.float64):
        raise UserError(f"{name} is {tensor.dtype} and q is {q.dtype}: give both one dtype")
    if tensor.device != q.device:
        raise UserError(f"{name} is on {tensor.device} and q on {q.device}: move both to one device")


def _check_count(count: Tensor) -> None:
    if readable(count) and bool((count < 0).any()):
        raise UserError(f"count must be at least 0, got {int(count.min())}")
