"""Model-predictive control by direct multiple shooting, with CasADi and IPOPT: the baseline that plans.

The problem is built once and warm-started from the plan before, moved on; ``rebuild`` builds it anew at every solve, as
published comparisons did, so that both costs can be told apart. Needs ``rlstab[mpc]``.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from rlstab.errors import UserError, pip_install

FloatArray = NDArray[np.float64]
Symbolic = Any
"""A CasADi matrix: a column vector."""


@dataclass(frozen=True, kw_only=True)
class MpcProblem:
    """What is planned: ``min sum_k stage(x_k, u_k, p) + terminal(x_N, p)``, ``x_{k+1} = step(x_k, u_k, p)``.

    Functions take and give CasADi columns.
    """

    step: Callable[[Symbolic, Symbolic, Symbolic], Symbolic]
    """Discrete dynamics."""
    stage: Callable[[Symbolic, Symbolic, Symbolic], Symbolic]
    """Cost of a step."""
    terminal: Callable[[Symbolic, Symbolic], Symbolic] | None = None
    """Cost of the last state; None: that of a step with zero control."""
    state_dim: int
    input_dim: int
    parameter_dim: int = 0
    """Size of ``p``, which is fixed over the horizon and may differ from solve to solve."""
    low: tuple[float, ...]
    """Lower limit of each control."""
    high: tuple[float, ...]
    """Upper limit of each control."""
    horizon: int
    """Steps that are planned."""

    def __post_init__(self) -> None:
        if min(self.state_dim, self.input_dim, self.horizon) < 1 or self.parameter_dim < 0:
            raise UserError("an MPC needs a state, a control and a horizon of at least one, and no negative parameters")
        if len(self.low) != self.input_dim or len(self.high) != self.input_dim:
            raise UserError(f"limits of the MPC must be {self.input_dim} numbers each")
        if not all(low <= high for low, high in zip(self.low, self.high, strict=True)):
            raise UserError("a lower limit of the MPC is above its upper one")


@dataclass(frozen=True)
class MpcPlan:
    """A plan."""

    controls: FloatArray
    """``(horizon, input_dim)``."""
    states: FloatArray
    """``(horizon + 1, state_dim)``; the first is the one that was given."""
    cost: float
    solved: bool
    """Whether IPOPT converged; otherwise this is where it stopped."""
    status: str
    """IPOPT's own word."""
    seconds: float
    """Wall time of this solve, the building included where the problem is rebuilt."""


