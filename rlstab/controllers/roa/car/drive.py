"""Drives along roads: a planner chooses the references at every switch, a controller follows them."""

from __future__ import annotations

import time
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from rlstab.envs.hybrid.car import Car, to_error
from rlstab.envs.hybrid.road import WIDEST_ERROR, Road
from rlstab.envs.hybrid.system import HybridState
from rlstab.errors import UserError

FloatArray = NDArray[np.float64]
IntArray = NDArray[np.int64]

STEP_S = 0.01
START_SPEED = 5.0
"""Speed at which every drive begins, m/s, at the first node and heading along x."""
LIMIT = 8.0
"""Of both controls, as in the benchmark's evaluation."""
LARGEST_RMSE = 1e4
"""Cap of a lost drive's error, as in the benchmark."""


class References(ABC):
    """Chooses references. A piece of the configuration is friction, speed, heading, length, x, y; see `Car`."""

    @abstractmethod
    def plan(self, worlds: IntArray, state: HybridState) -> FloatArray:
        """Choose those of worlds whose piece begins now.

        Parameters
        ----------
        worlds
            Their indices among the roads, ``(m,)``.
        state
            Their states.

        Returns
        -------
        numpy.ndarray
            New configurations ``(m, 6 pieces)``; what lies behind must not change.
        """


class Follower(ABC):
    """Drives after references."""

    @abstractmethod
    def begin(self, worlds: IntArray, modes: FloatArray) -> None:
        """A piece begins in ``worlds (m,)``, with friction and speed ``modes (m, 2)``."""

    @abstractmethod
    def act(self, worlds: IntArray, state: HybridState) -> FloatArray:
        """Controls ``(m, 2)``, which are clipped to the limits."""


@dataclass(frozen=True, eq=False)
class Drive:
    """One drive along one road, sampled at every decision of the controller."""

    errors: FloatArray
    """``(T, 7)`` against the reference that was driven after."""
    track: FloatArray
    """Where the car was, ``(T, 2)`` m."""
    piece: IntArray
    """``(T,)``: on which piece the reference was."""
    references: FloatArray
    """Pieces as they were driven, ``(pieces, 6)``."""
    final: FloatArray
    """Last error state, ``(7,)``, when the last reference ended."""
    seconds: float
    """Travel time."""
    plan_seconds: FloatArray
    """Wall time of each plan, ``(pieces,)``, shared by all worlds that planned together."""
    control_seconds: FloatArray
    """Wall time of each decision without planning, ``(T,)``, shared by all worlds that were driven together."""

    @property
    def squared(self) -> FloatArray:
        """``|x|^2`` of each sample, ``(T,)``."""
        return np.square(self.errors).sum(1)

    @property
    def until_lost(self) -> int:
        """Samples before the first that is `WIDEST_ERROR` or more beside the reference."""
        lost = np.abs(self.errors[:, 1]) >= WIDEST_ERROR
        return int(lost.argmax()) if lost.any() else len(lost)

    def figures(self, road: Road) -> dict[str, float]:
        """The benchmark's figures; lengths in m.

        ``rmse`` and ``valid`` are against the reference that the controller was given, as published. What a planner
        gains by moving its reference shows in ``off_road``, which is against the middle of the road for all.
        """
        until = self.until_lost
        squared, whole = self.squared, float(np.linalg.norm(road.points[-1] - road.points[0]))
        missing = float(np.linalg.norm(self.track[-1] - road.points[-1]))
        off = distance_to_road(self.track, road)
        return {
            "rmse": min(float(np.sqrt(squared.mean())), LARGEST_RMSE),
            "masked_rmse": float(np.sqrt(squared[:until].mean())) if until else np.nan,
            "masked_dev": float(np.abs(self.errors[:until, 1]).mean()) if until else np.nan,
            "valid": until / len(squared),
            "whole": float(until == len(squared)),
            "steps": self.seconds / STEP_S,
            "off_road": float(np.sqrt(np.square(off).mean())),
            "farthest_off_road": float(off.max()),
            "missing": missing / whole,
        }


def distance_to_road(points: FloatArray, road: Road) -> FloatArray:
    """Metres from each point ``(T, 2)`` to the nearest of the middle of the road."""
    start, ahead = road.points[:-1], np.diff(road.points, axis=0)
    share = ((points[:, None] - start) * ahead).sum(2) / np.square(ahead).sum(1)
    nearest = start + np.clip(share, 0.0, 1.0)[:, :, None] * ahead
    return np.linalg.norm(points[:, None] - nearest, axis=2).min(1)


