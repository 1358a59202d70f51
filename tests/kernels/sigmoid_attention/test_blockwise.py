from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from rlstab.errors import UserError
from rlstab.kernels.sigmoid_attention import blockwise, sigmoid_attention

from .cases import CASES, Case


@pytest.fixture(params=[(2, 3), (256, 256)], ids=["small blocks", "one block"])
def blocks(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(blockwise, "QUERY_BLOCK", request.param[0])
    monkeypatch.setattr(blockwise, "KEY_BLOCK", request.param[1])


def differentiable(case: Case) -> tuple[list[Tensor], Any]:
    """The real tensors of a call, and a function of them."""
    options = case.arguments()
    names = [name for name, value in options.items() if isinstance(value, Tensor) and value.is_floating_point()]
    tensors = [*case.tensors(), *(options[name] for name in names)]

    def call(*tensors: Tensor, backend: str = "blockwise") -> Tensor:
        given = dict(zip(names, tensors[3:], strict=True))
        return sigmoid_attention(*tensors[:3], backend=backend, **{**options, **given})  # type: ignore[arg-type]

    return [tensor.clone().requires_grad_() for tensor in tensors], call


@pytest.mark.usefixtures("blocks")
@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_output_and_gradients_are_the_reference_s(case: Case) -> None:
    tensors, call = differentiable(case)
    ours, expected = call(*tensors), call(*tensors, backend="eager")
    torch.testing.assert_close(ours, expected, rtol=1e-12, atol=1e-12)
    cotangent = torch.randn(ours.shape, dtype=ours.dtype, generator=torch.Generator().manual_seed(1))
    found = torch.autograd.grad(ours, tensors, cotangent)
    for ours, wanted in zip(found, torch.autograd.grad(expected, tensors, cotangent), strict=True):
        torch.testing.assert_close(ours, wanted, rtol=1e-11, atol=1e-12)


@pytest.mark.parametrize("name", ["episodes and window", "grouped", "newest queries"])
def test_second_derivatives_are_right(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(blockwise, "QUERY_BLOCK", 2)
    monkeypatch.setattr(blockwise, "KEY_BLOCK", 2)
    case = next(case for case in CASES if case.name == name)
    small = Case(
        **{**vars(case), "queries": 3, "keys": 3 if case.queries == case.keys else 4, "dim": 2, "value_dim": 1}
    )
    tensors, call = differentiable(small)
    assert torch.autograd.gradcheck(call, tensors)
    assert torch.autograd.gradgradcheck(call, tensors)


def test_gradients_that_nobody_wants_are_not_given() -> None:
    q, k, v = Case("").tensors()
    v.requires_grad_()
    sigmoid_attention(q, k, v, backend="blockwise", layout="bhtd").sum().backward()
    assert v.grad is not None


def test_memory_grows_linearly(monkeypatch: pytest.MonkeyPatch) -> None:
    """The largest tensor made on the way is a block of scores, however long the sequence."""
    from torch.utils._python_dispatch import TorchDispatchMode

    class Largest(TorchDispatchMode):
        elements = 0

        def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
            out = func(*args, **(kwargs or {}))
            if isinstance(out, Tensor):
                self.elements = max(self.elements, out.untyped_storage().nbytes() // out.element_size())
            return out

    monkeypatch.setattr(blockwise, "QUERY_BLOCK", 16)
    monkeypatch.setattr(blockwise, "KEY_BLOCK", 16)
    sizes = {}
    for length in (128, 256):
        q, k, v = Case("", batch=1, heads=1, kv_heads=1, queries=length, keys=length).tensors(torch.float32)
        q.requires_grad_()
        with Largest() as mode:
            sigmoid_attention(q, k, v, causal=True, backend="blockwise", layout="bhtd").sum().backward()
        sizes[length] = mode.elements
    assert sizes[256] <= 2 * sizes[128]
    assert sizes[256] < 256 * 256 / 4


def test_it_is_for_the_cpu() -> None:
    q, k, v = (tensor.to("meta") for tensor in Case("").tensors())
    with pytest.raises(UserError, match="'blockwise' is for the CPU, q is on meta"):
        sigmoid_attention(q, k, v, backend="blockwise")
