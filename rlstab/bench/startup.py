"""`rlstab bench startup`: how long a user waits before anything happens."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass

from rlstab.bench.common import BenchmarkResult, Measurement
from rlstab.bench.conditions import Conditions, command_line
from rlstab.errors import UserError

ABOUT = """
Seconds from starting the interpreter to its end, and the most memory it held, for the commands that should be instant
and for imports of the libraries that rlstab builds on. The first start of each is not counted (bytecode is compiled,
files are read from disk); the repetitions of all commands are interleaved.
"""

_PYTHON = "Python"
_COMMANDS: dict[str, list[str]] = {
    "import rlstab": ["-c", "import rlstab"],
    "rlstab --version": ["-m", "rlstab.cli", "--version"],
    "rlstab --help": ["-m", "rlstab.cli", "--help"],
    "rlstab train ppo --help": ["-m", "rlstab.cli", "train", "ppo", "--help"],
    "bare interpreter": ["-c", "pass"],
    "import gymnasium": ["-c", "import gymnasium"],
    "import stable_baselines3": ["-c", "import stable_baselines3"],
}


@dataclass(frozen=True)
class Options:
    """What to measure."""

    repetitions: int = 9
    """How often each command is timed."""


def measure(options: Options, on_progress: Callable[[str], None] = print) -> BenchmarkResult:
    """Time starting up.

    Raises
    ------
    UserError
        A number is out of range, or a command fails.
    """
    if options.repetitions < 1:
        raise UserError(f"repetitions must be at least 1, got {options.repetitions}")
    conditions = Conditions.now(threads=1)
    seconds: dict[str, list[float]] = {name: [] for name in _COMMANDS}
    megabytes: dict[str, float] = {}
    for repetition in range(options.repetitions + 1):
        for name, arguments in _COMMANDS.items():
            duration, peak = _run(name, arguments)
            if repetition:
                seconds[name].append(round(duration, 4))
                megabytes[name] = max(peak, megabytes.get(name, 0.0))
        on_progress(f"repetition {repetition} of {options.repetitions}")
    return BenchmarkResult(
        name="startup",
        title="Starting up",
        about=ABOUT,
        command=command_line("startup", options),
        unit="s",
        higher_is_better=False,
        reference=_PYTHON,
        labels=("command",),
        measurements=tuple(Measurement((name,), _PYTHON, tuple(samples)) for name, samples in seconds.items()),
        conditions=conditions,
        settings={
            "repetitions": options.repetitions,
            **{f"peak memory of {name}, MB": round(peak) for name, peak in megabytes.items()},
        },
    )


def _run(name: str, arguments: list[str]) -> tuple[float, float]:
    """Seconds and peak resident megabytes of one process."""
    start = time.perf_counter()
    process = subprocess.Popen(
        [sys.executable, *arguments], stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True
    )
    assert process.stderr is not None
    complaint = process.stderr.read()
    _, status, usage = os.wait4(process.pid, 0)
    duration = time.perf_counter() - start
    # wait4 has reaped the process; Popen must not look for it again.
    process.returncode = os.waitstatus_to_exitcode(status)
    process.stderr.close()
    if process.returncode != 0:
        raise UserError(f"`{name}` fails: {(complaint.strip().splitlines() or ['no message'])[-1]}")
    return duration, usage.ru_maxrss / 1024
