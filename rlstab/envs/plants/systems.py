"""The benchmarks of the literature on certified neural control, with the constants of the published code."""

from __future__ import annotations

import functools
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

from rlstab.envs.plants.plant import Plant, Quantity, SmoothFunction
from rlstab.errors import UserError


def _positive(plant: Plant, *names: str) -> None:
    for name in names:
        if not getattr(plant, name) > 0.0:
            raise UserError(f"{plant.id}: {name} must be positive, got {getattr(plant, name)}")


@dataclass(frozen=True, kw_only=True)
class InvertedPendulum(Plant):
    """``theta'' = (g/l) sin theta - b/(m l^2) theta' + u/(m l^2)``, upright at 0.

    References
    ----------
    Yang et al. (2024). Lyapunov-stable neural control for state and output feedback. ICML; arXiv:2404.07956.
    """

    id: ClassVar[str] = "inverted-pendulum"
    state_names: ClassVar[tuple[str, ...]] = ("theta", "theta_dot")
    state_units: ClassVar[tuple[str, ...]] = ("rad", "rad/s")
    control_names: ClassVar[tuple[str, ...]] = ("torque",)

    mass: float = 0.15
    """kg."""
    length: float = 0.5
    """m."""
    damping: float = 0.1
    """N m s."""
    gravity: float = 9.81
    """m/s^2."""
    box: tuple[float, ...] = (12.0, 12.0)
    control_low: tuple[float, ...] = (-6.0,)
    """N m; the harder variant has 0.75."""
    control_high: tuple[float, ...] = (6.0,)
    dt: float = 0.05

    def __post_init__(self) -> None:
        super().__post_init__()
        _positive(self, "mass", "length")

    def rates(self, state: Sequence[Quantity], control: Sequence[Quantity]) -> tuple[Quantity, ...]:
        """See the class."""
        (theta, rate), (torque,) = state, control
        inertia = self.mass * self.length**2
        pull = (self.gravity / self.length) * theta.sin()
        return rate, pull - (self.damping / inertia) * rate + (1.0 / inertia) * torque


@dataclass(frozen=True, kw_only=True)
class PathTracking(Plant):
    """A kinematic bicycle on a circle: ``d' = v sin e``, ``e' = v u / wheelbase - cos e / (R/v - sin e)``.

    The distance to the circle does not enter the heading's rate in the published model; it is kept as published.

    References
    ----------
    Chang, Roohi, Gao (2019). Neural Lyapunov control. NeurIPS; arXiv:2005.00611. Yang et al. (2024), arXiv:2404.07956.
    """

    id: ClassVar[str] = "path-tracking"
    state_names: ClassVar[tuple[str, ...]] = ("distance", "heading")
    state_units: ClassVar[tuple[str, ...]] = ("m", "rad")
    control_names: ClassVar[tuple[str, ...]] = ("steering",)

    speed: float = 2.0
    """m/s."""
    wheelbase: float = 1.0
    """m."""
    radius: float = 10.0
    """Of the circle, m; more than the distance that is gone in a second."""
    box: tuple[float, ...] = (3.0, 3.0)
    control_low: tuple[float, ...] = (-0.84,)
    """Tangent of the steering angle; the harder variant has 0.5."""
    control_high: tuple[float, ...] = (0.84,)
    dt: float = 0.05

    def __post_init__(self) -> None:
        super().__post_init__()
        _positive(self, "speed", "wheelbase", "radius")
        if self.radius <= self.speed:
            raise UserError(f"{self.id}: radius must be larger than speed, got {self.radius} and {self.speed}")

    @property
    def equilibrium_control(self) -> tuple[float, ...]:
        """The circle's curvature in units of the wheelbase."""
        return (self.wheelbase / self.radius,)

    @functools.cached_property
    def turn(self) -> SmoothFunction:
        """``h(e) = cos e / (a - sin e)`` with ``a = R/v > 1``.

        ``h' = (1 - a sin e)/(a - sin e)^2`` and ``h'' = -cos e (a^2 - 2 + a sin e)/(a - sin e)^3``. So
        ``|h''| <= (a^2 - 2 + a)/(a - 1)^3`` for ``a >= 2``; for ``a = 5`` that is 0.4375.
        """
        ratio = self.radius / self.speed
        curvature = max(abs(ratio**2 - 2.0 + ratio), abs(ratio**2 - 2.0 - ratio)) / (ratio - 1.0) ** 3

        def value(heading: Quantity) -> Quantity:
            return heading.cos() / (ratio - heading.sin())

        def slope(heading: Quantity) -> Quantity:
            return (1.0 - ratio * heading.sin()) / (ratio - heading.sin()).square()

        return SmoothFunction(value, slope, curvature * (1.0 + 1e-12))

    def rates(self, state: Sequence[Quantity], control: Sequence[Quantity]) -> tuple[Quantity, ...]:
        """See the class."""
        (_, heading), (steering,) = state, control
        return self.speed * heading.sin(), (self.speed / self.wheelbase) * steering - self.turn(heading)


