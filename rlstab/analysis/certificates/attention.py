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
    """

    query: Tensor
    key: Tensor
    value: Tensor
    offsets: Tensor
    visible: Tensor
    scale: float

    @property
    def coupling(self) -> Tensor:
        """``W_q^T W_k``, ``(width, width)``, times the scale."""
        return self.scale * self.query.T @ self.key

    def scores(self, x: Tensor) -> Tensor:
        """``(n, n)`` for ``x`` of shape ``(n, width)``."""
        return x @ self.coupling @ x.T + self.offsets

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
        ``||W_v|| ||P|| + max_i ||W_v (sum_j D_ij x_j x_j^T) M^T|| + sqrt(sum_ij D_ij^2 ||W_v x_j||^2 ||x_i^T M||^2)``
        with ``D = P (1 - P)`` and ``M`` the coupling: one term for each place where ``x`` enters.
    """
    weights, slopes = _weights(head, head.scores(x))
    values = x @ head.value.T
    through_values = _norm(head.value) * _norm(weights)
    # sum_j D_ij v_j x_j^T for every row at once, (n, dv, width).
    outer = torch.einsum("ij,ja,jb->iab", slopes, values, x)
    through_queries = torch.linalg.matrix_norm(outer @ head.coupling.T, ord=2).max()
    pairs = slopes.square() * values.square().sum(1)[None] * (x @ head.coupling).square().sum(1)[:, None]
    return float(through_values + through_queries + pairs.sum().sqrt()) * (1 + _ROUNDING)


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
    reaction = x[newest] @ head.coupling
    jacobians = weights[newest, :, None, None] * head.value[None]
    jacobians = jacobians + slopes[newest, :, None, None] * values[:, :, None] * reaction[None, None]
    outer = torch.einsum("j,ja,jb->ab", slopes[newest], values, x)
    jacobians[newest] += outer @ head.coupling.T
    return torch.linalg.matrix_norm(jacobians, ord=2)


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
        A layer with sigmoid weights, without rotary positions and normalised queries and keys, whose scores are no
        bilinear form of the input.
    x
        ``(T, width)``.
    radii
        Sizes of the change of the input, Frobenius norm.
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
    found = [
        projection * float(np.linalg.norm([regional_bound(head, tokens, radius) for head in heads])) for radius in radii
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
        The layer's scores are no bilinear form of the input.
    """
    if module.weights != "sigmoid":
        raise UserError("these bounds are for sigmoid weights; softmax needs others")
    if module.positions == "rotary" or not isinstance(module.query_norm, torch.nn.Identity):
        raise UserError("these bounds need scores that are bilinear in the input: no qk_norm, no rotary positions")
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
        found.append(Head(queries[head], keys[head // group], values[head // group], offsets, visible, scale))
    return found


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
