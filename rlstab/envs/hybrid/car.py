"""A car that follows a reference on a road whose friction changes: the single-track model of CommonRoad."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import numpy as np

from rlstab.envs.hybrid.arrays import Array, columns, namespace, taken, wrap
from rlstab.envs.hybrid.system import HybridState, HybridSystem
from rlstab.errors import UserError

FOOT = 0.3048
POUND_FORCE = 4.4482216152605


@dataclass(frozen=True)
class CarConstants:
    """Vehicle 1 of CommonRoad (a Ford Escort), SI units."""

    l_f: float = FOOT * 3.793293
    """Centre of mass to front axle, m."""
    l_r: float = FOOT * 4.667707
    """Centre of mass to rear axle, m."""
    h: float = FOOT * 2.01355
    """Height of the centre of mass, m."""
    m: float = POUND_FORCE / FOOT * 74.91452
    """Mass, kg."""
    i_z: float = POUND_FORCE * FOOT * 1321.416
    """Moment of inertia about the vertical, kg m^2."""
    friction: float = 1.0489
    """Friction coefficient of a tyre on dry road."""
    cornering: float = 21.92 / 1.0489
    """Cornering stiffness over friction and load, of both axles, per rad."""
    g: float = 9.81
    """m/s^2."""

    @property
    def wheelbase(self) -> float:
        """Distance of the axles, m."""
        return self.l_f + self.l_r


CAR = CarConstants()
STATES = ("sx_e", "sy_e", "delta", "v_e", "psi_e", "psidot_e", "beta")
"""Errors along and across the reference (m), steering angle (rad), error of speed (m/s), of heading (rad) and of
yaw rate (rad/s), slip angle (rad)."""
SLOWEST = 0.1
"""Speed (m/s) below which the kinematic model holds: tyre slip divides by speed."""
FASTEST_TURN = 100.0
"""Limit of the yaw rate's error, rad/s."""


def error_rate(x: Array, u: Array, mu_f: Array, v_ref: Array, w_ref: Array) -> Array:
    """Rate of the error state.

    Parameters
    ----------
    x
        ``(n, 7)``, see `STATES`.
    u
        ``(n, 2)``: steering rate (rad/s), longitudinal acceleration (m/s^2).
    mu_f, v_ref, w_ref
        ``(n,)``: friction relative to dry road, speed (m/s) and yaw rate (rad/s) of the reference.

    Returns
    -------
    Array
        ``(n, 7)`` per second. Control-affine. Below `SLOWEST` the kinematic model's, in which the slip angle follows
        from the steering angle.

    References
    ----------
    Althoff, Koschi, Manzinger (2017). CommonRoad: composable benchmarks for motion planning on roads. IEEE IV.
    """
    xp, car = namespace(x), CAR
    sx, sy, delta, v_e, psi, psidot, beta = (x[:, index] for index in range(7))
    steering, a = u[:, 0], u[:, 1]
    speed, turn = v_e + v_ref, psidot + w_ref
    slow = abs(speed) < SLOWEST
    # Where it is not used, so that neither it nor its gradient divides by zero.
    v = xp.where(slow, 1.0, speed)
    mu, length = car.friction * mu_f, car.wheelbase
    # Stiffness times load of the axles, per unit of mass; accelerating shifts load to the rear.
    front = car.cornering * (car.g * car.l_r - a * car.h)
    rear = car.cornering * (car.g * car.l_f + a * car.h)
    torque = mu * car.m / (car.i_z * length)
    turning = (
        -torque / v * (car.l_f**2 * front + car.l_r**2 * rear) * turn
        + torque * (car.l_r * rear - car.l_f * front) * beta
        + torque * car.l_f * front * delta
    )
    grip = mu / (v * length)
    slipping = (
        (grip / v * (rear * car.l_r - front * car.l_f) - 1.0) * turn
        - grip * (rear + front) * beta
        + grip * front * delta
    )
    tangent, cosine = xp.tan(delta), xp.cos(delta)
    geared = car.l_r / (length * cosine**2) / (1.0 + (tangent * car.l_r / length) ** 2)
    kinematic_turning = a * xp.cos(beta) * tangent / length + steering / length * (
        -speed * xp.sin(beta) * tangent * geared + speed * xp.cos(beta) / cosine**2
    )
    return columns(
        speed * xp.cos(psi + beta) - v_ref + w_ref * sy,
        speed * xp.sin(psi + beta) - w_ref * sx,
        steering,
        a,
        xp.where(slow, speed * xp.cos(beta) * tangent / length - w_ref, psidot),
        xp.where(slow, kinematic_turning, turning),
        xp.where(slow, geared * steering, slipping),
    )


