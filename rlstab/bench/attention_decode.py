"""One new step for many environments: what acting costs."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from rlstab.bench.attention_cases import Decode
from rlstab.bench.attention_timing import Call
from rlstab.kernels.sigmoid_attention import RingCache, sigmoid_attention_step
from rlstab.kernels.sigmoid_attention.decode import StepBackend

STEP_PROVIDERS = ("triton step", "eager step", "SDPA on the cache")
"""The last writes nothing, and sees all of a full buffer."""
UNDIVIDED = "triton step, undivided"
"""One program for each head of each environment, where the first of the above has several."""


def step_calls(
    case: Decode, backend: StepBackend, device: torch.device, dtype: torch.dtype, generator: torch.Generator
) -> dict[str, Call]:
    """Make one step ready for each provider, over a full ring buffer of normal numbers."""

    def normal(*shape: int) -> Tensor:
        return torch.randn(*shape, device=device, generator=generator, dtype=dtype)

    shape = (case.batch, case.heads, case.window, case.dim)
    count = torch.full((case.batch,), case.window, dtype=torch.int64, device=device)
    cache = RingCache(normal(*shape), normal(*shape), count)
    q, k, v = (normal(case.batch, case.heads, case.dim) for _ in range(3))

    @torch.no_grad()
    def softmax() -> Tensor:
        return F.scaled_dot_product_attention(q[:, :, None], cache.k, cache.v)

    return {
        "triton step": lambda: sigmoid_attention_step(q, k, v, cache, bias="count", backend=backend),
        UNDIVIDED: lambda: sigmoid_attention_step(q, k, v, cache, bias="count", backend=backend, parts=1),
        "eager step": lambda: sigmoid_attention_step(q, k, v, cache, bias="count", backend="eager"),
        "SDPA on the cache": softmax,
    }
