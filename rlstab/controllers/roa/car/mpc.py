"""Model-predictive control of the car after its reference: the baseline that plans controls."""

from __future__ import annotations

import time
from typing import Any

import numpy as np

from rlstab.controllers.baselines.mpc import Mpc, MpcPlan, MpcProblem
from rlstab.controllers.roa.car.drive import LIMIT, STEP_S, FloatArray, Follower, IntArray
from rlstab.envs.hybrid.car import CAR, SLOWEST
from rlstab.envs.hybrid.system import HybridState

APPLIED = 10
"""Steps of a plan that are driven before the next one, as published."""
GIVEN_UP = 1000.0
"""Norm of the error beyond which nothing is planned: the learning environment ends there."""


def mpc_problem(horizon: int, limit: float = LIMIT) -> MpcProblem:
    """Squared error over ``horizon`` steps of 10 ms in one mode, whose friction and speed are the parameter."""
    return MpcProblem(
        step=_step,
        stage=lambda x, u, p: x.T @ x,
        state_dim=7,
        input_dim=2,
        parameter_dim=2,
        low=(-limit, -limit),
        high=(limit, limit),
        horizon=horizon,
    )


class MpcFollower(Follower):
    """Plans for every world by itself, anew after `APPLIED` steps and when the mode changes.

    A solve begins from the plan before if that was of the same world and mode: drive along one road at a time for it.

    Parameters
    ----------
    mpc
        Solver of `mpc_problem`. A plan that has not converged is driven too.
    """

    def __init__(self, mpc: Mpc) -> None:
        self._mpc = mpc
        self._modes: dict[int, FloatArray] = {}
        self._plans: dict[int, tuple[MpcPlan, int]] = {}
        self._latest: int | None = None
        self.solve_seconds: list[float] = []
        """Wall time of each solve."""
        self.failed = 0
        """Solves that did not converge."""

    def begin(self, worlds: IntArray, modes: FloatArray) -> None:
        """See `Follower.begin`."""
        for world, mode in zip(worlds, modes, strict=True):
            self._modes[int(world)] = mode
            self._plans.pop(int(world), None)
            self._latest = None

    def act(self, worlds: IntArray, state: HybridState) -> FloatArray:
        """See `Follower.act`."""
        return np.stack([self._one(int(world), x[:7]) for world, x in zip(worlds, state.x, strict=True)])

    def _one(self, world: int, x: FloatArray) -> FloatArray:
        if not np.linalg.norm(x) < GIVEN_UP:
            return np.zeros(2)
        plan, used = self._plans.get(world, (None, APPLIED))
        if plan is None or used == APPLIED:
            started = time.perf_counter()
            if self._latest != world:
                self._mpc.reset()
            plan, used, self._latest = self._mpc.plan(x, self._modes[world], APPLIED), 0, world
            self.solve_seconds.append(time.perf_counter() - started)
            self.failed += not plan.solved
        self._plans[world] = (plan, used + 1)
        return plan.controls[used]


def _step(x: Any, u: Any, p: Any) -> Any:
    """`rlstab.envs.hybrid.car.euler_step` on a straight reference, in CasADi."""
    import casadi

    car, friction, speed = CAR, p[0], p[1]
    v = casadi.fmax(x[3] + speed, SLOWEST)
    mu, length = car.friction * friction, car.wheelbase
    front = car.cornering * (car.g * car.l_r - u[1] * car.h)
    rear = car.cornering * (car.g * car.l_f + u[1] * car.h)
    torque, grip = mu * car.m / (car.i_z * length), mu / (v * length)
    turning = (
        -torque / v * (car.l_f**2 * front + car.l_r**2 * rear) * x[5]
        + torque * (car.l_r * rear - car.l_f * front) * x[6]
        + torque * car.l_f * front * x[2]
    )
    slipping = (
        (grip / v * (rear * car.l_r - front * car.l_f) - 1.0) * x[5]
        - grip * (rear + front) * x[6]
        + grip * front * x[2]
    )
    rates = (v * casadi.cos(x[4] + x[6]) - speed, v * casadi.sin(x[4] + x[6]), u[0], u[1], x[5], turning, slipping)
    return x + STEP_S * casadi.vertcat(*rates)
