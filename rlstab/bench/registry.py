"""The benchmarks that `rlstab bench NAME` knows. Imports none of them."""

from __future__ import annotations

import importlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rlstab.errors import UserError, suggest

if TYPE_CHECKING:
    from rlstab.bench.common import BenchmarkResult


@dataclass(frozen=True)
class Benchmark:
    """A benchmark: its module has ``Options`` (a dataclass of flags) and ``measure(options, on_progress)``."""

    name: str
    module: str
    summary: str
    page: str = ""
    """Stem of its results pages; default: the name. A page of part of the study adds to it."""

    def options(self) -> type[Any]:
        """Look up the dataclass whose fields are the benchmark's flags."""
        return importlib.import_module(self.module).Options

    def measure(self, options: Any, on_progress: Callable[[str], None]) -> BenchmarkResult:
        """Run it. ``on_progress`` is called with a line of text now and then."""
        return importlib.import_module(self.module).measure(options, on_progress)

    def load(self, path: Path) -> Any:
        """Read the saved result of an earlier measurement.

        Raises
        ------
        UserError
            The file is missing, is no result, or is that of another benchmark.
        """
        from rlstab.analysis.result import Result

        for benchmark in BENCHMARKS.values():
            # Declares its kind of result, so that those of another benchmark are named as such.
            importlib.import_module(benchmark.module)
        result: Any = Result.load(path)
        page, found = self.page or self.name, getattr(result, "name", result.kind)
        if found != page and not found.startswith(f"{page}_"):
            raise UserError(f"{path} holds the results of '{found}', not of '{page}': give {page}.json")
        return result


BENCHMARKS: dict[str, Benchmark] = {
    benchmark.name: benchmark
    for benchmark in (
        Benchmark(
            "envs", "rlstab.bench.envs", "environment steps a second, against gymnasium, SB3, EnvPool and mjbatch"
        ),
        Benchmark("ppo", "rlstab.bench.ppo", "PPO end to end: speed and time to a return, against SB3 and CleanRL"),
        Benchmark(
            "parity",
            "rlstab.bench.parity",
            "returns of PPO with SB3's hyper-parameters, against SB3's PPO",
            page="ppo_parity",
        ),
        Benchmark(
            "presets",
            "rlstab.bench.presets",
            "returns of PPO with its presets, against published ones",
            page="ppo_presets",
        ),
        Benchmark("quickstart", "rlstab.bench.quickstart", "returns, time and memory of the quickstart, over seeds"),
        Benchmark(
            "attention", "rlstab.bench.attention", "sigmoid attention against softmax attention, on a CPU or a GPU"
        ),
        Benchmark("tuning", "rlstab.bench.tuning", "settings of each memory on a task, tried equally often"),
        Benchmark("memory", "rlstab.bench.memory", "returns where a memory is needed: transformers, an LSTM and none"),
        Benchmark("ablation", "rlstab.bench.ablation", "what attention and each stabiliser do to a transformer policy"),
        Benchmark(
            "robustness", "rlstab.bench.robustness", "which way of training holds when pushed, with equal steps for all"
        ),
        Benchmark(
            "quadruped", "rlstab.bench.quadruped", "how well a trained quadruped follows commands, and what it survives"
        ),
        Benchmark(
            "regions", "rlstab.bench.regions", "areas from which controllers are proved to hold, against published"
        ),
        Benchmark(
            "walker", "rlstab.bench.hybrid_walker", "a compass walker led from gait to gait, by planners and baselines"
        ),
        Benchmark(
            "pogobot", "rlstab.bench.hybrid_pogobot", "a hopper through corridors, by planner and networks, and MPC"
        ),
        Benchmark(
            "car", "rlstab.bench.hybrid_car", "a car on changing friction: planner and networks against LQR, MPC and RL"
        ),
        Benchmark("startup", "rlstab.bench.startup", "how long importing and the command line's help take"),
    )
}


def get(name: str) -> Benchmark:
    """Find a benchmark.

    Raises
    ------
    UserError
        There is none of this name; the message has the nearest ones.
    """
    if name not in BENCHMARKS:
        hint = suggest(name, BENCHMARKS) or f"; there are {', '.join(BENCHMARKS)}"
        raise UserError(f"no benchmark '{name}'{hint}")
    return BENCHMARKS[name]
