"""Configuration of soft actor-critic."""

from __future__ import annotations

from dataclasses import dataclass, field

from rlstab.controllers.baselines.off_policy import OffPolicyConfig


@dataclass(frozen=True, kw_only=True)
class SACConfig(OffPolicyConfig):
    """Soft actor-critic with learned temperature (Haarnoja et al. 2018, arXiv:1812.05905), as Stable-Baselines3 has it.

    Continuous actions only. Defaults are Stable-Baselines3's.
    """

    entropy_coefficient: float | None = field(default=None, metadata={"min": 0.0, "unit": "reward per nat"})
    """Temperature: weight of the policy's entropy against the reward. None: learned to meet the target entropy."""

    target_entropy: float | None = field(default=None, metadata={"unit": "nat"})
    """Entropy the learned temperature aims at. None: minus the number of action dimensions."""

    target_update_interval: int = field(default=1, metadata={"min": 1, "unit": "gradient steps"})
    """Gradient steps between two updates of the target networks."""
