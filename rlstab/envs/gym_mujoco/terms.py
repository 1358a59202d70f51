"""Small batched functions that several tasks are written with. Rows are worlds."""

from __future__ import annotations

import numpy as np

from rlstab.envs.physics.interface import BoolArray, FloatArray


def clip(values: FloatArray, bounds: tuple[float, float]) -> FloatArray:
    """Limit ``values`` to ``bounds``. Same numbers as `numpy.clip`, in half its time on small arrays."""
    return np.minimum(np.maximum(values, bounds[0]), bounds[1])


def between(values: FloatArray, bounds: tuple[float, float]) -> BoolArray:
    """Whether ``values`` lie strictly inside ``bounds``; NaN does not."""
    return (bounds[0] < values) & (values < bounds[1])


def every(conditions: BoolArray) -> BoolArray:
    """Whether all of a row hold, ``(n, k) -> (n,)``."""
    return np.logical_and.reduce(conditions, axis=1)


def squared_norm(rows: FloatArray) -> FloatArray:
    """Sum of squares of each row, ``(n, k) -> (n,)``."""
    return np.vecdot(rows, rows)


def only_where(condition: BoolArray, reward: float) -> FloatArray:
    """``reward`` where ``condition`` holds, else 0, ``(n,)``."""
    return condition * np.float64(reward)


def flat(rows: FloatArray) -> FloatArray:
    """Each world's array as one row, ``(n, ...) -> (n, k)``."""
    return rows.reshape(len(rows), -1)


def nothing(worlds: int) -> FloatArray:
    """Return the measure of a task that needs to know nothing from before the step, ``(n, 0)``."""
    return np.empty((worlds, 0))


def never(worlds: int) -> BoolArray:
    """No world ends, ``(n,)``."""
    return np.zeros(worlds, np.bool_)
