"""Sigmoid attention on a CPU in memory that grows linearly with the length.

The output is a plain sum over keys, so blocks of keys are added one after the other with nothing to rescale. Scale and
bias enter the product of queries and keys as one more feature (``[scale q, bias] . [k, 1]``), which costs the product
nothing and leaves a single elementwise pass over each block of scores. As many heads are worked on together as keep the
scores of a block near the processor.

Where there is much to do, each thread takes heads of its own, from the first product to the last. Sharing every product
among all threads makes them wait for each other hundreds of times, each time as long as a busy machine keeps the last.
"""

from __future__ import annotations

import math
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, TypeVar

import numpy as np
import torch
from torch import Tensor

from rlstab.kernels.sigmoid_attention.masks import Intervals
from rlstab.kernels.sigmoid_attention.problem import Gradients, Problem

QUERY_BLOCK = 1024
"""Rows of a block, those of all query heads of a group counted."""
KEY_BLOCK = 256
SCORES = QUERY_BLOCK * KEY_BLOCK
"""Scores that each thread holds at a time: 1 MiB, what a core's own cache has room for."""
MANY_SCORES = 2**22
"""From so many scores on, threads that take heads of their own are worth starting."""

_T = TypeVar("_T")
_sigmoid_backward: Any = torch.ops.aten.sigmoid_backward.grad_input


@dataclass(frozen=True)
class _Block:
    """Some keys, and the queries of a block of them that see at least one."""

    queries: slice
    keys: slice
    seen: tuple[tuple[slice, Tensor], ...]
    """Queries that do not see all of the keys: their place in the block, and what they see, as
    ``(B or 1, queries, keys)``, whole numbers with all bits set or none."""


class _Plan:
    """Which keys each block of queries sees, for some rows of the batch.

    In numpy, which stays in one thread: torch would share every small mask among all.
    """

    def __init__(self, intervals: Intervals, num_keys: int, rows: int, dtype: torch.dtype) -> None:
        self.bits = np.int64 if dtype == torch.float64 else np.int32
        self.first, self.last = (bound.numpy().astype(np.int32) for bound in (intervals.first, intervals.last))
        self.num_keys, self.rows = num_keys, rows
        # What some row of the batch sees, and what all see.
        self.some = self.first.min(0), self.last.max(0)
        self.every = self.first.max(0), self.last.min(0)

    def __iter__(self) -> Iterator[tuple[slice, list[_Block]]]:
        for begin in range(0, self.first.shape[1], self.rows):
            queries = slice(begin, min(begin + self.rows, self.first.shape[1]))
            first, last = self.some[0][queries].min(), self.some[1][queries].max()
            begin_keys, end_keys = max(int(first), 0), min(int(last) + 1, self.num_keys)
            starts = range(begin_keys - begin_keys % KEY_BLOCK, end_keys, KEY_BLOCK)
            parts = (slice(max(start, begin_keys), min(start + KEY_BLOCK, end_keys)) for start in starts)
            blocks = (self._block(queries, keys) for keys in parts)
            yield queries, [block for block in blocks if block is not None]

    def _block(self, queries: slice, keys: slice) -> _Block | None:
        seeing = np.flatnonzero((self.some[0][queries] < keys.stop) & (self.some[1][queries] >= keys.start))
        if not len(seeing):
            return None
        found = slice(queries.start + int(seeing[0]), queries.start + int(seeing[-1]) + 1)
        blind = (self.every[0][found] > keys.start) | (self.every[1][found] < keys.stop - 1)
        bounds = np.flatnonzero(np.diff(blind, prepend=False, append=False)).tolist()
        pieces = [slice(start, stop) for start, stop in zip(bounds[::2], bounds[1::2], strict=True)]
        return _Block(found, keys, tuple((piece, self._seen(found.start, piece, keys)) for piece in pieces))

    def _seen(self, offset: int, piece: slice, keys: slice) -> Tensor:
        queries = slice(offset + piece.start, offset + piece.stop)
        numbers = np.arange(keys.start, keys.stop, dtype=np.int32)
        seen = numbers <= self.last[:, queries, None]
        if self.every[0][queries].max() > keys.start:
            seen &= numbers >= self.first[:, queries, None]
        bits = seen.astype(self.bits)
        return torch.as_tensor(np.negative(bits, out=bits))