def drive(
    roads: Sequence[Road], references: References, follower: Follower, *, limit: float = LIMIT
) -> tuple[Drive, ...]:
    """Drive along every road, all of them at once.

    Decisions are 10 ms apart, and one is made at each switch, whose moment is located within the step.

    Parameters
    ----------
    roads
        With the same number of pieces.
    limit
        Of both controls.

    Raises
    ------
    UserError
        There is no road, or they have different numbers of pieces.
    """
    pieces = {len(road.friction) for road in roads}
    if len(pieces) != 1:
        raise UserError("roads that are driven together need the same number of pieces, and there must be one")
    system = Car(pieces.pop())
    state = _start(system, roads)
    count = len(roads)
    log = _Log(count, system.pieces)
    active, fresh = np.arange(count), np.ones(count, bool)
    while len(active):
        if fresh.any():
            started = time.perf_counter()
            chosen = references.plan(active[fresh], _rows(state, fresh))
            state = _take_up(system, state, fresh, chosen)
            follower.begin(active[fresh], system.of_piece(_rows(state, fresh))[:, :2])
            log.plan(active[fresh], state.mode[fresh], time.perf_counter() - started)
        started = time.perf_counter()
        control = np.clip(follower.act(active, state), -limit, limit)
        spent = time.perf_counter() - started
        log.sample(active, state, system.world(state), spent)
        state, elapsed, fresh = _step(system, state, control)
        log.seconds[active] += elapsed
        ended = (state.mode == system.pieces - 1) & (state.x[:, 7] >= system.of_piece(state)[:, 3])
        log.end(active[ended], _rows(state, ended))
        state, active, fresh = _rows(state, ~ended), active[~ended], fresh[~ended]
    return log.drives()


def _start(system: Car, roads: Sequence[Road]) -> HybridState:
    configuration = np.stack([road.configuration(START_SPEED) for road in roads])
    state = HybridState(np.zeros((len(roads), 8)), np.zeros(len(roads), np.int64), configuration)
    world = np.zeros((len(roads), 7))
    world[:, :2], world[:, 3] = system.of_piece(state)[:, 4:], START_SPEED
    x = np.concatenate([to_error(world, system.reference(state)), np.zeros((len(roads), 1))], 1)
    return replace(state, x=x)


def _take_up(system: Car, state: HybridState, fresh: NDArray[np.bool_], chosen: FloatArray) -> HybridState:
    """The same cars with new references where a piece begins; the world stays as it is."""
    world = system.world(state)
    configuration = state.configuration.copy()
    configuration[fresh] = chosen
    changed = replace(state, configuration=configuration)
    errors = np.where(fresh[:, None], to_error(world, system.reference(changed)), state.x[:, :7])
    return replace(changed, x=np.concatenate([errors, state.x[:, 7:]], 1))


def _step(system: Car, state: HybridState, control: FloatArray) -> tuple[HybridState, FloatArray, NDArray[np.bool_]]:
    """State after 10 ms or at the first switch, the time until then, and whether there was one."""
    duration = np.full(len(control), STEP_S)
    piece = system.of_piece(state)
    if (state.x[:, 7] + 2.0 * STEP_S * piece[:, 1] < piece[:, 3]).all():
        # No reference comes near its end, so that there is no event to look for: the same step at half the cost.
        return system.integrate(state, control, duration), duration, np.zeros(len(control), bool)
    stretch = system.advance(state, control, STEP_S, stop_at_event=True)
    return stretch.state, stretch.elapsed, stretch.count > 0


def _rows(state: HybridState, rows: NDArray[np.bool_]) -> HybridState:
    return HybridState(state.x[rows], state.mode[rows], state.configuration[rows])


class _Log:
    """What is remembered of each world."""

    def __init__(self, count: int, pieces: int) -> None:
        self.seconds = np.zeros(count)
        self._plans = np.zeros((count, pieces))
        self._samples: list[list[tuple[FloatArray, FloatArray, int, float]]] = [[] for _ in range(count)]
        self._ends: dict[int, tuple[FloatArray, FloatArray]] = {}

    def plan(self, worlds: IntArray, modes: IntArray, seconds: float) -> None:
        self._plans[worlds, modes] = seconds

    def sample(self, worlds: IntArray, state: HybridState, world: FloatArray, seconds: float) -> None:
        for row, index in enumerate(worlds):
            self._samples[index].append((state.x[row, :7], world[row, :2], int(state.mode[row]), seconds))

    def end(self, worlds: IntArray, state: HybridState) -> None:
        for row, index in enumerate(worlds):
            self._ends[int(index)] = (state.x[row, :7], state.configuration[row].reshape(-1, 6))

    def drives(self) -> tuple[Drive, ...]:
        found = []
        for index, samples in enumerate(self._samples):
            errors, track, piece, seconds = (np.array(part) for part in zip(*samples, strict=True))
            final, references = self._ends[index]
            found.append(
                Drive(errors, track, piece, references, final, float(self.seconds[index]), self._plans[index], seconds)
            )
        return tuple(found)
