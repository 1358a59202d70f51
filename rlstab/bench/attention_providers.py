"""Who computes attention in the benchmarks: ours in all variants, and its peers."""

from __future__ import annotations

import contextlib
import functools
import importlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from rlstab.bench.attention_cases import RESET_RATE, Case
from rlstab.errors import UserError
from rlstab.kernels.sigmoid_attention import segments_to_rows, sigmoid_attention


class Unavailable(Exception):
    """A provider cannot compute a case; the message says why."""


@dataclass(frozen=True)
class Inputs:
    """Tensors of one call, ``(B, H, T, d)`` views of ``(B, T, H, d)`` memory, as projections leave them."""

    q: Tensor
    k: Tensor
    v: Tensor
    cotangent: Tensor
    row_start: Tensor | None = None
    row_end: Tensor | None = None

    @property
    def leaves(self) -> tuple[Tensor, Tensor, Tensor]:
        """What gets gradients."""
        return self.q, self.k, self.v


def make_inputs(
    case: Case, device: torch.device, dtype: torch.dtype, generator: torch.Generator, *, grad: bool = False
) -> Inputs:
    """Draw normal inputs, and where episodes begin; ``generator`` must be one of ``device``."""
    shape = (case.batch, case.length, case.heads, case.dim)
    # Numbers are drawn in float32 and rounded, so that all types get the same.
    q, k, v, cotangent = (
        torch.randn(shape, device=device, generator=generator).to(dtype).transpose(1, 2) for _ in range(4)
    )
    start = end = None
    if case.resets:
        begins = torch.rand(case.batch, case.length, device=device, generator=generator) < RESET_RATE
        start, end = segments_to_rows(begins, case.window)
    for tensor in (q, k, v):
        tensor.requires_grad_(grad)
    return Inputs(q, k, v, cotangent, start, end)


Build = Callable[[Case, Inputs], Callable[[], Tensor]]


@dataclass(frozen=True)
class Provider:
    """An implementation: makes a call ready, which then runs as often as it takes."""

    name: str
    build: Build
    """Raises `Unavailable` where it cannot compute a case."""
    context: Callable[[], contextlib.AbstractContextManager[Any]] = contextlib.nullcontext
    """What its calls run in."""


def ours(name: str, backend: str, mode: str = "auto", *, deterministic: bool = True) -> Provider:
    """Ours, by one of its backends."""

    def build(case: Case, inputs: Inputs) -> Callable[[], Tensor]:
        options: Any = {"backend": backend, "sigmoid_mode": mode, "deterministic": deterministic}
        options |= {"layout": "bhtd", "causal": case.causal}
        if case.resets:
            options |= {"row_start": inputs.row_start, "row_end": inputs.row_end, "bias": "count"}
        else:
            options |= {"window": case.window, "bias": case.bias}
        return lambda: sigmoid_attention(inputs.q, inputs.k, inputs.v, **options)

    return Provider(name, build)


def specialised(backend: str = "specialised") -> Provider:
    """Ours, by the warp-specialised forward kernel and that of all gradients at once, where a call fits them."""
    plain = ours("specialised", backend, "newton", deterministic=False)

    def build(case: Case, inputs: Inputs) -> Callable[[], Tensor]:
        if case.resets:
            raise Unavailable("has no episodes")
        call = plain.build(case, inputs)

        def checked() -> Tensor:
            try:
                return call()
            except UserError as error:
                raise Unavailable(str(error)) from error

        return checked

    return Provider("specialised", build)


def eager(most_bytes: float) -> Provider:
    """Plain torch operations, where their intermediate tensors take no more than ``most_bytes``."""
    plain = ours("eager", "eager")

    def build(case: Case, inputs: Inputs) -> Callable[[], Tensor]:
        # Products, scores, weights, mask, and what the backward pass keeps of them.
        needed = 6.0 * 4 * case.batch * case.heads * case.length**2
        if needed > most_bytes:
            raise Unavailable(f"would take more than {most_bytes / 2**30:.1f} GiB")
        return plain.build(case, inputs)

    return Provider("eager", build)


