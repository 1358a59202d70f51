"""The car against tables made by independent code, and against what its geometry demands."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from rlstab.envs.hybrid.car import Car, error_rate, euler_step, linearisation, to_error, to_world
from rlstab.envs.hybrid.road import Road, random_road
from rlstab.envs.hybrid.system import HybridState
from rlstab.errors import UserError

X = np.array([[0.5, -0.3, 0.05, 0.4, 0.1, 0.2, -0.02]])
U = np.array([[0.7, -1.5]])


def _rate(x: np.ndarray, u: np.ndarray, mu: float, v: float, w: float) -> np.ndarray:
    return error_rate(x, u, np.full(len(x), mu), np.full(len(x), v), np.full(len(x), w))


@pytest.mark.parametrize(
    ("mu", "w", "drift", "by_acceleration", "after"),
    [
        (
            1.0,
            0.0,
            [0.366738, 0.831113, 0, 0, 0.2, 0.033942, 0.783862],
            [-0.390292, -0.000203],
            [0.503667, -0.291689, 0.057, 0.385, 0.102, 0.206194, -0.012158],
        ),
        (
            1.0,
            0.5,
            [0.216738, 0.581113, 0, 0, 0.2, -10.343556, 0.283862],
            [-0.495484, 0.061987],
            [0.502167, -0.294189, 0.057, 0.385, 0.102, 0.103997, -0.018091],
        ),
        (
            0.1,
            0.0,
            [0.366738, 0.831113, 0, 0, 0.2, 0.003394, -0.101614],
            [-0.039029, -0.000020],
            [0.503667, -0.291689, 0.057, 0.385, 0.102, 0.200619, -0.021016],
        ),
        (
            0.1,
            0.5,
            [0.216738, 0.581113, 0, 0, 0.2, -1.034356, -0.601614],
            [-0.049548, 0.006199],
            [0.502167, -0.294189, 0.057, 0.385, 0.102, 0.190400, -0.026109],
        ),
    ],
)
def test_the_dynamics_are_those_of_the_table(mu, w, drift, by_acceleration, after):
    np.testing.assert_allclose(_rate(X, 0.0 * U, mu, 10.0, w)[0], drift, atol=5.1e-7)
    accelerated = _rate(X, np.array([[0.0, 1.0]]), mu, 10.0, w) - _rate(X, 0.0 * U, mu, 10.0, w)
    np.testing.assert_allclose(accelerated[0, 5:], by_acceleration, atol=5.1e-7)
    stepped = euler_step(X, U, np.array([mu]), np.array([10.0]), np.array([w]))
    np.testing.assert_allclose(stepped[0], after, atol=5.1e-7)


def test_below_walking_speed_the_kinematic_model_holds():
    x = np.array([[0.0, 0.0, 0.2, -9.95, 0.1, 0.3, 0.05]])
    drift, steered, accelerated = (
        _rate(x, np.array([u]), 1.0, 10.0, 0.0)[0] for u in ((0.0, 0.0), (1.0, 0.0), (0.0, 1.0))
    )
    assert drift[4] == pytest.approx(0.003925, abs=5e-7)
    assert accelerated[5] - drift[5] == pytest.approx(0.078504671, abs=1e-9)
    assert accelerated[6] - drift[6] == 0.0
    assert steered[5] - drift[5] == pytest.approx(0.020048047, abs=1e-9)
    assert steered[6] - drift[6] == pytest.approx(0.567248269, abs=1e-9)


def test_the_linearisation_is_the_derivative_and_that_of_the_table():
    a, b = linearisation(1.0, 10.0)
    np.testing.assert_allclose(a[5, [2, 5]], [83.698816, -21.585195], atol=5e-7)
    np.testing.assert_allclose(a[6, [2, 5, 6]], [11.862916, -1.0, -21.503520], atol=5e-7)
    np.testing.assert_array_equal(a[1, [4, 6]], [10.0, 10.0])
    for mu, v in ((1.0, 10.0), (0.1, 27.0)):
        x = torch.zeros(7, dtype=torch.float64)
        u = torch.zeros(2, dtype=torch.float64)
        constants = [torch.tensor([value], dtype=torch.float64) for value in (mu, v, 0.0)]
        jacobians = torch.autograd.functional.jacobian(
            lambda x, u, constants=constants: error_rate(x[None], u[None], *constants)[0], (x, u)
        )
        for ours, theirs in zip(linearisation(mu, v), jacobians, strict=True):
            np.testing.assert_allclose(ours, np.asarray(theirs), atol=1e-12)
    with pytest.raises(UserError, match=r"at least 0.1 m/s, got 1.0 and 0.0"):
        linearisation(1.0, 0.0)
    assert b.sum() == 2.0


_ERRORS = st.lists(st.floats(-1.5, 1.5), min_size=7, max_size=7)


@given(_ERRORS, st.floats(-50, 50), st.floats(-50, 50), st.floats(-3.1, 3.1), st.floats(0.0, 30.0))
def test_world_and_error_are_inverse(errors, x, y, psi, v):
    reference, e = np.array([[x, y, psi, v]]), np.array([errors])
    np.testing.assert_allclose(to_error(to_world(e, reference), reference), e, atol=1e-9)


def _road() -> Road:
    return Road(np.array([[0.0, 0.0], [6.0, 0.0], [10.0, 4.0], [10.0, 12.0]]), np.array([1.0, 0.1, 1.0]))


@given(_ERRORS, st.floats(-1.0, 1.0), st.sampled_from(["reference", "bisector"]), st.sampled_from([0, 1]))
def test_a_reset_leaves_the_world_state_unchanged(errors, beyond, guard_at, piece):
    car, road = Car(3, guard_at), _road()
    x = np.array([[*errors, road.lengths[piece] + beyond]])
    state = HybridState(x, np.array([piece]), road.configuration([8.0, 5.0, 12.0])[None])
    after = car.reset(state, np.zeros(1, np.int64))
    np.testing.assert_allclose(car.world(after), car.world(state), atol=1e-9)
    assert after.mode[0] == piece + 1
    assert after.x[0, 7] == pytest.approx(beyond, abs=1e-12)


def test_pieces_end_where_they_should():
    road, origin = _road(), np.zeros(2, np.int64)
    for guard_at in ("reference", "bisector"):
        car = Car(3, guard_at)
        x = np.zeros((2, 8))
        x[:, 7], x[:, 1], x[1, 0] = 5.8, -0.3, 0.4
        state = HybridState(x, origin, np.tile(road.configuration(10.0), (2, 1)))
        stretch = car.until_event(state, np.zeros((2, 2)), 0.2)
        assert stretch.state.mode.tolist() == [1, 1]
        met = HybridState(stretch.events[-1].before, origin, state.configuration)
        assert car.distance_left(met)[0] == pytest.approx(0.0, abs=1e-12)
        if guard_at == "reference":
            np.testing.assert_allclose(stretch.elapsed, 0.02, atol=1e-12)
            continue
        line = [np.cos(np.pi / 8), np.sin(np.pi / 8)]
        assert (car.world(met)[0, :2] - road.points[1]) @ line == pytest.approx(0.0, abs=1e-9)
        # The other one was beyond it already.
        assert stretch.elapsed[1] == 0.0


def test_the_last_piece_goes_on():
    car = Car(1)
    state = HybridState(np.zeros((1, 8)), np.zeros(1, np.int64), np.array([[1.0, 10.0, 0.0, 2.0, 0.0, 0.0]]))
    stretch = car.advance(state, np.zeros((1, 2)), 1.0)
    assert stretch.count[0] == 0
    assert stretch.state.x[0, 7] == pytest.approx(10.0)
    assert np.abs(stretch.state.x[0, :7]).max() == 0.0


@given(st.integers(0, 2**31))
@settings(max_examples=15, deadline=None)
def test_a_batch_equals_its_worlds_alone(seed):
    rng = np.random.default_rng(seed)
    x, u = rng.uniform(-1.5, 1.5, (5, 7)), rng.uniform(-12.0, 12.0, (5, 2))
    constants = rng.uniform([0.1, 0.5, -0.2], [1.0, 30.0, 0.2], (5, 3)).T
    together = euler_step(x, u, *constants)
    for row in range(5):
        alone = euler_step(x[row : row + 1], u[row : row + 1], *(part[row : row + 1] for part in constants))
        np.testing.assert_allclose(together[row], alone[0], rtol=1e-13, atol=1e-13)


def test_gradients_are_those_of_finite_differences_through_steps_and_a_change_of_piece():
    car = Car(3, "bisector")
    configuration = torch.tensor(_road().configuration([8.0, 5.0, 12.0]))[None].repeat(2, 1)
    x = torch.zeros(2, 8, dtype=torch.float64)
    x[:, :7] = torch.tensor(X)
    x[:, 7] = torch.tensor([5.3, 2.0])
    u = torch.tensor([[0.7, -1.5], [-0.4, 2.0]], dtype=torch.float64)

    def after(x: torch.Tensor, u: torch.Tensor, configuration: torch.Tensor) -> torch.Tensor:
        return car.advance(HybridState(x, torch.zeros(2, dtype=torch.int64), configuration), u, 0.06).state.x

    inputs = tuple(tensor.clone().requires_grad_() for tensor in (x, u, configuration))
    assert torch.autograd.gradcheck(after, inputs, eps=1e-6, atol=2e-5, rtol=1e-4)
    slow = torch.tensor([[0.0, 0.0, 0.2, -9.95, 0.1, 0.3, 0.05]], dtype=torch.float64, requires_grad=True)
    constants = [torch.tensor([value], dtype=torch.float64) for value in (1.0, 10.0, 0.0)]
    assert torch.autograd.gradcheck(lambda x: error_rate(x, u[:1], *constants), (slow,))


def test_roads_have_the_frictions_lengths_and_turns_of_their_generator():
    road = random_road(np.random.default_rng(3))
    again = random_road(np.random.default_rng(3))
    np.testing.assert_array_equal(road.points, again.points)
    assert road.points.shape == (21, 2)
    assert set(np.round(road.lengths, 9)) <= {18.75, 7.5, 3.75}
    assert set(road.friction) <= {1.0, 0.1}
    np.testing.assert_array_equal(road.friction[1:-1:2], road.friction[2::2])
    np.testing.assert_allclose(road.headings[::2], road.headings[1::2], atol=1e-12)
    turns = np.abs(np.degrees(np.diff(road.headings[::2]))) % 360.0
    assert set(np.round(np.minimum(turns, 360.0 - turns), 6)) <= {45.0, 30.0, 15.0}


def test_what_makes_no_road_is_refused():
    with pytest.raises(UserError, match="at least one segment, not 0"):
        random_road(np.random.default_rng(0), 0)
    with pytest.raises(UserError, match="must drive forward, got -1 m/s"):
        _road().configuration(-1.0)
    with pytest.raises(UserError, match="guard_at is 'reference' or 'bisector', not 'knot'"):
        Car(2, "knot")


def test_pieces_are_the_same_in_numpy_and_torch():
    rng = np.random.default_rng(0)
    car = Car(4)
    x, mode, configuration = rng.normal(size=(5, 8)), np.array([0, 1, 3, 2, 3]), rng.uniform(1.0, 2.0, (5, 24))
    state = HybridState(x, mode, configuration)
    tensors = HybridState(*(torch.from_numpy(part) for part in (x, mode, configuration)))
    for ahead in (0, 1):
        assert np.array_equal(car.of_piece(state, ahead), car.of_piece(tensors, ahead).numpy())
    assert np.array_equal(car.of_piece(state, 1)[2], configuration[2, 18:])
