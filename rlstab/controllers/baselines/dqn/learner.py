"""Deep Q-network on Stable-Baselines3's class."""

from __future__ import annotations

from gymnasium.vector import VectorEnv
from stable_baselines3 import DQN

from rlstab.controllers.baselines.dqn.config import DQNConfig
from rlstab.controllers.baselines.off_policy_learner import build_learner
from rlstab.learning.sb3_learner import SB3Learner


def make_learner(config: DQNConfig, env: VectorEnv | None = None) -> SB3Learner:
    """Build the learner; ``env`` replaces the configured environment."""
    return build_learner(
        "dqn",
        config,
        env,
        DQN,
        target_update_interval=config.target_update_interval,
        exploration_fraction=config.exploration_fraction,
        exploration_initial_eps=config.exploration_initial,
        exploration_final_eps=config.exploration_final,
        max_grad_norm=config.max_grad_norm,
    )
