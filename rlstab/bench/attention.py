"""`rlstab bench attention`: sigmoid attention against softmax attention and published kernels, on a CPU or a GPU."""

from __future__ import annotations

import contextlib
import dataclasses
import datetime
import importlib.metadata
import shutil
import subprocess
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

# Declares the kind of result, for pages that are written again from saved numbers.
from rlstab.bench.attention_result import AttentionResult
from rlstab.bench.conditions import Conditions, command_line
from rlstab.errors import UserError
from rlstab.runs.provenance import package_versions, usable_cores

ABOUT_CPU = """
Sigmoid attention in blocks (*blockwise*), which is what a CPU uses for more than 192 keys, against torch's softmax
attention (*SDPA*, its CPU kernel) and plain operations (*eager*), in float32. *full* is forward and backward. All
implementations are timed in each repetition, in random order, and ratios are taken within a repetition, so that a slow
moment of the machine hits both sides. Numbers are medians, in brackets a fifth and four fifths of the repetitions.

Memory is how far one forward and backward call of a single head raised the peak of a process of its own. *RL batches*
are those of the set for GPUs with a sixteenth of the environments, windows of half the steps and episodes that begin at
one step in a hundred; SDPA gets their mask made beforehand. *One step* is what acting costs: a ring cache against
attention over the whole window again.
"""

ABOUT_GPU = """
Sigmoid attention's Triton kernels on a GPU, in bfloat16, with bias minus the logarithm of the number of keys. Before a
case is timed its results are compared with float64: fresh normal inputs, memory filled with NaN before the run, and no
error of the output or of a gradient above twice that of plain bfloat16 operations. Times are medians of
`triton.testing.do_bench` (100 ms of warm-up, 250 ms of repetitions, the cache emptied before each call), in brackets a
fifth and four fifths of the repetitions; *backward* is the backward pass alone, *full* both. Inputs of memory-bound
cases rotate among sets larger than the GPU's cache. What takes less than 100 us is timed again as the replay of a CUDA
graph, without what Python costs. Operations are counted as usual: 4 B H T^2 d forward, half of that under a causal
mask, and 2.5 times as much backward.

*newton*, *exact* and *tanh* are ours with each way to evaluate the sigmoid; *specialised* is newton by two kernels for
long sequences, a forward one whose warps are specialised and one that computes all gradients at once, which are not
deterministic. *FlexAttention* computes sigmoid attention as the softmax of the sigmoid's logarithm, times the sum that
softmax divides by. If time runs out, what comes last is left out, in this order: {stages}.
"""


@dataclass(frozen=True)
class Options:
    """What to measure."""

    device: Literal["auto", "cpu", "cuda"] = "auto"
    """Where. auto: the GPU if there is one."""
    budget_s: float = 420.0
    """Seconds after which nothing new is begun, s. What is left out is named on the page."""
    repetitions: int = 7
    """CPU: how often each implementation is timed in each case."""
    small: bool = False
    """CPU: only short sequences and few environments, which takes a minute and is no measurement to keep."""
    threads: int = 1
    """CPU: threads. More than one says something only where nothing else runs."""
    official: str | None = None
    """GPU: a published kernel to compare with, MODULE:FUNCTION, for example flash_sigmoid:flash_attn_func. It is called
    as function(q, k, v, causal=..., sigmoid_bias=...) with (B, T, H, d) tensors."""
    seed: int = 0
    """GPU: seed of the inputs."""


def measure(options: Options, on_progress: Callable[[str], None] = print) -> AttentionResult:
    """Measure attention on one device.

    Raises
    ------
    UserError
        A number is out of range, there is no GPU, or the published kernel cannot be imported.
    """
    import torch

    if options.repetitions < 1 or options.threads < 1 or options.budget_s <= 0:
        raise UserError("repetitions, threads and budget-s must be greater than 0")
    has_gpu = torch.cuda.is_available()
    if options.device == "cuda" and not has_gpu:
        raise UserError("there is no GPU that torch can use: leave out --device, or give --device cpu")
    if options.official is not None and (options.device == "cpu" or not has_gpu):
        raise UserError("official is a kernel for GPUs: give it with --device cuda, on a machine that has one")
    if options.small and has_gpu and options.device != "cpu":
        raise UserError("small is for CPUs: give it with --device cpu, or --budget-s to end earlier on a GPU")
    if has_gpu and options.device != "cpu":
        return _on_gpu(options, on_progress)
    return _on_cpu(options, on_progress)


