"""The Triton kernels in Triton's interpreter, against the reference in double precision."""

from __future__ import annotations

import dataclasses
from typing import Any

import pytest
import torch
from torch import Tensor

from rlstab.bench.attention_accuracy import poisoned_memory
from rlstab.errors import UserError
from rlstab.kernels.sigmoid_attention import (
    RingCache,
    problem,
    segments_to_rows,
    sigmoid_attention,
    sigmoid_attention_step,
    tiles,
)

from .cases import CASES, Case, starts

launch = pytest.importorskip("rlstab.kernels.sigmoid_attention.launch", reason="needs triton")
pytestmark = pytest.mark.skipif(not launch.interpreting(), reason="kernels are compiled, not interpreted")

LONGER: dict[str, dict[str, Any]] = {
    "window": {"window": 20},
    "episodes and window": {"row_start": lambda case: starts(case, 9)},
    "padded": {"kv_lens": lambda case: torch.tensor([0, 61])},
    "padded causal": {"kv_lens": lambda case: torch.tensor([20, 75])},
}


def longer(case: Case) -> Case:
    """The same call on more rows and keys than one tile has, not a multiple of it."""
    queries = 75 if case.queries == case.keys else case.queries + 30
    keys = 75 if case.queries == case.keys else case.keys + 50
    return dataclasses.replace(case, queries=queries, keys=keys, options={**case.options, **LONGER.get(case.name, {})})


@pytest.fixture
def small_tiles(monkeypatch: pytest.MonkeyPatch) -> None:
    """Tiles of unlike sizes, so that a loop has all of its parts."""
    monkeypatch.setattr(tiles, "fits_one_tile", lambda problem: False)
    monkeypatch.setattr(tiles, "forward_tiling", lambda *_: tiles.Tiling(32, 16, 4))
    monkeypatch.setattr(tiles, "query_gradient_tiling", lambda *_: tiles.Tiling(16, 32, 4))
    monkeypatch.setattr(tiles, "key_gradient_tiling", lambda *_: tiles.Tiling(16, 32, 4))


def computed(case: Case, backend: str, dtype: torch.dtype, inputs: torch.dtype, **options: Any) -> dict[str, Tensor]:
    """Output and all gradients in ``dtype`` of a call on tensors that were rounded to ``inputs``."""
    given = case.arguments()
    exact = torch.float64 if dtype == torch.float64 else torch.float32
    real = {name: value for name, value in given.items() if isinstance(value, Tensor) and value.is_floating_point()}
    extra = {name: value.float().to(exact).requires_grad_() for name, value in real.items()}
    q, k, v = (tensor.to(dtype).requires_grad_() for tensor in case.tensors(inputs))
    out = sigmoid_attention(q, k, v, backend=backend, **{**given, **extra, **options})  # type: ignore[arg-type]
    cotangent = torch.randn(out.shape, generator=torch.Generator().manual_seed(3), dtype=torch.float64)
    tensors = {"q": q, "k": k, "v": v, **extra}
    gradients = torch.autograd.grad(out, list(tensors.values()), cotangent.to(inputs).to(dtype))
    return {"out": out.detach(), **{f"d{name}": value for name, value in zip(tensors, gradients, strict=True)}}


def check(case: Case, dtype: torch.dtype, error: float, **options: Any) -> None:
    ours = computed(case, "triton", dtype, dtype, **options)
    exact = computed(case, "eager", torch.float64, dtype)
    for name, value in ours.items():
        assert torch.isfinite(value).all(), name
        distance = (value.double() - exact[name]).norm()
        assert distance <= error * exact[name].norm() + 1e-12, f"{name}: {float(distance / exact[name].norm()):.1e}"


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_short_windows(case: Case) -> None:
    check(case, torch.float32, 1e-6)


@pytest.mark.usefixtures("small_tiles")
@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_any_length(case: Case) -> None:
    check(longer(case), torch.float32, 1e-6)


