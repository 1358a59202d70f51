"""PPO with a transformer from its configuration."""

from __future__ import annotations

import dataclasses
from typing import Any, TypeVar

from gymnasium.vector import VectorEnv

from rlstab.controllers import registry
from rlstab.controllers.environment import make_environment
from rlstab.controllers.transformer_ppo.config import TransformerPPOConfig
from rlstab.learning.sequence_config import SequenceConfig
from rlstab.learning.sequence_learner import SequenceLearner
from rlstab.policies.transformer.config import TransformerConfig

Part = TypeVar("Part", SequenceConfig, TransformerConfig)


def make_learner(config: TransformerPPOConfig, env: VectorEnv | None = None) -> SequenceLearner:
    """Build the learner, and its environment unless one is given.

    Raises
    ------
    UserError
        Unknown environment or device, a space that no policy here reads, or sizes that don't fit.
    """
    if env is None:
        env = make_environment(config)
    registry.check_actions("transformer_ppo", config.env, env.single_action_space)
    registry.check_observations("transformer_ppo", config.env, env.single_observation_space)
    return SequenceLearner(
        env,
        _part(SequenceConfig, config),
        _part(TransformerConfig, config),
        total_steps=config.total_steps,
        seed=config.seed,
        device=config.device,
    )


def _part(kind: type[Part], config: Any) -> Part:
    return kind(**{field.name: getattr(config, field.name) for field in dataclasses.fields(kind)})
