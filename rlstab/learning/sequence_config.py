"""Settings of on-policy learning with a transformer. Imports nothing heavy, so that ``--help`` is instant."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

from rlstab.learning.on_policy_config import OnPolicyConfig


@dataclass(frozen=True, kw_only=True)
class SequenceConfig(OnPolicyConfig):
    """What learning from sequences adds to PPO."""

    n_steps: int = field(default=128, metadata={"min": 1, "unit": "steps of every world"})
    """Steps of every world between two updates."""

    batch_size: int = field(default=512, metadata={"min": 2, "unit": "samples"})
    """Samples in one gradient step: whole sequences, so a multiple of their length."""

    n_epochs: int = field(default=4, metadata={"min": 1})
    """Passes over the collected samples at each update."""

    hidden_sizes: tuple[int, ...] = field(default=(), metadata={"min": 1})
    """Widths of the hidden layers between the transformer and each of action and value; default: none."""

    sequence_length: int | None = field(default=None, metadata={"min": 1, "unit": "steps"})
    """Steps of a training sequence, a divisor of n_steps. None: all that were collected."""

    context: Literal["recompute", "cached"] = "recompute"
    """What sequences see of the steps before them. recompute: all that the policy saw, computed again with the current
    weights and differentiated through, exact; cached: each layer's inputs as they were before the update
    (arXiv:1901.02860), cheaper for sequences that are short against layers times window."""

    optimizer: Literal["adam", "stable_spam"] = "adam"
    """Adam with a clip of the gradient's norm, or Stable-SPAM (arXiv:2502.17055), which sets norms by itself."""

    weight_decay: float = field(default=0.0, metadata={"min": 0.0})
    """Share of the weights, times the learning rate, that each gradient step takes away (arXiv:1711.05101)."""

    warmup_steps: int = field(default=0, metadata={"min": 0, "unit": "environment steps"})
    """Steps over which the learning rate rises linearly from zero."""

    z_loss: float = field(default=0.0, metadata={"min": 0.0})
    """Weight of the squared logarithm of the sum of exponentiated logits (arXiv:2309.14322), of each component;
    for Discrete and MultiDiscrete actions."""

    monitor_every: int = field(default=10, metadata={"min": 0, "unit": "updates"})
    """Updates between two looks at the attention weights for the log. 0: none."""
