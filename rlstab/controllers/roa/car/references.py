"""Who chooses the car's references: the planner, or nobody, at speeds that are set beforehand."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch

from rlstab.controllers.roa.car.drive import FloatArray, IntArray, References
from rlstab.controllers.roa.car.planner import FEASIBLE, CarPlanner, Scene
from rlstab.envs.hybrid.arrays import wrap
from rlstab.envs.hybrid.road import Road
from rlstab.envs.hybrid.system import HybridState
from rlstab.errors import UserError
from rlstab.policies.roa.car import FRICTIONS


@dataclass(frozen=True)
class ConstantSpeed(References):
    """The middle of the road at one speed."""

    speed: float
    """m/s."""

    def plan(self, worlds: IntArray, state: HybridState) -> FloatArray:
        """See `References.plan`."""
        del worlds
        chosen = state.configuration.copy()
        chosen[:, 1::6] = self.speed
        return chosen


@dataclass(frozen=True)
class ConstantTime(References):
    """The middle of the road, each piece in the same time: one second, as published baselines were driven."""

    seconds: float = 1.0

    def plan(self, worlds: IntArray, state: HybridState) -> FloatArray:
        """See `References.plan`."""
        del worlds
        chosen = state.configuration.copy()
        chosen[:, 1::6] = chosen[:, 3::6] / self.seconds
        return chosen


class Planned(References):
    """What `CarPlanner` chooses, again at every switch.

    Parameters
    ----------
    roads
        All that are driven along.
    planner
        Chooses.

    Raises
    ------
    UserError
        A friction is outside what the networks were trained on.
    """

    def __init__(self, roads: Sequence[Road], planner: CarPlanner) -> None:
        low, high = FRICTIONS
        for index, road in enumerate(roads):
            if not ((road.friction >= low) & (road.friction <= high)).all():
                raise UserError(
                    f"road {index} has frictions from {road.friction.min():g} to {road.friction.max():g}; the planner "
                    f"knows {low:g} (ice) to {high:g} (dry)"
                )
        self._planner = planner
        self._points = np.stack([np.vstack([road.points, road.points[-1:]]) for road in roads])
        self._friction = np.stack([np.append(road.friction, road.friction[-1]) for road in roads])
        self.infeasible = 0
        """Plans so far that no candidate was inside both level sets and the domain for."""

    def plan(self, worlds: IntArray, state: HybridState) -> FloatArray:
        """See `References.plan`."""
        scene = self.scene(worlds, state)
        parameters = self._planner.plan(scene).parameters
        self.infeasible += int((self._planner.violation(scene, parameters) > FEASIBLE).sum())
        shift, speed, next_speed = parameters.detach().cpu().numpy().T
        last = scene.last.numpy()
        node = scene.node.numpy() + np.where(last, 0.0, shift)[:, None] * scene.across.numpy()
        chosen, rows = state.configuration.copy().reshape(len(worlds), -1, 6), np.arange(len(worlds))
        pairs = [
            (state.mode, speed, scene.start.numpy(), node, np.ones_like(last)),
            (state.mode + 1, next_speed, node, scene.following.numpy(), ~last),
        ]
        for piece, fast, start, end, exists in pairs:
            ahead = end - start
            values = [fast, np.arctan2(ahead[:, 1], ahead[:, 0]), np.linalg.norm(ahead, axis=1), *start.T]
            chosen[rows[exists], piece[exists], 1:] = np.stack(values, 1)[exists]
        return chosen.reshape(len(worlds), -1)

    def scene(self, worlds: IntArray, state: HybridState) -> Scene:
        """What the planner is asked for cars at the beginning of a piece."""
        mode, pieces = state.mode, state.configuration.shape[1] // 6
        here = state.configuration.reshape(len(worlds), pieces, 6)[np.arange(len(worlds)), mode]
        heading, along = here[:, 2], state.x[:, 7]
        x, x_e, y_e = state.x[:, :7], state.x[:, 0] + along, state.x[:, 1]
        cosine, sine = np.cos(heading), np.sin(heading)
        world = x.copy()
        world[:, 0], world[:, 1] = here[:, 4] + cosine * x_e - sine * y_e, here[:, 5] + sine * x_e + cosine * y_e
        world[:, 3], world[:, 4] = x[:, 3] + here[:, 1], wrap(x[:, 4] + heading)
        points, friction = self._points[worlds], self._friction[worlds]
        rows = np.arange(len(worlds))
        road = points[rows, mode + 1] - points[rows, mode]
        across = np.stack([-road[:, 1], road[:, 0]], 1) / np.linalg.norm(road, axis=1)[:, None]
        nodes = (here[:, 4:], points[rows, mode + 1], points[rows, mode + 2], across)
        start, node, following, left = (torch.from_numpy(np.ascontiguousarray(part)) for part in nodes)
        return Scene(
            world=torch.from_numpy(world),
            start=start,
            node=node,
            following=following,
            across=left,
            friction=torch.from_numpy(np.stack([friction[rows, mode], friction[rows, mode + 1]], 1)),
            last=torch.from_numpy(mode + 1 == pieces),
        )
