"""Following a reference along three straight pieces of road with frictions and speeds of their own."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from rlstab.envs.hybrid.car import STATES, Car
from rlstab.envs.hybrid.car_drawing import draw_car, draw_road
from rlstab.envs.hybrid.road import DRY, ICE, WIDEST_ERROR, Road
from rlstab.envs.hybrid.system import HybridState
from rlstab.envs.hybrid.task import HybridTask
from rlstab.envs.physics.hybrid_engine import pack
from rlstab.envs.physics.interface import BoolArray, FloatArray, PhysicsState
from rlstab.envs.task import ObservationTerm
from rlstab.errors import UserError

_PIECES = 3
_UNITS = ("m", "m", "rad", "m/s", "rad", "rad/s", "rad")


@dataclass(frozen=True, kw_only=True)
class CarTracking(HybridTask):
    """Keep a car on a reference that drives along a road; friction, speed and heading change at each of two knots.

    Observed, 16 numbers: the error state (7), speed and yaw rate of the reference and friction (3); direction of the
    line at which the next piece begins, against the present heading, less 90 degrees (rad), metres to it, and the turn
    there (rad); speed, yaw rate and friction of the next piece (3). Actions: steering rate (rad/s) and acceleration
    (m/s^2). The yaw rate of a reference is 0: pieces are straight.

    The reward is ``1[|sy_e| <= 3] - |x_e|`` after a step of 10 ms. An episode ends with the second change of piece,
    more than 3 m beside the reference, or with an error whose norm is over 1000; or after 500 steps.

    Parameters
    ----------
    max_control
        Limit of both actions, rad/s and m/s^2.
    start_range
        Each error begins anywhere within plus and minus this, in its unit.
    slowest, fastest
        Limits of the reference's speed, drawn for each piece, m/s.

    Raises
    ------
    UserError
        A limit is not positive, or the speeds are in the wrong order or too low for the error at the beginning.

    References
    ----------
    Meng, Fan (2023). Hybrid systems neural control with region-of-attraction planner. L4DC. The ranges are those of
    their learning environment.
    """

    id: ClassVar[str] = "rlstab/CarTracking-v0"
    max_episode_steps: ClassVar[int] = 500

    max_control: float = 12.0
    start_range: float = 1.5
    slowest: float = 3.0
    fastest: float = 30.0

    def __post_init__(self) -> None:
        for name in ("max_control", "slowest"):
            if not getattr(self, name) > 0.0:
                raise UserError(f"{self.id}: {name} must be positive, got {getattr(self, name)}")
        if not self.slowest <= self.fastest < np.inf:
            raise UserError(f"{self.id}: fastest must be at least slowest, got {self.fastest} and {self.slowest}")
        if not 0.0 <= self.start_range < self.slowest:
            raise UserError(
                f"{self.id}: start_range must be 0 or more and below slowest, so that the car drives forward, "
                f"got {self.start_range}"
            )

    def make_system(self) -> Car:
        """What moves."""
        return Car(_PIECES, "bisector")

    @property
    def control_range(self) -> FloatArray:
        """``(2, 2)``."""
        return np.tile([-self.max_control, self.max_control], (2, 1))

    def observation_terms(self, model: Any) -> tuple[ObservationTerm, ...]:
        """See the class."""
        errors = (ObservationTerm(name, 1, unit) for name, unit in zip(STATES, _UNITS, strict=True))
        here, there = (
            (
                ObservationTerm(f"{prefix}reference_speed", 1, "m/s"),
                ObservationTerm(f"{prefix}reference_yaw_rate", 1, "rad/s"),
                ObservationTerm(f"{prefix}friction", 1),
            )
            for prefix in ("", "next_")
        )
        guard = (
            ObservationTerm("line_direction", 1, "rad"),
            ObservationTerm("line_distance", 1, "m"),
            ObservationTerm("turn", 1, "rad"),
        )
        return (*errors, *here, *guard, *there)

    def initial_state(self, model: Any, rng: np.random.Generator) -> tuple[FloatArray, FloatArray]:
        """Draw frictions, speeds, lengths and turns, then the error."""
        friction = rng.choice([DRY, ICE], _PIECES)
        speeds = rng.uniform(self.slowest, self.fastest, _PIECES)
        lengths = rng.uniform(5.0, 20.0, _PIECES)
        headings = np.cumsum(rng.uniform(-np.pi / 4.0, np.pi / 4.0, _PIECES)) * [0.0, 1.0, 1.0]
        ahead = lengths[:, None] * np.stack([np.cos(headings), np.sin(headings)], -1)
        road = Road(np.vstack([np.zeros(2), np.cumsum(ahead, 0)]), friction)
        errors = rng.uniform(-self.start_range, self.start_range, 7)
        start = HybridState(np.append(errors, 0.0)[None], np.zeros(1, np.int64), road.configuration(speeds)[None])
        return pack(start)[0], np.zeros(0)

    def observe(self, state: PhysicsState) -> FloatArray:
        """``(n, 16)``."""
        system: Car = self.system
        here = self.situation(state)
        piece, following = system.of_piece(here), system.of_piece(here, 1)
        turn, straight = system.turn(here), np.zeros(len(here.mode))
        parts = (
            *(piece[:, 1], straight, piece[:, 0]),
            *(0.5 * turn, system.distance_left(here), turn),
            *(following[:, 1], straight, following[:, 0]),
        )
        return np.concatenate([here.x[:, :7], np.stack(parts, -1)], 1)

    def measure(self, state: PhysicsState) -> FloatArray:
        """Nothing is needed from before the step."""
        return np.zeros((len(state.qpos), 0))

    def outcome(
        self, before: FloatArray, state: PhysicsState, action: FloatArray, dt: float
    ) -> tuple[dict[str, FloatArray], BoolArray]:
        """Charge the error, reward staying near."""
        del before, action, dt
        here = self.situation(state)
        error = np.linalg.norm(here.x[:, :7], axis=1)
        near = np.abs(here.x[:, 1]) <= WIDEST_ERROR
        terms = {"cost_error": -error, "near": near.astype(np.float64)}
        return terms, (here.mode >= _PIECES - 1) | ~near | (error > 1000.0)

    def trail(self, state: HybridState) -> FloatArray:
        """Where the car is."""
        return self.system.world(state)[:1, :2]

    def draw(self, axes: Any, state: HybridState, trail: FloatArray) -> None:
        """Road, reference, the car and its track, seen from above."""
        pieces = state.configuration.reshape(_PIECES, 6)
        draw_road(axes, pieces)
        draw_car(axes, self.system.world(state)[0], self.system.reference(state)[0], trail)
        error = state.x[0]
        axes.set_title(
            f"piece {int(state.mode[0]) + 1} of {_PIECES}: reference {self.system.of_piece(state)[0, 1]:.0f} m/s, "
            f"car {error[3] + self.system.of_piece(state)[0, 1]:.0f} m/s, {error[1]:+.1f} m beside",
            fontsize=8,
        )
