"""Sigmoid attention on a CPU in memory that grows linearly with the length.

The output is a plain sum over keys, so blocks of keys are added one after the other with nothing to rescale. Scale and
bias enter the product of queries and keys as one more feature (``[scale q, bias] . [k, 1]``), which leaves a single
elementwise pass over each block of scores.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from rlstab.kernels.sigmoid_attention.masks import Intervals
from rlstab.kernels.sigmoid_attention.problem import Gradients, Problem

QUERY_BLOCK = 256
KEY_BLOCK = 256


@dataclass(frozen=True)
class _Block:
    """Some queries and some keys that at least one of them sees."""

    queries: slice
    keys: slice
    mask: Tensor | None
    """``(B or 1, queries, keys)``; none where all is visible."""


def _blocks(intervals: Intervals, num_queries: int, num_keys: int) -> Iterator[list[_Block]]:
    """For each block of queries the blocks of keys it sees."""
    for begin in range(0, num_queries, QUERY_BLOCK):
        queries = slice(begin, min(begin + QUERY_BLOCK, num_queries))
        rows = Intervals(intervals.first[:, queries], intervals.last[:, queries])
        # Bounds of what any row sees, and of what all rows see.
        some = (max(int(rows.first.min()), 0), min(int(rows.last.max()), num_keys - 1))
        every = (int(rows.first.max()), int(rows.last.min()))
        found: list[_Block] = []
        for start in range(some[0] - some[0] % KEY_BLOCK, some[1] + 1, KEY_BLOCK):
            keys = slice(max(start, some[0]), min(start + KEY_BLOCK, some[1] + 1))
            whole = every[0] <= keys.start and keys.stop - 1 <= every[1]
            found.append(_Block(queries, keys, None if whole else rows.mask(keys.start, keys.stop)))
        yield found


class _Operands:
    """Flattened operands: batch and key heads together, the query heads of a group beside each other."""

    def __init__(self, problem: Problem) -> None:
        self.problem = problem
        batch, heads, self.num_queries, self.dim = problem.q.shape
        self.batch, self.kv_heads, self.num_keys = batch, problem.k.shape[1], problem.k.shape[2]
        self.group = heads // self.kv_heads
        self.dtype = torch.promote_types(problem.q.dtype, torch.float32)
        self.intervals = problem.intervals()
        self.buffers: dict[str, Tensor] = {}
        bias = problem.row_bias(self.intervals, self.dtype).expand(batch, heads, self.num_queries, 1)
        # One more feature carries the bias.
        queries = torch.cat([problem.q.to(self.dtype) * problem.scale, bias], dim=3)
        keys = problem.k.to(self.dtype)
        self.q = self.split(queries)
        self.k = torch.cat([keys, torch.ones_like(keys[..., :1])], dim=3).flatten(0, 1)
        self.v = problem.v.to(self.dtype).flatten(0, 1)

    def split(self, tensor: Tensor) -> Tensor:
        """``(B, Hq, m, x)`` as ``(B Hkv, G, m, x)``."""
        return tensor.reshape(self.batch * self.kv_heads, self.group, self.num_queries, tensor.shape[3])

    def join(self, tensor: Tensor) -> Tensor:
        """The inverse of `split`, in the dtype of the inputs."""
        shape = (self.batch, self.kv_heads * self.group, self.num_queries, tensor.shape[3])
        return tensor.view(shape).to(self.problem.q.dtype)

    def rows(self, tensor: Tensor, queries: slice) -> Tensor:
        """The queries of a block, those of all heads of the group in one axis."""
        return tensor[:, :, queries].flatten(1, 2)

    def scores(self, block: _Block, rows: Tensor) -> Tensor:
        """Scores of a block, ``(B Hkv, G queries, keys)``, in memory that the next block uses again."""
        result = self.product("scores", rows, self.k[:, block.keys])
        if self.problem.alibi_slopes is not None:
            self._grouped(result, block).sub_(self._slopes() * self.distances(block))
        return result

    def product(self, name: str, rows: Tensor, keys: Tensor) -> Tensor:
        """``rows keys^T`` of a block, in a buffer of this name that the next block uses again."""
        shape = (rows.shape[0], rows.shape[1], keys.shape[1])
        size = shape[0] * shape[1] * shape[2]
        buffer = self.buffers.get(name)
        if buffer is None or buffer.numel() < size:
            buffer = self.buffers[name] = torch.empty(size, dtype=self.dtype)
        return torch.bmm(rows, keys.transpose(1, 2), out=buffer[:size].view(shape))

    def weights(self, block: _Block, rows: Tensor) -> Tensor:
        """Weights of a block, zero where a row does not see a key."""
        weights = self.scores(block, rows).sigmoid_()
        if block.mask is not None:
            self._by_batch(weights, block).masked_fill_(~block.mask[:, None, None], 0.0)
        return weights

    def distances(self, block: _Block) -> Tensor:
        """``(queries, keys)`` in the dtype of the computation."""
        offset = self.num_keys - self.num_queries
        queries = torch.arange(block.queries.start + offset, block.queries.stop + offset)
        keys = torch.arange(block.keys.start, block.keys.stop)
        return (queries[:, None] - keys).abs().to(self.dtype)

    def _slopes(self) -> Tensor:
        slopes = self.problem.alibi_slopes
        assert slopes is not None
        per_head = slopes.to(self.dtype).view(1, self.kv_heads, self.group)
        return per_head.expand(self.batch, -1, -1).reshape(self.batch * self.kv_heads, self.group, 1, 1)

    def _grouped(self, tensor: Tensor, block: _Block) -> Tensor:
        return tensor.view(tensor.shape[0], self.group, block.queries.stop - block.queries.start, tensor.shape[2])

    def _by_batch(self, tensor: Tensor, block: _Block) -> Tensor:
        size = block.queries.stop - block.queries.start
        return tensor.view(self.batch, self.kv_heads, self.group, size, tensor.shape[2])


def forward(problem: Problem) -> Tensor:
    """Compute what `reference.attend` does, block by block: ``(B, Hq, m, dv)``, without a graph."""
    operands = _Operands(problem)
    # In the order of the axes that callers have, so that no copy is made when the heads are put together.
    shape = (operands.batch, operands.num_queries, operands.kv_heads, operands.group, problem.v.shape[3])
    out = torch.zeros(shape, dtype=problem.q.dtype)
    for blocks in _blocks(operands.intervals, operands.num_queries, operands.num_keys):
        if not blocks:
            continue
        rows = operands.rows(operands.q, blocks[0].queries)
        total = torch.zeros(*rows.shape[:2], shape[4], dtype=operands.dtype)
        for block in blocks:
            total.baddbmm_(operands.weights(block, rows), operands.v[:, block.keys])
        by_head = total.view(shape[0], shape[2], shape[3], -1, shape[4])
        out[:, blocks[0].queries] = by_head.permute(0, 3, 1, 2, 4)
    return out.flatten(2, 3).transpose(1, 2)


def backward(problem: Problem, grad_out: Tensor, needed: Sequence[bool]) -> Gradients:
    """Gradients of q, k, v, bias and slopes; ``None`` where not ``needed``.

    With ``G = dO V^T`` the scores have the gradient ``P (1 - P) G``. There is no sum over a row to subtract, as softmax
    has, and the output itself is not needed.
    """
    operands = _Operands(problem)
    cotangent = operands.split(grad_out.to(operands.dtype))
    grad_q, grad_k, grad_v = (torch.zeros_like(tensor) for tensor in (operands.q, operands.k, operands.v))
    slopes = None if problem.alibi_slopes is None else problem.alibi_slopes.new_zeros(operands.q.shape[:2])
    for blocks in _blocks(operands.intervals, operands.num_queries, operands.num_keys):
        if not blocks:
            continue
        queries = blocks[0].queries
        rows, grads = operands.rows(operands.q, queries), operands.rows(cotangent, queries)
        grad_rows = torch.zeros_like(rows)
        for block in blocks:
            weights = operands.weights(block, rows)
            grad_v[:, block.keys].baddbmm_(weights.transpose(1, 2), grads)
            grad_scores = operands.product("gradients", grads, operands.v[:, block.keys])
            # P G - P (P G)
            grad_scores.mul_(weights)
            grad_scores.addcmul_(grad_scores, weights, value=-1.0)
            grad_rows.baddbmm_(grad_scores, operands.k[:, block.keys])
            grad_k[:, block.keys].baddbmm_(grad_scores.transpose(1, 2), rows)
            if slopes is not None:
                grouped = grad_scores.view(*slopes.shape, -1, grad_scores.shape[2])
                slopes -= (grouped * operands.distances(block)).sum((2, 3))
        grad_q[:, :, queries] = grad_rows.view(*grad_q.shape[:2], -1, grad_q.shape[3])
    return _gradients(operands, (grad_q, grad_k, grad_v, slopes), needed)


def _gradients(
    operands: _Operands, found: tuple[Tensor, Tensor, Tensor, Tensor | None], needed: Sequence[bool]
) -> Gradients:
    """Take the feature that carried the bias apart, and undo the flattening."""
    problem = operands.problem
    grad_q, grad_k, grad_v, slopes = found
    dim, keys_shape = operands.dim, (operands.batch, operands.kv_heads, operands.num_keys, -1)
    bias = None
    if isinstance(problem.bias, Tensor) and needed[3]:
        per_row = grad_q[..., dim].reshape(operands.batch, -1, operands.num_queries)
        bias = per_row.sum((0, 2) if problem.bias.ndim == 1 else 1).to(problem.bias.dtype)
    if slopes is not None and problem.alibi_slopes is not None:
        slopes = slopes.view(operands.batch, -1).sum(0).to(problem.alibi_slopes.dtype)
    result = (
        operands.join(grad_q[..., :dim] * problem.scale),
        grad_k[..., :dim].reshape(keys_shape).to(problem.k.dtype),
        grad_v.view(keys_shape).to(problem.v.dtype),
        bias,
        slopes,
    )
    q, k, v, bias, slopes = (tensor if wanted else None for tensor, wanted in zip(result, needed, strict=True))
    return q, k, v, bias, slopes