def _on_cpu(options: Options, on_progress: Callable[[str], None]) -> AttentionResult:
    from rlstab.bench.attention_cpu import SMALL, CpuLab, cpu_targets
    from rlstab.bench.attention_timing import Budget

    conditions = Conditions.now(options.threads, _versions())
    lab = CpuLab(
        **(SMALL if options.small else {}),
        repetitions=options.repetitions,
        threads=options.threads,
        budget=Budget(options.budget_s),
        on_progress=on_progress,
    )
    lab.run()
    return AttentionResult(
        name="attention_cpu_small" if options.small else "attention_cpu",
        title="Sigmoid attention on a CPU, a few small cases" if options.small else "Sigmoid attention on a CPU",
        about=ABOUT_CPU,
        command=command_line("attention", options),
        rows=tuple(lab.rows),
        conditions=conditions,
        timestamp=_timestamp(),
        targets=cpu_targets(lab.rows),
        skipped=tuple(lab.left_out()),
        settings={"repetitions": options.repetitions},
    )


def _on_gpu(options: Options, on_progress: Callable[[str], None]) -> AttentionResult:
    import torch

    from rlstab.bench.attention_gpu import STAGES, GpuLab
    from rlstab.bench.attention_providers import gpu_providers
    from rlstab.bench.attention_targets import gpu_targets
    from rlstab.bench.attention_timing import Budget, CudaTimer

    conditions = Conditions.now(usable_cores(), _versions())
    machine = {**conditions.machine, "gpu": torch.cuda.get_device_name(), "driver": _driver()}
    most_bytes = 0.5 * torch.cuda.get_device_properties(torch.cuda.current_device()).total_memory
    lab = GpuLab(
        device=torch.device("cuda", torch.cuda.current_device()),
        providers=gpu_providers(options.official, most_bytes),
        timer=CudaTimer(),
        budget=Budget(options.budget_s),
        most_bytes=most_bytes,
        seed=options.seed,
        on_progress=on_progress,
    )
    lab.run()
    return AttentionResult(
        name="attention_gpu",
        title="Sigmoid attention on a GPU",
        about=ABOUT_GPU.format(stages="; ".join(reversed(STAGES))),
        command=command_line("attention", options),
        rows=tuple(lab.rows),
        conditions=dataclasses.replace(conditions, machine=machine),
        timestamp=_timestamp(),
        checks=tuple(lab.checks),
        sigmoid=tuple(lab.sigmoid),
        targets=gpu_targets(lab.rows, lab.checks),
        skipped=tuple(lab.left_out()),
        settings={"budget, s": options.budget_s, "CUDA of torch": torch.version.cuda, **lab.ceilings},
    )


def _versions() -> dict[str, dict[str, Any]]:
    versions = package_versions()
    kept = {name: versions[name] for name in ("python", "rlstab", "torch", "numpy") if name in versions}
    with contextlib.suppress(importlib.metadata.PackageNotFoundError):
        kept["triton"] = importlib.metadata.version("triton")
    return {"rlstab": kept}


def _driver() -> str:
    """Version of the GPU's driver."""
    program = shutil.which("nvidia-smi")
    if program is None:
        return "unknown"
    question = [program, "--query-gpu=driver_version", "--format=csv,noheader"]
    done = subprocess.run(question, capture_output=True, text=True, check=False, timeout=60)
    return (done.stdout.split() or ["unknown"])[0]


def _timestamp() -> str:
    return datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")
