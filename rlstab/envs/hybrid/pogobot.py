"""The pogobot: a mass on a springy leg that hops through a corridor, one decision a hop."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from rlstab.envs.hybrid.arrays import Array, choose, columns, detached, namespace
from rlstab.envs.hybrid.corridor import MOST_SEGMENTS, PARTS, borders, ceiling_at, floor_at, part_at, segment_at
from rlstab.envs.hybrid.system import HybridState, HybridSystem

GRAVITY = 10.0
"""m/s^2; the benchmark's, not 9.81."""
LEG = 1.0
"""Length of the unloaded leg, m."""
STIFFNESS = 32000.0
"""N/m."""
MASS = 80.0
"""kg."""
STATES = ("x", "xdot", "y", "ydot", "x_foot", "y_foot")
DOWN, COMPRESSION, EXTENSION, UP, APEX, FALLEN = range(6)
"""Modes; worlds at the apex wait for the next decision, those that have fallen stay as they are."""
_STANDSTILL = 1e-9
"""m/s below which a body does not move: a leg that is too long already at mid-stance lifts off at rounding's speed."""
STANCE_LIMIT_S = 0.5
"""Longest stance, seconds; an ordinary one lasts pi / 20."""


class Pogobot(HybridSystem):
    """One hop, from apex to apex.

    State ``(n, 6)``: body and foot, m and m/s. Configuration ``(n, 20)``: see `Corridor`. Control ``(n, 1)``: force (N)
    that the leg adds to its spring, in compression only: pushing (positive) takes energy, ``-F (LEG - length at
    mid-stance)``. In flight the foot is held where the hop's leg angle puts it (`start`).

    Touchdown is where the foot meets the floor of the segment that it is over; mid-stance where the body stops falling;
    lift-off where the leg has its length again. A hop fails where the body meets floor or ceiling of its own segment,
    where the foot runs into a wall, and where the body does not rise at lift-off.

    Fourth-order Runge-Kutta, 1 ms; `hop` takes the same hop with flights in closed form. Gradients of a hop are those
    of its own order of events; they say nothing about walls that another hop would meet.

    References
    ----------
    Blickhan (1989). The spring-mass model for running and hopping. J. Biomechanics 22. Meng, Fan (2023). L4DC.
    """

    modes = ("flight down", "compression", "extension", "flight up", "apex", "fallen")
    guards = ("touchdown", "mid-stance", "lift-off", "apex", "floor or ceiling")
    state_size = 6
    control_size = 1
    configuration_size = PARTS * MOST_SEGMENTS
    step_s = 0.001
    fires_beyond = True
    final_modes = (APEX, FALLEN)

    def start(self, x: Array, xdot: Array, y: Array, angle: Array, configuration: Array) -> HybridState:
        """Begin hops at apices: ``x, xdot, y (n,)`` and leg angle ``(n,)`` rad, the foot ahead where positive."""
        xp = namespace(xdot)
        body = columns(x, xdot, y, 0.0, x + LEG * xp.sin(angle), y - LEG * xp.cos(angle))
        down = xp.where(detached(xdot) > 0.0, DOWN, DOWN)
        return HybridState(body, down, configuration)

    def flow(self, state: HybridState, control: Array) -> Array:
        """See `HybridSystem.flow`."""
        xp = namespace(state.x)
        x, xdot, y, ydot, x_foot, y_foot = (state.x[:, index] for index in range(6))
        length = xp.sqrt((x - x_foot) ** 2 + (y - y_foot) ** 2)
        force = xp.where(state.mode == COMPRESSION, control[:, 0], 0.0) + STIFFNESS * (LEG - length)
        none = 0.0 * x
        stance = columns(
            *(xdot, force * (x - x_foot) / (MASS * length), ydot),
            *(force * (y - y_foot) / (MASS * length) - GRAVITY, none, none),
        )
        flight = columns(xdot, none, ydot, none - GRAVITY, xdot, ydot)
        standing = (state.mode == COMPRESSION) | (state.mode == EXTENSION)
        moving = choose(standing, stance, flight)
        return choose(state.mode >= APEX, 0.0 * moving, moving)

    def guard(self, state: HybridState) -> Array:
        """See `HybridSystem.guard`."""
        xp, mode = namespace(state.x), state.mode
        x, _, y, ydot, x_foot, y_foot = (state.x[:, index] for index in range(6))
        length = xp.sqrt((x - x_foot) ** 2 + (y - y_foot) ** 2)
        segment = segment_at(state.configuration, x)
        above = y - part_at(state.configuration, segment, 1)
        room = xp.minimum(above, part_at(state.configuration, segment, 2) - y)
        values = (
            (mode == DOWN, y_foot - floor_at(state.configuration, x_foot)),
            (mode == COMPRESSION, -ydot),
            (mode == EXTENSION, LEG - length),
            (mode == UP, ydot),
            (mode < APEX, room),
        )
        return columns(*(xp.where(mask, value, 1.0) for mask, value in values))

    def reset(self, state: HybridState, guard: Array) -> HybridState:
        """See `HybridSystem.reset`."""
        xp = namespace(state.x)
        sunk = state.x[:, 5] < floor_at(state.configuration, state.x[:, 4]) - 1e-6
        fails = (guard == 4) | ((guard == 0) & sunk) | ((guard == 2) & (state.x[:, 3] <= _STANDSTILL))
        return replace(state, mode=xp.where(fails, FALLEN, guard + 1))


