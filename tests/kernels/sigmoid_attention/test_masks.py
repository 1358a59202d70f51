from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from rlstab.errors import UserError
from rlstab.kernels.sigmoid_attention import alibi_slopes, segments_to_rows
from rlstab.kernels.sigmoid_attention.masks import visible_intervals

FIRST_STEPS = st.lists(st.lists(st.booleans(), min_size=8, max_size=8), min_size=1, max_size=3)


@given(FIRST_STEPS, st.none() | st.integers(1, 10))
def test_rows_and_keys_say_the_same(flags: list[list[bool]], window: int | None) -> None:
    begins = torch.tensor(flags)
    rows = segments_to_rows(begins, window)
    assert rows.row_start.dtype == rows.row_end.dtype == torch.int32
    for b, row in enumerate(flags):
        for i in range(8):
            for j in range(8):
                same_episode = not any(row[j + 1 : i + 1])
                seen = j <= i and same_episode and (window is None or i - j < window)
                assert (int(rows.row_start[b, i]) <= j <= i) == seen
                assert (j <= i <= int(rows.row_end[b, j])) == seen


@given(FIRST_STEPS)
def test_ids_and_first_steps_say_the_same(flags: list[list[bool]]) -> None:
    begins = torch.tensor(flags)
    ids = begins.cumsum(1) * 7 - 3
    for by_flag, by_id in zip(segments_to_rows(begins, 4), segments_to_rows(ids, 4), strict=True):
        assert torch.equal(by_flag, by_id)


def test_an_empty_batch_has_empty_rows() -> None:
    assert segments_to_rows(torch.zeros(2, 0, dtype=torch.bool)).row_start.shape == (2, 0)


@pytest.mark.parametrize(
    ("segments", "window", "message"),
    [
        (torch.zeros(4, dtype=torch.bool), None, r"must have shape \(B, T\), got \(4,\)"),
        (torch.zeros(2, 4), None, "booleans .* or integers"),
        (torch.zeros(2, 4, dtype=torch.bool), 0, "window must be at least 1 key, got 0"),
        (torch.zeros(2, 4, dtype=torch.bool), 2.5, r"window must be a whole number of keys, got 2\.5"),
        ([[True]], None, "segments must be a torch tensor, got list"),
    ],
)
def test_wrong_segments_are_refused(segments: Any, window: Any, message: str) -> None:
    with pytest.raises(UserError, match=message):
        segments_to_rows(segments, window)


@pytest.mark.parametrize(("window", "same"), [(2**70, 4), (np.int64(2), 2)])
def test_windows_of_any_size_and_whole_type_will_do(window: Any, same: int) -> None:
    begins = torch.zeros(1, 4, dtype=torch.bool)
    for found, expected in zip(segments_to_rows(begins, window), segments_to_rows(begins, same), strict=True):
        assert torch.equal(found, expected)


@pytest.mark.parametrize(
    "masks", [{}, {"row_start": (0, 5)}, {"kv_lens": (0,)}, {"row_start": (0, 5), "kv_lens": (0,)}]
)
def test_no_sequences_have_no_rows(masks: dict[str, tuple[int, ...]]) -> None:
    given = {name: torch.zeros(shape, dtype=torch.int64) for name, shape in masks.items()}
    rows = visible_intervals(
        5, 5, causal=True, window=None, **{"row_start": None, "kv_lens": None, **given}, device=torch.device("cpu")
    )
    assert rows.first.shape == rows.last.shape == ((0, 5) if masks else (1, 5))


def test_counts_and_masks_agree() -> None:
    rows = visible_intervals(
        5, 7, causal=True, window=3, row_start=None, kv_lens=torch.tensor([0, 4]), device=torch.device("cpu")
    )
    assert torch.equal(rows.mask(0, 7).sum(2), rows.count())
    assert rows.count().tolist() == [[0, 0, 0, 0, 0], [3, 3, 2, 1, 0]]


def test_slopes_fall_geometrically() -> None:
    for heads in (1, 2, 8, 16):
        slopes = alibi_slopes(heads)
        torch.testing.assert_close(slopes[1:] / slopes[:-1], torch.full((heads - 1,), 2 ** (-8 / heads)))
        assert float(slopes[-1]) == pytest.approx(2**-8)
    # Twelve heads: the eight slopes, then every second of sixteen.
    assert torch.equal(alibi_slopes(12), torch.cat([alibi_slopes(8), alibi_slopes(16)[:8:2]]))
    with pytest.raises(UserError, match="num_heads must be at least 1, got 0"):
        alibi_slopes(0)
    with pytest.raises(UserError, match=r"num_heads must be a whole number, got 2\.5"):
        alibi_slopes(2.5)  # pyright: ignore[reportArgumentType]
