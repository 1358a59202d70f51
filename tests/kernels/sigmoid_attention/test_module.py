from __future__ import annotations

import math
from typing import Any

import pytest
import torch

from rlstab.errors import UserError
from rlstab.kernels.sigmoid_attention import RingCache, SelfAttention, segments_to_rows
from rlstab.kernels.sigmoid_attention.rotary import rotary_angles

BATCH, STEPS, WIDTH, WINDOW = 3, 60, 16, 7
OPTIONS = (
    {},
    {"weights": "softmax"},
    {"bias": "head", "qk_norm": True},
    {"bias": "window"},
    {"bias": "none", "positions": "alibi"},
    {"weights": "softmax", "positions": "alibi", "qk_norm": True},
    {"positions": "rotary", "kv_heads": 2},
    {"weights": "softmax", "positions": "rotary", "kv_heads": 1, "head_dim": 6},
)


def made(options: dict[str, Any], dtype: torch.dtype = torch.float64) -> SelfAttention:
    torch.manual_seed(0)
    return SelfAttention(WIDTH, 4, WINDOW, **options).to(dtype)


@pytest.mark.parametrize("options", OPTIONS, ids=str)
@pytest.mark.parametrize(("dtype", "error"), [(torch.float64, 1e-9), (torch.float32, 1e-5)])
def test_steps_are_the_sequence(options: dict[str, Any], dtype: torch.dtype, error: float) -> None:
    module = made(options, dtype)
    generator = torch.Generator().manual_seed(1)
    x = torch.randn(BATCH, STEPS, WIDTH, generator=generator, dtype=dtype)
    begins = torch.rand(BATCH, STEPS, generator=generator) < 0.1
    whole = module(x, segments_to_rows(begins, WINDOW))
    cache = module.empty_cache(BATCH)
    for step in range(STEPS):
        cache.begin(begins[:, step])
        found = module.step(x[:, step], cache)
        torch.testing.assert_close(found, whole[:, step], rtol=error, atol=error)


