"""Sigmoid attention in plain torch operations: slow, memory-hungry, and right for any dtype and any derivative.

Everything else here is tested against it. It has no custom derivatives, so that reverse mode, forward mode, double
backward, vmap, export and compilation are those of torch.
"""

from __future__ import annotations

import torch
from torch import Tensor

from rlstab.kernels.sigmoid_attention.problem import Problem


def attend(problem: Problem) -> Tensor:
    """Compute ``out_i = sum_j sigmoid(scale <q_i, k_j> + bias) v_j`` over the visible keys.

    Half precisions are computed in float32 and rounded once, at the end.

    Returns
    -------
    Tensor
        ``(B, Hq, m, dv)``, in the dtype of ``q``. A row that sees no key is zero.

    References
    ----------
    Ramapuram et al. 2025, arXiv:2409.04431, section 2.
    """
    weights = attention_weights(problem)
    batch, heads, num_queries, num_keys = weights.shape
    v = problem.v.to(weights.dtype)
    grouped = weights.view(batch, v.shape[1], problem.group * num_queries, num_keys)
    out = grouped @ v
    return out.view(batch, heads, num_queries, v.shape[3]).to(problem.q.dtype)


def attention_weights(problem: Problem) -> Tensor:
    """The weights ``(B, Hq, m, n)``, zero where a row does not see a key; float32 for half precisions."""
    intervals = problem.intervals()
    visible = intervals.mask(0, problem.k.shape[2])[:, None]
    return torch.where(visible, torch.sigmoid(scores(problem)), 0.0)


def scores(problem: Problem, rows: Tensor | None = None) -> Tensor:
    """Scores with their biases, those of invisible keys included.

    Parameters
    ----------
    problem
        The call.
    rows
        Indices of the queries to look at; default: all.

    Returns
    -------
    Tensor
        ``(B, Hq, m or len(rows), n)``.
    """
    dtype = torch.promote_types(problem.q.dtype, torch.float32)
    chosen = slice(None) if rows is None else rows
    q, k = problem.q[:, :, chosen].to(dtype), problem.k.to(dtype)
    batch, heads, num_queries, dim = q.shape
    num_keys = k.shape[2]
    grouped = q.reshape(batch, k.shape[1], problem.group * num_queries, dim)
    products = (grouped @ k.transpose(2, 3)).view(batch, heads, num_queries, num_keys)
    bias = problem.row_bias(problem.intervals(), dtype)
    if bias.ndim == 4 and bias.shape[2] > 1:
        bias = bias[:, :, chosen]
    result = problem.scale * products + bias
    if problem.alibi_slopes is not None:
        slopes = problem.alibi_slopes.to(dtype)[:, None, None]
        result = result - slopes * problem.distances(0, num_keys)[chosen].to(dtype)
    return result
