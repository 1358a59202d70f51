"""`rlstab bench startup`: how long a user waits before anything happens."""

from __future__ import annotations

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
and for imports of the libraries that rlstab builds on. The first start of each is not timed (bytecode is compiled,
files are read from disk), but tells the memory; the repetitions of all commands are interleaved.
"""

_PYTHON = "Python"
_COMMANDS: dict[str, list[str]] = {
    "import rlstab": ["-c", "import rlstab"],
    "rlstab --version": ["-m", "rlstab", "--version"],
    "rlstab --help": ["-m", "rlstab", "--help"],
    "rlstab train ppo --help": ["-m", "rlstab", "train", "ppo", "--help"],
    "bare interpreter": ["-c", "pass"],
    "import gymnasium": ["-c", "import gymnasium"],
    "import stable_baselines3": ["-c", "import stable_baselines3"],
}


# Runs `-c CODE` or `-m MODULE ...` and says what the process itself has held. What the system counts for a child
# (ru_maxrss) is of no use: it begins with the memory of the process that started it.
_TELL_MEMORY = """
import runpy, sys
option, what, *rest = sys.argv[1:]
sys.argv = [what, *rest]
status = None
try:
    exec(what, {"__name__": "__main__"}) if option == "-c" else runpy.run_module(what, None, "__main__", True)
except SystemExit as stop:
    status = stop.code
with open("/proc/self/status") as lines:
    peak = next(line.split()[1] for line in lines if line.startswith("VmHWM"))
sys.stdout.flush()
print(status if isinstance(status, str) else peak, file=sys.stderr)
sys.exit(1 if isinstance(status, str) else status)
"""


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
    for name, arguments in _COMMANDS.items():
        megabytes[name] = _peak_memory(name, arguments)
    for repetition in range(options.repetitions):
        for name, arguments in _COMMANDS.items():
            start = time.perf_counter()
            _run(name, arguments)
            seconds[name].append(round(time.perf_counter() - start, 4))
        on_progress(f"repetition {repetition + 1} of {options.repetitions}")
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


def _run(name: str, arguments: list[str]) -> str:
    """Standard error of a process of this interpreter."""
    done = subprocess.run(
        [sys.executable, *arguments], stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True, check=False
    )
    if done.returncode:
        raise UserError(f"`{name}` fails: {(done.stderr.strip().splitlines() or ['no message'])[-1]}")
    return done.stderr


def _peak_memory(name: str, arguments: list[str]) -> float:
    """Most megabytes that a process of this interpreter holds."""
    return int(_run(name, ["-c", _TELL_MEMORY, *arguments]).splitlines()[-1]) / 1024
