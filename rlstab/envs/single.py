"""One world of a native task as a plain `gymnasium.Env`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import gymnasium
import numpy as np
from numpy.typing import NDArray

from rlstab.envs.batch_env import BatchEnv
from rlstab.envs.physics.interface import FloatArray
from rlstab.envs.registry import make_task, make_vec
from rlstab.errors import UserError

if TYPE_CHECKING:
    from rlstab.envs.disturbance import Disturbance


class SingleEnv(gymnasium.Env[FloatArray, NDArray[np.float32]]):
    """One world of a native task: what ``gymnasium.make("rlstab/Hopper-v5")`` makes.

    Without a time limit of its own, as all of gymnasium's environments: `gymnasium.make` adds the registered one.
    ``reset(seed=s)`` begins the episode that world 0 of a `BatchEnv` with seed ``s`` begins.

    Parameters
    ----------
    task
        Id of the task.
    render_mode
        ``"rgb_array"`` or none.
    disturbances
        What the world does to the robot.
    width, height
        Size of pictures, pixels.
    task_kwargs
        The task's constants, named as gymnasium's constructor arguments.

    Raises
    ------
    UserError
        Unknown task, constant or render mode.
    """

    metadata = {"render_modes": ["rgb_array"], "render_fps": 50}  # noqa: RUF012

    def __init__(
        self,
        task: str,
        render_mode: str | None = None,
        *,
        disturbances: Sequence[Disturbance] | Disturbance | str = (),
        width: int = 480,
        height: int = 480,
        **task_kwargs: Any,
    ) -> None:
        if render_mode not in (None, "rgb_array"):
            message = f"{task} draws as 'rgb_array' or not at all, not '{render_mode}'"
            raise UserError(message)
        self.render_mode = render_mode
        self.batch = BatchEnv(
            make_task(task, **task_kwargs), disturbances=disturbances, max_episode_steps=-1, autoreset=False
        )
        self.observation_space = self.batch.single_observation_space
        self.action_space = self.batch.single_action_space
        self.metadata = {**self.metadata, "render_fps": round(1.0 / self.batch.dt)}
        self._size = (width, height)
        self._seeded = False

    @property
    def dt(self) -> float:
        """Control period, seconds."""
        return self.batch.dt

    @property
    def model(self) -> Any:
        """The compiled MuJoCo model."""
        return self.batch.model

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[FloatArray, dict[str, Any]]:
        """Begin an episode: observation ``(obs_dim,)`` float64 and an empty dictionary."""
        super().reset(seed=seed)
        if seed is None and not self._seeded:
            seed = int(self.np_random.integers(2**31))
        self._seeded = True
        observation, info = self.batch.reset(seed=seed, options=options)
        return observation[0], info

    def step(self, action: NDArray[Any]) -> tuple[FloatArray, float, bool, bool, dict[str, Any]]:
        """Advance by one control period with ``action (act_dim,)``."""
        observation, reward, terminated, truncated, _ = self.batch.step(np.asarray(action)[None])
        return observation[0], float(reward[0]), bool(terminated[0]), bool(truncated[0]), {}

    def render(self) -> NDArray[np.uint8] | None:  # type: ignore[override]
        """Picture ``(height, width, 3)``, or ``None`` without a render mode."""
        return self.batch.frame(0, *self._size) if self.render_mode else None

    def close(self) -> None:
        """Free the engine and the renderer."""
        self.batch.close()


def make_batch(
    num_envs: int,
    task: str,
    render_mode: str | None = None,
    *,
    seed: int = 0,
    disturbances: Sequence[Disturbance] | Disturbance | str = (),
    num_threads: int | None = None,
    max_episode_steps: int | None = None,
    **task_kwargs: Any,
) -> gymnasium.vector.VectorEnv:
    """Make the batch that ``gymnasium.make_vec("rlstab/Hopper-v5", num_envs=8)`` gives; see `rlstab.envs.make_vec`."""
    del render_mode  # A batch can always draw.
    return make_vec(
        task,
        num_envs,
        seed,
        disturbances=disturbances,
        num_threads=num_threads,
        max_episode_steps=max_episode_steps,
        backend="native",
        env_kwargs=task_kwargs,
    )
