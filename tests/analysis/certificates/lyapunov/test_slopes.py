"""No slope between two states of a box leaves the interval Jacobian of the box."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from rlstab.analysis.certificates.lyapunov.loop import ClosedLoop
from rlstab.analysis.certificates.lyapunov.slopes import SlopeBounds
from rlstab.envs.plants import PLANTS, SmoothFunction
from rlstab.policies.lyapunov import LyapunovNetwork, NetworkFeedback

BELL = SmoothFunction(lambda z: (-z.square()).exp(), lambda z: -2 * z * (-z.square()).exp(), 2.0)


def _mixture(x: torch.Tensor) -> torch.Tensor:
    a, b = x.unbind(-1)
    pieces = [
        a * b - a.sin(),
        (a - b).abs() + torch.nn.functional.leaky_relu(b, 0.1),
        a.square() / (b.square() + 0.3),
        torch.tanh(2.0 * a) * b.cos(),
        torch.clamp(a + b, -0.5, 0.8) + BELL(a),
    ]
    return torch.stack(pieces, -1)


@settings(max_examples=40)
@given(seed=st.integers(0, 10**6), size=st.sampled_from([1e-3, 0.1, 1.0, 4.0]))
def test_jacobians_are_within_the_interval(seed: int, size: float) -> None:
    generator = torch.Generator().manual_seed(seed)
    centre = 4 * (torch.rand(8, 2, generator=generator, dtype=torch.float64) - 0.5)
    radius = size * torch.rand(8, 2, generator=generator, dtype=torch.float64)
    low, high = _mixture(SlopeBounds.of_boxes(centre - radius, centre + radius)).jacobian()
    for _ in range(5):
        x = centre + radius * (2 * torch.rand(8, 2, generator=generator, dtype=torch.float64) - 1)
        exact = torch.func.vmap(torch.func.jacrev(_mixture))(x)
        assert bool(((low <= exact + 1e-9) & (exact - 1e-9 <= high)).all())


@pytest.mark.parametrize("name", sorted(PLANTS))
def test_plants_and_networks_have_slopes(name: str) -> None:
    torch.manual_seed(0)
    plant = PLANTS[name]()
    size = plant.state_size
    loop = ClosedLoop(plant, NetworkFeedback(size, plant.equilibrium_control), LyapunovNetwork(size))
    x, y = 0.1 * loop.sample(500, 0), 0.1 * loop.sample(500, 1)
    half = 0.1 * loop.half_widths[None]
    low, high = (ends[0] for ends in loop.step(SlopeBounds.of_boxes(-half, half)).jacobian())
    # F(x) - F(y) is within the interval matrix times x - y.
    change = (x - y)[:, None]
    products = torch.stack([low * change, high * change])
    difference = loop.step(x) - loop.step(y)
    assert bool((difference <= products.amax(0).sum(-1) + 1e-9).all())
    assert bool((difference >= products.amin(0).sum(-1) - 1e-9).all())


def test_a_linear_map_has_its_matrix_as_slopes() -> None:
    weight = torch.randn(3, 2, dtype=torch.float64)
    box = torch.ones(1, 2, dtype=torch.float64)
    low, high = torch.nn.functional.linear(SlopeBounds.of_boxes(-box, box), weight).jacobian()
    assert torch.allclose(low[0], weight)
    assert torch.allclose(high[0], weight)
