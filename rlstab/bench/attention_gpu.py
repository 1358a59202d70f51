"""Attention on a GPU: results first, then what the machine can do, then times, the most important first."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch

from rlstab.bench.attention_accuracy import check, check_step, sigmoid_errors
from rlstab.bench.attention_cases import Case, Decode, decodes, few, long, odd, rl
from rlstab.bench.attention_decode import STEP_PROVIDERS, UNDIVIDED, step_calls
from rlstab.bench.attention_providers import Inputs, Provider, Unavailable, make_inputs
from rlstab.bench.attention_result import Check
from rlstab.bench.attention_rows import Row, Skipped
from rlstab.bench.attention_targets import SHARE, SPEED, TIME
from rlstab.bench.attention_timing import Budget, Call, Quantiles, Timer
from rlstab.kernels.sigmoid_attention.decode import StepBackend

REPLAY = "time in a CUDA graph"
_OURS = ("newton", "specialised", "tanh", "exact")
_REPLAYED_MS = 0.1
"""What takes less is timed in a CUDA graph as well."""
_CACHE_BYTES = 100e6
"""Twice an H100's cache of 50 MB: inputs that rotate take as much together."""
_MOST_SETS = 16
_BACKWARD = 2.5
"""Operations of a backward pass for each of a forward pass."""

STAGES = (
    "RL batches, newton and SDPA",
    "one step, sizes near the goal's",
    "long sequences of 16384, 4096 and 8192, newton, specialised and SDPA flash",
    "long, newton's goals against tanh and exact",
    "long, further lengths, newton, specialised, SDPA flash and the published kernel",
    "long, SDPA cuDNN",
    "RL batches, tanh and exact",
    "odd sizes",
    "one step, few environments",
    "one step, all further sizes",
    "plain operations and FlexAttention",
)
"""In order: if time runs out, the last are left out."""


@dataclass(frozen=True)
class Sizes:
    """What is measured; tests take smaller ones."""

    long: Sequence[Case] = field(default_factory=long)
    rl: Sequence[Case] = field(default_factory=lambda: [*rl(resets=False), *rl(resets=True)])
    odd: Sequence[Case] = field(default_factory=odd)
    decodes: Sequence[Decode] = field(default_factory=decodes)
    few: Sequence[Decode] = field(default_factory=few)
    near: int = 10
    """Of the steps, how many belong to the first stage of them."""
    gemm: int = 8192
    copied_bytes: int = 2**30
    grid: int = 60_001
    """Points at which the sigmoid is compared."""


@dataclass(frozen=True)
class Task:
    """One provider in one case, to be timed."""

    stage: str
    case: Case | Decode
    mode: str
    provider: str


