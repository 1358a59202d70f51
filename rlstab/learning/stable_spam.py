"""Adam behind clips that know each tensor's own history: Stable-SPAM."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch

from rlstab.learning.flat import FlatAdam, FlatParameters
from rlstab.policies.tensors import to_array, to_tensor


class StableSpam:
    """Adam on gradients whose spikes are cut and whose norms are brought back to their running mean, tensor by tensor.

    Of each tensor's gradient, entries above the running mean of its largest entry are scaled down to it; then the whole
    gets the running mean of its norm, divided by the running root mean square of it. Every ``restart`` steps Adam's
    moments are forgotten. Do not clip the global norm as well: it is already set.

    Parameters
    ----------
    parameters
        What to optimise.
    eps, weight_decay
        See `FlatAdam`.
    norm_decay, norm_square_decay, peak_decay
        ``gamma_1``, ``gamma_2`` and ``gamma_3`` of the paper.
    restart
        Steps between two restarts.

    References
    ----------
    Huang et al. 2025, "Stable-SPAM: How to Train in 4-Bit More Stably than 16-Bit Adam", arXiv:2502.17055.
    """

    def __init__(
        self,
        parameters: FlatParameters,
        eps: float = 1e-5,
        weight_decay: float = 0.0,
        *,
        norm_decay: float = 0.7,
        norm_square_decay: float = 0.9,
        peak_decay: float = 0.999,
        restart: int = 1000,
    ) -> None:
        self._parameters = parameters
        self._adam = FlatAdam(parameters, eps, weight_decay)
        self._decays = (norm_decay, norm_square_decay, peak_decay)
        self._restart = restart
        self._steps = 0
        device = parameters.vector.device
        sizes = torch.tensor([piece.stop - piece.start for piece in parameters.pieces], device=device)
        # The tensor that each entry of the flat vector belongs to: all are treated in a few operations.
        self._owner = torch.repeat_interleave(torch.arange(len(sizes), device=device), sizes)
        self._norm = torch.zeros(len(sizes), device=device)
        self._norm_square = torch.zeros(len(sizes), device=device)
        self._peak = torch.zeros(len(sizes), device=device)

    @torch.no_grad()
    def step(self, learning_rate: float) -> None:
        """Change the gradient in place and move the parameters against it."""
        if self._steps and self._steps % self._restart == 0:
            self._adam.restart()
        self._steps += 1
        self._tame()
        self._adam.step(learning_rate)

    def _tame(self) -> None:
        gradient, owner = self._parameters.gradient, self._owner
        norm_decay, norm_square_decay, peak_decay = self._decays
        size = gradient.abs()
        peak = torch.zeros_like(self._peak).scatter_reduce_(0, owner, size, "amax")
        self._peak.lerp_(peak, 1.0 - peak_decay)
        limit = self._peak / (1.0 - peak_decay**self._steps)
        scale = torch.where(peak > 0, limit / peak, 1.0)
        gradient.mul_(torch.where(size > limit[owner], scale[owner], 1.0))

        norm = torch.zeros_like(self._norm).index_add_(0, owner, gradient.square()).sqrt_()
        self._norm.lerp_(norm, 1.0 - norm_decay)
        self._norm_square.lerp_(norm.square(), 1.0 - norm_square_decay)
        mean = self._norm / (1.0 - norm_decay**self._steps)
        root = (self._norm_square / (1.0 - norm_square_decay**self._steps)).sqrt()
        # A tensor without gradient stays without.
        gradient.mul_(torch.where(norm > 0, mean / (root + 1e-6) / norm, 0.0)[owner])

    def state_dict(self) -> dict[str, Any]:
        """Moments, running means and step count."""
        running = {"norm": self._norm, "norm_square": self._norm_square, "peak": self._peak}
        arrays = {name: to_array(value) for name, value in running.items()}
        return {"adam": self._adam.state_dict(), "steps": self._steps, **arrays}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restore what `state_dict` returned."""
        self._adam.load_state_dict(state["adam"])
        self._steps = int(state["steps"])
        for name, value in {"norm": self._norm, "norm_square": self._norm_square, "peak": self._peak}.items():
            value.copy_(to_tensor(np.asarray(state[name]), value.device))
