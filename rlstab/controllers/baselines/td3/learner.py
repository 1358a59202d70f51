"""Twin delayed DDPG on Stable-Baselines3's class."""

from __future__ import annotations

import numpy as np
from gymnasium.vector import VectorEnv
from stable_baselines3 import TD3
from stable_baselines3.common.noise import NormalActionNoise
from stable_baselines3.common.off_policy_algorithm import OffPolicyAlgorithm

from rlstab.controllers.baselines.off_policy_learner import build_learner
from rlstab.controllers.baselines.td3.config import TD3Config
from rlstab.learning.sb3_learner import SB3Learner


def make_learner(config: TD3Config, env: VectorEnv | None = None) -> SB3Learner:
    """Build the learner; ``env`` replaces the configured environment."""

    def algorithm(policy: str, vec_env: object, **arguments: object) -> OffPolicyAlgorithm:
        # Only here is the number of action dimensions known. Noise acts on actions scaled to [-1, 1].
        shape = vec_env.action_space.shape  # type: ignore[attr-defined]
        noise = NormalActionNoise(np.zeros(shape), np.full(shape, config.exploration_noise), dtype=np.float32)
        return TD3(policy, vec_env, action_noise=noise, **arguments)  # type: ignore[arg-type]

    return build_learner(
        "td3",
        config,
        env,
        algorithm,
        policy_delay=config.policy_delay,
        target_policy_noise=config.target_policy_noise,
        target_noise_clip=config.target_noise_clip,
    )