def sdpa(name: str, backend: str | None = None, *, masked: bool = False) -> Provider:
    """Torch's softmax attention, by one of its backends; ``masked``: with a mask instead of refusing resets."""

    def build(case: Case, inputs: Inputs) -> Callable[[], Tensor]:
        q, k, v = inputs.leaves
        if not case.resets and case.window is None:
            if masked:
                raise Unavailable("needs no mask")
            return lambda: F.scaled_dot_product_attention(q, k, v, is_causal=case.causal)
        if not masked:
            raise Unavailable("has no episodes or windows")
        # Made once, outside of what is timed: that favours it.
        mask = visible_mask(case, inputs)
        return lambda: F.scaled_dot_product_attention(q, k, v, attn_mask=mask)

    def context() -> contextlib.AbstractContextManager[Any]:
        from torch.nn.attention import SDPBackend, sdpa_kernel

        return contextlib.nullcontext() if backend is None else sdpa_kernel(getattr(SDPBackend, backend))

    return Provider(name, build, context)


def visible_mask(case: Case, inputs: Inputs) -> Tensor:
    """``(B, 1, T, T)`` or ``(1, 1, T, T)``, bool: what each row sees."""
    steps = torch.arange(case.length, device=inputs.q.device)
    mask = steps[:, None] >= steps
    if inputs.row_start is not None:
        return (mask & (steps >= inputs.row_start[:, :, None]))[:, None]
    return (mask & (steps > steps[:, None] - (case.window or case.length)))[None, None]


def flex() -> Provider:
    """FlexAttention, compiled: softmax of the logarithm of the sigmoid, times the sum that softmax divided by."""

    def build(case: Case, inputs: Inputs) -> Callable[[], Tensor]:
        if case.resets or case.window is not None:
            raise Unavailable("only dense and causal cases are written for it")
        attention: Any = importlib.import_module("torch.nn.attention.flex_attention")
        q, k, v = inputs.leaves
        # A tensor, so that another length is no other program.
        bias = torch.tensor(case.bias, device=q.device)
        mask = None
        if case.causal:
            mask = attention.create_block_mask(_causal, None, None, case.length, case.length, device=str(q.device))

        def score(value: Tensor, *_: Tensor) -> Tensor:
            return F.logsigmoid(value + bias)

        def call(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
            out, aux = attention.flex_attention(
                q, k, v, score_mod=score, block_mask=mask, return_aux=attention.AuxRequest(lse=True)
            )
            return (out.float() * aux.lse.exp()[..., None]).to(out.dtype)

        torch.compiler.reset()  # Programs of earlier cases count towards a limit.
        compiled = torch.compile(call, dynamic=False)
        return lambda: compiled(q, k, v)

    return Provider("FlexAttention", build)


def official(spec: str) -> Provider:
    """A published kernel, called as ``function(q, k, v, causal=..., sigmoid_bias=...)`` with ``(B, T, H, d)`` tensors.

    Raises
    ------
    UserError
        ``spec`` is not ``module:function``, or cannot be imported.
    """
    module, _, attribute = spec.partition(":")
    if not module or not attribute:
        raise UserError(f"official is '{spec}', it must be MODULE:FUNCTION")
    try:
        function = getattr(importlib.import_module(module), attribute)
    except (ImportError, AttributeError, RuntimeError) as error:
        raise UserError(f"official '{spec}' cannot be imported: {error}") from error

    def build(case: Case, inputs: Inputs) -> Callable[[], Tensor]:
        if case.resets or case.window is not None:
            raise Unavailable("has no episodes")
        q, k, v = (tensor.transpose(1, 2) for tensor in inputs.leaves)
        call = functools.partial(function, q, k, v, causal=case.causal, sigmoid_bias=case.bias)
        return lambda: call().transpose(1, 2)

    return Provider("official", build)


def gpu_providers(official_spec: str | None, most_bytes: float) -> dict[str, Provider]:
    """All that the protocol for GPUs compares, the most important first."""
    found = [
        ours("newton", "triton", "newton"),
        specialised(),
        sdpa("SDPA flash", "FLASH_ATTENTION"),
        ours("tanh", "triton", "tanh"),
        ours("exact", "triton", "exact"),
        sdpa("SDPA cuDNN", "CUDNN_ATTENTION"),
        sdpa("SDPA masked", masked=True),
        *([] if official_spec is None else [official(official_spec)]),
        eager(most_bytes),
        flex(),
    ]
    return {provider.name: provider for provider in found}


def cpu_providers(most_bytes: float = 6e9) -> Mapping[str, Provider]:
    """All that the benchmark on CPUs compares."""
    found = [
        ours("blockwise", "blockwise"),
        sdpa("SDPA"),
        sdpa("SDPA masked", masked=True),
        eager(most_bytes),
    ]
    return {provider.name: provider for provider in found}


def _causal(batch: Tensor, head: Tensor, query: Tensor, key: Tensor) -> Tensor:
    return query >= key
