from __future__ import annotations

import sys
from typing import Any

import numpy as np
import pytest
from scipy.linalg import solve_discrete_are

from rlstab.controllers.baselines.mpc import Mpc, MpcProblem
from rlstab.errors import UserError

A, B = np.array([[1.0, 0.1], [0.0, 1.0]]), np.array([[0.005], [0.1]])
P = solve_discrete_are(A, B, np.eye(2), np.eye(1))
GAIN = np.linalg.solve(np.eye(1) + B.T @ P @ B, B.T @ P @ A)


def double_integrator(limit: float = 100.0, horizon: int = 10, **changes: Any) -> MpcProblem:
    casadi = pytest.importorskip("casadi", reason="rlstab[mpc]")
    settings: dict[str, Any] = {
        "step": lambda x, u, p: casadi.mtimes(A, x) + casadi.mtimes(B, u),
        "stage": lambda x, u, p: casadi.sumsqr(x) + casadi.sumsqr(u),
        "terminal": lambda x, p: casadi.mtimes([x.T, P, x]),
        "state_dim": 2,
        "input_dim": 1,
        "low": (-limit,),
        "high": (limit,),
        "horizon": horizon,
    }
    return MpcProblem(**(settings | changes))


@pytest.mark.parametrize("rebuild", [False, True])
def test_without_limits_and_with_the_right_terminal_cost_it_is_the_linear_quadratic_regulator(rebuild: bool) -> None:
    mpc = Mpc(double_integrator(), rebuild=rebuild)
    for state in ([1.0, -0.5], [0.3, 2.0]):
        plan = mpc.plan(state)
        assert plan.solved
        np.testing.assert_allclose(plan.controls[0], -GAIN @ state, atol=1e-6)
        assert plan.cost == pytest.approx(np.array(state) @ P @ state, rel=1e-6)
        np.testing.assert_allclose(plan.states[0], state)
        for k in range(10):
            np.testing.assert_allclose(plan.states[k + 1], A @ plan.states[k] + B @ plan.controls[k], atol=1e-6)


def test_limits_hold_and_are_used() -> None:
    plan = Mpc(double_integrator(limit=0.2)).plan([2.0, 0.0])
    assert np.abs(plan.controls).max() <= 0.2 + 1e-6
    assert plan.controls[0] == pytest.approx(-0.2, abs=1e-4)


def test_the_plan_moved_on_is_where_the_next_one_begins() -> None:
    mpc, state = Mpc(double_integrator(limit=1.0, horizon=40)), np.array([2.0, 0.0])
    for _ in range(5):
        plan = mpc.plan(state)
        guess = mpc._guess(plan.states[1], 1)
        states, controls = mpc._unpack(guess)
        np.testing.assert_array_equal(states[:-1], plan.states[1:])
        np.testing.assert_array_equal(controls[:-1], plan.controls[1:])
        state = plan.states[1]
    mpc.reset()
    states, controls = mpc._unpack(mpc._guess(state, 1))
    assert (states == state).all()
    assert not controls.any()


def test_parameters_change_the_plan_without_building() -> None:
    casadi = pytest.importorskip("casadi")
    problem = double_integrator(
        parameter_dim=1,
        stage=lambda x, u, p: casadi.sumsqr(x - casadi.vertcat(p, 0)) + 0.01 * casadi.sumsqr(u),
        terminal=None,
        horizon=40,
    )
    mpc = Mpc(problem)
    built = mpc.build_seconds
    assert mpc.plan([0.0, 0.0], [1.0]).controls[0] > 0.5
    assert mpc.plan([0.0, 0.0], [-1.0]).controls[0] < -0.5
    assert mpc.build_seconds == built


def test_where_it_stopped_is_said() -> None:
    problem = double_integrator(limit=0.5, horizon=20)
    plan = Mpc(problem, max_iterations=1).plan([5.0, 0.0])
    assert not plan.solved
    assert "Iteration" in plan.status


@pytest.mark.parametrize(
    ("changes", "words"),
    [({"horizon": 0}, "horizon"), ({"low": (1.0, 2.0)}, "limits"), ({"low": (1.0,), "high": (0.0,)}, "above")],
)
def test_problems_without_sense_are_refused(changes: dict[str, Any], words: str) -> None:
    with pytest.raises(UserError, match=words):
        double_integrator(**changes)


@pytest.mark.parametrize(("state", "words"), [([1.0], "state"), ([np.nan, 0.0], "finite")])
def test_states_that_do_not_fit_are_refused(state: list[float], words: str) -> None:
    with pytest.raises(UserError, match=words):
        Mpc(double_integrator()).plan(state)


def test_without_casadi_it_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    problem = double_integrator()
    monkeypatch.setitem(sys.modules, "casadi", None)
    with pytest.raises(UserError, match=r"rlstab\[mpc\]"):
        Mpc(problem)
