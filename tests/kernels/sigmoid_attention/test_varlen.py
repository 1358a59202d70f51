from __future__ import annotations

from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from rlstab.errors import UserError
from rlstab.kernels.sigmoid_attention import sigmoid_attention, sigmoid_attention_varlen


@given(
    lengths=st.lists(st.integers(0, 5), min_size=1, max_size=4),
    options=st.sampled_from([{}, {"causal": True}, {"causal": True, "window": 2}]),
)
def test_each_sequence_is_a_call_of_its_own(lengths: list[int], options: dict[str, Any]) -> None:
    total = sum(lengths)
    generator = torch.Generator().manual_seed(total)
    q, k, v = (torch.randn(total, 2, 3, generator=generator, dtype=torch.float64) for _ in range(3))
    bounds = torch.tensor([0, *torch.tensor(lengths).cumsum(0).tolist()])
    packed = sigmoid_attention_varlen(q, k, v, bounds, bias="count", **options)
    for begin, end in zip(bounds[:-1].tolist(), bounds[1:].tolist(), strict=True):
        alone = sigmoid_attention(*(tensor[None, begin:end] for tensor in (q, k, v)), bias="count", **options)[0]
        torch.testing.assert_close(packed[begin:end], alone, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("causal", [False, True])
def test_no_steps_give_none(causal: bool) -> None:
    none = torch.zeros(0, 2, 3)
    assert sigmoid_attention_varlen(none, none, none, torch.tensor([0, 0, 0]), causal=causal).shape == (0, 2, 3)


def test_a_window_wider_than_anything_is_none() -> None:
    q = torch.randn(4, 2, 3, generator=torch.Generator().manual_seed(0))
    wide, own = (sigmoid_attention_varlen(q, q, q, torch.tensor([0, 1, 4]), causal=True, window=w) for w in (2**70, 3))
    assert torch.equal(wide, own)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"window": 1}, "window needs causal=True"),
        ({"window": 2.5, "causal": True}, r"window must be a whole number of keys, got 2\.5"),
        ({"window": 0, "causal": True}, "window must be at least 1 key, got 0"),
        ({"causal": "no"}, "causal must be True or False, got 'no'"),
        ({"layout": "bhtd"}, "layout is no option of packed sequences, they are scale, "),
        ({"row_start": torch.zeros(1, 4)}, "row_start is no option of packed sequences"),
        ({"backnd": "eager"}, "backnd is no option .*did you mean 'backend'"),
        (
            {"bias": torch.zeros(1, 4), "causal": True},
            r"bias must have shape \(Hq,\) for packed sequences, got \(1, 4\)",
        ),
        ({"q": [1.0]}, "q must be a torch tensor, got list"),
        ({"k": None}, "k must be a torch tensor, got NoneType"),
        ({"q": torch.zeros(3, 4, 2)}, r"with the same N, got \(3, 4, 2\), \(4, 4, 2\) and"),
        ({"cu_seqlens": [0, 4]}, "cu_seqlens must be a torch tensor, got list"),
        ({"cu_seqlens": torch.tensor([0.0, 4.0])}, "cu_seqlens must be a vector of at least two int32 or int64"),
        ({"cu_seqlens": torch.tensor(4)}, "cu_seqlens must be a vector of at least two"),
    ],
    ids=str,
)
def test_arguments_that_do_not_fit_are_refused(change: dict[str, Any], words: str) -> None:
    # As many heads as steps: with its axes swapped nothing would look wrong.
    given: dict[str, Any] = {name: torch.zeros(4, 4, 2) for name in "qkv"}
    with pytest.raises(UserError, match=words) as caught:
        sigmoid_attention_varlen(**{"cu_seqlens": torch.tensor([0, 4]), **given, **change})
    assert "\n" not in str(caught.value)


def test_bounds_without_values_are_refused() -> None:
    q = torch.zeros(4, 1, 2, device="meta")
    with pytest.raises(UserError, match="cu_seqlens has no values on meta"):
        sigmoid_attention_varlen(q, q, q, torch.zeros(2, dtype=torch.int64, device="meta"))


@pytest.mark.parametrize("bounds", [[0, 3], [1, 4], [0, 3, 2, 4], [0]])
def test_bounds_that_do_not_fit_are_refused(bounds: list[int]) -> None:
    q = torch.zeros(4, 1, 2)
    with pytest.raises(UserError, match="cu_seqlens must"):
        sigmoid_attention_varlen(q, q, q, torch.tensor(bounds))