# The interpreter truncates where hardware rounds to the nearest bfloat16, which doubles the error.
@pytest.mark.parametrize(("dtype", "error"), [(torch.float16, 6e-4), (torch.bfloat16, 9e-3)])
@pytest.mark.parametrize("name", ["episodes and window", "grouped", "one key head"])
def test_half_precisions_of_short_windows(name: str, dtype: torch.dtype, error: float) -> None:
    check(next(case for case in CASES if case.name == name), dtype, error)


@pytest.mark.usefixtures("small_tiles")
@pytest.mark.parametrize("name", ["episodes and window", "grouped"])
def test_half_precision_of_any_length(name: str) -> None:
    check(longer(next(case for case in CASES if case.name == name)), torch.float16, 6e-4)


@pytest.mark.parametrize("name", ["causal", "grouped"])
def test_newton_s_reciprocal_is_as_exact_as_it_says(name: str) -> None:
    check(next(case for case in CASES if case.name == name), torch.float32, 2e-5, sigmoid_mode="newton")


def test_every_branch_of_the_sigmoid_is_small_in_relative_error() -> None:
    """Over scores from -30 to 30: one query per score, one key, value one."""
    scores = torch.linspace(-30, 30, 121, dtype=torch.float32)
    q, one = scores[:, None, None, None], torch.ones(121, 1, 1, 1)
    exact = torch.sigmoid(scores.double())
    for mode, error in (("exact", 3e-6), ("newton", 1e-5)):
        out = sigmoid_attention(q, one, one, scale=1.0, backend="triton", sigmoid_mode=mode)  # type: ignore[arg-type]
        assert ((out.flatten().double() - exact) / exact).abs().max() < error
    # Beyond any score that is meant, it still is a number.
    far = torch.tensor([-1e4, 1e4]).view(2, 1, 1, 1)
    out = sigmoid_attention(far, one[:2], one[:2], scale=1.0, backend="triton", sigmoid_mode="newton")
    assert out.flatten().tolist() == pytest.approx([0.0, 1.0], abs=1e-5)


@pytest.mark.parametrize("mode", ["exact", "newton", "tanh"])
@pytest.mark.parametrize("bias", ["head", "count", -1.0])
@pytest.mark.parametrize("broken", ["q", "k", "v", "bias"])
def test_what_is_not_a_number_comes_out_as_such(broken: str, bias: Any, mode: str) -> None:
    tensors = dict(zip("qkv", Case("").tensors(torch.float16), strict=True))
    tensors["bias"] = torch.tensor([-1.0, -2.0])
    tensors[broken][(0,) * tensors[broken].ndim] = float("nan")
    options: dict[str, Any] = {**tensors, "layout": "bhtd", "bias": tensors["bias"] if bias == "head" else bias}
    expected = sigmoid_attention(**options, backend="eager")
    assert expected.isnan().any() == (broken != "bias" or bias == "head")
    found = sigmoid_attention(**options, backend="triton", sigmoid_mode=mode)  # type: ignore[arg-type]
    torch.testing.assert_close(found, expected, equal_nan=True, rtol=2e-3, atol=2e-3)


@pytest.mark.parametrize("bias", ["head", "count"])
@pytest.mark.parametrize("broken", ["q", "k", "v", "bias"])
def test_what_is_not_a_number_comes_out_of_a_step(broken: str, bias: str) -> None:
    given = {"q": torch.randn(2, 2, 4), "k": torch.randn(2, 1, 4), "v": torch.randn(2, 1, 4), "bias": -torch.ones(2)}
    given = {name: tensor.half() for name, tensor in given.items()}
    given[broken][(0,) * given[broken].ndim] = float("nan")
    if bias == "count":
        given.pop("bias")
    found, expected = (
        sigmoid_attention_step(**given, cache=RingCache.empty(2, 1, 8, 4, dtype=torch.float16), backend=backend)  # type: ignore[arg-type]
        for backend in ("triton", "eager")
    )
    assert expected.isnan().any() == (broken in given)
    torch.testing.assert_close(found, expected, equal_nan=True, rtol=2e-3, atol=2e-3)


