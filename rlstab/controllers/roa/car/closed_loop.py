"""Where the car's networks are trained and measured: configurations, states, and closed loops within one mode."""

from __future__ import annotations

import math

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from rlstab.controllers.roa.learner import RollOut
from rlstab.envs.hybrid.car import euler_step
from rlstab.policies.roa.car import DOMAIN, FRICTIONS, SPEEDS, STARTS, CarModel, quadratic

DECREASE = 5e-4
"""Share of ``V`` that a step of 10 ms shall take away on average over `SPAN`. ``V`` is half the squared error still to
come, so that it falls by ``|x|^2 / 2`` a second and no faster: with the linear regulator at least 1.8e-3 a step on ice
at 5 m/s, and 5e-4 at 10 m/s."""
SPAN = 20
"""Steps over which ``V`` shall fall, wherever they begin: 0.2 s. Fast transients of wheel and slip make it rise by a
percent for a step or two, and asking for every single step makes levels far smaller. Between, the state may not
leave the domain."""
NEAR = 1e-3
"""``V`` below which it need not fall: 45 mm beside the reference, where single precision ends the fall."""
SLACK = DECREASE * NEAR
"""Rise of ``V`` over `SPAN` that is overlooked."""
STEPS = 100
"""Steps of 10 ms in a roll-out that a level is measured by."""

_CHUNK = 16_384


def draw_configurations(rng: np.random.Generator, count: int) -> Tensor:
    """Friction and speed ``(count, 2)``: dry, ice, or between, a half of each kind; speeds even on a log scale."""
    ends = rng.choice(FRICTIONS, count)
    between = _spread(rng, FRICTIONS, count)
    friction = np.where(rng.random(count) < 0.5, ends, between)
    speed = _spread(rng, SPEEDS, count)
    return torch.tensor(np.stack([friction, speed], 1), dtype=torch.float32)


def _spread(rng: np.random.Generator, limits: tuple[float, float], count: int) -> NDArray[np.float64]:
    low, high = np.log(limits)
    return np.exp(rng.uniform(low, high, count))


def draw_states(rng: np.random.Generator, count: int) -> Tensor:
    """States ``(count, 7)``, even over `STARTS`."""
    return torch.tensor(rng.uniform(-1.0, 1.0, (count, len(STARTS))) * STARTS, dtype=torch.float32)


def sample(rng: np.random.Generator, configurations: int, starts: int) -> tuple[Tensor, Tensor]:
    """See `rlstab.controllers.roa.learner.System.sample`."""
    drawn = draw_configurations(rng, configurations)
    return draw_states(rng, configurations * starts).reshape(configurations, starts, -1), drawn


def step(x: Tensor, control: Tensor, configuration: Tensor) -> Tensor:
    """State ``(n, 7)`` after 10 ms on a straight reference."""
    friction, speed = configuration.unbind(1)
    return euler_step(x, control, friction, speed, torch.zeros_like(speed))


@torch.no_grad()
def roll_out(model: CarModel, x: Tensor, configuration: Tensor, steps: int) -> RollOut:
    """See `rlstab.controllers.roa.learner.System.roll_out`. States outside the domain are not valid: ``V`` is infinite.

    The car moves in float64, the networks compute as they are deployed.
    """
    parts = [
        _roll_out(model, some, modes, steps)
        for some, modes in zip(x.split(_CHUNK), configuration.split(_CHUNK), strict=True)
    ]
    return RollOut(*(np.concatenate(arrays, 1) for arrays in zip(*parts, strict=True)))


def _roll_out(
    model: CarModel, x: Tensor, configuration: Tensor, steps: int
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    dtype, domain = model.starts.dtype, torch.tensor(DOMAIN, dtype=torch.float64, device=x.device)
    tuned, factor = model.tune(configuration), model.factor(configuration)
    state, exact = x.double(), configuration.double()
    values, states = [], []
    for index in range(steps + 1):
        rounded = state.to(dtype)
        value = quadratic(factor, rounded).double()
        values.append(value.where((state.abs() <= domain).all(1), math.inf).cpu().numpy())
        states.append(state.cpu().numpy())
        if index < steps:
            state = step(state, model.steer(rounded, tuned).double(), exact)
    return np.stack(values), np.stack(states)


def stable(values: NDArray[np.float64], decrease: float = DECREASE) -> NDArray[np.bool_]:
    """Which roll-outs count as stable: ``V`` fell over every `SPAN`, or began and ended near zero, in the domain.

    Parameters
    ----------
    values
        ``(steps + 1, ...)``; infinite outside the domain, which is not stable.
    decrease
        Share that each step of a span takes away, on average.

    References
    ----------
    Aeyels, Peuteman (1998). A new asymptotic stability criterion for nonlinear time-variant differential equations.
    IEEE TAC 43(7). Geiselhart, Gielen, Lazar, Wirth (2014). An alternative converse Lyapunov theorem for discrete-time
    systems. Systems & Control Letters 70: a function that falls over a fixed number of steps is as good as one that
    falls at each.
    """
    falls = (values[SPAN:] <= (1.0 - decrease) ** SPAN * values[:-SPAN] + SLACK).all(0)
    rests = (values[0] < NEAR) & (values[-1] < NEAR)
    return np.isfinite(values).all(0) & (falls | rests)
