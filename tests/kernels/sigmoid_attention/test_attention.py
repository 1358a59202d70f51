from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from torch import Tensor

from rlstab.kernels.sigmoid_attention import softmax_attention

from .cases import CASES, Case, sees


def loop(q: Tensor, k: Tensor, v: Tensor, **options: Any) -> Tensor:
    batch, heads, queries, dim = q.shape
    kv_heads, keys = k.shape[1:3]
    out = torch.zeros(batch, heads, queries, v.shape[3], dtype=torch.float64)
    for b in range(batch):
        for h in range(heads):
            for i in range(queries):
                position, head = i + keys - queries, h * kv_heads // heads
                seen = [j for j in range(keys) if sees(b, i, j, position, options)]
                if not seen:
                    continue
                scores = k[b, head, seen] @ q[b, h, i] * (options.get("scale") or 1 / math.sqrt(dim))
                if options.get("alibi_slopes") is not None:
                    scores = scores - options["alibi_slopes"][h] * torch.tensor([abs(position - j) for j in seen])
                out[b, h, i] = scores.softmax(0) @ v[b, head, seen]
    return out


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_softmax_sees_the_same_keys(case: Case) -> None:
    options = {name: value for name, value in case.arguments().items() if name != "bias"}
    q, k, v = (tensor.requires_grad_() for tensor in case.tensors())
    out = softmax_attention(q, k, v, **options)
    torch.testing.assert_close(out, loop(q, k, v, **options), rtol=1e-10, atol=1e-12)
    for gradient in torch.autograd.grad(out.sum(), (q, k, v)):
        assert torch.isfinite(gradient).all()


@pytest.mark.parametrize("options", [{}, {"causal": True}, {"causal": True, "window": 3}], ids=str)
def test_softmax_has_forward_mode_derivatives(options: dict[str, Any]) -> None:
    q, k, v = Case("", queries=6, keys=6).tensors()

    def function(q: Tensor) -> Tensor:
        return softmax_attention(q, k, v, layout="bhtd", **options)

    tangent = torch.randn_like(q)
    moved = torch.func.jvp(function, (q,), (tangent,))[1]
    step = 1e-6
    differences = (function(q + step * tangent) - function(q - step * tangent)) / (2 * step)
    torch.testing.assert_close(moved, differences, rtol=1e-6, atol=1e-8)
