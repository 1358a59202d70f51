"""Configuration of proximal policy optimisation."""

from __future__ import annotations

from dataclasses import dataclass, field

from rlstab.controllers.config import BaseConfig
from rlstab.learning.on_policy_config import OnPolicyConfig


@dataclass(frozen=True, kw_only=True)
class PPOConfig(OnPolicyConfig, BaseConfig):
    """Proximal policy optimisation (Schulman et al. 2017, arXiv:1707.06347) on batched environments.

    Continuous and discrete actions. Defaults are Stable-Baselines3's at eight worlds, with normalised observations and
    returns.
    """

    num_envs: int = field(default=8, metadata={"min": 1, "max": 65_536, "unit": "worlds"})
    """Worlds stepped together."""
