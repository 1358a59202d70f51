from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from rlstab.errors import UserError
from rlstab.kernels.sigmoid_attention import (
    RingCache,
    segments_to_rows,
    sigmoid_attention,
    sigmoid_attention_decode,
    sigmoid_attention_step,
    softmax_attention_decode,
)

BATCH, STEPS, WINDOW, HEADS, KV_HEADS, DIM = 3, 40, 5, 4, 2, 8


SCORES: tuple[tuple[dict[str, Any], str], ...] = (
    ({"alibi_slopes": torch.zeros(1)}, r"alibi_slopes must have shape \(2,\), got \(1,\)"),
    ({"alibi_slopes": torch.zeros(2, 1)}, r"alibi_slopes must have shape \(2,\), got \(2, 1\)"),
    ({"alibi_slopes": torch.zeros(5)}, r"alibi_slopes must have shape \(2,\), got \(5,\)"),
    ({"alibi_slopes": [1.0, 2.0]}, "alibi_slopes must be a torch tensor, got list"),
    ({"alibi_slopes": torch.zeros(2, dtype=torch.int64)}, "alibi_slopes must be of a floating-point type"),
    ({"bias": torch.zeros(2, dtype=torch.bool)}, "bias must be of a floating-point type, got torch.bool"),
    ({"bias": True}, "bias must be a number, a tensor or 'count', got bool"),
    ({"bias": [0.0, 1.0]}, "bias must be a number, a tensor or 'count', got list"),
    ({"bias": float("nan")}, "bias must be finite, got nan"),
    ({"scale": float("nan")}, "scale must be finite, got nan"),
    ({"scale": "a"}, "scale must be a number, got str"),
)
"""What no scores come from, with two heads."""


@pytest.fixture
def stream() -> tuple[torch.Tensor, ...]:
    """Queries, keys, values and first steps of episodes, in the order of time."""
    generator = torch.Generator().manual_seed(0)
    q = torch.randn(BATCH, STEPS, HEADS, DIM, generator=generator, dtype=torch.float64)
    k, v = (torch.randn(BATCH, STEPS, KV_HEADS, DIM, generator=generator, dtype=torch.float64) for _ in range(2))
    return q, k, v, torch.rand(BATCH, STEPS, generator=generator) < 0.15


@pytest.mark.parametrize(
    "options",
    [
        {"bias": "count"},
        {"bias": -1.0},
        {"bias": torch.tensor([-1.0, -2.0, 0.0, 0.5], dtype=torch.float64)},
        {"bias": None, "alibi_slopes": torch.tensor([0.5, 0.25, 0.1, 0.0], dtype=torch.float64)},
        {"bias": "count", "scale": 0.3},
    ],
    ids=["count", "number", "head", "alibi", "scale"],
)
def test_acting_step_by_step_is_training_on_the_whole(
    stream: tuple[torch.Tensor, ...], options: dict[str, Any]
) -> None:
    q, k, v, begins = stream
    rows = segments_to_rows(begins, WINDOW)
    trained = sigmoid_attention(q, k, v, causal=True, row_start=rows.row_start, **options)
    cache = RingCache.empty(BATCH, KV_HEADS, WINDOW, DIM, dtype=torch.float64)
    for step in range(STEPS):
        cache.begin(begins[:, step])
        cache.write(k[:, step], v[:, step])
        acted = sigmoid_attention_decode(q[:, step], cache.k, cache.v, cache.count, **options)
        torch.testing.assert_close(acted, trained[:, step], rtol=1e-13, atol=1e-13)


