"""Chooses the apex to aim at, so that the next border is passed and the next mode is entered inside its set.

A candidate is a reference (speed, height) for the hops that begin over the present segment; beyond the border hops aim
at that segment's own reference. Foreseen are the hops up to the border and a few after it: where the foot lands, on
which side of the border, what it and the body come near to, and whether ``V <= rho`` whenever a mode begins.

References
----------
Meng, Fan (2023), arXiv:2303.10327. They plan once a border, foresee five hops, and choose from 50 x 50 references; here
it is done anew at every apex, and touchdowns on the other side of a border count.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from rlstab.controllers.roa.planner import Choice, Refinement, choose, violation
from rlstab.controllers.roa.pogobot import domain
from rlstab.controllers.roa.pogobot.course import Decision, ModeModel, Track, at, clearance, decide
from rlstab.errors import UserError

_CLEAN = 1e-2
"""Loss below which no trouble is foreseen."""


@dataclass(frozen=True)
class PlannerSettings:
    """How hard to look, and what counts."""

    speeds: int = 9
    """Speeds among the candidates; half of those that the networks know, around the segment's own."""
    heights: int = 7
    """Heights among the candidates, from floor to ceiling."""
    hops: int = 6
    """Hops that are foreseen."""
    beyond: int = 1
    """Of those after the border is passed, how many count."""
    body_room: float = 0.06
    """m that the body shall keep from floors and ceilings."""
    foot_room: float = 0.06
    """m that the foot shall keep from edges and walls."""
    hit_cost: float = 20.0
    """Loss of a hop that is foreseen to fail; half of it for those beyond the border, for which one can plan again."""
    near_cost: float = 4.0
    """Loss of a hop that comes as near as touching; it falls to zero at the room to keep."""
    set_cost: float = 5.0
    """Loss of a mode that begins at ``V = 2 rho``, ``set_cost * (V / rho - 1)``, at most `hit_cost`."""
    speed_cost: float = 0.3
    """Loss of a reference 1 m/s from the segment's speed."""
    height_cost: float = 0.1
    """Loss of a reference 1 m from the segment's height."""
    leave_cost: float = 0.05
    """Loss of another reference than the one that is held: every change begins a mode."""
    refinement: Refinement | None = None
    """Descent after the grid; None: sampling."""

    def __post_init__(self) -> None:
        if min(self.speeds, self.heights, self.hops) < 1 or self.beyond < 0:
            raise UserError("the hopper's planner needs at least one speed, height and hop")
        if min(self.body_room, self.foot_room) <= 0.0:
            raise UserError("body_room and foot_room must be positive metres")


