"""One world of a memory task as a plain `gymnasium.Env`."""

from __future__ import annotations

from typing import Any

import gymnasium
import numpy as np

from rlstab.envs.memory import make_task
from rlstab.envs.memory.batch import MemoryVec
from rlstab.envs.memory.task import Observation
from rlstab.errors import UserError


class MemoryEnv(gymnasium.Env[Observation, np.int64]):
    """One world of a memory task: what ``gymnasium.make("rlstab/PassiveTMaze-v0", length=10)`` makes.

    ``reset(seed=s)`` begins the episode that world 0 of a `MemoryVec` with seed ``s`` begins.

    Parameters
    ----------
    task
        Id of the task.
    render_mode
        None: there is nothing to draw.
    settings
        The task's.

    Raises
    ------
    UserError
        Unknown task or setting, or a render mode.
    """

    metadata = {"render_modes": []}  # noqa: RUF012

    def __init__(self, task: str, render_mode: str | None = None, **settings: Any) -> None:
        if render_mode is not None:
            raise UserError(f"{task} has nothing to draw, so no render mode '{render_mode}'")
        self.render_mode = None
        self.batch = MemoryVec(make_task(task, **settings), autoreset=False)
        self.observation_space = self.batch.single_observation_space
        self.action_space = self.batch.single_action_space
        self._seeded = False

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[Observation, dict[str, Any]]:
        """Begin an episode: observation ``(obs_dim,)`` float32 and an empty dictionary."""
        super().reset(seed=seed)
        if seed is None and not self._seeded:
            seed = int(self.np_random.integers(2**31))
        self._seeded = True
        observation, info = self.batch.reset(seed=seed, options=options)
        return observation[0], info

    def step(self, action: Any) -> tuple[Observation, float, bool, bool, dict[str, Any]]:
        """Take one step."""
        observation, reward, terminated, truncated, _ = self.batch.step(np.asarray(action)[None])
        return observation[0], float(reward[0]), bool(terminated[0]), bool(truncated[0]), {}


def make_batch(
    num_envs: int, task: str, render_mode: str | None = None, **arguments: Any
) -> gymnasium.vector.VectorEnv:
    """Make the batch that ``gymnasium.make_vec("rlstab/PassiveTMaze-v0", num_envs=8)`` gives.

    ``seed``, ``max_episode_steps`` and ``world_offset`` are those of `MemoryVec`; all else are the task's settings.
    """
    del render_mode  # There is nothing to draw.
    own = {name: arguments.pop(name) for name in ("seed", "max_episode_steps", "world_offset") if name in arguments}
    return MemoryVec(make_task(task, **arguments), num_envs, **own)
