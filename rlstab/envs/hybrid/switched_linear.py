"""Two stable linear modes whose switching makes them unstable, or not: what a hybrid checker must tell apart."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np

from rlstab.envs.hybrid.arrays import Array, choose, columns, namespace
from rlstab.envs.hybrid.system import HybridState, HybridSystem

SLOW_FIRST = np.array([[-0.1, 1.0], [-10.0, -0.1]])
"""A1, eigenvalues -0.1 +- 3.1623i: its ellipses are tall."""
FAST_FIRST = np.array([[-0.1, 10.0], [-1.0, -0.1]])
"""A2, the same eigenvalues: its ellipses are wide."""


class SwitchedLinear(HybridSystem):
    """``x' = A_mode x + u``, the mode being the sign of ``x1 x2``.

    Without control and with A1 where ``x1 x2 <= 0``, A2 elsewhere, the norm grows ``100 exp(-0.1 T)`` = 81.980-fold in
    each revolution of ``T = 2 pi / sqrt(10)`` = 1.98692 s, though both matrices are stable: a quarter turn stretches by
    ``sqrt(10)``. With the two exchanged it squeezes instead, and 0.0081980 of the norm is left.

    Parameters
    ----------
    stable
        Exchange the matrices.

    References
    ----------
    Branicky (1998). Multiple Lyapunov functions and other analysis tools for switched and hybrid systems. IEEE TAC 43.

    Examples
    --------
    >>> system = SwitchedLinear()
    >>> start = system.start(np.array([[1.0, 0.0]]))
    >>> stretch = system.advance(start, np.zeros((1, 2)), 2.0)
    >>> stretch.count.tolist()
    [4]
    """

    modes = ("opposite signs", "equal signs")
    guards = ("an axis from opposite signs", "an axis from equal signs")
    state_size = 2
    control_size = 2
    step_s = 0.01

    def __init__(self, *, stable: bool = False) -> None:
        self.stable = stable

    def start(self, x: Array) -> HybridState:
        """State ``(n, 2)`` in its mode; ``x1 x2 = 0`` counts as opposite signs."""
        xp = namespace(x)
        equal = x[:, 0] * x[:, 1] > 0.0
        return HybridState(x, xp.where(equal, 1, 0), x[:, :0])

    def flow(self, state: HybridState, control: Array) -> Array:
        """See `HybridSystem.flow`."""
        xp, x = namespace(state.x), state.x
        first, second = (FAST_FIRST, SLOW_FIRST) if self.stable else (SLOW_FIRST, FAST_FIRST)
        there = [x @ _like(xp, matrix.T.copy()) for matrix in (first, second)]
        return choose(state.mode == 0, there[0], there[1]) + control

    def guard(self, state: HybridState) -> Array:
        """See `HybridSystem.guard`: the product of the states, with the sign that makes it positive in the mode."""
        xp = namespace(state.x)
        product = state.x[:, 0] * state.x[:, 1]
        elsewhere = 1.0 + 0.0 * product
        return columns(xp.where(state.mode == 0, -product, elsewhere), xp.where(state.mode == 1, product, elsewhere))

    def reset(self, state: HybridState, guard: Array) -> HybridState:
        """See `HybridSystem.reset`: the state is continuous, the mode is the other one."""
        del guard
        return replace(state, mode=1 - state.mode)


def _like(xp: Any, matrix: np.ndarray) -> Array:
    return matrix if xp is np else xp.as_tensor(matrix)