@pytest.mark.parametrize("tiled", [False, True], ids=["short", "tiled"])
def test_episodes_do_not_touch_each_other(tiled: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    if tiled:
        monkeypatch.setattr(tiles, "fits_one_tile", lambda problem: False)
        monkeypatch.setattr(tiles, "forward_tiling", lambda *_: tiles.Tiling(16, 16, 4))
    q, k, v = Case("", batch=1, queries=48, keys=48, dim=16, value_dim=16).tensors(torch.float32)
    ids = torch.tensor([[0] * 16 + [1] * 32])
    options: dict[str, Any] = {"causal": True, "bias": "count", "layout": "bhtd", "backend": "triton"}
    together = sigmoid_attention(q, k, v, row_start=segments_to_rows(ids).row_start, **options)
    noisy_k, noisy_v = k.clone(), v.clone()
    noisy_k[:, :, :16] = 3.0
    noisy_v[:, :, :16] = -7.0
    disturbed = sigmoid_attention(q, noisy_k, noisy_v, row_start=segments_to_rows(ids).row_start, **options)
    assert torch.equal(together[:, :, 16:], disturbed[:, :, 16:])
    assert not torch.equal(together[:, :, :16], disturbed[:, :, :16])
    if tiled:
        # Whole tiles of keys: the sums are made of the same parts in the same order.
        alone = sigmoid_attention(*(tensor[:, :, 16:] for tensor in (q, k, v)), **options)
        assert torch.equal(together[:, :, 16:], alone)


@pytest.mark.parametrize("layout", ["bthd", "bhtd"])
def test_strides_are_followed(layout: str) -> None:
    case = next(case for case in CASES if case.name == "causal")
    q, k, v = case.tensors(torch.float32)
    if layout == "bthd":
        q, k, v = (tensor.transpose(1, 2) for tensor in (q, k, v))
    options: dict[str, Any] = {"causal": True, "bias": "count", "layout": layout}
    expected = sigmoid_attention(q, k, v, backend="eager", **options)
    padded = [torch.cat([tensor, tensor + 5], 3)[..., : tensor.shape[3]] for tensor in (q, k, v)]
    every_second = [torch.stack([tensor, tensor - 3], 4)[..., 0] for tensor in (q, k, v)]
    for tensors in ((q, k, v), padded, every_second):
        found = sigmoid_attention(*tensors, backend="triton", **options)
        torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(("queries", "keys", "batch"), [(0, 3, 2), (3, 0, 2), (3, 3, 0)])
def test_nothing_gives_nothing(queries: int, keys: int, batch: int) -> None:
    case = Case("", queries=queries, keys=keys, batch=batch, options={"bias": lambda case: torch.zeros(case.heads)})
    for name, value in computed(case, "triton", torch.float32, torch.float32).items():
        assert not value.any(), name


def test_lengths_beyond_the_keys_are_the_keys(monkeypatch: pytest.MonkeyPatch) -> None:
    # On a GPU nobody looks at them beforehand.
    monkeypatch.setattr(problem, "readable", lambda _: False)
    q, k, v = Case("").tensors(torch.float32)
    options: dict[str, Any] = {"layout": "bhtd", "bias": "count", "backend": "triton"}
    torch.testing.assert_close(
        sigmoid_attention(q, k, v, kv_lens=torch.tensor([99, 7]), **options), sigmoid_attention(q, k, v, **options)
    )


def test_row_end_is_found_or_taken(small_tiles: None) -> None:
    case = longer(next(case for case in CASES if case.name == "episodes"))
    q, k, v = (tensor.requires_grad_() for tensor in case.tensors(torch.float32))
    ends = torch.rand(case.batch, case.keys, generator=torch.Generator().manual_seed(5)) < 0.3
    rows = segments_to_rows(ends)
    found = []
    for row_end in (None, rows.row_end):
        out = sigmoid_attention(
            q, k, v, causal=True, row_start=rows.row_start, row_end=row_end, backend="triton", layout="bhtd"
        )
        found.append(torch.autograd.grad(out.square().sum(), (k, v)))
    for each, other in zip(*found, strict=True):
        assert torch.equal(each, other)


@pytest.mark.parametrize(
    ("dtype", "error"), [(torch.float32, 1e-5), (torch.float16, 2e-3), (torch.bfloat16, 2e-2)], ids=str
)
@pytest.mark.parametrize("bias", ["count", "head", -1.0, "row and alibi"])
def test_steps_with_a_ring_buffer(bias: Any, dtype: torch.dtype, error: float) -> None:
    batch, heads, kv_heads, dim, value_dim, window, steps = 2, 6, 2, 5, 3, 7, 18
    generator = torch.Generator().manual_seed(0)

    def normal(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=generator).to(dtype)

    options: dict[str, Any] = {"bias": bias}
    if bias == "head":
        options = {"bias": torch.linspace(-2, 0, heads)}
    elif bias == "row and alibi":
        options = {"bias": torch.tensor([[-1.0], [-2.0]]), "alibi_slopes": torch.linspace(0.1, 0.4, heads)}
    fast, slow = (RingCache.empty(batch, kv_heads, window, dim, value_dim, dtype=dtype) for _ in range(2))
    for cache in (fast, slow):
        cache.k.fill_(float("nan"))
        cache.v.fill_(float("nan"))
    for step in range(steps):
        begins = torch.tensor([step == 4, step in (9, 10)])
        q, k, v = normal(batch, heads, dim), normal(batch, kv_heads, dim), normal(batch, kv_heads, value_dim)
        found, expected = (
            (cache.begin(begins), sigmoid_attention_step(q, k, v, cache, backend=backend, **options))[1]
            for cache, backend in ((fast, "triton"), (slow, "eager"))
        )
        torch.testing.assert_close(found, expected, rtol=error, atol=error)
    assert torch.equal(fast.count, slow.count)
    # The interpreter truncates where it should round to bfloat16; what is stored here needs no rounding.
    assert torch.equal(fast.k.nan_to_num(), slow.k.nan_to_num())
    assert torch.equal(fast.v.nan_to_num(), slow.v.nan_to_num())


@pytest.mark.parametrize("wide", ["k", "v", "count", "slopes", "bias", "inputs"])
def test_strides_of_a_step_are_followed(wide: str) -> None:
    heads, kv_heads, dim, value_dim, window = 4, 2, 5, 3, 4
    fast, slow = (RingCache.empty(2, kv_heads, window, dim, value_dim) for _ in range(2))
    slopes, bias = torch.linspace(0.1, 0.4, heads), torch.linspace(-2, -1, heads)
    if wide in ("k", "v"):
        # As a storage of (B, Hkv, d, W) has them.
        setattr(fast, wide, getattr(fast, wide).transpose(2, 3).contiguous().transpose(2, 3))
    elif wide == "count":
        fast.count = torch.zeros(2, 2, dtype=torch.int64)[:, 0]
    elif wide == "slopes":
        slopes = slopes.repeat_interleave(2)[::2]
    elif wide == "bias":
        bias = bias.repeat_interleave(2)[::2]
    generator = torch.Generator().manual_seed(0)
    for _ in range(6):
        shapes = (heads, dim), (kv_heads, dim), (kv_heads, value_dim)
        given = [torch.randn(2, *shape, generator=generator) for shape in shapes]
        if wide == "inputs":
            given = [tensor.transpose(1, 2).contiguous().transpose(1, 2) for tensor in given]
        found, expected = (
            sigmoid_attention_step(*given, cache, bias=bias, alibi_slopes=slopes, backend=backend)
            for cache, backend in ((fast, "triton"), (slow, "eager"))
        )
        torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-6)
        for ours, right in ((fast.k, slow.k), (fast.v, slow.v), (fast.count, slow.count)):
            assert torch.equal(ours, right)


