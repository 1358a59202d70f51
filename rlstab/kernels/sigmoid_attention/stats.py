"""What the weights of an attention layer look like, from a sample of rows."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from rlstab.errors import UserError
from rlstab.kernels.sigmoid_attention import reference
from rlstab.kernels.sigmoid_attention.checks import check_flag, check_whole
from rlstab.kernels.sigmoid_attention.problem import Bias, Layout, make_problem
from rlstab.kernels.sigmoid_attention.transforms import without_autocast

DEAD_MASS = 1e-3
SATURATED_SCORE = 4.0
LARGE_SCORE = 50.0
LEAST_MASS, MOST_MASS = 0.1, 10.0


@dataclass(frozen=True)
class AttentionStats:
    """Figures of each query head, ``(Hq,)`` float32, over the sampled rows that see a key."""

    max_score: Tensor
    """Largest absolute score, biases included. Above 50, half precision loses the weights."""
    rms_score: Tensor
    """Root mean square of the scores."""
    saturated: Tensor
    """Share of the scores above 4 in size, where the sigmoid's slope is below 0.018."""
    mass: Tensor
    """Sum of a row's weights, mean over rows. Softmax has one."""
    mass_low: Tensor
    """Its 5th percentile."""
    mass_high: Tensor
    """Its 95th percentile."""
    dead: Tensor
    """Share of the rows with a mass below 0.001."""
    effective_keys: Tensor
    """``(sum P)^2 / sum P^2``, mean over rows: over how many keys a row averages."""
    entropy: Tensor
    """Entropy of the weights divided by their sum, nat, mean over rows."""
    entropy_floor: Tensor
    """What softmax's entropy cannot fall below with scores that lie so far apart, mean over rows; 0 for sigmoid."""
    visible_keys: Tensor
    """Number of keys that a row sees, mean over rows."""

    def alarms(self) -> Tensor:
        """Heads, ``(Hq,)`` bool, that look at next to one key, have scores above 50, or a mass outside of 0.1 to 10."""
        narrow = self.entropy < 0.1 * self.visible_keys.log()
        return narrow | (self.max_score > LARGE_SCORE) | (self.mass < LEAST_MASS) | (self.mass > MOST_MASS)


@torch.no_grad()
def attention_stats(
    q: Tensor,
    k: Tensor,
    *,
    scale: float | None = None,
    bias: Bias | None = "count",
    causal: bool = False,
    window: int | None = None,
    row_start: Tensor | None = None,
    kv_lens: Tensor | None = None,
    alibi_slopes: Tensor | None = None,
    layout: Layout = "bthd",
    softmax: bool = False,
    sample_rows: int | None = 64,
    since: int = 0,
    generator: torch.Generator | None = None,
) -> AttentionStats:
    """Measure scores and weights in some rows of each sequence.

    Memory grows with ``sample_rows`` times the number of keys, never with its square.

    Parameters
    ----------
    q, k, scale, bias, causal, window, row_start, kv_lens, alibi_slopes, layout
        Of the call to look at; see `sigmoid_attention`.
    softmax
        Whether weights are the softmax of the scores.
    sample_rows
        How many positions to look at, the same in all sequences. ``None``: all.
    since
        Positions at the beginning of each sequence that are seen and not looked at themselves.
    generator
        Source of the sample, on the CPU. ``None``: evenly spaced positions.

    Raises
    ------
    UserError
        An argument does not fit.
    """
    problem = make_problem(
        q,
        k,
        k,
        scale=scale,
        bias=bias,
        causal=causal,
        window=window,
        row_start=row_start,
        row_end=None,
        kv_lens=kv_lens,
        alibi_slopes=alibi_slopes,
        layout=layout,
    )
    length = problem.q.shape[2]
    if not problem.q.numel() or not problem.k.numel():
        raise UserError(f"q and k must have entries to look at, got {tuple(q.shape)} and {tuple(k.shape)}")
    softmax, since = check_flag("softmax", softmax), check_whole("since", since)
    if sample_rows is not None:
        sample_rows = check_whole("sample_rows", sample_rows, 1)
    if generator is not None and not isinstance(generator, torch.Generator):  # pyright: ignore[reportUnnecessaryIsInstance]
        raise UserError(f"generator must be a torch.Generator, got {type(generator).__name__}")
    if since and not 0 <= since < length:
        raise UserError(f"since must be from 0 to below {length}, the number of queries, got {since}")
    rows = since + _sample(length - since, sample_rows, generator).to(q.device)
    visible = problem.intervals().mask(0, problem.k.shape[2])[:, None, rows]
    with without_autocast(q.device):
        return _figures(reference.scores(problem, rows).float(), visible, softmax)


