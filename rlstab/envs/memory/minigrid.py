"""MiniGrid's memory rooms with observations and actions that every policy here can read and give."""

from __future__ import annotations

import contextlib
import importlib
import io
from typing import Any

import gymnasium
import numpy as np
from numpy.typing import NDArray

from rlstab.errors import UserError, pip_install

_DIRECTIONS = 4
_ACTIONS = 3


class OneHotGrid(gymnasium.Wrapper[NDArray[np.float32], np.int64, Any, Any]):
    """A MiniGrid environment that shows one vector and can be walked through.

    Observed: for each of the ``v v`` cells in view (``v`` is ``agent_view_size``; first along the width, as in
    MiniGrid's image) one-hot kind of object (11), colour (6) and state of a door (3); then one-hot direction of the
    agent (4). Together ``20 v v + 4`` numbers. The mission, always the same sentence here, is left out.

    Actions: 0 turn left, 1 turn right, 2 forward; the other four of MiniGrid's are of no use in these rooms.

    Parameters
    ----------
    env
        A MiniGrid environment.
    """

    def __init__(self, env: gymnasium.Env[Any, Any]) -> None:
        super().__init__(env)
        constants = importlib.import_module("minigrid.core.constants")
        kinds = [len(getattr(constants, f"{name}_TO_IDX")) for name in ("OBJECT", "COLOR", "STATE")]
        image: Any = env.observation_space["image"]  # type: ignore[index]
        cells = image.shape[0] * image.shape[1]
        self._first = (sum(kinds) * np.arange(cells)[:, None] + np.cumsum([0, *kinds[:-1]])).reshape(image.shape)
        self._cells_end = sum(kinds) * cells
        self.observation_space = gymnasium.spaces.Box(0.0, 1.0, (self._cells_end + _DIRECTIONS,), np.float32)
        self.action_space = gymnasium.spaces.Discrete(_ACTIONS)

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[NDArray[np.float32], dict[str, Any]]:
        """See `gymnasium.Env.reset`."""
        observation, info = self.env.reset(seed=seed, options=options)
        return self._vector(observation), info

    def step(self, action: Any) -> tuple[NDArray[np.float32], float, bool, bool, dict[str, Any]]:
        """See `gymnasium.Env.step`."""
        observation, reward, terminated, truncated, info = self.env.step(action)
        return self._vector(observation), float(reward), terminated, truncated, info

    def _vector(self, observation: dict[str, Any]) -> NDArray[np.float32]:
        vector = np.zeros(self.observation_space.shape or (), np.float32)
        vector[self._first + observation["image"]] = 1.0
        vector[self._cells_end + observation["direction"]] = 1.0
        return vector


def make_room(
    size: int, agent_view_size: int = 3, max_steps: int | None = None, render_mode: str | None = None
) -> gymnasium.Env[Any, Any]:
    """Make what ``gymnasium.make("rlstab/MiniGridMemoryS7-v0")`` gives, with ``size`` 7.

    The agent sees an object in a small room, walks through a corridor, and must choose, of two objects at its end, the
    one that it saw. It is rewarded with ``1 - 0.9 step / max_steps`` for it, and 0 for the other.

    Parameters
    ----------
    size
        Cells of the world along each side; odd.
    agent_view_size
        Cells that the agent sees along each side of a square before it; odd, 3 or more. MiniGrid's own default is 7.
    max_steps
        Time limit, which truncates; default: MiniGrid's, ``5 size size``.
    render_mode
        ``"rgb_array"``, ``"human"`` or none.

    Raises
    ------
    UserError
        MiniGrid is not installed, or a setting is out of range.

    References
    ----------
    Chevalier-Boisvert et al. (2023). Minigrid & Miniworld. NeurIPS (arXiv 2306.13831).
    """
    if not _whole(agent_view_size) or agent_view_size < 3 or agent_view_size % 2 == 0:
        raise UserError(f"agent_view_size must be an odd number of 3 or more, got {agent_view_size!r}")
    if max_steps is not None and (not _whole(max_steps) or max_steps < 1):
        raise UserError(f"max_steps must be a whole number of 1 or more, got {max_steps!r}")
    try:
        # MiniGrid imports pygame, to draw, which prints its version among our output.
        with contextlib.redirect_stdout(io.StringIO()):
            rooms = importlib.import_module("minigrid.envs.memory")
    except ModuleNotFoundError as error:
        raise UserError(f"MiniGrid's rooms need '{error.name}': {pip_install('rlstab[minigrid]')}") from error
    room = rooms.MemoryEnv(size=size, agent_view_size=agent_view_size, max_steps=max_steps, render_mode=render_mode)
    return OneHotGrid(room)


def _whole(value: Any) -> bool:
    return isinstance(value, int | np.integer) and not isinstance(value, bool)
