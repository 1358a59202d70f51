"""MPC over hops, a few at once, through the learned stance and with soft walls: a baseline, by CasADi and IPOPT."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import nn

from rlstab.controllers.baselines.mpc import Mpc, MpcProblem
from rlstab.envs.hybrid.corridor import MOST_SEGMENTS, PARTS, target_height
from rlstab.policies.roa.pogobot import GRAVITY, LEG, PogobotModel
from rlstab.policies.tensors import to_array

FloatArray = NDArray[np.float64]
HORIZON = 4
"""Hops that are planned."""
EDGE = 0.05
"""m over which a step of the corridor is smoothed for the optimiser."""
ROOM = 0.06
"""m that body and foot shall keep from floor and ceiling."""
WALL_COST = 300.0
"""Cost of a square metre of missing room, at each of the points that are looked at."""
HEIGHT_COST, CONTROL_COST = 0.3, 1e-3
"""Cost of a square metre off the height to aim at, and of the controls' squared shares, beside (m/s)^2 of speed."""
MOST_ITERATIONS = 100
"""The benchmark's."""
_PATH = (0.25, 0.5, 0.75, 1.0)
"""Points of each flight, in shares of its time, at which the room is looked at."""


class MpcPilot:
    """Plans `HORIZON` hops at every apex and takes the first; see `rlstab.controllers.roa.pogobot.hop.Pilot`.

    Floors, ceilings, speeds and heights to aim at are those of the corridor, with steps smoothed over `EDGE`. The foot
    stands on the floor that it would meet if it fell to the floor under the body. Where the optimiser does not
    converge, where it stopped is taken.

    Parameters
    ----------
    model
        Whose stance network is the map.
    rebuild
        Build the problem anew at every solve; only to be measured.
    horizon
        Hops.
    """

    def __init__(self, model: PogobotModel, *, rebuild: bool = False, horizon: int = HORIZON) -> None:
        self._limits = np.array([model.largest_angle, model.largest_force])
        problem = MpcProblem(
            step=_Map(model).step,
            stage=_Map(model).stage,
            # What the last hop leads to counts through the step before it.
            terminal=_Map(model).terminal,
            state_dim=4,
            input_dim=2,
            parameter_dim=(PARTS + 1) * MOST_SEGMENTS,
            low=(-1.0, -1.0),
            high=(1.0, 1.0),
            horizon=horizon,
        )
        self._mpc = Mpc(problem, rebuild=rebuild, max_iterations=MOST_ITERATIONS)
        self.solved: list[bool] = []
        """Whether each solve since `reset` converged."""

    @property
    def build_seconds(self) -> float:
        """Wall time of building the problem."""
        return self._mpc.build_seconds

    def reset(self) -> None:
        """Forget the corridor before."""
        self._mpc.reset()
        self.solved = []

    def __call__(self, apices: FloatArray, configuration: FloatArray) -> FloatArray:
        """Control ``(1, 2)`` of the next hop."""
        table = configuration[0].reshape(MOST_SEGMENTS, PARTS)
        aims = target_height(table[:, 1], table[:, 2])
        parameter = np.concatenate([np.cumsum(table[:, 0]), *table[:, 1:].T, aims])
        plan = self._mpc.plan(np.append(apices[0], 0.0), parameter)
        self.solved.append(plan.solved)
        return np.clip(plan.controls[:1], -1.0, 1.0) * self._limits


class _Map:
    """The hop in CasADi's symbols. State: x, xdot, y, and the cost of missing room on the way to it."""

    def __init__(self, model: PogobotModel) -> None:
        import casadi

        self._casadi: Any = casadi
        self._limits = (model.largest_angle, model.largest_force)
        self._layers = [
            (to_array(layer.weight).astype(float), to_array(layer.bias).astype(float))
            for layer in model.stance
            if isinstance(layer, nn.Linear)
        ]

    def step(self, x: Any, u: Any, p: Any) -> Any:
        casadi = self._casadi
        place, xdot, y = x[0], x[1], x[2]
        angle = u[0] * self._limits[0]
        reach, tip = LEG * casadi.sin(angle), y - LEG * casadi.cos(angle)
        guess = self._fall(tip - self._part(place, p, 1)) / GRAVITY
        floor = self._part(place + xdot * guess + reach, p, 1)
        fast = self._fall(tip - floor)
        falling = fast / GRAVITY
        inputs = casadi.vertcat(0.5 * (xdot - 1.5), 0.4 * (fast - 4.5), 2.0 * u[0], 2.0 * u[1])
        out = self._network(inputs)
        speed, height, lifted = xdot + 2.0 * out[0], y - floor + out[1], 0.3 * out[2]
        rising = self._fall(height - LEG * casadi.cos(lifted)) / GRAVITY
        stood = place + xdot * falling + reach
        apex, top = stood + LEG * casadi.sin(lifted) + speed * rising, floor + height
        missing = 0.0
        for share in _PATH:
            early, late = share * falling, share * rising
            drop, climb = 0.5 * GRAVITY * early**2, 0.5 * GRAVITY * late**2
            missing += self._missing(place + xdot * early, y - drop, p)
            missing += self._missing(apex - speed * late, top - climb, p)
            if share < 1.0:
                under = self._part(place + xdot * early + reach, p, 1)
                missing += casadi.fmax(under + (1.0 - share) * ROOM - (tip - drop), 0.0) ** 2
        missing += self._missing(apex, top, p)
        return casadi.vertcat(apex, speed, top, missing)

    def stage(self, x: Any, u: Any, p: Any) -> Any:
        return self.terminal(x, p) + CONTROL_COST * self._casadi.sumsqr(u)

    def terminal(self, x: Any, p: Any) -> Any:
        speed, height = self._part(x[0], p, 3), self._part(x[0], p, 4)
        return (x[1] - speed) ** 2 + HEIGHT_COST * (x[2] - height) ** 2 + WALL_COST * x[3]

    def _missing(self, place: Any, height: Any, p: Any) -> Any:
        casadi = self._casadi
        low = casadi.fmax(self._part(place, p, 1) + ROOM - height, 0.0)
        high = casadi.fmax(height + ROOM - self._part(place, p, 2), 0.0)
        return low**2 + high**2

    def _part(self, place: Any, p: Any, part: int) -> Any:
        """Floor (1), ceiling (2), speed (3) or height to aim at (4) at ``place``, with smooth steps."""
        values = p[part * MOST_SEGMENTS : (part + 1) * MOST_SEGMENTS]
        total = values[0]
        for index in range(MOST_SEGMENTS - 1):
            share = 0.5 * (1.0 + self._casadi.tanh((place - p[index]) / EDGE))
            total = total + share * (values[index + 1] - values[index])
        return total

    def _fall(self, height: Any) -> Any:
        """Speed (m/s) after falling from ``height`` m, smooth where there is none."""
        positive = 0.5 * (height + self._casadi.sqrt(height**2 + 1e-4))
        return self._casadi.sqrt(2.0 * GRAVITY * positive + 1e-6)

    def _network(self, inputs: Any) -> Any:
        values = inputs
        for index, (weight, bias) in enumerate(self._layers):
            values = self._casadi.mtimes(weight, values) + bias
            if index < len(self._layers) - 1:
                values = values / (1.0 + self._casadi.exp(-values))
        return values
