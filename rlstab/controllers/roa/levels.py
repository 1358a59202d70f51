"""The level of a region of attraction from roll-outs: what level networks learn, and are calibrated against."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from rlstab.errors import UserError

FEWEST_UNSTABLE = 50
"""Unstable starts below which a level is optimistic: with few of them it is merely the largest value sampled."""


def measured_level(
    values: NDArray[np.float64], stable: NDArray[np.bool_], *, ignored: int = 0, fewest: int = FEWEST_UNSTABLE
) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
    """Largest level below which the starts of roll-outs were stable.

    Parameters
    ----------
    values
        ``V`` at the starts, ``(configurations, starts)``.
    stable
        Whether each roll-out was stable, of the same shape.
    ignored
        Unstable starts of least ``V`` that are overlooked in each configuration.
    fewest
        Unstable starts from which on a level counts as found.

    Returns
    -------
    level
        ``min(max V of the stable, min V of the unstable)``, ``(configurations,)``; zero where none is stable. Just
        below an unstable start, so that it is outside of ``V <= level``.
    found
        Whether there were enough unstable starts to tell; where not, the level is only what was sampled.

    References
    ----------
    Meng, Fan (2023), arXiv:2303.10327; their pogobot overlooks five.
    """
    if values.shape != stable.shape or values.ndim != 2 or values.shape[1] == 0:
        raise UserError(f"values and stable must have one shape (configurations, starts), got {values.shape}")
    if np.isnan(values).any():
        raise UserError("V of a start is not a number: a level that overlooks it would mean nothing")
    largest = np.where(stable, values, -np.inf).max(1, initial=-np.inf)
    unstable = np.sort(np.where(stable, np.inf, values), 1)
    smallest = unstable[:, min(ignored, values.shape[1] - 1)]
    level = np.where(largest < smallest, largest, np.nextafter(smallest, -np.inf))
    return np.where(np.isfinite(level), np.maximum(level, 0.0), 0.0), (~stable).sum(1) >= fewest


def check_calibration(delta: float, configurations: int) -> None:
    """Refuse a confidence for which there are too few configurations, before anything is trained.

    Raises
    ------
    UserError
        `conformal_margin` would refuse it after the training.
    """
    if math.ceil(round((configurations + 1) * (1.0 - delta), 9)) > configurations:
        least = 1.0 / (configurations + 1)
        raise UserError(
            f"calibration {delta:g} needs more than the {configurations} configurations that are tried: give at least "
            f"{math.ceil(least * 1e4) / 1e4:g}"
        )


def decreasing(values: NDArray[np.float64], share: float, slack: float = 0.0, near: float = 0.0) -> NDArray[np.bool_]:
    """Whether roll-outs fall all the way: ``V_{t+1} <= (1 - share) V_t + slack``, or begin and end below ``near``.

    Parameters
    ----------
    values
        ``V`` along roll-outs, ``(steps + 1, ...)``; what is not finite has not fallen.

    Returns
    -------
    NDArray
        ``(...)`` bool.
    """
    falls = (values[1:] <= (1.0 - share) * values[:-1] + slack).all(0)
    return np.isfinite(values).all(0) & (falls | ((values[0] < near) & (values[-1] < near)))
