"""`rlstab bench ppo`: end-to-end training speed of PPO, and the time it takes to reach a return."""

from __future__ import annotations

import collections
import json
import os
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from rlstab.bench.common import BenchmarkResult, Measurement
from rlstab.bench.conditions import Conditions, command_line
from rlstab.bench.ppo_worker import LEARNERS
from rlstab.bench.sb3_ppo import PARITY_HYPERPARAMETERS
from rlstab.errors import UserError
from rlstab.runs.provenance import package_versions, usable_cores

ABOUT = """
PPO end to end on one task: wall time of collecting and learning together, without imports and compilation. rlstab and
SB3 have identical hyper-parameters (below) and one torch thread; rlstab steps its worlds on all usable cores, SB3 uses
its serial vector environment, the faster of its two at this size. CleanRL's `ppo_continuous_action.py` runs unchanged
with its own defaults (one world, 2,048 steps, 32 minibatches of 64, 10 epochs) on the v4 task of gymnasium 0.29, which
it needs. Repetitions are interleaved; repetition `i` of every implementation has seed `i`. *Microseconds a
step* are over the first stretch of training; *seconds to return* is when the mean of the last hundred training episodes
first reaches it. A training that is given up before (below) counts as longer than any other.
"""
SPEED, TIME = "steps/s", "seconds to return"
OURS, THEIRS, CLEANRL = "rlstab", "SB3", "CleanRL"
# What another interpreter has of these.
_ASK_VERSIONS = """
import importlib.metadata as metadata, json, platform
versions = {"python": platform.python_version()}
for package in ("numpy", "torch", "gymnasium", "mujoco"):
    try:
        versions[package] = metadata.version(package)
    except metadata.PackageNotFoundError:
        pass
print(json.dumps(versions))
"""


@dataclass(frozen=True)
class Options:
    """What to measure."""

    env: str = "Hopper-v5"
    """Task."""
    repetitions: int = 5
    """Seeds of each implementation."""
    speed_steps: int = 100_000
    """Environment steps over which the speed is taken."""
    until: float = 2000.0
    """Return to reach. 0: measure speed only."""
    limit_steps: int = 1_500_000
    """Give up reaching the return after this many environment steps."""
    threads: int = field(default_factory=usable_cores)
    """Threads that step our worlds. The default is the number of usable cores."""
    cleanrl: Path | None = None
    """CleanRL's ppo_continuous_action.py, if it is to be compared."""
    cleanrl_python: Path | None = None
    """Interpreter with what that script needs (gymnasium 0.29)."""


def measure(options: Options, on_progress: Callable[[str], None] = print) -> BenchmarkResult:
    """Train every implementation ``repetitions`` times for each quantity.

    Raises
    ------
    UserError
        An option is out of range, CleanRL's script or interpreter is missing, or a training of ours fails. A peer's
        that fails is noted in the result.
    """
    if options.repetitions < 1 or options.speed_steps < 1 or options.limit_steps < 1:
        raise UserError("repetitions, speed-steps and limit-steps must be at least 1")
    if options.cleanrl is not None and not (options.cleanrl.is_file() and options.cleanrl_python):
        raise UserError("--cleanrl needs the path of ppo_continuous_action.py, and --cleanrl-python its interpreter")
    names = [*LEARNERS, *([CLEANRL] if options.cleanrl else [])]
    versions = {OURS: package_versions(), THEIRS: package_versions()}
    if options.cleanrl_python is not None and options.cleanrl is not None:
        versions[CLEANRL] = _versions_of(options.cleanrl_python)
    conditions = Conditions.now(options.threads, versions)
    measurements: list[Measurement] = []
    for quantity in (SPEED, TIME) if options.until > 0 else (SPEED,):
        measurements += _measure_quantity(quantity, names, options, on_progress)
    settings = {"env": options.env, "seeds": options.repetitions, "speed steps": options.speed_steps}
    if options.until > 0:
        settings |= {"return to reach": options.until, "given up after steps": options.limit_steps}
    return BenchmarkResult(
        name="ppo",
        title="PPO end to end",
        about=ABOUT,
        command=command_line("ppo", options),
        unit="in the unit of the row",
        higher_is_better=False,
        reference=OURS,
        labels=("quantity",),
        measurements=tuple(measurements),
        conditions=conditions,
        settings={**settings, **PARITY_HYPERPARAMETERS},
    )


class _TrainingFailed(Exception):
    """A training ended with an error; the message says why."""


