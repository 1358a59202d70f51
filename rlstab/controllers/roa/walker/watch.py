"""Walks one walker with its planner and watches what the stability theorem of switched references assumes."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch

from rlstab.controllers.roa.monitor import MonitorReport, StabilityMonitor
from rlstab.controllers.roa.walker.planner import RoaPlanner
from rlstab.controllers.roa.walker.walk import STEPS, Starts
from rlstab.envs.hybrid.walker_stride import LONGEST, swing
from rlstab.envs.physics.interface import FloatArray

_SLACK = 0.01


@dataclass(frozen=True)
class Watched:
    """What was seen."""

    report: MonitorReport
    """Of the gaits; bridges are none, and what happens on them is part of the switch that they lead to."""
    bridges: int
    """Times that a gait angle was held for part of a step because no gait had the state in its region."""
    fell: bool


def watch(planner: RoaPlanner, starts: Starts, row: int, alpha: float, steps: int = STEPS) -> Watched:
    """Walk ``steps`` steps from one of ``starts``, recording a mode for each stretch in one gait.

    Parameters
    ----------
    planner
        Who chooses, and whose ``V`` and levels are watched.
    starts, row
        Which walker.
    alpha
        Share of ``V`` that a step should take away.
    steps
        How many.
    """
    monitor = StabilityMonitor(alpha, _SLACK)
    x, goal = starts.x[row : row + 1].copy(), starts.goal[row : row + 1]
    present, bridges, done, since = None, 0, 0, 0
    while done < steps:
        gait, periods = planner.plan(x, goal)
        bridging = periods[0] < LONGEST
        if bridging:
            bridges, present = bridges + 1, None
        elif present is None or gait[0] != present:
            present = float(gait[0])
            monitor.enter(*_value(planner, x, present))
        swung = swing(x, gait, np.minimum(periods, LONGEST - since))
        x, since = swung.x, since + int(swung.periods[0])
        if not swung.upright[0] or since >= LONGEST:
            return Watched(monitor.finish(), bridges, fell=True)
        if swung.struck[0]:
            done, since = done + 1, 0
            if present is not None:
                monitor.step(_value(planner, x, present)[0])
    return Watched(monitor.finish(), bridges, fell=False)


@torch.no_grad()
def _value(planner: RoaPlanner, x: FloatArray, gait: float) -> tuple[float, float]:
    state, configuration = torch.as_tensor(x, dtype=torch.float32), torch.tensor([[gait]])
    return float(planner.regions.value(state, configuration)[0]), float(planner.regions.level(configuration)[0])
