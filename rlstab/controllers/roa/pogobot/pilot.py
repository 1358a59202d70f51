"""Planner and mode controller together, as a pilot that hops through corridors, watched by a stability monitor."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from rlstab.controllers.roa.monitor import MonitorReport, StabilityMonitor
from rlstab.controllers.roa.pogobot import domain
from rlstab.controllers.roa.pogobot.course import Decision, ModeModel, Track, at
from rlstab.controllers.roa.pogobot.planner import CorridorPlanner, PlannerSettings
from rlstab.errors import UserError

FloatArray = NDArray[np.float64]


class RoaPilot:
    """Plans at every apex of one hopper and follows the plan; see `rlstab.controllers.roa.pogobot.hop.Pilot`.

    A mode is a reference over one floor: it ends where the planner changes the reference, or where the foot lands on
    another floor.

    Parameters
    ----------
    model, settings
        Of `CorridorPlanner`.
    dtype
        Of the numbers that the model is given.
    """

    def __init__(
        self, model: ModeModel, settings: PlannerSettings | None = None, dtype: torch.dtype = torch.float32
    ) -> None:
        self.planner, self._dtype = CorridorPlanner(model, settings), dtype
        self.reset()

    def reset(self) -> None:
        """Forget the corridor before."""
        self._held: Tensor | None = None
        self._mode: Decision | None = None
        self._monitor = StabilityMonitor(domain.ALPHA, domain.SLACK)

    def __call__(self, apices: FloatArray, configuration: FloatArray) -> FloatArray:
        """Control ``(1, 2)`` of the next hop from apices ``(1, 3)`` in corridors ``(1, 20)``.

        Raises
        ------
        UserError
            There is more than one hopper: references are held for one.
        """
        if len(apices) != 1:
            raise UserError(f"a pilot steers one hopper, got {len(apices)} apices: the planner itself takes many")
        apex, corridor = (torch.as_tensor(part, dtype=self._dtype) for part in (apices, configuration))
        self._held = self.planner.plan(apex, corridor, self._held).parameters
        decision = self.planner.decide(apex, corridor, self._held)
        self._watch(decision, corridor, apex)
        return decision.control.double().numpy()

    def report(self) -> MonitorReport:
        """What the monitor saw since `reset`: which assumptions of the stability theorem held, switch by switch."""
        return self._monitor.finish()

    @torch.no_grad()
    def _watch(self, decision: Decision, corridor: Tensor, apex: Tensor) -> None:
        model, mode = self.planner.model, self._mode
        if mode is not None:
            # The apex as the mode that ends here, or goes on, sees it.
            floor = at(Track.of(corridor).floor, mode.landing)
            state = torch.stack([apex[:, 1], apex[:, 2] - floor], -1)
            error = (state - mode.reference).abs().double().numpy()[0]
            inside = bool((error <= domain.REACH).all() and state[0, 1] >= domain.LOWEST)
            self._monitor.step(float(model.value(state, mode.reference)), in_domain=inside)
        changed = mode is None or not (
            torch.equal(mode.reference, decision.reference) and torch.equal(mode.landing, decision.landing)
        )
        if changed:
            value, level = model.value(decision.state, decision.reference), model.level(decision.reference)
            self._monitor.enter(float(value), float(level))
        self._mode = decision
