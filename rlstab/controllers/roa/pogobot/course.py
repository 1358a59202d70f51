"""What a mode model foresees of hops through a corridor: where the foot lands, what body and foot come near to.

All of it is in torch and differentiable but for which segment is which.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

from rlstab.controllers.roa.pogobot import domain
from rlstab.envs.hybrid.corridor import MOST_SEGMENTS, PARTS
from rlstab.policies.roa.pogobot import GRAVITY, LEG, PredictedHop

_CROUCHED = 0.6
"""m above the foot's floor of the body in the middle of a stance, at least."""
_FAR = 10.0
"""Clearance (m) of what is not met."""


class ModeModel(Protocol):
    """What planning needs of a mode's controller; `PogobotModel` is one. States, references, controls ``(n, 2)``."""

    def control(self, x: Tensor, configuration: Tensor) -> Tensor:
        """Leg angle (rad) and force (N)."""
        ...

    def predict(self, x: Tensor, control: Tensor) -> PredictedHop:
        """One hop over level ground."""
        ...

    def value(self, x: Tensor, configuration: Tensor) -> Tensor:
        """``V``, ``(n,)``."""
        ...

    def level(self, configuration: Tensor) -> Tensor:
        """``rho``, ``(n,)``."""
        ...


@dataclass(frozen=True)
class Track:
    """Corridors ``(n, 20)`` taken apart; every field ``(n, 5)`` in metres, m/s."""

    begin: Tensor
    """Where segments begin; that of the first is far behind."""
    end: Tensor
    """Where they end; that of the last is far ahead."""
    floor: Tensor
    ceiling: Tensor
    speed: Tensor

    @classmethod
    def of(cls, configuration: Tensor) -> Track:
        """Take corridors apart."""
        table = configuration.unflatten(-1, (MOST_SEGMENTS, PARTS))
        ends = table[:, :, 0].cumsum(1)
        far = torch.full_like(ends[:, :1], 1e9)
        return cls(torch.cat([-far, ends[:, :-1]], 1), torch.cat([ends[:, :-1], far], 1), *table[:, :, 1:].unbind(-1))

    def repeated(self, times: int) -> Track:
        """Every corridor so many times, one after another."""
        return Track(*(part.repeat_interleave(times, 0) for part in vars(self).values()))

    def picked(self, rows: Tensor) -> Track:
        """Some of the corridors."""
        return Track(*(part[rows] for part in vars(self).values()))

    def over(self, x: Tensor) -> Tensor:
        """Index ``(n,)`` of the segment over which ``x (n,)`` is."""
        return (x[:, None].detach() >= self.end[:, :-1]).sum(1)

    def targets(self) -> Tensor:
        """Height at which to aim in each segment, ``(n, 5)`` m; see `rlstab.envs.hybrid.corridor.target_height`."""
        aim = torch.maximum(self.floor + 1.4, 0.6 * self.ceiling + 0.4 * self.floor)
        return torch.minimum(aim, self.ceiling)


def at(table: Tensor, index: Tensor) -> Tensor:
    """Entry ``index[i]`` of each row of ``table (n, 5)``: ``(n,)``."""
    return table.gather(1, index[:, None])[:, 0]


@dataclass(frozen=True)
class Decision:
    """What the controller does at an apex; every field ``(n,)`` or ``(n, 2)``."""

    control: Tensor
    landing: Tensor
    """Index of the segment on which the foot lands."""
    state: Tensor
    """Apex as the mode sees it: above the floor of that segment."""
    reference: Tensor
    """Reference as the mode sees it."""
    clearance: Tensor
    """m by which the tip of the foot misses walls and edges; below zero where it does not."""