class _Stance(Pogobot):
    step_s = 0.002
    final_modes = (UP, APEX, FALLEN)


_STANCE = _Stance()


@dataclass(frozen=True)
class Hop:
    """What `hop` returns, ``(n,)`` each."""

    x: Array
    """Place of the next apex, m."""
    xdot: Array
    """Speed there, m/s."""
    y: Array
    """Height there above zero, m."""
    time: Array
    """Seconds of flight and stance; without meaning where it failed."""
    failed: Array
    """Bool: fell, ran into a wall, or met floor or ceiling; the rest is then where the body was last known to be."""
    shortest: Array
    """Leg length at mid-stance, m."""
    touchdown: Array
    """``(n, 6)``: state at touchdown."""
    liftoff: Array
    """``(n, 6)``: state at lift-off."""


def hop(x: Array, xdot: Array, y: Array, angle: Array, force: Array, configuration: Array) -> Hop:
    """Take one hop: flights in closed form, stance by `Pogobot`'s dynamics in steps of 2 ms with located events.

    Arrays of numpy take microseconds a hop; tensors carry gradients, and take thousands of times as long.

    The next apex is right to 1e-7 (m and m/s). A stance of more than `STANCE_LIMIT_S` counts as a fall.

    Parameters
    ----------
    x, xdot, y
        Apex, ``(n,)``: m, m/s, m above zero.
    angle, force
        ``(n,)``: leg angle at touchdown (rad, foot ahead where positive), extra force in compression (N).
    configuration
        ``(n, 20)``, see `rlstab.envs.hybrid.corridor`.
    """
    xp = namespace(xdot)
    start = _STANCE.start(x, xdot, y, angle, configuration)
    falling, walled = _time_to_touchdown(start)
    drop = columns(xdot * falling, 0.0, -0.5 * GRAVITY * falling**2, -GRAVITY * falling, xdot * falling, 0.0)
    lowered = start.x[:, 5] - 0.5 * GRAVITY * falling**2
    touched = start.x + drop
    touched = columns(*(touched[:, index] for index in range(5)), lowered)
    blocked = _leaves_corridor(start.x, falling, configuration)
    mode = xp.where(walled | blocked, FALLEN, COMPRESSION)
    lifted, standing, shortest = _stand(replace(start, x=touched, mode=mode), force)
    rises = lifted.mode == UP
    rising = xp.where(rises, lifted.x[:, 3] / GRAVITY, 0.0)
    failed = ~rises | _leaves_corridor(lifted.x, rising, configuration)
    return Hop(
        x=lifted.x[:, 0] + lifted.x[:, 1] * rising,
        xdot=lifted.x[:, 1],
        y=lifted.x[:, 2] + 0.5 * GRAVITY * rising**2,
        time=falling + standing + rising,
        failed=failed,
        shortest=shortest,
        touchdown=touched,
        liftoff=lifted.x,
    )


def _stand(touched: HybridState, force: Array) -> tuple[HybridState, Array, Array]:
    """State after the stance, its duration ``(n,)`` s, and the length of the leg at mid-stance ``(n,)`` m.

    In machine code where no gradient is wanted: tensors go through the general integrator.
    """
    xp = namespace(touched.x)
    if xp is np:
        from rlstab.envs.hybrid.pogobot_stance import stand

        limits = (STANCE_LIMIT_S, _STANCE.step_s)
        x, mode, duration, shortest = stand(touched.x, touched.mode, force, touched.configuration, *limits)
        return replace(touched, x=x, mode=mode), duration, shortest
    stretch = _STANCE.advance(touched, force[:, None], STANCE_LIMIT_S)
    shortest = 0.0 * force + LEG
    for event in stretch.events:
        leg = xp.sqrt((event.before[:, 0] - event.before[:, 4]) ** 2 + (event.before[:, 2] - event.before[:, 5]) ** 2)
        shortest = xp.where(event.fired & (event.guard == 1), leg, shortest)
    return stretch.state, stretch.elapsed, shortest


