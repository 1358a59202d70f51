from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from rlstab.errors import UserError
from rlstab.kernels.sigmoid_attention import (
    RingCache,
    attention_stats,
    sigmoid_attention,
    sigmoid_attention_decode,
    sigmoid_attention_step,
    softmax_attention,
)

from .cases import CASES, Case, head_bias, sees, slopes


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


@pytest.mark.parametrize("name", ["dense", "window", "padded", "one key head"])
def test_softmax_has_second_derivatives(name: str) -> None:
    case = next(case for case in CASES if case.name == name)
    options = {name: value for name, value in case.arguments().items() if name != "bias"}
    tensors = tuple(tensor.requires_grad_() for tensor in case.tensors())
    assert torch.autograd.gradcheck(lambda *given: softmax_attention(*given, **options), tensors)
    assert torch.autograd.gradgradcheck(lambda *given: softmax_attention(*given, **options), tensors)


def test_softmax_is_differentiated_as_torch_does_it() -> None:
    q, k, v = (tensor.requires_grad_() for tensor in Case("", queries=6, keys=6).tensors(torch.float32))
    out = softmax_attention(q, k, v, causal=True, layout="bhtd")
    own = F.scaled_dot_product_attention(q, k, v, is_causal=True)
    for _ in range(2):  # The graph is kept if that is asked for.
        found = torch.autograd.grad(out.square().sum(), (q, k, v), retain_graph=True)
        for each, expected in zip(
            found, torch.autograd.grad(own.square().sum(), (q, k, v), retain_graph=True), strict=True
        ):
            assert torch.equal(each, expected)
    assert torch.autograd.grad(out.sum(), v)[0].grad_fn is None


def test_softmax_gives_a_vectorised_jacobian() -> None:
    q, k, v = Case("", queries=6, keys=6, batch=1).tensors()

    def newest(q: Tensor) -> Tensor:
        return softmax_attention(q, k, v, causal=True, layout="bhtd")[:, :, -1]

    at_once = torch.autograd.functional.jacobian(newest, q, vectorize=True)
    torch.testing.assert_close(at_once, torch.autograd.functional.jacobian(newest, q), rtol=1e-10, atol=1e-12)


def test_without_a_bias_the_visible_keys_are_counted_everywhere() -> None:
    q, k, v = Case("", queries=6, keys=6).tensors(torch.float32)
    whole = sigmoid_attention(q, k, v, causal=True, layout="bhtd")
    torch.testing.assert_close(whole, sigmoid_attention(q, k, v, causal=True, layout="bhtd", bias="count"))
    cache = RingCache.empty(2, 2, 6, 4)
    for step in range(6):
        found = sigmoid_attention_step(q[:, :, step], k[:, :, step], v[:, :, step], cache)
        torch.testing.assert_close(found, whole[:, :, step])
        again = sigmoid_attention_decode(q[:, :, step], cache.k, cache.v, cache.count)
        torch.testing.assert_close(again, whole[:, :, step])
    torch.testing.assert_close(
        attention_stats(q, k, causal=True, layout="bhtd").mass,
        attention_stats(q, k, causal=True, layout="bhtd", bias="count").mass,
    )


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"deterministic": None}, "deterministic is None, it must be one of True, False"),
        ({"window": 2.5, "causal": True}, "window must be a whole number of keys, got 2.5"),
        ({"window": True, "causal": True}, "window must be a whole number of keys, got True"),
        ({"causal": "no"}, "causal must be True or False, got 'no'"),
        ({"scale": "1"}, "scale must be a number, got str"),
        ({"bias": [0.0, 1.0]}, "bias must be a number, a tensor"),
        ({"bias": np.zeros(2)}, "bias must be a number, a tensor"),
        ({"bias": np.float32("nan")}, "bias must be finite, got nan"),
        ({"kv_lens": [1, 2]}, "kv_lens must be a torch tensor, got list"),
        ({"alibi_slopes": [1.0, 2.0]}, "alibi_slopes must be a torch tensor, got list"),
    ],
    ids=str,
)
def test_arguments_of_other_types_are_refused(options: dict[str, Any], words: str) -> None:
    q, k, v = Case("", batch=2, queries=6, keys=6).tensors(torch.float32)
    with pytest.raises(UserError, match=words):
        sigmoid_attention(q, k, v, layout="bhtd", **options)


def test_arrays_are_no_tensors() -> None:
    with pytest.raises(UserError, match="q must be a torch tensor, got ndarray"):
        sigmoid_attention(*[np.zeros((1, 2, 3, 4), np.float32)] * 3)


@pytest.mark.parametrize(("window", "same"), [(2**70, 6), (np.int64(2), 2)])
@pytest.mark.parametrize("attention", [sigmoid_attention, softmax_attention])
def test_windows_of_any_size_and_whole_type_will_do(attention: Any, window: Any, same: int) -> None:
    q, k, v = Case("", queries=6, keys=6).tensors(torch.float32)
    found, expected = (attention(q, k, v, layout="bhtd", causal=np.True_, window=each) for each in (window, same))
    assert torch.equal(found, expected)


EMPTY = ((0, 4, 4), (0, 300, 300), (2, 0, 300), (2, 0, 0), (2, 5, 0), (2, 300, 0))
MASKS: tuple[dict[str, Any], ...] = (
    {},
    {"causal": True},
    {"kv_lens": lambda case: torch.zeros(case.batch, dtype=torch.int64)},
    {"causal": True, "row_start": lambda case: torch.zeros(case.batch, case.queries, dtype=torch.int32)},
    {"alibi_slopes": slopes},
)


def fits(batch: int, queries: int, keys: int, masks: dict[str, Any]) -> bool:
    """Whether the call is allowed: causal queries are the newest of the keys."""
    return not masks.get("causal") or queries == keys or (queries < keys and "row_start" not in masks)


@pytest.mark.parametrize(("batch", "queries", "keys", "masks"), [(*e, m) for e in EMPTY for m in MASKS if fits(*e, m)])
@pytest.mark.parametrize("backend", ["auto", "eager", "blockwise", "softmax"])
def test_nothing_in_gives_nothing_or_zero_out(
    backend: str, batch: int, queries: int, keys: int, masks: dict[str, Any]
) -> None:
    case = Case("", batch=batch, queries=queries, keys=keys, options=masks)
    tensors = tuple(tensor.requires_grad_() for tensor in case.tensors())
    options = case.arguments()
    if backend == "softmax":
        del options["bias"]
        out = softmax_attention(*tensors, **options)
    else:
        bias = head_bias(case).requires_grad_()
        out = sigmoid_attention(*tensors, **{**options, "bias": bias}, backend=backend)  # pyright: ignore[reportArgumentType]
        tensors = (*tensors, bias)
    assert out.shape == (batch, 2, queries, 4)
    assert not out.any()
    for tensor, gradient in zip(tensors, torch.autograd.grad(out.sum(), tensors), strict=True):
        assert gradient.shape == tensor.shape
        assert not gradient.any()


@pytest.mark.parametrize("backend", ["auto", "blockwise"])
def test_nothing_is_compiled_too(backend: Any) -> None:
    compiled = torch.compile(lambda q, k, v: sigmoid_attention(q, k, v, backend=backend), backend="aot_eager")
    q, k = torch.zeros(2, 0, 2, 8, requires_grad=True), torch.zeros(2, 300, 2, 8)
    out = compiled(q, k, k)
    assert out.shape == (2, 0, 2, 8)
    assert torch.autograd.grad(out.sum(), q)[0].shape == q.shape
