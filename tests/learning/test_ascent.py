from __future__ import annotations

import torch
from hypothesis import given
from hypothesis import strategies as st

from rlstab.learning.ascent import climb


@given(st.integers(0, 1000), st.floats(0.0, 2.0), st.integers(0, 8), st.floats(0.0, 3.0))
def test_the_best_change_stays_in_the_ball_and_beats_the_start(
    seed: int, radius: float, steps: int, step: float
) -> None:
    generator = torch.Generator().manual_seed(seed)
    start, weight = torch.randn(2, 4, 3, generator=generator, dtype=torch.float64)

    def value(change: torch.Tensor) -> torch.Tensor:
        return (torch.sin(3.0 * change) * weight).sum(-1)

    found = climb(value, start, radius, steps, step)
    assert not found.requires_grad
    assert float(found.abs().max()) <= radius
    assert (value(found) >= value(start.clamp(-radius, radius))).all()


@given(st.lists(st.floats(0.1, 5.0) | st.floats(-5.0, -0.1), min_size=1, max_size=5))
def test_of_a_linear_value_it_finds_the_corner(weight: list[float]) -> None:
    slope = torch.tensor(weight)
    found = climb(lambda change: change @ slope, torch.zeros(2, len(weight)), 0.5, 5, 0.1)
    torch.testing.assert_close(found, 0.5 * slope.sign().expand(2, -1))


def test_noise_can_turn_a_step() -> None:
    slope = torch.ones(1, 2)
    found = climb(
        lambda change: -(change - 9.0 * slope).square().sum(-1), slope, 4.0, 1, 1.0, lambda step: -1e3 * slope
    )
    torch.testing.assert_close(found, slope)
