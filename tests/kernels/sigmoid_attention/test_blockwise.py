from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
import torch
from torch import Tensor

from rlstab.errors import UserError
from rlstab.kernels.sigmoid_attention import blockwise, segments_to_rows, sigmoid_attention
from rlstab.kernels.sigmoid_attention.masks import visible_intervals
from rlstab.kernels.sigmoid_attention.problem import Problem

from .cases import CASES, Case


@pytest.fixture(
    params=[(2, 3, 2**18, 2**22), (4, 3, 1, 2**22), (256, 256, 2**18, 2**22), (4, 3, 1, 0), (256, 256, 2**18, 0)],
    ids=["small blocks", "small blocks and parts", "one block", "small blocks in threads", "one block in threads"],
)
def blocks(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    names = ("QUERY_BLOCK", "KEY_BLOCK", "SCORES", "MANY_SCORES")
    for name, value in zip(names, request.param, strict=True):
        monkeypatch.setattr(blockwise, name, value)
    threads = torch.get_num_threads()
    torch.set_num_threads(2)
    yield
    assert torch.get_num_threads() == 2
    torch.set_num_threads(threads)


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
    monkeypatch.setattr(blockwise, "SCORES", 16 * 16)
    sizes = {}
    for length in (128, 256):
        q, k, v = Case("", batch=1, heads=1, kv_heads=1, queries=length, keys=length).tensors(torch.float32)
        q.requires_grad_()
        with Largest() as mode:
            sigmoid_attention(q, k, v, causal=True, backend="blockwise", layout="bhtd").sum().backward()
        sizes[length] = mode.elements
    assert sizes[256] <= 2 * sizes[128]
    assert sizes[256] < 256 * 256 / 4


def test_many_short_sequences_take_few_steps() -> None:
    """Heads of short windows are worked on together: Python would cost more than the products one by one."""
    case = Case("", batch=32, heads=4, kv_heads=4, queries=16, keys=16)
    q, k, v = case.tensors(torch.float32)
    problem = make_problem_of(q, k, v)
    assert len(blockwise._Operands(problem).each(lambda part: part.size)) == 1


@pytest.mark.usefixtures("blocks")
def test_episodes_do_not_touch_each_other() -> None:
    q, k, v = Case("", queries=24, keys=24).tensors(torch.float32)
    begins = torch.zeros(2, 24, dtype=torch.bool)
    begins[0, 9] = begins[1, 14] = True
    start = segments_to_rows(begins).row_start

    def call(k: Tensor, v: Tensor) -> Tensor:
        return sigmoid_attention(
            q, k, v, causal=True, row_start=start, bias="count", backend="blockwise", layout="bhtd"
        )

    before = call(k, v)
    k, v = k.clone(), v.clone()
    k[0, :, :9], v[0, :, :9] = 7.0, -7.0
    k[1, :, 14:], v[1, :, 14:] = 7.0, -7.0
    after = call(k, v)
    assert torch.equal(before[0, :, 9:], after[0, :, 9:])
    assert torch.equal(before[1, :, :14], after[1, :, :14])
    assert not torch.equal(before, after)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
def test_hidden_keys_may_hold_anything(dtype: torch.dtype) -> None:
    q, k, v = Case("", queries=5, keys=9).tensors(dtype)
    lens = torch.tensor([4, 9])
    clean = sigmoid_attention(q, k, v, kv_lens=lens, backend="blockwise", layout="bhtd")
    k[0, :, 4:] = float("nan")
    assert torch.equal(sigmoid_attention(q, k, v, kv_lens=lens, backend="blockwise", layout="bhtd"), clean)


def test_what_no_row_sees_is_not_computed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(blockwise, "QUERY_BLOCK", 8)
    monkeypatch.setattr(blockwise, "KEY_BLOCK", 4)
    intervals = visible_intervals(
        32, 32, causal=True, window=4, row_start=None, kv_lens=None, device=torch.device("cpu")
    )
    plan = [blocks for _, blocks in blockwise._Plan(intervals, 32, 8, torch.float32)]
    computed = sum((b.queries.stop - b.queries.start) * (b.keys.stop - b.keys.start) for bs in plan for b in bs)
    # Each block of four keys is seen by seven rows, the last by four.
    assert computed <= 8 * 4 * 7
    for block in (block for blocks in plan for block in blocks):
        visible = torch.ones(1, block.queries.stop - block.queries.start, block.keys.stop - block.keys.start).bool()
        for piece, seen in block.seen:
            visible[:, piece] = seen == -1
            assert torch.equal(seen != 0, seen == -1)
        expected = intervals.mask(block.keys.start, block.keys.stop)[:, block.queries]
        assert torch.equal(visible, expected)


def test_threads_take_no_gradients_and_fail_aloud(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(blockwise, "MANY_SCORES", 0)
    threads = torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        problem = make_problem_of(*Case("").tensors())

        def fail(part: Any) -> None:
            raise RuntimeError("out of order")

        with pytest.raises(RuntimeError, match="out of order"):
            blockwise._Operands(problem).each(fail)
        assert torch.get_num_threads() == 2
        assert blockwise._Operands(problem).each(lambda part: torch.is_grad_enabled()) == [False, False]
    finally:
        torch.set_num_threads(threads)


def make_problem_of(q: Tensor, k: Tensor, v: Tensor) -> Problem:
    return Problem(q, k, v, scale=1.0)


def test_it_is_for_the_cpu() -> None:
    q, k, v = (tensor.to("meta") for tensor in Case("").tensors())
    with pytest.raises(UserError, match="'blockwise' is for the CPU, q is on meta"):
        sigmoid_attention(q, k, v, backend="blockwise")
