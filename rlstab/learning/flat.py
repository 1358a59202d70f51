"""Parameters and gradients of a network as two flat vectors: one optimiser kernel instead of one a tensor."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor, nn
from torch.optim.adam import adam

from rlstab.policies.tensors import to_array, to_tensor


class Optimizer(Protocol):
    """Moves flat parameters against their gradient."""

    def step(self, learning_rate: float) -> None:
        """Take one step."""
        ...

    def state_dict(self) -> dict[str, Any]:
        """Everything needed to continue."""
        ...

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restore what `state_dict` returned."""
        ...


class FlatParameters:
    """Moves parameters and their gradients into contiguous storage; each keeps its name, shape and autograd role.

    On small networks the optimiser and the gradient clip then cost a fraction of what they do on separate tensors.

    Parameters
    ----------
    parameters
        Floating-point parameters of one dtype on one device. Their ``data`` and ``grad`` become views.

    Attributes
    ----------
    vector
        All parameters, ``(size,)``.
    gradient
        Their gradients, ``(size,)``.
    pieces
        Where each parameter lies in both.
    """

    def __init__(self, parameters: Iterable[nn.Parameter]) -> None:
        self._parameters = list(parameters)
        flat = torch.cat([parameter.detach().flatten() for parameter in self._parameters])
        self.vector: Tensor = flat
        self.gradient: Tensor = torch.zeros_like(flat)
        offset = 0
        self.pieces: list[slice] = []
        for parameter in self._parameters:
            piece = slice(offset, offset + parameter.numel())
            parameter.data = flat[piece].view_as(parameter)
            parameter.grad = self.gradient[piece].view_as(parameter)
            self.pieces.append(piece)
            offset = piece.stop

    def clip_gradient(self, max_norm: float) -> Tensor:
        """Scale the gradient down to Euclidean norm ``max_norm`` if it is longer; returns the norm before."""
        norm = torch.linalg.vector_norm(self.gradient)
        self.gradient.mul_((max_norm / (norm + 1e-6)).clamp_(max=1.0))
        return norm


class FlatAdam:
    """Adam (Kingma and Ba 2015, arXiv:1412.6980) on flat parameters: torch's fused kernel without its bookkeeping.

    Parameters
    ----------
    parameters
        What to optimise.
    eps
        Added to the root of the second moment; 1e-5 as in Stable-Baselines3's PPO.
    weight_decay
        Share of the parameters, times the learning rate, that each step takes away: AdamW (arXiv:1711.05101).
    """

    def __init__(self, parameters: FlatParameters, eps: float = 1e-5, weight_decay: float = 0.0) -> None:
        self._parameters = parameters
        self._eps = eps
        self._weight_decay = weight_decay
        vector = parameters.vector
        self._mean = torch.zeros_like(vector)
        self._square = torch.zeros_like(vector)
        self._step = torch.zeros((), device=vector.device)

    @torch.no_grad()
    def step(self, learning_rate: float) -> None:
        """Move the parameters against their gradient."""
        if self._weight_decay:
            self._parameters.vector.mul_(1.0 - learning_rate * self._weight_decay)
        adam(
            [self._parameters.vector],
            [self._parameters.gradient],
            [self._mean],
            [self._square],
            [],
            [self._step],
            fused=True,
            amsgrad=False,
            beta1=0.9,
            beta2=0.999,
            lr=learning_rate,
            weight_decay=0.0,
            eps=self._eps,
            maximize=False,
        )

    def restart(self) -> None:
        """Forget the moments and count the steps anew."""
        for part in (self._mean, self._square, self._step):
            part.zero_()

    def state_dict(self) -> dict[str, Any]:
        """Moments and step count."""
        return {"mean": to_array(self._mean), "square": to_array(self._square), "step": float(self._step)}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restore what `state_dict` returned."""
        device = self._mean.device
        self._mean.copy_(to_tensor(np.asarray(state["mean"]), device))
        self._square.copy_(to_tensor(np.asarray(state["square"]), device))
        self._step.fill_(float(state["step"]))
