"""Self-attention as a module, for whole sequences and for one step at a time."""

from __future__ import annotations

import math
from typing import Literal, TypeAlias

import torch
from torch import Tensor, nn

from rlstab.errors import UserError
from rlstab.kernels.sigmoid_attention.attention import sigmoid_attention, softmax_attention
from rlstab.kernels.sigmoid_attention.decode import RingCache, sigmoid_attention_step, softmax_attention_decode
from rlstab.kernels.sigmoid_attention.masks import Segments, alibi_slopes, check_window
from rlstab.kernels.sigmoid_attention.problem import Bias

Weights: TypeAlias = Literal["sigmoid", "softmax"]
BiasOption: TypeAlias = Literal["count", "head", "none"]
Positions: TypeAlias = Literal["none", "alibi", "rotary"]

_ROTARY_BASE = 10_000.0


class SelfAttention(nn.Module):
    """Causal self-attention over a window, with sigmoid or softmax weights.

    What `forward` computes for a whole sequence, `step` computes one step after the other from a `RingCache`.

    Parameters
    ----------
    width
        Size of a token.
    num_heads
        Query heads.
    window
        How many steps a step sees, itself included.
    weights
        ``"sigmoid"`` or ``"softmax"``.
    kv_heads
        Key heads, a divisor of ``num_heads``; default: as many.
    head_dim
        Default ``width / num_heads``.
    bias
        Of sigmoid's scores: ``"count"``, minus the logarithm of the number of visible steps; ``"head"``, a learnable
        number for each head that begins at minus the logarithm of the window; ``"none"``. Softmax has none.
    positions
        ``"none"``; ``"alibi"``, scores fall linearly with distance (arXiv:2108.12409); ``"rotary"``, queries and keys
        are turned by their step (arXiv:2104.09864).
    qk_norm
        Whether queries and keys are normalised over the head dimension (arXiv:2302.05442).

    Raises
    ------
    UserError
        Sizes that do not fit.
    """

    def __init__(
        self,
        width: int,
        num_heads: int,
        window: int,
        *,
        weights: Weights = "sigmoid",
        kv_heads: int | None = None,
        head_dim: int | None = None,
        bias: BiasOption = "count",
        positions: Positions = "none",
        qk_norm: bool = False,
    ) -> None:
        super().__init__()
        kv_heads = kv_heads or num_heads
        check_window(window)
        if num_heads < 1 or num_heads % kv_heads:
            raise UserError(f"num_heads must be a multiple of kv_heads, got {num_heads} and {kv_heads}")
        if head_dim is None and width % num_heads:
            raise UserError(f"width must be a multiple of num_heads, got {width} and {num_heads}; or set head_dim")
        dim = head_dim or width // num_heads
        if positions == "rotary" and dim % 2:
            raise UserError(f"rotary positions need an even head dimension, got {dim}")
        self.num_heads, self.kv_heads, self.head_dim, self.window = num_heads, kv_heads, dim, window
        self.weights, self.positions = weights, positions
        self.count_bias = weights == "sigmoid" and bias == "count"
        self.query = nn.Linear(width, num_heads * dim, bias=False)
        self.key = nn.Linear(width, kv_heads * dim, bias=False)
        self.value = nn.Linear(width, kv_heads * dim, bias=False)
        self.out = nn.Linear(num_heads * dim, width, bias=False)
        self.query_norm = nn.LayerNorm(dim) if qk_norm else nn.Identity()
        self.key_norm = nn.LayerNorm(dim) if qk_norm else nn.Identity()
        self.head_bias: nn.Parameter | None = None
        if weights == "sigmoid" and bias == "head":
            self.head_bias = nn.Parameter(torch.full((num_heads,), -math.log(window)))
        self.register_buffer("slopes", alibi_slopes(num_heads) if positions == "alibi" else None, persistent=False)
        if positions == "rotary":
            rates = _ROTARY_BASE ** (-torch.arange(0, dim, 2) / dim)
            self.register_buffer("rates", rates, persistent=False)

    def forward(self, x: Tensor, rows: Segments | None = None) -> Tensor:
        """Attend within each sequence.

        Parameters
        ----------
        x
            ``(B, T, width)``.
        rows
            Episodes in the sequences, from `segments_to_rows` with this module's window; default: one each.

        Returns
        -------
        Tensor
            ``(B, T, width)``.
        """
        q, k, v = self._project(x, torch.arange(x.shape[1], device=x.device))
        window = None if rows is not None else self.window
        row_start = None if rows is None else rows.row_start
        row_end = None if rows is None else rows.row_end
        if self.weights == "softmax":
            out = softmax_attention(
                q, k, v, causal=True, window=window, row_start=row_start, alibi_slopes=self._slopes()
            )
        else:
            out = sigmoid_attention(
                q,
                k,
                v,
                causal=True,
                window=window,
                row_start=row_start,
                row_end=row_end,
                bias=self._bias(),
                alibi_slopes=self._slopes(),
            )
        return self.out(out.flatten(2))

    @torch.no_grad()
    def step(self, x: Tensor, cache: RingCache) -> Tensor:
        """Attend from one new step of each environment; writes it into the cache.

        Parameters
        ----------
        x
            ``(B, width)``.
        cache
            From `empty_cache`. Call its ``begin`` first where an episode begins.

        Returns
        -------
        Tensor
            ``(B, width)``.
        """
        q, k, v = self._project(x[:, None], cache.count[:, None])
        q, k, v = q[:, 0], k[:, 0], v[:, 0]
        if self.weights == "sigmoid":
            out = sigmoid_attention_step(q, k, v, cache, alibi_slopes=self._slopes(), bias=self._bias())
        else:
            cache.write(k, v)
            out = softmax_attention_decode(q, cache.k, cache.v, cache.count, alibi_slopes=self._slopes())
        return self.out(out.flatten(1))

    def empty_cache(self, batch: int) -> RingCache:
        """Make room for the window of ``batch`` environments."""
        weight = self.key.weight
        return RingCache.empty(
            batch, self.kv_heads, self.window, self.head_dim, dtype=weight.dtype, device=weight.device
        )

    def _bias(self) -> Bias | None:
        return "count" if self.count_bias else self.head_bias

    def _slopes(self) -> Tensor | None:
        return self.get_buffer("slopes") if self.positions == "alibi" else None

    def _project(self, x: Tensor, steps: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Queries, keys and values ``(B, T, heads, d)``; ``steps`` are ``(T,)`` or ``(B, 1)``."""
        q = self.query_norm(self.query(x).unflatten(2, (self.num_heads, self.head_dim)))
        k = self.key_norm(self.key(x).unflatten(2, (self.kv_heads, self.head_dim)))
        v = self.value(x).unflatten(2, (self.kv_heads, self.head_dim))
        if self.positions == "rotary":
            angles = steps[..., None].to(x.dtype) * self.get_buffer("rates").to(x.dtype)
            cosine, sine = angles.cos()[..., None, :], angles.sin()[..., None, :]
            q, k = _turned(q, cosine, sine), _turned(k, cosine, sine)
        # A norm may compute in another type than the values have.
        return q.to(v.dtype), k.to(v.dtype), v


def _turned(x: Tensor, cosine: Tensor, sine: Tensor) -> Tensor:
    first, second = x.chunk(2, dim=3)
    return torch.cat([first * cosine - second * sine, first * sine + second * cosine], dim=3)
