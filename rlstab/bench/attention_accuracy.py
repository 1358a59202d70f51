"""How far attention is from what it should compute: against float64, beside plain operations of the same precision."""

from __future__ import annotations

import contextlib
import importlib
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from rlstab.bench.attention_cases import Case, Decode
from rlstab.bench.attention_providers import Inputs, Provider, make_inputs, visible_mask
from rlstab.bench.attention_result import Check
from rlstab.kernels.sigmoid_attention import (
    RingCache,
    sigmoid_attention,
    sigmoid_attention_decode,
    sigmoid_attention_step,
)
from rlstab.kernels.sigmoid_attention.decode import StepBackend

FACTOR = 2.0
"""An error may be this many times that of plain operations."""
_LONG = 2048
"""From here on one head is compared: float64 scores take eight bytes each."""
_MOST_ENVIRONMENTS = 512
"""Of those of a step, so many are compared: the kernel divides the keys of fewer, which is other code."""
_deterministic: Any = importlib.import_module("torch.utils.deterministic")
_NAMES = ("out", "dq", "dk", "dv")


def check(provider: Provider, case: Case, device: torch.device, dtype: torch.dtype, seed: int) -> list[Check]:
    """Compare the output and all gradients of a provider with float64, on fresh inputs of fewer sequences and heads."""
    few = 1 if case.length > _LONG else 4
    small = replace(case, batch=min(case.batch, few), heads=min(case.heads, few))
    inputs = make_inputs(small, device, dtype, torch.Generator(device).manual_seed(seed), grad=True)
    with provider.context():
        call = provider.build(small, inputs)
        with poisoned_memory():
            found = _with_gradients(call(), inputs)
    exact, plain = _exactly(small, inputs), _plainly(small, inputs)
    label = f"{case.group}, {case.name}"
    checks: list[Check] = []
    for name, ours, right, rough in zip(_NAMES, found, exact, plain, strict=True):
        limit = FACTOR * (_error(rough, right) or 0.0)
        checks.append(Check(label, f"{provider.name} {name}", _error(ours, right), limit))
    return checks


def check_step(case: Decode, backend: StepBackend, device: torch.device, dtype: torch.dtype, seed: int) -> Check:
    """Compare one step over a ring buffer, some of whose environments have just begun, with float64."""
    generator = torch.Generator(device).manual_seed(seed)
    batch, heads, window, dim = min(case.batch, _MOST_ENVIRONMENTS), case.heads, case.window, case.dim

    def normal(*shape: int) -> Tensor:
        return torch.randn(*shape, device=device, generator=generator).to(dtype)

    cache = RingCache(
        normal(batch, heads, window, dim),
        normal(batch, heads, window, dim),
        torch.randint(0, 3 * window, (batch,), device=device, generator=generator),
    )
    q, k, v = (normal(batch, heads, dim) for _ in range(3))
    with poisoned_memory():
        found = sigmoid_attention_step(q, k, v, cache, bias="count", backend=backend)
    exact = sigmoid_attention_decode(q.double(), cache.k.double(), cache.v.double(), cache.count, bias="count")
    # Plain operations round scores and weights; what is left of them is one rounding of each number.
    limit = FACTOR * (torch.finfo(dtype).eps + 1e-6)
    return Check(f"decode, {case.name}", f"{backend} step", _error(found, exact), limit)


def sigmoid_errors(provider_backend: str, device: torch.device, points: int = 60_001) -> list[tuple[str, float, float]]:
    """Evaluate each mode of the sigmoid over [-30, 30], through the kernel itself: one query, one key, one feature.

    Returns
    -------
    list
        Mode, largest error, largest relative error.
    """
    grid = torch.linspace(-30.0, 30.0, points, device=device).view(points, 1, 1, 1)
    ones = torch.ones_like(grid)
    right = grid.double().sigmoid()
    found: list[tuple[str, float, float]] = []
    for mode in ("exact", "newton", "tanh"):
        options: Any = {"scale": 1.0, "bias": 0.0, "sigmoid_mode": mode, "backend": provider_backend}
        out = sigmoid_attention(grid, ones, ones, **options)
        error = (out.double() - right).abs()
        found.append((mode, float(error.max()), float((error / right).max())))
    return found


@contextlib.contextmanager
def poisoned_memory() -> Iterator[None]:
    """Fill all memory that is asked for with NaN, so that what a kernel forgets to write shows."""
    before = torch.are_deterministic_algorithms_enabled(), torch.is_deterministic_algorithms_warn_only_enabled()
    filled = _deterministic.fill_uninitialized_memory
    torch.use_deterministic_algorithms(True, warn_only=True)
    _deterministic.fill_uninitialized_memory = True
    try:
        yield
    finally:
        torch.use_deterministic_algorithms(before[0], warn_only=before[1])
        _deterministic.fill_uninitialized_memory = filled


def _with_gradients(out: Tensor, inputs: Inputs) -> tuple[Tensor, ...]:
    return (out.detach(), *torch.autograd.grad(out, inputs.leaves, inputs.cotangent.to(out.dtype)))


def _exactly(case: Case, inputs: Inputs) -> tuple[Tensor, ...]:
    wide = _as_type(inputs, torch.float64)
    bias = "count" if case.resets else case.bias
    window = None if case.resets else case.window
    out = sigmoid_attention(
        *wide.leaves,
        layout="bhtd",
        backend="eager",
        causal=case.causal,
        window=window,
        row_start=wide.row_start,
        bias=bias,
    )
    return _with_gradients(out, wide)


def _plainly(case: Case, inputs: Inputs) -> tuple[Tensor, ...]:
    """Everything in the inputs' type, as somebody would write it down."""
    own = _as_type(inputs, inputs.q.dtype)
    q, k, v = own.leaves
    mask = visible_mask(case, own) if case.causal else None
    bias: Tensor | float = case.bias
    if case.resets and mask is not None:
        bias = -mask.sum(3, keepdim=True).to(q.dtype).log()
    weights = torch.sigmoid(q @ k.transpose(2, 3) * case.dim**-0.5 + bias)
    if mask is not None:
        weights = torch.where(mask, weights, 0.0)
    return _with_gradients(weights @ v, own)


def _as_type(inputs: Inputs, dtype: torch.dtype) -> Inputs:
    q, k, v = (tensor.detach().to(dtype).requires_grad_() for tensor in inputs.leaves)
    return replace(inputs, q=q, k=k, v=v, cotangent=inputs.cotangent.to(dtype))


def _error(found: Tensor, right: Tensor) -> float | None:
    """Relative to the norm of what is right; ``None`` if it is not a number."""
    size = right.norm()
    error = float((found.double() - right).norm() / size) if size > 0 else float(found.double().norm())
    return error if error == error and error != float("inf") else None
