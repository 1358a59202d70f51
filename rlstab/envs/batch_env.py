"""Many worlds of one task behind gymnasium's vector interface: engine + task + disturbances + episode bookkeeping."""

from __future__ import annotations

import functools
import math
from collections.abc import Sequence
from typing import Any

import gymnasium
import numpy as np
from gymnasium.vector import AutoresetMode, VectorEnv
from gymnasium.vector.utils import batch_space
from numpy.typing import NDArray

from rlstab.envs.carried import WorldState, nothing_yet, row_of, taken
from rlstab.envs.disturbance import Disturbance, attach_all, listed, required_fields
from rlstab.envs.physics.interface import BoolArray, FloatArray, IntArray
from rlstab.envs.task import Task
from rlstab.envs.worlds import check_batch, chosen_worlds, where_in_episodes
from rlstab.errors import NonFiniteState, UserError
from rlstab.runs.seeding import EpisodeGenerator, generator


class BatchEnv(VectorEnv):
    """A task on batched physics, with gymnasium's ``VectorEnv`` interface and same-step autoreset.

    World ``i`` is a function of ``(seed, world_offset + i)`` only: its episodes do not depend on ``num_envs``, on the
    other worlds, or on the number of threads. When worlds end, `step` returns the first observation of their next
    episode and puts the last one of the ended episode into ``infos["final_obs"]`` ``(num_envs, obs_dim)``, whose rows
    are meaningful where ``infos["_final_obs"]`` ``(num_envs,)`` is true; ``infos`` is empty otherwise.

    Parameters
    ----------
    task
        The problem definition.
    num_envs
        Number of worlds.
    seed
        Base seed; `reset` with a seed replaces it.
    disturbances
        What the world does to the robot, applied in order; a list, a single one, or text such as ``"latency=1"``.
    num_threads
        Threads that step physics; default: the processors this process may use.
    max_episode_steps
        Time limit in control steps; default: the task's; -1: none.
    world_offset
        Index of the first world, so that one world of a larger batch can be replayed alone.
    world_numbers
        ``(num_envs,)``: index of each world instead. Worlds with equal numbers begin equal episodes, for comparing what
        is done to them.
    autoreset
        Whether `step` begins the next episode of a world that ended; otherwise the caller resets it.
    """

    metadata = {"autoreset_mode": AutoresetMode.SAME_STEP, "render_modes": ["rgb_array"]}  # noqa: RUF012

    def __init__(
        self,
        task: Task,
        num_envs: int = 1,
        seed: int = 0,
        *,
        disturbances: Sequence[Disturbance] | Disturbance | str = (),
        num_threads: int | None = None,
        max_episode_steps: int | None = None,
        world_offset: int = 0,
        world_numbers: Sequence[int] | None = None,
        autoreset: bool = True,
    ) -> None:
        check_batch(num_envs, seed)
        disturbances = listed(disturbances)
        self.task = task
        self.num_envs = num_envs
        fields = tuple(dict.fromkeys((*task.fields, *required_fields(disturbances))))
        self.physics = task.make_physics(num_envs, fields, num_threads)
        self.max_episode_steps = _time_limit(max_episode_steps, task.max_episode_steps)
        self.dt = self.physics.timestep * task.frame_skip
        self.observation_terms = task.observation_terms(self.physics.model)
        obs_dim = sum(term.dim for term in self.observation_terms)
        self.single_observation_space = gymnasium.spaces.Box(-np.inf, np.inf, (obs_dim,), np.float64)
        low, high = self.physics.model.actuator_ctrlrange.astype(np.float32).T
        self.single_action_space = gymnasium.spaces.Box(low, high, dtype=np.float32)
        self.observation_space = batch_space(self.single_observation_space, num_envs)
        self.action_space = batch_space(self.single_action_space, num_envs)
        self.render_mode = "rgb_array"
        self.spec = None

        self._seed = seed
        self._episode_generator = EpisodeGenerator()
        numbers = range(world_offset, world_offset + num_envs) if world_numbers is None else world_numbers
        self._world_numbers = _numbered(numbers, num_envs)
        self._autoreset = autoreset
        if not autoreset:
            self.metadata = {**self.metadata, "autoreset_mode": AutoresetMode.DISABLED}
        self._episode = np.full(num_envs, -1, np.int64)
        self.elapsed_steps = np.zeros(num_envs, np.int64)
        self.total_steps = 0
        self.reward_terms: dict[str, FloatArray] = {}
        """Terms of the last step's reward, ``(num_envs,)`` each."""
        self._all_worlds = np.arange(num_envs)
        self.state = WorldState(self.physics, nothing_yet(task.carried(self.physics.model), num_envs))
        """What the task sees: a live view."""
        self._before = task.measure(self.state)
        # Last observation returned: what a partial reset gives again for the worlds that go on.
        self._seen: FloatArray | None = None
        self.disturbances = attach_all(disturbances, self)
        self._disturbed_by = "; ".join(map(str, disturbances))

    @property
    def model(self) -> Any:
        """The compiled MuJoCo model."""
        return self.physics.model

    def rng(self, world: int, purpose: str) -> np.random.Generator:
        """Random numbers of ``world``'s present episode; each ``purpose`` has a stream of its own."""
        return generator(self._seed, self._world_numbers[world], int(self._episode[world]), purpose)

    def reset(
        self, *, seed: int | list[int | None] | None = None, options: dict[str, Any] | None = None
    ) -> tuple[FloatArray, dict[str, Any]]:
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
            ``(num_envs, obs_dim)`` float64 and an empty dictionary.
        """
        if seed is not None:
            if not isinstance(seed, int | np.integer):
                message = "the seed of a batch environment is one integer: world i uses (seed, i)"
                raise UserError(message)
            self._seed = int(seed)
            self._episode[:] = -1
            self.state.forget()
        worlds = self._chosen_worlds(options or {}, seeded=seed is not None)
        self._begin_episodes(worlds)
        self._before = self.task.measure(self.state)
        first = self._disturb_first(self.task.observe(self._taken(worlds)), worlds)
        observation = first.copy() if self._seen is None else self._seen.copy()
        observation[worlds] = first
        self._seen = observation.copy()
        return observation, {}

    def step(self, actions: NDArray[Any]) -> tuple[FloatArray, FloatArray, BoolArray, BoolArray, dict[str, Any]]:
        """Advance every world by one control period (``dt`` seconds).

        Parameters
        ----------
        actions
            ``(num_envs, act_dim)``, in the units of the actuators' control range; values outside are clamped by the
            actuators, as in gymnasium's environments, but count in full in control costs.

        Returns
        -------
        observation, reward, terminated, truncated, info
            ``(num_envs, obs_dim)`` float64; ``(num_envs,)`` float64, bool, bool; see the class for ``info``.

        Raises
        ------
        NonFiniteState
            Physics, observation or reward became NaN or infinite; carries the offending arrays.
        """
        if self._seen is None:
            raise UserError("reset the environment before its first step")
        commanded = action = np.asarray(actions, np.float64)
        if action.shape != self._action_shape:
            message = f"actions must have shape {self._action_shape}, got {action.shape}"
            raise UserError(message)
        wrench = None
        for disturbance in self.disturbances:
            action = disturbance.action(action)
            push = disturbance.wrench()
            if push is not None:
                wrench = push if wrench is None else wrench + push

        task, state = self.task, self.state
        self.physics.step(task.control(state, action), task.frame_skip, wrench)
        self.elapsed_steps += 1
        self.total_steps += 1
        terms, terminated = task.outcome(self._before, state, action, self.dt)
        task.advance(state, commanded, action, self._numbers, self.dt)
        self.reward_terms = terms
        reward = functools.reduce(np.add, terms.values())
        observation = task.observe(state)
        # Sums of squares: finite only if every term is, and cheaper than looking at each.
        seen = np.vdot(observation, observation) + np.vdot(reward, reward)
        if not (math.isfinite(seen) and self.physics.is_finite()):
            self._report_non_finite(action, observation, reward)
        for disturbance in self.disturbances:
            observation = disturbance.observation(observation)

        truncated = self.elapsed_steps >= self.max_episode_steps
        done = terminated | truncated
        infos: dict[str, Any] = {}
        if self._autoreset and done.any():
            infos = {"final_obs": observation, "_final_obs": done}
            observation = observation.copy()
            worlds = np.flatnonzero(done)
            self._begin_episodes(worlds)
            observation[worlds] = self._disturb_first(task.observe(self._taken(worlds)), worlds)
        self._seen = observation.copy()
        self._before = task.measure(state)
        return observation, reward, terminated, truncated, infos

    def state_dict(self) -> dict[str, Any]:
        """Everything needed to continue bit for bit."""
        return {
            "physics": self.physics.state_dict(),
            "seed": self._seed,
            "episode": self._episode.copy(),
            "elapsed_steps": self.elapsed_steps.copy(),
            "total_steps": self.total_steps,
            "before": np.array(self._before),
            "carried": {name: array.copy() for name, array in self.state.carried.items()},
            "seen": None if self._seen is None else self._seen.copy(),
            "task": self.task.id,
            "disturbed by": self._disturbed_by,
            "disturbances": [disturbance.state_dict() for disturbance in self.disturbances],
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restore what `state_dict` returned.

        Raises
        ------
        UserError
            The state is that of another task, number of worlds or list of disturbances.
        """
        for what, saved, own in (
            ("task", state.get("task"), self.task.id),
            ("disturbances", state.get("disturbed by"), self._disturbed_by),
        ):
            if saved != own:
                message = f"the saved environment's {what}: {saved or 'none'}; this one's: {own or 'none'}"
                raise UserError(message)
        self.physics.load_state_dict(state["physics"])
        self._seed = int(state["seed"])
        self._episode[...] = state["episode"]
        self.elapsed_steps[...] = state["elapsed_steps"]
        self.total_steps = int(state["total_steps"])
        self._before = state["before"].copy()
        for name, array in self.state.carried.items():
            array[...] = state["carried"][name]
        self._seen = None if state["seen"] is None else state["seen"].copy()
        for disturbance, saved in zip(self.disturbances, state["disturbances"], strict=True):
            disturbance.load_state_dict(saved)

    def frame(self, world: int = 0, width: int = 480, height: int = 480) -> NDArray[np.uint8]:
        """Picture of one world, ``(height, width, 3)``.

        Raises
        ------
        UserError
            No rendering library works; the message names the packages.
        """
        if self._renderer is not None and self._renderer.size != (width, height):
            self._renderer.close()
            self._renderer = None
        if self._renderer is None:
            self._renderer = self.task.make_renderer(self.physics.model, width, height)
        return self._renderer.frame(self.physics.qpos[world], self.physics.qvel[world])

    def render(self) -> tuple[NDArray[np.uint8], ...]:
        """One picture a world."""
        return tuple(self.frame(world) for world in range(self.num_envs))

    def to_sb3(self) -> Any:
        """View of this environment as Stable-Baselines3's ``VecEnv``."""
        from rlstab.envs.sb3 import SB3VecEnv

        return SB3VecEnv(self)

    def close_extras(self, **kwargs: Any) -> None:
        """End the worker threads and the renderer."""
        if "physics" in self.__dict__:  # Not where construction failed.
            self.physics.close()
        if self._renderer is not None:
            self._renderer.close()

    _renderer: Any = None
    resumes_exactly = True
    """Whether `load_state_dict` puts the worlds back exactly, so that training can go on in the middle of episodes."""

    @property
    def _action_shape(self) -> tuple[int, int]:
        return (self.num_envs, self.physics.model.nu)

    def _begin_episodes(self, worlds: IntArray) -> None:
        self._episode[worlds] += 1
        self.elapsed_steps[worlds] = 0
        model = self.physics.model
        qpos, qvel = np.empty((len(worlds), model.nq)), np.empty((len(worlds), model.nv))
        for row, world in enumerate(worlds.tolist()):
            carried = row_of(self.state.carried, world)
            qpos[row], qvel[row] = self.task.begin(model, carried, world, self._numbers)
        # Parameters first: the state is refreshed with the model that the episode will run on.
        for disturbance in self.disturbances:
            disturbance.begin(worlds)
        self.physics.reset(worlds, qpos, qvel)

    def _chosen_worlds(self, options: dict[str, Any], *, seeded: bool) -> IntArray:
        unknown = options.keys() - {"worlds", "reset_mask"}
        if unknown or len(options) > 1:
            message = f"reset knows the options 'worlds' or 'reset_mask', not {', '.join(sorted(options))}"
            raise UserError(message)
        if not options:
            return self._all_worlds
        worlds = np.flatnonzero(chosen_worlds(options, self.num_envs)[0])
        if seeded and len(worlds) < self.num_envs:
            message = "a new seed begins the episodes of all worlds: leave out the choice of worlds"
            raise UserError(message)
        return worlds if self._seen is not None else self._all_worlds

    def _numbers(self, world: int, purpose: str) -> np.random.Generator:
        return self._episode_generator.at(self._seed, purpose, self._world_numbers[world], int(self._episode[world]))

    def _taken(self, worlds: IntArray) -> WorldState:
        return taken(self.physics, self.state.carried, worlds)

    def _disturb_first(self, observation: FloatArray, worlds: IntArray) -> FloatArray:
        for disturbance in self.disturbances:
            observation = disturbance.first_observation(observation, worlds)
        return observation

    def _report_non_finite(self, action: FloatArray, observation: FloatArray, reward: FloatArray) -> None:
        arrays = {
            "qpos": self.physics.qpos.copy(),
            "qvel": self.physics.qvel.copy(),
            "action": action,
            "observation": observation,
            "reward": reward,
        }
        rows = [array.reshape(self.num_envs, -1) for array in arrays.values()]
        finite = np.logical_and.reduce([np.isfinite(row).all(axis=1) for row in rows])
        if finite.all():  # Finite numbers whose sum overflowed: absurd, but not what this guard is for.
            return
        worlds = np.flatnonzero(~finite).tolist()
        message = (
            f"{self.task.id} produced NaN or infinity {where_in_episodes(worlds, self.elapsed_steps)}: "
            "check the actions, the disturbances and the model"
        )
        raise NonFiniteState(message, step=self.total_steps, worlds=worlds, arrays=arrays)


def _time_limit(steps: int | None, usual: int) -> int:
    if steps is None:
        return usual
    if steps == -1:
        return int(np.iinfo(np.int64).max)
    if steps < 1:
        message = f"max_episode_steps must be at least 1, or -1 for none, got {steps}"
        raise UserError(message)
    return steps


def _numbered(numbers: Sequence[int], num_envs: int) -> list[int]:
    if len(numbers) != num_envs:
        raise UserError(f"world_numbers has {len(numbers)} numbers, there are {num_envs} worlds")
    return [int(number) for number in numbers]
