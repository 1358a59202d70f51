"""What the walker's Lyapunov function learns from: states that planners meet, and what becomes of them in a gait."""

from __future__ import annotations

import functools
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from rlstab.envs.hybrid.walker_gaits import GAITS, gait_torque
from rlstab.envs.hybrid.walker_stride import LONGEST, advance_period, steps, swing
from rlstab.policies.roa.walker import SLOWEST, WIDEST

FloatArray = NDArray[np.float64]
BoolArray = NDArray[np.bool_]

SPREAD = np.array([0.04, 0.05, 0.2, 0.5])
"""Largest errors of starts: of q1 (rad), of q2 against legs that both touch the ground (rad), of the rates (rad/s)."""
BRIDGE_GAITS = (0.0, 0.36)
"""Gait angles (rad) that may be held for part of a step; the wider ones have no gait of their own."""
BRIDGE_PERIODS = (1, 60)
"""Control periods for which one is held."""
BRIDGED = 0.6
"""Share of the states that are within a step and not at its beginning."""
JUDGED_STEPS = 8
"""Steps after which a walker counts as having stayed in its gait, or not."""
NEAR = 0.2
"""Distance to the gait's state after an impact (rad and rad/s) at which it counts as arrived. Multipliers of the return
map are up to 0.93, so that after 8 steps some are still on their way; those that fall do so within 4."""


def sample_gaits(rng: np.random.Generator, count: int) -> FloatArray:
    """Gait angles ``(count,)``, uniform over those that walk."""
    return rng.uniform(SLOWEST, WIDEST, count)


def sample_states(rng: np.random.Generator, count: int) -> FloatArray:
    """States ``(count, 4)`` that a planner meets.

    A step begins near that of a random row of the table of gaits, off by up to `SPREAD`. A share of `BRIDGED` of them
    then goes on for up to `BRIDGE_PERIODS` under a gait angle from `BRIDGE_GAITS`; those that do not stay upright are
    drawn again.
    """
    found = np.zeros((0, 4))
    while len(found) < count:
        lacking = count - len(found)
        row = GAITS[rng.integers(len(GAITS), size=lacking), 1:]
        error = SPREAD * rng.uniform(-1.0, 1.0, (lacking, 4))
        q1 = np.maximum(row[:, 0] + error[:, 0], 0.01)
        x = np.stack([q1, -2.0 * q1 + error[:, 1], row[:, 2] + error[:, 2], row[:, 3] + error[:, 3]], 1)
        periods = rng.integers(BRIDGE_PERIODS[0], BRIDGE_PERIODS[1] + 1, lacking) * (rng.random(lacking) < BRIDGED)
        done = swing(x, rng.uniform(*BRIDGE_GAITS, lacking), periods)
        found = np.concatenate([found, done.x[done.upright]])
    return found


@functools.cache
def orbits(gaits: int, samples: int) -> tuple[FloatArray, FloatArray]:
    """Orbits of gaits at equal distances from the slowest to the widest; see `WalkerModel.orbits`.

    Returns
    -------
    starts, orbits
        ``(gaits,)`` and ``(gaits, samples, 3)``.
    """
    angles = np.linspace(SLOWEST, WIDEST, gaits)
    table = GAITS[::-1]
    guess = np.stack([np.interp(angles, table[:, 0], table[:, column]) for column in range(1, 5)], 1)
    start = steps(guess, angles, 60)[0][-1]
    here, track = start, [start]
    landed = np.zeros(gaits, bool)
    for _ in range(LONGEST):
        after, struck, _ = advance_period(here, gait_torque(here, angles))
        # What goes beyond the ground is cut off below: q1 at the end of a step is minus that at its beginning.
        landed |= struck
        here = np.where(landed[:, None], track[-1], after)
        track.append(here)
        if landed.all():
            break
    path = np.stack(track, 1)
    shares = np.linspace(-1.0, 1.0, samples)
    table_of = np.empty((gaits, samples, 3))
    for gait in range(gaits):
        # The last sample before the impact is up to a period away from it: the line through it is drawn on.
        q1 = path[gait, :, 0]
        last = int(np.flatnonzero(np.diff(q1) < 0.0)[-1]) + 1
        q1, rest = q1[: last + 1], path[gait, : last + 1, 1:]
        speed = (rest[-1] - rest[-2]) / (q1[-1] - q1[-2])
        q1 = np.append(q1, -start[gait, 0])
        rest = np.vstack([rest, rest[-1] + speed * (q1[-1] - q1[-2])])
        for column in range(3):
            table_of[gait, :, column] = np.interp(shares * start[gait, 0], q1[::-1], rest[::-1, column])
    return start[:, 0], table_of


def gait_states(gait: FloatArray) -> FloatArray:
    """State ``(n, 4)`` after each impact of gaits ``(n,)``, between those of the orbits."""
    starts, table = orbits(29, 41)
    angles = np.linspace(SLOWEST, WIDEST, len(starts))
    ends = np.concatenate([starts[:, None], table[:, -1]], 1)
    return np.stack([np.interp(gait, angles, ends[:, column]) for column in range(4)], 1)


@dataclass(frozen=True)
class Judged:
    """States, gaits, and what became of them."""

    x: FloatArray
    """``(n, 4)``."""
    gait: FloatArray
    """``(n,)`` rad."""
    stable: BoolArray
    """``(n,)``: `JUDGED_STEPS` steps were done, and the last one ended within `NEAR` of the gait's."""
    later: FloatArray
    """``(k, n, 4)``: where its next steps begin; NaN where it did not come to that."""


def judge(x: FloatArray, gait: FloatArray, kept: int = 2) -> Judged:
    """Let walkers go in one gait each, and see whether they stay in it."""
    states, walking = steps(x, gait, JUDGED_STEPS)
    away = np.linalg.norm(states[-1] - gait_states(gait), axis=1)
    return Judged(x, gait, walking & (away < NEAR), states[1 : kept + 1])
