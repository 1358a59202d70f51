"""How a problem is cut into tiles, and what kernels are told about it. Imports no Triton."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Literal, TypeAlias

import torch
from torch import Tensor

from rlstab.kernels.sigmoid_attention.problem import Problem

BIAS_CONSTANT, BIAS_HEAD, BIAS_ROW, BIAS_COUNT = 0, 1, 2, 3
LOG2E = math.log2(math.e)
HOPPER = 90
"""Compute capability from which products are made by groups of four warps."""
_NEXT_WITHOUT_GROUPS = 120
"""From here on (desktop GPUs after Hopper) products are again made as on Ampere, by single warps."""
SHARED_MEMORY = {80: 166_912, 89: 101_376, 90: 232_448, 100: 232_448, 120: 101_376}
"""Bytes of shared memory that one block can use, by compute capability; a GPU that runs says it itself."""
_MUCH_SHARED_MEMORY = 131_072
"""With less, wide heads are cut smaller; the compiler for such GPUs also spills sooner than those for others."""
TILE_COPY_DIMS = (64, 128)
"""Head dimensions of the kernels that copy whole tiles."""
SMALLEST_TILE = 16
"""Triton's product needs at least so many of the dimension that is summed over."""

Mode: TypeAlias = Literal["exact", "newton", "tanh"]


@dataclass(frozen=True)
class Tiling:
    """How a kernel cuts a problem, and with how many warps it is launched."""

    rows: int
    keys: int
    num_warps: int
    num_stages: int = 2


def power_of_two(size: int) -> int:
    """The next power of two that a tile may have."""
    return max(SMALLEST_TILE, 1 << max(size - 1, 0).bit_length())


def head_block(problem: Problem) -> int:
    """The larger of the padded head dimensions."""
    return power_of_two(max(problem.q.shape[3], problem.v.shape[3]))


def fits_one_tile(problem: Problem) -> bool:
    """Whether one program can own all scores of a head without spilling registers (`static_report` watches)."""
    length = max(problem.q.shape[2], problem.k.shape[2])
    return length <= longest_one_tile(head_block(problem), problem.q.dtype)


def gradients_fit_one_tile(problem: Problem, architecture: int) -> bool:
    """The same for its gradients, whose program sums over the query heads that share a key head."""
    length, head_dim = max(problem.q.shape[2], problem.k.shape[2]), head_block(problem)
    grouped_fits = problem.group == 1 or length <= longest_of_group(head_dim, problem.q.dtype, architecture)
    return fits_one_tile(problem) and grouped_fits


def makes_group_products(architecture: int) -> bool:
    """Whether products are made by groups of four warps, from shared memory."""
    return HOPPER <= architecture < _NEXT_WITHOUT_GROUPS


def longest_one_tile(head_dim: int, dtype: torch.dtype) -> int:
    """The longest window of the one-tile kernels for a padded head dimension."""
    if dtype == torch.float32:
        return 32 if head_dim <= 64 else 0
    return 128 if head_dim <= 32 else 64 if head_dim <= 128 else 0


def longest_of_group(head_dim: int, dtype: torch.dtype, architecture: int) -> int:
    """The longest whose gradients one program can sum over several heads."""
    if dtype == torch.float32:
        return longest_one_tile(head_dim, dtype)
    return 128 if head_dim <= 16 else 64 if head_dim <= (64 if makes_group_products(architecture) else 32) else 32


def one_tile(num_queries: int, num_keys: int, head_dim: int, architecture: int) -> Tiling:
    """The tiling of the one-tile kernels."""
    rows, keys = power_of_two(num_queries), power_of_two(num_keys)
    largest = max(rows, keys)
    narrow = head_dim <= 64 or makes_group_products(architecture)
    warps = 1 if largest <= 16 else 2 if largest <= 32 else 4 if largest <= 64 and narrow else 8
    # Exact products of float32 hold whole rows in registers: from 64 dimensions on, too many for so few threads.
    if head_dim > 32 and largest <= 32:
        warps *= 2
    return Tiling(rows, keys, warps, num_stages=1)


def one_tile_gradients(
    num_queries: int, num_keys: int, head_dim: int, dtype: torch.dtype, architecture: int, group: int
) -> Tiling:
    """The tiling of the one-tile kernel of gradients."""
    tiling = one_tile(num_queries, num_keys, head_dim, architecture)
    if dtype == torch.float32 and max(tiling.rows, tiling.keys) > SMALLEST_TILE and (group > 1 or head_dim > 32):
        # Gradients of a bias, and sums over heads, are too much for fewer threads.
        return replace(tiling, num_warps=8)
    return tiling


