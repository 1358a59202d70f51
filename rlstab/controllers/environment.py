"""The environment that a configuration describes."""

from __future__ import annotations

from typing import Any

from gymnasium.vector import VectorEnv

from rlstab.controllers.config import BaseConfig
from rlstab.envs.disturbance.serialization import parse
from rlstab.envs.registry import make_vec


def make_environment(config: BaseConfig) -> VectorEnv[Any, Any, Any]:
    """Make the vector environment to train on.

    Raises
    ------
    UserError
        The environment is unknown, or refuses a setting or a disturbance.
    """
    return make_vec(
        config.env,
        config.num_envs,
        config.seed,
        disturbances=parse(config.disturbances),
        num_threads=config.num_threads,
        max_episode_steps=config.max_episode_steps,
        worker_processes=config.worker_processes,
        env_kwargs=dict(config.env_kwargs),
    )
