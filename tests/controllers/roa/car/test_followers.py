"""Regulators, networks, MPC and policies follow as they do on their own, whatever worlds drive beside them."""

from __future__ import annotations

import numpy as np
import pytest
import torch

import rlstab.envs
from rlstab.controllers.baselines.mpc import Mpc
from rlstab.controllers.roa.car.closed_loop import SPAN
from rlstab.controllers.roa.car.drive import drive
from rlstab.controllers.roa.car.followers import LqrFollower, NetworkFollower, PolicyFollower, QuadraticModes
from rlstab.controllers.roa.car.mpc import APPLIED, MpcFollower, mpc_problem
from rlstab.controllers.roa.car.references import ConstantSpeed
from rlstab.controllers.roa.car.watch import watch
from rlstab.envs.hybrid.car import euler_step
from rlstab.envs.hybrid.car_lqr import car_lqr
from rlstab.envs.hybrid.car_task import CarTracking
from rlstab.envs.hybrid.road import Road, random_road
from rlstab.envs.hybrid.system import HybridState
from rlstab.policies.roa.car import CarModel

# 8 m, a turn of 0.2 rad and friction that changes, 8 m.
ROAD = Road(np.array([[0.0, 0.0], [8.0, 0.0], [8.0 + 8.0 * np.cos(0.2), 8.0 * np.sin(0.2)]]), np.array([1.0, 0.1]))


@pytest.fixture
def model() -> CarModel:
    torch.manual_seed(0)
    return CarModel(hidden_sizes=(16,), state_sizes=(8,))


def state(errors: np.ndarray, roads: list[Road]) -> HybridState:
    x = np.concatenate([errors, np.zeros((len(errors), 1))], 1)
    return HybridState(x, np.zeros(len(errors), np.int64), np.stack([road.configuration(6.0) for road in roads]))


def test_regulators_use_their_modes_gains_or_one_modes() -> None:
    errors = np.random.default_rng(0).normal(0.0, 0.1, (2, 7))
    worlds, modes = np.arange(2), np.array([[1.0, 5.0], [0.1, 8.0]])
    aware, blind = LqrFollower(), LqrFollower(mode=(1.0, 10.0))
    for follower in (aware, blind):
        follower.begin(worlds, modes)
    found = aware.act(worlds, state(errors, [ROAD] * 2))
    for row, mode in enumerate(modes):
        np.testing.assert_allclose(found[row], -car_lqr(*mode).gain @ errors[row])
    np.testing.assert_allclose(blind.act(worlds, state(errors, [ROAD] * 2)), -errors @ car_lqr(1.0, 10.0).gain.T)
    aware.begin(worlds[1:], np.array([[1.0, 5.0]]))
    np.testing.assert_allclose(aware.act(worlds[1:], state(errors[1:], [ROAD]))[0], -car_lqr(1.0, 5.0).gain @ errors[1])


def test_networks_are_told_the_mode_of_each_world(model: CarModel) -> None:
    errors = np.random.default_rng(0).normal(0.0, 0.1, (3, 7))
    worlds, modes = np.arange(3), np.array([[1.0, 5.0], [0.1, 8.0], [0.1, 4.0]])
    follower = NetworkFollower(model)
    follower.begin(worlds, modes)
    follower.begin(worlds[2:], modes[:1])
    told = torch.tensor(modes[[0, 1, 0]], dtype=torch.float32)
    wanted = model.control(torch.tensor(errors, dtype=torch.float32), told).detach().numpy()
    np.testing.assert_allclose(follower.act(worlds, state(errors, [ROAD] * 3)), wanted, atol=1e-6)
    np.testing.assert_allclose(follower.act(worlds[1:], state(errors[1:], [ROAD] * 2)), wanted[1:], atol=1e-6)


