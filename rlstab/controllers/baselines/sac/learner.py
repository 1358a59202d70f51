"""Soft actor-critic on Stable-Baselines3's class."""

from __future__ import annotations

from gymnasium.vector import VectorEnv
from stable_baselines3 import SAC

from rlstab.controllers.baselines.off_policy_learner import build_learner
from rlstab.controllers.baselines.sac.config import SACConfig
from rlstab.learning.sb3_learner import SB3Learner


def make_learner(config: SACConfig, env: VectorEnv | None = None) -> SB3Learner:
    """Build the learner; ``env`` replaces the configured environment."""
    return build_learner(
        "sac",
        config,
        env,
        SAC,
        ent_coef="auto" if config.entropy_coefficient is None else config.entropy_coefficient,
        target_entropy="auto" if config.target_entropy is None else config.target_entropy,
        target_update_interval=config.target_update_interval,
    )