@dataclass
class Mpc:
    """Plans from a state.

    Raises
    ------
    UserError
        CasADi is not installed.
    """

    problem: MpcProblem
    rebuild: bool = False
    """Build the problem anew at every solve: slow, and only there to be measured."""
    warm_start: bool = True
    """Begin from the plan before, moved on by one step."""
    tolerance: float = 1e-5
    """IPOPT's."""
    max_iterations: int = 1000
    build_seconds: float = field(default=0.0, init=False)
    """Wall time of the latest building."""

    def __post_init__(self) -> None:
        try:
            import casadi
        except ImportError as error:
            raise UserError(f"MPC needs '{error.name}': {pip_install('rlstab[mpc]')}") from error
        self._casadi: Any = casadi
        self._last: FloatArray | None = None
        self._build()

    def reset(self) -> None:
        """Forget the plan before."""
        self._last = None

    def plan(self, state: ArrayLike, parameter: ArrayLike = (), moved_on: int = 1) -> MpcPlan:
        """Plan from ``state (state_dim,)``.

        Parameters
        ----------
        state, parameter
            Where the plan begins, and ``p``.
        moved_on
            Steps since the plan before: by so many it is shifted to begin from.

        Raises
        ------
        UserError
            A size does not fit, or a number is not finite.
        """
        problem = self.problem
        state, parameter = np.asarray(state, np.float64), np.asarray(parameter, np.float64)
        for name, value, size in (("state", state, problem.state_dim), ("parameter", parameter, problem.parameter_dim)):
            if value.shape != (size,) or not np.isfinite(value).all():
                raise UserError(f"the MPC's {name} must be {size} finite numbers, got {value}")
        start = time.perf_counter()
        if self.rebuild:
            self._build()
        guess = self._guess(state, moved_on)
        bounds = {"lbx": self._bounds(problem.low, -np.inf), "ubx": self._bounds(problem.high, np.inf)}
        for bound in bounds.values():
            bound[: problem.state_dim] = state
        found = self._solver(x0=guess, p=parameter, lbg=0.0, ubg=0.0, **bounds)
        statistics = self._solver.stats()
        values = np.asarray(found["x"], np.float64)[:, 0]
        solved = bool(statistics["success"])
        self._last = values if solved else None
        states, controls = self._unpack(values)
        seconds = time.perf_counter() - start
        status = str(statistics["return_status"])
        return MpcPlan(controls, states, float(found["f"]), solved, status, seconds)

    def _build(self) -> None:
        start = time.perf_counter()
        casadi, problem = self._casadi, self.problem
        parameter = casadi.SX.sym("p", problem.parameter_dim)
        states = [casadi.SX.sym(f"x{k}", problem.state_dim) for k in range(problem.horizon + 1)]
        controls = [casadi.SX.sym(f"u{k}", problem.input_dim) for k in range(problem.horizon)]
        cost, gaps, variables = 0.0, [], [states[0]]
        for now, control, after in zip(states[:-1], controls, states[1:], strict=True):
            cost = cost + problem.stage(now, control, parameter)
            gaps.append(after - problem.step(now, control, parameter))
            variables += [control, after]
        if problem.terminal is None:
            cost = cost + problem.stage(states[-1], casadi.SX.zeros(problem.input_dim), parameter)
        else:
            cost = cost + problem.terminal(states[-1], parameter)
        nlp = {"x": casadi.vertcat(*variables), "p": parameter, "f": cost, "g": casadi.vertcat(*gaps)}
        ipopt = {"tol": self.tolerance, "max_iter": self.max_iterations, "print_level": 0, "sb": "yes"}
        if self.warm_start:
            ipopt |= {"warm_start_init_point": "yes"}
        self._solver: Any = casadi.nlpsol("plan", "ipopt", nlp, {"ipopt": ipopt, "print_time": False})
        self.build_seconds = time.perf_counter() - start

    def _guess(self, state: FloatArray, moved_on: int) -> FloatArray:
        problem = self.problem
        if self._last is None or not self.warm_start:
            guess = self._bounds((0.0,) * problem.input_dim, 0.0)
            states, _ = self._unpack(guess)
            states[:] = state
            return guess
        guess = self._last.copy()
        states, controls = self._unpack(guess)
        kept = max(problem.horizon - moved_on, 0)
        states[: kept + 1], controls[:kept] = states[-(kept + 1) :].copy(), controls[-kept:][:kept].copy()
        states[kept + 1 :], controls[kept:] = states[kept], controls[kept - 1] if kept else 0.0
        return guess

    def _bounds(self, control: tuple[float, ...], state: float) -> FloatArray:
        """Column of all variables with such values."""
        problem = self.problem
        pair = np.concatenate([np.asarray(control, np.float64), np.full(problem.state_dim, state)])
        return np.concatenate([np.full(problem.state_dim, state), np.tile(pair, problem.horizon)])

    def _unpack(self, values: FloatArray) -> tuple[FloatArray, FloatArray]:
        """View the column of all variables as states and controls."""
        problem = self.problem
        width = problem.input_dim + problem.state_dim
        later = values[problem.state_dim :].reshape(problem.horizon, width)
        # The first state and those that follow have the same distance: one strided view of both.
        states = np.lib.stride_tricks.as_strided(
            values, (problem.horizon + 1, problem.state_dim), (width * values.itemsize, values.itemsize)
        )
        return states, later[:, : problem.input_dim]
