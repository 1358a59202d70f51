"""What a task costs at each step: how much of its best reward is missed."""

from __future__ import annotations

from typing import Any, Protocol

import numpy as np

from rlstab.envs.batch_env import BatchEnv
from rlstab.envs.linear.task import LinearQuadratic
from rlstab.envs.locomotion.velocity import Go1Velocity
from rlstab.envs.physics.interface import BoolArray, FloatArray
from rlstab.errors import UserError


class Cost(Protocol):
    """A cost of every step, at least zero."""

    worst: float | None
    """Largest cost of a step, which a fallen robot pays for ever; None where costs have no bound."""

    def __call__(self, reward: FloatArray, terminated: BoolArray) -> FloatArray:
        """Cost ``(num_envs,)`` of the step that the environment has just taken."""
        ...


class QuadraticCost:
    """That of a linear system: minus its reward."""

    worst: float | None = None

    def __call__(self, reward: FloatArray, terminated: BoolArray) -> FloatArray:
        """See `Cost`."""
        del terminated
        return -reward


class SpeedCost:
    """``clip(1 - v / v_ref, 0, 1)`` of a robot that is to run forward, 1 where it has fallen.

    Parameters
    ----------
    env
        Of a task whose reward has a term ``reward_forward``.
    reference
        ``v_ref``, m/s.
    """

    worst: float | None = 1.0

    def __init__(self, env: BatchEnv, reference: float) -> None:
        self._env = env
        self._scale = reference * float(getattr(env.task, "forward_reward_weight", 1.0))

    def __call__(self, reward: FloatArray, terminated: BoolArray) -> FloatArray:
        """See `Cost`."""
        del reward
        missed = np.clip(1.0 - self._env.reward_terms["reward_forward"] / self._scale, 0.0, 1.0)
        return np.where(terminated, 1.0, missed)


class SurvivalCost:
    """Nothing until the robot has fallen, 1 then: what is missed of a reward that only asks to stay up."""

    worst: float | None = 1.0

    def __call__(self, reward: FloatArray, terminated: BoolArray) -> FloatArray:
        """See `Cost`."""
        del reward
        return terminated.astype(np.float64)


class TrackingCost:
    """Share of the reward for tracking a command that is missed, 1 where the robot has fallen.

    Parameters
    ----------
    env
        Of a task with `Go1Velocity.tracking_maximum` and the terms it is about.
    """

    worst: float | None = 1.0

    def __init__(self, env: BatchEnv, task: Go1Velocity) -> None:
        self._env = env
        self._most = task.tracking_maximum(env.dt)

    def __call__(self, reward: FloatArray, terminated: BoolArray) -> FloatArray:
        """See `Cost`."""
        del reward
        terms = self._env.reward_terms
        missed = 1.0 - (terms["tracking_linear"] + terms["tracking_angular"]) / self._most
        return np.where(terminated, 1.0, np.maximum(missed, 0.0))


SPEEDS = {"Hopper": 2.5, "Walker2d": 3.5, "HalfCheetah": 5.0, "Ant": 3.0}
"""Robot to the speed that counts as doing its task, m/s."""


def cost_of(env: Any, reference: float | None = None) -> Cost:
    """Find the cost that suits an environment.

    Parameters
    ----------
    env
        A native batch.
    reference
        Speed that costs nothing, m/s; default: by the robot.

    Raises
    ------
    UserError
        It is no native environment, or has no cost that is known here.
    """
    if not isinstance(env, BatchEnv):
        raise UserError("a disturber needs a native environment, on whose bodies it can push")
    if isinstance(env.task, LinearQuadratic):
        return QuadraticCost()
    if isinstance(env.task, Go1Velocity):
        return TrackingCost(env, env.task)
    for robot, speed in SPEEDS.items():
        if env.task.id.removeprefix("rlstab/").startswith(robot):
            return SpeedCost(env, reference or speed)
    if env.task.id.removeprefix("rlstab/").startswith("InvertedPendulum"):
        return SurvivalCost()
    raise UserError(f"no cost is known for {env.task.id}: it has neither a quadratic cost nor a speed to keep")