def test_no_slope_is_read_beyond_the_last() -> None:
    """One slope is shared by all heads, as plain operations share it."""
    launch_decode = pytest.importorskip("rlstab.kernels.sigmoid_attention.launch_decode")
    q, k, v = torch.randn(1, 4, 5), torch.randn(1, 2, 5), torch.randn(1, 2, 5)
    caches = [RingCache.empty(1, 2, 4, 5) for _ in range(2)]
    for _ in range(3):
        found, expected = (
            launch_decode.step(q, k, v, caches[0], 1.0, None, torch.tensor([0.5])),
            launch_decode.step(q, k, v, caches[1], 1.0, None, torch.full((4,), 0.5)),
        )
        assert torch.equal(found, expected)


@pytest.mark.parametrize(("parts", "bias"), [(2, "count"), (3, "alibi"), (9, "count")])
def test_keys_that_several_programs_share(parts: int, bias: str) -> None:
    """Environments that have just begun, whose ring is about to turn, and has turned."""
    before = torch.tensor([0, 5, 69, 70, 155])
    heads, kv_heads, dim, value_dim, window = 2, 1, 5, 3, 70
    generator = torch.Generator().manual_seed(0)

    def normal(*shape: int) -> Tensor:
        return torch.randn(len(before), *shape, generator=generator)

    options: dict[str, Any] = {"bias": bias}
    if bias == "alibi":
        options = {"bias": None, "alibi_slopes": torch.linspace(0.1, 0.4, heads)}
    filled = RingCache(normal(kv_heads, window, dim), normal(kv_heads, window, value_dim), before)
    written = (torch.arange(window) < before[:, None])[:, None, :, None]
    for stored in (filled.k, filled.v):
        stored.masked_fill_(~written, float("nan"))
    q, k, v = normal(heads, dim), normal(kv_heads, dim), normal(kv_heads, value_dim)
    found: list[Tensor] = []
    for backend, count in (("eager", None), ("triton", 1), ("triton", parts), ("triton", parts)):
        cache = RingCache(filled.k.clone(), filled.v.clone(), filled.count.clone())
        with poisoned_memory():
            found.append(sigmoid_attention_step(q, k, v, cache, backend=backend, parts=count, **options))  # type: ignore[arg-type]
        if backend == "eager":
            expected = cache
        assert torch.equal(cache.count, before + 1)
        torch.testing.assert_close(cache.k, expected.k, rtol=0, atol=0, equal_nan=True)
        torch.testing.assert_close(cache.v, expected.v, rtol=0, atol=0, equal_nan=True)
    exact, whole, shared, again = found
    torch.testing.assert_close(whole, exact, rtol=1e-5, atol=1e-6)
    torch.testing.assert_close(shared, whole, rtol=1e-6, atol=1e-6)
    assert torch.equal(shared, again)