def normalised(x: Array) -> Array:
    """Angles in [-pi, pi), yaw rate within its limit."""
    xp = namespace(x)
    rest = x[:, 7:]
    parts = (x[:, 0], x[:, 1], wrap(x[:, 2]), x[:, 3], wrap(x[:, 4]))
    errors = columns(*parts, xp.clip(x[:, 5], -FASTEST_TURN, FASTEST_TURN), wrap(x[:, 6]))
    return xp.concatenate([errors, rest], -1) if rest.shape[1] else errors


def euler_step(x: Array, u: Array, mu_f: Array, v_ref: Array, w_ref: Array, dt: float = 0.01) -> Array:
    """Error state after ``dt`` seconds of explicit Euler, ``(n, 7)``: the discrete map that controllers are for."""
    return normalised(x + dt * error_rate(x, u, mu_f, v_ref, w_ref))


def to_world(x: Array, reference: Array) -> Array:
    """World state ``(n, 7)``: x, y (m), delta, v (m/s), psi (rad), yaw rate less that of the reference, beta.

    Parameters
    ----------
    x
        Error state ``(n, 7)``.
    reference
        ``(n, 4)``: x, y, psi, v.
    """
    xp = namespace(x)
    cosine, sine = xp.cos(reference[:, 2]), xp.sin(reference[:, 2])
    return columns(
        reference[:, 0] + cosine * x[:, 0] - sine * x[:, 1],
        reference[:, 1] + sine * x[:, 0] + cosine * x[:, 1],
        x[:, 2],
        x[:, 3] + reference[:, 3],
        wrap(x[:, 4] + reference[:, 2]),
        x[:, 5],
        x[:, 6],
    )


def to_error(world: Array, reference: Array) -> Array:
    """Error state ``(n, 7)`` of a world state with respect to a reference: inverse of `to_world`."""
    xp = namespace(world)
    dx, dy = world[:, 0] - reference[:, 0], world[:, 1] - reference[:, 1]
    cosine, sine = xp.cos(reference[:, 2]), xp.sin(reference[:, 2])
    return columns(
        dx * cosine + dy * sine,
        -dx * sine + dy * cosine,
        world[:, 2],
        world[:, 3] - reference[:, 3],
        wrap(world[:, 4] - reference[:, 2]),
        world[:, 5],
        world[:, 6],
    )