def test_policies_are_shown_what_their_environment_observes() -> None:
    task = CarTracking()
    env = rlstab.envs.make_vec(task.id, 3)
    observation, _ = env.reset(seed=4)
    seen: list[np.ndarray] = []

    class Spy:
        def predict(self, observation: np.ndarray, **_: object) -> tuple[np.ndarray, None]:
            seen.append(observation)
            return np.zeros((len(observation), 2)), None

    states = [task.initial_state(None, np.random.default_rng(seed))[0] for seed in range(3)]
    from rlstab.envs.physics.hybrid_engine import unpack

    here = unpack(task.system, np.stack(states))
    PolicyFollower(Spy()).act(np.arange(3), here)  # pyright: ignore[reportArgumentType]
    assert seen[0].shape == observation.shape
    piece, following = task.system.of_piece(here), task.system.of_piece(here, 1)
    np.testing.assert_allclose(seen[0][:, [7, 9, 13, 15]], np.c_[piece[:, [1, 0]], following[:, [1, 0]]], rtol=1e-6)
    np.testing.assert_allclose(seen[0][:, 11], task.system.distance_left(here), rtol=1e-5)
    env.close()


@pytest.mark.parametrize("mode", [(1.0, 5.0), (0.1, 8.0)])
def test_mpc_plans_through_the_cars_own_dynamics(mode: tuple[float, float]) -> None:
    pytest.importorskip("casadi")
    x = np.array([0.1, 0.2, 0.02, 0.3, 0.1, 0.1, -0.02])
    plan = Mpc(mpc_problem(8)).plan(x, mode)
    assert plan.solved
    for before, control, after in zip(plan.states[:-1], plan.controls, plan.states[1:], strict=True):
        found = euler_step(before[None], control[None], *(np.array([value]) for value in (*mode, 0.0)))[0]
        # IPOPT's tolerance of the gap is 1e-5.
        np.testing.assert_allclose(found, after, atol=1e-5)
    assert np.abs(plan.controls).max() <= 8.0 + 1e-6


def test_mpc_drives_ten_steps_of_each_plan_and_plans_anew_at_switches() -> None:
    pytest.importorskip("casadi")
    follower = MpcFollower(Mpc(mpc_problem(30)))
    found = drive([ROAD], ConstantSpeed(6.0), follower)[0]
    steps = [int((found.piece == piece).sum()) for piece in range(2)]
    assert len(follower.solve_seconds) == sum(-(-number // APPLIED) for number in steps)
    assert follower.failed == 0
    # One that is far off is not planned for.
    follower.act(np.array([0]), state(np.full((1, 7), 1e4), [ROAD]))
    assert len(follower.solve_seconds) == sum(-(-number // APPLIED) for number in steps)


def test_functions_made_by_hand_are_the_regulators_and_know_no_level() -> None:
    factor = QuadraticModes(0.1).factor(torch.tensor([[0.1, 7.0]]))[0].double().numpy()
    np.testing.assert_allclose(factor.T @ factor, car_lqr(0.1, 7.0, control_weight=0.1).p, rtol=1e-4, atol=1e-4)
    assert QuadraticModes().level(torch.tensor([[1.0, 5.0]])).tolist() == [float("inf")]


def test_the_monitor_sees_every_mode_of_a_drive(model: CarModel) -> None:
    road = random_road(np.random.default_rng(1), segments=2)
    found = drive([road], ConstantSpeed(5.0), LqrFollower())[0]
    report = watch(model, found)
    assert len(report.modes) == 4
    spans = [(int((found.piece == piece).sum()) - 1) // SPAN for piece in range(4)]
    assert [mode.dwell for mode in report.modes] == spans
    first = found.errors[found.piece == 2][0]
    mode = torch.tensor([[road.friction[2], 5.0]], dtype=torch.float32)
    with torch.no_grad():
        value = model.value(torch.tensor(first[None], dtype=torch.float32), mode).item()
        assert report.modes[2].entered == pytest.approx(value, rel=1e-5)
        assert report.modes[2].level == pytest.approx(model.level(mode).item())
    assert watch(model, found, decrease=0.5).modes[2].first_rise is not None


def test_a_mode_that_begins_outside_the_starts_is_not_entered_inside(model: CarModel) -> None:
    found = drive([ROAD], ConstantSpeed(8.0), LqrFollower())[0]
    # It begins at 5 m/s: 3 m/s slower than its reference, and the level was measured from within 2.
    assert watch(model, found).modes[0].level == 0.0
    assert not watch(model, found).modes[0].inside