def test_keys_are_shared_where_there_are_few_environments() -> None:
    launch_decode = pytest.importorskip("rlstab.kernels.sigmoid_attention.launch_decode")
    # Two programs a multiprocessor are enough; a part has at least a tile of 32 keys.
    assert launch_decode.parts_of(4096, 512, 132) == 1
    assert launch_decode.parts_of(264, 512, 132) == 1
    assert launch_decode.parts_of(263, 512, 132) == 2
    assert launch_decode.parts_of(66, 512, 132) == 4
    assert launch_decode.parts_of(1, 512, 132) == 16
    assert launch_decode.parts_of(1, 40, 132) == 2
    assert launch_decode.parts_of(1, 32, 132) == 1


def test_a_gpu_with_many_multiprocessors_divides_by_itself(monkeypatch: pytest.MonkeyPatch) -> None:
    launch_decode = pytest.importorskip("rlstab.kernels.sigmoid_attention.launch_decode")
    real, launched = launch_decode._sum, []

    class Recorded:
        def __getitem__(self, grid: tuple[int, ...]) -> Any:
            launched.append(grid)
            return real[grid]

    monkeypatch.setattr(launch_decode, "_sum", Recorded())
    q, k, v = torch.randn(1, 2, 4), torch.ones(1, 2, 4), torch.ones(1, 2, 4)
    for multiprocessors, divided in ((1, 0), (132, 1)):
        monkeypatch.setattr(launch_decode, "_multiprocessors", lambda device, count=multiprocessors: count)
        out = sigmoid_attention_step(q, k, v, RingCache.empty(1, 2, 64, 4), backend="triton")
        expected = sigmoid_attention_step(q, k, v, RingCache.empty(1, 2, 64, 4), backend="eager")
        torch.testing.assert_close(out, expected, rtol=1e-5, atol=1e-6)
        assert len(launched) == divided


