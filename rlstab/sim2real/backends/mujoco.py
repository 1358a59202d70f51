"""MuJoCo in this process, through the batched environment the policy was trained on."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from rlstab.envs.disturbance import Disturbance
from rlstab.envs.registry import make_vec
from rlstab.sim2real.backends.environment import EnvironmentRobot
from rlstab.sim2real.clock import Clock


class MujocoRobot(EnvironmentRobot):
    """Episode ``episode`` of a native environment, as evaluation plays it for the same seed.

    Parameters
    ----------
    env_id
        A native environment.
    seed, episode
        Evaluation's world ``episode`` for ``seed`` starts in the same state.
    disturbances
        What makes this simulator differ from the one of training.
    max_episode_steps, env_kwargs
        As in `rlstab.envs.registry.make_vec`.
    clock
        That of the runtime.
    tell
        Called with each thing that the contract states and that is neither checked nor enforced.

    Raises
    ------
    UserError
        There is no native environment of this name.
    """

    def __init__(
        self,
        env_id: str,
        seed: int = 0,
        episode: int = 0,
        *,
        disturbances: Sequence[Disturbance] = (),
        max_episode_steps: int | None = None,
        env_kwargs: dict[str, Any] | None = None,
        clock: Clock | None = None,
        tell: Callable[[str], None] | None = None,
    ) -> None:
        env = make_vec(
            env_id,
            num_envs=1,
            seed=seed,
            disturbances=disturbances,
            num_threads=1,
            max_episode_steps=max_episode_steps,
            backend="native",
            world_offset=episode,
            env_kwargs=env_kwargs,
        )
        super().__init__(env, seed, clock, tell)
