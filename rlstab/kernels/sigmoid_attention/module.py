"""Self-attention as a module, for whole sequences and for one step at a time."""

from __future__ import annotations

import math
from typing import Literal, TypeAlias

import torch
from torch import Tensor, nn

from rlstab.errors import UserError
from rlstab.kernels.sigmoid_attention.attention import sigmoid_attention, softmax_attention
from rlstab.kernels.sigmoid_attention.checks import check_choice, check_flag, check_index, check_whole
from rlstab.kernels.sigmoid_attention.decode import (
    sigmoid_attention_decode,
    sigmoid_attention_step,
    softmax_attention_decode,
    softmax_attention_step,
)
from rlstab.kernels.sigmoid_attention.masks import Segments, alibi_slopes
from rlstab.kernels.sigmoid_attention.module_checks import (
    Positions,
    check_cache,
    check_heads,
    check_history,
    check_sequences,
    check_tokens,
    head_dimension,
)
from rlstab.kernels.sigmoid_attention.problem import Bias
from rlstab.kernels.sigmoid_attention.ring_cache import RingCache, check_ring
from rlstab.kernels.sigmoid_attention.rotary import rotary_angles, turned
from rlstab.kernels.sigmoid_attention.stats import AttentionStats, attention_stats

Weights: TypeAlias = Literal["sigmoid", "softmax"]
BiasOption: TypeAlias = Literal["count", "window", "head", "none"]


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
        Of sigmoid's scores: ``"count"``, minus the logarithm of the number of visible steps; ``"window"``, minus that
        of the window; ``"head"``, a learnable number for each head that begins there; ``"none"``. Softmax has none.
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
        check_choice("weights", weights, ("sigmoid", "softmax"))
        check_choice("bias", bias, ("count", "window", "head", "none"))
        check_choice("positions", positions, ("none", "alibi", "rotary"))
        window, qk_norm = check_whole("window", window, 1, "key"), check_flag("qk_norm", qk_norm)
        dim = head_dimension(width, num_heads, kv_heads, head_dim, positions)
        kv_heads = num_heads if kv_heads is None else kv_heads
        self.num_heads, self.kv_heads, self.head_dim, self.window = num_heads, kv_heads, dim, window
        self.weights, self.positions = weights, positions
        self.bias: BiasOption = bias if weights == "sigmoid" else "none"
        self.query = nn.Linear(width, num_heads * dim, bias=False)
        self.key = nn.Linear(width, kv_heads * dim, bias=False)
        self.value = nn.Linear(width, kv_heads * dim, bias=False)
        self.out = nn.Linear(num_heads * dim, width, bias=False)
        self.query_norm = nn.LayerNorm(dim) if qk_norm else nn.Identity()
        self.key_norm = nn.LayerNorm(dim) if qk_norm else nn.Identity()
        self.head_bias: nn.Parameter | None = None
        if self.bias == "head":
            self.head_bias = nn.Parameter(torch.full((num_heads,), -math.log(window)))
        self.register_buffer("slopes", alibi_slopes(num_heads) if positions == "alibi" else None, persistent=False)

    def forward(
        self, x: Tensor, rows: Segments | None = None, *, steps: Tensor | None = None, memory: Tensor | None = None
    ) -> Tensor:
        """Attend within each sequence.

        Parameters
        ----------
        x
            ``(B, T, width)``.
        rows
            Episodes in the sequences, from `segments_to_rows` with this module's window; default: one each. With a
            memory of M tokens they are those of all ``M + T``.
        steps
            ``(B, M + T)``: number of each token in its episode, for rotary positions; default: in its sequence. Only
            differences matter, but equal numbers round equally.
        memory
            ``(B, M, width)``: tokens before ``x`` that are seen and do not look (the recurrence of Transformer-XL,
            arXiv:1901.02860).

        Returns
        -------
        Tensor
            ``(B, T, width)``.
        """
        self._check(x, 3, "(B, T, width)")
        check_sequences(x, rows, steps, memory)
        # Masks of episodes need as many queries as keys: those of the memory are computed and left out.
        before = 0 if memory is None else memory.shape[1]
        q, k, v = self._project(x if memory is None else torch.cat([memory, x], dim=1), steps)
        row_start = None if rows is None else rows.row_start
        if self.weights == "softmax":
            out = softmax_attention(
                q, k, v, causal=True, window=self.window, row_start=row_start, alibi_slopes=self._slopes()
            )
        else:
            out = sigmoid_attention(
                q,
                k,
                v,
                causal=True,
                window=self.window,
                row_start=row_start,
                row_end=None if rows is None else rows.row_end,
                bias=self._bias(),
                alibi_slopes=self._slopes(),
            )
        return self.out(out[:, before:].flatten(2))

    def stats(
        self,
        x: Tensor,
        rows: Segments | None = None,
        *,
        steps: Tensor | None = None,
        sample_rows: int | None = 64,
        since: int = 0,
    ) -> AttentionStats:
        """Measure scores and weights; see `attention_stats`. Arguments as for `forward`."""
        self._check(x, 3, "(B, T, width)")
        check_sequences(x, rows, steps)
        if not x.numel():
            raise UserError(f"x must have tokens to look at, got shape {tuple(x.shape)}")
        q, k, _ = self._project(x, steps)
        return attention_stats(
            q,
            k,
            bias=self._bias(),
            causal=True,
            window=self.window,
            row_start=None if rows is None else rows.row_start,
            alibi_slopes=self._slopes(),
            softmax=self.weights == "softmax",
            sample_rows=sample_rows,
            since=since,
        )

    @torch.no_grad()
    def prefill(self, x: Tensor, rows: Segments, steps: Tensor, cache: RingCache) -> None:
        """Leave a cache as if the tokens of ``x`` had been given to `step` one after the other.

        Parameters
        ----------
        x
            ``(B, T, width)``, at least as many tokens as the window has before its newest one.
        rows
            Episodes in the sequences, with this module's window.
        steps
            ``(B, T)``: number of each token in its episode.
        cache
            Of ``B`` environments; overwritten.

        Raises
        ------
        UserError
            An argument does not fit, or, seen on a CPU alone, there are fewer tokens; the cache is as it was.
        """
        self._check(x, 3, "(B, T, width)")
        check_sequences(x, rows, steps)
        check_index("steps", steps, tuple(x.shape[:2]), x)
        if rows is None:  # pyright: ignore[reportUnnecessaryComparison]
            raise UserError("rows must be what segments_to_rows gives, got None")
        check_cache(cache, x, self.kv_heads, self.window, self.head_dim)
        check_history(rows, steps, self.window)
        newest = slice(max(x.shape[1] - self.window, 0), x.shape[1])
        _, k, v = self._project(x[:, newest], steps[:, newest])
        index = torch.arange(x.shape[1], device=x.device)[newest]
        current = index >= rows.row_start[:, -1:]
        slot = torch.where(current, steps[:, newest] % self.window, self.window)
        for stored, values in ((cache.k, k), (cache.v, v)):
            # One slot more than there are takes what belongs to earlier episodes.
            batch, heads, window, dim = stored.shape
            room = torch.cat([stored, stored.new_zeros(batch, heads, 1, dim)], dim=2)
            room.scatter_(2, slot[:, None, :, None].expand(-1, heads, -1, dim), values.transpose(1, 2).to(stored.dtype))
            stored.copy_(room[:, :, :window])
        cache.count.copy_(steps[:, -1] + 1)

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
        self._check(x, 2, "(B, width)")
        # What fits at first sight is looked at closely by the functions below, before they write.
        wanted = (len(x), self.kv_heads, self.window, self.head_dim)
        if type(cache) is not RingCache or cache.shapes() != (wanted, wanted, wanted[:1]):
            check_cache(cache, x, *wanted[1:])
        q, k, v = self._project(x[:, None], cache.count[:, None])
        q, k, v = q[:, 0], k[:, 0], v[:, 0]
        if self.weights == "sigmoid":
            out = sigmoid_attention_step(q, k, v, cache, alibi_slopes=self._slopes(), bias=self._bias())
        else:
            out = softmax_attention_step(q, k, v, cache, alibi_slopes=self._slopes())
        return self.out(out.flatten(1))

    def advance(self, x: Tensor, keys: Tensor, values: Tensor, count: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Do as `step` without writing in place, for export and for gradients through time.

        Parameters
        ----------
        x
            ``(B, width)``.
        keys, values
            ``(B, Hkv, W, d)``: those of a `RingCache`.
        count
            ``(B,)`` int64: steps written before.

        Returns
        -------
        out, keys, values
            ``(B, width)``, and the rings with the new step.
        """
        self._check(x, 2, "(B, width)")
        check_ring(keys, values, count, x, "x")
        check_heads(keys, values, self.kv_heads, self.window, self.head_dim)
        q, k, v = self._project(x[:, None], count[:, None])
        here = (torch.arange(self.window, device=x.device) == (count % self.window)[:, None])[:, None, :, None]
        keys = torch.where(here, k.transpose(1, 2), keys)
        values = torch.where(here, v.transpose(1, 2), values)
        q, count, slopes = q[:, 0], count + 1, self._slopes()
        if self.weights == "sigmoid":
            out = sigmoid_attention_decode(q, keys, values, count, alibi_slopes=slopes, bias=self._bias())
        else:
            out = softmax_attention_decode(q, keys, values, count, alibi_slopes=slopes)
        return self.out(out.flatten(1)), keys, values

    def empty_cache(self, batch: int) -> RingCache:
        """Make room for the window of ``batch`` environments."""
        weight = self.key.weight
        return RingCache.empty(
            batch, self.kv_heads, self.window, self.head_dim, dtype=weight.dtype, device=weight.device
        )

    def _check(self, x: Tensor, axes: int, shape: str) -> None:
        # Reading the weight of a reparametrised layer would compute it.
        check_tokens(x, axes, shape, self.query.in_features, next(self.parameters()))

    def _bias(self) -> Bias | None:
        match self.bias:
            case "count":
                return "count"
            case "window":
                return -math.log(self.window)
            case _:
                return self.head_bias

    def _slopes(self) -> Tensor | None:
        return self.get_buffer("slopes") if self.positions == "alibi" else None

    def _project(self, x: Tensor, steps: Tensor | None) -> tuple[Tensor, Tensor, Tensor]:
        """Queries, keys and values ``(B, T, heads, d)``; ``steps`` are ``(B, T)``."""
        q = self.query_norm(self.query(x).unflatten(2, (self.num_heads, self.head_dim)))
        k = self.key_norm(self.key(x).unflatten(2, (self.kv_heads, self.head_dim)))
        v = self.value(x).unflatten(2, (self.kv_heads, self.head_dim))
        if self.positions == "rotary":
            if steps is None:
                steps = torch.arange(x.shape[1], device=x.device)
            angles = rotary_angles(steps, self.head_dim)
            q, k = turned(q, angles), turned(k, angles)
        # Turns, and perhaps a norm, are computed in another type than the values have.
        return q.to(v.dtype), k.to(v.dtype), v
