"""From the configuration of an off-policy method to the arguments of Stable-Baselines3's class."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from gymnasium import spaces
from gymnasium.vector import VectorEnv
from stable_baselines3.common.off_policy_algorithm import OffPolicyAlgorithm
from stable_baselines3.common.preprocessing import is_image_space
from stable_baselines3.common.vec_env import VecEnv

from rlstab.controllers import registry
from rlstab.controllers.baselines.off_policy import OffPolicyConfig
from rlstab.controllers.environment import make_environment
from rlstab.errors import UserError
from rlstab.learning.sb3_learner import SB3Learner
from rlstab.policies.tensors import pick_device

# NatureCNN's three convolutions shrink 36 pixels to one; below that there is nothing left to read.
_SMALLEST_IMAGE = 36


def build_learner(
    method: str,
    config: OffPolicyConfig,
    env: VectorEnv | None,
    algorithm: Callable[..., OffPolicyAlgorithm],
    **arguments: Any,
) -> SB3Learner:
    """Make the learner of an off-policy method.

    Parameters
    ----------
    method
        Its name in the registry.
    config
        Its configuration.
    env
        Vector environment; None makes the configured one.
    algorithm
        Stable-Baselines3's class.
    arguments
        What the method has beyond the arguments common to all three.

    Raises
    ------
    UserError
        The method cannot act or see in this environment, or the device is absent.
    """
    device = pick_device(config.device)
    if env is None:
        env = make_environment(config)
    registry.check_actions(method, config.env, env.single_action_space)
    registry.check_observations(method, config.env, env.single_observation_space)
    policy = _network(config, env.single_observation_space)

    def build(vec_env: VecEnv) -> OffPolicyAlgorithm:
        return algorithm(
            policy,
            vec_env,
            learning_rate=config.learning_rate,
            buffer_size=config.buffer_size,
            learning_starts=config.learning_starts,
            batch_size=config.batch_size,
            tau=config.tau,
            gamma=config.gamma,
            train_freq=config.train_freq,
            gradient_steps=config.gradient_steps,
            n_steps=config.n_step_return,
            policy_kwargs={"net_arch": list(config.hidden_sizes)},
            seed=config.seed,
            device=device,
            **arguments,
        )

    return SB3Learner(
        env,
        build,
        kind=method,
        total_steps=config.total_steps,
        steps_per_iteration=config.steps_per_iteration,
        checkpoint_replay=config.checkpoint_replay,
        device=device,
    )


def _network(config: OffPolicyConfig, space: spaces.Space[Any]) -> str:
    image = is_image_space(space) and min(sorted(space.shape or (0,))[-2:]) >= _SMALLEST_IMAGE
    if config.network == "cnn" and not image:
        raise UserError(
            f"network cnn needs uint8 images of at least {_SMALLEST_IMAGE}x{_SMALLEST_IMAGE} pixels, but {config.env} "
            f"observes {space}; use --network mlp"
        )
    return "CnnPolicy" if image and config.network != "mlp" else "MlpPolicy"
