"""The environment that a configuration describes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from gymnasium.vector import VectorEnv

from rlstab.controllers.config import BaseConfig
from rlstab.envs.disturbance.interface import Disturbance
from rlstab.envs.disturbance.serialization import parse
from rlstab.envs.registry import make_vec


def make_environment(config: BaseConfig, further: Sequence[Disturbance] = ()) -> VectorEnv[Any, Any, Any]:
    """Make the vector environment to train on.

    Parameters
    ----------
    config
        What was asked for.
    further
        Disturbances of the method itself, beside those of the configuration.

    Raises
    ------
    UserError
        The environment is unknown, or refuses a setting or a disturbance.
    """
    return make_vec(
        config.env,
        config.num_envs,
        config.seed,
        disturbances=(*parse(config.disturbances), *further),
        num_threads=config.num_threads,
        max_episode_steps=config.max_episode_steps,
        worker_processes=config.worker_processes,
        env_kwargs=dict(config.env_kwargs),
    )