@pytest.mark.parametrize("options", OPTIONS, ids=str)
def test_a_cache_filled_at_once_goes_on_as_one_filled_step_by_step(options: dict[str, Any]) -> None:
    module = made(options)
    generator = torch.Generator().manual_seed(4)
    x = torch.randn(5, STEPS, WIDTH, generator=generator, dtype=torch.float64)
    # Worlds in their first step, a few steps in, and further in than the window.
    begins = torch.zeros(5, STEPS, dtype=torch.bool)
    begins[:, 0] = True
    for world, step in enumerate((39, 37, 33, 20)):
        begins[world, step] = True
    number = torch.arange(STEPS) - torch.where(begins, torch.arange(STEPS), 0).cummax(1).values
    whole = module(x, segments_to_rows(begins, WINDOW))
    cache = module.empty_cache(5)
    # As many as the window holds before its newest; the one before is of no account.
    context = slice(40 - (WINDOW - 1), 40)
    module.prefill(x[:, context], segments_to_rows(begins[:, context], WINDOW), number[:, context], cache)
    for step in range(40, STEPS):
        torch.testing.assert_close(module.step(x[:, step], cache), whole[:, step], rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("options", OPTIONS, ids=str)
def test_a_memory_is_seen_and_does_not_look(options: dict[str, Any]) -> None:
    module = made(options)
    generator = torch.Generator().manual_seed(5)
    x = torch.randn(BATCH, STEPS, WIDTH, generator=generator, dtype=torch.float64)
    rows = segments_to_rows(torch.rand(BATCH, STEPS, generator=generator) < 0.1, WINDOW)
    torch.testing.assert_close(module(x[:, 20:], rows, memory=x[:, :20]), module(x, rows)[:, 20:])


@pytest.mark.parametrize("options", OPTIONS, ids=str)
def test_statistics_are_those_of_what_is_computed(options: dict[str, Any]) -> None:
    module = made(options)
    x = torch.randn(BATCH, STEPS, WIDTH, dtype=torch.float64, generator=torch.Generator().manual_seed(6))
    figures = module.stats(x, sample_rows=None)
    with torch.no_grad():
        # All values are one, so that each head puts out the sum of its weights.
        module.value.weight.zero_()
        module.value.bias = torch.nn.Parameter(torch.ones(module.value.out_features, dtype=torch.float64))
        module.out = torch.nn.Identity()
        masses = module(x).unflatten(2, (4, module.head_dim))[..., 0]
    torch.testing.assert_close(figures.mass, masses.mean((0, 1)).float(), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("options", OPTIONS, ids=str)
def test_the_window_is_kept_without_episodes_too(options: dict[str, Any]) -> None:
    module = made(options)
    x = torch.randn(1, 20, WIDTH, dtype=torch.float64, generator=torch.Generator().manual_seed(2))
    one_episode = torch.zeros(1, 20, dtype=torch.bool)
    torch.testing.assert_close(module(x), module(x, segments_to_rows(one_episode, WINDOW)))
    changed = x.clone()
    changed[:, 5] += 1
    moved = (module(changed) != module(x)).any(2)[0]
    assert moved.nonzero().flatten().tolist() == list(range(5, 5 + WINDOW))


@pytest.mark.parametrize("options", OPTIONS, ids=str)
def test_every_parameter_learns(options: dict[str, Any]) -> None:
    module = made(options)
    x = torch.randn(2, 9, WIDTH, dtype=torch.float64, generator=torch.Generator().manual_seed(3))
    module(x).square().sum().backward()
    for name, parameter in module.named_parameters():
        assert parameter.grad is not None, name
        assert parameter.grad.any() or name == "key_norm.bias", name


def test_softmax_decodes_to_zero_before_the_first_step() -> None:
    module = made({"weights": "softmax"})
    from rlstab.kernels.sigmoid_attention import softmax_attention_decode

    cache = module.empty_cache(2)
    q = torch.ones(2, 4, 4, dtype=torch.float64)
    assert not softmax_attention_decode(q, cache.k, cache.v, cache.count).any()


@pytest.mark.parametrize(
    ("arguments", "options", "message"),
    [
        ((16, 4, 0), {}, "window must be at least 1"),
        ((16, 4, 5), {"kv_heads": 3}, "num_heads must be a multiple of kv_heads, got 4 and 3"),
        ((15, 4, 5), {}, "width must be a multiple of num_heads, got 15 and 4"),
        ((16.0, 4, 4), {}, r"width must be a whole number, got 16\.0"),
        ((16, True, 4), {}, "num_heads must be a whole number, got True"),
        ((12, 4, 5), {"positions": "rotary"}, "rotary positions need an even head dimension, got 3"),
    ],
)
def test_sizes_that_do_not_fit_are_refused(arguments: Any, options: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError, match=message):
        SelfAttention(*arguments, **options)


def test_rotary_positions_do_not_wear_out_in_long_episodes() -> None:
    module = SelfAttention(16, 2, 8, positions="rotary")
    x = torch.randn(1, 12, 16, generator=torch.Generator().manual_seed(0))
    early = torch.arange(12)[None]
    before = module(x, steps=early).detach()
    later = module(x, steps=early + 10_000_000).detach()
    assert (later - before).norm() <= 1e-5 * before.norm()


def test_rotary_angles_are_the_published_ones() -> None:
    """``step * 10000^(-2 i / d)``, arXiv:2104.09864, in ``[0, 2 pi)``."""
    expected = [
        [0.0] * 3,
        [1.0, 10_000 ** (-1 / 3), 10_000 ** (-2 / 3)],
        [7 - 2 * math.pi, 7 * 10_000 ** (-1 / 3), 7 * 10_000 ** (-2 / 3)],
    ]
    torch.testing.assert_close(rotary_angles(torch.tensor([0, 1, 7]), 6), torch.tensor(expected, dtype=torch.float64))


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
@pytest.mark.parametrize("weights", ["sigmoid", "softmax"])
def test_rotary_positions_cost_half_precision_nothing(weights: Any, dtype: torch.dtype) -> None:
    def error(found: torch.Tensor, expected: torch.Tensor) -> float:
        return float((found.double() - expected.double()).norm() / expected.double().norm())

    x = torch.randn(4, 64, 32, generator=torch.Generator().manual_seed(0)).to(dtype)
    steps = torch.arange(64).expand(4, 64)
    found: dict[str, tuple[float, float]] = {}
    for positions in ("none", "rotary"):
        torch.manual_seed(0)
        module = SelfAttention(32, 4, 32, positions=positions, weights=weights).to(dtype)  # pyright: ignore[reportArgumentType]
        with torch.no_grad():
            for linear in (module.query, module.key):
                linear.weight.mul_(3.0)  # Scores that matter.
            early, late = module(x, steps=steps), module(x, steps=steps + 1000)
            found[positions] = error(early, module.double()(x.double(), steps=steps)), error(late, early)
    # Only differences of steps matter: what a shift changes is what rounding does anyway.
    assert found["rotary"][0] <= 1.5 * found["none"][0]
    assert found["rotary"][1] <= 1.5 * found["none"][0]


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"weights": "Softmax"}, "weights is 'Softmax', it must be one of sigmoid, softmax; did you mean 'softmax'"),
        ({"bias": "cnt"}, "bias is 'cnt', it must be one of count, window, head, none"),
        ({"positions": "rope"}, "positions is 'rope', it must be one of none, alibi, rotary"),
        ({"head_dim": 300}, "the head dimension is 300, from head_dim 300, it must lie between 1 and 256"),
        ({"head_dim": 0}, "the head dimension is 0"),
        ({"kv_heads": 0}, "kv_heads must be at least 1"),
        ({"qk_norm": "no"}, "qk_norm must be True or False, got 'no'"),
    ],
    ids=str,
)
def test_options_that_are_none_are_refused(options: dict[str, Any], words: str) -> None:
    with pytest.raises(UserError, match=words):
        SelfAttention(16, 2, 8, **options)


