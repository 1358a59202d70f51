"""Training for a certificate as a learner: progress, checkpoints and exact resumption as for every other method."""

from __future__ import annotations

import time
from typing import Any

from gymnasium.vector import VectorEnv

from rlstab.controllers.environment import make_environment
from rlstab.controllers.lyapunov.config import LyapunovConfig
from rlstab.controllers.lyapunov.network_search import NetworkSearch
from rlstab.controllers.lyapunov.optimal import MOST_STATES
from rlstab.controllers.lyapunov.quadratic_search import QuadraticSearch
from rlstab.envs.plants import Plant
from rlstab.errors import UserError
from rlstab.policies.lyapunov_policy import LyapunovPolicy, LyapunovShapes
from rlstab.policies.tensors import pick_device

_UNIT = {"network": 50, "quadratic": 5}
"""Iterations in one unit of work: a second or so."""


class LyapunovLearner:
    """See `rlstab.learning.learner.Learner`; a step is an iteration of the optimiser.

    Parameters
    ----------
    env
        Of a plant; only its equations are used.
    config
        How to train.
    """

    def __init__(self, env: VectorEnv[Any, Any, Any], config: LyapunovConfig) -> None:
        self.env, self.config = env, config
        plant = plant_of(env, config.env)
        quadratic = config.lyapunov == "quadratic"
        if not quadratic and plant.state_size > MOST_STATES:
            raise UserError(
                f"{plant.id} has {plant.state_size} states, more than the {MOST_STATES} of which a grid is made: add "
                "--lyapunov quadratic"
            )
        shapes = LyapunovShapes(None, None)
        if not quadratic:
            shapes = LyapunovShapes(config.controller_hidden, config.lyapunov_hidden, config.lyapunov_outputs)
        self.policy = LyapunovPolicy(
            env.single_observation_space, env.single_action_space, plant, shapes, seed=config.seed
        )
        self.search = (QuadraticSearch if quadratic else NetworkSearch)(plant, config, self.policy.module)
        self.num_timesteps = 0

    def iterate(self) -> dict[str, float]:
        """Do some iterations."""
        start = time.perf_counter()
        unit = _UNIT[self.config.lyapunov]
        # Up to the next multiple, so that units do not depend on where training was interrupted or extended.
        count = min(unit - self.num_timesteps % unit, max(1, self.config.total_steps - self.num_timesteps))
        metrics = self.search.advance(count)
        self.num_timesteps += count
        self.search.publish(self.policy.module)
        return metrics | {"time/steps_per_second": count / (time.perf_counter() - start)}

    def state_dict(self) -> dict[str, Any]:
        """See `Learner.state_dict`."""
        return {
            "policy": self.policy.state_dict(),
            "search": self.search.state_dict(),
            "num_timesteps": self.num_timesteps,
        }

    def load_state_dict(self, tree: dict[str, Any]) -> None:
        """See `Learner.load_state_dict`."""
        self.policy.load_weights(tree["policy"]["weights"])
        self.search.load_state_dict(tree["search"])
        self.num_timesteps = int(tree["num_timesteps"])

    def close(self) -> None:
        """Release the environment."""
        self.env.close()


def plant_of(env: Any, env_id: str) -> Plant:
    """The plant whose equations an environment steps.

    Raises
    ------
    UserError
        It has none.
    """
    plant = getattr(getattr(env, "task", None), "plant", None)
    if not isinstance(plant, Plant):
        raise UserError(
            f"lyapunov needs a plant whose equations are known, which {env_id} is not: one of rlstab/PlantPendulum-v0, "
            "rlstab/PlantPath-v0 and the others that `rlstab list envs --search Plant` shows"
        )
    return plant


def make_learner(config: LyapunovConfig, env: VectorEnv[Any, Any, Any] | None = None) -> LyapunovLearner:
    """Build the learner, and its environment unless one is given.

    Raises
    ------
    UserError
        The environment is no plant, has too many states for a network, or is disturbed; or another device than the
        processor is asked for.
    """
    if config.disturbances:
        raise UserError(
            "lyapunov trains on a plant's own equations, which disturbances are not part of: leave --disturbances out, "
            "or change the plant's constants with --env-kwargs"
        )
    if config.device != "auto" and pick_device(config.device).type != "cpu":
        raise UserError("lyapunov trains on the processor: its networks are too small for a GPU; use --device cpu")
    made = make_environment(config) if env is None else env
    try:
        return LyapunovLearner(made, config)
    except UserError:
        if env is None:
            made.close()
        raise
