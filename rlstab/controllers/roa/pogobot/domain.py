"""Where the hopper's networks are trained, and where what they say is claimed: apices over level ground."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from rlstab.envs.hybrid.corridor import flat
from rlstab.envs.hybrid.pogobot import hop

FloatArray = NDArray[np.float64]

LOWEST = 1.02
"""m above the floor of the lowest apex: below it a leg of 1 m hardly fits under the body."""
REFERENCE = np.array([[0.0, 1.15], [3.0, 3.4]])
"""Lowest and highest reference: speed m/s, height m. The corridors' are within, and what the planner may ask for."""
REACH = np.array([3.0, 2.0])
"""Largest error of a state from its reference, m/s and m. The benchmark's are 1 m/s and 1 m; with controls as strong as
the environment's everything there is stable, and a level is only as high as one has looked."""
ALPHA, SLACK, IGNORED = 0.5, 0.001, 5
"""A roll-out is stable where every hop takes this share of ``V`` away, but for the slack: ``V`` is as much 7 cm/s or
5 cm from the reference, where hops are as exact as the networks. So many of the unstable starts of least ``V`` are
overlooked. Share and number are the benchmark's."""
HOPS = np.array([[-3.0, LOWEST], [6.0, 5.4]])
"""Speed m/s and height m of the apices that the stance network learns from; controls are all that the model allows."""
USEFUL = np.array([[-3.3, 0.95], [6.3, 5.6]])
"""Next apices that matter; of hops that lead elsewhere the network sees few."""


def draw_references(rng: np.random.Generator, n: int) -> FloatArray:
    """``(n, 2)``: speed and height."""
    return rng.uniform(REFERENCE[0], REFERENCE[1], (n, 2))


def draw_around(rng: np.random.Generator, references: FloatArray, starts: int) -> FloatArray:
    """Apices ``(n, starts, 2)``, uniform within `REACH` of their references ``(n, 2)`` and not below `LOWEST`."""
    middle = references[:, None]
    low = np.maximum(middle - REACH, [-np.inf, LOWEST])
    return rng.uniform(low, middle + REACH, (len(references), starts, 2))


def take_hops(apices: FloatArray, controls: FloatArray) -> tuple[FloatArray, FloatArray, FloatArray, NDArray[np.bool_]]:
    """Exact hops over level ground from apices ``(n, 2)`` with controls ``(n, 2)``.

    Returns
    -------
    apex
        ``(n, 2)``: the next one.
    dx
        ``(n,)``: the way to it, m.
    lifted
        ``(n,)``: sine of the leg angle at lift-off.
    failed
        ``(n,)``; what else is returned of such a hop is without meaning.
    """
    n = len(apices)
    (xdot, y), (angle, force) = apices.T, controls.T
    taken = hop(np.zeros(n), xdot, y, angle, force, flat(n))
    return np.stack([taken.xdot, taken.y], -1), taken.x, taken.liftoff[:, 0] - taken.liftoff[:, 4], taken.failed


def rim(reference: FloatArray, points: int = 33) -> FloatArray:
    """Points ``(n, 4 * points, 2)`` on the rim of the domain around references ``(n, 2)``.

    The floor is no rim: no apex is below `LOWEST`. Where it cuts the domain off, the lower side repeats the upper one.
    """
    along, edge = np.linspace(-1.0, 1.0, points), np.ones(points)
    sides = [np.stack(side, -1) for side in ((edge, along), (-edge, along), (along, edge), (along, -edge))]
    there = reference[:, None] + REACH * np.concatenate(sides)
    mirrored = 2.0 * reference[:, None, 1] - there[..., 1]
    height = np.where(there[..., 1] < LOWEST, np.maximum(mirrored, LOWEST), there[..., 1])
    return np.stack([there[..., 0], height], -1)
