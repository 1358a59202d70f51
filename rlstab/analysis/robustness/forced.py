"""Plays a policy against forces that are given beforehand, and keeps what comes of it."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from rlstab.analysis.episodes import BlockPolicy, check_spaces, own_random_state
from rlstab.analysis.robustness.outputs import output_of
from rlstab.envs.batch_env import BatchEnv
from rlstab.envs.gym_make import resolve_id
from rlstab.envs.physics.interface import BoolArray, FloatArray, IntArray
from rlstab.envs.pushing import PushPoint, push_point
from rlstab.envs.registry import make_task
from rlstab.errors import NonFiniteState, UserError

if TYPE_CHECKING:
    from rlstab.policies.base import Policy
    from rlstab.runs.environment import EnvSettings

WORLDS = 512
"""Worlds that play at the same time."""


@dataclass(frozen=True)
class Plant:
    """A robot and its task, to be pushed.

    Parameters
    ----------
    env_id, env_kwargs
        A native environment.
    point
        Where it is pushed.
    speed
        Speed that costs nothing, m/s; None: by the robot.
    seed
        Of its episodes.
    num_threads
        That step it; None: one a processor.
    """

    env_id: str
    env_kwargs: dict[str, Any]
    point: PushPoint
    speed: float | None = None
    seed: int = 0
    num_threads: int | None = None

    @classmethod
    def of(
        cls,
        settings: EnvSettings,
        *,
        body: str = "",
        speed: float | None = None,
        seed: int = 0,
        num_threads: int | None = None,
    ) -> Plant:
        """Find where the robot of an environment is pushed.

        Raises
        ------
        UserError
            It cannot be pushed, or nothing tells what its task is.
        """
        env_id = resolve_id(settings.env_id) if isinstance(settings.env_id, str) else settings.env_id
        point = push_point(env_id, settings.env_kwargs, body)
        assert isinstance(env_id, str)
        plant = cls(env_id, dict(settings.env_kwargs), point, speed, seed, num_threads)
        env = plant.make([0], point.weight)
        try:
            output_of(env, speed)
        finally:
            env.close()
        return plant

    @property
    def dt(self) -> float:
        """Control period, seconds."""
        env = self.make([0], 0.0)
        env.close()
        return env.dt

    def make(self, starts: Sequence[int], max_force: float, max_episode_steps: int = -1) -> BatchEnv:
        """Make worlds that begin the episodes ``starts``, pushed by at most ``max_force`` newtons."""
        return BatchEnv(
            make_task(self.env_id, **self.env_kwargs),
            len(starts),
            self.seed,
            disturbances=(self.point.force(max_force),),
            num_threads=self.num_threads,
            max_episode_steps=max_episode_steps,
            world_numbers=starts,
            autoreset=False,
        )


@dataclass
class Responses:
    """What came of ``N`` sequences of forces over ``T`` steps."""

    outputs: FloatArray
    """``(N, T, k)``: the output; after a fall, the first that shows it."""
    costs: FloatArray
    """``(N, T)``; after a fall, the first that shows it: falling is never cheap."""
    fell: IntArray
    """``(N,)``: step of the fall; ``T``: none."""
    unit: str = field(default="")

    @property
    def steps(self) -> int:
        """``T``."""
        return self.costs.shape[1]

    @property
    def stood(self) -> BoolArray:
        """``(N,)``: whether it never fell."""
        return self.fell >= self.steps


def play_forces(
    policy: Policy, plant: Plant, forces: FloatArray, starts: Sequence[int], *, worlds: int = WORLDS
) -> Responses:
    """Play each sequence of forces once, with the mode of the policy's actions.

    Parameters
    ----------
    policy
        What acts.
    plant
        What is pushed.
    forces
        ``(N, T, channels)``, newtons.
    starts
        ``(N,)``: which episode each begins; equal ones begin alike.
    worlds
        How many play at the same time; the result does not depend on it beyond rounding.

    Raises
    ------
    UserError
        The policy does not fit the environment.
    """
    count = len(forces)
    if forces.ndim != 3 or forces.shape[2] != plant.point.channels or len(starts) != count or not count:
        raise UserError(
            f"forces must be (N, T, {plant.point.channels}) with N starts, got {forces.shape} and {len(starts)}"
        )
    chunks = [slice(first, min(first + worlds, count)) for first in range(0, count, worlds)]
    parts = [_play(policy, plant, forces[chunk], list(starts[chunk])) for chunk in chunks]
    return Responses(
        np.concatenate([part.outputs for part in parts]),
        np.concatenate([part.costs for part in parts]),
        np.concatenate([part.fell for part in parts]),
        parts[0].unit,
    )


def _play(policy: Policy, plant: Plant, forces: FloatArray, starts: list[int]) -> Responses:
    """Play; worlds whose physics breaks count as fallen, and the others are played again without them."""
    broken: dict[int, int] = {}
    while True:
        whole = [row for row in range(len(forces)) if row not in broken]
        if not whole:
            raise UserError("the physics of every world broke: the forces are absurd; choose smaller ones")
        try:
            played = _play_whole(policy, plant, forces[whole], [starts[row] for row in whole])
        except _Broken as error:
            broken |= {whole[world]: error.step for world in error.worlds}
            continue
        if not broken:
            return played
        return _with_broken(played, whole, broken, len(forces))


def _play_whole(policy: Policy, plant: Plant, forces: FloatArray, starts: list[int]) -> Responses:
    count, steps, _ = forces.shape
    env = plant.make(starts, float(np.linalg.norm(forces, axis=2).max()))
    try:
        check_spaces(policy, env)
        output = output_of(env, plant.speed)
        port: Any = env.disturbances[0]
        actor = BlockPolicy(policy, 0, count, seed=plant.seed, deterministic=True)
        outputs, costs = np.zeros((0, 0, 0)), np.zeros((count, steps))
        fell, begins = np.full(count, steps), np.ones(count, bool)
        with own_random_state():
            observation, _ = env.reset()
            for step in range(steps):
                before = np.concatenate([env.physics.qpos, env.physics.qvel], axis=1)
                action = np.asarray(actor.act(observation, begins), np.float64)
                begins = np.zeros(count, bool)
                port.push(forces[:, step])
                try:
                    observation, reward, terminated, _, _ = env.step(action)
                except NonFiniteState as error:
                    raise _Broken(step, list(error.worlds)) from error
                z, cost = output(before, action, reward, terminated)
                if step == 0:
                    outputs = np.zeros((count, steps, z.shape[1]))
                lying = fell + output.delay < step
                outputs[:, step] = np.where(lying[:, None], outputs[:, step - 1], z)
                costs[:, step] = np.where(lying, costs[:, step - 1], cost)
                fell = np.where(terminated & (fell == steps), step, fell)
        return Responses(outputs, costs, fell, output.unit)
    finally:
        env.close()


class _Broken(Exception):
    def __init__(self, step: int, worlds: list[int]) -> None:
        super().__init__(step)
        self.step, self.worlds = step, worlds


def _with_broken(played: Responses, whole: list[int], broken: dict[int, int], count: int) -> Responses:
    """Put worlds whose physics broke back in, as fallen at that step, with the worst cost that was seen."""
    steps = played.steps
    outputs, costs = np.zeros((count, steps, played.outputs.shape[2])), np.zeros((count, steps))
    fell = np.full(count, steps)
    outputs[whole], costs[whole], fell[whole] = played.outputs, played.costs, played.fell
    for row, step in broken.items():
        costs[row, step:] = played.costs.max()
        fell[row] = step
    return dataclasses.replace(played, outputs=outputs, costs=costs, fell=fell)
