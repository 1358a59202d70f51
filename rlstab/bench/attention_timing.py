"""Clocks of the attention benchmarks. What is measured never asks which one it is measured by."""

from __future__ import annotations

import itertools
import random
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Protocol

from torch import Tensor

Call = Callable[[], Any]
Quantiles = tuple[float, float, float]
"""A fifth, the half and four fifths of the measurements, ms."""

WARM_UP_MS = 100
REPEAT_MS = 250
GRAPH_REPEAT_MS = 20


class Timer(Protocol):
    """Times calls that do the same on different tensors, which it takes in turns."""

    def time(self, calls: Sequence[Call], grads: Sequence[Tensor] = ()) -> Quantiles:
        """Time one call as Python makes it; the gradients of ``grads`` are forgotten before each."""
        ...

    def replay(self, calls: Sequence[Call]) -> Quantiles:
        """Time one call in the replay of a recording, without what Python costs."""
        ...


class CudaTimer:
    """`triton.testing`'s clocks, which empty the GPU's cache between calls and wait for their end."""

    def time(self, calls: Sequence[Call], grads: Sequence[Tensor] = ()) -> Quantiles:
        """See `Timer`."""
        from triton.testing import do_bench

        turn = itertools.cycle(calls)
        found: Any = do_bench(
            lambda: next(turn)(),
            warmup=WARM_UP_MS,
            rep=REPEAT_MS,
            grad_to_none=list(grads) or None,
            quantiles=[0.2, 0.5, 0.8],
        )
        low, middle, high = found
        return low, middle, high

    def replay(self, calls: Sequence[Call]) -> Quantiles:
        """See `Timer`. Nothing empties the cache in a replay: ``calls`` must work on more than fits it."""
        import torch
        from triton.testing import do_bench_cudagraph

        turn = itertools.cycle(calls)
        # A recording sees the work of its own stream only, so what came before must have ended.
        torch.cuda.synchronize()
        found: Any = do_bench_cudagraph(lambda: next(turn)(), rep=GRAPH_REPEAT_MS, quantiles=[0.2, 0.5, 0.8])
        low, middle, high = found
        return low, middle, high


class Budget:
    """Seconds that a measurement may take."""

    def __init__(self, seconds: float, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._end = clock() + seconds

    def spent(self) -> bool:
        """Whether nothing is left."""
        return self._clock() >= self._end


def alternate(calls: Mapping[str, Call], repetitions: int, rng: random.Random) -> dict[str, list[float]]:
    """Time calls on this processor, ms: all of them in each repetition, in an order of its own.

    A slow moment of the machine then hits all sides, and none is always the one after another.
    """
    for call in calls.values():
        call()
    samples: dict[str, list[float]] = {name: [] for name in calls}
    for _ in range(repetitions):
        names = list(calls)
        rng.shuffle(names)
        for name in names:
            start = time.perf_counter()
            calls[name]()
            samples[name].append(1e3 * (time.perf_counter() - start))
    return samples
