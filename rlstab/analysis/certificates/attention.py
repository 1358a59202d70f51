"""How much the output of a sigmoid-attention layer can move when its input does.

All bounds are for ``Y_i = sum_j M_ij sigmoid(scale <W_q x_i, W_k x_j> + b_ij) W_v x_j`` in the Frobenius norm of the
whole sequence. They are statements about a layer at or around a given input: sigmoid attention has no global Lipschitz
constant, as softmax attention has none, and at a single input either may be the rougher of the two.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, ClassVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from rlstab.analysis.certificates.certificate import Certificate, digest
from rlstab.analysis.result import Scalar
from rlstab.errors import UserError

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from rlstab.kernels.sigmoid_attention import Segments, SelfAttention

_ROUNDING = 1e-5
"""Bounds are enlarged by this factor: far more than float64 loses in the sums below."""


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

    def scores(self, x: Tensor) -> Tensor:
        """``(n, n)`` for ``x`` of shape ``(n, width)``."""
        return self.scale * self.queries(x)[0] @ self.keys(x)[0].T + self.offsets

    def output(self, x: Tensor) -> Tensor:
        """``(n, dv)``."""
        weights = torch.where(self.visible, torch.sigmoid(self.scores(x)), 0.0)
        return weights @ (x @ self.value.T)


def local_bound(head: Head, x: Tensor) -> float:
    """Bound the spectral norm of a head's Jacobian at an input.

    Parameters
    ----------
    head
        The head.
    x
        ``(n, width)``, float64.

    Returns
    -------
    float
        ``||W_v|| ||P|| + s max_i ||(sum_j D_ij v_j k_j^T) Q_i|| + s sqrt(sum_ij D_ij^2 ||v_j||^2 ||q_i^T K_j||^2)``
        with ``D = P (1 - P)``, queries, keys and values ``q``, ``k``, ``v``, the derivatives ``Q_i`` and ``K_j`` of the
        former two in their tokens, and the scale ``s``: one term for each place where ``x`` enters. Where scores are
        bilinear, ``Q_i = W_q`` and ``K_j = W_k``.
    """
    weights, slopes = _weights(head, head.scores(x))
    values = x @ head.value.T
    (queries, query_slopes), (keys, key_slopes) = head.queries(x), head.keys(x)
    through_values = _norm(head.value) * _norm(weights)
    # sum_j D_ij v_j k_j^T for every row at once, (n, dv, d).
    outer = torch.einsum("ij,ja,jb->iab", slopes, values, keys)
    through_queries = torch.linalg.matrix_norm(outer @ query_slopes, ord=2).max()
    reactions = torch.einsum("ia,jab->ijb", queries, key_slopes).square().sum(2)
    through_keys = (slopes.square() * values.square().sum(1)[None] * reactions).sum().sqrt()
    return float(through_values + head.scale * (through_queries + through_keys)) * (1 + _ROUNDING)


def regional_bound(head: Head, x: Tensor, radius: float) -> float:
    """Bound ``||Y(x') - Y(x)|| / ||x' - x||`` for every ``x'`` within ``radius`` of ``x``, in the Frobenius norm.

    Non-decreasing in the radius. At zero it is a coarser form of `local_bound`.

    Parameters
    ----------
    head
        The head.
    x
        ``(n, width)``, float64.
    radius
        At least zero.

    Returns
    -------
    float
        The bound.
    """
    scores, coupling = head.scores(x), head.coupling
    size, identity = _norm(coupling), torch.eye(len(x), dtype=torch.bool)
    # How far scores can move: rows and keys share the radius, and a row's own key moves with it.
    by_key, by_row = (x @ coupling.T).square().sum(1), (x @ coupling).square().sum(1)
    others = radius * (by_key[None] + by_row[:, None]).sqrt() + size * radius**2 / 2
    own = radius * (x @ (coupling + coupling.T)).norm(dim=1) + size * radius**2
    moved = torch.where(identity, own[:, None], others)
    weights = torch.where(head.visible, torch.sigmoid(scores + moved), 0.0)
    slopes = torch.where(head.visible, _largest_slope(scores, moved), 0.0)
    # Spectral norm of the tokens weighted by the row's slopes.
    spread = torch.linalg.matrix_norm(slopes.sqrt()[:, :, None] * x[None], ord=2)
    through_queries = (spread + radius * slopes.amax(1).sqrt()).square().max()
    lengths = x.norm(dim=1) + radius
    through_keys = (slopes.square() * lengths.square()[:, None] * lengths.square()[None]).sum().sqrt()
    bound = _norm(head.value) * (_norm(weights) + size * (through_queries + through_keys))
    return float(bound) * (1 + _ROUNDING)


def mean_norm_bound(head: Head, x: Tensor) -> float:
    """Bound the Jacobian by the mean squared norm of the tokens, as published; looser than `local_bound`.

    References
    ----------
    Ramapuram et al. 2025, arXiv:2409.04431, theorem on the Lipschitz constant of sigmoid attention.
    """
    weights, slopes = _weights(head, head.scores(x))
    count = len(x)
    mean_square = x.square().sum(1).mean()
    inner = count * weights.max() + 2 * count * slopes.max() * _norm(head.coupling) * mean_square
    return float(_norm(head.value) * inner) * (1 + _ROUNDING)


def token_gains(head: Head, x: Tensor) -> Tensor:
    """How the newest output reacts to each token: spectral norms of ``dY_n / dx_j``, exact.

    The last is the reaction to the current observation; the others say how an old disturbance of a sensor acts now.
    Their sum bounds the effect of a constant bias of that size on every token of the window.

    Parameters
    ----------
    head
        The head.
    x
        ``(n, width)``, float64; the last row is the current token.

    Returns
    -------
    Tensor
        ``(n,)``.
    """
    weights, slopes = _weights(head, head.scores(x))
    newest, values = len(x) - 1, x @ head.value.T
    (queries, query_slopes), (keys, key_slopes) = head.queries(x), head.keys(x)
    reactions = head.scale * torch.einsum("a,jab->jb", queries[newest], key_slopes)
    jacobians = weights[newest, :, None, None] * head.value[None]
    jacobians = jacobians + slopes[newest, :, None, None] * values[:, :, None] * reactions[:, None]
    outer = torch.einsum("j,ja,jb->ab", slopes[newest], values, keys)
    jacobians[newest] += head.scale * outer @ query_slopes[newest]
    return torch.linalg.matrix_norm(jacobians, ord=2)


def jacobian_norms(module: SelfAttention, x: Tensor, *, iterations: int = 20, seed: int = 0) -> Tensor:
    """Estimate how much a layer of any kind amplifies small changes of an input, by power iteration.

    An estimate from below, no bound: what `certify_attention` is to be compared with, and all there is for layers that
    it refuses.

    Parameters
    ----------
    module
        The layer; softmax weights, rotary positions and normalised queries and keys included.
    x
        ``(B, T, width)``: sequences, each an episode of its own.
    iterations
        Products with the Jacobian and its transpose.
    seed
        Of the random direction it begins with.

    Returns
    -------
    Tensor
        ``(B,)``: the Jacobian's norm along the direction found, at most its spectral norm.
    """
    x = x.detach().clone().requires_grad_()
    direction = torch.randn(x.shape, generator=torch.Generator().manual_seed(seed)).to(x.detach())
    norms = torch.zeros(len(x))
    for _ in range(iterations):
        direction = direction / direction.flatten(1).norm(dim=1).clamp(min=1e-30)[:, None, None]
        moved = torch.func.jvp(module, (x.detach(),), (direction,))[1].detach()
        norms = moved.flatten(1).norm(dim=1)
        (direction,) = torch.autograd.grad(module(x), x, moved)
    return norms


@dataclass(frozen=True, eq=False, repr=False)
class AttentionCertificate(Certificate):
    """Lipschitz bounds of a sigmoid-attention layer around one input sequence."""

    kind: ClassVar[str] = "attention_certificate"

    radii: NDArray[np.float64] = field(metadata={"unit": "norm of the input"})
    """Frobenius norms of the change of the input, ``(r,)``."""
    bounds: NDArray[np.float64] = field(metadata={"unit": "output per input"})
    """``||f(x') - f(x)|| <= bounds[k] ||x' - x||`` wherever ``||x' - x|| <= radii[k]``, ``(r,)``."""
    local: float
    """Bound of the spectral norm of the Jacobian at the input."""
    heads: NDArray[np.float64] = field(metadata={"unit": "output per input"})
    """The same for each head before the output projection, ``(H,)``."""

    def summary(self) -> dict[str, Scalar]:
        """What is proved, and the numbers."""
        facts: dict[str, Scalar] = {"grade": self.grade, "statement": self.statement, "at the input": self.local}
        for radius, bound in zip(self.radii, self.bounds, strict=True):
            facts[f"within {radius:g}"] = float(bound)
        return facts

    def plot(self, ax: Axes | None = None) -> Axes:
        """Draw the bound against the radius."""
        from rlstab.analysis.plots import new_axes

        ax = new_axes() if ax is None else ax
        ax.plot(self.radii, self.bounds, "o-")
        ax.axhline(self.local, color="black", linewidth=0.8, linestyle=":")
        ax.set_xlabel("norm of the change of the input")
        ax.set_ylabel("bound of the gain")
        return ax


@torch.no_grad()
def certify_attention(
    module: SelfAttention, x: Tensor, *, radii: Sequence[float] = (0.0,), rows: Segments | None = None
) -> AttentionCertificate:
    """Bound how much a layer can amplify changes of one input sequence.

    Parameters
    ----------
    module
        A layer with sigmoid weights. With rotary positions, or normalised queries and keys, at the input itself only.
    x
        ``(T, width)``.
    radii
        Sizes of the change of the input, Frobenius norm. At zero, where bilinear scores allow others, the coarser
        bound that goes on from there; otherwise the local one.
    rows
        Episodes in the sequence, for a batch of one.

    Returns
    -------
    AttentionCertificate
        Sound in real arithmetic; evaluated in float64 and enlarged by a factor of 1.00001.

    Raises
    ------
    UserError
        The layer is of another kind, or an argument is out of range.
    """
    if x.ndim != 2 or len(x) < 1:
        raise UserError(f"x must be one sequence of shape (T, width), got {tuple(x.shape)}")
    if not radii or any(not np.isfinite(radius) or radius < 0 for radius in radii):
        raise UserError(f"radii must be finite and at least 0, got {list(radii)}")
    heads = heads_of(module, len(x), rows)
    tokens = x.detach().to("cpu", torch.float64)
    projection = float(_norm(module.out.weight.detach().to("cpu", torch.float64)))
    local = [local_bound(head, tokens) for head in heads]
    if any(radii) and not heads[0].is_bilinear:
        raise UserError("with qk_norm or rotary positions bounds are known at the input itself only: use radii=(0.0,)")
    found = [
        projection * float(np.linalg.norm([_bound_within(head, tokens, radius) for head in heads])) for radius in radii
    ]
    weights = [parameter.detach().to("cpu", torch.float64).numpy() for parameter in module.parameters()]
    return AttentionCertificate(
        statement=(
            "for every sequence x' whose Frobenius distance r from the given one is at most a radius listed, the "
            "layer's outputs differ by at most the bound of that radius times r"
        ),
        grade="sound",
        method="interval bounds of scores and weights, product bounds of the three places where the input enters",
        network_sha256=digest(*weights),
        set_sha256=digest(tokens.numpy(), np.asarray(radii, np.float64)),
        radii=np.asarray(radii, np.float64),
        bounds=np.asarray(found, np.float64),
        local=projection * float(np.linalg.norm(local)),
        heads=np.asarray(local, np.float64),
    )


def heads_of(module: SelfAttention, length: int, rows: Segments | None = None) -> list[Head]:
    """Take a layer apart into its heads.

    Raises
    ------
    UserError
        Its weights are not sigmoids.
    """
    if module.weights != "sigmoid":
        raise UserError("these bounds are for sigmoid weights; softmax needs others")
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


def _bound_within(head: Head, x: Tensor, radius: float) -> float:
    return regional_bound(head, x, radius) if head.is_bilinear else local_bound(head, x)


def _turns(module: SelfAttention, length: int) -> Tensor | None:
    """Rotations of the first positions, ``(length, d, d)``."""
    if module.positions != "rotary":
        return None
    rates = module.get_buffer("rates").to("cpu", torch.float64)
    angles = torch.arange(length, dtype=torch.float64)[:, None] * rates
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


def _weights(head: Head, scores: Tensor) -> tuple[Tensor, Tensor]:
    """Weights and their slopes."""
    weights = torch.where(head.visible, torch.sigmoid(scores), 0.0)
    return weights, weights * (1 - weights)


def _largest_slope(scores: Tensor, moved: Tensor) -> Tensor:
    """Largest slope of the sigmoid within ``moved`` of each score: at zero, or at the end nearest to it."""
    nearest = (scores.abs() - moved).clamp(min=0)
    weights = torch.sigmoid(nearest)
    return weights * (1 - weights)


def _norm(matrix: Tensor) -> Tensor:
    return torch.linalg.matrix_norm(matrix, ord=2)