def test_what_was_never_written_is_never_read() -> None:
    cache = RingCache.empty(2, 1, 4, 3)
    cache.k.fill_(float("nan"))
    cache.v.fill_(float("nan"))
    q = torch.ones(2, 1, 3)
    assert not sigmoid_attention_decode(q, cache.k, cache.v, cache.count).any()
    cache.write(torch.ones(2, 1, 3), torch.ones(2, 1, 3))
    assert torch.isfinite(sigmoid_attention_decode(q, cache.k, cache.v, cache.count)).all()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"q": torch.zeros(2, 3)}, r"q must have shape \(B, Hq, d\)"),
        ({"k_cache": torch.zeros(2, 4, 3)}, "k_cache must have shape"),
        ({"k_cache": torch.zeros(2, 1, 4, 5)}, "do not fit together"),
        (
            {"q": torch.zeros(2, 3, 3), "k_cache": torch.zeros(2, 2, 4, 3), "v_cache": torch.zeros(2, 2, 4, 3)},
            "multiple",
        ),
        ({"count": torch.zeros(2)}, "count must be 2 whole numbers"),
        ({"count": torch.tensor([3, -2])}, "count must be at least 0, got -2"),
        ({"k_cache": torch.zeros(2, 1, 4, 3, dtype=torch.float64)}, "k_cache is torch.float64 and q is torch.float32"),
        ({"q": torch.zeros(2, 2, 3, dtype=torch.int64)}, "q must be float16, bfloat16, float32 or float64"),
        ({"q": torch.zeros(2, 2, 3).to_sparse()}, "q must be a dense tensor"),
        ({"k_cache": torch.zeros(2, 1, 0, 3), "v_cache": torch.zeros(2, 1, 0, 3)}, "k_cache must have room for a step"),
        ({"bias": torch.zeros(7)}, r"bias must have shape \(2,\) or \(2, 1\)"),
        ({"bias": "row"}, "a tensor or 'count'"),
        ({"q": None}, "q must be a torch tensor, got NoneType"),
        ({"v_cache": torch.zeros(2, 1, 4, 0)}, "v_cache must have room for a step"),
        *SCORES,
    ],
)
@pytest.mark.parametrize("decode", [sigmoid_attention_decode, softmax_attention_decode])
def test_wrong_arguments_are_named(decode: Any, change: dict[str, Any], message: str) -> None:
    given: dict[str, Any] = {
        "q": torch.zeros(2, 2, 3),
        "k_cache": torch.zeros(2, 1, 4, 3),
        "v_cache": torch.zeros(2, 1, 4, 3),
        "count": torch.zeros(2, dtype=torch.int64),
    }
    with pytest.raises(UserError, match=message):
        decode(**{**given, **change})


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"k": torch.zeros(2, 3, 3)}, r"k must have shape \(2, 1, 3\) as in the cache, got \(2, 3, 3\)"),
        ({"v": torch.zeros(2, 1, 4)}, r"v must have shape \(2, 1, 3\)"),
        ({"q": torch.zeros(2, 2, 4)}, "do not fit together"),
        ({"backend": "cuda"}, "backend is 'cuda'"),
        ({"bias": torch.zeros(5)}, "bias must have shape"),
        ({"parts": 0}, "parts must be at least 1, got 0"),
        ({"parts": 1.5}, r"parts must be a whole number, got 1\.5"),
        ({"v": None}, "v must be a torch tensor, got NoneType"),
        ({"cache": None}, "cache must be a RingCache, got NoneType"),
        *SCORES,
    ],
)
def test_a_step_that_does_not_fit_changes_nothing(change: dict[str, Any], message: str) -> None:
    cache = RingCache.empty(2, 1, 4, 3)
    given: dict[str, Any] = {"q": torch.ones(2, 2, 3), "k": torch.ones(2, 1, 3), "v": torch.ones(2, 1, 3)}
    with pytest.raises(UserError, match=message):
        sigmoid_attention_step(**{**given, "cache": cache, **change})
    assert not cache.k.any()
    assert not cache.count.any()


def test_a_cache_whose_count_is_below_zero_is_not_written() -> None:
    cache = RingCache.empty(2, 1, 4, 3)
    cache.count.fill_(-2)
    for write in (lambda k: cache.write(k, k), lambda k: sigmoid_attention_step(k, k, k, cache)):
        with pytest.raises(UserError, match="count must be at least 0, got -2"):
            write(torch.ones(2, 1, 3))
    assert not cache.k.any()
    assert cache.count.tolist() == [-2, -2]


