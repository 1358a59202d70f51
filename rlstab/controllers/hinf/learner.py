"""H-infinity disturber training from its configuration."""

from __future__ import annotations

import dataclasses

from gymnasium.vector import VectorEnv

from rlstab.controllers import registry
from rlstab.controllers.environment import make_environment
from rlstab.controllers.hinf.config import HInfConfig
from rlstab.controllers.hinf.game import GameLearner
from rlstab.controllers.hinf.game_config import GameConfig
from rlstab.envs.costs import cost_of
from rlstab.envs.pushing import push_point


def make_learner(config: HInfConfig, env: VectorEnv | None = None) -> GameLearner:
    """Build the learner, and its environment unless one is given.

    Raises
    ------
    UserError
        Unknown environment or device, an environment that cannot be pushed or has no known cost, or a batch that
        doesn't fit.
    """
    point = push_point(config.env, config.env_kwargs, config.body)
    unit = config.force_unit if config.force_unit is not None else point.weight
    if env is None:
        env = make_environment(config, (point.force(config.max_force * unit),))
    # All methods that play this game take the same spaces.
    registry.check_actions("hinf", config.env, env.single_action_space)
    registry.check_observations("hinf", config.env, env.single_observation_space)
    settings = GameConfig(**{field.name: getattr(config, field.name) for field in dataclasses.fields(GameConfig)})
    return GameLearner(
        env,
        settings,
        force_unit=unit,
        cost=cost_of(env, config.speed),
        total_steps=config.total_steps,
        seed=config.seed,
        device=config.device,
    )