def test_no_row_sees_more_than_the_window() -> None:
    module, x = SelfAttention(16, 2, 3), torch.randn(1, 9, 16)
    begins = torch.arange(9)[None] == 5
    wide, own = (module(x, segments_to_rows(begins, window)) for window in (9, 3))
    torch.testing.assert_close(wide, own)


def test_inputs_that_do_not_fit_are_refused() -> None:
    module = SelfAttention(16, 2, 3)
    with pytest.raises(UserError, match=r"x must have shape \(B, T, width\) with width 16, got \(4, 16\)"):
        module(torch.randn(4, 16))
    with pytest.raises(UserError, match=r"with width 16, got \(1, 4, 8\)"):
        module(torch.randn(1, 4, 8))
    with pytest.raises(UserError, match=r"x must have shape \(B, width\)"):
        module.step(torch.randn(2, 1, 16), module.empty_cache(2))
    with pytest.raises(UserError, match="the cache holds 8 steps, the window is 3"):
        module.step(torch.randn(2, 16), SelfAttention(16, 2, 8).empty_cache(2))


@pytest.mark.parametrize(
    ("given", "words"),
    [
        (
            {"x": torch.zeros(2, 4, 16, dtype=torch.float64)},
            "x is torch.float64 and the layer's weights are torch.float32",
        ),
        ({"x": torch.zeros(2, 4, 16).to_sparse()}, "x must be a dense tensor"),
        ({"rows": torch.zeros(2, 4, dtype=torch.bool)}, "rows must be what segments_to_rows gives, got Tensor"),
        (
            {"steps": torch.zeros(2, 3, dtype=torch.int64)},
            r"steps must have shape \(2, 4\) of whole numbers, got \(2, 3\)",
        ),
        ({"steps": torch.zeros(2, 4)}, "of whole numbers, got .* torch.float32"),
        ({"memory": torch.zeros(2, 3, 8)}, r"memory must have shape \(2, M, 16\), got \(2, 3, 8\)"),
        ({"memory": torch.zeros(1, 3, 16)}, r"memory must have shape \(2, M, 16\), got \(1, 3, 16\)"),
        ({"memory": torch.zeros(2, 3, 16, dtype=torch.float64)}, "memory is torch.float64 on cpu and x torch.float32"),
    ],
    ids=str,
)
def test_what_goes_with_a_sequence_has_to_fit_it(given: dict[str, Any], words: str) -> None:
    with pytest.raises(UserError, match=words) as caught:
        SelfAttention(16, 2, 3, positions="rotary")(**{"x": torch.zeros(2, 4, 16), **given})
    assert "\n" not in str(caught.value)


def test_steps_and_figures_refuse_what_does_not_fit() -> None:
    module = SelfAttention(16, 2, 3)
    with pytest.raises(UserError, match=r"x is torch\.float64 and the layer's weights are"):
        module.step(torch.zeros(2, 16, dtype=torch.float64), module.empty_cache(2))
    with pytest.raises(UserError, match="the cache is of 3 environments, x of 2"):
        module.step(torch.zeros(2, 16), module.empty_cache(3))
    for empty in (torch.zeros(0, 4, 16), torch.zeros(2, 0, 16)):
        with pytest.raises(UserError, match="x must have tokens to look at"):
            module.stats(empty)


@pytest.mark.parametrize("weights", ["sigmoid", "softmax"])
def test_under_autocast_steps_are_the_sequence(weights: Any) -> None:
    module = SelfAttention(16, 2, 4, weights=weights, qk_norm=True)
    x = torch.randn(2, 6, 16, generator=torch.Generator().manual_seed(0))
    cache = module.empty_cache(2)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        whole = module(x)
        steps = torch.stack([module.step(x[:, step], cache) for step in range(6)], 1)
    assert whole.dtype == steps.dtype == torch.bfloat16
    torch.testing.assert_close(steps, whole, rtol=2e-2, atol=2e-2)


