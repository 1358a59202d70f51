"""Bootstrap intervals by rliable, made reproducible."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from rlstab.errors import UserError

FloatArray = NDArray[np.float64]


def score_matrix(scores: ArrayLike | Mapping[str, ArrayLike]) -> FloatArray:
    """Bring scores into rliable's shape.

    Parameters
    ----------
    scores
        One number a run ``(num_runs,)``, a matrix ``(num_runs, num_tasks)``, or tasks by name, each ``(num_runs,)``.

    Returns
    -------
    numpy.ndarray
        ``(num_runs, num_tasks)`` float64.

    Raises
    ------
    UserError
        No scores, scores that are not finite, or tasks with different numbers of runs.
    """
    if isinstance(scores, Mapping):
        counts = {name: np.size(values) for name, values in scores.items()}
        if len(set(counts.values())) > 1:
            listed = ", ".join(f"{name}: {count}" for name, count in counts.items())
            raise UserError(f"every task needs the same number of runs to be aggregated; there are {listed}")
        scores = np.stack([np.ravel(np.asarray(values, np.float64)) for values in scores.values()], axis=1)
    matrix = np.asarray(scores, np.float64)
    matrix = matrix[:, None] if matrix.ndim == 1 else matrix
    if matrix.ndim != 2 or matrix.size == 0:
        raise UserError(f"scores must be (runs,) or (runs, tasks) and not empty; got shape {np.shape(scores)}")
    if not np.isfinite(matrix).all():
        row, column = np.argwhere(~np.isfinite(matrix))[0]
        raise UserError(
            f"the score of run {row} on task {column} is {matrix[row, column]}: leave that run out or redo it"
        )
    return matrix


def bootstrap(
    samples: tuple[FloatArray, ...],
    statistic: Callable[..., FloatArray],
    *,
    level: float = 0.95,
    resamples: int = 2000,
    seed: int = 0,
    whole_rows: bool = False,
) -> tuple[FloatArray, FloatArray, FloatArray]:
    """Percentile-bootstrap intervals by rliable's stratified bootstrap, reproducible by seed.

    rliable 1.2 draws from numpy's global generator whatever ``random_state`` it is given; here its classes are given a
    generator of their own, so that results depend on ``seed`` alone and no other code's random numbers are disturbed.

    Parameters
    ----------
    samples
        One or more matrices ``(num_runs, num_columns)``; several are resampled independently.
    statistic
        Of as many resampled matrices; gives a vector.
    level
        Coverage aimed at, between 0 and 1.
    resamples
        Replications.
    seed
        Of the resampling.
    whole_rows
        Resample rows as a whole instead of each column (task) by itself.

    Returns
    -------
    value, low, high
        Each the shape of the statistic; bounds are NaN where a matrix has a single row.

    Raises
    ------
    UserError
        The level is not between 0 and 1 or there are no resamples.
    """
    if not 0 < level < 1 or resamples < 1:
        raise UserError(f"level must lie between 0 and 1 and resamples be positive; got {level} and {resamples}")
    value = np.asarray(statistic(*samples), np.float64)
    if any(len(sample) < 2 for sample in samples):
        return value, np.full_like(value, np.nan), np.full_like(value, np.nan)
    rliable = _rliable()
    rng = np.random.default_rng(seed)

    def draw(shape: tuple[int, ...]) -> tuple[Any, ...]:
        if whole_rows:
            return (rng.integers(shape[0], size=shape[0]),)
        return rng.integers(shape[0], size=shape), np.arange(shape[1])[None]

    class Single(rliable.StratifiedBootstrap):
        def update_indices(self) -> tuple[Any, ...]:
            return draw(self._args_shape)

    class Independent(rliable.StratifiedIndependentBootstrap):
        def update_indices(self) -> tuple[list[Any], dict[str, Any]]:
            return [draw(shape) for shape in self._args_shapes], {}

    resampler = Single(*samples) if len(samples) == 1 else Independent(*samples)
    low, high = resampler.conf_int(statistic, reps=resamples, size=level, method="percentile")
    return value, np.asarray(low, np.float64), np.asarray(high, np.float64)


def format_interval(low: float, high: float) -> str:
    """``"[1200, 1850]"``, or the empty string where there is no interval."""
    return f"[{low:.5g}, {high:.5g}]" if np.isfinite(low) and np.isfinite(high) else ""


def _rliable() -> Any:
    with warnings.catch_warnings():
        # Its dependencies announce their own deprecations on import, which no user of ours can act on.
        warnings.simplefilter("ignore")
        from rliable import library
    return library
