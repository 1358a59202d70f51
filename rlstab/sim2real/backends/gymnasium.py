"""Any environment registered with gymnasium, a user's own included."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from rlstab.envs.registry import make_vec
from rlstab.sim2real.backends.environment import EnvironmentRobot
from rlstab.sim2real.clock import Clock


class GymnasiumRobot(EnvironmentRobot):
    """Episode ``episode`` of a gymnasium environment, as evaluation plays it for the same seed.

    Parameters
    ----------
    env_id
        A gymnasium id, ``"module:Id"``, or a function that makes an environment.
    seed, episode
        Evaluation's world ``episode`` for ``seed`` starts in the same state.
    max_episode_steps, env_kwargs
        As in `rlstab.envs.registry.make_vec`.
    clock
        That of the runtime.
    tell
        Called with each thing that the contract states and that is neither checked nor enforced.
    """

    def __init__(
        self,
        env_id: str | Callable[[], Any],
        seed: int = 0,
        episode: int = 0,
        *,
        max_episode_steps: int | None = None,
        env_kwargs: dict[str, Any] | None = None,
        clock: Clock | None = None,
        tell: Callable[[str], None] | None = None,
    ) -> None:
        env = make_vec(
            env_id,
            num_envs=1,
            seed=seed,
            max_episode_steps=max_episode_steps,
            backend="gymnasium",
            world_offset=episode,
            env_kwargs=env_kwargs,
        )
        super().__init__(env, seed, clock, tell)
