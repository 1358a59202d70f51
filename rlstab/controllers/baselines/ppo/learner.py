"""PPO from its configuration."""

from __future__ import annotations

import dataclasses

from gymnasium.vector import VectorEnv

from rlstab.controllers import registry
from rlstab.controllers.baselines.ppo.config import PPOConfig
from rlstab.controllers.environment import make_environment
from rlstab.learning.on_policy import OnPolicyLearner
from rlstab.learning.on_policy_config import OnPolicyConfig


def make_learner(config: PPOConfig, env: VectorEnv | None = None) -> OnPolicyLearner:
    """Build the learner, and its environment unless one is given.

    Raises
    ------
    UserError
        Unknown environment or device, a space that no policy here reads, or a batch that doesn't fit.
    """
    if env is None:
        env = make_environment(config)
    registry.check_actions("ppo", config.env, env.single_action_space)
    registry.check_observations("ppo", config.env, env.single_observation_space)
    names = [field.name for field in dataclasses.fields(OnPolicyConfig)]
    settings = OnPolicyConfig(**{name: getattr(config, name) for name in names})
    return OnPolicyLearner(env, settings, total_steps=config.total_steps, seed=config.seed, device=config.device)
