"""How large a region of attraction is: by roll-outs, by samples, by bisection with a proof, and volumes of sets."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from torch import Tensor

from rlstab.analysis.certificates.lyapunov.bounds import AffineBounds
from rlstab.analysis.certificates.lyapunov.loop import ClosedLoop
from rlstab.analysis.certificates.lyapunov.statistical import clopper_pearson_interval
from rlstab.analysis.certificates.lyapunov.verifier import split
from rlstab.errors import UserError

FloatArray = NDArray[np.float64]


def ellipsoid_volume(matrix: ArrayLike, rho: float) -> float:
    """Volume of ``{x' P x <= rho}``: ``pi^(n/2) / Gamma(n/2 + 1) rho^(n/2) / sqrt(det P)``.

    Examples
    --------
    >>> round(ellipsoid_volume([[1.0, 0.0], [0.0, 4.0]], 1.0), 6)
    1.570796
    """
    matrix = np.asarray(matrix, np.float64)
    if matrix.ndim != 2 or not np.allclose(matrix, matrix.T) or np.linalg.eigvalsh(matrix)[0] <= 0.0:
        raise UserError("an ellipsoid needs a symmetric, positive definite matrix")
    n = len(matrix)
    return math.pi ** (n / 2) / math.gamma(n / 2 + 1) * rho ** (n / 2) / math.sqrt(np.linalg.det(matrix))


def inscribed_level(matrix: ArrayLike, half_widths: ArrayLike) -> float:
    """Largest ``rho`` for which ``{x' P x <= rho}`` is within a box around 0."""
    inverse = np.linalg.inv(np.asarray(matrix, np.float64))
    return float((np.asarray(half_widths, np.float64) ** 2 / np.diag(inverse)).min())


def sublevel_volume(
    loop: ClosedLoop, rho: float, tolerance: float = 2e-3, max_boxes: int = 400_000
) -> tuple[float, float]:
    """Volume of ``{x in B: V(x) <= rho}``, at least and at most, by bounds of ``V``.

    Parameters
    ----------
    loop
        Of which only ``V`` and the box matter.
    rho
        Level.
    tolerance
        Relative gap at which to stop.
    max_boxes
        After which to stop whatever the gap.
    """
    half = loop.half_widths
    low, high = -half[None].clone(), half[None].clone()
    inside, count = 0.0, 0
    with torch.no_grad():
        while True:
            value = loop.value(AffineBounds.of_boxes(low, high))
            count += len(low)
            within, without = value.high <= rho, value.low > rho
            volumes = (high - low).prod(1)
            inside += float(volumes[within].sum())
            rest = ~(within | without)
            low, high = low[rest], high[rest]
            undecided = float(volumes[rest].sum())
            if undecided <= tolerance * inside or count + 2 * len(low) > max_boxes:
                # Sums of volumes round; by far less than this.
                return inside * (1.0 - 1e-9), (inside + undecided) * (1.0 + 1e-9)
            low, high = split(low, high, half)


def monte_carlo_volume(
    loop: ClosedLoop, rho: float, samples: int, *, seed: int = 0, delta: float = 1e-3
) -> tuple[float, float, float]:
    """Estimate of the volume of ``{x in B: V(x) <= rho}`` and its Clopper-Pearson interval."""
    with torch.no_grad():
        count = int((loop.value(loop.sample(samples, seed)) <= rho).sum())
    low, high = clopper_pearson_interval(count, samples, delta)
    return count / samples * loop.volume, low * loop.volume, high * loop.volume


class GridEstimate(NamedTuple):
    """Starts on a grid and whether they converged; empirical, proved for none of them."""

    states: FloatArray
    """``(cells^n, n)``: centres of the cells."""
    converged: NDArray[np.bool_]
    volume: float
    """Of the cells whose centre converged."""


def roa_grid(loop: ClosedLoop, cells: int = 200, steps: int = 400, tolerance: float = 1e-2) -> GridEstimate:
    """Roll out from the centres of a grid over ``B``.

    Parameters
    ----------
    cells
        A side; at most three states, ten million cells.
    steps
        Of each roll-out.
    tolerance
        How near 0 a roll-out must end, as a share of ``B`` in every state; it must not leave ``B`` before.
    """
    half = loop.half_widths
    if len(half) > 3 or cells ** len(half) > 10_000_000:
        raise UserError(f"a grid of {cells} cells a side over {len(half)} states is too large: use roa_sampling")
    sides = [(torch.arange(cells, dtype=torch.float64) + 0.5) * (2.0 * side / cells) - side for side in half]
    states = torch.cartesian_prod(*sides).reshape(-1, len(half))
    converged = _converges(loop, states, steps, tolerance)
    volume = float(converged.double().mean()) * loop.volume
    return GridEstimate(states.numpy(), converged.numpy(), volume)


class SampledLevel(NamedTuple):
    """A level below which no sampled start failed; empirical."""

    rho: float
    stable: int
    unstable: int


def roa_sampling(
    loop: ClosedLoop, samples: int = 20_000, *, steps: int = 400, tolerance: float = 1e-2, seed: int = 0
) -> SampledLevel:
    """``min(max V of starts that converge, min V of starts that fail)`` over uniform starts in ``B``.

    The samples that chose the level cannot also test it: see `rlstab.analysis.certificates.lyapunov.statistical`.

    Raises
    ------
    UserError
        Fewer than 50 starts fail, so that the level would say more of the box than of the loop.
    """
    states = loop.sample(samples, seed)
    converged = _converges(loop, states, steps, tolerance)
    with torch.no_grad():
        values = loop.value(states)
    unstable = int((~converged).sum())
    if unstable < 50:
        raise UserError(f"only {unstable} of {samples} starts fail, 50 are needed for a level: enlarge the box")
    if unstable == samples:
        return SampledLevel(0.0, 0, unstable)
    level = torch.minimum(values[converged].max(), values[~converged].min())
    return SampledLevel(float(level), samples - unstable, unstable)


class Bracket(NamedTuple):
    """Where bisection ended: ``proved`` at one level, not at the other."""

    proved: float
    """Largest level that was proved; 0 if none was."""
    failed: float
    """Smallest level that was not; infinite if all were."""
    calls: int


def roa_bisection(
    verify_level: Callable[[float], bool], low: float, high: float, *, relative: float = 1e-3, calls: int = 60
) -> Bracket:
    """Largest level that a function accepts, between ``low`` and ``high``.

    A proof at a level is one at every lower level too, as far as time-outs do not interfere; so what is returned as
    proved was accepted itself.

    Parameters
    ----------
    verify_level
        Says whether the claim is proved for this level.
    low, high
        Positive, ``low < high``; ``high`` is tried first.
    relative
        Width of the bracket at which to stop.
    calls
        After which to stop.
    """
    if not 0.0 < low < high:
        raise UserError(f"bisection needs 0 < low < high, got {low} and {high}")
    if verify_level(high):
        return Bracket(high, math.inf, 1)
    proved, failed, used = 0.0, high, 1
    if not verify_level(low):
        return Bracket(0.0, low, 2)
    proved, used = low, 2
    while failed - proved > relative * failed and used < calls:
        middle = math.sqrt(proved * failed) if failed > 4.0 * proved else 0.5 * (proved + failed)
        proved, failed = (middle, failed) if verify_level(middle) else (proved, middle)
        used += 1
    return Bracket(proved, failed, used)


def _converges(loop: ClosedLoop, states: Tensor, steps: int, tolerance: float) -> Tensor:
    """Whether roll-outs stay in ``B`` and end near 0, ``(k,)``."""
    alive = torch.ones(len(states), dtype=torch.bool)
    with torch.no_grad():
        for _ in range(steps):
            states = torch.where(alive[:, None], loop.step(states), states)
            alive &= loop.inside(states)
    return alive & (states.abs() <= tolerance * loop.half_widths).all(1)
