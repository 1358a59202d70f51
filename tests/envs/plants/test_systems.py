"""Plants give the published numbers, keep their equilibrium, and refuse constants that make no sense."""

from __future__ import annotations

import math

import pytest
import torch

from rlstab.envs.plants import PLANTS, CartPole, InvertedPendulum, PathTracking, PlanarQuadrotor, Plant
from rlstab.errors import UserError


def _columns(*values: float) -> list[torch.Tensor]:
    return [torch.tensor(value, dtype=torch.float64) for value in values]


@pytest.mark.parametrize(
    ("plant", "state", "control", "expected"),
    [
        (InvertedPendulum(), (0.3, -0.5), (0.4,), (0.275, 0.3899053227)),
        (PathTracking(), (0.3, -0.2), (0.1,), (0.2801330669, -0.1994261292)),
    ],
    ids=["pendulum", "path"],
)
def test_one_step_is_as_published(plant: Plant, state, control, expected) -> None:
    following = plant.step(_columns(*state), _columns(*control))
    assert [float(value) for value in following] == pytest.approx(expected, abs=6e-11)


def test_accelerations_are_as_published() -> None:
    assert float(InvertedPendulum().rates(_columns(0.3, -0.5), _columns(0.4))[1]) == pytest.approx(17.798106454695)
    rates = PlanarQuadrotor().rates(_columns(0, 0, 0.2, 0, 0, 0), _columns(2.5, 2.4))
    assert [float(value) for value in rates[3:]] == pytest.approx(
        [-2.0030446932, 0.0713296943, 6.5274151436], abs=6e-11
    )


def test_positions_of_the_quadrotor_advance_by_the_mean_velocity() -> None:
    plant = PlanarQuadrotor()
    before = _columns(0.1, -0.2, 0.2, 1.0, -0.5, 0.3)
    after = plant.step(before, _columns(2.5, 2.4))
    for axis in range(3):
        mean = 0.5 * (before[axis + 3] + after[axis + 3])
        assert float(after[axis]) == pytest.approx(float(before[axis] + plant.dt * mean), abs=1e-14)


def test_the_cart_pole_obeys_newton() -> None:
    """Against the two equations of motion that the closed form solves."""
    plant, (x, v, th, w), u = CartPole(), (0.1, 0.2, 0.4, -0.7), 3.0
    _, ax, _, aw = (float(rate) for rate in plant.rates(_columns(x, v, th, w), _columns(u)))
    s, c = math.sin(th), math.cos(th)
    force = (plant.cart + plant.pole) * ax + plant.pole * plant.length * (aw * c - w**2 * s)
    assert force == pytest.approx(u, abs=1e-12)
    assert plant.length * aw + ax * c == pytest.approx(plant.gravity * s, abs=1e-12)


@pytest.mark.parametrize("name", sorted(PLANTS))
def test_the_origin_is_an_equilibrium(name: str) -> None:
    plant = PLANTS[name]()
    following = plant.step(_columns(*[0.0] * plant.state_size), _columns(*plant.equilibrium_control))
    assert max(abs(float(value)) for value in following) < 1e-15


def test_the_curvature_of_the_circle_is_bounded_as_stated() -> None:
    turn = PathTracking().turn
    assert turn.curvature == pytest.approx(0.4375)
    angle = torch.linspace(-7, 7, 20001, dtype=torch.float64, requires_grad=True)
    (first,) = torch.autograd.grad(turn(angle).sum(), angle, create_graph=True)
    (second,) = torch.autograd.grad(first.sum(), angle)
    assert torch.allclose(first, turn.slope(angle))
    assert 0.5 * turn.curvature < float(second.abs().max()) <= turn.curvature


@pytest.mark.parametrize("ratio", [1.1, 1.5, 2.0, 3.0])
def test_the_curvature_is_bounded_on_any_circle(ratio: float) -> None:
    turn = PathTracking(radius=2 * ratio).turn
    angle = torch.linspace(-4, 4, 40001, dtype=torch.float64, requires_grad=True)
    (second,) = torch.autograd.grad(turn.slope(angle).sum(), angle)
    assert float(second.abs().max()) <= turn.curvature


def test_constants_name_every_number() -> None:
    constants = InvertedPendulum(control_low=(-0.75,), control_high=(0.75,)).constants()
    assert constants["control_low/0"] == -0.75
    assert constants["mass"] == 0.15
    assert constants["box/1"] == 12.0


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: InvertedPendulum(mass=0.0), "mass must be positive"),
        (lambda: InvertedPendulum(box=(1.0,)), "box must be 2 positive half-widths"),
        (lambda: InvertedPendulum(control_low=(6.0,)), "control_low must be below"),
        (lambda: InvertedPendulum(control_low=(1.0, 2.0)), "control limits must have 1 entries"),
        (lambda: InvertedPendulum(dt=0.0), "dt must be positive"),
        (lambda: InvertedPendulum(gravity=float("nan")), "gravity must be finite"),
        (lambda: InvertedPendulum(control_high=(1e300,)), "control_high/0 must be 0 or of a size from 1e-09 to 1e"),
        (lambda: InvertedPendulum(mass=1e-200), "mass must be 0 or of a size"),
        (lambda: PathTracking(radius=1.0), "radius must be larger than speed"),
    ],
)
def test_constants_that_make_no_sense_are_refused(make, message: str) -> None:
    with pytest.raises(UserError, match=message):
        make()
