from __future__ import annotations

import warnings
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from rlstab.kernels.sigmoid_attention import segments_to_rows, sigmoid_attention

from .cases import CASES, Case, scalar_loop

EXACT: dict[str, Any] = {"rtol": 1e-12, "atol": 1e-12}


def eager(*tensors: Tensor, **options: Any) -> Tensor:
    return sigmoid_attention(*tensors, backend="eager", **options)


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_it_is_the_definition(case: Case) -> None:
    tensors, options = case.tensors(), case.arguments()
    expected = scalar_loop(*tensors, case, **options)
    torch.testing.assert_close(eager(*tensors, **options), expected, **EXACT)


def test_the_layouts_agree() -> None:
    case = Case("", queries=3, keys=5, heads=4, kv_heads=2)
    q, k, v = case.tensors()
    swapped = [tensor.transpose(1, 2) for tensor in (q, k, v)]
    torch.testing.assert_close(eager(*swapped).transpose(1, 2), eager(q, k, v, layout="bhtd"), **EXACT)


@given(seed=st.integers(0, 2**20), keys=st.integers(2, 9), cut=st.integers(1, 8))
def test_keys_add_up(seed: int, keys: int, cut: int) -> None:
    cut = min(cut, keys - 1)
    q, k, v = Case("", queries=3, keys=keys).tensors(seed=seed)
    whole = eager(q, k, v, layout="bhtd", bias=-1.0)
    parts = [
        eager(q, k[:, :, part], v[:, :, part], layout="bhtd", bias=-1.0) for part in (slice(cut), slice(cut, None))
    ]
    torch.testing.assert_close(parts[0] + parts[1], whole, **EXACT)


@given(seed=st.integers(0, 2**20), keys=st.integers(1, 9))
def test_the_order_of_keys_does_not_matter_where_positions_do_not_enter(seed: int, keys: int) -> None:
    q, k, v = Case("", queries=3, keys=keys).tensors(seed=seed)
    order = torch.randperm(keys, generator=torch.Generator().manual_seed(seed))
    shuffled = eager(q, k[:, :, order], v[:, :, order], layout="bhtd", bias=-1.0)
    torch.testing.assert_close(shuffled, eager(q, k, v, layout="bhtd", bias=-1.0), **EXACT)


@given(factor=st.floats(-3, 3))
def test_it_is_linear_in_the_values(factor: float) -> None:
    q, k, v = Case("").tensors()
    torch.testing.assert_close(eager(q, k, factor * v), factor * eager(q, k, v), rtol=1e-10, atol=1e-12)


def test_episodes_do_not_see_each_other() -> None:
    q, k, v = Case("", queries=9, keys=9).tensors()
    first_steps = torch.zeros(2, 9, dtype=torch.bool)
    first_steps[:, 4] = True
    options: dict[str, Any] = {
        "causal": True,
        "row_start": segments_to_rows(first_steps).row_start,
        "bias": "count",
        "layout": "bhtd",
    }
    before = eager(q, k, v, **options)
    other_k, other_v = k.clone(), v.clone()
    other_k[:, :, :4] += 1.0
    other_v[:, :, :4] = 7.0
    after = eager(q, other_k, other_v, **options)
    assert torch.equal(before[:, :, 4:], after[:, :, 4:])
    assert not torch.equal(before[:, :, :4], after[:, :, :4])
    # And an episode in a batch is an episode alone.
    alone = eager(*(tensor[:, :, 4:] for tensor in (q, k, v)), causal=True, bias="count", layout="bhtd")
    torch.testing.assert_close(after[:, :, 4:], eager(q, other_k, other_v, **options)[:, :, 4:], **EXACT)
    torch.testing.assert_close(before[:, :, 4:], alone, **EXACT)


def test_a_window_forgets_exactly_at_its_length() -> None:
    q, k, v = Case("", queries=8, keys=8).tensors()
    options: dict[str, Any] = {"causal": True, "window": 3, "bias": "count", "layout": "bhtd"}
    before = eager(q, k, v, **options)
    v[:, :, 2] += 1.0
    changed = (eager(q, k, v, **options) != before).any(3).any(1)
    assert changed.tolist() == [[False, False, True, True, True, False, False, False]] * 2


def test_a_row_without_keys_is_zero_and_has_no_gradient() -> None:
    q, k, v = (tensor.requires_grad_() for tensor in Case("").tensors())
    out = eager(q, k, v, kv_lens=torch.tensor([0, 7]), bias="count", layout="bhtd")
    assert not out[0].any()
    out.sum().backward()
    assert torch.isfinite(q.grad).all()
    assert not q.grad[0].any()
    assert not v.grad[0].any()


def test_padding_may_hold_anything_finite() -> None:
    q, k, v = Case("").tensors()
    lengths = torch.tensor([4, 6])
    before = eager(q, k, v, kv_lens=lengths, layout="bhtd")
    for row, length in enumerate(lengths.tolist()):
        k[row, :, length:] = 1e30
        v[row, :, length:] = -5.0
    assert torch.equal(eager(q, k, v, kv_lens=lengths, layout="bhtd"), before)


def test_flex_attention_agrees() -> None:
    """Softmax of log-sigmoid scores times its own normaliser is the sum of sigmoids."""
    from torch.nn.attention.flex_attention import flex_attention

    q, k, v = Case("", queries=6, keys=6).tensors()

    def log_sigmoid(score: Tensor, b: Tensor, h: Tensor, i: Tensor, j: Tensor) -> Tensor:
        return torch.where(i >= j, torch.nn.functional.logsigmoid(score - 1.5), float("-inf"))

    with warnings.catch_warnings():  # of being slow without torch.compile; it is given once a process
        warnings.simplefilter("ignore")
        out, lse = flex_attention(q, k, v, score_mod=log_sigmoid, return_lse=True)
    expected = eager(q, k, v, causal=True, bias=-1.5, layout="bhtd")
    torch.testing.assert_close(out * lse.exp()[..., None], expected, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize(("dtype", "error"), [(torch.float32, 1e-6), (torch.float16, 4e-4), (torch.bfloat16, 3e-3)])
@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_rounding_is_that_of_the_dtype(case: Case, dtype: torch.dtype, error: float) -> None:
    options = case.arguments()
    tensors = case.tensors(dtype)
    exact = eager(*(tensor.double() for tensor in tensors), **options)
    rounded = eager(*tensors, **options)
    assert rounded.dtype == dtype
    assert (rounded.double() - exact).norm() <= error * exact.norm()


@pytest.mark.parametrize(("batch", "queries", "keys"), [(0, 3, 3), (2, 0, 3), (2, 0, 0), (2, 3, 0)])
def test_nothing_gives_nothing(batch: int, queries: int, keys: int) -> None:
    q, k, v = Case("", batch=batch, queries=queries, keys=keys).tensors()
    out = sigmoid_attention(q, k, v, layout="bhtd", bias="count")
    assert out.shape == q.shape
    assert not out.any()
