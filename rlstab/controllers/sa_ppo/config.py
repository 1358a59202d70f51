"""Configuration of state-adversarial PPO."""

from __future__ import annotations

from dataclasses import dataclass, field

from rlstab.controllers.config import BaseConfig
from rlstab.controllers.sa_ppo.state_adversarial_config import StateAdversarialConfig


@dataclass(frozen=True, kw_only=True)
class SAPPOConfig(StateAdversarialConfig, BaseConfig):
    """PPO that is charged for answering nearby observations differently (SA-PPO, arXiv:2003.08938).

    Continuous and discrete actions; observations are vectors.
    """

    num_envs: int = field(default=8, metadata={"min": 1, "max": 65_536, "unit": "worlds"})
    """Worlds stepped together."""