class CorridorPlanner:
    """Plans for ``n`` hoppers at once.

    Parameters
    ----------
    model
        Controller, prediction, ``V`` and its level of one mode.
    settings
        See `PlannerSettings`.
    """

    def __init__(self, model: ModeModel, settings: PlannerSettings | None = None) -> None:
        self.model, self.settings = model, settings or PlannerSettings()

    def plan(self, apex: Tensor, configuration: Tensor, held: Tensor | None = None) -> Choice:
        """Choose a reference for each hopper.

        The segment's own reference and the one that is held are looked at first: where the better of them foresees no
        trouble, nothing else is tried.

        Parameters
        ----------
        apex
            ``(n, 3)``: x, xdot, y (m above zero).
        configuration
            Corridors, ``(n, 20)``.
        held
            References ``(n, 2)`` of the hops before, which it costs something to leave; default: the segments' own.

        Returns
        -------
        Choice
            Parameters ``(n, 2)``: speed (m/s) and height (m above zero).
        """
        track = Track.of(configuration)
        segment = track.over(apex[:, 0])
        low, high = self._limits(track, segment)
        own = _own(track, segment, low, high)
        held = own if held is None else torch.minimum(torch.maximum(held, low), high)
        with torch.no_grad():
            usual = torch.stack([own, held], 1)
            trouble = self.trouble(apex, track, usual)
            loss, index = (trouble + self._wish(usual, own, held)).min(1)
            rows = torch.arange(len(apex), device=apex.device)
            chosen = Choice(usual[rows, index], loss)
            open_ = (trouble[rows, index] > _CLEAN).nonzero()[:, 0]
        if not len(open_):
            return chosen
        apex, low, high, own, held = (part[open_] for part in (apex, low, high, own, held))
        found = self._search(apex, track.picked(open_), low, high, own, held)
        parameters, loss = chosen.parameters.clone(), chosen.loss.clone()
        parameters[open_], loss[open_] = found.parameters, found.loss
        return Choice(parameters, loss)

    def decide(self, apex: Tensor, configuration: Tensor, reference: Tensor) -> Decision:
        """Take the control of the next hop towards references ``(n, 2)``."""
        with torch.no_grad():
            return decide(self.model, Track.of(configuration), *apex.unbind(-1), *reference.unbind(-1))

    def trouble(self, apex: Tensor, track: Track, candidates: Tensor) -> Tensor:
        """What is foreseen of hits, of coming near, and of modes begun outside their sets: losses ``(n, k)``.

        Candidates are ``(n, k, 2)``.
        """
        settings, (n, k, _) = self.settings, candidates.shape
        wide = track.repeated(k)
        x, xdot, y = (part.repeat_interleave(k) for part in apex.unbind(-1))
        first, targets = wide.over(x), wide.targets()
        speed, height = candidates.reshape(-1, 2).unbind(-1)
        loss, beyond = torch.zeros_like(speed), torch.zeros_like(first)
        alive = torch.ones_like(speed)
        for _ in range(settings.hops):
            segment = wide.over(x)
            past = segment != first
            beyond = beyond + past
            counts = alive * (beyond <= settings.beyond)
            if not bool(counts.any()):
                break
            v = torch.where(past, at(wide.speed, segment), speed)
            h = torch.where(past, at(targets, segment), height)
            decision = decide(self.model, wide, x, xdot, y, v, h)
            hop = self.model.predict(decision.state, decision.control)
            body = clearance(wide, x, xdot, y, hop, decision.landing)
            share = torch.minimum(body / settings.body_room, decision.clearance / settings.foot_room)
            hits = share <= 0.0
            level = self.model.level(decision.reference)
            outside = violation(self.model.value(decision.state, decision.reference) / level, torch.ones_like(level))
            costs = (
                settings.hit_cost * hits
                + settings.near_cost * torch.relu(1.0 - share).clamp(max=2.0)
                + (settings.set_cost * outside).clamp(max=settings.hit_cost)
            )
            loss = loss + counts * torch.where(past, 0.5, 1.0) * costs
            # Nothing is foreseen after a hit.
            alive = alive * ~hits
            x, xdot, y = x + hop.dx, hop.xdot, at(wide.floor, decision.landing) + hop.y
        return loss.unflatten(0, (n, k))

    def _wish(self, candidates: Tensor, own: Tensor, held: Tensor) -> Tensor:
        """Loss ``(n, k)`` of not being the segment's own reference, or the one that is held."""
        settings = self.settings
        away = (candidates - own[:, None]).abs()
        leaves = ((candidates - held[:, None]).abs() > 1e-6).any(-1)
        return settings.speed_cost * away[..., 0] + settings.height_cost * away[..., 1] + settings.leave_cost * leaves

    def _search(self, apex: Tensor, track: Track, low: Tensor, high: Tensor, own: Tensor, held: Tensor) -> Choice:
        candidates = torch.cat([own[:, None], held[:, None], self._grid(low, high, own)], 1)
        return choose(
            lambda moving: self.trouble(apex, track, moving) + self._wish(moving, own, held),
            candidates,
            low[:, None],
            high[:, None],
            self.settings.refinement,
        )

    def _limits(self, track: Track, segment: Tensor) -> tuple[Tensor, Tensor]:
        """Lowest and highest reference ``(n, 2)`` over the present segment."""
        floor, ceiling, own = (at(part, segment) for part in (track.floor, track.ceiling, track.speed))
        slowest = torch.clamp(0.3 * own, min=float(domain.REFERENCE[0, 0]))
        fastest = torch.clamp(own + 1.2, max=float(domain.REFERENCE[1, 0]))
        lowest = floor + float(domain.REFERENCE[0, 1])
        highest = torch.maximum(
            torch.minimum(ceiling - self.settings.body_room, floor + float(domain.REFERENCE[1, 1])), lowest
        )
        return torch.stack([slowest, lowest], -1), torch.stack([fastest, highest], -1)

    def _grid(self, low: Tensor, high: Tensor, own: Tensor) -> Tensor:
        """``(n, k, 2)``: all speeds with all heights, and both along the lines through the own reference."""
        settings = self.settings
        along, up = (
            torch.linspace(0.0, 1.0, count, dtype=low.dtype, device=low.device)
            for count in (settings.speeds, settings.heights)
        )
        grid = low[:, None] + torch.cartesian_prod(along, up) * (high - low)[:, None]
        level = torch.stack([low[:, :1] + along * (high - low)[:, :1], own[:, 1:] + 0.0 * along], -1)
        upright = torch.stack([own[:, :1] + 0.0 * up, low[:, 1:] + up * (high - low)[:, 1:]], -1)
        return torch.cat([level, upright, grid], 1)


def _own(track: Track, segment: Tensor, low: Tensor, high: Tensor) -> Tensor:
    own = torch.stack([at(track.speed, segment), at(track.targets(), segment)], -1)
    return torch.minimum(torch.maximum(own, low), high)