class Car(HybridSystem):
    """The car on a polyline, each of whose ``pieces`` has a friction and a reference that drives along it.

    State ``(n, 8)``: the error state and the reference's distance from the piece's beginning (m). The mode is the
    piece. Configuration, piece by piece: friction, reference speed (m/s), heading (rad), length (m), and x, y (m) of
    its beginning: ``(n, 6 pieces)``. The piece ends

    * with ``guard_at="reference"`` where the reference has reached its end: what a planner, which chooses the
      references, switches at;
    * with ``guard_at="bisector"`` where the car crosses the line that halves the angle between it and the next one.

    The reset re-expresses the error for the reference of the next piece; the world state is continuous. The new
    reference is as far along its piece as the old one was beyond the end of its own (before the beginning, if the car
    was ahead of it). A car that is then beyond the end of the next piece too changes again at once. The last piece goes
    on for ever.

    Stepped by explicit Euler, 10 ms. Controls: steering rate (rad/s) and acceleration (m/s^2); no limit of the steering
    angle.

    Parameters
    ----------
    pieces
        Number of pieces, at least one.
    guard_at
        ``"reference"`` or ``"bisector"``.

    References
    ----------
    Meng, Fan (2023). Hybrid systems neural control with region-of-attraction planner. L4DC. Their code multiplies the
    acceleration by the single-track model's coefficient in the kinematic branch too, which grows like 1/v^2; here it
    is the kinematic model's alone.
    """

    guards = ("end of the piece",)
    state_size = 8
    control_size = 2
    step_s = 0.01
    method = "euler"
    fires_beyond = True

    def __init__(self, pieces: int, guard_at: str = "reference") -> None:
        if pieces < 1:
            raise UserError(f"a road has at least one piece, not {pieces}")
        if guard_at not in ("reference", "bisector"):
            raise UserError(f"guard_at is 'reference' or 'bisector', not {guard_at!r}")
        self.pieces = pieces
        self.guard_at = guard_at
        self.modes = tuple(f"piece {index}" for index in range(pieces))
        self.configuration_size = 6 * pieces

    def of_piece(self, state: HybridState, ahead: int = 0) -> Array:
        """Friction, speed, heading, length, x and y of each world's piece, or of one ``ahead`` of it: ``(n, 6)``."""
        xp = namespace(state.x)
        index = xp.clip(state.mode + ahead, 0, self.pieces - 1)
        if xp is np:
            # Five times as fast as below, and it is asked for several times a step.
            return state.configuration.reshape(-1, self.pieces, 6)[np.arange(len(index)), index]
        return xp.stack([taken(state.configuration, 6 * index + part) for part in range(6)], -1)

    def reference(self, state: HybridState) -> Array:
        """Pose and speed of the reference, ``(n, 4)``: x, y, psi, v."""
        xp = namespace(state.x)
        piece, along = self.of_piece(state), state.x[:, 7]
        heading = piece[:, 2]
        return columns(
            piece[:, 4] + along * xp.cos(heading), piece[:, 5] + along * xp.sin(heading), heading, piece[:, 1]
        )

    def world(self, state: HybridState) -> Array:
        """World state, ``(n, 7)``, see `to_world`."""
        return to_world(state.x[:, :7], self.reference(state))

    def flow(self, state: HybridState, control: Array) -> Array:
        """See `HybridSystem.flow`."""
        piece = self.of_piece(state)
        speed = piece[:, 1]
        rate = error_rate(state.x[:, :7], control, piece[:, 0], speed, 0.0 * speed)
        return namespace(rate).concatenate([rate, speed[:, None]], -1)

    def normalise(self, x: Array) -> Array:
        """See `HybridSystem.normalise`."""
        return normalised(x)

    def guard(self, state: HybridState) -> Array:
        """See `HybridSystem.guard`: metres that are left."""
        return columns(namespace(state.x).where(state.mode < self.pieces - 1, self.distance_left(state), 1.0))[:, :1]

    def distance_left(self, state: HybridState) -> Array:
        """Metres to the end of the piece, ``(n,)``: of the reference, or of the car at right angles to the bisector."""
        xp, piece = namespace(state.x), self.of_piece(state)
        along = state.x[:, 7] - piece[:, 3]
        if self.guard_at == "reference":
            return -along
        half = 0.5 * self.turn(state)
        return -((along + state.x[:, 0]) * xp.cos(half) + state.x[:, 1] * xp.sin(half))

    def turn(self, state: HybridState) -> Array:
        """Change of heading from each world's piece to the next, ``(n,)`` rad; 0 on the last."""
        return wrap(self.of_piece(state, 1)[:, 2] - self.of_piece(state)[:, 2])

    def reset(self, state: HybridState, guard: Array) -> HybridState:
        """See `HybridSystem.reset`."""
        del guard
        xp = namespace(state.x)
        beyond = state.x[:, 7] - self.of_piece(state)[:, 3]
        following = xp.clip(state.mode + 1, 0, self.pieces - 1)
        world = self.world(state)
        moved = replace(state, x=xp.concatenate([state.x[:, :7], beyond[:, None]], -1), mode=following)
        errors = to_error(world, self.reference(moved))
        return replace(moved, x=xp.concatenate([errors, beyond[:, None]], -1))


def linearisation(mu_f: float, v_ref: float) -> tuple[np.ndarray, np.ndarray]:
    """``A (7, 7)`` and ``B (7, 2)`` of the error state at zero on a straight reference, continuous time.

    Raises
    ------
    UserError
        The reference is slower than the single-track model holds for, or friction is not positive.
    """
    car = CAR
    if not (mu_f > 0.0 and SLOWEST <= v_ref < math.inf):
        raise UserError(f"friction must be positive and the speed at least {SLOWEST} m/s, got {mu_f} and {v_ref}")
    mu, length = car.friction * mu_f, car.wheelbase
    front, rear = car.cornering * car.g * car.l_r, car.cornering * car.g * car.l_f
    torque, grip = mu * car.m / (car.i_z * length), mu / (v_ref * length)
    a = np.zeros((7, 7))
    a[0, 3] = a[4, 5] = 1.0
    a[1, 4] = a[1, 6] = v_ref
    a[5, 5] = -torque / v_ref * (car.l_f**2 * front + car.l_r**2 * rear)
    a[5, 6] = torque * (car.l_r * rear - car.l_f * front)
    a[5, 2] = torque * car.l_f * front
    a[6, 5] = grip / v_ref * (rear * car.l_r - front * car.l_f) - 1.0
    a[6, 6] = -grip * (rear + front)
    a[6, 2] = grip * front
    b = np.zeros((7, 2))
    b[2, 0] = b[3, 1] = 1.0
    return a, b