def decide(
    model: ModeModel, track: Track, x: Tensor, xdot: Tensor, y: Tensor, speed: Tensor, height: Tensor
) -> Decision:
    """Control of one hop towards the reference apex ``(speed, height)``, height in metres above zero.

    The mode of a hop is the floor that its foot lands on, which depends on the angle, which depends on the mode: the
    floor under the body is tried, then the one that the foot would meet with that; taken is the first that agrees with
    itself.
    """

    def attempt(segment: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
        floor = at(track.floor, segment)
        state = torch.stack([xdot, y - floor], -1)
        low, high = (torch.as_tensor(row, dtype=x.dtype, device=x.device) for row in domain.REFERENCE)
        reference = torch.stack([speed, height - floor], -1)
        reference = torch.minimum(torch.maximum(reference, low), high)
        control = model.control(state, reference)
        landing, clearance = land(track, x, xdot, y, control[:, 0])
        return state, reference, control, landing, clearance

    under = track.over(x)
    state, reference, control, landing, clearance = attempt(under)
    differs = landing != under
    if bool(differs.any()):
        again = attempt(landing)
        taken = differs & (again[3] == landing)
        wide = taken[:, None]
        control = torch.where(wide, again[2], control)
        clearance = torch.where(taken, again[4], clearance)
        # Where neither agrees with itself, the first control is taken, and what it leads to is foreseen as it is.
        floor = at(track.floor, landing)
        state = torch.stack([xdot, y - floor], -1)
        reference = torch.where(differs[:, None], again[1], reference)
    return Decision(control, landing, state, reference, clearance)


def land(track: Track, x: Tensor, xdot: Tensor, y: Tensor, angle: Tensor) -> tuple[Tensor, Tensor]:
    """Which floor the foot meets first, ``(n,)``, and by how many metres it misses walls and edges, ``(n,)``.

    An edge is missed by the way from it to the place of touchdown, a wall by the height above it; an angle at which
    the leg does not fit under the body misses by less than nothing.
    """
    tip_x, tip_y = x + LEG * angle.sin(), y - LEG * angle.cos()
    above = tip_y[:, None] - track.floor
    fits = above > 0.0
    time = (2.0 / GRAVITY * torch.where(fits, above, 1.0)).sqrt()
    place = tip_x[:, None] + xdot[:, None] * time
    meets = fits & (place >= track.begin) & (place < track.end)
    landing = torch.where(meets, time, torch.inf).detach().argmin(1)
    none = ~meets.any(1)
    landing = torch.where(none, track.over(tip_x), landing)
    when = torch.where(meets, time, 0.0).gather(1, landing[:, None])
    where = tip_x[:, None] + xdot[:, None] * when
    edges = track.end[:, :-1]
    steps = (track.floor[:, 1:] - track.floor[:, :-1]).abs() > 1e-6
    beside = torch.where(steps, (where - edges).abs(), _FAR).amin(1)
    # The tip's height above the floor that it comes over, at every edge between here and touchdown.
    moves = xdot.abs() > 1e-9
    crossing = (edges - tip_x[:, None]) / torch.where(moves, xdot, 1.0)[:, None]
    passes = moves[:, None] & (crossing > 0.0) & ((crossing < when) | none[:, None])
    beyond = torch.where(xdot[:, None] > 0.0, track.floor[:, 1:], track.floor[:, :-1])
    gap = tip_y[:, None] - 0.5 * GRAVITY * crossing.square() - beyond
    over = torch.where(passes & steps, gap, _FAR).amin(1)
    sunk = torch.where(none, at(above, landing).clamp(max=-0.01), _FAR)
    return landing, torch.minimum(torch.minimum(beside, over), sunk)


def clearance(track: Track, x: Tensor, xdot: Tensor, y: Tensor, hop: PredictedHop, landing: Tensor) -> Tensor:
    """Metres between the body and the nearest floor or ceiling along a hop, ``(n,)``; below zero where it hits.

    Looked at are the ends of both flights and every border that is passed in one, and in stance the height at which the
    body is at least.
    """
    floor = at(track.floor, landing)
    touched = x + xdot * hop.falling
    lifted = x + hop.foot + LEG * hop.lifted.sin()
    apex, top = x + hop.dx, floor + hop.y
    bottom = floor + LEG * hop.lifted.cos()
    edges = track.end[:, :-1]
    low = torch.maximum(track.floor[:, :-1], track.floor[:, 1:])
    high = torch.minimum(track.ceiling[:, :-1], track.ceiling[:, 1:])

    def flight(begin: Tensor, end: Tensor, speed: Tensor, at_apex: Tensor, peak: Tensor) -> Tensor:
        """At borders: ``peak`` is the apex's height and ``at_apex`` its place."""
        moves = speed.abs() > 1e-6
        time = (edges - at_apex[:, None]) / torch.where(moves, speed, 1.0)[:, None]
        height = peak[:, None] - 0.5 * GRAVITY * time.square()
        passes = moves[:, None] & ((edges - begin[:, None]) * (edges - end[:, None]) <= 0.0)
        room = torch.minimum(height - low, high - height)
        return torch.where(passes, room, _FAR).amin(1)

    def room_at(place: Tensor, height: Tensor) -> Tensor:
        segment = track.over(place)
        return torch.minimum(height - at(track.floor, segment), at(track.ceiling, segment) - height)

    stands = (edges - touched[:, None]) * (edges - lifted[:, None]) <= 0.0
    crouched = torch.minimum(floor[:, None] + _CROUCHED - low, high - floor[:, None] - LEG)
    parts = (
        flight(x, touched, xdot, x, y),
        flight(lifted, apex, hop.xdot, apex, top),
        torch.where(stands, crouched, _FAR).amin(1),
        room_at(apex, top),
        room_at(lifted, bottom),
    )
    return torch.stack(parts).amin(0)
