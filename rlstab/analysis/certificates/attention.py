"""How much the output of a sigmoid-attention layer can move when its input does.

All bounds are for ``Y_i = sum_j M_ij sigmoid(scale <q_i, k_j> + b_ij) W_v x_j`` in the Frobenius norm of the whole
sequence; queries and keys are linear in their tokens, and perhaps normalised and turned by their position. They are
statements about a layer at or around a given input: sigmoid attention has no global Lipschitz constant, as softmax
attention has none, and at a single input either may be the rougher of the two.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, ClassVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from rlstab.analysis.certificates.attention_heads import Head, heads_of
from rlstab.analysis.certificates.certificate import Certificate, digest
from rlstab.analysis.result import Scalar
from rlstab.errors import UserError

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from rlstab.kernels.sigmoid_attention import Segments, SelfAttention

_ROUNDING = 1e-5
"""Bounds are enlarged by this factor: far more than float64 loses in the sums below."""


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

    Non-decreasing in the radius. At zero it is a coarser form of `local_bound`. Heads with rotary positions or
    normalised queries and keys have a bound of their own, coarser by what the norms of two matrices are more than that
    of their product.

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
    if not head.is_bilinear:
        return _factored_bound(head, x, radius)
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


def _factored_bound(head: Head, x: Tensor, radius: float) -> float:
    """`regional_bound` from how far queries and keys can move one by one, whatever makes them of their tokens."""
    scores, identity = head.scores(x), torch.eye(len(x), dtype=torch.bool)
    queries, keys, values = head.queries(x)[0], head.keys(x)[0], x @ head.value.T
    by_query, by_key, value_gain = head.query_gain(x, radius), head.key_gain(x, radius), _norm(head.value)
    long_query, long_key = queries.norm(dim=1), keys.norm(dim=1)
    # |<q + dq, k + dk> - <q, k>| with |dq_i| <= by_query_i e_i, |dk_j| <= by_key_j e_j, and e_i^2 + e_j^2 <= radius^2.
    through_query, through_key = by_query[:, None] * long_key[None], long_query[:, None] * by_key[None]
    both = by_query[:, None] * by_key[None] * radius**2
    others = radius * (through_query.square() + through_key.square()).sqrt() + both / 2
    own = radius * (through_query + through_key) + both
    moved = head.scale * torch.where(identity, own, others)
    weights = torch.where(head.visible, torch.sigmoid(scores + moved), 0.0)
    slopes = torch.where(head.visible, _largest_slope(scores, moved), 0.0)
    roots, steepest = slopes.sqrt()[:, :, None], slopes.amax(1).sqrt()
    spread_values = torch.linalg.matrix_norm(roots * values[None], ord=2) + value_gain * radius * steepest
    loosest = (slopes.sqrt() * by_key[None]).amax(1)
    spread_keys = torch.linalg.matrix_norm(roots * keys[None], ord=2) + loosest * radius
    through_queries = (spread_values * spread_keys * by_query).max()
    farthest_values = values.norm(dim=1) + value_gain * radius
    farthest_queries = long_query + by_query * radius
    pairs = slopes * farthest_values[None] * farthest_queries[:, None] * by_key[None]
    bound = value_gain * _norm(weights) + head.scale * (through_queries + pairs.square().sum().sqrt())
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

    Raises
    ------
    UserError
        ``x`` has another shape, or is not finite.
    """
    _check(x, module, 3, "sequences of shape (B, T, width)")
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
        A layer with sigmoid weights, in single or double precision.
    x
        ``(T, width)``.
    radii
        Sizes of the change of the input, Frobenius norm. The bound at zero is that from which the others go on,
        coarser than ``local``.
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
    _check(x, module, 2, "one sequence of shape (T, width)")
    if isinstance(radii, (str, int, float)) or np.ndim(radii) != 1:
        raise UserError(f"radii must be a sequence of numbers, got {radii!r}: write one as (0.1,)")
    if not len(radii) or any(not np.isfinite(radius) or radius < 0 for radius in radii):
        raise UserError(f"radii must be finite and at least 0, got {list(radii)}")
    if not all(bool(parameter.isfinite().all()) for parameter in module.parameters()):
        raise UserError("the layer has weights that are NaN or infinite")
    heads = heads_of(module, len(x), rows)
    tokens = x.detach().to("cpu", torch.float64)
    projection = float(_norm(module.out.weight.detach().to("cpu", torch.float64)))
    local = [local_bound(head, tokens) for head in heads]
    found = [
        projection * float(np.linalg.norm([regional_bound(head, tokens, radius) for head in heads])) for radius in radii
    ]
    if not np.isfinite([*local, *found]).all():
        raise UserError("the layer's weights are so large that no bound is finite")
    return AttentionCertificate(
        statement=(
            "for every sequence x' whose Frobenius distance r from the given one is at most a radius listed, the "
            "layer's outputs, computed without rounding, differ by at most the bound of that radius times r"
        ),
        grade="sound",
        method="interval bounds of scores and weights, product bounds of the three places where the input enters",
        network_sha256=digest(module.out.weight.detach().cpu().double().numpy(), *(h.numbers() for h in heads)),
        set_sha256=digest(tokens.numpy(), heads[0].visible.numpy(), np.asarray(radii, np.float64)),
        radii=np.asarray(radii, np.float64),
        bounds=np.asarray(found, np.float64),
        local=projection * float(np.linalg.norm(local)),
        heads=np.asarray(local, np.float64),
    )


def _check(x: Tensor, module: SelfAttention, axes: int, what: str) -> None:
    width = module.query.in_features
    if x.ndim != axes or 0 in x.shape or x.shape[-1] != width:
        raise UserError(f"x must be {what} with width {width}, got {tuple(x.shape)}")
    if not bool(x.isfinite().all()):
        raise UserError("x has entries that are NaN or infinite")


def _weights(head: Head, scores: Tensor) -> tuple[Tensor, Tensor]:
    """Weights and their slopes."""
    weights = torch.where(head.visible, torch.sigmoid(scores), 0.0)
    # Not P (1 - P): where P is nearly one, nothing would be left of it.
    return weights, weights * torch.sigmoid(-scores)


def _largest_slope(scores: Tensor, moved: Tensor) -> Tensor:
    """Largest slope of the sigmoid within ``moved`` of each score: at zero, or at the end nearest to it."""
    nearest = (scores.abs() - moved).clamp(min=0)
    return torch.sigmoid(nearest) * torch.sigmoid(-nearest)


def _norm(matrix: Tensor) -> Tensor:
    return torch.linalg.matrix_norm(matrix, ord=2)
