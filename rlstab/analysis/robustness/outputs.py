"""What a disturbance does to a task: the output ``z`` whose size is held against the size of the disturbance."""

from __future__ import annotations

from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from rlstab.envs.batch_env import BatchEnv
from rlstab.envs.costs import SpeedCost, TrackingCost, cost_of
from rlstab.envs.linear.task import LinearQuadratic
from rlstab.envs.physics.interface import BoolArray, FloatArray
from rlstab.errors import UserError


class Output(Protocol):
    """Reads the output of the step that an environment has just taken."""

    unit: str
    """Of ``z``."""
    delay: int
    """Steps after which a fall is seen in the output."""

    def __call__(
        self, before: FloatArray, action: FloatArray, reward: FloatArray, terminated: BoolArray
    ) -> tuple[FloatArray, FloatArray]:
        """Output and cost of a step.

        Parameters
        ----------
        before
            ``(N, nq + nv)``: positions and velocities that the step began with.
        action, reward, terminated
            Of the step, as `BatchEnv.step` takes and gives them.

        Returns
        -------
        z, cost
            ``(N, k)`` and ``(N,)``.
        """
        ...


class QuadraticOutput:
    """``z = (Q^1/2 x, R^1/2 u)`` of a regulator, whose cost is ``|z|^2``.

    Parameters
    ----------
    q, r
        Weights of state ``(n, n)`` and control ``(m, m)``, positive semidefinite.
    """

    unit = "square root of cost"
    delay = 1  # It charges the state that a step begins with.

    def __init__(self, q: FloatArray, r: FloatArray) -> None:
        self._state, self._control = _root(q), _root(r)

    def __call__(
        self, before: FloatArray, action: FloatArray, reward: FloatArray, terminated: BoolArray
    ) -> tuple[FloatArray, FloatArray]:
        """See `Output`."""
        del reward, terminated
        size = len(self._state)
        z = np.concatenate([before[:, :size] @ self._state.T, action @ self._control.T], axis=1)
        return z, np.einsum("ni,ni->n", z, z)


class SpeedOutput:
    """``z`` is the forward speed, m/s; the cost is the share of the reference speed that is missed.

    Parameters
    ----------
    env
        Of a robot that runs forward.
    cost
        Of the same environment.
    """

    unit = "m/s"
    delay = 0

    def __init__(self, env: BatchEnv, cost: SpeedCost) -> None:
        self._env, self._cost = env, cost
        self._weight = float(getattr(env.task, "forward_reward_weight", 1.0))

    def __call__(
        self, before: FloatArray, action: FloatArray, reward: FloatArray, terminated: BoolArray
    ) -> tuple[FloatArray, FloatArray]:
        """See `Output`."""
        del before, action
        speed = self._env.reward_terms["reward_forward"] / self._weight
        return speed[:, None], self._cost(reward, terminated)


class TrackingOutput:
    """``z`` is the share of the reward for tracking that is missed, and the cost is the same.

    Parameters
    ----------
    cost
        Of the environment.
    """

    unit = "share of tracking missed"
    delay = 0

    def __init__(self, cost: TrackingCost) -> None:
        self._cost = cost

    def __call__(
        self, before: FloatArray, action: FloatArray, reward: FloatArray, terminated: BoolArray
    ) -> tuple[FloatArray, FloatArray]:
        """See `Output`."""
        del before, action
        missed = self._cost(reward, terminated)
        return missed[:, None], missed


PENDULUM_WEIGHTS = (1.0, 10.0, 0.1, 0.1), 0.1
"""Diagonal of Q on (cart, angle, and their rates) and R of the inverted pendulum's output."""


def output_of(env: Any, speed: float | None = None) -> Output:
    """Find the output of an environment.

    Parameters
    ----------
    env
        A native batch.
    speed
        Speed that costs nothing, m/s, where the task is to run; default: by the robot.

    Raises
    ------
    UserError
        Nothing tells what its task is.
    """
    if not isinstance(env, BatchEnv):
        raise UserError("a gain needs a native environment, on whose bodies one can push")
    if isinstance(env.task, LinearQuadratic):
        return QuadraticOutput(env.task.system.q, env.task.system.r)
    if env.task.id.removeprefix("rlstab/").startswith("InvertedPendulum"):
        state, control = PENDULUM_WEIGHTS
        return QuadraticOutput(np.diag(state), np.array([[control]]))
    cost = cost_of(env, speed)
    if isinstance(cost, TrackingCost):
        return TrackingOutput(cost)
    assert isinstance(cost, SpeedCost)
    return SpeedOutput(env, cost)


def _root(weight: FloatArray) -> NDArray[np.float64]:
    values, vectors = np.linalg.eigh(weight)
    return np.sqrt(np.maximum(values, 0.0))[:, None] * vectors.T
