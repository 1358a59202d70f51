"""Feature networks: multilayer perceptron and the Atari convolutional network."""

from __future__ import annotations

import itertools
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from rlstab.errors import UserError

ACTIVATIONS: dict[str, type[nn.Module]] = {"tanh": nn.Tanh, "relu": nn.ReLU, "elu": nn.ELU, "silu": nn.SiLU}


SMALLEST_PICTURE = 36
"""Pixels of the shorter side that the three convolutions of `NatureCNN` need."""


class MLP(nn.Module):
    """Fully connected network with a linear last layer.

    Parameters
    ----------
    sizes
        Input, hidden and output widths.
    activation
        Name in `ACTIVATIONS`.
    output_gain
        Gain of the last layer's orthogonal initialisation; hidden layers use sqrt(2), biases start at zero (the
        initialisation of Stable-Baselines3's PPO).
    generator
        Source of the initial weights.
    """

    def __init__(self, sizes: Sequence[int], activation: str, output_gain: float, generator: torch.Generator) -> None:
        super().__init__()
        if activation not in ACTIVATIONS:
            message = f"unknown activation '{activation}': use one of {', '.join(ACTIVATIONS)}"
            raise UserError(message)
        self.activation = activation
        self.linears = nn.ModuleList(nn.Linear(a, b) for a, b in itertools.pairwise(sizes))
        self._activation = ACTIVATIONS[activation]()
        for linear in self.layers:
            orthogonal_(linear, 2**0.5, generator)
        orthogonal_(self.layers[-1], output_gain, generator)

    @property
    def layers(self) -> list[nn.Linear]:
        """The affine maps, from input to output."""
        return [linear for linear in self.linears if isinstance(linear, nn.Linear)]

    def forward(self, x: Tensor) -> Tensor:
        """``(..., sizes[0])`` to ``(..., sizes[-1])``, computed in the precision of ``x``."""
        *hidden, last = self.layers
        for linear in hidden:
            x = self._activation(_affine(linear, x))
        return _affine(last, x)


def _affine(linear: nn.Linear, x: Tensor) -> Tensor:
    return nn.functional.linear(x, linear.weight.to(x.dtype), linear.bias.to(x.dtype))


class NatureCNN(nn.Module):
    """Convolutional features of Mnih et al. (Nature, 2015), for ``(batch, channels, height, width)`` in 0 to 255."""

    def __init__(self, shape: tuple[int, int, int], features: int, generator: torch.Generator) -> None:
        super().__init__()
        channels, height, width = shape
        if min(height, width) < SMALLEST_PICTURE:
            least = f"{SMALLEST_PICTURE}x{SMALLEST_PICTURE}"
            message = f"images of {height}x{width} are too small for the convolutional policy (at least {least})"
            raise UserError(message)
        self.convolutions = nn.Sequential(
            nn.Conv2d(channels, 32, 8, stride=4), nn.ReLU(),
            nn.Conv2d(32, 64, 4, stride=2), nn.ReLU(),
            nn.Conv2d(64, 64, 3, stride=1), nn.ReLU(),
            nn.Flatten(),
        )  # fmt: skip
        with torch.no_grad():
            flat = self.convolutions(torch.zeros(1, *shape)).shape[1]
        self.linear = nn.Linear(flat, features)
        for layer in [*self.convolutions, self.linear]:
            if isinstance(layer, nn.Conv2d | nn.Linear):
                orthogonal_(layer, 2**0.5, generator)

    def forward(self, image: Tensor) -> Tensor:
        """``(batch, channels, height, width)`` to ``(batch, features)``."""
        return torch.relu(self.linear(self.convolutions(image / 255.0)))


def orthogonal_(layer: nn.Linear | nn.Conv2d, gain: float, generator: torch.Generator) -> None:
    """Orthogonal weights times ``gain``, zero bias."""
    nn.init.orthogonal_(layer.weight, gain, generator=generator)
    if layer.bias is not None:
        nn.init.zeros_(layer.bias)