def _sample(length: int, wanted: int | None, generator: torch.Generator | None) -> Tensor:
    if wanted is None or wanted >= length:
        return torch.arange(length)
    if generator is None:
        return torch.linspace(0, length - 1, max(wanted, 1)).round().to(torch.int64)
    return torch.randperm(length, generator=generator)[:wanted].sort().values


def _figures(scores: Tensor, visible: Tensor, softmax: bool) -> AttentionStats:
    """Reduce ``(B, Hq, rows, n)`` to one figure a head."""
    visible = visible.expand_as(scores)
    counts = visible.sum(3)
    seen = counts > 0
    weights = torch.where(visible, torch.sigmoid(scores), 0.0)
    if softmax:
        weights = torch.where(visible, scores, float("-inf")).softmax(3).nan_to_num(0.0)
    mass = weights.sum(3)
    share = weights / mass.clamp(min=torch.finfo(weights.dtype).tiny)[..., None]
    entropy = -torch.xlogy(share, share).sum(3)
    effective = mass.square() / weights.square().sum(3).clamp(min=torch.finfo(weights.dtype).tiny)
    size = torch.where(visible, scores.abs(), 0.0)
    pairs = visible.sum((0, 2, 3)).clamp(min=1)

    def over_rows(values: Tensor) -> Tensor:
        return torch.where(seen, values, 0.0).sum((0, 2)) / seen.sum((0, 2)).clamp(min=1)

    by_head = torch.where(seen, mass, float("nan")).transpose(0, 1).flatten(1)
    low, high = by_head.nanquantile(torch.tensor([0.05, 0.95], device=mass.device), dim=1).unbind()
    return AttentionStats(
        max_score=size.amax((0, 2, 3)),
        rms_score=(size.square().sum((0, 2, 3)) / pairs).sqrt(),
        saturated=(size > SATURATED_SCORE).sum((0, 2, 3)) / pairs,
        mass=over_rows(mass),
        mass_low=low,
        mass_high=high,
        dead=over_rows((mass < DEAD_MASS).float()),
        effective_keys=over_rows(effective),
        entropy=over_rows(entropy),
        entropy_floor=over_rows(_entropy_floor(scores, visible, counts)) if softmax else torch.zeros_like(low),
        visible_keys=over_rows(counts.float()),
    )


def _entropy_floor(scores: Tensor, visible: Tensor, counts: Tensor) -> Tensor:
    """Least entropy of softmax rows whose scores have the same spread, ``(B, Hq, rows)``.

    That of one score above all others, which are equal (Zhai et al. 2023, arXiv:2303.06296; here with the
    norm of the scores less their mean, which softmax does not see).
    """
    keys = counts.clamp(min=2).to(scores.dtype)
    mean = torch.where(visible, scores, 0.0).sum(3) / counts.clamp(min=1)
    spread = torch.where(visible, scores - mean[..., None], 0.0).square().sum(3).sqrt()
    beta = torch.exp(-spread * (keys / (keys - 1)).sqrt())
    rest = (keys - 1) * beta
    floor = torch.log1p(rest) + spread * (keys * (keys - 1)).sqrt() * beta / (1 + rest)
    return torch.where(counts > 1, floor, 0.0)