def _measure_quantity(
    quantity: str, names: list[str], options: Options, on_progress: Callable[[str], None]
) -> list[Measurement]:
    samples: dict[str, list[float]] = {name: [] for name in names}
    missed: dict[str, list[int]] = {name: [] for name in names}
    notes: dict[str, list[str]] = {name: [] for name in names}
    failed: set[str] = set()
    for seed in range(options.repetitions):
        # Another one begins each time: the first after a pause may find a cooler processor.
        first = seed % len(names)
        for name in names[first:] + names[:first]:
            if name in failed:
                continue
            try:
                report = _train(name, options, seed, quantity)
            except _TrainingFailed as error:
                if name == OURS:
                    raise UserError(f"{name} failed with seed {seed}: {error}") from error
                # A peer that does not run must not cost what the others have measured.
                failed.add(name)
                notes[name].append(f"seed {seed} failed: {error}")
                on_progress(f"{quantity}, seed {seed}, {name}: failed: {error}")
                continue
            on_progress(f"{quantity}, seed {seed}, {name}: {json.dumps(report)}")
            if quantity == SPEED:
                # As a duration, so that one direction is better in the whole table.
                samples[name].append(report["seconds"] / report["steps"] * 1e6)
            elif report["reached"] is not None:
                samples[name].append(report["reached"]["seconds"])
            else:
                missed[name].append(seed)
                notes[name].append(f"seed {seed} did not reach {options.until:g} in {options.limit_steps:,} steps")
    case = ("microseconds a step",) if quantity == SPEED else (f"seconds to return {options.until:g}",)
    return [
        # Some seeds alone would not pair with those of the others.
        Measurement(case, name, note="; ".join(notes[name]))
        if name in failed
        else Measurement(case, name, tuple(samples[name]), "; ".join(notes[name]), tuple(missed[name]))
        for name in names
    ]


def _train(name: str, options: Options, seed: int, quantity: str) -> dict[str, Any]:
    steps = options.speed_steps if quantity == SPEED else options.limit_steps
    until = float("inf") if quantity == SPEED else options.until
    if name == CLEANRL:
        return _train_cleanrl(options, seed, steps, until)
    command = [
        *(sys.executable, "-m", "rlstab.bench.ppo_worker", name, "--env", options.env, "--seed", str(seed)),
        *("--steps", str(steps), "--threads", str(options.threads), "--until", str(until)),
    ]
    done = subprocess.run(command, capture_output=True, text=True, env=_environment(), check=False)
    if done.returncode:
        raise _TrainingFailed((done.stderr.strip() or "no message").splitlines()[-1])
    return json.loads(done.stdout.splitlines()[-1])


def _train_cleanrl(options: Options, seed: int, steps: int, until: float) -> dict[str, Any]:
    """Run the script and read its progress; its clock starts at its first line, after its imports."""
    assert options.cleanrl is not None
    assert options.cleanrl_python is not None
    # The script writes logs where it runs. An interpreter's link must stay one: it tells a virtual environment.
    script = [str(options.cleanrl_python.absolute()), "-u", str(options.cleanrl.absolute())]
    command = [
        *(*script, "--env-id", options.env.replace("-v5", "-v4")),
        *("--seed", str(seed), "--total-timesteps", str(steps), "--no-cuda"),
    ]
    recent: collections.deque[float] = collections.deque(maxlen=100)
    start, step, reached = None, 0, None
    last: collections.deque[str] = collections.deque(maxlen=1)
    with (
        tempfile.TemporaryDirectory() as folder,
        subprocess.Popen(
            command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, cwd=folder, env=_environment()
        ) as process,
    ):
        assert process.stdout is not None
        for line in process.stdout:
            last.append(line)
            found = re.search(r"global_step=(\d+), episodic_return=\[?([-+.\deE]+)", line)
            if found is None:
                continue
            start = start or time.perf_counter()
            step = int(found[1])
            recent.append(float(found[2]))
            if len(recent) == recent.maxlen and sum(recent) / len(recent) >= until:
                reached = {"steps": step, "seconds": time.perf_counter() - start}
                process.kill()
                break
        end = time.perf_counter()
        if process.wait() and reached is None:
            raise _TrainingFailed(last[-1].strip() if last else "no message")
    if start is None:
        raise _TrainingFailed("it ended no episode, or no longer prints them as global_step=..., episodic_return=...")
    return {"steps": step, "seconds": end - start, "reached": reached}


def _versions_of(python: Path) -> dict[str, str]:
    try:
        done = subprocess.run([str(python), "-I", "-c", _ASK_VERSIONS], capture_output=True, text=True, check=True)
        return json.loads(done.stdout)
    except (OSError, subprocess.CalledProcessError, ValueError) as error:
        raise UserError(f"--cleanrl-python {python} is no interpreter that runs: {error}") from error


def _environment() -> dict[str, str]:
    return {**os.environ, "OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""}
