from __future__ import annotations

import subprocess
import sys
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.autograd import forward_ad

from rlstab.errors import UserError
from rlstab.kernels.sigmoid_attention import dispatch, sigmoid_attention

from .cases import Case

CASE = Case("", queries=5, keys=5)
OPTIONS: dict[str, Any] = {"causal": True, "window": 3, "bias": "count", "layout": "bhtd"}


def call(q: Tensor, k: Tensor, v: Tensor, backend: str = "blockwise") -> Tensor:
    return sigmoid_attention(q, k, v, backend=backend, **OPTIONS)  # type: ignore[arg-type]


def eager(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    return call(q, k, v, "eager")


@pytest.mark.parametrize("backend", ["auto", "blockwise"])
def test_forward_mode_is_not_silently_zero(backend: str) -> None:
    tensors = CASE.tensors()
    tangents = CASE.tensors(seed=1)
    # By hand: the output moves along the tangents.
    step = 1e-6
    moved = [eager(*(x + sign * step * t for x, t in zip(tensors, tangents, strict=True))) for sign in (1, -1)]
    expected = (moved[0] - moved[1]) / (2 * step)
    assert expected.norm() > 0.1
    found = torch.func.jvp(lambda *given: call(*given, backend=backend), tensors, tangents)[1]
    torch.testing.assert_close(found, expected, rtol=1e-6, atol=1e-7)
    with forward_ad.dual_level():
        duals = [forward_ad.make_dual(x, t) for x, t in zip(tensors, tangents, strict=True)]
        tangent = forward_ad.unpack_dual(call(*duals, backend=backend)).tangent
    torch.testing.assert_close(tangent, expected, rtol=1e-6, atol=1e-7)


@pytest.mark.parametrize("transform", [torch.func.jacfwd, torch.func.jacrev, torch.func.hessian])
def test_transforms_agree_with_the_reference(transform: Any) -> None:
    q, k, v = CASE.tensors()

    def loss(function: Any) -> Any:
        return lambda q: function(q, k, v)[0, 0, -1].square().sum()

    torch.testing.assert_close(transform(loss(call))(q), transform(loss(eager))(q), rtol=1e-12, atol=1e-12)


def test_gradients_of_each_sample_agree_with_the_reference() -> None:
    q, k, v = CASE.tensors()

    def loss(function: Any) -> Any:
        return lambda q, k, v: function(q[None], k[None], v[None]).square().sum()

    found = torch.vmap(torch.func.grad(loss(call), argnums=(0, 1, 2)))(q, k, v)
    for each, expected in zip(found, torch.vmap(torch.func.grad(loss(eager), argnums=(0, 1, 2)))(q, k, v), strict=True):
        torch.testing.assert_close(each, expected, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"backend": "tritn"}, "backend is 'tritn', it must be one of .*did you mean 'triton'"),
        ({"sigmoid_mode": "fast"}, "sigmoid_mode is 'fast'"),
        ({"precision": "fp8"}, "precision is 'fp8'"),
        ({"layout": "bdht"}, "layout is 'bdht'"),
        ({"window": 0}, "window must be at least 1"),
        ({"window": 3, "causal": False}, "window needs causal=True"),
        ({"bias": "counts"}, "bias is 'counts'"),
        ({"bias": float("nan")}, "bias must be finite"),
        ({"bias": torch.zeros(3)}, r"bias must have shape \(2,\) or \(2, 5\), got \(3,\)"),
        ({"bias": torch.zeros(2, dtype=torch.int64)}, "bias must be of a floating-point type"),
        ({"scale": float("inf")}, "scale must be finite"),
        ({"alibi_slopes": torch.zeros(5)}, r"alibi_slopes must have shape \(2,\)"),
        ({"row_start": torch.zeros(2, 5)}, "row_start must be int32 or int64"),
        ({"row_start": torch.zeros(2, 4, dtype=torch.int32)}, r"row_start must have shape \(2, 5\), got \(2, 4\)"),
        (
            {"row_start": torch.zeros(2, 5, dtype=torch.int32), "causal": False, "window": None},
            "row_start needs causal",
        ),
        ({"row_end": torch.zeros(2, 5, dtype=torch.int32)}, "row_end goes with row_start"),
        ({"kv_lens": torch.zeros(3, dtype=torch.int32)}, r"kv_lens must have shape \(2,\)"),
        ({"kv_lens": torch.tensor([5, -1])}, "kv_lens must be from 0 to 5, the number of keys, got -1"),
        ({"kv_lens": torch.tensor([6, 2])}, "kv_lens must be from 0 to 5, the number of keys, got 6"),
        ({"row_start": torch.tensor([[0, 0, 0, 0, 5]] * 2)}, "row_start must be from 0 to the number of its row"),
        ({"row_start": torch.tensor([[0, 0, 0, 0, -1]] * 2)}, "row_start must be from 0 to the number of its row"),
        ({"row_start": torch.tensor([[0, 1, 0, 0, 1]] * 2)}, "row_start must not fall from one row to the next"),
        (
            {"row_start": torch.zeros(2, 5, dtype=torch.int64), "row_end": torch.zeros(2, 5, dtype=torch.int64)},
            "row_end must be the last row that sees each key",
        ),
    ],
)
def test_wrong_options_are_named(change: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError, match=message) as caught:
        sigmoid_attention(*CASE.tensors(), **{**OPTIONS, **change})
    assert "\n" not in str(caught.value)


def shaped(*shape: int, dtype: torch.dtype = torch.float32) -> Tensor:
    return torch.zeros(shape, dtype=dtype)