def _time_to_touchdown(start: HybridState) -> tuple[Array, Array]:
    """Seconds until the foot meets floor or wall, ``(n,)``, and whether it is a wall (or the leg does not fit)."""
    xp, configuration = namespace(start.x), start.configuration
    tip_x, speed, tip_y = start.x[:, 4], start.x[:, 1], start.x[:, 5]
    ends = [borders(configuration)[:, index] for index in range(MOST_SEGMENTS - 1)]
    best, wall = 0.0 * detached(tip_x) + np.inf, start.mode < 0
    for index in range(MOST_SEGMENTS):
        height = tip_y - part_at(configuration, 0 * start.mode + index, 1)
        reachable = height >= 0.0
        # The root's slope is infinite at zero.
        above = height > 0.0
        time = xp.where(above, xp.sqrt(2.0 / GRAVITY * xp.where(above, height, 1.0)), 0.0)
        place = tip_x + speed * time
        inside = reachable
        if index > 0:
            inside = inside & (place >= ends[index - 1])
        if index < MOST_SEGMENTS - 1:
            inside = inside & (place < ends[index])
        best = xp.where(inside & (time < best), time, best)
    for index, end in enumerate(ends):
        moves = abs(speed) > _STANDSTILL
        time = (end - tip_x) / xp.where(moves, speed, 1.0)
        beyond = xp.where(speed > 0.0, index + 1, index)
        below = tip_y - 0.5 * GRAVITY * time**2 < part_at(configuration, beyond, 1)
        first = moves & (time > 0.0) & below & (time < best)
        best, wall = xp.where(first, time, best), wall | first
    # A tip below the floor from the beginning.
    sunk = tip_y < floor_at(configuration, tip_x)
    lost = sunk | ~(best < np.inf)
    return xp.where(lost, 0.0, best), wall | lost


def _leaves_corridor(body: Array, duration: Array, configuration: Array) -> Array:
    """Whether a body that flies freely for ``duration (n,)`` meets floor or ceiling of its own segment, ``(n,)`` bool.

    Within a segment a parabola is highest where it enters, leaves, begins or ends (flights here begin or end at an
    apex) and lowest there too, so that those places are all that must be looked at.
    """
    x, xdot, y, ydot = (detached(body[:, index]) for index in range(4))
    plain, length = detached(configuration), detached(duration)

    def height(time: Array) -> Array:
        return y + ydot * time - 0.5 * GRAVITY * time**2

    def outside(place: Array, at: Array) -> Array:
        return (at < floor_at(plain, place)) | (at > ceiling_at(plain, place))

    hit = outside(x, y) | outside(x + xdot * length, height(length))
    xp = namespace(x)
    for index in range(MOST_SEGMENTS - 1):
        end = borders(plain)[:, index]
        moves = abs(xdot) > _STANDSTILL
        time = (end - x) / xp.where(moves, xdot, 1.0)
        crossed = moves & (time >= 0.0) & (time <= length)
        at = height(xp.where(crossed, time, 0.0))
        for segment in (index, index + 1):
            of = xp.where(crossed, segment, segment)
            hit = hit | (crossed & ((at < part_at(plain, of, 1)) | (at > part_at(plain, of, 2))))
    return hit


def euler_hop(xdot: Array, y: Array, angle: Array, force: Array) -> tuple[Array, Array, Array, Array]:
    """The benchmark's own simulation of a hop on flat ground, for comparison with its tables.

    Explicit Euler, 1 ms in flight and 0.1 ms in stance, with every phase ending at the first sample beyond its guard:
    its apices are 5 to 20 mm too high.

    Returns
    -------
    dx, xdot, y, time
        ``(n,)`` each; not a number where the hop failed.
    """
    xdot, y, angle, force = (np.asarray(part, np.float64) for part in (xdot, y, angle, force))
    x, ydot, time = np.zeros_like(y), np.zeros_like(y), np.zeros_like(y)
    foot = np.zeros_like(y)
    mode, failed = np.zeros(len(y), np.int64), np.zeros(len(y), bool)
    while ((mode < APEX) & ~failed).any():
        lands = (mode == DOWN) & (y - LEG * np.cos(angle) <= 0.0)
        foot = np.where(lands, x + LEG * np.sin(angle), foot)
        mode = np.where(lands, COMPRESSION, mode)
        length = np.hypot(x - foot, y)
        mode = np.where((mode == COMPRESSION) & (ydot >= 0.0), EXTENSION, mode)
        leaves = (mode == EXTENSION) & (length >= LEG)
        failed |= (leaves & (ydot <= 0.0)) | ((mode != DOWN) & (y < 0.0)) | (time > 20.0)
        mode = np.where(leaves, UP, mode)
        mode = np.where((mode == UP) & (ydot <= 0.0), APEX, mode)
        goes = (mode < APEX) & ~failed
        standing = (mode == COMPRESSION) | (mode == EXTENSION)
        dt = np.where(goes, np.where(standing, 1e-4, 1e-3), 0.0)
        push = np.where(mode == COMPRESSION, force, 0.0) + STIFFNESS * (LEG - length)
        forward = np.where(standing, push * (x - foot) / (MASS * length), 0.0)
        upward = np.where(standing, push * y / (MASS * length), 0.0) - GRAVITY
        x, y = x + dt * xdot, y + dt * ydot
        xdot, ydot, time = xdot + dt * forward, ydot + dt * upward, time + dt
    x, xdot, y, time = (np.where(failed, np.nan, part) for part in (x, xdot, y, time))
    return x, xdot, y, time
