"""A ring buffer of the newest steps of each environment.

The order of the keys in the buffer does not matter to a sum, so nothing is ever moved: the newest step overwrites the
oldest, and an episode begins by setting its count to zero.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import ArrayLike
from torch import Tensor

from rlstab.errors import UserError
from rlstab.kernels.sigmoid_attention.checks import check_is_tensor, check_lowest, check_real_type, check_whole

_SMALL = 2**20
"""Numbers that fit into any memory."""


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
            A size is not positive (``batch`` may be zero), or there is not so much memory.
        """
        value_dim = dim if value_dim is None else value_dim
        batch = check_whole("batch", batch, 0)
        sizes = {"kv_heads": kv_heads, "window": window, "dim": dim, "value_dim": value_dim}
        kv_heads, window, dim, value_dim = (check_whole(name, size, 1) for name, size in sizes.items())
        shape = (batch, kv_heads, window)
        try:
            return cls(
                torch.zeros(*shape, dim, dtype=dtype, device=device),
                torch.zeros(*shape, value_dim, dtype=dtype, device=device),
                torch.zeros(batch, dtype=torch.int64, device=device),
            )
        except (RuntimeError, TypeError, OverflowError) as error:
            if batch * kv_heads * window * max(dim, value_dim) < _SMALL:
                raise  # It is something else.
            sizes_given = f"batch {batch}, kv_heads {kv_heads}, window {window} and dim {dim}"
            raise UserError(f"a cache of {sizes_given} does not fit into memory: choose smaller ones") from error

    @property
    def window(self) -> int:
        """Steps it holds."""
        return self.k.shape[2]

    def shapes(self) -> tuple[tuple[int, ...] | None, ...]:
        """Shapes of keys, values and count; ``None`` for what is no tensor."""
        return tuple(getattr(part, "shape", None) for part in (self.k, self.v, self.count))

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
        """Add one step: ``(B, Hkv, d)`` and ``(B, Hkv, dv)``.

        Raises
        ------
        UserError
            They do not fit; nothing has been written.
        """
        check_ring(self.k, self.v, self.count, self.k, "k_cache")
        self.check_new(k, v)
        self.write_checked(k, v)

    def check_new(self, k: Tensor, v: Tensor) -> None:
        """Refuse a step that is of other shapes or types than the buffer.

        Raises
        ------
        UserError
            One is.
        """
        for name, tensor, stored in (("k", k, self.k), ("v", v, self.v)):
            check_beside(name, tensor, stored, "the cache")
            batch, heads, _, dim = stored.shape
            wanted = (batch, heads, dim)
            if tensor.shape != wanted:
                raise UserError(f"{name} must have shape {wanted} as in the cache, got {tuple(tensor.shape)}")

    @torch.no_grad()
    def write_checked(self, k: Tensor, v: Tensor) -> None:
        """Do as `write` with a step that has been checked, as the buffer has."""
        slot = (self.count % self.window).to(torch.int64)[:, None, None, None]
        self.k.scatter_(2, slot.expand(-1, self.k.shape[1], 1, self.k.shape[3]), k[:, :, None].to(self.k.dtype))
        self.v.scatter_(2, slot.expand(-1, self.v.shape[1], 1, self.v.shape[3]), v[:, :, None].to(self.v.dtype))
        self.count += 1


def check_ring(k_cache: Tensor, v_cache: Tensor, count: Tensor, like: Tensor, like_name: str = "q") -> None:
    """Refuse tensors that are no ring buffer together, or not one for a tensor ``like``.

    Parameters
    ----------
    k_cache, v_cache, count
        See `RingCache`.
    like
        A tensor with as many environments, of a type and on a device that go with the buffer.
    like_name
        What to call it.

    Raises
    ------
    UserError
        Their shapes, types or devices do not go together, or a count is below zero, which is looked at on a CPU alone.
    """
    for name, cache in (("k_cache", k_cache), ("v_cache", v_cache)):
        check_beside(name, cache, like, like_name)
        if cache.ndim != 4:
            raise UserError(f"{name} must have shape (B, Hkv, W, d), got {tuple(cache.shape)}")
    check_is_tensor("count", count)
    batch = like.shape[0]
    if k_cache.shape[:3] != v_cache.shape[:3] or k_cache.shape[0] != batch:
        raise UserError(
            f"{like_name} {tuple(like.shape)}, k_cache {tuple(k_cache.shape)} and v_cache {tuple(v_cache.shape)} "
            "do not fit together"
        )
    for name, cache in (("k_cache", k_cache), ("v_cache", v_cache)):
        if 0 in cache.shape[1:]:
            raise UserError(f"{name} must have room for a step and a feature, got shape {tuple(cache.shape)}")
    if tuple(count.shape) != (batch,) or count.dtype not in (torch.int32, torch.int64):
        raise UserError(f"count must be {batch} whole numbers, got {tuple(count.shape)} {count.dtype}")
    if count.device != like.device:
        raise UserError(f"count is on {count.device} and {like_name} on {like.device}")
    check_lowest("count", count)


def check_beside(name: str, tensor: Tensor, like: Tensor, like_name: str = "q") -> None:
    """Refuse types that would lose what the others have: half precisions and float32 may meet, float64 stays alone."""
    check_is_tensor(name, tensor)
    # A step is short: what is alike needs no more than this.
    if tensor.dtype != torch.float32 or like.dtype != torch.float32:
        check_real_type(name, tensor)
        if (tensor.dtype == torch.float64) != (like.dtype == torch.float64):
            raise UserError(f"{name} is {tensor.dtype} and {like_name} is {like.dtype}: give both one dtype")
    if tensor.device != like.device:
        raise UserError(f"{name} is on {tensor.device} and {like_name} on {like.device}: move both to one device")


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
        starts = given
        if not isinstance(starts, Tensor):
            array = np.asarray(given)
            # An empty list is of no type.
            starts = torch.as_tensor(array if array.size else array.astype(bool), device=like.device)
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