def test_half_the_keys_where_there_is_little_shared_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    case = Case("", queries=70, keys=70, dim=256, value_dim=256, heads=1, kv_heads=1, batch=1)
    real, seen = launch._start, []

    def start(problem: Any, kernel: Any, grid: tuple[int, ...], *arguments: Any, **constants: Any) -> None:
        if kernel is launch._key_gradient:
            seen.append((constants["BLOCK_M"], constants["BLOCK_N"]))
        real(problem, kernel, grid, *arguments, **constants)

    monkeypatch.setattr(launch, "_start", start)
    for shared in (232_448, 101_376):
        monkeypatch.setattr(launch, "shared_memory", lambda device, limit=shared: limit)
        q, k, v = (tensor.requires_grad_() for tensor in case.tensors(torch.float16))
        sigmoid_attention(q, k, v, layout="bhtd", backend="triton").sum().backward()
    assert seen == [(64, 32), (64, 16)]


def test_a_tile_that_does_not_fit_the_gpu_is_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    errors = pytest.importorskip("triton.runtime.errors")

    class TooLarge:
        def __getitem__(self, grid: tuple[int, ...]) -> Any:
            raise errors.OutOfResources(131_072, 101_376, "shared memory")

    monkeypatch.setattr(launch, "_one_forward", TooLarge())
    q, k, v = Case("", dim=40, value_dim=48).tensors(torch.float16)
    told = "131072 of shared memory for head dimension 48 in torch.float16, cpu has 101376: use backend='eager'$"
    with pytest.raises(UserError, match=told):
        sigmoid_attention(q, k, v, layout="bhtd", backend="triton")


@pytest.mark.parametrize(
    ("options", "told"),
    [
        ({"bias": -3.6}, True),
        ({"bias": -3.4}, False),
        ({"bias": "count", "keys": 34}, True),
        ({"bias": "count", "keys": 33}, False),
        ({"bias": "count", "keys": 34, "causal": True, "window": 20}, False),
        ({"bias": -3.6, "sigmoid_mode": "newton"}, False),
    ],
)
def test_a_warning_where_the_hardware_s_tanh_is_mostly_error(
    options: dict[str, Any], told: bool, caplog: pytest.LogCaptureFixture
) -> None:
    launch._say_once.cache_clear()
    q, k, v = Case("", queries=1, keys=options.pop("keys", 7)).tensors(torch.float32)
    for _ in range(2):
        sigmoid_attention(q, k, v, **{"layout": "bhtd", "backend": "triton", "sigmoid_mode": "tanh", **options})
    assert len(caplog.messages) == told
    assert all("sigmoid_mode='tanh' has no relative accuracy left" in message for message in caplog.messages)


def test_double_precision_is_the_reference_s() -> None:
    q, k, v = Case("").tensors()
    with pytest.raises(UserError, match="'triton' has no float64: use backend='eager'"):
        sigmoid_attention(q, k, v, backend="triton")
