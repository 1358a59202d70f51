"""Spectral norms as parameters of their own: ``W`` is replaced by ``gamma W / sigma(W)``.

Zhai et al. 2023, "Stabilizing Transformer Training by Preventing Attention Entropy Collapse", arXiv:2303.06296.
"""

from __future__ import annotations

from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize


class SigmaReparam(nn.Module):
    """``gamma W / sigma(W)``, where ``sigma = u^T W v`` follows ``W`` by power iteration.

    The gradient flows through ``sigma`` with ``u`` and ``v`` held fixed. They only move in `power_step`, so that
    between two gradient steps the network is one and the same function.

    Parameters
    ----------
    weight
        ``(outputs, inputs)``, whose spectral norm ``gamma`` begins with: at first nothing changes.
    """

    u: Tensor
    v: Tensor

    def __init__(self, weight: Tensor) -> None:
        super().__init__()
        left, values, right = torch.linalg.svd(weight.detach().float(), full_matrices=False)
        self.register_buffer("u", left[:, 0].clone())
        self.register_buffer("v", right[0].clone())
        self.gamma = nn.Parameter(values[0].clone())

    def forward(self, weight: Tensor) -> Tensor:
        """Weight ``(outputs, inputs)`` to the matrix that is used."""
        return weight * (self.gamma / torch.dot(self.u, weight @ self.v))

    @torch.no_grad()
    def power_step(self, weight: Tensor) -> None:
        """Turn ``u`` and ``v`` towards the leading singular vectors."""
        self.u.copy_(nn.functional.normalize(weight @ self.v, dim=0))
        self.v.copy_(nn.functional.normalize(weight.T @ self.u, dim=0))


def apply_sigma_reparam(module: nn.Module) -> None:
    """Reparametrise every linear layer inside ``module``."""
    for part in list(module.modules()):
        if isinstance(part, nn.Linear):
            parametrize.register_parametrization(part, "weight", SigmaReparam(part.weight))


def power_step(module: nn.Module) -> None:
    """One power iteration for every layer that `apply_sigma_reparam` changed; call it after each gradient step."""
    for part in module.modules():
        for step in _reparametrisations(part):
            step.power_step(trained_weight(part))


def trained_weight(linear: nn.Module) -> Tensor:
    """Parameter behind the weight of a linear layer, ``(outputs, inputs)``."""
    if parametrize.is_parametrized(linear, "weight"):
        return _chain(linear).original
    assert isinstance(linear, nn.Linear)
    return linear.weight


def _reparametrisations(part: nn.Module) -> list[SigmaReparam]:
    if not parametrize.is_parametrized(part, "weight"):
        return []
    return [step for step in _chain(part) if isinstance(step, SigmaReparam)]


def _chain(part: nn.Module) -> Any:
    # Torch declares these lists as tensors or modules.
    return cast("Any", part.parametrizations)["weight"]
