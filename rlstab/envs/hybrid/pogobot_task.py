"""Hopping through a corridor, one decision a hop."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from rlstab.envs.hybrid.corridor import (
    MOST_SEGMENTS,
    PARTS,
    borders,
    part_at,
    random_corridor,
    segment_at,
    target_height,
)
from rlstab.envs.hybrid.pogobot import APEX, FALLEN, LEG, STATES, Pogobot, hop
from rlstab.envs.hybrid.pogobot_drawing import draw_corridor, draw_hopper, hop_path
from rlstab.envs.hybrid.system import HybridState
from rlstab.envs.hybrid.task import HybridTask
from rlstab.envs.physics.hybrid_engine import HybridPhysics, pack
from rlstab.envs.physics.interface import BoolArray, FloatArray, PhysicsState
from rlstab.envs.task import ObservationTerm
from rlstab.errors import UserError

_UNITS = ("m", "m/s", "m", "m/s", "m", "m")


class HopPhysics(HybridPhysics):
    """Worlds that take one hop a step; controls are shares of the largest leg angle (rad) and of the largest force (N).

    A hop that fails leaves its world fallen where the body was last known to be.
    """

    largest = np.ones(2)
    """Leg angle and force that a control of 1 stands for."""

    def after(self, control: FloatArray) -> HybridState:
        """See `HybridPhysics.after`."""
        before = self.state
        decision = control * self.largest
        x, xdot, y = before.x[:, :3].T
        taken = hop(x, xdot, y, decision[:, 0], decision[:, 1], before.configuration)
        still = np.zeros_like(taken.x)
        apex = np.stack([taken.x, taken.xdot, taken.y, still, taken.x, taken.y - LEG], -1)
        mode = np.where(taken.failed, FALLEN, APEX)
        return HybridState(np.concatenate([apex, before.x[:, :3], decision], 1), mode, before.configuration)


class _Decided(Pogobot):
    """The hopper with both decisions of a hop as its control: the engine takes whole hops.

    Its state also holds the apex before (x, xdot, y) and what was decided there, for pictures of the hop.
    """

    state_size = 11
    control_size = 2


@dataclass(frozen=True, kw_only=True)
class PogobotCorridor(HybridTask):
    """Hop through a corridor of segments with floors, ceilings and speeds of their own.

    One step is one hop, from apex to apex. Action: leg angle at touchdown and extra force in compression, as shares of
    ``largest_angle`` and ``largest_force``, so that both are between -1 and 1. Observed at the apex, 15 numbers: body
    and foot (x, xdot, y, ydot, x_foot, y_foot), places from the beginning of the segment and from its floor; the
    segment's number; length, floor, ceiling and speed of this and of the next segment. At the apex the foot hangs below
    the body and ydot is 0.

    The reward is ``x - |xdot - v_ref| - 10 [hit]``: metres from the start (not of this hop), the error of speed in the
    segment where the hop ended. A hit is a hop that fails: floor, ceiling, a wall, a fall. It ends the episode, as does
    the end of the corridor; the limit is 100 hops. Corridors are drawn as in the benchmark. The first apex is at the
    height to aim at (`target_height`), 0.5 m/s faster than the segment's speed.

    Parameters
    ----------
    largest_angle
        rad.
    largest_force
        N.

    Raises
    ------
    UserError
        One is not positive, or the angle is over 90 degrees.

    References
    ----------
    Meng, Fan (2023). Hybrid systems neural control with region-of-attraction planner. L4DC. Their simulator shifts the
    body's height where the foot crosses a border; here touchdown is on the floor under the foot.
    """

    id: ClassVar[str] = "rlstab/Pogobot-v0"
    max_episode_steps: ClassVar[int] = 100
    control_period_s: ClassVar[float] = 1.0
    """Nominal: a hop takes about this long, its real duration varies."""

    largest_angle: float = 0.5
    largest_force: float = 5000.0

    def __post_init__(self) -> None:
        if not 0.0 < self.largest_angle < 0.5 * np.pi:
            raise UserError(f"{self.id}: largest_angle must be between 0 and pi/2, got {self.largest_angle}")
        if not 0.0 < self.largest_force < np.inf:
            raise UserError(f"{self.id}: largest_force must be positive, got {self.largest_force}")

    def make_system(self) -> Pogobot:
        """What moves."""
        return _Decided()

    @property
    def control_range(self) -> FloatArray:
        """``(2, 2)``: shares."""
        return np.tile([-1.0, 1.0], (2, 1))

    def make_physics(self, num_envs: int, fields: tuple[str, ...], num_threads: int | None) -> HybridPhysics:
        """Step by hops."""
        if fields:
            return super().make_physics(num_envs, fields, num_threads)
        physics = HopPhysics(self.system, num_envs, self.control_period_s, self.control_range)
        physics.largest = np.array([self.largest_angle, self.largest_force])
        return physics

    def observation_terms(self, model: Any) -> tuple[ObservationTerm, ...]:
        """See the class."""
        body = (ObservationTerm(name, 1, unit) for name, unit in zip(STATES, _UNITS, strict=True))
        parts = (("length", "m"), ("floor", "m"), ("ceiling", "m"), ("speed", "m/s"))
        segments = (ObservationTerm(f"{which}_{name}", 1, unit) for which in ("this", "next") for name, unit in parts)
        return (*body, ObservationTerm("segment", 1), *segments)

    def initial_state(self, model: Any, rng: np.random.Generator) -> tuple[FloatArray, FloatArray]:
        """Draw a corridor."""
        corridor, _ = random_corridor(rng)
        _, floor, ceiling, speed = corridor.segments[0]
        height = float(target_height(floor, ceiling))
        x = np.array([[0.0, speed + 0.5, height, 0.0, 0.0, height - LEG, *[0.0] * 5]])
        return pack(HybridState(x, np.array([APEX]), corridor.configuration()[None]))[0], np.zeros(0)

    def observe(self, state: PhysicsState) -> FloatArray:
        """``(n, 15)``."""
        here = self.situation(state)
        index, table = _segment(here)
        worlds = np.arange(len(index))
        begin = np.concatenate([np.zeros((len(index), 1)), borders(here.configuration)], 1)[worlds, index]
        floor = table[worlds, index, 1]
        body = here.x[:, :6] - np.stack([begin, 0.0 * floor, floor, 0.0 * floor, begin, floor], -1)
        following = table[worlds, np.minimum(index + 1, MOST_SEGMENTS - 1)]
        return np.concatenate([body, index[:, None], table[worlds, index], following], 1)

    def measure(self, state: PhysicsState) -> FloatArray:
        """Nothing is needed from before the hop."""
        return np.zeros((len(state.qpos), 0))

    def outcome(
        self, before: FloatArray, state: PhysicsState, action: FloatArray, dt: float
    ) -> tuple[dict[str, FloatArray], BoolArray]:
        """Reward the way, charge the error of speed and failing."""
        del before, action, dt
        here = self.situation(state)
        index, table = _segment(here)
        speed = part_at(here.configuration, index, 3)
        hit = here.mode == FALLEN
        terms = {"way": here.x[:, 0], "cost_speed": -np.abs(here.x[:, 1] - speed), "cost_hit": -10.0 * hit}
        return terms, hit | (here.x[:, 0] >= _length(table))

    def trail(self, state: HybridState) -> FloatArray:
        """The body's path along the last hop."""
        before = state.x[0, 6:]
        if not before.any():
            return state.x[:1, [0, 2]]
        x, xdot, y, angle, force = before[:, None]
        return hop_path(before[:3], hop(x, xdot, y, angle, force, state.configuration))

    def draw(self, axes: Any, state: HybridState, trail: FloatArray) -> None:
        """Corridor, hops so far, and the hopper."""
        _, table = _segment(state)
        draw_corridor(axes, table[0], float(_length(table)[0]))
        draw_hopper(axes, state, trail)


def _segment(here: HybridState) -> tuple[Any, FloatArray]:
    table = here.configuration.reshape(len(here.x), MOST_SEGMENTS, PARTS)
    return segment_at(here.configuration, here.x[:, 0]), table


def _length(table: FloatArray) -> FloatArray:
    """Metres to the end of each corridor, ``(n,)``: without the copies of the last segment that fill the table."""
    copies = np.cumprod((table[:, 1:] == table[:, :-1]).all(2)[:, ::-1], 1).sum(1)
    used = np.arange(MOST_SEGMENTS) < (MOST_SEGMENTS - copies)[:, None]
    return (table[:, :, 0] * used).sum(1)
