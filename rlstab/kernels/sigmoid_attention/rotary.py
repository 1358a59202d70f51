"""Rotary positions: queries and keys turned by the number of their step (arXiv:2104.09864)."""

from __future__ import annotations

import math

import torch
from torch import Tensor

_ROTARY_BASE = 10_000.0


def turned(x: Tensor, angles: Tensor) -> Tensor:
    """Turn ``(B, T, heads, d)`` by ``(B or 1, T, d / 2)`` angles, in single precision at least.

    Cosine and sine are of the angle as it is: rounded to half precision before, it would be off by up to 0.016, and
    scores would depend on more than differences between steps.
    """
    angles = angles.to(torch.promote_types(x.dtype, torch.float32))[..., None, :]
    cosine, sine = angles.cos(), angles.sin()
    first, second = x.chunk(2, dim=3)
    return torch.cat([first * cosine - second * sine, first * sine + second * cosine], dim=3)


def rotary_angles(steps: Tensor, head_dim: int) -> Tensor:
    """Angles ``(..., head_dim / 2)`` by which queries and keys of steps ``(...)`` are turned, float64 in ``[0, 2 pi)``.

    In double precision: a robot's episode of a day at 50 Hz has four million steps, and single precision would be
    0.25 off there.
    """
    pairs = torch.arange(0, head_dim, 2, device=steps.device, dtype=torch.float64)
    angles = steps[..., None].to(torch.float64) * _ROTARY_BASE ** (-pairs / head_dim)
    turn = 2 * math.pi
    return angles - turn * torch.floor(angles / turn)