@dataclass(frozen=True, kw_only=True)
class PlanarQuadrotor(Plant):
    """``x'' = -sin th (u1+u2)/m``, ``z'' = cos th (u1+u2)/m - g``, ``th'' = (l/I)(u1-u2)``.

    Velocities advance by Euler's method, positions by the mean of the old and the new velocity, as published.

    References
    ----------
    Dai et al. (2021), arXiv:2109.14152; Yang et al. (2024), arXiv:2404.07956.
    """

    id: ClassVar[str] = "planar-quadrotor"
    state_names: ClassVar[tuple[str, ...]] = ("x", "z", "theta", "x_dot", "z_dot", "theta_dot")
    state_units: ClassVar[tuple[str, ...]] = ("m", "m", "rad", "m/s", "m/s", "rad/s")
    control_names: ClassVar[tuple[str, ...]] = ("left", "right")

    mass: float = 0.486
    """kg."""
    length: float = 0.25
    """Of an arm, m."""
    inertia: float = 0.00383
    """kg m^2."""
    gravity: float = 9.81
    """m/s^2."""
    box: tuple[float, ...] = (0.75, 0.75, math.pi / 2, 4.0, 4.0, 3.0)
    control_low: tuple[float, ...] = (0.0, 0.0)
    control_high: tuple[float, ...] = (1.25 * 0.486 * 9.81, 1.25 * 0.486 * 9.81)
    """N, of each rotor."""
    dt: float = 0.05

    def __post_init__(self) -> None:
        super().__post_init__()
        _positive(self, "mass", "length", "inertia")

    @property
    def equilibrium_control(self) -> tuple[float, ...]:
        """Half the weight on each rotor."""
        return (0.5 * self.mass * self.gravity,) * 2

    def rates(self, state: Sequence[Quantity], control: Sequence[Quantity]) -> tuple[Quantity, ...]:
        """See the class."""
        theta, (left, right) = state[2], control
        thrust = (1.0 / self.mass) * (left + right)
        turning = (self.length / self.inertia) * (left - right)
        return (*state[3:], -(theta.sin() * thrust), theta.cos() * thrust - self.gravity, turning)

    def step(self, state: Sequence[Quantity], control: Sequence[Quantity]) -> tuple[Quantity, ...]:
        """See the class."""
        rates = self.rates(state, control)
        positions = tuple(state[i] + self.dt * state[i + 3] + (0.5 * self.dt**2) * rates[i + 3] for i in range(3))
        return (*positions, *(state[i] + self.dt * rates[i] for i in range(3, 6)))


@dataclass(frozen=True, kw_only=True)
class CartPole(Plant):
    """A cart under a pole whose mass is at its end, upright at 0.

    ``th'' = (-u c - mp l th'^2 c s + (mc+mp) g s)/(l (mc + mp s^2))``,
    ``x'' = (u + mp s (l th'^2 - g c))/(mc + mp s^2)``.

    References
    ----------
    Wu et al. (2023). Neural Lyapunov control for discrete-time systems. NeurIPS; arXiv:2305.06547.
    """

    id: ClassVar[str] = "cart-pole"
    state_names: ClassVar[tuple[str, ...]] = ("x", "x_dot", "theta", "theta_dot")
    state_units: ClassVar[tuple[str, ...]] = ("m", "m/s", "rad", "rad/s")
    control_names: ClassVar[tuple[str, ...]] = ("force",)

    cart: float = 1.0
    """kg."""
    pole: float = 0.1
    """kg."""
    length: float = 1.0
    """m."""
    gravity: float = 9.8
    """m/s^2."""
    box: tuple[float, ...] = (1.0, 1.0, 1.0, 1.0)
    control_low: tuple[float, ...] = (-30.0,)
    """N."""
    control_high: tuple[float, ...] = (30.0,)
    dt: float = 0.05

    def __post_init__(self) -> None:
        super().__post_init__()
        _positive(self, "cart", "pole", "length")

    def rates(self, state: Sequence[Quantity], control: Sequence[Quantity]) -> tuple[Quantity, ...]:
        """See the class."""
        (_, x_rate, theta, rate), (force,) = state, control
        sine, cosine = theta.sin(), theta.cos()
        mass = self.cart + self.pole * sine.square()
        swing = (self.pole * self.length) * (rate.square() * sine)
        # c s = sin(2 theta)/2: one function instead of a product of two.
        both = 0.5 * (2.0 * theta).sin()
        falling = ((self.cart + self.pole) * self.gravity) * sine - cosine * (force + swing)
        pushed = force + swing - (self.pole * self.gravity) * both
        return x_rate, pushed / mass, rate, (1.0 / self.length) * (falling / mass)


PLANTS: dict[str, type[Plant]] = {
    plant.id: plant for plant in (InvertedPendulum, PathTracking, PlanarQuadrotor, CartPole)
}
"""Name to class."""
