from __future__ import annotations

import math
from typing import Any

import pytest
import torch

from rlstab.errors import UserError
from rlstab.kernels.sigmoid_attention import attention_stats

from .cases import Case


def test_equal_scores_have_known_figures() -> None:
    q = torch.zeros(2, 6, 3, 4)
    stats = attention_stats(q, q, causal=True, bias="count")
    rows = torch.arange(1.0, 7.0)
    # With b = -log n each weight is 1 / (1 + n), and a row has n of them.
    torch.testing.assert_close(stats.mass, (rows / (rows + 1)).mean().expand(3))
    torch.testing.assert_close(stats.effective_keys, rows.mean().expand(3))
    torch.testing.assert_close(stats.entropy, rows.log().mean().expand(3))
    torch.testing.assert_close(stats.visible_keys, rows.mean().expand(3))
    assert stats.max_score.tolist() == pytest.approx([math.log(6)] * 3)
    assert not stats.dead.any()
    assert not stats.saturated.any()


def test_softmax_has_mass_one() -> None:
    q, k, _ = Case("").tensors(torch.float32)
    stats = attention_stats(q, k, layout="bhtd", causal=True, softmax=True)
    torch.testing.assert_close(stats.mass, torch.ones(2))
    torch.testing.assert_close(stats.mass_low, torch.ones(2))


def test_the_entropy_of_softmax_has_a_floor() -> None:
    q, k, _ = Case("").tensors(torch.float32)
    for scale in (0.1, 1.0, 5.0):
        stats = attention_stats(scale * q, k, layout="bhtd", causal=True, softmax=True)
        assert (stats.entropy_floor > 0).all()
        assert (stats.entropy_floor <= stats.entropy + 1e-6).all()
    # One key apart from all others, which are alike: there is no less entropy.
    q, k = torch.ones(1, 1, 1, 1), torch.tensor([3.0, -1.0, -1.0, -1.0]).view(1, 4, 1, 1)
    stats = attention_stats(q, k, softmax=True)
    torch.testing.assert_close(stats.entropy_floor, stats.entropy)


def test_alarms_tell_heads_apart() -> None:
    q, k = torch.ones(1, 8, 3, 1), torch.zeros(1, 8, 3, 1)
    k[:, 0, 1], k[:, :, 2] = 60.0, -9.0
    assert attention_stats(q, k, bias="count").alarms().tolist() == [False, True, True]


def test_rows_at_the_beginning_are_seen_and_not_looked_at() -> None:
    q = torch.zeros(2, 6, 3, 4)
    stats = attention_stats(q, q, causal=True, since=4)
    torch.testing.assert_close(stats.visible_keys, torch.full((3,), 5.5))
    with pytest.raises(UserError, match="since must be from 0 to below 6"):
        attention_stats(q, q, since=6)


def test_what_goes_wrong_is_seen() -> None:
    q = torch.zeros(1, 4, 1, 4)
    dead = attention_stats(q, q, bias=-20.0)
    assert dead.dead.tolist() == [1.0]
    assert dead.saturated.tolist() == [1.0]
    assert dead.max_score.tolist() == [20.0]


def test_rows_without_keys_do_not_count() -> None:
    q, k, _ = Case("").tensors(torch.float32)
    padded = attention_stats(q, k, layout="bhtd", kv_lens=torch.tensor([0, 7]))
    alone = attention_stats(q[1:], k[1:], layout="bhtd")
    torch.testing.assert_close(padded.mass, alone.mass)
    torch.testing.assert_close(padded.entropy, alone.entropy)


def test_a_sample_is_of_the_rows_asked_for() -> None:
    q, k, _ = Case("", queries=9, keys=9).tensors(torch.float32)
    everything = attention_stats(q, k, layout="bhtd", causal=True, sample_rows=None)
    same = attention_stats(q, k, layout="bhtd", causal=True, sample_rows=9)
    torch.testing.assert_close(everything.mass, same.mass)
    ends = attention_stats(q, k, layout="bhtd", causal=True, sample_rows=2)
    assert ends.visible_keys.tolist() == [5.0, 5.0]
    drawn = attention_stats(q, k, layout="bhtd", causal=True, sample_rows=3, generator=torch.Generator().manual_seed(0))
    assert drawn.visible_keys.tolist() != ends.visible_keys.tolist()


def test_nothing_to_look_at_is_refused() -> None:
    for sizes in ((0, 3), (3, 0)):
        q, k, _ = Case("", queries=sizes[0], keys=sizes[1]).tensors(torch.float32)
        with pytest.raises(UserError, match="q and k must have entries to look at"):
            attention_stats(q, k, layout="bhtd")


@pytest.mark.parametrize(("score", "share"), [(3.9, 0.0), (-3.9, 0.0), (4.1, 1.0), (-4.1, 1.0)])
def test_scores_above_four_count_as_saturated(score: float, share: float) -> None:
    q = torch.zeros(1, 4, 1, 4)
    assert attention_stats(q, q, bias=score).saturated.tolist() == [share]
    # What that means, as the field says: the sigmoid is nearly flat there.
    slope = torch.sigmoid(torch.tensor(score)) * torch.sigmoid(torch.tensor(-score))
    assert bool(slope < 0.018) == bool(share)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"since": 2.5}, r"since must be a whole number, got 2\.5"),
        ({"sample_rows": 2.5}, r"sample_rows must be a whole number, got 2\.5"),
        ({"sample_rows": 0}, "sample_rows must be at least 1, got 0"),
        ({"softmax": "no"}, "softmax must be True or False, got 'no'"),
        ({"generator": 3}, "generator must be a torch.Generator, got int"),
    ],
)
def test_samples_of_other_types_are_refused(options: dict[str, Any], words: str) -> None:
    q = torch.zeros(1, 4, 1, 4)
    with pytest.raises(UserError, match=words):
        attention_stats(q, q, **options)
