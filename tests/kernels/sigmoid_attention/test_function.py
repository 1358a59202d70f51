"""What a backward pass reads is saved with the graph: changes in place are noticed, hooks see all of it."""

from __future__ import annotations

import gc

import pytest
import torch
from torch import Tensor
from torch.multiprocessing.reductions import StorageWeakRef

from rlstab.kernels.sigmoid_attention import sigmoid_attention

from .cases import Case, head_bias, slopes, starts

launch = pytest.importorskip("rlstab.kernels.sigmoid_attention.launch", reason="needs triton")
BACKENDS = [
    "eager",
    "blockwise",
    pytest.param("triton", marks=pytest.mark.skipif(not launch.interpreting(), reason="kernels are compiled")),
]
CASE = Case("", options={"causal": True, "row_start": starts, "bias": head_bias, "alibi_slopes": slopes})
PADDED = Case("", options={"kv_lens": lambda case: torch.tensor([3, 5])})


def call(case: Case, backend: str) -> tuple[dict[str, Tensor], Tensor]:
    """Tensors of a call, none of them a leaf of the graph, and its output."""
    given = case.arguments(torch.float32)
    tensors = dict(zip("qkv", case.tensors(torch.float32), strict=True))
    tensors |= {name: value.clone() for name, value in given.items() if isinstance(value, Tensor)}
    for name, value in tensors.items():
        if value.is_floating_point():
            tensors[name] = value.requires_grad_() * 1
    out = sigmoid_attention(backend=backend, **{**given, **tensors})  # type: ignore[arg-type]
    return tensors, out


def gradients(tensors: dict[str, Tensor], out: Tensor) -> tuple[Tensor, ...]:
    return torch.autograd.grad(out.square().sum(), [value for value in tensors.values() if value.requires_grad])


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("changed", ["q", "k", "v", "bias", "alibi_slopes", "row_start", "kv_lens"])
def test_a_change_in_place_before_the_backward_pass_never_gives_wrong_gradients(changed: str, backend: str) -> None:
    case = PADDED if changed == "kv_lens" else CASE
    tensors, out = call(case, backend)
    expected = gradients(*call(case, backend))
    with torch.no_grad():
        tensors[changed].mul_(0)
    if backend == "eager" and changed in ("bias", "alibi_slopes", "row_start", "kv_lens"):
        # Plain operations keep masks and sums that they made, which the change does not touch.
        torch.testing.assert_close(gradients(tensors, out), expected)
        return
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        gradients(tensors, out)


@pytest.mark.parametrize("backend", BACKENDS)
def test_gradients_are_of_what_hooks_bring_back(backend: str) -> None:
    expected = gradients(*call(CASE, backend))
    kept: list[Tensor] = []

    def pack(tensor: Tensor) -> int:
        kept.append(tensor.detach().clone())
        return len(kept) - 1

    with torch.autograd.graph.saved_tensors_hooks(pack, kept.__getitem__):
        tensors, out = call(CASE, backend)
    with torch.no_grad():
        for value in tensors.values():
            value.zero_()  # Hooks have copies of their own.
    torch.testing.assert_close(gradients(tensors, out), expected)


@pytest.mark.parametrize("backend", BACKENDS[1:])
def test_hooks_can_take_what_is_saved_out_of_memory(backend: str) -> None:
    with torch.autograd.graph.saved_tensors_hooks(lambda tensor: tensor.detach().clone(), lambda tensor: tensor):
        tensors, out = call(CASE, backend)
    left = {name: StorageWeakRef(value.untyped_storage()) for name, value in tensors.items()}
    del tensors
    gc.collect()  # The interpreter leaves cycles.
    assert {name for name, storage in left.items() if not storage.expired()} == set()
    assert out.requires_grad
