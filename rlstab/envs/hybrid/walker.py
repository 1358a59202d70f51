"""The compass-gait walker: two legs, a hip torque between them, and rigid impacts of the swing foot."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from rlstab.envs.hybrid.arrays import Array, columns, namespace
from rlstab.envs.hybrid.system import HybridState, HybridSystem

GRAVITY = 9.81
"""m/s^2."""
TORQUE_LIMIT = 4.0
"""N m."""
WIDEST_STANCE, WIDEST_SWING = 0.5, 1.0
"""Largest angles (rad) of stance leg and swing leg at which the walker counts as upright."""
_LATEST_STANCE = -0.03
STATES = ("q1", "q2", "q1d", "q2d")
"""Stance leg from the vertical (positive: the hip is behind the foot), swing leg from the stance leg (rad), rates."""


def inertia(x: Array) -> Array:
    """Mass matrix ``(n, 2, 2)`` of ``(q1, q2)``, kg m^2."""
    xp = namespace(x)
    coupling = 0.25 - 0.5 * xp.cos(x[:, 1])
    rows = columns(2.5 - xp.cos(x[:, 1]), coupling), columns(coupling, 0.25)
    return xp.stack(rows, -2)


def accelerations(x: Array) -> tuple[Array, Array]:
    """Drift and torque column of the joint accelerations.

    Parameters
    ----------
    x
        ``(n, 4)``, see `STATES`. Legs are 1 m long with 1 kg at mid-leg, 1 kg at the hip; walking is towards +x, with
        q1 decreasing.

    Returns
    -------
    drift, column
        ``(n, 2)`` rad/s^2 without torque, and ``(n, 2)`` rad/s^2 per N m: ``qdd = drift + column u``.
    """
    xp = namespace(x)
    q1, q2, q1d, q2d = (x[:, index] for index in range(4))
    swing = 0.5 * GRAVITY * xp.sin(q1 + q2)
    bias1 = xp.sin(q2) * (q1d * q2d + 0.5 * q2d**2) - 2.5 * GRAVITY * xp.sin(q1) + swing
    bias2 = -0.5 * xp.sin(q2) * q1d**2 + swing
    d11, d12, d22 = 2.5 - xp.cos(q2), 0.25 - 0.5 * xp.cos(q2), 0.25
    determinant = d11 * d22 - d12**2
    drift = columns((-d22 * bias1 + d12 * bias2) / determinant, (d12 * bias1 - d11 * bias2) / determinant)
    return drift, columns(-d12 / determinant, d11 / determinant)


def energy(x: Array) -> Array:
    """Kinetic plus potential energy, ``(n,)`` J; constant without torque between impacts."""
    xp = namespace(x)
    return kinetic_energy(x) + GRAVITY * (2.5 * xp.cos(x[:, 0]) - 0.5 * xp.cos(x[:, 0] + x[:, 1]))


def kinetic_energy(x: Array) -> Array:
    """``(n,)`` J."""
    xp = namespace(x)
    return 0.5 * xp.einsum("ni,nij,nj->n", x[:, 2:4], inertia(x), x[:, 2:4])


def swing_foot_height(x: Array) -> Array:
    """Metres above the ground, ``(n,)``."""
    xp = namespace(x)
    return xp.cos(x[:, 0]) - xp.cos(x[:, 0] + x[:, 1])


def step_length(x: Array) -> Array:
    """Metres by which the swing foot is ahead of the stance foot, ``(n,)``."""
    xp = namespace(x)
    return xp.sin(x[:, 0] + x[:, 1]) - xp.sin(x[:, 0])


def is_valid(x: Array) -> Array:
    """Whether the walker is upright, ``(n,)`` bool."""
    return (abs(x[:, 0]) <= WIDEST_STANCE) & (abs(x[:, 1]) <= WIDEST_SWING)


def allowed_to_strike(x: Array) -> Array:
    """Whether the swing foot strikes where it meets the ground: ahead, and on its way down, ``(n,)`` bool."""
    return (x[:, 0] <= _LATEST_STANCE) & (2.0 * x[:, 2] + x[:, 3] <= 0.0)


def impact(x: Array) -> Array:
    """State ``(n, 4)`` after the swing foot has struck the ground and the legs have exchanged their names.

    The impact is rigid, instantaneous and without slip, and the old stance foot leaves freely: angular momentum of the
    walker about the new stance foot and of the old stance leg about the hip are kept, kinetic energy is not.
    """
    xp = namespace(x)
    mid, hip, swing, foot = _jacobians(x)
    mass = sum(xp.einsum("nki,nkj->nij", jacobian, jacobian) for jacobian in (mid, hip, swing))
    none = xp.einsum("nki,nlj->nkl", foot, foot) * 0.0
    top = xp.concatenate([mass, -foot.swapaxes(-1, -2)], -1)
    matrix = xp.concatenate([top, xp.concatenate([foot, none], -1)], -2)
    zero = 0.0 * x[:, 0]
    rates = columns(zero, zero, x[:, 2], x[:, 3])
    pushed = xp.concatenate([xp.einsum("nij,nj->ni", mass, rates), columns(zero, zero)], -1)
    after = xp.linalg.solve(matrix, pushed[:, :, None])[:, :, 0]
    return columns(x[:, 0] + x[:, 1], -x[:, 1], after[:, 2] + after[:, 3], -after[:, 3])


class Walker(HybridSystem):
    """The walker as a hybrid system with one mode, whose configuration is the gait.

    State ``(n, 4)``, see `STATES`. Configuration ``(n, 2)``: gait angle ``th_d`` (rad), which only a controller reads
    and which may be chosen anew at each impact, and the place of the stance foot (m). The guard is ``q2 = -2 q1`` with
    ``2 q1 + q2`` decreasing and ``q1 <= -0.03``: a foot that passes the ground with the legs side by side does not stop
    there. Control ``(n, 1)``: torque between the legs, N m.

    Sampled, the benchmark's walker, takes steps of 10 ms: two of explicit Euler of 5 ms. The event is put where the
    straight line between two samples meets the guard, and the state after the impact is the next sample: what is left
    of those 10 ms is skipped. All of this is part of the benchmark: it shifts the gait by 0.02 rad/s and its period by
    a tenth against the exact walker, and the table of gaits is found again to 7e-6 with it, but only to 1e-4 where the
    event is located within the substep.

    Parameters
    ----------
    exact
        Integrate by fourth-order Runge-Kutta in steps of 5 ms with events located in them, nothing skipped.

    References
    ----------
    Goswami, Espiau, Keramane (1996). Limit cycles and their stability in a passive bipedal gait. IEEE ICRA.
    """

    modes = ("swing",)
    guards = ("foot strike",)
    state_size = 4
    control_size = 1
    configuration_size = 2

    def __init__(self, *, exact: bool = False) -> None:
        self.exact = exact
        self.step_s = 0.005 if exact else 0.01
        self.event_ends_step = not exact

    def integrate(self, state: HybridState, control: Array, duration: Array) -> HybridState:
        """See `HybridSystem.integrate`."""
        if self.exact:
            return super().integrate(state, control, duration)
        half = 0.5 * duration[:, None]
        middle = replace(state, x=state.x + half * self.flow(state, control))
        return replace(state, x=middle.x + half * self.flow(middle, control))

    def within(
        self, before: HybridState, after: HybridState, control: Array, duration: Array, share: Array
    ) -> HybridState:
        """See `HybridSystem.within`."""
        if self.exact:
            return super().within(before, after, control, duration, share)
        return replace(before, x=before.x + share[:, None] * (after.x - before.x))

    def flow(self, state: HybridState, control: Array) -> Array:
        """See `HybridSystem.flow`."""
        drift, column = accelerations(state.x)
        return namespace(drift).concatenate([state.x[:, 2:4], drift + column * control[:, :1]], -1)

    def guard(self, state: HybridState) -> Array:
        """See `HybridSystem.guard`."""
        return (2.0 * state.x[:, 0] + state.x[:, 1])[:, None]

    def allowed(self, state: HybridState) -> Array:
        """See `HybridSystem.allowed`."""
        return allowed_to_strike(state.x)[:, None]

    def reset(self, state: HybridState, guard: Array) -> HybridState:
        """See `HybridSystem.reset`."""
        del guard
        place = state.configuration[:, 1] + step_length(state.x)
        return replace(state, x=impact(state.x), configuration=columns(state.configuration[:, 0], place))


def _jacobians(x: Array) -> list[Array]:
    """Of mid-stance-leg, hip, mid-swing-leg and swing foot, by (X, Y, q1, q2): ``(n, 2, 4)`` each."""
    xp = namespace(x)
    first, both = x[:, 0], x[:, 0] + x[:, 1]
    c1, s1, c12, s12 = xp.cos(first), xp.sin(first), xp.cos(both), xp.sin(both)
    one, zero = 0.0 * c1 + 1.0, 0.0 * c1

    def point(along_stance: float, along_swing: float) -> Array:
        across = columns(one, zero, -along_stance * c1 + along_swing * c12, along_swing * c12)
        up = columns(zero, one, -along_stance * s1 + along_swing * s12, along_swing * s12)
        return xp.stack([across, up], -2)

    return [point(0.5, 0.0), point(1.0, 0.0), point(1.0, 0.5), point(1.0, 1.0)]


def stance_at(x: np.ndarray, gait: float, foot: float = 0.0) -> HybridState:
    """Walkers at ``x (n, 4)`` with a gait angle, their stance feet at ``foot`` metres."""
    return HybridState(x, np.zeros(len(x), np.int64), np.tile([gait, foot], (len(x), 1)))