class _Operands:
    """What a call is computed from, cut into parts: the same key heads of some of the batch."""

    def __init__(self, problem: Problem) -> None:
        self.problem = problem
        self.batch, _, self.num_queries, self.dim = problem.q.shape
        self.kv_heads, self.num_keys, self.value_dim = problem.v.shape[1:]
        self.dtype = torch.promote_types(problem.q.dtype, torch.float32)
        self.intervals = problem.intervals()
        self.bias = problem.row_bias(self.intervals, self.dtype).expand(*problem.q.shape[:3], 1)
        self.rows = max(1, QUERY_BLOCK // problem.group)
        self._memory = threading.local()
        self._shared: list[tuple[slice, list[_Block]]] | None = None
        if len(self.intervals.first) == 1:
            self._shared = list(_Plan(self.intervals, self.num_keys, self.rows, self.dtype))

    def each(self, work: Callable[[_Part], _T]) -> list[_T]:
        """Do something for every part of a call, in several threads if it is worth it."""
        pairs, threads = self.batch * self.kv_heads, torch.get_num_threads()
        if threads == 1 or pairs == 1 or pairs * self.problem.group * self.num_queries * self.num_keys < MANY_SCORES:
            return [work(_Part(self, *cut)) for cut in self._cuts(SCORES * threads, pairs)]

        def alone(cut: tuple[slice, slice]) -> _T:
            with torch.no_grad():  # A thread begins with gradients enabled.
                return work(_Part(self, *cut))

        try:
            # Counts for the thread that calls it, and for those begun later.
            with ThreadPoolExecutor(min(threads, pairs), initializer=lambda: torch.set_num_threads(1)) as pool:
                return list(pool.map(alone, self._cuts(SCORES, -(-pairs // threads))))
        finally:
            torch.set_num_threads(threads)

    def _cuts(self, scores: int, pairs: int) -> Iterator[tuple[slice, slice]]:
        """Parts of the batch and of the key heads, of at most so many ``scores`` a block and ``pairs`` of the two."""
        block = min(self.rows, self.num_queries) * self.problem.group * min(KEY_BLOCK, self.num_keys)
        count = max(1, min(pairs, scores // max(1, block)))
        heads, batch = min(count, self.kv_heads), max(1, count // self.kv_heads)
        for entry in range(0, self.batch, batch):
            for head in range(0, self.kv_heads, heads):
                yield slice(entry, min(entry + batch, self.batch)), slice(head, min(head + heads, self.kv_heads))

    def plan(self, batch: slice) -> list[tuple[slice, list[_Block]]] | _Plan:
        """Blocks of queries, and those of the keys that they see."""
        if self._shared is not None:
            return self._shared
        intervals = Intervals(self.intervals.first[batch], self.intervals.last[batch])
        return _Plan(intervals, self.num_keys, self.rows, self.dtype)

    def product(self, name: str, rows: Tensor, keys: Tensor) -> Tensor:
        """``rows keys^T`` of a block, in a buffer of this name that the next block uses again."""
        shape = (rows.shape[0], rows.shape[1], keys.shape[1])
        size = math.prod(shape)
        buffer = getattr(self._memory, name, None)
        if buffer is None or buffer.numel() < size:
            buffer = torch.empty(size, dtype=self.dtype)
            setattr(self._memory, name, buffer)
        return torch.bmm(rows, keys.transpose(1, 2), out=buffer[:size].view(shape))


class _Part:
    """Operands of some heads of some of the batch, as ``(batch and heads, rows, features)``.

    The query heads that share a key head are rows beside each other: row ``i G + g`` is that of query ``i``.
    """

    def __init__(self, operands: _Operands, batch: slice, heads: slice) -> None:
        self.operands, self.batch, self.heads = operands, batch, heads
        problem, self.group = operands.problem, operands.problem.group
        k, v = problem.k[batch, heads], problem.v[batch, heads]
        self.size = (k.shape[0], k.shape[1])
        queries = torch.empty(*self.size, operands.num_queries, self.group, operands.dim + 1, dtype=operands.dtype)
        torch.mul(self.split(problem.q).to(operands.dtype), problem.scale, out=queries[..., :-1])
        queries[..., -1:] = self.split(operands.bias)
        keys = torch.ones(*k.shape[:3], operands.dim + 1, dtype=operands.dtype)
        keys[..., :-1] = k
        self.q = queries.view(-1, operands.num_queries * self.group, operands.dim + 1)
        self.k = keys.flatten(0, 1)
        self.v = v.to(operands.dtype).flatten(0, 1)

    def split(self, tensor: Tensor) -> Tensor:
        """View this part of ``(B, Hq, m, x)`` as ``(B, Hkv, m, G, x)``."""
        heads = slice(self.heads.start * self.group, self.heads.stop * self.group)
        return torch.unflatten(tensor[self.batch, heads], 1, (-1, self.group)).transpose(2, 3)

    def join(self, tensor: Tensor) -> Tensor:
        """View rows ``(B Hkv, m G, x)`` as `split` views a whole."""
        return tensor.view(*self.size, -1, self.group, tensor.shape[2])

    def rows(self, queries: slice) -> slice:
        """Rows of some queries."""
        return slice(queries.start * self.group, queries.stop * self.group)

    def weights(self, block: _Block) -> Tensor:
        """Weights of a block, ``(B Hkv, queries G, keys)``, zero where a row does not see a key."""
        result = self.operands.product("scores", self.q[:, self.rows(block.queries)], self.k[:, block.keys])
        slopes = self.slopes()
        if slopes is not None:
            self.join(result).addcmul_(slopes, self.distances(block), value=-1.0)
        result.sigmoid_()
        for piece, seen in block.seen:
            # As whole numbers: several times as fast as filling, and zero whatever a hidden key holds.
            self.join(result.view(seen.dtype))[:, :, piece].bitwise_and_(seen[:, None, :, None])
        return result

    def slopes(self) -> Tensor | None:
        """Slopes that broadcast against ``(B, Hkv, queries, G, keys)``."""
        slopes = self.operands.problem.alibi_slopes
        if slopes is None:
            return None
        return slopes.to(self.operands.dtype).view(-1, self.group)[self.heads, None, :, None]

    def distances(self, block: _Block) -> Tensor:
        """Distances that broadcast against ``(B, Hkv, queries, G, keys)``."""
        offset = self.operands.num_keys - self.operands.num_queries
        queries = torch.arange(block.queries.start + offset, block.queries.stop + offset)
        keys = torch.arange(block.keys.start, block.keys.stop)
        return (queries[:, None] - keys).abs().to(self.operands.dtype)[:, None]


def forward(problem: Problem) -> Tensor:
    """Compute what `reference.attend` does, block by block: ``(B, Hq, m, dv)``, without a graph."""
    batch, heads, num_queries, _ = problem.q.shape
    # In the order of the axes that callers have, so that no copy is made when the heads are put together.
    out = torch.empty(batch, num_queries, heads, problem.v.shape[3], dtype=problem.q.dtype).transpose(1, 2)
    if not out.numel() or not problem.k.shape[2]:
        return out.zero_()
    operands = _Operands(problem)

    def compute(part: _Part) -> None:
        whole = part.split(out)
        for queries, blocks in operands.plan(part.batch):
            rows = part.rows(queries)
            total = torch.zeros(len(part.k), rows.stop - rows.start, operands.value_dim, dtype=operands.dtype)
            for block in blocks:
                of_block = part.rows(block.queries)
                some = total[:, of_block.start - rows.start : of_block.stop - rows.start]
                some.baddbmm_(part.weights(block), part.v[:, block.keys])
            whole[:, :, queries] = part.join(total)

    operands.each(compute)
    return out


def backward(problem: Problem, grad_out: Tensor, needed: Sequence[bool]) -> Gradients:
    """Gradients of q, k, v, bias and slopes; ``None`` where not ``needed``.

    With ``G = dO V^T`` the scores have the gradient ``P (1 - P) G``. There is no sum over a row to subtract, as softmax
    has, and the output itself is not needed.
    """
    dtype = torch.promote_types(problem.q.dtype, torch.float32)
    grad_q, grad_k, grad_v = (torch.empty_like(tensor) for tensor in (problem.q, problem.k, problem.v))
    bias = grad_q.new_zeros(problem.q.shape[:3], dtype=dtype) if needed[3] else None
    slopes = torch.zeros(problem.q.shape[1], dtype=dtype) if needed[4] else None

    def compute(part: _Part) -> tuple[slice, Tensor | None]:
        found_q, found_k, found_v, of_rows, of_slopes = _part_backward(part, part.split(grad_out), bias is not None)
        part.split(grad_q).copy_(part.join(found_q.mul_(problem.scale)))
        grad_k[part.batch, part.heads] = torch.unflatten(found_k, 0, part.size)
        grad_v[part.batch, part.heads] = torch.unflatten(found_v, 0, part.size)
        if bias is not None and of_rows is not None:
            part.split(bias[..., None]).copy_(part.join(of_rows))
        return part.heads, of_slopes

    found: list[tuple[slice, Tensor | None]] = []
    if problem.q.numel() and problem.k.numel():
        found = _Operands(problem).each(compute)
    else:
        for empty in (grad_q, grad_k, grad_v):
            empty.zero_()
    for heads, of_slopes in found:
        if slopes is not None and of_slopes is not None:
            slopes.view(-1, problem.group)[heads] += of_slopes
    given = problem.bias_tensor
    if bias is not None and given is not None:
        bias = bias.sum((0, 2) if given.ndim == 1 else 1).to(given.dtype)
    if slopes is not None and problem.alibi_slopes is not None:
        slopes = slopes.to(problem.alibi_slopes.dtype)
    result = (grad_q, grad_k, grad_v, bias, slopes)
    q, k, v, bias, slopes = (tensor if wanted else None for tensor, wanted in zip(result, needed, strict=True))
    return q, k, v, bias, slopes


def _part_backward(
    part: _Part, cotangent: Tensor, with_rows: bool
) -> tuple[Tensor, Tensor, Tensor, Tensor | None, Tensor | None]:
    """Gradients of q, k and v of a part, of its rows' biases, ``(B Hkv, m G, 1)``, and of its slopes, ``(Hkv, G)``."""
    operands = part.operands
    grads = cotangent.to(operands.dtype).reshape(len(part.k), -1, operands.value_dim)
    # Without the feature that carries the bias: a product that makes an odd number of columns takes a quarter longer.
    q, k = part.q[..., :-1], part.k[..., :-1]
    grad_q, grad_k, grad_v = (torch.zeros(tensor.shape, dtype=operands.dtype) for tensor in (q, k, part.v))
    of_rows = torch.zeros(*q.shape[:2], 1, dtype=operands.dtype) if with_rows else None
    slopes = None if operands.problem.alibi_slopes is None else grad_q.new_zeros(part.size[1], part.group)
    for _, blocks in operands.plan(part.batch):
        for block in blocks:
            rows, keys = part.rows(block.queries), block.keys
            weights = part.weights(block)
            grad_v[:, keys].baddbmm_(weights.transpose(1, 2), grads[:, rows])
            grad_scores = operands.product("gradients", grads[:, rows], part.v[:, keys])
            _sigmoid_backward(grad_scores, weights, grad_input=grad_scores)
            grad_q[:, rows].baddbmm_(grad_scores, k[:, keys])
            grad_k[:, keys].baddbmm_(grad_scores.transpose(1, 2), q[:, rows])
            if of_rows is not None:
                of_rows[:, rows] += grad_scores.sum(2, keepdim=True)
            if slopes is not None:
                slopes -= (part.join(grad_scores) * part.distances(block)).sum((0, 2, 4))
    return grad_q, grad_k, grad_v, of_rows, slopes