@dataclass
class GpuLab:
    """The protocol. Runs on any device that ``providers`` and ``timer`` can work with."""

    device: torch.device
    providers: Mapping[str, Provider]
    timer: Timer
    budget: Budget
    most_bytes: float
    dtype: torch.dtype = torch.bfloat16
    backend: str = "triton"
    """Of our kernels, where they are called without a provider."""
    step_backend: StepBackend = "triton"
    sizes: Sizes = field(default_factory=Sizes)
    seed: int = 0
    on_progress: Callable[[str], None] = print
    rows: list[Row] = field(default_factory=list)
    checks: list[Check] = field(default_factory=list)
    sigmoid: list[tuple[str, float, float]] = field(default_factory=list)
    ceilings: dict[str, float] = field(default_factory=dict)
    skipped: Skipped = field(default_factory=Skipped)
    _checked: set[tuple[str, str, str]] = field(default_factory=set)
    _seeds: int = 0

    def run(self) -> None:
        """Fill in everything, while the budget lasts."""
        self.sigmoid = (
            self._guarded("sigmoid", lambda: sigmoid_errors(self.backend, self.device, self.sizes.grid)) or []
        )
        self._guarded("ceilings", self._ceilings)
        for task in self.tasks():
            if self.budget.spent():
                self._skip(f"{task.stage}: no time left", task)
            else:
                self._run(task)

    def left_out(self) -> list[str]:
        """Say what was not measured and why, a line a reason."""
        return self.skipped.lines()

    def tasks(self) -> Iterator[Task]:
        """Everything to time, in the order of `STAGES`."""
        sizes = self.sizes
        longest = max((case.length for case in sizes.long), default=0)
        first = [case for case in sizes.long if case.length in (longest, longest // 2, longest // 4)]
        rest = [case for case in sizes.long if case not in first]
        goals = [case for case in first if case.length == longest]
        both = ("forward", "backward")
        every = (*both, "full")
        for case in sizes.rl:
            yield from self._stage(0, [case], every, ("newton", "SDPA masked" if case.resets else "SDPA flash"))
        yield from self._steps(1, sizes.decodes[: sizes.near])
        yield from self._stage(2, first, both, ("newton", "specialised", "SDPA flash"))
        yield from self._stage(3, goals, ("forward",), ("tanh", "exact"))
        yield from self._stage(4, first, both, ("official",))
        yield from self._stage(4, rest, both, ("newton", "specialised", "SDPA flash", "official"))
        yield from self._stage(5, sizes.long, both, ("SDPA cuDNN",))
        yield from self._stage(6, sizes.rl, every, ("tanh", "exact"))
        yield from self._stage(7, sizes.odd, both, ("newton", "SDPA flash"))
        yield from self._steps(8, sizes.few, UNDIVIDED)
        yield from self._steps(9, sizes.decodes[sizes.near :])
        yield from self._stage(10, sizes.rl, every, ("eager",))
        yield from self._stage(10, sizes.long, both, ("eager", "FlexAttention"))

    def _stage(self, stage: int, cases: Sequence[Case], modes: Sequence[str], names: Sequence[str]) -> Iterator[Task]:
        for case in cases:
            for mode in modes:
                # Side by side in time.
                yield from (Task(STAGES[stage], case, mode, name) for name in names if name in self.providers)

    def _steps(self, stage: int, cases: Sequence[Decode], *more: str) -> Iterator[Task]:
        for case in cases:
            yield from (Task(STAGES[stage], case, "step", name) for name in (*STEP_PROVIDERS, *more))

    def _run(self, task: Task) -> None:
        if not isinstance(task.case, Case):
            self._guarded("", lambda: self._time_step(task), task)
            return
        provider = self.providers[task.provider]
        # Ours is compared before it is timed; peers are their owners' business.
        key = (task.provider, task.case.group, task.case.name)
        if task.provider in (*_OURS, "official") and key not in self._checked:
            self._checked.add(key)
            case = task.case
            try:
                self.checks += check(provider, case, self.device, self.dtype, self._next_seed())
            except Unavailable as reason:
                self._skip(f"{task.provider}: {reason}", task)
                return
            except Exception as error:
                label, note = f"{case.group}, {case.name}", _in_a_line(error)
                self.checks.append(Check(label, task.provider, None, 0.0, note))
                self._skip(f"{task.provider}: {note}", task)
                return
        self._guarded(task.provider, lambda: self._time(task, provider), task)

    def _time(self, task: Task, provider: Provider) -> None:
        case = task.case
        assert isinstance(case, Case)
        element = torch.finfo(self.dtype).bits // 8
        with provider.context():
            sets = [self._inputs(case, grad=task.mode != "forward") for _ in range(self._copies(case, element))]
            calls = [provider.build(case, inputs) for inputs in sets]
            timed, grads = _as_mode(task.mode, calls, sets)
            times = self.timer.time(timed, grads)
            config = case.config(dtype=str(self.dtype).removeprefix("torch."), sets=len(sets))
            row = {"provider": task.provider, "mode": task.mode, "case": case.name, "group": case.group}
            row |= {"x_name": "T", "x_value": float(case.length), "config": config}
            self._add(times, TIME, "ms", row)
            flops = case.flops * {"forward": 1.0, "backward": _BACKWARD, "full": 1.0 + _BACKWARD}[task.mode]
            self._add(_rates(flops / 1e9, times), SPEED, "TFLOP/s", row)
            if case.group.startswith("RL"):
                self._share(case.least_bytes(task.mode, element), times, row)
            self.on_progress(f"{case.group}, {case.name}, {task.mode}: {task.provider} {times[1]:.4g} ms")
            # The backward pass runs on the stream of its forward pass, which is not the one that is recorded.
            if times[1] < _REPLAYED_MS and task.mode != "backward":
                self._replay(timed, row, task)

    def _time_step(self, task: Task) -> None:
        case = task.case
        assert isinstance(case, Decode)
        element = torch.finfo(self.dtype).bits // 8
        size = case.least_bytes(element)
        if size > self.most_bytes:
            raise Unavailable(f"the cache would take {size / 2**30:.0f} GiB")
        key = (task.provider, "decode", case.name)
        if task.provider == "triton step" and key not in self._checked:
            self._checked.add(key)
            self.checks.append(check_step(case, self.step_backend, self.device, self.dtype, self._next_seed()))
        copies = max(1, min(_MOST_SETS, math.ceil(_CACHE_BYTES / size)))
        generator = torch.Generator(self.device).manual_seed(self._next_seed())
        calls = [
            step_calls(case, self.step_backend, self.device, self.dtype, generator)[task.provider]
            for _ in range(copies)
        ]
        times = self.timer.time(calls)
        config = case.config(dtype=str(self.dtype).removeprefix("torch."), sets=copies)
        row = {"provider": task.provider, "mode": "step", "case": case.name, "group": "one step"}
        row |= {"x_name": "B", "x_value": float(case.batch), "config": config}
        self._add(times, TIME, "ms", row)
        self._share(size, times, row)
        self.on_progress(f"one step, {case.name}: {task.provider} {times[1]:.4g} ms")
        if times[1] < _REPLAYED_MS:
            self._replay(calls, row, task)

    def _replay(self, calls: Sequence[Call], row: dict[str, Any], task: Task) -> None:
        try:
            self._add(self.timer.replay(calls), REPLAY, "ms", row)
        except Exception as error:
            self._skip(f"{task.provider} in a CUDA graph: {_in_a_line(error)}", task)

    def _share(self, size: float, times: Quantiles, row: dict[str, Any]) -> None:
        """Bytes that must be moved, over those that a copy moves in that time."""
        bandwidth = self.ceilings.get("copy, GB/s")
        if bandwidth:
            self._add(_rates(size / 1e6 / bandwidth, times), SHARE, "", row)

    def _ceilings(self) -> None:
        size = self.sizes.gemm
        generator = torch.Generator(self.device).manual_seed(self._next_seed())
        a, b = (torch.randn(size, size, device=self.device, generator=generator).to(self.dtype) for _ in range(2))
        times = self.timer.time([lambda: a @ b])
        self.ceilings["matrix product, TFLOP/s"] = round(2e-9 * size**3 / times[1], 1)
        source = torch.randint(
            256, (self.sizes.copied_bytes,), dtype=torch.uint8, device=self.device, generator=generator
        )
        target = torch.empty_like(source)
        times = self.timer.time([lambda: target.copy_(source)])
        self.ceilings["copy, GB/s"] = round(2e-6 * self.sizes.copied_bytes / times[1], 1)

    def _inputs(self, case: Case, *, grad: bool) -> Inputs:
        generator = torch.Generator(self.device).manual_seed(self._next_seed())
        return make_inputs(case, self.device, self.dtype, generator, grad=grad)

    def _copies(self, case: Case, element: int) -> int:
        """How many sets of inputs rotate: one where the work is in the products."""
        if not case.group.startswith("RL"):
            return 1
        return max(1, min(_MOST_SETS, math.ceil(_CACHE_BYTES / case.least_bytes("forward", element))))

    def _next_seed(self) -> int:
        self._seeds += 1
        return self.seed * 100_003 + self._seeds

    def _add(self, times: Quantiles, metric: str, unit: str, row: dict[str, Any]) -> None:
        low, median, high = (float(f"{value:.6g}") for value in times)
        self.rows.append(Row(median=median, low=low, high=high, metric=metric, unit=unit, **row))

    def _guarded(self, name: str, work: Callable[[], Any], task: Task | None = None) -> Any:
        """Do something that may fail on some machine, without losing what was measured before."""
        what = name or (task.provider if task else "")
        try:
            return work()
        except Unavailable as reason:
            self._skip(f"{what}: {reason}", task)
        except Exception as error:
            self._skip(f"{what}: {_in_a_line(error)}", task)
        return None

    def _skip(self, reason: str, task: Task | None) -> None:
        label = "all" if task is None else f"{task.case.name}, {task.mode}, {task.provider}"
        self.skipped.add(reason, label)


def _as_mode(mode: str, calls: Sequence[Call], sets: Sequence[Inputs]) -> tuple[list[Call], list[torch.Tensor]]:
    """What to time for a mode, and the tensors whose gradients it leaves behind."""
    if mode == "forward":
        return list(calls), []
    if mode == "full":
        return [_full(call, inputs) for call, inputs in zip(calls, sets, strict=True)], []
    ready = [_backward(call(), inputs) for call, inputs in zip(calls, sets, strict=True)]
    return ready, [tensor for inputs in sets for tensor in inputs.leaves]


def _full(call: Call, inputs: Inputs) -> Call:
    return lambda: torch.autograd.grad(call(), inputs.leaves, inputs.cotangent)


def _backward(out: torch.Tensor, inputs: Inputs) -> Call:
    return lambda: out.backward(inputs.cotangent, retain_graph=True)


def _rates(work: float, times: Quantiles) -> Quantiles:
    """Work for each of some durations: the longest is the slowest."""
    low, middle, high = times
    return work / high, work / middle, work / low


def _in_a_line(error: Exception) -> str:
    return f"{type(error).__name__}: {(str(error).strip() or 'no message').splitlines()[0][:160]}"
