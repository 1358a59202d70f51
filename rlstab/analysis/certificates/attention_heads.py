"""A layer of sigmoid attention taken apart into heads, in float64: what its certificates are computed from."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from rlstab.errors import UserError
from rlstab.kernels.sigmoid_attention.rotary import rotary_angles

if TYPE_CHECKING:
    from rlstab.kernels.sigmoid_attention import Segments, SelfAttention


@dataclass(frozen=True)
class Norm:
    """A layer norm over the head dimension: ``gain * (x - mean) / sqrt(var + eps) + bias``, both ``(d,)``, float64."""

    gain: Tensor
    bias: Tensor
    eps: float


@dataclass(frozen=True)
class Head:
    """One head of a layer, in float64.

    Parameters
    ----------
    query, key, value
        ``(d, width)``, ``(d, width)``, ``(dv, width)``.
    offsets
        ``(n, n)``: what is added to the scores of each row and key, whatever the input.
    visible
        ``(n, n)`` bool: row ``i`` sees key ``j``.
    scale
        Factor of the scores.
    turns
        ``(n, d, d)``: rotations of queries and keys by their position, or none.
    query_norm, key_norm
        What normalises queries and keys before that, or nothing.
    """

    query: Tensor
    key: Tensor
    value: Tensor
    offsets: Tensor
    visible: Tensor
    scale: float
    turns: Tensor | None = None
    query_norm: Norm | None = None
    key_norm: Norm | None = None

    @property
    def is_bilinear(self) -> bool:
        """Whether scores are one bilinear form of the two tokens, the same for all positions."""
        return self.turns is None and self.query_norm is None and self.key_norm is None

    @property
    def coupling(self) -> Tensor:
        """``W_q^T W_k``, ``(width, width)``, times the scale.

        Raises
        ------
        UserError
            There is no such matrix: see `is_bilinear`.
        """
        if not self.is_bilinear:
            raise UserError("this bound needs scores that are bilinear in the input: no qk_norm, no rotary positions")
        return self.scale * self.query.T @ self.key

    def queries(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Queries ``(n, d)`` and their derivatives ``(n, d, width)`` in their own tokens."""
        return _projected(x, self.query, self.query_norm, self.turns)

    def keys(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Keys ``(n, d)`` and their derivatives ``(n, d, width)`` in their own tokens."""
        return _projected(x, self.key, self.key_norm, self.turns)

    def query_gain(self, x: Tensor, radius: float) -> Tensor:
        """``(n,)``: how much a query can amplify any change of its token that is no longer than ``radius``."""
        return _gain(x, self.query, self.query_norm, radius)

    def key_gain(self, x: Tensor, radius: float) -> Tensor:
        """``(n,)``: how much a key can amplify any change of its token that is no longer than ``radius``."""
        return _gain(x, self.key, self.key_norm, radius)

    def numbers(self) -> NDArray[np.float64]:
        """All that determines what the head computes for a given set of visible tokens, in one row."""
        parts = [torch.tensor([*self.query.shape, *self.value.shape]), torch.tensor([self.scale])]
        parts += [self.query, self.key, self.value, self.offsets]
        parts += [] if self.turns is None else [self.turns]
        for norm in (self.query_norm, self.key_norm):
            parts += [] if norm is None else [norm.gain, norm.bias, torch.tensor([norm.eps])]
        return torch.cat([part.double().flatten() for part in parts]).numpy()

    def scores(self, x: Tensor) -> Tensor:
        """``(n, n)`` for ``x`` of shape ``(n, width)``."""
        return self.scale * self.queries(x)[0] @ self.keys(x)[0].T + self.offsets

    def output(self, x: Tensor) -> Tensor:
        """``(n, dv)``."""
        weights = torch.where(self.visible, torch.sigmoid(self.scores(x)), 0.0)
        return weights @ (x @ self.value.T)


def heads_of(module: SelfAttention, length: int, rows: Segments | None = None) -> list[Head]:
    """Take a layer apart into its heads.

    Raises
    ------
    UserError
        Its weights are not sigmoids or in half precision, whose rounding no bound here covers, or ``rows`` are not
        those of one sequence of this length and the layer's window.
    """
    if module.weights != "sigmoid":
        raise UserError("these bounds are for sigmoid weights; softmax needs others")
    halves = {parameter.dtype for parameter in module.parameters()} & {torch.float16, torch.bfloat16}
    if halves:
        raise UserError(f"the layer is {halves.pop()}, whose rounding no bound covers: give layer.float()")
    if rows is not None and tuple(rows.row_start.shape) != (1, length):
        raise UserError(f"rows must be of one sequence of {length} steps, got {tuple(rows.row_start.shape)}")
    from rlstab.kernels.sigmoid_attention.masks import visible_intervals

    intervals = visible_intervals(
        length,
        length,
        causal=True,
        window=None if rows is not None else module.window,
        row_start=None if rows is None else rows.row_start.cpu(),
        kv_lens=None,
        device=torch.device("cpu"),
    )
    visible = intervals.mask(0, length)[0]
    steps = torch.arange(length, dtype=torch.float64)
    distances = (steps[:, None] - steps).abs()
    counts = intervals.count()[0].clamp(min=1).to(torch.float64)
    if int(counts.max()) > module.window:
        raise UserError(f"rows see {int(counts.max())} steps, the layer's window is {module.window}: make them with it")
    group = module.num_heads // module.kv_heads

    def split(layer: torch.nn.Linear, heads: int) -> Tensor:
        return layer.weight.detach().to("cpu", torch.float64).unflatten(0, (heads, -1))

    queries, keys = split(module.query, module.num_heads), split(module.key, module.kv_heads)
    values = split(module.value, module.kv_heads)
    turns, norms = _turns(module, length), (_norm_of(module.query_norm), _norm_of(module.key_norm))
    found = []
    for head in range(module.num_heads):
        offsets = torch.zeros(length, length, dtype=torch.float64)
        match module.bias:
            case "count":
                offsets = offsets - counts.log()[:, None]
            case "window":
                offsets = offsets - math.log(module.window)
            case "head":
                assert module.head_bias is not None
                offsets = offsets + float(module.head_bias[head])
            case "none":
                pass
        if module.positions == "alibi":
            offsets = offsets - float(module.get_buffer("slopes")[head]) * distances
        scale = module.head_dim**-0.5
        own = head // group
        found.append(Head(queries[head], keys[own], values[own], offsets, visible, scale, turns, *norms))
    return found


def _turns(module: SelfAttention, length: int) -> Tensor | None:
    """Rotations of the first positions, ``(length, d, d)``."""
    if module.positions != "rotary":
        return None
    angles = rotary_angles(torch.arange(length), module.head_dim)
    cosine, sine = torch.diag_embed(angles.cos()), torch.diag_embed(angles.sin())
    return torch.cat([torch.cat([cosine, -sine], dim=2), torch.cat([sine, cosine], dim=2)], dim=1)


def _norm_of(module: torch.nn.Module) -> Norm | None:
    if not isinstance(module, torch.nn.LayerNorm):
        return None
    gain, bias = (part.detach().to("cpu", torch.float64) for part in (module.weight, module.bias))
    return Norm(gain, bias, module.eps)


def _projected(x: Tensor, matrix: Tensor, norm: Norm | None, turns: Tensor | None) -> tuple[Tensor, Tensor]:
    """Queries or keys ``(n, d)``, and their derivatives ``(n, d, width)``."""
    found = x @ matrix.T
    slopes = matrix.expand(len(x), -1, -1)
    if norm is not None:
        centred = found - found.mean(1, keepdim=True)
        deviation = (centred.square().mean(1, keepdim=True) + norm.eps).sqrt()
        unit = centred / deviation
        # Of the layer norm: gain (I - 1 1^T / d - unit unit^T / d) / deviation.
        slopes = slopes - slopes.mean(1, keepdim=True)
        slopes = slopes - unit[:, :, None] * torch.einsum("na,nab->nb", unit, slopes)[:, None] / matrix.shape[0]
        slopes = norm.gain[:, None] * slopes / deviation[:, :, None]
        found = norm.gain * unit + norm.bias
    if turns is None:
        return found, slopes
    return torch.einsum("nab,nb->na", turns, found), turns @ slopes


def _gain(x: Tensor, matrix: Tensor, norm: Norm | None, radius: float) -> Tensor:
    """Largest spectral norm of the derivative of `_projected` in the ball; rotations change none."""
    if norm is None:
        return torch.linalg.matrix_norm(matrix, ord=2).expand(len(x))
    dim = matrix.shape[0]
    # A layer norm sees what is left without the mean; its standard deviation shrinks by at most what that moves.
    centred = matrix - matrix.mean(0, keepdim=True)
    size = torch.linalg.matrix_norm(centred, ord=2)
    deviation = ((x @ centred.T).norm(dim=1) - size * radius).clamp(min=0) / dim**0.5
    return norm.gain.abs().max() * size / (deviation.square() + norm.eps).sqrt()
