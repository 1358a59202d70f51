"""Attention on a processor: time against torch's softmax attention, memory against plain operations."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch

from rlstab.bench.attention_cases import Case, lengths, rl
from rlstab.bench.attention_memory import peak_megabytes
from rlstab.bench.attention_providers import Provider, Unavailable, cpu_providers, make_inputs
from rlstab.bench.attention_result import Target
from rlstab.bench.attention_rows import RATIO, Row, Skipped, quantiles
from rlstab.bench.attention_timing import Budget, Call, alternate
from rlstab.kernels.sigmoid_attention import RingCache, sigmoid_attention, sigmoid_attention_step

STEP_RATIO = "times as long as one step"
_EAGER_BYTES = 0.5 * 2**30
"""Plain operations are timed where their tensors take less; more only says that memory is slow."""


SMALL: dict[str, Any] = {
    "lengths": (256, 512),
    "dims": (),
    "memory_lengths": (256, 512),
    "rl_share": 256,
    "windows": (32,),
    "environments": 4,
}
"""Sizes for a trial."""


@dataclass
class CpuLab:
    """What is measured on a processor, and how often."""

    lengths: Sequence[int] = (512, 1024, 2048, 4096, 8192)
    heads: int = 4
    dim: int = 64
    dims: Sequence[int] = (32, 128)
    """Further head dimensions, at the length `dims_length`."""
    dims_length: int = 4096
    memory_lengths: Sequence[int] = (512, 1024, 2048, 4096, 8192)
    rl_share: int = 16
    windows: Sequence[int] = (32, 128, 512)
    environments: int = 32
    repetitions: int = 7
    threads: int = 1
    budget: Budget = field(default_factory=lambda: Budget(300.0))
    on_progress: Callable[[str], None] = print
    rows: list[Row] = field(default_factory=list)
    skipped: Skipped = field(default_factory=Skipped)

    def left_out(self) -> list[str]:
        """Say what was not measured and why, a line a reason."""
        return self.skipped.lines()

    def run(self) -> None:
        """Fill ``rows``, in the order of importance while the budget lasts."""
        before = torch.get_num_threads()
        torch.set_num_threads(self.threads)
        try:
            self._memory()
            cases = lengths(self.heads, self.dim, tuple(self.lengths))
            cases += [
                Case("head dimensions", f"{'causal' if causal else 'dense'} d{dim}", 1, self.heads, self.dims_length,
                     dim, causal)
                for causal in (False, True)
                for dim in self.dims
            ]  # fmt: skip
            for case in [*cases, *rl(self.rl_share, resets=True, windows=True)]:
                for mode in ("forward", "full"):
                    self._case(case, mode)
            for window in self.windows:
                self._step(window)
        finally:
            torch.set_num_threads(before)

    def _case(self, case: Case, mode: str) -> None:
        if self.budget.spent():
            self.skipped.add("no time left", f"{case.group}, {case.name}, {mode}")
            return
        calls: dict[str, Call] = {}
        for provider in cpu_providers(_EAGER_BYTES).values():
            try:
                calls[provider.name] = self._ready(provider, case, mode)
            except Unavailable as reason:
                if provider.name == "eager":
                    self.skipped.add(f"eager: {reason}", f"{case.name}, {mode}")
        # Short ones are disturbed the most.
        repetitions = self.repetitions * (3 if case.resets else 1)
        samples = alternate(calls, repetitions, random.Random(0))
        reference = next(name for name in ("SDPA", "SDPA masked") if name in samples)
        common = {"mode": mode, "case": case.name, "x_name": "T", "x_value": float(case.length), "group": case.group}
        config = case.config(dtype="float32", threads=self.threads)
        for name, times in samples.items():
            self.rows.append(Row.of(times, provider=name, metric="time", unit="ms", config=config, **common))
        for name, times in samples.items():
            if name != reference:
                ratios = [mine / theirs for mine, theirs in zip(times, samples[reference], strict=True)]
                self.rows.append(Row.of(ratios, provider=name, metric=RATIO, unit="", config=config, **common))
        self.on_progress(
            f"{case.name}, {mode}: " + ", ".join(f"{n} {quantiles(s)[1]:.3g} ms" for n, s in samples.items())
        )

    def _ready(self, provider: Provider, case: Case, mode: str) -> Call:
        inputs = make_inputs(
            case, torch.device("cpu"), torch.float32, torch.Generator().manual_seed(0), grad=mode == "full"
        )
        call = provider.build(case, inputs)
        if mode == "forward":
            return call
        return lambda: torch.autograd.grad(call(), inputs.leaves, inputs.cotangent)

    def _memory(self) -> None:
        found = {
            name: peak_megabytes(name, self.memory_lengths, self.dim, self.threads)
            for name in ("blockwise", "SDPA", "eager")
        }
        for length in self.memory_lengths:
            for name, peaks in found.items():
                self.rows.append(
                    Row.of(
                        [peaks[length]],
                        provider=name,
                        mode="full",
                        metric="peak memory",
                        unit="MiB",
                        case=f"T {length}",
                        x_name="T",
                        x_value=float(length),
                        group="memory",
                        config=Case("memory", "", 1, 1, length, self.dim).config(dtype="float32", threads=self.threads),
                    )
                )
        self.on_progress(
            "memory: " + ", ".join(f"{name} {max(peaks.values()):.0f} MiB" for name, peaks in found.items())
        )

    def _step(self, window: int) -> None:
        """Time one new step with a cache, against attention over all of the window again."""
        if self.budget.spent():
            self.skipped.add("no time left", f"one step, W {window}")
            return
        batch, heads, dim = self.environments, self.heads, self.dim
        generator = torch.Generator().manual_seed(0)
        cache = RingCache.empty(batch, heads, window, dim)
        history = torch.randn(3, batch, window, heads, dim, generator=generator)
        for step in range(window):
            cache.write(history[1, :, step], history[2, :, step])
        q, k, v = (tensor[:, -1].contiguous() for tensor in history)
        calls: dict[str, Call] = {
            "ring cache": lambda: sigmoid_attention_step(q, k, v, cache, bias="count"),
            "recomputed": lambda: sigmoid_attention(*history, causal=True, bias="count")[:, -1],
        }
        samples = alternate(calls, max(20, self.repetitions), random.Random(0))
        config = {"B": batch, "H": heads, "W": window, "d": dim, "dtype": "float32", "threads": self.threads}
        common = {"mode": "step", "case": f"W {window}", "x_name": "W", "x_value": float(window), "group": "one step"}
        for name, times in samples.items():
            self.rows.append(Row.of(times, provider=name, metric="time", unit="ms", config=config, **common))
        ratios = [slow / fast for slow, fast in zip(samples["recomputed"], samples["ring cache"], strict=True)]
        self.rows.append(Row.of(ratios, provider="recomputed", metric=STEP_RATIO, unit="", config=config, **common))


def cpu_targets(rows: Sequence[Row]) -> tuple[Target, ...]:
    """Compare with what the blockwise path is meant to be: nearly as fast as softmax's, in linear memory."""

    def ratio(case: str, mode: str) -> float | None:
        found = [
            row.median
            for row in rows
            if (row.provider, row.metric, row.mode, row.case) == ("blockwise", RATIO, mode, case)
        ]
        return found[0] if found else None

    goals = [
        Target(f"blockwise, {case}, {mode}: {RATIO}", 1.3, 1.1, ratio(case, mode), at_most=True)
        for case in ("dense 4096", "causal 4096")
        for mode in ("forward", "full")
    ]
    memory = [row for row in rows if row.metric == "peak memory" and row.provider == "blockwise"]
    return (*goals, Target("blockwise, twice the keys: times the memory", 2.2, 2.05, _growth(memory), at_most=True))


def _growth(rows: Sequence[Row]) -> float | None:
    """How much the last doubling of the length multiplies memory by."""
    return rows[-1].median / rows[-2].median if len(rows) > 1 and rows[-2].median > 0 else None
