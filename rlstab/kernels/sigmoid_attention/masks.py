"""Which keys a query sees: always one interval, so that two integers a row say it all.

A causal mask, a sliding window, the ends of episodes inside a batch and padded keys are all intervals of keys for each
query, with bounds that never decrease from one row to the next. Everything below, and every kernel, works on these
bounds and never on a mask of the size of the scores.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from rlstab.errors import UserError
from rlstab.kernels.sigmoid_attention.checks import check_is_tensor, check_whole, check_window


@dataclass(frozen=True)
class Intervals:
    """Keys ``first`` to ``last`` (both included) are visible to a row; none where ``last < first``."""

    first: Tensor
    """``(B or 1, m)``, int64."""
    last: Tensor
    """``(B or 1, m)``, int64."""

    def count(self) -> Tensor:
        """Number of visible keys of each row, ``(B or 1, m)``."""
        return (self.last - self.first + 1).clamp(min=0)

    def mask(self, begin: int, end: int) -> Tensor:
        """Whether each row sees each of the keys ``begin`` to ``end - 1``: ``(B or 1, m, end - begin)``, bool."""
        keys = torch.arange(begin, end, device=self.first.device)
        return (keys >= self.first[..., None]) & (keys <= self.last[..., None])


class Segments(NamedTuple):
    """Episode boundaries in both directions, as `segments_to_rows` finds them."""

    row_start: Tensor
    """``(B, T)`` int32: the first key that row ``i`` sees."""
    row_end: Tensor
    """``(B, T)`` int32: the last row that sees key ``j``. The backward pass over keys needs it."""


def segments_to_rows(segments: Tensor, window: int | None = None) -> Segments:
    """Find what each row of a batch with episode boundaries sees, and which rows see each key.

    Parameters
    ----------
    segments
        ``(B, T)``. Boolean: true at the first step of each episode (the first column counts as one anyway). Integers:
        an id of the episode that each step belongs to; only changes from one step to the next matter.
    window
        How many keys a row sees at most, itself included. ``None``: all of its episode so far.

    Returns
    -------
    Segments
        Row ``i`` sees the keys ``row_start[i]`` to ``i``; key ``j`` is seen by the rows ``j`` to ``row_end[j]``.

    Raises
    ------
    UserError
        ``segments`` has another shape or type, or the window is less than one.

    Examples
    --------
    >>> rows = segments_to_rows(torch.tensor([[7, 7, 7, 9, 9]]), window=2)
    >>> rows.row_start.tolist(), rows.row_end.tolist()
    ([[0, 0, 1, 3, 3]], [[1, 2, 2, 4, 4]])
    """
    check_is_tensor("segments", segments)
    if segments.ndim != 2:
        raise UserError(f"segments must have shape (B, T), got {tuple(segments.shape)}")
    if segments.is_floating_point() or segments.is_complex():
        raise UserError(f"segments must be booleans (first steps) or integers (episode ids), got {segments.dtype}")
    window = check_window(window)
    batch, length = segments.shape
    if segments.dtype == torch.bool:
        begins = segments.clone()
        begins[:, :1] = True
    else:
        begins = torch.ones(batch, length, dtype=torch.bool, device=segments.device)
        begins[:, 1:] = segments[:, 1:] != segments[:, :-1]
    steps = torch.arange(length, device=segments.device).expand(batch, length)
    start = torch.where(begins, steps, torch.zeros_like(steps)).cummax(dim=1).values if length else steps
    if window is not None:
        start = torch.maximum(start, steps - (window - 1))
    return Segments(start.to(torch.int32).contiguous(), rows_that_see(start))


def rows_that_see(row_start: Tensor) -> Tensor:
    """Find the last row that sees each key, from non-decreasing ``row_start`` of shape ``(B, T)``; int32."""
    length = row_start.shape[1]
    keys = torch.arange(length, device=row_start.device, dtype=row_start.dtype).expand_as(row_start)
    # start is sorted: the rows with start <= j are the first so many.
    rows = torch.searchsorted(row_start.contiguous(), keys.contiguous(), right=True) - 1
    return rows.to(torch.int32)


def visible_intervals(
    num_queries: int,
    num_keys: int,
    *,
    causal: bool,
    window: int | None,
    row_start: Tensor | None,
    kv_lens: Tensor | None,
    device: torch.device,
) -> Intervals:
    """Combine all masks into the interval of keys each row sees.

    Query ``i`` has the absolute position ``i + num_keys - num_queries``: queries are the newest of the keys.
    """
    positions = torch.arange(num_queries, device=device)[None] + (num_keys - num_queries)
    last = positions if causal else torch.full_like(positions, num_keys - 1)
    first = torch.zeros_like(positions)
    if window is not None:
        first = (positions - (window - 1)).clamp(min=0)
    if row_start is not None:
        first = torch.maximum(first, row_start.to(torch.int64))
    if kv_lens is not None:
        last = torch.minimum(last, kv_lens.to(torch.int64)[:, None] - 1)
    # Not the larger of the two: a batch may be empty.
    shape = (len(first) if len(last) == 1 else len(last), num_queries)
    return Intervals(first.expand(shape), last.expand(shape))


def alibi_slopes(num_heads: int, *, device: torch.device | str | None = None) -> Tensor:
    """Slopes of linear position biases: a geometric sequence over the heads.

    Parameters
    ----------
    num_heads
        Number of query heads.
    device
        Where to put them.

    Returns
    -------
    Tensor
        ``(num_heads,)``, float32, positive. A score gets ``-slope * |distance|``.

    References
    ----------
    Press et al. 2022, arXiv:2108.12409.

    Examples
    --------
    >>> alibi_slopes(4).tolist()
    [0.25, 0.0625, 0.015625, 0.00390625]
    """
    num_heads = check_whole("num_heads", num_heads, 1)

    def geometric(count: int) -> list[float]:
        return [2.0 ** (-8.0 * (head + 1) / count) for head in range(count)]

    power = 2 ** int(math.log2(num_heads))
    slopes = geometric(power) + geometric(2 * power)[::2][: num_heads - power]
    return torch.tensor(slopes, dtype=torch.float32, device=device)
