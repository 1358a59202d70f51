"""The kernel of all gradients at once in Triton's interpreter, against the reference in double precision."""

from __future__ import annotations

import dataclasses
from typing import Any

import pytest
import torch
from torch import Tensor

from rlstab.bench.attention_accuracy import poisoned_memory
from rlstab.kernels.sigmoid_attention import sigmoid_attention, tiles

from .cases import CASES, Case, starts

launch = pytest.importorskip("rlstab.kernels.sigmoid_attention.launch", reason="needs triton")
launch_fused = pytest.importorskip("rlstab.kernels.sigmoid_attention.launch_fused")
tile_copies = pytest.importorskip("rlstab.kernels.sigmoid_attention.tile_copies")
pytestmark = pytest.mark.skipif(not launch.interpreting(), reason="kernels are compiled, not interpreted")

LONGER: dict[str, dict[str, Any]] = {
    "window": {"window": 20},
    "episodes and window": {"row_start": lambda case: starts(case, 9)},
    "padded": {"kv_lens": lambda case: torch.tensor([0, 35])},
    "padded causal": {"kv_lens": lambda case: torch.tensor([20, 40])},
}


def longer(name: str) -> Case:
    """A call of the list, on more rows and keys than a tile has, and as wide as the kernel asks for."""
    case = next(case for case in CASES if case.name == name)
    queries = 40 if case.queries == case.keys else case.queries + 15
    sizes = {"queries": queries, "keys": 40, "dim": 64, "value_dim": 64}
    return dataclasses.replace(case, **sizes, options={**case.options, **LONGER.get(name, {})})


@pytest.fixture(autouse=True)
def launched(monkeypatch: pytest.MonkeyPatch) -> list[bool]:
    """Small tiles of unlike sizes, and whether the kernel computed each backward pass that asked for it."""
    monkeypatch.setattr(tiles, "fits_one_tile", lambda problem: False)
    monkeypatch.setattr(tiles, "fused_tiling", lambda *_: tiles.Tiling(16, 32, 4))
    for name in ("forward_tiling", "query_gradient_tiling", "key_gradient_tiling"):
        monkeypatch.setattr(tiles, name, lambda *_: tiles.Tiling(32, 32, 4))
    done: list[bool] = []
    real = launch_fused.gradients

    def gradients(*arguments: Any) -> bool:
        done.append(real(*arguments))
        return done[-1]

    monkeypatch.setattr(launch_fused, "gradients", gradients)
    return done


def gradients(case: Case, backend: str, dtype: torch.dtype, inputs: torch.dtype, **options: Any) -> tuple[Tensor, ...]:
    q, k, v = (tensor.to(dtype).requires_grad_() for tensor in case.tensors(inputs))
    given = case.arguments(torch.float32)
    out = sigmoid_attention(q, k, v, backend=backend, **{**given, **options})  # type: ignore[arg-type]
    cotangent = torch.randn(out.shape, generator=torch.Generator().manual_seed(3), dtype=torch.float64)
    with poisoned_memory():
        return torch.autograd.grad(out, (q, k, v), cotangent.to(inputs).to(dtype))


@pytest.mark.parametrize("name", [case.name for case in CASES if case.name not in ("one key", "other values")])
def test_gradients_are_the_reference_s(name: str, launched: list[bool]) -> None:
    case = longer(name)
    exact = gradients(case, "eager", torch.float64, torch.float32)
    for found, right in zip(
        gradients(case, "triton", torch.float32, torch.float32, deterministic=False), exact, strict=True
    ):
        assert (found.double() - right).norm() <= 1e-6 * right.norm() + 1e-12
    assert launched == [True]


def test_half_precision(launched: list[bool]) -> None:
    case = longer("episodes")
    exact = gradients(case, "eager", torch.float64, torch.float16)
    for found, right in zip(
        gradients(case, "triton", torch.float16, torch.float16, deterministic=False), exact, strict=True
    ):
        assert (found.double() - right).norm() < 6e-4 * right.norm()
    assert launched == [True]


def test_rows_that_descriptors_cannot_describe_are_copied(launched: list[bool]) -> None:
    q, k, v = (torch.randn(1, 1, 40, 65, generator=torch.Generator().manual_seed(1))[..., :64] for _ in range(3))
    found = []
    for options in ({"backend": "eager"}, {"backend": "triton", "deterministic": False}):
        leaves = [tensor.detach().requires_grad_() for tensor in (q, k, v)]
        out = sigmoid_attention(*leaves, layout="bhtd", causal=True, **options)  # type: ignore[arg-type]
        found.append(torch.autograd.grad(out.sum(), leaves))
    for ours, theirs in zip(*found, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-5)
    assert launched == [True]


def test_torchs_switch_for_deterministic_algorithms_is_heeded(launched: list[bool]) -> None:
    torch.use_deterministic_algorithms(True)
    try:
        gradients(longer("causal"), "triton", torch.float32, torch.float32, deterministic=False)
    finally:
        torch.use_deterministic_algorithms(False)
    assert launched == []


def test_everything_else_is_left_to_the_deterministic_kernels(launched: list[bool]) -> None:
    """Without being asked, for other sizes, for one of the gradients, and for a bias that has one."""
    case = longer("causal")
    gradients(case, "triton", torch.float32, torch.float32)
    narrow = dataclasses.replace(case, dim=16, value_dim=16)
    gradients(narrow, "triton", torch.float32, torch.float32, deterministic=False)
    q, k, v = case.tensors(torch.float32)
    bias = torch.zeros(case.heads, requires_grad=True)
    options: dict[str, Any] = {"causal": True, "layout": "bhtd", "backend": "triton", "deterministic": False}
    torch.autograd.grad(sigmoid_attention(q.requires_grad_(), k, v, **options).sum(), q)
    leaves = [tensor.requires_grad_() for tensor in (q, k, v)]
    found = torch.autograd.grad(sigmoid_attention(q, k, v, bias=bias, **options).sum(), [*leaves, bias])
    assert found[3].abs().min() > 0
    assert launched == []


def test_what_does_not_compile_is_left_to_them_too(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, launched: list[bool]
) -> None:
    class Refused:
        def warmup(self, *arguments: Any, **options: Any) -> Any:
            raise RuntimeError("PassManager::run failed\nand much more")

    monkeypatch.setattr(launch_fused, "_gradient", Refused())
    monkeypatch.setattr(launch_fused, "fits", lambda problem: True)
    monkeypatch.setattr(launch_fused, "interpreting", lambda: False)
    monkeypatch.setattr(tile_copies, "_compiled", {})
    launch_fused._say_once.cache_clear()
    case = longer("causal")
    expected = gradients(case, "triton", torch.float32, torch.float32)
    for _ in range(2):
        found = gradients(case, "triton", torch.float32, torch.float32, deterministic=False)
        for ours, theirs in zip(found, expected, strict=True):
            assert torch.equal(ours, theirs)
    assert launched == [False, False]
    assert len(caplog.records) == 1
    assert "PassManager::run failed" in caplog.text
    assert "and much more" not in caplog.text
