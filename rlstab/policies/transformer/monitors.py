"""What goes on inside a transformer policy's attention, as numbers for the log."""

from __future__ import annotations

import dataclasses

import torch
from torch import Tensor

from rlstab.policies.transformer.network import Sequences, TransformerActorCritic
from rlstab.policies.transformer.sigma_reparam import trained_weight

SAMPLED_ROWS = 32


@torch.no_grad()
def attention_figures(network: TransformerActorCritic, sequences: Sequences, since: int = 0) -> dict[str, float]:
    """Measure every layer's and head's attention on some sequences, and the spectral norms of its matrices.

    Parameters
    ----------
    network
        The policy's network.
    sequences
        Where to look; without memories.
    since
        Steps at the beginning of each sequence that are seen by others and not looked at themselves.

    Returns
    -------
    dict
        ``attention/layer0_head1/entropy`` and the like (see `AttentionStats`), ``attention/layer0/alarms`` (how many
        heads are beyond the limits of `AttentionStats.alarms`), ``attention/layer0/output_gain`` (mean norm of
        attention's output, before any norm, scale or gate, over that of its normalised input), and for the matrices
        ``query``, ``key``, ``value`` and ``out`` ``attention/layer0/spectral_norm_query``, with
        ``gradient_norm_query`` where there is a gradient: that in ``grad``, which is to be as the loss left it. A
        transformer of the critic's own adds ``attention/critic_layer0_head1/entropy`` and so on.
    """
    inputs: list[Tensor] = []
    network.encode_both(sequences, keep=inputs)
    rows = network.segments(sequences.starts)
    figures: dict[str, float] = {}
    for (name, block), stream in zip(network.layers.items(), inputs, strict=True):
        attention, x = block.attention, block.attention_norm(stream)
        layer = f"attention/{name}"
        stats = attention.stats(x, rows, steps=sequences.steps, sample_rows=SAMPLED_ROWS, since=since)
        for field in dataclasses.fields(stats):
            for head, value in enumerate(getattr(stats, field.name).tolist()):
                figures[f"{layer}_head{head}/{field.name}"] = value
        figures[f"{layer}/alarms"] = float(stats.alarms().sum())
        gains = attention(x, rows, steps=sequences.steps).norm(dim=-1) / x.norm(dim=-1).clamp(min=1e-12)
        figures[f"{layer}/output_gain"] = float(gains[:, since:].mean())
        for matrix in ("query", "key", "value", "out"):
            linear = getattr(attention, matrix)
            figures[f"{layer}/spectral_norm_{matrix}"] = float(torch.linalg.matrix_norm(linear.weight, 2))
            gradient = trained_weight(linear).grad
            if gradient is not None:
                figures[f"{layer}/gradient_norm_{matrix}"] = float(gradient.norm())
    return figures
