"""Running normalisation of observations, inside the policy so that export and attacks see it."""

from __future__ import annotations

import torch
from torch import Tensor, nn


class RunningNormalizer(nn.Module):
    """``clip((x - mean) / sqrt(var + eps), -limit, limit)`` with statistics of everything seen so far.

    Statistics are merged batch by batch (Chan, Golub and LeVeque, 1979) in float64 and are part of the state dict.

    Parameters
    ----------
    dim
        Size of the last axis.
    limit
        Symmetric clip, in standard deviations.
    eps
        Added to the variance.
    """

    mean: Tensor
    var: Tensor
    count: Tensor

    def __init__(self, dim: int, limit: float = 10.0, eps: float = 1e-8) -> None:
        super().__init__()
        self.limit = limit
        self.eps = eps
        self.register_buffer("mean", torch.zeros(dim, dtype=torch.float64))
        self.register_buffer("var", torch.ones(dim, dtype=torch.float64))
        self.register_buffer("count", torch.tensor(1e-4, dtype=torch.float64))

    @torch.no_grad()
    def update(self, batch: Tensor) -> None:
        """Merge a batch, which may be empty; its trailing axes make up ``dim``."""
        rows = batch.reshape(-1, self.mean.shape[0]).double()
        if not len(rows):
            return
        var, mean = torch.var_mean(rows, dim=0, correction=0)
        total = self.count + rows.shape[0]
        delta = mean - self.mean
        squares = self.var * self.count + var * rows.shape[0] + delta.square() * self.count * rows.shape[0] / total
        self.mean += delta * (rows.shape[0] / total)
        self.var.copy_(squares / total)
        self.count.copy_(total)

    def forward(self, x: Tensor) -> Tensor:
        """Normalise float32 ``x (..., dim)``."""
        scale = torch.rsqrt(self.var + self.eps).to(x.dtype)
        return ((x - self.mean.to(x.dtype)) * scale).clamp(-self.limit, self.limit)