CACHES: dict[str, tuple[Any, str]] = {
    "other key heads": (
        RingCache.empty(2, 1, 4, 4),
        r"keys must have shape \(B, 2, 4, 4\) as the layer, got \(2, 1, 4, 4\)",
    ),
    "other dimensions": (RingCache.empty(2, 2, 4, 6), r"keys must have shape \(B, 2, 4, 4\) as the layer"),
    "other values": (RingCache.empty(2, 2, 4, 4, 6), r"values must have shape \(B, 2, 4, 4\) as the layer"),
    "another window": (RingCache.empty(2, 2, 9, 4), "the cache holds 9 steps, the window is 4: use empty_cache"),
    "other worlds": (RingCache.empty(3, 2, 4, 4), "the cache is of 3 environments, x of 2: use"),
    "another type": (RingCache.empty(2, 2, 4, 4, dtype=torch.float64), "k_cache is torch.float64"),
    "none": (None, "cache must be a RingCache, got NoneType: use empty_cache"),
}


def small(weights: Any) -> SelfAttention:
    return SelfAttention(16, 4, 4, weights=weights, kv_heads=2, positions="rotary")


def whole(length: int, batch: int = 2) -> dict[str, Any]:
    """Sequences of one episode each, as `prefill` takes them."""
    rows = segments_to_rows(torch.zeros(batch, length, dtype=torch.bool), 4)
    return {"x": torch.ones(batch, length, 16), "rows": rows, "steps": torch.arange(length).expand(batch, length)}


@pytest.mark.parametrize("weights", ["sigmoid", "softmax"])
@pytest.mark.parametrize("name", CACHES)
def test_the_cache_of_another_layer_is_refused_and_left_alone(name: str, weights: Any) -> None:
    module, (cache, words) = small(weights), CACHES[name]
    with pytest.raises(UserError, match=words):
        module.step(torch.ones(2, 16), cache)
    with pytest.raises(UserError, match=words):
        module.prefill(**whole(6), cache=cache)
    if cache is None:
        return
    assert not cache.k.any()
    assert not cache.count.any()
    with pytest.raises(UserError, match=r"must have shape|do not fit together|and x is torch"):
        module.advance(torch.ones(2, 16), cache.k, cache.v, cache.count)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"steps": None}, "steps must be a torch tensor, got NoneType"),
        ({"rows": None}, "rows must be what segments_to_rows gives, got None"),
        ({"steps": torch.arange(5).expand(2, 5)}, r"steps must have shape \(2, 6\)"),
        ({"rows": whole(5)["rows"]}, r"rows.row_start must have shape \(2, 6\), got \(2, 5\)"),
        (
            {**whole(2), "steps": torch.tensor([[0, 1], [4, 5]])},
            "steps is 5 in sequence 1, .* hold 2 tokens .* least 3",
        ),
        ({"steps": torch.zeros(2, 6, dtype=torch.int64)}, "steps is 0 in sequence 0, .* begin with 0 in each episode"),
        (whole(0), "x must have at least one token"),
    ],
    ids=str,
)
def test_what_does_not_fill_a_cache_is_refused_and_leaves_it_alone(change: dict[str, Any], words: str) -> None:
    module = small("sigmoid")
    cache = module.empty_cache(2)
    with pytest.raises(UserError, match=words):
        module.prefill(**{**whole(6), **change}, cache=cache)
    assert not cache.k.any()
    assert not cache.count.any()


@pytest.mark.parametrize("weights", ["sigmoid", "softmax"])
def test_no_tokens_give_none(weights: Any) -> None:
    module, given = small(weights), whole(6, batch=0)
    assert module(given["x"], given["rows"], steps=given["steps"]).shape == (0, 6, 16)
    assert module(torch.ones(2, 0, 16), memory=torch.ones(2, 3, 16)).shape == (2, 0, 16)
    cache = module.empty_cache(0)
    module.prefill(**given, cache=cache)
    assert module.step(torch.ones(0, 16), cache).shape == (0, 16)


def test_a_few_tokens_fill_a_cache_where_the_episode_has_no_more() -> None:
    module = small("sigmoid")
    filled, stepped = module.empty_cache(2), module.empty_cache(2)
    given = whole(2)
    module.prefill(**given, cache=filled)
    for step in range(2):
        module.step(given["x"][:, step], stepped)
    torch.testing.assert_close(filled.k, stepped.k)
    assert torch.equal(filled.count, stepped.count)
