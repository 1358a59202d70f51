"""Sizes that the attention benchmarks measure, and what each costs at least."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

RESET_RATE = 0.01
"""Chance that an episode begins at a step, where episodes do."""


@dataclass(frozen=True)
class Case:
    """One attention call."""

    group: str
    """The set it belongs to."""
    name: str
    batch: int
    heads: int
    length: int
    dim: int
    causal: bool = False
    resets: bool = False
    window: int | None = None

    @property
    def bias(self) -> float:
        """Minus the logarithm of the number of keys, as recommended."""
        return -math.log(min(self.length, self.window or self.length))

    @property
    def flops(self) -> float:
        """Useful operations of a forward pass: both products, half of them under a causal mask."""
        products = 4.0 * self.batch * self.heads * self.length**2 * self.dim
        return products / 2 if self.causal else products

    def least_bytes(self, mode: str, element: int) -> float:
        """Memory traffic that cannot be avoided: each input read and each output written once.

        Parameters
        ----------
        mode
            ``forward`` reads q, k, v and writes the output; ``backward`` reads q, k, v and the cotangent and writes
            three gradients.
        element
            Bytes of a number.
        """
        tensors = {"forward": 4, "backward": 7, "full": 11}[mode]
        return float(tensors * element * self.batch * self.heads * self.length * self.dim)

    def config(self, **more: Any) -> dict[str, Any]:
        """Sizes by the names of the literature."""
        sizes = {"B": self.batch, "H": self.heads, "T": self.length, "d": self.dim, "causal": self.causal}
        return {**sizes, "resets": self.resets, "window": self.window, **more}


@dataclass(frozen=True)
class Decode:
    """One new step for each environment, over a ring buffer."""

    batch: int
    heads: int
    window: int
    dim: int

    @property
    def name(self) -> str:
        """What tables call it."""
        return f"B {self.batch}, {self.heads} heads, W {self.window}, d {self.dim}"

    def least_bytes(self, element: int) -> float:
        """Both caches read once."""
        return float(2 * element * self.batch * self.heads * self.window * self.dim)

    def config(self, **more: Any) -> dict[str, Any]:
        """Sizes by the names of the literature."""
        return {"B": self.batch, "Hkv": self.heads, "W": self.window, "d": self.dim, **more}


def lengths(heads: int, dim: int, lengths: tuple[int, ...]) -> list[Case]:
    """One sequence of each length, with and without a causal mask."""
    return [
        Case("lengths", f"{'causal' if causal else 'dense'} {length}", 1, heads, length, dim, causal)
        for causal in (False, True)
        for length in lengths
    ]


_RL = {
    "R1": (512, 4, 64, 32),
    "R2": (256, 4, 128, 64),
    "R3": (128, 8, 256, 32),
    "R4": (256, 1, 60, 128),
    "R5": (64, 8, 512, 64),
}
"""Batch, heads, steps and head dimension of training batches in reinforcement learning."""


def rl(share: int = 1, *, resets: bool, windows: bool = False) -> list[Case]:
    """Batches of reinforcement learning; ``share``: 1 / share of the environments, at least one."""
    group = "RL batches with resets" if resets else "RL batches"
    return [
        Case(
            group,
            f"{name} {max(1, batch // share)}x{heads}x{steps}x{dim}",
            max(1, batch // share),
            heads,
            steps,
            dim,
            causal=True,
            resets=resets,
            window=steps // 2 if windows else None,
        )
        for name, (batch, heads, steps, dim) in _RL.items()
    ]


def long(tokens: int = 16384, width: int = 2048) -> list[Case]:
    """The set of the FlashAttention papers: as many tokens and as wide a model whatever the length."""
    return [
        Case("long", f"d{dim} {'causal' if causal else 'dense'} {length}", tokens // length, width // dim, length, dim,
             causal)
        for length in (tokens, tokens // 4, tokens // 2, tokens // 8, tokens // 16, tokens // 32)
        for dim in (128, 64)
        for causal in (False, True)
    ]  # fmt: skip


def odd() -> list[Case]:
    """Sizes that are no powers of two."""
    return [
        Case("odd sizes", f"d{dim} {length}", 4, 4, length, dim, causal=True)
        for dim in (24, 40, 48, 96)
        for length in (1, 7, 63, 65, 119, 127, 129, 1000)
    ]


def decodes() -> list[Decode]:
    """The full grid, the case of the goal first, then what differs from it in the fewest sizes."""
    goal = Decode(4096, 4, 128, 32)
    grid = [
        Decode(batch, heads, window, dim)
        for batch in (256, 1024, 4096, 16384)
        for window in (32, 128, 512)
        for dim in (16, 32, 64)
        for heads in (1, 2, 4)
    ]
    return sorted(grid, key=lambda case: sum(a != b for a, b in zip(_sizes(case), _sizes(goal), strict=True)))


def few() -> list[Decode]:
    """Fewer environments than a GPU has room for."""
    return [Decode(batch, 4, 512, 64) for batch in (1, 16, 64)]


def _sizes(case: Decode) -> tuple[int, ...]:
    return case.batch, case.heads, case.window, case.dim
