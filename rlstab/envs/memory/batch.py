"""Many worlds of one memory task behind gymnasium's vector interface."""

from __future__ import annotations

from typing import Any

import numpy as np
from gymnasium.vector import AutoresetMode, VectorEnv
from gymnasium.vector.utils import batch_space
from numpy.typing import NDArray

from rlstab.envs.memory.task import Episodes, MemoryTask, Observation
from rlstab.envs.physics.interface import BoolArray, FloatArray, IntArray
from rlstab.envs.worlds import CHOICES, check_batch, chosen_worlds
from rlstab.errors import UserError
from rlstab.runs.seeding import EpisodeGenerator


class MemoryVec(VectorEnv):
    """A memory task in numpy, with the conventions of `rlstab.envs.BatchEnv`.

    World ``i`` is a function of ``(seed, world_offset + i)`` only. When worlds end, `step` returns the first
    observation of their next episode and puts the last one of the ended episode into ``infos["final_obs"]``
    ``(num_envs, obs_dim)``, whose rows are meaningful where ``infos["_final_obs"]`` ``(num_envs,)`` is true; ``infos``
    is empty otherwise.

    Parameters
    ----------
    task
        The problem definition.
    num_envs
        Number of worlds.
    seed
        Base seed; `reset` with a seed replaces it.
    max_episode_steps
        Time limit in steps, which truncates; default, and -1: none but the end of the task itself, which terminates.
    world_offset
        Index of the first world, so that one world of a larger batch can be replayed alone.
    autoreset
        Whether `step` begins the next episode of a world that ended; otherwise the caller resets it.

    Raises
    ------
    UserError
        There would be no world, or no step.
    """

    metadata = {"autoreset_mode": AutoresetMode.SAME_STEP, "render_modes": []}  # noqa: RUF012
    resumes_exactly = True
    """Whether `load_state_dict` puts the worlds back exactly, so that training can go on in the middle of episodes."""

    def __init__(
        self,
        task: MemoryTask,
        num_envs: int = 1,
        seed: int = 0,
        *,
        max_episode_steps: int | None = None,
        world_offset: int = 0,
        autoreset: bool = True,
    ) -> None:
        check_batch(num_envs, seed)
        if max_episode_steps not in (None, -1) and max_episode_steps < 1:
            raise UserError(f"max_episode_steps must be at least 1, or -1 for none, got {max_episode_steps}")
        self.task = task
        self.num_envs = num_envs
        self.single_observation_space = task.observation_space
        self.single_action_space = task.action_space
        self.observation_space = batch_space(self.single_observation_space, num_envs)
        self.action_space = batch_space(self.single_action_space, num_envs)
        self.render_mode = None
        self.spec = None
        if not autoreset:
            self.metadata = {**self.metadata, "autoreset_mode": AutoresetMode.DISABLED}
        self.total_steps = 0

        self._seed = int(seed)
        self._numbers = EpisodeGenerator()
        self._world_offset = world_offset
        self._autoreset = autoreset
        self._limit = task.horizon + 1 if max_episode_steps in (None, -1) else max_episode_steps
        self._episode = np.full(num_envs, -1, np.int64)
        self._episodes = Episodes(
            np.zeros((num_envs, task.hidden_size), np.int8),
            np.zeros((num_envs, task.place_size), np.int64),
            np.zeros(num_envs, np.int64),
        )
        self._all_worlds = np.arange(num_envs)

    @property
    def elapsed_steps(self) -> IntArray:
        """Steps taken in the present episode, ``(num_envs,)``."""
        return self._episodes.elapsed

    def reset(
        self, *, seed: int | list[int | None] | None = None, options: dict[str, Any] | None = None
    ) -> tuple[Observation, dict[str, Any]]:
        """Start new episodes.

        Parameters
        ----------
        seed
            New base seed; episodes are then counted from the beginning again.
        options
            ``{"worlds": mask or indices}``, or gymnasium's ``{"reset_mask": mask}``, resets only those; the others go
            on. The first reset always begins all.

        Returns
        -------
        observation, info
            ``(num_envs, obs_dim)`` float32 and an empty dictionary.
        """
        if seed is not None and not isinstance(seed, int | np.integer):
            raise UserError("the seed of a batch environment is one integer: world i uses (seed, i)")
        mask, rest = chosen_worlds(options, self.num_envs)
        if rest:
            raise UserError(f"reset knows the options {' or '.join(map(repr, CHOICES))}, not {', '.join(sorted(rest))}")
        if seed is not None:
            if not mask.all():
                raise UserError("a new seed begins the episodes of all worlds: leave out the choice of worlds")
            self._seed = int(seed)
            self._episode[:] = -1
        self._begin(np.flatnonzero(mask) if self._begun else self._all_worlds)
        return self.task.observe(self._episodes), {}

    def step(self, actions: NDArray[Any]) -> tuple[Observation, FloatArray, BoolArray, BoolArray, dict[str, Any]]:
        """Advance every world by one step.

        Parameters
        ----------
        actions
            ``(num_envs,)``, whole numbers of the action space.

        Returns
        -------
        observation, reward, terminated, truncated, info
            ``(num_envs, obs_dim)`` float32; ``(num_envs,)`` float64, bool, bool; see the class for ``info``.

        Raises
        ------
        UserError
            There was no reset, an episode is over and was not reset, or an action is none.
        """
        task, episodes = self.task, self._episodes
        if not self._begun:
            raise UserError("reset the environment before its first step")
        if not self._autoreset and (episodes.elapsed >= task.horizon).any():
            raise UserError(f"an episode of {task.name} is over: reset it before the next step")
        episodes.place, reward = task.act(episodes, self._checked(actions))
        episodes.elapsed = episodes.elapsed + 1
        self.total_steps += 1
        observation = task.observe(episodes)
        terminated = episodes.elapsed >= task.horizon
        truncated = episodes.elapsed >= self._limit
        done = terminated | truncated
        infos: dict[str, Any] = {}
        if self._autoreset and done.any():
            infos = {"final_obs": observation, "_final_obs": done}
            self._begin(np.flatnonzero(done))
            observation = task.observe(self._episodes)
        return observation, reward, terminated, truncated, infos

    def state_dict(self) -> dict[str, Any]:
        """Everything needed to continue bit for bit."""
        return {
            "task": str(self.task),
            "seed": self._seed,
            "episode": self._episode.copy(),
            "total_steps": self.total_steps,
            "hidden": self._episodes.hidden.copy(),
            "place": self._episodes.place.copy(),
            "elapsed_steps": self._episodes.elapsed.copy(),
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restore what `state_dict` returned.

        Raises
        ------
        UserError
            The state is that of another task, other settings or another number of worlds.
        """
        for what, saved, own in (
            ("task", state.get("task"), str(self.task)),
            ("number of worlds", len(state["episode"]), self.num_envs),
        ):
            if saved != own:
                raise UserError(f"the saved environment's {what}: {saved or 'none'}; this one's: {own}")
        self._seed = int(state["seed"])
        self._episode[...] = state["episode"]
        self.total_steps = int(state["total_steps"])
        self._episodes.hidden[...] = state["hidden"]
        self._episodes.place = np.array(state["place"], np.int64)
        self._episodes.elapsed = np.array(state["elapsed_steps"], np.int64)

    def frame(self, world: int = 0) -> NDArray[np.uint8]:
        """Refuse: there is nothing to draw.

        Raises
        ------
        UserError
            Always.
        """
        del world
        raise UserError(f"{self.task.name} has no picture: what it shows is a few numbers")

    def to_sb3(self) -> Any:
        """View of this environment as Stable-Baselines3's ``VecEnv``."""
        from rlstab.envs.sb3 import SB3VecEnv

        return SB3VecEnv(self)

    @property
    def _begun(self) -> bool:
        return bool(self._episode[0] >= 0)

    def _begin(self, worlds: IntArray) -> None:
        episodes = self._episodes
        self._episode[worlds] += 1
        for world in worlds.tolist():
            rng = self._numbers.at(self._seed, "start", self._world_offset + world, int(self._episode[world]))
            episodes.hidden[world] = self.task.draw(rng)
        # Not in place: a task may give back the places it was given.
        episodes.place, episodes.elapsed = episodes.place.copy(), episodes.elapsed.copy()
        episodes.place[worlds] = 0
        episodes.elapsed[worlds] = 0

    def _checked(self, actions: NDArray[Any]) -> IntArray:
        action = np.asarray(actions)
        if action.shape != (self.num_envs,) or action.dtype.kind not in "iu":
            raise UserError(
                f"actions must be whole numbers of shape ({self.num_envs},), got {action.dtype} of shape {action.shape}"
            )
        count = int(self.task.action_space.n)
        if action.min() < 0 or action.max() >= count:
            raise UserError(f"actions must be from 0 to {count - 1}, got {action.tolist()}")
        return action.astype(np.int64, copy=False)