def forward_tiling(head_dim: int, dtype: torch.dtype, architecture: int, shared: int) -> Tiling:
    """The tiling of the forward kernel of any length, by padded head dimension and compute capability.

    ``shared``: bytes of shared memory that a program can have, as for those of gradients.
    """
    if dtype == torch.float32:
        return Tiling(32, 32, 4, 2) if head_dim <= 64 else Tiling(16, 16, 4, 1)
    if head_dim <= 32:
        return Tiling(128, 64, 4, 3)
    if head_dim <= 64:
        return Tiling(128, 64, 8, 3)
    if head_dim == 128 and shared < _MUCH_SHARED_MEMORY:
        return Tiling(32, 32, 4, 2)
    if head_dim <= 128:
        return Tiling(128, 64 if makes_group_products(architecture) else 32, 8, 2)
    # On Ampere more rows spill (64 x 32: 88 bytes a thread), or each score is computed twice (64 x 16).
    return Tiling(128, 32, 8, 2) if makes_group_products(architecture) else Tiling(32, 32, 4, 1)


def specialised_tiling(head_dim: int) -> Tiling:
    """The tiling of the warp-specialised forward kernel. Of eight warps the compiler specialises none."""
    # Two programs do not fit a multiprocessor either way: its registers are all taken. A third stage of 128 dimensions
    # is more shared memory than there is.
    return Tiling(128, 128, 4, num_stages=3 if head_dim <= 64 else 2)


def fused_tiling(head_dim: int) -> Tiling:
    """The tiling of the kernel that computes all gradients at once."""
    # A second stage of 128 dimensions spills registers with Triton 3.6.
    return Tiling(64, 128, 8, num_stages=2 if head_dim <= 64 else 1)


def query_gradient_tiling(head_dim: int, dtype: torch.dtype, architecture: int, shared: int) -> Tiling:
    """The tiling of the kernel of the queries' gradients."""
    if dtype == torch.float32:
        if head_dim <= 64:
            return Tiling(32, 32, 4 if head_dim <= 32 else 8, 2)
        return Tiling(16, 16, 4 if head_dim <= 128 else 8, 1)
    if head_dim <= 32:
        return Tiling(64, 64, 4, 2)
    if head_dim <= 64:
        return Tiling(64, 64 if makes_group_products(architecture) else 32, 4, 2)
    if head_dim <= 128:
        return Tiling(64 if shared >= _MUCH_SHARED_MEMORY else 32, 32, 4, 2)
    return Tiling(32, 32, 4, 1)


def key_gradient_tiling(head_dim: int, dtype: torch.dtype, architecture: int, shared: int) -> Tiling:
    """The tiling of the kernel of the keys' and values' gradients."""
    if dtype == torch.float32:
        if head_dim <= 64:
            return Tiling(32, 32, 4 if head_dim <= 32 else 8, 2)
        return Tiling(16, 16, 8, 1)
    if head_dim <= 32:
        return Tiling(64, 64, 4, 2)
    if head_dim <= 64:
        return Tiling(64 if makes_group_products(architecture) else 32, 64, 4, 2)
    if head_dim <= 128 and shared < _MUCH_SHARED_MEMORY:
        return Tiling(32, 32, 4, 2)
    if head_dim <= 128:
        # Half as many keys spill there with Triton 3.6.
        return Tiling(32, 128, 8, 2) if architecture == HOPPER else Tiling(32, 64, 4, 2)
    return Tiling(64, 32, 8, 1) if shared >= _MUCH_SHARED_MEMORY else Tiling(64, 16, 4, 1)


@dataclass(frozen=True)
class Masks:
    """Which masks act, as kernels take them."""

    causal: bool
    has_window: bool
    has_start: bool
    has_lens: bool


def masks_of(problem: Problem) -> Masks:
    """Say which masks of a problem can hide a key at all."""
    has_window = problem.window is not None and problem.window < problem.k.shape[2]
    return Masks(problem.causal, has_window, problem.row_start is not None, problem.kv_lens is not None)


def bias_kind(problem: Problem) -> int:
    """Which of the kinds above the bias is."""
    if isinstance(problem.bias, Tensor):
        return BIAS_HEAD if problem.bias.ndim == 1 else BIAS_ROW
    return BIAS_COUNT if problem.bias == "count" else BIAS_CONSTANT


def constant_offset(problem: Problem) -> float:
    """What a constant bias adds to ``z``."""
    return 0.0 if isinstance(problem.bias, (Tensor, str)) else -LOG2E * float(problem.bias)


def sigmoid_mode(problem: Problem) -> Mode:
    """Resolve ``auto``: the reciprocal by Newton's method is exact enough for half precisions only."""
    if problem.sigmoid_mode != "auto":
        return problem.sigmoid_mode
    return "newton" if problem.q.dtype in (torch.float16, torch.bfloat16) else "exact"