@pytest.mark.parametrize(
    ("tensors", "message"),
    [
        ((shaped(2, 5, 4), shaped(2, 5, 2, 4), shaped(2, 5, 2, 4)), r"q must have four axes .*\(2, 5, 4\)"),
        ((shaped(2, 5, 2, 4), shaped(2, 5, 2, 4, dtype=torch.float16), shaped(2, 5, 2, 4)), "k is torch.float16 and q"),
        ((shaped(2, 5, 2, 4, dtype=torch.int32),) * 3, "q must be float16"),
        ((shaped(2, 5, 2, 4), shaped(3, 5, 2, 4), shaped(3, 5, 2, 4)), "one batch size, got 2, 3 and 3"),
        ((shaped(2, 5, 2, 4), shaped(2, 5, 2, 3), shaped(2, 5, 2, 3)), "one head dimension, got 4 and 3"),
        ((shaped(2, 5, 3, 4), shaped(2, 5, 2, 4), shaped(2, 5, 2, 4)), "multiple of those of k, got 3 and 2"),
        ((shaped(2, 5, 2, 4), shaped(2, 6, 2, 4), shaped(2, 5, 2, 4)), "same heads and length, got 2 x 6 and 2 x 5"),
        ((shaped(2, 5, 2, 300),) * 3, "head dimension of q and k is 300, it must lie between 1 and 256"),
        ((shaped(2, 5, 2, 4), shaped(2, 5, 2, 4), shaped(2, 5, 2, 0)), "head dimension of v is 0"),
        ((shaped(2, 5, 0, 4), shaped(2, 5, 0, 4), shaped(2, 5, 0, 4)), "got 0 and 0"),
        ((shaped(2, 5, 2, 4).to_sparse(),) * 3, "q must be a dense tensor, got one of layout torch.sparse_coo"),
        ((shaped(2, 5, 2, 4), shaped(2, 5, 2, 4).to("meta"), shaped(2, 5, 2, 4)), "k is on meta and q on cpu"),
    ],
)
def test_tensors_that_do_not_fit_are_named(tensors: tuple[Tensor, ...], message: str) -> None:
    with pytest.raises(UserError, match=message):
        sigmoid_attention(*tensors)


def test_causal_attention_needs_its_own_keys() -> None:
    q, k, v = Case("", queries=5, keys=3).tensors()
    with pytest.raises(UserError, match="at least as many keys as queries, got 3 and 5"):
        sigmoid_attention(q, k, v, causal=True, layout="bhtd")


def test_any_strides_will_do() -> None:
    q, k, v = CASE.tensors()
    spread = [torch.stack([tensor, tensor], -1)[..., 0] for tensor in (q, k, v)]
    assert not spread[0].is_contiguous()
    for backend in ("eager", "blockwise"):
        torch.testing.assert_close(call(*spread, backend=backend), call(q, k, v), rtol=1e-12, atol=1e-12)


def test_long_sequences_are_computed_in_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    used: list[str] = []
    real = dispatch.function.attend

    def attend(problem: Any, implementation: Any) -> Tensor:
        used.append(implementation.__name__.rsplit(".", 1)[-1])
        return real(problem, implementation)

    monkeypatch.setattr(dispatch.function, "attend", attend)
    for keys in (8, 600):
        sigmoid_attention(*Case("", queries=keys, keys=keys, batch=1).tensors(torch.float32), layout="bhtd")
    assert used == ["blockwise"]


def test_importing_needs_no_triton_and_asks_no_gpu() -> None:
    program = """
import sys
sys.modules["triton"] = None
import torch
def fail(*_, **__): raise AssertionError("the GPU was asked for")
for name in ("is_available", "device_count", "current_device", "get_device_properties", "init", "_lazy_init"):
    setattr(torch.cuda, name, fail)
from rlstab.kernels.sigmoid_attention import sigmoid_attention
q = torch.zeros(1, 3, 2, 4)
assert sigmoid_attention(q, q, q, causal=True).shape == q.shape
assert not any(name.split(".")[0] == "triton" and module for name, module in sys.modules.items())
"""
    subprocess.run([sys.executable, "-c", program], check=True)


@pytest.mark.parametrize("keys", [8, 200])
def test_many_cotangents_at_once_give_the_jacobian(keys: int) -> None:
    q, k, v = Case("", queries=keys, keys=keys, batch=1, heads=1, kv_heads=1).tensors()

    def newest(q: Tensor) -> Tensor:
        return sigmoid_attention(q, k, v, causal=True, layout="bhtd")[..., -1:, :2]

    one_by_one = torch.autograd.functional.jacobian(newest, q)
    at_once = torch.autograd.functional.jacobian(newest, q, vectorize=True)
    torch.testing.assert_close(at_once, one_by_one, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("keys", [8, 300])
def test_under_autocast_every_path_casts_as_torch_s_own_attention(keys: int) -> None:
    q, k, v = Case("", queries=keys, keys=keys).tensors(torch.float32)
    rounded = [tensor.bfloat16().float() for tensor in (q, k, v)]
    exact = eager(*rounded)
    for backend in ("eager", "blockwise", "auto"):
        with torch.autocast("cpu", dtype=torch.bfloat16):
            found = call(q, k, v, backend)
            own = torch.nn.functional.scaled_dot_product_attention(q, k, v)
        assert found.dtype == own.dtype == torch.bfloat16
        # One rounding of the result, and none on the way.
        assert (found.float() - exact).norm() <= 2e-3 * exact.norm()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert call(*(tensor.double() for tensor in (q, k, v))).dtype == torch.float64
