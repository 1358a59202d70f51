"""The warp-specialised forward kernel in Triton's interpreter, and what its launch refuses."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

import pytest
import torch
from torch import Tensor

from rlstab.bench.attention_accuracy import poisoned_memory
from rlstab.errors import UserError
from rlstab.kernels.sigmoid_attention import sigmoid_attention, tiles
from rlstab.kernels.sigmoid_attention.problem import make_problem

from .cases import Case

launch = pytest.importorskip("rlstab.kernels.sigmoid_attention.launch", reason="needs triton")
launch_specialised = pytest.importorskip("rlstab.kernels.sigmoid_attention.launch_specialised")
tile_copies = pytest.importorskip("rlstab.kernels.sigmoid_attention.tile_copies")
pytestmark = pytest.mark.skipif(not launch.interpreting(), reason="kernels are compiled, not interpreted")

BIAS: dict[str, Any] = {"bias": -3.0}
CAUSAL: dict[str, Any] = {"causal": True, **BIAS}
DENSE = Case("dense", queries=50, keys=50, dim=64, value_dim=64, options=BIAS)
CAUSAL_CASE = Case("causal", queries=50, keys=50, dim=64, value_dim=64, options=CAUSAL)
FITTING = (
    DENSE,
    CAUSAL_CASE,
    Case("whole tiles", queries=64, keys=64, dim=64, value_dim=64, batch=1, options=CAUSAL),
    Case("window", queries=70, keys=70, dim=64, value_dim=64, batch=1, options={**CAUSAL, "window": 21}),
    Case("window beyond the keys", queries=40, keys=40, dim=64, value_dim=64, options={**CAUSAL, "window": 99}),
    Case("newest queries", queries=21, keys=50, dim=64, value_dim=64, options=CAUSAL),
    Case("fewer keys", queries=50, keys=9, dim=64, value_dim=64, options={"scale": 0.2}),
    Case("grouped", queries=33, keys=33, heads=4, dim=64, value_dim=64, batch=1, options=CAUSAL),
    Case("wide heads", queries=33, keys=33, dim=128, value_dim=128, batch=1, options=CAUSAL),
)


@pytest.fixture(autouse=True)
def small_tiles(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tiles, "specialised_tiling", lambda *_: tiles.Tiling(32, 16, 4))


def computed(case: Case, backend: str, dtype: torch.dtype, inputs: torch.dtype, **options: Any) -> Tensor:
    q, k, v = (tensor.to(dtype) for tensor in case.tensors(inputs))
    return sigmoid_attention(q, k, v, backend=backend, **{**case.arguments(), **options})  # type: ignore[arg-type]


def distance(found: Tensor, exact: Tensor) -> float:
    return float((found.double() - exact).norm() / exact.norm())


@pytest.fixture
def poisoned() -> Iterator[None]:
    """Outputs begin as NaN: what is not written shows."""
    with poisoned_memory():
        assert torch.zeros(1).new_empty(3).isnan().all()
        yield


@pytest.mark.usefixtures("poisoned")
@pytest.mark.parametrize("case", FITTING, ids=lambda case: case.name)
def test_results_are_the_reference_s(case: Case) -> None:
    exact = computed(case, "eager", torch.float64, torch.float32)
    assert distance(computed(case, "specialised", torch.float32, torch.float32), exact) < 1e-6


@pytest.mark.usefixtures("poisoned")
@pytest.mark.parametrize("case", [DENSE, CAUSAL_CASE], ids=lambda case: case.name)
def test_half_precision_takes_newton_s_reciprocal(case: Case) -> None:
    exact = computed(case, "eager", torch.float64, torch.float16)
    assert distance(computed(case, "specialised", torch.float16, torch.float16), exact) < 6e-4
    single = computed(case, "specialised", torch.float32, torch.float16, sigmoid_mode="newton")
    assert 1e-7 < distance(single, exact) < 2e-5


def test_a_tile_that_no_row_sees_is_never_fetched() -> None:
    """Not a matter of speed alone: weights of zero times NaN would be NaN."""
    case = Case("", queries=64, keys=64, heads=1, kv_heads=1, dim=64, value_dim=64, batch=1)
    q, k, v = case.tensors(torch.float32)
    options: dict[str, Any] = {"causal": True, "window": 8, "bias": 0.0, "backend": "specialised", "layout": "bhtd"}
    whole = sigmoid_attention(q, k, v, **options)
    for rows, hidden in ((slice(0, 32), slice(32, 64)), (slice(32, 64), slice(0, 16))):
        torn = v.clone()
        torn[:, :, hidden] = float("nan")
        found = sigmoid_attention(q, k, torn, **options)
        assert torch.equal(found[:, :, rows], whole[:, :, rows])


@pytest.mark.parametrize("layout", ["bthd", "bhtd"])
def test_tensors_that_descriptors_cannot_describe_are_copied(layout: str) -> None:
    q, k, v = CAUSAL_CASE.tensors(torch.float32)
    if layout == "bthd":
        q, k, v = (tensor.transpose(1, 2) for tensor in (q, k, v))
    options: dict[str, Any] = {**CAUSAL, "layout": layout}
    expected = sigmoid_attention(q, k, v, backend="eager", **options)
    every_second = [torch.stack([tensor, tensor - 3], 4)[..., 0] for tensor in (q, k, v)]
    odd_rows = [torch.cat([tensor, tensor[..., :1]], 3)[..., :64] for tensor in (q, k, v)]
    shifted = [torch.cat([tensor[..., :1], tensor, tensor[..., :3]], 3)[..., 1:65] for tensor in (q, k, v)]
    for tensors in ((q, k, v), every_second, odd_rows, shifted):
        found = sigmoid_attention(*tensors, backend="specialised", **options)
        torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-5)


def test_the_same_row_in_every_place_is_copied_too() -> None:
    q, k, v = (tensor[:, :, :1].expand(-1, -1, 50, -1) for tensor in CAUSAL_CASE.tensors(torch.float32))
    found = sigmoid_attention(q, k, v, backend="specialised", layout="bhtd", **CAUSAL)
    expected = sigmoid_attention(q, k, v, backend="eager", layout="bhtd", **CAUSAL)
    torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-5)


def test_what_is_copied_can_be_described_and_the_rest_is_not_copied() -> None:
    wide = torch.zeros(2, 3, 8, 64, dtype=torch.float16)
    one_row = torch.zeros(2, 3, 1, 67, dtype=torch.float16)[..., :64]
    for fitting in (wide, wide.transpose(1, 2), wide[:, :, 2:], wide[..., 8:16], wide[:1].expand(1, 3, 8, 64)):
        assert tile_copies.aligned(fitting) is fitting
    unfit = (wide[..., 1:33], wide[..., ::2], wide[:, :, :1].expand(2, 3, 8, 64), wide[:1].expand(2, 3, 8, 64), one_row)
    for tensor in unfit:
        copy = tile_copies.aligned(tensor)
        assert copy is not tensor
        assert torch.equal(copy, tensor)
        assert tile_copies.aligned(copy) is copy


def test_gradients_are_those_of_the_tiled_kernels() -> None:
    found = []
    for backend in ("specialised", "triton"):
        q, k, v = (tensor.requires_grad_() for tensor in CAUSAL_CASE.tensors(torch.float32))
        out = sigmoid_attention(q, k, v, backend=backend, layout="bhtd", **CAUSAL)  # type: ignore[arg-type]
        found.append(torch.autograd.grad(out.sum(), (q, k, v)))
    for ours, theirs in zip(*found, strict=True):
        assert ours.norm() > 0.1
        assert torch.equal(ours, theirs)


def test_compiled_graphs_keep_the_choice(monkeypatch: pytest.MonkeyPatch) -> None:
    ran: list[int] = []
    real = launch_specialised.forward

    def forward(problem: Any, out: Tensor) -> None:
        ran.append(1)
        real(problem, out)

    monkeypatch.setattr(launch_specialised, "forward", forward)

    def call(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        return sigmoid_attention(q, k, v, backend="specialised", layout="bhtd", **CAUSAL)

    tensors = CAUSAL_CASE.tensors(torch.float32)
    found = torch.compile(call, backend="eager", fullgraph=True)(*tensors)
    assert ran == [1]
    torch.testing.assert_close(found, call(*tensors))


def test_nothing_gives_nothing() -> None:
    for queries, keys in ((0, 3), (3, 0)):
        case = Case("", queries=queries, keys=keys, dim=64, value_dim=64)
        assert not computed(case, "specialised", torch.float32, torch.float32).any()


def test_the_way_to_allocate_is_given_once(monkeypatch: pytest.MonkeyPatch) -> None:
    given: list[Any] = []
    monkeypatch.setattr(tile_copies.triton, "set_allocator", given.append)
    tile_copies._can_allocate.set(False)
    for _ in range(2):
        computed(CAUSAL_CASE, "specialised", torch.float32, torch.float32)
    assert len(given) == 1
    asked: list[Any] = []
    monkeypatch.setattr(tile_copies.torch, "empty", lambda *shape, **options: asked.append((shape, options)))
    given[0](640, 128, None)
    assert asked == [((640,), {"dtype": torch.int8, "device": "cuda"})]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"row_start": torch.zeros(2, 50, dtype=torch.int32)}, "has no row_start"),
        ({"kv_lens": torch.tensor([3, 50])}, "has no kv_lens"),
        ({"alibi_slopes": torch.zeros(2)}, "has no alibi_slopes"),
        ({"bias": "count"}, "has one number for a bias"),
        ({"bias": torch.zeros(2)}, "has one number for a bias"),
    ],
)
def test_what_does_not_fit_is_named(change: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError, match=f"backend 'specialised' {message}.*: use backend='auto'") as caught:
        computed(CAUSAL_CASE, "specialised", torch.float32, torch.float32, **change)
    assert "\n" not in str(caught.value)


def test_other_head_dimensions_are_named() -> None:
    for dim, value_dim in ((32, 32), (64, 128)):
        case = Case("", queries=5, keys=5, dim=dim, value_dim=value_dim)
        with pytest.raises(UserError, match=f"head dimensions 64 and 128 .* got {dim} and {value_dim}"):
            computed(case, "specialised", torch.float32, torch.float32)


def problem(dtype: torch.dtype = torch.float16) -> Any:
    q, k, v = CAUSAL_CASE.tensors(dtype)
    none = dict.fromkeys(("scale", "window", "row_start", "row_end", "kv_lens", "alibi_slopes"))
    return make_problem(q, k, v, bias=-math.log(50), causal=True, layout="bhtd", **none)


def test_other_machines_and_types_are_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(launch_specialised, "interpreting", lambda: False)
    with pytest.raises(UserError, match="needs a GPU, q is on cpu"):
        launch_specialised.check(problem())
    with pytest.raises(UserError, match=r"computes float16 and bfloat16, q is torch\.float32"):
        launch_specialised.check(problem(torch.float32))
    monkeypatch.setattr(launch_specialised, "interpreting", lambda: True)
    with pytest.raises(UserError, match=r"computes float16 and bfloat16, q is torch\.float64"):
        launch_specialised.check(problem(torch.float64))
    monkeypatch.setattr(launch_specialised, "architecture", lambda device: 80)
    with pytest.raises(UserError, match=r"needs a GPU of compute capability 9\.0, cpu has 8\.0"):
        launch_specialised.check(problem())


class FakeKernel:
    """In the place of one that would be compiled: says how many warps came of it, or fails."""

    def __init__(self, warps: int | None) -> None:
        self.warps, self.compiled, self.launched = warps, 0, 0

    def warmup(self, *arguments: Any, **options: Any) -> Any:
        self.compiled += 1
        if self.warps is None:
            raise RuntimeError("PassManager::run failed\nand much more")
        return type("Compiled", (), {"metadata": type("Metadata", (), {"num_warps": self.warps})})

    def __getitem__(self, grid: tuple[int, ...]) -> Any:
        def launched(*arguments: Any, **options: Any) -> None:
            self.launched += 1

        return launched


@pytest.fixture
def compiling(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(launch_specialised, "check", lambda problem: None)
    monkeypatch.setattr(launch_specialised, "interpreting", lambda: False)
    monkeypatch.setattr(tile_copies, "_compiled", {})
    launch_specialised._say_once.cache_clear()


@pytest.mark.usefixtures("compiling")
def test_compilers_errors_never_reach_users(monkeypatch: pytest.MonkeyPatch) -> None:
    kernel = FakeKernel(None)
    monkeypatch.setattr(launch_specialised, "_forward", kernel)
    with pytest.raises(UserError, match=r"does not compile .*PassManager::run failed.*use backend='auto'") as caught:
        launch_specialised.forward(problem(), problem().q)
    assert "\n" not in str(caught.value)
    assert kernel.launched == 0


@pytest.mark.usefixtures("compiling")
@pytest.mark.parametrize(("warps", "warnings"), [(12, 0), (4, 1)])
def test_warps_that_were_not_specialised_are_told_once(
    warps: int, warnings: int, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    kernel = FakeKernel(warps)
    monkeypatch.setattr(launch_specialised, "_forward", kernel)
    for _ in range(3):
        launch_specialised.forward(problem(), problem().q)
    assert (kernel.compiled, kernel.launched) == (1, 3)
    assert len(caplog.records) == warnings
