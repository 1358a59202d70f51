"""State-adversarial PPO from its configuration."""

from __future__ import annotations

import dataclasses

from gymnasium.vector import VectorEnv

from rlstab.controllers import registry
from rlstab.controllers.environment import make_environment
from rlstab.controllers.sa_ppo.config import SAPPOConfig
from rlstab.controllers.sa_ppo.state_adversarial import StateAdversarialLearner
from rlstab.controllers.sa_ppo.state_adversarial_config import StateAdversarialConfig


def make_learner(config: SAPPOConfig, env: VectorEnv | None = None) -> StateAdversarialLearner:
    """Build the learner, and its environment unless one is given.

    Raises
    ------
    UserError
        Unknown environment or device, observations that are pictures, a space that no policy here reads, or a batch
        that doesn't fit.
    """
    if env is None:
        env = make_environment(config)
    registry.check_actions("sa_ppo", config.env, env.single_action_space)
    registry.check_observations("sa_ppo", config.env, env.single_observation_space)
    names = [field.name for field in dataclasses.fields(StateAdversarialConfig)]
    settings = StateAdversarialConfig(**{name: getattr(config, name) for name in names})
    return StateAdversarialLearner(
        env, settings, total_steps=config.total_steps, seed=config.seed, device=config.device
    )
