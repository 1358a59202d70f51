"""Anything gymnasium can make, as a batch with the conventions of this package."""

from __future__ import annotations

import contextlib
import functools
import os
import signal
from collections.abc import Callable, Iterator, Sequence
from typing import Any, Literal

import gymnasium
import numpy as np
from gymnasium import logger
from gymnasium.vector import AsyncVectorEnv, AutoresetMode, SyncVectorEnv, VectorEnv, VectorWrapper
from gymnasium.vector.async_vector_env import AsyncState
from gymnasium.vector.utils import concatenate, create_empty_array

from rlstab.envs.foreign_world import ForeignWorld, look_into, raise_told
from rlstab.envs.gym_make import EnvMaker, make_one, name_of
from rlstab.envs.worlds import check_batch, chosen_worlds, where_in_episodes
from rlstab.errors import NonFiniteState, UserError
from rlstab.runs.seeding import derive_seed


def gymnasium_vec(
    env_id: str | EnvMaker,
    num_envs: int = 1,
    seed: int = 0,
    *,
    mode: Literal["sync", "async"] = "sync",
    max_episode_steps: int | None = None,
    world_offset: int = 0,
    env_kwargs: dict[str, Any] | None = None,
) -> GymnasiumVec:
    """Make ``num_envs`` copies of any gymnasium environment that step together.

    Parameters
    ----------
    env_id
        An id known to gymnasium, ``"module:Id"`` (the module, which registers it, is imported first), or a function
        that makes the environment.
    num_envs
        Number of worlds.
    seed
        World ``i`` is seeded from ``(seed, world_offset + i)``.
    mode
        ``"sync"`` steps one after the other, faster where a step takes less than about a millisecond; ``"async"``
        gives each world a process of its own.
    max_episode_steps
        Time limit in steps; default: the registered one.
    world_offset
        Index of the first world.
    env_kwargs
        Passed to the constructor.

    Raises
    ------
    UserError
        The environment is unknown, can't be imported or made, or ``num_envs`` or ``seed`` is none.
    """
    check_batch(num_envs, seed)
    if mode not in ("sync", "async"):
        message = f"mode is 'sync' or 'async', not '{mode}'"
        raise UserError(message)
    make = _make_world if mode == "sync" else functools.partial(_make_in_worker, os.getpid())
    makers = [functools.partial(make, env_id, max_episode_steps, env_kwargs or {})] * num_envs
    if mode == "sync":
        env: VectorEnv[Any, Any, Any] = SyncVectorEnv(makers, autoreset_mode=AutoresetMode.SAME_STEP)
    else:
        env = _in_processes(makers)
    return GymnasiumVec(env, env_id, seed, world_offset)


def _make_world(env_id: str | EnvMaker, max_episode_steps: int | None, env_kwargs: dict[str, Any]) -> gymnasium.Env:
    return ForeignWorld(make_one(env_id, max_episode_steps, env_kwargs), env_id)


def _make_in_worker(
    parent: int, env_id: str | EnvMaker, max_episode_steps: int | None, env_kwargs: dict[str, Any]
) -> gymnasium.Env:
    # Ctrl-C reaches every process of a terminal; the training decides when its workers end. Gymnasium also makes one
    # environment in the parent, to look at its spaces.
    if os.getpid() != parent:
        signal.signal(signal.SIGINT, signal.SIG_IGN)
    return _make_world(env_id, max_episode_steps, env_kwargs)


def _in_processes(makers: Sequence[Callable[[], gymnasium.Env]]) -> AsyncVectorEnv:
    try:
        return AsyncVectorEnv(makers, autoreset_mode=AutoresetMode.SAME_STEP)
    except ValueError as error:
        if "shared_memory" not in str(error):
            raise
        # Spaces without a fixed size have no place in shared memory; their values go through pipes.
        return AsyncVectorEnv(makers, shared_memory=False, autoreset_mode=AutoresetMode.SAME_STEP)


