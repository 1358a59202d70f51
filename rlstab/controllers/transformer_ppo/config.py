"""Configuration of PPO with a transformer."""

from __future__ import annotations

from dataclasses import dataclass, field

from rlstab.controllers.config import BaseConfig
from rlstab.learning.sequence_config import SequenceConfig
from rlstab.policies.transformer.config import TransformerConfig


@dataclass(frozen=True, kw_only=True)
class TransformerPPOConfig(TransformerConfig, SequenceConfig, BaseConfig):
    """PPO (arXiv:1707.06347) with a causal transformer over the newest steps, for tasks that need a memory.

    Continuous and discrete actions. Attention by sigmoid or softmax, blocks plain or gated as in GTrXL
    (arXiv:1910.06764).
    """

    num_envs: int = field(default=16, metadata={"min": 1, "max": 65_536, "unit": "worlds"})
    """Worlds stepped together."""
