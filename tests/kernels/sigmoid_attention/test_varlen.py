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


@pytest.mark.parametrize("bounds", [[0, 3], [1, 4], [0, 3, 2, 4], [0]])
def test_bounds_that_do_not_fit_are_refused(bounds: list[int]) -> None:
    q = torch.zeros(4, 1, 2)
    with pytest.raises(UserError, match="cu_seqlens must"):
        sigmoid_attention_varlen(q, q, q, torch.tensor(bounds))
