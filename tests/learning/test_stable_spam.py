from __future__ import annotations

import numpy as np
import torch

from rlstab.learning.flat import FlatAdam, FlatParameters
from rlstab.learning.stable_spam import StableSpam


def parameters() -> FlatParameters:
    generator = torch.Generator().manual_seed(0)
    shapes = ((3, 2), (4,))
    return FlatParameters([torch.nn.Parameter(torch.randn(*shape, generator=generator)) for shape in shapes])


def gradients(count: int) -> list[torch.Tensor]:
    generator = torch.Generator().manual_seed(1)
    return [torch.randn(10, generator=generator) * (10.0 if step % 7 == 6 else 1.0) for step in range(count)]


class Reference:
    """Section 3 of the paper, a tensor at a time, in float64."""

    def __init__(self, size: int, g1: float = 0.7, g2: float = 0.9, g3: float = 0.999) -> None:
        self.g1, self.g2, self.g3 = g1, g2, g3
        self.peak = self.norm = self.square = 0.0
        self.t = 0

    def __call__(self, gradient: np.ndarray) -> np.ndarray:
        self.t += 1
        g = gradient.astype(np.float64)
        top = np.abs(g).max()
        self.peak = self.g3 * self.peak + (1 - self.g3) * top
        limit = self.peak / (1 - self.g3**self.t)
        g = np.where(np.abs(g) > limit, g / top * limit, g)
        n = np.linalg.norm(g)
        self.norm = self.g1 * self.norm + (1 - self.g1) * n
        self.square = self.g2 * self.square + (1 - self.g2) * n**2
        mean, square = self.norm / (1 - self.g1**self.t), self.square / (1 - self.g2**self.t)
        return g / n * mean / (np.sqrt(square) + 1e-6)


def test_gradients_are_tamed_as_the_paper_says() -> None:
    flat = parameters()
    optimizer = StableSpam(flat)
    references = [Reference(6), Reference(4)]
    for gradient in gradients(20):
        flat.gradient.copy_(gradient)
        optimizer._steps += 1
        optimizer._tame()
        expected = np.concatenate(
            [reference(gradient[piece].numpy()) for reference, piece in zip(references, flat.pieces, strict=True)]
        )
        np.testing.assert_allclose(flat.gradient.numpy(), expected, rtol=1e-4, atol=1e-6)


def test_adam_takes_the_steps_and_starts_anew_at_each_restart() -> None:
    flat, twin = parameters(), parameters()
    optimizer, adam = StableSpam(flat, restart=3), FlatAdam(twin)
    for step, gradient in enumerate(gradients(8)):
        flat.gradient.copy_(gradient)
        optimizer.step(1e-2)
        if step % 3 == 0:
            adam.restart()
        twin.gradient.copy_(flat.gradient)
        adam.step(1e-2)
        assert torch.equal(flat.vector, twin.vector)


def test_a_spike_moves_parameters_no_further_than_an_ordinary_gradient() -> None:
    flat = parameters()
    optimizer = StableSpam(flat)
    sizes = []
    for step in range(30):
        before = flat.vector.clone()
        flat.gradient.copy_(gradients(1)[0] * (1e6 if step == 20 else 1.0))
        optimizer.step(1e-2)
        sizes.append(float((flat.vector - before).norm()))
    assert max(sizes[20:]) < 1.5 * np.mean(sizes[10:20])


def test_a_tensor_without_gradient_stays() -> None:
    flat = parameters()
    before = flat.vector.clone()
    flat.gradient.zero_()
    flat.gradient[:6] = 1.0
    StableSpam(flat).step(1e-2)
    assert torch.equal(flat.vector[6:], before[6:])
    assert (flat.vector[:6] < before[:6]).all()


def test_decay_takes_a_share_of_the_weights_away() -> None:
    flat = parameters()
    before = flat.vector.clone()
    flat.gradient.zero_()
    FlatAdam(flat, weight_decay=0.5).step(0.1)
    torch.testing.assert_close(flat.vector, 0.95 * before)


def test_it_goes_on_from_its_state() -> None:
    flat, twin = parameters(), parameters()
    first, second = StableSpam(flat, restart=4), StableSpam(twin, restart=4)
    for gradient in gradients(6):
        flat.gradient.copy_(gradient)
        first.step(1e-2)
    second.load_state_dict(first.state_dict())
    twin.vector.copy_(flat.vector)
    for gradient in gradients(6):
        for parameters_, optimizer in ((flat, first), (twin, second)):
            parameters_.gradient.copy_(gradient)
            optimizer.step(1e-2)
    assert torch.equal(flat.vector, twin.vector)
