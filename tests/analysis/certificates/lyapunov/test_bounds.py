"""Bounds are never violated, and close enough to prove things with."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from rlstab.analysis.certificates.lyapunov.bounds import AffineBounds
from rlstab.analysis.certificates.lyapunov.loop import ClosedLoop
from rlstab.envs.plants import PLANTS, SmoothFunction
from rlstab.errors import UserError
from rlstab.policies.lyapunov import LyapunovNetwork, NetworkFeedback

BELL = SmoothFunction(lambda z: (-z.square()).exp(), lambda z: -2 * z * (-z.square()).exp(), 2.0)

FUNCTIONS = {
    "relu": lambda z: torch.relu(z),
    "leaky_relu": lambda z: nn.functional.leaky_relu(z, 0.1),
    "leaky_relu_of_torch": nn.LeakyReLU(),
    "clamp": lambda z: torch.clamp(z, -0.7, 1.1),
    "clamp_below": lambda z: z.clamp(min=0.3),
    "abs": lambda z: z.abs(),
    "square": lambda z: z.square(),
    "sin": lambda z: z.sin(),
    "cos": lambda z: z.cos(),
    "tanh": lambda z: z.tanh(),
    "smooth": BELL,
    "reciprocal": lambda z: 1.0 / (z.square() + 0.2),
    "affine": lambda z: 3.0 - 2.0 * z / 7.0 + z,
}


def _boxes(seed: int, count: int, n: int, size: float) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    centre = 4 * size * (torch.rand(count, n, generator=generator, dtype=torch.float64) - 0.5)
    radius = size * torch.rand(count, n, generator=generator, dtype=torch.float64) ** 3
    return centre - radius, centre + radius


def _violation(function, low: Tensor, high: Tensor, seed: int, samples: int = 200) -> float:
    """Largest amount by which samples, corners among them, leave the bounds."""
    generator = torch.Generator().manual_seed(seed)
    bounds = function(AffineBounds.of_boxes(low, high))
    share = torch.rand(samples, *low.shape, generator=generator, dtype=torch.float64)
    share[: samples // 4] = share[: samples // 4].round()
    x = low + share * (high - low)
    x = torch.minimum(torch.maximum(x, low), high)
    value = function(x.reshape(-1, low.shape[1])).reshape(samples, *bounds.shape)
    # As the bounds have them: of a box of a few units in the last place, half the width is not the radius.
    centre = 0.5 * (low + high)
    radius = torch.maximum(high - centre, centre - low).clamp(min=1e-300)
    ones = torch.ones(samples, len(low), 1, dtype=torch.float64)
    place = torch.cat([ones, (x - centre) / radius], 2)
    below, above = (torch.einsum("snk,k...n->s...n", place, lines) for lines in (bounds.lower, bounds.upper))
    value = value.movedim(1, -1)
    excess = torch.stack([below - value, value - above, bounds.low - value, value - bounds.high])
    return float((excess / (1e-3 + bounds.size)).max())


@pytest.mark.parametrize("name", sorted(FUNCTIONS))
@settings(max_examples=25)
@given(seed=st.integers(0, 10**6), size=st.sampled_from([1e-7, 1e-3, 0.1, 1.0, 5.0, 30.0]))
def test_no_sample_leaves_the_bounds_of_a_function(name: str, seed: int, size: float) -> None:
    low, high = _boxes(seed, 32, 2, size)

    def mixed(x):
        return FUNCTIONS[name](nn.functional.linear(x, torch.tensor([[1.0, 0.5], [-0.3, 2.0]], dtype=torch.float64)))

    assert _violation(FUNCTIONS[name], low, high, seed) <= 1e-12
    assert _violation(mixed, low, high, seed) <= 1e-12


@pytest.mark.parametrize("name", ["sin", "cos"])
@settings(max_examples=25)
@given(
    seed=st.integers(0, 10**6),
    size=st.sampled_from([1e4, 1e7, 1e8, 1e18, 1e100, 1e299]),
    share=st.sampled_from([1e-12, 1e-6, 1.0]),
)
def test_no_sample_leaves_the_bounds_far_out(name: str, seed: int, size: float, share: float) -> None:
    low, high = _boxes(seed, 32, 2, size)
    assert _violation(FUNCTIONS[name], low, low + share * (high - low), seed) <= 1e-12


@pytest.mark.parametrize("name", ["sin", "cos"])
@pytest.mark.parametrize(("start", "width"), [(1e18, 1e6), (1e100, 1e99), (-1e16, 2.0)])
def test_far_out_all_values_are_possible(name: str, start: float, width: float) -> None:
    low = torch.full((1, 1), start, dtype=torch.float64)
    bounds = FUNCTIONS[name](AffineBounds.of_boxes(low, low + width))
    assert float(bounds.low) <= -1.0
    assert float(bounds.high) >= 1.0


@settings(max_examples=25)
@given(seed=st.integers(0, 10**6), size=st.sampled_from([1e-5, 0.1, 1.0, 5.0]))
def test_no_sample_leaves_the_bounds_of_products_and_quotients(seed: int, size: float) -> None:
    def function(x):
        first, second = x.unbind(-1)
        ratio = (first * second - first.sin()) / (second.square() + 0.5)
        return torch.stack([ratio, first * first * second, 2.0 - ratio * second.tanh()], -1)

    low, high = _boxes(seed, 32, 2, size)
    assert _violation(function, low, high, seed) <= 1e-12


def _network(seed: int) -> nn.Module:
    torch.manual_seed(seed)
    layers = (
        nn.Linear(3, 16),
        nn.ReLU(),
        nn.Linear(16, 8),
        nn.LeakyReLU(0.1),
        nn.Linear(8, 4),
        nn.Hardtanh(),
        nn.Tanh(),
    )
    return nn.Sequential(*layers).double()


@settings(max_examples=10)
@given(seed=st.integers(0, 10**6), size=st.sampled_from([1e-4, 0.1, 1.0, 10.0]))
def test_no_sample_leaves_the_bounds_of_a_network(seed: int, size: float) -> None:
    low, high = _boxes(seed, 64, 3, size)
    with torch.no_grad():
        assert _violation(_network(seed), low, high, seed) <= 1e-12


@pytest.mark.parametrize("name", sorted(PLANTS))
@settings(max_examples=4)
@given(seed=st.integers(0, 10**6), size=st.sampled_from([1e-3, 0.1, 1.0]))
def test_no_step_of_a_closed_loop_leaves_the_bounds(name: str, seed: int, size: float) -> None:
    torch.manual_seed(seed)
    plant = PLANTS[name]()
    n = plant.state_size
    loop = ClosedLoop(plant, NetworkFeedback(n, plant.equilibrium_control), LyapunovNetwork(n))
    low, high = _boxes(seed, 16, n, 0.25 * size)
    low, high = low * loop.half_widths, high * loop.half_widths
    assert _violation(loop.step, low, high, seed) <= 1e-12
    assert _violation(lambda x: loop.value(loop.step(x)) - 0.9 * loop.value(x), low, high, seed) <= 1e-12


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["functions", "network"])
def test_no_sample_of_many_leaves_the_bounds(kind: str) -> None:
    def everything(x):
        return torch.stack([function(x[..., 0] - x[..., 1]) for function in FUNCTIONS.values()], -1)

    worst = 0.0
    for seed in range(100):
        low, high = _boxes(seed, 100, 3, [1e-3, 0.1, 1.0, 10.0][seed % 4])
        with torch.no_grad():
            function = everything if kind == "functions" else _network(seed)
            worst = max(worst, _violation(function, low, high, seed, samples=1000))
    assert worst <= 1e-12


@pytest.mark.parametrize("name", ["sin", "tanh", "square", "smooth", "cos"])
def test_bounds_of_smooth_functions_close_with_the_square_of_the_box(name: str) -> None:
    centre = torch.linspace(-2, 2, 41, dtype=torch.float64)[:, None]
    gaps = []
    for radius in (1e-1, 1e-2, 1e-3):
        bounds = FUNCTIONS[name](AffineBounds.of_boxes(centre - radius, centre + radius))
        gaps.append(float((bounds.upper[0] - bounds.lower[0]).max()))
    assert gaps[1] < gaps[0] / 50
    assert gaps[2] < gaps[1] / 50


def test_the_difference_of_equal_things_is_nearly_nothing() -> None:
    low, high = _boxes(0, 10, 2, 1.0)
    x = AffineBounds.of_boxes(low, high)
    weight = torch.randn(4, 2, dtype=torch.float64)
    difference = nn.functional.linear(x, weight) - nn.functional.linear(x, weight)
    assert float(difference.high.max()) < 1e-10


def test_a_tensor_and_bounds_combine_in_either_order() -> None:
    x = AffineBounds.of_boxes(torch.zeros(1, 2, dtype=torch.float64), torch.ones(1, 2, dtype=torch.float64))
    constant = torch.tensor([1.0, -2.0], dtype=torch.float64)
    assert torch.allclose((constant - x).low, torch.tensor([[0.0], [-3.0]], dtype=torch.float64))
    assert torch.allclose((constant * x).low, torch.tensor([[0.0], [-2.0]], dtype=torch.float64))
    assert torch.allclose((constant + x).high, torch.tensor([[2.0], [-1.0]], dtype=torch.float64))
    assert torch.allclose(
        (x @ torch.ones(2, 3, dtype=torch.float64)).high, torch.full((3, 1), 2.0, dtype=torch.float64)
    )


def test_what_has_no_bounds_is_said_in_one_line() -> None:
    x = AffineBounds.of_boxes(-torch.ones(1, 2, dtype=torch.float64), torch.ones(1, 2, dtype=torch.float64))
    with pytest.raises(UserError, match="no bounds are known for torch's exp"):
        torch.exp(x)
    with pytest.raises(UserError, match="divisor that is positive"):
        torch.reciprocal(x)
    with pytest.raises(UserError, match="last axis"):
        x.__getitem__(0)
    with pytest.raises(UserError, match="between 0 and 1"):
        x.leaky_relu(2.0)
    with pytest.raises(UserError, match="dim=-1"):
        x.sum(0)