class GymnasiumVec(VectorWrapper):
    """Worlds of `gymnasium.vector` with the seeds, final observations and NaN guard of `rlstab.envs.BatchEnv`.

    ``infos["final_obs"]`` is batched like an observation, with meaningful rows where ``infos["_final_obs"]`` is true;
    all else in ``infos`` is what gymnasium gives. World ``i`` is seeded from ``(seed, i)`` and nothing else.

    Parameters
    ----------
    env
        A vector environment that resets in the step that ends an episode.
    env_id
        What it was made from, for errors.
    seed
        Base seed.
    world_offset
        Index of the first world.
    """

    def __init__(
        self, env: VectorEnv[Any, Any, Any], env_id: str | EnvMaker, seed: int = 0, world_offset: int = 0
    ) -> None:
        super().__init__(env)
        self.name = name_of(env_id)
        self._id = env_id
        self.total_steps = 0
        self.elapsed_steps = np.zeros(env.num_envs, np.int64)
        self._seed = seed
        self._world_offset = world_offset
        self._seeded = False
        self._resumed = 0
        # Gymnasium prints what a worker raises, and raises it here too. In this process the worlds may print.
        self._told_once = _quiet if isinstance(env, AsyncVectorEnv) else contextlib.nullcontext

    def reset(
        self, *, seed: int | Sequence[int | None] | None = None, options: dict[str, Any] | None = None
    ) -> tuple[Any, dict[str, Any]]:
        """Start new episodes.

        Parameters
        ----------
        seed
            New base seed. Without one, the first reset takes that of the constructor and later ones go on.
        options
            ``{"worlds": mask or indices}``, or gymnasium's ``{"reset_mask": mask}``, resets only those; the rest is
            for the environments.
        """
        if seed is not None:
            if not isinstance(seed, int | np.integer):
                message = "the seed of a batch environment is one integer: world i uses (seed, i)"
                raise UserError(message)
            self._seed, self._seeded, self._resumed = int(seed), False, 0
        mask, rest = chosen_worlds(options, self.num_envs)
        if not self._seeded:
            # Every world has its seed from the beginning, even if it is not among the first to be reset.
            mask[:] = True
        if not mask.all():
            rest["reset_mask"] = mask
        self.elapsed_steps[mask] = 0
        seeds: Any = None if self._seeded else self._seeds()
        self._seeded = True
        observation, infos = self._alive(self.env.reset, seed=seeds, options=rest or None)
        self._guard({"observation": observation})
        return observation, infos

    def step(self, actions: Any) -> tuple[Any, Any, Any, Any, dict[str, Any]]:
        """Step every world; see `rlstab.envs.BatchEnv.step`.

        Raises
        ------
        NonFiniteState
            An observation or reward is NaN or infinite.
        """
        observation, reward, terminated, truncated, infos = self._alive(self.env.step, actions)
        self.total_steps += 1
        self.elapsed_steps += 1
        if "final_obs" in infos:
            infos["final_obs"] = self._dense(infos["final_obs"], infos["_final_obs"])
            self._guard({"final_obs": infos["final_obs"], "action": actions}, where=infos["_final_obs"])
        self._guard({"observation": observation, "reward": reward, "action": actions})
        self.elapsed_steps[terminated | truncated] = 0
        return observation, reward, terminated, truncated, infos

    def get_attr(self, name: str) -> tuple[Any, ...]:
        """An attribute of every world's environment."""
        return self.env.get_attr(name)  # type: ignore[attr-defined]

    def set_attr(self, name: str, values: Any) -> None:
        """Set an attribute of every world's environment."""
        self.env.set_attr(name, values)  # type: ignore[attr-defined]

    def call(self, name: str, *args: Any, **kwargs: Any) -> tuple[Any, ...]:
        """Call a method of every world's environment."""
        return self.env.call(name, *args, **kwargs)  # type: ignore[attr-defined]

    def frame(self, world: int = 0) -> Any:
        """Picture of one world, ``(height, width, 3)``.

        Raises
        ------
        UserError
            The environment was made without ``render_mode="rgb_array"``.
        """
        if self.render_mode != "rgb_array":
            message = f"{self.name} draws only when made with env_kwargs={{'render_mode': 'rgb_array'}}"
            raise UserError(message)
        environments = getattr(self.env, "envs", None)
        picture = environments[world].render() if environments is not None else self.call("render")[world]
        return np.asarray(picture)

    def to_sb3(self) -> Any:
        """View of this environment as Stable-Baselines3's ``VecEnv``."""
        from rlstab.envs.sb3 import SB3VecEnv

        return SB3VecEnv(self)

    def state_dict(self) -> dict[str, Any]:
        """Seed and counters. What goes on inside foreign environments can't be saved (see `load_state_dict`)."""
        return {"seed": self._seed, "total_steps": self.total_steps, "resumed": self._resumed}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on after a run was interrupted: the next `reset` begins episodes never seen before.

        A foreign environment's inner state is not known, so an interrupted run does not equal an uninterrupted one.
        """
        self._seed, self.total_steps = int(state["seed"]), int(state["total_steps"])
        self._resumed = int(state["resumed"]) + 1
        self._seeded = False

    def _seeds(self) -> list[int | None]:
        key = ("world",) if not self._resumed else ("world", "resumed", self.total_steps, self._resumed)
        return [derive_seed(self._seed, *key, self._world_offset + world) for world in range(self.num_envs)]

    def _dense(self, rows: Any, ended: Any) -> Any:
        space = self.single_observation_space
        # Rows of worlds that go on have no meaning; any valid observation fills them.
        filler = rows[int(np.argmax(ended))]
        chosen = [row if done else filler for row, done in zip(rows, ended, strict=True)]
        return concatenate(space, chosen, create_empty_array(space, self.num_envs))

    def _alive(self, call: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        """Call into the worlds; what is wrong with them, or that a worker process died, is the user's to know."""
        try:
            with self._told_once():
                return call(*args, **kwargs)
        except (BrokenPipeError, EOFError, ConnectionResetError) as error:
            self._abandon()
            raise UserError(
                f"a worker process of {self.name} died (killed, out of memory, or a crash in native code): try fewer "
                "worlds, or step them in this process"
            ) from error
        except Exception as error:
            # The worlds look at what they return (`ForeignWorld`); what they passed and can't be batched ends here.
            raise_told(error, self._id, f"{call.__name__}()")

    def _abandon(self) -> None:
        """End the other workers: gymnasium's own `close` would wait for an answer of the dead one."""
        env: Any = self.env
        env._state = AsyncState.DEFAULT
        with contextlib.suppress(OSError, EOFError):
            env.close(terminate=True)
        env.closed = True

    def _guard(self, arrays: dict[str, Any], where: Any = True) -> None:
        bad = np.zeros(self.num_envs, bool)
        for name, array in arrays.items():
            if name != "action":
                bad |= self._not_finite(array)
        bad &= where
        if not bad.any():
            return
        worlds = np.flatnonzero(bad).tolist()
        message = (
            f"{self.name} produced NaN or infinity {where_in_episodes(worlds, self.elapsed_steps)}; "
            f"{look_into(self._id)}"
        )
        plain = {path: leaf for name, array in arrays.items() for path, leaf in _leaves(name, array)}
        raise NonFiniteState(message, step=self.total_steps, worlds=worlds, arrays=plain)

    def _not_finite(self, batch: Any) -> Any:
        if isinstance(batch, dict):
            return np.logical_or.reduce([self._not_finite(value) for value in batch.values()])
        if isinstance(batch, tuple) and len(batch) and all(isinstance(value, np.ndarray) for value in batch):
            return np.logical_or.reduce([self._not_finite(value) for value in batch])
        if not isinstance(batch, np.ndarray) or batch.dtype.kind != "f":
            return np.zeros(self.num_envs, bool)
        # One pass over everything first: a NaN or infinity makes the sum one too.
        if np.isfinite(batch.sum()):
            return np.zeros(self.num_envs, bool)
        return ~np.isfinite(batch.reshape(self.num_envs, -1)).all(axis=1)


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    before, logger.min_level = logger.min_level, logger.ERROR + 1
    try:
        yield
    finally:
        logger.min_level = before


def _leaves(path: str, tree: Any) -> list[tuple[str, Any]]:
    """Arrays of a batch of dictionary or tuple observations, with their path in it."""
    if isinstance(tree, dict):
        return [leaf for name, part in tree.items() for leaf in _leaves(f"{path}.{name}", part)]
    if isinstance(tree, tuple) and all(isinstance(part, np.ndarray | dict | tuple) for part in tree):
        return [leaf for index, part in enumerate(tree) for leaf in _leaves(f"{path}.{index}", part)]
    return [(path, np.asarray(tree))]
