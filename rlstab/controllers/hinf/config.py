"""Configuration of H-infinity disturber training."""

from __future__ import annotations

from dataclasses import dataclass, field

from rlstab.controllers.config import BaseConfig
from rlstab.controllers.hinf.game_config import GameConfig


@dataclass(frozen=True, kw_only=True)
class HInfConfig(GameConfig, BaseConfig):
    """PPO against a learned disturber under an H-infinity constraint (arXiv:2404.14405), on native environments.

    Linear systems (rlstab/LinearQuadratic-S1-v0 to S3), robots that run forward, quadrupeds, the inverted pendulum.
    """

    num_envs: int = field(default=8, metadata={"min": 2, "max": 65_536, "unit": "worlds"})
    """Worlds stepped together."""

    speed: float | None = field(default=None, metadata={"above": 0.0, "unit": "m/s"})
    """Speed at which a robot does its task, and costs nothing. None: by the robot."""
