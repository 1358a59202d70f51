"""Settings of transformer policies. Imports nothing heavy, so that ``--help`` is instant."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal


@dataclass(frozen=True, kw_only=True)
class TransformerConfig:
    """Shape of a causal transformer over a window of steps."""

    num_layers: int = field(default=2, metadata={"min": 1, "max": 64})
    """Blocks of attention and perceptron."""

    num_heads: int = field(default=4, metadata={"min": 1})
    """Query heads of each attention; they divide the width."""

    kv_heads: int | None = field(default=None, metadata={"min": 1})
    """Key and value heads, a divisor of the query heads. None: as many as query heads."""

    width: int = field(default=64, metadata={"min": 1})
    """Size of a token."""

    mlp_ratio: int = field(default=2, metadata={"min": 1})
    """Width of the perceptron in each block, in units of the token's."""

    window: int = field(default=32, metadata={"min": 1, "unit": "steps"})
    """Steps that a step sees in each layer, itself included. What layers see adds up."""

    attention: Literal["sigmoid", "softmax"] = "sigmoid"
    """How scores become weights: each by a sigmoid (arXiv:2409.04431), or a row by a softmax."""

    score_bias: Literal["count", "window", "head", "none"] = "count"
    """Bias of sigmoid's scores: minus the logarithm of the number of steps in view (count) or of the window, a
    learnable number a head that begins there (head), or none. Softmax has none."""

    positions: Literal["none", "alibi", "rotary"] = "rotary"
    """How the distance between steps enters: not at all, as a penalty (arXiv:2108.12409), or by turning queries and
    keys (arXiv:2104.09864)."""

    qk_norm: bool = True
    """Whether queries and keys are normalised over the head (arXiv:2302.05442), which bounds the scores."""

    residual: Literal["plain", "gru"] = "gru"
    """How a block's output joins its input: added, or by the gate of GTrXL (arXiv:1910.06764)."""

    gate_bias: float = 2.0
    """Initial bias of that gate; the larger, the closer a fresh block is to the identity."""

    layer_scale: float | None = field(default=None, metadata={"above": 0.0})
    """Initial value of a learnable factor on each channel of a sub-layer's output (arXiv:2103.17239). None: no
    factor."""

    output_norm: bool = False
    """Whether the output of each attention is normalised before it joins."""

    sigma_reparam: bool = False
    """Whether the spectral norm of each matrix of the blocks is a parameter of its own (arXiv:2303.06296)."""

    previous_action: bool = True
    """Whether a token holds the action of the step before, beside the observation."""

    observation_change: bool = False
    """Whether a token holds how the observation has changed since the step before, beside the observation. Where
    observations are normalised, so are changes, by how much they usually are: from step to step positions change little
    against their range, and velocities are slow to learn without."""

    separate_critic: bool = False
    """Whether the value has a transformer of its own, of the same shape, so that its loss does not move the one that
    acts (arXiv:2110.05038). An update costs nearly twice as much; what is exported stays the same."""