@pytest.mark.parametrize(
    ("step", "words"),
    [
        ((torch.ones(3, 3, 9), torch.ones(3, 3, 9)), r"k must have shape \(2, 2, 8\) as in the cache, got \(3, 3, 9\)"),
        ((torch.ones(2, 2, 8), torch.ones(2, 1, 8)), r"v must have shape \(2, 2, 8\)"),
        ((torch.ones(2, 2, 8).double(), torch.ones(2, 2, 8)), "k is torch.float64 and the cache is torch.float32"),
        (([1.0], torch.ones(2, 2, 8)), "k must be a torch tensor, got list"),
    ],
)
def test_only_steps_that_fit_are_written(step: tuple[Any, Any], words: str) -> None:
    cache = RingCache.empty(2, 2, 4, 8)
    with pytest.raises(UserError, match=words):
        cache.write(*step)
    assert not cache.k.any()
    assert not cache.count.any()


def test_counts_of_either_whole_type_will_do() -> None:
    cache = RingCache.empty(2, 1, 4, 3)
    short = RingCache(cache.k.clone(), cache.v.clone(), cache.count.int())
    q = torch.randn(2, 1, 3, generator=torch.Generator().manual_seed(0))
    for _ in range(6):
        assert torch.equal(sigmoid_attention_step(q, q, q, cache), sigmoid_attention_step(q, q, q, short))


def test_no_environments_are_attended_from_to_nothing() -> None:
    cache = RingCache.empty(0, 1, 4, 3, 5)
    q, k, v = torch.zeros(0, 2, 3), torch.zeros(0, 1, 3), torch.zeros(0, 1, 5)
    cache.begin([])
    assert sigmoid_attention_step(q, k, v, cache).shape == (0, 2, 5)
    for decode in (sigmoid_attention_decode, softmax_attention_decode):
        assert decode(q, cache.k, cache.v, cache.count).shape == (0, 2, 5)


@pytest.mark.parametrize(
    ("sizes", "words"),
    [
        ((2, 1, 0, 3), "window must be at least 1, got 0"),
        ((1.5, 1, 4, 3), r"batch must be a whole number, got 1\.5"),
        ((-1, 1, 4, 3), "batch must be at least 0, got -1"),
        ((2, 1, 4, 3, 0), "value_dim must be at least 1, got 0"),
        ((2, 1, 2**70, 3), "window 1180591620717411303424 and dim 3 does not fit into memory"),
        ((2, 1, 2**50, 3), "does not fit into memory"),
    ],
)
def test_a_cache_needs_room(sizes: tuple[Any, ...], words: str) -> None:
    with pytest.raises(UserError, match=words):
        RingCache.empty(*sizes)


@pytest.mark.parametrize(
    ("starts", "words"),
    [
        (
            torch.ones(1, dtype=torch.bool),
            r"episode_start must be 3 booleans, one an environment, got \(1,\) torch.bool",
        ),
        (torch.tensor(True), r"one an environment, got \(\) torch.bool"),
        (torch.ones(3), r"got \(3,\) torch.float32"),
        ([1, 0, 1], r"got \(3,\) torch.int64"),
        ("yes", "episode_start must be 3 booleans"),
    ],
)
def test_beginnings_that_are_not_one_an_environment_forget_nothing(starts: Any, words: str) -> None:
    cache = RingCache.empty(3, 1, 4, 3)
    cache.write(torch.ones(3, 1, 3), torch.ones(3, 1, 3))
    with pytest.raises(UserError, match=words):
        cache.begin(starts)
    assert cache.count.tolist() == [1, 1, 1]


@pytest.mark.parametrize("kind", [list, np.array, torch.tensor])
def test_episodes_begin_where_a_list_an_array_or_a_tensor_says(kind: Any) -> None:
    cache = RingCache.empty(3, 1, 4, 3)
    cache.write(torch.ones(3, 1, 3), torch.ones(3, 1, 3))
    cache.begin(kind([True, False, True]))
    assert cache.count.tolist() == [0, 1, 0]
