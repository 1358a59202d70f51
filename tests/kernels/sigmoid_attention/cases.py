"""Calls that between them use every argument."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from rlstab.kernels.sigmoid_attention import segments_to_rows


@dataclass(frozen=True)
class Case:
    """Sizes of a call, and its arguments by name; functions are called with the case to make tensors."""

    name: str
    queries: int = 7
    keys: int = 7
    heads: int = 2
    kv_heads: int = 2
    dim: int = 4
    value_dim: int = 4
    batch: int = 2
    options: dict[str, Any] = field(default_factory=dict)

    def tensors(self, dtype: torch.dtype = torch.float64, seed: int = 0) -> tuple[Tensor, Tensor, Tensor]:
        """Normal q, k and v in the layout bhtd."""
        generator = torch.Generator().manual_seed(seed)

        def normal(*shape: int) -> Tensor:
            return torch.randn(*shape, generator=generator, dtype=torch.float64).to(dtype)

        return (
            normal(self.batch, self.heads, self.queries, self.dim),
            normal(self.batch, self.kv_heads, self.keys, self.dim),
            normal(self.batch, self.kv_heads, self.keys, self.value_dim),
        )

    def arguments(self, dtype: torch.dtype = torch.float64) -> dict[str, Any]:
        """Options, with tensors where they are functions."""
        made = {name: value(self) if callable(value) else value for name, value in self.options.items()}
        real = {
            name: value.to(dtype)
            for name, value in made.items()
            if isinstance(value, Tensor) and value.is_floating_point()
        }
        return {"bias": None, **made, **real, "layout": "bhtd"}


def starts(case: Case, window: int | None = None) -> Tensor:
    """Rows of episodes that end at random."""
    ends = torch.rand(case.batch, case.keys, generator=torch.Generator().manual_seed(5)) < 0.3
    return segments_to_rows(ends, window).row_start


def head_bias(case: Case) -> Tensor:
    """One bias a head."""
    return torch.linspace(-2.0, -0.5, case.heads, dtype=torch.float64)


def row_bias(case: Case) -> Tensor:
    """One bias a row."""
    return torch.linspace(-3.0, 0.5, case.batch * case.queries, dtype=torch.float64).view(case.batch, case.queries)


def slopes(case: Case) -> Tensor:
    """One slope a head."""
    return torch.linspace(0.1, 0.4, case.heads, dtype=torch.float64)


CASES = (
    Case("dense", queries=5, keys=9),
    Case("causal", options={"causal": True, "bias": "count"}),
    Case("newest queries", queries=3, keys=8, options={"causal": True, "bias": -2.0}),
    Case("window", options={"causal": True, "window": 3, "bias": "count"}),
    Case("episodes", options={"causal": True, "row_start": starts, "bias": "count"}),
    Case("episodes and window", options={"causal": True, "row_start": lambda case: starts(case, 2), "bias": row_bias}),
    Case("one key head", heads=4, kv_heads=1, options={"causal": True, "bias": head_bias}),
    Case("grouped", heads=4, kv_heads=2, queries=4, keys=6, options={"alibi_slopes": slopes, "bias": row_bias}),
    Case("alibi", options={"causal": True, "alibi_slopes": slopes}),
    Case("padded", options={"kv_lens": lambda case: torch.tensor([0, 5]), "bias": "count"}),
    Case("padded causal", options={"causal": True, "kv_lens": lambda case: torch.tensor([3, 7]), "scale": 0.7}),
    Case("other values", dim=3, value_dim=5, options={"causal": True, "bias": -1.5}),
    Case("one key", queries=1, keys=1, dim=1, value_dim=1, options={"bias": -1.0}),
)


def scalar_loop(q: Tensor, k: Tensor, v: Tensor, case: Case, **options: Any) -> Tensor:
    """The definition, one score at a time."""
    batch, heads, queries, dim = q.shape
    kv_heads, keys = k.shape[1:3]
    out = torch.zeros(batch, heads, queries, v.shape[3], dtype=torch.float64)
    scale = options.get("scale") or dim**-0.5
    for b in range(batch):
        for h in range(heads):
            for i in range(queries):
                position = i + keys - queries
                seen = [j for j in range(keys) if sees(b, i, j, position, options)]
                for j in seen:
                    score = scale * float(q[b, h, i] @ k[b, h * kv_heads // heads, j])
                    score += bias_of(b, h, i, len(seen), options.get("bias"), batch, queries)
                    if options.get("alibi_slopes") is not None:
                        score -= float(options["alibi_slopes"][h]) * abs(position - j)
                    out[b, h, i] += (
                        torch.sigmoid(torch.tensor(score, dtype=torch.float64)) * v[b, h * kv_heads // heads, j]
                    )
    return out


def sees(b: int, i: int, j: int, position: int, options: dict[str, Any]) -> bool:
    """Whether a row sees a key, by the words of the documentation."""
    if options.get("causal") and j > position:
        return False
    if options.get("window") is not None and j <= position - options["window"]:
        return False
    if options.get("row_start") is not None and j < int(options["row_start"][b, i]):
        return False
    return not (options.get("kv_lens") is not None and j >= int(options["kv_lens"][b]))


def bias_of(b: int, h: int, i: int, seen: int, bias: Any, batch: int, queries: int) -> float:
    """The bias of a score."""
    if bias is None:
        return 0.0
    if isinstance(bias, str):
        return -float(torch.tensor(float(seen)).double().log())
    if isinstance(bias, Tensor):
        return float(bias[h] if bias.ndim == 1 else bias[b, i])
    return float(bias)
