"""What `SelfAttention` is made of and given, checked before anything is computed or changed."""

from __future__ import annotations

from typing import Literal, TypeAlias

import torch
from torch import Tensor

from rlstab.errors import UserError
from rlstab.kernels.sigmoid_attention.checks import MAX_HEAD_DIM, check_index, check_is_tensor, check_whole
from rlstab.kernels.sigmoid_attention.masks import Segments
from rlstab.kernels.sigmoid_attention.ring_cache import RingCache, check_ring
from rlstab.kernels.sigmoid_attention.transforms import autocast_type, readable

Positions: TypeAlias = Literal["none", "alibi", "rotary"]


def head_dimension(width: int, num_heads: int, kv_heads: int | None, head_dim: int | None, positions: Positions) -> int:
    """Check the sizes of a `SelfAttention` before any of it is made.

    Returns
    -------
    int
        The head dimension.

    Raises
    ------
    UserError
        Sizes that do not fit.
    """
    for name, size in {"width": width, "num_heads": num_heads, "kv_heads": kv_heads, "head_dim": head_dim}.items():
        if size is not None:
            check_whole(name, size)
    kv_heads = num_heads if kv_heads is None else kv_heads
    if min(width, num_heads, kv_heads) < 1:
        raise UserError(f"width, num_heads and kv_heads must be at least 1, got {width}, {num_heads}, {kv_heads}")
    if num_heads % kv_heads:
        raise UserError(f"num_heads must be a multiple of kv_heads, got {num_heads} and {kv_heads}")
    if head_dim is None and width % num_heads:
        raise UserError(f"width must be a multiple of num_heads, got {width} and {num_heads}")
    dim = width // num_heads if head_dim is None else head_dim
    if not 1 <= dim <= MAX_HEAD_DIM:
        given = f"width {width} with num_heads {num_heads}" if head_dim is None else f"head_dim {head_dim}"
        raise UserError(
            f"the head dimension is {dim}, from {given}, it must lie between 1 and {MAX_HEAD_DIM}: use other num_heads"
        )
    if positions == "rotary" and dim % 2:
        raise UserError(f"rotary positions need an even head dimension, got {dim}")
    return dim


def check_tokens(x: Tensor, axes: int, shape: str, width: int, own: Tensor) -> None:
    """Refuse tokens of other shapes, types or devices than a layer with a weight ``own`` reads."""
    check_is_tensor("x", x)
    if x.ndim != axes or x.shape[-1] != width:
        raise UserError(f"x must have shape {shape} with width {width}, got {tuple(x.shape)}")
    # Autocast makes types meet by itself.
    if x.dtype != own.dtype and autocast_type(x.device) is None:
        raise UserError(f"x is {x.dtype} and the layer's weights are {own.dtype}: convert one of the two")
    if x.device != own.device:
        raise UserError(f"x is on {x.device} and the layer's weights on {own.device}: move one of the two")


def check_sequences(x: Tensor, rows: Segments | None, steps: Tensor | None, memory: Tensor | None = None) -> None:
    """Refuse what does not go with sequences ``x`` of shape ``(B, T, width)``."""
    batch, length = x.shape[:2]
    if memory is not None:
        check_is_tensor("memory", memory)
        if memory.ndim != 3 or memory.shape[0] != batch or memory.shape[2] != x.shape[2]:
            raise UserError(f"memory must have shape ({batch}, M, {x.shape[2]}), got {tuple(memory.shape)}")
        if memory.dtype != x.dtype or memory.device != x.device:
            raise UserError(f"memory is {memory.dtype} on {memory.device} and x {x.dtype} on {x.device}")
        length = length + memory.shape[1]
    if rows is not None:
        if not isinstance(rows, Segments):  # pyright: ignore[reportUnnecessaryIsInstance]
            raise UserError(f"rows must be what segments_to_rows gives, got {type(rows).__name__}")
        for name, bounds in zip(("rows.row_start", "rows.row_end"), rows, strict=True):
            check_index(name, bounds, (batch, length), x)
    if steps is not None:
        check_is_tensor("steps", steps)
        if tuple(steps.shape) != (batch, length) or steps.dtype not in (torch.int32, torch.int64):
            wanted = f"({batch}, {length}) of whole numbers"
            raise UserError(f"steps must have shape {wanted}, got {tuple(steps.shape)} {steps.dtype}")
        if steps.device != x.device:
            raise UserError(f"steps are on {steps.device} and x on {x.device}")


def check_cache(cache: RingCache, x: Tensor, kv_heads: int, window: int, dim: int) -> None:
    """Refuse a cache that is not of the layer, or not of as many environments as there are in ``x``."""
    if not isinstance(cache, RingCache):  # pyright: ignore[reportUnnecessaryIsInstance]
        raise UserError(f"cache must be a RingCache, got {type(cache).__name__}: use empty_cache({len(x)})")
    check_ring(cache.k, cache.v, cache.count, cache.k, "k_cache")
    if cache.window != window:
        raise UserError(f"the cache holds {cache.window} steps, the window is {window}: use empty_cache")
    if len(cache.count) != len(x):
        raise UserError(f"the cache is of {len(cache.count)} environments, x of {len(x)}: use empty_cache({len(x)})")
    check_ring(cache.k, cache.v, cache.count, x, "x")
    check_heads(cache.k, cache.v, kv_heads, window, dim)


def check_heads(keys: Tensor, values: Tensor, kv_heads: int, window: int, dim: int) -> None:
    """Refuse rings of other heads than a layer's."""
    for name, stored in (("keys", keys), ("values", values)):
        if tuple(stored.shape[1:]) != (kv_heads, window, dim):
            raise UserError(
                f"{name} must have shape (B, {kv_heads}, {window}, {dim}) as the layer, got {tuple(stored.shape)}: "
                "use empty_cache"
            )


def check_history(rows: Segments, steps: Tensor, window: int) -> None:
    """Refuse sequences that do not hold all that a ring buffer would after their last step, where that can be seen.

    A buffer's oldest step is overwritten by the next one: ``window - 1`` steps of an episode are enough.
    """
    length = steps.shape[1]
    if not length:
        raise UserError("x must have at least one token to fill a cache with, got none")
    if not (readable(steps) and readable(rows.row_start)) or not len(steps):
        return
    given = (length - rows.row_start[:, -1]).clamp(max=window)
    written = steps[:, -1] + 1
    needed = written.clamp(max=window - 1)
    wrong = (given < needed) | (given > written)
    if bool(wrong.any()):
        world = int(wrong.nonzero()[0])
        raise UserError(
            f"the last of steps is {int(steps[world, -1])} in sequence {world}, of whose episode x and rows hold "
            f"{int(given[world])} tokens of {window} in the window: give at least {int(needed[world])}, and steps that "
            "begin with 0 in each episode"
        )
